/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The watchdog on a guest clock that is set forward by hand, and the panic notice. */
#include "bus/clock.h"
#include "fake.h"

/* Registers and values as Linux's sunxi_wdt driver has them for the A31. */
enum { IRQ_ENABLE = 0, IRQ_STATUS = 4, CONTROL = 0x10, CONFIG = 0x14, MODE = 0x18 };
enum { FEED = 0x14af, TO_SYSTEM = 1, TO_INTERRUPT = 2, ENABLE = 1 };

#define MS UINT64_C(1000000)

struct bench {
    GMainContext *context;
    struct clock *clock;
    struct pins pins;
    struct device *chip;
    unsigned notices[8];
};

static void on_notice(void *opaque, enum device_notice what)
{
    ((struct bench *)opaque)->notices[what]++;
}

static void up(struct bench *b, const char *type)
{
    struct irq_line lines[1];
    memset(b, 0, sizeof(*b));
    b->context = g_main_context_new();
    b->clock = clock_new(b->context);
    pins_lines(&b->pins, lines, 1);
    const struct device_wires wires = {.name = type,
                                       .clock = b->clock,
                                       .outputs = lines,
                                       .output_count = 1,
                                       .notice = on_notice,
                                       .opaque = b};
    b->chip = device_new(device_type_find(type), &wires, NULL, NULL);
    g_assert_nonnull(b->chip);
}

static void down(struct bench *b)
{
    device_free(b->chip);
    clock_free(b->clock);
    g_main_context_unref(b->context);
}

/* Guest time goes on by so much; what is due then fires. Returns how often the watchdog has bitten so far. */
static unsigned pass(struct bench *b, uint64_t ms)
{
    clock_set(b->clock, clock_now(b->clock) + ms * MS);
    clock_start(b->clock);
    for (unsigned quiet = 0; quiet < 3;)
        quiet = g_main_context_iteration(b->context, FALSE) ? 0 : quiet + 1;
    clock_stop(b->clock);
    return b->notices[DEVICE_NOTICE_WATCHDOG];
}

static void start(struct bench *b, unsigned interval)
{
    wr(b->chip, CONFIG, 4, TO_SYSTEM);
    wr(b->chip, MODE, 4, interval << 4 | ENABLE);
}

static void test_off(void)
{
    struct bench b;
    up(&b, "sunxi-wdt");
    g_assert_cmpuint(pass(&b, 100000), ==, 0);
    wr(b.chip, CONTROL, 4, FEED); /* does not begin anything */
    g_assert_cmpuint(pass(&b, 100000), ==, 0);
    start(&b, 1);
    wr(b.chip, MODE, 4, 0);
    g_assert_cmpuint(pass(&b, 100000), ==, 0);
    down(&b);
}

static void test_intervals(void)
{
    static const unsigned seconds[] = {0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16};
    for (unsigned i = 0; i < G_N_ELEMENTS(seconds); i++) {
        struct bench b;
        up(&b, "sunxi-wdt");
        start(&b, i);
        const unsigned ms = i ? seconds[i] * 1000 : 500;
        g_assert_cmpuint(pass(&b, ms - 250), ==, 0); /* the clock runs while something is due to fire */
        g_assert_cmpuint(pass(&b, 250), ==, 1);
        down(&b);
    }
}

static void test_feeding(void)
{
    struct bench b;
    up(&b, "sunxi-wdt");
    start(&b, 2);
    for (unsigned i = 0; i < 10; i++) {
        g_assert_cmpuint(pass(&b, 1500), ==, 0);
        wr(b.chip, CONTROL, 4, FEED);
    }
    g_assert_cmpuint(pass(&b, 1500), ==, 0);
    wr(b.chip, CONTROL, 4, FEED ^ 2);     /* the key is wrong */
    wr(b.chip, CONTROL, 4, FEED & ~1);    /* no restart */
    wr(b.chip, MODE, 4, 2 << 4 | ENABLE); /* nothing new */
    g_assert_cmpuint(pass(&b, 700), ==, 1);
    g_assert_cmpuint(pass(&b, 100000), ==, 1); /* says it once, */
    wr(b.chip, CONTROL, 4, FEED);
    g_assert_cmpuint(pass(&b, 1500), ==, 1);
    g_assert_cmpuint(pass(&b, 700), ==, 2); /* and again when it was fed in between */
    down(&b);
}

static void test_interrupt(void)
{
    struct bench b;
    up(&b, "sunxi-wdt");
    start(&b, 1);
    wr(b.chip, CONFIG, 4, TO_INTERRUPT);
    wr(b.chip, IRQ_ENABLE, 4, 1);
    g_assert_cmpuint(pass(&b, 1200), ==, 0);
    g_assert_cmphex(b.pins.level, ==, 1);
    g_assert_cmphex(rd(b.chip, IRQ_STATUS, 4), ==, 1);
    wr(b.chip, IRQ_STATUS, 4, 1);
    g_assert_cmphex(b.pins.level, ==, 0);
    down(&b);
}

/* A reset ends it, the guest's time standing still does not run it down, and what is left of it is saved. */
static void test_life(void)
{
    struct bench a, b;
    up(&a, "sunxi-wdt");
    up(&b, "sunxi-wdt");
    start(&a, 4);
    g_assert_cmpuint(pass(&a, 3000), ==, 0);
    g_usleep(2000);
    g_assert_cmpuint(pass(&a, 0), ==, 0);
    g_autofree uint8_t *state = g_malloc(device_state_size(a.chip->type));
    device_state_save(a.chip, state);
    clock_set(b.clock, clock_now(a.clock));
    g_assert_true(device_state_load(b.chip, state));
    g_assert_cmpuint(pass(&b, 500), ==, 0);
    g_assert_cmpuint(pass(&b, 600), ==, 1);
    device_reset(a.chip);
    g_assert_cmpuint(pass(&a, 100000), ==, 0);
    g_assert_cmphex(rd(a.chip, MODE, 4), ==, 0);
    down(&a);
    down(&b);
}

static void test_panic(void)
{
    struct bench b;
    up(&b, "pvpanic");
    g_assert_cmphex(rd(b.chip, 0, 1), ==, 3);
    wr(b.chip, 0, 1, 0);
    wr(b.chip, 0, 1, 0xfc);
    wr(b.chip, 1, 1, 1);
    g_assert_cmpuint(b.notices[DEVICE_NOTICE_PANICKED] + b.notices[DEVICE_NOTICE_CRASH_LOADED], ==, 0);
    wr(b.chip, 0, 1, 1);
    g_assert_cmpuint(b.notices[DEVICE_NOTICE_PANICKED], ==, 1);
    wr(b.chip, 0, 1, 2);
    g_assert_cmpuint(b.notices[DEVICE_NOTICE_PANICKED], ==, 1);
    g_assert_cmpuint(b.notices[DEVICE_NOTICE_CRASH_LOADED], ==, 1);
    down(&b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/watchdog/off", test_off);
    g_test_add_func("/watchdog/intervals", test_intervals);
    g_test_add_func("/watchdog/feeding", test_feeding);
    g_test_add_func("/watchdog/interrupt", test_interrupt);
    g_test_add_func("/watchdog/life", test_life);
    g_test_add_func("/panic", test_panic);
    return g_test_run();
}
