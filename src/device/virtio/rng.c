/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio entropy device (virtio 1.2, section 5.4): random bytes of the host's. */
#include <sys/random.h>

#include "device/virtio/virtio.h"

/* What one request gets at most, however large its buffers: drivers take what they are given and ask again.
 * So a kick costs at most RNG_QUEUE requests of this size, some hundred microseconds. */
enum { RNG_REQUEST_MAX = 256, RNG_QUEUE = 64 };

struct virtio_rng {
    struct virtio virtio;
};

static void rng_kick(struct virtq *q)
{
    struct virtq_request *r;
    unsigned n = 0;
    for (; n < RNG_QUEUE && virtq_pop(q, &r, 1); n++) {
        uint8_t bytes[RNG_REQUEST_MAX];
        size_t size = MIN(sizeof(bytes), r->writable_size);
        ssize_t got = getrandom(bytes, size, 0); /* of this size it is never cut short */
        if (got > 0 && virtq_put(r, 0, bytes, (size_t)got))
            r->written = (uint32_t)got;
        virtq_push(q, &r, 1);
    }
    virtq_notify(q);
    if (n == RNG_QUEUE)
        virtq_leave(q);
}

static const struct virtio_function rng_function = {.id = VIRTIO_ID_RNG, .kick = rng_kick};

static bool rng_init(struct device *d, GError **error)
{
    const struct virtio_setup setup = {.queues = 1, .queue_size = RNG_QUEUE};
    return virtio_init(d, &rng_function, &setup, error);
}

const struct device_type device_virtio_rng = {
    .name = "virtio-rng",
    .help = "source of random numbers",
    .size = sizeof(struct virtio_rng),
    .options = virtio_options,
    .init = rng_init,
    .destroy = virtio_destroy,
    VIRTIO_TYPE,
};
