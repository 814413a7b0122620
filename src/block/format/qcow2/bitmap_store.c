/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The bits of persistent bitmaps: from the file to memory, and back to new places of it. */
#include <errno.h>
#include <string.h>

#include "base/byteorder.h"
#include "block/format/qcow2/bitmap_int.h"
#include "block/format/qcow2/snapshot_int.h"

enum { ALL_ONES = 1 /* an entry of a table: no place, all bits are set */ };

/* --- from the file --- */

static uint64_t words_of(const struct qcow2_bitmap *m)
{
    return (m->n_bits + 63) / 64;
}

int qcow2_bitmap_table(struct qcow2 *q, const struct qcow2_bitmap *m, uint64_t **out)
{
    g_autofree uint64_t *table = g_try_malloc0_n(MAX(m->table_size, 1), 8);
    if (!table)
        return -ENOMEM;
    int status = qcow2_numbers_load(q->file, m->table_offset, table, m->table_size);
    for (uint32_t i = 0; i < m->table_size && !status; i++)
        if (table[i] > ALL_ONES && (table[i] & ~QCOW2_OFFSET_MASK || !qcow2_offset_fits(q, table[i])))
            status = -EILSEQ;
    if (!status)
        *out = g_steal_pointer(&table);
    return status;
}

/* Cluster i of its data. */
static int load_cluster(struct qcow2 *q, uint64_t entry, uint8_t *bytes, uint64_t size)
{
    if (entry > ALL_ONES)
        return block_pread(q->file, bytes, align_up(size, BLOCK_SECTOR), entry);
    memset(bytes, entry == ALL_ONES ? 0xff : 0, size);
    return 0;
}

static int load_bits(struct qcow2 *q, struct qcow2_bitmap *m)
{
    const uint64_t bytes = qcow2_bitmap_bytes(m), room = align_up(MAX(bytes, 8), BLOCK_SECTOR);
    g_autofree uint64_t *table = NULL;
    if (bytes > QCOW2_BITMAP_BYTES_MAX)
        return -EFBIG;
    g_autofree uint8_t *data = g_try_malloc0(room);
    int status = data ? qcow2_bitmap_table(q, m, &table) : -ENOMEM;
    for (uint32_t i = 0; i < m->table_size && !status; i++) {
        const uint64_t at = (uint64_t)i << q->cluster_bits;
        status = load_cluster(q, table[i], data + at, MIN(bytes - at, q->cluster));
    }
    if (status)
        return status;
    _Atomic uint64_t *bits = (void *)data;
    for (uint64_t i = 0; i < words_of(m); i++)
        atomic_init(&bits[i], ld64le(data + 8 * i));
    if (m->n_bits % 64)
        bits[m->n_bits / 64] &= bits_mask(m->n_bits % 64);
    m->bits = (void *)g_steal_pointer(&data);
    return 0;
}

int qcow2_bitmap_load(struct qcow2 *q, struct qcow2_bitmaps *s, struct qcow2_bitmap *m)
{
    pthread_mutex_lock(&s->lock);
    int status = m->bits ? 0 : load_bits(q, m);
    pthread_mutex_unlock(&s->lock);
    return status;
}

void qcow2_bitmap_mark(struct qcow2_bitmap *m, uint64_t offset, uint64_t size)
{
    const uint64_t first = offset >> m->granularity_bits, last = (offset + size - 1) >> m->granularity_bits;
    for (uint64_t w = first / 64; w <= last / 64 && w < words_of(m); w++) {
        uint64_t mask = UINT64_MAX;
        if (w == first / 64)
            mask &= ~bits_mask(first % 64);
        if (w == last / 64)
            mask &= bits_mask(last % 64 + 1);
        /* Mostly it is marked already, and the word stays in all caches. */
        if ((atomic_load_explicit(&m->bits[w], memory_order_relaxed) & mask) != mask)
            atomic_fetch_or_explicit(&m->bits[w], mask, memory_order_relaxed);
    }
}

/* --- to the file --- */

/* What a commit has taken, to be given back if it fails; and what it replaces. */
struct commit {
    struct qcow2 *q;
    struct qcow2_bitmaps *s;
    GArray *taken, *replaced; /* of struct range */
};

struct range {
    uint64_t offset, size;
};

static void note(GArray *ranges, uint64_t offset, uint64_t size)
{
    const struct range r = {offset, size};
    if (size)
        g_array_append_val(ranges, r);
}

static int put(struct commit *c, const void *bytes, uint64_t size, uint64_t *offset)
{
    int status = qcow2_space_take(c->q, size, offset);
    if (status)
        return status;
    note(c->taken, *offset, size);
    return block_pwrite(c->q->file, bytes, size, *offset);
}

/* Cluster i of its data goes where its entry then says. bytes: a cluster of room. */
static int save_cluster(struct commit *c, const struct qcow2_bitmap *m, uint64_t i, uint8_t *bytes,
                        uint64_t *entry)
{
    const uint64_t words = c->q->cluster / 8, first = i * words, have = MIN(words, words_of(m) - first);
    uint64_t any = 0, all = UINT64_MAX;
    memset(bytes, 0, c->q->cluster);
    for (uint64_t w = 0; w < have; w++) {
        const uint64_t word = atomic_load_explicit(&m->bits[first + w], memory_order_relaxed);
        st64le(bytes + 8 * w, word);
        any |= word;
        all &= word;
    }
    *entry = 0;
    if (!any)
        return 0;
    if (have == words && all == UINT64_MAX) {
        *entry = ALL_ONES;
        return 0;
    }
    return put(c, bytes, c->q->cluster, entry);
}

/* Where the file has it now is replaced. */
static int replace(struct commit *c, const struct qcow2_bitmap *m)
{
    g_autofree uint64_t *table = NULL;
    if (!m->table_size || !m->table_offset)
        return 0;
    int status = qcow2_bitmap_table(c->q, m, &table);
    for (uint32_t i = 0; i < m->table_size && !status; i++)
        if (table[i] > ALL_ONES)
            note(c->replaced, table[i], c->q->cluster);
    if (!status)
        note(c->replaced, m->table_offset, (uint64_t)m->table_size * 8);
    return status == -EILSEQ ? 0 : status; /* what cannot be read is left as a leak */
}

static int save(struct commit *c, struct qcow2_bitmap *m, uint64_t *offset, uint32_t *size)
{
    struct qcow2 *q = c->q;
    const uint64_t clusters = align_up(qcow2_bitmap_bytes(m), q->cluster) >> q->cluster_bits;
    const uint64_t room = align_up(MAX(clusters, 1) * 8, q->cluster);
    g_autofree uint64_t *table = g_try_malloc0(room);
    g_autofree uint8_t *bytes = g_try_malloc(q->cluster);
    int status = table && bytes ? replace(c, m) : -ENOMEM;
    for (uint64_t i = 0; i < clusters && !status; i++) {
        status = save_cluster(c, m, i, bytes, &table[i]);
        table[i] = htobe64(table[i]);
    }
    if (!status)
        status = put(c, table, room, offset);
    *size = (uint32_t)clusters;
    return status;
}

/* What the header then says. */
static int set_header(struct qcow2 *q, const struct qcow2_bitmaps *s)
{
    uint8_t bytes[24] = {0};
    st32be(bytes, s->all->len);
    st64be(bytes + 8, s->size);
    st64be(bytes + 16, s->offset);
    const bool any = s->all->len;
    qcow2_extension_set(&q->header, QCOW2_EXTENSION_BITMAPS, any ? bytes : NULL, any ? sizeof(bytes) : 0);
    if (any)
        q->header.autoclear |= QCOW2_AUTOCLEAR_BITMAPS;
    else
        q->header.autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS;
    int status = qcow2_sync(q);
    return status ? status : qcow2_header_store(q);
}

static void settle(struct commit *c, int status)
{
    for (guint i = 0; i < c->taken->len && status; i++) {
        const struct range *r = &g_array_index(c->taken, struct range, i);
        qcow2_space_untake(c->q, r->offset, r->size);
    }
    for (guint i = 0; i < c->replaced->len && !status; i++) {
        const struct range *r = &g_array_index(c->replaced, struct range, i);
        qcow2_space_free(c->q, r->offset, r->size);
    }
}

static int write_directory(struct commit *c)
{
    struct qcow2_bitmaps *s = c->s;
    uint64_t room, offset = 0, size;
    g_autofree uint8_t *bytes = qcow2_bitmaps_encode(c->q, s, s->noted, &size, &room);
    int status = size ? put(c, bytes, room, &offset) : 0;
    if (status)
        return status;
    note(c->replaced, s->offset, s->size);
    s->offset = offset;
    s->size = size;
    return 0;
}

static int save_all(struct commit *c)
{
    int status = 0;
    for (guint i = 0; i < c->s->all->len && !status; i++) {
        struct qcow2_bitmap *m = c->s->all->pdata[i];
        uint64_t offset;
        uint32_t size;
        if (!m->changed || (status = save(c, m, &offset, &size)))
            continue;
        m->table_offset = offset;
        m->table_size = size;
        m->changed = false;
    }
    return status;
}

/* When it fails, memory is ahead of the file in where things are: nothing may be written any more, and the
 * file has what it had. */
int qcow2_bitmaps_commit(struct qcow2 *q, struct qcow2_bitmaps *s, const struct qcow2_bitmap *gone)
{
    if (atomic_load(&q->failed))
        return -EIO;
    struct commit c = {.q = q,
                       .s = s,
                       .taken = g_array_new(FALSE, FALSE, sizeof(struct range)),
                       .replaced = g_array_new(FALSE, FALSE, sizeof(struct range))};
    int status = gone ? replace(&c, gone) : 0;
    if (!status)
        status = save_all(&c);
    if (!status)
        status = write_directory(&c);
    for (guint i = 0; i < c.replaced->len && !status; i++) {
        const struct range *r = &g_array_index(c.replaced, struct range, i);
        status = qcow2_space_check(q, r->offset, r->size);
    }
    bool turned = false;
    if (!status) {
        status = set_header(q, s);
        turned = true;
    }
    if (status)
        (void)qcow2_fail(q, status);
    if (!turned || !status)
        settle(&c, status);
    g_array_unref(c.taken);
    g_array_unref(c.replaced);
    return status ? status : qcow2_sync_all(q);
}
