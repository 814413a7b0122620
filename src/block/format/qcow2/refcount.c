/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* How often each cluster of the file is referred to: refcount blocks, and the table of them. */
/*
 * Theory of operation
 *
 * The refcount table has an entry for each refcount block, a block a number for each cluster. A block that is
 * not there stands for zeroes. A block is a cluster itself and has its own number, perhaps in itself.
 *
 * In memory a refcount is never less than what the file's entries ask for, nor than what entries ask that may
 * be written next: it goes up before anything refers to the cluster, and down when the file has forgotten the
 * reference (alloc.c). So blocks may be written at any time, in any order; only an entry of the table has to
 * wait until its block is durable (sync.c).
 *
 * When the table is full a larger one is written to the end of the file, with the blocks for its own clusters
 * right behind it; then the header switches. Until it has, nothing refers to the new ones.
 */
#include <errno.h>
#include <string.h>

#include "base/byteorder.h"
#include "block/format/qcow2/qcow2_int.h"

uint64_t qcow2_refcount_max(const struct qcow2 *q)
{
    return bits_mask(1U << q->refcount_order);
}

uint64_t qcow2_refcount_load(const void *block, unsigned order, uint64_t index)
{
    const uint8_t *bytes = block;
    switch (order) {
    case 0: return bytes[index / 8] >> index % 8 & 1;
    case 1: return bytes[index / 4] >> 2 * (index % 4) & 3;
    case 2: return bytes[index / 2] >> 4 * (index % 2) & 15;
    case 3: return bytes[index];
    case 4: return ld16be(bytes + 2 * index);
    case 5: return ld32be(bytes + 4 * index);
    default: return ld64be(bytes + 8 * index);
    }
}

static void store_bits(uint8_t *byte, unsigned at, unsigned bits, uint64_t value)
{
    const unsigned mask = ((1U << bits) - 1) << at;
    *byte = (uint8_t)((*byte & ~mask) | ((unsigned)value << at & mask));
}

void qcow2_refcount_store(void *block, unsigned order, uint64_t index, uint64_t value)
{
    uint8_t *bytes = block;
    switch (order) {
    case 0: store_bits(&bytes[index / 8], (unsigned)(index % 8), 1, value); break;
    case 1: store_bits(&bytes[index / 4], (unsigned)(index % 4) * 2, 2, value); break;
    case 2: store_bits(&bytes[index / 2], (unsigned)(index % 2) * 4, 4, value); break;
    case 3: bytes[index] = (uint8_t)value; break;
    case 4: st16be(bytes + 2 * index, (uint16_t)value); break;
    case 5: st32be(bytes + 4 * index, (uint32_t)value); break;
    default: st64be(bytes + 8 * index, value); break;
    }
}

/* --- blocks --- */

static void *bytes_of(struct qcow2_table *t)
{
    return qcow2_table_bytes(t);
}

/* The block with this index, pinned; NULL when there is none. */
static int get_block(struct qcow2 *q, uint64_t index, struct qcow2_table **out)
{
    *out = NULL;
    const uint64_t place = index < q->reftable_entries ? q->reftable[index] : 0;
    if (!place)
        return 0;
    if (place & ~QCOW2_OFFSET_MASK || !qcow2_offset_fits(q, place))
        return qcow2_corrupt_locked(q, "an entry of the refcount table points outside", place);
    int status = qcow2_table_get(q, &q->blocks, index, place, false, out);
    if (status != -EAGAIN)
        return status;
    status = qcow2_write_blocks_locked(q); /* may be done at any time, see above */
    return status ? status : qcow2_table_get(q, &q->blocks, index, place, false, out);
}

static void set(struct qcow2 *q, struct qcow2_table *t, uint64_t index, uint64_t value)
{
    const uint32_t at = (uint32_t)((index << q->refcount_order) / 8);
    qcow2_refcount_store(bytes_of(t), q->refcount_order, index, value);
    qcow2_table_dirty(q, &q->blocks, t, at, MAX(1U, (1U << q->refcount_order) / 8));
}

int qcow2_refcount_get_locked(struct qcow2 *q, uint64_t cluster, uint64_t *value)
{
    struct qcow2_table *t;
    int status = get_block(q, cluster >> q->block_bits, &t);
    *value = 0;
    if (t)
        *value = qcow2_refcount_load(bytes_of(t), q->refcount_order, cluster & (BIT(q->block_bits) - 1));
    qcow2_table_put(&q->blocks, t);
    return status;
}

int qcow2_refcount_scan_locked(struct qcow2 *q, uint64_t cluster, uint64_t count, bool *free, uint64_t *run)
{
    struct qcow2_table *t;
    int status = get_block(q, cluster >> q->block_bits, &t);
    uint64_t at = cluster & (BIT(q->block_bits) - 1), n = 1;
    *free = true;
    *run = count;
    if (!t)
        return status;
    *free = !qcow2_refcount_load(bytes_of(t), q->refcount_order, at);
    while (n < count && *free == !qcow2_refcount_load(bytes_of(t), q->refcount_order, at + n))
        n++;
    *run = n;
    qcow2_table_put(&q->blocks, t);
    return 0;
}

static void used(struct qcow2 *q, uint64_t end)
{
    q->fresh_from = MAX(q->fresh_from, end);
}

/* A block for index in cluster `at`, which is free; its own refcount may be in another block, which is there,
 * or in itself. */
static int put_block(struct qcow2 *q, uint64_t index, uint64_t at)
{
    struct qcow2_table *t = NULL, *home = NULL;
    const uint64_t low = BIT(q->block_bits) - 1;
    int status = 0;
    if (at >> q->block_bits != index)
        status = get_block(q, at >> q->block_bits, &home);
    if (!status)
        status = qcow2_table_get(q, &q->blocks, index, at << q->cluster_bits, true, &t);
    if (status == -EAGAIN) {
        status = qcow2_write_blocks_locked(q);
        if (!status)
            status = qcow2_table_get(q, &q->blocks, index, at << q->cluster_bits, true, &t);
    }
    if (!status) {
        set(q, home ? home : t, at & low, 1);
        q->reftable[index] = at << q->cluster_bits;
        qcow2_mark_bit(q->reftable_dirty, index * 8, 8);
        q->reftable_changed = true;
        qcow2_owned_add_locked(q, at);
        used(q, at + 1);
        qcow2_table_put(&q->blocks, t);
    }
    qcow2_table_put(&q->blocks, home);
    return status;
}

/* --- a larger table --- */

struct growth {
    uint64_t start, entries, table, blocks, first; /* clusters; of the new table; first new block */
};

/* Where all that goes: [start, start + table + blocks), with a block for each of these clusters. */
static int plan(const struct qcow2 *q, uint64_t need, struct growth *g)
{
    const uint64_t in_cluster = q->cluster / 8;
    g->start = MAX(q->fresh_from, q->reftable_entries << q->block_bits);
    g->entries = MAX(need + 1, q->reftable_entries + q->reftable_entries / 2);
    g->first = g->start >> q->block_bits;
    g->table = g->blocks = 0;
    for (bool stable = false; !stable;) {
        const struct growth before = *g;
        const uint64_t end = g->start + MAX(g->table + g->blocks, 1);
        g->blocks = ((end - 1) >> q->block_bits) - g->first + 1;
        g->entries = align_up(MAX(g->entries, g->first + g->blocks), in_cluster);
        g->table = g->entries / in_cluster;
        if (g->entries * 8 > QCOW2_REFTABLE_BYTES_MAX)
            return -ENOSPC;
        stable = before.blocks == g->blocks && before.table == g->table;
    }
    return 0;
}

/* Room in memory for more entries. */
static int extend_arrays(struct qcow2 *q, uint64_t entries)
{
    uint64_t *table = g_try_malloc0_n(entries, 8), *dirty = g_try_malloc0_n(entries / 64 / 64 + 1, 8);
    int status = table && dirty ? 0 : -ENOMEM;
    if (!status) {
        pthread_mutex_lock(&q->blocks.load);
        status = qcow2_cache_grow(&q->blocks, entries);
        pthread_mutex_unlock(&q->blocks.load);
    }
    if (status) {
        g_free(table);
        g_free(dirty);
        return status;
    }
    memcpy(table, q->reftable, q->reftable_entries * 8);
    memcpy(dirty, q->reftable_dirty, (q->reftable_entries / 64 / 64 + 1) * 8);
    g_free(q->reftable);
    g_free(q->reftable_dirty);
    q->reftable = table;
    q->reftable_dirty = dirty;
    q->reftable_entries = entries;
    return 0;
}

/* Everything is in place but the header. */
static int switch_table(struct qcow2 *q, const struct growth *g)
{
    const uint64_t old = q->header.reftable_offset, old_clusters = q->header.reftable_clusters;
    int status = qcow2_write_blocks_locked(q);
    if (!status)
        status = qcow2_numbers_store(q->file, g->start << q->cluster_bits, q->reftable, q->reftable_entries);
    if (!status)
        status = block_flush(q->file);
    if (status)
        return status;
    q->header.reftable_offset = g->start << q->cluster_bits;
    q->header.reftable_clusters = (uint32_t)g->table;
    status = qcow2_header_update_locked(q);
    if (status)
        return status;
    memset(q->reftable_dirty, 0, (q->reftable_entries / 64 / 64 + 1) * 8);
    q->reftable_changed = false;
    qcow2_unalloc_locked(q, old >> q->cluster_bits, old_clusters);
    return 0;
}

static int grow_table(struct qcow2 *q, uint64_t need)
{
    struct growth g;
    int status = plan(q, need, &g);
    if (!status && !q->file->facts.growable &&
        (g.start + g.table + g.blocks) << q->cluster_bits > q->file->facts.size)
        status = -ENOSPC; /* found while nothing has changed yet, the disk goes on */
    if (status || (status = extend_arrays(q, g.entries)))
        return status;
    const uint64_t low = BIT(q->block_bits) - 1;
    for (uint64_t i = 0; i < g.blocks && !status; i++) {
        const uint64_t at = g.start + g.table + i;
        struct qcow2_table *t;
        status = qcow2_table_get(q, &q->blocks, g.first + i, at << q->cluster_bits, true, &t);
        if (status == -EAGAIN && !(status = qcow2_write_blocks_locked(q)))
            status = qcow2_table_get(q, &q->blocks, g.first + i, at << q->cluster_bits, true, &t);
        if (status)
            break;
        q->reftable[g.first + i] = at << q->cluster_bits;
        qcow2_owned_add_locked(q, at);
        for (uint64_t c = g.start; c < g.start + g.table + g.blocks; c++)
            if (c >> q->block_bits == g.first + i)
                set(q, t, c & low, 1);
        qcow2_table_put(&q->blocks, t);
    }
    used(q, g.start + g.table + g.blocks);
    if (!status)
        status = switch_table(q, &g);
    if (status) /* memory is ahead of the file in what cannot be taken back */
        atomic_store(&q->failed, status);
    return status;
}

/* The block with this index comes into being. */
static int make_block(struct qcow2 *q, uint64_t index)
{
    for (;;) {
        if (index >= q->reftable_entries)
            return grow_table(q, index); /* may have made it; who needs it looks again */
        /* The lowest free cluster; when its own block is not there either, that one is made first. */
        uint64_t at = q->cursor, value = 1, home;
        int status = 0;
        for (; !status && value; at += value != 0)
            status = qcow2_refcount_get_locked(q, at, &value);
        if (status)
            return status;
        q->cursor = at;
        home = at >> q->block_bits;
        if (home >= q->reftable_entries)
            return grow_table(q, home);
        const bool there = home == index || q->reftable[home];
        if (!q->file->facts.growable && (at + 1) << q->cluster_bits > q->file->facts.size)
            return -ENOSPC;
        if (qcow2_owned_has_locked(q, at, 1))
            return qcow2_corrupt_locked(q, "metadata whose refcount is 0", at << q->cluster_bits);
        status = put_block(q, there ? index : home, at);
        if (status || there)
            return status;
    }
}

/* The block, made if need be. Pinned. */
static int get_or_make(struct qcow2 *q, uint64_t index, bool make, struct qcow2_table **out)
{
    int status = get_block(q, index, out);
    while (!status && !*out && make) {
        status = make_block(q, index);
        if (!status)
            status = get_block(q, index, out);
    }
    return status;
}

/* --- adding --- */

/* Of one block: from its entry `from` on. apply: or only see whether it could be. */
static int add_in_block(struct qcow2 *q, struct qcow2_table *t, uint64_t from, uint64_t count, int64_t add,
                        bool apply)
{
    const uint64_t max = qcow2_refcount_max(q), less = add < 0 ? (uint64_t)-add : 0;
    for (uint64_t i = from; i < from + count; i++) {
        const uint64_t value = qcow2_refcount_load(bytes_of(t), q->refcount_order, i);
        if (add < 0 && value < less)
            return -EINVAL;
        if (add > 0 && value > max - (uint64_t)add)
            return -ERANGE;
        if (apply)
            qcow2_refcount_store(bytes_of(t), q->refcount_order, i, value + (uint64_t)add);
    }
    if (apply) {
        const uint64_t begin = (from << q->refcount_order) / 8,
                       end = (((from + count) << q->refcount_order) + 7) / 8;
        qcow2_table_dirty(q, &q->blocks, t, (uint32_t)begin, (uint32_t)(end - begin));
    }
    return 0;
}

static int add_range(struct qcow2 *q, uint64_t cluster, uint64_t count, int64_t add, bool apply)
{
    int status = 0;
    for (uint64_t now; count && !status; cluster += now, count -= now) {
        struct qcow2_table *t;
        const uint64_t from = cluster & (BIT(q->block_bits) - 1);
        now = MIN(count, BIT(q->block_bits) - from);
        status = get_or_make(q, cluster >> q->block_bits, add > 0, &t);
        if (!status && !t)
            status = -EINVAL;
        if (!status)
            status = add_in_block(q, t, from, now, add, apply);
        qcow2_table_put(&q->blocks, t);
    }
    return status;
}

int qcow2_refcount_add_locked(struct qcow2 *q, uint64_t cluster, uint64_t count, int64_t add)
{
    const bool small = count == 1;
    int status = small ? 0 : add_range(q, cluster, count, add, false);
    return status ? status : add_range(q, cluster, count, add, true);
}
