/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Zeroes, and what is not needed any more: clusters that lose their places. */
#include <errno.h>
#include <string.h>

#include "block/format/qcow2/qcow2_int.h"
#include "block/scratch.h"

struct drop {
    bool zero, keep_place;
};

/* What an entry becomes. */
static struct qcow2_entry dropped(const struct qcow2 *q, struct qcow2_entry old, struct drop how)
{
    const bool own = qcow2_entry_placed(q, old.entry) && old.entry & QCOW2_COPIED;
    struct qcow2_entry e = {0};
    if (!how.zero)
        return e;
    if (how.keep_place && own)
        e.entry = old.entry & (QCOW2_OFFSET_MASK | QCOW2_COPIED);
    if (q->entry_words == 2)
        e.bitmap = (uint64_t)UINT32_MAX << 32;
    else
        e.entry |= QCOW2_ZERO;
    return e;
}

/* Within one L2 table. */
static int drop_locked(struct qcow2 *q, uint64_t guest, uint64_t count, struct drop how)
{
    struct qcow2_table *t;
    const uint64_t first = guest >> q->cluster_bits;
    qcow2_claims_wait_locked(q, first, first + count - 1);
    const uint64_t l1 = qcow2_l1_index(q, guest);
    if ((l1 >= q->header.l1_size || !q->l1[l1]) && !(how.zero && q->base))
        return 0;
    int status = qcow2_l2_writable_locked(q, guest, &t);
    const uint64_t from = qcow2_l2_index(q, guest);
    for (uint64_t i = from; i < from + count && !status; i++)
        status = qcow2_entry_check_locked(q, qcow2_entry_read(q, t, i).entry);
    for (uint64_t index = from; index < from + count && !status; index++) {
        const struct qcow2_entry old = qcow2_entry_read(q, t, index), new = dropped(q, old, how);
        if (old.entry == new.entry && old.bitmap == new.bitmap)
            continue;
        if (!(new.entry &QCOW2_OFFSET_MASK))
            qcow2_free_entry_locked(q, old.entry, true);
        qcow2_entry_write_locked(q, t, index, new);
    }
    qcow2_table_put(&q->l2, t);
    return status;
}

int qcow2_drop_clusters(struct qcow2 *q, uint64_t offset, uint64_t size, bool zero, bool keep_place)
{
    const struct drop how = {zero, keep_place};
    int status = 0;
    for (uint64_t now; size && !status; offset += now, size -= now) {
        const uint64_t span = BIT(q->cluster_bits + q->l2_bits);
        now = MIN(size, span - (offset & (span - 1)));
        pthread_mutex_lock(&q->meta);
        status = drop_locked(q, offset, now >> q->cluster_bits, how);
        pthread_mutex_unlock(&q->meta);
        if (status == -EAGAIN) {
            status = qcow2_sync(q);
            now = 0;
        }
    }
    return status;
}

/* --- zeroes --- */

int qcow2_write_zeroes(struct qcow2 *q, uint64_t offset, uint64_t size, unsigned flags)
{
    int status = flags & BLOCK_ONLY_FAST ? -EOPNOTSUPP : 0;
    for (uint64_t now; size && !status; offset += now, size -= now) {
        now = MIN(size, (uint64_t)BLOCK_ZEROES);
        status = qcow2_pwrite(q, block_zeroes(), (size_t)now, offset);
    }
    return status;
}

/* Less than a cluster: written, unless it reads as zeroes as it is. */
static int zero_edge(struct qcow2 *q, uint64_t offset, uint64_t size, unsigned flags)
{
    for (struct qcow2_map m; size; offset += m.size, size -= m.size) {
        const unsigned epoch = qcow2_enter(q);
        int status = qcow2_lookup(q, offset, size, 0, &m);
        qcow2_leave(q, epoch);
        if (status)
            return status;
        if (m.kind != QCOW2_KIND_ZERO &&
            (m.kind != QCOW2_KIND_NONE || (q->base && offset < q->base->facts.size)))
            return qcow2_write_zeroes(q, offset, size, flags);
    }
    return 0;
}

/* The external data file is the disk, byte for byte: zeroes have to be in it. */
static int zero_raw(struct qcow2 *q, uint64_t offset, uint64_t size, unsigned flags)
{
    for (struct qcow2_map m; size; offset += m.size, size -= m.size) {
        const unsigned epoch = qcow2_enter(q);
        int status = qcow2_lookup(q, offset, size, 0, &m);
        if (!status && m.kind == QCOW2_KIND_DATA && m.host + m.size <= q->data->facts.size)
            status = block_zero(q->data, m.host, m.size, flags);
        else if (!status)
            status = qcow2_write_zeroes(q, offset, m.size, flags);
        qcow2_leave(q, epoch);
        if (status)
            return status;
    }
    return 0;
}

int qcow2_zero_range(struct qcow2 *q, uint64_t offset, uint64_t size, unsigned flags)
{
    if (q->header.autoclear & QCOW2_AUTOCLEAR_RAW && q->external)
        return zero_raw(q, offset, size, flags);
    if (q->header.version < 3 && q->base)
        return qcow2_write_zeroes(q, offset, size, flags);
    uint64_t end = offset + size;
    if (end == q->disk.facts.size) /* nothing is behind it in its cluster */
        end = align_up(end, q->cluster);
    const uint64_t from = MIN(end, align_up(offset, q->cluster)), to = MAX(from, align_down(end, q->cluster));
    int status = from > offset ? zero_edge(q, offset, MIN(from, offset + size) - offset, flags) : 0;
    if (!status && to < end)
        status = zero_edge(q, to, end - to, flags);
    if (status || from == to)
        return status;
    const bool zero = q->header.version >= 3;
    return qcow2_drop_clusters(q, from, to - from, zero, !(flags & BLOCK_MAY_UNMAP));
}

int qcow2_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct qcow2 *q = qcow2(b);
    if (atomic_load(&q->failed))
        return -EIO;
    int marked = q->bitmaps ? q->bitmaps_mark(q, offset, size) : 0;
    if (marked)
        return marked;
    if (q->header.version < 3 && q->base)
        return -EOPNOTSUPP; /* has no entry for zeroes over a base */
    return qcow2_zero_range(q, offset, size, flags);
}

int qcow2_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    struct qcow2 *q = qcow2(b);
    if (atomic_load(&q->failed))
        return -EIO;
    uint64_t end = offset + size;
    if (end == q->disk.facts.size)
        end = align_up(end, q->cluster);
    const uint64_t from = align_up(offset, q->cluster), to = align_down(end, q->cluster);
    if (from >= to || (q->header.version < 3 && q->base))
        return 0;
    int marked = q->bitmaps ? q->bitmaps_mark(q, offset, size) : 0;
    if (marked)
        return marked;
    const uint64_t there = MIN(to, q->data->facts.size);
    if (q->external && q->header.autoclear & QCOW2_AUTOCLEAR_RAW)
        return from < there ? block_discard(q->data, from, there - from) : 0;
    /* What a base has there must not come back to light. */
    return qcow2_drop_clusters(q, from, to - from, q->base != NULL, false);
}
