/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Anything a driver may do to a console, while people type and its streams are full at times; it works after
 * a reset. */
#include "device/virtio/console.h"
#include "virtio_steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum own_step { TYPE, ROOM, RESIZE, OWN_STEPS };
enum { STREAMS = 3, OUT0 = 1 };

static struct fuzz f;
static struct stream *streams[STREAMS], more[STREAMS - 1];

static void set_up(void)
{
    static struct device_port ports[STREAMS - 1];
    const struct device_wires wires = {.ports = ports, .port_count = STREAMS - 1};
    streams[0] = &f.t.stream;
    for (unsigned i = 1; i < STREAMS; i++) {
        streams[i] = &more[i - 1];
        ports[i - 1] = (struct device_port){.name = i == 1 ? "one" : "two", .stream = streams[i]};
    }
    drv_new_wired(&f.t, &device_virtio_console, &wires, NULL);
}

static void own_step(int step, const uint8_t *p)
{
    struct stream *s = streams[p[1] % STREAMS];
    switch ((enum own_step)step) {
    case TYPE: s->client->input(s->opaque, p, p[2] % STEP); break;
    case ROOM:
        s->out_size = 0;
        s->room = p[2];
        if (p[3] & 1)
            s->client->writable(s->opaque);
        break;
    case RESIZE: virtio_console_resize(f.t.d, p[2], p[3]); break;
    case OWN_STEPS: break;
    }
}

static void check_alive(void)
{
    const struct drv_buffer b = {DRV_RAM + DRV_DATA, 5, false};
    unsigned id;
    uint32_t length;
    for (unsigned i = 0; i < STREAMS; i++) {
        streams[i]->room = SIZE_MAX;
        streams[i]->out_size = 0;
    }
    drv_start(&f.t, VIRTIO_F_VERSION_1, ENTRIES);
    memcpy(drv_at(&f.t, DRV_RAM + DRV_DATA), "alive", 5);
    drv_add(&f.t, OUT0, &b, 1, 0);
    drv_kick(&f.t, OUT0);
    bool used = drv_used(&f.t, OUT0, &id, &length);
    g_assert_true(used);
    g_assert_cmpmem(streams[0]->out, streams[0]->out_size, "alive", 5);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!f.t.d)
        set_up();
    if (!size)
        return 0;
    for (unsigned i = 0; i < STREAMS; i++)
        streams[i]->room = 100;
    fuzz_all(&f, data, size, OWN_STEPS, own_step);
    check_alive();
    return 0;
}
