/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What formats that are only read share: opening, and the pieces that were last unpacked. */
#ifndef HOSTEL_BLOCK_FORMAT_CHUNKS_H
#define HOSTEL_BLOCK_FORMAT_CHUNKS_H

#include "block/block.h"
#include "block/cursor.h"

/* The beginning of open: refuses writing and snapshots, takes config->file as b->below, sets facts but for
 * size and cluster. False with *error. */
bool block_chunks_take_file(struct disk *b, struct block_config *config, GError **error);

/* Bytes of the file where there are some; -EIO when it ends before offset, zeroes where it ends later. */
int block_chunks_read_file(struct disk *file, struct block_cursor *c, uint64_t offset, uint64_t size,
                           unsigned flags);

/* Fills bytes with all size bytes of the piece `key`. */
typedef int block_chunks_load(void *opaque, uint64_t key, uint8_t *bytes, size_t size);

struct block_chunks;

/* For pieces of at most largest bytes. Memory is taken when it is needed first, 64 MiB at most or that of one
 * piece. */
struct block_chunks *block_chunks_new(size_t largest, block_chunks_load *load, void *opaque);
void block_chunks_free(struct block_chunks *c); /* NULL is fine */

/* n bytes from `from` on, of the piece `key`, which has size bytes. Any thread. -EAGAIN with BLOCK_NOWAIT. */
int block_chunks_read(struct block_chunks *c, uint64_t key, size_t size, size_t from, size_t n,
                      struct block_cursor *out, unsigned flags);

#endif
