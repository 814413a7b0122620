/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Checking images of grains: entries that name no grain, grains with two owners, grains with none, and
 * redundant tables that are not like the first ones. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/grains.h"

enum { MAP_MAX = 256 * 1024 * 1024 };

/* The look at one extent. */
struct look {
    struct grains *g;
    struct grains_extent *e;
    struct block_check *check;
    unsigned fix;
    uint64_t units;  /* of the file, of the size of a grain */
    uint64_t *used;  /* a bit for each */
    uint64_t before; /* where the last grain was */
};

/* What is wrong, and two numbers that say where. */
static void say(struct look *l, const char *what, uint64_t a, uint64_t b)
{
    block_check_say(l->check, "%.100s: %s: %" PRIu64 ", %" PRIu64, l->e->name, what, a, b);
}

/* Was any of this in use already? Is from now on. */
static bool mark(struct look *l, uint64_t place, uint64_t size)
{
    bool was = false;
    for (uint64_t i = place / l->e->grain; i <= (place + size - 1) / l->e->grain && i < l->units; i++) {
        was |= (l->used[i / 64] & BIT(i % 64)) != 0;
        l->used[i / 64] |= BIT(i % 64);
    }
    return was;
}

/* One entry of a table; false when it must go. */
static bool look_at_grain(struct look *l, uint64_t grain, uint64_t place)
{
    struct grains_extent *e = l->e;
    l->check->allocated++;
    if (place < MAX(e->begin, (uint64_t)BLOCK_SECTOR) || place >= e->file->facts.size ||
        (e->kind == GRAINS_BYTES && place % e->grain)) {
        say(l, "corrupt: a grain's entry names no place of the file (grain, byte)", grain, place);
        l->check->corruptions++;
        return false;
    }
    if (e->packed) {
        l->check->compressed++;
        if (l->g->ops->is_packed && !l->g->ops->is_packed(e, grain, place)) {
            say(l, "corrupt: a grain's marker is another grain's (grain, byte)", grain, place);
            l->check->corruptions++;
        }
        return true;
    }
    /* The next grain would be put where this one ends, in what the file does not have yet. */
    if (place + e->grain > align_up(e->file->facts.size, e->grain)) {
        say(l, "corrupt: a grain reaches behind the file's end (grain, byte)", grain, place);
        l->check->corruptions++;
    }
    if (mark(l, place, e->grain)) {
        say(l, "corrupt: a grain's place is in use by something else, too (grain, byte)", grain, place);
        l->check->corruptions++;
    }
    l->check->fragmented += place != l->before + e->grain && l->before;
    l->check->end = MAX(l->check->end, place + e->grain);
    l->before = place;
    return true;
}

static int look_at_table(struct look *l, uint32_t index)
{
    struct grains_extent *e = l->e;
    uint8_t *table;
    int status = grains_table(e, index, true, &table);
    if (status || !table)
        return status;
    for (uint32_t i = 0; i < e->entries; i++) {
        const uint64_t entry = grains_entry(e, table, i), grain = (uint64_t)index * e->entries + i;
        if (!entry || (entry == 1 && e->zero_entries))
            continue;
        if (!look_at_grain(l, grain, entry) && l->fix & BLOCK_FIX_ERRORS) {
            grains_set(e, grain, 1, 0);
            l->check->corruptions_fixed++;
        }
    }
    return 0;
}

/* The second copy of a table. After a power cut it may be ahead or behind, which harms nobody. */
static int look_at_copy(struct look *l, uint32_t index)
{
    struct grains_extent *e = l->e;
    const uint32_t size = e->entries * e->entry_size;
    uint8_t *table;
    int status = grains_table(e, index, true, &table);
    if (status || !table || !e->rgd || !e->rgd[index])
        return status;
    uint8_t *copy = g_malloc(size);
    status = block_pread(e->file, copy, size, e->rgd[index]);
    if (!status && memcmp(copy, table, size) != 0) {
        say(l, "leaked: a redundant table is not as the first one (table, sector)", index,
            e->rgd[index] / BLOCK_SECTOR);
        l->check->leaks++;
        if (l->fix) {
            grains_dirty(e, index);
            l->check->leaks_fixed++;
        }
    }
    g_free(copy);
    return status;
}

/* Grains without an owner; those at the end can go. */
static void look_for_leaks(struct look *l)
{
    struct grains_extent *e = l->e;
    uint64_t leaks = 0, tail = 0;
    for (uint64_t i = e->begin / e->grain; i < l->units; i++) {
        const bool used = l->used[i / 64] & BIT(i % 64);
        leaks += !used;
        tail = used ? 0 : tail + 1;
    }
    if (!leaks)
        return;
    say(l, "leaked: grains that nothing names (how many, of those at the end)", leaks, tail);
    l->check->leaks += leaks;
    if (l->fix & BLOCK_FIX_LEAKS && tail && !block_resize(e->file, (l->units - tail) * e->grain)) {
        l->check->leaks_fixed += tail;
        e->next = (l->units - tail) * e->grain;
    }
}

/* One piece of the file that holds a directory or a table. */
struct piece {
    uint64_t place, size;
};

static int by_place(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* Has the file room for all its tables? A directory of one table over and over would keep us for hours. */
static bool has_room(struct look *l)
{
    const struct grains_extent *e = l->e;
    const uint64_t size = (uint64_t)e->entries * e->entry_size;
    uint64_t n = 0;
    for (uint32_t i = 0; i < e->tables_n; i++)
        n += e->gd[i] != 0;
    if (n <= e->file->facts.size / size)
        return true;
    say(l, "corrupt: the directory names more tables than the file has room for (how many, bytes of one)", n,
        size);
    l->check->corruptions++;
    return false;
}

/* Directories and tables that share bytes: what is written to one would be seen in the other. */
static bool look_for_shared(struct look *l, uint64_t size, uint64_t directory, GError **error)
{
    const struct grains_extent *e = l->e;
    struct piece *pieces = g_try_malloc_n((size_t)e->tables_n * 2 + 2, sizeof(*pieces));
    size_t n = 0;
    if (!pieces)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: its tables are too many to be looked at", e->name);
    pieces[n++] = (struct piece){e->gd_at, directory};
    if (e->rgd)
        pieces[n++] = (struct piece){e->rgd_at, (uint64_t)e->tables_n * e->entry_size};
    for (uint32_t i = 0; i < e->tables_n; i++) {
        if (e->gd[i])
            pieces[n++] = (struct piece){e->gd[i], size};
        if (e->rgd && e->rgd[i])
            pieces[n++] = (struct piece){e->rgd[i], size};
    }
    qsort(pieces, n, sizeof(*pieces), by_place);
    for (size_t i = 1; i < n; i++)
        if (pieces[i].place - pieces[i - 1].place < pieces[i - 1].size) {
            say(l, "corrupt: two tables share bytes of the file (at, and at)", pieces[i - 1].place,
                pieces[i].place);
            l->check->corruptions++;
        }
    g_free(pieces);
    return true;
}

/* The tables are held in memory as they are looked at, within the cache's bound. */
static bool look_at_tables(struct look *l, GError **error)
{
    struct grains_extent *e = l->e;
    l->units = (e->file->facts.size + e->grain - 1) / e->grain;
    const uint64_t bytes = (l->units / 64 + 1) * 8, size = (uint64_t)e->entries * e->entry_size;
    l->used = bytes > MAP_MAX ? NULL : g_try_malloc0(bytes);
    if (!l->used)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: its grains are too many to be looked at", e->name);
    const uint64_t directory = MAX(e->directory_size, (uint64_t)e->tables_n * e->entry_size);
    if (!look_for_shared(l, size, directory, error)) {
        g_free(l->used);
        return false;
    }
    int status = 0;
    if (e->gd_at >= e->begin)
        mark(l, e->gd_at, directory);
    if (e->rgd && e->rgd_at >= e->begin)
        mark(l, e->rgd_at, (uint64_t)e->tables_n * e->entry_size);
    for (uint32_t i = 0; i < e->tables_n; i++) {
        if (e->gd[i] >= e->begin)
            mark(l, e->gd[i], size);
        if (e->rgd && e->rgd[i] >= e->begin)
            mark(l, e->rgd[i], size);
    }
    for (uint32_t i = 0; i < e->tables_n && !status; i++)
        status = look_at_table(l, i);
    for (uint32_t i = 0; i < e->tables_n && !status && e->rgd; i++)
        status = look_at_copy(l, i);
    if (!status && !(e->packed))
        look_for_leaks(l);
    l->check->errors += status != 0;
    g_free(l->used);
    return true;
}

/* Of ESX's extents: do the entries make sense? */
static void look_by_reading(struct look *l)
{
    struct grains_extent *e = l->e;
    struct grains_run run;
    for (uint64_t at = 0; at < e->size; at += run.size) {
        if (grains_map(e, at, e->size - at, true, &run)) {
            say(l, "corrupt: a grain's entry names no place of the file (grain, of)", at / e->grain,
                e->size / e->grain);
            l->check->corruptions++;
            run.size = MIN((uint64_t)e->grain, e->size - at);
        } else if (run.state == GRAINS_DATA) {
            l->check->allocated += (run.size + e->grain - 1) / e->grain;
        }
    }
}

bool grains_check(struct grains *g, unsigned fix, struct block_check *check, GError **error)
{
    bool good = true;
    if (g->disk->facts.readonly)
        fix = 0;
    for (unsigned i = 0; i < g->extents_n && good; i++) {
        struct look l = {.g = g, .e = &g->extents[i], .check = check, .fix = fix};
        if (l.e->kind == GRAINS_FLAT || l.e->kind == GRAINS_ZERO)
            continue;
        check->clusters += (l.e->size + l.e->grain - 1) / l.e->grain;
        if (!has_room(&l))
            continue;
        if (l.e->kind == GRAINS_SPARSE || l.e->kind == GRAINS_BYTES)
            good = look_at_tables(&l, error);
        else
            look_by_reading(&l);
    }
    if (!good || !fix)
        return good;
    int status = block_flush(g->disk);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot mend it: %s", g->disk->name,
                                  g_strerror(-status));
}
