/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the files about internal snapshots ask of each other. */
#ifndef HOSTEL_BLOCK_FORMAT_QCOW2_SNAPSHOT_INT_H
#define HOSTEL_BLOCK_FORMAT_QCOW2_SNAPSHOT_INT_H

#include "block/format/qcow2/qcow2_int.h"

/* --- snapshot_table.c --- */

void qcow2_snapshot_free(struct qcow2_snapshot *s);

/* Writes the table to a new place, not yet flushed; nothing refers to it yet. */
int qcow2_snapshots_write(struct qcow2 *q, GPtrArray *all, uint64_t *offset, uint64_t *size);

/* --- snapshot.c --- */

/* Before an image becomes version 3: all rows of the table get what that asks for. All metadata is in the
 * file, nothing else is under way. False with *error. */
bool qcow2_snapshots_complete(struct qcow2 *q, GError **error);

/* --- share.c; all: metadata is in the file as in memory (qcow2_sync), nothing else is under way --- */

/* Can all that an L1 table (in memory) refers to be shared, or given back? Not when some of it is metadata:
 * then the image is damaged. */
int qcow2_share_check(struct qcow2 *q, const uint64_t *l1, uint32_t size);

/* Everything that an L1 table (in memory) refers to gets one reference more. When it fails nothing has
 * changed. Durable. */
int qcow2_share_add(struct qcow2 *q, const uint64_t *l1, uint32_t size);

/* One less; what the file does not refer to any more. What is damaged stays as a leak. */
int qcow2_share_drop(struct qcow2 *q, const uint64_t *l1, uint32_t size);

/* Makes the flags of the disk's L1 and L2 entries say which clusters have no other reference. Durable. */
int qcow2_share_flags(struct qcow2 *q);

/* An L1 table of the file as the host's numbers; owned. Checked: every entry is one. */
int qcow2_share_load(struct qcow2 *q, uint64_t offset, uint32_t size, uint64_t **l1);

/* Gives back at once what was taken and never referred to. */
void qcow2_space_untake(struct qcow2 *q, uint64_t offset, uint64_t size);

#endif
