/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Copies one disk to another, by several threads, without what is zero. */
#ifndef HOSTEL_BLOCK_COPY_H
#define HOSTEL_BLOCK_COPY_H

#include "block/block.h"

enum { BLOCK_COPY_SPARSE = 4096 /* what is usually looked for, see sparse */ };

/* What to copy and how; all borrowed. Zero is the default of everything from threads on. */
struct block_copy {
    struct disk *source, *target;
    uint64_t from, to; /* offsets; `to` is a multiple of the target's cluster */
    uint64_t size;     /* bytes; the last of them are padded to the target's alignment */

    unsigned threads; /* 0 = one for each CPU, two at least */
    uint32_t sparse;  /* runs of zero bytes this long are not written; 0 = all is written as it is */
    bool target_zero; /* all of the target reads as zeroes already */
    bool compress;    /* whole clusters, each compressed; the target holds nothing yet */
    uint64_t rate;    /* bytes per second at most; 0 = as fast as it goes */
    bool salvage;     /* what cannot be read is zero; see unread */
    unsigned depth;   /* only what the topmost so many images keep, not what these lie over; 0 = all */

    _Atomic bool *stop; /* set by anybody: -ECANCELED; or NULL */
    /* On the thread that called, some times a second and at the end: bytes that are dealt with. */
    void (*progress)(void *opaque, uint64_t done);
    void *opaque;

    /* Afterwards. */
    uint64_t failed_at;  /* offset in the source of the piece that failed */
    bool failed_reading; /* of the source; else writing the target */
    uint64_t unread;     /* bytes, with salvage */
    uint64_t written;    /* bytes that were not zero */
};

/* Copies. Whatever was written is not flushed. 0, -errno, -ECANCELED. Set-up or a thread of its own: makes
 * threads and returns when they have ended. */
int block_copy(struct block_copy *copy);

/* Are all bytes zero? */
bool block_is_zero(const void *bytes, size_t size);

#endif
