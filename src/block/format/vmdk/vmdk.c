/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Driver vmdk: VMware's virtual disks; see vmdk.h for how it works. */
#include "block/format/vmdk/vmdk.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "block/format/places.h"
#include "block/scratch.h"

/* --- life --- */

static bool check_parent(struct vmdk *v, const struct block_config *config, GError **error)
{
    if (!v->grains.base || v->grains.base->driver != v->disk.driver || config->flags & BLOCK_OPEN_REPAIR)
        return true;
    const uint32_t cid = vmdk_of(v->grains.base)->descriptor.cid;
    if (!v->descriptor.parent || cid == v->descriptor.parent_cid)
        return true;
    return hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s: lies over contents with the number %08" PRIx32 ", %s has %08" PRIx32
                       ": it was written to since; give the parent as it was",
                       v->disk.name, v->descriptor.parent_cid, v->grains.base->name, cid);
}

static bool is_empty(struct grains_extent *e)
{
    for (uint32_t i = 0; i < e->tables_n; i++)
        if (e->gd[i])
            return false;
    return true;
}

/* A stream is written once, from its beginning to its end. */
static bool check_stream(struct vmdk *v, const struct block_config *config, GError **error)
{
    struct grains_extent *e = &v->grains.extents[0];
    if (!v->stream || config->readonly)
        return true;
    if (!v->at_end || !is_empty(e))
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is stream-optimized, which is written once and can only be read then; add "
                           "readonly=on, or convert it",
                           v->disk.name);
    e->next = align_up(e->begin, BLOCK_SECTOR);
    return true;
}

/* The first write since the image was opened makes its contents others than those that its children know. The
 * lock is held. */
static int renew_cid(struct grains *g)
{
    struct vmdk *v = vmdk_of(g->disk);
    struct vmdk_descriptor *d = &v->descriptor;
    char digits[9];
    if (!d->cid_digits)
        return 0;
    const uint32_t cid = vmdk_fresh_cid() & (uint32_t)bits_mask(4 * d->cid_digits);
    g_snprintf(digits, sizeof(digits), "%0*" PRIx32, (int)d->cid_digits, cid);
    int status = block_pwrite(v->disk.below, digits, d->cid_digits, v->descriptor_at + d->cid_at);
    if (status)
        return status;
    memcpy(d->text + d->cid_at, digits, d->cid_digits);
    d->cid = cid;
    return 0;
}

static const struct grains_ops ops = {renew_cid, vmdk_read_packed, vmdk_is_packed};

static bool vmdk_open(struct disk *b, struct block_config *config, GError **error)
{
    struct vmdk *v = vmdk_of(b);
    b->below = STEAL(config->file);
    if (!vmdk_open_extents(v, config, error) || !check_stream(v, config, error) ||
        !block_open_base(config, v->descriptor.parent, "vmdk", &v->grains.base, error) ||
        !check_parent(v, config, error)) {
        vmdk_release(v);
        return false;
    }
    grains_init(&v->grains, &ops, b);
    if (v->stream)
        b->facts.granularity = 0;
    return true;
}

static void vmdk_close(struct disk *b)
{
    if (!b->facts.readonly)
        block_flush(b);
    vmdk_release(vmdk_of(b));
}

/* --- operations --- */

/* A stream takes whole grains only. */
static int write_stream(struct vmdk *v, struct block_cursor *c, uint64_t offset, uint64_t size)
{
    const uint32_t grain = v->grains.extents[0].grain;
    const uint64_t end = offset + size;
    if (offset % grain || (end % grain && end != v->disk.facts.size))
        return -EOPNOTSUPP;
    uint8_t *bytes = block_scratch_take(grain);
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t now; offset < end && !status; offset += now) {
        now = MIN(end - offset, (uint64_t)grain);
        block_cursor_take(c, bytes, now);
        status = vmdk_write_compressed(&v->disk, bytes, offset, now);
    }
    block_scratch_give(bytes);
    return status;
}

static int vmdk_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return grains_read(&vmdk_of(b)->grains, iov, n, offset, flags);
}

static int vmdk_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    struct vmdk *v = vmdk_of(b);
    struct block_cursor c = {.iov = iov};
    return v->stream ? write_stream(v, &c, offset, block_iov_size(iov, n))
                     : grains_write(&v->grains, iov, n, offset);
}

static int vmdk_flush(struct disk *b)
{
    return grains_flush(&vmdk_of(b)->grains);
}

static int vmdk_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return vmdk_of(b)->stream ? -EOPNOTSUPP : grains_discard(&vmdk_of(b)->grains, offset, size);
}

/* What is not written of a stream is zero, and nothing is written twice. */
static int zero_stream(struct vmdk *v, uint64_t offset, uint64_t size)
{
    struct grains_extent *e = &v->grains.extents[0];
    struct grains_run run;
    int status = v->grains.base ? -EOPNOTSUPP : 0;
    pthread_mutex_lock(&v->grains.lock);
    for (; size && !status; offset += run.size, size -= run.size) {
        status = grains_map(e, offset, size, true, &run);
        if (!status && run.state != GRAINS_BELOW)
            status = -EOPNOTSUPP;
    }
    pthread_mutex_unlock(&v->grains.lock);
    return status;
}

static int vmdk_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct vmdk *v = vmdk_of(b);
    return v->stream ? zero_stream(v, offset, size) : grains_zero(&v->grains, offset, size, flags);
}

static int vmdk_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return grains_extent(&vmdk_of(b)->grains, offset, size, extent);
}

/* --- what is known of it --- */

static json_t *describe_extent(const struct grains_extent *e, const struct vmdk *v)
{
    json_t *o = json_object();
    json_object_set_new(o, "virtual-size", json_integer((json_int_t)e->size));
    json_object_set_new(o, "filename", json_string(e->name));
    json_object_set_new(o, "format",
                        json_string(e->file == v->disk.below || !v->descriptor.lines_n
                                        ? ""
                                        : v->descriptor.lines[e - v->grains.extents].type));
    if (e->grain)
        json_object_set_new(o, "cluster-size", json_integer(e->grain));
    if (e->packed)
        json_object_set_new(o, "compressed", json_true());
    return o;
}

static bool vmdk_info(struct disk *b, struct block_image_info *info, GError **error)
{
    struct vmdk *v = vmdk_of(b);
    (void)error;
    *info = (struct block_image_info){.cluster = b->facts.cluster,
                                      .dirty = v->unclean,
                                      .backing = g_strdup(v->descriptor.parent),
                                      .backing_format = g_strdup(v->descriptor.parent ? "vmdk" : NULL)};
    json_t *extents = json_array();
    for (unsigned i = 0; i < v->grains.extents_n; i++) {
        json_array_append_new(extents, describe_extent(&v->grains.extents[i], v));
        info->compressed |= v->grains.extents[i].packed;
    }
    info->specific = json_object();
    json_object_set_new(info->specific, "cid", json_integer(v->descriptor.cid));
    json_object_set_new(info->specific, "parent-cid", json_integer(v->descriptor.parent_cid));
    json_object_set_new(info->specific, "create-type", json_string(v->descriptor.type));
    json_object_set_new(info->specific, "extents", extents);
    return true;
}

static bool vmdk_looks_like(const uint8_t *head, size_t size)
{
    static const char text[] = "# disk descriptorfile";
    if (size >= 4 && (ld32le(head) == VMDK_MAGIC || ld32le(head) == VMDK_COWD_MAGIC))
        return true;
    return size >= sizeof(text) && !g_ascii_strncasecmp((const char *)head, text, sizeof(text) - 1);
}

static bool vmdk_check(struct disk *b, unsigned fix, struct block_check *check, GError **error)
{
    struct vmdk *v = vmdk_of(b);
    check->corruptions += v->second;
    if (v->second)
        block_check_say(check, "corrupt: the directory is damaged; the redundant one is good: convert it");
    return grains_check(&v->grains, fix, check, error);
}

const struct block_image vmdk_image = {
    .create_options = vmdk_create_options,
    .create_options_size = sizeof(struct vmdk_options),
    .looks_like = vmdk_looks_like,
    .create = vmdk_create,
    .measure = vmdk_measure,
    .info = vmdk_info,
    .check = vmdk_check,
    .resize = places_image_resize,
};

const struct block_driver block_driver_vmdk = {
    .name = "vmdk",
    .help = "VMware's virtual disks",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct vmdk),
    .open = vmdk_open,
    .close = vmdk_close,
    .read = vmdk_read,
    .write = vmdk_write,
    .flush = vmdk_flush,
    .discard = vmdk_discard,
    .zero = vmdk_zero,
    .extent = vmdk_extent,
    .resize = vmdk_resize,
    .write_compressed = vmdk_write_compressed,
    .seal = vmdk_seal,
    .image = &vmdk_image,
};
