/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Mending a qcow2 image: refcounts, flags, entries that point nowhere, and refcount structures made anew. */
/*
 * Theory of operation
 *
 * Power may fail in here, too. So refcounts that are too low are raised first, and are durable before entries
 * change; those that are too high are lowered last. Refcount structures that cannot be used are not mended in
 * place: new ones are written behind the end of the file, then the header switches to them in one sector.
 * What the old ones took is free from then on, as nothing counts it.
 */
#include <errno.h>

#include "base/byteorder.h"
#include "block/format/qcow2/check_int.h"

/* --- refcounts --- */

static int raise_one(struct qcow2_counts *c, uint64_t cluster, uint64_t refcount, uint64_t references)
{
    if (refcount >= references)
        return 0;
    int status = qcow2_refcount_add_locked(c->q, cluster, 1, (int64_t)(references - refcount));
    return status == -ERANGE ? 0 : status; /* cannot be counted: stays, and is told again */
}

static int lower_one(struct qcow2_counts *c, uint64_t cluster, uint64_t refcount, uint64_t references)
{
    return refcount <= references
               ? 0
               : qcow2_refcount_add_locked(c->q, cluster, 1, -(int64_t)(refcount - references));
}

int qcow2_repair_refcounts(struct qcow2_counts *c, bool raise, bool lower)
{
    struct qcow2 *q = c->q;
    pthread_mutex_lock(&q->meta);
    /* New refcount blocks must not go where something is that is counted too low. */
    q->cursor = MAX(c->end, c->highest + 1);
    int status = raise ? qcow2_differences(c, raise_one) : 0;
    if (raise && !status) /* a block that was missing has come with its first cluster; now the others */
        status = qcow2_differences(c, raise_one);
    if (!status && lower)
        status = qcow2_differences(c, lower_one);
    q->cursor = 0;
    pthread_mutex_unlock(&q->meta);
    return status;
}

/* --- entries --- */

static struct qcow2_entry mended(struct qcow2_counts *c, struct qcow2_entry e)
{
    const struct qcow2 *q = c->q;
    if (!(e.entry & QCOW2_COMPRESSED))
        e.entry &= ~QCOW2_L2_RESERVED;
    if (!qcow2_l2_entry_good(c, e)) { /* what was there is lost; a base's old data must not stand for it */
        if (q->entry_words == 2)
            return (struct qcow2_entry){.bitmap = (uint64_t)UINT32_MAX << 32};
        return (struct qcow2_entry){.entry = q->header.version >= 3 ? QCOW2_ZERO : 0};
    }
    if (e.entry & QCOW2_COMPRESSED || !qcow2_entry_placed(q, e.entry))
        return e;
    const uint64_t cluster = (e.entry & QCOW2_OFFSET_MASK) >> q->cluster_bits;
    const uint64_t references = q->external ? 1 : qcow2_counts_get(c, cluster);
    e.entry = references == 1 ? e.entry | QCOW2_COPIED : e.entry & ~QCOW2_COPIED;
    return e;
}

/* Of an L2 table that only the disk has. */
static int mend_table(struct qcow2_counts *c, uint64_t index)
{
    struct qcow2 *q = c->q;
    struct qcow2_table *t;
    const uint64_t guest = index << (q->cluster_bits + q->l2_bits);
    bool any = false;
    int status = qcow2_l2_readable(q, guest, &t);
    for (uint64_t i = 0; t && i < BIT(q->l2_bits) && !any; i++) {
        const struct qcow2_entry old = qcow2_entry_read(q, t, i), new = mended(c, old);
        any = old.entry != new.entry || old.bitmap != new.bitmap;
    }
    qcow2_table_put(&q->l2, t);
    if (status || !any)
        return status;
    status = qcow2_l2_writable_locked(q, guest, &t);
    for (uint64_t i = 0; !status && i < BIT(q->l2_bits); i++) {
        const struct qcow2_entry old = qcow2_entry_read(q, t, i), new = mended(c, old);
        if (old.entry != new.entry || old.bitmap != new.bitmap)
            qcow2_entry_write_locked(q, t, i, new);
    }
    qcow2_table_put(&q->l2, t);
    return status;
}

/* Of one L1 entry. Holds meta. first: no entry before it names the same table. */
static int mend_l1_entry(struct qcow2_counts *c, uint64_t index, bool first, unsigned *again)
{
    enum { AGAIN_MAX = 64 /* entries that name a table another one has, and get a copy */ };
    struct qcow2 *q = c->q;
    const uint64_t entry = q->l1[index];
    if (!qcow2_l1_entry_good(c, entry) || (!first && ++*again > AGAIN_MAX)) {
        qcow2_l1_set_locked(q, index, 0);
        return 0;
    }
    const uint64_t references = qcow2_counts_get(c, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits);
    const uint64_t want = references == 1 ? entry | QCOW2_COPIED : entry & ~QCOW2_COPIED;
    if (want != entry)
        qcow2_l1_set_locked(q, index, want);
    return mend_table(c, index);
}

int qcow2_repair_entries(struct qcow2_counts *c)
{
    struct qcow2 *q = c->q;
    unsigned again = 0;
    int status = 0;
    qcow2_forget_seen(c);
    for (uint64_t i = 0; i < q->header.l1_size && !status; i++) {
        const uint64_t entry = q->l1[i];
        if (!entry)
            continue;
        const bool first = !qcow2_l1_entry_good(c, entry) ||
                           qcow2_first_time(c, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits);
        bool full;
        do {
            pthread_mutex_lock(&q->meta);
            status = mend_l1_entry(c, i, first, &again);
            pthread_mutex_unlock(&q->meta);
            full = status == -EAGAIN;
            if (full)
                status = qcow2_sync(q);
        } while (full && !status);
    }
    return status;
}

/* --- new refcount structures --- */

struct anew {
    uint64_t *table;
    uint64_t entries, start, table_clusters, blocks, clusters;
};

/* Does block `index` count anything? */
static bool needed(struct qcow2_counts *c, const struct anew *a, uint64_t index)
{
    const unsigned bits = c->q->block_bits;
    const uint64_t first = index << bits, end = (index + 1) << bits;
    if (first < a->start + a->clusters && end > a->start)
        return true;
    for (uint64_t i = first; i < end && i <= c->highest; i++) {
        if (!qcow2_counts_leaf(c, i, false))
            i |= QCOW2_LEAF - 1;
        else if (qcow2_counts_get(c, i))
            return true;
    }
    return false;
}

/* Where they go: behind the end. A larger area needs more blocks, until that fits. */
static int plan(struct qcow2_counts *c, struct anew *a)
{
    struct qcow2 *q = c->q;
    const uint64_t in_cluster = q->cluster / 8;
    a->start = MAX(c->end, c->highest + 1);
    a->clusters = 1;
    for (;;) {
        const uint64_t last = (a->start + a->clusters - 1) >> q->block_bits;
        uint64_t blocks = 0;
        a->entries = align_up(last + 1, in_cluster);
        if (a->entries * 8 > QCOW2_REFTABLE_BYTES_MAX)
            return -EFBIG;
        for (uint64_t i = 0; i <= last; i++)
            blocks += needed(c, a, i);
        a->blocks = blocks;
        a->table_clusters = a->entries / in_cluster;
        if (a->blocks + a->table_clusters <= a->clusters)
            break;
        a->clusters = a->blocks + a->table_clusters;
    }
    if (!q->file->facts.growable && (a->start + a->clusters) << q->cluster_bits > q->file->facts.size)
        return -ENOSPC;
    a->table = g_try_malloc0_n(a->entries, 8);
    return a->table ? 0 : -ENOMEM;
}

static int write_block(struct qcow2_counts *c, const struct anew *a, uint64_t index, uint64_t at,
                       uint8_t *bytes)
{
    struct qcow2 *q = c->q;
    const uint64_t first = index << q->block_bits, max = qcow2_refcount_max(q);
    memset(bytes, 0, q->cluster);
    for (uint64_t i = 0; i < BIT(q->block_bits); i++) {
        const uint64_t cluster = first + i;
        uint64_t value = qcow2_counts_get(c, cluster);
        if (cluster >= a->start && cluster < a->start + a->clusters)
            value = 1;
        if (value)
            qcow2_refcount_store(bytes, q->refcount_order, i, MIN(value, max));
    }
    return block_pwrite(q->file, bytes, q->cluster, at << q->cluster_bits);
}

static int write_all(struct qcow2_counts *c, struct anew *a)
{
    struct qcow2 *q = c->q;
    g_autofree uint8_t *bytes = g_try_malloc(q->cluster);
    uint64_t at = a->start + a->table_clusters;
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t i = 0; i < a->entries && !status; i++) {
        if (!needed(c, a, i))
            continue;
        status = write_block(c, a, i, at, bytes);
        a->table[i] = at++ << q->cluster_bits;
    }
    if (!status)
        status = qcow2_numbers_store(q->file, a->start << q->cluster_bits, a->table, a->entries);
    return status ? status : block_flush(q->file);
}

/* Memory follows the file. */
static int adopt(struct qcow2_counts *c, struct anew *a)
{
    struct qcow2 *q = c->q;
    q->header.reftable_offset = a->start << q->cluster_bits;
    q->header.reftable_clusters = (uint32_t)a->table_clusters;
    pthread_mutex_lock(&q->meta);
    int status = qcow2_header_update_locked(q);
    pthread_mutex_unlock(&q->meta);
    if (status)
        return status;
    qcow2_cache_drop(&q->blocks);
    g_free(q->reftable);
    g_free(q->reftable_dirty);
    q->reftable = STEAL(a->table);
    q->reftable_entries = a->entries;
    q->reftable_dirty = g_try_malloc0_n(a->entries / 64 / 64 + 1, 8);
    q->reftable_changed = false;
    q->fresh_from = MAX(q->fresh_from, a->start + a->clusters);
    q->cursor = 0;
    return q->reftable_dirty && !qcow2_cache_grow(&q->blocks, a->entries) && qcow2_owned_build(q) ? 0
                                                                                                  : -ENOMEM;
}

int qcow2_repair_rebuild(struct qcow2_counts *c)
{
    struct anew a = {0};
    c->quiet = c->no_refcounts = true;
    int status = qcow2_count_all(c, NULL) && !c->unread ? plan(c, &a) : -EIO;
    if (!status)
        status = write_all(c, &a);
    if (!status)
        status = adopt(c, &a);
    g_free(a.table);
    /* From here on, the counts are those with the new structures. */
    c->no_refcounts = false;
    if (!status && (!qcow2_count_all(c, NULL) || c->unread))
        status = -EIO;
    return status;
}
