/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is served; see export.h. */
#include "block/serve/export.h"

#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "block/image.h"
#include "block/serve/proto.h"

enum { CHANGES_MAX = 4 << 20 /* 32 MiB of them */ };

bool nbd_export_init(struct nbd_export *e, GError **error)
{
    const struct block_facts *f = &e->disk->facts;
    const uint64_t all = f->size;
    if (e->offset > all || e->size > all - e->offset)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: has %" PRIu64 " bytes; what is to be served, %" PRIu64 " at %" PRIu64
                           ", is not all inside",
                           e->disk->name, all, e->size, e->offset);
    if (!e->size)
        e->size = all - e->offset;
    if ((e->offset | e->size) & (f->alignment - 1))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: offset and size must be multiples of %u bytes",
                           e->disk->name, f->alignment);
    if (strlen(e->name) > NBD_STRING_MAX || (e->description && strlen(e->description) > NBD_STRING_MAX))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "the name of an export and its description have at most %d "
                           "bytes",
                           NBD_STRING_MAX);
    e->readonly |= f->readonly;
    return true;
}

void nbd_export_fini(struct nbd_export *e)
{
    for (unsigned i = 0; i < e->n_bitmaps; i++) {
        g_free(e->bitmaps[i].context);
        g_array_unref(e->bitmaps[i].changes);
    }
    e->n_bitmaps = 0;
}

static bool read_bitmap(struct nbd_export *e, const char *name, GArray *changes, GError **error)
{
    const uint64_t all = e->disk->facts.size;
    bool was = false, is = false;
    for (uint64_t offset = 0; offset < all;) {
        uint64_t size = all - offset;
        if (!e->disk->driver->image->bitmap_at(e->disk, name, offset, &size, &is, error))
            return false;
        if (!size || changes->len >= CHANGES_MAX)
            return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: bitmap %s has more than %d pieces",
                               e->disk->name, name, CHANGES_MAX);
        if (is != was)
            g_array_append_val(changes, offset);
        was = is;
        offset += MIN(size, all - offset);
    }
    return true;
}

bool nbd_export_add_bitmap(struct nbd_export *e, const char *name, GError **error)
{
    if (!e->disk->driver->image || !e->disk->driver->image->bitmap_at)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: format %s has no bitmaps", e->disk->name,
                           e->disk->driver->name);
    if (!e->readonly)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a bitmap can only be served of a disk that does not change; add --read-only",
                           e->disk->name);
    if (e->n_bitmaps == NBD_BITMAPS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "at most %d bitmaps can be served", NBD_BITMAPS_MAX);
    struct nbd_bitmap *bitmap = &e->bitmaps[e->n_bitmaps];
    bitmap->context = g_strconcat("qemu:dirty-bitmap:", name, NULL);
    bitmap->changes = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    e->n_bitmaps++;
    return read_bitmap(e, name, bitmap->changes, error);
}

bool nbd_bitmap_at(const struct nbd_export *e, const struct nbd_bitmap *bitmap, uint64_t offset,
                   uint64_t size, uint64_t *same)
{
    const uint64_t *changes = (const uint64_t *)(const void *)bitmap->changes->data;
    const uint64_t at = e->offset + offset;
    unsigned low = 0, high = bitmap->changes->len; /* how many changes are at or before it */
    while (low < high) {
        const unsigned middle = low + (high - low) / 2;
        if (changes[middle] <= at)
            low = middle + 1;
        else
            high = middle;
    }
    *same = low < bitmap->changes->len ? MIN(size, changes[low] - at) : size;
    return low & 1;
}
