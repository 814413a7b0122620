/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Format raw: the bytes of the file are the disk's. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/image.h"
#include "block/scratch.h"

static bool raw_accept(const struct disk *file, GError **error)
{
    const uint64_t size = file->facts.size, rest = size % BLOCK_SECTOR;
    if (!size)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is empty; give it a size: truncate -s 4G %s",
                           file->name, file->name);
    if (rest)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: has %" PRIu64
                           " bytes, which is not a multiple of %d; if it is a raw image, make "
                           "it whole: truncate -s %" PRIu64 " %s",
                           file->name, size, BLOCK_SECTOR, size - rest + BLOCK_SECTOR, file->name);
    return true;
}

/* --- making one --- */

struct raw_create {
    const char *preallocation;
};

static const struct option_row raw_create_options[] = {
    {.name = "preallocation",
     .arg = "HOW",
     .value = "off",
     .choice = "off|falloc|full",
     .help = "take the host's storage at once: off, falloc (reserved), full (written)",
     .type = OPTION_TEXT,
     .who = OPTION_BOTH,
     .offset = offsetof(struct raw_create, preallocation)},
    {0},
};

/* Storage for [from, size), which reads as zeroes already. */
static int preallocate(struct disk *b, uint64_t from, uint64_t size, enum block_preallocation how)
{
    if (how == BLOCK_PREALLOC_FALLOC)
        return from < size ? block_zero(b, from, size - from, 0) : 0;
    int status = 0;
    while (how == BLOCK_PREALLOC_FULL && from < size && !status) {
        const uint64_t now = MIN(size - from, (uint64_t)BLOCK_ZEROES);
        status = block_pwrite(b, block_zeroes(), now, from);
        from += now;
    }
    return status;
}

static bool raw_resize(struct disk *b, uint64_t size, enum block_preallocation how, GError **error)
{
    const uint64_t before = b->facts.size;
    if (how == BLOCK_PREALLOC_METADATA)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: a raw image has no metadata to preallocate",
                           b->name);
    int status = block_resize(b, size);
    if (status == -EOPNOTSUPP)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: its size is fixed", b->name);
    if (!status)
        status = preallocate(b, before, size, how);
    if (!status)
        status = block_flush(b);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", b->name, g_strerror(-status));
}

static bool raw_create(const struct block_create *c, GError **error)
{
    const struct raw_create *o = c->options;
    const char *how = o && o->preallocation ? o->preallocation : "off";
    if (c->backing)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: a raw image lies over no other; use qcow2",
                           c->name);
    if (!c->file->facts.growable) { /* a device */
        if (c->file->facts.size >= c->size)
            return true;
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has %" PRIu64 " bytes, and the disk %" PRIu64,
                           c->name, (uint64_t)c->file->facts.size, c->size);
    }
    return raw_resize(c->file, c->size,
                      !strcmp(how, "full")     ? BLOCK_PREALLOC_FULL
                      : !strcmp(how, "falloc") ? BLOCK_PREALLOC_FALLOC
                                               : BLOCK_PREALLOC_OFF,
                      error);
}

static bool raw_measure(const struct block_create *c, struct disk *source, struct block_measure *out,
                        GError **error)
{
    (void)error;
    out->required = out->full = source ? source->facts.size : c->size;
    return true;
}

static bool raw_info(struct disk *b, struct block_image_info *info, GError **error)
{
    (void)b;
    (void)info;
    (void)error;
    return true;
}

static const struct block_image raw_image = {
    .create_options = raw_create_options,
    .create_options_size = sizeof(struct raw_create),
    .create = raw_create,
    .measure = raw_measure,
    .info = raw_info,
    .resize = raw_resize,
};

const struct block_driver block_driver_raw = {
    .name = "raw",
    .help = "the file's bytes are the disk's",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .accept = raw_accept,
    .image = &raw_image,
};
