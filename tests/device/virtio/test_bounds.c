/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A kick does a bounded amount of work. Where the bound and the end of the ring meet, nothing may be
 * forgotten: all is done, and the driver is asked to kick for what comes next. */
#include <sys/socket.h>
#include <unistd.h>

#include "driver.h"
#include "net/net.h"

#define PLAIN (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)
#define DATA (DRV_RAM + DRV_DATA)

/* A request of the device: buffers of these sizes, the second one for the device to write. */
struct kind {
    const char *type;
    unsigned queue;
    uint32_t readable, writable;
};

static const struct kind kinds[] = {
    {"virtio-rng", 0, 0, 1},
    {"virtio-net", 1, 60, 0},
    {"virtio-console", 1, 1, 0},
    {"virtio-blk", 0, 16, 1},
};

static void add(struct drv *t, const struct kind *k)
{
    struct drv_buffer b[2];
    unsigned n = 0;
    if (k->readable)
        b[n++] = (struct drv_buffer){DATA, k->readable, false};
    if (k->writable)
        b[n++] = (struct drv_buffer){DATA + 0x1000, k->writable, true};
    drv_add(t, k->queue, b, n, DATA + 0x2000); /* one table for all, so that each takes one entry */
}

/* One kick for count requests; then one more. */
static void fill(struct drv *t, const struct kind *k, unsigned count)
{
    unsigned id, used = 0;
    uint32_t len;
    for (unsigned i = 0; i < count; i++)
        add(t, k);
    drv_kick(t, k->queue);
    for (unsigned i = 0; i < 100 && used < count; i++) {
        while (drv_used(t, k->queue, &id, &len))
            used++;
        g_main_context_iteration(NULL, FALSE);
    }
    g_assert_cmpuint(used, ==, count);
    uint16_t old = t->q[k->queue].added;
    bool wrap = t->q[k->queue].added_wrap;
    add(t, k);
    g_assert_true(drv_kick_wanted(t, k->queue, old, wrap));
    drv_kick(t, k->queue);
    g_assert_true(drv_used(t, k->queue, &id, &len));
}

static void test_full_ring(gconstpointer data)
{
    const struct kind *k = data;
    const uint64_t packed[] = {0, VIRTIO_F_RING_PACKED};
    for (unsigned i = 0; i < 2; i++) {
        struct drv t;
        drv_new(&t, device_type_find(k->type));
        clock_start(t.clock);
        t.stream.room = SIZE_MAX;
        drv_start(&t, PLAIN | packed[i], DRV_ENTRIES);
        fill(&t, k, t.q[k->queue].size);
        fill(&t, k, t.q[k->queue].size / 2);
        drv_free(&t);
    }
}

/* With a back end, a kick sends a few batches. */
static void test_batches(void)
{
    for (unsigned count = 1; count <= 160; count++) {
        int pair[2];
        struct drv t;
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
        struct net *net = net_new(net_backend_find("user"), pair[0], NULL, NULL);
        const struct device_wires wires = {.net = net};
        drv_new_wired(&t, device_type_find("virtio-net"), &wires, NULL);
        drv_start(&t, PLAIN, DRV_ENTRIES);
        fill(&t, &kinds[1], count);
        drv_free(&t);
        net_free(net);
        close(pair[1]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strdup_printf("/virtio/bounds/%s", kinds[i].type);
        g_test_add_data_func(path, &kinds[i], test_full_ring);
    }
    g_test_add_func("/virtio/bounds/batches", test_batches);
    return g_test_run();
}
