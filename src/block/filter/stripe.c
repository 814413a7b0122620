/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Filter stripe: chunks of a disk in turn on several disks (RAID 0), so that all work at once. */
/*
 * Chunk number k is on member k % n, as its chunk number k / n. So what any range of the whole is on one
 * member is a range there, too: giving back or zeroing takes one operation of each, however long the range.
 */
#include <inttypes.h>

#include "base/error.h"
#include "block/filter/members.h"

struct stripe_options {
    uint64_t chunk;
};

static const struct option_row stripe_rows[] = {
    {.name = "chunk",
     .arg = "SIZE",
     .value = "64K",
     .help = "how much is on one disk before it is the next one's turn",
     .type = OPTION_SIZE,
     .who = OPTION_BOTH,
     .offset = offsetof(struct stripe_options, chunk)},
    {0},
};

#define CHUNK_MAX (UINT64_C(1) << 30)
#define CHUNK_DEFAULT (UINT64_C(64) << 10)

struct stripe {
    struct disk disk;
    struct block_members members;
    uint64_t chunk;
};

static struct stripe *stripe(struct disk *b)
{
    return (struct stripe *)(void *)b;
}

/* --- where things are --- */

/* How many bytes of member i are before offset of the whole. */
static uint64_t bytes_before(const struct stripe *s, unsigned i, uint64_t offset)
{
    const uint64_t all = s->chunk * s->members.n, rest = offset % all, mine = i * s->chunk;
    return offset / all * s->chunk + (rest > mine ? MIN(rest - mine, s->chunk) : 0);
}

/* Where in the whole the first byte would be that member i has no room for. */
static uint64_t first_missing(const struct stripe *s, unsigned i)
{
    const uint64_t size = s->members.disk[i]->facts.size, all = s->chunk * s->members.n;
    uint64_t end;
    if (__builtin_mul_overflow(size / s->chunk, all, &end) || end > INT64_MAX - all)
        return INT64_MAX - all;
    return end + i * s->chunk + size % s->chunk;
}

static bool find_size(struct stripe *s, GError **error)
{
    const uint64_t unit = MAX(s->disk.facts.alignment, (uint32_t)BLOCK_SECTOR);
    uint64_t size = UINT64_MAX;
    if (s->chunk < unit || s->chunk % unit || s->chunk > CHUNK_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: chunk is %" PRIu64 " bytes; give a multiple of %" PRIu64 ", at most 1 GiB",
                           s->disk.name, s->chunk, unit);
    for (unsigned i = 0; i < s->members.n; i++)
        size = MIN(size, first_missing(s, i));
    s->disk.facts.size = size - size % unit;
    return s->disk.facts.size ||
           hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: one of its members is empty", s->disk.name);
}

static bool stripe_open(struct disk *b, struct block_config *config, GError **error)
{
    const struct stripe_options *o = config->options;
    stripe(b)->chunk = o ? o->chunk : CHUNK_DEFAULT;
    if (block_members_take(&stripe(b)->members, b, config, error) && find_size(stripe(b), error))
        return true;
    block_members_free(&stripe(b)->members);
    return false;
}

static void stripe_close(struct disk *b)
{
    block_members_free(&stripe(b)->members);
}

/* Whose byte offset is; how many of size are in its chunk, and where. */
static struct disk *find(struct disk *b, uint64_t offset, uint64_t *size, uint64_t *place)
{
    const struct stripe *s = stripe(b);
    const uint64_t k = offset / s->chunk, inside = offset % s->chunk;
    *size = MIN(*size, s->chunk - inside);
    *place = k / s->members.n * s->chunk + inside;
    return s->members.disk[k % s->members.n];
}

/* --- operations --- */

static int stripe_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return block_members_read(b, find, iov, n, offset, flags);
}

static int stripe_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return block_members_write(b, find, iov, n, offset);
}

static int stripe_flush(struct disk *b)
{
    return block_members_flush(&stripe(b)->members);
}

static int stripe_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    const struct stripe *s = stripe(b);
    int status = 0;
    for (unsigned i = 0; i < s->members.n && !status; i++) {
        const uint64_t from = bytes_before(s, i, offset), to = bytes_before(s, i, offset + size);
        status = block_discard(s->members.disk[i], from, to - from);
    }
    return status;
}

static int stripe_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    const struct stripe *s = stripe(b);
    int status = 0;
    for (unsigned i = 0; i < s->members.n && !status; i++) {
        const uint64_t from = bytes_before(s, i, offset), to = bytes_before(s, i, offset + size);
        status = block_zero(s->members.disk[i], from, to - from, flags);
    }
    return status;
}

static int stripe_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return block_members_extent(b, find, offset, size, extent);
}

const struct block_driver block_driver_stripe = {
    .name = "stripe",
    .help = "chunks in turn on several disks (RAID 0)",
    .kind = BLOCK_FILTER,
    .members = 1,
    .size = sizeof(struct stripe),
    .options = stripe_rows,
    .options_size = sizeof(struct stripe_options),
    .open = stripe_open,
    .close = stripe_close,
    .read = stripe_read,
    .write = stripe_write,
    .flush = stripe_flush,
    .discard = stripe_discard,
    .zero = stripe_zero,
    .extent = stripe_extent,
};
