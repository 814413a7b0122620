/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The files of an ext2, ext3 or ext4 file system on a disk, without mounting it. Only read. */
#ifndef HOSTEL_CLI_IMAGE_EXT_H
#define HOSTEL_CLI_IMAGE_EXT_H

#include "block/block.h"

struct ext;

struct ext_entry {
    const char *name; /* borrowed; as it is on the disk, hostile */
    uint32_t mode;    /* as in stat */
    uint32_t uid, gid, links;
    uint64_t size;   /* bytes */
    int64_t seconds; /* of the last change, since 1970 */
};

/* The file system in bytes [offset, offset + size) of b, borrowed. NULL with *error. */
struct ext *ext_open(struct disk *b, uint64_t offset, uint64_t size, GError **error);
void ext_free(struct ext *x);
CLEANUP_DEFINE(ext, ext_free)

/* Was it in use when the disk was left alone? Then its journal may hold newer contents, which are not seen.
 */
bool ext_dirty(const struct ext *x);

/* What path (from the root; links are followed, inside of the file system) is: a directory's entries but .
 * and .. go to each, another file's own. */
bool ext_list(struct ext *x, const char *path, void (*each)(void *opaque, const struct ext_entry *entry),
              void *opaque, GError **error);

/* The bytes of a regular file, in order, until take says no. */
bool ext_read(struct ext *x, const char *path,
              bool (*take)(void *opaque, const void *bytes, size_t size, GError **error), void *opaque,
              GError **error);

#endif
