/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Merging images that lie over each other: what some of them keep is copied into another one of the chain. */
/*
 * Down (commit): what the images from the topmost to right above `to` keep is written to `to`, which is
 * below them. Up (stream): what the images below the topmost keep, down to one that stays, is written to the
 * topmost itself. Either way every byte that is written is what a reader of the topmost image sees there
 * already, so at each moment, and after a power cut at each moment, the chain reads as before.
 */
#ifndef HOSTEL_BLOCK_MERGE_H
#define HOSTEL_BLOCK_MERGE_H

#include "block/block.h"

enum { BLOCK_MERGE_PIECE = 1 << 20 /* bytes of buffer */ };

struct block_merge {
    struct disk *from; /* the topmost image */
    struct disk *to;
    unsigned first, end; /* what images first <= depth < end keep is copied; the topmost has depth 0 */
    bool zeroes;         /* what reads as zeroes there is made so in `to`; else it does so anyway */
    uint8_t *buffer;     /* BLOCK_MERGE_PIECE bytes */
};

/* One range of the disk. Nobody changes it in `from` meanwhile, or it is merged again afterwards. 0 or
 * -errno; *copied (or NULL) gets bytes that were moved. Any thread. */
int block_merge_range(const struct block_merge *m, uint64_t offset, uint64_t size, uint64_t *copied);

#endif
