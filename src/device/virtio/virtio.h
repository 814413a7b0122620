/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The contract of a virtio function (blk, net, console, rng): what it says, and when it is called. */
/*
 * Theory of operation
 *
 * A function is a chip: a row of devices.def whose struct begins with `struct virtio`, which begins with
 * `struct device`. Its registers are those of the transport (mmio.c), the same for all. What is its own is a
 * `struct virtio_function` of callbacks and, from its init, the features, queues and configuration bytes it
 * offers:
 *
 *     struct virtio_rng { struct virtio virtio; ... };
 *
 *     static bool rng_init(struct device *d, GError **error)
 *     {
 *         const struct virtio_setup setup = {.queues = 1, .queue_size = 64};
 *         return virtio_init(d, &rng_function, &setup, error);
 *     }
 *
 *     const struct device_type device_virtio_rng = {
 *         .name = "virtio-rng", .help = "...", .size = sizeof(struct virtio_rng),
 *         .init = rng_init, .destroy = virtio_destroy, VIRTIO_TYPE,
 *     };
 *
 * Life. The driver resets, negotiates features, sets queues up, then writes DRIVER_OK: activate(). From then
 * on the queues' places and sizes and the features cannot change. Kicks arrive until the driver writes 0 to
 * the status register, or the machine is reset: stop(), then everything is as after power-on. activate and
 * stop of one device never overlap with each other nor with kick.
 *
 * Locks, outermost first: life (a mutex of the core, held over activate and stop), service (one per queue,
 * held over kick), the device's lock (registers, configuration bytes, pins), the queue's lock (inside
 * virtqueue.c). All callbacks are called without the device's lock and may take it. A lock of a back end may
 * be held when virtq_ functions are called if kick, activate and stop never wait for who holds it.
 *
 * Back ends come by the wires (device.h) and may be absent: a function then behaves as with an empty disk, an
 * unplugged cable, and so on; the conformance test builds every row without any.
 */
#ifndef HOSTEL_DEVICE_VIRTIO_VIRTIO_H
#define HOSTEL_DEVICE_VIRTIO_VIRTIO_H

#include "device/device.h"
#include "device/virtio/virtqueue.h"

enum { VIRTIO_QUEUES_MAX = 20, VIRTIO_CONFIG_MAX = 128 /* bytes */ };

/* Device ids (section 5). */
enum {
    VIRTIO_ID_NET = 1,
    VIRTIO_ID_BLOCK = 2,
    VIRTIO_ID_CONSOLE = 3,
    VIRTIO_ID_RNG = 4,
    VIRTIO_ID_BALLOON = 5,
    VIRTIO_ID_INPUT = 18,
};

/* Feature bits of the queues and the transport (section 6), offered by the core for every function. */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)
#define VIRTIO_F_RING_PACKED (UINT64_C(1) << 34)

/* Device status (section 2.1). */
enum virtio_status {
    VIRTIO_ACKNOWLEDGE = 1,
    VIRTIO_DRIVER = 2,
    VIRTIO_DRIVER_OK = 4,
    VIRTIO_FEATURES_OK = 8,
    VIRTIO_NEEDS_RESET = 64,
    VIRTIO_FAILED = 128,
};

/* What makes a function. Optional callbacks may be NULL. */
struct virtio_function {
    uint32_t id;         /* VIRTIO_ID_ */
    size_t request_size; /* of the struct that begins with struct virtq_request; 0 = just that */

    /* Optional: the features the driver chose (a subset of those offered). False refuses the combination:
     * FEATURES_OK stays clear. The device's lock is held. */
    bool (*accept)(struct virtio *v, uint64_t features);
    /* Optional: DRIVER_OK; v->features are final and queues may be used. */
    void (*activate)(struct virtio *v);
    /* The driver has put something into q. On the vCPU's thread (or that of virtq_service), one at a time per
     * queue. Also called once for each queue behind activate(). Bounded work only: what takes longer than
     * some tens of microseconds belongs on another thread. */
    void (*kick)(struct virtq *q);
    /* Optional: finish or drop what is under way. When it returns, no thread touches a request or the queues
     * until the next activate() or kick(). virtq_pop() finds nothing any more and virtq_push() drops when
     * this is called. On the vCPU's thread that resets, or on the main thread. */
    void (*stop)(struct virtio *v);
    /* Optional: the driver wrote size (1, 2 or 4) bytes, offset + size <= setup.config_size; on a vCPU's
     * thread, with the device's lock held. Store into v->config what is to be read back. NULL: read-only. */
    void (*config_written)(struct virtio *v, unsigned offset, unsigned size, uint32_t value);
};

/* What a function offers, given once from init. */
struct virtio_setup {
    uint64_t features;    /* the function's own; the core adds its own */
    unsigned queues;      /* 1..VIRTIO_QUEUES_MAX */
    unsigned queue_size;  /* most entries of each, a power of two up to VIRTQ_SIZE_MAX */
    unsigned config_size; /* bytes of configuration space, at most VIRTIO_CONFIG_MAX */
};

struct virtio {
    struct device dev;
    const struct virtio_function *function;
    struct virtio_setup setup;
    struct virtq *queue[VIRTIO_QUEUES_MAX];
    uint64_t features;                 /* agreed; constant from activate to stop */
    uint8_t config[VIRTIO_CONFIG_MAX]; /* little-endian fields; guarded by the device's lock */

    /* The core's own: registers as they are saved. */
    uint32_t status, interrupt, generation;
    uint32_t device_features_sel, driver_features_sel, queue_sel, shm_sel;
    uint64_t driver_features;
    struct virtio_rings {
        /* By queue; arrays side by side, as a state table wants them. */
        uint64_t descriptors[VIRTIO_QUEUES_MAX], driver[VIRTIO_QUEUES_MAX], device[VIRTIO_QUEUES_MAX];
        uint32_t size[VIRTIO_QUEUES_MAX];
        bool ready[VIRTIO_QUEUES_MAX];
        uint32_t taken[VIRTIO_QUEUES_MAX], given[VIRTIO_QUEUES_MAX]; /* positions, when saved */
    } rings;
    bool no_packed, no_event_idx, no_indirect; /* options: features not to be offered */

    /* The core's own: not saved. */
    pthread_mutex_t life;
    _Atomic bool broken;
    bool active;                     /* between activate and stop; guarded by life */
    struct clock_timer *again_timer; /* NULL without a clock */
    _Atomic uint32_t again;          /* queues to be served when it fires, a bit each */
};

/* --- for functions --- */

/* From init: d is the function's struct, wires->mem is there. Options are set already. */
bool virtio_init(struct device *d, const struct virtio_function *function, const struct virtio_setup *setup,
                 GError **error);

/* Stops, then frees what virtio_init made. A function with a destroy of its own calls this first. */
void virtio_destroy(struct device *d);

/* The guest broke a rule of the device: DEVICE_NEEDS_RESET; quiet from then on. why is a constant, for the
 * (rate-limited) log. Any thread, without the device's lock. */
void virtio_break(struct virtio *v, const char *why);

/* Changes configuration bytes and tells the driver. offset + size <= setup.config_size. Any thread, without
 * the device's lock. (From init, store into v->config directly.) */
void virtio_config_set(struct virtio *v, unsigned offset, const void *bytes, unsigned size);

static inline bool virtio_has(const struct virtio *v, uint64_t feature)
{
    return v->features & feature;
}

/* The rest of a type row. */
extern const struct state_field virtio_state[];     /* just VIRTIO_STATE */
extern const struct device_option virtio_options[]; /* just VIRTIO_OPTIONS */
extern const struct bus_ops virtio_mmio_ops;
uint64_t virtio_mmio_extent(const struct device *d);
void virtio_reset(struct device *d);
void virtio_pre_save(struct device *d);
bool virtio_post_load(struct device *d);

/* State every function has; a table with state of its own begins with it. */
#define VIRTIO_RINGS(field, value_type)                                                                      \
    {                                                                                                        \
        .name = "queue-" #field, .type = (value_type), .offset = offsetof(struct virtio, rings.field),       \
        .count = VIRTIO_QUEUES_MAX, .since = 1                                                               \
    }
#define VIRTIO_STATE                                                                                         \
    STATE_FIELD(virtio, status, STATE_U32, 1), STATE_FIELD(virtio, interrupt, STATE_U32, 1),                 \
        STATE_FIELD(virtio, generation, STATE_U32, 1),                                                       \
        STATE_FIELD(virtio, device_features_sel, STATE_U32, 1),                                              \
        STATE_FIELD(virtio, driver_features_sel, STATE_U32, 1),                                              \
        STATE_FIELD(virtio, queue_sel, STATE_U32, 1), STATE_FIELD(virtio, shm_sel, STATE_U32, 1),            \
        STATE_FIELD(virtio, driver_features, STATE_U64, 1), STATE_FIELD(virtio, config, STATE_U8, 1),        \
        VIRTIO_RINGS(descriptors, STATE_U64), VIRTIO_RINGS(driver, STATE_U64),                               \
        VIRTIO_RINGS(device, STATE_U64), VIRTIO_RINGS(size, STATE_U32), VIRTIO_RINGS(ready, STATE_BOOL),     \
        VIRTIO_RINGS(taken, STATE_U32), VIRTIO_RINGS(given, STATE_U32)

/* A function with state of its own gives state, pre_save and post_load itself; the latter two call ours. */
#define VIRTIO_TYPE_BASE                                                                                     \
    .version = 1, .ops = &virtio_mmio_ops, .extent = virtio_mmio_extent, .reset = virtio_reset
#define VIRTIO_TYPE                                                                                          \
    VIRTIO_TYPE_BASE, .state = virtio_state, .pre_save = virtio_pre_save, .post_load = virtio_post_load

/* Options every function has; a row of its own options begins with them. */
#define VIRTIO_OPTION_FLAG(option, field, text)                                                              \
    {                                                                                                        \
        .name = (option), .help = (text), .type = STATE_BOOL, .offset = offsetof(struct virtio, field),      \
        .value = 0, .min = 0, .max = 1                                                                       \
    }
#define VIRTIO_OPTIONS                                                                                       \
    VIRTIO_OPTION_FLAG("no-packed", no_packed, "do not offer packed queues"),                                \
        VIRTIO_OPTION_FLAG("no-event-idx", no_event_idx, "do not offer event indices"),                      \
        VIRTIO_OPTION_FLAG("no-indirect", no_indirect, "do not offer indirect descriptors")

#endif
