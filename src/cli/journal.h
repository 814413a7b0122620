/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A file that is written to without end and stays small: when it is full it becomes NAME.1, and a new one
 * begins. */
#ifndef HOSTEL_CLI_JOURNAL_H
#define HOSTEL_CLI_JOURNAL_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

enum { JOURNAL_MAX = 4 << 20 /* bytes of one of the two */ };

struct journal {
    const char *name; /* borrowed */
    int folder;       /* borrowed: an open folder */
    int fd;           /* -1 = not open */
    size_t size;
};

/* Opens it behind what it holds. */
bool journal_open(struct journal *j, int folder, const char *name, GError **error);
void journal_close(struct journal *j);

/* Appends. What the disk has no room for is lost: a guest does not stand still because of its messages. */
void journal_write(struct journal *j, const void *bytes, size_t size);

#endif
