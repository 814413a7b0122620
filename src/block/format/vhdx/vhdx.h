/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the files of format vhdx share: [MS-VHDX] 8.0 as it is on disk, and an open image. */
#ifndef HOSTEL_BLOCK_FORMAT_VHDX_VHDX_H
#define HOSTEL_BLOCK_FORMAT_VHDX_VHDX_H

#include "base/bits.h"
#include "block/format/places.h"

#define VHDX_UNIT MiB /* all places and lengths of what the file holds are multiples of it */
enum {
    VHDX_PAGE = 4096, /* of the log */
    VHDX_HEADER_AT = 64 * 1024,
    VHDX_REGIONS_AT = 192 * 1024,
    VHDX_TABLE = 64 * 1024, /* bytes of the region table, and of the metadata table */
    VHDX_ENTRIES_MAX = 2047,
    VHDX_LOG_MAX = 64 << 20,   /* of what must be replayed */
    VHDX_BLOCKS_MAX = 8 << 20, /* a table of 64 MiB */
    VHDX_PATCHES_MAX = 64 * 1024,
};
#define VHDX_SIZE_MAX (UINT64_C(64) << 40)
#define VHDX_CHUNK (UINT64_C(1) << 23) /* sectors that one bitmap block speaks of */

/* Little-endian, all of it. */
struct vhdx_guid {
    uint8_t bytes[16];
};

struct vhdx_header {
    char signature[4]; /* "head" */
    uint32_t checksum; /* of 4096 bytes, with this as 0 */
    uint64_t sequence;
    struct vhdx_guid file_write, data_write, log;
    uint16_t log_version, version;
    uint32_t log_length;
    uint64_t log_offset;
    uint8_t rest[4016];
} __attribute__((packed));
_Static_assert(sizeof(struct vhdx_header) == 4096, "2.2.2");

struct vhdx_region {
    struct vhdx_guid guid;
    uint64_t offset;
    uint32_t length, required;
} __attribute__((packed));
_Static_assert(sizeof(struct vhdx_region) == 32, "2.2.3.2");

struct vhdx_region_table {
    char signature[4]; /* "regi" */
    uint32_t checksum, count, reserved;
    struct vhdx_region entries[VHDX_ENTRIES_MAX];
    uint8_t rest[16];
} __attribute__((packed));
_Static_assert(sizeof(struct vhdx_region_table) == VHDX_TABLE, "2.2.3");

struct vhdx_item {
    struct vhdx_guid guid;
    uint32_t offset, length, flags, reserved;
} __attribute__((packed));
enum { VHDX_ITEM_USER = 1, VHDX_ITEM_DISK = 2, VHDX_ITEM_REQUIRED = 4 };

struct vhdx_metadata_table {
    char signature[8]; /* "metadata" */
    uint16_t reserved, count;
    uint32_t rest[5];
    struct vhdx_item entries[VHDX_ENTRIES_MAX];
} __attribute__((packed));
_Static_assert(sizeof(struct vhdx_metadata_table) == VHDX_TABLE, "2.6.1");

struct vhdx_log_entry {
    char signature[4];         /* "loge" */
    uint32_t checksum, length; /* of all of the entry */
    uint32_t tail;             /* where the oldest entry is that must be replayed */
    uint64_t sequence;
    uint32_t count, reserved; /* descriptors follow */
    struct vhdx_guid log;
    uint64_t flushed_size, last_size; /* of the file */
} __attribute__((packed));
_Static_assert(sizeof(struct vhdx_log_entry) == 64, "2.3.1.1");

struct vhdx_log_descriptor {
    char signature[4]; /* "zero", or "desc" */
    uint32_t trailing; /* "desc": the last 4 bytes of the page */
    uint64_t leading;  /* "desc": the first 8 bytes; "zero": how many */
    uint64_t offset, sequence;
} __attribute__((packed));
_Static_assert(sizeof(struct vhdx_log_descriptor) == 32, "2.3.1.2");

enum { VHDX_DATA_BYTES = 4084 };
struct vhdx_log_data {
    char signature[4]; /* "data" */
    uint32_t sequence_high;
    uint8_t bytes[VHDX_DATA_BYTES];
    uint32_t sequence_low;
} __attribute__((packed));
_Static_assert(sizeof(struct vhdx_log_data) == VHDX_PAGE, "2.3.1.4");

/* States of an entry of the BAT: bits 0 to 2; from bit 20 on is where, in MiB. */
enum vhdx_state {
    VHDX_NOT_PRESENT = 0,
    VHDX_UNDEFINED = 1,
    VHDX_ZERO = 2,
    VHDX_UNMAPPED = 3,
    VHDX_FULLY_PRESENT = 6,
    VHDX_PARTIALLY_PRESENT = 7,
    VHDX_BITMAP_PRESENT = 6,
};
#define VHDX_STATE(entry) ((entry)&7)
#define VHDX_PLACE(entry) ((entry) & ~(VHDX_UNIT - 1))

/* A range of the file. */
struct vhdx_range {
    uint64_t offset, length;
};

/* What the log would change, for those who only read. */
struct vhdx_patch {
    uint64_t offset, size;
    uint8_t *bytes; /* a page, owned; NULL = size zeroes */
};

struct vhdx {
    struct disk disk;
    struct places places;
    struct vhdx_header header; /* the current one */
    unsigned current;          /* which of the two that is */
    struct vhdx_range log, bat, metadata;
    GArray *patches;    /* of struct vhdx_patch; NULL = none */
    uint64_t file_size; /* as the log says it, when that is more */

    /* Metadata. */
    uint32_t sector, physical; /* bytes */
    bool leave_allocated, difference;
    uint32_t size_at;  /* of the item with the disk's size, in the region */
    char *parent;      /* as the image names it; owned; or NULL */
    char *linkage;     /* identifier of the parent's contents; owned; or NULL */
    uint64_t *bitmaps; /* entries of the bitmap blocks, one for each chunk */
    uint64_t chunks;

    /* Our own writing of the log; see log_write.c. */
    uint64_t log_at, log_sequence;
    uint64_t stable_size; /* of the file, at the last flush */
};

static inline struct vhdx *vhdx_of(struct disk *b)
{
    return (struct vhdx *)(void *)b;
}

static inline bool vhdx_guid_is(const struct vhdx_guid *a, const struct vhdx_guid *b)
{
    return !__builtin_memcmp(a, b, sizeof(*a));
}

extern const struct vhdx_guid vhdx_guid_null, vhdx_guid_bat, vhdx_guid_metadata;
extern const struct vhdx_guid vhdx_guid_file_parameters, vhdx_guid_disk_size, vhdx_guid_disk_id,
    vhdx_guid_logical, vhdx_guid_physical, vhdx_guid_parent, vhdx_guid_locator;

/* "2dc27766-..."; owned. And a random one: false when the host has none. */
char *vhdx_guid_text(const struct vhdx_guid *guid);
bool vhdx_guid_make(struct vhdx_guid *guid);

/* Of size bytes, of which those of the checksum (at +4) count as 0. */
uint32_t vhdx_checksum(const void *bytes, size_t size);

/* Reads the file as it is after the log; what is behind the end is zeroes. Any thread. */
int vhdx_read_meta(struct vhdx *v, void *bytes, uint64_t size, uint64_t offset);

/* header.c: which header is the current one; regions, after the log. False with *error. */
bool vhdx_read_header(struct vhdx *v, GError **error);
bool vhdx_read_regions(struct vhdx *v, GError **error);
/* Writes v->header, with the next number, over the other one, and makes it durable. */
int vhdx_write_header(struct vhdx *v);
/* Both copies of the region table, with the BAT elsewhere: 64 KiB at bytes. -EINVAL: is not on its first
 * page. */
int vhdx_move_bat(struct vhdx *v, const struct vhdx_range *bat, uint8_t *bytes);

/* log.c: what must be replayed is, into the file or into patches. */
bool vhdx_replay(struct vhdx *v, GError **error);

/* log_write.c: a page of the file that is to be changed. */
struct vhdx_page {
    uint64_t offset; /* in the file */
    const uint8_t *bytes;
};
int vhdx_log_begin(struct vhdx *v);
/* All of them or none, whatever happens; n at most vhdx_log_room(). What was written is durable when it
 * returns 0, but in the log only. */
int vhdx_log_write(struct vhdx *v, const struct vhdx_page *pages, unsigned n);
unsigned vhdx_log_room(const struct vhdx *v);
/* Nothing has to be replayed any more. */
int vhdx_log_end(struct vhdx *v);

/* metadata.c. */
bool vhdx_read_metadata(struct vhdx *v, GError **error);

/* bat.c: fills places; how many entries make no sense. */
extern const struct places_ops vhdx_places_ops;
int vhdx_load_bat(struct vhdx *v, uint64_t *damaged);
uint64_t vhdx_bat_entries(uint64_t blocks, uint32_t ratio, bool difference);
uint32_t vhdx_ratio(uint32_t sector, uint32_t block);

int vhdx_resize(struct disk *b, uint64_t size);
extern const struct block_image vhdx_image;

#endif
