/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is done with vdi images: making, describing, measuring, checking and mending, growing. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/error.h"
#include "block/format/vdi_int.h"
#include "block/scratch.h"

enum { COPY = 1 << 20 };

/* --- making --- */

struct create_options {
    bool fixed;
    uint64_t block_size;
};

static const struct option_row create_options[] = {
    {.name = "static",
     .value = "off",
     .help = "give room to the whole disk at once",
     .type = OPTION_SWITCH,
     .who = OPTION_CLI,
     .offset = offsetof(struct create_options, fixed)},
    {.name = "block_size",
     .arg = "BYTES",
     .value = "1M",
     .help = "unit of giving room, 4K to 256M; others open only 1M",
     .type = OPTION_SIZE,
     .who = OPTION_CLI,
     .offset = offsetof(struct create_options, block_size)},
    {0},
};

/* The numbers of a new image. */
struct plan {
    uint64_t size, block, blocks, map, data;
    bool fixed;
};

static bool make_plan(const struct block_create *c, struct plan *plan, GError **error)
{
    struct create_options o;
    option_init(create_options, &o);
    if (c->options)
        o = *(const struct create_options *)c->options;
    if (!is_power_of_two(o.block_size) || o.block_size < VDI_BLOCK_MIN || o.block_size > VDI_BLOCK_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: block_size=%" PRIu64 ": must be a power of two from 4K to 256M", c->name,
                           o.block_size);
    if (!c->size || c->size % BLOCK_SECTOR || c->size > o.block_size * VDI_BLOCKS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a vdi disk of %" PRIu64
                           " bytes cannot be made; it must be a multiple of 512, and at most %" PRIu64,
                           c->name, c->size, o.block_size * VDI_BLOCKS_MAX);
    if (c->backing)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: a vdi image lies over no other; use qcow2, or leave out the backing file",
                           c->name);
    *plan = (struct plan){.size = c->size, .block = o.block_size, .fixed = o.fixed};
    plan->blocks = (c->size + o.block_size - 1) / o.block_size;
    plan->map = sizeof(struct vdi_header);
    /* Aligned as the blocks are, which also leaves room to grow. */
    plan->data = align_up(plan->map + plan->blocks * 4, MAX(o.block_size, (uint64_t)VDI_BLOCK_DEFAULT));
    return true;
}

static struct vdi_header make_header(const struct plan *plan)
{
    return (struct vdi_header){
        .text = "<<< Hostel Virtual Disk Image >>>\n",
        .signature = htole32(VDI_SIGNATURE),
        .version = htole32(VDI_VERSION),
        .header_size = htole32(0x180),
        .type = htole32(plan->fixed ? VDI_FIXED : VDI_DYNAMIC),
        .map_offset = htole32((uint32_t)plan->map),
        .data_offset = htole32((uint32_t)plan->data),
        .sector_size = htole32(BLOCK_SECTOR),
        .disk_size = htole64(plan->size),
        .block_size = htole32((uint32_t)plan->block),
        .blocks = htole32((uint32_t)plan->blocks),
        .allocated = htole32(plan->fixed ? (uint32_t)plan->blocks : 0),
    };
}

/* All free, or each block in its own slot. */
static int write_map(struct disk *file, const struct plan *plan)
{
    uint8_t *bytes = block_scratch_take(COPY);
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t i = 0, n; i < plan->blocks && !status; i += n) {
        n = MIN(plan->blocks - i, (uint64_t)COPY / 4);
        for (uint64_t k = 0; k < n; k++)
            st32le(bytes + k * 4, plan->fixed ? (uint32_t)(i + k) : VDI_FREE);
        status = block_pwrite(file, bytes, n * 4, plan->map + i * 4);
    }
    block_scratch_give(bytes);
    return status;
}

/* The file has so many bytes, and from `from` on they are zeroes. */
static int make_end(struct disk *file, uint64_t from, uint64_t end)
{
    const uint64_t now = file->facts.size;
    if (now < end)
        return file->facts.growable ? block_resize(file, end) : -ENOSPC;
    return from < end ? block_zero(file, from, end - from, BLOCK_MAY_UNMAP) : 0;
}

static bool create(const struct block_create *c, GError **error)
{
    struct plan plan;
    if (!make_plan(c, &plan, error))
        return false;
    struct vdi_header h = make_header(&plan);
    if (!block_image_id(h.id) || !block_image_id(h.last_snapshot))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has no random numbers", c->name);
    int status = make_end(c->file, plan.data, plan.data + (plan.fixed ? plan.blocks * plan.block : 0));
    if (!status)
        status = write_map(c->file, &plan);
    if (!status)
        status = block_pwrite(c->file, &h, sizeof(h), 0);
    if (!status)
        status = block_flush(c->file);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write it: %s", c->name, g_strerror(-status));
}

static bool measure(const struct block_create *c, struct disk *source, struct block_measure *out,
                    GError **error)
{
    struct plan plan;
    uint64_t used = 0;
    if (!make_plan(c, &plan, error))
        return false;
    int status = source ? block_image_used(source, (uint32_t)plan.block, &used) : 0;
    out->full = plan.data + plan.blocks * plan.block;
    out->required = plan.fixed ? out->full : plan.data + used;
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", source->name, g_strerror(-status));
}

/* --- describing --- */

static bool looks_like(const uint8_t *head, size_t size)
{
    const size_t at = offsetof(struct vdi_header, signature);
    return size >= sizeof(struct vdi_header) && ld32le(head + at) == VDI_SIGNATURE;
}

static bool info(struct disk *b, struct block_image_info *out, GError **error)
{
    (void)error;
    out->cluster = vdi_of(b)->places.block;
    return true;
}

/* --- moving blocks --- */

static int copy_bytes(struct vdi *v, uint64_t from, uint64_t to, uint64_t size)
{
    uint8_t *bytes = block_scratch_take(COPY);
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t at = 0, now; at < size && !status; at += now) {
        now = MIN(size - at, (uint64_t)COPY);
        status = places_read_file(&v->places, bytes, now, from + at);
        if (!status)
            status = block_pwrite(v->disk.below, bytes, now, to + at);
    }
    block_scratch_give(bytes);
    return status;
}

/* Nothing else is under way. The old place stays what it was. */
static int move_block(struct vdi *v, uint64_t block, uint64_t to)
{
    struct places *p = &v->places;
    int status = copy_bytes(v, places_get(p, block), to, p->block);
    if (!status) {
        places_set(p, block, to);
        p->end = MAX(p->end, to + p->block);
    }
    return status;
}

static bool has_place(const struct vdi *v, uint64_t block)
{
    const uint64_t place = places_get(&v->places, block);
    return place && !(place & PLACES_STATES);
}

/* --- growing --- */

/* Nobody's block lies in the first bytes of what holds the slots. */
static int clear_beginning(struct vdi *v, uint64_t size)
{
    struct places *p = &v->places;
    p->spare_count = 0;
    p->end = MAX(p->end, v->data + size);
    int status = 0;
    for (uint64_t i = 0; i < p->count && !status; i++)
        if (has_place(v, i) && places_get(p, i) < v->data + size)
            status = move_block(v, i, p->end);
    return status ? status : places_flush(p);
}

static int write_all(struct vdi *v)
{
    struct places *p = &v->places;
    uint8_t *bytes = block_scratch_take(PLACES_PAGE);
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t page = 0; page * PLACES_PAGE < p->table_size && !status; page++) {
        const uint64_t size = MIN(p->table_size - page * PLACES_PAGE, (uint64_t)PLACES_PAGE);
        p->ops->encode(p, page, bytes, (uint32_t)size);
        status = block_pwrite(p->file, bytes, size, p->table + page * PLACES_PAGE);
    }
    block_scratch_give(bytes);
    return status ? status : block_flush(p->file);
}

/* A fixed image's new blocks have slots, too. */
static int give_slots(struct vdi *v, uint64_t first)
{
    struct places *p = &v->places;
    const uint64_t from = p->end, end = from + (p->count - first) * p->block;
    int status = make_end(p->file, from, end);
    if (status)
        return status;
    for (uint64_t i = first; i < p->count; i++)
        places_set(p, i, from + (i - first) * p->block);
    p->end = end;
    return 0;
}

/* The new map is in place, and then the header says so. */
static int switch_map(struct vdi *v, uint64_t moved, uint64_t blocks, uint64_t size)
{
    struct places *p = &v->places;
    struct vdi_header *h = &v->header;
    const uint64_t before = p->count;
    int status = places_grow(p, blocks, blocks * 4);
    if (status)
        return status;
    if (moved) {
        p->table = v->data;
        v->data += moved;
        h->map_offset = htole32((uint32_t)p->table);
        h->data_offset = htole32((uint32_t)v->data);
    }
    v->slots_max = 2 * blocks + 65536;
    p->limit = v->data + v->slots_max * p->block;
    h->allocated = htole32((uint32_t)((p->end - v->data) / p->block));
    h->blocks = htole32((uint32_t)blocks);
    h->disk_size = htole64(size);
    status = write_all(v);
    if (!status)
        status = vdi_write_header(v);
    if (!status)
        status = block_flush(p->file);
    if (!status && le32toh(h->type) == VDI_FIXED)
        status = give_slots(v, before);
    return status ? status : places_flush(p);
}

int vdi_resize(struct disk *b, uint64_t size)
{
    struct vdi *v = vdi_of(b);
    struct places *p = &v->places;
    if (size < b->facts.size)
        return -EOPNOTSUPP;
    const uint64_t blocks = (size + p->block - 1) / p->block, table = blocks * 4;
    if (blocks > VDI_BLOCKS_MAX || size % BLOCK_SECTOR)
        return -EINVAL;
    uint64_t moved = 0;
    if (p->table + table > v->data)
        moved = (table + p->block - 1) / p->block * p->block;
    if (v->data + moved > UINT32_MAX)
        return -EFBIG;
    int status = moved ? clear_beginning(v, moved) : places_flush(p);
    if (!status)
        status = switch_map(v, moved, blocks, size);
    if (status) /* what is in memory may be neither the old nor the new image */
        atomic_store(&b->lost, true);
    return status;
}

/* --- checking --- */

struct checking {
    struct block_check *check;
    unsigned fix;
    uint64_t last; /* place of the block before */
    uint64_t used;
    int status;
};

/* What has no slot reads as zeroes from now on; of two that share one, each gets its own. */
static void mend(struct vdi *v, uint64_t block, enum vdi_damage damage, struct checking *c)
{
    if (!(c->fix & BLOCK_FIX_ERRORS))
        return;
    if (damage == VDI_TWICE)
        c->status = move_block(v, block, v->places.end);
    else
        places_set(&v->places, block, PLACES_NONE);
    if (c->status)
        return;
    c->check->corruptions_fixed++;
    c->used += damage == VDI_TWICE;
}

static void count_twice(struct vdi *v G_GNUC_UNUSED, uint64_t block G_GNUC_UNUSED,
                        uint64_t place G_GNUC_UNUSED, enum vdi_damage damage, void *opaque)
{
    *(uint64_t *)opaque += damage == VDI_TWICE;
}

/* Nonsense may have every block share one slot: mending that would write as much as the disk is large. */
static int limit_mending(struct vdi *v, struct checking *c, uint8_t *used)
{
    enum { COPIES_ALWAYS = 64 };
    const uint64_t slots = (v->places.end - v->data) / v->places.block;
    uint64_t twice = 0;
    if (!(c->fix & BLOCK_FIX_ERRORS))
        return 0;
    int status = vdi_examine(v, used, count_twice, &twice);
    memset(used, 0, v->slots_max / 8 + 1);
    if (twice <= slots + COPIES_ALWAYS)
        return status;
    block_check_say(c->check,
                    "%" PRIu64 " blocks have slots that are other blocks', too, of %" PRIu64
                    " slots in all: this is no map, and nothing is mended",
                    twice, slots);
    c->fix &= ~(unsigned)BLOCK_FIX_ERRORS;
    return status;
}

static void look(struct vdi *v, uint64_t block, uint64_t place, enum vdi_damage damage, void *opaque)
{
    static const char *const what[] = {
        [VDI_NO_SLOT] = "was never given out",
        [VDI_BEHIND_END] = "lies behind the end of the file",
        [VDI_TWICE] = "is another block's, too",
    };
    struct checking *c = opaque;
    if (c->status)
        return;
    if (damage) {
        c->check->corruptions++;
        block_check_say(c->check, "block %" PRIu64 ": its slot %u %s", block, vdi_entry(v, place),
                        what[damage]);
        mend(v, block, damage, c);
        if (damage != VDI_TWICE)
            return;
    }
    if (place == PLACES_NONE || place & PLACES_STATES)
        return;
    c->used += damage != VDI_TWICE;
    c->check->allocated++;
    c->check->fragmented += c->last && place != c->last + v->places.block;
    c->last = place;
}

/* Slots that no entry names are filled with the last ones, so that the count is that of the entries. */
static int fill_spares(struct vdi *v)
{
    struct places *p = &v->places;
    const uint64_t slots = (p->end - v->data) / p->block;
    g_autofree uint32_t *owner = g_try_malloc_n(slots + 1, sizeof(*owner));
    if (!owner)
        return -ENOMEM;
    memset(owner, 0xff, (slots + 1) * sizeof(*owner));
    for (uint64_t i = 0; i < p->count; i++)
        if (has_place(v, i))
            owner[(places_get(p, i) - v->data) / p->block] = (uint32_t)i;
    uint64_t low = 0, high = slots;
    int status = 0;
    for (; !status; low++) {
        while (low < slots && owner[low] != UINT32_MAX)
            low++;
        while (high && owner[high - 1] == UINT32_MAX)
            high--;
        if (low >= high)
            break;
        status = move_block(v, owner[high - 1], v->data + low * p->block);
        owner[low] = owner[high - 1];
        owner[--high] = UINT32_MAX;
    }
    p->spare_count = 0;
    if (!status)
        status = places_flush(p);
    if (!status)
        p->end = v->data + high * p->block; /* only now that no entry in the file names what is behind */
    return status;
}

int vdi_compact(struct vdi *v)
{
    struct places *p = &v->places;
    int status = fill_spares(v);
    if (!status) {
        v->header.allocated = htole32((uint32_t)((p->end - v->data) / p->block));
        status = vdi_write_header(v);
    }
    if (!status)
        status = block_flush(p->file);
    p->known = 0;
    if (!status && p->file->facts.growable && p->file->facts.size > p->end)
        status = block_resize(p->file, p->end);
    return status ? status : block_flush(p->file);
}

static bool check(struct disk *b, unsigned fix, struct block_check *out, GError **error)
{
    struct vdi *v = vdi_of(b);
    g_autofree uint8_t *used = g_try_malloc0(v->slots_max / 8 + 1);
    struct checking c = {.check = out, .fix = fix};
    int status = fix ? places_flush(&v->places) : 0;
    if (!status)
        status = used ? limit_mending(v, &c, used) : -ENOMEM;
    if (!status)
        status = vdi_examine(v, used, look, &c);
    if (!status)
        status = c.status;
    const uint32_t given = le32toh(v->header.allocated);
    if (!status && fix)
        status = places_flush(&v->places);
    if (!status && given > c.used) {
        out->leaks = given - c.used;
        block_check_say(out, "%" PRIu64 " of %u slots were given out and are nobody's", out->leaks, given);
        if (fix & BLOCK_FIX_LEAKS && out->corruptions == out->corruptions_fixed) {
            status = vdi_compact(v);
            out->leaks_fixed = status ? 0 : out->leaks;
        }
    }
    out->clusters = v->places.count;
    out->end = v->places.end;
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot check it: %s", b->name, g_strerror(-status));
}

const struct block_image vdi_image = {
    .create_options = create_options,
    .create_options_size = sizeof(struct create_options),
    .looks_like = looks_like,
    .create = create,
    .measure = measure,
    .info = info,
    .check = check,
    .resize = places_image_resize,
};
