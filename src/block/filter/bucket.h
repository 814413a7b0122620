/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* How much of something may happen in a second: when the next one's turn is. */
/*
 * A bucket that leaks at a fixed rate, kept as one number: the moment at which all that was let in would be
 * paid for (`due`). Whoever comes may begin as soon as that is no more than `burst` away, and moves it on by
 * what it costs. So a pause saves up a burst and no more, and all who come have turns in the order they came.
 */
#ifndef HOSTEL_BLOCK_BUCKET_H
#define HOSTEL_BLOCK_BUCKET_H

#include <stdint.h>

struct block_bucket {
    uint64_t rate;  /* per second; 0 = no limit */
    uint64_t burst; /* ns of it that may go at once */
    uint64_t due;   /* ns */
};

/* When `count` may begin that come now (ns of a clock that starts above 0): now or later. */
static inline uint64_t block_bucket_take(struct block_bucket *b, uint64_t count, uint64_t now)
{
    if (!b->rate)
        return now;
    const uint64_t from = b->due > now ? b->due : now;
    const unsigned __int128 end = (unsigned __int128)count * 1000000000 / b->rate + from;
    b->due = end > INT64_MAX ? INT64_MAX : (uint64_t)end;
    return from > now + b->burst ? from - b->burst : now;
}

/* Could it begin at once? */
static inline int block_bucket_ready(const struct block_bucket *b, uint64_t now)
{
    return !b->rate || b->due <= now + b->burst;
}

#endif
