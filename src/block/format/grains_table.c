/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The tables of grains: a cache, what their entries mean, and how they reach the file. */
#include <errno.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "block/format/grains.h"

static uint32_t table_bytes(const struct grains_extent *e)
{
    return e->entries * e->entry_size;
}

enum { LOOK_MAX = 1 << 20 /* grains of one run */ };

static bool is_dirty(const struct grains_table *t)
{
    return t->dirty_from < t->dirty_to;
}

/* --- reading --- */

/* Forgets tables that are in the file as they are. */
static void shrink(struct grains_extent *e)
{
    for (uint32_t i = 0; i < e->tables_n; i++)
        if (e->tables[i].entries && e->gd[i] && !is_dirty(&e->tables[i]) && !e->tables[i].pins) {
            g_free(STEAL(e->tables[i].entries));
            e->tables_held--;
        }
}

static bool held_enough(const struct grains_extent *e)
{
    return e->tables_held >= (e->held_max ? e->held_max : GRAINS_HELD / table_bytes(e));
}

int grains_table(struct grains_extent *e, uint32_t index, bool wait, uint8_t **table)
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

uint64_t grains_entry(const struct grains_extent *e, const uint8_t *table, uint32_t i)
{
    if (e->entry_size == 8)
        return ld64le(table + (size_t)i * 8);
    const uint32_t entry = ld32le(table + (size_t)i * 4);
    return entry == 1 && e->zero_entries ? 1 : (uint64_t)entry * BLOCK_SECTOR;
}

static int decode_sesparse(const struct grains_extent *e, uint64_t entry, struct grains_run *run)
{
    switch (entry >> 60) {
    case 0: run->state = GRAINS_BELOW; return entry ? -EIO : 0;
    case 1: /* unmapped by the guest */
    case 2: run->state = GRAINS_ZEROES; return 0;
    case 3:
        run->state = GRAINS_DATA;
        run->place = bits_get(entry, 48, 12) | bits_get(entry, 0, 48) << 12;
        if (run->place >> 44)
            return -EIO;
        run->place = e->begin + run->place * e->grain;
        return 0;
    default: return -EIO;
    }
}

/* What one entry means. */
static int decode(const struct grains_extent *e, const uint8_t *table, uint32_t i, struct grains_run *run)
{
    const uint64_t entry = grains_entry(e, table, i);
    if (e->kind == GRAINS_SESPARSE)
        return decode_sesparse(e, entry, run);
    run->place = entry;
    run->state = e->packed ? GRAINS_PACKED : GRAINS_DATA;
    if (!entry)
        run->state = GRAINS_BELOW;
    else if (entry == 1 && e->zero_entries)
        run->state = GRAINS_ZEROES;
    return 0;
}

/* Does a grain's place make sense? A grain must not be what says where grains are. */
static bool is_place(const struct grains_extent *e, const struct grains_run *run)
{
    return (run->state != GRAINS_DATA && run->state != GRAINS_PACKED) ||
           (run->place >= MAX(e->begin, (uint64_t)BLOCK_SECTOR) && run->place < e->file->facts.size &&
            (e->kind != GRAINS_BYTES || run->place % e->grain == 0));
}

/* The grain with this index, where there is a table or not. */
static int grain_at(struct grains_extent *e, uint64_t grain, bool wait, struct grains_run *run)
{
    uint8_t *table;
    int status = grains_table(e, (uint32_t)(grain / e->entries), wait, &table);
    *run = (struct grains_run){.state = GRAINS_BELOW};
    if (status || !table)
        return status;
    status = decode(e, table, (uint32_t)(grain % e->entries), run);
    return status || is_place(e, run) ? status : -EIO;
}

/* Is there no table for these grains? */
static bool is_missing(const struct grains_extent *e, uint64_t index)
{
    return !e->gd[index] && !e->tables[index].entries;
}

int grains_map(struct grains_extent *e, uint64_t at, uint64_t size, bool wait, struct grains_run *run)
{
    if (e->kind == GRAINS_FLAT || e->kind == GRAINS_ZERO) {
        *run = (struct grains_run){e->kind == GRAINS_FLAT ? GRAINS_DATA : GRAINS_ZEROES, e->flat + at, size};
        return 0;
    }
    const uint64_t first = at / e->grain, end = at + size, skip = at % e->grain;
    int status = grain_at(e, first, wait, run);
    if (status)
        return status;
    uint64_t grain = first + 1;
    unsigned left = LOOK_MAX; /* a damaged image may have one table in many places */
    for (; run->state != GRAINS_PACKED && grain * e->grain < end && left; grain++) {
        struct grains_run next;
        if (run->state == GRAINS_BELOW && grain % e->entries == 0 && is_missing(e, grain / e->entries)) {
            grain += e->entries - 1; /* none of its grains is there */
            continue;
        }
        left--;
        if (grain_at(e, grain, wait, &next) || next.state != run->state ||
            (next.state == GRAINS_DATA && next.place - run->place != (grain - first) * e->grain))
            break;
    }
    run->size = MIN(end, grain * e->grain) - at;
    if (run->state == GRAINS_DATA)
        run->place += skip;
    return 0;
}

/* --- changing --- */

/* Bytes of a table have changed. */
static void touch(struct grains_table *t, uint32_t from, uint32_t to)
{
    from -= from % BLOCK_SECTOR;
    to = (uint32_t)align_up(to, BLOCK_SECTOR);
    t->dirty_from = is_dirty(t) ? MIN(t->dirty_from, from) : from;
    t->dirty_to = MAX(t->dirty_to, to);
}

void grains_dirty(struct grains_extent *e, uint32_t index)
{
    touch(&e->tables[index], 0, table_bytes(e));
}

void grains_set(struct grains_extent *e, uint64_t first, uint64_t n, uint64_t place)
{
    for (uint64_t i = 0; i < n; i++) {
        struct grains_table *t = &e->tables[(first + i) / e->entries];
        const uint32_t at = (uint32_t)((first + i) % e->entries) * e->entry_size;
        const uint64_t entry = place > 1 ? place + i * e->grain : place;
        if (e->kind == GRAINS_BYTES)
            st64le((uint8_t *)t->entries + at, entry);
        else
            st32le((uint8_t *)t->entries + at, (uint32_t)(place > 1 ? entry / BLOCK_SECTOR : entry));
        touch(t, at, at + e->entry_size);
    }
}

static int write_entry(struct grains_extent *e, uint64_t directory, uint32_t index, uint64_t place)
{
    uint8_t entry[8];
    if (e->kind == GRAINS_BYTES)
        st64le(entry, place);
    else
        st32le(entry, (uint32_t)(place / BLOCK_SECTOR));
    return block_pwrite(e->file, entry, e->entry_size, directory + (uint64_t)index * e->entry_size);
}

/* A table, all zero, at the end of the file. The lock is held throughout, as that is rare: a table stands for
 * many grains. It is durable before the directory names it. */
static int add_table(struct grains_extent *e, uint32_t index, uint64_t *directory, uint64_t directory_at)
{
    const uint64_t place = e->next, size = align_up(table_bytes(e), e->grain);
    if (place + size > e->limit || (!e->file->facts.growable && place + size > e->file->facts.size))
        return -ENOSPC;
    int status = grains_clear(e, size, place, true);
    if (!status)
        status = block_flush(e->file);
    if (!status)
        status = write_entry(e, directory_at, index, place);
    if (status)
        return status;
    e->next += size;
    directory[index] = place;
    return 0;
}

/* One table, in the file and in memory. */
static int need_table(struct grains_extent *e, uint32_t index)
{
    uint8_t *table;
    int status = 0;
    if (e->rgd && !e->rgd[index])
        status = add_table(e, index, e->rgd, e->rgd_at);
    if (!status && !e->gd[index])
        status = add_table(e, index, e->gd, e->gd_at);
    return status ? status : grains_table(e, index, true, &table);
}

void grains_unpin(struct grains_extent *e, uint64_t first, uint64_t n)
{
    for (uint64_t i = first / e->entries; n && i <= (first + n - 1) / e->entries; i++)
        e->tables[i].pins--;
}

int grains_pin(struct grains_extent *e, uint64_t first, uint64_t n)
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

/* A flush's buffer holds pieces of an extent's tables, in the order of their indices. */
struct batch {
    struct grains_extent *e;
    unsigned n;
    size_t used; /* bytes */
    struct piece {
        uint32_t index, from, size;
    } pieces[GRAINS_BATCH / BLOCK_SECTOR];
};

/* Moves what is dirty of an extent, from table *from on, into the buffer. */
static void fill(struct grains *g, struct batch *b, struct grains_extent *e, uint32_t *from)
{
    b->e = e;
    b->n = 0;
    b->used = 0;
    pthread_mutex_lock(&g->lock);
    while (*from < e->tables_n && b->used < GRAINS_BATCH) {
        struct grains_table *t = &e->tables[*from];
        if (!is_dirty(t)) {
            ++*from;
            continue;
        }
        const uint32_t size = MIN(t->dirty_to - t->dirty_from, (uint32_t)(GRAINS_BATCH - b->used));
        memcpy(g->batch + b->used, (uint8_t *)t->entries + t->dirty_from, size);
        b->pieces[b->n++] = (struct piece){*from, t->dirty_from, size};
        b->used += size;
        t->dirty_from += size;
        if (!is_dirty(t))
            t->dirty_from = t->dirty_to = 0;
    }
    pthread_mutex_unlock(&g->lock);
}

/* Pieces that lie side by side go in one write. */
static int write_tables(struct grains *g, const struct batch *b, const uint64_t *directory)
{
    size_t at = 0, size;
    for (unsigned i = 0; i < b->n; at += size) {
        const uint64_t place = directory[b->pieces[i].index] + b->pieces[i].from;
        size = b->pieces[i++].size;
        while (i < b->n && directory[b->pieces[i].index] + b->pieces[i].from == place + size)
            size += b->pieces[i++].size;
        int status = block_pwrite(b->e->file, g->batch + at, size, place);
        if (status)
            return status;
    }
    return 0;
}

static int flush_tables(struct grains *g, struct grains_extent *e)
{
    struct batch b;
    uint32_t from = 0;
    int status = 0;
    for (bool again = true; again && !status;) {
        fill(g, &b, e, &from);
        again = from < e->tables_n;
        status = block_flush(e->file);
        if (!status && b.n && e->rgd)
            status = write_tables(g, &b, e->rgd);
        if (!status && b.n)
            status = write_tables(g, &b, e->gd);
        if (!status && b.n && !again)
            status = block_flush(e->file);
    }
    return status;
}

int grains_flush(struct grains *g)
{
    bool below = false;
    int status = 0;
    for (unsigned i = 0; i < g->extents_n && !status; i++) {
        struct grains_extent *e = &g->extents[i];
        if (e->tables && !e->packed)
            status = flush_tables(g, e);
        else if (e->file)
            status = block_flush(e->file);
        below |= e->file == g->disk->below;
    }
    return status || below ? status : block_flush(g->disk->below);
}

bool grains_full(struct grains *g)
{
    bool full = false;
    pthread_mutex_lock(&g->lock);
    for (unsigned i = 0; i < g->extents_n; i++) {
        struct grains_extent *e = &g->extents[i];
        if (e->tables && held_enough(e)) {
            shrink(e);
            full |= held_enough(e);
        }
    }
    pthread_mutex_unlock(&g->lock);
    return full;
}

/* --- the end --- */

bool grains_find_end(struct grains_extent *e)
{
    e->next = MAX(e->begin, e->file->facts.size);
    if (!e->file->facts.growable) { /* its size says nothing */
        e->next = e->begin;
        for (uint32_t t = 0; t < e->tables_n; t++) {
            uint8_t *table;
            if (grains_table(e, t, true, &table))
                return false;
            for (uint32_t i = 0; table && i < e->entries; i++)
                e->next = MAX(e->next, MIN(grains_entry(e, table, i), e->file->facts.size) + e->grain);
            e->next = MAX(e->next, e->gd[t] + table_bytes(e));
            e->next = MAX(e->next, e->rgd ? e->rgd[t] + table_bytes(e) : 0);
        }
    }
    e->next = align_up(e->next, e->grain);
    return true;
}

int grains_more(struct grains_extent *e, uint32_t n)
{
    uint64_t **const directories[] = {&e->gd, &e->rgd};
    if (n <= e->tables_n)
        return 0;
    for (unsigned i = 0; i < ARRAY_SIZE(directories); i++) {
        uint64_t *more = *directories[i] ? g_try_renew(uint64_t, *directories[i], n) : NULL;
        if (*directories[i] && !more)
            return -ENOMEM;
        if (more)
            memset(more + e->tables_n, 0, (n - e->tables_n) * sizeof(*more));
        if (more)
            *directories[i] = more;
    }
    struct grains_table *tables = g_try_renew(struct grains_table, e->tables, n);
    if (!tables)
        return -ENOMEM;
    memset(tables + e->tables_n, 0, (n - e->tables_n) * sizeof(*tables));
    e->tables = tables;
    return 0;
}

int grains_clear_tail(struct grains_extent *e)
{
    const uint64_t used = e->size % e->grain;
    struct grains_run run;
    if (!used)
        return 0;
    int status = grains_map(e, e->size - 1, 1, true, &run);
    if (status || run.state != GRAINS_DATA)
        return status;
    const uint64_t size = e->grain - used;
    uint8_t *zeroes = g_try_malloc0(size);
    status = zeroes ? block_pwrite(e->file, zeroes, size, run.place + 1) : -ENOMEM;
    g_free(zeroes);
    return status;
}
