/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Owners of a qcow2 image's clusters (QEMU's docs/interop/qcow2.txt); see qcow2_walk.h. */
#include "qcow2_walk.h"

#include <inttypes.h>

/* What a cluster is used for; of each only one but for the last three. */
enum role { FREE, HEADER, L1, REFCOUNT_TABLE, REFCOUNT_BLOCK, SNAPSHOTS, L2, DATA, COMPRESSED };

struct cluster {
    enum role role;
    unsigned owners, tree; /* tree: the last one that counted it */
};

struct walk {
    struct store *image;
    uint32_t bits; /* of a cluster's size */
    uint64_t size, count;
    bool extended, v3, settled;
    bool dirty; /* refcounts are made anew when it is opened next */
    struct cluster *clusters;
    uint64_t *refcounts;
    unsigned tree;
    char *wrong;
};

static uint64_t get(struct walk *w, uint64_t offset, unsigned bytes)
{
    uint8_t raw[8];
    uint64_t value = 0;
    store_read(w->image, raw, bytes, offset);
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | raw[i];
    return value;
}

static void fail(struct walk *w, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void fail(struct walk *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!w->wrong)
        w->wrong = g_strdup_vprintf(format, args);
    va_end(args);
}

static void own(struct walk *w, uint64_t offset, enum role role, const char *what)
{
    const uint64_t i = offset >> w->bits;
    if (i >= w->count) {
        fail(w, "%s at %" PRIu64 " is behind the end of the file", what, offset);
        return;
    }
    struct cluster *c = &w->clusters[i];
    const bool may = c->role == FREE || (c->role == role && role == COMPRESSED) ||
                     (c->role == role && role >= L2 && c->tree != w->tree);
    if (!may)
        fail(w, "cluster %" PRIu64 ", %s, is of kind %d already (%u owners)", i, what, c->role, c->owners);
    c->role = role;
    c->tree = w->tree;
    c->owners++;
}

static void own_range(struct walk *w, uint64_t offset, uint64_t size, enum role role, const char *what)
{
    if (offset & (w->size - 1))
        fail(w, "%s is at %" PRIu64, what, offset);
    for (uint64_t at = offset; at < offset + size; at += w->size)
        own(w, at, role, what);
}

/* --- trees --- */

#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define COPIED (UINT64_C(1) << 63)

static void walk_l2(struct walk *w, uint64_t table)
{
    const unsigned width = w->extended ? 16 : 8, shift = 62 - (w->bits - 8);
    for (uint64_t at = table; at < table + w->size; at += width) {
        const uint64_t entry = get(w, at, 8), place = entry & OFFSET_MASK;
        if (entry & UINT64_C(1) << 62) {
            const uint64_t from = entry & ((UINT64_C(1) << shift) - 1);
            const uint64_t sectors = (entry >> shift & ((UINT64_C(1) << (w->bits - 8)) - 1)) + 1;
            const uint64_t last = (from & ~UINT64_C(511)) + sectors * 512 - 1;
            for (uint64_t i = from >> w->bits; i <= last >> w->bits; i++)
                own(w, i << w->bits, COMPRESSED, "compressed data");
        } else if (place) {
            if (place & (w->size - 1))
                fail(w, "data is at %" PRIu64, place);
            own(w, place, DATA, "data");
        }
    }
}

static void walk_l1(struct walk *w, uint64_t offset, uint64_t entries)
{
    w->tree++;
    own_range(w, offset, entries * 8, L1, "an L1 table");
    for (uint64_t i = 0; i < entries && !w->wrong; i++) {
        const uint64_t place = get(w, offset + i * 8, 8) & OFFSET_MASK;
        if (!place)
            continue;
        own(w, place, L2, "an L2 table");
        if (!w->wrong)
            walk_l2(w, place);
    }
}

static void walk_snapshots(struct walk *w, uint64_t table, unsigned n)
{
    uint64_t at = table;
    for (unsigned i = 0; i < n && !w->wrong; i++) {
        const uint64_t l1 = get(w, at, 8), entries = get(w, at + 8, 4);
        const uint64_t texts = get(w, at + 12, 2) + get(w, at + 14, 2) + get(w, at + 36, 4);
        walk_l1(w, l1, entries);
        at += (40 + texts + 7) / 8 * 8;
    }
    if (n)
        own_range(w, table, at - table, SNAPSHOTS, "the snapshots' table");
}

/* --- refcounts --- */

static uint64_t refcount_at(struct walk *w, uint64_t block, uint64_t i, unsigned order)
{
    if (order >= 3)
        return get(w, block + (i << (order - 3)), 1u << (order - 3));
    const unsigned width = 1u << order, per_byte = 8 / width;
    return get(w, block + i / per_byte, 1) >> (i % per_byte * width) & ((1u << width) - 1);
}

static void walk_refcounts(struct walk *w, uint64_t table, uint64_t table_clusters, unsigned order)
{
    const uint64_t per_block = w->size * 8 >> order;
    w->tree++;
    own_range(w, table, table_clusters << w->bits, REFCOUNT_TABLE, "the refcount table");
    for (uint64_t i = 0; i < (table_clusters << w->bits) / 8 && !w->wrong; i++) {
        const uint64_t block = get(w, table + i * 8, 8);
        if (!block)
            continue;
        if (block & (w->size - 1))
            fail(w, "a refcount block is at %" PRIu64, block);
        own(w, block, REFCOUNT_BLOCK, "a refcount block");
        for (uint64_t k = 0; k < per_block && !w->wrong; k++) {
            const uint64_t cluster = i * per_block + k, refcount = refcount_at(w, block, k, order);
            if (cluster < w->count)
                w->refcounts[cluster] = refcount;
            else if (refcount && w->settled)
                fail(w, "cluster %" PRIu64 " is behind the end, with refcount %" PRIu64, cluster, refcount);
        }
    }
}

static void check_copied(struct walk *w, uint64_t entry, uint64_t place, const char *what)
{
    const uint64_t i = place >> w->bits;
    if (i >= w->count || entry & UINT64_C(1) << 62)
        return;
    if (entry & COPIED && w->clusters[i].owners > 1)
        fail(w, "%s at %" PRIu64 " may be written in place, and has %u owners", what, place,
             w->clusters[i].owners);
    if (w->settled && !(entry & COPIED) && w->refcounts[i] == 1)
        fail(w, "%s at %" PRIu64 " has one owner, and its entry denies it", what, place);
}

/* The flags of the disk's own tree. */
static void check_flags(struct walk *w, uint64_t l1, uint64_t entries)
{
    for (uint64_t i = 0; i < entries && !w->wrong; i++) {
        const uint64_t entry = get(w, l1 + i * 8, 8), table = entry & OFFSET_MASK;
        if (!table)
            continue;
        check_copied(w, entry, table, "an L2 table");
        for (uint64_t at = table; at < table + w->size && !w->wrong; at += w->extended ? 16 : 8) {
            const uint64_t data = get(w, at, 8);
            if (data & OFFSET_MASK)
                check_copied(w, data, data & OFFSET_MASK, "data");
        }
    }
}

static void compare(struct walk *w, struct qcow2_walk *out)
{
    for (uint64_t i = 0; i < w->count && !w->wrong; i++) {
        const unsigned owners = w->clusters[i].owners;
        if ((!w->dirty && w->refcounts[i] < owners) || (w->settled && w->refcounts[i] != owners))
            fail(w, "cluster %" PRIu64 " of kind %d has %u owners and refcount %" PRIu64, i,
                 w->clusters[i].role, owners, w->refcounts[i]);
        out->owned += owners > 0;
        out->shared += owners > 1;
        out->compressed += w->clusters[i].role == COMPRESSED;
        out->leaked += w->refcounts[i] > owners;
        out->largest = MAX(out->largest, owners);
    }
}

char *qcow2_walk(struct store *image, bool settled, struct qcow2_walk *out)
{
    struct walk w = {.image = image, .settled = settled};
    *out = (struct qcow2_walk){0};
    w.bits = (uint32_t)get(&w, 20, 4);
    if (get(&w, 0, 4) != 0x514649fb || w.bits < 9 || w.bits > 21)
        return g_strdup("it has no header");
    w.v3 = get(&w, 4, 4) == 3;
    w.size = UINT64_C(1) << w.bits;
    w.extended = w.v3 && get(&w, 72, 8) & 16;
    w.dirty = w.v3 && get(&w, 72, 8) & 1;
    if (w.dirty && settled)
        fail(&w, "it is closed, and says that it is not");
    w.count = out->clusters = (store_size(image) + w.size - 1) >> w.bits;
    w.clusters = g_new0(struct cluster, w.count);
    w.refcounts = g_new0(uint64_t, w.count);
    out->snapshots = (unsigned)get(&w, 60, 4);
    const uint64_t l1 = get(&w, 40, 8), entries = get(&w, 36, 4);
    own(&w, 0, HEADER, "the header");
    walk_l1(&w, l1, entries);
    walk_snapshots(&w, get(&w, 64, 8), out->snapshots);
    if (!w.wrong)
        walk_refcounts(&w, get(&w, 48, 8), get(&w, 56, 4), w.v3 ? (unsigned)get(&w, 96, 4) : 4);
    compare(&w, out);
    check_flags(&w, l1, entries);
    g_free(w.clusters);
    g_free(w.refcounts);
    return w.wrong;
}
