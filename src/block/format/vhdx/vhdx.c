/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Format vhdx: Hyper-V's disk image, dynamic, fixed and differencing. */
/*
 * Theory of operation
 *
 * [MS-VHDX] 8.0. The first MiB of the file has two headers, which take turns, and the table of regions; then
 * come, in any order and in whole MiBs, the log, the metadata (what the disk is like), the block allocation
 * table (BAT), blocks, and bitmaps of blocks that are there in part.
 *
 *   header.c     headers, regions        log.c        replaying the log when the image is opened
 *   metadata.c   size, sectors, parent   log_write.c  our own entries of it
 *   bat.c        the table, for places   image.c      making, describing, checking, growing
 *
 * Data goes where `struct places` says, outside all locks. The table's pages that changed go through the log
 * at a flush, many in one entry. The image is marked as in use (its header names the log) from the first
 * change until it is closed; others can open it afterwards without replaying.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "block/format/vhdx/vhdx.h"

/* --- opening --- */

static void set_places(struct vhdx *v)
{
    const uint32_t block = v->places.block, ratio = vhdx_ratio(v->sector, block);
    const uint64_t count = (v->disk.facts.size + block - 1) / block;
    v->places = (struct places){
        .ops = &vhdx_places_ops,
        .disk = &v->disk,
        .file = v->disk.below,
        .count = count,
        .block = block,
        .zero_state = true,
        .table = v->bat.offset,
        .table_size = align_up(vhdx_bat_entries(count, ratio, v->difference) * 8, PLACES_PAGE),
        .entry_size = 8,
        .ratio = ratio,
    };
    v->chunks = (count + ratio - 1) / ratio;
}

static bool load(struct vhdx *v, unsigned flags, GError **error)
{
    uint64_t damaged = 0;
    set_places(v);
    v->bitmaps = g_try_malloc0_n(v->chunks, sizeof(*v->bitmaps));
    int status = v->bitmaps ? places_init(&v->places) : -ENOMEM;
    if (!status)
        status = vhdx_load_bat(v, &damaged);
    return places_loaded(&v->places, status, damaged, flags, error);
}

/* The parent, when it is a vhdx image, too, must be as it was when this one was made over it. */
static bool check_parent(struct vhdx *v, GError **error)
{
    struct disk *base = v->places.base;
    if (!base || !v->linkage || strcmp(base->driver->name, "vhdx") != 0)
        return true;
    g_autofree char *id = vhdx_guid_text(&vhdx_of(base)->header.data_write);
    g_autofree char *braced = g_strdup_printf("{%s}", id);
    return !g_ascii_strcasecmp(v->linkage, braced) || !g_ascii_strcasecmp(v->linkage, id) ||
           hostel_fail(
               error, HOSTEL_ERROR_INPUT,
               "%s: %s has contents %s, but it was made over %s; the parent was changed, or is another one",
               v->disk.name, base->name, braced, v->linkage);
}

static bool open_parent(struct vhdx *v, struct block_config *config, GError **error)
{
    if (!v->difference)
        return true;
    if (!v->parent && !config->base && !(config->flags & BLOCK_OPEN_ALONE))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: lies over a parent, but does not name it in a way that can be read; name the "
                           "backing file",
                           v->disk.name);
    return block_open_base(config, v->parent, "vhdx", &v->places.base, error) && check_parent(v, error);
}

static void clear_patch(void *opaque)
{
    g_free(((struct vhdx_patch *)opaque)->bytes);
}

static void release(struct vhdx *v)
{
    places_fini(&v->places);
    g_free(v->bitmaps);
    g_free(v->parent);
    g_free(v->linkage);
    if (v->patches) {
        g_array_set_clear_func(v->patches, clear_patch);
        g_array_free(v->patches, TRUE);
    }
}

static bool vhdx_open(struct disk *b, struct block_config *config, GError **error)
{
    struct vhdx *v = vhdx_of(b);
    b->below = STEAL(config->file);
    v->file_size = b->below->facts.size;
    if (!vhdx_read_header(v, error) || !vhdx_replay(v, error) || !vhdx_read_regions(v, error) ||
        !vhdx_read_metadata(v, error) || !load(v, config->flags, error) || !open_parent(v, config, error)) {
        release(v);
        return false;
    }
    b->facts.alignment = 1;
    b->facts.preferred = 4096;
    b->facts.cluster = v->places.block;
    b->facts.granularity = b->below->facts.granularity;
    return true;
}

static void vhdx_close(struct disk *b)
{
    struct vhdx *v = vhdx_of(b);
    if (!b->facts.readonly && atomic_load(&v->places.begun) && !block_flush(b) && !vhdx_log_end(v))
        places_trim(&v->places); /* not before: the log says how long the file is */
    release(v);
}

/* --- the disk's operations --- */

static int vhdx_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return places_read(&vhdx_of(b)->places, iov, n, offset, flags);
}

static int vhdx_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return places_write(&vhdx_of(b)->places, iov, n, offset);
}

static int vhdx_flush(struct disk *b)
{
    return places_flush(&vhdx_of(b)->places);
}

static int vhdx_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return places_discard(&vhdx_of(b)->places, offset, size);
}

static int vhdx_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    return places_zero(&vhdx_of(b)->places, offset, size, flags);
}

static int vhdx_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return places_extent(&vhdx_of(b)->places, offset, size, extent);
}

const struct block_driver block_driver_vhdx = {
    .name = "vhdx",
    .help = "Hyper-V's disk image",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct vhdx),
    .open = vhdx_open,
    .close = vhdx_close,
    .read = vhdx_read,
    .write = vhdx_write,
    .flush = vhdx_flush,
    .discard = vhdx_discard,
    .zero = vhdx_zero,
    .extent = vhdx_extent,
    .resize = vhdx_resize,
    .image = &vhdx_image,
};
