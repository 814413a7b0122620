/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a guest's disk device sits on: it stays while the disks below it are exchanged. */
/*
 * Theory of operation
 *
 * Every operation passes a gate. Each thread has a lane of it (a line of the cache with a counter of those
 * inside, and the statistics of that lane), so threads do not get in each other's way. Closing the gate first
 * says so, then waits for every lane to be empty; whoever comes in first counts itself, then looks whether
 * the gate is closed. Both are sequentially consistent, so one of them sees the other: either the one who
 * closes waits, or the one who comes turns back and sleeps until the gate is open. A read that must not wait
 * is answered -EAGAIN.
 *
 * With the gate closed nothing is under way below, and the disk there is exchanged, made larger, or saved.
 * A request that waits at the gate is done after it, wholly.
 *
 * The root also knows what is to become of an operation that failed (the policy of the disk), for its device,
 * and tells the device what it must know. Jobs that copy behind the guest's back leave a `watch` with it.
 */
#ifndef HOSTEL_BLOCK_ROOT_H
#define HOSTEL_BLOCK_ROOT_H

#include "block/block.h"
#include "block/filter/ranges.h"
#include "block/filter/throttle.h"

/* A root over `to`, borrowed. Its name is the device's. */
struct disk *block_root_new(const char *name, struct disk *to);

/* NULL when b is none. */
struct disk *block_root_of(struct disk *b);

/* --- the gate; one thread (the main one) opens and closes --- */

/* Closes it; returns when nothing is under way below. What waits for its turn because of a limit of speed
 * goes at once. Pairs nest. */
void block_root_close(struct disk *root);
void block_root_open(struct disk *root);

/* Closed: below is another one from now on, borrowed; the root's size is that of it. */
void block_root_turn(struct disk *root, struct disk *to);
struct disk *block_root_target(struct disk *root);

/* The size below has changed: the root's follows, and the device is told. */
void block_root_resized(struct disk *root);

/* Limits of speed; they count from now on. */
void block_root_throttle(struct disk *root, const struct block_throttle *limits);
const struct block_throttle *block_root_limits(struct disk *root); /* all zero = none */

/* --- what failed --- */

enum block_policy { BLOCK_WAIT, BLOCK_ENOSPC, BLOCK_STOP, BLOCK_REPORT, BLOCK_IGNORE };

/* What its device does with a request that failed. */
enum block_verdict {
    BLOCK_VERDICT_REPORT, /* the guest is told */
    BLOCK_VERDICT_RETRY,  /* kept, and tried again after a while */
    BLOCK_VERDICT_KEEP,   /* kept, and tried again when told to (`again`): the guest is stopped */
    BLOCK_VERDICT_IGNORE, /* done, for the guest */
};

/* By name ("wait", "enospc", "stop", "report", "ignore"). False when there is none such. */
bool block_policy_find(const char *name, enum block_policy *policy);

/* For errors of reading, and of everything else. failed(opaque, ...) is told of each, on the thread that
 * failed. */
struct block_trouble {
    bool write, no_space;
    int status;
    enum block_verdict verdict;
};
void block_root_policy(struct disk *root, enum block_policy reading, enum block_policy writing,
                       void (*failed)(void *opaque, const struct block_trouble *t), void *opaque);

/* Of an operation of its disk that failed with status; b may be any disk: then full storage is waited for. */
struct block_trouble block_root_judge(struct disk *b, bool write, int status);
/* Tells failed(). A request that is kept is in its list by then: whoever is told may let it be tried again at
 * once. */
void block_root_tell(struct disk *b, const struct block_trouble *t);

/* --- its device --- */

struct block_root_ops {
    /* No request may begin, nor be tried again, until release; returns when none is under way. */
    void (*hold)(void *opaque);
    void (*release)(void *opaque);
    /* What was kept is tried again. */
    void (*again)(void *opaque);
    /* The disk's size is another one. */
    void (*resized)(void *opaque);
};

/* From its init; ops NULL: from its destroy. b that is no root is fine. */
void block_root_attach(struct disk *b, const struct block_root_ops *ops, void *opaque);

/* For whoever owns the root: tells the device, if there is one. */
void block_root_hold(struct disk *root);
void block_root_release(struct disk *root);
void block_root_again(struct disk *root);

/* --- statistics --- */

enum block_count { BLOCK_COUNT_READ, BLOCK_COUNT_WRITE, BLOCK_COUNT_FLUSH, BLOCK_COUNT_UNMAP, BLOCK_COUNTS };

struct block_counts {
    struct {
        uint64_t operations, bytes, failed, ns; /* ns: that they took together */
    } kind[BLOCK_COUNTS];
    uint64_t highest; /* where the write ended that ended last on the disk */
};
void block_root_counts(struct disk *root, struct block_counts *counts);

/* --- jobs --- */

/* A bit for each piece of the disk that was changed. */
struct block_dirty {
    unsigned shift; /* log2 of a piece's bytes */
    _Atomic uint64_t *bits;
};

struct block_watch {
    struct block_ranges *ranges; /* taken around every change; or NULL */
    struct block_dirty *dirty;   /* told after every change, also one that failed; or NULL */
};

/* Closed: from now on, borrowed; NULL = none. */
void block_root_watch(struct disk *root, const struct block_watch *watch);

#endif
