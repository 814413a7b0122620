/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The generation ID ("microsoft,vmgenid"): a random number that is another one in each copy of a guest. */
/*
 * Specification: Microsoft, Virtual Machine Generation ID (2012); Linux, bindings/rng/microsoft,vmgenid.
 *
 * The number changes when the guest may have become one of several that remember the same: loaded from a
 * file, gone back to a snapshot, cloned. It does not when the guest is paused, reset or moved to another
 * host. With each change comes an interrupt; what the guest had drawn before from its random number
 * generator, it must not draw from again. The line is an edge: there is nothing by which a driver could
 * acknowledge it, so the interrupt controller's gateway remembers it.
 *
 * The chip does not find out by itself. Loading gives it the number that was saved, as all state, and the
 * machine's keeper, who knows whether there can be two of the guest, renews it. A guest that has not looked
 * at the number since it began has drawn nothing by it, and is not interrupted: Linux's driver would fall
 * over an interrupt that it finds pending when it starts.
 */
#include "device/vmgenid.h"

#include <string.h>

struct vmgenid {
    struct device dev;
    uint8_t id[VMGENID_SIZE];
    bool looked; /* the guest has read it since the last reset */
};

static uint64_t vmgenid_read(void *chip, uint64_t offset, unsigned size)
{
    struct vmgenid *g = chip;
    uint64_t value = 0;
    device_lock(&g->dev);
    g->looked = true;
    for (unsigned i = 0; i < size && offset + i < VMGENID_SIZE; i++)
        value |= (uint64_t)g->id[offset + i] << 8 * i;
    device_release(&g->dev);
    return value;
}

static void vmgenid_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    (void)chip;
    (void)offset;
    (void)size;
    (void)value;
}

/* Drivers copy it as memory, in pieces of whatever size their copying likes. */
static const struct bus_ops vmgenid_ops = {vmgenid_read, vmgenid_write, .min_size = 1, .max_size = 8};

static uint64_t vmgenid_extent(const struct device *d)
{
    (void)d;
    return VMGENID_SIZE;
}

/* The number stays. */
static void vmgenid_reset(struct device *d)
{
    ((struct vmgenid *)(void *)d)->looked = false;
}

void vmgenid_set(struct device *d, const uint8_t id[VMGENID_SIZE])
{
    struct vmgenid *g = (struct vmgenid *)(void *)d;
    device_lock(d);
    memcpy(g->id, id, VMGENID_SIZE);
    device_release(d);
}

void vmgenid_renew(struct device *d, const uint8_t id[VMGENID_SIZE])
{
    const struct vmgenid *g = (struct vmgenid *)(void *)d;
    vmgenid_set(d, id);
    device_lock(d);
    device_pin(d, 0, g->looked);
    device_release(d);
    device_lock(d);
    device_pin(d, 0, false);
    device_release(d);
}

static const struct state_field vmgenid_state[] = {
    STATE_FIELD(vmgenid, id, STATE_U8, 1),
    STATE_FIELD(vmgenid, looked, STATE_BOOL, 2),
    {0},
};

const struct device_type device_vmgenid = {
    .name = "vmgenid",
    .help = "number that differs between copies of a guest",
    .size = sizeof(struct vmgenid),
    .state = vmgenid_state,
    .version = 2,
    .ops = &vmgenid_ops,
    .extent = vmgenid_extent,
    .reset = vmgenid_reset,
};
