/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A virtio function for tests. */
#include "echo.h"

#include <stdatomic.h>
#include <string.h>

enum { ECHO_QUEUES = 2, ECHO_QUEUE_SIZE = 256, ECHO_PIECE = 4096 };

/* Longer than its own head, to see that requests of any size lie right. */
struct echo_request {
    struct virtq_request request;
    uint64_t mark[3];
};

void echo_work(struct virtq_request *r)
{
    uint64_t size = MIN(r->readable_size, r->writable_size);
    struct echo_request *mine = (struct echo_request *)(void *)r;
    mine->mark[0] = mine->mark[2] = 0x1234;
    for (uint64_t at = 0; at < size;) {
        uint8_t bytes[ECHO_PIECE];
        size_t here = MIN(size - at, sizeof(bytes));
        bool got = virtq_get(r, at, bytes, here);
        g_assert_true(got);
        for (size_t i = 0; i < here; i++)
            bytes[i] = (uint8_t)~bytes[i];
        got = virtq_put(r, at, bytes, here);
        g_assert_true(got);
        at += here;
    }
    r->written = (uint32_t)size;
    g_assert_cmphex(mine->mark[2], ==, 0x1234);
}

static void serve(struct echo *e, struct virtq *q)
{
    struct virtq_request *batch[8];
    unsigned n, budget = ECHO_QUEUE_SIZE;
    if (e->hold) {
        pthread_mutex_lock(&e->lock);
        e->n_held += virtq_pop(q, e->held + e->n_held, G_N_ELEMENTS(e->held) - e->n_held);
        pthread_mutex_unlock(&e->lock);
        return;
    }
    while (budget && (n = virtq_pop(q, batch, MIN(budget, G_N_ELEMENTS(batch))))) {
        budget -= n;
        for (unsigned i = 0; i < n; i++)
            echo_work(batch[i]);
        virtq_push(q, batch, n);
    }
    virtq_notify(q);
}

static void echo_kick(struct virtq *q)
{
    struct echo *e = echo_of(virtq_owner(q));
    atomic_fetch_add(&e->in_kick, 1);
    __atomic_fetch_add(&e->kicks, 1, __ATOMIC_RELAXED);
    if (e->on_kick)
        e->on_kick(e);
    serve(e, q);
    atomic_fetch_sub(&e->in_kick, 1);
}

static void echo_activate(struct virtio *v)
{
    echo_of(v)->activated++;
}

static void echo_stop(struct virtio *v)
{
    struct echo *e = echo_of(v);
    g_assert_cmpint(e->in_kick, ==, 0);
    e->stopped++;
    if (e->on_stop)
        e->on_stop(e);
    e->n_held = 0;
}

/* Byte 0 of the configuration is the driver's, refused above 100. */
static void echo_config_written(struct virtio *v, unsigned offset, unsigned size, uint32_t value)
{
    if (offset == 0 && size == 1 && value <= 100)
        v->config[0] = (uint8_t)value;
}

/* Bit 1 needs bit 0. */
static bool echo_accept(struct virtio *v, uint64_t features)
{
    (void)v;
    return (features & 3) != 2;
}

static const struct virtio_function echo_function = {
    .id = 63,
    .request_size = sizeof(struct echo_request),
    .accept = echo_accept,
    .activate = echo_activate,
    .kick = echo_kick,
    .stop = echo_stop,
    .config_written = echo_config_written,
};

static bool echo_init(struct device *d, GError **error)
{
    const struct virtio_setup setup = {
        .features = 3, .queues = ECHO_QUEUES, .queue_size = ECHO_QUEUE_SIZE, .config_size = 12};
    pthread_mutex_init(&echo_of((struct virtio *)(void *)d)->lock, NULL);
    return virtio_init(d, &echo_function, &setup, error);
}

const struct device_type echo_type = {
    .name = "echo",
    .help = "a virtio function for tests",
    .size = sizeof(struct echo),
    .options = virtio_options,
    .init = echo_init,
    .destroy = virtio_destroy,
    VIRTIO_TYPE,
};
