/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One guest clock: nanoseconds since the guest was built, standing still while it is paused; and timers on
 * it. */
#ifndef HOSTEL_BUS_CLOCK_H
#define HOSTEL_BUS_CLOCK_H

#include <glib.h>
#include <stdint.h>

#include "base/cleanup.h"

struct clock;
struct clock_timer;

#define CLOCK_NEVER UINT64_MAX

/* A stopped clock at 0, whose timers fire from the main context given (borrowed; NULL = default). */
struct clock *clock_new(GMainContext *context);
void clock_free(struct clock *c);
CLEANUP_DEFINE(clock, clock_free)

/* Control thread. */
void clock_start(struct clock *c);
void clock_stop(struct clock *c);

/* A stopped clock goes on from now. Timers keep their deadlines. Control thread. */
void clock_set(struct clock *c, uint64_t now);

/* Guest nanoseconds. Any thread, no lock, a few tens of nanoseconds. */
uint64_t clock_now(const struct clock *c);

/* A timer that calls fire(opaque) on the main context's thread at or soon after its deadline, never before,
 * once per arming. */
struct clock_timer *clock_timer_new(struct clock *c, void (*fire)(void *opaque), void *opaque);
void clock_timer_free(struct clock_timer *t);

/* Arms at guest time deadline (ns; CLOCK_NEVER disarms; the past fires at once). Any thread. */
void clock_timer_set(struct clock_timer *t, uint64_t deadline);

#endif
