/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the files of format vpc share: Virtual Hard Disk Image Format Specification 1.0 as it is on disk. */
#ifndef HOSTEL_BLOCK_FORMAT_VPC_INT_H
#define HOSTEL_BLOCK_FORMAT_VPC_INT_H

#include "block/format/places.h"

enum {
    VPC_FIXED = 2,
    VPC_DYNAMIC = 3,
    VPC_DIFFERENCING = 4,
    VPC_VERSION = 0x00010000,
    VPC_BLOCK = 2 << 20,
    VPC_BLOCK_MIN = 4096,
    VPC_BLOCK_MAX = 1 << 28,
    VPC_ENTRIES_MAX = 1 << 24, /* a table of 64 MiB */
    VPC_LOCATORS = 8,
};
#define VPC_FREE UINT32_MAX
#define VPC_SECTORS_MAX UINT64_C(0xff000000)          /* entries are numbers of sectors, 32 bits */
#define VPC_GEOMETRY_MAX (UINT64_C(65535) * 16 * 255) /* sectors */
#define VPC_EPOCH INT64_C(946684800)                  /* 1 January 2000 */

/* Big-endian, all of it. At the end of the file; all but fixed images have a copy at its beginning. */
struct vpc_footer {
    char cookie[8];
    uint32_t features, version;
    uint64_t data_offset;
    uint32_t timestamp;
    char creator[4];
    uint32_t creator_version;
    char creator_os[4];
    uint64_t original_size, current_size;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t type, checksum;
    uint8_t id[16], saved;
    uint8_t rest[427];
} __attribute__((packed));
_Static_assert(sizeof(struct vpc_footer) == 512, "a sector");

struct vpc_locator {
    uint32_t platform, space, length, reserved;
    uint64_t offset;
} __attribute__((packed));

struct vpc_header {
    char cookie[8];
    uint64_t data_offset, table_offset;
    uint32_t version, entries, block_size, checksum;
    uint8_t parent_id[16];
    uint32_t parent_timestamp, reserved;
    uint8_t parent_name[512]; /* UTF-16, big-endian */
    struct vpc_locator locators[VPC_LOCATORS];
    uint8_t rest[256];
} __attribute__((packed));
_Static_assert(sizeof(struct vpc_header) == 1024, "two sectors");

struct vpc {
    struct disk disk;
    struct places places; /* all but fixed */
    struct vpc_footer footer;
    struct vpc_header header;
    bool fixed, difference;
    uint32_t bitmap; /* bytes, before each block */
    uint64_t data;   /* nothing of a block lies before */
    uint64_t tail; /* of the footer: where the last block ends, as others expect it; guarded by places.lock */
    uint8_t *parent; /* as the image names it; owned */
    _Atomic uint8_t
        *whole; /* differencing: 1 = the block's bitmap in the file is all ones, 2 = is to become so */
};

struct vpc *vpc_of(struct disk *b);

/* The sum of all bytes but the checksum's own, inverted. */
uint32_t vpc_checksum(const void *bytes, size_t size, size_t checksum_at);
bool vpc_footer_is_good(const struct vpc_footer *f);

/* The geometry of the appendix of the specification; sectors of the disk it makes. */
uint64_t vpc_geometry(uint64_t sectors, uint16_t *cylinders, uint8_t *heads, uint8_t *per_track);

/* Bytes of a block's bitmap. */
uint32_t vpc_bitmap_size(uint32_t block);

/* Where the first block, or the next one, goes: its data is to be aligned to pages. */
uint64_t vpc_align(uint64_t at, uint32_t bitmap);

/* What differencing images name as parent, UTF-8; NULL when nothing can be read. Owned. */
char *vpc_parent_name(struct vpc *v);

/* Of an entry of the table, in places' words. */
uint64_t vpc_judge(const struct vpc *v, uint32_t entry);
uint32_t vpc_entry(const struct vpc *v, uint64_t place);

extern const struct block_image vpc_image;

#endif
