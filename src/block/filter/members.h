/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What filters over several disks share: owning them. */
#ifndef HOSTEL_BLOCK_MEMBERS_H
#define HOSTEL_BLOCK_MEMBERS_H

#include "block/block.h"

enum { BLOCK_MEMBERS_MAX = 64 };

struct block_members {
    struct disk *disk[BLOCK_MEMBERS_MAX];
    unsigned n;
};

/* Takes config's members, and fills in the facts of b that follow from theirs, all but the size. False with
 * *error; then, as always, block_members_free() ends them. */
bool block_members_take(struct block_members *m, struct disk *b, struct block_config *config, GError **error);
void block_members_free(struct block_members *m);

/* Whose byte offset of b is: how many of the *size bytes from there on are on it one behind the other, and
 * where on it. */
typedef struct disk *(*block_members_find)(struct disk *b, uint64_t offset, uint64_t *size, uint64_t *place);

/* Operations on a disk each byte of which is on one member. */
int block_members_read(struct disk *b, block_members_find find, const struct iovec *iov, unsigned n,
                       uint64_t offset, unsigned flags);
int block_members_write(struct disk *b, block_members_find find, const struct iovec *iov, unsigned n,
                        uint64_t offset);
int block_members_extent(struct disk *b, block_members_find find, uint64_t offset, uint64_t size,
                         struct block_extent *extent);

/* All of them; the first error, when all have been told. */
int block_members_flush(const struct block_members *m);

#endif
