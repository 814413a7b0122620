/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Threads that do one disk's blocking operations. */
#include "block/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>

#include "base/bits.h"
#include "base/error.h"

struct block_pool {
    pthread_mutex_t lock;
    pthread_cond_t work, idle; /* a job came, or the end did; nothing is left to do */
    struct block_job *first, **last;
    unsigned sleeping, busy; /* threads */
    bool ending;
    unsigned count;
    pthread_t threads[];
};

static struct block_job *take(struct block_pool *p)
{
    struct block_job *job = p->first;
    p->first = job->next;
    if (!p->first)
        p->last = &p->first;
    return job;
}

static void *work(void *pool)
{
    struct block_pool *p = pool;
    prctl(PR_SET_NAME, "disk", 0, 0, 0);
    pthread_mutex_lock(&p->lock);
    while (p->first || !p->ending) {
        if (!p->first) {
            p->sleeping++;
            if (!p->busy)
                pthread_cond_broadcast(&p->idle);
            pthread_cond_wait(&p->work, &p->lock);
            p->sleeping--;
            continue;
        }
        struct block_job *job = take(p);
        p->busy++;
        pthread_mutex_unlock(&p->lock);
        job->run(job);
        pthread_mutex_lock(&p->lock);
        p->busy--;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Signals are for the main thread. An operation of a chain of images takes some stack for each of them, of
 * which the host gives what is used. */
static bool start(struct block_pool *p, GError **error)
{
    sigset_t all, before;
    pthread_attr_t attr;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 2 * MiB);
    int status = pthread_create(&p->threads[p->count], &attr, work, p);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make a thread for a disk: %s",
                           g_strerror(status));
    p->count++;
    return true;
}

struct block_pool *block_pool_new(unsigned count, GError **error)
{
    struct block_pool *p = g_malloc0(sizeof(*p) + count * sizeof(p->threads[0]));
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->idle, NULL);
    p->last = &p->first;
    pthread_mutex_lock(&p->lock);
    bool started = true;
    while (started && p->count < count)
        started = start(p, error);
    while (started && p->sleeping < count)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
    if (started)
        return p;
    block_pool_free(p);
    return NULL;
}

void block_pool_free(struct block_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->ending = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->count; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->idle);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    g_free(p);
}

void block_pool_submit(struct block_pool *p, struct block_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&p->lock);
    *p->last = job;
    p->last = &job->next;
    bool wake = p->sleeping > 0;
    pthread_mutex_unlock(&p->lock);
    if (wake)
        pthread_cond_signal(&p->work);
}

void block_pool_drain(struct block_pool *p)
{
    pthread_mutex_lock(&p->lock);
    while (p->first || p->busy)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
