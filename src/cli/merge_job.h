/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One merge of layers, done by the guest's process. */
#ifndef HOSTEL_CLI_MERGE_JOB_H
#define HOSTEL_CLI_MERGE_JOB_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/fold.h"
#include "cli/guest_call.h"
#include "cli/named.h"

struct merge_job {
    const struct named *guest;
    struct guest_call *call;
    const json_t *layers; /* as its process has them */
    /* Told now and then; bytes, of this merge. */
    void (*progress)(void *opaque, uint64_t done);
    void *opaque;
};

/* Ends what a hostel that was killed has left under way, and takes what it brought away from the process. */
bool merge_job_clear(const struct merge_job *j, GError **error);

/* Before its layers are changed in another way: the same, and layers become what the process has
 * (chain_trim()). */
bool merge_job_settle(const struct named *guest, struct guest_call *call, json_t *layers, GError **error);

/* Is what the last layer of a merge into the image holds to be had? Without its own node in the process, one
 * that was cut off has merged it: into the image, or into the layer above, where it is not what a snapshot
 * needs. False with *error: not known. */
bool merge_job_has(const struct merge_job *j, const struct fold *f, bool *has, GError **error);

/* Does it, or finds it done. False with *error, also when cli_stopped; readers see what they saw. */
bool merge_job_run(const struct merge_job *j, const struct fold *f, GError **error);

/* Its process does not need the files any more, after the layers were stored. */
void merge_job_forget(const struct merge_job *j, const struct fold *f);

/* The bytes of a disk, as far as known. */
uint64_t merge_job_size(const json_t *layers, size_t disk);

#endif
