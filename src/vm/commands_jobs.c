/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands of the control socket: jobs. */
#include "vm/jobs.h"
#include "vm/vm.h"

static json_t *query_jobs(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return jobs_json(((struct vm *)opaque)->jobs);
}

/* Does what to the job that the arguments name. */
static json_t *with_job(void *opaque, json_t *args, bool (*what)(struct job *job, GError **error),
                        GError **error)
{
    const char *id = json_string_value(json_object_get(args, "id"));
    struct job *job = jobs_find(((struct vm *)opaque)->jobs, id, error);
    return job && what(job, error) ? qmp_done() : NULL;
}

static json_t *cancel_job(void *opaque, json_t *args, GError **error)
{
    return with_job(opaque, args, job_cancel, error);
}

static json_t *pause_job(void *opaque, json_t *args, GError **error)
{
    return with_job(opaque, args, job_pause, error);
}

static json_t *resume_job(void *opaque, json_t *args, GError **error)
{
    return with_job(opaque, args, job_resume, error);
}

static json_t *complete_job(void *opaque, json_t *args, GError **error)
{
    return with_job(opaque, args, job_complete, error);
}

static json_t *dismiss_job(void *opaque, json_t *args, GError **error)
{
    return with_job(opaque, args, job_dismiss, error);
}

const struct qmp_command vm_job_commands[] = {
    {"query-jobs", NULL, "[JobInfo]", QMP_OOB | QMP_EARLY, query_jobs},
    {"job-cancel", "id: str", NULL, 0, cancel_job},
    {"job-pause", "id: str", NULL, 0, pause_job},
    {"job-resume", "id: str", NULL, 0, resume_job},
    {"job-complete", "id: str", NULL, 0, complete_job},
    {"job-dismiss", "id: str", NULL, 0, dismiss_job},
    {0},
};
