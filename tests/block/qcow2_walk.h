/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Who owns which cluster of a qcow2 image, found in its bytes by code that shares nothing with the driver. */
#ifndef HOSTEL_TESTS_BLOCK_QCOW2_WALK_H
#define HOSTEL_TESTS_BLOCK_QCOW2_WALK_H

#include "store.h"

struct qcow2_walk {
    uint64_t clusters;           /* of the file */
    uint64_t owned, shared;      /* clusters with owners, with several */
    uint64_t compressed, leaked; /* host clusters with compressed data; refcount above owners */
    unsigned snapshots, largest; /* largest: number of owners */
};

/* Walks over all that the file's header leads to. NULL when no cluster has two owners but where that is
 * allowed (data and L2 tables of several snapshots, compressed data beside each other), and no refcount is
 * below the number of owners; settled: each is that number, and each COPIED flag as the refcount says. Else
 * what is wrong; owned. */
char *qcow2_walk(struct store *image, bool settled, struct qcow2_walk *out);

#endif
