/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A filter that fails on purpose, for tests: the Nth operation of a kind ends with an error, or waits. */
#ifndef HOSTEL_BLOCK_FAULT_H
#define HOSTEL_BLOCK_FAULT_H

#include "block/block.h"

enum block_fault_kind {
    BLOCK_FAULT_READ,
    BLOCK_FAULT_WRITE,
    BLOCK_FAULT_FLUSH,
    BLOCK_FAULT_DISCARD,
    BLOCK_FAULT_ZERO,
    BLOCK_FAULT_RESIZE,
    BLOCK_FAULT_KINDS,
};

/* Takes below. Until told otherwise it does nothing but count. */
struct disk *block_fault_new(struct disk *below);

/* From now on the operation of this kind with number `first` (0 = the next one) and the `count - 1` behind it
 * fail with error (-errno). A write stores its first `partial` bytes before. */
void block_fault_set(struct disk *filter, enum block_fault_kind kind, unsigned first, unsigned count,
                     int error, uint64_t partial);

/* Operations of the kind so far, failed ones included. */
unsigned block_fault_count(struct disk *filter, enum block_fault_kind kind);

/* Closed: operations wait until it is opened; reads with BLOCK_NOWAIT get -EAGAIN. */
void block_fault_gate(struct disk *filter, bool closed);

#endif
