/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Compressed clusters: read, and written packed one behind the other. */
/*
 * A compressed cluster lies at any byte; its entry says where, and how many sectors it reaches over. Several
 * share a cluster of the file, whose refcount is how many touch it. What lies behind the compressed bytes in
 * the last sector is of the next one, or nothing.
 */
#include <errno.h>
#include <string.h>

#include "block/format/qcow2/qcow2_int.h"
#include "block/scratch.h"
#include "codec/compress.h"

static enum compress_method method(const struct qcow2 *q)
{
    return q->header.compression == QCOW2_COMPRESSION_ZSTD ? COMPRESS_ZSTD : COMPRESS_DEFLATE;
}

int qcow2_compressed_read(struct qcow2 *q, uint64_t entry, void *cluster)
{
    uint64_t offset, size;
    qcow2_compressed_range(q, entry, &offset, &size);
    const uint64_t align = q->file->facts.alignment, end = q->file->facts.size;
    const uint64_t from = align_down(offset, align),
                   to = MIN(align_up(offset + size, align), align_down(end, align));
    if (to <= offset || offset < q->cluster)
        return -EIO;
    uint8_t *bytes = block_scratch_take((size_t)(to - from));
    int status = bytes ? block_pread(q->file, bytes, (size_t)(to - from), from) : -ENOMEM;
    if (!status) {
        const size_t packed = (size_t)(MIN(offset + size, to) - offset);
        const ssize_t n = compress_unpack(method(q), bytes + (offset - from), packed, cluster, q->cluster);
        status = n == (ssize_t)q->cluster ? 0 : n == -ENOMEM || n == -EOPNOTSUPP ? (int)n : -EIO;
    }
    block_scratch_give(bytes);
    return status;
}

/* Room for size bytes, *offset; the clusters it touches are counted. Holds meta. */
static int take_room(struct qcow2 *q, uint64_t size, uint64_t *offset)
{
    const unsigned bits = q->cluster_bits;
    uint64_t cluster = 0, got, value = 0;
    bool fresh;
    int status = 0;
    if (q->packed_at) { /* behind the last one, and if need be on in the next cluster, when that is free */
        const uint64_t first = q->packed_at >> bits, last = (q->packed_at + size - 1) >> bits;
        status = qcow2_refcount_get_locked(q, first, &value);
        if (!status && value && value < qcow2_refcount_max(q) && last == first) {
            *offset = q->packed_at;
            status = qcow2_refcount_add_locked(q, first, 1, 1);
            q->packed_at += size;
            if (!(q->packed_at & (q->cluster - 1)))
                q->packed_at = 0;
            return status;
        }
        if (!status && value && value < qcow2_refcount_max(q) && last == first + 1 && q->cursor <= last) {
            const uint64_t before = q->cursor;
            q->cursor = last;
            status = qcow2_alloc_locked(q, 1, true, &cluster, &got, &fresh);
            q->cursor = before == last ? q->cursor : before;
            if (!status && cluster == last) {
                *offset = q->packed_at;
                q->packed_at += size;
                return qcow2_refcount_add_locked(q, first, 1, 1);
            }
            if (!status)
                qcow2_unalloc_locked(q, cluster, 1);
        }
        q->packed_at = 0;
    }
    if (!status)
        status = qcow2_alloc_locked(q, 1, true, &cluster, &got, &fresh);
    if (status)
        return status;
    *offset = cluster << bits;
    q->packed_at = *offset + size;
    return 0;
}

static void give_room(struct qcow2 *q, uint64_t offset, uint64_t size)
{
    const uint64_t first = offset >> q->cluster_bits, last = (offset + size - 1) >> q->cluster_bits;
    q->packed_at = 0;
    qcow2_unalloc_locked(q, first, last - first + 1);
}

static uint64_t entry_for(const struct qcow2 *q, uint64_t offset, uint64_t size)
{
    const unsigned bits = 62 - (q->cluster_bits - 8);
    const uint64_t sectors = (offset + size - 1) / BLOCK_SECTOR - offset / BLOCK_SECTOR;
    return QCOW2_COMPRESSED | sectors << bits | offset;
}

/* Puts the packed bytes into the file and the entry into its table. Holds no lock. */
static int store(struct qcow2 *q, const void *packed, uint64_t size, uint64_t guest)
{
    struct qcow2_claim claim = {.first = guest >> q->cluster_bits, .last = guest >> q->cluster_bits};
    struct qcow2_table *t = NULL;
    uint64_t offset = 0;
    pthread_mutex_lock(&q->meta);
    qcow2_claims_wait_locked(q, claim.first, claim.last);
    int status = qcow2_l2_writable_locked(q, guest, &t);
    if (!status)
        status = qcow2_entry_check_locked(q, qcow2_entry_read(q, t, qcow2_l2_index(q, guest)).entry);
    if (!status)
        status = take_room(q, size, &offset);
    if (!status)
        qcow2_claim_locked(q, &claim);
    pthread_mutex_unlock(&q->meta);
    if (!status) {
        const uint64_t index = qcow2_l2_index(q, guest);
        status = block_pwrite(q->file, packed, (size_t)size, offset);
        pthread_mutex_lock(&q->meta);
        if (!status) {
            qcow2_free_entry_locked(q, qcow2_entry_read(q, t, index).entry, true);
            qcow2_entry_write_locked(q, t, index, (struct qcow2_entry){.entry = entry_for(q, offset, size)});
        } else {
            give_room(q, offset, size);
        }
        qcow2_unclaim_locked(q, &claim);
        pthread_mutex_unlock(&q->meta);
    }
    qcow2_table_put(&q->l2, t);
    return status;
}

/* As it is when it does not become smaller. cluster: q->cluster bytes, zero behind the disk's end. */
static int pack(struct qcow2 *q, const uint8_t *cluster, uint64_t guest, uint64_t size)
{
    uint8_t *packed = block_scratch_take(q->cluster);
    if (!packed)
        return -ENOMEM;
    const uint32_t align = q->file->facts.alignment;
    ssize_t n = compress_pack(method(q), COMPRESS_LEVEL_DEFAULT, cluster, q->cluster, packed, q->cluster - 1);
    int status = n < 0 ? (int)n : 0;
    uint64_t room = n > 0 ? align_up((uint64_t)n, align) : 0;
    if (status == -ENOSPC || (!status && room >= q->cluster)) {
        status = qcow2_pwrite(q, cluster, (size_t)size, guest);
    } else if (!status) {
        memset(packed + n, 0, (size_t)(room - (uint64_t)n));
        while ((status = store(q, packed, room, guest)) == -EAGAIN && !(status = qcow2_sync(q)))
            ;
    }
    block_scratch_give(packed);
    return status;
}

int qcow2_write_compressed(struct disk *b, const void *bytes, uint64_t offset, uint64_t size)
{
    struct qcow2 *q = qcow2(b);
    if (q->crypto || q->external)
        return -EOPNOTSUPP;
    if (atomic_load(&q->failed))
        return -EIO;
    int marked = q->bitmaps ? q->bitmaps_mark(q, offset, size) : 0;
    if (marked)
        return marked;
    const unsigned epoch = qcow2_enter(q);
    int status;
    if (size == q->cluster) {
        status = pack(q, bytes, offset, size);
    } else {
        uint8_t *whole = block_scratch_take(q->cluster);
        status = whole ? 0 : -ENOMEM;
        if (whole) {
            memcpy(whole, bytes, (size_t)size);
            memset(whole + size, 0, (size_t)(q->cluster - size));
            status = pack(q, whole, offset, size);
        }
        block_scratch_give(whole);
    }
    qcow2_leave(q, epoch);
    return status;
}
