/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A disk that passes everything to another one, which it does not own: for a new image's file, while its own
 * format has it open. */
#include "block/format/qcow2/qcow2_int.h"

static int lend_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return block_read(b->below, iov, n, offset, flags);
}

static int lend_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return block_write(b->below, iov, n, offset);
}

static int lend_flush(struct disk *b)
{
    return block_flush(b->below);
}

static int lend_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return block_discard(b->below, offset, size);
}

static int lend_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    return block_zero(b->below, offset, size, flags);
}

static int lend_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return block_extent(b->below, offset, size, extent);
}

static int lend_resize(struct disk *b, uint64_t size)
{
    return block_resize(b->below, size);
}

static void lend_close(struct disk *b)
{
    b->below = NULL; /* stays open */
}

static const struct block_driver lend = {
    .name = "lend",
    .help = "another disk, borrowed",
    .kind = BLOCK_FILTER,
    .size = sizeof(struct disk),
    .close = lend_close,
    .read = lend_read,
    .write = lend_write,
    .flush = lend_flush,
    .discard = lend_discard,
    .zero = lend_zero,
    .extent = lend_extent,
    .resize = lend_resize,
};

struct disk *qcow2_lend(struct disk *below)
{
    return block_filter_new(&lend, below);
}
