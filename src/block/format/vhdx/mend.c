/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Checking and mending VHDX images, and making them larger. */
/*
 * Room at the end that no block has is no leak: others make files longer than they need, and we use it first.
 *
 * Growing. New entries of the BAT are missing blocks. When they do not fit into its region, all of it is
 * written to a new region at the end of the file first. Then one entry of the log says all that makes the
 * difference: the disk's size, and where the BAT is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "block/format/vhdx/image.h"
#include "block/scratch.h"

/* --- checking --- */

struct piece {
    uint64_t place, size, block;
};

static int by_place(const void *a, const void *b)
{
    const struct piece *l = a, *r = b;
    return l->place < r->place ? -1 : l->place > r->place;
}

/* Entries that make no sense; the others are put into pieces, which have room for so many blocks. */
static uint64_t check_entries(struct vhdx *v, unsigned fix, struct block_check *out, struct piece *pieces,
                              uint64_t room)
{
    struct places *p = &v->places;
    uint64_t last = 0, count = 0;
    for (uint64_t i = 0; i < p->count; i++) {
        const uint64_t entry = places_get(p, i), place = entry & ~(uint64_t)PLACES_STATES;
        if (entry & PLACES_BAD) {
            out->corruptions++;
            block_check_say(out, "block %" PRIu64 ": place %" PRIu64 " in state %u makes no sense", i,
                            VHDX_PLACE(entry), (unsigned)(entry >> 8 & 7));
            if (fix & BLOCK_FIX_ERRORS) {
                places_set(p, i, PLACES_NONE);
                out->corruptions_fixed++;
            }
        } else if (place) {
            if (count < room) {
                pieces[count++] = (struct piece){place, p->block, i};
            } else {
                out->corruptions++;
                block_check_say(
                    out, "block %" PRIu64 ": the file has no room for so many, it shares another's", i);
            }
            out->allocated++;
            out->fragmented += last && place != last + p->block;
            last = place;
        }
    }
    for (uint64_t i = 0; i < v->chunks; i++)
        if (v->bitmaps[i])
            pieces[count++] = (struct piece){VHDX_PLACE(v->bitmaps[i]), VHDX_UNIT, i * p->ratio};
    return count;
}

static void check_overlaps(struct block_check *out, struct piece *pieces, uint64_t count)
{
    qsort(pieces, count, sizeof(*pieces), by_place);
    for (uint64_t i = 1; i < count; i++)
        if (pieces[i].place < pieces[i - 1].place + pieces[i - 1].size) {
            out->corruptions++;
            block_check_say(out,
                            "blocks %" PRIu64 " and %" PRIu64 " share room at %" PRIu64
                            "; only what one of them has can be right",
                            pieces[i - 1].block, pieces[i].block, pieces[i].place);
        }
}

bool vhdx_check(struct disk *b, unsigned fix, struct block_check *out, GError **error)
{
    struct vhdx *v = vhdx_of(b);
    /* More blocks than the file can hold share room in any case, and a table of them is not worth the memory.
     */
    const uint64_t room = MIN(v->places.count, b->below->facts.size / v->places.block + 2);
    g_autofree struct piece *pieces = g_try_malloc_n(room + v->chunks + 1, sizeof(*pieces));
    int status = pieces ? 0 : -ENOMEM;
    if (!status && fix & BLOCK_FIX_ERRORS)
        status = places_begin(&v->places);
    if (!status)
        check_overlaps(out, pieces, check_entries(v, fix, out, pieces, room));
    if (!status && fix)
        status = places_flush(&v->places);
    out->clusters = v->places.count;
    out->end = v->places.end;
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot check it: %s", b->name, g_strerror(-status));
}

/* --- growing --- */

/* Pages that are changed together: through the log, then where they belong. */
struct change {
    struct vhdx_page pages[4];
    unsigned n;
};

static int commit(struct vhdx *v, const struct change *c)
{
    struct disk *file = v->disk.below;
    int status = block_flush(file);
    v->stable_size = file->facts.size;
    if (!status)
        status = vhdx_log_write(v, c->pages, c->n);
    for (unsigned i = 0; i < c->n && !status; i++)
        status = block_pwrite(file, c->pages[i].bytes, VHDX_PAGE, c->pages[i].offset);
    return status ? status : block_flush(file);
}

/* The page, or two, with the disk's size. */
static int add_size(struct vhdx *v, struct change *c, uint64_t size, uint8_t bytes[2 * VHDX_PAGE])
{
    const uint64_t at = v->metadata.offset + v->size_at, page = align_down(at, VHDX_PAGE);
    int status = vhdx_read_meta(v, bytes, 2 * (uint64_t)VHDX_PAGE, page);
    st64le(bytes + (at - page), size);
    c->pages[c->n++] = (struct vhdx_page){page, bytes};
    if (at - page > VHDX_PAGE - 8)
        c->pages[c->n++] = (struct vhdx_page){page + VHDX_PAGE, bytes + VHDX_PAGE};
    return status;
}

/* All of the table, where nobody looks yet. */
static int write_table(struct vhdx *v, const struct vhdx_range *bat)
{
    struct places *p = &v->places;
    uint8_t bytes[VHDX_PAGE] = {0};
    const uint64_t end = bat->offset + bat->length, have = p->file->facts.size;
    int status = 0;
    if (bat->offset < have)
        status = block_zero(p->file, bat->offset, MIN(end, have) - bat->offset, BLOCK_MAY_UNMAP);
    if (!status && have < end)
        status = block_resize(p->file, end);
    for (uint64_t page = 0; page * VHDX_PAGE < p->table_size && !status; page++) {
        p->ops->encode(p, page, bytes, VHDX_PAGE);
        status = block_pwrite(p->file, bytes, VHDX_PAGE, bat->offset + page * VHDX_PAGE);
    }
    return status;
}

/* More blocks in memory; the same table, or a new one for bat. */
static int grow_memory(struct vhdx *v, uint64_t count)
{
    struct places *p = &v->places;
    const uint64_t chunks = (count + p->ratio - 1) / p->ratio;
    uint64_t *bitmaps = g_try_malloc0_n(chunks, sizeof(*bitmaps));
    if (!bitmaps)
        return -ENOMEM;
    const uint64_t table = align_up(vhdx_bat_entries(count, p->ratio, v->difference) * 8, PLACES_PAGE);
    int status = places_grow(p, count, table);
    if (status) {
        g_free(bitmaps);
        return status;
    }
    memcpy(bitmaps, v->bitmaps, v->chunks * sizeof(*bitmaps));
    g_free(v->bitmaps);
    v->bitmaps = bitmaps;
    v->chunks = chunks;
    return 0;
}

/* The new entries are in the file's table, which has room for them. */
static int extend_table(struct vhdx *v, uint64_t first)
{
    struct places *p = &v->places;
    for (uint64_t i = first; i < p->count; i++)
        places_set(p, i, PLACES_NONE);
    /* a group's bitmap entry may be the first of a page */
    memset(p->dirty + places_entry(p, first) * 8 / PLACES_PAGE, true,
           p->table_size / PLACES_PAGE - places_entry(p, first) * 8 / PLACES_PAGE);
    return places_flush(p);
}

static int grow_table(struct vhdx *v, uint64_t first, uint64_t size)
{
    struct places *p = &v->places;
    struct change c = {0};
    uint8_t pages[2 * VHDX_PAGE];
    if (p->table_size <= v->bat.length) {
        int status = extend_table(v, first);
        if (!status)
            status = add_size(v, &c, size, pages);
        return status ? status : commit(v, &c);
    }
    const struct vhdx_range bat = {p->end, align_up(p->table_size, VHDX_UNIT)};
    uint8_t *table = block_scratch_take(VHDX_TABLE);
    int status = table ? vhdx_move_bat(v, &bat, table) : -ENOMEM;
    if (!status)
        status = write_table(v, &bat);
    c.pages[c.n++] = (struct vhdx_page){VHDX_REGIONS_AT, table};
    c.pages[c.n++] = (struct vhdx_page){VHDX_REGIONS_AT + VHDX_TABLE, table};
    if (!status)
        status = add_size(v, &c, size, pages);
    if (!status)
        status = commit(v, &c);
    block_scratch_give(table);
    v->bat = bat;
    p->table = bat.offset;
    p->end = bat.offset + bat.length;
    return status;
}

/* A fixed image's new blocks have places, too. */
static int give_places(struct vhdx *v, uint64_t first)
{
    struct places *p = &v->places;
    const uint64_t from = p->end, end = from + (p->count - first) * p->block, have = p->file->facts.size;
    int status = 0;
    if (from < have)
        status = block_zero(p->file, from, MIN(end, have) - from, BLOCK_MAY_UNMAP);
    if (!status && have < end)
        status = block_resize(p->file, end);
    for (uint64_t i = first; i < p->count && !status; i++)
        places_set(p, i, from + (i - first) * p->block);
    p->end = status ? from : end;
    return status ? status : places_flush(p);
}

int vhdx_resize(struct disk *b, uint64_t size)
{
    struct vhdx *v = vhdx_of(b);
    struct places *p = &v->places;
    const uint64_t first = p->count, count = (size + p->block - 1) / p->block;
    if (size < b->facts.size)
        return -EOPNOTSUPP;
    if (size % v->sector || size > VHDX_SIZE_MAX || count > VHDX_BLOCKS_MAX)
        return -EINVAL;
    int status = places_begin(p);
    if (!status)
        status = places_flush(p);
    if (!status)
        status = grow_memory(v, count);
    if (status)
        return status;
    status = grow_table(v, first, size);
    if (!status && v->leave_allocated)
        status = give_places(v, first);
    if (status) /* what is in memory may be neither the old nor the new image */
        atomic_store(&b->lost, true);
    return status;
}
