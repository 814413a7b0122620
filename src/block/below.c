/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Reading where a disk may have ended; see below.h. */
#include "block/below.h"

int block_read_padded(struct disk *b, struct block_cursor *c, uint64_t offset, uint64_t size, unsigned flags)
{
    struct iovec part[BLOCK_IOV_MAX];
    const uint64_t end = b ? b->facts.size : 0, there = offset < end ? MIN(size, end - offset) : 0;
    int status = 0;
    if (there)
        status = block_read(b, part, block_cursor_next(c, there, part), offset, flags);
    if (!status)
        block_cursor_zero(c, size - there);
    return status;
}

int block_extent_below(struct disk *base, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    const uint64_t end = base ? base->facts.size : 0;
    *extent = (struct block_extent){.size = size, .hole = true, .zero = true, .place = BLOCK_NO_PLACE};
    int status = offset < end ? block_extent(base, offset, MIN(size, end - offset), extent) : 0;
    extent->depth += base != NULL;
    return status;
}
