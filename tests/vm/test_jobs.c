/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Jobs: their statuses in order, threads and none, pause, cancel, completion, limits. */

#include <glib.h>
#include <jansson.h>
#include <stdatomic.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "vm/jobs.h"

/* What a job of these tests does, and what was done with it. */
struct work {
    _Atomic unsigned gate;    /* the thread goes on when it is not 0 */
    _Atomic unsigned at_gate; /* it has come there */
    bool fails, finish_fails, becomes_ready;
    unsigned finished, good, cancelled, completed, dropped;
    struct job *job;
};

static GString *heard; /* "id status;..." */

static void on_event(void *opaque G_GNUC_UNUSED, const char *name, json_t *data)
{
    g_assert_cmpstr(name, ==, "JOB_STATUS_CHANGE");
    g_string_append_printf(heard, "%s %s;", json_string_value(json_object_get(data, "id")),
                           json_string_value(json_object_get(data, "status")));
    json_decref(data);
}

static bool run(struct job *job, void *opaque, GError **error)
{
    struct work *w = opaque;
    job_progress(job, 1, 10);
    if (w->becomes_ready)
        job_reached_ready(job);
    atomic_store(&w->at_gate, 1);
    while (!atomic_load(&w->gate)) {
        if (!job_go_on(job))
            return false;
        g_usleep(100);
    }
    job_progress(job, 10, 10);
    return !w->fails || hostel_fail(error, HOSTEL_ERROR_HOST, "the disk is full");
}

static bool finish(struct job *job G_GNUC_UNUSED, void *opaque, bool good, GError **error)
{
    struct work *w = opaque;
    w->finished++;
    w->good += good;
    return !w->finish_fails || hostel_fail(error, HOSTEL_ERROR_HOST, "too late");
}

static void cancel(struct job *job, void *opaque)
{
    struct work *w = opaque;
    w->cancelled++;
    if (w->job) /* it has no thread */
        job_conclude(job, false, NULL);
}

static bool complete(struct job *job G_GNUC_UNUSED, void *opaque, GError **error G_GNUC_UNUSED)
{
    struct work *w = opaque;
    w->completed++;
    atomic_store(&w->gate, 1);
    return true;
}

static void drop(void *opaque)
{
    ((struct work *)opaque)->dropped++;
}

static const struct job_ops threaded = {
    .type = "mirror", .run = run, .finish = finish, .cancel = cancel, .complete = complete, .drop = drop};
static const struct job_ops automatic = {.type = "create", .run = run, .drop = drop, .auto_dismiss = true};
static const struct job_ops driven = {.type = "backup", .finish = finish, .cancel = cancel, .drop = drop};

static struct jobs *start(void)
{
    heard = g_string_new(NULL);
    return jobs_new(NULL, on_event, NULL, NULL);
}

static void stop(struct jobs *jobs)
{
    jobs_free(jobs);
    g_string_free(heard, TRUE);
}

/* Serves events until text was heard; then it has been heard alone, and is forgotten. */
static void expect(const char *text)
{
    while (heard->len < strlen(text))
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpstr(heard->str, ==, text);
    g_string_truncate(heard, 0);
}

static void wait_at_gate(struct work *w)
{
    while (!atomic_load(&w->at_gate))
        g_usleep(100);
}

static void assert_row(struct jobs *jobs, const char *text)
{
    json_t *list = jobs_json(jobs);
    char *got = json_dumps(list, JSON_COMPACT);
    g_autofree char *want = g_strdelimit(g_strdup(text), "'", '"');
    g_assert_cmpstr(got, ==, want);
    free(got);
    json_decref(list);
}

static void test_success(void)
{
    struct jobs *jobs = start();
    struct work w = {0};
    struct job *job = job_start(jobs, "a", &threaded, &w, NULL);
    expect("a created;a running;");
    wait_at_gate(&w);
    assert_row(jobs,
               "[{'id':'a','type':'mirror','status':'running','current-progress':1,'total-progress':10}]");
    g_assert_true(jobs_busy(jobs));
    g_assert_false(job_dismiss(job, NULL));
    g_assert_false(job_complete(job, NULL));
    atomic_store(&w.gate, 1);
    expect("a waiting;a pending;a concluded;");
    assert_row(jobs,
               "[{'id':'a','type':'mirror','status':'concluded','current-progress':10,'total-progress':10}]");
    g_assert_true(w.good == 1 && w.finished == 1 && !w.dropped && !jobs_busy(jobs));
    g_assert_false(job_cancel(job, NULL));
    g_assert_true(job_dismiss(job, NULL));
    expect("a null;");
    g_assert_cmpuint(w.dropped, ==, 1);
    assert_row(jobs, "[]");
    stop(jobs);
}

static void test_failure(void)
{
    struct jobs *jobs = start();
    struct work w = {.fails = true, .gate = 1}, late = {.finish_fails = true, .gate = 1};
    job_start(jobs, "a", &threaded, &w, NULL);
    expect("a created;a running;a aborting;a concluded;");
    assert_row(jobs,
               "[{'id':'a','type':'mirror','status':'concluded','current-progress':10,'total-progress':10,"
               "'error':'the disk is full'}]");
    g_assert_true(w.finished == 1 && !w.good);
    g_assert_true(job_dismiss(jobs_find(jobs, "a", NULL), NULL));
    expect("a null;");
    job_start(jobs, "b", &threaded, &late, NULL);
    expect("b created;b running;b waiting;b pending;b aborting;b concluded;");
    assert_row(jobs,
               "[{'id':'b','type':'mirror','status':'concluded','current-progress':10,'total-progress':10,"
               "'error':'too late'}]");
    stop(jobs);
    g_assert_true(w.dropped == 1 && late.dropped == 1);
}

static void test_cancel(void)
{
    struct jobs *jobs = start();
    struct work w = {0};
    struct job *job = job_start(jobs, "a", &threaded, &w, NULL);
    wait_at_gate(&w);
    g_assert_true(job_cancel(job, NULL));
    expect("a created;a running;a aborting;a concluded;");
    g_assert_true(w.cancelled == 1 && w.finished == 1 && !w.good);
    assert_row(jobs,
               "[{'id':'a','type':'mirror','status':'concluded','current-progress':1,'total-progress':10,"
               "'error':'the job was cancelled'}]");
    stop(jobs);
}

/* The thread is told that it goes on, or that it does not, while it waits. */
static void test_pause(void)
{
    struct jobs *jobs = start();
    struct work w = {0};
    struct job *job = job_start(jobs, "a", &threaded, &w, NULL);
    wait_at_gate(&w);
    g_assert_false(job_resume(job, NULL));
    g_assert_true(job_pause(job, NULL));
    g_assert_false(job_pause(job, NULL));
    expect("a created;a running;a paused;");
    g_assert_true(job_resume(job, NULL));
    expect("a running;");
    g_assert_true(job_pause(job, NULL));
    expect("a paused;");
    g_assert_true(job_cancel(job, NULL));
    while (job_status(job) != JOB_CONCLUDED)
        g_main_context_iteration(NULL, TRUE);
    expect("a running;a aborting;a concluded;");
    stop(jobs);
}

static void test_complete(void)
{
    struct jobs *jobs = start();
    struct work w = {.becomes_ready = true};
    struct job *job = job_start(jobs, "a", &threaded, &w, NULL);
    expect("a created;a running;a ready;");
    g_assert_true(job_pause(job, NULL));
    expect("a standby;");
    g_assert_true(job_resume(job, NULL));
    expect("a ready;");
    g_assert_true(job_complete(job, NULL));
    expect("a waiting;a pending;a concluded;");
    g_assert_true(w.completed == 1 && w.good == 1);
    stop(jobs);
}

static void test_without_thread(void)
{
    struct jobs *jobs = start();
    struct work w = {0}, other = {0};
    w.job = job_start(jobs, "a", &driven, &w, NULL);
    other.job = job_start(jobs, "b", &driven, &other, NULL);
    expect("a created;a running;b created;b running;");
    g_assert_false(job_pause(w.job, NULL));
    job_progress(w.job, 5, 6);
    job_set_ready(w.job);
    expect("a ready;");
    g_assert_false(job_complete(w.job, NULL)); /* this one cannot */
    job_conclude(w.job, true, NULL);
    expect("a waiting;a pending;a concluded;");
    g_assert_true(job_cancel(other.job, NULL));
    expect("b aborting;b concluded;");
    stop(jobs);
}

static void test_names_and_limits(void)
{
    static const char *const wrong[] = {"", "1", "-", "a b", "a/b", "\xc3\xa4", "a\n"};
    struct jobs *jobs = start();
    struct work w[JOBS_MAX + 1] = {0};
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(job_start(jobs, wrong[i], &threaded, &w[0], &error));
        g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
        g_assert_cmpuint(w[0].dropped, ==, i + 1);
    }
    g_autofree char *longest = g_strnfill(127, 'a'), *longer = g_strnfill(128, 'a');
    g_assert_null(job_start(jobs, longer, &threaded, &w[0], NULL));
    for (unsigned i = 0; i <= JOBS_MAX; i++) {
        g_autofree char *id = i ? g_strdup_printf("j-%u._", i) : g_strdup(longest);
        g_assert_true((job_start(jobs, id, &threaded, &w[i], NULL) != NULL) == (i < JOBS_MAX));
    }
    g_autoptr(GError) error = NULL;
    g_assert_null(job_start(jobs, "j-1._", &threaded, &w[JOBS_MAX], &error));
    g_assert_nonnull(strstr(error->message, "already"));
    g_assert_null(jobs_find(jobs, "none", NULL));
    /* Those that find no thread wait for one. */
    for (unsigned i = 0; i < JOBS_THREADS; i++)
        wait_at_gate(&w[i]);
    g_assert_false(atomic_load(&w[JOBS_THREADS].at_gate));
    for (unsigned i = 0; i < JOBS_MAX; i++)
        atomic_store(&w[i].gate, 1);
    while (jobs_busy(jobs))
        g_main_context_iteration(NULL, TRUE);
    stop(jobs);
    for (unsigned i = 0; i < JOBS_MAX; i++)
        g_assert_true(w[i].good == 1);
}

static void test_auto_dismiss(void)
{
    struct jobs *jobs = start();
    struct work w[3] = {{.gate = 1}, {.gate = 1, .fails = true}, {.gate = 1}};
    for (unsigned i = 0; i < ARRAY_SIZE(w); i++) {
        char id[] = {(char)('a' + i), '\0'};
        job_start(jobs, id, &automatic, &w[i], NULL);
    }
    while (!w[0].dropped || !w[1].dropped || !w[2].dropped)
        g_main_context_iteration(NULL, TRUE);
    assert_row(jobs, "[]");
    g_assert_true(strstr(heard->str, "a concluded;a null;") &&
                  strstr(heard->str, "b aborting;b concluded;b null;"));
    stop(jobs);
}

/* Jobs of all kinds are under way when the guest ends. */
static void test_end(void)
{
    struct jobs *jobs = start();
    struct work w[8] = {0};
    for (unsigned i = 0; i < ARRAY_SIZE(w); i++) {
        char id[] = {(char)('a' + i), '\0'};
        struct job *job = job_start(jobs, id, i % 2 ? &driven : &threaded, &w[i], NULL);
        w[i].job =
            i % 4 == 1 ? job : NULL; /* another one without a thread does not notice that it is cancelled */
        if (i % 4 == 2)
            job_pause(job, NULL);
    }
    g_string_truncate(heard, 0);
    jobs_free(jobs);
    g_assert_cmpstr(heard->str, ==, "");
    for (unsigned i = 0; i < ARRAY_SIZE(w); i++)
        g_assert_true(w[i].dropped == 1 && w[i].finished == 1 && !w[i].good && w[i].cancelled == 1);
    g_string_free(heard, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/jobs/success", test_success);
    g_test_add_func("/jobs/failure", test_failure);
    g_test_add_func("/jobs/cancel", test_cancel);
    g_test_add_func("/jobs/pause", test_pause);
    g_test_add_func("/jobs/complete", test_complete);
    g_test_add_func("/jobs/without-thread", test_without_thread);
    g_test_add_func("/jobs/names-and-limits", test_names_and_limits);
    g_test_add_func("/jobs/auto-dismiss", test_auto_dismiss);
    g_test_add_func("/jobs/end", test_end);
    return g_test_run();
}
