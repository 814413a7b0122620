/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* How many bits may pass in a second. */
/*
 * A token bucket kept as one number: the moment at which all that has passed would be paid for at the rate
 * (`due`). A frame may pass while that is no more than `burst` away, and moves it on by what it costs. So a
 * pause saves up a burst and no more, and a frame larger than a burst passes all the same, at the price of a
 * longer pause behind it.
 */
#ifndef HOSTEL_NET_RATE_H
#define HOSTEL_NET_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "net/net.h"

struct net_bucket {
    struct net_rate rate;
    uint64_t burst_ns, due; /* ns, of a clock that starts above 0 */
};

#define NET_NS_PER_S UINT64_C(1000000000)

static inline uint64_t net_bits_ns(uint64_t bits, uint64_t rate)
{
    const unsigned __int128 ns = (unsigned __int128)bits * NET_NS_PER_S / rate;
    return ns > INT64_MAX / 4 ? INT64_MAX / 4 : (uint64_t)ns;
}

/* Begins with a full bucket. A burst of 0 is a tenth of a second's. */
static inline void net_bucket_set(struct net_bucket *b, const struct net_rate *rate)
{
    *b = (struct net_bucket){.rate = *rate};
    if (rate->bits)
        b->burst_ns = rate->burst ? net_bits_ns(rate->burst, rate->bits) : NET_NS_PER_S / 10;
}

/* When the next frame may pass: now or later. */
static inline uint64_t net_bucket_when(const struct net_bucket *b, uint64_t now)
{
    return !b->rate.bits || b->due <= now + b->burst_ns ? now : b->due - b->burst_ns;
}

static inline void net_bucket_take(struct net_bucket *b, uint64_t bytes, uint64_t now)
{
    if (!b->rate.bits)
        return;
    const uint64_t from = b->due > now ? b->due : now, cost = net_bits_ns(bytes * 8, b->rate.bits);
    b->due = from > INT64_MAX - cost ? INT64_MAX : from + cost;
}

#endif
