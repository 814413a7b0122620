/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The threads of a disk: every job runs once, several at a time, and draining waits for them. */
#include <glib.h>
#include <stdatomic.h>
#include <unistd.h>

#include "block/pool.h"

enum { THREADS = 4, JOBS = 2000 };

struct counted {
    struct block_job job;
    struct block_pool *pool;
    _Atomic unsigned runs;
    unsigned again;
};

static _Atomic unsigned running, most;

static void run(struct block_job *job)
{
    struct counted *c = (struct counted *)(void *)job;
    unsigned now = atomic_fetch_add(&running, 1) + 1;
    if (now > atomic_load(&most))
        atomic_store(&most, now);
    if (c->runs % 64 == 0)
        usleep(100);
    atomic_fetch_sub(&running, 1);
    atomic_fetch_add(&c->runs, 1);
    if (c->again) {
        c->again--;
        block_pool_submit(c->pool, job);
    }
}

static void test_jobs(void)
{
    AUTO(block_pool) pool = block_pool_new(THREADS, NULL);
    g_autofree struct counted *jobs = g_new0(struct counted, JOBS);
    for (unsigned round = 1; round <= 5; round++) {
        for (unsigned i = 0; i < JOBS; i++) {
            jobs[i].job.run = run;
            jobs[i].pool = pool;
            block_pool_submit(pool, &jobs[i].job);
        }
        block_pool_drain(pool);
        for (unsigned i = 0; i < JOBS; i++)
            g_assert_cmpuint(jobs[i].runs, ==, round);
    }
    g_assert_cmpuint(most, >, 1);
    g_assert_cmpuint(most, <=, THREADS);
}

static void test_resubmit(void)
{
    AUTO(block_pool) pool = block_pool_new(2, NULL);
    struct counted job = {.job.run = run, .pool = pool, .again = 100};
    block_pool_submit(pool, &job.job);
    block_pool_drain(pool);
    g_assert_cmpuint(job.runs, ==, 101);
    block_pool_drain(pool); /* nothing to wait for */
}

/* Freeing waits, too. */
static void test_free(void)
{
    struct counted jobs[50] = {0};
    struct block_pool *pool = block_pool_new(1, NULL);
    for (unsigned i = 0; i < 50; i++) {
        jobs[i].job.run = run;
        jobs[i].pool = pool;
        block_pool_submit(pool, &jobs[i].job);
    }
    block_pool_free(pool);
    for (unsigned i = 0; i < 50; i++)
        g_assert_cmpuint(jobs[i].runs, ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pool/jobs", test_jobs);
    g_test_add_func("/pool/resubmit", test_resubmit);
    g_test_add_func("/pool/free", test_free);
    return g_test_run();
}
