/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* ACLINT in the layout of the SiFive CLINT: software interrupts (MSWI) and machine timers (MTIMER) of all
 * harts. */
/*
 * RISC-V ACLINT specification 1.0, chapters 2 and 3:
 *     0x0000 + 4 * hart   MSIP       bit 0 drives the hart's machine software interrupt
 *     0x4000 + 8 * hart   MTIMECMP   MTIP = mtime >= mtimecmp
 *     0xbff8              MTIME      writable; counts guest time at the timebase frequency
 * Output pins: 2 * hart is MSIP, 2 * hart + 1 is MTIP.
 *
 * mtime is never stored: it is guest time scaled to ticks, plus an offset that a write changes.
 */
#include "device/device.h"

#include <string.h>

#include "base/bits.h"

enum { ACLINT_HARTS = DEVICE_PINS_MAX / 2 };
enum { ACLINT_MSIP = 0x0000, ACLINT_MTIMECMP = 0x4000, ACLINT_MTIME = 0xbff8, ACLINT_EXTENT = 0x10000 };

struct aclint_timer {
    struct aclint *aclint;
    unsigned hart;
    struct clock_timer *timer;
};

struct aclint {
    struct device dev;
    uint32_t harts;
    uint64_t frequency; /* ticks per second */
    uint8_t msip[ACLINT_HARTS];
    uint64_t mtimecmp[ACLINT_HARTS];
    uint64_t offset; /* mtime = ticks of guest time + offset, modulo 2^64 */
    struct aclint_timer timers[ACLINT_HARTS];
};

static uint64_t mtime_locked(const struct aclint *a)
{
    unsigned __int128 ticks = (unsigned __int128)clock_now(a->dev.wires.clock) * a->frequency / 1000000000;
    return (uint64_t)ticks + a->offset;
}

/* The first guest nanosecond in which mtime has grown by ticks from now on; CLOCK_NEVER when that is beyond
 * the clock. */
static uint64_t deadline_after(const struct aclint *a, uint64_t ticks)
{
    uint64_t now = clock_now(a->dev.wires.clock);
    unsigned __int128 tick_now = (unsigned __int128)now * a->frequency / 1000000000;
    unsigned __int128 ns = ((tick_now + ticks) * 1000000000 + a->frequency - 1) / a->frequency;
    return ns > INT64_MAX ? CLOCK_NEVER : (uint64_t)ns;
}

/* Recomputes MTIP of the hart and arms its timer for the moment it will change. */
static void update_timer_locked(struct aclint *a, unsigned hart)
{
    uint64_t now = mtime_locked(a);
    bool due = now >= a->mtimecmp[hart];
    device_pin(&a->dev, 2 * hart + 1, due);
    clock_timer_set(a->timers[hart].timer, due ? CLOCK_NEVER : deadline_after(a, a->mtimecmp[hart] - now));
}

static void timer_fired(void *opaque)
{
    struct aclint_timer *t = opaque;
    struct aclint *a = t->aclint;
    device_lock(&a->dev);
    update_timer_locked(a, t->hart);
    device_release(&a->dev);
}

/* Half or whole of a 64-bit register, by the access's offset in it. */
static uint64_t part_read(uint64_t reg, uint64_t offset, unsigned size)
{
    return bits_get(reg, (unsigned)(offset & 7) * 8, size * 8);
}

static uint64_t part_write(uint64_t reg, uint64_t offset, unsigned size, uint64_t value)
{
    return size == 8 ? value : bits_set(reg, (unsigned)(offset & 7) * 8, size * 8, value);
}

static uint64_t aclint_read(void *chip, uint64_t offset, unsigned size)
{
    struct aclint *a = chip;
    uint64_t value = 0;
    device_lock(&a->dev);
    if (offset - ACLINT_MTIMECMP < 8 * (uint64_t)a->harts)
        value = part_read(a->mtimecmp[(offset - ACLINT_MTIMECMP) / 8], offset, size);
    else if (offset >= ACLINT_MTIME && offset < ACLINT_MTIME + 8)
        value = part_read(mtime_locked(a), offset, size);
    else if (offset < 4 * (uint64_t)a->harts && size == 4)
        value = a->msip[offset / 4];
    device_release(&a->dev);
    return value;
}

static void aclint_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    struct aclint *a = chip;
    device_lock(&a->dev);
    if (offset < 4 * (uint64_t)a->harts && size == 4) {
        unsigned hart = (unsigned)(offset / 4);
        a->msip[hart] = value & 1;
        device_pin(&a->dev, 2 * hart, value & 1);
    } else if (offset - ACLINT_MTIMECMP < 8 * (uint64_t)a->harts) {
        unsigned hart = (unsigned)((offset - ACLINT_MTIMECMP) / 8);
        a->mtimecmp[hart] = part_write(a->mtimecmp[hart], offset, size, value);
        update_timer_locked(a, hart);
    } else if (offset >= ACLINT_MTIME && offset < ACLINT_MTIME + 8) {
        uint64_t now = mtime_locked(a);
        a->offset += part_write(now, offset, size, value) - now;
        for (unsigned i = 0; i < a->harts; i++)
            update_timer_locked(a, i);
    }
    device_release(&a->dev);
}

static const struct bus_ops aclint_ops = {aclint_read, aclint_write, .min_size = 4, .max_size = 8};

static uint64_t aclint_extent(const struct device *d)
{
    (void)d;
    return ACLINT_EXTENT;
}

static bool aclint_init(struct device *d, GError **error)
{
    struct aclint *a = (struct aclint *)(void *)d;
    (void)error;
    for (unsigned i = 0; i < a->harts; i++) {
        a->timers[i] = (struct aclint_timer){.aclint = a, .hart = i};
        a->timers[i].timer = clock_timer_new(d->wires.clock, timer_fired, &a->timers[i]);
    }
    return true;
}

static void aclint_destroy(struct device *d)
{
    struct aclint *a = (struct aclint *)(void *)d;
    for (unsigned i = 0; i < a->harts; i++)
        clock_timer_free(a->timers[i].timer);
}

/* mtimecmp is unspecified at reset; the largest value keeps MTIP quiet until software sets it. */
static void aclint_reset(struct device *d)
{
    struct aclint *a = (struct aclint *)(void *)d;
    memset(a->msip, 0, sizeof(a->msip));
    memset(a->mtimecmp, 0xff, sizeof(a->mtimecmp));
    a->offset = 0;
    for (unsigned i = 0; i < a->harts; i++)
        clock_timer_set(a->timers[i].timer, CLOCK_NEVER);
}

static bool aclint_post_load(struct device *d)
{
    struct aclint *a = (struct aclint *)(void *)d;
    for (unsigned i = 0; i < a->harts; i++) {
        if (a->msip[i] > 1)
            return false;
        device_pin(d, 2 * i, a->msip[i]);
        update_timer_locked(a, i);
    }
    return true;
}

static const struct device_option aclint_options[] = {
    {"harts", "how many harts it serves", STATE_U32, offsetof(struct aclint, harts), 1, 1, ACLINT_HARTS},
    {"frequency", "ticks of mtime per second", STATE_U64, offsetof(struct aclint, frequency), 10000000, 1,
     1000000000},
    {0},
};

static const struct state_field aclint_state[] = {
    STATE_FIELD(aclint, msip, STATE_U8, 1),
    STATE_FIELD(aclint, mtimecmp, STATE_U64, 1),
    STATE_FIELD(aclint, offset, STATE_U64, 1),
    {0},
};

const struct device_type device_aclint = {
    .name = "aclint",
    .help = "RISC-V software interrupts and timers (CLINT layout)",
    .size = sizeof(struct aclint),
    .options = aclint_options,
    .state = aclint_state,
    .version = 1,
    .ops = &aclint_ops,
    .init = aclint_init,
    .extent = aclint_extent,
    .reset = aclint_reset,
    .post_load = aclint_post_load,
    .destroy = aclint_destroy,
};
