/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Long work beside the main loop. */
#include "vm/worker.h"

struct vm_worker {
    struct block_pool *pool;
    GSource *source;
    GMutex lock;                   /* guards the list, and said and ended of all work */
    struct vm_work *first, **last; /* that have something to say, oldest first */
};

struct worker_source {
    GSource base;
    struct vm_worker *worker;
};

/* The next that has something to say, if any; *ended = it is that it has ended. */
static struct vm_work *take(struct vm_worker *w, bool *ended)
{
    g_mutex_lock(&w->lock);
    struct vm_work *work = w->first;
    if (work) {
        w->first = work->next;
        if (!w->first)
            w->last = &w->first;
        work->said = false;
        *ended = work->ended;
    }
    g_mutex_unlock(&w->lock);
    return work;
}

static gboolean dispatch(GSource *base, GSourceFunc callback G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
    struct vm_worker *w = ((struct worker_source *)(void *)base)->worker;
    bool ended;
    g_source_set_ready_time(base, -1);
    for (struct vm_work *work; (work = take(w, &ended));) {
        if (ended)
            work->done(work);
        else
            work->told(work);
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {.dispatch = dispatch};

struct vm_worker *vm_worker_new(GMainContext *context, unsigned threads, GError **error)
{
    struct block_pool *pool = block_pool_new(threads, error);
    if (!pool)
        return NULL;
    struct vm_worker *w = g_new0(struct vm_worker, 1);
    w->pool = pool;
    w->last = &w->first;
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

static void say(struct vm_work *work, bool ended)
{
    struct vm_worker *w = work->worker;
    g_mutex_lock(&w->lock);
    work->ended = ended;
    if (!work->said) {
        work->said = true;
        work->next = NULL;
        *w->last = work;
        w->last = &work->next;
    }
    g_source_set_ready_time(w->source, 0); /* with the lock: the work may be gone behind it */
    g_mutex_unlock(&w->lock);
}

void vm_work_tell(struct vm_work *work)
{
    say(work, false);
}

static void run(struct block_job *job)
{
    struct vm_work *work = (struct vm_work *)(void *)job;
    work->run(work);
    say(work, true);
}

void vm_worker_submit(struct vm_worker *w, struct vm_work *work)
{
    work->worker = w;
    work->ended = false;
    work->job.run = run;
    block_pool_submit(w->pool, &work->job);
}
