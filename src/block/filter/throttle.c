/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Filter throttle: so many bytes and operations a second, and no more. */
/*
 * The thread that has the operation sleeps until its turn has come; turns are given in the order of asking
 * (bucket.h). Flushes are free: what they make durable was paid for. Discards and zeroes cost an operation,
 * their bytes mostly never move.
 *
 * A limit is two buckets: one leaks at the rate of the long run and holds what a burst may have altogether,
 * the other one holds the burst itself down to its own rate. Who sleeps is woken when limits change, and asks
 * anew.
 */
#include "block/filter/throttle.h"

#include <errno.h>
#include <time.h>

#include "base/checked.h"
#include "block/filter/bucket.h"

#define SECOND UINT64_C(1000000000)
enum { KINDS = 2 /* read, write: the rows of the driver */ };

struct throttle_options {
    uint64_t bps[KINDS];
    unsigned iops[KINDS], burst;
};

#define ROW(key, text, kind, field)                                                                          \
    {                                                                                                        \
        .name = key, .arg = "N", .help = text, .type = kind, .who = OPTION_BOTH,                             \
        .offset = offsetof(struct throttle_options, field)                                                   \
    }

static const struct option_row throttle_rows[] = {
    ROW("bps-read", "bytes read in a second", OPTION_SIZE, bps[0]),
    ROW("bps-write", "bytes written in a second", OPTION_SIZE, bps[1]),
    ROW("iops-read", "reads in a second", OPTION_COUNT, iops[0]),
    ROW("iops-write", "writes in a second", OPTION_COUNT, iops[1]),
    {.name = "burst",
     .arg = "MS",
     .value = "100",
     .help = "what a pause saves up, in milliseconds of the rates",
     .type = OPTION_COUNT,
     .who = OPTION_BOTH,
     .offset = offsetof(struct throttle_options, burst)},
    {0},
};

enum { BYTES, OPERATIONS, UNITS };

struct throttle {
    struct disk disk;
    _Atomic bool limited; /* by anything at all */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    unsigned generation;
    bool hurry;
    uint64_t operation_bytes;
    struct block_bucket mean[UNITS][BLOCK_THROTTLES], peak[UNITS][BLOCK_THROTTLES];
};

static const struct block_driver throttle_driver;

static struct throttle *throttle(struct disk *b)
{
    return (struct throttle *)(void *)b;
}

static void init_lock(struct throttle *t)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&t->lock, NULL);
}

static bool throttle_open(struct disk *b, struct block_config *config, GError **error)
{
    (void)error;
    static const struct throttle_options none;
    const struct throttle_options *o = config->options ? config->options : &none;
    struct throttle *t = throttle(b);
    const bool readonly = b->facts.readonly;
    b->below = STEAL(config->file);
    b->facts = b->below->facts;
    b->facts.readonly |= readonly;
    b->facts.growable &= !b->facts.readonly;
    const uint64_t burst = (uint64_t)o->burst * 1000000;
    for (unsigned i = 0; i < KINDS; i++) {
        const unsigned what = i ? BLOCK_THROTTLE_WRITE : BLOCK_THROTTLE_READ;
        t->mean[BYTES][what] = (struct block_bucket){.rate = o->bps[i], .burst = burst};
        t->mean[OPERATIONS][what] = (struct block_bucket){.rate = o->iops[i], .burst = burst};
        if (o->bps[i] || o->iops[i])
            t->limited = true;
    }
    init_lock(t);
    return true;
}

static void throttle_close(struct disk *b)
{
    pthread_cond_destroy(&throttle(b)->changed);
    pthread_mutex_destroy(&throttle(b)->lock);
}

struct disk *block_throttle_new(struct disk *below)
{
    struct disk *b = block_filter_new(&throttle_driver, below);
    init_lock(throttle(b));
    return b;
}

/* --- limits --- */

/* Nanoseconds in which `rate` a second come to `count`. */
static uint64_t duration(uint64_t count, uint64_t rate)
{
    const unsigned __int128 ns = (unsigned __int128)count * SECOND / rate;
    return ns > INT64_MAX / 4 ? INT64_MAX / 4 : (uint64_t)ns;
}

static void set_limit(struct block_bucket *mean, struct block_bucket *peak, const struct block_limit *l)
{
    *mean = (struct block_bucket){.rate = l->rate, .burst = SECOND / 10};
    *peak = (struct block_bucket){.rate = 0};
    if (!l->rate || !l->burst)
        return;
    uint64_t room;
    if (__builtin_mul_overflow(l->burst, MAX(l->burst_seconds, 1), &room))
        room = UINT64_MAX;
    mean->burst = duration(room, l->rate);
    if (l->burst_seconds > 1)
        *peak = (struct block_bucket){.rate = l->burst, .burst = SECOND / 10};
}

void block_throttle_set(struct disk *filter, const struct block_throttle *limits)
{
    struct throttle *t = throttle(filter);
    bool limited = false;
    pthread_mutex_lock(&t->lock);
    for (unsigned i = 0; i < BLOCK_THROTTLES; i++) {
        set_limit(&t->mean[BYTES][i], &t->peak[BYTES][i], &limits->bytes[i]);
        set_limit(&t->mean[OPERATIONS][i], &t->peak[OPERATIONS][i], &limits->operations[i]);
        limited |= limits->bytes[i].rate || limits->operations[i].rate;
    }
    t->operation_bytes = limits->operation_bytes;
    t->generation++;
    atomic_store(&t->limited, limited);
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

void block_throttle_hurry(struct disk *filter, bool hurry)
{
    struct throttle *t = throttle(filter);
    pthread_mutex_lock(&t->lock);
    t->hurry = hurry;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

/* --- turns --- */

static uint64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static bool ready_locked(const struct throttle *t, unsigned what, uint64_t now)
{
    for (unsigned unit = 0; unit < UNITS; unit++)
        if (!block_bucket_ready(&t->mean[unit][BLOCK_THROTTLE_ALL], now) ||
            !block_bucket_ready(&t->peak[unit][BLOCK_THROTTLE_ALL], now) ||
            !block_bucket_ready(&t->mean[unit][what], now) || !block_bucket_ready(&t->peak[unit][what], now))
            return false;
    return true;
}

/* The moment of its turn, which it has from now on. */
static uint64_t take_locked(struct throttle *t, unsigned what, uint64_t bytes, uint64_t now)
{
    const uint64_t operations =
        t->operation_bytes && bytes > t->operation_bytes ? (bytes - 1) / t->operation_bytes + 1 : 1;
    uint64_t when = now;
    for (unsigned unit = 0; unit < UNITS; unit++) {
        const uint64_t count = unit == BYTES ? bytes : operations;
        struct block_bucket *const bucket[] = {&t->mean[unit][BLOCK_THROTTLE_ALL],
                                               &t->peak[unit][BLOCK_THROTTLE_ALL], &t->mean[unit][what],
                                               &t->peak[unit][what]};
        for (unsigned i = 0; i < G_N_ELEMENTS(bucket); i++) {
            const uint64_t then = block_bucket_take(bucket[i], count, now);
            when = MAX(when, then);
        }
    }
    return when;
}

/* Sleeps until then. False when limits have changed before. */
static bool sleep_locked(struct throttle *t, uint64_t when)
{
    const unsigned generation = t->generation;
    const struct timespec until = {(time_t)(when / SECOND), (long)(when % SECOND)};
    while (!t->hurry && t->generation == generation && clock_now() < when)
        pthread_cond_timedwait(&t->changed, &t->lock, &until);
    return t->generation == generation;
}

/* Waits for the turn of one operation with so many bytes; or, if it must not wait, may say that it would. */
static int wait_turn(struct disk *b, unsigned what, uint64_t bytes, bool nowait)
{
    struct throttle *t = throttle(b);
    if (!atomic_load_explicit(&t->limited, memory_order_relaxed))
        return 0;
    pthread_mutex_lock(&t->lock);
    if (nowait && !t->hurry && !ready_locked(t, what, clock_now())) {
        pthread_mutex_unlock(&t->lock);
        return -EAGAIN;
    }
    while (!sleep_locked(t, take_locked(t, what, bytes, clock_now())))
        ;
    pthread_mutex_unlock(&t->lock);
    return 0;
}

/* --- operations --- */

static int throttle_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    int status = wait_turn(b, BLOCK_THROTTLE_READ, block_iov_size(iov, n), flags & BLOCK_NOWAIT);
    return status ? status : block_read(b->below, iov, n, offset, flags);
}

static int throttle_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    wait_turn(b, BLOCK_THROTTLE_WRITE, block_iov_size(iov, n), false);
    return block_write(b->below, iov, n, offset);
}

static int throttle_flush(struct disk *b)
{
    return block_flush(b->below);
}

static int throttle_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    wait_turn(b, BLOCK_THROTTLE_WRITE, 0, false);
    return block_discard(b->below, offset, size);
}

static int throttle_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    wait_turn(b, BLOCK_THROTTLE_WRITE, 0, false);
    return block_zero(b->below, offset, size, flags);
}

static int throttle_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return block_extent(b->below, offset, size, extent);
}

static int throttle_resize(struct disk *b, uint64_t size)
{
    return block_resize(b->below, size);
}

#define OPERATIONS_OF_THROTTLE                                                                               \
    .help = "limits on bytes and operations per second", .kind = BLOCK_FILTER,                               \
    .size = sizeof(struct throttle), .close = throttle_close, .read = throttle_read,                         \
    .write = throttle_write, .flush = throttle_flush, .discard = throttle_discard, .zero = throttle_zero,    \
    .extent = throttle_extent, .resize = throttle_resize

const struct block_driver block_driver_throttle = {
    .name = "throttle",
    .options = throttle_rows,
    .options_size = sizeof(struct throttle_options),
    .open = throttle_open,
    OPERATIONS_OF_THROTTLE,
};

/* Without rows: its limits are given while it is there. */
static const struct block_driver throttle_driver = {.name = "throttle", OPERATIONS_OF_THROTTLE};
