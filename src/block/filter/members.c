/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The disks below a filter that makes one of several. */
#include "block/filter/members.h"

#include "base/error.h"
#include "block/cursor.h"

static void merge_facts(struct block_facts *f, const struct block_facts *member)
{
    f->alignment = MAX(f->alignment, member->alignment);
    f->preferred = MAX(f->preferred, member->preferred);
    f->granularity = MAX(f->granularity, member->granularity);
    f->readonly |= member->readonly;
}

bool block_members_take(struct block_members *m, struct disk *b, struct block_config *config, GError **error)
{
    if (config->n_members > BLOCK_MEMBERS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: has %u members, at most %d are possible", b->name,
                           config->n_members, BLOCK_MEMBERS_MAX);
    b->facts.alignment = b->facts.preferred = 1;
    for (unsigned i = 0; i < config->n_members; i++) {
        m->disk[m->n++] = STEAL(config->members[i]);
        merge_facts(&b->facts, &m->disk[i]->facts);
    }
    return true;
}

void block_members_free(struct block_members *m)
{
    while (m->n)
        block_free(m->disk[--m->n]);
}

int block_members_flush(const struct block_members *m)
{
    int status = 0;
    for (unsigned i = 0; i < m->n; i++) {
        int now = block_flush(m->disk[i]);
        if (!status)
            status = now;
    }
    return status;
}

int block_members_read(struct disk *b, block_members_find find, const struct iovec *iov, unsigned n,
                       uint64_t offset, unsigned flags)
{
    struct iovec part[BLOCK_IOV_MAX];
    struct block_cursor c = {.iov = iov};
    int status = 0;
    for (uint64_t size = block_iov_size(iov, n), now; size && !status; offset += now, size -= now) {
        uint64_t place;
        now = size;
        struct disk *m = find(b, offset, &now, &place);
        status = block_read(m, part, block_cursor_next(&c, now, part), place, flags);
    }
    return status;
}

int block_members_write(struct disk *b, block_members_find find, const struct iovec *iov, unsigned n,
                        uint64_t offset)
{
    struct iovec part[BLOCK_IOV_MAX];
    struct block_cursor c = {.iov = iov};
    int status = 0;
    for (uint64_t size = block_iov_size(iov, n), now; size && !status; offset += now, size -= now) {
        uint64_t place;
        now = size;
        struct disk *m = find(b, offset, &now, &place);
        status = block_write(m, part, block_cursor_next(&c, now, part), place);
    }
    return status;
}

int block_members_extent(struct disk *b, block_members_find find, uint64_t offset, uint64_t size,
                         struct block_extent *extent)
{
    uint64_t place;
    struct disk *m = find(b, offset, &size, &place);
    int status = block_extent(m, place, size, extent);
    extent->place = BLOCK_NO_PLACE;
    return status;
}
