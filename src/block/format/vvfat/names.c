/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Names of files as FAT has them: a short one for each, and a long one where that does not say it all. */
/*
 * From Microsoft's "FAT: General Overview of On-Disk Format", long directory entries. In a folder no two
 * names, short or long, may be the same when capitals do not count; the host has no such rule, so names that
 * would clash get a number.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/param.h>

#include "base/error.h"
#include "block/format/vvfat/vvfat.h"

enum { BASE = 8, EXTENSION = 3, NUMBER_MAX = 999999, UNITS = 13 /* of a long name, in one entry */ };

/* The names of one folder. */
struct names {
    GHashTable *taken;   /* folded, owned */
    GHashTable *numbers; /* of the beginning of a name: the last one given */
};

/* The next character; GLib's own macro takes const away. */
static const char *next(const char *at)
{
    return at + g_utf8_skip[(uint8_t)*at];
}

/* The host's name as text that FAT allows; owned. */
static char *clean(const char *name)
{
    g_autofree char *valid = g_utf8_make_valid(name, -1);
    GString *out = g_string_new(NULL);
    glong units = 0;
    for (const char *at = valid; *at; at = next(at)) {
        gunichar c = g_utf8_get_char(at);
        units += c > 0xffff ? 2 : 1;
        if (units > VVFAT_LONG_MAX)
            break;
        const bool bad = c < 0x20 || c == 0x7f || c == 0xfffd || (c < 0x80 && strchr("\"*/:<>?\\|", (int)c));
        g_string_append_unichar(out, bad ? '_' : c);
    }
    if (out->len && strchr(". ", out->str[out->len - 1]))
        out->str[out->len - 1] = '_'; /* at the end they would not count */
    return g_string_free(out, FALSE);
}

/* Takes text; false when it is taken already. */
static bool take(struct names *n, const char *text)
{
    char *folded = g_utf8_casefold(text, -1);
    if (g_hash_table_contains(n->taken, folded)) {
        g_free(folded);
        return false;
    }
    g_hash_table_add(n->taken, folded);
    return true;
}

/* A long name that nobody else has; owned. */
static char *long_name(struct names *n, const char *host)
{
    g_autofree char *text = clean(host);
    if (take(n, text))
        return g_steal_pointer(&text);
    const glong most = MIN(g_utf8_strlen(text, -1), VVFAT_LONG_MAX / 2 - 8);
    g_autofree char *begin = g_utf8_substring(text, 0, most);
    unsigned i = GPOINTER_TO_UINT(g_hash_table_lookup(n->numbers, begin));
    char *numbered = NULL;
    do {
        g_free(numbered);
        numbered = g_strdup_printf("%s~%u", begin, ++i);
    } while (!take(n, numbered));
    g_hash_table_insert(n->numbers, g_steal_pointer(&begin), GUINT_TO_POINTER(i));
    return numbered;
}

/* Up to most characters of text as a short name allows; true when it is more than another case. */
static bool shorten(const char *text, const char *end, char *out, size_t most)
{
    bool lost = false;
    size_t used = 0;
    for (const char *at = text; at < end; at = next(at)) {
        const gunichar c = g_utf8_get_char(at);
        if (c == ' ' || c == '.') {
            lost = true;
        } else if (used == most) {
            return true;
        } else {
            const bool plain = c < 0x80 && !strchr("+,;=[]", (int)c);
            out[used++] = plain ? g_ascii_toupper((char)c) : '_';
            lost |= !plain;
        }
    }
    return lost;
}

/* The short name as people write it; room for 13. */
static void spell(const char name[11], char out[13])
{
    size_t used = 0;
    for (size_t i = 0; i < 11; i++) {
        if (i == BASE && name[i] != ' ')
            out[used++] = '.';
        if (name[i] != ' ')
            out[used++] = name[i];
    }
    out[used] = '\0';
}

static bool number(struct names *n, char name[11], const char *folder, GError **error)
{
    char text[13], tail[8], key[11];
    memcpy(key, name, 11);
    memset(key + BASE - 2, ' ', 2);
    g_autofree char *begin = g_strndup(key, 11);
    unsigned i = GPOINTER_TO_UINT(g_hash_table_lookup(n->numbers, begin));
    size_t length = 0;
    while (length < BASE && name[length] != ' ')
        length++;
    do {
        if (++i > NUMBER_MAX)
            return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: too many names begin alike for FAT", folder);
        const size_t digits = (size_t)g_snprintf(tail, sizeof(tail), "~%u", i);
        const size_t from = MIN(length, BASE - digits);
        memset(name + from, ' ', BASE - from);
        memcpy(name + from, tail, digits);
        spell(name, text);
    } while (!take(n, text));
    g_hash_table_insert(n->numbers, g_steal_pointer(&begin), GUINT_TO_POINTER(i));
    return true;
}

/* Both names of a node, from its long one. */
static bool name_node(struct names *n, struct vvfat_node *node, const char *text, const char *folder,
                      GError **error)
{
    const char *end = text + strlen(text), *dot = strrchr(text, '.');
    if (dot == text)
        dot = NULL;
    memset(node->short_name, ' ', sizeof(node->short_name));
    bool lost = shorten(text, dot ? dot : end, node->short_name, BASE);
    if (dot)
        lost |= shorten(dot + 1, end, node->short_name + BASE, EXTENSION);
    if (node->short_name[0] == ' ') {
        node->short_name[0] = '_';
        lost = true;
    }
    char spelled[13];
    spell(node->short_name, spelled);
    if (!lost && !strcmp(spelled, text))
        return true; /* nobody else has it, as nobody else has the long one */
    if ((lost || g_ascii_strcasecmp(spelled, text) != 0) && !number(n, node->short_name, folder, error))
        return false;
    glong units = 0;
    node->long_name = g_utf8_to_utf16(text, -1, NULL, &units, NULL);
    node->long_size = (uint32_t)units;
    return true;
}

static bool name_children(struct vvfat_tree *t, uint32_t i, const char *folder, GError **error)
{
    struct vvfat_node *f = vvfat_node(t, i);
    struct names n = {.taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                      .numbers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL)};
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    uint64_t entries = i ? 2 : 1; /* itself and its parent; the label */
    bool good = true;
    for (uint32_t c = 0; c < f->children; c++)
        g_ptr_array_add(texts, long_name(&n, vvfat_node(t, f->first_child + c)->name));
    for (uint32_t c = 0; good && c < f->children; c++) {
        struct vvfat_node *node = vvfat_node(t, f->first_child + c);
        good = name_node(&n, node, g_ptr_array_index(texts, c), folder, error);
        entries += 1 + (node->long_size + UNITS - 1) / UNITS;
    }
    g_hash_table_destroy(n.taken);
    g_hash_table_destroy(n.numbers);
    f->size = entries * VVFAT_ENTRY;
    if (good && entries > VVFAT_FOLDER_ENTRIES)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the folder %s needs %" PRIu64 " entries, FAT has room for %d", folder,
                           i ? f->name : ".", entries, VVFAT_FOLDER_ENTRIES);
    return good;
}

bool vvfat_names(struct vvfat_tree *t, const char *name, GError **error)
{
    for (uint32_t i = 0; i < t->nodes->len; i++)
        if (vvfat_node(t, i)->folder && !name_children(t, i, name, error))
            return false;
    return true;
}
