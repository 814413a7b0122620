/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a transport asks of the core of a virtio device. */
#ifndef HOSTEL_DEVICE_VIRTIO_VIRTIO_INT_H
#define HOSTEL_DEVICE_VIRTIO_VIRTIO_INT_H

#include "device/virtio/virtio.h"

/* The features the device offers. */
uint64_t virtio_offered(const struct virtio *v);

/* The driver wrote the status register: 0 resets, and returns when nothing is under way any more; else bits
 * are added. No lock is held. */
void virtio_set_status(struct virtio *v, uint32_t value);

/* The driver wrote the ready register of queue i, whose places are in v->rings. NULL, or what makes it
 * impossible: for virtio_break(), once the lock is released. */
const char *virtio_queue_ready_locked(struct virtio *v, unsigned i, bool ready);

/* Configuration bytes as the driver reads and writes them, size 1, 2 or 4; outside they read as zero. The
 * device's lock is held. */
static inline uint32_t virtio_config_read_locked(const struct virtio *v, unsigned offset, unsigned size)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < size; i++)
        if (offset + i < v->setup.config_size)
            value |= (uint32_t)v->config[offset + i] << 8 * i;
    return value;
}

static inline void virtio_config_write_locked(struct virtio *v, unsigned offset, unsigned size,
                                              uint32_t value)
{
    if (v->function->config_written && offset + size <= v->setup.config_size)
        v->function->config_written(v, offset, size, value);
}

/* A 64-bit register, one half of which is replaced. */
static inline uint64_t virtio_half(uint64_t whole, bool high, uint32_t value)
{
    return high ? (whole & UINT32_MAX) | (uint64_t)value << 32 : (whole & ~(uint64_t)UINT32_MAX) | value;
}

/* A half of the features offered, and of those the driver wants, which once agreed stay. The device's lock is
 * held. */
static inline uint32_t virtio_offered_half(const struct virtio *v)
{
    return v->device_features_sel > 1 ? 0 : (uint32_t)(virtio_offered(v) >> 32 * v->device_features_sel);
}

static inline void virtio_want_half_locked(struct virtio *v, uint32_t value)
{
    if (!(v->status & VIRTIO_FEATURES_OK) && v->driver_features_sel <= 1)
        v->driver_features = virtio_half(v->driver_features, v->driver_features_sel, value);
}

/* The driver has seen these causes of the interrupt. */
void virtio_interrupt_clear_locked(struct virtio *v, uint32_t causes);

#endif
