/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Limits of speed that change while the disk is used. */
#ifndef HOSTEL_BLOCK_THROTTLE_H
#define HOSTEL_BLOCK_THROTTLE_H

#include "block/block.h"

enum block_throttle_what { BLOCK_THROTTLE_ALL, BLOCK_THROTTLE_READ, BLOCK_THROTTLE_WRITE, BLOCK_THROTTLES };

/* One limit; 0 = none. */
struct block_limit {
    uint64_t rate;          /* a second, in the long run */
    uint64_t burst;         /* a second, after a pause; 0 = what a tenth of a second has, at once */
    uint64_t burst_seconds; /* how long it goes on like that; 1 = all of it may go at once */
};

struct block_throttle {
    struct block_limit bytes[BLOCK_THROTTLES], operations[BLOCK_THROTTLES];
    uint64_t operation_bytes; /* more bytes than this count as several operations; 0 = however many */
};

/* Over a disk that it takes. */
struct disk *block_throttle_new(struct disk *below);

/* From now on; for who waits, too. Any thread. */
void block_throttle_set(struct disk *filter, const struct block_throttle *limits);

/* Who waits goes at once, and who comes does not wait, until it is set back; what they do is counted all the
 * same, so that later ones wait the longer. */
void block_throttle_hurry(struct disk *filter, bool hurry);

#endif
