/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Growing VMDK disks of one extent; flat ones shrink, too. */
/*
 * A sparse extent's header says how large it is and where its directories are, in one sector. A directory
 * that is too small for the tables of the new size is written anew at the end of the file, and one write of
 * the header then changes all of it. Tables that a directory does not name yet are made when they are needed.
 * The number of sectors in the text of an embedded descriptor is for people; it follows last.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "block/format/vmdk/vmdk.h"

/* The text with another number of sectors in its only extent; NULL when it does not fit where it was. */
static char *text_of_size(const struct vmdk *v, uint64_t size)
{
    const char *text = v->descriptor.text;
    const char *at = text && g_str_has_prefix(text, "RW ") ? text : text ? strstr(text, "\nRW ") : NULL;
    if (!at)
        return NULL;
    at += *at == '\n';
    at += strlen("RW ");
    char *new = g_strdup_printf("%.*s%" PRIu64 "%s", (int)(at - text), text, size / BLOCK_SECTOR,
                                at + strspn(at, "0123456789"));
    if (v->grains.extents[0].file == v->disk.below && strlen(new) > v->descriptor_room)
        g_clear_pointer(&new, g_free);
    return new;
}

/* text: taken. What was behind the end of an embedded one becomes zero. */
static int put_text(struct vmdk *v, char *text)
{
    struct disk *file = v->disk.below;
    const size_t size = strlen(text), old = strlen(v->descriptor.text), all = MAX(size, old);
    char *padded = g_malloc0(all);
    memcpy(padded, text, size);
    int status = block_pwrite(file, padded, all, v->descriptor_at);
    g_free(padded);
    if (!status && file != v->grains.extents[0].file && size < old)
        status = block_resize(file, size);
    if (!status)
        status = block_flush(file);
    g_free(v->descriptor.text);
    v->descriptor.text = text; /* the CID is before the extents, where it was */
    return status;
}

static int resize_flat(struct vmdk *v, uint64_t size)
{
    struct grains_extent *e = &v->grains.extents[0];
    if (e->flat || !e->owned)
        return -EOPNOTSUPP;
    char *text = text_of_size(v, size);
    if (!text)
        return -EOPNOTSUPP;
    int status = size > e->size ? block_resize(e->file, size) : 0;
    if (!status)
        status = block_flush(e->file);
    if (!status)
        status = put_text(v, text);
    else
        g_free(text);
    if (!status && size < e->size)
        status = block_resize(e->file, size);
    if (!status)
        e->size = size;
    return status;
}

/* --- sparse --- */

static uint64_t directory_bytes(uint64_t tables)
{
    return align_up(tables * 4, BLOCK_SECTOR);
}

/* A directory of n tables at the end of the file. */
static int move_directory(struct grains_extent *e, const uint64_t *directory, uint32_t n, uint64_t *at)
{
    const uint64_t size = align_up(directory_bytes(n), e->grain), place = e->next;
    uint8_t *raw = g_try_malloc0(size);
    if (!raw)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        st32le(raw + (size_t)i * 4, (uint32_t)(directory[i] / BLOCK_SECTOR));
    int status =
        (place + size) / BLOCK_SECTOR > UINT32_MAX ? -ENOSPC : block_pwrite(e->file, raw, size, place);
    g_free(raw);
    if (status)
        return status;
    e->next += size;
    *at = place;
    return 0;
}

static int put_header(struct grains_extent *e, uint64_t size, uint64_t gd_at, uint64_t rgd_at)
{
    struct vmdk_header h;
    int status = block_flush(e->file);
    if (!status)
        status = block_pread(e->file, &h, sizeof(h), 0);
    h.capacity = htole64(size / BLOCK_SECTOR);
    h.gd = htole64(gd_at / BLOCK_SECTOR);
    if (e->rgd)
        h.rgd = htole64(rgd_at / BLOCK_SECTOR);
    if (!status)
        status = block_pwrite(e->file, &h, sizeof(h), 0);
    return status ? status : block_flush(e->file);
}

static int grow_sparse(struct vmdk *v, uint64_t size)
{
    struct grains_extent *e = &v->grains.extents[0];
    const uint64_t covers = (uint64_t)e->grain * e->entries, tables = (size + covers - 1) / covers;
    uint64_t gd_at = e->gd_at, rgd_at = e->rgd_at;
    const uint32_t n = (uint32_t)tables;
    if (tables > UINT64_C(1) << 21)
        return -EFBIG;
    int status = grains_clear_tail(e);
    if (!status)
        status = grains_more(e, n);
    if (!status && directory_bytes(n) > directory_bytes(e->tables_n)) {
        status = move_directory(e, e->gd, n, &gd_at);
        if (!status && e->rgd)
            status = move_directory(e, e->rgd, n, &rgd_at);
    }
    if (!status)
        status = put_header(e, size, gd_at, rgd_at);
    if (status)
        return status;
    e->gd_at = gd_at;
    e->rgd_at = rgd_at;
    e->tables_n = MAX(e->tables_n, n);
    e->size = size;
    char *text = text_of_size(v, size);
    return text ? put_text(v, text) : 0;
}

int vmdk_resize(struct disk *b, uint64_t size)
{
    struct vmdk *v = vmdk_of(b);
    struct grains_extent *e = &v->grains.extents[0];
    if (v->grains.extents_n != 1 || v->stream || !size || size % BLOCK_SECTOR || v->grains.base)
        return -EOPNOTSUPP;
    if (size == e->size)
        return 0;
    if (e->kind == GRAINS_FLAT)
        return resize_flat(v, size);
    return e->kind == GRAINS_SPARSE && e->file == b->below && size > e->size ? grow_sparse(v, size)
                                                                             : -EOPNOTSUPP;
}
