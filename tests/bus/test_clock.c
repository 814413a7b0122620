/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* bus/clock: order, stopping, re-arming; never early, whatever the host's load. */
#include <glib.h>

#include "base/bits.h"
#include "bus/clock.h"

struct shot {
    struct clock *clock;
    struct clock_timer *timer;
    uint64_t deadline, fired_at;
    unsigned count, order, again;
};

static unsigned fired;

static void on_fire(void *opaque)
{
    struct shot *s = opaque;
    s->fired_at = clock_now(s->clock);
    g_assert_cmpuint(s->fired_at, >=, s->deadline);
    s->count++;
    s->order = fired++;
    if (s->again) {
        s->again--;
        s->deadline = s->fired_at;
        clock_timer_set(s->timer, s->deadline);
    }
}

static void run_until(GMainContext *context, unsigned target)
{
    while (fired < target)
        g_main_context_iteration(context, TRUE);
}

static void test_order(void)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    AUTO(clock) c = clock_new(context);
    struct shot shots[20] = {0};
    fired = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(shots); i++) {
        shots[i] = (struct shot){.clock = c, .deadline = 1000 + (i * 7 % 20) * 100000};
        shots[i].timer = clock_timer_new(c, on_fire, &shots[i]);
        clock_timer_set(shots[i].timer, shots[i].deadline);
    }
    clock_timer_set(shots[3].timer, CLOCK_NEVER);
    g_assert_false(g_main_context_iteration(context, FALSE)); /* the clock stands */
    clock_start(c);
    run_until(context, ARRAY_SIZE(shots) - 1);
    for (unsigned i = 0; i < ARRAY_SIZE(shots); i++) {
        g_assert_cmpuint(shots[i].count, ==, i != 3);
        for (unsigned j = 0; j < ARRAY_SIZE(shots); j++)
            if (i != 3 && j != 3 && shots[i].deadline < shots[j].deadline)
                g_assert_cmpuint(shots[i].order, <, shots[j].order);
        clock_timer_free(shots[i].timer);
    }
}

static void test_again(void)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    AUTO(clock) c = clock_new(context);
    struct shot s = {.clock = c, .again = 50};
    fired = 0;
    s.timer = clock_timer_new(c, on_fire, &s);
    clock_start(c);
    clock_timer_set(s.timer, 0); /* the past fires at once */
    run_until(context, 51);
    clock_timer_free(s.timer);
}

static gboolean on_turn(gpointer seen)
{
    *(bool *)seen = true;
    return G_SOURCE_REMOVE;
}

/* A timer that is due again each time it fires leaves the main loop to others in between. */
static void test_insistent(void)
{
    enum { ENDLESS = 100000 };
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GSource) other = g_timeout_source_new(0);
    AUTO(clock) c = clock_new(context);
    struct shot s = {.clock = c, .again = ENDLESS};
    bool seen = false;
    s.timer = clock_timer_new(c, on_fire, &s);
    g_source_set_callback(other, on_turn, &seen, NULL);
    clock_start(c);
    clock_timer_set(s.timer, 0);
    while (!s.count)
        g_main_context_iteration(context, TRUE);
    g_source_attach(other, context);
    while (!seen)
        g_main_context_iteration(context, TRUE);
    g_assert_cmpuint(s.count, <, ENDLESS);
    clock_timer_free(s.timer);
}

static void test_stands_still(void)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    AUTO(clock) c = clock_new(context);
    g_assert_cmpuint(clock_now(c), ==, 0);
    clock_start(c);
    while (clock_now(c) < 100000)
        ;
    clock_stop(c);
    uint64_t at = clock_now(c);
    gint64 host = g_get_monotonic_time();
    while (g_get_monotonic_time() < host + 5000)
        g_assert_cmpuint(clock_now(c), ==, at);
    clock_start(c);
    uint64_t after = clock_now(c);
    g_assert_cmpuint(after, >=, at);
    clock_stop(c);
    g_assert_cmpuint(clock_now(c), >=, after);
    clock_stop(c); /* twice is once */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/clock/order", test_order);
    g_test_add_func("/clock/again", test_again);
    g_test_add_func("/clock/insistent", test_insistent);
    g_test_add_func("/clock/stands-still", test_stands_still);
    return g_test_run();
}
