/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Ranges that are taken, in a list: there are as many as threads at work. */
#include "block/filter/ranges.h"

#include <stdbool.h>
#include <stddef.h>

#include "base/checked.h"

void block_ranges_init(struct block_ranges *r)
{
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->given, NULL);
    r->taken = NULL;
}

void block_ranges_fini(struct block_ranges *r)
{
    pthread_cond_destroy(&r->given);
    pthread_mutex_destroy(&r->lock);
}

static bool is_taken(const struct block_ranges *r, uint64_t offset, uint64_t size)
{
    for (const struct block_range *other = r->taken; other; other = other->next)
        if (ranges_overlap(offset, size, other->offset, other->size))
            return true;
    return false;
}

void block_ranges_take(struct block_ranges *r, struct block_range *range, uint64_t offset, uint64_t size)
{
    *range = (struct block_range){.offset = offset, .size = size};
    pthread_mutex_lock(&r->lock);
    while (is_taken(r, offset, size))
        pthread_cond_wait(&r->given, &r->lock);
    range->next = r->taken;
    r->taken = range;
    pthread_mutex_unlock(&r->lock);
}

void block_ranges_give(struct block_ranges *r, struct block_range *range)
{
    pthread_mutex_lock(&r->lock);
    struct block_range **at = &r->taken;
    while (*at != range)
        at = &(*at)->next;
    *at = range->next;
    pthread_cond_broadcast(&r->given);
    pthread_mutex_unlock(&r->lock);
}
