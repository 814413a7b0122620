/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Snapshots of the whole guest inside its disks' images, as QMP's jobs. */
/*
 * Theory of operation
 *
 * A snapshot is one of every disk, of one moment; the image of one of them has the guest's state, too, as the
 * same bytes that a saved guest's file has (codec/saved.h). The guest stands from begin to end.
 *
 *   save    check; stop; the chips' and CPUs' state      nothing has changed
 *           memory into the image (worker)               bytes that belong to nothing
 *           a snapshot of each disk                      all or none
 *
 *   load    check; stop; does the state fit?             nothing has changed
 *           all of it is read, checksums and all (worker)
 *           each disk goes to its snapshot               all or none
 *           memory is filled (worker), then CPUs, chips  what fails here leaves no guest that could go on
 *
 * When it fails before the last line the guest goes on as it was; behind that, or when disks could not be
 * brought back, it stands, and only another snapshot, or a reset, makes a guest of it again. The worker's
 * parts have the disks' state area for themselves: the disks are held, and changes to their nodes refused.
 */
#ifndef HOSTEL_VM_SNAPSHOT_H
#define HOSTEL_VM_SNAPSHOT_H

#include <glib.h>
#include <stdbool.h>

struct vm;

/* What is asked for; all borrowed. */
struct vm_snapshot_request {
    const char *job, *tag;
    const char *vmstate;        /* the disk whose image has the state, one of them */
    const char *const *devices; /* ids of devices or names of nodes, ending with NULL */
};

/* Begin a job, whose failure is told by it alone. False with *error: there is no job. Main thread, as all
 * below. */
bool vm_snapshot_save(struct vm *vm, const struct vm_snapshot_request *request, GError **error);
bool vm_snapshot_load(struct vm *vm, const struct vm_snapshot_request *request, GError **error);
bool vm_snapshot_delete(struct vm *vm, const struct vm_snapshot_request *request, GError **error);

/* Refuses, with *error, what must not happen while one is taken or loaded: that the guest runs, is saved,
 * reset or changed. */
bool vm_snapshot_idle(const struct vm *vm, GError **error);

/* The guest has ended: what is under way is given up. Before the worker is freed; and the rest, behind. */
void vm_snapshot_stop(struct vm *vm);
void vm_snapshot_free(struct vm *vm);

#endif
