/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the files about persistent bitmaps ask of each other. */
#ifndef HOSTEL_BLOCK_FORMAT_QCOW2_BITMAP_INT_H
#define HOSTEL_BLOCK_FORMAT_QCOW2_BITMAP_INT_H

#include "block/format/qcow2/qcow2_int.h"

#define QCOW2_BITMAP_IN_USE UINT32_C(1)
#define QCOW2_BITMAP_AUTO UINT32_C(2)
#define QCOW2_BITMAP_EXTRA_FINE UINT32_C(4) /* extra data that we do not know may be left alone */

enum {
    QCOW2_BITMAPS_MAX = 65535,
    QCOW2_BITMAP_NAME_MAX = 1023,
    QCOW2_BITMAP_BITS_MIN = 9, /* log2 of a granularity */
    QCOW2_BITMAP_BITS_MAX = 31,
    QCOW2_BITMAP_BITS_DEFAULT = 16,
    QCOW2_BITMAP_BYTES_MAX = 64 << 20, /* of one in memory; of all that note writes, four times that */
};

struct qcow2_bitmap {
    char *name;
    uint32_t flags; /* as in the file */
    uint8_t type, granularity_bits;
    uint8_t *extra;
    uint32_t extra_size;
    uint64_t table_offset;
    uint32_t table_size;    /* entries */
    uint64_t n_bits;        /* of the disk as it is */
    _Atomic uint64_t *bits; /* bit n is bit n % 64 of word n / 64; NULL = not in memory */
    bool usable;            /* consistent, and all that is said about it is understood */
    bool live;              /* usable, and notes writes */
    bool changed;           /* bits are not as in the file */
};

struct qcow2_bitmaps {
    pthread_mutex_t lock;  /* guards loading of bits, and noted becoming true */
    GPtrArray *all;        /* of struct qcow2_bitmap; owned */
    uint64_t offset, size; /* of the directory in the file */
    bool any;              /* one should note writes */
    _Atomic bool noted;    /* the file says that those are in use */
};

/* --- bitmap_dir.c --- */

/* Those of the image, without their bits. NULL with *error. An image without any has an empty list. */
struct qcow2_bitmaps *qcow2_bitmaps_read(struct qcow2 *q, GError **error);
void qcow2_bitmaps_clear(struct qcow2_bitmaps *s);
CLEANUP_DEFINE(qcow2_bitmaps, qcow2_bitmaps_clear)

/* Those of q, read when they were not. */
struct qcow2_bitmaps *qcow2_bitmaps_get(struct qcow2 *q, GError **error);

/* Whether the flag IN_USE would be set for it in the file now. */
bool qcow2_bitmap_spoiled(const struct qcow2_bitmap *m, bool noted);

/* The directory as bytes, padded to whole clusters; owned. *size: without the padding. */
uint8_t *qcow2_bitmaps_encode(struct qcow2 *q, const struct qcow2_bitmaps *s, bool noted, uint64_t *size,
                              uint64_t *room);

struct qcow2_bitmap *qcow2_bitmap_find(const struct qcow2_bitmaps *s, const char *name);
void qcow2_bitmap_free(struct qcow2_bitmap *m);
CLEANUP_DEFINE(qcow2_bitmap, qcow2_bitmap_free)
uint64_t qcow2_bitmap_bits_for(uint64_t size, unsigned granularity_bits);
uint64_t qcow2_bitmap_bytes(const struct qcow2_bitmap *m); /* of its data in the file */

/* --- bitmap_store.c --- */

/* Its table, as the host's numbers, checked; owned. */
int qcow2_bitmap_table(struct qcow2 *q, const struct qcow2_bitmap *m, uint64_t **table);
/* Makes sure that its bits are in memory. Any thread. */
int qcow2_bitmap_load(struct qcow2 *q, struct qcow2_bitmaps *s, struct qcow2_bitmap *m);
/* Bits that are changed and the directory go to new places, the header turns to them, the old ones are given
 * back. gone: one that was removed from the list; or NULL. */
int qcow2_bitmaps_commit(struct qcow2 *q, struct qcow2_bitmaps *s, const struct qcow2_bitmap *gone);
/* Marks the range in one whose bits are in memory. */
void qcow2_bitmap_mark(struct qcow2_bitmap *m, uint64_t offset, uint64_t size);

/* --- bitmap.c --- */

/* Sets the hooks, and whether there is anything to note. */
void qcow2_bitmaps_hook(struct qcow2 *q);

#endif
