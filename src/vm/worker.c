/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Long work beside the main loop. */
#include "vm/worker.h"

struct vm_worker {
    struct block_pool *pool; /* of one thread */
    GSource *source;
    GMutex lock;           /* guards the list */
    struct vm_work *ended; /* newest first */
};

struct worker_source {
    GSource base;
    struct vm_worker *worker;
};

static gboolean dispatch(GSource *base, GSourceFunc callback G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
    struct vm_worker *w = ((struct worker_source *)(void *)base)->worker;
    struct vm_work *ended = NULL;
    g_source_set_ready_time(base, -1);
    g_mutex_lock(&w->lock);
    for (struct vm_work *work = w->ended, *next; work; work = next) {
        next = work->next;
        work->next = ended; /* oldest first */
        ended = work;
    }
    w->ended = NULL;
    g_mutex_unlock(&w->lock);
    while (ended) {
        struct vm_work *work = ended;
        ended = work->next;
        work->done(work);
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {.dispatch = dispatch};

struct vm_worker *vm_worker_new(GMainContext *context, GError **error)
{
    struct block_pool *pool = block_pool_new(1, error);
    if (!pool)
        return NULL;
    struct vm_worker *w = g_new0(struct vm_worker, 1);
    w->pool = pool;
    g_mutex_init(&w->lock);
    w->source = g_source_new(&source_funcs, sizeof(struct worker_source));
    ((struct worker_source *)(void *)w->source)->worker = w;
    g_source_attach(w->source, context);
    return w;
}

void vm_worker_free(struct vm_worker *w)
{
    if (!w)
        return;
    block_pool_free(w->pool);
    g_source_destroy(w->source);
    g_source_unref(w->source);
    g_mutex_clear(&w->lock);
    g_free(w);
}

static void run(struct block_job *job)
{
    struct vm_work *work = (struct vm_work *)(void *)job;
    struct vm_worker *w = work->worker;
    work->run(work);
    g_mutex_lock(&w->lock);
    work->next = w->ended;
    w->ended = work;
    g_mutex_unlock(&w->lock);
    g_source_set_ready_time(w->source, 0);
}

void vm_worker_submit(struct vm_worker *w, struct vm_work *work)
{
    work->worker = w;
    work->job.run = run;
    block_pool_submit(w->pool, &work->job);
}
