/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The order in which what memory holds reaches the file, so that the image is right whenever power fails. */
/*
 * Theory of operation
 *
 * Between two flushes the host may write in any order, and tear what it writes between sectors. So whatever
 * must be there first has to be flushed first:
 *
 *   1. data (written all along) and refcount blocks           flush
 *      (new refcount blocks: flushed by themselves, then the refcount table's entries)
 *   2. L2 entries: what they refer to is counted, and there   flush
 *   3. L1 entries: the tables they refer to are there         flush
 *   4. what lost its last reference in 2 or 3 may be freed    (with the next 1.)
 *
 * At any moment the file then refers only to what is complete and counted; what is counted and not referred
 * to is a leak. A stage that has nothing to write is left out with its flush. Entries are 8 bytes in one
 * sector (extended ones 16), so a torn write has the old or the new of each.
 *
 * While the file works on one state, operations go on with the next. So the changes are staged: copied under
 * the lock, all at one moment, then written without it. An entry that comes into being meanwhile, whose data
 * the first flush may have missed, waits for the next time.
 *
 * With lazy refcounts the image is marked dirty before its first change, refcounts are written when it is
 * closed, and whoever opens it after a crash makes them anew.
 */
#include <errno.h>
#include <string.h>

#include "block/format/qcow2/qcow2_int.h"

struct piece {
    uint64_t place;
    size_t at, size; /* in bytes */
};

struct pieces {
    struct piece *item;
    size_t count, room;
};

struct qcow2_staged {
    struct pieces blocks, l2, l1;
    struct qcow2_table **pinned; /* L2 tables and refcount blocks */
    size_t n_pinned, pinned_room, n_l2;
    uint8_t *bytes;
    size_t size, room;
    struct qcow2_frees going; /* references that this sync takes from the file */
};

int qcow2_fail(struct qcow2 *q, int status)
{
    int none = 0;
    atomic_compare_exchange_strong(&q->failed, &none, status);
    return status;
}

void qcow2_mark_bit(uint64_t *bits, uint64_t from, uint64_t size)
{
    for (uint64_t sector = from / BLOCK_SECTOR; sector <= (from + size - 1) / BLOCK_SECTOR; sector++)
        bits[sector / 64] |= BIT(sector % 64);
}

void qcow2_staged_free(struct qcow2_staged *s)
{
    if (!s)
        return;
    g_free(s->blocks.item);
    g_free(s->l2.item);
    g_free(s->l1.item);
    g_free(s->pinned);
    g_free(s->bytes);
    g_free(s->going.item);
    g_free(s);
}

/* --- staging --- */

/* Makes an array of items of some size one longer. */
static bool longer(void *array, size_t count, size_t *room, size_t item)
{
    if (count < *room)
        return true;
    const size_t want = MAX(64, *room * 2);
    void *more = g_try_realloc_n(*(void **)array, want, item);
    if (!more)
        return false;
    *(void **)array = more;
    *room = want;
    return true;
}

/* Room for size bytes that are to go to place; NULL: no memory. */
static uint8_t *stage(struct qcow2_staged *s, struct pieces *p, uint64_t place, size_t size)
{
    if (s->room - s->size < size) {
        const size_t want = MAX(s->size + size, s->room * 2);
        uint8_t *more = g_try_realloc(s->bytes, want);
        if (!more)
            return NULL;
        s->bytes = more;
        s->room = want;
    }
    if (!longer(&p->item, p->count, &p->room, sizeof(*p->item)))
        return NULL;
    p->item[p->count++] = (struct piece){place, s->size, size};
    s->size += size;
    return s->bytes + s->size - size;
}

/* The changed chunks of a table, those next to each other as one piece. */
static bool stage_table(struct qcow2 *q, struct pieces *p, struct qcow2_table *t)
{
    const uint32_t chunk = MAX(q->cluster / QCOW2_CHUNKS, (uint32_t)BLOCK_SECTOR),
                   chunks = q->cluster / chunk;
    for (uint32_t i = 0, n; i < chunks; i += n) {
        n = 1;
        if (!(t->dirty & BIT(i)))
            continue;
        while (i + n < chunks && t->dirty & BIT(i + n))
            n++;
        uint8_t *bytes = stage(q->staged, p, t->place + (uint64_t)i * chunk, (size_t)n * chunk);
        if (!bytes)
            return false;
        memcpy(bytes, (const char *)qcow2_table_bytes(t) + (size_t)i * chunk, (size_t)n * chunk);
    }
    return true;
}

/* Holds meta. What is staged stays in memory until it is written: the file has something older. */
static int stage_cache(struct qcow2 *q, struct qcow2_cache *c, struct pieces *p)
{
    struct qcow2_staged *s = q->staged;
    int status = 0;
    pthread_mutex_lock(&c->load);
    for (unsigned i = 0; i < c->count && !status; i++) {
        struct qcow2_table *t = c->all[i];
        if (!t->dirty)
            continue;
        if (!longer(&s->pinned, s->n_pinned, &s->pinned_room, sizeof(struct qcow2_table *)) ||
            !stage_table(q, p, t)) {
            status = -ENOMEM;
        } else {
            t->dirty = 0;
            t->pins++;
            s->pinned[s->n_pinned++] = t;
        }
    }
    pthread_mutex_unlock(&c->load);
    return status;
}

/* Sectors of L1 that have changed. Holds meta. */
static int stage_l1(struct qcow2 *q)
{
    enum { ENTRIES = BLOCK_SECTOR / 8 };
    if (!q->l1_changed)
        return 0;
    const uint64_t size = q->header.l1_size;
    for (uint64_t i = 0; i < size; i += ENTRIES) {
        const uint64_t sector = i / ENTRIES;
        if (!(q->l1_dirty[sector / 64] & BIT(sector % 64)))
            continue;
        const size_t n = (size_t)MIN(ENTRIES, size - i);
        uint64_t *out = (void *)stage(q->staged, &q->staged->l1, q->header.l1_offset + i * 8, n * 8);
        if (!out)
            return -ENOMEM;
        for (size_t e = 0; e < n; e++)
            out[e] = htobe64(atomic_load_explicit(&q->l1[i + e], memory_order_relaxed));
        q->l1_dirty[sector / 64] &= ~BIT(sector % 64);
    }
    q->l1_changed = false;
    return 0;
}

static int write_pieces(struct qcow2 *q, const struct pieces *p)
{
    int status = 0;
    for (size_t i = 0; i < p->count && !status; i++)
        status = block_pwrite(q->file, q->staged->bytes + p->item[i].at, p->item[i].size, p->item[i].place);
    return status;
}

/* --- refcounts --- */

int qcow2_write_blocks_locked(struct qcow2 *q)
{
    struct qcow2_cache *c = &q->blocks;
    const uint32_t chunk = MAX(q->cluster / QCOW2_CHUNKS, (uint32_t)BLOCK_SECTOR),
                   chunks = q->cluster / chunk;
    int status = 0;
    pthread_mutex_lock(&c->load);
    for (unsigned i = 0; i < c->count && !status; i++) {
        struct qcow2_table *t = c->all[i];
        for (uint32_t from = 0, n; from < chunks && t->dirty && !status; from += n) {
            for (n = 1; t->dirty & BIT(from) && from + n < chunks && t->dirty & BIT(from + n); n++)
                ;
            if (t->dirty & BIT(from))
                status = block_pwrite(q->file, (char *)qcow2_table_bytes(t) + (size_t)from * chunk,
                                      (size_t)n * chunk, t->place + (uint64_t)from * chunk);
        }
        if (!status)
            t->dirty = 0;
    }
    pthread_mutex_unlock(&c->load);
    return status ? qcow2_fail(q, status) : 0;
}

/* New blocks, then what refers to them. Rare, so the lock is kept. */
static int write_reftable_locked(struct qcow2 *q)
{
    enum { ENTRIES = BLOCK_SECTOR / 8 };
    int status = qcow2_write_blocks_locked(q);
    if (!status)
        status = block_flush(q->file);
    for (uint64_t i = 0; i < q->reftable_entries && !status; i += ENTRIES) {
        const uint64_t sector = i / ENTRIES;
        if (!(q->reftable_dirty[sector / 64] & BIT(sector % 64)))
            continue;
        status = qcow2_numbers_store(q->file, q->header.reftable_offset + i * 8, q->reftable + i,
                                     (size_t)MIN(ENTRIES, q->reftable_entries - i));
        q->reftable_dirty[sector / 64] &= ~BIT(sector % 64);
    }
    q->reftable_changed = false;
    return status;
}

/* --- all of it --- */

static bool any_dirty(struct qcow2_cache *c)
{
    bool any = false;
    pthread_mutex_lock(&c->load);
    for (unsigned i = 0; i < c->count && !any; i++)
        any = c->all[i]->dirty != 0;
    pthread_mutex_unlock(&c->load);
    return any;
}

/* Copies what has changed, at one moment. Holds meta. */
static int collect_locked(struct qcow2 *q, bool refcounts)
{
    struct qcow2_staged *s = q->staged;
    s->size = s->blocks.count = s->l2.count = s->l1.count = s->n_pinned = 0;
    int status = 0;
    if (refcounts)
        status = q->reftable_changed ? write_reftable_locked(q) : stage_cache(q, &q->blocks, &s->blocks);
    s->n_l2 = s->n_pinned;
    if (!status)
        status = stage_cache(q, &q->l2, &s->l2);
    if (!status)
        status = stage_l1(q);
    const struct qcow2_frees empty = s->going;
    s->going = q->pending;
    q->pending = empty;
    q->pending.count = 0;
    return status;
}

/* Without meta. */
static int write_staged(struct qcow2 *q)
{
    const struct qcow2_staged *s = q->staged;
    int status = write_pieces(q, &s->blocks);
    if (!status && q->data != q->file)
        status = block_flush(q->data);
    if (!status)
        status = block_flush(q->file);
    if (!status && s->l2.count && !(status = write_pieces(q, &s->l2)))
        status = block_flush(q->file);
    if (!status && s->l1.count && !(status = write_pieces(q, &s->l1)))
        status = block_flush(q->file);
    return status;
}

/* What the file has forgotten waits for readers next. Holds meta. */
static void settle_locked(struct qcow2 *q)
{
    struct qcow2_staged *s = q->staged;
    for (size_t i = 0; i < s->n_pinned; i++)
        qcow2_table_put(i < s->n_l2 ? &q->blocks : &q->l2, s->pinned[i]);
    struct qcow2_frees *d = &q->durable;
    if (!d->count) {
        const struct qcow2_frees empty = *d;
        *d = s->going;
        s->going = empty;
        s->going.count = 0;
    } else {
        for (size_t i = 0; i < s->going.count; i++)
            if (longer(&d->item, d->count, &d->room, sizeof(*d->item)))
                d->item[d->count++] = s->going.item[i];
    }
    d->epoch = qcow2_epoch_step(q);
    qcow2_reclaim_locked(q, false);
}

/* An image with lazy refcounts is said to be dirty before it is. Holds meta. */
static int mark_dirty_locked(struct qcow2 *q)
{
    if (!q->lazy || q->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY)
        return 0;
    if (!any_dirty(&q->blocks) && !any_dirty(&q->l2))
        return 0;
    q->header.incompatible |= QCOW2_INCOMPATIBLE_DIRTY;
    return qcow2_header_update_locked(q);
}

/* Holds sync_lock. */
static int run(struct qcow2 *q, bool refcounts)
{
    pthread_mutex_lock(&q->meta);
    qcow2_reclaim_locked(q, false);
    int status = mark_dirty_locked(q);
    if (!status)
        status = collect_locked(q, refcounts || !q->lazy);
    pthread_mutex_unlock(&q->meta);
    if (!status)
        status = write_staged(q);
    if (status)
        return qcow2_fail(q, status);
    pthread_mutex_lock(&q->meta);
    settle_locked(q);
    pthread_mutex_unlock(&q->meta);
    return 0;
}

static int prepare(struct qcow2 *q)
{
    if (!q->staged)
        q->staged = g_try_malloc0(sizeof(*q->staged));
    if (!q->staged)
        return -ENOMEM;
    return atomic_load(&q->failed) ? -EIO : 0;
}

int qcow2_sync(struct qcow2 *q)
{
    pthread_mutex_lock(&q->sync_lock);
    int status = prepare(q);
    if (!status)
        status = run(q, false);
    pthread_mutex_unlock(&q->sync_lock);
    return status;
}

int qcow2_sync_all(struct qcow2 *q)
{
    pthread_mutex_lock(&q->sync_lock);
    int status = prepare(q);
    if (!status)
        status = run(q, true);
    if (!status) {
        pthread_mutex_lock(&q->meta);
        qcow2_reclaim_locked(q, true);
        const bool more = any_dirty(&q->blocks);
        pthread_mutex_unlock(&q->meta);
        if (more)
            status = run(q, true);
    }
    pthread_mutex_lock(&q->meta);
    if (!status && q->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY) {
        q->header.incompatible &= ~QCOW2_INCOMPATIBLE_DIRTY;
        status = qcow2_header_update_locked(q);
    }
    pthread_mutex_unlock(&q->meta);
    pthread_mutex_unlock(&q->sync_lock);
    return status;
}

int qcow2_flush(struct disk *b)
{
    return qcow2_sync(qcow2(b));
}
