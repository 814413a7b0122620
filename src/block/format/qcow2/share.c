/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Clusters that the disk and its snapshots share: their references, and the flags that tell so. */
/*
 * Theory of operation
 *
 * A snapshot is a copy of the L1 table. The L2 tables that both name, and everything these name, get one
 * reference more. The flag "copied" of an entry says that the cluster has just the one reference, so that it
 * may be written in place; a snapshot's making clears it everywhere, and when a snapshot goes the disk's
 * entries get it back where theirs is the only reference left.
 *
 * The flag is a promise in one direction: set, it must be true. So references are added before anything that
 * needs them is in the file, and dropped after the file has forgotten what needed them; a flag that is not
 * set though it could be costs a copy, and a refcount that is too high a leaked cluster.
 *
 * L2 tables are walked as the file has them, the disk's own in memory, where their flags change.
 */
#include <errno.h>
#include <string.h>

#include "base/byteorder.h"
#include "block/format/qcow2/snapshot_int.h"

void qcow2_space_untake(struct qcow2 *q, uint64_t offset, uint64_t size)
{
    pthread_mutex_lock(&q->meta);
    qcow2_unalloc_locked(q, offset >> q->cluster_bits, align_up(size, q->cluster) >> q->cluster_bits);
    pthread_mutex_unlock(&q->meta);
}

/* --- walking --- */

/* Clusters come one by one and are handed on in runs. */
struct walk {
    struct qcow2 *q;
    int (*visit)(struct walk *w, uint64_t cluster, uint64_t count);
    uint64_t first, count; /* the run that grows */
    uint64_t visits;       /* runs that were handed on with success */
    uint64_t limit;        /* stop after so many */
};

static int hand_on(struct walk *w)
{
    int status = 0;
    if (w->count && w->visits < w->limit) {
        status = w->visit(w, w->first, w->count);
        w->visits += !status;
    }
    w->count = 0;
    return status;
}

static int walk_clusters(struct walk *w, uint64_t cluster, uint64_t count)
{
    int status = 0;
    if (w->count && w->first + w->count != cluster) {
        status = hand_on(w);
        w->count = 0;
    }
    if (!w->count)
        w->first = cluster;
    w->count += count;
    return status;
}

static int walk_entry(struct walk *w, uint64_t entry)
{
    struct qcow2 *q = w->q;
    int damaged = qcow2_entry_check_locked(q, entry);
    if (damaged)
        return damaged;
    if (entry & QCOW2_COMPRESSED) {
        uint64_t offset, size;
        qcow2_compressed_range(q, entry, &offset, &size);
        const uint64_t first = offset >> q->cluster_bits, last = (offset + size - 1) >> q->cluster_bits;
        /* Handed on by itself: its last cluster may be the first of the next one, too. */
        int status = hand_on(w);
        if (!status)
            status = walk_clusters(w, first, last - first + 1);
        return status ? status : hand_on(w);
    }
    if (q->external || !qcow2_entry_placed(q, entry))
        return 0;
    const uint64_t offset = entry & QCOW2_OFFSET_MASK;
    if (!qcow2_offset_fits(q, offset))
        return -EIO;
    return walk_clusters(w, offset >> q->cluster_bits, 1);
}

/* Everything an L1 table refers to; tables of a width of one cluster go through `table`. */
static int walk_l1(struct walk *w, const uint64_t *l1, uint32_t size, uint64_t *table)
{
    struct qcow2 *q = w->q;
    int status = 0;
    for (uint32_t i = 0; i < size && !status && w->visits < w->limit; i++) {
        const uint64_t place = l1[i] & QCOW2_OFFSET_MASK;
        if (!place)
            continue;
        status = qcow2_numbers_load(q->file, place, table, q->cluster / 8);
        for (uint64_t k = 0; k < q->cluster / 8 && !status; k += q->entry_words)
            status = walk_entry(w, table[k]);
        if (!status)
            status = walk_clusters(w, place >> q->cluster_bits, 1);
    }
    return status ? status : hand_on(w);
}

static int add_one(struct walk *w, uint64_t cluster, uint64_t count)
{
    return qcow2_refcount_add_locked(w->q, cluster, count, 1);
}

static int take_one(struct walk *w, uint64_t cluster, uint64_t count)
{
    return qcow2_refcount_add_locked(w->q, cluster, count, -1);
}

/* As an entry that is gone: with what the host may have back. */
static int drop_one(struct walk *w, uint64_t cluster, uint64_t count)
{
    qcow2_free_locked(w->q, cluster, count, true);
    return 0;
}

static int only_look(struct walk *w, uint64_t cluster, uint64_t count)
{
    (void)w, (void)cluster, (void)count;
    return 0;
}

static int walk(struct qcow2 *q, const uint64_t *l1, uint32_t size,
                int (*visit)(struct walk *w, uint64_t cluster, uint64_t count), uint64_t limit,
                uint64_t *visits)
{
    struct walk w = {.q = q, .visit = visit, .limit = limit};
    g_autofree uint64_t *table = g_try_malloc(q->cluster);
    if (!table)
        return -ENOMEM;
    pthread_mutex_lock(&q->meta);
    int status = walk_l1(&w, l1, size, table);
    pthread_mutex_unlock(&q->meta);
    if (visits)
        *visits = w.visits;
    return status;
}

int qcow2_share_check(struct qcow2 *q, const uint64_t *l1, uint32_t size)
{
    return walk(q, l1, size, only_look, UINT64_MAX, NULL);
}

int qcow2_share_add(struct qcow2 *q, const uint64_t *l1, uint32_t size)
{
    uint64_t visits;
    int status = walk(q, l1, size, add_one, UINT64_MAX, &visits);
    if (!status)
        return qcow2_sync(q);
    /* The same walk as far as it came; what cannot be taken back leaks. */
    if (visits)
        (void)walk(q, l1, size, take_one, visits, NULL);
    return status;
}

int qcow2_share_drop(struct qcow2 *q, const uint64_t *l1, uint32_t size)
{
    /* L2 tables that only the other L1 has are metadata no more, and may be given out as anything. */
    pthread_mutex_lock(&q->meta);
    int status = qcow2_owned_build(q) ? 0 : -ENOMEM;
    pthread_mutex_unlock(&q->meta);
    if (status)
        return qcow2_fail(q, status);
    status = walk(q, l1, size, drop_one, UINT64_MAX, NULL);
    if (!status)
        status = qcow2_sync(q);
    if (status)
        return status;
    pthread_mutex_lock(&q->meta);
    qcow2_reclaim_locked(q, true);
    pthread_mutex_unlock(&q->meta);
    return qcow2_sync(q);
}

/* --- flags --- */

static int want_flag(struct qcow2 *q, uint64_t offset, bool *alone)
{
    uint64_t count;
    int status = qcow2_refcount_get_locked(q, offset >> q->cluster_bits, &count);
    *alone = count == 1;
    return status;
}

static int flag_entries(struct qcow2 *q, struct qcow2_table *t)
{
    for (uint64_t i = 0; i < BIT(q->l2_bits); i++) {
        struct qcow2_entry e = qcow2_entry_read(q, t, i);
        bool alone;
        if (e.entry & QCOW2_COMPRESSED || q->external || !qcow2_entry_placed(q, e.entry))
            continue;
        int status = want_flag(q, e.entry & QCOW2_OFFSET_MASK, &alone);
        if (status)
            return status;
        if (alone == !!(e.entry & QCOW2_COPIED))
            continue;
        e.entry ^= QCOW2_COPIED;
        qcow2_entry_write_locked(q, t, i, e);
    }
    return 0;
}

/* One entry of L1 and its table. */
static int flag_table(struct qcow2 *q, uint32_t i)
{
    const uint64_t entry = q->l1[i], place = entry & QCOW2_OFFSET_MASK;
    struct qcow2_table *t;
    bool alone;
    if (!place)
        return 0;
    if (!qcow2_offset_fits(q, place))
        return -EIO;
    int status = want_flag(q, place, &alone);
    if (status)
        return status;
    if (alone != !!(entry & QCOW2_COPIED))
        qcow2_l1_set_locked(q, i, entry ^ QCOW2_COPIED);
    status = qcow2_table_get(q, &q->l2, i, place, false, &t);
    if (!status)
        status = flag_entries(q, t);
    qcow2_table_put(&q->l2, t);
    return status;
}

int qcow2_share_flags(struct qcow2 *q)
{
    int status = 0;
    for (uint32_t i = 0; i < q->header.l1_size && !status; i++) {
        pthread_mutex_lock(&q->meta);
        status = flag_table(q, i);
        pthread_mutex_unlock(&q->meta);
        if (status != -EAGAIN)
            continue;
        status = qcow2_sync(q); /* all of the cache has changed */
        i--;
    }
    return status ? status : qcow2_sync(q);
}

/* --- tables of snapshots --- */

int qcow2_share_load(struct qcow2 *q, uint64_t offset, uint32_t size, uint64_t **out)
{
    g_autofree uint64_t *l1 = g_try_malloc0_n(MAX(size, 1), 8);
    if (!l1)
        return -ENOMEM;
    int status = qcow2_space_check(q, offset, (uint64_t)size * 8);
    if (!status)
        status = qcow2_numbers_load(q->file, offset, l1, size);
    for (uint32_t i = 0; i < size && !status; i++) {
        const uint64_t place = l1[i] & QCOW2_OFFSET_MASK;
        if (l1[i] & QCOW2_L1_RESERVED || (place && !qcow2_offset_fits(q, place)))
            status = -EILSEQ;
        else if (place)
            status = qcow2_space_check(q, place, q->cluster);
    }
    if (!status)
        *out = g_steal_pointer(&l1);
    return status;
}
