/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is done with images beside reading and writing their disk: making, describing, checking, snapshots. */
/*
 * A format's row of drivers.def points to a struct block_image. Every operation in it but create and info is
 * optional; who calls one that is NULL tells people that the format has no such thing. They run on the
 * control path, one at a time for an image, with nothing else under way on its disk, and keep the promises of
 * the data path: when they return true the image is durable, when they fail or the host loses power it is as
 * before or has leaks at most.
 */
#ifndef HOSTEL_BLOCK_IMAGE_H
#define HOSTEL_BLOCK_IMAGE_H

#include <jansson.h>

#include "block/block.h"

/* A new image. All borrowed. */
struct block_create {
    const char *name;    /* for messages */
    struct disk *file;   /* an empty growable file, or a device */
    uint64_t size;       /* of the disk, bytes */
    const char *backing; /* what is written into the image, or NULL */
    const char *backing_format;
    const void *options;     /* values of create_options; NULL = the defaults */
    struct block_refs *refs; /* for more files; NULL = one must do */
    const uint8_t *key;      /* the passphrase of an encrypted one, key_size bytes; or NULL */
    size_t key_size;
};

/* What info tells. Strings and specific are owned by whoever called. */
struct block_image_info {
    uint32_t cluster;                           /* bytes; 0 = none */
    char *backing, *backing_format;             /* as the image has them; NULL = none */
    bool dirty, corrupt, encrypted, compressed; /* compressed: at least possible for what is there */
    json_t *specific; /* of the format: members as `qemu-img info` names them; NULL = none */
};
void block_image_info_clear(struct block_image_info *info);

/* One internal snapshot. */
struct block_snapshot {
    char *id, *name;
    uint64_t disk_size, vm_state_size; /* bytes */
    int64_t seconds;                   /* when, since 1970 */
    uint32_t nanoseconds;
    uint64_t vm_clock; /* ns the guest had run */
    uint64_t icount;   /* UINT64_MAX = not known */
};
void block_snapshot_free(struct block_snapshot *s);

/* One persistent bitmap of what changed. */
struct block_bitmap {
    char *name;
    uint32_t granularity; /* bytes */
    bool in_use, enabled; /* in_use: was not stored properly; enabled: notes writes */
};
void block_bitmap_free(struct block_bitmap *b);

enum block_fix { BLOCK_FIX_LEAKS = 1, BLOCK_FIX_ERRORS = 2 };

/* What a check found. Each line of report says what is wrong and where, without its end; any may be NULL. */
enum { BLOCK_CHECK_LINES = 10000 /* that are reported; the numbers count all */ };

struct block_check {
    void (*report)(void *opaque, const char *line);
    void *opaque;
    uint64_t said;                       /* lines */
    uint64_t corruptions, leaks, errors; /* errors: what could not be looked at */
    uint64_t corruptions_fixed, leaks_fixed;
    uint64_t clusters, allocated, fragmented, compressed; /* of the disk; in clusters */
    uint64_t end;                                         /* of what is used of the file, bytes */
};

/* What a new image would take. */
struct block_measure {
    uint64_t required, full; /* bytes: for what the source holds; when all of it is written */
};

enum block_preallocation {
    BLOCK_PREALLOC_OFF,
    BLOCK_PREALLOC_METADATA,
    BLOCK_PREALLOC_FALLOC,
    BLOCK_PREALLOC_FULL,
};

struct block_image {
    const struct option_row *create_options; /* ends with a NULL name; or NULL */
    size_t create_options_size;

    /* Does the beginning of a file (size bytes) look like this format? For `hostel image info` only. */
    bool (*looks_like)(const uint8_t *head, size_t size);
    bool (*create)(const struct block_create *c, GError **error);
    /* source: what would be copied into it, or NULL for an empty one. */
    bool (*measure)(const struct block_create *c, struct disk *source, struct block_measure *out,
                    GError **error);
    bool (*info)(struct disk *b, struct block_image_info *info, GError **error);
    /* fix: enum block_fix; the disk is open for writing then, with BLOCK_OPEN_REPAIR. True when it could
     * look, whatever it found. */
    bool (*check)(struct disk *b, unsigned fix, struct block_check *check, GError **error);
    /* As block_resize(), with room for what is new taken as said; tells what cannot be. */
    bool (*resize)(struct disk *b, uint64_t size, enum block_preallocation how, GError **error);
    /* Changes what is written in the image; NULL, NULL = no backing file. */
    bool (*set_backing)(struct disk *b, const char *backing, const char *format, GError **error);
    /* options: values of amend_options, which have no defaults: what is not given stays as it is. */
    const struct option_row *amend_options; /* ends with a NULL name */
    size_t amend_options_size;
    bool (*amend)(struct disk *b, const void *options, GError **error);
    /* Keeps nothing of its own any more: all of the disk is that of the backing file. */
    bool (*empty)(struct disk *b, GError **error);

    /* GPtrArray of struct block_snapshot, owned; NULL with *error. which: an id or a name. */
    GPtrArray *(*snapshots)(struct disk *b, GError **error);
    bool (*snapshot_create)(struct disk *b, const char *name, GError **error);
    /* The same, with what `s` says of name, vm_state_size and vm_clock. */
    bool (*snapshot_save)(struct disk *b, const struct block_snapshot *s, GError **error);
    bool (*snapshot_apply)(struct disk *b, const char *which, GError **error);
    bool (*snapshot_delete)(struct disk *b, const char *which, GError **error);

    /* A guest's state, kept beside the disk. Written for the next snapshot_save(), which gets it; then
     * cleared, as when nothing comes of it. Read of a snapshot that is there. 0 or -errno; nothing of it is
     * made durable by itself. */
    int (*vmstate_write)(struct disk *b, const void *bytes, size_t size, uint64_t offset);
    int (*vmstate_read)(struct disk *b, const char *which, void *bytes, size_t size, uint64_t offset);
    int (*vmstate_clear)(struct disk *b);

    /* GPtrArray of struct block_bitmap, owned; NULL with *error. */
    GPtrArray *(*bitmaps)(struct disk *b, GError **error);
    bool (*bitmap_add)(struct disk *b, const char *name, uint32_t granularity, bool enabled, GError **error);
    bool (*bitmap_remove)(struct disk *b, const char *name, GError **error);
    bool (*bitmap_clear)(struct disk *b, const char *name, GError **error);
    bool (*bitmap_enable)(struct disk *b, const char *name, bool enabled, GError **error);
    /* from is another image's disk of this format, or b itself. */
    bool (*bitmap_merge)(struct disk *b, const char *to, struct disk *from, const char *name, GError **error);
    /* Is the piece at offset marked? How far that goes, in *size (bytes, in: at most). For `map` and NBD. */
    bool (*bitmap_at)(struct disk *b, const char *name, uint64_t offset, uint64_t *size, bool *marked,
                      GError **error);
};

/* Reports one line of a check, if anybody listens and there were not too many. */
void block_check_say(struct block_check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A new random identifier (RFC 4122, version 4) in the order of bytes that vhdx and vdi have. False: the host
 * has no random numbers. */
bool block_image_id(uint8_t id[static 16]);

/* Bytes of the source that a copy with this cluster size would have to keep (not zero), whole clusters. */
int block_image_used(struct disk *source, uint32_t cluster, uint64_t *bytes);

#endif
