/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Threads that do one disk's blocking operations, so that whoever wants them need not wait. */
/*
 * The threads are made with the pool and then only sleep and work: a locked-down process makes none. A job is
 * part of the request that it serves, so nothing is allocated for it, and the queue is as long as there are
 * requests.
 */
#ifndef HOSTEL_BLOCK_POOL_H
#define HOSTEL_BLOCK_POOL_H

#include <glib.h>

#include "base/cleanup.h"

struct block_pool;

/* From submit until run is called the job is the pool's. run may free it, or submit it again. */
struct block_job {
    struct block_job *next;             /* the pool's */
    void (*run)(struct block_job *job); /* on one of the threads */
};

/* count threads, all asleep when this returns. NULL with *error. Set-up. */
struct block_pool *block_pool_new(unsigned count, GError **error);

/* Waits for every job, then ends the threads. NULL is fine. */
void block_pool_free(struct block_pool *pool);
CLEANUP_DEFINE(block_pool, block_pool_free)

/* Runs the job soon; jobs begin in the order they were given. Any thread, also one of the pool. */
void block_pool_submit(struct block_pool *pool, struct block_job *job);

/* Returns when no job waits or runs. The caller sees to it that none is submitted meanwhile, except by jobs.
 * Not on a thread of the pool. */
void block_pool_drain(struct block_pool *pool);

#endif
