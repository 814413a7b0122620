/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The watchdog of Allwinner's A31 ("allwinner,sun6i-a31-wdt"): a guest that does not feed it in time is
 * stuck. */
/*
 * Specification: Allwinner A31 user manual, timer, watchdog 0. It is the watchdog that distributions' kernels
 * for riscv64 have a driver for and that needs neither clocks nor reset lines of a particular board.
 *
 * It counts the guest's time, so a guest that is paused need not feed it. When the time is over it says so
 * once (or, as the guest wishes, only interrupts) and then waits to be fed again: a guest that was merely
 * slow, and is let go on, is watched as before.
 */
#include "device/device.h"

#include "base/bits.h"

enum {
    WDT_IRQ_ENABLE = 0x00,
    WDT_IRQ_STATUS = 0x04, /* write 1 to clear */
    WDT_CONTROL = 0x10,
    WDT_CONFIG = 0x14,
    WDT_MODE = 0x18,
    WDT_EXTENT = 0x20,
};

enum {
    CONTROL_FEED = 0xa57 << 1 | 1,
    CONFIG_SYSTEM = 1, /* of two bits; 2: interrupt only */
    CONFIG_MASK = 3,
    MODE_ENABLE = 1,
    MODE_INTERVAL = 4, /* bits 4 to 7 */
    MODE_MASK = 0xf << MODE_INTERVAL | MODE_ENABLE,
};

struct sunxi_wdt {
    struct device dev;
    uint32_t config, mode;
    bool irq_enable, irq_status;
    uint64_t deadline; /* guest ns; CLOCK_NEVER: not counting */
    struct clock_timer *timer;
};

/* Seconds by the number in the mode register, in halves. */
static uint64_t interval_ns(const struct sunxi_wdt *w)
{
    static const uint8_t halves[16] = {1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 1, 1, 1, 1};
    return halves[w->mode >> MODE_INTERVAL & 0xf] * UINT64_C(500000000);
}

static void feed_locked(struct sunxi_wdt *w)
{
    w->deadline = w->mode & MODE_ENABLE ? clock_now(w->dev.wires.clock) + interval_ns(w) : CLOCK_NEVER;
    clock_timer_set(w->timer, w->deadline);
}

static void update_pin_locked(struct sunxi_wdt *w)
{
    device_pin(&w->dev, 0, w->irq_enable && w->irq_status);
}

static void wdt_fired(void *opaque)
{
    struct sunxi_wdt *w = opaque;
    struct device_wires *wires = &w->dev.wires;
    device_lock(&w->dev);
    const bool over = w->deadline <= clock_now(wires->clock); /* else it was fed meanwhile */
    if (over) {
        w->deadline = CLOCK_NEVER;
        w->irq_status = true;
        update_pin_locked(w);
        if ((w->config & CONFIG_MASK) == CONFIG_SYSTEM && wires->notice)
            wires->notice(wires->opaque, DEVICE_NOTICE_WATCHDOG);
    }
    device_release(&w->dev);
}

static uint64_t wdt_read(void *chip, uint64_t offset, unsigned size)
{
    struct sunxi_wdt *w = chip;
    uint64_t value = 0;
    (void)size;
    device_lock(&w->dev);
    switch (offset) {
    case WDT_IRQ_ENABLE: value = w->irq_enable; break;
    case WDT_IRQ_STATUS: value = w->irq_status; break;
    case WDT_CONFIG: value = w->config; break;
    case WDT_MODE: value = w->mode; break;
    default: break;
    }
    device_release(&w->dev);
    return value;
}

static void wdt_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    struct sunxi_wdt *w = chip;
    (void)size;
    device_lock(&w->dev);
    switch (offset) {
    case WDT_IRQ_ENABLE: w->irq_enable = value & 1; break;
    case WDT_IRQ_STATUS: w->irq_status = w->irq_status && !(value & 1); break;
    case WDT_CONTROL:
        if ((value & 0x1fff) == CONTROL_FEED)
            feed_locked(w);
        break;
    case WDT_CONFIG: w->config = value & CONFIG_MASK; break;
    case WDT_MODE: {
        const uint32_t old = w->mode;
        w->mode = (uint32_t)value & MODE_MASK;
        if (w->mode != old) /* to write the same again is not to feed */
            feed_locked(w);
        break;
    }
    default: break;
    }
    update_pin_locked(w);
    device_release(&w->dev);
}

static const struct bus_ops wdt_ops = {wdt_read, wdt_write, .min_size = 4, .max_size = 4};

static uint64_t wdt_extent(const struct device *d)
{
    (void)d;
    return WDT_EXTENT;
}

static bool wdt_init(struct device *d, GError **error)
{
    struct sunxi_wdt *w = (struct sunxi_wdt *)(void *)d;
    (void)error;
    w->timer = clock_timer_new(d->wires.clock, wdt_fired, w);
    return true;
}

static void wdt_destroy(struct device *d)
{
    clock_timer_free(((struct sunxi_wdt *)(void *)d)->timer);
}

static void wdt_reset(struct device *d)
{
    struct sunxi_wdt *w = (struct sunxi_wdt *)(void *)d;
    w->config = CONFIG_SYSTEM;
    w->mode = 0;
    w->irq_enable = w->irq_status = false;
    feed_locked(w);
    update_pin_locked(w);
}

static bool wdt_post_load(struct device *d)
{
    struct sunxi_wdt *w = (struct sunxi_wdt *)(void *)d;
    if (w->config & ~(uint32_t)CONFIG_MASK || w->mode & ~(uint32_t)MODE_MASK)
        return false;
    if (!(w->mode & MODE_ENABLE) && w->deadline != CLOCK_NEVER)
        return false;
    clock_timer_set(w->timer, w->deadline);
    update_pin_locked(w);
    return true;
}

static const struct state_field wdt_state[] = {
    STATE_FIELD(sunxi_wdt, config, STATE_U32, 1),      STATE_FIELD(sunxi_wdt, mode, STATE_U32, 1),
    STATE_FIELD(sunxi_wdt, irq_enable, STATE_BOOL, 1), STATE_FIELD(sunxi_wdt, irq_status, STATE_BOOL, 1),
    STATE_FIELD(sunxi_wdt, deadline, STATE_U64, 1),    {0},
};

const struct device_type device_sunxi_wdt = {
    .name = "sunxi-wdt",
    .help = "watchdog",
    .size = sizeof(struct sunxi_wdt),
    .state = wdt_state,
    .version = 1,
    .ops = &wdt_ops,
    .init = wdt_init,
    .extent = wdt_extent,
    .reset = wdt_reset,
    .post_load = wdt_post_load,
    .destroy = wdt_destroy,
};
