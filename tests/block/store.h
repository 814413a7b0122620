/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A file that tests keep in memory: sparse, copied in no time, and as a disk to put images on. */
#ifndef HOSTEL_TESTS_BLOCK_STORE_H
#define HOSTEL_TESTS_BLOCK_STORE_H

#include <stdint.h>

#include "block/block.h"

enum { STORE_PAGE = 4096, STORE_GARBAGE = 0xdb };

struct store;

/* All zero. */
struct store *store_new(uint64_t size);
struct store *store_copy(const struct store *s);
void store_free(struct store *s);
CLEANUP_DEFINE(store, store_free)

uint64_t store_size(const struct store *s);

/* Equal stores have equal hashes. */
uint64_t store_hash(struct store *s);

/* Beyond the end: what is read is zero, what is written makes it longer. */
void store_read(struct store *s, void *bytes, uint64_t size, uint64_t offset);
void store_write(struct store *s, const void *bytes, uint64_t size, uint64_t offset);

/* A range becomes zero, or garbage; beyond the end nothing happens. */
void store_fill(struct store *s, uint8_t byte, uint64_t size, uint64_t offset);
void store_resize(struct store *s, uint64_t size);

/* From and to the beginning of a file. */
void store_load(struct store *s, int fd);
void store_save(struct store *s, int fd);

/* A growable disk of the store, which is borrowed. What is discarded reads as garbage if so wished. */
struct disk *store_disk(struct store *s, bool readonly, bool garbage);

#endif
