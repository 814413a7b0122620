/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Opens an image by its name, with what it refers to as far as that is allowed. */
/*
 * What an image refers to is whatever its last writer put there: a guest, or whoever sent it. Followed
 * blindly it makes any file of the host readable, as a backing file of format raw. So nothing is followed
 * unless whoever opens the image says how far.
 */
#ifndef HOSTEL_BLOCK_PATH_H
#define HOSTEL_BLOCK_PATH_H

#include "block/block.h"

enum { BLOCK_PATH_DEPTH = 16 /* images in a chain at most */ };

enum block_follow {
    BLOCK_FOLLOW_NONE,
    BLOCK_FOLLOW_FOLDER, /* files in the folder of the image that names them, or below, by no link out of it
                          */
    BLOCK_FOLLOW_ANY,    /* every file that we may read */
};

/* What to open; borrowed but for base and file. */
struct block_path {
    const char *name; /* a path */
    const struct block_driver
        *format; /* the format; "raw" and NULL: the file's bytes, whatever their number */
    bool readonly;
    unsigned flags; /* enum block_open_flags */
    enum block_follow follow;
    const char *snapshot; /* as in struct block_config, as are the rest */
    const void *options;
    const uint8_t *key;
    size_t key_size;
    struct disk *file, *base; /* taken */
    GPtrArray *chain;         /* gets a struct block_path_link for each backing file, in order; or NULL */

    /* Told of each file that is opened because an image refers to it, in the order of asking; fd is borrowed.
     * For handing them on: the files with the data of the first image can be written to if `writable` says
     * so, although the image itself is opened readonly. Or NULL. */
    void (*opened)(void *opaque, const char *reference, const char *name, int fd);
    void *opaque;
    bool writable;
};

/* One image that another one lies over. */
struct block_path_link {
    char *name;
    const struct block_driver *format;
};
void block_path_link_free(struct block_path_link *link);

/* Opens it. NULL with *error. */
struct disk *block_path_open(struct block_path *path, GError **error);

/* What an image called `name` means by `reference`: relative to the folder of name, unless it is absolute or
 * a URI. Owned by the caller. */
char *block_path_resolve(const char *name, const char *reference);

/* The format that the beginning of a file looks like; NULL when it looks like none. For advice and for
 * `hostel image info` alone: a guest can write whatever it likes there. */
const struct block_driver *block_path_looks_like(struct disk *file);

#endif
