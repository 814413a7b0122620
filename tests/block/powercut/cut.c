/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Cut images; see cut.h. */
#include "cut.h"

static uint32_t pick(struct cutter *c, uint32_t below)
{
    return g_rand_int(c->rand) % below;
}

/* A write of which some pieces reached the disk: the first ones, or any. */
static void apply_torn(struct cutter *c, struct store *s, const struct block_note *note, uint32_t piece)
{
    const uint64_t first = note->offset / piece, last = (note->offset + note->size - 1) / piece;
    const bool any = pick(c, 2);
    const uint64_t stop = first + pick(c, (uint32_t)MIN(last - first + 1, 1 << 20));
    for (uint64_t i = first; i <= last; i++) {
        const uint64_t from = MAX(note->offset, i * piece),
                       to = MIN(note->offset + note->size, (i + 1) * piece);
        if (any ? pick(c, 2) : i < stop)
            store_write(s, note->bytes + (from - note->offset), to - from, from);
    }
}

static void apply(const struct cutter *c, struct store *s, const struct block_note *note)
{
    switch (note->kind) {
    case BLOCK_NOTE_WRITE: store_write(s, note->bytes, note->size, note->offset); break;
    case BLOCK_NOTE_ZERO: store_fill(s, 0, note->size, note->offset); break;
    case BLOCK_NOTE_DISCARD: store_fill(s, c->garbage ? STORE_GARBAGE : 0, note->size, note->offset); break;
    case BLOCK_NOTE_RESIZE: store_resize(s, note->size); break;
    case BLOCK_NOTE_FLUSH: break;
    }
}

void cutter_init(struct cutter *c, const struct block_record *record, const struct store *first, bool garbage,
                 uint32_t seed)
{
    *c = (struct cutter){.record = record,
                         .rand = g_rand_new_with_seed(seed),
                         .durable = store_copy(first),
                         .prefix = store_copy(first),
                         .garbage = garbage};
}

void cutter_fini(struct cutter *c)
{
    store_free(c->durable);
    store_free(c->prefix);
    g_rand_free(c->rand);
}

/* The script has one thread: what comes before a flush in the record had ended when it began. */
bool cutter_step(struct cutter *c)
{
    if (c->at == c->record->notes->len)
        return false;
    const struct block_note *note = block_record_note(c->record, c->at++);
    apply(c, c->prefix, note);
    if (note->kind == BLOCK_NOTE_FLUSH) {
        store_free(c->durable);
        c->durable = store_copy(c->prefix);
        c->durable_end = c->at;
    }
    return true;
}

struct store *cutter_prefix(struct cutter *c, char **how)
{
    *how = g_strdup_printf("after note %u", c->at);
    return store_copy(c->prefix);
}

/* Puts the notes of a stretch without a change of size into another order. */
static void shuffle(struct cutter *c, const struct block_note **notes, unsigned count)
{
    for (unsigned from = 0, to; from < count; from = to + 1) {
        for (to = from; to < count && notes[to]->kind != BLOCK_NOTE_RESIZE; to++)
            ;
        for (unsigned i = to; i > from + 1; i--) {
            const unsigned j = from + pick(c, i - from);
            const struct block_note *note = notes[j];
            notes[j] = notes[i - 1];
            notes[i - 1] = note;
        }
    }
}

struct store *cutter_subset(struct cutter *c, char **how)
{
    const unsigned count = c->at - c->durable_end;
    const uint32_t keep = 1 + pick(c, 15), torn = pick(c, 3) ? 0 : 4; /* of 16 */
    const bool mixed = !pick(c, 3);
    struct store *s = store_copy(c->durable);
    GString *line = g_string_new(NULL);
    g_string_printf(line, "%u notes are durable, and:", c->durable_end);
    g_autofree const struct block_note **notes = g_new(const struct block_note *, count);
    unsigned n = 0;
    for (unsigned i = 0; i < count; i++)
        if (pick(c, 16) < keep) {
            notes[n++] = block_record_note(c->record, c->durable_end + i);
            g_string_append_printf(line, " %u", c->durable_end + i);
        }
    if (mixed) {
        shuffle(c, notes, n);
        g_string_append(line, " reordered");
    }
    if (torn)
        g_string_append(line, " torn");
    for (unsigned i = 0; i < n; i++) {
        if (notes[i]->kind == BLOCK_NOTE_WRITE && pick(c, 16) < torn)
            apply_torn(c, s, notes[i], pick(c, 2) ? 512 : 4096);
        else
            apply(c, s, notes[i]);
    }
    *how = g_string_free(line, FALSE);
    return s;
}
