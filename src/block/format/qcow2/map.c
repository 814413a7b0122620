/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* From the guest's offsets to the file's: entries of L1 and L2 tables. */
#include <errno.h>
#include <sched.h>

#include "base/byteorder.h"
#include "block/format/qcow2/qcow2_int.h"

bool qcow2_offset_fits(const struct qcow2 *q, uint64_t offset)
{
    return offset && !(offset & (q->cluster - 1)) && offset < UINT64_C(1) << 56;
}

/* --- one entry --- */

static uint64_t word(const struct qcow2_table *t, uint64_t i, memory_order order)
{
    return be64toh(atomic_load_explicit(&t->word[i], order));
}

/* A plain entry is one atomic word. An extended one has two, which belong together: whoever changes it makes
 * `changes` odd meanwhile, whoever reads it looks whether that has happened. */
struct qcow2_entry qcow2_entry_read(const struct qcow2 *q, const struct qcow2_table *t, uint64_t index)
{
    if (q->entry_words == 1)
        return (struct qcow2_entry){.entry = word(t, index, memory_order_acquire)};
    for (;;) {
        const unsigned before = atomic_load_explicit(&t->changes, memory_order_acquire);
        const struct qcow2_entry e = {word(t, 2 * index, memory_order_acquire),
                                      word(t, 2 * index + 1, memory_order_acquire)};
        if (!(before & 1) && atomic_load_explicit(&t->changes, memory_order_acquire) == before)
            return e;
        sched_yield();
    }
}

void qcow2_entry_write_locked(struct qcow2 *q, struct qcow2_table *t, uint64_t index, struct qcow2_entry e)
{
    if (q->entry_words == 1) {
        atomic_store_explicit(&t->word[index], htobe64(e.entry), memory_order_release);
    } else {
        atomic_fetch_add(&t->changes, 1);
        atomic_store(&t->word[2 * index], htobe64(e.entry));
        atomic_store(&t->word[2 * index + 1], htobe64(e.bitmap));
        atomic_fetch_add(&t->changes, 1);
    }
    qcow2_table_dirty(q, &q->l2, t, (uint32_t)(index * q->entry_words * 8), q->entry_words * 8);
}

bool qcow2_entry_placed(const struct qcow2 *q, uint64_t entry)
{
    if (entry & QCOW2_COMPRESSED && !q->external)
        return false;
    return entry & QCOW2_OFFSET_MASK || (q->external && entry & QCOW2_COPIED);
}

void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *size)
{
    const unsigned bits = 62 - (q->cluster_bits - 8);
    const uint64_t sectors = bits_get(entry, bits, q->cluster_bits - 8) + 1;
    *offset = bits_get(entry, 0, bits);
    *size = sectors * BLOCK_SECTOR - *offset % BLOCK_SECTOR;
}

/* --- L2 tables --- */

static int check_l1(struct qcow2 *q, uint64_t entry)
{
    return entry & QCOW2_L1_RESERVED || !qcow2_offset_fits(q, entry & QCOW2_OFFSET_MASK) ? -EIO : 0;
}

int qcow2_l2_readable(struct qcow2 *q, uint64_t guest, struct qcow2_table **out)
{
    const uint64_t index = qcow2_l1_index(q, guest);
    *out = NULL;
    if (index >= q->header.l1_size)
        return 0;
    const uint64_t entry = atomic_load_explicit(&q->l1[index], memory_order_acquire);
    if (!entry)
        return 0;
    int status = check_l1(q, entry);
    return status ? status : qcow2_table_get(q, &q->l2, index, entry & QCOW2_OFFSET_MASK, false, out);
}

void qcow2_l1_set_locked(struct qcow2 *q, uint64_t index, uint64_t entry)
{
    atomic_store_explicit(&q->l1[index], entry, memory_order_release);
    qcow2_mark_bit(q->l1_dirty, index * 8, 8);
    q->l1_changed = true;
}

/* A cluster for table `index`, which is new, or a copy of one that something else refers to, too. */
static int place_table(struct qcow2 *q, uint64_t index, struct qcow2_table **out, bool make)
{
    uint64_t cluster, got;
    bool fresh;
    int status = qcow2_alloc_locked(q, 1, true, &cluster, &got, &fresh);
    if (status)
        return status;
    const uint64_t place = cluster << q->cluster_bits;
    if (make) {
        status = qcow2_table_get(q, &q->l2, index, place, true, out);
        if (status) {
            qcow2_unalloc_locked(q, cluster, 1);
            return status;
        }
    } else {
        (*out)->place = place;
        qcow2_table_dirty(q, &q->l2, *out, 0, q->cluster);
    }
    qcow2_owned_add_locked(q, cluster);
    qcow2_l1_set_locked(q, index, place | QCOW2_COPIED);
    return 0;
}

int qcow2_l2_writable_locked(struct qcow2 *q, uint64_t guest, struct qcow2_table **out)
{
    const uint64_t index = qcow2_l1_index(q, guest);
    *out = NULL;
    if (index >= q->header.l1_size)
        return -EINVAL;
    const uint64_t entry = q->l1[index];
    if (!entry)
        return place_table(q, index, out, true);
    int status = check_l1(q, entry);
    if (status)
        return qcow2_corrupt_locked(q, "an L1 entry points outside", entry);
    status = qcow2_table_get(q, &q->l2, index, entry & QCOW2_OFFSET_MASK, false, out);
    if (status || entry & QCOW2_COPIED)
        return status;
    status = place_table(q, index, out, false);
    if (status) {
        qcow2_table_put(&q->l2, *out);
        *out = NULL;
        return status;
    }
    qcow2_owned_gone_locked(q, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits);
    qcow2_free_locked(q, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits, 1, true);
    return 0;
}

/* --- looking up --- */

/* What the unit at `guest` is. */
static int decode(const struct qcow2 *q, struct qcow2_entry e, uint64_t guest, struct qcow2_map *map)
{
    const bool placed = qcow2_entry_placed(q, e.entry), copied = e.entry & QCOW2_COPIED;
    const uint64_t offset = e.entry & QCOW2_OFFSET_MASK;
    *map = (struct qcow2_map){.entry = e.entry};
    if (e.entry & QCOW2_COMPRESSED) {
        map->kind = QCOW2_KIND_COMPRESSED;
        return q->external || e.bitmap ? -EIO : 0;
    }
    if (placed && (offset & (q->cluster - 1) || (!offset && !q->external)))
        return -EIO;
    bool data = placed, zero = q->header.version >= 3 && e.entry & QCOW2_ZERO;
    if (q->entry_words == 2) {
        const unsigned i = (guest >> q->unit_bits) % QCOW2_SUBCLUSTERS;
        data = e.bitmap & BIT(i);
        if (zero || (data && (!placed || e.bitmap & BIT(i + 32))))
            return -EIO;
        zero = e.bitmap & BIT(i + 32);
    }
    map->kept = placed && copied;
    if (zero) {
        map->kind = QCOW2_KIND_ZERO;
    } else if (data) {
        map->kind = QCOW2_KIND_DATA;
        map->in_place = copied;
        map->kept = false;
        map->host = offset + (guest & (q->cluster - 1));
    }
    return 0;
}

/* As many units as are alike and, if they have one, in a row. */
static int scan(const struct qcow2 *q, const struct qcow2_table *t, uint64_t guest, uint64_t size,
                struct qcow2_map *map)
{
    const uint64_t unit = BIT(q->unit_bits);
    int status = decode(q, qcow2_entry_read(q, t, qcow2_l2_index(q, guest)), guest, map);
    if (status)
        return status;
    if (map->kind == QCOW2_KIND_COMPRESSED) {
        map->size = MIN(size, q->cluster - (guest & (q->cluster - 1)));
        return 0;
    }
    uint64_t now = unit - (guest & (unit - 1));
    for (; now < size; now += unit) {
        struct qcow2_map next;
        const uint64_t at = guest + now;
        if (decode(q, qcow2_entry_read(q, t, qcow2_l2_index(q, at)), at, &next) || next.kind != map->kind ||
            next.in_place != map->in_place || next.kept != map->kept ||
            (next.kind == QCOW2_KIND_DATA && next.host != map->host + now))
            break;
    }
    map->size = MIN(size, now);
    return 0;
}

int qcow2_lookup(struct qcow2 *q, uint64_t guest, uint64_t size, unsigned flags, struct qcow2_map *map)
{
    const uint64_t index = qcow2_l1_index(q, guest), span = BIT(q->cluster_bits + q->l2_bits);
    size = MIN(size, span - (guest & (span - 1)));
    *map = (struct qcow2_map){.size = size};
    if (index >= q->header.l1_size || !atomic_load_explicit(&q->l1[index], memory_order_acquire))
        return 0;
    struct qcow2_table *t = atomic_load_explicit(&q->l2.slot[index], memory_order_acquire);
    if (t) {
        if (!atomic_load_explicit(&t->used, memory_order_relaxed))
            atomic_store_explicit(&t->used, true, memory_order_relaxed);
        return scan(q, t, guest, size, map);
    }
    if (flags & BLOCK_NOWAIT)
        return -EAGAIN;
    int status = qcow2_l2_readable(q, guest, &t);
    if (status == -EAGAIN && !(status = qcow2_sync(q)))
        status = qcow2_l2_readable(q, guest, &t);
    if (status || !t)
        return status;
    qcow2_table_put(&q->l2, t); /* within the epoch it stays */
    return scan(q, t, guest, size, map);
}
