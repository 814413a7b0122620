/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Copying a disk by several threads; see copy.h. */
/*
 * Theory of operation
 *
 * The source is cut into jobs as it is walked along: `take` asks how the source keeps what comes next, in the
 * largest steps it can, and hands out either a long run that reads as zeroes, or at most a chunk of data.
 * Each thread takes a job, does all of it (read, look for zeroes, write), and takes the next; only the walk
 * is under a lock. So reads and writes of different threads overlap, and a thread's one buffer stays in its
 * CPU's cache from the read to the write.
 *
 * The walk goes along `unit`s of the target: the piece in which zeroes are looked for, and (up to a limit)
 * the target's cluster. A unit belongs to one job, so that no cluster of the target is begun by one thread
 * and filled up by another, which would cost it a read or zeroes. A run of the source that ends inside a unit
 * is therefore extended to the unit's end when it is data, and shortened to its beginning when it is zero.
 */
#include "block/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"

#define CHUNK MiB
#define UNIT_MAX (64 * KiB)   /* of clusters larger than that, parts are given out */
#define ZERO_STEP (256 * MiB) /* a job of zeroes; so that people see it proceed */
enum { THREADS_MAX = 64, TICK_MS = 100 };

enum job_kind { JOB_DATA, JOB_ZERO, JOB_SKIP };

struct job {
    enum job_kind kind;
    uint64_t at, size; /* in the source, from copy->from on */
};

struct walk {
    struct block_copy *copy;
    uint64_t unit, chunk;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t ended;
    uint64_t at, run_end; /* next; end of the run it lies in (0 = not asked yet) */
    struct block_extent run;
    uint64_t done;
    unsigned working;
    int status;
    struct timespec due; /* when the next job of data may begin, with a limit on the rate */
};

/* --- zeroes --- */

/* Four words at a time, which compilers make one compare of whatever vectors the processor has. */
typedef uint64_t words __attribute__((vector_size(32), aligned(1), may_alias));

/* A sanitizer is not there yet when the loader asks which clone it is to be. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__) &&                           \
    !defined(__SANITIZE_ADDRESS__)
__attribute__((target_clones("avx2", "default")))
#endif
static size_t
zero_blocks(const uint8_t *bytes, size_t size)
{
    size_t at = 0;
    for (; at + 256 <= size; at += 256) {
        const words *w = (const words *)(const void *)(bytes + at);
        words any = (w[0] | w[1]) | (w[2] | w[3]) | ((w[4] | w[5]) | (w[6] | w[7]));
        if (any[0] | any[1] | any[2] | any[3])
            break;
    }
    return at;
}

bool block_is_zero(const void *bytes, size_t size)
{
    const uint8_t *b = bytes;
    /* Most of what is not zero shows it at once. */
    for (size_t i = 0; i < MIN(size, 16); i++)
        if (b[i])
            return false;
    size_t at = zero_blocks(b, size);
    if (at + 256 <= size)
        return false;
    while (at < size && !b[at])
        at++;
    return at == size;
}

/* --- the walk --- */

static int ask_locked(struct walk *w)
{
    struct block_copy *c = w->copy;
    if (w->at < w->run_end)
        return 0;
    const uint64_t left = c->size - w->at;
    w->run = (struct block_extent){.size = left};
    int status = c->sparse || c->depth ? block_extent(c->source, c->from + w->at, left, &w->run) : 0;
    w->run_end = w->at + MIN(w->run.size, left);
    return status;
}

static enum job_kind kind_of(const struct block_copy *c, const struct block_extent *run)
{
    if (c->depth && run->depth >= c->depth)
        return JOB_SKIP;
    if (run->zero && c->sparse)
        return c->target_zero ? JOB_SKIP : JOB_ZERO;
    return JOB_DATA;
}

/* The next job; false when there is none, or one has failed. */
static bool take_locked(struct walk *w, struct job *job)
{
    struct block_copy *c = w->copy;
    if (c->stop && atomic_load_explicit(c->stop, memory_order_relaxed) && !w->status)
        w->status = -ECANCELED;
    if (w->status || w->at == c->size)
        return false;
    int status = ask_locked(w);
    if (status) {
        w->status = status;
        c->failed_at = c->from + w->at;
        c->failed_reading = true;
        return false;
    }
    job->kind = kind_of(c, &w->run);
    job->at = w->at;
    uint64_t end = w->run_end;
    if (end < c->size && job->kind != JOB_DATA)
        end = align_down(end, w->unit);
    if (end <= w->at) { /* the unit is zero in part only */
        job->kind = JOB_DATA;
        end = w->at + w->unit;
    }
    if (job->kind == JOB_DATA)
        end = MIN(align_up(end, w->unit), w->at + w->chunk);
    else if (job->kind == JOB_ZERO)
        end = MIN(end, w->at + ZERO_STEP);
    end = MIN(end, c->size);
    job->size = end - w->at;
    w->at = end;
    return true;
}

static void fail(struct walk *w, int status, uint64_t at, bool reading)
{
    pthread_mutex_lock(&w->lock);
    if (!w->status) {
        w->status = status;
        w->copy->failed_at = w->copy->from + at;
        w->copy->failed_reading = reading;
    }
    pthread_mutex_unlock(&w->lock);
}

/* --- one job --- */

/* Sector by sector; what cannot be read is zero. */
static int read_what_can_be(struct walk *w, uint8_t *bytes, uint64_t at, uint64_t size)
{
    struct block_copy *c = w->copy;
    const uint64_t step = MAX((uint64_t)BLOCK_SECTOR, c->source->facts.alignment);
    uint64_t unread = 0;
    for (uint64_t i = 0; i < size; i += step) {
        const uint64_t now = MIN(step, size - i);
        if (block_pread(c->source, bytes + i, now, c->from + at + i)) {
            memset(bytes + i, 0, now);
            unread += now;
        }
    }
    pthread_mutex_lock(&w->lock);
    c->unread += unread;
    pthread_mutex_unlock(&w->lock);
    return 0;
}

static int put(struct block_copy *c, const uint8_t *bytes, uint64_t at, uint64_t size)
{
    if (c->compress)
        return block_write_compressed(c->target, bytes, c->to + at, size);
    return block_pwrite(c->target, bytes, size, c->to + at);
}

static int put_zero(struct block_copy *c, uint64_t at, uint64_t size)
{
    return c->target_zero ? 0 : block_zero(c->target, c->to + at, size, BLOCK_MAY_UNMAP);
}

/* How many bytes from the start on are alike: all units of them zero, or none. */
static uint64_t alike(const struct walk *w, const uint8_t *bytes, uint64_t size, bool *zero)
{
    uint64_t end = MIN(w->unit, size);
    if (!w->copy->sparse) {
        *zero = false;
        return w->copy->compress ? end : size;
    }
    *zero = block_is_zero(bytes, end);
    if (w->copy->compress && !*zero)
        return end;
    while (end < size) {
        const uint64_t now = MIN(w->unit, size - end);
        if (block_is_zero(bytes + end, now) != *zero)
            break;
        end += now;
    }
    return end;
}

static int copy_data(struct walk *w, const struct job *job, uint8_t *bytes)
{
    struct block_copy *c = w->copy;
    int status = block_pread(c->source, bytes, job->size, c->from + job->at);
    if (status && c->salvage)
        status = read_what_can_be(w, bytes, job->at, job->size);
    if (status) {
        fail(w, status, job->at, true);
        return status;
    }
    const uint64_t size = align_up(job->size, c->target->facts.alignment);
    memset(bytes + job->size, 0, size - job->size);
    uint64_t written = 0;
    for (uint64_t at = 0; at < size && !status;) {
        bool zero;
        const uint64_t now = alike(w, bytes + at, size - at, &zero);
        status = zero ? put_zero(c, job->at + at, now) : put(c, bytes + at, job->at + at, now);
        if (status)
            fail(w, status, job->at + at, false);
        written += zero ? 0 : now;
        at += now;
    }
    pthread_mutex_lock(&w->lock);
    c->written += written;
    pthread_mutex_unlock(&w->lock);
    return status;
}

static struct timespec later(struct timespec t, uint64_t ns)
{
    t.tv_nsec += (long)(ns % 1000000000);
    t.tv_sec += (time_t)(ns / 1000000000) + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

/* Until the job is due; each puts the next one off by the time that its own bytes may take. The lock is let
 * go meanwhile. A stop is heard between jobs, which a slow copy has small enough. */
static void wait_turn_locked(struct walk *w, const struct job *job)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const struct timespec due = w->due;
    const bool past = due.tv_sec < now.tv_sec || (due.tv_sec == now.tv_sec && due.tv_nsec <= now.tv_nsec);
    w->due = later(past ? now : due, (uint64_t)((double)job->size * 1e9 / (double)w->copy->rate));
    pthread_mutex_unlock(&w->lock);
    if (!past)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
    pthread_mutex_lock(&w->lock);
}

static void do_job(struct walk *w, const struct job *job, uint8_t *bytes)
{
    if (job->kind == JOB_DATA) {
        copy_data(w, job, bytes);
        return;
    }
    const uint64_t size = align_up(job->size, w->copy->target->facts.alignment);
    int status = job->kind == JOB_ZERO ? put_zero(w->copy, job->at, size) : 0;
    if (status)
        fail(w, status, job->at, false);
}

static void *work(void *opaque)
{
    struct walk *w = opaque;
    const size_t room = w->chunk + BLOCK_SECTOR + 4096; /* and what pads the last */
    uint8_t *bytes = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        fail(w, -ENOMEM, 0, true);
    struct job job = {0};
    pthread_mutex_lock(&w->lock);
    while (bytes != MAP_FAILED && take_locked(w, &job)) {
        if (w->copy->rate && job.kind == JOB_DATA)
            wait_turn_locked(w, &job);
        pthread_mutex_unlock(&w->lock);
        do_job(w, &job, bytes);
        pthread_mutex_lock(&w->lock);
        w->done += job.size;
    }
    w->working--;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->lock);
    if (bytes != MAP_FAILED)
        munmap(bytes, room);
    return NULL;
}

/* --- all of them --- */

static unsigned count_threads(const struct block_copy *c, uint64_t chunk)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t threads = c->threads ? c->threads : cpus < 2 ? 2 : (uint64_t)cpus;
    return (unsigned)MAX(1, MIN(MIN(threads, THREADS_MAX), c->size / chunk + 1));
}

static void choose_units(struct walk *w)
{
    const struct block_copy *c = w->copy;
    const struct block_facts *f = &c->target->facts;
    if (c->compress) {
        w->unit = MAX(f->cluster, BLOCK_SECTOR);
        w->chunk = MAX(w->unit, CHUNK / w->unit * w->unit);
        return;
    }
    w->unit = MAX(MIN(f->cluster, UNIT_MAX), MAX(f->alignment, BLOCK_SECTOR));
    while (w->unit < MIN(c->sparse, CHUNK))
        w->unit *= 2;
    /* Slow copies in pieces of a tenth of a second. */
    w->chunk = c->rate ? MIN(CHUNK, c->rate / 10) / w->unit * w->unit : CHUNK;
    w->chunk = MAX(w->unit, w->chunk);
}

/* Tells how far it is until all threads have ended. */
static void watch(struct walk *w)
{
    struct block_copy *c = w->copy;
    pthread_mutex_lock(&w->lock);
    while (w->working) {
        if (!c->progress) {
            pthread_cond_wait(&w->ended, &w->lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += TICK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_cond_timedwait(&w->ended, &w->lock, &until) != ETIMEDOUT)
            continue;
        const uint64_t done = w->done;
        pthread_mutex_unlock(&w->lock);
        c->progress(c->opaque, done);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
}

int block_copy(struct block_copy *copy)
{
    struct walk w = {.copy = copy, .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[THREADS_MAX];
    unsigned n = 0;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w.ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    choose_units(&w);
    copy->unread = copy->written = copy->failed_at = 0;
    copy->failed_reading = false;

    const unsigned want = count_threads(copy, w.chunk);
    w.working = want;
    while (n < want && !pthread_create(&threads[n], NULL, work, &w))
        n++;
    pthread_mutex_lock(&w.lock);
    w.working -= want - n;
    pthread_mutex_unlock(&w.lock);
    if (!n) { /* the host has no more threads for us */
        w.working = 1;
        work(&w);
    }
    watch(&w);
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    if (copy->progress)
        copy->progress(copy->opaque, w.done);
    pthread_cond_destroy(&w.ended);
    return w.status;
}
