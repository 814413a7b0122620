/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A long random sequence of operations on an image, all that reached its file noted. */
#ifndef HOSTEL_TESTS_POWERCUT_SCRIPT_H
#define HOSTEL_TESTS_POWERCUT_SCRIPT_H

#include "../images.h"
#include "block/filter/fault.h"
#include "block/filter/recorder.h"
#include "model.h"

enum script_kind {
    SCRIPT_WRITE,
    SCRIPT_READ,
    SCRIPT_ZERO,
    SCRIPT_DISCARD,
    SCRIPT_COMPRESSED,
    SCRIPT_FLUSH,
    SCRIPT_RESIZE,
    SCRIPT_REOPEN,
    SCRIPT_REPAIR,
    SCRIPT_SNAPSHOT,
    SCRIPT_APPLY,
    SCRIPT_DELETE,
    SCRIPT_KINDS,
};

/* Which operations on the file shall fail; see block_fault_set(). */
struct script_fault {
    enum block_fault_kind kind;
    unsigned first, count; /* count 0: none */
    int error;
    uint64_t partial;
};

struct script {
    const struct image_setup *setup;
    uint32_t seed;
    GRand *rand;
    struct store *first, *live, *base; /* the image before and after; base may be NULL */
    bool garbage;                      /* what the host discards reads as garbage */
    struct block_record *record;
    struct model *model;
    struct disk *disk;  /* NULL: it could not be opened again after a fault */
    struct disk *fault; /* below it */
    struct script_fault plan;
    unsigned armed;                   /* operation of this opening that fails first */
    unsigned seen[BLOCK_FAULT_KINDS]; /* by the filters of earlier openings */
    bool lost;       /* a flush of the host failed: no flush succeeds until the disk is opened again */
    unsigned failed; /* ops that said so */
    unsigned names;
    unsigned done[SCRIPT_KINDS];
};

/* Runs one until the host has seen about `notes` changes. What goes wrong ends the program, but for what a
 * fault (NULL = none) has made fail. */
struct script *script_run(const struct image_setup *setup, uint32_t seed, unsigned notes,
                          const struct script_fault *fault);
void script_free(struct script *s);

/* Operations of a kind that have reached the file. */
unsigned script_count(const struct script *s, enum block_fault_kind kind);

/* Has the planned fault happened? */
bool script_fired(const struct script *s);

/* Does the format have the operation? */
bool script_can(const struct image_setup *setup, enum script_kind kind);
const char *script_kind_name(enum script_kind kind);

#endif
