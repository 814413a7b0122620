/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Filter copy-on-read: what an image finds in those below it, it keeps, so that it need not look there again.
 */
/*
 * Below is an image that lies over another one and can be written to. Before a read its granules are
 * fetched: what the image has only in a lower layer is read from there and written to it. A bit for each
 * granule remembers that there is nothing left to fetch. Reading goes on when fetching fails: it is done for
 * speed only.
 *
 * A granule that is being fetched is nobody else's, so a guest's write cannot come between reading the old
 * bytes and writing them, and be lost.
 */
#include <errno.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/block.h"
#include "block/filter/ranges.h"
#include "block/scratch.h"

enum { GRANULE = 65536, WORD_BITS = 64 };
#define BITS_MAX (UINT64_C(1) << 28) /* 32 MiB of memory: granules are larger on disks beyond 16 TiB */

struct copy_on_read {
    struct disk disk;
    uint64_t granule;
    _Atomic uint64_t *fetched; /* a bit for each granule; NULL: below cannot be written to */
    struct block_ranges ranges;
};

static struct copy_on_read *filter(struct disk *b)
{
    return (struct copy_on_read *)(void *)b;
}

static bool copy_on_read_open(struct disk *b, struct block_config *config, GError **error)
{
    struct copy_on_read *c = filter(b);
    const bool readonly = b->facts.readonly;
    b->below = STEAL(config->file);
    b->facts = b->below->facts;
    b->facts.readonly |= readonly;
    b->facts.growable = false;
    c->granule = GRANULE;
    while (b->facts.size / c->granule >= BITS_MAX)
        c->granule *= 2;
    const uint64_t words = b->facts.size / c->granule / WORD_BITS + 1;
    if (!b->below->facts.readonly) {
        c->fetched = g_try_malloc0(words * sizeof(*c->fetched));
        if (!c->fetched)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory for its map",
                               b->name);
    }
    block_ranges_init(&c->ranges);
    return true;
}

static void copy_on_read_close(struct disk *b)
{
    block_ranges_fini(&filter(b)->ranges);
    g_free(filter(b)->fetched);
}

/* --- fetching --- */

static bool is_fetched(const struct copy_on_read *c, uint64_t granule)
{
    return atomic_load_explicit(&c->fetched[granule / WORD_BITS], memory_order_acquire) &
           BIT(granule % WORD_BITS);
}

/* Is nothing left to fetch in the range? */
static bool is_here(const struct copy_on_read *c, uint64_t offset, uint64_t size)
{
    for (uint64_t g = offset / c->granule; c->fetched && g <= (offset + size - 1) / c->granule; g++)
        if (!is_fetched(c, g))
            return false;
    return true;
}

static int copy(struct copy_on_read *c, uint64_t offset, uint64_t size)
{
    int status = 0;
    void *bytes = block_scratch_take(MIN(size, GRANULE));
    if (!bytes)
        return -ENOMEM;
    for (uint64_t now; size && !status; offset += now, size -= now) {
        now = MIN(size, GRANULE);
        status = block_pread(c->disk.below, bytes, now, offset);
        if (!status)
            status = block_pwrite(c->disk.below, bytes, now, offset);
    }
    block_scratch_give(bytes);
    return status;
}

/* One granule, which is taken. */
static int fetch(struct copy_on_read *c, uint64_t offset, uint64_t size)
{
    const uint64_t unit = c->disk.facts.alignment;
    int status = 0;
    while (size && !status) {
        struct block_extent extent;
        status = block_extent(c->disk.below, offset, size, &extent);
        const uint64_t now = MIN(size, align_up(extent.size, unit));
        if (!status && extent.depth && !extent.hole && !extent.zero)
            status = copy(c, offset, now);
        offset += now;
        size -= now;
    }
    return status;
}

static void fetch_all(struct copy_on_read *c, uint64_t offset, uint64_t size)
{
    const uint64_t last = (offset + size - 1) / c->granule;
    for (uint64_t g = offset / c->granule; g <= last; g++) {
        struct block_range range;
        const uint64_t from = g * c->granule;
        if (is_fetched(c, g))
            continue;
        block_ranges_take(&c->ranges, &range, from, c->granule);
        if (!fetch(c, from, MIN(c->granule, c->disk.facts.size - from)))
            atomic_fetch_or_explicit(&c->fetched[g / WORD_BITS], BIT(g % WORD_BITS), memory_order_release);
        block_ranges_give(&c->ranges, &range);
    }
}

/* --- operations --- */

static int copy_on_read_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset,
                             unsigned flags)
{
    const uint64_t size = block_iov_size(iov, n);
    if (!is_here(filter(b), offset, size)) {
        if (flags & BLOCK_NOWAIT)
            return -EAGAIN;
        fetch_all(filter(b), offset, size);
    }
    return block_read(b->below, iov, n, offset, flags);
}

static int copy_on_read_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    const uint64_t size = block_iov_size(iov, n);
    struct block_range range;
    block_ranges_take(&filter(b)->ranges, &range, offset, size);
    int status = block_write(b->below, iov, n, offset);
    block_ranges_give(&filter(b)->ranges, &range);
    return status;
}

static int copy_on_read_flush(struct disk *b)
{
    return block_flush(b->below);
}

static int copy_on_read_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    struct block_range range;
    block_ranges_take(&filter(b)->ranges, &range, offset, size);
    int status = block_discard(b->below, offset, size);
    block_ranges_give(&filter(b)->ranges, &range);
    return status;
}

static int copy_on_read_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct block_range range;
    block_ranges_take(&filter(b)->ranges, &range, offset, size);
    int status = block_zero(b->below, offset, size, flags);
    block_ranges_give(&filter(b)->ranges, &range);
    return status;
}

static int copy_on_read_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return block_extent(b->below, offset, size, extent);
}

const struct block_driver block_driver_copy_on_read = {
    .name = "copy-on-read",
    .help = "keeps what it reads from a backing file",
    .kind = BLOCK_FILTER,
    .size = sizeof(struct copy_on_read),
    .open = copy_on_read_open,
    .close = copy_on_read_close,
    .read = copy_on_read_read,
    .write = copy_on_read_write,
    .flush = copy_on_read_flush,
    .discard = copy_on_read_discard,
    .zero = copy_on_read_zero,
    .extent = copy_on_read_extent,
};
