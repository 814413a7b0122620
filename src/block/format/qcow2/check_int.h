/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Of checking a qcow2 image: what refers to what, counted; shared by check.c, count.c and repair.c. */
#ifndef HOSTEL_BLOCK_FORMAT_QCOW2_CHECK_INT_H
#define HOSTEL_BLOCK_FORMAT_QCOW2_CHECK_INT_H

#include "block/format/qcow2/qcow2_int.h"

enum { QCOW2_LEAF = 4096 /* clusters counted in one piece of memory */ };

struct qcow2_leaf {
    uint32_t count[QCOW2_LEAF];
    uint64_t seen[QCOW2_LEAF / 64]; /* L2 tables that the L1 table at hand has had */
};

/* What is to be done to the image, found while counting. */
struct qcow2_counts {
    struct qcow2 *q;
    struct block_check *check;
    GHashTable *leaves;  /* cluster / QCOW2_LEAF -> struct qcow2_leaf, owned */
    uint64_t end;        /* clusters that the file has */
    uint64_t highest;    /* cluster that something refers to */
    uint64_t next_place; /* where the disk's next cluster would be in a row */
    bool quiet;          /* counts again: nothing is reported */
    bool no_refcounts;   /* refcount table and blocks are not counted: they are to be made anew */
    bool broken;         /* they cannot be used */
    bool too_much;       /* not all could be counted */
    bool unread;         /* nor could this be read: what seems to be a leak may be in use */
    uint64_t bad_entries;
    uint64_t work; /* entries looked at */
};

bool qcow2_counts_init(struct qcow2_counts *c, struct qcow2 *q, struct block_check *check);
void qcow2_counts_fini(struct qcow2_counts *c);
uint64_t qcow2_counts_get(const struct qcow2_counts *c, uint64_t cluster);
/* One more reference to what [offset, offset + size) touches; false when that is not in the file. */
bool qcow2_counts_add(struct qcow2_counts *c, uint64_t offset, uint64_t size);
struct qcow2_leaf *qcow2_counts_leaf(struct qcow2_counts *c, uint64_t cluster, bool make);

/* Everything that refers to clusters. */
bool qcow2_count_all(struct qcow2_counts *c, GError **error);
/* Can what an entry refers to be there? Counts nothing. */
bool qcow2_l1_entry_good(const struct qcow2_counts *c, uint64_t entry);
bool qcow2_l2_entry_good(const struct qcow2_counts *c, struct qcow2_entry e);
/* True the first time for each L2 table since qcow2_forget_seen(). */
bool qcow2_first_time(struct qcow2_counts *c, uint64_t cluster);
void qcow2_forget_seen(struct qcow2_counts *c);
void qcow2_say(struct qcow2_counts *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Is the flag of an entry as it should be, with so many references? Says so when not. */
enum qcow2_flag { QCOW2_FLAG_GOOD, QCOW2_FLAG_WRONG, QCOW2_FLAG_MISSING };
enum qcow2_flag qcow2_flag_of(uint64_t entry, uint64_t references);

/* Refcounts that differ: what is told of each. visit: 0 or -errno, which ends it. */
int qcow2_differences(struct qcow2_counts *c, int (*visit)(struct qcow2_counts *c, uint64_t cluster,
                                                           uint64_t refcount, uint64_t references));

/* repair.c */
int qcow2_repair_refcounts(struct qcow2_counts *c, bool raise, bool lower);
int qcow2_repair_entries(struct qcow2_counts *c);
int qcow2_repair_rebuild(struct qcow2_counts *c);

#endif
