/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Options that are lists of keys with values, `--disk file=F,format=raw`. */
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/option_int.h"

/* Cuts the text behind *rest at its next single comma, and makes two commas one. NULL at the end. */
static char *next_piece(const char **rest)
{
    if (!*rest)
        return NULL;
    GString *piece = g_string_new(NULL);
    const char *c = *rest;
    for (; *c && (*c != ',' || c[1] == ','); c++) {
        g_string_append_c(piece, *c);
        c += *c == ','; /* the first of two */
    }
    *rest = *c ? c + 1 : NULL;
    return g_string_free(piece, FALSE);
}

static const struct option_row *find_key(const struct option_row *keys, unsigned who, const char *name)
{
    for (const struct option_row *key = keys; key->name; key++)
        if (key->who & who && !strcmp(key->name, name))
            return key;
    return NULL;
}

static bool fail_unknown(const struct option_at *at, const char *name, GError **error)
{
    const struct option_row *near = option_nearest(at->row->keys, at->who, name);
    if (near)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s: unknown key '%s'; did you mean %s?",
                           at->row->name, name, near->name);
    g_autoptr(GString) names = g_string_new(NULL);
    for (const struct option_row *key = at->row->keys; key->name; key++)
        if (key->who & at->who)
            g_string_append_printf(names, "%s%s", names->len ? ", " : "", key->name);
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s: unknown key '%s'; there are %s", at->row->name, name,
                       names->str);
}

/* What may stand behind "key=". */
static const char *values_of(const struct option_row *key)
{
    if (key->choice || key->arg)
        return key->choice ? key->choice : key->arg;
    return key->type == OPTION_SWITCH ? "on|off" : "VALUE";
}

/* One "key=value" into the item; `given` has a bit for each key. */
static bool parse_piece(const struct option_at *at, char *piece, void *item, uint64_t *given, GError **error)
{
    const struct option_row *keys = at->row->keys;
    char *value = strchr(piece, '=');
    const struct option_row *key;
    if (value) {
        *value++ = '\0';
        key = find_key(keys, at->who, piece);
    } else if (!*given && keys->bare) {
        value = piece;
        key = keys;
    } else {
        key = find_key(keys, at->who, piece);
    }
    if (!key)
        return fail_unknown(at, piece, error);
    if (!value)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s: %s has no value: %s=%s", at->row->name, piece,
                           piece, values_of(key));
    const uint64_t bit = BIT(key - keys);
    if (*given & bit && key->type != OPTION_TEXTS)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s: %s is given twice", at->row->name, key->name);
    *given |= bit;
    const struct option_at inside = {.list = at->row, .row = key, .who = at->who};
    return option_parse_value(&inside, value, item, error);
}

void *option_list_add(const struct option_row *row, struct option_list *list)
{
    if (!list->texts)
        list->texts = g_ptr_array_new_with_free_func(g_free);
    list->items = g_realloc_n(list->items, list->count + 1, row->item_size);
    void *item = option_list_item(row, list, list->count++);
    memset(item, 0, row->item_size);
    option_init(row->keys, item);
    return item;
}

const char *option_list_keep(struct option_list *list, const char *text)
{
    char *own = g_strdup(text);
    g_ptr_array_add(list->texts, own);
    return own;
}

bool option_list_parse(const struct option_at *at, const char *text, struct option_list *list, GError **error)
{
    void *item = option_list_add(at->row, list);
    uint64_t given = 0;
    for (char *piece; (piece = next_piece(&text));) {
        g_ptr_array_add(list->texts, piece);
        if (!parse_piece(at, piece, item, &given, error))
            return false;
    }
    for (const struct option_row *key = at->row->keys; key->name; key++)
        if (key->required && key->who & at->who && !(given & BIT(key - at->row->keys)))
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "--%s: %s is missing: %s=%s (%s)", at->row->name,
                               key->name, key->name, values_of(key), key->help);
    return true;
}

void option_list_fini(const struct option_row *row, struct option_list *list)
{
    for (unsigned i = 0; i < list->count; i++)
        option_fini(row->keys, option_list_item(row, list, i));
    g_free(list->items);
    if (list->texts)
        g_ptr_array_unref(list->texts);
    *list = (struct option_list){0};
}

/* Adds "key=value", separated from what is there. */
static void add_piece(GString *line, const char *key, const char *value)
{
    g_string_append_printf(line, "%s%s=", line->len ? "," : "", key);
    for (const char *c = value; *c; c++)
        g_string_append(line, *c == ',' ? ",," : (const char[]){*c, '\0'});
}

char *option_list_text(const struct option_row *row, const void *item, GArray *fds)
{
    GString *line = g_string_new(NULL);
    for (const struct option_row *key = row->keys; key->name; key++) {
        if (!(key->who & OPTION_VMM))
            continue;
        if (key->type == OPTION_TEXTS) {
            const GPtrArray *texts = *CONST_VALUE(GPtrArray *, item, key);
            for (unsigned i = 0; texts && i < texts->len; i++)
                add_piece(line, key->name, texts->pdata[i]);
            continue;
        }
        g_autofree char *text = option_value_text(key, item, fds);
        if (text && g_strcmp0(text, key->value) != 0)
            add_piece(line, key->name, text);
    }
    return g_string_free(line, FALSE);
}
