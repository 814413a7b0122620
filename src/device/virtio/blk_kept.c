/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio-blk: requests that failed and are tried again later, the device held still, and both saved. */
#include "device/virtio/blk_int.h"

#include <errno.h>
#include <time.h>

#include "base/log.h"

enum {
    RETRY_MS = 200, /* how often a write that found no room is tried again */
    ENTRY_NEXT = 1, /* in the flags of a ring entry: the chain goes on */
};

void blk_waits(struct blk *b, struct blk_request *r, bool waits)
{
    if (r->waits == waits)
        return;
    r->waits = waits;
    pthread_mutex_lock(&b->waiting);
    bool tell = waits ? b->waiters++ == 0 : --b->waiters == 0 && !b->stopping;
    pthread_mutex_unlock(&b->waiting);
    if (tell && waits)
        log_warn(LOG_BLOCK, "disk %s: no room on the host for what the guest writes; it waits: make room",
                 b->disk->name);
    else if (tell)
        log_warn(LOG_BLOCK, "disk %s: there is room again; the guest goes on", b->disk->name);
}

/* Has retry sleep for what is kept, if something is that it may try. */
static void retry_locked(struct blk *b)
{
    bool any = false;
    for (const struct blk_request *r = b->kept; r && !any; r = r->next)
        any = !r->until_told;
    if (!any || b->retrying || b->holds || b->stopping)
        return;
    b->retrying = true;
    block_pool_submit(b->pool, &b->retry);
}

bool blk_keep(struct blk *b, struct blk_request *r, bool until_told)
{
    pthread_mutex_lock(&b->waiting);
    const bool can = !b->stopping;
    if (can) {
        r->until_told = until_told;
        r->next = b->kept;
        b->kept = r;
        retry_locked(b);
    }
    pthread_mutex_unlock(&b->waiting);
    return can;
}

/* What is kept becomes jobs again: all of it, or what retry may try. */
static void submit_locked(struct blk *b, bool all)
{
    struct blk_request **at = &b->kept, *r;
    while ((r = *at)) {
        if (r->until_told && !all) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        block_pool_submit(b->pool, &r->job);
    }
}

/* On a thread of the pool. */
static void retry(struct block_job *job)
{
    struct blk *b = (struct blk *)(void *)((uint8_t *)job - offsetof(struct blk, retry));
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += RETRY_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&b->waiting);
    while (!b->stopping && !b->holds && pthread_cond_timedwait(&b->changed, &b->waiting, &until) != ETIMEDOUT)
        ;
    b->retrying = false;
    if (!b->stopping && !b->holds)
        submit_locked(b, false);
    pthread_mutex_unlock(&b->waiting);
}

void blk_kept_init(struct blk *b)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&b->waiting, NULL);
    pthread_cond_init(&b->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    b->retry.run = retry;
}

void blk_kept_fini(struct blk *b)
{
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->waiting);
}

void blk_kept_drop(struct blk *b)
{
    pthread_mutex_lock(&b->waiting);
    b->stopping = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->waiting);
    block_pool_drain(b->pool);
    b->kept = NULL; /* the queues forget them */
    b->waiters = 0;
    b->stopping = false;
}

/* --- held, and told --- */

void blk_hold(struct blk *b)
{
    if (!b->pool)
        return;
    pthread_mutex_lock(&b->waiting);
    b->holds++;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->waiting);
    block_pool_drain(b->pool);
}

void blk_release(struct blk *b)
{
    pthread_mutex_lock(&b->waiting);
    if (b->pool && !--b->holds)
        submit_locked(b, false);
    pthread_mutex_unlock(&b->waiting);
}

void blk_again(struct blk *b)
{
    pthread_mutex_lock(&b->waiting);
    for (struct blk_request *r = b->kept; r; r = r->next)
        r->until_told = false;
    if (!b->holds)
        submit_locked(b, true);
    pthread_mutex_unlock(&b->waiting);
}

/* --- saved, and loaded --- */

void blk_kept_save(struct blk *b)
{
    struct blk_saved *s = &b->saved;
    s->count = 0;
    for (const struct blk_request *r = b->kept; r; r = r->next) {
        struct virtq_entry entry[BLK_QUEUE_SIZE];
        const unsigned n = virtq_entries(&r->vq, entry);
        g_assert(n <= BLK_KEPT_MAX - s->count); /* no queue has more than it has entries */
        for (unsigned i = 0; i < n; i++, s->count++) {
            s->queue[s->count] = (uint8_t)virtq_index(r->vq.queue);
            s->addr[s->count] = entry[i].addr;
            s->len[s->count] = entry[i].len;
            s->id[s->count] = entry[i].id;
            s->flags[s->count] = entry[i].flags;
        }
    }
    for (unsigned i = s->count; i < BLK_KEPT_MAX; i++) { /* equal states have equal bytes */
        s->queue[i] = 0;
        s->addr[i] = 0;
        s->len[i] = 0;
        s->id[i] = s->flags[i] = 0;
    }
}

unsigned blk_kept_chain(const struct blk_saved *s, unsigned i,
                        struct virtq_entry entry[static BLK_QUEUE_SIZE])
{
    for (unsigned n = 0; i + n < s->count && n < BLK_QUEUE_SIZE && s->queue[i + n] == s->queue[i]; n++) {
        entry[n] = (struct virtq_entry){s->addr[i + n], s->len[i + n], s->id[i + n], s->flags[i + n]};
        if (!(s->flags[i + n] & ENTRY_NEXT))
            return n + 1;
    }
    return 0;
}

bool blk_kept_possible(const struct blk *b)
{
    const struct blk_saved *s = &b->saved;
    struct virtq_entry entry[BLK_QUEUE_SIZE];
    unsigned n;
    for (unsigned i = 0; s->count <= BLK_KEPT_MAX && i < s->count; i += n)
        if (s->queue[i] >= b->queues || !(n = blk_kept_chain(s, i, entry)))
            return false;
    return s->count <= BLK_KEPT_MAX && (b->pool || !s->count);
}
