/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the files of driver vmdk share: an open image, its extents, and the cache of their grain tables. */
/*
 * Source: VMware, Virtual Disk Format 5.0 (Technical Note, 2011); for what it leaves out (COWD and seSparse
 * extents) what such files hold.
 *
 * A descriptor, a piece of text, lists extents: pieces of the disk, one behind the other, each kept in a file
 * of its own, or all in the file that the descriptor is embedded in. A flat extent is plain bytes. A sparse
 * one is cut into grains, and a directory of tables says where in its file each grain is:
 *
 *     header | descriptor | redundant directory, tables | directory, tables | grains ...
 *
 * The data path is that of grains.h. Compressed grains are dealt with in stream.c.
 */
#ifndef HOSTEL_BLOCK_VMDK_H
#define HOSTEL_BLOCK_VMDK_H

#include "base/bits.h"
#include "block/format/grains.h"
#include "block/format/vmdk/descriptor.h"

enum {
    VMDK_MAGIC = 0x564d444b, /* "KDMV" */
    VMDK_COWD_MAGIC = 0x44574f43,
    VMDK_HEADER_SIZE = 512,
    VMDK_GRAIN_SECTORS = 128, /* of what we make: 64 KiB */
    VMDK_TABLE_ENTRIES = 512,
    VMDK_DESCRIPTOR_SECTORS = 20,
};
#define VMDK_GD_AT_END UINT64_MAX
#define VMDK_SPLIT (UINT64_C(2) * GiB) /* a piece of the split kinds */

enum vmdk_flag {
    VMDK_NEWLINES = 1, /* the bytes at check are those of the specification */
    VMDK_REDUNDANT = 2,
    VMDK_ZERO_GRAINS = 4,
    VMDK_COMPRESSED = 1 << 16,
    VMDK_MARKERS = 1 << 17,
};

/* The header of a sparse extent. Little-endian; unaligned as the specification has it. */
struct vmdk_header {
    uint32_t magic, version, flags;
    uint64_t capacity, grain, descriptor, descriptor_size; /* sectors */
    uint32_t entries;                                      /* of a table */
    uint64_t rgd, gd, overhead;                            /* sectors */
    uint8_t unclean;
    uint8_t check[4];
    uint16_t algorithm; /* 0 none, 1 deflate */
    uint8_t pad[433];
} __attribute__((packed));
_Static_assert(sizeof(struct vmdk_header) == VMDK_HEADER_SIZE, "one sector");
extern const uint8_t vmdk_newlines[4];

enum vmdk_marker_type { VMDK_MARK_END, VMDK_MARK_TABLE, VMDK_MARK_DIRECTORY, VMDK_MARK_FOOTER };

/* Before what a stream holds beside grains; of a grain only the first 12 bytes, and size is not 0. */
struct vmdk_marker {
    uint64_t value;
    uint32_t size, type;
    uint8_t pad[496];
} __attribute__((packed));
_Static_assert(sizeof(struct vmdk_marker) == BLOCK_SECTOR, "one sector");
enum { VMDK_GRAIN_MARKER = 12 };

struct vmdk {
    struct disk disk;
    struct grains grains;
    struct vmdk_descriptor descriptor;
    uint64_t descriptor_at, descriptor_room; /* in the image's file, bytes */
    bool unclean;                            /* an extent says so */
    bool second;         /* the directory is damaged; the redundant one was taken, for reading */
    bool stream, at_end; /* one extent, compressed; with a footer */
    bool begun, sealed;  /* of such: something was written; nothing will be */
};

extern const struct block_image vmdk_image;
extern const struct option_row vmdk_create_options[];

struct vmdk_options {
    const char *subformat, *adapter_type, *hwversion, *toolsversion;
    bool zeroed_grain, compat6;
};

static inline struct vmdk *vmdk_of(struct disk *b)
{
    return (struct vmdk *)(void *)b;
}

/* --- extent.c --- */

/* Opens what the image's file (v->disk.below) holds or lists. False with *error; vmdk_release() then, too. */
bool vmdk_open_extents(struct vmdk *v, struct block_config *config, GError **error);
void vmdk_release(struct vmdk *v);

/* --- stream.c --- */

int vmdk_read_packed(struct grains *g, struct grains_extent *e, struct block_cursor *c, uint64_t at,
                     uint64_t size, uint64_t place);
bool vmdk_is_packed(const struct grains_extent *e, uint64_t grain, uint64_t place);
int vmdk_write_compressed(struct disk *b, const void *bytes, uint64_t offset, uint64_t size);
int vmdk_seal(struct disk *b);
/* Writes what ends a stream: the tables of e that are in memory, the directory, the footer; from e->next on.
 */
int vmdk_end_stream(struct grains_extent *e, const struct vmdk_header *header);

/* --- create.c --- */

bool vmdk_create(const struct block_create *c, GError **error);
bool vmdk_measure(const struct block_create *c, struct disk *source, struct block_measure *out,
                  GError **error);

/* --- resize.c --- */

int vmdk_resize(struct disk *b, uint64_t size);

#endif
