/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Compressed grains of stream-optimized VMDK images, and the end of such a stream. */
/*
 * A stream is a sequence of sectors: the header, which says that the directory is found at the end; the
 * descriptor; grains, each behind its number and its size; then, each behind a marker, the tables, the
 * directory, and the footer, which is the header again with the directory's place. Grains are compressed by
 * whoever writes them, so by several threads at once, and lie in the order in which they were done. Nothing
 * of the end is written before vmdk_seal(); until then the image cannot be opened again.
 */
#include <errno.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "block/format/vmdk/vmdk.h"
#include "block/scratch.h"
#include "codec/compress.h"

enum { FIRST_READ = 16 * 1024 };

/* Most that a compressed grain takes, with its marker. */
static uint64_t room(const struct grains_extent *e)
{
    return e->grain + e->grain / 16 + 2 * KiB;
}

/* --- reading --- */

/* Reads a grain's compressed bytes; where they are in the buffer and how many in *from, *size. */
static int read_grain(const struct grains_extent *e, uint64_t grain, uint64_t place, uint8_t *raw,
                      uint64_t *from, uint64_t *size)
{
    const uint64_t left = e->file->facts.size - place;
    if (!(e->marked)) {
        *from = 0;
        *size = MIN(left, room(e));
        return block_pread(e->file, raw, *size, place);
    }
    const uint64_t first = MIN(left, (uint64_t)FIRST_READ);
    int status = first < VMDK_GRAIN_MARKER ? -EIO : block_pread(e->file, raw, first, place);
    if (status)
        return status;
    *from = VMDK_GRAIN_MARKER;
    *size = ld32le(raw + 8);
    if (ld64le(raw) != grain * (e->grain / BLOCK_SECTOR) || !*size || *size > room(e) - VMDK_GRAIN_MARKER ||
        *size > left - VMDK_GRAIN_MARKER)
        return -EIO;
    const uint64_t all = *from + *size;
    return all > first ? block_pread(e->file, raw + first, all - first, place + first) : 0;
}

int vmdk_read_packed(struct grains *g, struct grains_extent *e, struct block_cursor *c, uint64_t at,
                     uint64_t size, uint64_t place)
{
    (void)g;
    uint64_t from = 0, packed = 0;
    uint8_t *raw = block_scratch_take(room(e) + FIRST_READ);
    uint8_t *bytes = raw ? block_scratch_take(e->grain) : NULL;
    int status = bytes ? read_grain(e, at / e->grain, place, raw, &from, &packed) : -ENOMEM;
    if (!status) {
        const ssize_t got = compress_unpack(COMPRESS_ZLIB, raw + from, packed, bytes, e->grain);
        if (got < 0 || (uint64_t)got < at % e->grain + size)
            status = -EIO;
        else
            block_cursor_fill(c, bytes + at % e->grain, size);
    }
    block_scratch_give(bytes);
    block_scratch_give(raw);
    return status;
}

bool vmdk_is_packed(const struct grains_extent *e, uint64_t grain, uint64_t place)
{
    uint8_t marker[VMDK_GRAIN_MARKER];
    if (!e->marked)
        return true;
    return range_inside(place, sizeof(marker), 0, e->file->facts.size) &&
           !block_pread(e->file, marker, sizeof(marker), place) &&
           ld64le(marker) == grain * (e->grain / BLOCK_SECTOR);
}

/* --- writing --- */

/* A table in memory for this grain, which has no place yet. The lock is held. */
static int make_table(struct grains_extent *e, uint64_t grain)
{
    struct grains_table *t = &e->tables[grain / e->entries];
    if (!t->entries) {
        t->entries = g_try_malloc0((size_t)e->entries * e->entry_size);
        if (!t->entries)
            return -ENOMEM;
        e->tables_held++;
    }
    return ld32le((uint8_t *)t->entries + grain % e->entries * 4) ? -EOPNOTSUPP : 0;
}

/* Where the next size bytes go. The lock is held. */
static int place_grain(struct vmdk *v, struct grains_extent *e, uint64_t grain, uint64_t size,
                       uint64_t *place)
{
    int status = v->sealed ? -EROFS : make_table(e, grain);
    if (status)
        return status;
    if (!v->begun) /* the end of the empty stream goes; nothing else is under way on the file */
        status = block_resize(e->file, e->next);
    if (status && status != -EOPNOTSUPP)
        return status;
    v->begun = true;
    *place = e->next;
    if ((*place + size) / BLOCK_SECTOR > UINT32_MAX)
        return -ENOSPC;
    e->next += size;
    return 0;
}

int vmdk_write_compressed(struct disk *b, const void *bytes, uint64_t offset, uint64_t size)
{
    struct vmdk *v = vmdk_of(b);
    struct grains_extent *e = &v->grains.extents[0];
    if (!v->stream)
        return -EOPNOTSUPP;
    const uint64_t grain = offset / e->grain;
    uint64_t place = 0;
    uint8_t *raw = block_scratch_take(room(e));
    uint8_t *whole = raw && size < e->grain ? block_scratch_take(e->grain) : NULL;
    ssize_t got = -ENOMEM;
    if (whole) {
        memcpy(whole, bytes, size);
        memset(whole + size, 0, e->grain - size);
    }
    if (raw && (whole || size == e->grain))
        got = compress_pack(COMPRESS_ZLIB, COMPRESS_LEVEL_DEFAULT, whole ? whole : bytes, e->grain,
                            raw + VMDK_GRAIN_MARKER, room(e) - VMDK_GRAIN_MARKER - BLOCK_SECTOR);
    int status = got < 0 ? (int)got : 0;
    if (!status) {
        const uint64_t used = VMDK_GRAIN_MARKER + (uint64_t)got, all = align_up(used, BLOCK_SECTOR);
        st64le(raw, grain * (e->grain / BLOCK_SECTOR));
        st32le(raw + 8, (uint32_t)got);
        memset(raw + used, 0, all - used);
        pthread_mutex_lock(&v->grains.lock);
        status = place_grain(v, e, grain, all, &place);
        pthread_mutex_unlock(&v->grains.lock);
        if (!status)
            status = block_pwrite(e->file, raw, all, place);
    }
    if (!status) {
        pthread_mutex_lock(&v->grains.lock);
        grains_set(e, grain, 1, place);
        pthread_mutex_unlock(&v->grains.lock);
    }
    block_scratch_give(whole);
    block_scratch_give(raw);
    return status;
}

/* --- the end --- */

static int put_marker(struct grains_extent *e, enum vmdk_marker_type type, uint64_t value)
{
    const struct vmdk_marker m = {.value = htole64(value), .type = htole32(type)};
    int status = block_pwrite(e->file, &m, sizeof(m), e->next);
    e->next += sizeof(m);
    return status;
}

static int put(struct grains_extent *e, const void *bytes, uint64_t size)
{
    int status = block_pwrite(e->file, bytes, size, e->next);
    e->next += size;
    return status;
}

static int put_directory(struct grains_extent *e)
{
    const uint64_t size = align_up((uint64_t)e->tables_n * 4, BLOCK_SECTOR);
    uint8_t *raw = g_try_malloc0(size);
    int status = raw ? put_marker(e, VMDK_MARK_DIRECTORY, size / BLOCK_SECTOR) : -ENOMEM;
    for (uint32_t i = 0; raw && i < e->tables_n; i++)
        st32le(raw + (size_t)i * 4, (uint32_t)(e->gd[i] / BLOCK_SECTOR));
    e->gd_at = e->next;
    if (!status)
        status = put(e, raw, size);
    g_free(raw);
    return status;
}

int vmdk_end_stream(struct grains_extent *e, const struct vmdk_header *header)
{
    const uint32_t size = e->entries * e->entry_size;
    int status = 0;
    for (uint32_t i = 0; i < e->tables_n && !status; i++) {
        if (!e->tables || !e->tables[i].entries)
            continue;
        status = put_marker(e, VMDK_MARK_TABLE, size / BLOCK_SECTOR);
        e->gd[i] = e->next;
        if (!status)
            status = put(e, e->tables[i].entries, size);
    }
    if (!status && (e->next + (uint64_t)e->tables_n * 4) / BLOCK_SECTOR > UINT32_MAX)
        status = -ENOSPC;
    if (!status)
        status = put_directory(e);
    struct vmdk_header footer = *header;
    footer.gd = htole64(e->gd_at / BLOCK_SECTOR);
    if (!status)
        status = put_marker(e, VMDK_MARK_FOOTER, 1);
    if (!status)
        status = put(e, &footer, sizeof(footer));
    return status ? status : put_marker(e, VMDK_MARK_END, 0);
}

int vmdk_seal(struct disk *b)
{
    struct vmdk *v = vmdk_of(b);
    struct grains_extent *e = &v->grains.extents[0];
    struct vmdk_header header;
    if (!v->stream || v->sealed || !v->begun)
        return 0;
    int status = block_pread(e->file, &header, sizeof(header), 0);
    if (!status)
        status = vmdk_end_stream(e, &header);
    v->sealed = !status;
    return status;
}
