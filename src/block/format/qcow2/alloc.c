/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Clusters: given out, taken back when it is safe, and claimed while somebody fills them. */
/*
 * Theory of operation
 *
 * A cluster with refcount 0 is free. The lowest free ones are given out first, as many in a row as there are,
 * so what is written in a row lies in a row.
 *
 * Taking back. When an entry ceases to refer to a cluster, the file may still have the entry, and an
 * operation that looked at it before may still read or write the cluster. So the cluster goes through three
 * lists:
 *
 *   pending   memory has forgotten the reference, the file has not
 *   durable   nor has the file (sync.c moves it here); somebody may still be at it
 *   free      two epochs later (table.c): its refcount goes down, it may be given out again
 *
 * If there is no memory for the lists the cluster stays in use: a leak, which check finds, and no more.
 *
 * An entry of a damaged image may refer to a table. Giving that back would punch the table out of the file,
 * so each entry is looked at while it is still there (qcow2_entry_check_locked), and once more what all the
 * lists have led to: tables that the header names, and refcount blocks, are never given back this way.
 *
 * Claims. Whoever is about to fill guest clusters that have no place of their own yet claims them, so that
 * two writers to one cluster do not both give it a place, and nobody drops it meanwhile. Others wait.
 */
#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "block/format/qcow2/qcow2_int.h"

/* --- what is metadata --- */

static uint64_t hash(uint64_t cluster)
{
    return cluster * UINT64_C(0x9e3779b97f4a7c15);
}

/* Where it is, or would be. */
static size_t place_of(const uint64_t *slot, size_t room, uint64_t cluster)
{
    size_t i = (size_t)(hash(cluster) >> 20) & (room - 1);
    while (slot[i] && (slot[i] & ~QCOW2_OWNED_GONE) != cluster)
        i = (i + 1) & (room - 1);
    return i;
}

static bool owned_grow(struct qcow2_owned *o)
{
    enum { ROOM_MAX = 1 << 21 /* 16 MiB, a million tables */ };
    const size_t room = MAX(256, o->room * 2);
    if (room > ROOM_MAX)
        return false;
    uint64_t *slot = g_try_malloc0_n(room, sizeof(*slot));
    if (!slot)
        return false;
    for (size_t i = 0; i < o->room; i++)
        if (o->slot[i])
            slot[place_of(slot, room, o->slot[i] & ~QCOW2_OWNED_GONE)] = o->slot[i];
    g_free(o->slot);
    o->slot = slot;
    o->room = room;
    return true;
}

static bool is_owned(const struct qcow2_owned *o, uint64_t cluster)
{
    return o->room && cluster && o->slot[place_of(o->slot, o->room, cluster)] == cluster;
}

void qcow2_owned_gone_locked(struct qcow2 *q, uint64_t cluster)
{
    struct qcow2_owned *o = &q->owned;
    if (is_owned(o, cluster))
        o->slot[place_of(o->slot, o->room, cluster)] |= QCOW2_OWNED_GONE;
}

void qcow2_owned_add_locked(struct qcow2 *q, uint64_t cluster)
{
    struct qcow2_owned *o = &q->owned;
    if (!cluster || (o->count * 2 >= o->room && !owned_grow(o)))
        return; /* one cluster less that is watched over */
    const size_t i = place_of(o->slot, o->room, cluster);
    if (o->slot[i] == cluster)
        o->clash = cluster;
    o->count += !o->slot[i];
    o->slot[i] = cluster;
    const uint64_t h = hash(cluster) >> 48;
    atomic_fetch_or_explicit(&o->filter[h / 64], BIT(h % 64), memory_order_release);
}

/* In the filter only: which clusters these are is in the header. */
static void watch(struct qcow2 *q, uint64_t offset, uint64_t size)
{
    for (uint64_t i = offset >> q->cluster_bits; size && i <= (offset + size - 1) >> q->cluster_bits; i++) {
        const uint64_t h = hash(i) >> 48;
        atomic_fetch_or_explicit(&q->owned.filter[h / 64], BIT(h % 64), memory_order_release);
    }
}

void qcow2_owned_watch_locked(struct qcow2 *q)
{
    const struct qcow2_header *h = &q->header;
    watch(q, h->l1_offset, (uint64_t)h->l1_size * 8);
    watch(q, h->reftable_offset, (uint64_t)h->reftable_clusters << q->cluster_bits);
    watch(q, h->snapshots_offset, h->n_snapshots ? 1 : 0);
}

bool qcow2_owned_maybe(const struct qcow2 *q, uint64_t cluster)
{
    const uint64_t h = hash(cluster) >> 48;
    return !cluster || atomic_load_explicit(&q->owned.filter[h / 64], memory_order_acquire) & BIT(h % 64);
}

/* Tables that are known by their ranges. */
static bool in_ranges(const struct qcow2 *q, uint64_t offset, uint64_t size)
{
    const struct qcow2_header *h = &q->header;
    return ranges_overlap(offset, size, 0, q->cluster) ||
           ranges_overlap(offset, size, h->l1_offset, (uint64_t)h->l1_size * 8) ||
           ranges_overlap(offset, size, h->reftable_offset,
                          (uint64_t)h->reftable_clusters << q->cluster_bits) ||
           (h->n_snapshots && ranges_overlap(offset, size, h->snapshots_offset, 1));
}

static bool any_owned(const struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    for (uint64_t i = cluster; i < cluster + count; i++)
        if (qcow2_owned_maybe(q, i) && is_owned(&q->owned, i))
            return true;
    return false;
}

bool qcow2_owned_has_locked(const struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    return in_ranges(q, cluster << q->cluster_bits, count << q->cluster_bits) || any_owned(q, cluster, count);
}

/* Would they lose the last reference, and some be metadata? A repaired image may have a reference more to a
 * table, which may go. */
static bool takes_metadata(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    if (!qcow2_owned_has_locked(q, cluster, count))
        return false;
    for (uint64_t i = cluster, value; i < cluster + count; i++)
        if (qcow2_owned_has_locked(q, i, 1) && (qcow2_refcount_get_locked(q, i, &value) || value <= 1))
            return true;
    return false;
}

/* The clusters of what an L2 entry refers to; 0 = none of the file's. */
static uint64_t clusters_of(const struct qcow2 *q, uint64_t entry, uint64_t *first)
{
    *first = (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits;
    if (!(entry & QCOW2_COMPRESSED))
        return !q->external && qcow2_entry_placed(q, entry);
    uint64_t offset, size;
    qcow2_compressed_range(q, entry, &offset, &size);
    *first = offset >> q->cluster_bits;
    return ((offset + size - 1) >> q->cluster_bits) - *first + 1;
}

int qcow2_entry_check_locked(struct qcow2 *q, uint64_t entry)
{
    uint64_t first;
    const uint64_t count = clusters_of(q, entry, &first);
    if (!count || !takes_metadata(q, first, count))
        return 0;
    return qcow2_corrupt_locked(q, "an L2 entry that points to metadata", first << q->cluster_bits);
}

int qcow2_space_check(struct qcow2 *q, uint64_t offset, uint64_t size)
{
    int status = 0;
    const uint64_t first = offset >> q->cluster_bits;
    pthread_mutex_lock(&q->meta);
    if (size && takes_metadata(q, first, ((offset + size - 1) >> q->cluster_bits) - first + 1))
        status =
            qcow2_corrupt_locked(q, "what a snapshot or bitmap has in the place of other metadata", offset);
    pthread_mutex_unlock(&q->meta);
    return status;
}

bool qcow2_owned_build(struct qcow2 *q)
{
    struct qcow2_owned *o = &q->owned;
    g_free(o->slot);
    o->slot = NULL;
    o->count = o->room = 0;
    o->clash = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(o->filter); i++)
        atomic_store(&o->filter[i], 0);
    if (!owned_grow(o))
        return false;
    for (uint32_t i = 0; i < q->header.l1_size; i++)
        qcow2_owned_add_locked(q, (q->l1[i] & QCOW2_OFFSET_MASK) >> q->cluster_bits);
    for (uint64_t i = 0; i < q->reftable_entries; i++)
        qcow2_owned_add_locked(q, (q->reftable[i] & QCOW2_OFFSET_MASK) >> q->cluster_bits);
    for (size_t i = 0; i < o->room; i++) {
        const uint64_t cluster = o->slot[i];
        if (cluster && in_ranges(q, cluster << q->cluster_bits, q->cluster))
            o->clash = cluster;
    }
    qcow2_owned_watch_locked(q);
    return true;
}

/* --- giving out --- */

/* Clusters that the file can have. */
static uint64_t last_cluster(const struct qcow2 *q)
{
    const uint64_t end = q->file->facts.growable ? UINT64_C(1) << 56 : q->file->facts.size;
    return end >> q->cluster_bits;
}

/* The first free clusters from `from` on, at most want in a row. */
static int find_run(struct qcow2 *q, uint64_t from, uint64_t want, uint64_t *start, uint64_t *got)
{
    const uint64_t end = last_cluster(q), in_block = BIT(q->block_bits);
    *got = 0;
    for (uint64_t c = from; c < end && *got < want;) {
        const uint64_t index = c >> q->block_bits;
        const uint64_t left = MIN(in_block - (c & (in_block - 1)), end - c);
        if (index >= q->reftable_entries || !q->reftable[index]) {
            if (!*got)
                *start = c;
            *got = MIN(want, *got + left);
            c += left;
            continue;
        }
        uint64_t run;
        bool free;
        int status = qcow2_refcount_scan_locked(q, c, left, &free, &run);
        if (status)
            return status;
        if (free && !*got)
            *start = c;
        if (!free && *got)
            return 0;
        *got = MIN(want, *got + (free ? run : 0));
        c += run;
    }
    return *got ? 0 : -ENOSPC;
}

/* Makes the blocks for their refcounts, which may take some of them. *made: look again. */
static int make_blocks(struct qcow2 *q, uint64_t cluster, uint64_t count, bool *made)
{
    const uint64_t first = cluster >> q->block_bits, last = (cluster + count - 1) >> q->block_bits;
    *made = false;
    for (uint64_t i = first; i <= last; i++) {
        if (i < q->reftable_entries && q->reftable[i])
            continue;
        /* Raising the refcount of a cluster that nothing uses, and lowering it again, leaves the block. */
        *made = true;
        const uint64_t any = ((i + 1) << q->block_bits) - 1;
        int status = qcow2_refcount_add_locked(q, any, 1, 1);
        return status ? status : qcow2_refcount_add_locked(q, any, 1, -1);
    }
    return 0;
}

int qcow2_alloc_locked(struct qcow2 *q, uint64_t want, bool whole, uint64_t *cluster, uint64_t *got,
                       bool *fresh)
{
    uint64_t from = q->cursor;
    for (;;) {
        bool made;
        int status = find_run(q, from, want, cluster, got);
        if (status)
            return status;
        if (from == q->cursor && !whole)
            from = q->cursor = *cluster;
        if (whole && *got < want) {
            from = *cluster + *got;
            continue;
        }
        status = make_blocks(q, *cluster, *got, &made);
        if (status)
            return status;
        if (!made)
            break;
    }
    if (qcow2_owned_has_locked(q, *cluster, *got))
        return qcow2_corrupt_locked(q, "metadata whose refcount is 0", *cluster << q->cluster_bits);
    int status = qcow2_refcount_add_locked(q, *cluster, *got, 1);
    if (status)
        return status;
    *fresh = q->fresh_ends && *cluster >= q->fresh_from;
    q->fresh_from = MAX(q->fresh_from, *cluster + *got);
    if (*cluster == q->cursor)
        q->cursor += *got;
    return 0;
}

void qcow2_unalloc_locked(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    if (!qcow2_refcount_add_locked(q, cluster, count, -1)) /* else they leak */
        q->cursor = MIN(q->cursor, cluster);
}

int qcow2_space_take(struct qcow2 *q, uint64_t size, uint64_t *offset)
{
    uint64_t cluster, got;
    bool fresh;
    pthread_mutex_lock(&q->meta);
    int status = qcow2_alloc_locked(q, MAX(align_up(size, q->cluster) >> q->cluster_bits, 1), true, &cluster,
                                    &got, &fresh);
    pthread_mutex_unlock(&q->meta);
    *offset = status ? 0 : cluster << q->cluster_bits;
    return status;
}

void qcow2_space_free(struct qcow2 *q, uint64_t offset, uint64_t size)
{
    pthread_mutex_lock(&q->meta);
    qcow2_free_locked(q, offset >> q->cluster_bits, align_up(size, q->cluster) >> q->cluster_bits, true);
    pthread_mutex_unlock(&q->meta);
}

/* --- taking back --- */

static bool push(struct qcow2_frees *f, struct qcow2_free item)
{
    struct qcow2_free *last = f->count ? &f->item[f->count - 1] : NULL;
    if (last && last->cluster + last->count == item.cluster && last->discard == item.discard) {
        last->count += item.count;
        return true;
    }
    if (f->count == f->room) {
        const size_t room = MAX(64, f->room * 2);
        struct qcow2_free *more = g_try_realloc_n(f->item, room, sizeof(*more));
        if (!more)
            return false;
        f->item = more;
        f->room = room;
    }
    f->item[f->count++] = item;
    return true;
}

void qcow2_free_locked(struct qcow2 *q, uint64_t cluster, uint64_t count, bool discard)
{
    if (count)
        (void)push(&q->pending, (struct qcow2_free){cluster, count, discard});
}

void qcow2_free_entry_locked(struct qcow2 *q, uint64_t entry, bool discard)
{
    uint64_t first;
    const uint64_t count = clusters_of(q, entry, &first);
    qcow2_free_locked(q, first, count, discard);
}

/* Clusters that nothing refers to any more go back to the host, in runs. */
static void give_back(struct qcow2 *q, const struct qcow2_free *item)
{
    uint64_t run = 0;
    for (uint64_t i = 0; i <= item->count; i++) {
        uint64_t value = 1;
        if (i < item->count && qcow2_refcount_get_locked(q, item->cluster + i, &value))
            value = 1;
        if (i < item->count && !value) {
            run++;
            continue;
        }
        const uint64_t from = (item->cluster + i - run) << q->cluster_bits;
        const uint64_t end = MIN(from + (run << q->cluster_bits), q->file->facts.size);
        if (run && end > from)
            (void)block_discard(q->file, from, end - from); /* a hint */
        run = 0;
    }
}

void qcow2_reclaim_locked(struct qcow2 *q, bool all)
{
    struct qcow2_frees *f = &q->durable;
    if (!f->count)
        return;
    const uint64_t now = qcow2_epoch_step(q);
    if (!all && f->epoch + 2 > now && f->epoch + 2 > qcow2_epoch_step(q))
        return;
    for (size_t i = 0; i < f->count; i++) {
        const struct qcow2_free *item = &f->item[i];
        if (takes_metadata(q, item->cluster, item->count)) {
            (void)qcow2_corrupt_locked(q, "metadata that was to be given back",
                                       item->cluster << q->cluster_bits);
            continue;
        }
        /* The refcounts of an image that is damaged may say anything; then this is a leak, or nothing. */
        if (qcow2_refcount_add_locked(q, item->cluster, item->count, -1))
            continue;
        q->cursor = MIN(q->cursor, item->cluster);
        const uint64_t packed = q->packed_at >> q->cluster_bits;
        if (q->packed_at && packed >= item->cluster && packed < item->cluster + item->count)
            q->packed_at = 0;
        if (item->discard)
            give_back(q, item);
    }
    f->count = 0;
}

/* --- claims --- */

uint64_t qcow2_claims_clear_locked(const struct qcow2 *q, uint64_t first, uint64_t count)
{
    for (const struct qcow2_claim *c = q->claims; c; c = c->next) {
        if (c->last < first || c->first >= first + count)
            continue;
        count = c->first > first ? c->first - first : 0;
    }
    return count;
}

void qcow2_claims_wait_locked(struct qcow2 *q, uint64_t first, uint64_t last)
{
    while (qcow2_claims_clear_locked(q, first, last - first + 1) != last - first + 1)
        pthread_cond_wait(&q->claim_ended, &q->meta);
}

void qcow2_claim_locked(struct qcow2 *q, struct qcow2_claim *claim)
{
    claim->next = q->claims;
    q->claims = claim;
}

void qcow2_unclaim_locked(struct qcow2 *q, struct qcow2_claim *claim)
{
    struct qcow2_claim **p = &q->claims;
    while (*p != claim)
        p = &(*p)->next;
    *p = claim->next;
    pthread_cond_broadcast(&q->claim_ended);
}
