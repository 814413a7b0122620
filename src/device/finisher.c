/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The test finisher ("sifive,test1"): one register through which a guest powers off, reports failure or asks
 * for a reset. */
#include "device/device.h"

#include "base/log.h"

/* Low half of the word written at offset 0; the high half is the code of FINISHER_FAIL. */
enum { FINISHER_FAIL = 0x3333, FINISHER_PASS = 0x5555, FINISHER_RESET = 0x7777 };

struct finisher {
    struct device dev;
};

static uint64_t finisher_read(void *chip, uint64_t offset, unsigned size)
{
    (void)chip;
    (void)offset;
    (void)size;
    return 0;
}

/* An exit status has 8 bits, and 0 would look like success. */
static int exit_code(uint64_t value)
{
    int code = (int)(value >> 16 & 0xff);
    return code ? code : 1;
}

static void finisher_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    struct device *d = chip;
    (void)size;
    if (offset || !d->wires.power)
        return;
    switch (value & 0xffff) {
    case FINISHER_PASS: d->wires.power(d->wires.opaque, DEVICE_POWER_OFF, 0); return;
    case FINISHER_FAIL: d->wires.power(d->wires.opaque, DEVICE_POWER_FAIL, exit_code(value)); return;
    case FINISHER_RESET: d->wires.power(d->wires.opaque, DEVICE_POWER_RESET, 0); return;
    default: log_guest(LOG_DEVICE, "%s: unknown value 0x%x", d->wires.name, (unsigned)value);
    }
}

static const struct bus_ops finisher_ops = {finisher_read, finisher_write, .min_size = 2, .max_size = 4};

static uint64_t finisher_extent(const struct device *d)
{
    (void)d;
    return 0x1000;
}

static void finisher_reset(struct device *d)
{
    (void)d;
}

const struct device_type device_finisher = {
    .name = "finisher",
    .help = "power off, failure code and reset by one register (SiFive test device)",
    .size = sizeof(struct finisher),
    .version = 1,
    .ops = &finisher_ops,
    .extent = finisher_extent,
    .reset = finisher_reset,
};
