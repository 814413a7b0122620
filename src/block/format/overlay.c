/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Driver overlay: a disk that lies over another one, which is only read, and keeps what it differs in. */
/*
 * Theory of operation
 *
 * The disk is cut into clusters of 4 KiB, the last of which may be in use in part only. Its file holds a
 * header, a table with a bit for each cluster, and room for all clusters, each at its own place; the file is
 * sparse, so room costs nothing until it is used. A cluster whose bit is set is read from the file, another
 * one from the base, or as zeroes where the base has ended.
 *
 *     0        header (one cluster)
 *     4096     the table, padded to whole clusters
 *     data     cluster 0, cluster 1, ...
 *
 * Writing. Clusters that are in the file are written in place, by any number of threads at once. A write that
 * touches another cluster is one of those that take `allocating`, one at a time: first the edges are copied,
 * of clusters that the write covers in part only, then the data is written, then the bits are set. Until they
 * are, nobody looks at what was written.
 *
 * Durability. The bits live in memory (`live`) and reach the file at a flush, which makes the data durable
 * first, then writes the bits that were set before that, then makes those durable. So at any moment at which
 * the power may fail, a bit in the file means that the cluster's data is there, too. A process that is killed
 * loses what was not flushed, as if it had been in a disk's write cache. `shadow` is what the table in the
 * file holds or is about to: a bit set while the data is being flushed must wait for the next time.
 *
 * The header is checked in full when the file is opened, so no number in a damaged one is ever used.
 */
#include "block/format/overlay.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/error.h"
#include "block/below.h"
#include "block/scratch.h"
#include "os/fd.h"

enum { CLUSTER = 4096, WORD_BITS = 64, WORDS_PER_CLUSTER = CLUSTER / 8, VERSION = 1 };
#define SIZE_MAX_BYTES (UINT64_C(1) << 41) /* 2 TiB: a table of 64 MiB */

static const char magic[8] = {'H', 'O', 'S', 'T', 'E', 'L', 'O', 'V'};

/* The first bytes of the file; the rest of its cluster is zero. Little-endian. */
struct header {
    char magic[8];
    uint32_t version, cluster;
    uint64_t size, base_size; /* bytes */
    uint64_t table, data;     /* offsets */
};
_Static_assert(sizeof(struct header) == 48, "no padding");

struct overlay {
    struct disk disk;
    struct disk *file; /* disk.below */
    struct disk *base; /* owned */
    uint64_t data;     /* offset of cluster 0 */
    uint64_t table_clusters;
    _Atomic uint64_t *live;
    uint64_t *shadow;
    _Atomic bool *dirty; /* for each cluster of the table */
    pthread_mutex_t allocating;
};

static struct overlay *overlay(struct disk *b)
{
    return (struct overlay *)(void *)b;
}

/* --- the file --- */

static uint64_t table_size(uint64_t size)
{
    const uint64_t clusters = align_up(size, CLUSTER) / CLUSTER;
    return align_up((clusters + 7) / 8, CLUSTER);
}

static struct header make_header(uint64_t size, uint64_t base_size)
{
    struct header h = {
        .version = htole32(VERSION),
        .cluster = htole32(CLUSTER),
        .size = htole64(size),
        .base_size = htole64(base_size),
        .table = htole64(CLUSTER),
        .data = htole64(CLUSTER + table_size(size)),
    };
    memcpy(h.magic, magic, sizeof(magic));
    return h;
}

bool block_overlay_create(int fd, const char *name, uint64_t size, uint64_t base_size, GError **error)
{
    if (!size || size % BLOCK_SECTOR || size > SIZE_MAX_BYTES || size < base_size)
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "%s: an overlay must have a multiple of %d bytes, up to 2 TiB, and at least the %" PRIu64
            " of its base",
            name, BLOCK_SECTOR, base_size);
    const struct header h = make_header(size, base_size);
    if (pwrite(fd, &h, sizeof(h), 0) == (ssize_t)sizeof(h) &&
        ftruncate(fd, (off_t)(le64toh(h.data) + align_up(size, CLUSTER))) == 0 && fsync(fd) == 0)
        return true;
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write it: %s", name, g_strerror(errno));
}

static int read_file(struct overlay *o, void *bytes, size_t size, uint64_t offset)
{
    const struct iovec iov = {bytes, size};
    return block_read(o->file, &iov, 1, offset, 0);
}

static bool check_header(struct overlay *o, GError **error)
{
    struct disk *b = &o->disk;
    struct header h = {0};
    if (read_file(o, &h, sizeof(h), 0) || memcmp(h.magic, magic, sizeof(magic)) != 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no overlay; is it another format?", b->name);
    const uint64_t size = le64toh(h.size), base_size = o->base->facts.size;
    if (le32toh(h.version) != VERSION || le32toh(h.cluster) != CLUSTER)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is an overlay of version %" PRIu32 ", this Hostel knows version %d", b->name,
                           le32toh(h.version), VERSION);
    if (le64toh(h.base_size) != base_size)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: lies over a base of %" PRIu64 " bytes, %s has %" PRIu64
                           "; give the base it was made for",
                           b->name, le64toh(h.base_size), o->base->name, base_size);
    if (!size || size % BLOCK_SECTOR || size > SIZE_MAX_BYTES || size < base_size)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: a disk of %" PRIu64 " bytes", b->name, size);
    const struct header want = make_header(size, base_size);
    if (memcmp(&h, &want, sizeof(h)) != 0 || o->file->facts.size < le64toh(h.data) + align_up(size, CLUSTER))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its header is damaged, or its end is missing",
                           b->name);
    o->data = le64toh(h.data);
    b->facts.size = size;
    return true;
}

static bool read_table(struct overlay *o, GError **error)
{
    const uint64_t bytes = table_size(o->disk.facts.size);
    o->table_clusters = bytes / CLUSTER;
    o->live = g_try_malloc(bytes);
    o->shadow = g_try_malloc(bytes);
    o->dirty = g_try_malloc0(o->table_clusters * sizeof(*o->dirty));
    if (!o->live || !o->shadow || !o->dirty)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory for its table",
                           o->disk.name);
    int status = read_file(o, o->shadow, bytes, CLUSTER);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its table: %s", o->disk.name,
                           g_strerror(-status));
    for (uint64_t i = 0; i < bytes / 8; i++)
        atomic_init(&o->live[i], le64toh(o->shadow[i]));
    return true;
}

/* --- life --- */

static void release(struct overlay *o)
{
    block_free(o->base);
    g_free(o->live);
    g_free(o->shadow);
    g_free(o->dirty);
}

static bool overlay_open(struct disk *b, struct block_config *config, GError **error)
{
    struct overlay *o = overlay(b);
    o->file = b->below = STEAL(config->file);
    o->base = STEAL(config->base);
    if (!check_header(o, error) || !read_table(o, error)) {
        release(o);
        return false;
    }
    b->facts.alignment = 1;
    b->facts.preferred = b->facts.cluster = CLUSTER;
    b->facts.granularity = MAX(o->file->facts.granularity, (uint32_t)CLUSTER);
    pthread_mutex_init(&o->allocating, NULL);
    return true;
}

static int overlay_flush(struct disk *b);

static void overlay_close(struct disk *b)
{
    struct overlay *o = overlay(b);
    if (!b->facts.readonly)
        block_flush(b);
    pthread_mutex_destroy(&o->allocating);
    release(o);
}

/* --- the table --- */

static bool has(const struct overlay *o, uint64_t cluster)
{
    return atomic_load_explicit(&o->live[cluster / WORD_BITS], memory_order_acquire) &
           BIT(cluster % WORD_BITS);
}

/* How many bytes from offset on, up to size, are kept alike; *in_file says where. */
static uint64_t run(const struct overlay *o, uint64_t offset, uint64_t size, bool *in_file)
{
    uint64_t cluster = offset / CLUSTER, end = offset + size;
    *in_file = has(o, cluster);
    do
        cluster++;
    while (cluster * CLUSTER < end && has(o, cluster) == *in_file);
    return MIN(end, cluster * CLUSTER) - offset;
}

/* Holds allocating. What was written comes before the bits. */
static void set(struct overlay *o, uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i <= last; i++) {
        atomic_fetch_or_explicit(&o->live[i / WORD_BITS], BIT(i % WORD_BITS), memory_order_release);
        atomic_store_explicit(&o->dirty[i / WORD_BITS / WORDS_PER_CLUSTER], true, memory_order_release);
    }
}

/* --- reading --- */

static int overlay_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct overlay *o = overlay(b);
    struct iovec part[BLOCK_IOV_MAX];
    struct block_cursor c = {.iov = iov};
    int status = 0;
    for (uint64_t size = block_iov_size(iov, n), now; size && !status; offset += now, size -= now) {
        bool in_file;
        now = run(o, offset, size, &in_file);
        if (in_file) {
            unsigned parts = block_cursor_next(&c, now, part);
            status = block_read(o->file, part, parts, o->data + offset, flags);
        } else {
            status = block_read_padded(o->base, &c, offset, now, flags);
        }
    }
    return status;
}

/* --- writing --- */

/* Gives a cluster that is about to be written in part a place in the file. Holds allocating. */
static int copy_up(struct overlay *o, uint64_t cluster)
{
    uint8_t bytes[CLUSTER];
    const struct iovec iov = {bytes, sizeof(bytes)};
    struct block_cursor c = {.iov = &iov};
    if (has(o, cluster))
        return 0;
    int status = block_read_padded(o->base, &c, cluster * CLUSTER, CLUSTER, 0);
    return status ? status : block_write(o->file, &iov, 1, o->data + cluster * CLUSTER);
}

/* The edges of a range of which not all is in the file. Holds allocating. */
static int copy_edges(struct overlay *o, uint64_t offset, uint64_t size)
{
    const uint64_t end = offset + size, first = offset / CLUSTER, last = (end - 1) / CLUSTER;
    int status = 0;
    if (offset % CLUSTER || (first == last && end % CLUSTER))
        status = copy_up(o, first);
    if (!status && last != first && end % CLUSTER)
        status = copy_up(o, last);
    return status;
}

static bool all_in_file(struct overlay *o, uint64_t offset, uint64_t size)
{
    bool in_file;
    return run(o, offset, size, &in_file) == size && in_file;
}

static int overlay_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    struct overlay *o = overlay(b);
    const uint64_t size = block_iov_size(iov, n);
    if (all_in_file(o, offset, size))
        return block_write(o->file, iov, n, o->data + offset);
    pthread_mutex_lock(&o->allocating);
    int status = copy_edges(o, offset, size);
    if (!status)
        status = block_write(o->file, iov, n, o->data + offset);
    if (!status)
        set(o, offset / CLUSTER, (offset + size - 1) / CLUSTER);
    pthread_mutex_unlock(&o->allocating);
    return status;
}

/* As the essay says: data, then the bits that were set before. The core lets one in at a time. */
static int overlay_flush(struct disk *b)
{
    struct overlay *o = overlay(b);
    uint64_t first = o->table_clusters, end = 0;
    for (uint64_t i = 0; i < o->table_clusters; i++) {
        if (!atomic_exchange_explicit(&o->dirty[i], false, memory_order_acquire))
            continue;
        for (uint64_t w = i * WORDS_PER_CLUSTER; w < (i + 1) * WORDS_PER_CLUSTER; w++)
            o->shadow[w] = htole64(atomic_load_explicit(&o->live[w], memory_order_acquire));
        first = MIN(first, i);
        end = i + 1;
    }
    int status = block_flush(o->file);
    if (status || first >= end)
        return status;
    const struct iovec iov = {&o->shadow[first * WORDS_PER_CLUSTER], (end - first) * CLUSTER};
    status = block_write(o->file, &iov, 1, CLUSTER + first * CLUSTER);
    return status ? status : block_flush(o->file);
}

/* --- space --- */

/* Clusters of the file only: the base keeps what it has. */
static int overlay_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    struct overlay *o = overlay(b);
    uint64_t at = align_up(offset, CLUSTER), end = (offset + size) / CLUSTER * CLUSTER;
    int status = 0;
    while (at < end && !status) {
        bool in_file;
        uint64_t now = run(o, at, end - at, &in_file);
        if (in_file)
            status = block_discard(o->file, o->data + at, now);
        at += now;
    }
    return status;
}

/* Whole clusters become holes of the file; zeroes are written at the edges. */
static int overlay_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct overlay *o = overlay(b);
    const uint64_t end = offset + size, from = MIN(end, align_up(offset, CLUSTER));
    const uint64_t to = MAX(from, end / CLUSTER * CLUSTER);
    _Static_assert((int)CLUSTER <= (int)BLOCK_ZEROES, "an edge is written at once");
    const struct iovec head = {(void *)(uintptr_t)block_zeroes(), from - offset},
                       tail = {(void *)(uintptr_t)block_zeroes(), end - to};
    if (flags & BLOCK_ONLY_FAST && (head.iov_len || tail.iov_len))
        return -EOPNOTSUPP;
    int status = head.iov_len ? overlay_write(b, &head, 1, offset) : 0;
    if (!status && tail.iov_len)
        status = overlay_write(b, &tail, 1, to);
    if (status || from == to)
        return status;
    pthread_mutex_lock(&o->allocating);
    status = block_zero(o->file, o->data + from, to - from, flags);
    if (!status)
        set(o, from / CLUSTER, (to - 1) / CLUSTER);
    pthread_mutex_unlock(&o->allocating);
    return status;
}

static int overlay_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct overlay *o = overlay(b);
    bool in_file;
    const uint64_t now = run(o, offset, size, &in_file);
    return in_file ? block_extent(o->file, o->data + offset, now, extent)
                   : block_extent_below(o->base, offset, now, extent);
}

const struct block_driver block_driver_overlay = {
    .name = "overlay",
    .help = "what the disk differs in from a base",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .needs_base = true,
    .size = sizeof(struct overlay),
    .open = overlay_open,
    .close = overlay_close,
    .read = overlay_read,
    .write = overlay_write,
    .flush = overlay_flush,
    .discard = overlay_discard,
    .zero = overlay_zero,
    .extent = overlay_extent,
};
