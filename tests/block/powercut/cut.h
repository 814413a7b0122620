/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What may be left of an image's file when the power fails, made of the notes of what reached it. */
/*
 * Notes that a flush made durable are there. Of the others any part may be: in any order, writes in pieces
 * of a sector (512 bytes, or 4 KiB), sizes in the order in which the file had them; what was discarded may
 * still be there, be zero, or be garbage.
 */
#ifndef HOSTEL_TESTS_POWERCUT_CUT_H
#define HOSTEL_TESTS_POWERCUT_CUT_H

#include "../store.h"
#include "block/filter/recorder.h"

struct cutter {
    const struct block_record *record;
    GRand *rand;
    unsigned durable_end, at; /* notes: all before are in `durable`, in `prefix` */
    struct store *durable, *prefix;
    bool garbage; /* as with the script's disk */
};

/* first is borrowed: the file before the first note. */
void cutter_init(struct cutter *c, const struct block_record *record, const struct store *first, bool garbage,
                 uint32_t seed);
void cutter_fini(struct cutter *c);

/* One more note has happened. False at the end. */
bool cutter_step(struct cutter *c);

/* The file when everything up to here is there; when some of what is not durable is. Owned. *how: a
 * sentence on it, owned. */
struct store *cutter_prefix(struct cutter *c, char **how);
struct store *cutter_subset(struct cutter *c, char **how);

#endif
