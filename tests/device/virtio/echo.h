/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A virtio function for tests: each request's readable bytes come back in its writable buffers, each bit
 * turned over; at once, or when the test says so. */
#ifndef HOSTEL_TESTS_DEVICE_VIRTIO_ECHO_H
#define HOSTEL_TESTS_DEVICE_VIRTIO_ECHO_H

#include "device/virtio/virtio.h"

struct echo {
    struct virtio virtio;
    bool hold;                                  /* keep requests instead of answering */
    struct virtq_request *held[VIRTQ_SIZE_MAX]; /* those kept, under a lock of its own */
    unsigned n_held;
    pthread_mutex_t lock;
    unsigned activated, stopped, kicks;
    _Atomic int in_kick; /* threads in it now */
    void (*on_stop)(struct echo *e);
    void (*on_kick)(struct echo *e);
};

extern const struct device_type echo_type;

static inline struct echo *echo_of(struct virtio *v)
{
    return (struct echo *)(void *)v;
}

/* Does the work of a request; the caller pushes. */
void echo_work(struct virtq_request *r);

#endif
