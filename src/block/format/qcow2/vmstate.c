/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest's state in a qcow2 image: bytes that are no part of the disk, and belong to a snapshot. */
/*
 * They are kept as if the disk went on behind its end, from the first offset there that an L1 entry of its
 * own stands for; QEMU has them in the same place. Whoever saves a guest writes them there, then makes the
 * snapshot, which gets them with all else, and takes them off the disk again, where they are in the way.
 *
 * A snapshot's are read by its own L1 table, without the disk being at that snapshot, so that a guest's state
 * can be looked at before anything is changed. Its tables do not change as long as it is there.
 */
#include <errno.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "block/format/qcow2/snapshot_int.h"
#include "block/scratch.h"

/* The snapshot that was read last: nothing of the disk's. */
struct qcow2_vmstate {
    char *which;
    uint64_t table; /* where the table of snapshots was */
    uint64_t from, size;
    uint64_t *l1;
    uint32_t l1_size;
    uint64_t l2_place; /* of the table in l2; 0 = none */
    uint8_t *l2;
};

static unsigned l1_shift(const struct qcow2 *q)
{
    return q->cluster_bits + q->l2_bits;
}

/* Where the state of a disk with so many bytes begins. */
static uint64_t state_begin(const struct qcow2 *q, uint64_t disk_size)
{
    return align_up(disk_size, BIT(l1_shift(q)));
}

/* --- written --- */

int qcow2_vmstate_write(struct disk *b, const void *bytes, size_t size, uint64_t offset)
{
    struct qcow2 *q = qcow2(b);
    uint64_t end;
    if (q->external)
        return -EOPNOTSUPP;
    if (b->facts.readonly)
        return -EROFS;
    if (__builtin_add_overflow(state_begin(q, q->header.size), offset, &offset) ||
        __builtin_add_overflow(offset, size, &end) || end > INT64_MAX)
        return -EFBIG;
    int status = qcow2_l1_grow(q, end);
    for (size_t now; size && !status; bytes = (const uint8_t *)bytes + now, offset += now, size -= now) {
        now = MIN(size, (size_t)1 << 20);
        status = qcow2_pwrite(q, bytes, now, offset);
    }
    return status;
}

int qcow2_vmstate_clear(struct disk *b)
{
    struct qcow2 *q = qcow2(b);
    const uint64_t from = state_begin(q, q->header.size), end = (uint64_t)q->header.l1_size << l1_shift(q);
    if (b->facts.readonly || q->external || from >= end)
        return 0;
    int status = qcow2_drop_clusters(q, from, end - from, false, false);
    if (!status)
        status = qcow2_sync(q);
    if (!status)
        status = qcow2_drop_tables(q, q->header.size);
    return status;
}

/* --- read --- */

void qcow2_vmstate_forget(struct qcow2 *q)
{
    if (!q->vmstate)
        return;
    g_free(q->vmstate->which);
    g_free(q->vmstate->l1);
    g_free(q->vmstate->l2);
    g_free(q->vmstate);
    q->vmstate = NULL;
}

static int enter(struct qcow2 *q, const char *which)
{
    g_autoptr(GError) error = NULL;
    uint64_t size;
    const struct qcow2_vmstate *old = q->vmstate;
    if (old && !strcmp(old->which, which) && old->table == q->header.snapshots_offset)
        return 0;
    qcow2_vmstate_forget(q);
    g_autoptr(GPtrArray) all = qcow2_snapshots_read(q, &size, &error);
    const guint i = all ? qcow2_snapshot_index(all, which) : 0;
    if (!all || i >= all->len)
        return all ? -ENOENT : -EIO;
    const struct qcow2_snapshot *s = all->pdata[i];
    struct qcow2_vmstate *v = q->vmstate = g_new0(struct qcow2_vmstate, 1);
    *v = (struct qcow2_vmstate){.which = g_strdup(which),
                                .table = q->header.snapshots_offset,
                                .from = state_begin(q, s->disk_size),
                                .size = s->vm_state_size,
                                .l1_size = s->l1_size,
                                .l2 = g_try_malloc(q->cluster)};
    int status = v->l2 ? qcow2_share_load(q, s->l1_offset, s->l1_size, &v->l1) : -ENOMEM;
    if (status)
        qcow2_vmstate_forget(q);
    return status;
}

/* The entry for an offset; all zero when there is none. */
static int find_entry(struct qcow2 *q, uint64_t offset, struct qcow2_entry *e)
{
    struct qcow2_vmstate *v = q->vmstate;
    const uint64_t index = offset >> l1_shift(q);
    const uint64_t place = index < v->l1_size ? v->l1[index] & QCOW2_OFFSET_MASK : 0;
    *e = (struct qcow2_entry){0};
    if (!place)
        return 0;
    if (place != v->l2_place) {
        v->l2_place = 0;
        int status = block_pread(q->file, v->l2, q->cluster, place);
        if (status)
            return status;
        v->l2_place = place;
    }
    const uint8_t *at = v->l2 + qcow2_l2_index(q, offset) * q->entry_words * 8;
    e->entry = ld64be(at);
    e->bitmap = q->entry_words == 2 ? ld64be(at + 8) : 0;
    return 0;
}

/* All that is read lies in one cluster, and for extended entries in one subcluster. */
static int read_unit(struct qcow2 *q, uint8_t *bytes, size_t size, uint64_t offset, uint8_t *cluster)
{
    struct qcow2_entry e;
    const uint64_t inside = offset & (q->cluster - 1);
    int status = find_entry(q, offset, &e);
    if (status)
        return status;
    if (e.entry & QCOW2_COMPRESSED) {
        status = qcow2_compressed_read(q, e.entry, cluster);
        memcpy(bytes, cluster + inside, status ? 0 : size);
        return status;
    }
    const uint64_t place = e.entry & QCOW2_OFFSET_MASK;
    const unsigned part = (unsigned)(offset >> q->unit_bits) % QCOW2_SUBCLUSTERS;
    const bool there = q->entry_words == 2 ? e.bitmap & BIT(part) : place && !(e.entry & QCOW2_ZERO);
    if (!there) {
        memset(bytes, 0, size);
        return 0;
    }
    if (place & (q->cluster - 1) || !qcow2_offset_fits(q, place))
        return -EIO;
    if (!q->crypto)
        return block_pread(q->file, bytes, size, place + inside);
    const uint64_t first = align_down(inside, BLOCK_SECTOR), last = align_up(inside + size, BLOCK_SECTOR);
    status = block_pread(q->file, cluster, last - first, place + first);
    if (!status)
        status = q->decrypt(q, cluster, last - first, offset - inside + first, place + first);
    if (!status)
        memcpy(bytes, cluster + (inside - first), size);
    return status;
}

int qcow2_vmstate_read(struct disk *b, const char *which, void *bytes, size_t size, uint64_t offset)
{
    struct qcow2 *q = qcow2(b);
    const uint64_t unit = BIT(q->unit_bits);
    if (q->external)
        return -EOPNOTSUPP;
    int status = enter(q, which);
    if (!status && !range_inside(offset, size, 0, q->vmstate->size))
        status = -EINVAL;
    uint8_t *cluster = status ? NULL : block_scratch_take(q->cluster);
    if (!status && !cluster)
        status = -ENOMEM;
    offset += status ? 0 : q->vmstate->from;
    for (size_t now; size && !status; bytes = (uint8_t *)bytes + now, offset += now, size -= now) {
        now = MIN(size, (size_t)(unit - (offset & (unit - 1))));
        status = read_unit(q, bytes, now, offset, cluster);
    }
    block_scratch_give(cluster);
    return status;
}
