/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Ranges of a disk that one operation has for itself, for filters where two that overlap would do harm. */
#ifndef HOSTEL_BLOCK_RANGES_H
#define HOSTEL_BLOCK_RANGES_H

#include <pthread.h>
#include <stdint.h>

/* One operation's; on its stack. */
struct block_range {
    uint64_t offset, size;
    struct block_range *next;
};

struct block_ranges {
    pthread_mutex_t lock;
    pthread_cond_t given; /* back */
    struct block_range *taken;
};

void block_ranges_init(struct block_ranges *r);
void block_ranges_fini(struct block_ranges *r);

/* Waits until nobody has any of it. Whoever has a range takes no other. */
void block_ranges_take(struct block_ranges *r, struct block_range *range, uint64_t offset, uint64_t size);
void block_ranges_give(struct block_ranges *r, struct block_range *range);

#endif
