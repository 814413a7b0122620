/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a disk may hold after a power cut: for each sector, all that was ever put there, and when. */
/*
 * The changes of a script are numbered. At a cut, those before `floor` are durable and those from `begun` on
 * had not begun, so a sector holds the last thing put there before floor, or any later one before begun.
 */
#ifndef HOSTEL_TESTS_POWERCUT_MODEL_H
#define HOSTEL_TESTS_POWERCUT_MODEL_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum version_kind {
    VERSION_ZERO,
    VERSION_STAMP, /* image_stamp(writer) */
    VERSION_ANY,   /* discarded: zero, garbage, or what was ever there */
    VERSION_GONE,  /* cut off: likewise, but zero if the disk grows again */
};

struct version {
    uint32_t op;
    enum version_kind kind;
    uint32_t writer;
};

/* A snapshot: which version of each sector it holds. */
struct frozen {
    char *name;
    uint32_t made, deleted; /* op; UINT32_MAX = was not */
    uint64_t sectors;
    uint32_t *version; /* index into the sector's versions */
};

/* An op of the script; begin and end are counts of the host's notes. */
struct op {
    unsigned begin, end;
    bool durable; /* when it ends, so is all before it */
    bool whole;   /* happens to the whole disk or not at all */
    bool failed;  /* it said so: each sector may hold what it was to put there, or not */
};

struct model {
    uint64_t sectors_max;
    GArray **versions; /* of struct version, for each sector */
    GArray *sizes;     /* of struct version: writer = sectors */
    GArray *ops;       /* of struct op */
    GPtrArray *frozen; /* of struct frozen */
};

/* Where a power cut is in all that happened. */
struct moment {
    uint32_t floor, begun;
    bool running; /* the op begun - 1 had not ended */
};

struct model *model_new(uint64_t sectors, uint64_t base_sectors, uint64_t sectors_max);
void model_free(struct model *m);

/* begin: the next op's number; end: it is over. */
uint32_t model_begin(struct model *m, unsigned notes);
void model_end(struct model *m, unsigned notes, bool durable, bool whole);

/* The op begun last has failed; before it puts anything anywhere. */
void model_fail(struct model *m);

/* What is not durable may be lost: it counts as failed. */
void model_lose(struct model *m);

/* The op begun last puts this there. */
void model_put(struct model *m, uint64_t sector, uint64_t count, enum version_kind kind);
void model_size(struct model *m, uint64_t sectors);
void model_found_size(struct model *m, uint64_t sectors); /* whatever had failed: it is this one */
void model_freeze(struct model *m, const char *name);
void model_thaw(struct model *m, struct frozen *f); /* what it holds is on the disk again */
void model_delete(struct model *m, struct frozen *f);

/* Sectors now. */
uint64_t model_sectors(const struct model *m);

struct moment model_moment(const struct model *m, unsigned notes);

/* Is it right? Else the sector's sentence, owned. */
char *model_check_size(const struct model *m, struct moment at, uint64_t sectors);
char *model_check(const struct model *m, struct moment at, uint64_t sector, const uint8_t *bytes);
char *model_check_frozen(const struct model *m, const struct frozen *f, uint64_t sector,
                         const uint8_t *bytes);

#endif
