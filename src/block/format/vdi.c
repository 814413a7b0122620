/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Format vdi: VirtualBox's disk image, version 1.1, dynamic and fixed. */
/*
 * Theory of operation
 *
 * The layout is that of VirtualBox's VDICore.h: one sector of header, a map of 32-bit numbers (one for each
 * block of the disk), then slots of a block's size. An entry is the number of a slot, or says that the block
 * reads as zeroes: ~0 was never written, ~0 - 1 was given up. A fixed image differs in its type only, and in
 * that all slots were given out when it was made. `struct places` reads and writes by the map.
 *
 * The header counts the slots that were given out, and others who write the image take the next one without
 * looking at the map. So the count is written together with the data, before the flush that precedes the
 * entries: after a crash it may be too large, which leaks slots, but never too small. Slots that no entry
 * names are found when the image is opened, and given out first.
 *
 * Growing past the room between header and slots: the first slots' blocks move to the end, the new map is
 * written where they were, then one write of the header makes it the map, and what follows it the slots.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/places.h"
#include "block/format/vdi_int.h"
#include "block/scratch.h"

enum { COMPACT_MAX = 64 /* blocks that are moved when the image is closed; a repair moves any number */ };

_Static_assert(sizeof(struct vdi_header) == 512, "a sector");

struct vdi *vdi_of(struct disk *b)
{
    return (struct vdi *)(void *)b;
}

/* --- the header --- */

static bool is_null(const uint8_t id[16])
{
    static const uint8_t null[16];
    return !memcmp(id, null, sizeof(null));
}

static bool check_kind(struct disk *b, const struct vdi_header *h, GError **error)
{
    if (le32toh(h->signature) != VDI_SIGNATURE)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no vdi image; is it another format?", b->name);
    if (le32toh(h->version) != VDI_VERSION)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is a vdi image of version %u.%u, this Hostel knows version 1.1", b->name,
                           le32toh(h->version) >> 16, le32toh(h->version) & 0xffff);
    const uint32_t type = le32toh(h->type);
    if (type != VDI_DYNAMIC && type != VDI_FIXED)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is a vdi image of type %u%s; only dynamic (1) and fixed (2) ones can be used",
                           b->name, type,
                           type == 4   ? " (differencing)"
                           : type == 3 ? " (undo)"
                                       : "");
    if (!is_null(h->parent) || !is_null(h->link))
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: lies over another vdi image, which is not supported; merge them with VBoxManage", b->name);
    return true;
}

static bool check_numbers(struct disk *b, const struct vdi_header *h, GError **error)
{
    const uint64_t block = le32toh(h->block_size), blocks = le32toh(h->blocks), size = le64toh(h->disk_size);
    const uint64_t map = le32toh(h->map_offset), data = le32toh(h->data_offset);
    if (le32toh(h->sector_size) != BLOCK_SECTOR || le32toh(h->block_extra))
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: has sectors of %u bytes and %u extra bytes for each block; only 512 and 0 can be "
            "used",
            b->name, le32toh(h->sector_size), le32toh(h->block_extra));
    if (!is_power_of_two(block) || block < VDI_BLOCK_MIN || block > VDI_BLOCK_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: blocks of %" PRIu64
                           " bytes; expected a power of two from 4 KiB to 256 MiB",
                           b->name, block);
    if (!blocks || blocks > VDI_BLOCKS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has %" PRIu64 " blocks, expected 1 to %" PRIu64,
                           b->name, blocks, (uint64_t)VDI_BLOCKS_MAX);
    if (!size || size > blocks * block || blocks * block - size >= block)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: a disk of %" PRIu64 " bytes in %" PRIu64
                           " blocks of %" PRIu64,
                           b->name, size, blocks, block);
    if (map < sizeof(*h) || map % BLOCK_SECTOR || data % BLOCK_SECTOR || data < map + blocks * 4)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its header is damaged: the map of %" PRIu64 " blocks at %" PRIu64
                           ", the blocks at %" PRIu64,
                           b->name, blocks, map, data);
    return true;
}

static bool read_header(struct vdi *v, GError **error)
{
    struct disk *b = &v->disk;
    int status = b->below->facts.size < sizeof(v->header)
                     ? -EINVAL
                     : block_pread(b->below, &v->header, sizeof(v->header), 0);
    if (status == -EINVAL)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no vdi image: it is shorter than a header",
                           b->name);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its header: %s", b->name,
                           g_strerror(-status));
    return check_kind(b, &v->header, error) && check_numbers(b, &v->header, error);
}

/* --- the map --- */

static void encode(struct places *p, uint64_t page, uint8_t *bytes, uint32_t size)
{
    struct vdi *v = CONTAINER_OF(p, struct vdi, places);
    for (uint32_t i = 0; i < size / 4; i++)
        st32le(bytes + (size_t)i * 4, vdi_entry(v, places_get(p, page * (PLACES_PAGE / 4) + i)));
}

uint32_t vdi_entry(const struct vdi *v, uint64_t place)
{
    if (place == PLACES_NONE)
        return VDI_FREE;
    if (place & PLACES_BAD)
        return (uint32_t)(place >> 8);
    if (place & PLACES_ZERO)
        return VDI_ZERO;
    return (uint32_t)((place - v->data) / v->places.block);
}

int vdi_write_header(struct vdi *v)
{
    return block_pwrite(v->disk.below, &v->header, sizeof(v->header), 0);
}

/* The count of slots goes before the entries that name them. */
static int before(struct places *p)
{
    struct vdi *v = CONTAINER_OF(p, struct vdi, places);
    const uint32_t slots = (uint32_t)((p->end - v->data) / p->block);
    if (le32toh(v->header.allocated) == slots)
        return 0;
    v->header.allocated = htole32(slots);
    return vdi_write_header(v);
}

/* Nothing, but that from now on places.begun says so. */
static int begin(struct places *p)
{
    (void)p;
    return 0;
}

static const struct places_ops places_ops = {.encode = encode, .begin = begin, .before = before};

/* What the map says of one block; *place what to make of it. */
static enum vdi_damage judge(const struct vdi *v, uint32_t entry, uint8_t *used, uint64_t *place)
{
    const uint64_t bad = (uint64_t)entry << 8 | PLACES_BAD;
    *place = entry == VDI_ZERO ? PLACES_ZERO : PLACES_NONE;
    if (entry >= VDI_ZERO)
        return VDI_FINE;
    *place = bad;
    if (entry >= v->slots_max || entry >= le32toh(v->header.allocated))
        return VDI_NO_SLOT;
    const uint64_t at = v->data + (uint64_t)entry * v->places.block;
    if (at >= v->disk.below->facts.size)
        return VDI_BEHIND_END;
    *place = at;
    if (used[entry / 8] & 1 << entry % 8)
        return VDI_TWICE;
    used[entry / 8] |= (uint8_t)(1 << entry % 8);
    return VDI_FINE;
}

int vdi_examine(struct vdi *v, uint8_t *used, vdi_seen *seen, void *opaque)
{
    enum { ENTRIES = 16384 };
    uint8_t *bytes = block_scratch_take(ENTRIES * 4);
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t i = 0, n; i < v->places.count && !status; i += n) {
        n = MIN(v->places.count - i, (uint64_t)ENTRIES);
        status = places_read_file(&v->places, bytes, n * 4, v->places.table + i * 4);
        for (uint64_t k = 0; k < n && !status; k++) {
            uint64_t place;
            const uint32_t entry = ld32le(bytes + k * 4);
            if (entry == VDI_FREE) /* most of them, and memory that says so costs nothing */
                continue;
            const enum vdi_damage damage = judge(v, entry, used, &place);
            seen(v, i + k, place, damage, opaque);
        }
    }
    block_scratch_give(bytes);
    return status;
}

static void set_live(struct vdi *v, uint64_t block, uint64_t place, enum vdi_damage damage, void *opaque)
{
    atomic_init(&v->places.live[block], place);
    if (!(place & PLACES_STATES) && place)
        v->places.end = MAX(v->places.end, place + v->places.block);
    if (damage)
        ++*(uint64_t *)opaque;
}

/* Slots that no entry names are given out first. */
static int find_spares(struct vdi *v, const uint8_t *used)
{
    enum { SPARES_MAX = 65536 };
    struct places *p = &v->places;
    const uint64_t slots = (p->end - v->data) / p->block;
    uint64_t n = 0;
    for (uint64_t i = 0; i < slots; i++)
        n += !(used[i / 8] & 1 << i % 8);
    n = MIN(n, (uint64_t)SPARES_MAX);
    g_free(p->spares);
    p->spare_count = 0;
    p->spares = n ? g_try_malloc_n(n, sizeof(*p->spares)) : NULL;
    if (n && !p->spares)
        return -ENOMEM;
    for (uint64_t i = slots; i-- > 0 && p->spare_count < n;)
        if (!(used[i / 8] & 1 << i % 8))
            p->spares[p->spare_count++] = v->data + i * p->block;
    return 0;
}

int vdi_load(struct vdi *v, uint64_t *damaged)
{
    g_autofree uint8_t *used = g_try_malloc0(v->slots_max / 8 + 1);
    *damaged = 0;
    if (!used)
        return -ENOMEM;
    v->places.end = v->data;
    int status = vdi_examine(v, used, set_live, damaged);
    return status ? status : find_spares(v, used);
}

/* --- life --- */

static void set_places(struct vdi *v)
{
    const struct vdi_header *h = &v->header;
    v->data = le32toh(h->data_offset);
    /* Growing gives the first blocks new slots before the old ones are free. */
    v->slots_max = 2 * (uint64_t)le32toh(h->blocks) + 65536;
    v->places = (struct places){
        .ops = &places_ops,
        .disk = &v->disk,
        .file = v->disk.below,
        .count = le32toh(h->blocks),
        .block = le32toh(h->block_size),
        .table = le32toh(h->map_offset),
        .table_size = (uint64_t)le32toh(h->blocks) * 4,
        .entry_size = 4,
        .limit = v->data + v->slots_max * le32toh(h->block_size),
    };
}

static bool load(struct vdi *v, unsigned flags, GError **error)
{
    uint64_t damaged = 0;
    int status = places_init(&v->places);
    if (!status)
        status = vdi_load(v, &damaged);
    return places_loaded(&v->places, status, damaged, flags, error);
}

static bool vdi_open(struct disk *b, struct block_config *config, GError **error)
{
    struct vdi *v = vdi_of(b);
    b->below = STEAL(config->file);
    if (!read_header(v, error))
        return false;
    set_places(v);
    if (!load(v, config->flags, error)) {
        places_fini(&v->places);
        return false;
    }
    b->facts.size = le64toh(v->header.disk_size);
    b->facts.alignment = 1;
    b->facts.preferred = 4096;
    b->facts.cluster = v->places.block;
    b->facts.granularity = b->below->facts.granularity;
    return true;
}

static void vdi_close(struct disk *b)
{
    struct vdi *v = vdi_of(b);
    struct places *p = &v->places;
    if (!b->facts.readonly && !block_flush(b)) {
        /* What a crash has leaked and was not given out since: others count such slots as damage. */
        const bool leaked = p->spare_count || le32toh(v->header.allocated) != (p->end - v->data) / p->block;
        if (leaked && p->spare_count <= COMPACT_MAX && atomic_load(&p->begun))
            vdi_compact(v);
        places_trim(p);
    }
    places_fini(p);
}

/* --- the disk's operations --- */

static int vdi_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return places_read(&vdi_of(b)->places, iov, n, offset, flags);
}

static int vdi_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return places_write(&vdi_of(b)->places, iov, n, offset);
}

static int vdi_flush(struct disk *b)
{
    return places_flush(&vdi_of(b)->places);
}

static int vdi_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return places_discard(&vdi_of(b)->places, offset, size);
}

static int vdi_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    return places_zero(&vdi_of(b)->places, offset, size, flags);
}

static int vdi_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return places_extent(&vdi_of(b)->places, offset, size, extent);
}

const struct block_driver block_driver_vdi = {
    .name = "vdi",
    .help = "VirtualBox's disk image",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct vdi),
    .open = vdi_open,
    .close = vdi_close,
    .read = vdi_read,
    .write = vdi_write,
    .flush = vdi_flush,
    .discard = vdi_discard,
    .zero = vdi_zero,
    .extent = vdi_extent,
    .resize = vdi_resize,
    .image = &vdi_image,
};
