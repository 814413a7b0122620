/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Images that tests of crashes and faults try: a format with its options and the sizes that go with them. */
#ifndef HOSTEL_TESTS_BLOCK_IMAGES_H
#define HOSTEL_TESTS_BLOCK_IMAGES_H

#include "block/block.h"
#include "block/image.h"
#include "store.h"

struct image_setup {
    const char *name, *driver;
    const char *options;      /* of creation, as `-o` takes them; NULL = the defaults */
    uint64_t size, base_size; /* bytes; base_size 0 = lies over nothing */
    const char *qemu;         /* what qemu-img calls the format; NULL = it has no check for it */
    bool settles;             /* opening it for writing mends it first: qemu-img looks only then */
    bool appends; /* keeps no account of free places: what leaked before the end of the file stays */
};

/* Ends with a NULL name. */
extern const struct image_setup image_setups[];

/* Has this build the format, and can it make such images? */
bool image_can(const struct image_setup *setup);

/* The base's bytes: what image_stamp() says for IMAGE_BASE. */
enum { IMAGE_BASE = 0xfffffff0 };
struct store *image_base(const struct image_setup *setup);

/* A sector that says who wrote it and where. Those of odd writers can be compressed well. */
void image_stamp(uint8_t bytes[BLOCK_SECTOR], uint32_t writer, uint64_t sector);

/* A new image. */
struct store *image_make(const struct image_setup *setup);

/* Takes file. base: of image_base(), or NULL. */
struct disk *image_open(const struct image_setup *setup, struct disk *file, struct store *base,
                        unsigned flags, bool readonly, const char *snapshot, GError **error);

#endif
