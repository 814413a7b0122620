/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Reading, writing, and saying how the disk is kept. */
/*
 * Theory of operation
 *
 * Bytes that have a place of their own are read and written there, without a lock, by any number of threads.
 *
 * Others are written in three steps. Under the lock: guest clusters are claimed, and clusters of the file
 * taken for them, as many in a row as there are. Without it: the data is written, with what the clusters'
 * edges held before (only edges of what was asked for need that; where the new clusters read as zeroes and
 * the old bytes were zeroes, not even those). Under the lock again: the entries are changed. So a reader sees
 * either the old or all of the new, and two writers to one cluster go one after the other.
 *
 * What the file does not have yet, since a new cluster was written in part only, reads as zeroes.
 */
#include <errno.h>
#include <string.h>

#include "block/below.h"
#include "block/format/qcow2/qcow2_int.h"
#include "block/scratch.h"

enum { BOUNCE = 1 << 20 /* most bytes that are encrypted or decrypted at once */ };

/* --- reading --- */

static int read_encrypted(struct qcow2 *q, struct block_cursor *c, uint64_t guest, uint64_t host,
                          uint64_t size)
{
    uint8_t *bytes = block_scratch_take((size_t)MIN(size, BOUNCE));
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t now; size && !status; size -= now, guest += now, host += now) {
        now = MIN(size, BOUNCE);
        const struct iovec iov = {bytes, now};
        struct block_cursor into = {.iov = &iov};
        status = block_read_padded(q->data, &into, host, now, 0);
        if (!status)
            status = q->decrypt(q, bytes, now, guest, host);
        if (!status)
            block_cursor_fill(c, bytes, now);
    }
    block_scratch_give(bytes);
    return status;
}

static int read_compressed(struct qcow2 *q, struct block_cursor *c, uint64_t guest, const struct qcow2_map *m)
{
    uint8_t *cluster = block_scratch_take(q->cluster);
    int status = cluster ? qcow2_compressed_read(q, m->entry, cluster) : -ENOMEM;
    if (!status)
        block_cursor_fill(c, cluster + (guest & (q->cluster - 1)), m->size);
    block_scratch_give(cluster);
    return status;
}

static int read_parts(struct qcow2 *q, struct block_cursor *c, uint64_t guest, uint64_t size, unsigned flags)
{
    int status = 0;
    for (struct qcow2_map m; size && !status; guest += m.size, size -= m.size) {
        status = qcow2_lookup(q, guest, size, flags, &m);
        if (status)
            break;
        switch (m.kind) {
        case QCOW2_KIND_NONE: status = block_read_padded(q->base, c, guest, m.size, flags); break;
        case QCOW2_KIND_ZERO: block_cursor_zero(c, m.size); break;
        case QCOW2_KIND_DATA:
            if (q->crypto)
                status = flags & BLOCK_NOWAIT ? -EAGAIN : read_encrypted(q, c, guest, m.host, m.size);
            else
                status = block_read_padded(q->data, c, m.host, m.size, flags);
            break;
        case QCOW2_KIND_COMPRESSED:
            status = flags & BLOCK_NOWAIT ? -EAGAIN : read_compressed(q, c, guest, &m);
            break;
        }
    }
    return status;
}

int qcow2_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct qcow2 *q = qcow2(b);
    const uint64_t size = block_iov_size(iov, n);
    struct qcow2_map m;
    const unsigned epoch = qcow2_enter(q);
    int status = qcow2_lookup(q, offset, size, flags, &m);
    if (!status && m.kind == QCOW2_KIND_DATA && m.size == size && !q->crypto &&
        m.host + size <= q->data->facts.size) {
        status = block_read(q->data, iov, n, m.host, flags);
    } else if (!status) {
        struct block_cursor c = {.iov = iov};
        status = read_parts(q, &c, offset, size, flags);
    }
    qcow2_leave(q, epoch);
    return status;
}

int qcow2_pread(struct qcow2 *q, void *bytes, size_t size, uint64_t guest)
{
    const struct iovec iov = {bytes, size};
    struct block_cursor c = {.iov = &iov};
    const unsigned epoch = qcow2_enter(q);
    int status = read_parts(q, &c, guest, size, 0);
    qcow2_leave(q, epoch);
    return status;
}

/* --- writing to where there is a place --- */

/* Entries that say that data is where metadata is are damaged; writing there would do more of it. */
static int check_place(struct qcow2 *q, uint64_t host, uint64_t size)
{
    if (q->data != q->file)
        return 0;
    const uint64_t first = host >> q->cluster_bits, last = (host + size - 1) >> q->cluster_bits;
    bool maybe = false;
    for (uint64_t i = first; i <= last && !maybe; i++)
        maybe = qcow2_owned_maybe(q, i);
    if (!maybe)
        return 0;
    pthread_mutex_lock(&q->meta);
    int status = 0;
    if (qcow2_owned_has_locked(q, first, last - first + 1))
        status = qcow2_corrupt_locked(q, "an L2 entry that points to metadata", host);
    pthread_mutex_unlock(&q->meta);
    return status;
}

static int write_encrypted(struct qcow2 *q, struct block_cursor *c, uint64_t guest, uint64_t host,
                           uint64_t size)
{
    uint8_t *bytes = block_scratch_take((size_t)MIN(size, BOUNCE));
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t now; size && !status; size -= now, guest += now, host += now) {
        now = MIN(size, BOUNCE);
        block_cursor_take(c, bytes, now);
        status = q->encrypt(q, bytes, now, guest, host);
        if (!status)
            status = block_pwrite(q->data, bytes, now, host);
    }
    block_scratch_give(bytes);
    return status;
}

static int write_place(struct qcow2 *q, struct block_cursor *c, uint64_t guest, uint64_t host, uint64_t size)
{
    struct iovec part[BLOCK_IOV_MAX];
    if (q->crypto)
        return write_encrypted(q, c, guest, host, size);
    return block_write(q->data, part, block_cursor_next(c, size, part), host);
}

/* --- writing to where there is none --- */

struct fresh {
    struct qcow2_claim claim;
    struct qcow2_table *table;
    uint64_t guest, end; /* what is written */
    uint64_t from, to;   /* with the edges that come along */
    uint64_t host;       /* of the first cluster */
    uint64_t count;      /* clusters; 0 = look again */
    bool reuse;          /* they have places, which become visible */
    bool zeroed;         /* what is not written reads as zeroes */
};

static bool has_own_place(const struct qcow2 *q, struct qcow2_entry e)
{
    return qcow2_entry_placed(q, e.entry) && e.entry & QCOW2_COPIED;
}

/* All of it can be written as it is. */
static bool is_in_place(const struct qcow2 *q, struct qcow2_entry e)
{
    if (!has_own_place(q, e))
        return false;
    return q->entry_words == 2 ? (uint32_t)e.bitmap == UINT32_MAX
                               : !(e.entry & QCOW2_ZERO && q->header.version >= 3);
}

/* What has to be written as a whole with it: a subcluster where the rest may stay as it is. */
static uint64_t edge_unit(const struct qcow2 *q, struct qcow2_entry e)
{
    const bool moves =
        (e.entry & QCOW2_COMPRESSED) || (qcow2_entry_placed(q, e.entry) && !has_own_place(q, e));
    return moves ? q->cluster : BIT(q->unit_bits);
}

/* How many of at most `most` clusters from the first on are of its sort; *reuse says which. */
static uint64_t sort_run(const struct qcow2 *q, const struct qcow2_table *t, uint64_t index, uint64_t most,
                         struct fresh *f)
{
    const struct qcow2_entry first = qcow2_entry_read(q, t, index);
    f->reuse = has_own_place(q, first);
    f->host = first.entry & QCOW2_OFFSET_MASK;
    uint64_t n = 1;
    for (; n < most; n++) {
        const struct qcow2_entry e = qcow2_entry_read(q, t, index + n);
        if (has_own_place(q, e) != f->reuse || is_in_place(q, e) ||
            (f->reuse && (e.entry & QCOW2_OFFSET_MASK) != f->host + (n << q->cluster_bits)))
            break;
    }
    return n;
}

static int take_places(struct qcow2 *q, struct fresh *f, uint64_t want)
{
    bool zeroed = false;
    f->count = want;
    const uint64_t first = qcow2_l2_index(q, f->guest);
    for (uint64_t i = first; i < first + want && !f->reuse; i++) {
        int status = qcow2_entry_check_locked(q, qcow2_entry_read(q, f->table, i).entry);
        if (status)
            return status;
    }
    if (f->reuse && q->data == q->file && qcow2_owned_has_locked(q, f->host >> q->cluster_bits, want))
        return qcow2_corrupt_locked(q, "an L2 entry that points to metadata", f->host);
    if (f->reuse)
        return 0;
    f->host = align_down(f->guest, q->cluster);
    if (q->external)
        return 0;
    uint64_t cluster;
    int status = qcow2_alloc_locked(q, want, false, &cluster, &f->count, &zeroed);
    f->host = cluster << q->cluster_bits;
    f->zeroed = zeroed && !q->crypto;
    return status;
}

/* Claims and takes what a part of the write needs. */
static int plan_locked(struct qcow2 *q, uint64_t size, struct fresh *f)
{
    const uint64_t first = f->guest >> q->cluster_bits, index = qcow2_l2_index(q, f->guest);
    uint64_t most = ((f->guest + size - 1) >> q->cluster_bits) - first + 1;
    most = MIN(most, BIT(q->l2_bits) - index);
    if (q->crypto)
        most = MIN(most, MAX(UINT64_C(1), (uint64_t)BOUNCE >> q->cluster_bits));
    most = qcow2_claims_clear_locked(q, first, most);
    if (!most) {
        pthread_cond_wait(&q->claim_ended, &q->meta);
        return 0;
    }
    int status = qcow2_l2_writable_locked(q, f->guest, &f->table);
    if (status)
        return status;
    if (is_in_place(q, qcow2_entry_read(q, f->table, index)))
        return 0;
    status = take_places(q, f, sort_run(q, f->table, index, most, f));
    if (status) {
        f->count = 0;
        return status;
    }
    f->end = MIN(f->guest + size, (first + f->count) << q->cluster_bits);
    f->from = align_down(f->guest, edge_unit(q, qcow2_entry_read(q, f->table, index)));
    f->to = align_up(f->end, edge_unit(q, qcow2_entry_read(q, f->table, index + f->count - 1)));
    f->claim.first = first;
    f->claim.last = first + f->count - 1;
    qcow2_claim_locked(q, &f->claim);
    return 0;
}

/* What the guest sees at an edge, in bytes; *size becomes 0 when it need not be written. */
static int edge(struct qcow2 *q, const struct fresh *f, uint8_t *bytes, uint64_t guest, uint64_t *size)
{
    if (f->zeroed) {
        struct qcow2_map m;
        int status = *size ? qcow2_lookup(q, guest, *size, 0, &m) : 0;
        if (status)
            return status;
        if (*size && m.size == *size &&
            (m.kind == QCOW2_KIND_ZERO ||
             (m.kind == QCOW2_KIND_NONE && (!q->base || guest >= q->base->facts.size))))
            *size = 0;
    }
    const struct iovec iov = {bytes, *size};
    struct block_cursor c = {.iov = &iov};
    return *size ? read_parts(q, &c, guest, *size, 0) : 0;
}

/* The data between its edges, in one piece. */
static int write_with_edges(struct qcow2 *q, struct block_cursor *c, const struct fresh *f)
{
    uint64_t head = f->guest - f->from, tail = f->to - f->end;
    uint8_t *bytes = block_scratch_take((size_t)(head + tail));
    struct iovec part[BLOCK_IOV_MAX + 2];
    const uint64_t base = f->host - align_down(f->guest, q->cluster); /* guest + base = host; may wrap */
    int status = bytes ? edge(q, f, bytes, f->from, &head) : -ENOMEM;
    if (!status)
        status = edge(q, f, bytes + head, f->end, &tail);
    if (!status) {
        unsigned n = 0;
        if (head)
            part[n++] = (struct iovec){bytes, head};
        n += block_cursor_next(c, f->end - f->guest, part + n);
        if (tail)
            part[n++] = (struct iovec){bytes + head, tail};
        const uint64_t at = f->guest - head + base, first = MIN(n, (unsigned)BLOCK_IOV_MAX);
        const struct block_cursor all = {.iov = part};
        struct block_cursor rest = all;
        if (q->crypto) {
            status = write_encrypted(q, &rest, f->guest - head, at, f->end + tail - (f->guest - head));
        } else {
            status = block_write(q->data, part, (unsigned)first, at);
            if (!status && n > first)
                status = block_write(q->data, part + first, n - (unsigned)first,
                                     at + block_iov_size(part, (unsigned)first));
        }
    }
    block_scratch_give(bytes);
    return status;
}

static int fill(struct qcow2 *q, struct block_cursor *c, const struct fresh *f)
{
    if (f->from == f->guest && f->to == f->end)
        return write_place(q, c, f->guest, f->host + (f->guest & (q->cluster - 1)), f->end - f->guest);
    return write_with_edges(q, c, f);
}

/* The entry of a cluster that has its data now: what of [from, to) lies in it. */
static struct qcow2_entry linked(const struct qcow2 *q, const struct fresh *f, struct qcow2_entry old,
                                 uint64_t guest, uint64_t host)
{
    struct qcow2_entry e = {.entry = host | QCOW2_COPIED};
    if (q->entry_words == 1)
        return e;
    const uint64_t from = MAX(f->from, guest) - guest, to = MIN(f->to, guest + q->cluster) - guest;
    const unsigned first = (unsigned)(from >> q->unit_bits), end = (unsigned)((to - 1) >> q->unit_bits) + 1;
    const uint64_t bits = bits_mask(end - first) << first;
    e.bitmap = ((old.bitmap | bits) & ~(bits << 32));
    if (!f->reuse && (old.entry & QCOW2_COMPRESSED || qcow2_entry_placed(q, old.entry)))
        e.bitmap = UINT32_MAX;
    return e;
}

static void link_locked(struct qcow2 *q, const struct fresh *f)
{
    uint64_t guest = align_down(f->guest, q->cluster), host = f->host;
    for (uint64_t i = 0; i < f->count; i++, guest += q->cluster, host += q->cluster) {
        const uint64_t index = qcow2_l2_index(q, guest);
        const struct qcow2_entry old = qcow2_entry_read(q, f->table, index);
        if (!f->reuse)
            qcow2_free_entry_locked(q, old.entry, true);
        qcow2_entry_write_locked(q, f->table, index, linked(q, f, old, guest, host));
    }
}

/* As much of the write as one run of new places takes: *done bytes, perhaps none (then look again). */
static int write_new(struct qcow2 *q, struct block_cursor *c, uint64_t guest, uint64_t size, uint64_t *done)
{
    struct fresh f = {.guest = guest};
    *done = 0;
    pthread_mutex_lock(&q->meta);
    int status = plan_locked(q, size, &f);
    pthread_mutex_unlock(&q->meta);
    if (!status && f.count) {
        status = fill(q, c, &f);
        pthread_mutex_lock(&q->meta);
        if (!status)
            link_locked(q, &f);
        else if (!f.reuse && !q->external)
            qcow2_unalloc_locked(q, f.host >> q->cluster_bits, f.count);
        qcow2_unclaim_locked(q, &f.claim);
        pthread_mutex_unlock(&q->meta);
        *done = f.end - f.guest;
    }
    qcow2_table_put(&q->l2, f.table);
    return status == -EAGAIN ? qcow2_sync(q) : status;
}

static int write_parts(struct qcow2 *q, struct block_cursor *c, uint64_t guest, uint64_t size)
{
    int status = 0;
    for (uint64_t now; size && !status; guest += now, size -= now) {
        struct qcow2_map m;
        now = 0;
        status = qcow2_lookup(q, guest, size, 0, &m);
        if (!status && m.kind == QCOW2_KIND_DATA && m.in_place) {
            now = m.size;
            status = check_place(q, m.host, now);
            if (!status)
                status = write_place(q, c, guest, m.host, now);
        } else if (!status) {
            status = write_new(q, c, guest, size, &now);
        }
    }
    return status;
}

int qcow2_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    struct qcow2 *q = qcow2(b);
    const uint64_t size = block_iov_size(iov, n);
    struct qcow2_map m;
    if (atomic_load_explicit(&q->failed, memory_order_relaxed))
        return -EIO;
    int marked = q->bitmaps ? q->bitmaps_mark(q, offset, size) : 0;
    if (marked)
        return marked;
    const unsigned epoch = qcow2_enter(q);
    int status = qcow2_lookup(q, offset, size, 0, &m);
    if (!status && m.kind == QCOW2_KIND_DATA && m.in_place && m.size == size && !q->crypto) {
        status = check_place(q, m.host, size);
        if (!status)
            status = block_write(q->data, iov, n, m.host);
    } else if (!status) {
        struct block_cursor c = {.iov = iov};
        status = write_parts(q, &c, offset, size);
    }
    qcow2_leave(q, epoch);
    return status;
}

int qcow2_pwrite(struct qcow2 *q, const void *bytes, size_t size, uint64_t guest)
{
    const struct iovec iov = {(void *)(uintptr_t)bytes, size};
    struct block_cursor c = {.iov = &iov};
    if (atomic_load(&q->failed))
        return -EIO;
    const unsigned epoch = qcow2_enter(q);
    int status = write_parts(q, &c, guest, size);
    qcow2_leave(q, epoch);
    return status;
}

/* --- how it is kept --- */

/* Whole clusters for which the host keeps nothing read as zeroes: their room was taken ahead, or their
 * storage given back. One of which it keeps a part is data. */
static int look_in_file(struct qcow2 *q, struct block_extent *extent)
{
    const uint64_t end = q->data->facts.size, inside = extent->place & (q->cluster - 1), all = extent->size;
    struct block_extent kept = {.size = all, .zero = true};
    int status = 0;
    if (extent->place < end)
        status = block_extent(q->data, extent->place, MIN(all, end - extent->place), &kept);
    if (kept.zero && extent->place + kept.size >= end)
        kept.size = all;
    const uint64_t whole = kept.size == all ? all : align_down(kept.size, q->cluster);
    extent->zero = kept.zero && !inside && whole;
    if (extent->zero)
        extent->size = whole;
    else
        extent->size = kept.zero ? MIN(all, q->cluster - inside) : kept.size;
    return status;
}

int qcow2_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct qcow2 *q = qcow2(b);
    struct qcow2_map m, next;
    const unsigned epoch = qcow2_enter(q);
    int status = qcow2_lookup(q, offset, size, 0, &m);
    /* What has no place goes on from one L2 table to the next. */
    while (!status && m.size < size && m.kind != QCOW2_KIND_COMPRESSED && m.kind != QCOW2_KIND_DATA) {
        if (qcow2_lookup(q, offset + m.size, size - m.size, 0, &next) || next.kind != m.kind ||
            next.kept != m.kept)
            break;
        m.size += next.size;
    }
    qcow2_leave(q, epoch);
    if (status)
        return status;
    if (m.kind == QCOW2_KIND_NONE && q->base)
        return block_extent_below(q->base, offset, m.size, extent);
    *extent = (struct block_extent){.size = m.size, .place = BLOCK_NO_PLACE};
    extent->compressed = m.kind == QCOW2_KIND_COMPRESSED;
    extent->zero = m.kind == QCOW2_KIND_NONE || m.kind == QCOW2_KIND_ZERO;
    extent->hole = extent->zero && !m.kept;
    if (m.kind != QCOW2_KIND_DATA || q->crypto)
        return 0;
    extent->place = m.host;
    return look_in_file(q, extent);
}
