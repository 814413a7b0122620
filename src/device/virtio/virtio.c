/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The core of a virtio device whatever its transport: status, features, queues' life, interrupts, state. */
#include "device/virtio/virtio.h"

#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "device/virtio/virtio_int.h"
#include "device/virtio/virtqueue_int.h"

enum { INTERRUPT_USED = 1, INTERRUPT_CONFIG = 2 };
enum {
    STATUS_SETTABLE =
        VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | VIRTIO_FEATURES_OK | VIRTIO_FAILED,
};
/* Positions in saved state: the index, and the wrap counter above it. */
enum { SAVED_WRAP = 1 << 16 };

static struct virtio *virtio_of(struct device *d)
{
    return (struct virtio *)(void *)d;
}

uint64_t virtio_offered(const struct virtio *v)
{
    uint64_t core = VIRTIO_F_VERSION_1;
    core |= v->no_indirect ? 0 : VIRTIO_F_INDIRECT_DESC;
    core |= v->no_event_idx ? 0 : VIRTIO_F_EVENT_IDX;
    core |= v->no_packed ? 0 : VIRTIO_F_RING_PACKED;
    return v->setup.features | core;
}

/* --- interrupts --- */

static void interrupt_locked(struct virtio *v, uint32_t cause)
{
    v->interrupt |= cause;
    device_pin(&v->dev, 0, v->interrupt);
}

void virtio_used(struct virtio *v)
{
    device_lock(&v->dev);
    if (v->status & VIRTIO_DRIVER_OK)
        interrupt_locked(v, INTERRUPT_USED);
    device_release(&v->dev);
}

void virtio_interrupt_clear_locked(struct virtio *v, uint32_t causes)
{
    v->interrupt &= ~causes;
    device_pin(&v->dev, 0, v->interrupt);
}

void virtio_break(struct virtio *v, const char *why)
{
    if (atomic_exchange(&v->broken, true))
        return;
    log_guest(LOG_DEVICE, "%s: the driver broke the rules (%s); it must reset the device", v->dev.wires.name,
              why);
    device_lock(&v->dev);
    v->status |= VIRTIO_NEEDS_RESET;
    if (v->status & VIRTIO_DRIVER_OK)
        interrupt_locked(v, INTERRUPT_CONFIG);
    device_release(&v->dev);
}

void virtio_config_set(struct virtio *v, unsigned offset, const void *bytes, unsigned size)
{
    g_assert(offset + size <= v->setup.config_size);
    device_lock(&v->dev);
    memcpy(v->config + offset, bytes, size);
    v->generation++;
    if (v->status & VIRTIO_DRIVER_OK)
        interrupt_locked(v, INTERRUPT_CONFIG);
    device_release(&v->dev);
}

/* --- queues --- */

static struct virtq_position position_of(uint32_t saved)
{
    return (struct virtq_position){.at = (uint16_t)saved, .wrap = saved & SAVED_WRAP};
}

static uint32_t position_saved(struct virtq_position p)
{
    return p.at | (p.wrap ? SAVED_WRAP : 0u);
}

/* Takes queue i into use as its registers say. NULL, or what is wrong. */
static const char *enable_locked(struct virtio *v, unsigned i)
{
    const struct virtio_rings *r = &v->rings;
    const struct virtq_place place = {.area = {r->descriptors[i], r->driver[i], r->device[i]},
                                      .size = r->size[i],
                                      .taken = position_of(r->taken[i]),
                                      .given = position_of(r->given[i])};
    return virtq_enable(v->queue[i], &place, v->features);
}

const char *virtio_queue_ready_locked(struct virtio *v, unsigned i, bool ready)
{
    if (ready == v->rings.ready[i])
        return NULL;
    if (v->status & VIRTIO_DRIVER_OK || !(v->status & VIRTIO_FEATURES_OK)) {
        log_guest(LOG_DEVICE, "%s: queue %u is not to be changed now", v->dev.wires.name, i);
        return NULL;
    }
    v->rings.ready[i] = false;
    virtq_disable(v->queue[i]);
    if (!ready)
        return NULL;
    bool packed = v->features & VIRTIO_F_RING_PACKED;
    v->rings.taken[i] = v->rings.given[i] = packed ? SAVED_WRAP : 0;
    const char *fault = enable_locked(v, i);
    v->rings.ready[i] = !fault;
    return fault;
}

static void reset_queues_locked(struct virtio *v)
{
    memset(&v->rings, 0, sizeof(v->rings));
    for (unsigned i = 0; i < v->setup.queues; i++) {
        virtq_disable(v->queue[i]);
        v->rings.size[i] = v->setup.queue_size;
    }
}

void virtio_again(struct virtio *v, unsigned i)
{
    atomic_fetch_or(&v->again, (uint32_t)BIT(i));
    if (v->again_timer)
        clock_timer_set(v->again_timer, 0);
}

static void serve_again(void *opaque)
{
    struct virtio *v = opaque;
    for (uint32_t queues = atomic_exchange(&v->again, 0); queues; queues &= queues - 1)
        virtq_service(v->queue[__builtin_ctz(queues)]);
}

/* --- life --- */

/* The driver is ready. life is held, the device's lock is not. */
static void begin(struct virtio *v)
{
    for (unsigned i = 0; i < v->setup.queues; i++)
        virtq_set_live(v->queue[i], true);
    v->active = true;
    if (v->function->activate)
        v->function->activate(v);
}

static void activate(struct virtio *v)
{
    begin(v);
    for (unsigned i = 0; i < v->setup.queues; i++)
        virtq_service(v->queue[i]);
}

/* The driver was ready when this was saved. What is in the queues is looked at when the guest goes on, not
 * while it stands. */
static void activate_again(struct virtio *v)
{
    begin(v);
    for (unsigned i = 0; i < v->setup.queues; i++)
        virtio_again(v, i);
}

/* Ends what is under way: first nothing new begins, then kicks that began are over, then the function drains.
 * life is held, the device's lock is not. */
static void halt(struct virtio *v)
{
    if (!v->active)
        return;
    for (unsigned i = 0; i < v->setup.queues; i++)
        virtq_set_live(v->queue[i], false);
    for (unsigned i = 0; i < v->setup.queues; i++)
        virtq_settle(v->queue[i]);
    if (v->function->stop)
        v->function->stop(v);
    v->active = false;
}

static void clear_locked(struct virtio *v)
{
    v->status = v->interrupt = 0;
    v->device_features_sel = v->driver_features_sel = v->queue_sel = v->shm_sel = 0;
    v->driver_features = v->features = 0;
    atomic_store(&v->broken, false);
    reset_queues_locked(v);
    device_pin(&v->dev, 0, false);
}

static bool features_ok_locked(struct virtio *v)
{
    uint64_t wanted = v->driver_features;
    if (wanted & ~virtio_offered(v) || !(wanted & VIRTIO_F_VERSION_1))
        return false;
    return !v->function->accept || v->function->accept(v, wanted);
}

/* Adds bits to the status. True when the driver is ready from now on. */
static bool add_status_locked(struct virtio *v, uint32_t value)
{
    uint32_t added = value & STATUS_SETTABLE & ~v->status;
    if (added & VIRTIO_FEATURES_OK && features_ok_locked(v))
        v->features = v->driver_features;
    else
        added &= ~(uint32_t)VIRTIO_FEATURES_OK;
    if (!((v->status | added) & VIRTIO_FEATURES_OK) || v->status & VIRTIO_NEEDS_RESET)
        added &= ~(uint32_t)VIRTIO_DRIVER_OK;
    v->status |= added;
    return added & VIRTIO_DRIVER_OK;
}

void virtio_set_status(struct virtio *v, uint32_t value)
{
    pthread_mutex_lock(&v->life);
    if (!value) {
        halt(v);
        device_lock(&v->dev);
        clear_locked(v);
        device_release(&v->dev);
    } else {
        device_lock(&v->dev);
        bool ready = add_status_locked(v, value);
        device_release(&v->dev);
        if (ready)
            activate(v);
    }
    pthread_mutex_unlock(&v->life);
}

void virtio_reset(struct device *d)
{
    struct virtio *v = virtio_of(d);
    device_unlock(d); /* what is under way may need the lock to end */
    pthread_mutex_lock(&v->life);
    halt(v);
    device_lock(d);
    clear_locked(v);
    v->generation = 0;
    pthread_mutex_unlock(&v->life);
}

bool virtio_init(struct device *d, const struct virtio_function *function, const struct virtio_setup *setup,
                 GError **error)
{
    struct virtio *v = virtio_of(d);
    g_assert(setup->queues >= 1 && setup->queues <= VIRTIO_QUEUES_MAX);
    g_assert(setup->queue_size >= 1 && setup->queue_size <= VIRTQ_SIZE_MAX &&
             !(setup->queue_size & (setup->queue_size - 1)) && setup->config_size <= VIRTIO_CONFIG_MAX);
    if (!d->wires.mem)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: a device that reaches RAM, but there is none",
                           d->type->name);
    v->function = function;
    v->setup = *setup;
    pthread_mutex_init(&v->life, NULL);
    if (d->wires.clock)
        v->again_timer = clock_timer_new(d->wires.clock, serve_again, v);
    for (unsigned i = 0; i < setup->queues; i++)
        v->queue[i] = virtq_new(v, i, setup->queue_size, function->request_size);
    return true;
}

void virtio_destroy(struct device *d)
{
    struct virtio *v = virtio_of(d);
    pthread_mutex_lock(&v->life);
    halt(v);
    pthread_mutex_unlock(&v->life);
    if (v->again_timer)
        clock_timer_free(v->again_timer);
    for (unsigned i = 0; i < v->setup.queues; i++)
        virtq_free(v->queue[i]);
    pthread_mutex_destroy(&v->life);
}

/* --- state --- */

void virtio_pre_save(struct device *d)
{
    struct virtio *v = virtio_of(d);
    for (unsigned i = 0; i < v->setup.queues; i++) {
        struct virtq_position taken, given;
        if (!v->rings.ready[i])
            continue;
        virtq_positions(v->queue[i], &taken, &given);
        v->rings.taken[i] = position_saved(taken);
        v->rings.given[i] = position_saved(given);
    }
}

static bool load_queue(struct virtio *v, unsigned i)
{
    const struct virtio_rings *r = &v->rings;
    bool packed = v->features & VIRTIO_F_RING_PACKED;
    if (i >= v->setup.queues)
        return !r->ready[i];
    virtq_disable(v->queue[i]);
    if (!r->ready[i])
        return true;
    if (packed && ((r->taken[i] & 0xffff) >= r->size[i] || (r->given[i] & 0xffff) >= r->size[i]))
        return false;
    uint32_t limit = packed ? SAVED_WRAP : 0;
    return !((r->taken[i] | r->given[i]) & ~(limit | 0xffff)) && !enable_locked(v, i);
}

bool virtio_post_load(struct device *d)
{
    struct virtio *v = virtio_of(d);
    const uint32_t known = STATUS_SETTABLE | VIRTIO_NEEDS_RESET;
    if (v->status & ~known || v->interrupt & ~(uint32_t)(INTERRUPT_USED | INTERRUPT_CONFIG))
        return false;
    if (v->status & VIRTIO_DRIVER_OK && !(v->status & VIRTIO_FEATURES_OK))
        return false;
    v->features = 0;
    if (v->status & VIRTIO_FEATURES_OK) {
        if (!features_ok_locked(v))
            return false;
        v->features = v->driver_features;
    }
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        if ((v->rings.ready[i] && !(v->status & VIRTIO_FEATURES_OK)) || !load_queue(v, i))
            return false;
    atomic_store(&v->broken, v->status & VIRTIO_NEEDS_RESET);
    device_pin(d, 0, v->interrupt);
    if (v->status & VIRTIO_DRIVER_OK) {
        device_unlock(d);
        pthread_mutex_lock(&v->life);
        activate_again(v);
        device_lock(d);
        pthread_mutex_unlock(&v->life);
    }
    return true;
}

const struct state_field virtio_state[] = {VIRTIO_STATE, {0}};

const struct device_option virtio_options[] = {VIRTIO_OPTIONS, {0}};
