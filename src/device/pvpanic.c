/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The panic notice ("qemu,pvpanic-mmio"): one byte by which a guest says that its kernel has panicked. */
/*
 * Specification: QEMU, docs/specs/pvpanic. Reading tells which of the events the device knows, writing is one
 * of them or several.
 */
#include "device/device.h"

enum { PANICKED = 1, CRASH_LOADED = 2 /* panicked, and a kernel of its own deals with it */ };

struct pvpanic {
    struct device dev;
};

static uint64_t pvpanic_read(void *chip, uint64_t offset, unsigned size)
{
    (void)chip;
    (void)size;
    return offset ? 0 : PANICKED | CRASH_LOADED;
}

static void pvpanic_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    const struct device *d = chip;
    (void)size;
    if (offset || !d->wires.notice)
        return;
    if (value & PANICKED)
        d->wires.notice(d->wires.opaque, DEVICE_NOTICE_PANICKED);
    if (value & CRASH_LOADED)
        d->wires.notice(d->wires.opaque, DEVICE_NOTICE_CRASH_LOADED);
}

static const struct bus_ops pvpanic_ops = {pvpanic_read, pvpanic_write, .min_size = 1, .max_size = 1};

static uint64_t pvpanic_extent(const struct device *d)
{
    (void)d;
    return 2;
}

static void pvpanic_reset(struct device *d)
{
    (void)d;
}

const struct device_type device_pvpanic = {
    .name = "pvpanic",
    .help = "notice of a panic of the guest's kernel",
    .size = sizeof(struct pvpanic),
    .version = 1,
    .ops = &pvpanic_ops,
    .extent = pvpanic_extent,
    .reset = pvpanic_reset,
};
