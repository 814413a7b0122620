/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Filter limits: a part of a disk, such as one partition of it; the rest cannot be reached. */
#include <inttypes.h>

#include "base/checked.h"
#include "base/error.h"
#include "block/block.h"

struct limits_options {
    uint64_t offset, size;
};

static const struct option_row limits_rows[] = {
    {.name = "offset",
     .arg = "SIZE",
     .value = "0",
     .help = "where the part begins",
     .type = OPTION_SIZE,
     .who = OPTION_BOTH,
     .offset = offsetof(struct limits_options, offset)},
    {.name = "length",
     .arg = "SIZE",
     .value = "0",
     .help = "how long it is; 0 = up to the end",
     .type = OPTION_SIZE,
     .who = OPTION_BOTH,
     .offset = offsetof(struct limits_options, size)},
    {0},
};

struct limits {
    struct disk disk;
    uint64_t offset;
};

static uint64_t there(struct disk *b, uint64_t offset)
{
    return offset + ((const struct limits *)(const void *)b)->offset;
}

static bool limits_open(struct disk *b, struct block_config *config, GError **error)
{
    const struct limits_options none = {0}, *o = config->options ? config->options : &none;
    struct disk *below = b->below = STEAL(config->file);
    const uint64_t end = below->facts.size, unit = MAX(below->facts.alignment, (uint32_t)BLOCK_SECTOR);
    const uint64_t size = o->size || o->offset > end ? o->size : end - o->offset;
    if (!size || o->offset % unit || size % unit || !range_inside(o->offset, size, 0, end))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: %" PRIu64 " bytes at %" PRIu64 " are no part of %s, which has %" PRIu64
                           "; give offset and length as multiples of %" PRIu64 " inside it",
                           b->name, size, o->offset, below->name, end, unit);
    const bool readonly = b->facts.readonly;
    b->facts = below->facts;
    b->facts.readonly |= readonly;
    b->facts.growable = false;
    b->facts.size = size;
    ((struct limits *)(void *)b)->offset = o->offset;
    return true;
}

static int limits_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return block_read(b->below, iov, n, there(b, offset), flags);
}

static int limits_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return block_write(b->below, iov, n, there(b, offset));
}

static int limits_flush(struct disk *b)
{
    return block_flush(b->below);
}

static int limits_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return block_discard(b->below, there(b, offset), size);
}

static int limits_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    return block_zero(b->below, there(b, offset), size, flags);
}

static int limits_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return block_extent(b->below, there(b, offset), size, extent);
}

const struct block_driver block_driver_limits = {
    .name = "limits",
    .help = "a part of a disk",
    .kind = BLOCK_FILTER,
    .size = sizeof(struct limits),
    .options = limits_rows,
    .options_size = sizeof(struct limits_options),
    .open = limits_open,
    .read = limits_read,
    .write = limits_write,
    .flush = limits_flush,
    .discard = limits_discard,
    .zero = limits_zero,
    .extent = limits_extent,
};
