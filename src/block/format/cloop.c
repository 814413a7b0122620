/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Format cloop version 2, read only: the compressed disks of the Linux driver of that name, as Knoppix had.
 */
/*
 * Theory of operation
 *
 * The file begins with 128 bytes of shell script, by which it is known. Then come, big-endian, the size of a
 * block, the number of blocks, and for each block and the end of the last the offset where it begins. A block
 * is one piece of zlib. The offsets are looked up when a block is read, and checked then.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/chunks.h"
#include "block/image.h"
#include "block/scratch.h"
#include "codec/compress.h"

enum { HEAD = 128, TABLE = HEAD + 8, ENTRY = 8, BLOCK_LIMIT = 64 << 20 };

static const char magic[] =
    "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop";

struct cloop {
    struct disk disk;
    struct disk *file; /* disk.below */
    uint32_t block;    /* bytes */
    uint64_t data;     /* no block begins before */
    struct block_chunks *unpacked;
};

static struct cloop *cloop(struct disk *b)
{
    return (struct cloop *)(void *)b;
}

/* One block. */
static int load(void *opaque, uint64_t index, uint8_t *bytes, size_t size)
{
    struct cloop *o = opaque;
    uint64_t ends[2];
    int status = block_pread(o->file, ends, sizeof(ends), TABLE + index * ENTRY);
    if (status)
        return status;
    const uint64_t from = be64toh(ends[0]), to = be64toh(ends[1]);
    /* zlib never makes a piece much larger than it was */
    if (from < o->data || to <= from || to > o->file->facts.size || to - from > size + size / 8 + KiB)
        return -EIO;
    const size_t packed = (size_t)(to - from);
    uint8_t *in = block_scratch_take(packed);
    if (!in)
        return -ENOMEM;
    status = block_pread(o->file, in, packed, from);
    if (!status) {
        const ssize_t got = compress_unpack(COMPRESS_ZLIB, in, packed, bytes, size);
        if (got != (ssize_t)size)
            status = got == -ENOMEM || got == -EOPNOTSUPP ? (int)got : -EIO;
    }
    block_scratch_give(in);
    return status;
}

static bool read_head(struct cloop *o, GError **error)
{
    struct disk *b = &o->disk;
    uint8_t head[TABLE] = {0};
    const uint64_t end = o->file->facts.size;
    int status = end < sizeof(head) ? 0 : block_pread(o->file, head, sizeof(head), 0);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its header: %s", b->name,
                           g_strerror(-status));
    if (memcmp(head, magic, sizeof(magic) - 1) != 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: is no cloop image of version 2; is it another format?", b->name);
    const uint32_t blocks = ld32be(head + HEAD + 4);
    o->block = ld32be(head + HEAD);
    if (!o->block || o->block % BLOCK_SECTOR || o->block > BLOCK_LIMIT)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: blocks of %" PRIu32
                           " bytes; a multiple of 512 up to 64 MiB is possible",
                           b->name, o->block);
    const uint64_t table = ((uint64_t)blocks + 1) * ENTRY;
    if (!blocks || !range_inside(TABLE, table, 0, end))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: the table of %" PRIu32
                           " blocks is not inside the file of %" PRIu64 " bytes",
                           b->name, blocks, end);
    o->data = TABLE + table;
    b->facts.size = (uint64_t)blocks * o->block;
    b->facts.cluster = o->block;
    return true;
}

static bool cloop_open(struct disk *b, struct block_config *config, GError **error)
{
    struct cloop *o = cloop(b);
    if (!block_chunks_take_file(b, config, error))
        return false;
    o->file = b->below;
    if (!read_head(o, error))
        return false;
    o->unpacked = block_chunks_new(o->block, load, o);
    return true;
}

static void cloop_close(struct disk *b)
{
    block_chunks_free(cloop(b)->unpacked);
}

static int cloop_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct cloop *o = cloop(b);
    struct block_cursor c = {.iov = iov};
    for (uint64_t size = block_iov_size(iov, n), now; size; offset += now, size -= now) {
        const uint64_t inside = offset % o->block;
        now = MIN(size, o->block - inside);
        int status = block_chunks_read(o->unpacked, offset / o->block, o->block, (size_t)inside, (size_t)now,
                                       &c, flags);
        if (status)
            return status;
    }
    return 0;
}

static int cloop_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    (void)b;
    (void)offset;
    *extent = (struct block_extent){.size = size, .compressed = true, .place = BLOCK_NO_PLACE};
    return 0;
}

static bool looks_like(const uint8_t *head, size_t size)
{
    return size >= sizeof(magic) - 1 && !memcmp(head, magic, sizeof(magic) - 1);
}

static bool info(struct disk *b, struct block_image_info *out, GError **error)
{
    (void)error;
    *out = (struct block_image_info){.cluster = b->facts.cluster, .compressed = true};
    return true;
}

static const struct block_image image = {.looks_like = looks_like, .info = info};

const struct block_driver block_driver_cloop = {
    .name = "cloop",
    .help = "compressed loop devices, version 2; only read",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct cloop),
    .open = cloop_open,
    .close = cloop_close,
    .read = cloop_read,
    .extent = cloop_extent,
    .image = &image,
};
