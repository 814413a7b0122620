/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What commands print. */
#include "cli/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct table {
    GPtrArray *rows; /* of GStrv; the titles first */
    unsigned columns;
};

static void add(struct table *t, const char *const *cells)
{
    char **row = g_new0(char *, t->columns + 1);
    for (unsigned i = 0; i < t->columns; i++)
        row[i] = g_strdup(cells[i] ? cells[i] : "");
    g_ptr_array_add(t->rows, row);
}

struct table *table_new(const char *const *titles)
{
    struct table *t = g_new0(struct table, 1);
    t->rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    while (titles[t->columns])
        t->columns++;
    add(t, titles);
    return t;
}

void table_add(struct table *t, const char *const *cells)
{
    add(t, cells);
}

static bool is_right(const struct table *t, unsigned column)
{
    char **titles = t->rows->pdata[0];
    return titles[column][0] == '>';
}

/* The text of a cell: of a title, without the sign before it. */
static const char *text_of(const struct table *t, unsigned row, unsigned column)
{
    char **cells = t->rows->pdata[row];
    return cells[column] + (row == 0 && is_right(t, column));
}

static int width_of(const struct table *t, unsigned column)
{
    int width = 0;
    for (unsigned i = 0; i < t->rows->len; i++)
        width = MAX(width, (int)strlen(text_of(t, i, column)));
    return width;
}

void table_finish(struct table *t, GString *out)
{
    g_autofree int *width = g_new(int, t->columns);
    for (unsigned j = 0; j < t->columns; j++)
        width[j] = width_of(t, j);
    for (unsigned i = 0; i < t->rows->len && t->rows->len > 1; i++) {
        g_autoptr(GString) line = g_string_new(NULL);
        for (unsigned j = 0; j < t->columns; j++)
            g_string_append_printf(line, "%s%*s", j ? "  " : "", is_right(t, j) ? width[j] : -width[j],
                                   text_of(t, i, j));
        g_string_append_printf(out, "%s\n", g_strchomp(line->str));
    }
    g_ptr_array_unref(t->rows);
    g_free(t);
}

void table_print(struct table *t)
{
    g_autoptr(GString) out = g_string_new(NULL);
    table_finish(t, out);
    fputs(out->str, stdout);
}

void table_json(json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    printf("%s\n", text);
    free(text);
    json_decref(json);
}

char *table_bytes(double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    unsigned i = 0;
    for (; bytes >= 1024 && i + 1 < G_N_ELEMENTS(units); i++)
        bytes /= 1024;
    return g_strdup_printf(bytes < 10 && i ? "%.1f %s" : "%.0f %s", bytes, units[i]);
}

char *table_duration(double seconds)
{
    enum { MINUTE = 60, HOUR = 60 * MINUTE, DAY = 24 * HOUR };
    const char *unit = seconds < 2 * MINUTE ? "s"
                       : seconds < 2 * HOUR ? "min"
                       : seconds < 2 * DAY  ? "h"
                                            : "d";
    const int divisor = seconds < 2 * MINUTE ? 1
                        : seconds < 2 * HOUR ? MINUTE
                        : seconds < 2 * DAY  ? HOUR
                                             : DAY;
    return g_strdup_printf("%.0f %s", MAX(0, seconds) / divisor, unit);
}

char *table_share(double share)
{
    return g_strdup_printf("%.1f %%", share * 100);
}
