/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Guest RAM: where it lies, safe access to it, and a byte per page that every writer reports to. */
/*
 * Theory of operation
 *
 * A guest's RAM is a few *blocks* (main memory, flash banks, ...), each a shared memory file mapped once. The
 * map from guest physical address to block is built before vCPUs run and immutable afterwards.
 *
 * A guest that is restored has its blocks mapped privately over the file it was saved in (mem_restore): its
 * pages come from there when they are used, and become its own when they are written. The file must not
 * change meanwhile.
 *
 * Tracking. Each 4 KiB page has an atomic byte:
 *   DIRTY    written since the dirty log was last taken; set for every page that a writer may touch freely
 *   CODE     blocks were translated from it: a write must be told to the code cache
 *   WATCHED  somebody wants to see each write (debugger)
 *   HANDED   a vCPU may hold a direct write permission (TLB tag) to it
 *   WRITTEN  written since the block was added or restored
 *   NAMELESS discarded in a private block: memory of no file from then on
 * A writer that goes through this interface calls mem_wrote() behind its store, or mem_write(), which does
 * both. A vCPU may write directly, without telling, only with a permission from mem_hand_out(), which is
 * refused unless DIRTY is set and CODE and WATCHED are clear. Whoever turns on tracking does, in this order:
 * (1) mark the page, (2) when it was HANDED out, have every listener take the permissions back (revoke:
 * returns only when no vCPU can still use one), (3) look at the bytes or take the bitmap. So no write is ever
 * missed.
 *
 * Flash. A readonly block may have a chip behind it, mapped on the bus at the same address. Guest stores to
 * it are the chip's commands. While the chip has something else to say than the contents, it hides the block:
 * loads are then the chip's, too, and nothing is fetched from it. Only guests' own accesses see the
 * difference; mem_find(), mem_read() and mem_write() go on to reach the contents.
 *
 * Threads: all functions except set-up may be called from any thread. No function allocates.
 */
#ifndef HOSTEL_MEM_MEM_H
#define HOSTEL_MEM_MEM_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "mem/addr.h"

enum { MEM_PAGE_BITS = 12, MEM_MAX_BLOCKS = 16 };
#define MEM_PAGE_SIZE (UINT64_C(1) << MEM_PAGE_BITS)

enum mem_track {
    MEM_DIRTY = 1,
    MEM_CODE = 2,
    MEM_WATCHED = 4,
    MEM_HANDED = 8,
    MEM_WRITTEN = 16,
    MEM_NAMELESS = 32
};

struct mem_block {
    const char *name;
    struct gpa base;
    uint64_t size;          /* bytes, multiple of the page size */
    bool readonly;          /* guest stores fault (flash): writes through mem_write still work for loaders */
    uint8_t *host;          /* mapping, page aligned, never executable */
    int fd;                 /* the memory file, owned */
    uint64_t place;         /* where the block begins in it */
    bool private;           /* pages that were WRITTEN are not the file's */
    _Atomic uint8_t *track; /* size >> MEM_PAGE_BITS entries */
    _Atomic bool hidden;    /* mem_hide() */
};

struct mem_listener {
    /* Take back every direct write permission inside [start, start + size), of a readonly block (which was
     * hidden) every direct read permission; return when none can be in use.
     * Called on the thread that turns on tracking, which counts as outside running code, as does every vCPU
     * that waits for a lock it may hold. */
    void (*revoke)(struct mem_listener *l, struct gpa start, uint64_t size);
    /* Bytes of one CODE or WATCHED page were written. Called on the writer's thread, behind the store. */
    void (*written)(struct mem_listener *l, struct gpa start, uint64_t size);
    struct mem_listener *next; /* owned by mem while registered */
};

struct mem;

/* --- set-up: one thread, before vCPUs run --- */

struct mem *mem_new(void);
void mem_free(struct mem *m); /* unmaps; NULL is fine */
CLEANUP_DEFINE(mem, mem_free)

/* Adds a zero-filled block at base. name is borrowed (a constant). Returns the block, owned by m and in
 * this place until the next one is added, or NULL with *error: overlap, misalignment, no host memory. Memory
 * is committed when it is touched. */
struct mem_block *mem_add(struct mem *m, const char *name, struct gpa base, uint64_t size, bool readonly,
                          GError **error);

/* Gives block b the contents of fd (owned from now on; open for reading) from place on, page aligned: b's
 * size of bytes, all of which exist. 0; or -errno, with nothing changed and fd closed. All vCPUs are parked,
 * no device moves data, and translated code is dropped by the caller. b is one of mem_blocks(). */
int mem_restore(struct mem *m, const struct mem_block *b, int fd, uint64_t place);
/* The same without a file: all of b reads as zeroes, and is filled by mem_write(). Any one thread. */
int mem_clear(struct mem *m, const struct mem_block *b);

/* The next stretch of b, in bytes from its beginning, at or behind from, of which anything can be other than
 * zero: false when there is none. Whole pages. */
bool mem_next_data(const struct mem_block *b, uint64_t from, uint64_t *start, uint64_t *end);

/* Registers a listener, borrowed until it is taken off or m is freed; set-up and tear-down. */
void mem_listen(struct mem *m, struct mem_listener *l);
void mem_unlisten(struct mem *m, struct mem_listener *l);

/* --- look-up and access --- */

/* The block that holds addr, or NULL (device or hole). */
const struct mem_block *mem_find(const struct mem *m, struct gpa addr);

/* The blocks in ascending address order. */
const struct mem_block *mem_blocks(const struct mem *m, unsigned *count);

/* Host address of [addr, addr + size) inside one block for reading, or NULL. */
const void *mem_host_read(const struct mem *m, struct gpa addr, uint64_t size);

/* Copies; RAM only. 0, or -EFAULT when any byte lies outside RAM (nothing is copied). mem_write reports. */
int mem_read(const struct mem *m, struct gpa addr, void *buffer, uint64_t size);
int mem_write(struct mem *m, struct gpa addr, const void *buffer, uint64_t size);

/* Aligned 64-bit accesses for page walks: single-copy atomic. 0 or -EFAULT. mem_cas64: *old is compared and
 * updated to what was found; 0 stored, -EAGAIN not, -EFAULT, -EROFS. Reports. */
int mem_load64(const struct mem *m, struct gpa addr, uint64_t *value);
int mem_cas64(struct mem *m, struct gpa addr, uint64_t *old, uint64_t value);

/* For the chip behind the readonly block at base: hides its contents from guests or shows them again. When it
 * returns, no vCPU loads hidden contents. The caller may hold locks that vCPUs wait for outside running code
 * only. */
void mem_hide(struct mem *m, struct gpa base, bool on);

/* Do a guest's accesses to the block go to the chip behind it? */
static inline bool mem_is_chip(const struct mem_block *b, bool store)
{
    return b->readonly && (store || atomic_load_explicit(&b->hidden, memory_order_relaxed));
}

/* Gives whole pages of writable RAM back to the host: they read as zeroes until they are written again, which
 * is reported as any store is. The guest has no use for what they held; what it writes there meanwhile may be
 * lost. Neighbours in one call: each costs some 2 us, and some 0.5 us a page. 0; -EFAULT when a part is
 * not RAM (nothing is done), -EROFS a readonly block, -EINVAL not whole pages, -ENOSPC less than 64 KiB of a
 * private block, or too many pieces of it; what the host answers when it
 * cannot: the contents are as before then. Any thread that may call mem_write(). */
int mem_discard(struct mem *m, struct gpa addr, uint64_t size);

/* --- tracking --- */

/* A store to [addr, addr + size) in block b has just been done by other means. */
void mem_wrote(struct mem *m, const struct mem_block *b, struct gpa addr, uint64_t size);

/* Asks for direct write permission to the page of addr, which is marked dirty: ask only to store. True:
 * granted until revoke. False: each store must report. */
bool mem_hand_out(const struct mem_block *b, struct gpa addr);

/* The same for one store that the caller reports by mem_wrote(), so a watched page is no hindrance. */
bool mem_lend(const struct mem_block *b, struct gpa addr);

/* From now on writes to the page of addr are told to the listeners. Returns when direct permissions to it are
 * gone: its bytes may be read then. Callers are serialized (the code cache's lock), here and in untrack. */
void mem_track_code(struct mem *m, const struct mem_block *b, struct gpa addr);
/* No block remains that was made from the page. */
void mem_untrack_code(const struct mem_block *b, struct gpa addr);

/* Sets or clears WATCHED for the pages of the range; revokes. */
void mem_watch(struct mem *m, struct gpa start, uint64_t size, bool on);

/* Dirty log. Pages are marked dirty at all times, so logging needs no mode: start marks all pages clean; take
 * copies one bit per page of block b (LSB first, (pages + 7) / 8 bytes) of those written since start or the
 * last take, marks them clean, and returns when no earlier permission is in use: the pages' contents may be
 * copied then. Control thread. */
void mem_log_start(struct mem *m);
void mem_log_take(struct mem *m, const struct mem_block *b, uint8_t *bitmap);

#endif
