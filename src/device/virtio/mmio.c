/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A virtio-mmio slot (virtio 1.2, section 4.2): the transport's registers, with no device behind it yet. */
#include "device/device.h"

enum { MMIO_MAGIC = 0x000, MMIO_VERSION = 0x004, MMIO_DEVICE_ID = 0x008, MMIO_VENDOR_ID = 0x00c };

struct virtio_mmio {
    struct device dev;
};

static uint64_t mmio_read(void *chip, uint64_t offset, unsigned size)
{
    (void)chip;
    if (size != 4) /* registers are words; only configuration space, absent here, has narrower ones */
        return 0;
    switch (offset) {
    case MMIO_MAGIC: return 0x74726976;     /* "virt" */
    case MMIO_VERSION: return 2;            /* not legacy */
    case MMIO_DEVICE_ID: return 0;          /* an empty slot: drivers leave it alone */
    case MMIO_VENDOR_ID: return 0x4c545348; /* "HSTL" */
    default: return 0;
    }
}

static void mmio_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    (void)chip;
    (void)offset;
    (void)size;
    (void)value;
}

static const struct bus_ops mmio_ops = {mmio_read, mmio_write, .min_size = 1, .max_size = 4};

static uint64_t mmio_extent(const struct device *d)
{
    (void)d;
    return 0x1000;
}

static void mmio_reset(struct device *d)
{
    (void)d;
}

const struct device_type device_virtio_mmio = {
    .name = "virtio-mmio",
    .help = "a slot for a virtio device, empty",
    .size = sizeof(struct virtio_mmio),
    .version = 1,
    .ops = &mmio_ops,
    .extent = mmio_extent,
    .reset = mmio_reset,
};
