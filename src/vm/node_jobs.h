/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Jobs on the disks of a running guest: merging the images of a chain. */
#ifndef HOSTEL_VM_NODE_JOBS_H
#define HOSTEL_VM_NODE_JOBS_H

#include "vm/jobs.h"
#include "vm/nodes.h"

struct vm_merge_request {
    const char *id;     /* of the job; NULL = that of the device */
    const char *device; /* or the name of a node: where the chain begins */
    const char *top;    /* commit: the topmost image that is merged; NULL = that of the device */
    const char *base;   /* commit: what it is merged into; NULL = the lowest. stream: what stays below; NULL =
                           nothing */
    const char *backing_file; /* what is written into the image above as its backing file; NULL = what it says
                                 of base, and nothing when it says nothing */
    int fd;         /* of the image that is written, for writing, in case it was opened read-only; taken;
                       -1 = none */
    uint64_t speed; /* bytes a second at most; 0 = no limit */
    bool keep;      /* until it is dismissed */
};

/* Begins a job. False with *error, and nothing has changed. Main thread, as all below. */
bool vm_node_commit(struct vm_nodes *n, struct jobs *jobs, const struct vm_merge_request *r, GError **error);
bool vm_node_stream(struct vm_nodes *n, struct jobs *jobs, const struct vm_merge_request *r, GError **error);

/* Of a job of these, by its id; false with *error (class DeviceNotActive). */
bool vm_node_job_speed(struct vm_nodes *n, const char *id, uint64_t speed, GError **error);

/* Of what clients are told about jobs (JOB_STATUS_CHANGE): an event of block jobs comes of it, too. */
void vm_node_jobs_told(struct vm_nodes *n, const json_t *data);

/* [BlockJobInfo], owned by the caller. */
json_t *vm_node_jobs_json(struct vm_nodes *n, const struct jobs *jobs);

#endif
