/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Format luks: a LUKS 1 header and behind it a disk whose sectors are encrypted. */
/*
 * Bytes go through room of this thread on their way: a caller's buffers never hold what is in the file, nor
 * does a guest that changes a buffer meanwhile change what is encrypted twice.
 */
#include "block/format/luks.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "block/cursor.h"
#include "block/image.h"
#include "block/scratch.h"

enum { UNIT = SECTOR_CIPHER_UNIT, CHUNK = 256 * 1024 /* stays in a cache */ };

struct luks {
    struct disk disk;
    struct luks_header header;
    struct sector_cipher *cipher; /* NULL: opened without a key */
    uint64_t payload;             /* where the disk is in the file, bytes */
};

static struct luks *luks(struct disk *b)
{
    return (struct luks *)(void *)b;
}

/* --- life --- */

static bool open_key(struct luks *l, const struct luks_place *place, const struct block_config *config,
                     GError **error)
{
    if (config->key) {
        l->cipher = luks_unlock(place, &l->header, config->key, config->key_size, error);
        return l->cipher != NULL;
    }
    return config->flags & BLOCK_OPEN_KEYLESS ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: is encrypted; give its passphrase", l->disk.name);
}

static bool luks_open(struct disk *b, struct block_config *config, GError **error)
{
    struct luks *l = luks(b);
    struct disk *file = b->below = STEAL(config->file);
    const struct luks_place place = {b->name, file, 0, file->facts.size};
    if (!luks_read(&place, &l->header, error))
        return false;
    l->payload = luks_payload(&l->header);
    if (l->payload >= file->facts.size || (file->facts.size - l->payload) < UNIT)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has %" PRIu64 " bytes and its disk begins at %" PRIu64 "; its end is missing",
                           b->name, (uint64_t)file->facts.size, l->payload);
    if (!open_key(l, &place, config, error))
        return false;
    b->facts.readonly |= file->facts.readonly;
    b->facts.alignment = MAX(file->facts.alignment, (uint32_t)UNIT);
    b->facts.size = (file->facts.size - l->payload) / b->facts.alignment * b->facts.alignment;
    b->facts.preferred = MAX(file->facts.preferred, (uint32_t)UNIT);
    b->facts.granularity = file->facts.granularity;
    b->facts.growable = false;
    return true;
}

static void luks_close(struct disk *b)
{
    sector_cipher_free(luks(b)->cipher);
}

/* --- data --- */

static int luks_io_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct luks *l = luks(b);
    struct block_cursor c = {.iov = iov};
    uint64_t size = block_iov_size(iov, n);
    uint8_t *room = block_scratch_take(MIN(size, (uint64_t)CHUNK));
    int status = !l->cipher ? -EACCES : room ? 0 : -ENOMEM;
    for (uint64_t now; size && !status; offset += now, size -= now) {
        now = MIN(size, (uint64_t)CHUNK);
        const struct iovec part = {room, now};
        status = block_read(b->below, &part, 1, l->payload + offset, flags);
        if (status)
            break;
        sector_decrypt(l->cipher, offset / UNIT, room, now / UNIT);
        block_cursor_fill(&c, room, now);
    }
    block_scratch_give(room);
    return status;
}

static int luks_io_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    struct luks *l = luks(b);
    struct block_cursor c = {.iov = iov};
    uint64_t size = block_iov_size(iov, n);
    uint8_t *room = block_scratch_take(MIN(size, (uint64_t)CHUNK));
    int status = !l->cipher ? -EACCES : room ? 0 : -ENOMEM;
    for (uint64_t now; size && !status; offset += now, size -= now) {
        now = MIN(size, (uint64_t)CHUNK);
        block_cursor_take(&c, room, now);
        sector_encrypt(l->cipher, offset / UNIT, room, now / UNIT);
        status = block_pwrite(b->below, room, now, l->payload + offset);
    }
    block_scratch_give(room);
    return status;
}

static int luks_flush(struct disk *b)
{
    return block_flush(b->below);
}

static int luks_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return block_discard(b->below, luks(b)->payload + offset, size);
}

static int luks_resize(struct disk *b, uint64_t size)
{
    return size > INT64_MAX - luks(b)->payload ? -EFBIG : block_resize(b->below, luks(b)->payload + size);
}

/* --- images --- */

static bool luks_looks_like(const uint8_t *head, size_t size)
{
    return size >= 8 && !memcmp(head, "LUKS\xba\xbe\0\1", 8);
}

static bool luks_image_create(const struct block_create *c, GError **error)
{
    const struct luks_options *o = c->options;
    if (c->backing)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: a luks image has no backing file", c->name);
    if (!c->size || c->size % BLOCK_SECTOR)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: the size must be a multiple of %d bytes", c->name,
                           BLOCK_SECTOR);
    const uint64_t header = luks_size(o, error);
    if (!header)
        return false;
    if (c->size > INT64_MAX - header)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: too large", c->name);
    int status = 0;
    if (c->file->facts.growable)
        status = block_resize(c->file, header + c->size);
    else if (c->file->facts.size < header + c->size)
        status = -ENOSPC;
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be made %" PRIu64 " bytes large: %s",
                           c->name, header + c->size, g_strerror(-status));
    const struct luks_place place = {c->name, c->file, 0, header};
    return luks_create(&place, o, c->key, c->key_size, error);
}

static bool luks_measure(const struct block_create *c, struct disk *source, struct block_measure *out,
                         GError **error)
{
    const uint64_t header = luks_size(c->options, error);
    out->required = out->full = header + (source ? (uint64_t)source->facts.size : c->size);
    return header;
}

static bool luks_image_info(struct disk *b, struct block_image_info *info, GError **error)
{
    (void)error;
    info->encrypted = true;
    info->specific = luks_info(&luks(b)->header);
    return true;
}

static bool luks_image_resize(struct disk *b, uint64_t size, enum block_preallocation how, GError **error)
{
    if (how != BLOCK_PREALLOC_OFF)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: luks has no preallocation when resizing",
                           b->name);
    int status = block_resize(b, size);
    if (!status)
        status = block_flush(b);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be resized: %s", b->name, g_strerror(-status));
}

static const struct block_image image = {
    .create_options = luks_options,
    .create_options_size = sizeof(struct luks_options),
    .looks_like = luks_looks_like,
    .create = luks_image_create,
    .measure = luks_measure,
    .info = luks_image_info,
    .resize = luks_image_resize,
};

const struct block_driver block_driver_luks = {
    .name = "luks",
    .help = "encrypted, with a passphrase (LUKS 1)",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct luks),
    .open = luks_open,
    .close = luks_close,
    .read = luks_io_read,
    .write = luks_io_write,
    .flush = luks_flush,
    .discard = luks_discard,
    .resize = luks_resize,
    .image = &image,
};
