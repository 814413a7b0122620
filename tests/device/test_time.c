/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* ACLINT and Goldfish RTC on a guest clock, and the test finisher. */
#include "bus/clock.h"
#include "fake.h"

struct bench {
    GMainContext *context;
    struct clock *clock;
    struct pins pins;
    struct device *chip;
};

static void up(struct bench *b, const char *type, const struct device_value *values)
{
    struct irq_line lines[8];
    memset(b, 0, sizeof(*b));
    b->context = g_main_context_new();
    b->clock = clock_new(b->context);
    pins_lines(&b->pins, lines, 8);
    struct device_wires wires = {.name = type, .clock = b->clock, .outputs = lines, .output_count = 8};
    b->chip = device_new(device_type_find(type), &wires, values, NULL);
    clock_start(b->clock);
}

static void down(struct bench *b)
{
    device_free(b->chip);
    clock_free(b->clock);
    g_main_context_unref(b->context);
}

/* Runs the main context until the pins are as said, or two seconds have passed. */
static bool wait_level(struct bench *b, uint64_t level)
{
    for (gint64 end = g_get_monotonic_time() + 2000000;
         b->pins.level != level && g_get_monotonic_time() < end;)
        if (!g_main_context_iteration(b->context, FALSE))
            g_usleep(200);
    return b->pins.level == level;
}

/* --- ACLINT --- */

enum { MTIMECMP = 0x4000, MTIME = 0xbff8 };
static const struct device_value four_harts[] = {{"harts", 4}, {0}};

static void test_msip(void)
{
    struct bench b;
    up(&b, "aclint", four_harts);
    wr(b.chip, 4, 4, 0xffffffff);
    g_assert_cmphex(rd(b.chip, 4, 4), ==, 1);
    g_assert_cmphex(b.pins.level, ==, 1 << 2);
    wr(b.chip, 4, 4, 0);
    g_assert_cmphex(b.pins.level, ==, 0);
    wr(b.chip, 16, 4, 1); /* hart 4 is not there */
    g_assert_cmphex(rd(b.chip, 16, 4), ==, 0);
    g_assert_cmphex(b.pins.level, ==, 0);
    down(&b);
}

static void test_mtime(void)
{
    struct bench b;
    up(&b, "aclint", four_harts);
    clock_stop(b.clock);
    uint64_t ticks = clock_now(b.clock) / 100; /* 10 MHz */
    g_assert_cmpuint(rd(b.chip, MTIME, 8), ==, ticks);
    wr(b.chip, MTIME, 8, UINT64_C(0x123456789abcdef0));
    g_assert_cmphex(rd(b.chip, MTIME, 4), ==, 0x9abcdef0);
    g_assert_cmphex(rd(b.chip, MTIME + 4, 4), ==, 0x12345678);
    wr(b.chip, MTIME + 4, 4, 0xfeed);
    g_assert_cmphex(rd(b.chip, MTIME, 8), ==, UINT64_C(0x0000feed9abcdef0));
    clock_start(b.clock);
    g_usleep(3000);
    g_assert_cmpuint(rd(b.chip, MTIME, 8), >=, UINT64_C(0x0000feed9abcdef0) + 30000);
    down(&b);
}

static void test_mtimecmp(void)
{
    struct bench b;
    up(&b, "aclint", four_harts);
    g_assert_cmphex(b.pins.level, ==, 0);
    wr(b.chip, MTIMECMP + 8, 8, 0); /* the past: at once */
    g_assert_cmphex(b.pins.level, ==, 1 << 3);
    wr(b.chip, MTIMECMP + 8, 8, UINT64_MAX);
    g_assert_cmphex(b.pins.level, ==, 0);
    uint64_t when = rd(b.chip, MTIME, 8) + 100000; /* 10 ms */
    wr(b.chip, MTIMECMP + 16, 4, 0xffffffff);      /* halves, as 32-bit software writes them */
    wr(b.chip, MTIMECMP + 20, 4, when >> 32);
    wr(b.chip, MTIMECMP + 16, 4, (uint32_t)when);
    g_assert_cmphex(rd(b.chip, MTIMECMP + 16, 8), ==, when);
    g_assert_cmphex(b.pins.level, ==, 0);
    g_assert_true(wait_level(&b, 1 << 5));
    g_assert_cmpuint(rd(b.chip, MTIME, 8), >=, when); /* never early */
    wr(b.chip, MTIME, 8, when - 90000);               /* back in time: not due any more */
    g_assert_cmphex(b.pins.level, ==, 0);
    wr(b.chip, MTIME, 8, when);
    g_assert_cmphex(b.pins.level, ==, 1 << 5);
    down(&b);
}

/* Many deadlines shortly ahead: each must fire, and none early. */
static void test_deadlines(void)
{
    struct bench b;
    up(&b, "aclint", four_harts);
    for (unsigned i = 0; i < 50; i++) {
        uint64_t when = rd(b.chip, MTIME, 8) + g_test_rand_int_range(1, 3000);
        wr(b.chip, MTIMECMP, 8, when);
        g_assert_true(wait_level(&b, 2));
        g_assert_cmpuint(rd(b.chip, MTIME, 8), >=, when);
        wr(b.chip, MTIMECMP, 8, UINT64_MAX);
        g_assert_cmphex(b.pins.level, ==, 0);
    }
    down(&b);
}

static void test_paused(void)
{
    struct bench b;
    up(&b, "aclint", four_harts);
    clock_stop(b.clock);
    wr(b.chip, MTIMECMP, 8, rd(b.chip, MTIME, 8) + 10);
    g_usleep(5000);
    while (g_main_context_iteration(b.context, FALSE)) {
    }
    g_assert_cmphex(b.pins.level, ==, 0);
    clock_start(b.clock);
    g_assert_true(wait_level(&b, 2));
    down(&b);
}

/* --- RTC --- */

enum {
    TIME_LOW = 0,
    TIME_HIGH = 4,
    ALARM_LOW = 8,
    ALARM_HIGH = 12,
    IRQ_ENABLED = 16,
    CLEAR_ALARM = 20,
    ALARM_STATUS = 24,
    CLEAR_INTERRUPT = 28
};

static uint64_t rtc_time(struct bench *b)
{
    uint64_t low = rd(b->chip, TIME_LOW, 4);
    return rd(b->chip, TIME_HIGH, 4) << 32 | low;
}

static void rtc_set_alarm(struct bench *b, uint64_t when)
{
    wr(b->chip, ALARM_HIGH, 4, when >> 32);
    wr(b->chip, ALARM_LOW, 4, (uint32_t)when);
}

static void test_rtc_time(void)
{
    struct bench b;
    up(&b, "goldfish-rtc", NULL);
    uint64_t before = (uint64_t)g_get_real_time() * 1000, now = rtc_time(&b);
    g_assert_cmpuint(now, >=, before);
    g_assert_cmpuint(now, <=, (uint64_t)g_get_real_time() * 1000);
    uint64_t moon = UINT64_C(14182940) * 1000000000;
    wr(b.chip, TIME_HIGH, 4, moon >> 32);
    wr(b.chip, TIME_LOW, 4, (uint32_t)moon);
    g_assert_cmpuint(rtc_time(&b), >=, moon);
    g_assert_cmpuint(rtc_time(&b), <=, moon + 2000000000);
    device_reset(b.chip); /* the battery keeps the time */
    g_assert_cmpuint(rtc_time(&b), <=, moon + 2000000000);
    down(&b);
}

static void test_rtc_alarm(void)
{
    struct bench b;
    up(&b, "goldfish-rtc", NULL);
    wr(b.chip, IRQ_ENABLED, 4, 1);
    uint64_t when = rtc_time(&b) + 10000000;
    rtc_set_alarm(&b, when);
    g_assert_cmpuint(rd(b.chip, ALARM_STATUS, 4), ==, 1);
    g_assert_cmphex(b.pins.level, ==, 0);
    g_assert_true(wait_level(&b, 1));
    g_assert_cmpuint(rtc_time(&b), >=, when);
    g_assert_cmpuint(rd(b.chip, ALARM_STATUS, 4), ==, 0);
    wr(b.chip, CLEAR_INTERRUPT, 4, 1);
    g_assert_cmphex(b.pins.level, ==, 0);
    rtc_set_alarm(&b, 1); /* the past: at once */
    g_assert_cmphex(b.pins.level, ==, 1);
    wr(b.chip, IRQ_ENABLED, 4, 0);
    g_assert_cmphex(b.pins.level, ==, 0);
    wr(b.chip, CLEAR_INTERRUPT, 4, 1);
    rtc_set_alarm(&b, UINT64_MAX);
    wr(b.chip, CLEAR_ALARM, 4, 1);
    g_assert_cmpuint(rd(b.chip, ALARM_STATUS, 4), ==, 0);
    down(&b);
}

/* --- finisher --- */

struct powered {
    int calls, what, code;
};

static void power(void *opaque, enum device_power what, int code)
{
    struct powered *p = opaque;
    p->calls++;
    p->what = (int)what;
    p->code = code;
}

static void test_finisher(void)
{
    struct powered p = {0};
    struct device_wires wires = {.name = "test", .power = power, .opaque = &p};
    AUTO(device) d = device_new(device_type_find("finisher"), &wires, NULL, NULL);
    wr(d, 0, 4, 0x5555);
    g_assert_cmpint(p.what, ==, DEVICE_POWER_OFF);
    wr(d, 0, 4, 0x3333 | 7 << 16);
    g_assert_cmpint(p.what, ==, DEVICE_POWER_FAIL);
    g_assert_cmpint(p.code, ==, 7);
    wr(d, 0, 4, 0x3333 | 0x100u << 16); /* an exit status that would look like success */
    g_assert_cmpint(p.code, ==, 1);
    wr(d, 0, 2, 0x7777);
    g_assert_cmpint(p.what, ==, DEVICE_POWER_RESET);
    wr(d, 0, 4, 0x1234);
    wr(d, 4, 4, 0x5555);
    g_assert_cmpint(p.calls, ==, 4);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/aclint/msip", test_msip);
    g_test_add_func("/aclint/mtime", test_mtime);
    g_test_add_func("/aclint/mtimecmp", test_mtimecmp);
    g_test_add_func("/aclint/deadlines", test_deadlines);
    g_test_add_func("/aclint/paused", test_paused);
    g_test_add_func("/rtc/time", test_rtc_time);
    g_test_add_func("/rtc/alarm", test_rtc_alarm);
    g_test_add_func("/finisher", test_finisher);
    return g_test_run();
}
