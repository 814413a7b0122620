/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What tests of formats with one flat table share: a model of the disk, threads, and qemu-img on both sides.
 */
#ifndef HOSTEL_TESTS_BLOCK_FLAT_H
#define HOSTEL_TESTS_BLOCK_FLAT_H

#include "images.h"

/* The image opened from its store; config.base when not NULL. */
struct disk *flat_open(const struct image_setup *setup, struct store *s, bool readonly, unsigned flags,
                       struct disk *base, struct block_refs *refs, GError **error);
struct disk *flat_good(const struct image_setup *setup, struct store *s);

/* It does not open, and the message has these words. */
void flat_refused(const struct image_setup *setup, struct store *s, bool readonly, const char *words);

/* size bytes, different for each offset and seed; those read are these. */
void flat_fill(uint8_t *bytes, uint64_t size, uint64_t offset, uint32_t seed);
void flat_write(struct disk *b, uint64_t offset, uint64_t size, uint32_t seed);
void flat_same(struct disk *b, uint64_t offset, uint64_t size, uint32_t seed);
void flat_zeroes(struct disk *b, uint64_t offset, uint64_t size);

/* A check of the image; what it found. */
struct block_check flat_check(const struct image_setup *setup, struct store *s, unsigned fix);

/* Tests; data is the setup. Random operations with reopening against an array; threads on one disk; what we
 * write read by qemu-img, and the other way round. */
void flat_test_model(gconstpointer setup);
void flat_test_threads(gconstpointer setup);
void flat_test_qemu(gconstpointer setup);

/* The three of them for each setup, under /block/DRIVER/NAME/. */
void flat_add(const struct image_setup *setups);

#endif
