/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is served: a window of a disk, under a name, with bitmaps that clients may ask for. */
#ifndef HOSTEL_BLOCK_SERVE_EXPORT_H
#define HOSTEL_BLOCK_SERVE_EXPORT_H

#include "block/block.h"

enum { NBD_BITMAPS_MAX = 15 };

/* Where a bitmap changes between clean and dirty: clean up to the first. It is read when serving begins,
 * since a bitmap is only served of a disk that does not change. */
struct nbd_bitmap {
    char *context;   /* "qemu:dirty-bitmap:NAME"; owned */
    GArray *changes; /* of uint64_t: offsets in the disk; owned */
};

struct nbd_export {
    struct disk *disk;              /* borrowed */
    const char *name, *description; /* borrowed; description: or NULL */
    uint64_t offset, size;          /* of the disk, bytes; multiples of its alignment */
    bool readonly;
    struct nbd_bitmap bitmaps[NBD_BITMAPS_MAX];
    unsigned n_bitmaps;
};

/* Checks the window: size 0 = to the end. */
bool nbd_export_init(struct nbd_export *e, GError **error);
void nbd_export_fini(struct nbd_export *e);

/* Adds one of the image that the disk is. */
bool nbd_export_add_bitmap(struct nbd_export *e, const char *name, GError **error);

/* Is the byte at offset of the export dirty? How many from there on are the same, at most size, in *same. */
bool nbd_bitmap_at(const struct nbd_export *e, const struct nbd_bitmap *bitmap, uint64_t offset,
                   uint64_t size, uint64_t *same);

#endif
