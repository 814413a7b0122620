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

/* The driver has seen these causes of the interrupt. */
void virtio_interrupt_clear_locked(struct virtio *v, uint32_t causes);

#endif
