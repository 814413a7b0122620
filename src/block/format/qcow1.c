/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Format qcow (version 1), read only: what QEMU wrote before qcow2. */
/*
 * Theory of operation
 *
 * There is no specification but the programs. All numbers are big-endian. The disk is cut into clusters; an
 * entry of the L1 table finds an L2 table (0 = none), an entry of that finds a cluster (0 = kept by the
 * backing file). Bit 63 of an L2 entry says that the cluster is compressed (bare deflate): then the
 * cluster_bits bits below it are the compressed size and the rest is the place, both in bytes.
 *
 * Tables are read from the file when they are needed, a part at a time, and every entry is checked when it is
 * used: an image takes no memory by what its header says, and its tables may be as long as they like.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/param.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/below.h"
#include "block/format/chunks.h"
#include "block/image.h"
#include "block/scratch.h"
#include "codec/compress.h"

enum { VERSION = 1, ENTRY = 8, BATCH = 512 /* L2 entries that are looked at together */ };
#define COMPRESSED BIT(63)
#define SIZE_LIMIT (BIT(62))

static const uint8_t magic[4] = {'Q', 'F', 'I', 0xfb};

struct header {
    uint8_t magic[4];
    uint32_t version;
    uint64_t backing_offset;
    uint32_t backing_size;
    uint32_t modified;
    uint64_t size;
    uint8_t cluster_bits, l2_bits;
    uint16_t padding;
    uint32_t encryption;
    uint64_t l1_offset;
};
_Static_assert(sizeof(struct header) == 48, "no padding");

struct qcow1 {
    struct disk disk;
    struct disk *file; /* disk.below */
    struct disk *base; /* owned, or NULL */
    unsigned cluster_bits, l2_bits;
    uint64_t l1_offset;
    char *backing; /* as the image has it; NULL = none */
    struct block_chunks *unpacked;
};

static struct qcow1 *qcow1(struct disk *b)
{
    return (struct qcow1 *)(void *)b;
}

/* --- opening --- */

static bool check_header(struct qcow1 *q, const struct header *h, GError **error)
{
    struct disk *b = &q->disk;
    const uint64_t size = be64toh(h->size);
    if (memcmp(h->magic, magic, sizeof(magic)) != 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no qcow image; is it another format?", b->name);
    if (be32toh(h->version) != VERSION)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is a qcow image of version %" PRIu32 ", not %d; name it as format qcow2",
                           b->name, be32toh(h->version), VERSION);
    if (h->encryption)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is encrypted (method %" PRIu32 "), which is not read from qcow version 1",
                           b->name, be32toh(h->encryption));
    if (h->cluster_bits < 9 || h->cluster_bits > 16 || h->l2_bits < 6 || h->l2_bits > 13)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: clusters of 2^%u bytes (9 to 16 are possible), L2 "
                           "tables of 2^%u entries (6 to 13)",
                           b->name, h->cluster_bits, h->l2_bits);
    if (size < BLOCK_SECTOR || size > SIZE_LIMIT)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: a disk of %" PRIu64 " bytes", b->name, size);
    const uint64_t l1 = ((size - 1) >> (h->cluster_bits + h->l2_bits)) + 1;
    if (!range_inside(be64toh(h->l1_offset), l1 * ENTRY, sizeof(*h), q->file->facts.size - sizeof(*h)))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its L1 table (%" PRIu64 " entries at %" PRIu64
                           ") is not inside the file of %" PRIu64 " bytes",
                           b->name, l1, be64toh(h->l1_offset), q->file->facts.size);
    return true;
}

static bool read_backing(struct qcow1 *q, const struct header *h, GError **error)
{
    const uint64_t at = be64toh(h->backing_offset);
    const uint32_t size = be32toh(h->backing_size);
    if (!at)
        return true;
    if (!size || size > 1023 || !range_inside(at, size, sizeof(*h), q->file->facts.size - sizeof(*h)))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the name of its backing file (%" PRIu32 " bytes at %" PRIu64
                           ") is not inside the file; its header is damaged",
                           q->disk.name, size, at);
    q->backing = g_malloc0(size + 1);
    int status = block_pread(q->file, q->backing, size, at);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read the name of its backing file: %s",
                           q->disk.name, g_strerror(-status));
    return true;
}

static void qcow1_release(struct disk *b)
{
    struct qcow1 *q = qcow1(b);
    block_free(q->base);
    block_chunks_free(q->unpacked);
    g_free(q->backing);
}

static int load(void *opaque, uint64_t entry, uint8_t *bytes, size_t size);

static bool open_inner(struct qcow1 *q, struct block_config *config, GError **error)
{
    struct disk *b = &q->disk;
    struct header h = {0};
    if (!block_chunks_take_file(b, config, error))
        return false;
    q->file = b->below;
    if (q->file->facts.size >= sizeof(h)) {
        int status = block_pread(q->file, &h, sizeof(h), 0);
        if (status)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its header: %s", b->name,
                               g_strerror(-status));
    }
    if (!check_header(q, &h, error) || !read_backing(q, &h, error) ||
        !block_open_base(config, q->backing, NULL, &q->base, error))
        return false;
    q->cluster_bits = h.cluster_bits;
    q->l2_bits = h.l2_bits;
    q->l1_offset = be64toh(h.l1_offset);
    b->facts.size = be64toh(h.size) / BLOCK_SECTOR * BLOCK_SECTOR;
    b->facts.cluster = UINT32_C(1) << q->cluster_bits;
    q->unpacked = block_chunks_new(b->facts.cluster, load, q);
    return true;
}

static bool qcow1_open(struct disk *b, struct block_config *config, GError **error)
{
    if (open_inner(qcow1(b), config, error))
        return true;
    qcow1_release(b);
    return false;
}

/* --- finding --- */

/* Where a run of clusters is. */
struct run {
    uint64_t size;  /* bytes from where it was asked for */
    uint64_t entry; /* of its first cluster: 0 = not kept here, COMPRESSED, or a place */
};

/* Do clusters of these two entries, the second count clusters after the first, lie in one piece? */
static bool continues(const struct qcow1 *q, uint64_t first, uint64_t entry, uint64_t count)
{
    uint64_t want;
    if (!first || first & COMPRESSED)
        return first == 0 && entry == 0;
    return !ckd_add(&want, first, count << q->cluster_bits) && entry == want;
}

/* The L2 table of the cluster, 0 = none. */
static int find_table(struct qcow1 *q, uint64_t cluster, uint64_t *table, unsigned flags)
{
    uint64_t entry;
    const struct iovec iov = {&entry, sizeof(entry)};
    int status = block_read(q->file, &iov, 1, q->l1_offset + (cluster >> q->l2_bits) * ENTRY, flags);
    if (status)
        return status;
    *table = be64toh(entry);
    return !*table || range_inside(*table, (uint64_t)ENTRY << q->l2_bits, 0, q->file->facts.size) ? 0 : -EIO;
}

/* How the bytes from offset on are kept, as far as that is alike and one L2 table says. */
static int find(struct qcow1 *q, uint64_t offset, uint64_t size, struct run *run, unsigned flags)
{
    uint64_t entries[BATCH], table;
    const uint64_t first = offset >> q->cluster_bits, last = (offset + size - 1) >> q->cluster_bits;
    const uint64_t index = first & (BIT(q->l2_bits) - 1), left = BIT(q->l2_bits) - index;
    uint64_t count = MIN(last - first + 1, left), i = 1;
    int status = find_table(q, first, &table, flags);
    if (status)
        return status;
    if (table) {
        count = MIN(count, BATCH);
        const struct iovec iov = {entries, count * ENTRY};
        status = block_read(q->file, &iov, 1, table + index * ENTRY, flags);
        if (status)
            return status;
        run->entry = be64toh(entries[0]);
        while (i < count && continues(q, run->entry, be64toh(entries[i]), i))
            i++;
    } else {
        run->entry = 0;
        i = count;
    }
    run->size = MIN(size, ((first + i) << q->cluster_bits) - offset);
    return 0;
}

/* --- reading --- */

/* A compressed cluster. What it does not fill is zero, as in an image whose size is no whole cluster. */
static int load(void *opaque, uint64_t entry, uint8_t *bytes, size_t size)
{
    struct qcow1 *q = opaque;
    const unsigned shift = 63 - q->cluster_bits;
    const uint64_t place = entry & bits_mask(shift);
    const size_t packed = (size_t)(entry >> shift & bits_mask(q->cluster_bits));
    if (!packed || !range_inside(place, packed, 0, q->file->facts.size))
        return -EIO;
    uint8_t *in = block_scratch_take(packed);
    if (!in)
        return -ENOMEM;
    int status = block_pread(q->file, in, packed, place);
    if (!status) {
        const ssize_t got = compress_unpack(COMPRESS_DEFLATE, in, packed, bytes, size);
        if (got != (ssize_t)size)
            status = got == -ENOMEM || got == -EOPNOTSUPP ? (int)got : -EIO;
    }
    block_scratch_give(in);
    return status;
}

static int qcow1_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct qcow1 *q = qcow1(b);
    const size_t cluster = b->facts.cluster;
    struct block_cursor c = {.iov = iov};
    struct run run = {0};
    for (uint64_t size = block_iov_size(iov, n); size; offset += run.size, size -= run.size) {
        int status = find(q, offset, size, &run, flags);
        if (status)
            return status;
        const size_t inside = (size_t)(offset & (cluster - 1));
        if (!run.entry)
            status = block_read_padded(q->base, &c, offset, run.size, flags);
        else if (run.entry & COMPRESSED)
            status = block_chunks_read(q->unpacked, run.entry & ~COMPRESSED, cluster, inside,
                                       (size_t)run.size, &c, flags);
        else
            status = block_chunks_read_file(q->file, &c, run.entry + inside, run.size, flags);
        if (status)
            return status;
    }
    return 0;
}

static int qcow1_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct qcow1 *q = qcow1(b);
    struct run run;
    int status = find(q, offset, size, &run, 0);
    if (status)
        return status;
    if (!run.entry)
        return block_extent_below(q->base, offset, run.size, extent);
    *extent = (struct block_extent){.size = run.size, .place = BLOCK_NO_PLACE};
    extent->compressed = run.entry & COMPRESSED;
    if (!extent->compressed)
        extent->place = run.entry + (offset & (b->facts.cluster - 1));
    return 0;
}

/* --- as an image --- */

static bool looks_like(const uint8_t *head, size_t size)
{
    return size >= sizeof(struct header) && !memcmp(head, magic, sizeof(magic)) &&
           ld32be(head + 4) == VERSION;
}

static bool info(struct disk *b, struct block_image_info *out, GError **error)
{
    (void)error;
    *out = (struct block_image_info){
        .cluster = b->facts.cluster, .backing = g_strdup(qcow1(b)->backing), .compressed = true};
    return true;
}

static const struct block_image image = {.looks_like = looks_like, .info = info};

const struct block_driver block_driver_qcow1 = {
    .name = "qcow",
    .help = "QEMU's first format; only read",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct qcow1),
    .open = qcow1_open,
    .close = qcow1_release,
    .read = qcow1_read,
    .extent = qcow1_extent,
    .image = &image,
};
