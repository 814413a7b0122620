/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What was read around small reads; see cache.h. */
#include "block/protocol/curl/cache.h"

#include <string.h>

bool cache_init(struct cache *c, uint64_t piece)
{
    *c = (struct cache){.piece = piece};
    c->bytes = g_try_malloc(CACHE_SLOTS * piece);
    if (!c->bytes)
        return false;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    return true;
}

void cache_fini(struct cache *c)
{
    if (!c->bytes)
        return;
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    g_free(c->bytes);
}

static struct cache_slot *find(struct cache *c, uint64_t number)
{
    for (unsigned i = 0; i < CACHE_SLOTS; i++)
        if (c->slots[i].state != SLOT_EMPTY && c->slots[i].number == number)
            return &c->slots[i];
    return NULL;
}

/* One that nobody uses, the longest unused; NULL when there is none. */
static struct cache_slot *find_free(struct cache *c)
{
    struct cache_slot *best = NULL;
    for (unsigned i = 0; i < CACHE_SLOTS; i++) {
        struct cache_slot *s = &c->slots[i];
        if (s->state != SLOT_LOADING && !s->readers && (!best || s->used < best->used))
            best = s;
    }
    return best;
}

/* The lock is held, but not while it loads. */
static int load_locked(struct cache *c, struct fetch *f, struct cache_slot *s, uint64_t number)
{
    const uint64_t offset = number * c->piece, size = MIN(c->piece, f->size - offset);
    const struct iovec iov = {c->bytes + (uint64_t)(s - c->slots) * c->piece, size};
    *s = (struct cache_slot){.number = number, .state = SLOT_LOADING};
    pthread_mutex_unlock(&c->lock);
    const int status = fetch_range(f, &iov, offset, size);
    pthread_mutex_lock(&c->lock);
    s->state = status ? SLOT_EMPTY : SLOT_FULL;
    pthread_cond_broadcast(&c->changed);
    return status;
}

/* A full slot with us as reader in *slot. */
static int take_locked(struct cache *c, struct fetch *f, uint64_t number, struct cache_slot **slot)
{
    for (;;) {
        struct cache_slot *s = find(c, number);
        if (!s && (s = find_free(c))) {
            const int status = load_locked(c, f, s, number);
            if (status)
                return status;
        }
        if (s && s->state == SLOT_FULL && s->number == number) {
            s->readers++;
            s->used = ++c->clock;
            *slot = s;
            return 0;
        }
        pthread_cond_wait(&c->changed, &c->lock);
    }
}

int cache_read(struct cache *c, struct fetch *f, void *to, uint64_t offset, uint64_t size)
{
    struct cache_slot *s = NULL;
    pthread_mutex_lock(&c->lock);
    const int status = take_locked(c, f, offset / c->piece, &s);
    pthread_mutex_unlock(&c->lock);
    if (status)
        return status;
    memcpy(to, c->bytes + (uint64_t)(s - c->slots) * c->piece + offset % c->piece, size);
    pthread_mutex_lock(&c->lock);
    s->readers--;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return 0;
}
