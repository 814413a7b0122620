/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Anything a driver may do to a network card, while frames come in and its cable is full at times; it works
 * after a reset. */
#include <sys/socket.h>

#include "net/net.h"
#include "virtio_steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum own_step { FRAME, DRAIN, SPIN, OWN_STEPS };
enum { RX, TX, HEADER = 12 };

static struct fuzz f;
static struct net *net;
static int peer;
static uint8_t message[NET_MESSAGE_MAX];

static void set_up(void)
{
    static const struct device_value values[] = {{"mac", UINT64_C(0x02005e005301)}, {"mtu", 1500}, {0}};
    const int room = 20000; /* soon full */
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
    peer = pair[1];
    net = net_new(net_backend_find("user"), pair[0], NULL, NULL);
    setsockopt(net->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    const struct device_wires wires = {.net = net};
    drv_new_wired(&f.t, device_type_find("virtio-net"), &wires, values);
}

static void spin(void)
{
    for (unsigned i = 0; i < 100 && g_main_context_iteration(NULL, FALSE); i++)
        continue;
}

static ssize_t read_frame(void)
{
    return recv(peer, message, sizeof(message), MSG_DONTWAIT);
}

static void own_step(int step, const uint8_t *p)
{
    switch ((enum own_step)step) {
    case FRAME: /* what the other end is not to be trusted with is its header */
        memset(message, p[7], HEADER + 2048);
        memcpy(message, p + 1, 6);
        send(peer, message, HEADER + ld16le(p + 5) % 2048, MSG_DONTWAIT);
        break;
    case DRAIN:
        while (read_frame() > 0)
            continue;
        break;
    case SPIN:
    case OWN_STEPS: break;
    }
    spin();
}

/* A frame out and a frame in. */
static void check_alive(void)
{
    const uint64_t at = DRV_RAM + DRV_DATA;
    const struct drv_buffer out = {at, HEADER + 60, false}, in = {at + 4096, HEADER + 60, true};
    unsigned id;
    uint32_t length;
    drv_write(&f.t, R_STATUS, 0);
    for (unsigned i = 0; i < 1000; i++) {
        spin();
        if (read_frame() <= 0)
            break;
    }
    drv_start(&f.t, VIRTIO_F_VERSION_1, ENTRIES);
    memset(drv_at(&f.t, at), 0, HEADER);
    drv_add(&f.t, TX, &out, 1, 0);
    drv_kick(&f.t, TX);
    g_assert_cmpint(read_frame(), ==, HEADER + 60);
    g_assert_true(drv_used(&f.t, TX, &id, &length));
    drv_add(&f.t, RX, &in, 1, 0);
    drv_kick(&f.t, RX);
    memset(message, 0, HEADER + 60);
    g_assert_cmpint(send(peer, message, HEADER + 60, MSG_DONTWAIT), ==, HEADER + 60);
    for (unsigned i = 0; i < 10; i++)
        spin();
    g_assert_true(drv_used(&f.t, RX, &id, &length));
    g_assert_cmpuint(length, ==, HEADER + 60);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!f.t.d)
        set_up();
    if (!size)
        return 0;
    fuzz_all(&f, data, size, OWN_STEPS, own_step);
    check_alive();
    return 0;
}
