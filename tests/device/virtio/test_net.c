/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The network card, driven by register accesses, with a socket pair for its cable. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/byteorder.h"
#include "device/virtio/net_filter.h"
#include "driver.h"
#include "net/net.h"

extern const struct device_type device_virtio_net;

/* Feature bits (virtio 1.2, 5.1.3). */
enum {
    F_CSUM = 0,
    F_GUEST_CSUM = 1,
    F_MTU = 3,
    F_MAC = 5,
    F_GUEST_TSO4 = 7,
    F_HOST_TSO4 = 11,
    F_HOST_ECN = 13
};
enum { F_MRG_RXBUF = 15, F_STATUS = 16, F_CTRL_VQ = 17, F_CTRL_RX = 18, F_CTRL_VLAN = 19 };
#define F(bit) (UINT64_C(1) << F_##bit)
#define BASE (VIRTIO_F_VERSION_1 | F(MAC) | F(STATUS))
#define ALL UINT64_MAX

enum { RX, TX, CTRL, HEADER = 12, DATA = DRV_DATA };

struct rig {
    struct drv t;
    struct net *net;
    int peer;
};

static void rig_init_as(struct rig *r, uint64_t features, uint64_t mac)
{
    const struct device_value values[] = {{"mac", mac}, {"mtu", 9000}, {0}};
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
    r->peer = pair[1];
    r->net = net_new(net_backend_find("user"), pair[0], NULL, NULL);
    const struct device_wires wires = {.net = r->net};
    drv_new_wired(&r->t, &device_virtio_net, &wires, values);
    if (features)
        drv_start(&r->t, features, 64);
}

static void rig_init(struct rig *r, uint64_t features)
{
    rig_init_as(r, features, UINT64_C(0x02005e005301));
}

static void rig_fini(struct rig *r)
{
    drv_free(&r->t);
    net_free(r->net);
    if (r->peer >= 0)
        close(r->peer);
}

static void spin(void)
{
    for (unsigned i = 0; i < 20; i++)
        while (g_main_context_iteration(NULL, FALSE))
            continue;
}

static uint64_t data(unsigned n)
{
    return DRV_RAM + DATA + n * UINT64_C(0x1000);
}

/* --- transmit --- */

/* A header, and size bytes of frame, in two buffers. */
static void transmit(struct rig *r, struct net_header header, uint32_t size)
{
    const struct drv_buffer b[2] = {{data(0), HEADER, false}, {data(1), size, false}};
    memcpy(drv_at(&r->t, data(0)), &header, sizeof(header));
    for (uint32_t i = 0; i < size; i++)
        drv_at(&r->t, data(1))[i] = (uint8_t)i;
    drv_add(&r->t, TX, b, 2, 0);
    drv_kick(&r->t, TX);
}

static ssize_t arrived(struct rig *r, uint8_t *message)
{
    return recv(r->peer, message, NET_MESSAGE_MAX, MSG_DONTWAIT);
}

static void assert_done(struct rig *r, unsigned queue, unsigned count)
{
    unsigned id;
    uint32_t len;
    while (count--)
        g_assert_true(drv_used(&r->t, queue, &id, &len));
    g_assert_false(drv_used(&r->t, queue, &id, &len));
}

static void transmit_headers(uint64_t features)
{
    static const struct {
        struct net_header header;
        uint32_t size;
        bool sent;
    } cases[] = {
        {{0}, 14, true},
        {{.buffers = 0xffff, .header_length = 0xffff}, 60, true},
        {{0}, 13, false},
        {{.flags = NET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16}, 60, true},
        {{.flags = NET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 25}, 60, false},
        {{.flags = NET_NEEDS_CSUM, .csum_start = 0xffff, .csum_offset = 0xffff}, 60, false},
        {{.flags = NET_NEEDS_CSUM, .csum_start = 0}, 60, false},
        {{.flags = NET_NEEDS_CSUM, .csum_start = 34, .gso_type = NET_GSO_TCP4, .gso_size = 9}, 60, true},
        {{.flags = NET_NEEDS_CSUM, .csum_start = 34, .gso_type = NET_GSO_TCP4}, 60, false},
        {{.gso_type = NET_GSO_TCP4, .gso_size = 9}, 60, false},
        {{.gso_type = 3, .gso_size = 9}, 60, false},
        {{.gso_type = 0x7f}, 60, false},
    };
    static uint8_t message[NET_MESSAGE_MAX];
    struct rig r;
    rig_init(&r, features);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct net_header h = cases[i].header;
        h.csum_start = htole16(h.csum_start);
        h.csum_offset = htole16(h.csum_offset);
        transmit(&r, h, cases[i].size);
        assert_done(&r, TX, 1);
        g_assert_cmpint(arrived(&r, message), ==, cases[i].sent ? (ssize_t)cases[i].size + HEADER : -1);
        if (cases[i].sent) {
            g_assert_cmpmem(message + HEADER, cases[i].size, drv_at(&r.t, data(1)), cases[i].size);
            g_assert_cmphex(ld16le(message + 10), ==, 0); /* the guest cannot set what is not its own */
        }
    }
    rig_fini(&r);
}

static void test_transmit(void)
{
    transmit_headers(ALL & ~VIRTIO_F_RING_PACKED);
    transmit_headers(ALL);
}

/* What was not agreed to is not asked of the back end. */
static void test_transmit_plain(void)
{
    static uint8_t message[NET_MESSAGE_MAX];
    struct rig r;
    rig_init(&r, BASE);
    transmit(&r, (struct net_header){.flags = NET_NEEDS_CSUM, .csum_start = htole16(34)}, 60);
    g_assert_cmpint(arrived(&r, message), ==, -1);
    transmit(
        &r,
        (struct net_header){.flags = NET_NEEDS_CSUM, .csum_start = htole16(34), .gso_type = 1, .gso_size = 9},
        60);
    g_assert_cmpint(arrived(&r, message), ==, -1);
    transmit(&r, (struct net_header){.flags = NET_DATA_VALID}, 60);
    g_assert_cmpint(arrived(&r, message), ==, 60 + HEADER);
    g_assert_cmphex(message[0], ==, 0);
    assert_done(&r, TX, 3);
    rig_fini(&r);
}

/* A frame in more pieces than a system call takes; and one that is longer than any frame. */
static void test_transmit_pieces(void)
{
    static uint8_t message[NET_MESSAGE_MAX];
    struct drv_buffer b[200];
    struct rig r;
    rig_init(&r, ALL);
    for (unsigned i = 0; i < G_N_ELEMENTS(b); i++)
        b[i] = (struct drv_buffer){DRV_RAM + DATA + 7 * i, 7, false};
    for (unsigned i = 0; i < 7 * G_N_ELEMENTS(b); i++)
        drv_at(&r.t, DRV_RAM + DATA)[i] = i < HEADER ? 0 : (uint8_t)i;
    const unsigned counts[] = {63, 64, 65, 200};
    for (unsigned i = 0; i < G_N_ELEMENTS(counts); i++) {
        unsigned n = counts[i], size = 7 * n;
        drv_add(&r.t, TX, b, n, data(100));
        drv_add(&r.t, TX, b, n, data(110));
        drv_kick(&r.t, TX);
        for (unsigned k = 0; k < 2; k++) {
            g_assert_cmpint(arrived(&r, message), ==, size);
            g_assert_cmpmem(message, size, drv_at(&r.t, DRV_RAM + DATA), size);
        }
        assert_done(&r, TX, 2);
    }
    const struct drv_buffer huge[2] = {{DRV_RAM + DATA, HEADER, false}, {data(0), 65550, false}};
    drv_add(&r.t, TX, huge, 2, 0);
    drv_kick(&r.t, TX);
    g_assert_cmpint(arrived(&r, message), ==, -1);
    assert_done(&r, TX, 1);
    rig_fini(&r);
}

/* A cable that takes no more: what is left goes when it does, in order, nothing lost and nothing twice. */
static void test_transmit_full(void)
{
    static uint8_t message[NET_MESSAGE_MAX];
    enum { COUNT = 30, SIZE = 60000 };
    struct rig r;
    unsigned id, done = 0;
    uint32_t len;
    rig_init(&r, ALL);
    const int room = 200000;
    setsockopt(r.net->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    memset(drv_at(&r.t, data(0)), 0, HEADER);
    for (unsigned i = 0; i < COUNT; i++) {
        const struct drv_buffer b[3] = {
            {data(0), HEADER, false}, {data(1) + i, 1, false}, {data(2), SIZE, false}};
        *drv_at(&r.t, data(1) + i) = (uint8_t)i;
        drv_add(&r.t, TX, b, 3, data(100 + i));
    }
    drv_kick(&r.t, TX);
    while (drv_used(&r.t, TX, &id, &len))
        done++;
    g_assert_cmpuint(done, >, 0);
    g_assert_cmpuint(done, <, COUNT);
    for (unsigned got = 0; got < COUNT; got++) {
        spin();
        g_assert_cmpint(arrived(&r, message), ==, HEADER + 1 + SIZE);
        g_assert_cmpuint(message[HEADER], ==, got);
    }
    spin();
    while (drv_used(&r.t, TX, &id, &len))
        done++;
    g_assert_cmpuint(done, ==, COUNT);
    rig_fini(&r);
}

/* --- receive --- */

static void give_buffers(struct rig *r, unsigned count, uint32_t size)
{
    for (unsigned i = 0; i < count; i++) {
        const struct drv_buffer b = {data(i), size, true};
        drv_add(&r->t, RX, &b, 1, 0);
    }
    drv_kick(&r->t, RX);
}

static void send_frame(struct rig *r, size_t size, uint8_t seed)
{
    static uint8_t message[NET_MESSAGE_MAX];
    memset(message, 0, HEADER);
    message[0] = NET_DATA_VALID;
    for (size_t i = 0; i < size; i++)
        message[HEADER + i] = (uint8_t)(i * 7 + seed);
    g_assert_cmpint(send(r->peer, message, HEADER + size, 0), ==, (ssize_t)(HEADER + size));
    spin();
}

/* Collects a frame from used buffers; its size without header. */
static size_t collect(struct rig *r, uint8_t *frame, unsigned *buffers)
{
    size_t total = 0;
    unsigned id, left = 1;
    uint32_t len;
    for (*buffers = 0; left; left--, ++*buffers) {
        g_assert_true(drv_used(&r->t, RX, &id, &len));
        const uint8_t *at = drv_at(&r->t, data(*buffers));
        if (!*buffers)
            left = ld16le(at + 10);
        g_assert_cmpuint(left, >, 0);
        memcpy(frame + total, at, len);
        total += len;
    }
    memmove(frame, frame + HEADER, total - HEADER);
    return total - HEADER;
}

static void receive_merged(uint64_t features)
{
    static uint8_t frame[NET_MESSAGE_MAX];
    static const size_t sizes[] = {14, 60, 988, 989, 1500, 30000};
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct rig r;
        unsigned buffers;
        rig_init(&r, features);
        give_buffers(&r, 32, 1000);
        send_frame(&r, sizes[i], 3);
        g_assert_true(drv_pin(&r.t));
        g_assert_cmpuint(collect(&r, frame, &buffers), ==, sizes[i]);
        g_assert_cmpuint(buffers, ==, (sizes[i] + HEADER + 999) / 1000);
        for (size_t k = 0; k < sizes[i]; k++)
            g_assert_cmphex(frame[k], ==, (uint8_t)(k * 7 + 3));
        rig_fini(&r);
    }
}

static void test_receive(void)
{
    receive_merged(ALL & ~VIRTIO_F_RING_PACKED);
    receive_merged(ALL);
}

/* With too few buffers a frame waits; it comes when there are more, and the next one behind it. */
static void test_receive_waits(void)
{
    static uint8_t frame[NET_MESSAGE_MAX];
    struct rig r;
    unsigned buffers, id;
    uint32_t len;
    rig_init(&r, ALL & ~VIRTIO_F_RING_PACKED);
    give_buffers(&r, 2, 1000);
    send_frame(&r, 2500, 1);
    send_frame(&r, 100, 2);
    g_assert_false(drv_used(&r.t, RX, &id, &len));
    const struct drv_buffer third = {data(2), 1000, true}, fourth = {data(3), 1000, true};
    drv_add(&r.t, RX, &third, 1, 0);
    drv_kick(&r.t, RX);
    spin();
    g_assert_cmpuint(collect(&r, frame, &buffers), ==, 2500);
    g_assert_cmpuint(buffers, ==, 3);
    g_assert_false(drv_used(&r.t, RX, &id, &len));
    drv_add(&r.t, RX, &fourth, 1, 0);
    drv_kick(&r.t, RX);
    spin();
    g_assert_true(drv_used(&r.t, RX, &id, &len));
    g_assert_cmpuint(len, ==, HEADER + 100);
    rig_fini(&r);
}

/* Without merging, a frame that does not fit into a buffer is lost and the buffer stays. */
static void test_receive_plain(void)
{
    struct rig r;
    unsigned id;
    uint32_t len;
    rig_init(&r, BASE);
    give_buffers(&r, 1, 1000);
    send_frame(&r, 2000, 0);
    g_assert_false(drv_used(&r.t, RX, &id, &len));
    send_frame(&r, 500, 0);
    g_assert_true(drv_used(&r.t, RX, &id, &len));
    g_assert_cmpuint(len, ==, HEADER + 500);
    const uint8_t *header = drv_at(&r.t, data(0));
    g_assert_cmphex(header[0], ==, 0); /* no GUEST_CSUM: nothing about checksums */
    g_assert_cmpuint(ld16le(header + 10), ==, 1);
    rig_fini(&r);
}

/* A reset while frames wait, and while the driver's buffers lie in the queue; then the card works anew. */
static void test_reset(void)
{
    struct rig r;
    unsigned id;
    uint32_t len;
    rig_init(&r, ALL);
    for (unsigned i = 0; i < 3; i++) {
        send_frame(&r, 100, 0);
        give_buffers(&r, 4, 40);
        drv_write(&r.t, R_STATUS, 0);
        spin();
        drv_start(&r.t, ALL, 64);
        spin();
        g_assert_false(drv_used(&r.t, RX, &id, &len));
        give_buffers(&r, 1, 1000);
        send_frame(&r, 77, 0);
        g_assert_true(drv_used(&r.t, RX, &id, &len));
        g_assert_cmpuint(len, ==, HEADER + 77);
    }
    rig_fini(&r);
}

/* Receive buffers that no frame can ever be in, and a broken ring: the card's own trouble, and a reset heals
 * it. */
static void test_hostile(void)
{
    struct rig r;
    unsigned id;
    uint32_t len;
    rig_init(&r, ALL & ~VIRTIO_F_RING_PACKED);
    give_buffers(&r, 64, 4); /* the header does not fit */
    send_frame(&r, 100, 0);
    send_frame(&r, 1000, 0);
    g_assert_false(drv_used(&r.t, RX, &id, &len));
    drv_start(&r.t, ALL & ~VIRTIO_F_RING_PACKED, 64);
    const struct drv_buffer outside = {DRV_RAM + DRV_RAM_SIZE - 8, 1000, true};
    drv_add(&r.t, RX, &outside, 1, 0);
    drv_kick(&r.t, RX);
    send_frame(&r, 100, 0);
    g_assert_true(drv_read(&r.t, R_STATUS) & VIRTIO_NEEDS_RESET);
    send_frame(&r, 100, 0);
    drv_start(&r.t, ALL, 64);
    spin();
    give_buffers(&r, 1, 1000);
    send_frame(&r, 50, 0);
    g_assert_true(drv_used(&r.t, RX, &id, &len));
    rig_fini(&r);
}

/* --- everything at once --- */

enum { ECHOES = 3000, ECHO_SIZE = 700, TX_PAGES = 30 };

/* The driver without a guest is one driver: its threads add chains one at a time. */
static GMutex adding;

static void add(struct rig *r, unsigned queue, const struct drv_buffer *b, unsigned n)
{
    g_mutex_lock(&adding);
    drv_add(&r->t, queue, b, n, 0);
    g_mutex_unlock(&adding);
    drv_kick(&r->t, queue);
}

/* The other end sends back what it gets. */
static gpointer echo_thread(gpointer opaque)
{
    struct rig *r = opaque;
    static uint8_t message[NET_MESSAGE_MAX];
    for (unsigned i = 0; i < ECHOES; i++) {
        ssize_t size = recv(r->peer, message, sizeof(message), 0);
        if (size <= 0 || send(r->peer, message, (size_t)size, 0) != size)
            return NULL;
    }
    return opaque;
}

/* A vCPU that transmits as fast as there is room. */
static gpointer transmit_thread(gpointer opaque)
{
    struct rig *r = opaque;
    unsigned id, sent = 0, done = 0;
    uint32_t len;
    while (done < ECHOES) {
        while (sent < ECHOES && sent - done < TX_PAGES) {
            uint64_t at = data(300 + sent % TX_PAGES);
            const struct drv_buffer b[2] = {{at, HEADER, false}, {at + HEADER, ECHO_SIZE, false}};
            memset(drv_at(&r->t, at), 0, HEADER);
            memset(drv_at(&r->t, at + HEADER), 0, ECHO_SIZE);
            st32le(drv_at(&r->t, at + HEADER), sent++);
            add(r, TX, b, 2);
        }
        while (drv_used(&r->t, TX, &id, &len))
            done++;
        g_thread_yield();
    }
    return opaque;
}

/* One thread transmits, the main thread receives and takes up what did not fit, a third is the network: every
 * frame comes back, in order. */
static void test_threads(void)
{
    struct rig r;
    unsigned id, got = 0;
    uint32_t len;
    const int room = 30000; /* full at times */
    rig_init(&r, ALL & ~VIRTIO_F_RING_PACKED);
    setsockopt(r.net->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    give_buffers(&r, 8, 1000);
    GThread *echo = g_thread_new("echo", echo_thread, &r),
            *transmit = g_thread_new("transmit", transmit_thread, &r);
    while (got < ECHOES) {
        g_main_context_iteration(NULL, FALSE);
        while (drv_used(&r.t, RX, &id, &len)) {
            uint64_t at = data(got % 8);
            g_assert_cmpuint(len, ==, HEADER + ECHO_SIZE);
            g_assert_cmpuint(ld32le(drv_at(&r.t, at + HEADER)), ==, got++);
            const struct drv_buffer b = {at, 1000, true};
            add(&r, RX, &b, 1);
        }
    }
    g_assert_true(g_thread_join(transmit) && g_thread_join(echo));
    rig_fini(&r);
}

/* --- configuration and commands --- */

static void test_config(void)
{
    struct rig r;
    rig_init(&r, 0);
    static const uint8_t mac[6] = {0x02, 0x00, 0x5e, 0x00, 0x53, 0x01};
    for (unsigned i = 0; i < 6; i++)
        g_assert_cmphex(rd(r.t.d, R_CONFIG + i, 1), ==, mac[i]);
    g_assert_cmpuint(rd(r.t.d, R_CONFIG + 6, 2), ==, 1);
    g_assert_cmpuint(rd(r.t.d, R_CONFIG + 10, 2), ==, 9000);
    g_assert_false(drv_negotiate(&r.t, BASE | F(HOST_TSO4)));
    g_assert_false(drv_negotiate(&r.t, BASE | F(CSUM) | F(HOST_ECN)));
    g_assert_false(drv_negotiate(&r.t, BASE | F(CTRL_RX)));
    g_assert_true(drv_negotiate(&r.t, BASE | F(CSUM) | F(HOST_TSO4) | F(HOST_ECN) | F(MTU)));
    g_assert_cmphex(drv_offered(&r.t) & F(GUEST_TSO4), ==, 0); /* `user` never gives big segments */
    drv_start(&r.t, ALL, 64);
    drv_acknowledge(&r.t);
    close(r.peer);
    r.peer = -1;
    spin();
    g_assert_cmpuint(rd(r.t.d, R_CONFIG + 6, 2), ==, 0);
    g_assert_cmpuint(drv_acknowledge(&r.t), ==, 2);
    transmit(&r, (struct net_header){0}, 60); /* into nothing */
    assert_done(&r, TX, 1);
    rig_fini(&r);
}

/* The answer to a command; -1 when there is none. */
static int command(struct rig *r, const uint8_t *bytes, uint32_t size)
{
    unsigned id;
    uint32_t len;
    const struct drv_buffer b[2] = {{data(200), size, false}, {data(201), 1, true}};
    memcpy(drv_at(&r->t, data(200)), bytes, size);
    *drv_at(&r->t, data(201)) = 0xee;
    drv_add(&r->t, CTRL, b, 2, 0);
    drv_kick(&r->t, CTRL);
    g_assert_true(drv_used(&r->t, CTRL, &id, &len));
    return len == 1 ? *drv_at(&r->t, data(201)) : -1;
}

static void test_commands(void)
{
    static const uint8_t promiscuous_off[] = {0, 0, 0}, set_mac[] = {1, 1, 0x02, 1, 2, 3, 4, 5};
    static const uint8_t vlan[] = {2, 0, 5, 0}, unknown[] = {9, 0, 0}, far_vlan[] = {2, 0, 0, 16};
    static const uint8_t table[] = {1, 0, 1, 0, 0, 0, 0x02, 9, 9, 9, 9, 9, 0, 0, 0, 0};
    static const uint8_t long_table[] = {1, 0, 0xff, 0xff, 0xff, 0xff, 0x02, 9, 9, 9, 9, 9, 0, 0, 0, 0};
    struct rig r;
    unsigned id;
    uint32_t len;
    rig_init(&r, ALL);
    g_assert_cmpint(command(&r, promiscuous_off, sizeof(promiscuous_off)), ==, 0);
    g_assert_cmpint(command(&r, set_mac, sizeof(set_mac)), ==, 0);
    g_assert_cmphex(rd(r.t.d, R_CONFIG + 1, 1), ==, 1);
    g_assert_cmpint(command(&r, vlan, sizeof(vlan)), ==, 0);
    g_assert_cmpint(command(&r, table, sizeof(table)), ==, 0);
    g_assert_cmpint(command(&r, unknown, sizeof(unknown)), ==, 1);
    g_assert_cmpint(command(&r, far_vlan, sizeof(far_vlan)), ==, 1);
    g_assert_cmpint(command(&r, long_table, sizeof(long_table)), ==, 1);
    g_assert_cmpint(command(&r, set_mac, 5), ==, 1);
    g_assert_cmpint(command(&r, set_mac, 1), ==, 1);
    give_buffers(&r, 1, 1000);
    send_frame(&r, 60, 0x10); /* to 10:17:..., which is not the card's */
    g_assert_false(drv_used(&r.t, RX, &id, &len));
    rig_fini(&r);
}

static void test_filter(void)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    static const uint8_t table[] = {1, 0, 0, 0, 2, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0x33, 0x33, 0, 0, 0, 1};
    struct {
        uint8_t bytes[18];
    } own = {{2, 0, 0, 0, 0, 1}}, other = {{2, 0, 0, 0, 0, 9}}, listed = {{2, 0, 0, 0, 0, 2}},
      group = {{0x33, 0x33, 0, 0, 0, 1}}, all = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
      vlan = {{2, 0, 0, 0, 0, 1, [12] = 0x81, [15] = 5}};
    struct net_filter f;
#define TAKES(frame) net_filter_takes(&f, (frame).bytes, sizeof((frame).bytes))
#define SET(what, value) g_assert_true(net_filter_command(&f, 0, (what), (const uint8_t[]){value}, 1))
    net_filter_reset(&f, mac, true, false);
    g_assert_true(TAKES(other) && TAKES(group) && TAKES(vlan));
    SET(0, 0);
    g_assert_true(TAKES(own) && TAKES(all) && !TAKES(other) && !TAKES(group) && !TAKES(listed));
    g_assert_true(net_filter_command(&f, 1, 0, table, sizeof(table)));
    g_assert_true(TAKES(group) && TAKES(listed) && !TAKES(other));
    g_assert_false(net_filter_command(&f, 1, 0, table, sizeof(table) - 1));
    g_assert_true(TAKES(listed));
    SET(3, 1);
    g_assert_true(!TAKES(group) && TAKES(own));
    SET(3, 0);
    SET(1, 1);
    g_assert_true(TAKES(group));
    SET(2, 1);
    g_assert_true(TAKES(other));
    SET(4, 1);
    g_assert_true(!TAKES(own) && !TAKES(other));
    SET(5, 1);
    g_assert_false(TAKES(all));
    net_filter_reset(&f, mac, true, true);
    g_assert_false(TAKES(vlan));
    g_assert_true(net_filter_command(&f, 2, 0, (const uint8_t[]){5, 0}, 2));
    g_assert_true(TAKES(vlan));
    g_assert_true(net_filter_command(&f, 2, 1, (const uint8_t[]){5, 0}, 2));
    g_assert_false(TAKES(vlan));
}

/* --- a guest that goes on with another card --- */

/* Makes of r, whose card has another address, the guest that is in `from`, as its state of a version. */
static void move_guest(struct rig *r, struct rig *from, uint64_t mac, unsigned version)
{
    const struct device_type *type = from->t.d->type;
    g_autofree uint8_t *state = g_malloc0(state_size(type->state, type->version));
    device_state_save(from->t.d, state);
    rig_init_as(r, 0, mac);
    memcpy(r->t.ram, from->t.ram, DRV_RAM_SIZE);
    r->t.features = from->t.features;
    memcpy(r->t.q, from->t.q, sizeof(r->t.q));
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        struct drv_queue *q = &r->t.q[i];
        q->desc = q->desc ? r->t.ram + (q->desc - from->t.ram) : NULL;
        q->driver = q->driver ? r->t.ram + (q->driver - from->t.ram) : NULL;
        q->device = q->device ? r->t.ram + (q->device - from->t.ram) : NULL;
    }
    if (from->t.pci) {
        g_autofree uint8_t *pci = g_malloc0(device_state_size(from->t.pci->type));
        device_state_save(from->t.pci, pci);
        g_assert_true(device_state_load(r->t.pci, pci));
    }
    g_assert_true(device_state_load_version(r->t.d, version, state));
}

static void assert_mac(const uint8_t *at, unsigned last)
{
    const uint8_t mac[NET_MAC_SIZE] = {0x02, 0x00, 0x5e, 0x00, 0x53, (uint8_t)last};
    g_assert_cmpmem(at, NET_MAC_SIZE, mac, NET_MAC_SIZE);
}

static uint8_t shown(struct rig *r)
{
    return (uint8_t)rd(r->t.d, R_CONFIG + 5, 1);
}

/* The guest sends a frame with an address, by which card it leaves. */
static void assert_leaves(struct rig *r, unsigned sent_as, unsigned seen_as)
{
    static uint8_t message[NET_MESSAGE_MAX];
    const uint8_t frame[60] = {2, 0, 0, 0, 0, 9, 0x02, 0x00, 0x5e, 0x00, 0x53, (uint8_t)sent_as};
    const struct drv_buffer b[2] = {{data(0), HEADER, false}, {data(1), sizeof(frame), false}};
    memset(drv_at(&r->t, data(0)), 0, HEADER);
    memcpy(drv_at(&r->t, data(1)), frame, sizeof(frame));
    drv_add(&r->t, TX, b, 2, 0);
    drv_kick(&r->t, TX);
    assert_done(r, TX, 1);
    g_assert_cmpint(arrived(r, message), ==, HEADER + sizeof(frame));
    assert_mac(message + HEADER + 6, seen_as);
}

/* A frame comes for a card; the guest sees it as one for taken_as, or not at all (0). */
static void assert_comes(struct rig *r, unsigned sent_to, unsigned taken_as)
{
    uint8_t message[HEADER + 60] = {[HEADER] = 0x02, 0x00, 0x5e, 0x00, 0x53, (uint8_t)sent_to};
    unsigned id;
    uint32_t len;
    const struct drv_buffer b = {data(3), 1000, true};
    drv_add(&r->t, RX, &b, 1, 0);
    drv_kick(&r->t, RX);
    g_assert_cmpint(send(r->peer, message, sizeof(message), 0), ==, sizeof(message));
    spin();
    if (taken_as) {
        g_assert_true(drv_used(&r->t, RX, &id, &len));
        assert_mac(drv_at(&r->t, data(3)) + HEADER, taken_as);
    }
    g_assert_false(drv_used(&r->t, RX, &id, &len));
}

enum { FIRST = 1, SECOND = 0x12, THIRD = 0x23 };
#define CARD(last) (UINT64_C(0x02005e005300) | (last))

static void start_first(struct rig *r, uint64_t features)
{
    static const uint8_t promiscuous_off[] = {0, 0, 0};
    rig_init(r, features);
    g_assert_cmpint(command(r, promiscuous_off, sizeof(promiscuous_off)), ==, 0);
    assert_leaves(r, FIRST, FIRST);
    assert_comes(r, FIRST, FIRST);
    drv_acknowledge(&r->t);
}

static void moved(uint64_t features, unsigned version)
{
    struct rig first, second, third, back;
    start_first(&first, features);
    move_guest(&second, &first, CARD(SECOND), version);
    g_assert_cmphex(shown(&second), ==, SECOND);
    g_assert_true(drv_pin(&second.t));
    g_assert_cmphex(drv_acknowledge(&second.t), ==, 2); /* the configuration */
    assert_leaves(&second, FIRST, SECOND);
    assert_comes(&second, SECOND, FIRST);
    assert_comes(&second, FIRST, 0); /* is the first guest's */
    /* From there to another one, and back to the first. */
    move_guest(&third, &second, CARD(THIRD), 2);
    assert_leaves(&third, FIRST, THIRD);
    assert_comes(&third, THIRD, FIRST);
    assert_comes(&third, SECOND, 0);
    move_guest(&back, &third, CARD(FIRST), 2);
    g_assert_cmphex(shown(&back), ==, FIRST);
    assert_leaves(&back, FIRST, FIRST);
    assert_comes(&back, FIRST, FIRST);
    rig_fini(&first);
    rig_fini(&second);
    rig_fini(&third);
    rig_fini(&back);
}

static void test_moved(void)
{
    moved(ALL, 2);
    moved(ALL & ~VIRTIO_F_RING_PACKED, 2);
    moved(ALL, 1);
}

/* The same card again: nothing is said, nothing translated, and an address that the driver chose stays. */
static void test_not_moved(void)
{
    static const uint8_t set_mac[] = {1, 1, 0x02, 0x00, 0x5e, 0x00, 0x53, 0x77};
    struct rig first, again, other;
    start_first(&first, ALL);
    g_assert_cmpint(command(&first, set_mac, sizeof(set_mac)), ==, 0);
    drv_acknowledge(&first.t);
    move_guest(&again, &first, CARD(FIRST), 2);
    g_assert_cmphex(drv_acknowledge(&again.t), ==, 0);
    g_assert_cmphex(shown(&again), ==, 0x77);
    assert_leaves(&again, 0x77, 0x77);
    assert_comes(&again, 0x77, 0x77);
    /* But a copy of it must not have it, too. */
    move_guest(&other, &again, CARD(SECOND), 2);
    assert_leaves(&other, 0x77, SECOND);
    assert_comes(&other, SECOND, 0x77);
    assert_comes(&other, 0x77, 0);
    rig_fini(&first);
    rig_fini(&again);
    rig_fini(&other);
}

static void test_not_moved_version_1(void)
{
    struct rig first, again;
    start_first(&first, ALL);
    move_guest(&again, &first, CARD(FIRST), 1);
    g_assert_cmphex(drv_acknowledge(&again.t), ==, 0);
    assert_leaves(&again, FIRST, FIRST);
    assert_comes(&again, FIRST, FIRST);
    rig_fini(&first);
    rig_fini(&again);
}

/* A driver that begins anew without reading the address is still translated; one that has read it is not any
 * more; and a machine that is reset begins with its own. */
static void test_moved_ends(void)
{
    struct rig first, second, third;
    start_first(&first, ALL);
    move_guest(&second, &first, CARD(SECOND), 2);
    drv_start(&second.t, ALL, 64);
    assert_leaves(&second, FIRST, SECOND);
    assert_comes(&second, SECOND, FIRST);
    drv_start(&second.t, ALL, 64);
    assert_leaves(&second, SECOND, SECOND);
    assert_comes(&second, SECOND, SECOND);
    assert_leaves(&second, FIRST, FIRST);
    move_guest(&third, &second, CARD(THIRD), 2);
    assert_leaves(&third, SECOND, THIRD);
    device_reset(third.t.d);
    drv_start(&third.t, ALL, 64);
    g_assert_cmphex(shown(&third), ==, THIRD);
    assert_comes(&third, THIRD, THIRD);
    assert_leaves(&third, SECOND, SECOND);
    rig_fini(&first);
    rig_fini(&second);
    rig_fini(&third);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio-net/transmit", test_transmit);
    g_test_add_func("/virtio-net/transmit-plain", test_transmit_plain);
    g_test_add_func("/virtio-net/transmit-pieces", test_transmit_pieces);
    g_test_add_func("/virtio-net/transmit-full", test_transmit_full);
    g_test_add_func("/virtio-net/receive", test_receive);
    g_test_add_func("/virtio-net/receive-waits", test_receive_waits);
    g_test_add_func("/virtio-net/receive-plain", test_receive_plain);
    g_test_add_func("/virtio-net/reset", test_reset);
    g_test_add_func("/virtio-net/hostile", test_hostile);
    g_test_add_func("/virtio-net/threads", test_threads);
    g_test_add_func("/virtio-net/config", test_config);
    g_test_add_func("/virtio-net/commands", test_commands);
    g_test_add_func("/virtio-net/filter", test_filter);
    g_test_add_func("/virtio-net/moved", test_moved);
    g_test_add_func("/virtio-net/not-moved", test_not_moved);
    g_test_add_func("/virtio-net/not-moved-version-1", test_not_moved_version_1);
    g_test_add_func("/virtio-net/moved-ends", test_moved_ends);
    return g_test_run();
}
