/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A reference from one image to another as a disk that passes everything on, and can be turned to another
 * one.
 */
#ifndef HOSTEL_BLOCK_EDGE_H
#define HOSTEL_BLOCK_EDGE_H

#include "block/block.h"

/* An edge to `to`, borrowed; NULL: to nothing, a disk of no bytes. gone(opaque) is called when the edge is
 * freed, which is when the disk that took it is. */
struct disk *block_edge_new(const char *name, struct disk *to, void (*gone)(void *opaque), void *opaque);

/* From now on it leads there. Nothing is under way on it; its driver has room for `to`, see below. */
void block_edge_turn(struct disk *edge, struct disk *to);

/* The size of what it leads to has changed behind its back. */
void block_edge_refresh(struct disk *edge);

struct disk *block_edge_target(struct disk *edge); /* NULL: nothing */

#endif
