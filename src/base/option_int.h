/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the two halves of the option code, whole command lines and lists of keys, know of each other. */
#ifndef HOSTEL_BASE_OPTION_INT_H
#define HOSTEL_BASE_OPTION_INT_H

#include "base/option.h"

/* The value of a row, as its type. */
#define VALUE(type, values, row) ((type *)(void *)((char *)(values) + (row)->offset))
#define CONST_VALUE(type, values, row) ((type const *)(const void *)((const char *)(values) + (row)->offset))

/* Which value is being read. */
struct option_at {
    const struct option_row *list; /* the option that row is a key of; NULL = row is an option itself */
    const struct option_row *row;
    unsigned who; /* whose command line it is */
};

/* How the value was given, for messages; owned by the caller. */
char *option_said(const struct option_at *at, const char *text);

/* Reads text into its place in values. False with *error. */
bool option_parse_value(const struct option_at *at, const char *text, void *values, GError **error);

/* The value as text for a VMM, owned by the caller, its descriptors added to fds; NULL when it is not given.
 * For a flag, "". Not for what may be given repeatedly. */
char *option_value_text(const struct option_row *row, const void *values, GArray *fds);

/* option_list.c: reads text into one more item of the list. */
bool option_list_parse(const struct option_at *at, const char *text, struct option_list *list,
                       GError **error);
/* An item as text for a VMM. */
char *option_list_text(const struct option_row *row, const void *item, GArray *fds);
void option_list_fini(const struct option_row *row, struct option_list *list);

/* Item number i of the list, i < count. */
static inline void *option_list_item(const struct option_row *row, const struct option_list *list, unsigned i)
{
    return (char *)list->items + i * row->item_size;
}

#endif
