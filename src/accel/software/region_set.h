/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A set of address regions that is always right about members and nearly always about others: what a flush
 * must look for. */
#ifndef HOSTEL_ACCEL_SOFTWARE_REGION_SET_H
#define HOSTEL_ACCEL_SOFTWARE_REGION_SET_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* A slot holds one region's number, or says that several share it: then it answers yes for all that hash
 * there. */
enum { REGION_SET_LOG2 = 13, REGION_NONE = 0, REGION_SEVERAL = 1, REGION_FIRST = 2 };
enum { REGION_SET_FULL = (1 << REGION_SET_LOG2) / 8 };

struct region_set {
    bool any;
    unsigned shared; /* slots that several share: when there are many, it is time to begin anew */
    uint64_t slot[1 << REGION_SET_LOG2];
};

static inline unsigned region_set_at(uint64_t number)
{
    return (unsigned)(number * UINT64_C(0x9e3779b97f4a7c15) >> (64 - REGION_SET_LOG2));
}

/* number: an address without its low bits, shifted down; below 2^62. */
static inline void region_set_add(struct region_set *set, uint64_t number)
{
    uint64_t *slot = &set->slot[region_set_at(number)], name = number + REGION_FIRST;
    set->any = true;
    if (*slot == REGION_NONE || *slot == name) {
        *slot = name;
    } else if (*slot != REGION_SEVERAL) {
        *slot = REGION_SEVERAL;
        set->shared++;
    }
}

static inline bool region_set_has(const struct region_set *set, uint64_t number)
{
    uint64_t slot = set->slot[region_set_at(number)];
    return slot == REGION_SEVERAL || slot == number + REGION_FIRST;
}

/* The region is no member any more. (A shared slot goes on answering yes.) */
static inline void region_set_remove(struct region_set *set, uint64_t number)
{
    uint64_t *slot = &set->slot[region_set_at(number)];
    if (*slot == number + REGION_FIRST)
        *slot = REGION_NONE;
}

static inline void region_set_clear(struct region_set *set)
{
    if (set->any)
        memset(set, 0, sizeof(*set));
}

#endif
