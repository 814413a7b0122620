/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Format vpc: Virtual PC's and Hyper-V's VHD, fixed, dynamic and differencing. */
/*
 * Theory of operation
 *
 * Microsoft's Virtual Hard Disk Image Format Specification, version 1.0. A fixed image is the disk's bytes
 * and behind them the footer, one sector. The others begin with a copy of the footer, which leads to a
 * header, which leads to a table: for each block of 2 MiB the number of a sector in the file, where the
 * block's bitmap lies and behind it its data. `struct places` reads and writes by the table. The bitmap says
 * which sectors are the image's own; it matters for differencing images only, and is all ones for blocks we
 * make.
 *
 * The footer. Each new block takes the place of the footer at the end, so the footer is written behind the
 * block before anything is written into it: the file's last sector is never one that a guest wrote. While the
 * one at the end is missing, the copy at the beginning is used. The last sector is asked first, because in a
 * fixed image the first one is the guest's, who may have written there what it likes.
 *
 * Differencing images. A block of which some sectors are the parent's is completed before it is first written
 * to, and its bitmap becomes all ones when the flush has made the copied sectors durable.
 *
 * Size. Virtual PC goes by the geometry, which is why sizes are rounded up to what a geometry can say; newer
 * programs write exact sizes, and are known by their names in the footer.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/vpc_int.h"
#include "block/scratch.h"

enum { PAGE = 4096 };

struct vpc *vpc_of(struct disk *b)
{
    return (struct vpc *)(void *)b;
}

/* --- the footer --- */

uint32_t vpc_checksum(const void *bytes, size_t size, size_t checksum_at)
{
    const uint8_t *at = bytes;
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i++)
        if (i < checksum_at || i >= checksum_at + 4)
            sum += at[i];
    return ~sum;
}

bool vpc_footer_is_good(const struct vpc_footer *f)
{
    return !memcmp(f->cookie, "conectix", 8) &&
           be32toh(f->checksum) == vpc_checksum(f, sizeof(*f), offsetof(struct vpc_footer, checksum));
}

/* 0, or -EINVAL: there is none. */
static int read_footer(struct disk *file, struct vpc_footer *f)
{
    const uint64_t end = file->facts.size;
    if (end < sizeof(*f))
        return -EINVAL;
    int status = block_pread(file, f, sizeof(*f), end - sizeof(*f));
    if (status || vpc_footer_is_good(f))
        return status;
    status = block_pread(file, f, sizeof(*f), 0);
    if (status)
        return status;
    return vpc_footer_is_good(f) && be32toh(f->type) != VPC_FIXED ? 0 : -EINVAL;
}

/* Whose images have the exact size in the footer; the others' goes by the geometry. */
static bool is_exact(const struct vpc_footer *f)
{
    static const char creators[][4] = {
        {'q', 'e', 'm', '2'}, {'w', 'i', 'n', ' '}, {'v', 's', ' ', ' '},
        {'d', '2', 'v', ' '}, {'t', 'a', 'p', 0},   {'C', 'T', 'X', 'S'},
        {'w', 'a', 0, 0},     {'w', 'a', ' ', ' '}, {'v', 'b', 'o', 'x'},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(creators); i++)
        if (!memcmp(f->creator, creators[i], 4))
            return true;
    return false;
}

static uint64_t disk_size(const struct vpc_footer *f)
{
    const uint64_t chs = (uint64_t)be16toh(f->cylinders) * f->heads * f->sectors;
    return is_exact(f) || !chs || chs >= VPC_GEOMETRY_MAX ? be64toh(f->current_size) : chs * BLOCK_SECTOR;
}

static bool check_footer(struct vpc *v, GError **error)
{
    struct disk *b = &v->disk;
    const struct vpc_footer *f = &v->footer;
    const uint32_t type = be32toh(f->type);
    const uint64_t size = disk_size(f);
    if (type != VPC_FIXED && type != VPC_DYNAMIC && type != VPC_DIFFERENCING)
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: is a VHD of type %u; only fixed (2), dynamic (3) and differencing (4) ones can be "
            "used",
            b->name, type);
    if (be32toh(f->version) >> 16 != VPC_VERSION >> 16)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is a VHD of version %u.%u, this Hostel knows version 1", b->name,
                           be32toh(f->version) >> 16, be32toh(f->version) & 0xffff);
    if (!size || size % BLOCK_SECTOR || size / BLOCK_SECTOR > VPC_SECTORS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its footer is damaged: a disk of %" PRIu64 " bytes", b->name, size);
    v->fixed = type == VPC_FIXED;
    v->difference = type == VPC_DIFFERENCING;
    if (v->fixed && size > b->below->facts.size - sizeof(*f))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has %" PRIu64 " bytes, but its footer says %" PRIu64 "; its end is missing",
                           b->name, (uint64_t)b->below->facts.size, size);
    b->facts.size = size;
    return true;
}

/* --- the header --- */

uint32_t vpc_bitmap_size(uint32_t block)
{
    return (uint32_t)align_up(block / BLOCK_SECTOR / 8, BLOCK_SECTOR);
}

uint64_t vpc_align(uint64_t at, uint32_t bitmap)
{
    return align_up(at + bitmap, PAGE) - bitmap;
}

static bool check_header(struct vpc *v, GError **error)
{
    struct disk *b = &v->disk;
    const struct vpc_header *h = &v->header;
    const uint32_t block = be32toh(h->block_size), entries = be32toh(h->entries);
    const uint64_t table = be64toh(h->table_offset), size = b->facts.size, end = b->below->facts.size;
    if (memcmp(h->cookie, "cxsparse", 8) != 0 ||
        be32toh(h->checksum) != vpc_checksum(h, sizeof(*h), offsetof(struct vpc_header, checksum)))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its dynamic header is damaged", b->name);
    if (be32toh(h->version) >> 16 != VPC_VERSION >> 16)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: has a dynamic header of version %u.%u",
                           b->name, be32toh(h->version) >> 16, be32toh(h->version) & 0xffff);
    if (!is_power_of_two(block) || block < VPC_BLOCK_MIN || block > VPC_BLOCK_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has blocks of %u bytes; expected a power of two from 4 KiB to 256 MiB",
                           b->name, block);
    if (entries > VPC_ENTRIES_MAX || (size + block - 1) / block > entries)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its table has %u entries, expected %" PRIu64 " to %d", b->name, entries,
                           (size + block - 1) / block, VPC_ENTRIES_MAX);
    if (table % BLOCK_SECTOR || table < sizeof(v->footer) ||
        !range_inside(table, (uint64_t)entries * 4, 0, end))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its table lies at %" PRIu64 ", which is not inside the file", b->name, table);
    return true;
}

static bool read_header(struct vpc *v, GError **error)
{
    struct disk *b = &v->disk;
    const uint64_t at = be64toh(v->footer.data_offset), end = b->below->facts.size;
    if (at % BLOCK_SECTOR || at < sizeof(v->footer) || !range_inside(at, sizeof(v->header), 0, end))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its dynamic header lies at %" PRIu64 ", which is not inside the file",
                           b->name, at);
    int status = block_pread(b->below, &v->header, sizeof(v->header), at);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its header: %s", b->name,
                           g_strerror(-status));
    return check_header(v, error);
}

/* --- the table --- */

uint64_t vpc_judge(const struct vpc *v, uint32_t entry)
{
    const struct places *p = &v->places;
    const uint64_t at = (uint64_t)entry * BLOCK_SECTOR;
    const uint64_t table = p->table, table_size = align_up(p->table_size, BLOCK_SECTOR);
    if (entry == VPC_FREE)
        return PLACES_NONE;
    const uint64_t whole = (uint64_t)v->bitmap + p->block;
    if (at < sizeof(v->footer) || at + v->bitmap >= v->disk.below->facts.size ||
        ranges_overlap(at, whole, table, table_size) ||
        ranges_overlap(at, whole, be64toh(v->footer.data_offset), sizeof(v->header)))
        return (uint64_t)entry << 8 | PLACES_BAD;
    return (at + v->bitmap) | (v->difference ? PLACES_PARTIAL : 0);
}

uint32_t vpc_entry(const struct vpc *v, uint64_t place)
{
    if (place == PLACES_NONE)
        return VPC_FREE;
    if (place & PLACES_BAD)
        return (uint32_t)(place >> 8);
    return (uint32_t)(((place & ~(uint64_t)PLACES_STATES) - v->bitmap) / BLOCK_SECTOR);
}

static void encode(struct places *p, uint64_t page, uint8_t *bytes, uint32_t size)
{
    struct vpc *v = CONTAINER_OF(p, struct vpc, places);
    for (uint32_t i = 0; i < size / 4; i++) {
        const uint64_t block = page * (PLACES_PAGE / 4) + i, place = places_get(p, block);
        st32be(bytes + (size_t)i * 4, vpc_entry(v, place));
        if (v->whole && place && !(place & PLACES_STATES) && !v->whole[block])
            v->whole[block] = 2;
    }
}

static int write_ones(struct vpc *v, uint64_t place)
{
    uint8_t ones[BLOCK_SECTOR];
    int status = 0;
    memset(ones, 0xff, sizeof(ones));
    for (uint32_t i = 0; i < v->bitmap && !status; i += BLOCK_SECTOR)
        status = block_pwrite(v->disk.below, ones, sizeof(ones), place - v->bitmap + i);
    return status;
}

/* A new block: all of it is the image's, and behind it is the footer. */
static int prepare(struct places *p, uint64_t block, uint64_t at)
{
    struct vpc *v = CONTAINER_OF(p, struct vpc, places);
    int status = block_pwrite(p->file, &v->footer, sizeof(v->footer), at + p->lead + p->block);
    if (!status)
        status = write_ones(v, at + p->lead);
    if (status)
        return status;
    v->tail = at + p->lead + p->block;
    if (v->whole)
        v->whole[block] = 1;
    return 0;
}

/* The entries, and the bitmaps of blocks that were completed: their data is durable. */
static int store(struct places *p, const uint64_t *pages, unsigned n, const uint8_t *bytes)
{
    struct vpc *v = CONTAINER_OF(p, struct vpc, places);
    int status = 0;
    for (unsigned i = 0; i < n && !status; i++) {
        const uint64_t first = pages[i] * (PLACES_PAGE / 4), end = MIN(p->count, first + PLACES_PAGE / 4);
        status =
            block_pwrite(p->file, bytes + (size_t)i * PLACES_PAGE, (end - first) * 4, p->table + first * 4);
        for (uint64_t k = first; v->whole && k < end && !status; k++)
            if (v->whole[k] == 2) {
                status = write_ones(v, places_get(p, k));
                v->whole[k] = 1;
            }
    }
    return status;
}

/* After a crash the footer at the end may be missing, or what is there nobody's. */
static int begin(struct places *p)
{
    struct vpc *v = CONTAINER_OF(p, struct vpc, places);
    const uint64_t end = v->tail + sizeof(v->footer);
    struct vpc_footer f = {0};
    int status = places_read_file(p, &f, sizeof(f), v->tail);
    if (!status && (p->file->facts.size != end || memcmp(&f, &v->footer, sizeof(f)) != 0))
        status = block_pwrite(p->file, &v->footer, sizeof(v->footer), v->tail);
    if (!status && p->file->facts.size > end && p->file->facts.growable)
        status = block_resize(p->file, end);
    return status;
}

/* Bits go from the most significant one down. */
static int here(struct places *p, uint64_t block, uint64_t place, uint32_t sector, uint32_t n, uint32_t *run,
                bool *is_here, unsigned flags)
{
    struct vpc *v = CONTAINER_OF(p, struct vpc, places);
    (void)block;
    uint8_t bits[BLOCK_SECTOR];
    const uint32_t first = sector / 8 / BLOCK_SECTOR * BLOCK_SECTOR; /* of the bitmap, bytes */
    const struct iovec iov = {bits, sizeof(bits)};
    int status = block_read(p->file, &iov, 1, place - v->bitmap + first, flags);
    if (status)
        return status;
    const uint32_t from = sector - first * 8, most = MIN(n, (uint32_t)sizeof(bits) * 8 - from);
    *is_here = bits[from / 8] & 0x80 >> from % 8;
    for (*run = 1; *run < most; ++*run) {
        const uint32_t at = from + *run;
        if (!(bits[at / 8] & 0x80 >> at % 8) == *is_here)
            break;
    }
    return 0;
}

static const struct places_ops places_ops = {
    .encode = encode, .begin = begin, .prepare = prepare, .store = store, .here = here};

/* --- life --- */

static void set_places(struct vpc *v)
{
    const struct vpc_header *h = &v->header;
    const uint32_t block = be32toh(h->block_size);
    v->bitmap = vpc_bitmap_size(block);
    v->places = (struct places){
        .ops = &places_ops,
        .disk = &v->disk,
        .file = v->disk.below,
        .count = (v->disk.facts.size + block - 1) / block,
        .block = block,
        .lead = v->bitmap,
        .step = (uint32_t)align_up(v->bitmap + block, PAGE),
        .table = be64toh(h->table_offset),
        .entry_size = 4,
        .limit = (uint64_t)UINT32_MAX * BLOCK_SECTOR,
    };
    v->places.table_size = v->places.count * 4;
    v->data = MAX(align_up(v->places.table + v->places.table_size, BLOCK_SECTOR),
                  be64toh(v->footer.data_offset) + sizeof(*h));
}

static int load_table(struct vpc *v, uint64_t *damaged)
{
    enum { ENTRIES = 16384 };
    struct places *p = &v->places;
    uint8_t *bytes = block_scratch_take(ENTRIES * 4);
    int status = bytes ? 0 : -ENOMEM;
    uint64_t end = v->data;
    *damaged = 0;
    for (uint64_t i = 0, n; i < p->count && !status; i += n) {
        n = MIN(p->count - i, (uint64_t)ENTRIES);
        status = places_read_file(p, bytes, n * 4, p->table + i * 4);
        for (uint64_t k = 0; k < n && !status; k++) {
            const uint32_t entry = ld32be(bytes + k * 4);
            if (entry == VPC_FREE) /* most of them, and memory that says so costs nothing */
                continue;
            const uint64_t place = vpc_judge(v, entry);
            atomic_init(&p->live[i + k], place);
            *damaged += (place & PLACES_BAD) != 0;
            if (place && !(place & PLACES_BAD))
                end = MAX(end, (place & ~(uint64_t)PLACES_STATES) + p->block);
        }
    }
    block_scratch_give(bytes);
    v->tail = align_up(end, BLOCK_SECTOR);
    p->end = vpc_align(v->tail, v->bitmap);
    return status;
}

static bool load(struct vpc *v, unsigned flags, GError **error)
{
    uint64_t damaged = 0;
    int status = places_init(&v->places);
    if (!status)
        status = load_table(v, &damaged);
    if (!status && v->difference && !(v->whole = g_try_malloc0(v->places.count + 1)))
        status = -ENOMEM;
    return places_loaded(&v->places, status, damaged, flags, error);
}

/* The parent, when it is a VHD, too, must be the one it was made from. */
static bool check_parent(struct vpc *v, GError **error)
{
    struct disk *base = v->places.base;
    if (!base || strcmp(base->driver->name, "vpc") != 0)
        return true;
    return !memcmp(vpc_of(base)->footer.id, v->header.parent_id, 16) ||
           hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s: %s is not the parent it was made from; give the one with the same identifier",
                       v->disk.name, base->name);
}

static bool open_parent(struct vpc *v, struct block_config *config, GError **error)
{
    if (!v->difference)
        return true;
    v->parent = (uint8_t *)vpc_parent_name(v);
    if (!v->parent && !config->base && !(config->flags & BLOCK_OPEN_ALONE))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: lies over a parent, but does not name it in a way that can be read; name the "
                           "backing file",
                           v->disk.name);
    return block_open_base(config, (const char *)v->parent, "vpc", &v->places.base, error) &&
           check_parent(v, error);
}

static void release(struct vpc *v)
{
    places_fini(&v->places);
    g_free(v->parent);
    g_free(v->whole);
}

static bool vpc_open(struct disk *b, struct block_config *config, GError **error)
{
    struct vpc *v = vpc_of(b);
    b->below = STEAL(config->file);
    int status = read_footer(b->below, &v->footer);
    if (status == -EINVAL)
        return hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s: is no VHD: neither its end nor its beginning is a footer; is it another format?", b->name);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its footer: %s", b->name,
                           g_strerror(-status));
    if (!check_footer(v, error))
        return false;
    b->facts.alignment = 1;
    b->facts.preferred = PAGE;
    b->facts.granularity = b->below->facts.granularity;
    if (v->fixed)
        return true;
    if (!read_header(v, error))
        return false;
    set_places(v);
    if (!load(v, config->flags, error) || !open_parent(v, config, error)) {
        release(v);
        return false;
    }
    b->facts.cluster = v->places.block;
    return true;
}

static void vpc_close(struct disk *b)
{
    if (!b->facts.readonly)
        block_flush(b);
    if (!vpc_of(b)->fixed)
        release(vpc_of(b));
}

/* --- the disk's operations --- */

static int vpc_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct vpc *v = vpc_of(b);
    return v->fixed ? block_read(b->below, iov, n, offset, flags)
                    : places_read(&v->places, iov, n, offset, flags);
}

static int vpc_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    struct vpc *v = vpc_of(b);
    return v->fixed ? block_write(b->below, iov, n, offset) : places_write(&v->places, iov, n, offset);
}

static int vpc_flush(struct disk *b)
{
    struct vpc *v = vpc_of(b);
    return v->fixed ? block_flush(b->below) : places_flush(&v->places);
}

static int vpc_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    struct vpc *v = vpc_of(b);
    return v->fixed ? block_discard(b->below, offset, size) : places_discard(&v->places, offset, size);
}

static int vpc_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct vpc *v = vpc_of(b);
    return v->fixed ? block_zero(b->below, offset, size, flags)
                    : places_zero(&v->places, offset, size, flags);
}

static int vpc_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct vpc *v = vpc_of(b);
    return v->fixed ? block_extent(b->below, offset, size, extent)
                    : places_extent(&v->places, offset, size, extent);
}

const struct block_driver block_driver_vpc = {
    .name = "vpc",
    .help = "Virtual PC's and Hyper-V's VHD",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct vpc),
    .open = vpc_open,
    .close = vpc_close,
    .read = vpc_read,
    .write = vpc_write,
    .flush = vpc_flush,
    .discard = vpc_discard,
    .zero = vpc_zero,
    .extent = vpc_extent,
    .image = &vpc_image,
};
