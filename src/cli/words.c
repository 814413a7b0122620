/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The options of a guest as words. */
#include "cli/words.h"

#include <string.h>

#include "control/guest_options.h"

static const struct option_row *find(const struct option_row *rows, const char *name, size_t length)
{
    for (const struct option_row *row = rows; row->name; row++)
        if (row->who & OPTION_CLI && strlen(row->name) == length && !strncmp(row->name, name, length))
            return row;
    return NULL;
}

/* The row of "--name" or "--name=value". */
static const struct option_row *row_of(const char *word)
{
    if (!g_str_has_prefix(word, "--"))
        return NULL;
    return find(guest_option_rows, word + 2, strcspn(word + 2, "="));
}

static GPtrArray *new_words(void)
{
    return g_ptr_array_new_with_free_func(g_free);
}

GPtrArray *words_of(char *const *argv)
{
    GPtrArray *words = new_words();
    for (; *argv; argv++) {
        const char *word = strcmp(*argv, "-d") != 0 ? *argv : "--detach";
        const struct option_row *row = row_of(word);
        const bool takes_next = row && row->type != OPTION_FLAG && !strchr(word, '=') && argv[1];
        g_ptr_array_add(words, takes_next ? g_strconcat(word, "=", argv[1], NULL) : g_strdup(word));
        argv += takes_next;
    }
    return words;
}

/* --- paths --- */

static char *absolute(const char *path)
{
    g_autofree char *here = g_get_current_dir();
    if (!*path || g_path_is_absolute(path) || strstr(path, "://"))
        return g_strdup(path);
    return g_build_filename(here, path, NULL);
}

/* The end of a piece of a list: a comma that stands alone. */
static const char *piece_end(const char *text)
{
    while (*text && (*text != ',' || text[1] == ','))
        text += *text == ',' ? 2 : 1;
    return text;
}

static void add_piece(GString *out, const struct option_row *keys, const char *piece, bool first)
{
    const char *equals = strchr(piece, '=');
    const bool bare = !equals && first && keys->bare;
    const struct option_row *key = bare ? keys : equals ? find(keys, piece, (size_t)(equals - piece)) : NULL;
    if (!key || key->type != OPTION_FILE) {
        g_string_append(out, piece);
        return;
    }
    const char *value = equals ? equals + 1 : piece;
    g_auto(GStrv) halves = g_strsplit(value, ",,", -1);
    g_autofree char *path = g_strjoinv(",", halves), *whole = absolute(path);
    g_auto(GStrv) parts = g_strsplit(whole, ",", -1);
    g_autofree char *escaped = g_strjoinv(",,", parts);
    g_string_append_printf(out, "%s=%s", key->name, escaped);
}

static char *absolute_list(const struct option_row *row, const char *text)
{
    GString *out = g_string_new(NULL);
    for (bool first = true; text; first = false) {
        const char *end = piece_end(text);
        g_autofree char *piece = g_strndup(text, (size_t)(end - text));
        g_string_append(out, first ? "" : ",");
        add_piece(out, row->keys, piece, first);
        text = *end ? end + 1 : NULL;
    }
    return g_string_free(out, FALSE);
}

static char *absolute_value(const struct option_row *row, const char *value)
{
    static const char file_prefix[] = "file=";
    if (row->type == OPTION_FILE)
        return absolute(value);
    if (row->type == OPTION_LIST)
        return absolute_list(row, value);
    if (row->type == OPTION_CONSOLE && g_str_has_prefix(value, file_prefix)) {
        g_autofree char *path = absolute(value + strlen(file_prefix));
        return g_strconcat(file_prefix, path, NULL);
    }
    return g_strdup(value);
}

/* --- sets of words --- */

GPtrArray *words_to_keep(const GPtrArray *words)
{
    static const char *const of_one_run[] = {"name",     "detach",          "rm",       "help",
                                             "stats",    "trace",           "trace-at", "paused",
                                             "incoming", "same-generation", "from",     NULL};
    GPtrArray *out = new_words();
    for (unsigned i = 0; i < words->len; i++) {
        const char *word = words->pdata[i], *equals = strchr(word, '=');
        const struct option_row *row = row_of(word);
        if (!row || g_strv_contains(of_one_run, row->name))
            continue;
        g_autofree char *value = equals ? absolute_value(row, equals + 1) : NULL;
        g_ptr_array_add(out, equals ? g_strconcat("--", row->name, "=", value, NULL) : g_strdup(word));
    }
    return out;
}

static bool is_option(const char *word, const char *option)
{
    const size_t length = strlen(option);
    return g_str_has_prefix(word, "--") && !strncmp(word + 2, option, length) &&
           (word[2 + length] == '=' || !word[2 + length]);
}

const char *words_get(const GPtrArray *words, const char *option)
{
    for (unsigned i = words->len; i; i--) {
        const char *word = words->pdata[i - 1];
        if (is_option(word, option))
            return strchr(word, '=') ? strchr(word, '=') + 1 : "";
    }
    return NULL;
}

GPtrArray *words_merge(const GPtrArray *base, const GPtrArray *over)
{
    GPtrArray *out = new_words();
    for (unsigned i = 0; base && i < base->len; i++) {
        const char *word = base->pdata[i];
        const struct option_row *row = row_of(word);
        if (!row || !over || !words_get(over, row->name))
            g_ptr_array_add(out, g_strdup(word));
    }
    for (unsigned i = 0; over && i < over->len; i++)
        g_ptr_array_add(out, g_strdup(over->pdata[i]));
    return out;
}

void words_set(GPtrArray *words, const char *option, const char *value)
{
    for (unsigned i = words->len; i; i--)
        if (is_option(words->pdata[i - 1], option))
            g_ptr_array_remove_index(words, i - 1);
    if (value)
        g_ptr_array_add(words, g_strconcat("--", option, "=", value, NULL));
}

GPtrArray *words_load(GKeyFile *definition, const char *group)
{
    g_auto(GStrv) list = g_key_file_get_string_list(definition, group, "words", NULL, NULL);
    GPtrArray *words = new_words();
    for (char **word = list; word && *word; word++)
        g_ptr_array_add(words, g_strdup(*word));
    return words;
}

void words_store(GKeyFile *definition, const char *group, const GPtrArray *words)
{
    g_autofree char **argv = words_argv(words);
    g_key_file_set_string_list(definition, group, "words", (const char *const *)argv, words->len);
}

char **words_argv(const GPtrArray *words)
{
    char **argv = g_new0(char *, words->len + 1);
    for (unsigned i = 0; i < words->len; i++)
        argv[i] = words->pdata[i];
    return argv;
}
