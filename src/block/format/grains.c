/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The data path of formats whose tables of two levels say where each grain is; see grains.h. */
#include "block/format/grains.h"

#include <errno.h>
#include <string.h>

#include "block/below.h"
#include "block/scratch.h"

enum { COPY_BYTES = 64 * 1024 };

/* --- life --- */

void grains_init(struct grains *g, const struct grains_ops *ops, struct disk *disk)
{
    struct block_facts *f = &disk->facts;
    g->ops = ops;
    g->disk = disk;
    f->alignment = 1;
    f->preferred = 4096;
    f->granularity = BLOCK_SECTOR;
    f->cluster = 0;
    for (unsigned i = 0; i < g->extents_n; i++) {
        struct grains_extent *e = &g->extents[i];
        if (e->file)
            f->granularity = MAX(f->granularity, e->file->facts.granularity);
        if (e->tables)
            e->held_max = MAX(GRAINS_HELD / g->extents_n / (e->entries * e->entry_size), 4U);
        f->cluster = MAX(f->cluster, e->grain);
    }
    if (!f->readonly)
        g->batch = g_malloc(GRAINS_BATCH);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->released, NULL);
}

void grains_fini(struct grains *g)
{
    for (unsigned i = 0; i < g->extents_n; i++) {
        struct grains_extent *e = &g->extents[i];
        for (uint32_t t = 0; e->tables && t < e->tables_n; t++)
            g_free(e->tables[t].entries);
        g_free(e->tables);
        g_free(e->gd);
        g_free(e->rgd);
        g_free(e->name);
        if (e->owned)
            block_free(e->file);
    }
    g_clear_pointer(&g->extents, g_free);
    g->extents_n = 0;
    block_free(STEAL(g->base));
    if (!g->ops)
        return;
    pthread_cond_destroy(&g->released);
    pthread_mutex_destroy(&g->lock);
    g_clear_pointer(&g->batch, g_free);
}

int grains_begin(struct grains *g)
{
    if (atomic_load_explicit(&g->begun, memory_order_acquire))
        return 0;
    pthread_mutex_lock(&g->lock);
    int status = !g->begun && g->ops->begin ? g->ops->begin(g) : 0;
    if (!status)
        atomic_store_explicit(&g->begun, true, memory_order_release);
    pthread_mutex_unlock(&g->lock);
    return status;
}

/* --- where --- */

/* The extent that has this byte of the disk; there is one. */
static struct grains_extent *extent_at(struct grains *g, uint64_t offset)
{
    unsigned low = 0, high = g->extents_n;
    while (high - low > 1) {
        const unsigned middle = low + (high - low) / 2;
        if (g->extents[middle].start <= offset)
            low = middle;
        else
            high = middle;
    }
    return &g->extents[low];
}

/* --- reading --- */

static int read_run(struct grains *g, struct grains_extent *e, const struct grains_run *run,
                    struct block_cursor *c, uint64_t offset, unsigned flags)
{
    switch (run->state) {
    case GRAINS_BELOW: return block_read_padded(g->base, c, offset, run->size, flags);
    case GRAINS_ZEROES: block_cursor_zero(c, run->size); return 0;
    case GRAINS_DATA: return block_read_padded(e->file, c, run->place, run->size, flags);
    case GRAINS_PACKED:
        if (flags & BLOCK_NOWAIT)
            return -EAGAIN;
        return g->ops->read_packed ? g->ops->read_packed(g, e, c, offset - e->start, run->size, run->place)
                                   : -EIO;
    }
    return -EIO;
}

int grains_read(struct grains *g, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct block_cursor c = {.iov = iov};
    struct grains_run run;
    int status = 0;
    for (uint64_t size = block_iov_size(iov, n); size && !status; offset += run.size, size -= run.size) {
        struct grains_extent *e = extent_at(g, offset);
        const uint64_t at = offset - e->start;
        pthread_mutex_lock(&g->lock);
        status = grains_map(e, at, MIN(size, e->size - at), !(flags & BLOCK_NOWAIT), &run);
        pthread_mutex_unlock(&g->lock);
        if (!status)
            status = read_run(g, e, &run, &c, offset, flags);
    }
    return status;
}

/* --- claims; the lock is held --- */

static bool claimed(const struct grains *g, uint64_t from, uint64_t to)
{
    for (unsigned i = 0; i < g->claims_n; i++)
        if (g->claims[i].from < to && from < g->claims[i].to)
            return true;
    return false;
}

/* How the next bytes are kept, once nobody changes that. */
static int map_settled(struct grains *g, struct grains_extent *e, uint64_t at, uint64_t size,
                       struct grains_run *run)
{
    int status;
    while (!(status = grains_map(e, at, size, true, run))) {
        const uint64_t from = e->start + at;
        const uint64_t grain = e->grain ? e->grain : 1;
        /* A claim further on in the range ends the run before it. */
        if (run->state == GRAINS_DATA || !claimed(g, from, from + run->size))
            break;
        if (claimed(g, from, from + 1)) {
            pthread_cond_wait(&g->released, &g->lock);
            continue;
        }
        uint64_t now = grain - at % grain;
        while (now + grain <= run->size && !claimed(g, from + now, from + now + grain))
            now += grain;
        run->size = MIN(run->size, now);
        break;
    }
    return status;
}

static void unclaim(struct grains *g, uint64_t from)
{
    unsigned i = 0;
    while (g->claims[i].from != from)
        i++;
    g->claims[i] = g->claims[--g->claims_n];
    pthread_cond_broadcast(&g->released);
}

/* --- writing --- */

/* Bytes of the disk that a new grain must have beside those that are written: what is below goes to the
 * grain's place. */
static int copy_up(struct grains *g, struct grains_extent *e, uint64_t offset, uint64_t size, uint64_t place)
{
    uint8_t *bytes = block_scratch_take(COPY_BYTES);
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t now; size && !status; offset += now, place += now, size -= now) {
        now = MIN(size, (uint64_t)COPY_BYTES);
        const struct iovec iov = {bytes, now};
        struct block_cursor c = {.iov = &iov};
        status = block_read_padded(g->base, &c, offset, now, 0);
        if (!status)
            status = block_pwrite(e->file, bytes, now, place);
    }
    block_scratch_give(bytes);
    return status;
}

/* Where the file grows over a hole, its last bytes do. */
int grains_clear(struct grains_extent *e, uint64_t size, uint64_t place, bool last)
{
    if (e->file->facts.growable) {
        const uint64_t keep = last ? MIN(size, (uint64_t)BLOCK_SECTOR) : 0;
        if (!keep || e->file->facts.size >= place + size)
            return 0;
        return block_pwrite(e->file, block_zeroes(), keep, place + size - keep);
    }
    int status = 0;
    for (uint64_t now; size && !status; place += now, size -= now) {
        now = MIN(size, (uint64_t)BLOCK_ZEROES);
        status = block_pwrite(e->file, block_zeroes(), now, place);
    }
    return status;
}

static int fill_edge(struct grains *g, struct grains_extent *e, enum grains_state state, uint64_t offset,
                     uint64_t size, uint64_t place, bool last)
{
    if (!size)
        return 0;
    const bool below = state == GRAINS_BELOW && g->base && offset < g->base->facts.size;
    return below ? copy_up(g, e, offset, size, place) : grains_clear(e, size, place, last);
}

/* New grains for [at, at + run->size), whose bytes come from c. The grains are claimed. */
static int fill_grains(struct grains *g, struct grains_extent *e, uint64_t at, const struct grains_run *run,
                       struct block_cursor *c, uint64_t place)
{
    struct iovec iov[BLOCK_IOV_MAX];
    const uint64_t end = at + run->size, head = at % e->grain, tail = align_up(end, e->grain) - end;
    int status = fill_edge(g, e, run->state, e->start + at - head, head, place, false);
    if (!status)
        status = block_write(e->file, iov, block_cursor_next(c, run->size, iov), place + head);
    if (!status)
        status = fill_edge(g, e, run->state, e->start + end, tail, place + head + run->size, true);
    return status;
}

/* Gives grains without a place one. The lock is held, and is let go of while bytes are moved. */
static int write_new_locked(struct grains *g, struct grains_extent *e, uint64_t at,
                            const struct grains_run *run, struct block_cursor *c)
{
    const uint64_t first = at / e->grain, n = (at + run->size - 1) / e->grain - first + 1;
    int status = grains_pin(e, first, n);
    if (status)
        return status;
    const uint64_t place = e->next, end = place + n * e->grain;
    if (end > e->limit || (!e->file->facts.growable && end > e->file->facts.size)) {
        grains_unpin(e, first, n);
        return -ENOSPC;
    }
    e->next = end;
    const uint64_t from = e->start + first * e->grain;
    g->claims[g->claims_n++] = (struct grains_claim){from, from + n * e->grain};
    pthread_mutex_unlock(&g->lock);
    status = fill_grains(g, e, at, run, c, place);
    pthread_mutex_lock(&g->lock);
    if (!status)
        grains_set(e, first, n, place);
    grains_unpin(e, first, n);
    unclaim(g, from);
    return status;
}

/* Writes the first bytes of a range; how many in *done. */
static int write_some(struct grains *g, struct block_cursor *c, uint64_t offset, uint64_t size,
                      uint64_t *done)
{
    struct iovec iov[BLOCK_IOV_MAX];
    struct grains_extent *e = extent_at(g, offset);
    const uint64_t at = offset - e->start;
    struct grains_run run;
    pthread_mutex_lock(&g->lock);
    int status = map_settled(g, e, at, MIN(size, e->size - at), &run);
    while (!status && run.state != GRAINS_DATA && g->claims_n == GRAINS_CLAIMS) {
        pthread_cond_wait(&g->released, &g->lock);
        status = map_settled(g, e, at, MIN(size, e->size - at), &run);
    }
    const bool new = !status &&run.state != GRAINS_DATA;
    if (new)
        status = write_new_locked(g, e, at, &run, c);
    pthread_mutex_unlock(&g->lock);
    *done = run.size;
    return status || new ? status : block_write(e->file, iov, block_cursor_next(c, run.size, iov), run.place);
}

int grains_write(struct grains *g, const struct iovec *iov, unsigned n, uint64_t offset)
{
    struct block_cursor c = {.iov = iov};
    uint64_t size = block_iov_size(iov, n), done;
    int status = grains_begin(g);
    if (!status && grains_full(g))
        status = block_flush(g->disk);
    for (; size && !status; offset += done, size -= done)
        status = write_some(g, &c, offset, size, &done);
    return status;
}

/* --- space --- */

/* Zeroes as data, for what has no better way. */
static int write_zeroes(struct grains *g, uint64_t offset, uint64_t size, unsigned flags)
{
    int status = flags & BLOCK_ONLY_FAST ? -EOPNOTSUPP : 0;
    while (size && !status) {
        const struct iovec iov = {(void *)(uintptr_t)block_zeroes(), MIN(size, (uint64_t)BLOCK_ZEROES)};
        status = grains_write(g, &iov, 1, offset);
        offset += iov.iov_len;
        size -= iov.iov_len;
    }
    return status;
}

/* Whole grains that have no place become zero by their entries, where the image may have those. The lock is
 * held. *size becomes 0 when the entries cannot say it. */
static int zero_entries(struct grains_extent *e, uint64_t at, uint64_t *size)
{
    const uint64_t first = at / e->grain, end = at + *size;
    const uint64_t n = (end == e->size ? (end - 1) / e->grain + 1 : end / e->grain) - first;
    if (at % e->grain || !n || !e->zero_entries) {
        *size = 0;
        return 0;
    }
    int status = grains_pin(e, first, n);
    if (status)
        return status;
    grains_set(e, first, n, 1);
    grains_unpin(e, first, n);
    *size = MIN(*size, n * e->grain);
    return 0;
}

/* The first bytes of a range; how many in *done. */
static int zero_some(struct grains *g, uint64_t offset, uint64_t size, unsigned flags, uint64_t *done)
{
    struct grains_extent *e = extent_at(g, offset);
    const uint64_t at = offset - e->start;
    struct grains_run run;
    pthread_mutex_lock(&g->lock);
    int status = map_settled(g, e, at, MIN(size, e->size - at), &run);
    *done = run.size;
    const bool bare = !status && run.state == GRAINS_BELOW && g->base && offset < g->base->facts.size;
    uint64_t entries = run.size;
    if (bare)
        status = zero_entries(e, at, &entries);
    pthread_mutex_unlock(&g->lock);
    if (status)
        return status;
    if (run.state == GRAINS_DATA) {
        if (run.place + run.size > e->file->facts.size)
            return write_zeroes(g, offset, run.size, flags);
        return block_zero(e->file, run.place, run.size, flags);
    }
    if (bare && entries)
        *done = entries;
    else if (bare) { /* up to where entries can say it */
        *done = e->zero_entries ? MIN(run.size, e->grain - at % e->grain) : run.size;
        return write_zeroes(g, offset, *done, flags);
    }
    return 0;
}

int grains_zero(struct grains *g, uint64_t offset, uint64_t size, unsigned flags)
{
    uint64_t done;
    int status = grains_begin(g);
    if (!status && grains_full(g))
        status = block_flush(g->disk);
    for (; size && !status; offset += done, size -= done)
        status = zero_some(g, offset, size, flags, &done);
    return status;
}

/* What has a place keeps it, and its storage goes. */
int grains_discard(struct grains *g, uint64_t offset, uint64_t size)
{
    struct grains_run run;
    int status = grains_begin(g);
    for (; size && !status; offset += run.size, size -= run.size) {
        struct grains_extent *e = extent_at(g, offset);
        const uint64_t at = offset - e->start;
        pthread_mutex_lock(&g->lock);
        status = grains_map(e, at, MIN(size, e->size - at), true, &run);
        pthread_mutex_unlock(&g->lock);
        if (!status && run.state == GRAINS_DATA && run.place + run.size <= e->file->facts.size)
            status = block_discard(e->file, run.place, run.size);
    }
    return status;
}

int grains_extent(struct grains *g, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct grains_extent *e = extent_at(g, offset);
    const uint64_t at = offset - e->start;
    struct grains_run run;
    pthread_mutex_lock(&g->lock);
    int status = grains_map(e, at, MIN(size, e->size - at), true, &run);
    pthread_mutex_unlock(&g->lock);
    if (status)
        return status;
    *extent = (struct block_extent){.size = run.size, .place = BLOCK_NO_PLACE};
    switch (run.state) {
    case GRAINS_BELOW: return block_extent_below(g->base, offset, run.size, extent);
    case GRAINS_ZEROES: extent->zero = true; break;
    case GRAINS_PACKED: extent->compressed = true; break;
    case GRAINS_DATA:
        if (run.place + run.size <= e->file->facts.size)
            status = block_extent(e->file, run.place, run.size, extent);
        extent->depth = 0;
        extent->place = e->file == g->disk->below ? run.place : BLOCK_NO_PLACE;
    }
    return status;
}
