/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Large files with holes, compressed by all processors and read at any place. */
/*
 * Theory of operation
 *
 * A packed file is in the seekable format of zstd (contrib/seekable_format of its sources): frames of zstd
 * one after the other, each of one chunk of the original, which can be unpacked alone, and behind them a
 * skippable frame with the sizes of all. So several threads pack and unpack at once, a reader who wants a few
 * bytes unpacks one chunk, and any `zstd -d` makes the original of it. Each frame has a checksum of its
 * chunk.
 *
 * What is read may be hostile. The table is checked against the file's length, and nothing is unpacked that
 * is not of the size that it says; that is known before the first frame is looked at, so whoever unpacks
 * decides how much is too much.
 */
#ifndef HOSTEL_CODEC_PACKED_H
#define HOSTEL_CODEC_PACKED_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

enum {
    PACKED_CHUNK = 1 << 20,      /* bytes of the original in a frame that we write, */
    PACKED_CHUNK_MAX = 4 << 20,  /* and in one that we read */
    PACKED_FRAMES_MAX = 8 << 20, /* of one file */
};

/* Can this Hostel do it at all? It was perhaps built without zstd. */
bool packed_available(void);

struct packed_work {
    unsigned threads;           /* to work with, at least 1 */
    int level;                  /* of packing, as zstd has them; COMPRESS_LEVEL_DEFAULT */
    const _Atomic bool *stop;   /* ends it with an error; or NULL */
    _Atomic uint64_t *progress; /* counts bytes of the original, holes too; or NULL */
};

/* Packs a regular file into another one, empty (both borrowed). Both are of whatever length they are then. */
bool packed_pack(int in, int out, const struct packed_work *work, GError **error);

/* --- reading --- */

/* Does it begin as one? */
bool packed_is(int fd);

struct packed;

/* Reads and checks the table of fd (borrowed). NULL with *error, which says where and why. */
struct packed *packed_open(int fd, GError **error);
void packed_free(struct packed *p); /* NULL is fine */
CLEANUP_DEFINE(packed, packed_free)

/* Of the original. */
uint64_t packed_size(const struct packed *p);

/* Reads all of it from the original; 0, -ENODATA when there is less, -EILSEQ when it is damaged, or another
 * -errno. One thread at a time. */
int packed_read(struct packed *p, void *bytes, size_t size, uint64_t at);

/* Did the last packed_read() fail but for the end? packed_fail() says where and why; false. */
bool packed_failed(const struct packed *p);
bool packed_fail(const struct packed *p, GError **error);

/* Makes the original in a file, empty (borrowed); pages of zeroes become holes. */
bool packed_unpack(struct packed *p, int out, const struct packed_work *work, GError **error);

#endif
