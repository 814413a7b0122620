/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Protocol null: reads as zeroes and swallows what is written, for measuring everything else. */
#include <errno.h>
#include <inttypes.h>

#include "base/error.h"
#include "block/block.h"
#include "block/cursor.h"

static bool null_open(struct disk *b, struct block_config *config, GError **error)
{
    if (!config->size || config->size % BLOCK_SECTOR || config->size > INT64_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a null disk has %" PRIu64 " bytes; give a multiple of %d with size=", b->name,
                           config->size, BLOCK_SECTOR);
    b->facts.size = config->size;
    b->facts.alignment = 1;
    b->facts.preferred = 4096;
    b->facts.granularity = 1;
    return true;
}

static int null_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    (void)b, (void)offset, (void)flags;
    struct block_cursor c = {.iov = iov};
    block_cursor_zero(&c, block_iov_size(iov, n));
    return 0;
}

static int null_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    (void)b, (void)iov, (void)n, (void)offset;
    return 0;
}

static int null_flush(struct disk *b)
{
    (void)b;
    return 0;
}

static int null_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    (void)b, (void)offset, (void)size;
    return 0;
}

static int null_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    (void)b, (void)offset, (void)size, (void)flags;
    return 0;
}

static int null_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    (void)b, (void)offset, (void)size;
    extent->hole = extent->zero = true;
    return 0;
}

static int null_resize(struct disk *b, uint64_t size)
{
    (void)b;
    return size && size % BLOCK_SECTOR == 0 ? 0 : -EINVAL;
}

const struct block_driver block_driver_null = {
    .name = "null",
    .help = "zeroes; what is written is forgotten",
    .kind = BLOCK_PROTOCOL,
    .size = sizeof(struct disk),
    .open = null_open,
    .read = null_read,
    .write = null_write,
    .flush = null_flush,
    .discard = null_discard,
    .zero = null_zero,
    .extent = null_extent,
    .resize = null_resize,
};
