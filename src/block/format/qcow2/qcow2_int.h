/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Inside of the qcow2 format: what is on the disk, what is in memory, and what its files ask of each other.
 */
/*
 * Source: the qcow2 specification (docs/interop/qcow2 of QEMU). Numbers in an image are big-endian; in memory
 * they are the host's, but for L2 tables and refcount blocks, which are kept as they are in the file.
 *
 * Which file does what:
 *   header.c    the first cluster: read, checked, written, its extensions
 *   table.c     L2 tables and refcount blocks in memory; when memory and clusters may be used again
 *   refcount.c  how often each cluster is referred to
 *   alloc.c     giving clusters out and taking them back; claims of those who are about to fill some
 *   sync.c      the order in which all this reaches the file
 *   map.c       from the guest's offsets to the file's, and the entries that say so
 *   io.c        the operations
 *   compressed.c, create.c, resize.c, info.c, check.c, repair.c, open.c
 *
 * Locks, in the order in which they are taken:
 *   sync_lock   one sync at a time
 *   meta        refcounts, allocation, claims, pending frees, changes of L1 and of L2 entries, the header
 *   load        which tables are in memory (struct qcow2_cache)
 * Whoever only looks up where something is takes none of them, see table.c.
 */
#ifndef HOSTEL_BLOCK_FORMAT_QCOW2_INT_H
#define HOSTEL_BLOCK_FORMAT_QCOW2_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/bits.h"
#include "block/block.h"
#include "block/format/luks.h"
#include "block/image.h"

/* --- limits --- */

enum {
    QCOW2_CLUSTER_BITS_MIN = 9,
    QCOW2_CLUSTER_BITS_MAX = 21,
    QCOW2_CLUSTER_BITS_DEFAULT = 16,
    QCOW2_L1_BYTES_MAX = 32 << 20,
    QCOW2_REFTABLE_BYTES_MAX = 8 << 20,
    QCOW2_SNAPSHOTS_MAX = 65536,
    QCOW2_BACKING_MAX = 1023,
    QCOW2_SUBCLUSTERS = 32,
    QCOW2_SUBCLUSTER_BITS = 5,
    QCOW2_CHUNKS = 64, /* a table's changes are noted for so many parts of it */
};

/* --- on the disk --- */

#define QCOW2_MAGIC UINT32_C(0x514649fb) /* "QFI", 0xfb */

/* The fixed part of the first cluster. Version 2 has the first 72 bytes. Big-endian. */
struct qcow2_disk_header {
    uint32_t magic, version;
    uint64_t backing_offset;
    uint32_t backing_size, cluster_bits;
    uint64_t size;
    uint32_t crypt_method, l1_size;
    uint64_t l1_offset, reftable_offset;
    uint32_t reftable_clusters, n_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order, header_length;
    uint8_t compression, padding[7];
};
_Static_assert(sizeof(struct qcow2_disk_header) == 112, "no padding");

enum { QCOW2_HEADER_V2 = 72, QCOW2_HEADER_V3 = 104 /* at least */ };

#define QCOW2_INCOMPATIBLE_DIRTY BIT(0)
#define QCOW2_INCOMPATIBLE_CORRUPT BIT(1)
#define QCOW2_INCOMPATIBLE_DATA_FILE BIT(2)
#define QCOW2_INCOMPATIBLE_COMPRESSION BIT(3)
#define QCOW2_INCOMPATIBLE_EXTENDED_L2 BIT(4)
#define QCOW2_INCOMPATIBLE_KNOWN (BIT(5) - 1)
#define QCOW2_COMPATIBLE_LAZY BIT(0)
#define QCOW2_AUTOCLEAR_BITMAPS BIT(0)
#define QCOW2_AUTOCLEAR_RAW BIT(1)

enum qcow2_crypt { QCOW2_CRYPT_NONE, QCOW2_CRYPT_AES, QCOW2_CRYPT_LUKS };
enum qcow2_compression { QCOW2_COMPRESSION_ZLIB, QCOW2_COMPRESSION_ZSTD };

enum qcow2_extension_type {
    QCOW2_EXTENSION_END = 0,
    QCOW2_EXTENSION_BACKING_FORMAT = 0xe2792aca,
    QCOW2_EXTENSION_FEATURES = 0x6803f857,
    QCOW2_EXTENSION_BITMAPS = 0x23852875,
    QCOW2_EXTENSION_CRYPTO = 0x0537be77,
    QCOW2_EXTENSION_DATA_FILE = 0x44415441,
};

/* Entries of L1 and L2 tables. */
#define QCOW2_COPIED BIT(63)
#define QCOW2_COMPRESSED BIT(62)
#define QCOW2_ZERO BIT(0)
#define QCOW2_OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define QCOW2_L1_RESERVED UINT64_C(0x7f000000000001ff)
#define QCOW2_L2_RESERVED UINT64_C(0x3f000000000001fe)
#define QCOW2_REFTABLE_RESERVED UINT64_C(0x1ff)

/* --- the header in memory --- */

struct qcow2_extension {
    uint32_t type, size; /* size: of bytes, without the padding */
    uint8_t *bytes;      /* owned */
};

struct qcow2_header {
    uint32_t version, cluster_bits, crypt_method, l1_size, reftable_clusters, n_snapshots;
    uint32_t refcount_order, header_length;
    uint64_t size, l1_offset, reftable_offset, snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint8_t compression;
    uint8_t *more; /* of the fixed part behind what we know, header_length - 112 bytes, kept; owned */
    char *backing; /* NULL = none; owned; as long as the header says */
    struct qcow2_extension *extension; /* all, in their order, without the end; owned */
    unsigned n_extensions;
};

/* --- tables in memory (table.c) --- */

/* One cluster of the file that is an L2 table or a refcount block. */
struct qcow2_table {
    uint64_t place;           /* in the file, bytes; meta */
    uint64_t index;           /* of its entry in L1 or in the refcount table */
    uint64_t dirty;           /* a bit for each chunk that the file does not have yet; meta and load */
    unsigned pins;            /* must stay in memory; load */
    _Atomic bool used;        /* lately */
    _Atomic unsigned changes; /* odd: an extended entry is being changed; see qcow2_entry_read() */
    uint64_t retired;         /* epoch in which it was taken out of the cache */
    struct qcow2_table *next; /* of those that wait for readers */
    _Atomic uint64_t word[];  /* as in the file */
};

static inline void *qcow2_table_bytes(struct qcow2_table *t)
{
    return (void *)(uintptr_t)t->word;
}

struct qcow2_cache {
    pthread_mutex_t load;
    _Atomic(struct qcow2_table *) *slot; /* by index; NULL = not in memory */
    struct qcow2_table **all;            /* those in memory, in no order */
    uint64_t slots;
    unsigned count, limit, room, hand; /* tables */
    struct qcow2_table *waiting;       /* taken out; somebody may still look at them */
};

/* Readers of what may be taken away: see table.c. */
struct qcow2_epochs {
    _Atomic uint64_t now;
    _Atomic unsigned inside[2]; /* operations that began in an even, odd epoch */
};

/* --- clusters that come and go (alloc.c) --- */

/* Clusters whose references were taken away: one less each when the file knows. */
struct qcow2_free {
    uint64_t cluster, count;
    bool discard; /* the host may have the room when nothing refers to it any more */
};

struct qcow2_frees {
    struct qcow2_free *item;
    size_t count, room;
    uint64_t epoch; /* of those that wait for readers */
};

#define QCOW2_OWNED_GONE BIT(63)

/* Somebody is filling guest clusters [first, last] and will link them. On that thread's stack. */
struct qcow2_claim {
    uint64_t first, last;
    struct qcow2_claim *next;
};

/* Clusters that must never be given out, written as data, or given back as such: L2 tables and refcount
 * blocks. A set, and a small filter in front of it that is looked at without a lock. */
struct qcow2_owned {
    uint64_t *slot; /* cluster numbers; with QCOW2_OWNED_GONE of what is none any more; 0 = empty */
    size_t count, room;
    uint64_t clash; /* found when the set was made: metadata in two roles, the cluster's number; 0 = none */
    _Atomic uint64_t filter[1024];
};

/* --- the disk --- */

struct qcow2_staged;

struct qcow2 {
    struct disk disk;
    struct disk *file; /* disk.below */
    struct disk *data; /* where data clusters are: file, or the external data file, which is owned */
    struct disk *base; /* owned; or NULL */

    /* Constant while open. */
    unsigned cluster_bits, l2_bits /* log2 of an L2 table's entries */, refcount_order;
    unsigned unit_bits;   /* log2 of what is mapped by itself: a cluster, or a subcluster */
    unsigned block_bits;  /* log2 of a refcount block's entries */
    unsigned entry_words; /* of an L2 entry: 1, or 2 with extended L2 */
    uint32_t cluster;     /* bytes */
    bool external;        /* data clusters are in an external data file, at the guest's offsets */
    bool fresh_ends;      /* what lies behind the file's end reads as zeroes once it is inside */
    bool opened;          /* header changes are for the open image */

    pthread_mutex_t sync_lock, meta;
    struct qcow2_header header;
    uint8_t sector[BLOCK_SECTOR]; /* the first of the file, as it is there */

    _Atomic uint64_t *l1; /* header.l1_size entries */
    uint64_t *l1_dirty;   /* a bit for each sector of it */
    uint64_t *reftable;   /* reftable_entries */
    uint64_t *reftable_dirty;
    uint64_t reftable_entries;
    bool l1_changed, reftable_changed;

    struct qcow2_cache l2, blocks;
    struct qcow2_epochs epochs;

    uint64_t cursor;            /* no cluster below is free */
    uint64_t fresh_from;        /* clusters from here on were never used: cluster number */
    uint64_t packed_at;         /* where the next compressed cluster may go, bytes; 0 = into a new cluster */
    struct qcow2_frees pending; /* their references are gone in memory */
    struct qcow2_frees durable; /* and in the file: wait for readers */
    struct qcow2_claim *claims;
    pthread_cond_t claim_ended;
    struct qcow2_owned owned;
    struct qcow2_staged *staged; /* room of sync.c */

    _Atomic int failed; /* -errno: metadata could not be written in order; nothing is any more */
    bool lazy;          /* refcounts are written when the image is closed */

    /* Of an encrypted image (crypto.c): in place, whole sectors. guest, host: offset of the first byte. */
    struct qcow2_crypto *crypto; /* owned; NULL = not encrypted */
    int (*encrypt)(struct qcow2 *q, uint8_t *bytes, size_t size, uint64_t guest, uint64_t host);
    int (*decrypt)(struct qcow2 *q, uint8_t *bytes, size_t size, uint64_t guest, uint64_t host);
    void (*crypto_free)(struct qcow2 *q);

    struct qcow2_vmstate *vmstate; /* of a snapshot, while it is read (vmstate.c); owned; or NULL */

    /* Persistent bitmaps (bitmap.c): told of every change of the disk before it is made; on the thread that
     * makes it. store: at close and before the image is described; frees nothing. */
    struct qcow2_bitmaps *bitmaps;                                        /* owned; NULL = none is kept up */
    int (*bitmaps_mark)(struct qcow2 *q, uint64_t offset, uint64_t size); /* fails: do not change it */
    int (*bitmaps_store)(struct qcow2 *q);
    void (*bitmaps_free)(struct qcow2 *q);
};

static inline struct qcow2 *qcow2(struct disk *b)
{
    return (struct qcow2 *)(void *)b;
}

extern const struct block_driver block_driver_qcow2;

/* --- header.c --- */

/* The first cluster, checked. False with *error; *h is to be cleared in any case. */
bool qcow2_header_read(struct disk *file, struct qcow2_header *h, GError **error);
void qcow2_header_clear(struct qcow2_header *h);

/* NULL when it has none. */
struct qcow2_extension *qcow2_extension_find(struct qcow2_header *h, uint32_t type);
/* Sets, adds, or with bytes NULL takes away; bytes are copied. In memory only. */
void qcow2_extension_set(struct qcow2_header *h, uint32_t type, const void *bytes, uint32_t size);
char *qcow2_extension_text(struct qcow2_header *h, uint32_t type); /* owned by the caller; NULL = none */

/* The first cluster as bytes (1 << cluster_bits of them, zeroed). False when it does not fit. */
bool qcow2_header_encode(struct qcow2_header *h, uint8_t *bytes);

/* The whole header with extensions and backing name is written and made durable; what is not in the first
 * sector goes to where the old one has nothing, so that the sector switches at once. Control path. -ENOSPC
 * when it does not fit into a cluster. */
int qcow2_header_store(struct qcow2 *q);
/* Only the numbers of the fixed part have changed: one sector is written, and made durable. Holds meta. */
int qcow2_header_update_locked(struct qcow2 *q);
/* What feature bit `bit` of a kind (0 incompatible, 1 compatible, 2 autoclear) is called. Owned by caller. */
char *qcow2_feature_name(struct qcow2_header *h, unsigned kind, unsigned bit);

/* Marks the image as damaged (version 3), so that nobody writes to it; what: for the log. -EIO. */
int qcow2_corrupt_locked(struct qcow2 *q, const char *what, uint64_t where);

/* --- table.c --- */

bool qcow2_cache_init(struct qcow2_cache *c, uint64_t slots, uint32_t cluster, uint64_t bytes);
void qcow2_cache_fini(struct qcow2_cache *c);
/* For more slots; nothing else is under way. */
int qcow2_cache_grow(struct qcow2_cache *c, uint64_t slots);
/* Forgets all tables, changed or not; nothing else is under way. */
void qcow2_cache_drop(struct qcow2_cache *c);

/* The table at place, which slot index is for; read when it is not in memory. Pinned. make: it is new, and
 * all zeroes, and dirty. -EAGAIN when all are dirty: sync, then try again. */
int qcow2_table_get(struct qcow2 *q, struct qcow2_cache *c, uint64_t index, uint64_t place, bool make,
                    struct qcow2_table **out);
void qcow2_table_put(struct qcow2_cache *c, struct qcow2_table *t);
/* Bytes [from, from + size) of a pinned table have changed. Holds meta. */
void qcow2_table_dirty(struct qcow2 *q, struct qcow2_cache *c, struct qcow2_table *t, uint32_t from,
                       uint32_t size);
/* It is not a table any more. Holds meta. */
void qcow2_table_forget(struct qcow2 *q, struct qcow2_cache *c, uint64_t index);

/* Around everything that looks at places: until leave, no cluster or table seen is used for something else.
 * Returns what leave wants. */
unsigned qcow2_enter(struct qcow2 *q);
void qcow2_leave(struct qcow2 *q, unsigned epoch);
/* Moves time on when nobody is in the way; the epoch now. */
uint64_t qcow2_epoch_step(struct qcow2 *q);

/* n entries (8 bytes each) of a table in the file, as the host's numbers. */
int qcow2_numbers_load(struct disk *file, uint64_t offset, uint64_t *out, size_t n);
int qcow2_numbers_store(struct disk *file, uint64_t offset, const uint64_t *in, size_t n);

/* --- refcount.c; all hold meta --- */

int qcow2_refcount_get_locked(struct qcow2 *q, uint64_t cluster, uint64_t *value);
/* Adds to the refcounts of count clusters; -EINVAL when one would be below 0, -ERANGE when it does not fit
 * (then none has changed). Raising may make refcount blocks, lowering does not. */
int qcow2_refcount_add_locked(struct qcow2 *q, uint64_t cluster, uint64_t count, int64_t add);
/* Are this cluster and how many behind it (*run, at most count; all of one block) free, or not? */
int qcow2_refcount_scan_locked(struct qcow2 *q, uint64_t cluster, uint64_t count, bool *free, uint64_t *run);
uint64_t qcow2_refcount_max(const struct qcow2 *q);
uint64_t qcow2_refcount_load(const void *block, unsigned order, uint64_t index);
void qcow2_refcount_store(void *block, unsigned order, uint64_t index, uint64_t value);

/* --- alloc.c --- */

/* Up to `want` clusters in a row (at least one, or all with `whole`), with refcount 1; *got of them at
 * *cluster. *fresh: they were never used, and read as zeroes. */
int qcow2_alloc_locked(struct qcow2 *q, uint64_t want, bool whole, uint64_t *cluster, uint64_t *got,
                       bool *fresh);
/* Nothing has ever referred to them (or the file has forgotten it long ago). */
void qcow2_unalloc_locked(struct qcow2 *q, uint64_t cluster, uint64_t count);
/* A reference to each was taken away in memory; their refcounts follow when the file has that, too. */
void qcow2_free_locked(struct qcow2 *q, uint64_t cluster, uint64_t count, bool discard);
/* What an L2 entry refers to, if anything: as above. Was checked with qcow2_entry_check_locked(). */
void qcow2_free_entry_locked(struct qcow2 *q, uint64_t entry, bool discard);
/* Refcounts of what nobody looks at any more go down. all: nothing else is under way. */
void qcow2_reclaim_locked(struct qcow2 *q, bool all);

/* For whole-table users (snapshots, bitmaps): size bytes in a row, as clusters, *offset in the file; and
 * giving them back once what refers to them is gone from memory. Control path; take meta themselves. */
int qcow2_space_take(struct qcow2 *q, uint64_t size, uint64_t *offset);
void qcow2_space_free(struct qcow2 *q, uint64_t offset, uint64_t size);
/* Likewise before it is given back or shared: -EIO, and the image is damaged, when other metadata is there.
 */
int qcow2_space_check(struct qcow2 *q, uint64_t offset, uint64_t size);

/* Waits until nobody claims any of guest clusters [first, last]. */
void qcow2_claims_wait_locked(struct qcow2 *q, uint64_t first, uint64_t last);
/* How many clusters from first on nobody claims, at most count; 0 when first is claimed. */
uint64_t qcow2_claims_clear_locked(const struct qcow2 *q, uint64_t first, uint64_t count);
void qcow2_claim_locked(struct qcow2 *q, struct qcow2_claim *claim);
void qcow2_unclaim_locked(struct qcow2 *q, struct qcow2_claim *claim);

/* Which clusters are metadata. */
bool qcow2_owned_build(struct qcow2 *q); /* from L1 and the refcount table; false: no memory */
void qcow2_owned_add_locked(struct qcow2 *q, uint64_t cluster);
void qcow2_owned_gone_locked(struct qcow2 *q, uint64_t cluster); /* the disk has another L2 table now */
void qcow2_owned_watch_locked(struct qcow2 *q); /* the tables that the header names have moved */
bool qcow2_owned_has_locked(const struct qcow2 *q, uint64_t cluster, uint64_t count);
/* An L2 entry that is to lose what it refers to, or to share it. -EIO, and the image is damaged, when that is
 * metadata that has no other reference. */
int qcow2_entry_check_locked(struct qcow2 *q, uint64_t entry);
/* Without a lock: false is sure, true may be wrong. */
bool qcow2_owned_maybe(const struct qcow2 *q, uint64_t cluster);

/* --- sync.c --- */

/* All metadata and data written so far become durable, in an order that keeps the image right at any moment.
 * Takes sync_lock and meta. What fails stays failed. */
int qcow2_sync(struct qcow2 *q);
/* As when closing: also refcounts that were waiting. Nothing else is under way. */
int qcow2_sync_all(struct qcow2 *q);
/* Metadata that could not be written in order: nothing is any more. Keeps the first reason. */
int qcow2_fail(struct qcow2 *q, int status);
/* Refcount blocks and table. Holds meta. */
int qcow2_write_blocks_locked(struct qcow2 *q);
void qcow2_staged_free(struct qcow2_staged *s);
void qcow2_mark_bit(uint64_t *bits, uint64_t from, uint64_t size); /* bytes of a table -> its sectors' bits */

/* --- map.c --- */

enum qcow2_kind {
    QCOW2_KIND_NONE, /* as the base has it */
    QCOW2_KIND_ZERO,
    QCOW2_KIND_DATA,
    QCOW2_KIND_COMPRESSED, /* one cluster at a time */
};

struct qcow2_map {
    enum qcow2_kind kind;
    bool in_place;  /* DATA: nothing else refers to it, so it may be written */
    bool kept;      /* ZERO, and NONE of an extended entry: has a place all the same */
    uint64_t host;  /* DATA: of the first byte */
    uint64_t size;  /* bytes that are alike, at least 1 */
    uint64_t entry; /* of the first cluster */
};

/* Where the guest's bytes are. Inside qcow2_enter(). flags: BLOCK_NOWAIT. */
int qcow2_lookup(struct qcow2 *q, uint64_t guest, uint64_t size, unsigned flags, struct qcow2_map *map);

struct qcow2_entry {
    uint64_t entry, bitmap; /* bitmap: of extended entries: low half allocated, high half zero */
};
struct qcow2_entry qcow2_entry_read(const struct qcow2 *q, const struct qcow2_table *t, uint64_t index);
void qcow2_entry_write_locked(struct qcow2 *q, struct qcow2_table *t, uint64_t index, struct qcow2_entry e);
bool qcow2_entry_placed(const struct qcow2 *q, uint64_t entry); /* has a place of its own, uncompressed */
void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *size);

/* The L2 table of a guest offset, to be changed: made, or copied from a shared one. Pinned. -EAGAIN: sync and
 * try again. */
int qcow2_l2_writable_locked(struct qcow2 *q, uint64_t guest, struct qcow2_table **out);
/* To be read; *out NULL when there is none. Pinned. */
int qcow2_l2_readable(struct qcow2 *q, uint64_t guest, struct qcow2_table **out);
static inline uint64_t qcow2_l1_index(const struct qcow2 *q, uint64_t guest)
{
    return guest >> (q->cluster_bits + q->l2_bits);
}
static inline uint64_t qcow2_l2_index(const struct qcow2 *q, uint64_t guest)
{
    return (guest >> q->cluster_bits) & (BIT(q->l2_bits) - 1);
}
void qcow2_l1_set_locked(struct qcow2 *q, uint64_t index, uint64_t entry);
/* Could a cluster be there? Aligned, not the header, inside of what files can have. */
bool qcow2_offset_fits(const struct qcow2 *q, uint64_t offset);

/* --- io.c, compressed.c --- */

int qcow2_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags);
int qcow2_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset);
int qcow2_flush(struct disk *b);
int qcow2_discard(struct disk *b, uint64_t offset, uint64_t size);
int qcow2_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags);
int qcow2_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent);
/* One buffer at guest offsets, which may lie behind the disk's size (VM state, resize). */
int qcow2_pread(struct qcow2 *q, void *bytes, size_t size, uint64_t guest);
int qcow2_pwrite(struct qcow2 *q, const void *bytes, size_t size, uint64_t guest);
/* Written as data; -EOPNOTSUPP with BLOCK_ONLY_FAST. */
int qcow2_write_zeroes(struct qcow2 *q, uint64_t offset, uint64_t size, unsigned flags);
int qcow2_zero_range(struct qcow2 *q, uint64_t offset, uint64_t size, unsigned flags);
/* Whole clusters lose what they have; they read as the base then, or with `zero` as zeroes. */
int qcow2_drop_clusters(struct qcow2 *q, uint64_t offset, uint64_t size, bool zero, bool keep_place);

int qcow2_compressed_read(struct qcow2 *q, uint64_t entry,
                          void *cluster); /* unpacked into q->cluster bytes */
int qcow2_write_compressed(struct disk *b, const void *bytes, uint64_t offset, uint64_t size);

/* --- the rest --- */

/* For the length of an operation on a file that is borrowed: a disk that leaves it open when it is freed. */
struct disk *qcow2_lend(struct disk *below);

bool qcow2_open(struct disk *b, struct block_config *config, GError **error);
void qcow2_close(struct disk *b);
/* The refcount table; only who writes, or checks, needs it. */
bool qcow2_refcounts_load(struct qcow2 *q, GError **error);
/* Loads L1 and forgets L2 tables, after header.l1_* have changed. Nothing else is under way. */
int qcow2_l1_reload(struct qcow2 *q);
/* The same in two steps, of which only the first can fail: before and after the header has changed. */
struct qcow2_l1 {
    uint64_t *entry, *dirty; /* owned */
};
int qcow2_l1_prepare(struct qcow2 *q, uint64_t offset, uint32_t n, struct qcow2_l1 *l1);
void qcow2_l1_clear(struct qcow2_l1 *l1);
void qcow2_l1_adopt(struct qcow2 *q, struct qcow2_l1 *l1);

struct qcow2_create_options {
    uint64_t cluster_size;
    const char *compat;
    bool lazy_refcounts;
    unsigned refcount_bits;
    bool extended_l2;
    const char *data_file;
    bool data_file_raw;
    const char *compression_type;
    const char *preallocation;
    const char *encrypt_format; /* encrypt.format; the rest of its options: */
    struct luks_options encrypt;
};
extern const struct option_row qcow2_create_rows[];
bool qcow2_create(const struct block_create *c, GError **error);
bool qcow2_measure(const struct block_create *c, struct disk *source, struct block_measure *out,
                   GError **error);
bool qcow2_info(struct disk *b, struct block_image_info *info, GError **error);
bool qcow2_looks_like(const uint8_t *head, size_t size);
int qcow2_resize(struct disk *b, uint64_t size);
bool qcow2_image_resize(struct disk *b, uint64_t size, enum block_preallocation how, GError **error);
/* Guest range [from, to) gets places. */
int qcow2_preallocate(struct qcow2 *q, uint64_t from, uint64_t to, enum block_preallocation how);
bool qcow2_empty(struct disk *b, GError **error);
bool qcow2_set_backing(struct disk *b, const char *backing, const char *format, GError **error);
bool qcow2_check(struct disk *b, unsigned fix, struct block_check *check, GError **error);
/* Refcounts are made anew from what refers to what; the image was not closed properly. */
bool qcow2_rebuild(struct qcow2 *q, GError **error);

/* --- snapshot.c --- */

/* One row of the table of snapshots. */
struct qcow2_snapshot {
    uint64_t l1_offset;
    uint32_t l1_size; /* entries */
    char *id, *name;
    uint32_t seconds, nanoseconds;
    uint64_t vm_clock, vm_state_size, disk_size, icount; /* UINT64_MAX = the row does not say */
    uint8_t *extra;                                      /* all of it; owned */
    uint32_t extra_size;
};

/* The whole table, checked; of struct qcow2_snapshot, owned. *size: bytes of it in the file. NULL with
 * *error. */
GPtrArray *qcow2_snapshots_read(struct qcow2 *q, uint64_t *size, GError **error);
/* In open, after the header and before L1: the snapshot becomes what is read. */
bool qcow2_snapshot_enter(struct qcow2 *q, const char *which, GError **error);

GPtrArray *qcow2_snapshots(struct disk *b, GError **error);
bool qcow2_snapshot_create(struct disk *b, const char *name, GError **error);
bool qcow2_snapshot_save(struct disk *b, const struct block_snapshot *info, GError **error);
/* By id first, then by name; as many as there are: none. */
guint qcow2_snapshot_index(const GPtrArray *all, const char *which);
bool qcow2_snapshot_apply(struct disk *b, const char *which, GError **error);
bool qcow2_snapshot_delete(struct disk *b, const char *which, GError **error);

/* --- vmstate.c --- */

int qcow2_vmstate_write(struct disk *b, const void *bytes, size_t size, uint64_t offset);
int qcow2_vmstate_clear(struct disk *b);
int qcow2_vmstate_read(struct disk *b, const char *which, void *bytes, size_t size, uint64_t offset);
void qcow2_vmstate_forget(struct qcow2 *q);
/* resize.c: L1 has entries up to that guest offset; L2 tables behind the end of a disk of so many bytes,
 * which have nothing, are given back. Nothing else is under way. */
int qcow2_l1_grow(struct qcow2 *q, uint64_t end);
int qcow2_drop_tables(struct qcow2 *q, uint64_t size);

/* --- bitmap.c --- */

/* At the end of open: for writing, bitmaps that note writes are loaded, the hooks above set. */
bool qcow2_bitmaps_open(struct qcow2 *q, GError **error);
/* Every range of the file that bitmaps take (directory, tables, data), for check. False with *error when the
 * directory is damaged. */
bool qcow2_bitmaps_places(struct qcow2 *q,
                          void (*place)(void *opaque, uint64_t offset, uint64_t size, const char *what),
                          void *opaque, GError **error);
/* All bitmaps fit a disk of this size from now on. The caller has set header.size (in memory); the header is
 * stored with both. 0 without doing anything when there are none. */
int qcow2_bitmaps_resize(struct qcow2 *q, uint64_t size);
json_t *qcow2_bitmaps_info(struct qcow2 *q); /* owned by the caller; NULL = none */

GPtrArray *qcow2_bitmaps(struct disk *b, GError **error);
bool qcow2_bitmap_add(struct disk *b, const char *name, uint32_t granularity, bool enabled, GError **error);
bool qcow2_bitmap_remove(struct disk *b, const char *name, GError **error);
bool qcow2_bitmap_clear(struct disk *b, const char *name, GError **error);
bool qcow2_bitmap_enable(struct disk *b, const char *name, bool enabled, GError **error);
bool qcow2_bitmap_merge(struct disk *b, const char *to, struct disk *from, const char *name, GError **error);
bool qcow2_bitmap_at(struct disk *b, const char *name, uint64_t offset, uint64_t *size, bool *marked,
                     GError **error);

/* --- crypto.c, amend.c --- */

/* In open, after the header: sets the hooks above when the image is encrypted. */
bool qcow2_crypto_open(struct qcow2 *q, const struct block_config *config, GError **error);
/* Makes a new, still empty image (open for writing) an encrypted one. o: NULL = the defaults. */
bool qcow2_crypto_create(struct qcow2 *q, const struct luks_options *o, const uint8_t *key, size_t key_size,
                         GError **error);
json_t *qcow2_crypto_info(struct qcow2 *q); /* owned by the caller; NULL = not encrypted */

struct qcow2_amend_options {
    const char *compat, *lazy_refcounts; /* NULL = as it is */
};
extern const struct option_row qcow2_amend_rows[];
bool qcow2_amend(struct disk *b, const void *options, GError **error);

#endif
