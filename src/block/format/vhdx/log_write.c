/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The log of a VHDX file, written: pages of metadata, all of a batch or none ([MS-VHDX] 2.3). */
/*
 * Theory of operation
 *
 * The log is used from the first change of the file until it is closed. Each entry is a sequence of its own:
 * its tail is itself, because what the entries before it hold was written where it belongs, and made durable,
 * before it was begun. When the power fails the last whole entry counts: it is either the newest one, or the
 * one before that, which changes nothing any more. So there must always be one: entries are at most a
 * third of the log, and go around it, which never touches the last one; and an empty one is durable before
 * the header names the log.
 */
#include <errno.h>
#include <string.h>

#include "base/byteorder.h"
#include "block/format/vhdx/vhdx.h"
#include "block/scratch.h"

static uint64_t entry_length(unsigned pages)
{
    return align_up(sizeof(struct vhdx_log_entry) + (uint64_t)pages * sizeof(struct vhdx_log_descriptor),
                    VHDX_PAGE) +
           (uint64_t)pages * VHDX_PAGE;
}

unsigned vhdx_log_room(const struct vhdx *v)
{
    unsigned pages = (unsigned)MIN(v->log.length / VHDX_PAGE / 3, UINT64_C(256));
    while (entry_length(pages) > v->log.length / 3)
        pages--;
    return pages;
}

static void make_entry(struct vhdx *v, const struct vhdx_page *pages, unsigned n, uint8_t *bytes)
{
    const uint64_t length = entry_length(n), sequence = ++v->log_sequence;
    struct vhdx_log_entry *e = (void *)bytes;
    memset(bytes, 0, length - (uint64_t)n * VHDX_PAGE);
    *e = (struct vhdx_log_entry){.length = htole32((uint32_t)length),
                                 .tail = htole32((uint32_t)v->log_at),
                                 .sequence = htole64(sequence),
                                 .count = htole32(n),
                                 .log = v->header.log,
                                 .flushed_size = htole64(v->stable_size),
                                 .last_size = htole64(v->stable_size)};
    memcpy(e->signature, "loge", 4);
    struct vhdx_log_descriptor *d = (void *)(bytes + sizeof(*e));
    struct vhdx_log_data *data = (void *)(bytes + length - (uint64_t)n * VHDX_PAGE);
    for (unsigned i = 0; i < n; i++, d++, data++) {
        memcpy(d->signature, "desc", 4);
        memcpy(&d->leading, pages[i].bytes, 8);
        memcpy(&d->trailing, pages[i].bytes + VHDX_PAGE - 4, 4);
        d->offset = htole64(pages[i].offset);
        d->sequence = htole64(sequence);
        memcpy(data->signature, "data", 4);
        memcpy(data->bytes, pages[i].bytes + 8, VHDX_DATA_BYTES);
        data->sequence_high = htole32((uint32_t)(sequence >> 32));
        data->sequence_low = htole32((uint32_t)sequence);
    }
    e->checksum = htole32(vhdx_checksum(bytes, length));
}

int vhdx_log_write(struct vhdx *v, const struct vhdx_page *pages, unsigned n)
{
    const uint64_t length = entry_length(n);
    if (v->log_at + length > v->log.length)
        v->log_at = 0;
    uint8_t *bytes = block_scratch_take(length);
    if (!bytes)
        return -ENOMEM;
    make_entry(v, pages, n, bytes);
    int status = block_pwrite(v->disk.below, bytes, length, v->log.offset + v->log_at);
    block_scratch_give(bytes);
    v->log_at += length;
    return status ? status : block_flush(v->disk.below);
}

int vhdx_log_begin(struct vhdx *v)
{
    struct vhdx_header *h = &v->header;
    /* When it failed the first time the file's header may name that log all the same, so it stays the one. */
    const bool again = !vhdx_guid_is(&h->log, &vhdx_guid_null);
    if (!again &&
        (!vhdx_guid_make(&h->log) || !vhdx_guid_make(&h->file_write) || !vhdx_guid_make(&h->data_write)))
        return -EIO;
    v->stable_size = v->disk.below->facts.size;
    h->log_version = 0;
    int status = vhdx_log_write(v, NULL, 0);
    return status ? status : vhdx_write_header(v);
}

int vhdx_log_end(struct vhdx *v)
{
    v->header.log = vhdx_guid_null;
    return vhdx_write_header(v);
}
