/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Changing the size of a qcow2 disk, and taking room for it ahead. */
/*
 * Theory of operation
 *
 * The header's first sector holds the size, and where L1 is, so both change at once. Growing prepares
 * everything first: a larger L1 table is written elsewhere, what would come to light behind the old end is
 * made zero. Then the header changes. Shrinking changes the header first; what is behind the new end is given
 * back then, and if power fails before that, the next growing does it.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "block/format/qcow2/qcow2_int.h"
#include "block/scratch.h"

static uint64_t l1_need(const struct qcow2 *q, uint64_t size)
{
    const unsigned shift = q->cluster_bits + q->l2_bits;
    return (size >> shift) + ((size & (BIT(shift) - 1)) != 0);
}

/* --- a larger L1 --- */

/* In memory; the file's is at header.l1_offset as before. */
static int extend_l1(struct qcow2 *q, uint64_t entries, uint64_t **out, uint64_t **dirty)
{
    *out = g_try_malloc0_n(entries, 8);
    *dirty = g_try_malloc0_n(entries / 64 / 64 + 1, 8);
    int status = *out && *dirty ? qcow2_cache_grow(&q->l2, entries) : -ENOMEM;
    for (uint32_t i = 0; i < q->header.l1_size && !status; i++)
        (*out)[i] = q->l1[i];
    return status;
}

static int switch_l1(struct qcow2 *q, uint64_t offset, uint64_t entries)
{
    const uint64_t old = q->header.l1_offset, old_size = (uint64_t)q->header.l1_size * 8;
    pthread_mutex_lock(&q->meta);
    q->header.l1_offset = offset;
    q->header.l1_size = (uint32_t)entries;
    int status = qcow2_header_update_locked(q);
    if (status)
        qcow2_fail(q, status);
    else
        qcow2_unalloc_locked(q, old >> q->cluster_bits, align_up(old_size, q->cluster) >> q->cluster_bits);
    pthread_mutex_unlock(&q->meta);
    return status;
}

static int grow_l1(struct qcow2 *q, uint64_t need)
{
    const uint64_t in_cluster = q->cluster / 8;
    if (need <= q->header.l1_size)
        return 0;
    if (need > QCOW2_L1_BYTES_MAX / 8)
        return -EFBIG;
    const uint64_t entries = MIN(align_up(need, in_cluster), (uint64_t)QCOW2_L1_BYTES_MAX / 8);
    uint64_t *l1 = NULL, *dirty = NULL, offset = 0;
    int status = extend_l1(q, entries, &l1, &dirty);
    if (!status)
        status = qcow2_space_take(q, entries * 8, &offset);
    if (!status)
        status = qcow2_numbers_store(q->file, offset, l1, entries);
    if (!status)
        status = qcow2_sync(q); /* counted, and durable, before the header refers to it */
    if (!status)
        status = switch_l1(q, offset, entries);
    if (status) {
        g_free(l1);
        g_free(dirty);
        return status;
    }
    g_free((void *)(uintptr_t)q->l1);
    g_free(q->l1_dirty);
    q->l1 = (void *)l1;
    q->l1_dirty = dirty;
    return 0;
}

int qcow2_l1_grow(struct qcow2 *q, uint64_t end)
{
    return grow_l1(q, l1_need(q, end));
}

/* --- room ahead --- */

struct room {
    enum block_preallocation how;
    uint64_t end; /* of the file, that it needs */
};

/* New clusters must read as zeroes, and be there if that is asked for. */
static int prepare(struct disk *to, uint64_t offset, uint64_t size, bool fresh, enum block_preallocation how)
{
    int status = 0;
    if (how == BLOCK_PREALLOC_FALLOC)
        status = block_zero(to, offset, size, 0);
    if (how == BLOCK_PREALLOC_METADATA && !fresh)
        status =
            block_zero(to, offset, MIN(size, to->facts.size - MIN(offset, to->facts.size)), BLOCK_MAY_UNMAP);
    for (uint64_t now; how == BLOCK_PREALLOC_FULL && size && !status; offset += now, size -= now) {
        now = MIN(size, (uint64_t)BLOCK_ZEROES);
        status = block_pwrite(to, block_zeroes(), (size_t)now, offset);
    }
    return status;
}

static int grow_file(struct disk *file, uint64_t end)
{
    return file->facts.growable && file->facts.size < end ? block_resize(file, end) : 0;
}

static bool is_empty(const struct qcow2 *q, const struct qcow2_table *t, uint64_t index)
{
    const struct qcow2_entry e = qcow2_entry_read(q, t, index);
    return !e.entry && !e.bitmap;
}

/* Entries that have nothing, from `guest` on, at most count in one table. Holds meta. *done clusters. */
static int take_run(struct qcow2 *q, uint64_t guest, uint64_t count, struct room *room, uint64_t *done)
{
    struct qcow2_table *t;
    const uint64_t index = qcow2_l2_index(q, guest);
    uint64_t n = 1, cluster = guest >> q->cluster_bits;
    bool fresh = false;
    int status = qcow2_l2_writable_locked(q, guest, &t);
    if (status)
        return status;
    const bool empty = is_empty(q, t, index);
    count = MIN(count, BIT(q->l2_bits) - index);
    while (n < count && is_empty(q, t, index + n) == empty)
        n++;
    if (empty && !q->external)
        status = qcow2_alloc_locked(q, n, false, &cluster, &n, &fresh);
    const uint64_t host = cluster << q->cluster_bits;
    if (empty && !status) {
        status = grow_file(q->data, q->external ? MIN(host + (n << q->cluster_bits), room->end)
                                                : host + (n << q->cluster_bits));
        const uint64_t size = MIN(n << q->cluster_bits, q->data->facts.size - MIN(host, q->data->facts.size));
        if (!status && size && !(q->external && room->how == BLOCK_PREALLOC_METADATA))
            status = prepare(q->data, host, size, fresh || q->external, room->how);
    }
    /* The place of an extended entry is there, and none of its parts is; of an encrypted one, it is zero. */
    const uint64_t flags = QCOW2_COPIED | (q->crypto && q->entry_words == 1 ? QCOW2_ZERO : 0);
    for (uint64_t i = 0; i < n && empty && !status; i++)
        qcow2_entry_write_locked(q, t, index + i,
                                 (struct qcow2_entry){.entry = (host + (i << q->cluster_bits)) | flags});
    qcow2_table_put(&q->l2, t);
    *done = n;
    return status;
}

int qcow2_preallocate(struct qcow2 *q, uint64_t from, uint64_t to, enum block_preallocation how)
{
    struct room room = {.how = how, .end = to};
    int status = 0;
    if (q->crypto && q->header.version < 3)
        return -EOPNOTSUPP;
    for (uint64_t at = align_down(from, q->cluster), done; at < to && !status;
         at += done << q->cluster_bits) {
        done = 0;
        pthread_mutex_lock(&q->meta);
        status = take_run(q, at, (align_up(to, q->cluster) - at) >> q->cluster_bits, &room, &done);
        pthread_mutex_unlock(&q->meta);
        if (status == -EAGAIN) {
            status = qcow2_sync(q);
            done = 0;
        }
    }
    return status;
}

/* --- the size --- */

static int set_size(struct qcow2 *q, uint64_t size)
{
    const uint64_t old = q->header.size;
    q->header.size = size;
    int status = qcow2_bitmaps_resize(q, size);
    if (!status) {
        pthread_mutex_lock(&q->meta);
        status = qcow2_header_update_locked(q);
        pthread_mutex_unlock(&q->meta);
    }
    if (status) {
        q->header.size = old;
        qcow2_fail(q, status);
    }
    return status;
}

/* What the file still has behind the end, and what the base has there, would come to light. */
static int clear_behind(struct qcow2 *q, uint64_t old, uint64_t size)
{
    const uint64_t behind = align_up(old, q->cluster),
                   mapped = (uint64_t)q->header.l1_size << (q->cluster_bits + q->l2_bits);
    const uint64_t stop = MIN(align_up(size, q->cluster), mapped);
    int status = behind < stop ? qcow2_drop_clusters(q, behind, stop - behind, false, false) : 0;
    uint64_t end = MIN(size, behind);
    if (q->base)
        end = MAX(end, MIN(size, q->base->facts.size));
    if (!status && end > old)
        status = qcow2_zero_range(q, old, end - old, BLOCK_MAY_UNMAP);
    return status;
}

static int grow(struct qcow2 *q, uint64_t size, enum block_preallocation how)
{
    const uint64_t old = q->header.size;
    int status = grow_l1(q, l1_need(q, size));
    if (!status && q->external && q->data->facts.size < size)
        status = grow_file(q->data, size);
    if (!status)
        status = clear_behind(q, old, size);
    if (!status && q->external && q->header.autoclear & QCOW2_AUTOCLEAR_RAW && how == BLOCK_PREALLOC_OFF)
        how = BLOCK_PREALLOC_METADATA;
    if (!status && how != BLOCK_PREALLOC_OFF)
        status = qcow2_preallocate(q, old, size, how);
    if (!status)
        status = qcow2_sync(q);
    return status ? status : set_size(q, size);
}

/* L2 tables of what is behind the end have nothing any more. */
static void drop_tables(struct qcow2 *q, uint64_t size)
{
    pthread_mutex_lock(&q->meta);
    for (uint64_t i = l1_need(q, size); i < q->header.l1_size; i++) {
        const uint64_t entry = q->l1[i];
        if (!entry)
            continue;
        qcow2_l1_set_locked(q, i, 0);
        qcow2_table_forget(q, &q->l2, i);
        qcow2_owned_gone_locked(q, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits);
        qcow2_free_locked(q, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits, 1, true);
    }
    pthread_mutex_unlock(&q->meta);
}

int qcow2_drop_tables(struct qcow2 *q, uint64_t size)
{
    drop_tables(q, size);
    return qcow2_sync_all(q);
}

/* What is free at the file's end is cut off. */
static int cut_file(struct qcow2 *q)
{
    uint64_t end = align_up(q->file->facts.size, q->cluster) >> q->cluster_bits, value = 0;
    int status = 0;
    pthread_mutex_lock(&q->meta);
    while (end > 1 && !status && !(status = qcow2_refcount_get_locked(q, end - 1, &value)) && !value)
        end--;
    if (!status && q->file->facts.growable && end << q->cluster_bits < q->file->facts.size) {
        status = block_resize(q->file, end << q->cluster_bits);
        if (!status) /* else what is behind it is still there, and no zeroes */
            q->fresh_from = end;
        q->cursor = MIN(q->cursor, end);
    }
    pthread_mutex_unlock(&q->meta);
    return status;
}

/* Once the header says so the disk is shorter. What cannot be given back then is a leak, or the next
 * growing's to give back; if metadata could not be written nothing is any more, and the next operation tells.
 */
static int shrink(struct qcow2 *q, uint64_t size)
{
    const uint64_t from = align_up(size, q->cluster), end = align_up(q->header.size, q->cluster);
    int status = qcow2_sync(q);
    if (!status)
        status = set_size(q, size);
    if (status)
        return status;
    if (from < end)
        status = qcow2_drop_clusters(q, from, end - from, false, false);
    if (!status)
        status = qcow2_sync(q);
    if (!status) {
        drop_tables(q, size);
        status = qcow2_sync_all(q);
    }
    if (!status)
        status = cut_file(q);
    if (!status && q->external)
        (void)block_resize(q->data, size);
    return 0;
}

static int change(struct qcow2 *q, uint64_t size, enum block_preallocation how)
{
    if (atomic_load(&q->failed))
        return -EIO;
    if (size > INT64_MAX)
        return -EFBIG;
    if (q->header.n_snapshots && q->header.version < 3 && size != q->header.size)
        return -EOPNOTSUPP; /* its snapshots do not know what size they had */
    if (size == q->header.size)
        return 0;
    return size > q->header.size ? grow(q, size, how) : shrink(q, size);
}

int qcow2_resize(struct disk *b, uint64_t size)
{
    return change(qcow2(b), size, BLOCK_PREALLOC_OFF);
}

bool qcow2_image_resize(struct disk *b, uint64_t size, enum block_preallocation how, GError **error)
{
    struct qcow2 *q = qcow2(b);
    if (size & (b->facts.alignment - 1))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: qcow2: the new size must be a multiple of %" PRIu32 " bytes, not %" PRIu64,
                           b->name, b->facts.alignment, size);
    if (q->header.n_snapshots && q->header.version < 3)
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "%s: qcow2: has snapshots, which in version 2 do not know their size; delete them, or "
            "amend the image to compat=1.1",
            b->name);
    if (size < b->facts.size && how != BLOCK_PREALLOC_OFF)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: preallocation is for disks that grow", b->name);
    int status = change(q, size, how);
    if (status == -EFBIG)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: qcow2: too large for clusters of %" PRIu32 " bytes", b->name, q->cluster);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot resize it: %s", b->name,
                           g_strerror(-status));
    b->facts.size = size;
    return true;
}

bool qcow2_empty(struct disk *b, GError **error)
{
    struct qcow2 *q = qcow2(b);
    int status = qcow2_drop_clusters(q, 0, align_up(b->facts.size, q->cluster), false, false);
    if (!status)
        status = block_flush(b);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot empty it: %s", b->name, g_strerror(-status));
}
