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

enum { COPY_BYTES = 64 * 1024 };
static const uint8_t zeroes[COPY_BYTES];

/* --- life --- */

static bool check_parent(struct vmdk *v, const struct block_config *config, GError **error)
{
    if (!v->base || v->base->driver != v->disk.driver || config->flags & BLOCK_OPEN_REPAIR)
        return true;
    const uint32_t cid = vmdk_of(v->base)->descriptor.cid;
    if (!v->descriptor.parent || cid == v->descriptor.parent_cid)
        return true;
    return hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s: lies over contents with the number %08" PRIx32 ", %s has %08" PRIx32
                       ": it was written to since; give the parent as it was",
                       v->disk.name, v->descriptor.parent_cid, v->base->name, cid);
}

static void set_facts(struct vmdk *v)
{
    struct block_facts *f = &v->disk.facts;
    f->alignment = 1;
    f->preferred = 4096;
    f->granularity = BLOCK_SECTOR;
    f->cluster = 0;
    for (unsigned i = 0; i < v->extents_n; i++) {
        const struct vmdk_extent *e = &v->extents[i];
        if (e->file)
            f->granularity = MAX(f->granularity, e->file->facts.granularity);
        f->cluster = MAX(f->cluster, e->grain);
    }
    if (v->stream)
        f->granularity = 0;
}

static bool is_empty(struct vmdk_extent *e)
{
    for (uint32_t i = 0; i < e->tables_n; i++)
        if (e->gd[i])
            return false;
    return true;
}

/* A stream is written once, from its beginning to its end. */
static bool check_stream(struct vmdk *v, const struct block_config *config, GError **error)
{
    struct vmdk_extent *e = &v->extents[0];
    if (!v->stream || config->readonly)
        return true;
    if (!e->at_end || !is_empty(e))
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is stream-optimized, which is written once and can only be read then; add "
                           "readonly=on, or convert it",
                           v->disk.name);
    e->next = align_up(e->begin, BLOCK_SECTOR);
    return true;
}

static bool vmdk_open(struct disk *b, struct block_config *config, GError **error)
{
    struct vmdk *v = vmdk_of(b);
    b->below = STEAL(config->file);
    if (!vmdk_open_extents(v, config, error) || !check_stream(v, config, error) ||
        !block_open_base(config, v->descriptor.parent, "vmdk", &v->base, error) ||
        !check_parent(v, config, error)) {
        vmdk_release(v);
        return false;
    }
    if (!config->readonly)
        v->batch = g_malloc(VMDK_BATCH);
    set_facts(v);
    pthread_mutex_init(&v->lock, NULL);
    pthread_cond_init(&v->released, NULL);
    return true;
}

static void vmdk_close(struct disk *b)
{
    struct vmdk *v = vmdk_of(b);
    if (!b->facts.readonly)
        block_flush(b);
    pthread_cond_destroy(&v->released);
    pthread_mutex_destroy(&v->lock);
    vmdk_release(v);
    g_free(v->batch);
}

/* --- where --- */

/* The extent that has this byte of the disk; there is one. */
static struct vmdk_extent *extent_at(struct vmdk *v, uint64_t offset)
{
    unsigned low = 0, high = v->extents_n;
    while (high - low > 1) {
        const unsigned middle = low + (high - low) / 2;
        if (v->extents[middle].start <= offset)
            low = middle;
        else
            high = middle;
    }
    return &v->extents[low];
}

/* --- reading --- */

static int read_base(struct vmdk *v, struct block_cursor *c, uint64_t offset, uint64_t size, unsigned flags)
{
    struct iovec iov[BLOCK_IOV_MAX];
    const uint64_t end = v->base ? v->base->facts.size : 0,
                   there = offset < end ? MIN(size, end - offset) : 0;
    if (there) {
        int status = block_read(v->base, iov, block_cursor_next(c, there, iov), offset, flags);
        if (status)
            return status;
    }
    block_cursor_zero(c, size - there);
    return 0;
}

static int read_run(struct vmdk *v, struct vmdk_extent *e, const struct vmdk_run *run, struct block_cursor *c,
                    uint64_t offset, unsigned flags)
{
    struct iovec iov[BLOCK_IOV_MAX];
    switch (run->state) {
    case VMDK_BELOW: return read_base(v, c, offset, run->size, flags);
    case VMDK_ZEROES: block_cursor_zero(c, run->size); return 0;
    case VMDK_DATA:
        return vmdk_read_file(e->file, iov, block_cursor_next(c, run->size, iov), run->place, run->size,
                              flags);
    case VMDK_PACKED:
        if (flags & BLOCK_NOWAIT)
            return -EAGAIN;
        return vmdk_read_packed(v, e, c, offset - e->start, run->size, run->place);
    }
    return -EIO;
}

static int vmdk_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct vmdk *v = vmdk_of(b);
    struct block_cursor c = {.iov = iov};
    struct vmdk_run run;
    int status = 0;
    for (uint64_t size = block_iov_size(iov, n); size && !status; offset += run.size, size -= run.size) {
        struct vmdk_extent *e = extent_at(v, offset);
        const uint64_t at = offset - e->start;
        pthread_mutex_lock(&v->lock);
        status = vmdk_map(e, at, MIN(size, e->size - at), !(flags & BLOCK_NOWAIT), &run);
        pthread_mutex_unlock(&v->lock);
        if (!status)
            status = read_run(v, e, &run, &c, offset, flags);
    }
    return status;
}

/* --- claims; the lock is held --- */

static bool claimed(const struct vmdk *v, uint64_t from, uint64_t to)
{
    for (unsigned i = 0; i < v->claims_n; i++)
        if (v->claims[i].from < to && from < v->claims[i].to)
            return true;
    return false;
}

/* How the next bytes are kept, once nobody changes that. */
static int map_settled(struct vmdk *v, struct vmdk_extent *e, uint64_t at, uint64_t size,
                       struct vmdk_run *run)
{
    int status;
    while (!(status = vmdk_map(e, at, size, true, run))) {
        const uint64_t from = e->start + at;
        const uint64_t grain = e->grain ? e->grain : 1;
        /* A claim further on in the range ends the run before it. */
        if (run->state == VMDK_DATA || !claimed(v, from, from + run->size))
            break;
        if (claimed(v, from, from + 1)) {
            pthread_cond_wait(&v->released, &v->lock);
            continue;
        }
        uint64_t now = grain - at % grain;
        while (now + grain <= run->size && !claimed(v, from + now, from + now + grain))
            now += grain;
        run->size = MIN(run->size, now);
        break;
    }
    return status;
}

static void unclaim(struct vmdk *v, uint64_t from)
{
    unsigned i = 0;
    while (v->claims[i].from != from)
        i++;
    v->claims[i] = v->claims[--v->claims_n];
    pthread_cond_broadcast(&v->released);
}

/* --- writing --- */

/* The first write since the image was opened makes its contents others than those that its children know. */
static int renew_cid(struct vmdk *v)
{
    struct vmdk_descriptor *d = &v->descriptor;
    char digits[9];
    int status = 0;
    if (atomic_load_explicit(&v->cid_fresh, memory_order_acquire))
        return 0;
    pthread_mutex_lock(&v->lock);
    if (!v->cid_fresh && d->cid_digits) {
        const uint32_t cid = vmdk_fresh_cid() & (uint32_t)bits_mask(4 * d->cid_digits);
        g_snprintf(digits, sizeof(digits), "%0*" PRIx32, (int)d->cid_digits, cid);
        status = block_pwrite(v->disk.below, digits, d->cid_digits, v->descriptor_at + d->cid_at);
        if (!status) {
            memcpy(d->text + d->cid_at, digits, d->cid_digits);
            d->cid = cid;
        }
    }
    if (!status)
        atomic_store_explicit(&v->cid_fresh, true, memory_order_release);
    pthread_mutex_unlock(&v->lock);
    return status;
}

/* Bytes of the disk that a new grain must have beside those that are written: what is below goes to the
 * grain's place. */
static int copy_up(struct vmdk *v, struct vmdk_extent *e, uint64_t offset, uint64_t size, uint64_t place)
{
    uint8_t *bytes = block_scratch_take(COPY_BYTES);
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t now; size && !status; offset += now, place += now, size -= now) {
        now = MIN(size, (uint64_t)COPY_BYTES);
        const struct iovec iov = {bytes, now};
        struct block_cursor c = {.iov = &iov};
        status = read_base(v, &c, offset, now, 0);
        if (!status)
            status = block_pwrite(e->file, bytes, now, place);
    }
    block_scratch_give(bytes);
    return status;
}

/* Zeroes for the same; where the file grows over a hole, its last bytes do. last: the edge is a grain's end.
 */
static int clear_edge(struct vmdk_extent *e, uint64_t size, uint64_t place, bool last)
{
    if (e->file->facts.growable) {
        const uint64_t keep = last ? MIN(size, (uint64_t)BLOCK_SECTOR) : 0;
        if (!keep || e->file->facts.size >= place + size)
            return 0;
        return block_pwrite(e->file, zeroes, keep, place + size - keep);
    }
    int status = 0;
    for (uint64_t now; size && !status; place += now, size -= now) {
        now = MIN(size, (uint64_t)COPY_BYTES);
        status = block_pwrite(e->file, zeroes, now, place);
    }
    return status;
}

static int fill_edge(struct vmdk *v, struct vmdk_extent *e, enum vmdk_state state, uint64_t offset,
                     uint64_t size, uint64_t place, bool last)
{
    if (!size)
        return 0;
    const bool below = state == VMDK_BELOW && v->base && offset < v->base->facts.size;
    return below ? copy_up(v, e, offset, size, place) : clear_edge(e, size, place, last);
}

/* New grains for [at, at + run->size), whose bytes come from c. The grains are claimed. */
static int fill_grains(struct vmdk *v, struct vmdk_extent *e, uint64_t at, const struct vmdk_run *run,
                       struct block_cursor *c, uint64_t place)
{
    struct iovec iov[BLOCK_IOV_MAX];
    const uint64_t end = at + run->size, head = at % e->grain, tail = align_up(end, e->grain) - end;
    int status = fill_edge(v, e, run->state, e->start + at - head, head, place, false);
    if (!status)
        status = block_write(e->file, iov, block_cursor_next(c, run->size, iov), place + head);
    if (!status)
        status = fill_edge(v, e, run->state, e->start + end, tail, place + head + run->size, true);
    return status;
}

/* Gives grains without a place one. The lock is held, and is let go of while bytes are moved. */
static int write_new_locked(struct vmdk *v, struct vmdk_extent *e, uint64_t at, const struct vmdk_run *run,
                            struct block_cursor *c)
{
    const uint64_t first = at / e->grain, n = (at + run->size - 1) / e->grain - first + 1;
    int status = vmdk_pin(e, first, n);
    if (status)
        return status;
    const uint64_t place = e->next, end = place + n * e->grain;
    if (end / BLOCK_SECTOR > UINT32_MAX || (!e->file->facts.growable && end > e->file->facts.size)) {
        vmdk_unpin(e, first, n);
        return -ENOSPC;
    }
    e->next = end;
    const uint64_t from = e->start + first * e->grain;
    v->claims[v->claims_n++] = (struct vmdk_claim){from, from + n * e->grain};
    pthread_mutex_unlock(&v->lock);
    status = fill_grains(v, e, at, run, c, place);
    pthread_mutex_lock(&v->lock);
    if (!status)
        vmdk_set(e, first, n, place);
    vmdk_unpin(e, first, n);
    unclaim(v, from);
    return status;
}

/* Writes the first bytes of a range; how many in *done. */
static int write_some(struct vmdk *v, struct block_cursor *c, uint64_t offset, uint64_t size, uint64_t *done)
{
    struct iovec iov[BLOCK_IOV_MAX];
    struct vmdk_extent *e = extent_at(v, offset);
    const uint64_t at = offset - e->start;
    struct vmdk_run run;
    pthread_mutex_lock(&v->lock);
    int status = map_settled(v, e, at, MIN(size, e->size - at), &run);
    while (!status && run.state != VMDK_DATA && v->claims_n == VMDK_CLAIMS) {
        pthread_cond_wait(&v->released, &v->lock);
        status = map_settled(v, e, at, MIN(size, e->size - at), &run);
    }
    const bool new = !status &&run.state != VMDK_DATA;
    if (new)
        status = write_new_locked(v, e, at, &run, c);
    pthread_mutex_unlock(&v->lock);
    *done = run.size;
    return status || new ? status : block_write(e->file, iov, block_cursor_next(c, run.size, iov), run.place);
}

/* A stream takes whole grains only. */
static int write_stream(struct vmdk *v, struct block_cursor *c, uint64_t offset, uint64_t size)
{
    const uint32_t grain = v->extents[0].grain;
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

static int vmdk_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    struct vmdk *v = vmdk_of(b);
    struct block_cursor c = {.iov = iov};
    uint64_t size = block_iov_size(iov, n), done;
    if (v->stream)
        return write_stream(v, &c, offset, size);
    int status = renew_cid(v);
    if (!status && vmdk_full(v))
        status = block_flush(b);
    for (; size && !status; offset += done, size -= done)
        status = write_some(v, &c, offset, size, &done);
    return status;
}

/* --- space --- */

/* Zeroes as data, for what has no better way. */
static int write_zeroes(struct vmdk *v, uint64_t offset, uint64_t size)
{
    int status = 0;
    while (size && !status) {
        const struct iovec iov = {(void *)(uintptr_t)zeroes, MIN(size, (uint64_t)COPY_BYTES)};
        status = vmdk_write(&v->disk, &iov, 1, offset);
        offset += iov.iov_len;
        size -= iov.iov_len;
    }
    return status;
}

/* Whole grains that have no place become zero by their entries, where the image may have those. The lock is
 * held. *size becomes 0 when the entries cannot say it. */
static int zero_entries(struct vmdk_extent *e, uint64_t at, uint64_t *size)
{
    const uint64_t first = at / e->grain, end = at + *size;
    const uint64_t n = (end == e->size ? (end - 1) / e->grain + 1 : end / e->grain) - first;
    if (at % e->grain || !n || !(e->flags & VMDK_ZERO_GRAINS) || e->version < 2) {
        *size = 0;
        return 0;
    }
    int status = vmdk_pin(e, first, n);
    if (status)
        return status;
    vmdk_set(e, first, n, 1);
    vmdk_unpin(e, first, n);
    *size = MIN(*size, n * e->grain);
    return 0;
}

/* The first bytes of a range; how many in *done. */
static int zero_some(struct vmdk *v, uint64_t offset, uint64_t size, unsigned flags, uint64_t *done)
{
    struct vmdk_extent *e = extent_at(v, offset);
    const uint64_t at = offset - e->start;
    struct vmdk_run run;
    pthread_mutex_lock(&v->lock);
    int status = map_settled(v, e, at, MIN(size, e->size - at), &run);
    *done = run.size;
    const bool bare = !status && run.state == VMDK_BELOW && v->base && offset < v->base->facts.size;
    uint64_t entries = run.size;
    if (bare)
        status = zero_entries(e, at, &entries);
    pthread_mutex_unlock(&v->lock);
    if (status)
        return status;
    if (run.state == VMDK_DATA) {
        if (run.place + run.size > e->file->facts.size)
            return write_zeroes(v, offset, run.size);
        return block_zero(e->file, run.place, run.size, flags);
    }
    if (bare && entries)
        *done = entries;
    else if (bare) { /* up to where entries can say it */
        *done = e->flags & VMDK_ZERO_GRAINS ? MIN(run.size, e->grain - at % e->grain) : run.size;
        return write_zeroes(v, offset, *done);
    }
    return 0;
}

static int vmdk_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct vmdk *v = vmdk_of(b);
    if (v->stream) /* what is not written is zero, and nothing is written twice */
        return v->base ? -EOPNOTSUPP : 0;
    uint64_t done;
    int status = renew_cid(v);
    if (!status && vmdk_full(v))
        status = block_flush(b);
    for (; size && !status; offset += done, size -= done)
        status = zero_some(v, offset, size, flags, &done);
    return status;
}

/* What has a place keeps it, and its storage goes. */
static int vmdk_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    struct vmdk *v = vmdk_of(b);
    struct vmdk_run run;
    int status = v->stream ? -EOPNOTSUPP : renew_cid(v);
    for (; size && !status; offset += run.size, size -= run.size) {
        struct vmdk_extent *e = extent_at(v, offset);
        const uint64_t at = offset - e->start;
        pthread_mutex_lock(&v->lock);
        status = vmdk_map(e, at, MIN(size, e->size - at), true, &run);
        pthread_mutex_unlock(&v->lock);
        if (!status && run.state == VMDK_DATA && run.place + run.size <= e->file->facts.size)
            status = block_discard(e->file, run.place, run.size);
    }
    return status;
}

static int extent_below(struct vmdk *v, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    const uint64_t end = v->base ? v->base->facts.size : 0;
    *extent = (struct block_extent){.size = size, .hole = true, .zero = true, .place = BLOCK_NO_PLACE};
    if (offset >= end)
        return 0;
    int status = block_extent(v->base, offset, MIN(size, end - offset), extent);
    extent->place = BLOCK_NO_PLACE;
    extent->depth++;
    return status;
}

static int vmdk_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct vmdk *v = vmdk_of(b);
    struct vmdk_extent *e = extent_at(v, offset);
    const uint64_t at = offset - e->start;
    struct vmdk_run run;
    pthread_mutex_lock(&v->lock);
    int status = vmdk_map(e, at, MIN(size, e->size - at), true, &run);
    pthread_mutex_unlock(&v->lock);
    if (status)
        return status;
    *extent = (struct block_extent){.size = run.size, .place = BLOCK_NO_PLACE};
    switch (run.state) {
    case VMDK_BELOW: return extent_below(v, offset, run.size, extent);
    case VMDK_ZEROES: extent->zero = true; break;
    case VMDK_PACKED: extent->compressed = true; break;
    case VMDK_DATA:
        if (run.place + run.size <= e->file->facts.size)
            status = block_extent(e->file, run.place, run.size, extent);
        extent->depth = 0;
        extent->place = e->file == b->below ? run.place : BLOCK_NO_PLACE;
    }
    return status;
}

/* --- what is known of it --- */

static json_t *describe_extent(const struct vmdk_extent *e, const struct vmdk *v)
{
    json_t *o = json_object();
    json_object_set_new(o, "virtual-size", json_integer((json_int_t)e->size));
    json_object_set_new(o, "filename", json_string(e->name));
    json_object_set_new(o, "format",
                        json_string(e->file == v->disk.below || !v->descriptor.lines_n
                                        ? ""
                                        : v->descriptor.lines[e - v->extents].type));
    if (e->grain)
        json_object_set_new(o, "cluster-size", json_integer(e->grain));
    if (e->flags & VMDK_COMPRESSED)
        json_object_set_new(o, "compressed", json_true());
    return o;
}

static bool vmdk_info(struct disk *b, struct block_image_info *info, GError **error)
{
    struct vmdk *v = vmdk_of(b);
    (void)error;
    *info = (struct block_image_info){.cluster = b->facts.cluster,
                                      .backing = g_strdup(v->descriptor.parent),
                                      .backing_format = g_strdup(v->descriptor.parent ? "vmdk" : NULL)};
    json_t *extents = json_array();
    for (unsigned i = 0; i < v->extents_n; i++) {
        json_array_append_new(extents, describe_extent(&v->extents[i], v));
        info->dirty |= v->extents[i].unclean;
        info->compressed |= (v->extents[i].flags & VMDK_COMPRESSED) != 0;
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
