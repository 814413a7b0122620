/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Long work that clients can follow. */
#include "vm/jobs.h"

#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "vm/worker.h"

const char *const job_status_names[JOB_STATUSES] = {
    [JOB_CREATED] = "created", [JOB_RUNNING] = "running",   [JOB_PAUSED] = "paused",
    [JOB_READY] = "ready",     [JOB_STANDBY] = "standby",   [JOB_WAITING] = "waiting",
    [JOB_PENDING] = "pending", [JOB_ABORTING] = "aborting", [JOB_CONCLUDED] = "concluded",
    [JOB_NULL] = "null",
};

struct job {
    struct vm_work work; /* first */
    struct jobs *jobs;
    char *id;
    const struct job_ops *ops;
    void *opaque;
    enum job_status status; /* the main thread's */
    bool good;              /* what run() said; the main thread's once it has ended, as the next */
    GError *failure;        /* why it was not done */
    _Atomic uint64_t current, total;

    /* Under the lock: what the thread was told, and what it says. */
    bool cancelled, paused;
    bool begun, ready, waits;
};

struct jobs {
    GPtrArray *all; /* of struct job, owned, oldest first */
    struct vm_worker *worker;
    GMutex lock;
    GCond told; /* a job was told something */
    void (*event)(void *opaque, const char *name, json_t *data);
    void *opaque;
};

/* --- changes of status --- */

static void change(struct job *job, enum job_status status)
{
    struct jobs *jobs = job->jobs;
    job->status = status;
    if (jobs->event)
        jobs->event(jobs->opaque, "JOB_STATUS_CHANGE",
                    json_pack("{s:s,s:s}", "id", job->id, "status", job_status_names[status]));
}

static void free_job(void *data)
{
    struct job *job = data;
    if (job->ops->drop)
        job->ops->drop(job->opaque);
    g_clear_error(&job->failure);
    g_free(job->id);
    g_free(job);
}

static void dismiss(struct job *job)
{
    change(job, JOB_NULL);
    g_ptr_array_remove(job->jobs->all, job);
}

void job_conclude(struct job *job, bool good, GError *error)
{
    if (good) {
        change(job, JOB_WAITING);
        change(job, JOB_PENDING);
        good = !job->ops->finish || job->ops->finish(job, job->opaque, true, &error);
    } else if (job->ops->finish) {
        job->ops->finish(job, job->opaque, false, NULL);
    }
    if (!good) {
        job->failure = error ? error : g_error_new(HOSTEL_ERROR, HOSTEL_ERROR_INPUT, "the job was cancelled");
        change(job, JOB_ABORTING);
    }
    change(job, JOB_CONCLUDED);
    if (job->ops->auto_dismiss)
        dismiss(job);
}

void job_set_ready(struct job *job)
{
    if (job->status == JOB_RUNNING)
        change(job, JOB_READY);
}

/* What the thread has said, as changes of status in the order in which they happened. */
static void catch_up(struct vm_work *work)
{
    struct job *job = (struct job *)(void *)work;
    g_mutex_lock(&job->jobs->lock);
    bool begun = job->begun, ready = job->ready, waits = job->waits;
    g_mutex_unlock(&job->jobs->lock);
    if (begun && job->status == JOB_CREATED)
        change(job, JOB_RUNNING);
    if (!waits && (job->status == JOB_PAUSED || job->status == JOB_STANDBY))
        change(job, job->status == JOB_PAUSED ? JOB_RUNNING : JOB_READY);
    if (ready && job->status == JOB_RUNNING)
        change(job, JOB_READY);
    if (waits && (job->status == JOB_RUNNING || job->status == JOB_READY))
        change(job, job->status == JOB_RUNNING ? JOB_PAUSED : JOB_STANDBY);
}

static void ended(struct vm_work *work)
{
    struct job *job = (struct job *)(void *)work;
    catch_up(work);
    job_conclude(job, job->good, STEAL(job->failure));
}

static bool concluded(const struct job *job)
{
    return job->status == JOB_CONCLUDED || job->status == JOB_NULL;
}

/* --- the thread --- */

/* Sets what is the thread's to say. */
static void say(struct job *job, bool *what, bool value)
{
    g_mutex_lock(&job->jobs->lock);
    *what = value;
    g_mutex_unlock(&job->jobs->lock);
    vm_work_tell(&job->work);
}

static void run(struct vm_work *work)
{
    struct job *job = (struct job *)(void *)work;
    say(job, &job->begun, true);
    job->good = job_go_on(job) && job->ops->run(job, job->opaque, &job->failure);
}

bool job_go_on(struct job *job)
{
    struct jobs *jobs = job->jobs;
    g_mutex_lock(&jobs->lock);
    while (job->paused && !job->cancelled) {
        if (!job->waits) {
            job->waits = true;
            vm_work_tell(&job->work);
        }
        g_cond_wait(&jobs->told, &jobs->lock);
    }
    if (job->waits) {
        job->waits = false;
        vm_work_tell(&job->work);
    }
    bool on = !job->cancelled;
    g_mutex_unlock(&jobs->lock);
    return on;
}

void job_reached_ready(struct job *job)
{
    say(job, &job->ready, true);
}

void job_progress(struct job *job, uint64_t current, uint64_t total)
{
    atomic_store_explicit(&job->current, current, memory_order_relaxed);
    atomic_store_explicit(&job->total, total, memory_order_relaxed);
}

/* --- what clients ask --- */

static bool refuse(const struct job *job, const char *what, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "the job '%s' is %s and cannot be %s", job->id,
                       job_status_names[job->status], what);
}

static bool at_work(const struct job *job)
{
    return job->status <= JOB_STANDBY;
}

static void tell(struct job *job, bool *what, bool value)
{
    g_mutex_lock(&job->jobs->lock);
    *what = value;
    g_cond_broadcast(&job->jobs->told);
    g_mutex_unlock(&job->jobs->lock);
}

bool job_cancel(struct job *job, GError **error)
{
    if (!at_work(job))
        return refuse(job, "cancelled", error);
    tell(job, &job->cancelled, true);
    if (job->ops->cancel)
        job->ops->cancel(job, job->opaque);
    return true;
}

bool job_pause(struct job *job, GError **error)
{
    if (!at_work(job) || job->paused || !job->ops->run)
        return refuse(job, "paused", error);
    tell(job, &job->paused, true);
    return true;
}

bool job_resume(struct job *job, GError **error)
{
    if (!at_work(job) || !job->paused)
        return refuse(job, "resumed", error);
    tell(job, &job->paused, false);
    return true;
}

bool job_complete(struct job *job, GError **error)
{
    if (job->status != JOB_READY || !job->ops->complete)
        return refuse(job, "completed", error);
    return job->ops->complete(job, job->opaque, error);
}

bool job_dismiss(struct job *job, GError **error)
{
    if (job->status != JOB_CONCLUDED)
        return refuse(job, "dismissed", error);
    dismiss(job);
    return true;
}

enum job_status job_status(const struct job *job)
{
    return job->status;
}

const char *job_id(const struct job *job)
{
    return job->id;
}

/* --- all of them --- */

struct job *jobs_find(struct jobs *jobs, const char *id, GError **error)
{
    for (unsigned i = 0; i < jobs->all->len; i++) {
        struct job *job = jobs->all->pdata[i];
        if (!strcmp(job->id, id))
            return job;
    }
    hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no job '%.40s'; query-jobs lists them", id);
    return NULL;
}

json_t *jobs_json(const struct jobs *jobs)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < jobs->all->len; i++) {
        struct job *job = jobs->all->pdata[i];
        json_t *row = json_pack("{s:s,s:s,s:s,s:I,s:I}", "id", job->id, "type", job->ops->type, "status",
                                job_status_names[job->status], "current-progress",
                                (json_int_t)atomic_load(&job->current), "total-progress",
                                (json_int_t)atomic_load(&job->total));
        if (concluded(job) && job->failure)
            json_object_set_new(row, "error", json_string(job->failure->message));
        json_array_append_new(list, row);
    }
    return list;
}

bool jobs_busy(const struct jobs *jobs)
{
    for (unsigned i = 0; i < jobs->all->len; i++)
        if (!concluded(jobs->all->pdata[i]))
            return true;
    return false;
}

/* Letters, digits and "-._", a letter first, as QEMU's identifiers. */
static bool check_id(const char *id, GError **error)
{
    bool good = g_ascii_isalpha(*id) && strlen(id) < 128;
    for (const char *c = id; good && *c; c++)
        good = g_ascii_isalnum(*c) || strchr("-._", *c);
    return good ||
           hostel_fail(
               error, HOSTEL_ERROR_USAGE,
               "a job cannot be called '%.40s': a letter, then letters, digits and \"-._\", less than "
               "128 in all",
               id);
}

static bool can_start(struct jobs *jobs, const char *id, GError **error)
{
    if (!check_id(id, error))
        return false;
    if (jobs_find(jobs, id, NULL))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a job '%s' already", id);
    return jobs->all->len < JOBS_MAX ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "there are %d jobs; dismiss some that have concluded",
                       JOBS_MAX);
}

struct job *job_start(struct jobs *jobs, const char *id, const struct job_ops *ops, void *opaque,
                      GError **error)
{
    if (!can_start(jobs, id, error)) {
        if (ops->drop)
            ops->drop(opaque);
        return NULL;
    }
    struct job *job = g_new0(struct job, 1);
    *job = (struct job){.work = {.run = run, .done = ended, .told = catch_up},
                        .jobs = jobs,
                        .id = g_strdup(id),
                        .ops = ops,
                        .opaque = opaque};
    g_ptr_array_add(jobs->all, job);
    change(job, JOB_CREATED);
    if (ops->run)
        vm_worker_submit(jobs->worker, &job->work);
    else
        change(job, JOB_RUNNING);
    return job;
}

struct jobs *jobs_new(GMainContext *context, void (*event)(void *opaque, const char *name, json_t *data),
                      void *opaque, GError **error)
{
    struct vm_worker *worker = vm_worker_new(context, JOBS_THREADS, error);
    if (!worker)
        return NULL;
    struct jobs *jobs = g_new0(struct jobs, 1);
    jobs->all = g_ptr_array_new_with_free_func(free_job);
    jobs->worker = worker;
    jobs->event = event;
    jobs->opaque = opaque;
    g_mutex_init(&jobs->lock);
    g_cond_init(&jobs->told);
    return jobs;
}

void jobs_free(struct jobs *jobs)
{
    if (!jobs)
        return;
    jobs->event = NULL;
    for (unsigned i = jobs->all->len; i-- > 0;)
        job_cancel(jobs->all->pdata[i], NULL);
    vm_worker_free(jobs->worker);
    for (unsigned i = jobs->all->len; i-- > 0;) {
        struct job *job = jobs->all->pdata[i];
        if (!concluded(job) && job->ops->run)
            ended(&job->work);
        else if (!concluded(job))
            job_conclude(job, false, NULL);
    }
    g_ptr_array_unref(jobs->all);
    g_mutex_clear(&jobs->lock);
    g_cond_clear(&jobs->told);
    g_free(jobs);
}
