/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The data path of formats with one flat table, which says for each block of the disk where the file has it.
 */
/*
 * Theory of operation
 *
 * vdi, vpc and vhdx are alike but for their headers: a disk of equal blocks, a table with an entry for each,
 * blocks that are in the file, are not, or are in part. `struct places` is what they share.
 *
 * The table is in memory as places (`live`), which any thread reads without a lock. A block that is written
 * for the first time is given a place under the lock: room that reads as zeroes is made in the file, then the
 * entry is set. From then on everybody reads and writes there, outside the lock; who wrote first does not
 * matter. Over a base this would show zeroes where the base's bytes belong, so there the data is written
 * before the entry is set, under the lock.
 *
 * Durability. Entries reach the file at a flush only: the pages of the table that changed are copied, then
 * all data is made durable, then the pages are written (vhdx: through its log), then those are made durable.
 * So at any moment at which the power may fail an entry in the file means that its block is there. What is
 * behind the last block that an entry names is nobody's: it is zeroed when it is given out.
 *
 * Space. A block that has a place keeps it; zeroes and discards make holes of the file there.
 */
#ifndef HOSTEL_BLOCK_FORMAT_PLACES_H
#define HOSTEL_BLOCK_FORMAT_PLACES_H

#include "block/image.h"

/* An entry is the offset of the block in the file, of which the low bits are 0, or PLACES_NONE; and one of:
 */
enum places_state {
    PLACES_ZERO = 1,    /* without a place: zeroes, whatever the base has */
    PLACES_PARTIAL = 2, /* some of its sectors are the base's: ops.here says which */
    PLACES_BAD = 4,     /* the file's entry makes no sense: -EIO */
    PLACES_STATES = 7,
};
#define PLACES_NONE UINT64_C(0) /* the base's, or zeroes */

enum { PLACES_PAGE = 4096 /* bytes of the table that are written at once */ };

struct places;

struct places_ops {
    /* The page's entries as the file has them, size bytes; the lock is held. */
    void (*encode)(struct places *p, uint64_t page, uint8_t *bytes, uint32_t size);
    /* Each of these is optional and gives 0 or -errno. The lock is held but for here and store. */
    int (*begin)(struct places *p); /* before the first change of the file */
    /* What lies before a block's data, and behind it: then the file ends behind the block, too. */
    int (*prepare)(struct places *p, uint64_t block, uint64_t at);
    int (*before)(struct places *p); /* what is made durable before entries */
    int (*store)(struct places *p, const uint64_t *pages, unsigned n, const uint8_t *bytes);
    /* How many of n sectors from `sector` on are alike in a partial block at `place`: here, or the base's. */
    int (*here)(struct places *p, uint64_t block, uint64_t place, uint32_t sector, uint32_t n, uint32_t *run,
                bool *here, unsigned flags);
};

struct places {
    const struct places_ops *ops;
    struct disk *disk; /* whose part it is */
    struct disk *file; /* disk->below */
    struct disk *base; /* owned; or NULL */
    uint64_t count;    /* of blocks */
    uint32_t block;    /* bytes; a power of two */
    uint32_t lead;     /* bytes before each block that belong to it */
    uint32_t step;     /* bytes from one new block to the next; lead + block at least */
    bool zero_state;   /* the file can say PLACES_ZERO */
    _Atomic uint64_t *live;

    uint64_t table;      /* where the file has it */
    uint64_t table_size; /* bytes */
    uint32_t entry_size; /* bytes */
    uint32_t ratio;      /* after so many entries comes one that is not of a block; 0 = never */
    bool *dirty;         /* for each page */

    pthread_mutex_t lock;
    uint64_t end;     /* where the next block will be */
    uint64_t known;   /* from end up to here the file is a hole that we made */
    uint64_t *spares; /* places inside the file that are nobody's */
    uint64_t spare_count;
    uint64_t limit; /* no block ends behind it */
    _Atomic bool begun, changed;
};

/* disk, file, ops, count, block, table_size, entry_size and ratio are set; -ENOMEM. All entries are none. */
int places_init(struct places *p);
void places_fini(struct places *p);

/* The entries were read with this status (-errno: false with *error). A disk of which some are damaged is not
 * written to: false, too, unless flags (of block_config) say that it is to be mended. */
bool places_loaded(const struct places *p, int status, uint64_t damaged, unsigned flags, GError **error);

/* More blocks, and a table elsewhere; nothing else is under way. -ENOMEM leaves it as it was. */
int places_grow(struct places *p, uint64_t count, uint64_t table_size);

/* The page of the table with the block's entry, and the entry's number. */
uint64_t places_entry(const struct places *p, uint64_t block);

static inline uint64_t places_get(const struct places *p, uint64_t block)
{
    return atomic_load_explicit(&p->live[block], memory_order_acquire);
}

/* The lock is held, or nothing else is under way. */
void places_set(struct places *p, uint64_t block, uint64_t entry);

/* For drivers, whose functions of these names do nothing else. */
int places_read(struct places *p, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags);
int places_write(struct places *p, const struct iovec *iov, unsigned n, uint64_t offset);
int places_flush(struct places *p);
int places_discard(struct places *p, uint64_t offset, uint64_t size);
int places_zero(struct places *p, uint64_t offset, uint64_t size, unsigned flags);
int places_extent(struct places *p, uint64_t offset, uint64_t size, struct block_extent *extent);

/* Gives back what the file was made longer than it need be. Nothing else is under way, all is flushed. */
void places_trim(struct places *p);

/* Calls ops.begin when nothing was changed so far; for what changes the file by other ways. */
int places_begin(struct places *p);

/* Reads the file; what is behind its end is zeroes. */
int places_read_file(struct places *p, void *bytes, uint64_t size, uint64_t offset);

/* image->resize of formats that change their size by block_resize() alone. */
bool places_image_resize(struct disk *b, uint64_t size, enum block_preallocation how, GError **error);

#endif
