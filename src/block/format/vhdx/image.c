/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is done with VHDX images: making, describing, measuring. Checking and growing: see mend.c. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "block/format/vhdx/image.h"
#include "block/scratch.h"

struct create_options {
    const char *subformat;
    uint64_t log_size, block_size;
    bool block_state_zero;
};

static const struct option_row create_options[] = {
    {.name = "subformat",
     .arg = "KIND",
     .value = "dynamic",
     .choice = "dynamic|fixed",
     .help = "give room to blocks as they are written, or to all of the disk at once",
     .type = OPTION_TEXT,
     .who = OPTION_CLI,
     .offset = offsetof(struct create_options, subformat)},
    {.name = "log_size",
     .arg = "BYTES",
     .value = "1M",
     .help = "of the log of metadata, 1M to 64M",
     .type = OPTION_SIZE,
     .who = OPTION_CLI,
     .offset = offsetof(struct create_options, log_size)},
    {.name = "block_size",
     .arg = "BYTES",
     .help = "unit of giving room, 1M to 256M; by default by the size of the disk",
     .type = OPTION_SIZE,
     .who = OPTION_CLI,
     .offset = offsetof(struct create_options, block_size)},
    {.name = "block_state_zero",
     .value = "on",
     .help = "say of new blocks that they are zero, not that they are missing",
     .type = OPTION_SWITCH,
     .who = OPTION_CLI,
     .offset = offsetof(struct create_options, block_state_zero)},
    {0},
};

/* The numbers of a new image: bytes, but for the counts. */
struct plan {
    uint64_t size, block, blocks, entries;
    uint32_t ratio;
    struct vhdx_range log, metadata, bat;
    uint64_t data; /* of the first block */
    bool fixed, zero;
};

/* As others choose it: the larger the disk, the larger the blocks. */
static uint64_t default_block(uint64_t size)
{
    if (size > 32 * 1024 * GiB)
        return 64 * MiB;
    if (size > 100 * GiB)
        return 32 * MiB;
    return size > GiB ? 16 * MiB : 8 * MiB;
}

static bool check_options(const struct block_create *c, const struct create_options *o, GError **error)
{
    if (o->block_size &&
        (!is_power_of_two(o->block_size) || o->block_size < MiB || o->block_size > 256 * MiB))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: block_size=%" PRIu64 ": must be a power of two from 1M to 256M", c->name,
                           o->block_size);
    if (!o->log_size || o->log_size % VHDX_UNIT || o->log_size > VHDX_LOG_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: log_size=%" PRIu64 ": must be a multiple of 1M, up to 64M", c->name,
                           o->log_size);
    if (c->backing)
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: differencing vhdx images can be used, but not made; use qcow2, or leave out the "
            "backing file",
            c->name);
    return true;
}

static bool make_plan(const struct block_create *c, struct plan *plan, GError **error)
{
    struct create_options o = {0};
    option_init(create_options, &o);
    if (c->options)
        o = *(const struct create_options *)c->options;
    if (!check_options(c, &o, error))
        return false;
    *plan = (struct plan){.size = c->size,
                          .block = o.block_size ? o.block_size : default_block(c->size),
                          .fixed = !strcmp(o.subformat, "fixed"),
                          .zero = o.block_state_zero};
    plan->blocks = (c->size + plan->block - 1) / plan->block;
    if (!c->size || c->size % BLOCK_SECTOR || c->size > VHDX_SIZE_MAX || plan->blocks > VHDX_BLOCKS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a vhdx disk of %" PRIu64 " bytes in blocks of %" PRIu64
                           " cannot be made; it must be a multiple of 512, at most 64 TiB, and %d blocks",
                           c->name, c->size, plan->block, VHDX_BLOCKS_MAX);
    plan->ratio = vhdx_ratio(BLOCK_SECTOR, (uint32_t)plan->block);
    plan->entries = vhdx_bat_entries(plan->blocks, plan->ratio, false);
    plan->log = (struct vhdx_range){VHDX_UNIT, o.log_size};
    plan->metadata = (struct vhdx_range){plan->log.offset + plan->log.length, VHDX_UNIT};
    plan->bat =
        (struct vhdx_range){plan->metadata.offset + VHDX_UNIT, align_up(plan->entries * 8, VHDX_UNIT)};
    plan->data = plan->bat.offset + plan->bat.length;
    return true;
}

/* --- the parts of a new file --- */

static int write_identifier(struct disk *file)
{
    static const char creator[] = "Hostel";
    uint8_t bytes[520] = "vhdxfile";
    for (size_t i = 0; i < sizeof(creator) - 1; i++)
        st16le(bytes + 8 + i * 2, (uint8_t)creator[i]);
    return block_pwrite(file, bytes, sizeof(bytes), 0);
}

static int write_headers(struct disk *file, const struct plan *plan)
{
    struct vhdx_header h = {.version = htole16(1),
                            .log_length = htole32((uint32_t)plan->log.length),
                            .log_offset = htole64(plan->log.offset)};
    memcpy(h.signature, "head", 4);
    if (!vhdx_guid_make(&h.file_write) || !vhdx_guid_make(&h.data_write))
        return -EIO;
    int status = 0;
    for (unsigned i = 0; i < 2 && !status; i++) {
        h.sequence = htole64(i + UINT64_C(1));
        h.checksum = htole32(vhdx_checksum(&h, sizeof(h)));
        status = block_pwrite(file, &h, sizeof(h), VHDX_HEADER_AT * (uint64_t)(i + 1));
    }
    return status;
}

static struct vhdx_region make_region(const struct vhdx_guid *guid, const struct vhdx_range *range)
{
    return (struct vhdx_region){.guid = *guid,
                                .offset = htole64(range->offset),
                                .length = htole32((uint32_t)range->length),
                                .required = htole32(1)};
}

static int write_regions(struct disk *file, const struct plan *plan)
{
    struct vhdx_region_table *t = block_scratch_take(sizeof(*t));
    if (!t)
        return -ENOMEM;
    memset(t, 0, sizeof(*t));
    memcpy(t->signature, "regi", 4);
    t->count = htole32(2);
    t->entries[0] = make_region(&vhdx_guid_bat, &plan->bat);
    t->entries[1] = make_region(&vhdx_guid_metadata, &plan->metadata);
    t->checksum = htole32(vhdx_checksum(t, sizeof(*t)));
    int status = 0;
    for (unsigned i = 0; i < 2 && !status; i++)
        status = block_pwrite(file, t, sizeof(*t), VHDX_REGIONS_AT + i * (uint64_t)VHDX_TABLE);
    block_scratch_give(t);
    return status;
}

static int write_metadata(struct disk *file, const struct plan *plan)
{
    struct {
        uint32_t block, flags;
        uint64_t size;
        struct vhdx_guid id;
        uint32_t logical, physical;
    } __attribute__((packed)) values = {
        .block = htole32((uint32_t)plan->block),
        .flags = htole32(plan->fixed ? 1 : 0),
        .size = htole64(plan->size),
        .logical = htole32(BLOCK_SECTOR),
        .physical = htole32(VHDX_PAGE),
    };
    enum { DISK = VHDX_ITEM_REQUIRED | VHDX_ITEM_DISK };
    const struct {
        const struct vhdx_guid *guid;
        uint32_t at, length, flags;
    } items[] = {
        {&vhdx_guid_file_parameters, 0, 8, VHDX_ITEM_REQUIRED},
        {&vhdx_guid_disk_size, 8, 8, DISK},
        {&vhdx_guid_disk_id, 16, 16, DISK},
        {&vhdx_guid_logical, 32, 4, DISK},
        {&vhdx_guid_physical, 36, 4, DISK},
    };
    struct vhdx_metadata_table *t = block_scratch_take(sizeof(*t));
    int status = !t ? -ENOMEM : vhdx_guid_make(&values.id) ? 0 : -EIO;
    if (!status) {
        memset(t, 0, sizeof(*t));
        memcpy(t->signature, "metadata", 8);
        t->count = htole16(ARRAY_SIZE(items));
        for (unsigned i = 0; i < ARRAY_SIZE(items); i++)
            t->entries[i] = (struct vhdx_item){.guid = *items[i].guid,
                                               .offset = htole32(VHDX_TABLE + items[i].at),
                                               .length = htole32(items[i].length),
                                               .flags = htole32(items[i].flags)};
        status = block_pwrite(file, t, sizeof(*t), plan->metadata.offset);
    }
    block_scratch_give(t);
    return status ? status : block_pwrite(file, &values, sizeof(values), plan->metadata.offset + VHDX_TABLE);
}

static uint64_t first_entry(const struct plan *plan, uint64_t at)
{
    const uint64_t group = (uint64_t)plan->ratio + 1;
    if (at % group == plan->ratio)
        return 0; /* of a bitmap block, which there is none */
    const uint64_t block = at / group * plan->ratio + at % group;
    if (plan->fixed)
        return (plan->data + block * plan->block) | VHDX_FULLY_PRESENT;
    return plan->zero ? VHDX_ZERO : VHDX_NOT_PRESENT;
}

/* A file that has nothing there yet has zeroes, which say VHDX_NOT_PRESENT. */
static int write_bat(struct disk *file, const struct plan *plan)
{
    enum { ENTRIES = 16384 };
    uint8_t *bytes = block_scratch_take(ENTRIES * 8);
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t i = 0, n; i < plan->entries && !status; i += n) {
        n = MIN(plan->entries - i, (uint64_t)ENTRIES);
        for (uint64_t k = 0; k < n; k++)
            st64le(bytes + k * 8, first_entry(plan, i + k));
        status = block_pwrite(file, bytes, n * 8, plan->bat.offset + i * 8);
    }
    block_scratch_give(bytes);
    return status;
}

static int write_image(struct disk *file, const struct plan *plan)
{
    const uint64_t end = plan->data + (plan->fixed ? plan->blocks * plan->block : 0);
    int status =
        file->facts.size ? block_zero(file, 0, MIN(end, (uint64_t)file->facts.size), BLOCK_MAY_UNMAP) : 0;
    if (!status && file->facts.size < end)
        status = file->facts.growable ? block_resize(file, end) : -ENOSPC;
    if (!status)
        status = write_bat(file, plan);
    if (!status)
        status = write_metadata(file, plan);
    if (!status)
        status = write_regions(file, plan);
    if (!status)
        status = write_headers(file, plan);
    if (!status)
        status = write_identifier(file);
    return status ? status : block_flush(file);
}

static bool create(const struct block_create *c, GError **error)
{
    struct plan plan;
    if (!make_plan(c, &plan, error))
        return false;
    int status = write_image(c->file, &plan);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write it: %s", c->name, g_strerror(-status));
}

/* --- measuring, describing --- */

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

static bool looks_like(const uint8_t *head, size_t size)
{
    return size >= 8 && !memcmp(head, "vhdxfile", 8);
}

static bool info(struct disk *b, struct block_image_info *out, GError **error)
{
    struct vhdx *v = vhdx_of(b);
    (void)error;
    out->cluster = v->places.block;
    out->dirty = v->patches != NULL;
    if (v->difference && v->parent) {
        out->backing = g_strdup(v->parent);
        out->backing_format = g_strdup("vhdx");
    }
    return true;
}

const struct block_image vhdx_image = {
    .create_options = create_options,
    .create_options_size = sizeof(struct create_options),
    .looks_like = looks_like,
    .create = create,
    .measure = measure,
    .info = info,
    .check = vhdx_check,
    .resize = places_image_resize,
};
