/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Reading and writing the text that describes a VMDK disk; see descriptor.h. */
#include "block/format/vmdk/descriptor.h"

#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#include "base/bits.h"
#include "base/error.h"

enum { SECTOR_BYTES = 512, SECTORS_MAX_BITS = 54 };

static const struct {
    const char *name;
    enum grains_kind kind;
} kinds[] = {
    {"FLAT", GRAINS_FLAT},     {"VMFS", GRAINS_FLAT},       {"ZERO", GRAINS_ZERO},
    {"SPARSE", GRAINS_SPARSE}, {"VMFSSPARSE", GRAINS_COWD}, {"SESPARSE", GRAINS_SESPARSE},
};

void vmdk_descriptor_clear(struct vmdk_descriptor *d)
{
    for (unsigned i = 0; i < d->lines_n; i++) {
        g_free(d->lines[i].type);
        g_free(d->lines[i].file);
    }
    g_free(d->lines);
    g_free(d->type);
    g_free(d->parent);
    g_free(d->text);
    *d = (struct vmdk_descriptor){0};
}

/* --- reading --- */

static const char *skip_blanks(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

/* The value of `key = value` when the line (ends with its length) is one of that key; else NULL. */
static const char *value_of(const char *line, const char *key)
{
    const char *p = skip_blanks(line);
    const size_t n = strlen(key);
    if (g_ascii_strncasecmp(p, key, n) != 0)
        return NULL;
    p = skip_blanks(p + n);
    return *p == '=' ? skip_blanks(p + 1) : NULL;
}

/* What is between quotes, or up to the end of the line. */
static char *unquote(const char *value)
{
    if (*value == '"') {
        const size_t n = strcspn(++value, "\"\r\n");
        return g_strndup(value, n);
    }
    return g_strchomp(g_strndup(value, strcspn(value, "\r\n")));
}

/* Digits of base 16, at most 8; how many. */
static unsigned hex_digits(const char *p, uint32_t *number)
{
    unsigned n = 0;
    *number = 0;
    for (; n < 8 && g_ascii_isxdigit(p[n]); n++)
        *number = *number << 4 | (uint32_t)g_ascii_xdigit_value(p[n]);
    return n;
}

/* The next word of a line, moved behind; *size 0 at its end. */
static const char *word(const char **line, size_t *size)
{
    const char *p = skip_blanks(*line);
    *size = strcspn(p, " \t\r\n");
    *line = p + *size;
    return p;
}

static bool is_word(const char *p, size_t size, const char *want)
{
    return strlen(want) == size && !strncmp(p, want, size);
}

static bool parse_number(const char *p, size_t size, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < size; i++) {
        if (!g_ascii_isdigit(p[i]) || *number >> (SECTORS_MAX_BITS - 4))
            return false;
        *number = *number * 10 + (uint64_t)(p[i] - '0');
    }
    return size > 0;
}

/* One extent's line, behind its access word. False with what is wrong with it. */
static bool parse_extent(struct vmdk_line *l, const char *p, const char *name, GError **error)
{
    size_t size;
    const char *w = word(&p, &size);
    if (!parse_number(w, size, &l->sectors) || !l->sectors)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the descriptor has an extent whose size is no number of sectors", name);
    w = word(&p, &size);
    l->type = g_strndup(w, size);
    unsigned i = 0;
    while (i < ARRAY_SIZE(kinds) && !is_word(w, size, kinds[i].name))
        i++;
    if (i == ARRAY_SIZE(kinds))
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: has an extent of type %s, this Hostel knows FLAT, VMFS, ZERO, SPARSE, "
                           "VMFSSPARSE and SESPARSE",
                           name, l->type);
    l->kind = kinds[i].kind;
    p = skip_blanks(p);
    if (*p == '"') {
        l->file = unquote(p);
        p += 1 + strlen(l->file);
        p += *p == '"';
        w = word(&p, &size);
        if (size && !parse_number(w, size, &l->offset))
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: the descriptor has an extent whose offset is no number of sectors", name);
    }
    if (l->kind != GRAINS_ZERO && (!l->file || !*l->file))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the descriptor has an extent without a file",
                           name);
    return true;
}

static bool parse_line(struct vmdk_descriptor *d, const char *line, const char *name, GError **error)
{
    const char *value, *p = line;
    size_t size;
    if ((value = value_of(line, "CID"))) {
        d->cid_digits = hex_digits(value, &d->cid);
        d->cid_at = (size_t)(value - d->text);
    } else if ((value = value_of(line, "parentCID"))) {
        hex_digits(value, &d->parent_cid);
    } else if ((value = value_of(line, "createType"))) {
        g_free(d->type);
        d->type = unquote(value);
    } else if ((value = value_of(line, "parentFileNameHint"))) {
        g_free(d->parent);
        d->parent = unquote(value);
    } else {
        const char *w = word(&p, &size);
        const bool none = is_word(w, size, "NOACCESS"), ro = is_word(w, size, "RDONLY");
        if (none)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: the descriptor has an extent that may not be accessed (NOACCESS)", name);
        if (!ro && !is_word(w, size, "RW"))
            return true;
        if (d->lines_n == VMDK_EXTENTS_MAX)
            return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the descriptor lists more than %d extents",
                               name, VMDK_EXTENTS_MAX);
        d->lines = g_renew(struct vmdk_line, d->lines, d->lines_n + 1);
        struct vmdk_line *l = &d->lines[d->lines_n++];
        *l = (struct vmdk_line){.readonly = ro};
        return parse_extent(l, p, name, error);
    }
    return true;
}

bool vmdk_descriptor_parse(struct vmdk_descriptor *d, char *text, const char *name, GError **error)
{
    *d = (struct vmdk_descriptor){.text = text, .parent_cid = UINT32_MAX};
    for (const char *line = text; *line;) {
        if (!parse_line(d, line, name, error))
            return false;
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    if (!d->type)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the descriptor has no createType", name);
    return true;
}

/* --- writing --- */

char *vmdk_descriptor_make(const struct vmdk_say *say)
{
    const unsigned heads = strcmp(say->adapter, "ide") != 0 ? 255 : 16, sectors = 63;
    g_autofree char *parent =
        say->parent ? g_strdup_printf("parentFileNameHint=\"%s\"\n", say->parent) : g_strdup("");
    return g_strdup_printf("# Disk DescriptorFile\n"
                           "version=1\n"
                           "CID=%08" PRIx32 "\n"
                           "parentCID=%08" PRIx32 "\n"
                           "createType=\"%s\"\n"
                           "%s"
                           "\n"
                           "# Extent description\n"
                           "%s"
                           "\n"
                           "# The Disk Data Base\n"
                           "#DDB\n"
                           "\n"
                           "ddb.virtualHWVersion = \"%s\"\n"
                           "ddb.geometry.cylinders = \"%" PRIu64 "\"\n"
                           "ddb.geometry.heads = \"%u\"\n"
                           "ddb.geometry.sectors = \"%u\"\n"
                           "ddb.adapterType = \"%s\"\n"
                           "ddb.toolsVersion = \"%s\"\n",
                           say->cid, say->parent_cid, say->type, parent, say->extents, say->hardware,
                           say->size / (uint64_t)(heads * sectors * SECTOR_BYTES), heads, sectors,
                           say->adapter, say->tools);
}

uint32_t vmdk_fresh_cid(void)
{
    /* Not GLib's, which opens a file for it: a guest's process may not. */
    uint32_t cid = 0;
    do
        if (getrandom(&cid, sizeof(cid), 0) != sizeof(cid))
            cid = (uint32_t)g_get_monotonic_time();
    while (cid >= UINT32_MAX - 1 || !cid);
    return cid;
}
