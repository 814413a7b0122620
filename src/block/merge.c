/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Merging images that lie over each other. */
#include "block/merge.h"

#include <string.h>

#include "base/bits.h"

static int write_zeroes(const struct block_merge *m, uint64_t offset, uint64_t size)
{
    int status = 0;
    memset(m->buffer, 0, (size_t)MIN(size, (uint64_t)BLOCK_MERGE_PIECE));
    for (uint64_t now; size && !status; offset += now, size -= now) {
        now = MIN(size, (uint64_t)BLOCK_MERGE_PIECE);
        status = block_pwrite(m->to, m->buffer, (size_t)now, offset);
    }
    return status;
}

/* Upwards, `to` reads as zeroes there already, because of what it lies over, and leaves parts of clusters as
 * they are; but that is going to be another one. */
static int make_zero(const struct block_merge *m, uint64_t offset, uint64_t size)
{
    const uint64_t unit = m->to->facts.cluster, end = offset + size;
    if (!m->first || !unit)
        return block_zero(m->to, offset, size, BLOCK_MAY_UNMAP);
    const uint64_t from = MIN(end, align_up(offset, unit));
    const uint64_t to = end == m->to->facts.size ? end : MAX(from, align_down(end, unit));
    int status = write_zeroes(m, offset, from - offset);
    if (!status)
        status = block_zero(m->to, from, to - from, BLOCK_MAY_UNMAP);
    return status ? status : write_zeroes(m, to, end - to);
}

/* One piece that is kept in one way, no larger than the buffer unless it is zero. */
static int merge_piece(const struct block_merge *m, const struct block_extent *extent, uint64_t offset,
                       uint64_t size, uint64_t *copied)
{
    if (extent->depth < m->first || extent->depth >= m->end)
        return 0;
    if (extent->zero)
        return m->zeroes ? make_zero(m, offset, size) : 0;
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
