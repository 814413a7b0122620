/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The texts of -o as values of a format's own options. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/option_int.h"
#include "cli/image/image.h"

/* The hint, when piece is it; what is no size of a whole number of blocks is left to be refused. */
static bool take_hint(struct image_values *v, const char *piece)
{
    static const char key[] = "extent_size_hint=";
    uint64_t bytes;
    if (!g_str_has_prefix(piece, key) || !image_parse_size(piece + strlen(key), &bytes, NULL) ||
        bytes % 512 || bytes > UINT32_MAX)
        return false;
    v->extent_hint = (uint32_t)bytes;
    return true;
}

/* Options that are the command's own, whatever the format; true when piece is one. */
static bool take_common(struct image_values *v, const char *piece)
{
    static const char keys[] = "encrypt.key-secret=", bare_key[] = "key-secret=";
    const char *value = strchr(piece, '=');
    if (!value)
        return false;
    char **place = g_str_has_prefix(piece, "size=")           ? &v->size
                   : g_str_has_prefix(piece, "backing_file=") ? &v->backing
                   : g_str_has_prefix(piece, "backing_fmt=")  ? &v->backing_format
                                                              : NULL;
    if (place) {
        g_free(*place);
        *place = g_strdup(value + 1);
    }
    /* Which secret: there is one. */
    return place || take_hint(v, piece) || g_str_has_prefix(piece, keys) || g_str_has_prefix(piece, bare_key);
}

/* Cuts at single commas; in a piece they stay doubled. */
static GPtrArray *split(const GPtrArray *texts)
{
    GPtrArray *pieces = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; texts && i < texts->len; i++) {
        const char *start = texts->pdata[i];
        for (const char *c = start;; c++) {
            if (*c == ',' && c[1] == ',') {
                c++;
                continue;
            }
            if (*c && *c != ',')
                continue;
            if (c > start)
                g_ptr_array_add(pieces, g_strndup(start, (size_t)(c - start)));
            if (!*c)
                break;
            start = c + 1;
        }
    }
    return pieces;
}

/* The last of two values for one key counts, as people know it. */
static void add(GPtrArray *kept, const char *piece)
{
    const size_t length = strcspn(piece, "=");
    for (unsigned i = 0; i < kept->len; i++) {
        const char *other = kept->pdata[i];
        if (strcspn(other, "=") == length && !strncmp(other, piece, length)) {
            g_ptr_array_remove_index(kept, i);
            break;
        }
    }
    g_ptr_array_add(kept, g_strdup(piece));
}

/* On or off in the words that qemu-img takes, a key alone and "noKEY" among them; NULL when piece is none. */
static const char *switch_value(const struct option_row *row, const char *piece)
{
    static const char *const on[] = {"on", "yes", "true", "y", NULL};
    static const char *const off[] = {"off", "no", "false", "n", NULL};
    const size_t length = strlen(row->name);
    if (g_str_has_prefix(piece, "no") && !strcmp(piece + 2, row->name))
        return "off";
    if (strncmp(piece, row->name, length) != 0)
        return NULL;
    if (!piece[length])
        return "on";
    if (piece[length] != '=')
        return NULL;
    return g_strv_contains(on, piece + length + 1)    ? "on"
           : g_strv_contains(off, piece + length + 1) ? "off"
                                                      : NULL;
}

/* A number in the one way that all of Hostel reads; NULL when piece is not the row's, or no number. */
static char *number_value(const struct option_row *row, const char *piece)
{
    uint64_t number;
    const size_t length = strlen(row->name);
    if (strncmp(piece, row->name, length) != 0 || piece[length] != '=')
        return NULL;
    const char *text = piece + length + 1;
    const bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    /* A count has no unit and no fraction. */
    if ((row->type == OPTION_COUNT && (!hex || text[2 + strspn(text + 2, "0123456789abcdefABCDEF")])) ||
        !image_parse_size(text, &number, NULL))
        return NULL;
    return g_strdup_printf("%" PRIu64, number);
}

/* The piece as the options of all of Hostel are written, where qemu-img knows more ways to say the same:
 * "lazy_refcounts", "lazy_refcounts=yes", "cluster_size=0x10000", "cluster_size=64.0k". Owned by the caller.
 */
static char *plainly(const struct option_row *rows, const char *piece)
{
    for (const struct option_row *row = rows; row->name; row++) {
        const char *word = row->type == OPTION_SWITCH ? switch_value(row, piece) : NULL;
        g_autofree char *number =
            row->type == OPTION_SIZE || row->type == OPTION_COUNT ? number_value(row, piece) : NULL;
        if (word || number)
            return g_strdup_printf("%s=%s", row->name, word ? word : number);
    }
    return g_strdup(piece);
}

static bool fail_none(const GPtrArray *kept, const char *format, GError **error)
{
    return !kept->len || hostel_fail(error, HOSTEL_ERROR_USAGE, "-o %s: format %s has no such option",
                                     (const char *)kept->pdata[0], format);
}

bool image_values_parse(struct image_values *v, const struct option_row *rows, size_t values_size,
                        const GPtrArray *texts, const char *format, GError **error)
{
    *v = (struct image_values){0};
    g_autoptr(GPtrArray) pieces = split(texts);
    g_autoptr(GPtrArray) kept = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; i < pieces->len; i++) {
        g_autofree char *piece = rows ? plainly(rows, pieces->pdata[i]) : g_strdup(pieces->pdata[i]);
        if (!take_common(v, piece))
            add(kept, piece);
    }
    if (!rows)
        return fail_none(kept, format, error);
    v->row = (struct option_row){.name = "o", .keys = rows, .item_size = values_size, .type = OPTION_LIST};
    g_ptr_array_add(kept, NULL);
    g_autofree char *line = kept->len > 1 ? g_strjoinv(",", (char **)kept->pdata) : NULL;
    v->given = g_strconcat(",", line, NULL);
    /* For both kinds of reader: a size without a unit is bytes here. */
    const struct option_at at = {.row = &v->row, .who = OPTION_BOTH};
    if (!option_list_parse(&at, line, &v->list, error)) {
        char *message = error && *error ? (*error)->message : NULL;
        if (message && g_str_has_prefix(message, "--o")) /* the option has a letter, no name */
            memmove(message, message + 1, strlen(message));
        image_values_fini(v);
        return false;
    }
    v->values = v->list.items;
    return true;
}

void image_values_fini(struct image_values *v)
{
    if (v->row.keys)
        option_list_fini(&v->row, &v->list);
    g_free(v->given);
    g_free(v->size);
    g_free(v->backing);
    g_free(v->backing_format);
    *v = (struct image_values){0};
}

bool image_values_help(const GPtrArray *texts, const struct block_driver *format)
{
    bool asked = false;
    for (unsigned i = 0; texts && i < texts->len; i++)
        asked |= !strcmp(texts->pdata[i], "help") || !strcmp(texts->pdata[i], "?");
    if (!asked)
        return false;
    printf("Supported options:\n");
    const struct option_row *row = format->image ? format->image->create_options : NULL;
    for (; row && row->name; row++) {
        const char *what = row->choice ? row->choice : row->type == OPTION_SWITCH ? "on|off" : row->arg;
        g_autofree char *left = g_strdup_printf("%s=<%s>", row->name, what);
        printf("  %-24s - %s", left, row->help);
        printf(row->value ? " (default %s)\n" : "\n", row->value);
    }
    printf("  %-24s - %s\n", "size=<SIZE>", "Virtual disk size");
    return true;
}
