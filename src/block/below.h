/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Reading where a disk may have ended: an image's file, or the base that an image lies over. */
#ifndef HOSTEL_BLOCK_BELOW_H
#define HOSTEL_BLOCK_BELOW_H

#include "block/block.h"
#include "block/cursor.h"

/* The next size bytes of the cursor, from offset of b on. What is behind its end, or of no disk (NULL), is
 * zeroes. flags: BLOCK_NOWAIT. */
int block_read_padded(struct disk *b, struct block_cursor *c, uint64_t offset, uint64_t size, unsigned flags);

/* How what an image leaves to its base (NULL = it has none) is kept: one layer deeper than by the base;
 * behind the base's end, or without one, it is a hole. */
int block_extent_below(struct disk *base, uint64_t offset, uint64_t size, struct block_extent *extent);

#endif
