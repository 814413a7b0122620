/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The data path of formats whose tables of two levels say where each grain (cluster) of the disk is. */
/*
 * Theory of operation
 *
 * vmdk and qed are alike but for their headers: a directory names tables, and an entry of a table is 0 (the
 * grain is as in the backing file, or zeroes), 1 (zeroes, where the image may say that), or the place of the
 * grain. A disk is made of one extent or several, one behind the other; one may be plain bytes, too.
 *
 * Locking. `lock` guards the tables in memory, `next`, and the claims. Bytes are moved outside it. Grains
 * that are being given a place are claimed meanwhile: who writes to them waits, who reads them sees what was
 * there before; their entries are set when their bytes are written.
 *
 * Place. New grains go to the end of the file, those of one write side by side. What lies behind the end of a
 * growable file reads as zeroes once the file has grown over it, so only the last bytes of a grain are
 * written when it is new and covered in part, and only where the file would end before them. Grains keep
 * their place: discards and zeroes make holes of the file there.
 *
 * Durability. Entries live in memory and reach the file at a flush, which first makes the grains durable,
 * then writes the tables' sectors that were changed before that (the redundant ones first), then makes those
 * durable. So whatever an entry in the file names is there. A cut before that leaves grains that no entry
 * names: leaks. A flush that has more than its buffer takes goes round again.
 */
#ifndef HOSTEL_BLOCK_FORMAT_GRAINS_H
#define HOSTEL_BLOCK_FORMAT_GRAINS_H

#include "base/bits.h"
#include "block/block.h"
#include "block/cursor.h"
#include "block/image.h"

/* How an extent's bytes are found. */
enum grains_kind {
    GRAINS_FLAT,     /* plain bytes */
    GRAINS_ZERO,     /* all zero, without a file */
    GRAINS_SPARSE,   /* entries of 4 bytes, in sectors */
    GRAINS_COWD,     /* as that; only read */
    GRAINS_SESPARSE, /* entries of 8 bytes, as seSparse has them; only read */
    GRAINS_BYTES,    /* entries of 8 bytes, in bytes */
};

enum {
    GRAINS_CLAIMS = 64,
    GRAINS_BATCH = 1 << 20,
    GRAINS_HELD = 32 * 1024 * 1024, /* bytes of tables in memory; more of them are read again */
};

/* A table in memory, as it is in the file; NULL = not read yet. pins: claims that will change it, so it must
 * stay. dirty: bytes of it, whole sectors, that are not in the file as they are; from == to = none. */
struct grains_table {
    void *entries;
    uint32_t pins, dirty_from, dirty_to;
};

struct grains_extent {
    enum grains_kind kind;
    struct disk *file; /* NULL for GRAINS_ZERO */
    bool owned;        /* the file; else it is the image's */
    char *name;
    uint64_t start, size; /* of the disk, bytes */
    uint64_t flat;        /* GRAINS_FLAT: where it begins in the file, bytes */

    /* of those with tables */
    bool packed, zero_entries;      /* grains are compressed; 1 means zeroes */
    bool marked;                    /* vmdk: packed grains lie behind a marker */
    uint32_t grain;                 /* bytes; a power of two */
    uint32_t entries, entry_size;   /* of a table; bytes of an entry */
    uint32_t tables_n, tables_held; /* held: in memory */
    uint32_t held_max;              /* so many at most, but for those that are pinned or dirty */
    uint64_t *gd, *rgd;             /* where each table is in the file, bytes, 0 = nowhere; rgd or NULL */
    uint64_t gd_at, rgd_at;         /* of the directories in the file, bytes */
    uint64_t directory_size;        /* of what is taken for one there, if it is more than needed, bytes */
    struct grains_table *tables;
    uint64_t begin; /* where grains can be, bytes; seSparse: where they are counted from */
    uint64_t next;  /* where the next one goes, bytes */
    uint64_t limit; /* none ends behind it, bytes */
};

/* Grains that are being given a place: bytes of the disk. */
struct grains_claim {
    uint64_t from, to;
};

struct grains;

/* What differs from format to format; each may be NULL. */
struct grains_ops {
    int (*begin)(struct grains *g); /* before the first change; the lock is held */
    int (*read_packed)(struct grains *g, struct grains_extent *e, struct block_cursor *c, uint64_t at,
                       uint64_t size, uint64_t place);
    /* Is it that grain which lies at place, packed? */
    bool (*is_packed)(const struct grains_extent *e, uint64_t grain, uint64_t place);
};

struct grains {
    const struct grains_ops *ops;
    struct disk *disk; /* whose part it is */
    struct disk *base; /* owned, or NULL */
    struct grains_extent *extents;
    unsigned extents_n;
    _Atomic bool begun; /* something was changed since it was opened */
    pthread_mutex_t lock;
    pthread_cond_t released;
    struct grains_claim claims[GRAINS_CLAIMS];
    unsigned claims_n;
    uint8_t *batch; /* of a flush */
};

/* extents and base are set; facts but for the size become what they make of them. */
void grains_init(struct grains *g, const struct grains_ops *ops, struct disk *disk);
/* Frees extents and base; after init or without. */
void grains_fini(struct grains *g);

/* For drivers, whose functions of these names do little else. */
int grains_read(struct grains *g, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags);
int grains_write(struct grains *g, const struct iovec *iov, unsigned n, uint64_t offset);
int grains_flush(struct grains *g);
int grains_discard(struct grains *g, uint64_t offset, uint64_t size);
int grains_zero(struct grains *g, uint64_t offset, uint64_t size, unsigned flags);
int grains_extent(struct grains *g, uint64_t offset, uint64_t size, struct block_extent *extent);

/* Calls ops.begin when nothing was changed so far. */
int grains_begin(struct grains *g);

/* --- tables; the lock is held, or nothing else is under way --- */

enum grains_state { GRAINS_BELOW, GRAINS_ZEROES, GRAINS_DATA, GRAINS_PACKED };

/* How the first bytes of a range are kept. */
struct grains_run {
    enum grains_state state;
    uint64_t place; /* DATA: of the first byte; PACKED: of the grain it is in; in the extent's file */
    uint64_t size;
};

/* Where grains can go, from what the file or the entries say: sets next. False: the tables cannot be read. */
bool grains_find_end(struct grains_extent *e);

/* From at on (bytes in the extent), at most size. wait false: -EAGAIN when the storage would have to be
 * asked. */
int grains_map(struct grains_extent *e, uint64_t at, uint64_t size, bool wait, struct grains_run *run);

/* The table of one index, read if need be: NULL in *table where there is none. */
int grains_table(struct grains_extent *e, uint32_t index, bool wait, uint8_t **table);

/* The number in an entry, as a place in bytes; 1 stays 1. Not for seSparse. */
uint64_t grains_entry(const struct grains_extent *e, const uint8_t *table, uint32_t i);

/* Entries of n grains become place, place + grain, ...; or all 1 (zeroes), or 0, when place is that. Their
 * tables are pinned. */
void grains_set(struct grains_extent *e, uint64_t first, uint64_t n, uint64_t place);

/* Makes the tables of n grains present in the file and in memory, pinned unless it fails; and lets them go.
 */
int grains_pin(struct grains_extent *e, uint64_t first, uint64_t n);
void grains_unpin(struct grains_extent *e, uint64_t first, uint64_t n);

/* All of the table is to be written. */
void grains_dirty(struct grains_extent *e, uint32_t index);

/* Room in memory for n tables, none of the new ones in the file; zeroes behind the end of the last grain.
 * Before an extent grows. */
int grains_more(struct grains_extent *e, uint32_t n);
int grains_clear_tail(struct grains_extent *e);

/* --- without the lock --- */

/* Is there so much in memory that it should be flushed before more is written? */
bool grains_full(struct grains *g);

/* Zeroes at a place where nothing was yet; last: up to where the file has to reach. */
int grains_clear(struct grains_extent *e, uint64_t size, uint64_t place, bool last);

/* block_image's check, but that only those fixes are tried that the disk may be written for. */
bool grains_check(struct grains *g, unsigned fix, struct block_check *check, GError **error);

#endif
