/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the files of driver vmdk share: an open image, its extents, and the cache of their grain tables. */
/*
 * Source: VMware, Virtual Disk Format 5.0 (Technical Note, 2011); for what it leaves out (COWD and seSparse
 * extents) what such files hold.
 *
 * Theory of operation
 *
 * A descriptor, a piece of text, lists extents: pieces of the disk, one behind the other, each kept in a file
 * of its own, or all in the file that the descriptor is embedded in. A flat extent is plain bytes. A sparse
 * one is cut into grains, and a directory of tables says where in its file each grain is:
 *
 *     header | descriptor | redundant directory, tables | directory, tables | grains ...
 *
 * An entry of a table is 0 (the grain is as in the backing file, or zeroes), 1 (zeroes, where the header
 * allows that), or the sector of the grain.
 *
 * Locking. `lock` guards the tables in memory, `next`, and the claims. Bytes are moved outside it. Grains
 * that are being given a place are claimed meanwhile: who writes to them waits, who reads them sees what was
 * there before; their entries are set when their bytes are written.
 *
 * Place. New grains go to the end of the file, those of one write side by side. What lies behind the end of a
 * growable file reads as zeroes once the file has grown over it, so only the last bytes of a grain are
 * written when it is new and covered in part, and only where the file would end before them.
 *
 * Durability. Entries live in memory and reach the file at a flush, which first makes the grains durable,
 * then writes the tables' sectors that were changed before that (the redundant ones first), then makes those
 * durable. So whatever an entry in the file names is there. A cut before that leaves grains that no entry
 * names: leaks. A flush that has more tables than its buffer takes goes round again.
 */
#ifndef HOSTEL_BLOCK_VMDK_H
#define HOSTEL_BLOCK_VMDK_H

#include "base/bits.h"
#include "block/block.h"
#include "block/cursor.h"
#include "block/format/vmdk/descriptor.h"
#include "block/image.h"

enum {
    VMDK_MAGIC = 0x564d444b, /* "KDMV" */
    VMDK_COWD_MAGIC = 0x44574f43,
    VMDK_HEADER_SIZE = 512,
    VMDK_CLAIMS = 64,
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

/* A table in memory, as it is in the file; NULL = not read yet. pins: claims that will change it, so it must
 * stay. */
struct vmdk_table {
    void *entries;
    uint32_t pins;
    bool dirty;
};

struct vmdk_extent {
    enum vmdk_kind kind;
    struct disk *file; /* NULL for VMDK_ZERO */
    bool owned;        /* the file; else it is the image's */
    char *name;
    uint64_t start, size; /* of the disk, bytes */
    uint64_t flat;        /* VMDK_FLAT: where it begins in the file, bytes */

    /* of sparse ones */
    uint32_t flags, version, grain; /* grain: bytes */
    uint32_t entries, entry_size;   /* of a table; bytes of an entry */
    uint32_t tables_n, tables_held; /* held: in memory */
    uint64_t *gd, *rgd;             /* where each table is in the file, bytes, 0 = nowhere; rgd or NULL */
    uint64_t gd_at, rgd_at;         /* of the directories in the file, bytes */
    struct vmdk_table *tables;
    uint64_t begin;       /* where grains can be, bytes; seSparse: where they are counted from */
    uint64_t next;        /* where the next one goes, bytes */
    bool unclean, at_end; /* at_end: a stream with a footer */
};

/* Grains that are being given a place: bytes of the disk. */
struct vmdk_claim {
    uint64_t from, to;
};

struct vmdk {
    struct disk disk;
    struct disk *base; /* owned, or NULL */
    struct vmdk_descriptor descriptor;
    uint64_t descriptor_at, descriptor_room; /* in the image's file, bytes */
    struct vmdk_extent *extents;
    unsigned extents_n;
    bool stream;            /* one extent, compressed */
    bool begun, sealed;     /* streams: something was written; nothing will be */
    _Atomic bool cid_fresh; /* was changed since it was opened */
    pthread_mutex_t lock;
    pthread_cond_t released;
    struct vmdk_claim claims[VMDK_CLAIMS];
    unsigned claims_n;
    uint8_t *batch; /* of a flush; see tables.c */
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

/* --- tables.c; the lock is held --- */

enum vmdk_state { VMDK_BELOW, VMDK_ZEROES, VMDK_DATA, VMDK_PACKED };

/* How the first bytes of a range are kept. */
struct vmdk_run {
    enum vmdk_state state;
    uint64_t place; /* DATA: of the first byte; PACKED: of the grain it is in; in the extent's file */
    uint64_t size;
};

/* From at on (bytes in the extent), at most size. wait false: -EAGAIN when the storage would have to be
 * asked. */
int vmdk_map(struct vmdk_extent *e, uint64_t at, uint64_t size, bool wait, struct vmdk_run *run);

/* The table of one index, read if need be: NULL in *table where there is none. */
int vmdk_table(struct vmdk_extent *e, uint32_t index, bool wait, uint8_t **table);

/* Entries of n grains become place, place + grain, ...; or all 1 (zeroes) when place is 1. Their tables are
 * pinned. */
void vmdk_set(struct vmdk_extent *e, uint64_t first, uint64_t n, uint64_t place);

/* Makes the tables of n grains present in the file and in memory, pinned unless it fails; and lets them go.
 */
int vmdk_pin(struct vmdk_extent *e, uint64_t first, uint64_t n);
void vmdk_unpin(struct vmdk_extent *e, uint64_t first, uint64_t n);

/* --- tables.c; without the lock --- */

enum { VMDK_BATCH = 1 << 20 };
int vmdk_flush(struct disk *b);
/* Is there so much in memory that it should be flushed before more is written? */
bool vmdk_full(struct vmdk *v);

/* Reads what may lie behind the end of a file that was cut short, which is zeroes. */
int vmdk_read_file(struct disk *file, const struct iovec *iov, unsigned n, uint64_t place, uint64_t size,
                   unsigned flags);

/* --- stream.c --- */

int vmdk_read_packed(struct vmdk *v, struct vmdk_extent *e, struct block_cursor *c, uint64_t at,
                     uint64_t size, uint64_t place);
int vmdk_write_compressed(struct disk *b, const void *bytes, uint64_t offset, uint64_t size);
int vmdk_seal(struct disk *b);
/* Writes what ends a stream: the tables of e that are in memory, the directory, the footer; from e->next on.
 */
int vmdk_end_stream(struct vmdk_extent *e, const struct vmdk_header *header);

/* --- create.c --- */

bool vmdk_create(const struct block_create *c, GError **error);
bool vmdk_measure(const struct block_create *c, struct disk *source, struct block_measure *out,
                  GError **error);

/* --- check.c --- */

bool vmdk_check(struct disk *b, unsigned fix, struct block_check *check, GError **error);

/* --- resize.c --- */

int vmdk_resize(struct disk *b, uint64_t size);

#endif
