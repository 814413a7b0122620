/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Filter concat: disks one behind the other, as one. */
#include <inttypes.h>

#include "base/error.h"
#include "block/filter/members.h"

struct concat {
    struct disk disk;
    struct block_members members;
    uint64_t end[BLOCK_MEMBERS_MAX]; /* where each ends in the whole */
};

static struct concat *concat(struct disk *b)
{
    return (struct concat *)(void *)b;
}

static bool find_ends(struct concat *c, GError **error)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < c->members.n; i++) {
        const struct disk *m = c->members.disk[i];
        const uint64_t size = m->facts.size;
        if (!size || size % MAX(c->disk.facts.alignment, (uint32_t)BLOCK_SECTOR) || size > INT64_MAX - end)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: its member %u, %s, has %" PRIu64 " bytes; it must be a multiple of %u",
                               c->disk.name, i, m->name, size,
                               MAX(c->disk.facts.alignment, (uint32_t)BLOCK_SECTOR));
        c->end[i] = end += size;
    }
    c->disk.facts.size = end;
    return true;
}

static bool concat_open(struct disk *b, struct block_config *config, GError **error)
{
    if (block_members_take(&concat(b)->members, b, config, error) && find_ends(concat(b), error))
        return true;
    block_members_free(&concat(b)->members);
    return false;
}

static void concat_close(struct disk *b)
{
    block_members_free(&concat(b)->members);
}

/* Whose byte offset is; how many of size are, and where. */
static struct disk *find(struct disk *b, uint64_t offset, uint64_t *size, uint64_t *place)
{
    const struct concat *c = concat(b);
    unsigned i = 0;
    while (offset >= c->end[i])
        i++;
    *place = offset - (i ? c->end[i - 1] : 0);
    *size = MIN(*size, c->end[i] - offset);
    return c->members.disk[i];
}

static int concat_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return block_members_read(b, find, iov, n, offset, flags);
}

static int concat_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return block_members_write(b, find, iov, n, offset);
}

static int concat_flush(struct disk *b)
{
    return block_members_flush(&concat(b)->members);
}

static int concat_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    int status = 0;
    for (uint64_t now, place; size && !status; offset += now, size -= now) {
        now = size;
        struct disk *m = find(b, offset, &now, &place);
        status = block_discard(m, place, now);
    }
    return status;
}

static int concat_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    int status = 0;
    for (uint64_t now, place; size && !status; offset += now, size -= now) {
        now = size;
        struct disk *m = find(b, offset, &now, &place);
        status = block_zero(m, place, now, flags);
    }
    return status;
}

static int concat_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return block_members_extent(b, find, offset, size, extent);
}

const struct block_driver block_driver_concat = {
    .name = "concat",
    .help = "disks one behind the other",
    .kind = BLOCK_FILTER,
    .members = 1,
    .size = sizeof(struct concat),
    .open = concat_open,
    .close = concat_close,
    .read = concat_read,
    .write = concat_write,
    .flush = concat_flush,
    .discard = concat_discard,
    .zero = concat_zero,
    .extent = concat_extent,
};
