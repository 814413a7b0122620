/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The Goldfish real-time clock ("google,goldfish-rtc"): wall time in nanoseconds and one alarm. */
/*
 * Time is the host's wall clock plus an offset that the guest sets by writing the time registers; it goes on
 * while the guest is paused, as a battery-backed clock does. The alarm is kept in wall time; a timer on the
 * guest clock wakes it and looks again, so a pause or a step of the host's clock only delays the look.
 */
#include "device/device.h"

#include "base/bits.h"

enum {
    RTC_TIME_LOW = 0x00,  /* reading it latches TIME_HIGH */
    RTC_TIME_HIGH = 0x04, /* written first: TIME_LOW then sets both */
    RTC_ALARM_LOW = 0x08, /* writing it arms, with ALARM_HIGH as written before */
    RTC_ALARM_HIGH = 0x0c,
    RTC_IRQ_ENABLED = 0x10,
    RTC_CLEAR_ALARM = 0x14,
    RTC_ALARM_STATUS = 0x18,
    RTC_CLEAR_INTERRUPT = 0x1c,
    RTC_EXTENT = 0x1000,
};

struct goldfish_rtc {
    struct device dev;
    uint64_t offset; /* ns to add to the host's wall clock, modulo 2^64 */
    uint64_t alarm;  /* ns, wall time as the guest sees it */
    uint32_t time_high, time_high_write;
    bool armed, pending, enabled;
    struct clock_timer *timer;
};

static uint64_t rtc_now(const struct goldfish_rtc *r)
{
    return (uint64_t)g_get_real_time() * 1000 + r->offset;
}

/* Fires the alarm when its time has come, else arms the timer; and drives the interrupt. */
static void rtc_update_locked(struct goldfish_rtc *r)
{
    uint64_t now = rtc_now(r), deadline = CLOCK_NEVER;
    if (r->armed && r->alarm <= now) {
        r->armed = false;
        r->pending = true;
    } else if (r->armed) {
        uint64_t guest = clock_now(r->dev.wires.clock), wait = r->alarm - now;
        deadline = wait > INT64_MAX - guest ? CLOCK_NEVER : guest + wait;
    }
    clock_timer_set(r->timer, deadline);
    device_pin(&r->dev, 0, r->pending && r->enabled);
}

static void rtc_fired(void *opaque)
{
    struct goldfish_rtc *r = opaque;
    device_lock(&r->dev);
    rtc_update_locked(r);
    device_release(&r->dev);
}

static uint64_t rtc_read(void *chip, uint64_t offset, unsigned size)
{
    struct goldfish_rtc *r = chip;
    uint64_t value = 0, now;
    (void)size;
    device_lock(&r->dev);
    switch (offset) {
    case RTC_TIME_LOW:
        now = rtc_now(r);
        r->time_high = (uint32_t)(now >> 32);
        value = (uint32_t)now;
        break;
    case RTC_TIME_HIGH: value = r->time_high; break;
    case RTC_ALARM_LOW: value = (uint32_t)r->alarm; break;
    case RTC_ALARM_HIGH: value = r->alarm >> 32; break;
    case RTC_IRQ_ENABLED: value = r->enabled; break;
    case RTC_ALARM_STATUS: value = r->armed; break;
    default: break;
    }
    device_release(&r->dev);
    return value;
}

static void rtc_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    struct goldfish_rtc *r = chip;
    (void)size;
    device_lock(&r->dev);
    switch (offset) {
    case RTC_TIME_LOW: r->offset += ((uint64_t)r->time_high_write << 32 | value) - rtc_now(r); break;
    case RTC_TIME_HIGH: r->time_high_write = (uint32_t)value; break;
    case RTC_ALARM_LOW:
        r->alarm = bits_set(r->alarm, 0, 32, value);
        r->armed = true;
        break;
    case RTC_ALARM_HIGH: r->alarm = bits_set(r->alarm, 32, 32, value); break;
    case RTC_IRQ_ENABLED: r->enabled = value & 1; break;
    case RTC_CLEAR_ALARM: r->armed = false; break;
    case RTC_CLEAR_INTERRUPT: r->pending = false; break;
    default: break;
    }
    rtc_update_locked(r);
    device_release(&r->dev);
}

static const struct bus_ops rtc_ops = {rtc_read, rtc_write, .min_size = 4, .max_size = 4};

static uint64_t rtc_extent(const struct device *d)
{
    (void)d;
    return RTC_EXTENT;
}

static bool rtc_init(struct device *d, GError **error)
{
    struct goldfish_rtc *r = (struct goldfish_rtc *)(void *)d;
    (void)error;
    r->timer = clock_timer_new(d->wires.clock, rtc_fired, r);
    return true;
}

static void rtc_destroy(struct device *d)
{
    struct goldfish_rtc *r = (struct goldfish_rtc *)(void *)d;
    clock_timer_free(r->timer);
}

/* The offset outlives a reset: the clock has a battery. */
static void rtc_reset(struct device *d)
{
    struct goldfish_rtc *r = (struct goldfish_rtc *)(void *)d;
    r->alarm = 0;
    r->time_high = r->time_high_write = 0;
    r->armed = r->pending = r->enabled = false;
    clock_timer_set(r->timer, CLOCK_NEVER);
}

static bool rtc_post_load(struct device *d)
{
    rtc_update_locked((struct goldfish_rtc *)(void *)d);
    return true;
}

static const struct state_field rtc_state[] = {
    STATE_FIELD(goldfish_rtc, offset, STATE_U64, 1),
    STATE_FIELD(goldfish_rtc, alarm, STATE_U64, 1),
    STATE_FIELD(goldfish_rtc, time_high, STATE_U32, 1),
    STATE_FIELD(goldfish_rtc, time_high_write, STATE_U32, 1),
    STATE_FIELD(goldfish_rtc, armed, STATE_BOOL, 1),
    STATE_FIELD(goldfish_rtc, pending, STATE_BOOL, 1),
    STATE_FIELD(goldfish_rtc, enabled, STATE_BOOL, 1),
    {0},
};

const struct device_type device_goldfish_rtc = {
    .name = "goldfish-rtc",
    .help = "wall clock with an alarm",
    .size = sizeof(struct goldfish_rtc),
    .state = rtc_state,
    .version = 1,
    .ops = &rtc_ops,
    .init = rtc_init,
    .extent = rtc_extent,
    .reset = rtc_reset,
    .post_load = rtc_post_load,
    .destroy = rtc_destroy,
};
