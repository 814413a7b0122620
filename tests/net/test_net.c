/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Back ends over a socket pair: frames both ways, a full link, a card without room, headers, the end;
 * checksums. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/byteorder.h"
#include "net/checksum.h"
#include "net/net.h"
#include "net/rate.h"
#include "os/fd.h"

/* A card that keeps count of what it hears. */
struct card {
    unsigned room; /* frames it still takes */
    unsigned taken, batches, writable, down;
    struct net_header header; /* of the last one */
    uint8_t frame[64];
    size_t size;
};

static bool on_receive(void *opaque, const struct net_header *header, const uint8_t *frame, size_t size)
{
    struct card *c = opaque;
    if (!c->room)
        return false;
    c->room--;
    c->taken++;
    c->header = *header;
    c->size = size;
    memcpy(c->frame, frame, MIN(size, sizeof(c->frame)));
    return true;
}

static void on_received(void *opaque)
{
    ((struct card *)opaque)->batches++;
}

static void on_writable(void *opaque)
{
    ((struct card *)opaque)->writable++;
}

static void on_down(void *opaque)
{
    ((struct card *)opaque)->down++;
}

static const struct net_client client = {on_receive, on_received, on_writable, on_down};

struct rig {
    struct net *net;
    struct card card;
    int peer;
};

static void rig_init(struct rig *r)
{
    int pair[2];
    GError *error = NULL;
    *r = (struct rig){.card.room = 1000};
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
    r->peer = pair[1];
    r->net = net_new(net_backend_find("user"), pair[0], NULL, &error);
    g_assert_no_error(error);
    net_attach(r->net, &client, &r->card);
}

static void rig_fini(struct rig *r)
{
    net_free(r->net);
    fd_close(&r->peer);
}

static void spin(void)
{
    for (unsigned i = 0; i < 20; i++)
        while (g_main_context_iteration(NULL, FALSE))
            continue;
}

/* A message of the other end. */
static void from_peer(struct rig *r, struct net_header header, size_t size)
{
    uint8_t message[sizeof(header) + 2048];
    g_assert_cmpuint(size, <=, 2048);
    memset(message, 0x5a, sizeof(message));
    memcpy(message, &header, sizeof(header));
    g_assert_cmpint(send(r->peer, message, sizeof(header) + size, 0), ==, (ssize_t)(sizeof(header) + size));
}

static const struct net_header plain;

static void test_frames(void)
{
    struct rig r;
    rig_init(&r);
    from_peer(&r, plain, 14);
    from_peer(&r, plain, 1514);
    spin();
    g_assert_cmpuint(r.card.taken, ==, 2);
    g_assert_cmpuint(r.card.size, ==, 1514);
    g_assert_cmphex(r.card.frame[13], ==, 0x5a);
    from_peer(&r, plain, 13); /* no frame */
    spin();
    g_assert_cmpuint(r.card.taken, ==, 2);

    uint8_t bytes[2][40];
    memset(bytes, 1, sizeof(bytes));
    const struct iovec pieces[2][2] = {{{bytes[0], 12}, {bytes[0] + 12, 28}},
                                       {{bytes[1], 12}, {bytes[1] + 12, 20}}};
    const struct net_packet packets[2] = {{pieces[0], 2}, {pieces[1], 2}};
    g_assert_cmpuint(net_send(r.net, packets, 2), ==, 2);
    uint8_t got[100];
    g_assert_cmpint(recv(r.peer, got, sizeof(got), 0), ==, 40);
    g_assert_cmpint(recv(r.peer, got, sizeof(got), 0), ==, 32);
    rig_fini(&r);
}

/* Translated, more frames than a batch go out and each comes once; until the guest uses its card's address.
 */
static void test_alias(void)
{
    enum { COUNT = NET_BATCH + 8, SIZE = 12 + 40 };
    const struct net_alias alias = {{2, 1, 1, 1, 1, 1}, {2, 2, 2, 2, 2, 2}};
    uint8_t bytes[COUNT][SIZE] = {{0}}, got[100];
    struct iovec pieces[COUNT][2];
    struct net_packet packets[COUNT];
    struct rig r;
    rig_init(&r);
    g_assert_false(net_has_alias(r.net));
    net_set_alias(r.net, &alias);
    for (unsigned i = 0; i < COUNT; i++) {
        memcpy(bytes[i] + 12 + 6, alias.inside, NET_MAC_SIZE);
        bytes[i][SIZE - 1] = (uint8_t)i;
        pieces[i][0] = (struct iovec){bytes[i], 12};
        pieces[i][1] = (struct iovec){bytes[i] + 12, SIZE - 12};
        packets[i] = (struct net_packet){pieces[i], 2};
    }
    g_assert_cmpuint(net_send(r.net, packets, COUNT), ==, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        g_assert_cmpint(recv(r.peer, got, sizeof(got), 0), ==, SIZE);
        g_assert_cmpmem(got + 12 + 6, NET_MAC_SIZE, alias.outside, NET_MAC_SIZE);
        g_assert_cmpuint(got[SIZE - 1], ==, i);
    }
    /* Not again when the card had no room at first. */
    uint8_t message[SIZE] = {0};
    memcpy(message + 12, alias.outside, NET_MAC_SIZE);
    r.card.room = 1;
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpint(send(r.peer, message, SIZE, 0), ==, SIZE);
    memcpy(message + 12, alias.inside, NET_MAC_SIZE);
    g_assert_cmpint(send(r.peer, message, SIZE, 0), ==, SIZE); /* somebody else's */
    spin();
    r.card.room = 10;
    net_more(r.net);
    spin();
    g_assert_cmpuint(r.card.taken, ==, 3);
    g_assert_cmpmem(r.card.frame, NET_MAC_SIZE, alias.inside, NET_MAC_SIZE);
    memcpy(bytes[1] + 12 + 6, alias.outside, NET_MAC_SIZE);
    g_assert_cmpuint(net_send(r.net, packets, 3), ==, 3);
    g_assert_false(net_has_alias(r.net));
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(recv(r.peer, got, sizeof(got), 0), ==, SIZE);
        g_assert_cmpmem(got + 12 + 6, NET_MAC_SIZE, i < 2 ? alias.outside : alias.inside, NET_MAC_SIZE);
    }
    rig_fini(&r);
}

/* A card without room is asked again only when it says so, and gets every frame in order. */
static void test_no_room(void)
{
    struct rig r;
    rig_init(&r);
    r.card.room = 1;
    for (size_t size = 20; size < 24; size++)
        from_peer(&r, plain, size);
    spin();
    g_assert_cmpuint(r.card.taken, ==, 1);
    r.card.room = 100;
    spin();
    g_assert_cmpuint(r.card.taken, ==, 1);
    net_more(r.net);
    spin();
    g_assert_cmpuint(r.card.taken, ==, 4);
    g_assert_cmpuint(r.card.size, ==, 23);
    rig_fini(&r);
}

static void test_full(void)
{
    struct rig r;
    static uint8_t bytes[40000];
    const struct iovec pieces[2] = {{bytes, 12}, {bytes + 12, sizeof(bytes) - 12}};
    const struct net_packet packet = {pieces, 2};
    unsigned sent = 0;
    rig_init(&r);
    while (net_send(r.net, &packet, 1) == 1)
        g_assert_cmpuint(++sent, <, 10000);
    spin();
    g_assert_cmpuint(r.card.writable, ==, 0);
    for (unsigned i = 0; i < sent; i++)
        g_assert_cmpint(recv(r.peer, bytes, sizeof(bytes), 0), ==, sizeof(bytes));
    spin();
    g_assert_cmpuint(r.card.writable, ==, 1);
    g_assert_cmpuint(net_send(r.net, &packet, 1), ==, 1);
    rig_fini(&r);
}

/* A host that allows small buffers only: a long frame is lost, the link lives. */
static void test_too_long(void)
{
    struct rig r;
    static uint8_t bytes[60000];
    const struct iovec big[2] = {{bytes, 12}, {bytes + 12, sizeof(bytes) - 12}},
                       small[2] = {{bytes, 12}, {bytes, 60}};
    const struct net_packet packets[3] = {{small, 2}, {big, 2}, {small, 2}};
    const int room = 20000;
    rig_init(&r);
    setsockopt(r.net->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    g_assert_cmpuint(net_send(r.net, packets, 3), ==, 3);
    g_assert_true(net_up(r.net));
    g_assert_cmpint(recv(r.peer, bytes, sizeof(bytes), MSG_DONTWAIT), ==, 72);
    g_assert_cmpint(recv(r.peer, bytes, sizeof(bytes), MSG_DONTWAIT), ==, 72);
    g_assert_cmpint(recv(r.peer, bytes, sizeof(bytes), MSG_DONTWAIT), ==, -1);
    rig_fini(&r);
}

/* The end is told once; what is sent afterwards is lost, not refused. */
static void test_end(void)
{
    struct rig r;
    uint8_t bytes[40] = {0};
    const struct iovec pieces[2] = {{bytes, 12}, {bytes + 12, 28}};
    const struct net_packet packet = {pieces, 2};
    rig_init(&r);
    from_peer(&r, plain, 60);
    fd_close(&r.peer);
    g_assert_true(net_up(r.net));
    spin();
    g_assert_cmpuint(r.card.taken, ==, 1);
    g_assert_cmpuint(r.card.down, ==, 1);
    g_assert_false(net_up(r.net));
    g_assert_cmpuint(net_send(r.net, &packet, 1), ==, 1);
    net_more(r.net);
    spin();
    g_assert_cmpuint(r.card.down, ==, 1);
    rig_fini(&r);
}

/* A header may ask of the guest only what the guest has said it does. */
static void test_headers(void)
{
    static const struct {
        struct net_header header;
        unsigned guest;
        bool taken;
        uint8_t flags; /* that arrive */
    } cases[] = {
        {{.flags = NET_DATA_VALID}, NET_CSUM, true, NET_DATA_VALID},
        {{.flags = NET_DATA_VALID}, 0, true, 0},
        {{.flags = 0x84}, NET_CSUM, true, 0},
        {{.flags = NET_NEEDS_CSUM, .csum_start = 14, .csum_offset = 6}, NET_CSUM, true, NET_NEEDS_CSUM},
        {{.flags = NET_NEEDS_CSUM, .csum_start = 14, .csum_offset = 6}, 0, false, 0},
        {{.flags = NET_NEEDS_CSUM, .csum_start = 99, .csum_offset = 0}, NET_CSUM, false, 0},
        {{.flags = NET_NEEDS_CSUM, .csum_start = 0xffff, .csum_offset = 0xffff}, NET_CSUM, false, 0},
        {{.flags = NET_NEEDS_CSUM, .csum_start = 98, .csum_offset = 0}, NET_CSUM, true, NET_NEEDS_CSUM},
        /* `user` never gives big segments, whatever its other end says. */
        {{.flags = NET_NEEDS_CSUM, .csum_start = 14, .gso_type = NET_GSO_TCP4, .gso_size = 100},
         NET_CSUM | NET_TSO4,
         false,
         0},
        {{.gso_type = 3}, NET_CSUM, false, 0},
    };
    struct rig r;
    rig_init(&r);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct net_header h = cases[i].header;
        unsigned before = r.card.taken;
        h.csum_start = htole16(h.csum_start);
        h.csum_offset = htole16(h.csum_offset);
        net_set_offloads(r.net, cases[i].guest);
        from_peer(&r, h, 100);
        spin();
        g_assert_cmpuint(r.card.taken - before, ==, cases[i].taken);
        if (cases[i].taken)
            g_assert_cmphex(r.card.header.flags, ==, cases[i].flags);
    }
    rig_fini(&r);
}

static void test_wrong_descriptor(void)
{
    for (unsigned i = 0; net_backends[i]; i++) {
        GError *error = NULL;
        int pipes[2];
        g_assert_cmpint(pipe(pipes), ==, 0);
        g_assert_null(net_new(net_backends[i], pipes[0], NULL, &error));
        g_assert_nonnull(error);
        g_clear_error(&error);
        g_assert_false(fd_is_open(pipes[0])); /* taken in any case */
        close(pipes[1]);
    }
}

/* The sum written down as RFC 1071 defines it. */
static uint16_t slow_sum(const uint8_t *bytes, size_t size)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum += i & 1 ? bytes[i] : (uint32_t)bytes[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

static void test_checksum(void)
{
    static uint8_t bytes[70000];
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)g_rand_int(rand);
    memset(bytes + 1000, 0xff, 3000); /* carries */
    for (unsigned i = 0; i < 2000; i++) {
        size_t start = g_rand_int(rand) % 3000, size = g_rand_int(rand) % (i % 10 ? 300 : 65000);
        g_assert_cmphex(checksum_finish(checksum_add(0, bytes + start, size)), ==,
                        (uint16_t)~slow_sum(bytes + start, size));
        size_t even = size & ~(size_t)1;
        uint32_t half = checksum_add(0, bytes + start, even);
        g_assert_cmphex(checksum_finish(checksum_add(half, bytes + start + even, size - even)), ==,
                        (uint16_t)~slow_sum(bytes + start, size));
    }
    /* RFC 1071, section 3. */
    static const uint8_t example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    g_assert_cmphex(checksum_finish(checksum_add(0, example, sizeof(example))), ==, 0x220d);
    /* RFC 1624, section 4: the case that an earlier formula got wrong. */
    static const uint8_t before[] = {0x55, 0x55}, after[] = {0x32, 0x85};
    g_assert_cmphex(checksum_update(0xdd2f, before, after, 2), ==, 0x0000);
}

/* --- rates --- */

enum { RATED_FRAMES = 30, RATED_SIZE = 1014, RATED_BITS = 1000000, RATED_BURST = 40000 };

/* What has passed is no more than the rate and a burst allow, and the frame that was let in last. */
static void check_rate(uint64_t frames, gint64 since)
{
    const uint64_t us = (uint64_t)(g_get_monotonic_time() - since) + 1;
    g_assert_cmpuint((frames - 1) * RATED_SIZE * 8, <=, us * RATED_BITS / 1000000 + RATED_BURST);
}

static void test_rate_to_guest(void)
{
    struct rig r;
    struct net_rate rate = {RATED_BITS, RATED_BURST};
    rig_init(&r);
    net_set_rate(r.net, NET_TO_GUEST, &rate);
    for (unsigned i = 0; i < RATED_FRAMES; i++)
        from_peer(&r, plain, RATED_SIZE);
    const gint64 began = g_get_monotonic_time();
    unsigned turns = 0;
    while (r.card.taken < RATED_FRAMES) {
        g_main_context_iteration(NULL, TRUE);
        if (r.card.taken)
            check_rate(r.card.taken, began);
        turns++;
    }
    g_assert_cmpuint(turns, <, 20 * RATED_FRAMES); /* it slept in between */
    struct net_count count;
    net_get_count(r.net, NET_TO_GUEST, &count);
    g_assert_true(count.frames == RATED_FRAMES && count.bytes == RATED_FRAMES * RATED_SIZE);
    net_get_rate(r.net, NET_TO_GUEST, &rate);
    g_assert_true(rate.bits == RATED_BITS && rate.burst == RATED_BURST);
    net_get_rate(r.net, NET_FROM_GUEST, &rate);
    g_assert_true(!rate.bits);
    /* A rate so small that nothing more would pass, taken off again. */
    rate = (struct net_rate){8, 8};
    net_set_rate(r.net, NET_TO_GUEST, &rate);
    for (unsigned i = 0; i < 3; i++)
        from_peer(&r, plain, RATED_SIZE);
    spin();
    g_assert_cmpuint(r.card.taken, ==, RATED_FRAMES + 1); /* the first of a full bucket */
    from_peer(&r, plain, RATED_SIZE);
    for (unsigned i = 0; i < 20; i++) /* what waits in the descriptor is not looked at again and again */
        g_main_context_iteration(NULL, FALSE);
    g_assert_false(g_main_context_iteration(NULL, FALSE));
    rate = (struct net_rate){0};
    net_set_rate(r.net, NET_TO_GUEST, &rate);
    spin();
    g_assert_cmpuint(r.card.taken, ==, RATED_FRAMES + 4);
    rig_fini(&r);
}

static void test_rate_from_guest(void)
{
    struct rig r;
    struct net_rate rate = {RATED_BITS, RATED_BURST};
    static uint8_t bytes[12 + RATED_SIZE], got[2048];
    const struct iovec pieces[2] = {{bytes, 12}, {bytes + 12, RATED_SIZE}};
    struct net_packet packets[RATED_FRAMES];
    for (unsigned i = 0; i < RATED_FRAMES; i++)
        packets[i] = (struct net_packet){pieces, 2};
    rig_init(&r);
    fd_set_nonblock(r.peer, true);
    net_set_rate(r.net, NET_FROM_GUEST, &rate);
    const gint64 began = g_get_monotonic_time();
    unsigned sent = net_send(r.net, packets, RATED_FRAMES), writable = 0;
    g_assert_cmpuint(sent, >=, RATED_BURST / (RATED_SIZE * 8));
    while (sent < RATED_FRAMES) {
        check_rate(sent, began);
        g_main_context_iteration(NULL, TRUE);
        if (r.card.writable > writable) {
            const unsigned more = net_send(r.net, packets + sent, RATED_FRAMES - sent);
            g_assert_cmpuint(more, >, 0); /* it is called when something may pass */
            sent += more;
            writable = r.card.writable;
        }
    }
    check_rate(sent, began);
    struct net_count count;
    net_get_count(r.net, NET_FROM_GUEST, &count);
    g_assert_true(count.frames == RATED_FRAMES && count.bytes == RATED_FRAMES * RATED_SIZE);
    for (unsigned i = 0; i < RATED_FRAMES; i++)
        g_assert_cmpint(recv(r.peer, got, sizeof(got), 0), ==, 12 + RATED_SIZE);
    g_assert_cmpint(recv(r.peer, got, sizeof(got), 0), <, 0);
    rig_fini(&r);
}

/* Numbers at the edges. */
static void test_rate_numbers(void)
{
    static const struct net_rate rates[] = {
        {1, 1}, {1, UINT64_MAX}, {UINT64_MAX, 1}, {UINT64_MAX, UINT64_MAX}, {1, 0}};
    for (unsigned i = 0; i < G_N_ELEMENTS(rates); i++) {
        struct net_bucket b;
        uint64_t now = 1000;
        net_bucket_set(&b, &rates[i]);
        g_assert_cmpuint(net_bucket_when(&b, now), ==, now);
        for (unsigned k = 0; k < 100; k++) {
            net_bucket_take(&b, UINT64_C(1) << 60, now);
            g_assert_cmpuint(net_bucket_when(&b, now), >=, now);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net/frames", test_frames);
    g_test_add_func("/net/alias", test_alias);
    g_test_add_func("/net/no-room", test_no_room);
    g_test_add_func("/net/full", test_full);
    g_test_add_func("/net/too-long", test_too_long);
    g_test_add_func("/net/end", test_end);
    g_test_add_func("/net/headers", test_headers);
    g_test_add_func("/net/wrong-descriptor", test_wrong_descriptor);
    g_test_add_func("/net/checksum", test_checksum);
    g_test_add_func("/net/rate-to-guest", test_rate_to_guest);
    g_test_add_func("/net/rate-from-guest", test_rate_from_guest);
    g_test_add_func("/net/rate-numbers", test_rate_numbers);
    return g_test_run();
}
