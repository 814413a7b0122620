/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A ring of arenas: in which order a backend's code memory is filled, and given up. */
#ifndef HOSTEL_ENGINE_ARENAS_H
#define HOSTEL_ENGINE_ARENAS_H

#include <stddef.h>
#include <stdint.h>

/*
 * Code memory is divided into arenas of equal size, filled one after the other. When the next one still holds
 * blocks, they are the oldest of all: the dispatcher kills them together, and when the last is released the
 * arena is used again. So a block that has just been made lives until everything older has gone, which is
 * what lets vCPUs that share little room all get on; and blocks invalidated one by one cost nothing to give
 * back. This only counts: where an arena lies is its owner's affair. Not thread-safe: the dispatcher's code
 * lock is held.
 */
enum { ARENAS_MAX = 16, ARENAS_FEWEST = 2 };

struct arenas {
    unsigned n, current;
    size_t size; /* bytes of each */
    struct {
        size_t used; /* bytes taken since it was last empty */
        uint32_t live;
    } arena[ARENAS_MAX];
};

/* Divides `total` bytes into arenas of no fewer than `least`; less than ARENAS_FEWEST of them is rounded up.
 */
void arenas_init(struct arenas *a, size_t total, size_t least);
/* Bytes left in the current arena. */
size_t arenas_room(const struct arenas *a);
/* Goes on to the next arena. 0; -ENOSPC when arenas_oldest() must be given up first; -E2BIG when the current
 * one is empty, so that no other has more room. */
int arenas_next(struct arenas *a);
/* Which arena has been filled longest ago. */
unsigned arenas_oldest(const struct arenas *a);
/* Takes bytes (at most arenas_room()) for a block; returns the arena. */
unsigned arenas_take(struct arenas *a, size_t bytes);
/* A block of the arena is gone. */
void arenas_give(struct arenas *a, unsigned arena);
/* Bytes in arenas that hold blocks. */
size_t arenas_used(const struct arenas *a);

#endif
