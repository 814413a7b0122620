/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The grain tables of VMDK extents: a cache, what their entries mean, and how they reach the file. */
#include <errno.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "block/format/vmdk/vmdk.h"

enum { HELD_BYTES = 32 * 1024 * 1024 /* of one extent's tables; more of them are read again */ };

static uint32_t table_bytes(const struct vmdk_extent *e)
{
    return e->entries * e->entry_size;
}

/* --- reading --- */

/* Forgets tables that are in the file as they are. */
static void shrink(struct vmdk_extent *e)
{
    for (uint32_t i = 0; i < e->tables_n; i++)
        if (e->tables[i].entries && !e->tables[i].dirty && !e->tables[i].pins) {
            g_free(STEAL(e->tables[i].entries));
            e->tables_held--;
        }
}

static bool held_enough(const struct vmdk_extent *e)
{
    return (uint64_t)e->tables_held * table_bytes(e) >= HELD_BYTES;
}

int vmdk_table(struct vmdk_extent *e, uint32_t index, bool wait, uint8_t **table)
{
    *table = e->tables[index].entries;
    if (*table || !e->gd[index])
        return 0;
    if (!wait)
        return -EAGAIN;
    if (held_enough(e))
        shrink(e);
    uint8_t *bytes = g_try_malloc(table_bytes(e));
    if (!bytes)
        return -ENOMEM;
    int status = block_pread(e->file, bytes, table_bytes(e), e->gd[index]);
    if (status) {
        g_free(bytes);
        return status;
    }
    e->tables_held++;
    *table = e->tables[index].entries = bytes;
    return 0;
}

/* What one entry means. */
static int decode(const struct vmdk_extent *e, const uint8_t *table, uint32_t i, struct vmdk_run *run)
{
    if (e->kind != VMDK_SESPARSE) {
        const uint32_t entry = ld32le(table + i * 4);
        run->place = (uint64_t)entry * BLOCK_SECTOR;
        run->state = !entry                                      ? VMDK_BELOW
                     : entry == 1 && e->flags & VMDK_ZERO_GRAINS ? VMDK_ZEROES
                     : e->flags & VMDK_COMPRESSED                ? VMDK_PACKED
                                                                 : VMDK_DATA;
        return 0;
    }
    const uint64_t entry = ld64le(table + i * 8);
    switch (entry >> 60) {
    case 0: run->state = VMDK_BELOW; return entry ? -EIO : 0;
    case 1: /* unmapped by the guest */
    case 2: run->state = VMDK_ZEROES; return 0;
    case 3:
        run->state = VMDK_DATA;
        run->place = bits_get(entry, 48, 12) | bits_get(entry, 0, 48) << 12;
        if (run->place >> 44)
            return -EIO;
        run->place = e->begin + run->place * e->grain;
        return 0;
    default: return -EIO;
    }
}

/* Does a grain's place make sense? A grain must not be what says where grains are. */
static bool is_place(const struct vmdk_extent *e, const struct vmdk_run *run)
{
    return (run->state != VMDK_DATA && run->state != VMDK_PACKED) ||
           (run->place >= MAX(e->begin, (uint64_t)BLOCK_SECTOR) && run->place < e->file->facts.size);
}

/* The grain with this index, where there is a table or not. */
static int grain_at(struct vmdk_extent *e, uint64_t grain, bool wait, struct vmdk_run *run)
{
    uint8_t *table;
    int status = vmdk_table(e, (uint32_t)(grain / e->entries), wait, &table);
    *run = (struct vmdk_run){.state = VMDK_BELOW};
    if (status || !table)
        return status;
    status = decode(e, table, (uint32_t)(grain % e->entries), run);
    return status || is_place(e, run) ? status : -EIO;
}

int vmdk_map(struct vmdk_extent *e, uint64_t at, uint64_t size, bool wait, struct vmdk_run *run)
{
    if (e->kind == VMDK_FLAT || e->kind == VMDK_ZERO) {
        *run = (struct vmdk_run){e->kind == VMDK_FLAT ? VMDK_DATA : VMDK_ZEROES, e->flat + at, size};
        return 0;
    }
    const uint64_t first = at / e->grain, end = at + size, skip = at % e->grain;
    int status = grain_at(e, first, wait, run);
    if (status)
        return status;
    uint64_t grain = first + 1;
    for (; run->state != VMDK_PACKED && grain * e->grain < end; grain++) {
        struct vmdk_run next;
        if (grain_at(e, grain, wait, &next) || next.state != run->state ||
            (next.state == VMDK_DATA && next.place - run->place != (grain - first) * e->grain))
            break;
    }
    run->size = MIN(end, grain * e->grain) - at;
    if (run->state == VMDK_DATA)
        run->place += skip;
    return 0;
}

int vmdk_read_file(struct disk *file, const struct iovec *iov, unsigned n, uint64_t place, uint64_t size,
                   unsigned flags)
{
    const uint64_t end = file->facts.size;
    if (range_inside(place, size, 0, end))
        return block_read(file, iov, n, place, flags);
    struct iovec there[BLOCK_IOV_MAX];
    struct block_cursor c = {.iov = iov};
    const uint64_t left = place < end ? end - place : 0;
    int status = left ? block_read(file, there, block_cursor_next(&c, left, there), place, flags) : 0;
    if (!status)
        block_cursor_zero(&c, size - left);
    return status;
}

/* --- changing --- */

void vmdk_set(struct vmdk_extent *e, uint64_t first, uint64_t n, uint64_t place)
{
    const bool zeroes = place == 1;
    for (uint64_t i = 0; i < n; i++) {
        struct vmdk_table *t = &e->tables[(first + i) / e->entries];
        const uint64_t sector = zeroes ? 1 : (place + i * e->grain) / BLOCK_SECTOR;
        st32le((uint8_t *)t->entries + (first + i) % e->entries * 4, (uint32_t)sector);
        t->dirty = true;
    }
}

static int write_entry(struct disk *file, uint64_t directory, uint32_t index, uint64_t place)
{
    uint8_t entry[4];
    st32le(entry, (uint32_t)(place / BLOCK_SECTOR));
    return block_pwrite(file, entry, sizeof(entry), directory + (uint64_t)index * sizeof(entry));
}

/* A table, all zero, at the end of the file. Images that others made may lack some; the lock is held
 * throughout, as that is rare. The table is durable before the directory names it. */
static int add_table(struct vmdk_extent *e, uint32_t index, uint64_t *directory, uint64_t directory_at)
{
    const uint64_t place = e->next;
    uint8_t *zeroes = g_try_malloc0(align_up(table_bytes(e), e->grain));
    if (!zeroes)
        return -ENOMEM;
    int status = place / BLOCK_SECTOR > UINT32_MAX
                     ? -ENOSPC
                     : block_pwrite(e->file, zeroes, align_up(table_bytes(e), e->grain), place);
    g_free(zeroes);
    if (!status)
        status = block_flush(e->file);
    if (!status)
        status = write_entry(e->file, directory_at, index, place);
    if (status)
        return status;
    e->next += align_up(table_bytes(e), e->grain);
    directory[index] = place;
    return 0;
}

/* One table, in the file and in memory. */
static int need_table(struct vmdk_extent *e, uint32_t index)
{
    uint8_t *table;
    int status = 0;
    if (e->rgd && !e->rgd[index])
        status = add_table(e, index, e->rgd, e->rgd_at);
    if (!status && !e->gd[index])
        status = add_table(e, index, e->gd, e->gd_at);
    return status ? status : vmdk_table(e, index, true, &table);
}

void vmdk_unpin(struct vmdk_extent *e, uint64_t first, uint64_t n)
{
    for (uint64_t i = first / e->entries; n && i <= (first + n - 1) / e->entries; i++)
        e->tables[i].pins--;
}

int vmdk_pin(struct vmdk_extent *e, uint64_t first, uint64_t n)
{
    for (uint64_t i = first / e->entries; i <= (first + n - 1) / e->entries; i++) {
        int status = need_table(e, (uint32_t)i);
        if (status) { /* those before it; the first of them may be in use in part */
            for (uint64_t p = first / e->entries; p < i; p++)
                e->tables[p].pins--;
            return status;
        }
        e->tables[i].pins++;
    }
    return 0;
}

/* --- the way to the file --- */

/* A flush's buffer holds tables of one extent, in the order of their indices. */
struct batch {
    struct vmdk_extent *e;
    uint32_t index[VMDK_BATCH / BLOCK_SECTOR];
    unsigned n;
};

/* Moves what is dirty of an extent, from table *from on, into the buffer. */
static void fill(struct vmdk *v, struct batch *b, struct vmdk_extent *e, uint32_t *from)
{
    const uint32_t bytes = table_bytes(e);
    b->e = e;
    b->n = 0;
    pthread_mutex_lock(&v->lock);
    for (; *from < e->tables_n && b->n < ARRAY_SIZE(b->index) && (b->n + 1) * bytes <= VMDK_BATCH; ++*from) {
        struct vmdk_table *t = &e->tables[*from];
        if (!t->dirty)
            continue;
        memcpy(v->batch + (size_t)b->n * bytes, t->entries, bytes);
        t->dirty = false;
        b->index[b->n++] = *from;
    }
    pthread_mutex_unlock(&v->lock);
}

/* Tables that lie side by side go in one write. */
static int write_tables(struct vmdk *v, const struct batch *b, const uint64_t *directory)
{
    const uint32_t bytes = table_bytes(b->e);
    for (unsigned i = 0, n; i < b->n; i += n) {
        const uint64_t place = directory[b->index[i]];
        for (n = 1; i + n < b->n && directory[b->index[i + n]] == place + (uint64_t)n * bytes; n++)
            ;
        int status = block_pwrite(b->e->file, v->batch + (size_t)i * bytes, (size_t)n * bytes, place);
        if (status)
            return status;
    }
    return 0;
}

static int flush_sparse(struct vmdk *v, struct vmdk_extent *e)
{
    struct batch b;
    uint32_t from = 0;
    int status = 0;
    for (bool again = true; again && !status;) {
        fill(v, &b, e, &from);
        again = from < e->tables_n;
        status = block_flush(e->file);
        if (!status && b.n && e->rgd)
            status = write_tables(v, &b, e->rgd);
        if (!status && b.n)
            status = write_tables(v, &b, e->gd);
        if (!status && b.n && !again)
            status = block_flush(e->file);
    }
    return status;
}

int vmdk_flush(struct disk *b)
{
    struct vmdk *v = vmdk_of(b);
    int status = 0;
    for (unsigned i = 0; i < v->extents_n && !status; i++) {
        struct vmdk_extent *e = &v->extents[i];
        if (e->kind == VMDK_SPARSE && !(e->flags & VMDK_COMPRESSED))
            status = flush_sparse(v, e);
        else if (e->file && e->file != b->below)
            status = block_flush(e->file);
    }
    /* The descriptor, and all of a stream. */
    if (!status && (v->extents_n != 1 || v->extents[0].file != b->below || v->stream))
        status = block_flush(b->below);
    return status;
}

bool vmdk_full(struct vmdk *v)
{
    bool full = false;
    pthread_mutex_lock(&v->lock);
    for (unsigned i = 0; i < v->extents_n; i++) {
        struct vmdk_extent *e = &v->extents[i];
        if (e->tables && held_enough(e)) {
            shrink(e);
            full |= held_enough(e);
        }
    }
    pthread_mutex_unlock(&v->lock);
    return full;
}
