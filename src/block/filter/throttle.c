/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Filter throttle: so many bytes and operations a second, and no more. */
/*
 * The thread that has the operation sleeps until its turn has come; turns are given in the order of asking
 * (bucket.h). Flushes are free: what they make durable was paid for. Discards and zeroes cost an operation,
 * their bytes mostly never move.
 */
#include <errno.h>
#include <time.h>

#include "block/block.h"
#include "block/filter/bucket.h"

enum { READ, WRITE, KINDS };

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
    ROW("bps-read", "bytes read in a second", OPTION_SIZE, bps[READ]),
    ROW("bps-write", "bytes written in a second", OPTION_SIZE, bps[WRITE]),
    ROW("iops-read", "reads in a second", OPTION_COUNT, iops[READ]),
    ROW("iops-write", "writes in a second", OPTION_COUNT, iops[WRITE]),
    {.name = "burst",
     .arg = "MS",
     .value = "100",
     .help = "what a pause saves up, in milliseconds of the rates",
     .type = OPTION_COUNT,
     .who = OPTION_BOTH,
     .offset = offsetof(struct throttle_options, burst)},
    {0},
};

struct throttle {
    struct disk disk;
    pthread_mutex_t lock;
    struct {
        struct block_bucket bytes, operations;
    } kind[KINDS];
};

static struct throttle *throttle(struct disk *b)
{
    return (struct throttle *)(void *)b;
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
    for (unsigned i = 0; i < KINDS; i++) {
        const uint64_t burst = (uint64_t)o->burst * 1000000;
        t->kind[i].bytes = (struct block_bucket){.rate = o->bps[i], .burst = burst};
        t->kind[i].operations = (struct block_bucket){.rate = o->iops[i], .burst = burst};
    }
    pthread_mutex_init(&t->lock, NULL);
    return true;
}

static void throttle_close(struct disk *b)
{
    pthread_mutex_destroy(&throttle(b)->lock);
}

/* --- turns --- */

static uint64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void sleep_until(uint64_t when)
{
    const struct timespec until = {(time_t)(when / 1000000000), (long)(when % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* Waits for the turn of one operation with so many bytes; or, if it must not wait, may say that it would. */
static int wait_turn(struct disk *b, unsigned kind, uint64_t bytes, bool nowait)
{
    struct throttle *t = throttle(b);
    struct block_bucket *of_bytes = &t->kind[kind].bytes, *of_operations = &t->kind[kind].operations;
    if (!of_bytes->rate && !of_operations->rate)
        return 0;
    pthread_mutex_lock(&t->lock);
    const uint64_t now = clock_now();
    if (nowait && !(block_bucket_ready(of_bytes, now) && block_bucket_ready(of_operations, now))) {
        pthread_mutex_unlock(&t->lock);
        return -EAGAIN;
    }
    const uint64_t first = block_bucket_take(of_bytes, bytes, now);
    const uint64_t second = block_bucket_take(of_operations, 1, now);
    pthread_mutex_unlock(&t->lock);
    if (MAX(first, second) > now)
        sleep_until(MAX(first, second));
    return 0;
}

/* --- operations --- */

static int throttle_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    int status = wait_turn(b, READ, block_iov_size(iov, n), flags & BLOCK_NOWAIT);
    return status ? status : block_read(b->below, iov, n, offset, flags);
}

static int throttle_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    wait_turn(b, WRITE, block_iov_size(iov, n), false);
    return block_write(b->below, iov, n, offset);
}

static int throttle_flush(struct disk *b)
{
    return block_flush(b->below);
}

static int throttle_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    wait_turn(b, WRITE, 0, false);
    return block_discard(b->below, offset, size);
}

static int throttle_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    wait_turn(b, WRITE, 0, false);
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

const struct block_driver block_driver_throttle = {
    .name = "throttle",
    .help = "limits on bytes and operations per second",
    .kind = BLOCK_FILTER,
    .size = sizeof(struct throttle),
    .options = throttle_rows,
    .options_size = sizeof(struct throttle_options),
    .open = throttle_open,
    .close = throttle_close,
    .read = throttle_read,
    .write = throttle_write,
    .flush = throttle_flush,
    .discard = throttle_discard,
    .zero = throttle_zero,
    .extent = throttle_extent,
    .resize = throttle_resize,
};
