/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Format bochs, read only: the "growing" disks of the Bochs emulator (its documentation, "Disk images"). */
/*
 * Theory of operation
 *
 * All numbers are little-endian. After a header of 512 bytes comes the catalog, an entry for each extent of
 * the disk: all ones = nothing was ever written there, else the number of the extent's place behind the
 * catalog. A place begins with a bitmap, a bit for each sector of the extent that was written, in whole
 * sectors; then come the extent's sectors.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/param.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/chunks.h"
#include "block/image.h"

enum { VERSION_1 = 0x00010000, VERSION_2 = 0x00020000, HEADER = 512, EXTENT_MAX = 8 << 20, ENTRY = 4 };
#define NOWHERE UINT32_MAX
#define SIZE_LIMIT BIT(62)

static const char magic[32] = "Bochs Virtual HD Image", type[16] = "Redolog", growing[16] = "Growing";

struct header {
    char magic[32], type[16], subtype[16];
    uint32_t version, header; /* header: its size, where the catalog begins */
    uint32_t catalog;         /* entries */
    uint32_t bitmap, extent;  /* bytes of an extent's bitmap, of an extent */
    uint32_t rest[3];         /* version 1: the disk's size, nothing; version 2: a time, the size */
};
_Static_assert(sizeof(struct header) == 96, "no padding");

struct bochs {
    struct disk disk;
    struct disk *file;           /* disk.below */
    uint64_t catalog, places;    /* offsets */
    uint32_t entries, extent;    /* extent: bytes */
    uint32_t bitmap, bitmap_run; /* bytes: of the bitmap; in whole sectors */
};

static struct bochs *bochs(struct disk *b)
{
    return (struct bochs *)(void *)b;
}

/* --- opening --- */

static uint64_t disk_size(const struct header *h)
{
    const unsigned at = le32toh(h->version) == VERSION_1 ? 0 : 1;
    return le32toh(h->rest[at]) | (uint64_t)le32toh(h->rest[at + 1]) << 32;
}

static bool check_kind(const struct disk *b, const struct header *h, GError **error)
{
    const uint32_t version = le32toh(h->version);
    if (memcmp(h->magic, magic, sizeof(magic)) != 0 || memcmp(h->type, type, sizeof(type)) != 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no disk image of Bochs; is it another format?",
                           b->name);
    if (memcmp(h->subtype, growing, sizeof(growing)) != 0)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is a Bochs image, but not of the kind `growing`, the only one that is read",
                           b->name);
    if (version != VERSION_1 && version != VERSION_2)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is a Bochs image of version 0x%" PRIx32 ", this Hostel knows 0x%x and 0x%x",
                           b->name, version, VERSION_1, VERSION_2);
    return true;
}

static bool check_header(struct bochs *o, const struct header *h, GError **error)
{
    struct disk *b = &o->disk;
    if (!check_kind(b, h, error))
        return false;
    const uint64_t size = disk_size(h), begin = le32toh(h->header);
    o->entries = le32toh(h->catalog);
    o->extent = le32toh(h->extent);
    o->bitmap = le32toh(h->bitmap);
    if (o->extent < BLOCK_SECTOR || o->extent > EXTENT_MAX || !is_power_of_two(o->extent))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: extents of %" PRIu32
                           " bytes; a power of two from 512 to 8 MiB is possible",
                           b->name, o->extent);
    if (o->bitmap > EXTENT_MAX || (uint64_t)o->bitmap * 8 < o->extent / BLOCK_SECTOR)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: a bitmap of %" PRIu32
                           " bytes for the sectors of an extent of %" PRIu32 " bytes",
                           b->name, o->bitmap, o->extent);
    if (size < BLOCK_SECTOR || size > SIZE_LIMIT || (size - 1) / o->extent >= o->entries)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: a disk of %" PRIu64 " bytes in %" PRIu32
                           " extents of %" PRIu32 " bytes",
                           b->name, size, o->entries, o->extent);
    if (begin < HEADER || !range_inside(begin, (uint64_t)o->entries * ENTRY, 0, o->file->facts.size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its catalog (%" PRIu32 " entries at %" PRIu64
                           ") is not inside the file of %" PRIu64 " bytes",
                           b->name, o->entries, begin, o->file->facts.size);
    o->catalog = begin;
    o->places = begin + (uint64_t)o->entries * ENTRY;
    o->bitmap_run = (uint32_t)align_up(o->bitmap, BLOCK_SECTOR);
    b->facts.size = size / BLOCK_SECTOR * BLOCK_SECTOR;
    b->facts.cluster = o->extent;
    return true;
}

static bool bochs_open(struct disk *b, struct block_config *config, GError **error)
{
    struct bochs *o = bochs(b);
    struct header h = {0};
    if (!block_chunks_take_file(b, config, error))
        return false;
    o->file = b->below;
    int status = o->file->facts.size < sizeof(h) ? 0 : block_pread(o->file, &h, sizeof(h), 0);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its header: %s", b->name,
                           g_strerror(-status));
    return check_header(o, &h, error);
}

/* --- reading --- */

/* Is sector i of an extent there? As far as the bitmap's part of 4 KiB goes, *count sectors are alike. */
static bool sectors_alike(const uint8_t *bitmap, uint64_t i, uint64_t end, uint64_t *count)
{
    const bool there = bitmap[i / 8] >> i % 8 & 1;
    uint64_t next = i + 1;
    while (next < end && (bitmap[next / 8] >> next % 8 & 1) == there)
        next++;
    *count = next - i;
    return there;
}

/* Where the bytes from offset on are: *place = 0 when nowhere; *run bytes of them are alike. */
static int find(struct bochs *o, uint64_t offset, uint64_t size, uint64_t *place, uint64_t *run,
                unsigned flags)
{
    enum { PART = 512 };
    uint8_t part[PART];
    uint32_t entry;
    const uint64_t inside = offset % o->extent, sector = inside / BLOCK_SECTOR;
    const uint64_t sectors = o->extent / BLOCK_SECTOR, first = sector / 8;
    const struct iovec for_entry = {&entry, sizeof(entry)};
    int status = block_read(o->file, &for_entry, 1, o->catalog + offset / o->extent * ENTRY, flags);
    *place = 0;
    *run = MIN(size, o->extent - inside);
    if (status || le32toh(entry) == NOWHERE)
        return status;

    /* No more than 2^32 places of 16 MiB. */
    const uint64_t at = o->places + (uint64_t)le32toh(entry) * ((uint64_t)o->bitmap_run + o->extent);
    const uint64_t bytes = MIN(PART, (sectors + 7) / 8 - first);
    if (!range_inside(at, o->bitmap_run, 0, o->file->facts.size))
        return -EIO;
    const struct iovec for_part = {part, bytes};
    status = block_read(o->file, &for_part, 1, at + first, flags);
    if (status)
        return status;
    uint64_t count;
    if (sectors_alike(part, sector % 8, MIN(bytes * 8, sectors - first * 8), &count))
        *place = at + o->bitmap_run + inside;
    *run = MIN(*run, (sector + count) * BLOCK_SECTOR - inside);
    return 0;
}

static int bochs_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct bochs *o = bochs(b);
    struct block_cursor c = {.iov = iov};
    for (uint64_t size = block_iov_size(iov, n), run = 0, place; size; offset += run, size -= run) {
        int status = find(o, offset, size, &place, &run, flags);
        if (!status && place)
            status = block_chunks_read_file(o->file, &c, place, run, flags);
        else if (!status)
            block_cursor_zero(&c, run);
        if (status)
            return status;
    }
    return 0;
}

static int bochs_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    uint64_t place, run;
    int status = find(bochs(b), offset, size, &place, &run, 0);
    if (!status)
        *extent = (struct block_extent){
            .size = run, .hole = !place, .zero = !place, .place = place ? place : BLOCK_NO_PLACE};
    return status;
}

/* --- as an image --- */

static bool looks_like(const uint8_t *head, size_t size)
{
    return size >= sizeof(struct header) && !memcmp(head, magic, sizeof(magic));
}

static bool info(struct disk *b, struct block_image_info *out, GError **error)
{
    (void)error;
    *out = (struct block_image_info){.cluster = b->facts.cluster};
    return true;
}

static const struct block_image image = {.looks_like = looks_like, .info = info};

const struct block_driver block_driver_bochs = {
    .name = "bochs",
    .help = "growing disks of Bochs; only read",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct bochs),
    .open = bochs_open,
    .read = bochs_read,
    .extent = bochs_extent,
    .image = &image,
};
