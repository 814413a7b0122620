/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* L2 tables and refcount blocks in memory, and when what somebody may look at can be used again. */
/*
 * Theory of operation
 *
 * A cache has a slot for each table there can be, and tables for some of the slots. Whoever only looks
 * something up takes no lock: it loads the slot, then the entry, both atomic. That is safe because neither
 * tables nor clusters are used for something else while somebody who saw them may still be at it.
 *
 * For this, time goes in epochs. An operation enters the epoch that is now and leaves it at its end; each of
 * the two counters counts those of even and odd epochs. The epoch can move on from e when nobody is left in
 * e - 1. So what was taken out of sight in epoch e is free to be used in e + 2: everybody inside then began
 * after it was gone. Nobody ever waits for that: who finds the time not yet come takes something else.
 *
 * A table that was changed, or is being changed, is not taken out: dirty ones wait for a sync, pinned ones
 * are in somebody's hand. When nothing else is left the cache says -EAGAIN, and the caller has to sync.
 */
#include <errno.h>
#include <string.h>

#include "block/format/qcow2/qcow2_int.h"

/* --- epochs --- */

unsigned qcow2_enter(struct qcow2 *q)
{
    struct qcow2_epochs *e = &q->epochs;
    for (;;) {
        const uint64_t now = atomic_load(&e->now);
        atomic_fetch_add(&e->inside[now & 1], 1);
        if (atomic_load(&e->now) == now)
            return now & 1;
        atomic_fetch_sub(&e->inside[now & 1], 1);
    }
}

void qcow2_leave(struct qcow2 *q, unsigned epoch)
{
    atomic_fetch_sub(&q->epochs.inside[epoch], 1);
}

uint64_t qcow2_epoch_step(struct qcow2 *q)
{
    struct qcow2_epochs *e = &q->epochs;
    uint64_t now = atomic_load(&e->now);
    if (!atomic_load(&e->inside[(now + 1) & 1]) && atomic_compare_exchange_strong(&e->now, &now, now + 1))
        return now + 1;
    return now;
}

/* --- the cache --- */

bool qcow2_cache_init(struct qcow2_cache *c, uint64_t slots, uint32_t cluster, uint64_t bytes)
{
    pthread_mutex_init(&c->load, NULL);
    c->slots = slots;
    c->limit = (unsigned)MAX(bytes / cluster, 8);
    c->slot = g_try_malloc0_n(MAX(slots, 1), sizeof(*c->slot));
    return c->slot != NULL;
}

void qcow2_cache_drop(struct qcow2_cache *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        atomic_store(&c->slot[c->all[i]->index], NULL);
        g_free(c->all[i]);
    }
    c->count = 0;
    for (struct qcow2_table *t = c->waiting, *next; t; t = next) {
        next = t->next;
        g_free(t);
    }
    c->waiting = NULL;
}

void qcow2_cache_fini(struct qcow2_cache *c)
{
    if (!c->slot)
        return;
    qcow2_cache_drop(c);
    g_free(c->all);
    g_free((void *)(uintptr_t)c->slot);
    c->slot = NULL;
    c->all = NULL;
    c->room = 0;
    pthread_mutex_destroy(&c->load);
}

int qcow2_cache_grow(struct qcow2_cache *c, uint64_t slots)
{
    if (slots <= c->slots)
        return 0;
    _Atomic(struct qcow2_table *) *more = g_try_malloc0_n(slots, sizeof(*more));
    if (!more)
        return -ENOMEM;
    for (unsigned i = 0; i < c->count; i++)
        atomic_init(&more[c->all[i]->index], c->all[i]);
    g_free((void *)(uintptr_t)c->slot);
    c->slot = more;
    c->slots = slots;
    return 0;
}

/* Takes table i out of sight. */
static struct qcow2_table *take_out(struct qcow2 *q, struct qcow2_cache *c, unsigned i)
{
    struct qcow2_table *t = c->all[i];
    c->all[i] = c->all[--c->count];
    atomic_store(&c->slot[t->index], NULL);
    t->retired = qcow2_epoch_step(q);
    t->next = c->waiting;
    c->waiting = t;
    return t;
}

/* One that has not been used lately, in the order of the hand. */
static bool evict(struct qcow2 *q, struct qcow2_cache *c)
{
    for (unsigned step = 0; step < 2 * c->count; step++) {
        c->hand = c->hand + 1 < c->count ? c->hand + 1 : 0;
        struct qcow2_table *t = c->all[c->hand];
        if (t->pins || t->dirty)
            continue;
        if (atomic_exchange_explicit(&t->used, false, memory_order_relaxed))
            continue;
        take_out(q, c, c->hand);
        return true;
    }
    return false;
}

/* Memory for one: of one that nobody can see any more, or new. */
static struct qcow2_table *room_for_one(struct qcow2 *q, struct qcow2_cache *c)
{
    const uint64_t now = c->waiting ? qcow2_epoch_step(q) : 0;
    for (struct qcow2_table **p = &c->waiting; *p; p = &(*p)->next) {
        struct qcow2_table *t = *p;
        if (t->retired + 2 > now)
            continue;
        *p = t->next;
        return t;
    }
    return g_try_malloc(sizeof(struct qcow2_table) + q->cluster);
}

static int make_list_room(struct qcow2_cache *c)
{
    if (c->count < c->room)
        return 0;
    const unsigned room = MAX(16, c->room * 2);
    struct qcow2_table **all = g_try_realloc_n(c->all, room, sizeof(*all));
    if (!all)
        return -ENOMEM;
    c->all = all;
    c->room = room;
    return 0;
}

/* What the file does not have any more, or not yet, is zeroes. */
static int fill(struct qcow2 *q, struct qcow2_table *t)
{
    const uint64_t end = q->file->facts.size;
    const uint64_t there = t->place < end ? MIN(q->cluster, end - t->place) : 0;
    if (there < q->cluster)
        memset((char *)qcow2_table_bytes(t) + there, 0, q->cluster - there);
    return there ? block_pread(q->file, qcow2_table_bytes(t), there, t->place) : 0;
}

static int load(struct qcow2 *q, struct qcow2_cache *c, uint64_t index, uint64_t place, bool make,
                struct qcow2_table **out)
{
    if (c->count >= c->limit && !evict(q, c) && c->count >= c->limit + c->limit / 8 + 32)
        return -EAGAIN;
    int status = make_list_room(c);
    struct qcow2_table *t = status ? NULL : room_for_one(q, c);
    if (!t)
        return -ENOMEM;
    *t = (struct qcow2_table){.place = place, .index = index, .dirty = make ? UINT64_MAX : 0};
    if (make)
        memset(qcow2_table_bytes(t), 0, q->cluster);
    else
        status = fill(q, t);
    if (status) {
        g_free(t);
        return status;
    }
    c->all[c->count++] = t;
    atomic_store_explicit(&c->slot[index], t, memory_order_release);
    *out = t;
    return 0;
}

int qcow2_table_get(struct qcow2 *q, struct qcow2_cache *c, uint64_t index, uint64_t place, bool make,
                    struct qcow2_table **out)
{
    if (index >= c->slots)
        return -EINVAL;
    pthread_mutex_lock(&c->load);
    struct qcow2_table *t = atomic_load_explicit(&c->slot[index], memory_order_acquire);
    int status = t ? 0 : load(q, c, index, place, make, &t);
    if (!status) {
        t->pins++;
        atomic_store_explicit(&t->used, true, memory_order_relaxed);
    }
    pthread_mutex_unlock(&c->load);
    *out = t;
    return status;
}

void qcow2_table_put(struct qcow2_cache *c, struct qcow2_table *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&c->load);
    t->pins--;
    pthread_mutex_unlock(&c->load);
}

void qcow2_table_dirty(struct qcow2 *q, struct qcow2_cache *c, struct qcow2_table *t, uint32_t from,
                       uint32_t size)
{
    const uint32_t chunk = MAX(q->cluster / QCOW2_CHUNKS, (uint32_t)BLOCK_SECTOR);
    const uint32_t first = from / chunk, last = (from + size - 1) / chunk;
    pthread_mutex_lock(&c->load);
    t->dirty |= bits_mask(last - first + 1) << first;
    pthread_mutex_unlock(&c->load);
}

void qcow2_table_forget(struct qcow2 *q, struct qcow2_cache *c, uint64_t index)
{
    pthread_mutex_lock(&c->load);
    for (unsigned i = 0; i < c->count; i++)
        if (c->all[i]->index == index) {
            take_out(q, c, i);
            break;
        }
    pthread_mutex_unlock(&c->load);
}

/* --- tables of numbers --- */

int qcow2_numbers_load(struct disk *file, uint64_t offset, uint64_t *out, size_t n)
{
    int status = n ? block_pread(file, out, n * 8, offset) : 0;
    for (size_t i = 0; i < n; i++)
        out[i] = be64toh(out[i]);
    return status;
}

int qcow2_numbers_store(struct disk *file, uint64_t offset, const uint64_t *in, size_t n)
{
    enum { PART = 4096 };
    g_autofree uint64_t *part = g_try_malloc(PART * 8);
    if (!part)
        return -ENOMEM;
    for (size_t done = 0, now; done < n; done += now) {
        now = MIN(n - done, PART);
        for (size_t i = 0; i < now; i++)
            part[i] = htobe64(in[done + i]);
        int status = block_pwrite(file, part, now * 8, offset + done * 8);
        if (status)
            return status;
    }
    return 0;
}
