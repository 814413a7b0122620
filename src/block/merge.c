/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Merging images that lie over each other. */
#include "block/merge.h"

#include "base/bits.h"

/* One piece that is kept in one way, no larger than the buffer unless it is zero. */
static int merge_piece(const struct block_merge *m, const struct block_extent *extent, uint64_t offset,
                       uint64_t size, uint64_t *copied)
{
    if (extent->depth < m->first || extent->depth >= m->end)
        return 0;
    if (extent->zero)
        return m->zeroes ? block_zero(m->to, offset, size, BLOCK_MAY_UNMAP) : 0;
    int status = block_pread(m->from, m->buffer, (size_t)size, offset);
    if (!status)
        status = block_pwrite(m->to, m->buffer, (size_t)size, offset);
    if (!status && copied)
        *copied += size;
    return status;
}

int block_merge_range(const struct block_merge *m, uint64_t offset, uint64_t size, uint64_t *copied)
{
    const uint64_t unit = MAX(m->from->facts.alignment, m->to->facts.alignment);
    int status = 0;
    while (size && !status) {
        struct block_extent extent;
        status = block_extent(m->from, offset, size, &extent);
        if (status)
            return status;
        uint64_t now = MIN(size, extent.size);
        if (now % unit && now > unit) {
            now = align_down(now, unit);
        } else if (now % unit) { /* kept in several ways: copied as it reads */
            now = MIN(size, unit);
            extent.zero = false;
            extent.depth = m->first;
        }
        if (!extent.zero)
            now = MIN(now, BLOCK_MERGE_PIECE);
        status = merge_piece(m, &extent, offset, now, copied);
        offset += now;
        size -= now;
    }
    return status;
}
