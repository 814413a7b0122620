/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The block allocation table of a VHDX file, as places have it and as the file does ([MS-VHDX] 2.5). */
/*
 * After as many blocks as one bitmap block speaks of (the ratio) there is an entry for that. Bitmaps matter
 * for blocks that are present in part only, which only differencing images have; we write none, but complete
 * such a block when it is first written to.
 *
 * An entry that makes no sense keeps its place and its state (in bits 8 to 10), so that it can be written
 * as it was.
 */
#include <errno.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "block/format/vhdx/vhdx.h"
#include "block/scratch.h"

uint32_t vhdx_ratio(uint32_t sector, uint32_t block)
{
    return (uint32_t)(VHDX_CHUNK * sector / block);
}

uint64_t vhdx_bat_entries(uint64_t blocks, uint32_t ratio, bool difference)
{
    if (difference)
        return (blocks + ratio - 1) / ratio * ((uint64_t)ratio + 1);
    return blocks + (blocks - 1) / ratio;
}

/* --- as the file has it --- */

static uint64_t entry_of(uint64_t place)
{
    if (place == PLACES_NONE)
        return VHDX_NOT_PRESENT;
    switch (place & PLACES_STATES) {
    case PLACES_ZERO: return VHDX_ZERO;
    case PLACES_PARTIAL: return VHDX_PLACE(place) | VHDX_PARTIALLY_PRESENT;
    case PLACES_BAD: return VHDX_PLACE(place) | (place >> 8 & 7);
    default: return place | VHDX_FULLY_PRESENT;
    }
}

static void encode(struct places *p, uint64_t page, uint8_t *bytes, uint32_t size)
{
    const struct vhdx *v = CONTAINER_OF(p, struct vhdx, places);
    const uint64_t group = (uint64_t)p->ratio + 1;
    for (uint32_t i = 0; i < size / 8; i++) {
        const uint64_t at = page * (PLACES_PAGE / 8) + i, chunk = at / group, inside = at % group;
        const uint64_t block = chunk * p->ratio + inside;
        uint64_t entry = 0;
        if (inside == p->ratio)
            entry = chunk < v->chunks ? v->bitmaps[chunk] : 0;
        else if (block < p->count)
            entry = entry_of(places_get(p, block));
        st64le(bytes + (size_t)i * 8, entry);
    }
}

/* --- reading it --- */

static bool is_free_room(const struct vhdx *v, uint64_t place, uint64_t size)
{
    const uint64_t end = MAX(v->file_size, (uint64_t)v->disk.below->facts.size);
    return place >= VHDX_UNIT && place < end && range_inside(place, size, 0, INT64_MAX) &&
           !ranges_overlap(place, size, v->log.offset, v->log.length) &&
           !ranges_overlap(place, size, v->bat.offset, v->bat.length) &&
           !ranges_overlap(place, size, v->metadata.offset, v->metadata.length);
}

static bool has_bitmap(const struct vhdx *v, uint64_t block)
{
    return v->difference && VHDX_STATE(v->bitmaps[block / v->places.ratio]) == VHDX_BITMAP_PRESENT;
}

static uint64_t judge(const struct vhdx *v, uint64_t block, uint64_t entry)
{
    const uint64_t place = VHDX_PLACE(entry), state = VHDX_STATE(entry);
    const uint64_t bad = place | state << 8 | PLACES_BAD;
    switch (state) {
    case VHDX_NOT_PRESENT: return PLACES_NONE;
    case VHDX_UNDEFINED:
    case VHDX_ZERO:
    case VHDX_UNMAPPED: return PLACES_ZERO;
    case VHDX_FULLY_PRESENT: return is_free_room(v, place, v->places.block) ? place : bad;
    case VHDX_PARTIALLY_PRESENT:
        return is_free_room(v, place, v->places.block) && has_bitmap(v, block) ? place | PLACES_PARTIAL : bad;
    default: return bad;
    }
}

static void keep_end(struct vhdx *v, uint64_t end)
{
    v->places.end = MAX(v->places.end, align_up(end, VHDX_UNIT));
}

/* Entries of bitmap blocks come behind those of the blocks that they speak of, so they are read first. */
static int load_bitmaps(struct vhdx *v, uint64_t *damaged)
{
    const struct places *p = &v->places;
    int status = 0;
    for (uint64_t i = 0; v->difference && i < v->chunks && !status; i++) {
        uint8_t bytes[8];
        const uint64_t at = i * ((uint64_t)p->ratio + 1) + p->ratio;
        status = vhdx_read_meta(v, bytes, 8, v->bat.offset + at * 8);
        const uint64_t entry = ld64le(bytes);
        if (status || VHDX_STATE(entry) != VHDX_BITMAP_PRESENT)
            continue;
        if (is_free_room(v, VHDX_PLACE(entry), VHDX_UNIT)) {
            v->bitmaps[i] = entry;
            keep_end(v, VHDX_PLACE(entry) + VHDX_UNIT);
        } else {
            ++*damaged;
        }
    }
    return status;
}

static void load_entry(struct vhdx *v, uint64_t at, uint64_t entry, uint64_t *damaged)
{
    struct places *p = &v->places;
    const uint64_t group = (uint64_t)p->ratio + 1, block = at / group * p->ratio + at % group;
    if (at % group == p->ratio || block >= p->count)
        return;
    const uint64_t place = judge(v, block, entry);
    atomic_init(&p->live[block], place);
    if (place & PLACES_BAD)
        ++*damaged;
    else if (place && !(place & PLACES_ZERO))
        keep_end(v, VHDX_PLACE(place) + p->block);
}

int vhdx_load_bat(struct vhdx *v, uint64_t *damaged)
{
    enum { ENTRIES = 32768 };
    const uint64_t all = vhdx_bat_entries(v->places.count, v->places.ratio, v->difference);
    *damaged = 0;
    keep_end(v, v->log.offset + v->log.length);
    keep_end(v, v->bat.offset + v->bat.length);
    keep_end(v, v->metadata.offset + v->metadata.length);
    uint8_t *bytes = block_scratch_take(ENTRIES * 8);
    int status = bytes ? load_bitmaps(v, damaged) : -ENOMEM;
    for (uint64_t i = 0, n; i < all && !status; i += n) {
        n = MIN(all - i, (uint64_t)ENTRIES);
        status = vhdx_read_meta(v, bytes, n * 8, v->bat.offset + i * 8);
        for (uint64_t k = 0; k < n && !status; k++)
            load_entry(v, i + k, ld64le(bytes + k * 8), damaged);
    }
    block_scratch_give(bytes);
    return status;
}

/* --- blocks that are present in part --- */

/* A bit for each logical sector of the chunk, from the least significant one up. */
static int here(struct places *p, uint64_t block, uint64_t place, uint32_t sector, uint32_t n, uint32_t *run,
                bool *is_here, unsigned flags)
{
    struct vhdx *v = CONTAINER_OF(p, struct vhdx, places);
    uint8_t bits[BLOCK_SECTOR];
    (void)place;
    if (flags & BLOCK_NOWAIT)
        return -EAGAIN;
    const uint32_t each = v->sector / BLOCK_SECTOR; /* our sectors for a bit */
    const uint64_t first = block % p->ratio * (p->block / v->sector) + sector / each; /* bit */
    const uint64_t from = align_down(first / 8, sizeof(bits));
    int status = vhdx_read_meta(v, bits, sizeof(bits), VHDX_PLACE(v->bitmaps[block / p->ratio]) + from);
    if (status)
        return status;
    uint64_t bit = first - from * 8;
    *is_here = bits[bit / 8] & 1 << bit % 8;
    *run = each - sector % each;
    for (bit++; *run < n && bit < sizeof(bits) * 8; bit++, *run += each)
        if (!(bits[bit / 8] & 1 << bit % 8) == *is_here)
            break;
    *run = MIN(*run, n);
    return 0;
}

/* --- durability --- */

static int begin(struct places *p)
{
    return vhdx_log_begin(CONTAINER_OF(p, struct vhdx, places));
}

static int before(struct places *p)
{
    struct vhdx *v = CONTAINER_OF(p, struct vhdx, places);
    v->stable_size = p->file->facts.size;
    return 0;
}

/* Through the log: a batch there, then where it belongs. */
static int store(struct places *p, const uint64_t *pages, unsigned n, const uint8_t *bytes)
{
    struct vhdx *v = CONTAINER_OF(p, struct vhdx, places);
    struct vhdx_page batch[256];
    const unsigned room = MIN(vhdx_log_room(v), (unsigned)ARRAY_SIZE(batch));
    int status = 0;
    for (unsigned i = 0, count; i < n && !status; i += count) {
        count = MIN(n - i, room);
        for (unsigned k = 0; k < count; k++)
            batch[k] = (struct vhdx_page){p->table + pages[i + k] * PLACES_PAGE,
                                          bytes + (size_t)(i + k) * PLACES_PAGE};
        if (i) /* what the last entry holds is where it belongs before another one takes its turn */
            status = block_flush(p->file);
        if (!status)
            status = vhdx_log_write(v, batch, count);
        for (unsigned k = 0; k < count && !status; k++)
            status = block_pwrite(p->file, batch[k].bytes, PLACES_PAGE, batch[k].offset);
    }
    return status;
}

const struct places_ops vhdx_places_ops = {
    .encode = encode, .begin = begin, .before = before, .store = store, .here = here};
