/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Long work that clients of the control socket can follow, cancel and dismiss: QMP's jobs. */
/*
 * Theory of operation
 *
 * A job has a name that the client chose, a type and a status (QEMU 7.2, qapi/job.json; docs of job.c there):
 *
 *   created -> running <-> paused                     when its thread waits because it was told to
 *              running  -> ready <-> standby          nothing is left but job-complete (mirrors)
 *   running, ready -> waiting -> pending -> concluded what it has done takes effect in pending
 *   any of them -> aborting -> concluded              it failed or was cancelled
 *   concluded -> null                                 dismissed: it is gone
 *
 * Each change is an event, JOB_STATUS_CHANGE. A job's status belongs to the main thread. What its thread has
 * to say (it has begun, is ready, pauses, has ended) it notes under the lock and wakes the main loop, which
 * makes the changes in order.
 *
 * The threads are made with the set, before the process is locked down; a job that finds none free stays
 * created until there is one. A job without run() has no thread: the main thread drives it.
 */
#ifndef HOSTEL_VM_JOBS_H
#define HOSTEL_VM_JOBS_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct job;
struct jobs;

/* At most so many, those concluded included; and so many at once with a thread. */
enum { JOBS_MAX = 32, JOBS_THREADS = 4 };

/* In the order of job_status_names. */
enum job_status {
    JOB_CREATED,
    JOB_RUNNING,
    JOB_PAUSED,
    JOB_READY,
    JOB_STANDBY,
    JOB_WAITING,
    JOB_PENDING,
    JOB_ABORTING,
    JOB_CONCLUDED,
    JOB_NULL,
    JOB_STATUSES,
};

extern const char *const job_status_names[JOB_STATUSES];

/* What a job does; a constant of whoever starts it. */
struct job_ops {
    const char *type; /* a JobType of control/schema.def */
    /* The work, on a thread, with job_go_on() called often: when that is false it undoes what it can and
     * returns false without an error. False with *error: it failed. NULL: the main thread calls
     * job_conclude(). */
    bool (*run)(struct job *job, void *opaque, GError **error);
    /* Then, on the main thread: good says whether the work is done, and it takes effect here (or not: false
     * with *error, which is only looked at when good). Optional. */
    bool (*finish)(struct job *job, void *opaque, bool good, GError **error);
    /* On the main thread: the job was cancelled, which its thread may not notice for a while; without a
     * thread the way to be told. Optional. */
    void (*cancel)(struct job *job, void *opaque);
    /* job-complete, while ready, on the main thread. Optional. */
    bool (*complete)(struct job *job, void *opaque, GError **error);
    /* The job is gone. Optional. */
    void (*drop)(void *opaque);
    bool auto_dismiss; /* is gone once it is concluded */
};

/* event tells clients; its data is taken. NULL with *error. Set-up. Main thread, as all below that does not
 * say otherwise. */
struct jobs *jobs_new(GMainContext *context, void (*event)(void *opaque, const char *name, json_t *data),
                      void *opaque, GError **error);
/* Cancels all and waits for their threads; no events come any more. NULL is fine. */
void jobs_free(struct jobs *jobs);
CLEANUP_DEFINE(jobs, jobs_free)

/* Begins a job. id: a name as in `a-1.b`, that no other job has. opaque is the job's, in any case: drop() is
 * its end. NULL with *error. The job stays until it is dismissed. */
struct job *job_start(struct jobs *jobs, const char *id, const struct job_ops *ops, void *opaque,
                      GError **error);

/* The job called id; NULL with *error. */
struct job *jobs_find(struct jobs *jobs, const char *id, GError **error);

/* [JobInfo], owned by the caller. */
json_t *jobs_json(const struct jobs *jobs);

/* Are there jobs that have not concluded? */
bool jobs_busy(const struct jobs *jobs);

enum job_status job_status(const struct job *job);
const char *job_id(const struct job *job);

/* As QMP's commands; false with *error when the status does not allow it. */
bool job_cancel(struct job *job, GError **error);
bool job_pause(struct job *job, GError **error);
bool job_resume(struct job *job, GError **error);
bool job_complete(struct job *job, GError **error);
bool job_dismiss(struct job *job, GError **error);

/* A job without a thread has nothing left but to be completed; or is at its end: it has failed (error,
 * taken), was cancelled and noticed (good false) or is done. It may be gone when this returns. */
void job_set_ready(struct job *job);
void job_conclude(struct job *job, bool good, GError *error);

/* --- for the job's thread --- */

/* Waits while the job is paused. False: it was cancelled. */
bool job_go_on(struct job *job);

/* The thread has come to where only job-complete (or a cancel) ends it. */
void job_reached_ready(struct job *job);

/* In whatever unit; total may change. Any thread. */
void job_progress(struct job *job, uint64_t current, uint64_t total);

#endif
