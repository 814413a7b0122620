/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Counting how often each cluster of a qcow2 image is referred to, by walking all that can refer to one. */
/*
 * The counts are kept for pieces of the file that something refers to, so a file that only says that it is
 * large needs no memory. Tables are read as the file has them. An L1 table that names one L2 table twice is
 * damaged; the second time the table is not walked again, so the walk is as long as the file at most.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "block/format/qcow2/check_int.h"

enum { LEAVES_MAX = 5120 /* 80 MiB */ };
#define WORK_MAX (UINT64_C(1) << 29) /* entries looked at */

void qcow2_say(struct qcow2_counts *c, const char *format, ...)
{
    if (c->quiet || !c->check->report || c->check->said > BLOCK_CHECK_LINES)
        return;
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    block_check_say(c->check, "%s", line);
}

static void corruption(struct qcow2_counts *c)
{
    if (!c->quiet)
        c->check->corruptions++;
}

/* --- the counts --- */

bool qcow2_counts_init(struct qcow2_counts *c, struct qcow2 *q, struct block_check *check)
{
    *c = (struct qcow2_counts){.q = q, .check = check};
    c->end = align_up(q->file->facts.size, q->cluster) >> q->cluster_bits;
    c->leaves = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    return true;
}

void qcow2_counts_fini(struct qcow2_counts *c)
{
    g_hash_table_destroy(c->leaves);
}

struct qcow2_leaf *qcow2_counts_leaf(struct qcow2_counts *c, uint64_t cluster, bool make)
{
    const uint64_t key = cluster / QCOW2_LEAF;
    struct qcow2_leaf *leaf = g_hash_table_lookup(c->leaves, &key);
    if (leaf || !make)
        return leaf;
    leaf = g_hash_table_size(c->leaves) < LEAVES_MAX ? g_try_malloc0(sizeof(*leaf)) : NULL;
    if (leaf)
        g_hash_table_insert(c->leaves, g_memdup2(&key, sizeof(key)), leaf);
    else
        c->too_much = true;
    return leaf;
}

uint64_t qcow2_counts_get(const struct qcow2_counts *c, uint64_t cluster)
{
    const uint64_t key = cluster / QCOW2_LEAF;
    const struct qcow2_leaf *leaf = g_hash_table_lookup(c->leaves, &key);
    return leaf ? leaf->count[cluster % QCOW2_LEAF] : 0;
}

bool qcow2_counts_add(struct qcow2_counts *c, uint64_t offset, uint64_t size)
{
    if (!size)
        return true;
    const uint64_t first = offset >> c->q->cluster_bits;
    uint64_t last;
    if (__builtin_add_overflow(offset, size - 1, &last))
        return false;
    last >>= c->q->cluster_bits;
    /* One cluster that was given out and never written may be missing at the end. */
    if (last > c->end)
        return false;
    for (uint64_t i = first; i <= last; i++) {
        struct qcow2_leaf *leaf = qcow2_counts_leaf(c, i, true);
        if (leaf && leaf->count[i % QCOW2_LEAF] < UINT32_MAX)
            leaf->count[i % QCOW2_LEAF]++;
    }
    c->highest = MAX(c->highest, last);
    return true;
}

/* --- tables --- */

static void add_table(struct qcow2_counts *c, uint64_t offset, uint64_t size, const char *what)
{
    if (qcow2_counts_add(c, offset, size))
        return;
    qcow2_say(c, "ERROR %s at %" PRIu64 " reaches over the end of the file", what, offset);
    corruption(c);
}

static void add_place(void *opaque, uint64_t offset, uint64_t size, const char *what)
{
    add_table(opaque, offset, size, what);
}

static void count_refcounts(struct qcow2_counts *c)
{
    struct qcow2 *q = c->q;
    add_table(c, q->header.reftable_offset, (uint64_t)q->header.reftable_clusters << q->cluster_bits,
              "the refcount table");
    for (uint64_t i = 0; i < q->reftable_entries; i++) {
        const uint64_t entry = q->reftable[i];
        if (!entry)
            continue;
        if (entry & QCOW2_REFTABLE_RESERVED || !qcow2_offset_fits(q, entry) ||
            (entry >> q->cluster_bits) >= c->end || !qcow2_counts_add(c, entry, q->cluster)) {
            qcow2_say(c, "ERROR refcount block %" PRIu64 " is at %" PRIu64 ", which cannot be", i, entry);
            corruption(c);
            c->broken = true;
        }
    }
}

/* A block that something else refers to, too, says nothing that can be trusted. */
static void check_blocks_alone(struct qcow2_counts *c)
{
    const struct qcow2 *q = c->q;
    for (uint64_t i = 0; i < q->reftable_entries && !c->broken; i++)
        if (q->reftable[i] && qcow2_counts_get(c, q->reftable[i] >> q->cluster_bits) != 1) {
            qcow2_say(c, "ERROR refcount block %" PRIu64 " at %" PRIu64 " is something else, too", i,
                      q->reftable[i]);
            corruption(c);
            c->broken = true;
        }
}

/* --- L1 and L2 --- */

bool qcow2_l1_entry_good(const struct qcow2_counts *c, uint64_t entry)
{
    const uint64_t place = entry & QCOW2_OFFSET_MASK;
    return !(entry & QCOW2_L1_RESERVED) && qcow2_offset_fits(c->q, place) &&
           place >> c->q->cluster_bits < c->end;
}

bool qcow2_l2_entry_good(const struct qcow2_counts *c, struct qcow2_entry e)
{
    const struct qcow2 *q = c->q;
    if (e.entry & QCOW2_COMPRESSED) {
        uint64_t offset, size;
        if (q->external || e.entry & QCOW2_COPIED || e.bitmap)
            return false;
        qcow2_compressed_range(q, e.entry, &offset, &size);
        return offset >= q->cluster && offset < q->file->facts.size;
    }
    if (e.entry & QCOW2_L2_RESERVED || (e.entry & QCOW2_ZERO && q->header.version < 3))
        return false;
    if (q->entry_words == 2 && ((e.bitmap & UINT32_MAX & e.bitmap >> 32) || e.entry & QCOW2_ZERO ||
                                (!qcow2_entry_placed(q, e.entry) && (uint32_t)e.bitmap)))
        return false;
    if (!qcow2_entry_placed(q, e.entry))
        return true;
    const uint64_t place = e.entry & QCOW2_OFFSET_MASK;
    return q->external ? !(place & (q->cluster - 1))
                       : qcow2_offset_fits(q, place) && place >> q->cluster_bits <= c->end;
}

static void tell_stats(struct qcow2_counts *c, uint64_t entry)
{
    const struct qcow2 *q = c->q;
    uint64_t place = entry & QCOW2_OFFSET_MASK, size = q->cluster;
    if (entry & QCOW2_COMPRESSED) {
        qcow2_compressed_range(q, entry, &place, &size);
        c->check->compressed++;
        c->check->fragmented++; /* as people are told elsewhere: none of them is in a row */
    } else if (c->next_place && place != c->next_place) {
        c->check->fragmented++;
    }
    c->next_place = place + size;
    c->check->allocated++;
}

static void count_l2_entry(struct qcow2_counts *c, struct qcow2_entry e, bool active)
{
    struct qcow2 *q = c->q;
    if (!qcow2_l2_entry_good(c, e)) {
        qcow2_say(c, "ERROR L2 entry %016" PRIx64 " points to what cannot be", e.entry);
        corruption(c);
        c->bad_entries++;
        return;
    }
    if (!(e.entry & QCOW2_COMPRESSED) && !qcow2_entry_placed(q, e.entry))
        return;
    if (active && !c->quiet)
        tell_stats(c, e.entry);
    if (e.entry & QCOW2_COMPRESSED) {
        uint64_t offset, size;
        qcow2_compressed_range(q, e.entry, &offset, &size);
        /* The sectors that the entry counts may reach over the file's end. */
        qcow2_counts_add(c, offset, MIN(size, align_up(q->file->facts.size, q->cluster) - offset));
    } else if (!q->external) {
        qcow2_counts_add(c, e.entry & QCOW2_OFFSET_MASK, q->cluster);
    }
}

/* True the first time for each L2 table of an L1 table. */
bool qcow2_first_time(struct qcow2_counts *c, uint64_t cluster)
{
    struct qcow2_leaf *leaf = qcow2_counts_leaf(c, cluster, true);
    const uint64_t i = cluster % QCOW2_LEAF;
    if (!leaf || leaf->seen[i / 64] & BIT(i % 64))
        return false;
    leaf->seen[i / 64] |= BIT(i % 64);
    return true;
}

void qcow2_forget_seen(struct qcow2_counts *c)
{
    GHashTableIter iter;
    gpointer leaf;
    g_hash_table_iter_init(&iter, c->leaves);
    while (g_hash_table_iter_next(&iter, NULL, &leaf))
        memset(((struct qcow2_leaf *)leaf)->seen, 0, sizeof(((struct qcow2_leaf *)leaf)->seen));
}

static int read_l2(struct qcow2 *q, uint64_t place, uint64_t *table)
{
    const uint64_t end = q->file->facts.size, there = place < end ? MIN(q->cluster, end - place) : 0;
    struct block_extent extent;
    memset(table, 0, q->cluster);
    if (!there || (!block_extent(q->file, place, there, &extent) && extent.zero && extent.size == there))
        return 0;
    return qcow2_numbers_load(q->file, place, table, there / 8);
}

static void count_l2(struct qcow2_counts *c, uint64_t place, uint64_t *table, bool active)
{
    struct qcow2 *q = c->q;
    if (read_l2(q, place, table)) {
        qcow2_say(c, "ERROR L2 table at %" PRIu64 " cannot be read", place);
        c->check->errors++;
        c->unread = true;
        return;
    }
    c->work += BIT(q->l2_bits);
    for (uint64_t i = 0; i < BIT(q->l2_bits); i++) {
        const struct qcow2_entry e = {table[i * q->entry_words], q->entry_words == 2 ? table[i * 2 + 1] : 0};
        if (e.entry || e.bitmap)
            count_l2_entry(c, e, active);
    }
}

static bool count_l1(struct qcow2_counts *c, const uint64_t *l1, uint64_t entries, bool active)
{
    struct qcow2 *q = c->q;
    g_autofree uint64_t *table = g_try_malloc(q->cluster);
    if (!table)
        return false;
    qcow2_forget_seen(c);
    c->work += entries;
    for (uint64_t i = 0; i < entries; i++) {
        const uint64_t place = l1[i] & QCOW2_OFFSET_MASK;
        c->too_much |= c->work > WORK_MAX;
        if (!l1[i] || c->too_much)
            continue;
        if (!qcow2_l1_entry_good(c, l1[i])) {
            qcow2_say(c, "ERROR L1 entry %" PRIu64 " is %016" PRIx64 ", which cannot be", i, l1[i]);
            corruption(c);
            c->bad_entries++;
            continue;
        }
        qcow2_counts_add(c, place, q->cluster);
        if (qcow2_first_time(c, place >> q->cluster_bits))
            count_l2(c, place, table, active);
    }
    return true;
}

/* --- the rest --- */

static bool count_snapshots(struct qcow2_counts *c, GError **error)
{
    struct qcow2 *q = c->q;
    uint64_t size = 0;
    if (!q->header.n_snapshots)
        return true;
    GPtrArray *all = qcow2_snapshots_read(q, &size, error);
    if (!all)
        return false;
    bool ok = true;
    add_table(c, q->header.snapshots_offset, size, "the table of snapshots");
    for (guint i = 0; i < all->len && ok && !c->too_much; i++) {
        const struct qcow2_snapshot *s = all->pdata[i];
        const uint64_t bytes = (uint64_t)s->l1_size * 8;
        g_autofree uint64_t *l1 = bytes <= QCOW2_L1_BYTES_MAX ? g_try_malloc(MAX(bytes, 8)) : NULL;
        add_table(c, s->l1_offset, bytes, "a snapshot's L1 table");
        if (!l1 || qcow2_numbers_load(q->file, s->l1_offset, l1, s->l1_size)) {
            qcow2_say(c, "ERROR the L1 table of snapshot %s cannot be read", s->id);
            c->check->errors++;
            c->unread = true;
        } else {
            ok = count_l1(c, l1, s->l1_size, false);
        }
    }
    g_ptr_array_unref(all);
    return ok ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: qcow2: the host has not enough memory", q->disk.name);
}

static void count_crypto(struct qcow2_counts *c)
{
    const struct qcow2_extension *e = qcow2_extension_find(&c->q->header, QCOW2_EXTENSION_CRYPTO);
    if (e && e->size >= 16)
        add_table(c, ld64be(e->bytes), ld64be(e->bytes + 8), "the encryption header");
}

bool qcow2_count_all(struct qcow2_counts *c, GError **error)
{
    struct qcow2 *q = c->q;
    g_hash_table_remove_all(c->leaves);
    c->end = align_up(q->file->facts.size, q->cluster) >> q->cluster_bits;
    c->highest = c->bad_entries = c->work = 0;
    c->next_place = 0;
    c->too_much = c->broken = c->unread = false;
    qcow2_counts_add(c, 0, q->cluster);
    if (!c->no_refcounts)
        count_refcounts(c);
    add_table(c, q->header.l1_offset, (uint64_t)q->header.l1_size * 8, "the L1 table");
    const uint64_t *l1 = (const uint64_t *)(uintptr_t)q->l1;
    if (!count_l1(c, l1, q->header.l1_size, true))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: qcow2: the host has not enough memory",
                           q->disk.name);
    if (!count_snapshots(c, error) || !qcow2_bitmaps_places(q, add_place, c, error))
        return false;
    count_crypto(c);
    if (!c->no_refcounts)
        check_blocks_alone(c);
    if (c->too_much)
        return hostel_fail(error, HOSTEL_ERROR_HOST,
                           "%s: qcow2: too large to be checked: it refers to more than "
                           "can be counted",
                           q->disk.name);
    return true;
}
