/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio input device (virtio 1.2, section 5.8) that is a power button: the key KEY_POWER of Linux. */
/*
 * Theory of operation
 *
 * A button on a GPIO line would need a chip and a driver (gpio-keys) that Debian's riscv64 kernel does not
 * have; its virtio_input is loaded by udev, and systemd-logind listens to every input device with keys.
 *
 * The driver asks what there is by writing `select` and `subsel` of the configuration space, where the answer
 * stands then. It keeps buffers in the queue of events. A press is four events: the key down, the end of the
 * report, the key up, the end of the report. Those for which there is no buffer wait for one, so that a key
 * that went down always goes up; they are saved with the rest and forgotten when the driver goes.
 */
#include "device/virtio/input.h"

#include <string.h>

#include "base/byteorder.h"
#include "device/virtio/virtio.h"

/* 5.8.2 */
enum { QUEUE_EVENTS, QUEUE_STATUS, QUEUES };
enum { INPUT_QUEUE = 64 };

/* 5.8.4; the union is 128 bytes there, of which none but these first ones ever say anything. */
enum { CONFIG_SELECT = 0, CONFIG_SUBSEL = 1, CONFIG_SIZE = 2, CONFIG_ANSWER = 8, CONFIG_BYTES = 128 };
enum { SELECT_NAME = 1, SELECT_IDS = 3, SELECT_EVENTS = 0x11 };

/* Linux's input-event-codes.h. */
enum { EV_SYN = 0, EV_KEY = 1, SYN_REPORT = 0, KEY_POWER = 116, BUS_VIRTUAL = 6 };

enum { EVENT_BYTES = 8, PRESS_EVENTS = 4, PRESSES_MAX = 8 };

struct input {
    struct virtio virtio;
    uint32_t events; /* not sent yet; guarded by the device's lock */
};

static struct input *input_of(struct virtio *v)
{
    return (struct input *)(void *)v;
}

/* --- what there is --- */

/* The answer to select and subsel, of the size returned; 0 = there is nothing. */
static unsigned answer(unsigned select, unsigned subsel, uint8_t *to)
{
    static const char name[] = "Hostel power button";
    if (select == SELECT_NAME && !subsel) {
        memcpy(to, name, sizeof(name) - 1);
        return sizeof(name) - 1;
    }
    if (select == SELECT_IDS && !subsel) {
        st16le(to, BUS_VIRTUAL);
        st16le(to + 6, 1); /* version; vendor and product are 0 */
        return 8;
    }
    if (select == SELECT_EVENTS && subsel == EV_KEY) {
        to[KEY_POWER / 8] = 1 << KEY_POWER % 8;
        return KEY_POWER / 8 + 1;
    }
    return 0;
}

static void config_written(struct virtio *v, unsigned offset, unsigned size, uint32_t value)
{
    for (unsigned i = 0; i < size; i++)
        if (offset + i <= CONFIG_SUBSEL)
            v->config[offset + i] = (uint8_t)(value >> 8 * i);
    memset(v->config + CONFIG_SIZE, 0, CONFIG_BYTES - CONFIG_SIZE);
    v->config[CONFIG_SIZE] =
        (uint8_t)answer(v->config[CONFIG_SELECT], v->config[CONFIG_SUBSEL], v->config + CONFIG_ANSWER);
}

/* --- events --- */

/* The next event, 8 bytes. False: there is none. */
static bool next_event(struct input *in, uint8_t *bytes)
{
    device_lock(&in->virtio.dev);
    bool any = in->events;
    unsigned step = PRESS_EVENTS - in->events % PRESS_EVENTS; /* 4 or 1..3: how many of a press were sent */
    if (any)
        in->events--;
    device_release(&in->virtio.dev);
    bool key = step % 2 == 0;
    st16le(bytes, key ? EV_KEY : EV_SYN);
    st16le(bytes + 2, key ? KEY_POWER : SYN_REPORT);
    st32le(bytes + 4, step == PRESS_EVENTS);
    return any;
}

static void send_events(struct input *in, struct virtq *q)
{
    struct virtq_request *r;
    while (virtq_pop(q, &r, 1)) {
        uint8_t bytes[EVENT_BYTES];
        if (!next_event(in, bytes)) {
            virtq_unpop(q, &r, 1);
            break;
        }
        if (virtq_put(r, 0, bytes, sizeof(bytes)))
            r->written = sizeof(bytes);
        virtq_push(q, &r, 1);
    }
    virtq_notify(q);
}

/* What the driver would light up: nothing. */
static void drop_status(struct virtq *q)
{
    struct virtq_request *r;
    unsigned n = 0;
    for (; n < INPUT_QUEUE && virtq_pop(q, &r, 1); n++)
        virtq_push(q, &r, 1);
    virtq_notify(q);
    if (n == INPUT_QUEUE)
        virtq_leave(q);
}

static void kick(struct virtq *q)
{
    if (virtq_index(q) == QUEUE_EVENTS)
        send_events(input_of(virtq_owner(q)), q);
    else
        drop_status(q);
}

bool virtio_input_press_power(struct device *d)
{
    struct input *in = (struct input *)(void *)d;
    struct virtio *v = &in->virtio;
    device_lock(d);
    bool can = v->status & VIRTIO_DRIVER_OK && in->events <= PRESS_EVENTS * (PRESSES_MAX - 1);
    if (can)
        in->events += PRESS_EVENTS;
    device_release(d);
    if (can)
        virtq_service(v->queue[QUEUE_EVENTS]);
    return can;
}

/* --- life --- */

static void stop(struct virtio *v)
{
    device_lock(&v->dev);
    input_of(v)->events = 0;
    device_release(&v->dev);
}

static const struct virtio_function input_function = {
    .id = VIRTIO_ID_INPUT, .kick = kick, .stop = stop, .config_written = config_written};

static void input_reset(struct device *d)
{
    struct input *in = (struct input *)(void *)d;
    virtio_reset(d);
    in->events = 0;
    memset(in->virtio.config, 0, CONFIG_BYTES);
}

static bool input_post_load(struct device *d)
{
    return ((struct input *)(void *)d)->events <= PRESS_EVENTS * PRESSES_MAX && virtio_post_load(d);
}

static bool input_init(struct device *d, GError **error)
{
    const struct virtio_setup setup = {
        .queues = QUEUES, .queue_size = INPUT_QUEUE, .config_size = CONFIG_BYTES};
    return virtio_init(d, &input_function, &setup, error);
}

static const struct state_field input_state[] = {
    VIRTIO_STATE,
    STATE_FIELD(input, events, STATE_U32, 1),
    {0},
};

const struct device_type device_virtio_input = {
    .name = "virtio-input",
    .help = "a power button",
    .size = sizeof(struct input),
    .options = virtio_options,
    .init = input_init,
    .destroy = virtio_destroy,
    .version = 1,
    .ops = &virtio_mmio_ops,
    .extent = virtio_mmio_extent,
    .reset = input_reset,
    .state = input_state,
    .pre_save = virtio_pre_save,
    .post_load = input_post_load,
};
