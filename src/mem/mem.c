/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Guest RAM: the map of blocks, copying access, and the tracking words (mem.h has the theory). */
#include "mem/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"
#include "os/memfile.h"

/* Of private blocks: the least that is discarded, in bytes, and how often. */
enum { PRIVATE_PIECE_MIN = 64 * 1024, PRIVATE_PIECES_MAX = 16384 };

struct mem {
    struct mem_block blocks[MEM_MAX_BLOCKS]; /* ascending by base */
    unsigned n_blocks;
    _Atomic unsigned pieces; /* of nameless memory in private blocks */
    struct mem_listener *listeners;
};

struct mem *mem_new(void)
{
    return g_new0(struct mem, 1);
}

static uint64_t block_pages(const struct mem_block *b)
{
    return b->size >> MEM_PAGE_BITS;
}

void mem_free(struct mem *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->n_blocks; i++) {
        struct mem_block *b = &m->blocks[i];
        munmap(b->host, b->size);
        munmap((void *)(uintptr_t)b->track, block_pages(b));
        close(b->fd);
    }
    g_free(m);
}

static bool check_new_block(const struct mem *m, const char *name, struct gpa base, uint64_t size,
                            GError **error)
{
    uint64_t end;
    if (!size || (size | base.v) & (MEM_PAGE_SIZE - 1) || ckd_add(&end, base.v, size - 1))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: RAM of 0x%" PRIx64 " bytes at 0x%" PRIx64 " is not made of whole 4 KiB pages",
                           name, size, base.v);
    if (m->n_blocks == MEM_MAX_BLOCKS)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: more than %d RAM blocks", name, MEM_MAX_BLOCKS);
    for (unsigned i = 0; i < m->n_blocks; i++)
        if (ranges_overlap(base.v, size, m->blocks[i].base.v, m->blocks[i].size))
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: RAM at 0x%" PRIx64 " overlaps %s", name,
                               base.v, m->blocks[i].name);
    return true;
}

struct mem_block *mem_add(struct mem *m, const char *name, struct gpa base, uint64_t size, bool readonly,
                          GError **error)
{
    if (!check_new_block(m, name, base, size, error))
        return NULL;
    int fd = memfile_create(name, size);
    uint8_t *host = fd < 0 ? NULL : memfile_map(fd, size);
    /* Anonymous memory, so that pages of the tracking array cost nothing until they are used. */
    void *track = mmap(NULL, size >> MEM_PAGE_BITS, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!host || track == MAP_FAILED) {
        int reason = fd < 0 ? -fd : errno;
        if (host)
            munmap(host, size);
        if (track != MAP_FAILED)
            munmap(track, size >> MEM_PAGE_BITS);
        if (fd >= 0)
            close(fd);
        hostel_fail(error, HOSTEL_ERROR_HOST,
                    "cannot get %" PRIu64 " MiB of host memory for %s: %s; ask for less with --memory",
                    size / MiB, name, g_strerror(reason));
        return NULL;
    }
    unsigned at = m->n_blocks;
    while (at && m->blocks[at - 1].base.v > base.v) {
        m->blocks[at] = m->blocks[at - 1];
        at--;
    }
    m->blocks[at] = (struct mem_block){.name = name,
                                       .base = base,
                                       .size = size,
                                       .readonly = readonly,
                                       .host = host,
                                       .fd = fd,
                                       .track = track};
    m->n_blocks++;
    return &m->blocks[at];
}

void mem_listen(struct mem *m, struct mem_listener *l)
{
    l->next = m->listeners;
    m->listeners = l;
}

void mem_unlisten(struct mem *m, struct mem_listener *l)
{
    struct mem_listener **p = &m->listeners;
    while (*p && *p != l)
        p = &(*p)->next;
    if (*p)
        *p = l->next;
}

const struct mem_block *mem_find(const struct mem *m, struct gpa addr)
{
    for (unsigned i = m->n_blocks; i-- > 0;) {
        const struct mem_block *b = &m->blocks[i];
        if (addr.v >= b->base.v)
            return addr.v - b->base.v < b->size ? b : NULL;
    }
    return NULL;
}

const struct mem_block *mem_blocks(const struct mem *m, unsigned *count)
{
    *count = m->n_blocks;
    return m->blocks;
}

const void *mem_host_read(const struct mem *m, struct gpa addr, uint64_t size)
{
    const struct mem_block *b = mem_find(m, addr);
    return b && range_inside(addr.v, size, b->base.v, b->size) ? b->host + (addr.v - b->base.v) : NULL;
}

/* Is every byte of the range in RAM (perhaps in several adjoining blocks)? */
static bool in_ram(const struct mem *m, struct gpa addr, uint64_t size)
{
    while (size) {
        const struct mem_block *b = mem_find(m, addr);
        if (!b)
            return false;
        uint64_t here = MIN(size, b->size - (addr.v - b->base.v));
        addr.v += here;
        size -= here;
    }
    return true;
}

/* Guest memory is read and written by others at the same time, so copies touch it in single accesses as large
 * as alignment allows: a number that is aligned and of a power-of-two size is never seen half written. */
static unsigned copy_step(const uint8_t *guest, uint64_t size)
{
    uintptr_t at = (uintptr_t)guest;
    if (size >= 8 && !(at & 7))
        return 8;
    if (size >= 4 && !(at & 3))
        return 4;
    return size >= 2 && !(at & 1) ? 2 : 1;
}

/* One access: type, guest side, other side (of any alignment). */
#define COPY_OUT(type)                                                                                       \
    {                                                                                                        \
        type v = __atomic_load_n((const type *)(const void *)guest, __ATOMIC_RELAXED);                       \
        memcpy(to, &v, sizeof(v));                                                                           \
        break;                                                                                               \
    }
#define COPY_IN(type)                                                                                        \
    {                                                                                                        \
        type v;                                                                                              \
        memcpy(&v, from, sizeof(v));                                                                         \
        __atomic_store_n((type *)(void *)guest, v, __ATOMIC_RELAXED);                                        \
        break;                                                                                               \
    }

static void copy_out(uint8_t *to, const uint8_t *guest, uint64_t size)
{
    while (size) {
        unsigned step = copy_step(guest, size);
        switch (step) {
        case 8: COPY_OUT(uint64_t)
        case 4: COPY_OUT(uint32_t)
        case 2: COPY_OUT(uint16_t)
        default: COPY_OUT(uint8_t)
        }
        to += step;
        guest += step;
        size -= step;
    }
}

static void copy_in(uint8_t *guest, const uint8_t *from, uint64_t size)
{
    while (size) {
        unsigned step = copy_step(guest, size);
        switch (step) {
        case 8: COPY_IN(uint64_t)
        case 4: COPY_IN(uint32_t)
        case 2: COPY_IN(uint16_t)
        default: COPY_IN(uint8_t)
        }
        guest += step;
        from += step;
        size -= step;
    }
}

int mem_read(const struct mem *m, struct gpa addr, void *buffer, uint64_t size)
{
    if (!in_ram(m, addr, size))
        return -EFAULT;
    uint8_t *to = buffer;
    while (size) {
        const struct mem_block *b = mem_find(m, addr);
        uint64_t at = addr.v - b->base.v, here = MIN(size, b->size - at);
        copy_out(to, b->host + at, here);
        to += here;
        addr.v += here;
        size -= here;
    }
    return 0;
}

int mem_write(struct mem *m, struct gpa addr, const void *buffer, uint64_t size)
{
    if (!in_ram(m, addr, size))
        return -EFAULT;
    const uint8_t *from = buffer;
    while (size) {
        const struct mem_block *b = mem_find(m, addr);
        uint64_t at = addr.v - b->base.v, here = MIN(size, b->size - at);
        copy_in(b->host + at, from, here);
        mem_wrote(m, b, addr, here);
        from += here;
        addr.v += here;
        size -= here;
    }
    return 0;
}

/* A private block lies over a file that is not ours to change, and giving up only the guest's own copies of
 * pages would bring back what the file holds: bytes of the past, not zeroes. So nameless memory takes the
 * file's place. Each piece of it costs the host's kernel an area, of which a process can have some ten
 * thousand: small pieces are not worth it, and there is a last one. What is nameless already is emptied. */
static int discard_private(struct mem *m, const struct mem_block *b, uint64_t offset, uint64_t size)
{
    const uint64_t first = offset >> MEM_PAGE_BITS, end = (offset + size) >> MEM_PAGE_BITS;
    uint64_t page = first;
    while (page < end && atomic_load_explicit(&b->track[page], memory_order_relaxed) & MEM_NAMELESS)
        page++;
    if (page == end)
        return madvise(b->host + offset, size, MADV_DONTNEED) ? -errno : 0;
    if (size < PRIVATE_PIECE_MIN || atomic_fetch_add(&m->pieces, 1) >= PRIVATE_PIECES_MAX)
        return -ENOSPC;
    void *host = mmap(b->host + offset, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (host == MAP_FAILED)
        return -errno;
    madvise(host, size, MADV_DONTDUMP);
    for (page = first; page < end; page++)
        atomic_fetch_or(&b->track[page], MEM_NAMELESS | MEM_WRITTEN);
    return 0;
}

/* Punching a hole takes the pages out of every mapping of the file before it frees them, so nobody reads on
 * in the old ones: not by the mapping of this process, whose host addresses the vCPUs' TLBs know, nor by a
 * helper's own. */
static int discard_in(struct mem *m, const struct mem_block *b, struct gpa addr, uint64_t size)
{
    const uint64_t offset = addr.v - b->base.v;
    int status = 0;
    if (b->readonly)
        return -EROFS;
    if (b->private)
        status = discard_private(m, b, offset, size);
    else if (fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(b->place + offset),
                       (off_t)size))
        status = -errno;
    if (!status)
        mem_wrote(m, b, addr, size);
    return status;
}

int mem_discard(struct mem *m, struct gpa addr, uint64_t size)
{
    if ((addr.v | size) & (MEM_PAGE_SIZE - 1))
        return -EINVAL;
    if (!in_ram(m, addr, size))
        return -EFAULT;
    int status = 0;
    while (size && !status) {
        const struct mem_block *b = mem_find(m, addr);
        uint64_t here = MIN(size, b->size - (addr.v - b->base.v));
        status = discard_in(m, b, addr, here);
        addr.v += here;
        size -= here;
    }
    return status;
}

int mem_load64(const struct mem *m, struct gpa addr, uint64_t *value)
{
    const struct mem_block *b = mem_find(m, addr);
    if (!b || addr.v & 7)
        return -EFAULT;
    *value = GUINT64_FROM_LE(
        __atomic_load_n((const uint64_t *)(const void *)(b->host + (addr.v - b->base.v)), __ATOMIC_ACQUIRE));
    return 0;
}

int mem_cas64(struct mem *m, struct gpa addr, uint64_t *old, uint64_t value)
{
    const struct mem_block *b = mem_find(m, addr);
    if (!b || addr.v & 7)
        return -EFAULT;
    if (b->readonly)
        return -EROFS;
    uint64_t expected = GUINT64_TO_LE(*old);
    if (!__atomic_compare_exchange_n((uint64_t *)(void *)(b->host + (addr.v - b->base.v)), &expected,
                                     GUINT64_TO_LE(value), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        *old = GUINT64_FROM_LE(expected);
        return -EAGAIN;
    }
    mem_wrote(m, b, addr, sizeof(value));
    return 0;
}

/* --- saving and restoring --- */

int mem_restore(struct mem *m, const struct mem_block *block, int fd, uint64_t place)
{
    struct mem_block *b = &m->blocks[block - m->blocks];
    void *host = mmap(b->host, b->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
                      (off_t)place);
    if (host == MAP_FAILED) {
        int status = -errno;
        close(fd);
        return status;
    }
    madvise(host, b->size, MADV_DONTDUMP);
    close(b->fd);
    b->fd = fd;
    b->place = place;
    b->private = true;
    atomic_store(&m->pieces, 0); /* RAM is one block; the others are never discarded */
    for (uint64_t i = 0; i < block_pages(b); i++)
        if (atomic_load_explicit(&b->track[i], memory_order_relaxed))
            atomic_store(&b->track[i], MEM_DIRTY);
    return 0;
}

int mem_clear(struct mem *m, const struct mem_block *block)
{
    struct mem_block *b = &m->blocks[block - m->blocks];
    if (b->private) {
        void *host = mmap(b->host, b->size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
        if (host == MAP_FAILED)
            return -errno;
        madvise(host, b->size, MADV_DONTDUMP);
        atomic_store(&m->pieces, 0);
    } else if (fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)b->place,
                         (off_t)b->size)) {
        return -errno;
    }
    const uint8_t now = b->private ? MEM_DIRTY | MEM_NAMELESS : MEM_DIRTY;
    for (uint64_t i = 0; i < block_pages(b); i++)
        if (b->private || atomic_load_explicit(&b->track[i], memory_order_relaxed))
            atomic_store(&b->track[i], now);
    return 0;
}

/* Of the block's file: the next stretch that is not a hole. */
static bool next_in_file(const struct mem_block *b, uint64_t from, uint64_t *start, uint64_t *end)
{
    const off_t data = lseek(b->fd, (off_t)(b->place + from), SEEK_DATA);
    if (data < 0 && errno == ENXIO)
        return false;
    *start = from;
    *end = b->size; /* where the file's system cannot tell, all is data */
    if (data < 0)
        return true;
    *start = align_down((uint64_t)data - b->place, MEM_PAGE_SIZE);
    if (*start >= b->size)
        return false;
    const off_t hole = lseek(b->fd, data, SEEK_HOLE);
    if (hole >= 0)
        *end = MIN(b->size, align_up((uint64_t)hole - b->place, MEM_PAGE_SIZE));
    return true;
}

static bool is_written(const struct mem_block *b, uint64_t page)
{
    return atomic_load_explicit(&b->track[page], memory_order_relaxed) & MEM_WRITTEN;
}

bool mem_next_data(const struct mem_block *b, uint64_t from, uint64_t *start, uint64_t *end)
{
    uint64_t file_start = b->size, file_end = b->size;
    if (from >= b->size)
        return false;
    bool in_file = next_in_file(b, from, &file_start, &file_end);
    if (!b->private) {
        *start = file_start;
        *end = file_end;
        return in_file;
    }
    /* Whichever comes first: the file's data, or pages of the guest's own where the file has a hole. */
    uint64_t page = from >> MEM_PAGE_BITS, stop = (in_file ? file_start : b->size) >> MEM_PAGE_BITS;
    while (page < stop && !is_written(b, page))
        page++;
    *start = page << MEM_PAGE_BITS;
    *end = file_end;
    if (page == stop)
        return in_file;
    while (page < stop && is_written(b, page))
        page++;
    *end = page << MEM_PAGE_BITS;
    return true;
}

/* --- tracking --- */

static _Atomic uint8_t *track_of(const struct mem_block *b, struct gpa addr)
{
    return &b->track[(addr.v - b->base.v) >> MEM_PAGE_BITS];
}

static void revoke_all(struct mem *m, struct gpa start, uint64_t size)
{
    for (struct mem_listener *l = m->listeners; l; l = l->next)
        l->revoke(l, start, size);
}

void mem_wrote(struct mem *m, const struct mem_block *b, struct gpa addr, uint64_t size)
{
    /* The store must be visible before the tracking byte is read: pairs with mem_track_code()'s marking. */
    atomic_thread_fence(memory_order_seq_cst);
    uint64_t end = addr.v + size;
    for (uint64_t page = align_down(addr.v, MEM_PAGE_SIZE); page < end; page += MEM_PAGE_SIZE) {
        _Atomic uint8_t *track = track_of(b, GPA(page));
        uint8_t now = atomic_load(track);
        if ((now & (MEM_DIRTY | MEM_WRITTEN)) != (MEM_DIRTY | MEM_WRITTEN))
            now = atomic_fetch_or(track, MEM_DIRTY | MEM_WRITTEN);
        if (!(now & (MEM_CODE | MEM_WATCHED)))
            continue;
        uint64_t from = MAX(addr.v, page), to = MIN(end, page + MEM_PAGE_SIZE);
        for (struct mem_listener *l = m->listeners; l; l = l->next)
            l->written(l, GPA(from), to - from);
    }
}

/* Marks the page dirty and handed out unless one of the obstacles is set. */
static bool hand_out_unless(const struct mem_block *b, struct gpa addr, uint8_t obstacles)
{
    if (b->readonly)
        return false;
    _Atomic uint8_t *track = track_of(b, addr);
    uint8_t old = atomic_load(track), want;
    do {
        if (old & obstacles)
            return false;
        want = old | MEM_DIRTY | MEM_WRITTEN | MEM_HANDED;
    } while (old != want && !atomic_compare_exchange_weak(track, &old, want));
    return true;
}

bool mem_hand_out(const struct mem_block *b, struct gpa addr)
{
    return hand_out_unless(b, addr, MEM_CODE | MEM_WATCHED);
}

bool mem_lend(const struct mem_block *b, struct gpa addr)
{
    return hand_out_unless(b, addr, MEM_CODE);
}

void mem_track_code(struct mem *m, const struct mem_block *b, struct gpa addr)
{
    _Atomic uint8_t *track = track_of(b, addr);
    uint8_t old = atomic_fetch_or(track, MEM_CODE);
    if (!(old & MEM_HANDED))
        return;
    revoke_all(m, GPA(align_down(addr.v, MEM_PAGE_SIZE)), MEM_PAGE_SIZE);
    atomic_fetch_and(track, (uint8_t)~MEM_HANDED);
}

void mem_untrack_code(const struct mem_block *b, struct gpa addr)
{
    atomic_fetch_and(track_of(b, addr), (uint8_t)~MEM_CODE);
}

void mem_watch(struct mem *m, struct gpa start, uint64_t size, bool on)
{
    for (uint64_t page = align_down(start.v, MEM_PAGE_SIZE); page < start.v + size; page += MEM_PAGE_SIZE) {
        const struct mem_block *b = mem_find(m, GPA(page));
        if (!b)
            continue;
        if (!on)
            atomic_fetch_and(track_of(b, GPA(page)), (uint8_t)~MEM_WATCHED);
        else if (atomic_fetch_or(track_of(b, GPA(page)), MEM_WATCHED) & MEM_HANDED)
            /* Whole pages of RAM: what listeners are told to expect. */
            revoke_all(m, GPA(page), MEM_PAGE_SIZE);
    }
}

/* Clears DIRTY everywhere in b, collecting it into bitmap when that is not NULL. */
static void collect_dirty(const struct mem_block *b, uint8_t *bitmap)
{
    uint64_t pages = block_pages(b);
    if (bitmap)
        memset(bitmap, 0, (pages + 7) / 8);
    for (uint64_t i = 0; i < pages; i++) {
        if (!(atomic_load_explicit(&b->track[i], memory_order_relaxed) & MEM_DIRTY))
            continue;
        atomic_fetch_and(&b->track[i], (uint8_t)~MEM_DIRTY);
        if (bitmap)
            bitmap[i / 8] |= (uint8_t)BIT(i % 8);
    }
}

void mem_hide(struct mem *m, struct gpa base, bool on)
{
    for (unsigned i = 0; i < m->n_blocks; i++) {
        struct mem_block *b = &m->blocks[i];
        if (b->base.v == base.v && b->readonly && atomic_exchange(&b->hidden, on) != on && on)
            revoke_all(m, b->base, b->size);
    }
}

void mem_log_start(struct mem *m)
{
    for (unsigned i = 0; i < m->n_blocks; i++) {
        collect_dirty(&m->blocks[i], NULL);
        revoke_all(m, m->blocks[i].base, m->blocks[i].size);
    }
}

void mem_log_take(struct mem *m, const struct mem_block *b, uint8_t *bitmap)
{
    /* A write through an old permission before the revocation ends lands on a page that was DIRTY, so it is
     * in this bitmap, and the caller copies the page only afterwards. */
    collect_dirty(b, bitmap);
    revoke_all(m, b->base, b->size);
}
