/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The guest clock and its timers. */
/*
 * Theory of operation
 *
 * While the clock runs, guest time = host CLOCK_MONOTONIC - offset; while it stands, guest time is frozen.
 * Readers take no lock: a sequence counter tells them when start or stop changed the pair under them.
 *
 * Timers stand in one list ordered by deadline, under a lock. A single timerfd, watched by the main context,
 * is armed for the first; arming is a system call only when the first deadline changes.
 */
#include "bus/clock.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* Timers fired in one turn of the main loop. */
enum { CLOCK_BATCH = 64 };

struct clock {
    _Atomic uint32_t sequence; /* odd while start or stop is at work */
    _Atomic bool running;
    _Atomic uint64_t offset; /* host ns at guest time 0, while running */
    _Atomic uint64_t frozen; /* guest time, while not */

    GMutex lock; /* guards the list and what is armed */
    struct clock_timer *first;
    uint64_t armed; /* host ns the timerfd is set to, CLOCK_NEVER none */
    int fd;
    GSource *source;
};

struct clock_timer {
    struct clock *clock;
    void (*fire)(void *opaque);
    void *opaque;
    uint64_t deadline; /* CLOCK_NEVER: not in the list */
    struct clock_timer *next;
};

static uint64_t host_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t clock_now(const struct clock *c)
{
    for (;;) {
        uint32_t before = atomic_load(&c->sequence);
        uint64_t now =
            atomic_load(&c->running) ? host_ns() - atomic_load(&c->offset) : atomic_load(&c->frozen);
        if (!(before & 1) && atomic_load(&c->sequence) == before)
            return now;
    }
}

/* Sets the timerfd for the first deadline. The lock is held. */
static void arm_locked(struct clock *c)
{
    uint64_t want = CLOCK_NEVER;
    if (c->first && atomic_load(&c->running)) {
        uint64_t offset = atomic_load(&c->offset);
        want = c->first->deadline > INT64_MAX - offset ? INT64_MAX : c->first->deadline + offset;
    }
    if (want == c->armed)
        return;
    c->armed = want;
    struct itimerspec at = {0};
    if (want != CLOCK_NEVER) {
        at.it_value.tv_sec = (time_t)(want / 1000000000);
        at.it_value.tv_nsec = (long)(want % 1000000000);
        if (!want)
            at.it_value.tv_nsec = 1; /* zero would disarm */
    }
    timerfd_settime(c->fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void unlink_locked(struct clock *c, struct clock_timer *t)
{
    if (t->deadline == CLOCK_NEVER)
        return;
    struct clock_timer **p = &c->first;
    while (*p != t)
        p = &(*p)->next;
    *p = t->next;
    t->deadline = CLOCK_NEVER;
}

/* Fires what is due. A timer may be set again by its own callback. */
static gboolean on_timerfd(int fd, GIOCondition condition, void *opaque)
{
    (void)condition;
    struct clock *c = opaque;
    uint64_t expirations;
    ssize_t ignored = read(fd, &expirations, sizeof(expirations));
    (void)ignored;
    g_mutex_lock(&c->lock);
    c->armed = CLOCK_NEVER;
    /* A timer that is set again and again must not keep the main loop from everything else: the rest comes
     * with the next turn. */
    for (unsigned n = 0;
         n < CLOCK_BATCH && c->first && atomic_load(&c->running) && c->first->deadline <= clock_now(c); n++) {
        struct clock_timer *t = c->first;
        unlink_locked(c, t);
        g_mutex_unlock(&c->lock);
        t->fire(t->opaque);
        g_mutex_lock(&c->lock);
    }
    arm_locked(c);
    g_mutex_unlock(&c->lock);
    return G_SOURCE_CONTINUE;
}

struct clock *clock_new(GMainContext *context)
{
    struct clock *c = g_new0(struct clock, 1);
    g_mutex_init(&c->lock);
    c->armed = CLOCK_NEVER;
    c->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (c->fd < 0)
        /* No descriptors left while building: nothing can go on. */
        g_error("timerfd_create: %s", g_strerror(errno));
    c->source = g_unix_fd_source_new(c->fd, G_IO_IN);
    g_source_set_callback(c->source, G_SOURCE_FUNC(on_timerfd), c, NULL);
    g_source_attach(c->source, context);
    return c;
}

void clock_free(struct clock *c)
{
    if (!c)
        return;
    g_source_destroy(c->source);
    g_source_unref(c->source);
    close(c->fd);
    g_mutex_clear(&c->lock);
    g_free(c);
}

void clock_start(struct clock *c)
{
    g_mutex_lock(&c->lock);
    if (!atomic_load(&c->running)) {
        atomic_fetch_add(&c->sequence, 1);
        atomic_store(&c->offset, host_ns() - atomic_load(&c->frozen));
        atomic_store(&c->running, true);
        atomic_fetch_add(&c->sequence, 1);
        arm_locked(c);
    }
    g_mutex_unlock(&c->lock);
}

void clock_stop(struct clock *c)
{
    g_mutex_lock(&c->lock);
    if (atomic_load(&c->running)) {
        atomic_fetch_add(&c->sequence, 1);
        atomic_store(&c->frozen, host_ns() - atomic_load(&c->offset));
        atomic_store(&c->running, false);
        atomic_fetch_add(&c->sequence, 1);
        arm_locked(c);
    }
    g_mutex_unlock(&c->lock);
}

void clock_set(struct clock *c, uint64_t now)
{
    g_mutex_lock(&c->lock);
    g_assert(!atomic_load(&c->running));
    atomic_fetch_add(&c->sequence, 1);
    atomic_store(&c->frozen, now);
    atomic_fetch_add(&c->sequence, 1);
    g_mutex_unlock(&c->lock);
}

struct clock_timer *clock_timer_new(struct clock *c, void (*fire)(void *opaque), void *opaque)
{
    struct clock_timer *t = g_new0(struct clock_timer, 1);
    *t = (struct clock_timer){.clock = c, .fire = fire, .opaque = opaque, .deadline = CLOCK_NEVER};
    return t;
}

void clock_timer_free(struct clock_timer *t)
{
    if (!t)
        return;
    clock_timer_set(t, CLOCK_NEVER);
    g_free(t);
}

void clock_timer_set(struct clock_timer *t, uint64_t deadline)
{
    struct clock *c = t->clock;
    g_mutex_lock(&c->lock);
    unlink_locked(c, t);
    if (deadline != CLOCK_NEVER) {
        t->deadline = deadline;
        struct clock_timer **p = &c->first;
        while (*p && (*p)->deadline <= deadline)
            p = &(*p)->next;
        t->next = *p;
        *p = t;
    }
    arm_locked(c);
    g_mutex_unlock(&c->lock);
}
