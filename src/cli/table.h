/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What commands print: tables with columns as wide as they must be, JSON, numbers and times for people. */
#ifndef HOSTEL_CLI_TABLE_H
#define HOSTEL_CLI_TABLE_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct table;

/* A table with these titles (ends with NULL); one that begins with '>' stands to the right, with its column.
 */
struct table *table_new(const char *const *titles);

/* One more row, as many texts as there are titles, owned by the caller; NULL is empty. */
void table_add(struct table *t, const char *const *cells);

/* Appends the table to out, without a line when it has no rows; frees it. */
void table_finish(struct table *t, GString *out);

/* Prints it on standard output; frees it. */
void table_print(struct table *t);

/* Prints and frees. */
void table_json(json_t *json);

/* "512.0 MiB"; "3 min"; a share of 1 as "12.3 %". Owned by the caller. */
char *table_bytes(double bytes);
char *table_duration(double seconds);
char *table_share(double share);

#endif
