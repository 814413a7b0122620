/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Versions of sectors; see model.h. */
#include "model.h"

#include <string.h>

#include "../images.h"

static void free_frozen(void *opaque)
{
    struct frozen *f = opaque;
    g_free(f->name);
    g_free(f->version);
    g_free(f);
}

struct model *model_new(uint64_t sectors, uint64_t base_sectors, uint64_t sectors_max)
{
    struct model *m = g_new0(struct model, 1);
    m->sectors_max = sectors_max;
    m->versions = g_new0(GArray *, sectors_max);
    m->sizes = g_array_new(FALSE, FALSE, sizeof(struct version));
    m->ops = g_array_new(FALSE, FALSE, sizeof(struct op));
    m->frozen = g_ptr_array_new_with_free_func(free_frozen);
    for (uint64_t i = 0; i < sectors_max; i++) {
        const struct version first = {0,
                                      i < base_sectors ? VERSION_STAMP
                                      : i < sectors    ? VERSION_ZERO
                                                       : VERSION_GONE,
                                      IMAGE_BASE};
        m->versions[i] = g_array_sized_new(FALSE, FALSE, sizeof(struct version), 2);
        g_array_append_val(m->versions[i], first);
    }
    model_begin(m, 0); /* op 0 made the image */
    model_size(m, sectors);
    model_end(m, 0, true, true);
    return m;
}

void model_free(struct model *m)
{
    for (uint64_t i = 0; i < m->sectors_max; i++)
        g_array_unref(m->versions[i]);
    g_free(m->versions);
    g_array_unref(m->sizes);
    g_array_unref(m->ops);
    g_ptr_array_unref(m->frozen);
    g_free(m);
}

/* --- what happens --- */

static struct op *op_at(const struct model *m, uint32_t i)
{
    return &g_array_index(m->ops, struct op, i);
}

uint32_t model_begin(struct model *m, unsigned notes)
{
    const struct op op = {.begin = notes, .end = UINT_MAX};
    g_array_append_val(m->ops, op);
    return m->ops->len - 1;
}

void model_end(struct model *m, unsigned notes, bool durable, bool whole)
{
    struct op *op = op_at(m, m->ops->len - 1);
    op->end = notes;
    op->durable = durable;
    op->whole = whole;
}

void model_fail(struct model *m)
{
    op_at(m, m->ops->len - 1)->failed = true;
}

void model_lose(struct model *m)
{
    for (uint32_t i = m->ops->len; i-- && !op_at(m, i)->durable;)
        op_at(m, i)->failed = true;
}

void model_put(struct model *m, uint64_t sector, uint64_t count, enum version_kind kind)
{
    const uint32_t op = m->ops->len - 1;
    const struct version v = {op, kind, op};
    for (uint64_t i = sector; i < sector + count; i++)
        g_array_append_val(m->versions[i], v);
}

uint64_t model_sectors(const struct model *m)
{
    unsigned i = m->sizes->len - 1;
    while (op_at(m, g_array_index(m->sizes, struct version, i).op)->failed)
        i--;
    return g_array_index(m->sizes, struct version, i).writer;
}

void model_found_size(struct model *m, uint64_t sectors)
{
    const struct version v = {m->ops->len - 1, VERSION_STAMP, (uint32_t)sectors};
    g_array_append_val(m->sizes, v);
}

void model_size(struct model *m, uint64_t sectors)
{
    const uint64_t old = m->sizes->len ? model_sectors(m) : sectors;
    model_found_size(m, sectors);
    if (sectors < old)
        model_put(m, sectors, old - sectors, VERSION_GONE);
    else
        model_put(m, old, sectors - old, VERSION_ZERO);
}

void model_freeze(struct model *m, const char *name)
{
    struct frozen *f = g_new0(struct frozen, 1);
    f->name = g_strdup(name);
    f->made = m->ops->len - 1;
    f->deleted = UINT32_MAX;
    f->sectors = model_sectors(m);
    f->version = g_new(uint32_t, f->sectors);
    for (uint64_t i = 0; i < f->sectors; i++)
        f->version[i] = m->versions[i]->len - 1;
    g_ptr_array_add(m->frozen, f);
}

/* May the one before it be there instead? Its operation failed, or put several of which one is there. */
static bool is_doubtful(const struct model *m, const GArray *versions, unsigned i)
{
    const struct version *v = &g_array_index(versions, struct version, i);
    return i && (op_at(m, v->op)->failed || v[-1].op == v->op);
}

void model_thaw(struct model *m, struct frozen *f)
{
    if (f->sectors != model_sectors(m))
        model_size(m, f->sectors);
    for (uint64_t i = 0; i < f->sectors; i++) {
        /* When that was an operation that failed, what was there before it may be there, too. */
        unsigned first = f->version[i];
        while (is_doubtful(m, m->versions[i], first))
            first--;
        for (unsigned at = first; at <= f->version[i]; at++) {
            struct version v = g_array_index(m->versions[i], struct version, at);
            v.op = m->ops->len - 1;
            g_array_append_val(m->versions[i], v);
        }
    }
}

void model_delete(struct model *m, struct frozen *f)
{
    f->deleted = m->ops->len - 1;
}

struct moment model_moment(const struct model *m, unsigned notes)
{
    struct moment at = {0};
    while (at.begun < m->ops->len &&
           (op_at(m, at.begun)->begin < notes || op_at(m, at.begun)->end <= notes)) {
        at.running = op_at(m, at.begun)->end > notes;
        at.begun++;
        if (!at.running && op_at(m, at.begun - 1)->durable)
            at.floor = at.begun;
    }
    return at;
}

/* --- what must be --- */

static bool all_bytes(const uint8_t *bytes, uint8_t byte)
{
    return bytes[0] == byte && !memcmp(bytes, bytes + 1, BLOCK_SECTOR - 1);
}

static bool is_stamp(const uint8_t *bytes, uint32_t writer, uint64_t sector)
{
    uint8_t want[BLOCK_SECTOR];
    image_stamp(want, writer, sector);
    return !memcmp(bytes, want, BLOCK_SECTOR);
}

/* Is it the version with number i? floor: it is the durable one. */
static bool is_version(const GArray *versions, uint64_t sector, unsigned i, bool floor, const uint8_t *bytes)
{
    const struct version *v = &g_array_index(versions, struct version, i);
    if (v->kind == VERSION_STAMP)
        return is_stamp(bytes, v->writer, sector);
    if (all_bytes(bytes, 0))
        return true;
    if (v->kind == VERSION_ZERO || (v->kind == VERSION_GONE && floor))
        return false;
    if (all_bytes(bytes, STORE_GARBAGE))
        return true;
    while (i--) {
        v = &g_array_index(versions, struct version, i);
        if (v->kind == VERSION_STAMP && is_stamp(bytes, v->writer, sector))
            return true;
    }
    return false;
}

/* What the bytes are, for people; owned. */
static char *describe(const struct model *m, const uint8_t *bytes)
{
    if (all_bytes(bytes, 0))
        return g_strdup("zeroes");
    if (all_bytes(bytes, STORE_GARBAGE))
        return g_strdup("what was discarded");
    for (uint32_t writer = 0; writer <= m->ops->len; writer++)
        for (uint64_t i = 0; i < m->sectors_max; i++) {
            const uint32_t w = writer < m->ops->len ? writer : IMAGE_BASE;
            uint8_t want[BLOCK_SECTOR];
            image_stamp(want, w, i);
            if (!memcmp(bytes, want, BLOCK_SECTOR))
                return g_strdup_printf("op %u's sector %u", w, (unsigned)i);
        }
    return g_strdup("something else");
}

static void append_version(GString *line, const struct version *v)
{
    static const char *const names[] = {"zero", "data", "discarded", "cut off"};
    g_string_append_printf(line, " %s by op %u%s", names[v->kind], v->op, v->writer == IMAGE_BASE ? "*" : "");
}

/* Nothing older can be there. */
static bool is_floor(const struct model *m, struct moment at, const struct version *v)
{
    return v->op < at.floor && !op_at(m, v->op)->failed;
}

char *model_check_size(const struct model *m, struct moment at, uint64_t sectors)
{
    g_autoptr(GString) line = g_string_new(NULL);
    for (unsigned i = m->sizes->len; i--;) {
        const struct version *v = &g_array_index(m->sizes, struct version, i);
        if (v->op >= at.begun)
            continue;
        if (v->writer == sectors)
            return NULL;
        g_string_append_printf(line, " %u by op %u%s", v->writer, v->op,
                               op_at(m, v->op)->failed ? " (failed)" : "");
        if (is_floor(m, at, v))
            break;
    }
    return g_strdup_printf("the disk has %u sectors; may be:%s", (unsigned)sectors, line->str);
}

char *model_check(const struct model *m, struct moment at, uint64_t sector, const uint8_t *bytes)
{
    const GArray *versions = m->versions[sector];
    g_autoptr(GString) line = g_string_new(NULL);
    for (unsigned i = versions->len; i--;) {
        const struct version *v = &g_array_index(versions, struct version, i);
        if (v->op >= at.begun)
            continue;
        if (is_version(versions, sector, i, is_floor(m, at, v), bytes))
            return NULL;
        append_version(line, v);
        if (is_floor(m, at, v) && !(i && g_array_index(versions, struct version, i - 1).op == v->op))
            break;
    }
    g_autofree char *found = describe(m, bytes);
    return g_strdup_printf("sector %u holds %s; may be:%s", (unsigned)sector, found, line->str);
}

char *model_check_frozen(const struct model *m, const struct frozen *f, uint64_t sector, const uint8_t *bytes)
{
    const GArray *versions = m->versions[sector];
    g_autoptr(GString) line = g_string_new(NULL);
    const struct version *v;
    unsigned i = f->version[sector] + 1;
    do {
        v = &g_array_index(versions, struct version, --i);
        if (is_version(versions, sector, i, false, bytes))
            return NULL;
        append_version(line, v);
    } while (is_doubtful(m, versions, i));
    g_autofree char *found = describe(m, bytes);
    return g_strdup_printf("sector %u of snapshot %s holds %s; may be:%s", (unsigned)sector, f->name, found,
                           line->str);
}
