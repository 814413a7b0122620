/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What all formats share of what is done with images. */
#include "block/image.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/param.h>
#include <sys/random.h>

#include "base/bits.h"

void block_image_info_clear(struct block_image_info *info)
{
    g_free(info->backing);
    g_free(info->backing_format);
    if (info->specific)
        json_decref(info->specific);
    *info = (struct block_image_info){0};
}

void block_snapshot_free(struct block_snapshot *s)
{
    if (!s)
        return;
    g_free(s->id);
    g_free(s->name);
    g_free(s);
}

void block_bitmap_free(struct block_bitmap *b)
{
    if (!b)
        return;
    g_free(b->name);
    g_free(b);
}

int block_image_used(struct disk *source, uint32_t cluster, uint64_t *bytes)
{
    const uint64_t size = source->facts.size;
    uint64_t counted = 0; /* where the last counted cluster ends */
    *bytes = 0;
    for (uint64_t at = 0; at < size;) {
        struct block_extent extent;
        int status = block_extent(source, at, size - at, &extent);
        if (status)
            return status;
        const uint64_t from = MAX(counted, at / cluster * cluster), end = align_up(at + extent.size, cluster);
        if (!extent.zero && end > from) {
            *bytes += end - from;
            counted = end;
        }
        at += extent.size;
    }
    return 0;
}

void block_check_say(struct block_check *check, const char *format, ...)
{
    va_list args;
    if (!check->report || check->said > BLOCK_CHECK_LINES)
        return;
    if (check->said++ == BLOCK_CHECK_LINES) { /* a table full of nonsense has millions */
        check->report(check->opaque, "and more of this kind, which is not listed");
        return;
    }
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    check->report(check->opaque, line);
}

bool block_image_id(uint8_t id[static 16])
{
    if (getrandom(id, 16, 0) != 16)
        return false;
    id[7] = (uint8_t)((id[7] & 0x0f) | 0x40); /* the number of the version, as Microsoft orders the bytes */
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    return true;
}
