/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio over MMIO (virtio 1.2, section 4.2), version 2: the registers of every virtio device, and of an
 * empty slot. */
#include "base/log.h"
#include "device/virtio/virtio_int.h"

enum {
    MMIO_MAGIC = 0x000,
    MMIO_VERSION = 0x004,
    MMIO_DEVICE_ID = 0x008,
    MMIO_VENDOR_ID = 0x00c,
    MMIO_DEVICE_FEATURES = 0x010,
    MMIO_DEVICE_FEATURES_SEL = 0x014,
    MMIO_DRIVER_FEATURES = 0x020,
    MMIO_DRIVER_FEATURES_SEL = 0x024,
    MMIO_QUEUE_SEL = 0x030,
    MMIO_QUEUE_SIZE_MAX = 0x034,
    MMIO_QUEUE_SIZE = 0x038,
    MMIO_QUEUE_READY = 0x044,
    MMIO_QUEUE_NOTIFY = 0x050,
    MMIO_INTERRUPT_STATUS = 0x060,
    MMIO_INTERRUPT_ACK = 0x064,
    MMIO_STATUS = 0x070,
    MMIO_QUEUE_DESC_LOW = 0x080,
    MMIO_QUEUE_DESC_HIGH = 0x084,
    MMIO_QUEUE_DRIVER_LOW = 0x090,
    MMIO_QUEUE_DRIVER_HIGH = 0x094,
    MMIO_QUEUE_DEVICE_LOW = 0x0a0,
    MMIO_QUEUE_DEVICE_HIGH = 0x0a4,
    MMIO_SHM_SEL = 0x0ac,
    MMIO_SHM_LEN_LOW = 0x0b0,
    MMIO_SHM_LEN_HIGH = 0x0b4,
    MMIO_SHM_BASE_LOW = 0x0b8,
    MMIO_SHM_BASE_HIGH = 0x0bc,
    MMIO_CONFIG_GENERATION = 0x0fc,
    MMIO_CONFIG = 0x100,
    MMIO_EXTENT = 0x1000,
};

#define MAGIC UINT32_C(0x74726976)  /* "virt" */
#define VENDOR UINT32_C(0x4c545348) /* "HSTL" */

/* --- an empty slot --- */

/* The registers that are the same whatever is in the slot; id 0 is nothing, and drivers leave it alone. */
static uint32_t identity(uint64_t offset, uint32_t id)
{
    switch (offset) {
    case MMIO_MAGIC: return MAGIC;
    case MMIO_VERSION: return 2;
    case MMIO_DEVICE_ID: return id;
    case MMIO_VENDOR_ID: return VENDOR;
    default: return 0;
    }
}

static uint64_t empty_read(void *chip, uint64_t offset, unsigned size)
{
    (void)chip;
    return size == 4 ? identity(offset, 0) : 0;
}

static void empty_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    (void)chip;
    (void)offset;
    (void)size;
    (void)value;
}

static void empty_reset(struct device *d)
{
    (void)d;
}

/* --- queue registers --- */

/* Where the selected queue is; NULL, or what makes it impossible. What the driver chose is fixed while the
 * queue is ready and when the device is in use. */
static const char *queue_write_locked(struct virtio *v, uint64_t offset, uint32_t value)
{
    struct virtio_rings *r = &v->rings;
    unsigned i = v->queue_sel;
    if (i >= v->setup.queues)
        return NULL;
    if (offset == MMIO_QUEUE_READY)
        return virtio_queue_ready_locked(v, i, value & 1);
    if (r->ready[i] || v->status & VIRTIO_DRIVER_OK) {
        log_guest(LOG_DEVICE, "%s: queue %u is not to be changed now", v->dev.wires.name, i);
        return NULL;
    }
    const bool high = offset & 4;
    switch (offset & ~UINT64_C(4)) {
    case MMIO_QUEUE_SIZE: r->size[i] = value; break;
    case MMIO_QUEUE_DESC_LOW: r->descriptors[i] = virtio_half(r->descriptors[i], high, value); break;
    case MMIO_QUEUE_DRIVER_LOW: r->driver[i] = virtio_half(r->driver[i], high, value); break;
    case MMIO_QUEUE_DEVICE_LOW: r->device[i] = virtio_half(r->device[i], high, value); break;
    default: break;
    }
    return NULL;
}

/* --- registers --- */

static uint32_t read_locked(const struct virtio *v, uint64_t offset)
{
    const bool there = v->queue_sel < v->setup.queues;
    switch (offset) {
    case MMIO_DEVICE_FEATURES: return virtio_offered_half(v);
    case MMIO_QUEUE_SIZE_MAX: return there ? v->setup.queue_size : 0;
    case MMIO_QUEUE_READY: return there && v->rings.ready[v->queue_sel];
    case MMIO_INTERRUPT_STATUS: return v->interrupt;
    case MMIO_STATUS: return v->status;
    case MMIO_SHM_LEN_LOW:
    case MMIO_SHM_LEN_HIGH:
    case MMIO_SHM_BASE_LOW:
    case MMIO_SHM_BASE_HIGH: return UINT32_MAX; /* no such region */
    case MMIO_CONFIG_GENERATION: return v->generation;
    default: return identity(offset, v->function->id);
    }
}

static uint64_t mmio_read(void *chip, uint64_t offset, unsigned size)
{
    struct virtio *v = chip;
    uint32_t value = 0;
    device_lock(&v->dev);
    if (offset >= MMIO_CONFIG)
        value = virtio_config_read_locked(v, (unsigned)offset - MMIO_CONFIG, size);
    else if (size == 4)
        value = read_locked(v, offset);
    device_release(&v->dev);
    return value;
}

static const char *write_locked(struct virtio *v, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case MMIO_DEVICE_FEATURES_SEL: v->device_features_sel = value; return NULL;
    case MMIO_DRIVER_FEATURES: virtio_want_half_locked(v, value); return NULL;
    case MMIO_DRIVER_FEATURES_SEL: v->driver_features_sel = value; return NULL;
    case MMIO_QUEUE_SEL: v->queue_sel = value; return NULL;
    case MMIO_INTERRUPT_ACK: virtio_interrupt_clear_locked(v, value); return NULL;
    case MMIO_SHM_SEL: v->shm_sel = value; return NULL;
    default: return queue_write_locked(v, offset, value);
    }
}

static void mmio_write(void *chip, uint64_t offset, unsigned size, uint64_t wide)
{
    struct virtio *v = chip;
    const uint32_t value = (uint32_t)wide;
    const char *fault = NULL;
    if (offset < MMIO_CONFIG && size != 4)
        return;
    if (offset == MMIO_QUEUE_NOTIFY) {
        if (value < v->setup.queues)
            virtq_service(v->queue[value]);
        return;
    }
    if (offset == MMIO_STATUS) {
        virtio_set_status(v, value);
        return;
    }
    device_lock(&v->dev);
    if (offset >= MMIO_CONFIG)
        virtio_config_write_locked(v, (unsigned)offset - MMIO_CONFIG, size, value);
    else
        fault = write_locked(v, offset, value);
    device_release(&v->dev);
    if (fault)
        virtio_break(v, fault);
}

const struct bus_ops virtio_mmio_ops = {mmio_read, mmio_write, .min_size = 1, .max_size = 4};

uint64_t virtio_mmio_extent(const struct device *d)
{
    (void)d;
    return MMIO_EXTENT;
}

static const struct bus_ops empty_ops = {empty_read, empty_write, .min_size = 1, .max_size = 4};

const struct device_type device_virtio_mmio = {
    .name = "virtio-mmio",
    .help = "a slot for a virtio device, empty",
    .size = sizeof(struct device),
    .version = 1,
    .ops = &empty_ops,
    .extent = virtio_mmio_extent,
    .reset = empty_reset,
};
