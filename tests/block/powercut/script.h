/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A long random sequence of operations on an image, all that reached its file noted. */
#ifndef HOSTEL_TESTS_POWERCUT_SCRIPT_H
#define HOSTEL_TESTS_POWERCUT_SCRIPT_H

#include "../images.h"
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

struct script {
    const struct image_setup *setup;
    GRand *rand;
    struct store *first, *live, *base; /* the image before and after; base may be NULL */
    bool garbage;                      /* what the host discards reads as garbage */
    struct block_record *record;
    struct model *model;
    struct disk *disk;
    unsigned names;
    unsigned done[SCRIPT_KINDS];
};

/* Runs one until the host has seen about `notes` changes. What goes wrong ends the program. */
struct script *script_run(const struct image_setup *setup, uint32_t seed, unsigned notes);
void script_free(struct script *s);

/* Does the format have the operation? */
bool script_can(const struct image_setup *setup, enum script_kind kind);
const char *script_kind_name(enum script_kind kind);

#endif
