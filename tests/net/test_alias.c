/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One address translated into another: each kind of frame is what it would be had its sender the other
 * address, checksums included. */
#include <string.h>

#include "base/byteorder.h"
#include "net/alias.h"

static const struct net_alias alias = {{0x02, 0x11, 0x22, 0x33, 0x44, 0x55},
                                       {0x02, 0xfe, 0xdc, 0xba, 0x98, 0x76}};
static const uint8_t peer[NET_MAC_SIZE] = {0x52, 0x55, 0x0a, 0x00, 0x02, 0x02};

struct frame {
    uint8_t bytes[4096];
    size_t size;
};

static void put(struct frame *f, const void *bytes, size_t size)
{
    memcpy(f->bytes + f->size, bytes, size);
    f->size += size;
}

static void put_number(struct frame *f, uint32_t value, unsigned size)
{
    while (size--)
        f->bytes[f->size++] = (uint8_t)(value >> 8 * size);
}

/* RFC 1071 as its first sentence has it. */
static uint16_t sum_of(const uint8_t *bytes, size_t size, uint32_t sum)
{
    for (size_t i = 0; i < size; i++)
        sum += i & 1 ? bytes[i] : (uint32_t)bytes[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* How the frame is made. */
struct how {
    const uint8_t *mac;  /* the guest's */
    bool to_guest;       /* else from it */
    unsigned tags;       /* of virtual networks */
    bool unsummed, none; /* checksum: of the pseudo header alone; 0 */
    bool odd;            /* options at odd places */
};

static void begin(struct frame *f, const struct how *h, unsigned type)
{
    f->size = 0;
    put(f, h->to_guest ? h->mac : peer, NET_MAC_SIZE);
    put(f, h->to_guest ? peer : h->mac, NET_MAC_SIZE);
    for (unsigned i = 0; i < h->tags; i++) {
        put_number(f, i + 1 < h->tags ? 0x88a8 : 0x8100, 2);
        put_number(f, 0x2005, 2);
    }
    put_number(f, type, 2);
}

static void make_arp(struct frame *f, const struct how *h)
{
    begin(f, h, 0x0806);
    put_number(f, 1, 2);
    put_number(f, 0x0800, 2);
    put_number(f, 0x0604, 2);
    put_number(f, h->to_guest ? 2 : 1, 2);
    put(f, h->to_guest ? peer : h->mac, NET_MAC_SIZE);
    put_number(f, 0x0a000203, 4);
    put(f, h->mac, NET_MAC_SIZE);
    put_number(f, 0x0a000202, 4);
    f->size += 18; /* to the shortest frame */
}

/* ICMPv6 of a type whose options begin at a place. */
static void make_neighbour(struct frame *f, const struct how *h, unsigned type, unsigned options)
{
    begin(f, h, 0x86dd);
    const size_t ip = f->size, length = options + 8 + 16 + 8;
    put_number(f, 0x60000000, 4);
    put_number(f, (uint32_t)length, 2);
    put_number(f, 58 << 8 | 255, 2);
    for (unsigned i = 0; i < 32; i++)
        put_number(f, 0xf0 ^ (i * 7), 1);
    const size_t icmp = f->size;
    put_number(f, type << 8, 2);
    f->size = icmp + options;
    put_number(f, 0x0101, 2); /* a source's address */
    put(f, h->mac, NET_MAC_SIZE);
    put_number(f, 0x0e020000, 4); /* a nonce, 16 bytes, in which the address is no address */
    put(f, h->to_guest ? alias.outside : alias.inside, NET_MAC_SIZE);
    f->size += 6;
    put_number(f, 0x0201, 2); /* a target's */
    put(f, h->mac, NET_MAC_SIZE);
    uint8_t pseudo[8] = {0, 0, 0, (uint8_t)length, 0, 0, 0, 58};
    const uint16_t heads = (uint16_t)~sum_of(pseudo, 8, (uint16_t)~sum_of(f->bytes + ip + 8, 32, 0));
    st16be(f->bytes + icmp + 2, h->unsummed ? heads : sum_of(f->bytes + icmp, length, heads));
}

static void make_router_solicitation(struct frame *f, const struct how *h)
{
    make_neighbour(f, h, 133, 8);
}

static void make_router_advertisement(struct frame *f, const struct how *h)
{
    make_neighbour(f, h, 134, 16);
}

static void make_solicitation(struct frame *f, const struct how *h)
{
    make_neighbour(f, h, 135, 24);
}

static void make_advertisement(struct frame *f, const struct how *h)
{
    make_neighbour(f, h, 136, 24);
}

static void make_redirect(struct frame *f, const struct how *h)
{
    make_neighbour(f, h, 137, 40);
}

static void make_udp(struct frame *f, const struct how *h, unsigned fragment, unsigned from, unsigned to)
{
    const uint8_t client_id[] = {61, 7, 1};
    begin(f, h, 0x0800);
    const size_t ip = f->size, options = h->odd ? 5 : 4,
                 length = 8 + 240 + options + sizeof(client_id) + 6 + 2;
    put_number(f, 0x46000000 | (uint32_t)(24 + length), 4); /* with an option of IP */
    put_number(f, fragment, 4);
    put_number(f, 0x40110000, 4);
    put_number(f, 0x0a000203, 4);
    put_number(f, 0x0a000202, 4);
    put_number(f, 0x01010101, 4);
    const size_t udp = f->size;
    put_number(f, from << 16 | to, 4);
    put_number(f, (uint32_t)length << 16, 4);
    put_number(f, 0x01010600, 4);
    f->size = udp + 8 + 28;
    put(f, h->mac, NET_MAC_SIZE);
    f->size = udp + 8 + 236;
    put_number(f, 0x63825363, 4);
    if (h->odd)
        put_number(f, 0, 1);
    put_number(f, 0x350101ff >> 8, 3); /* it discovers */
    put_number(f, 0, 1);
    put(f, client_id, sizeof(client_id));
    put(f, h->mac, NET_MAC_SIZE);
    put_number(f, 0xff, 1);
    put_number(f, 0x77, 1);
    uint8_t pseudo[4] = {0, 17, (uint8_t)(length >> 8), (uint8_t)length};
    const uint16_t heads = (uint16_t)~sum_of(pseudo, 4, (uint16_t)~sum_of(f->bytes + ip + 12, 8, 0));
    st16be(f->bytes + udp + 6, h->none ? 0 : h->unsummed ? heads : sum_of(f->bytes + udp, length, heads));
    g_assert_cmpuint(f->size, ==, udp + length);
}

static void make_dhcp(struct frame *f, const struct how *h)
{
    make_udp(f, h, 0x4000, h->to_guest ? 67 : 68, h->to_guest ? 68 : 67);
}

/* Data which looks like an address at places where it is none. */
static void make_data(struct frame *f, const struct how *h)
{
    begin(f, h, 0x0800);
    put_number(f, 0x45000000, 4);
    f->size += 16;
    for (unsigned i = 0; i < 200; i++)
        put(f, i & 1 ? alias.inside : alias.outside, NET_MAC_SIZE);
}

static void (*const makers[])(struct frame *, const struct how *) = {make_arp,
                                                                     make_router_solicitation,
                                                                     make_router_advertisement,
                                                                     make_solicitation,
                                                                     make_advertisement,
                                                                     make_redirect,
                                                                     make_dhcp,
                                                                     make_data};

/* Calls for each kind of frame in each manner. */
static void each(void (*check)(void (*)(struct frame *, const struct how *), struct how))
{
    for (unsigned i = 0; i < G_N_ELEMENTS(makers); i++)
        for (unsigned n = 0; n < 48; n++)
            check(makers[i], (struct how){.tags = n % 3,
                                          .unsummed = n / 3 % 2,
                                          .none = n / 6 % 2,
                                          .odd = n / 12 % 2,
                                          .to_guest = n / 24});
}

/* --- towards the guest --- */

static void check_in(void (*make)(struct frame *, const struct how *), struct how how)
{
    struct frame f, expected;
    how.mac = alias.outside;
    memset(&f, 0, sizeof(f));
    make(&f, &how);
    how.mac = alias.inside;
    memset(&expected, 0, sizeof(expected));
    make(&expected, &how);
    /* In memory that ends where the frame does. */
    g_autofree uint8_t *bytes = g_memdup2(f.bytes, f.size);
    g_assert_true(net_alias_in(&alias, how.unsummed, bytes, f.size));
    g_assert_cmpmem(bytes, f.size, expected.bytes, expected.size);
    for (size_t size = NET_ETHERNET; size < f.size; size++) {
        g_autofree uint8_t *cut = g_memdup2(f.bytes, size);
        g_assert_true(net_alias_in(&alias, how.unsummed, cut, size));
    }
}

static void test_in(void)
{
    each(check_in);
}

/* The first guest's own frames, others', and everybody's. */
static void test_in_others(void)
{
    static const uint8_t all[NET_MAC_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct frame f = {.size = 0};
    const struct how first = {.mac = alias.inside, .to_guest = true};
    make_data(&f, &first);
    g_assert_false(net_alias_in(&alias, false, f.bytes, f.size));
    memcpy(f.bytes, all, NET_MAC_SIZE);
    const struct frame before = f;
    g_assert_true(net_alias_in(&alias, false, f.bytes, f.size));
    g_assert_cmpmem(f.bytes, f.size, before.bytes, before.size);
    memcpy(f.bytes, peer, NET_MAC_SIZE);
    g_assert_true(net_alias_in(&alias, false, f.bytes, f.size));
    g_assert_cmpmem(f.bytes, NET_MAC_SIZE, peer, NET_MAC_SIZE);
}

/* --- from the guest --- */

/* Sends bytes in pieces of a size; what comes out, copied together. */
static bool send_in_pieces(const uint8_t *bytes, size_t size, size_t piece, bool unsummed, struct frame *out)
{
    static struct net_alias_room room;
    struct net_header header = {.flags = unsummed ? NET_NEEDS_CSUM : 0};
    struct iovec pieces[NET_PIECES_MAX] = {{&header, sizeof(header)}};
    unsigned count = 1;
    for (size_t at = 0; at < size; at += pieces[count++].iov_len)
        pieces[count] = (struct iovec){(uint8_t *)(uintptr_t)bytes + at,
                                       count + 1 == NET_PIECES_MAX ? size - at : MIN(piece, size - at)};
    const struct net_packet packet = {pieces, count};
    struct net_packet translated;
    const bool going_on = net_alias_out(&alias, &packet, &room, &translated);
    g_assert_true(translated.pieces[0].iov_base == &header);
    g_assert_cmpuint(translated.count, <=, NET_PIECES_MAX + 1);
    out->size = 0;
    for (unsigned i = 1; i < translated.count; i++)
        put(out, translated.pieces[i].iov_base, translated.pieces[i].iov_len);
    return going_on;
}

static void check_out(void (*make)(struct frame *, const struct how *), struct how how)
{
    struct frame f, expected, got;
    how.mac = alias.inside;
    memset(&f, 0, sizeof(f));
    make(&f, &how);
    how.mac = alias.outside;
    memset(&expected, 0, sizeof(expected));
    make(&expected, &how);
    g_autofree uint8_t *bytes = g_memdup2(f.bytes, f.size);
    for (size_t piece = 1; piece < f.size + 40; piece += piece < 100 ? 1 : 97) {
        g_assert_true(send_in_pieces(bytes, f.size, piece, how.unsummed, &got));
        g_assert_cmpmem(got.bytes, got.size, expected.bytes, expected.size);
        g_assert_cmpmem(bytes, f.size, f.bytes, f.size); /* the guest's memory is its own */
    }
    for (size_t size = 1; size < f.size; size++) {
        g_autofree uint8_t *cut = g_memdup2(f.bytes, size);
        g_assert_true(send_in_pieces(cut, size, 7, how.unsummed, &got));
        g_assert_cmpuint(got.size, ==, size);
    }
}

static void test_out(void)
{
    each(check_out);
}

/* What is longer than any message of the kinds, and fragments: only the Ethernet header. */
static void test_out_long(void)
{
    struct frame f = {.size = 0}, got, expected;
    const struct how how = {.mac = alias.inside};
    make_arp(&f, &how);
    f.size = NET_ALIAS_ROOM + 1;
    expected = f;
    memcpy(expected.bytes + NET_MAC_SIZE, alias.outside, NET_MAC_SIZE);
    g_assert_true(send_in_pieces(f.bytes, f.size, 100, false, &got));
    g_assert_cmpmem(got.bytes, got.size, expected.bytes, expected.size);

    memset(&f, 0, sizeof(f));
    make_udp(&f, &how, 0x2000, 68, 67);
    expected = f;
    memcpy(expected.bytes + NET_MAC_SIZE, alias.outside, NET_MAC_SIZE);
    g_assert_true(send_in_pieces(f.bytes, f.size, 100, false, &got));
    g_assert_cmpmem(got.bytes, got.size, expected.bytes, expected.size);
}

/* A guest that has read its new address says so with its first frame, which goes out as it is. */
static void test_learned(void)
{
    struct frame f = {.size = 0}, got;
    const struct how how = {.mac = alias.outside};
    make_arp(&f, &how);
    g_assert_false(send_in_pieces(f.bytes, f.size, 20, false, &got));
    g_assert_cmpmem(got.bytes, got.size, f.bytes, f.size);
}

/* Frames with anything in them, in memory that ends where they do. */
static void test_wild(void)
{
    GRand *rand = g_rand_new_with_seed(5);
    for (unsigned round = 0; round < 20000; round++) {
        struct frame f = {.size = 0}, got;
        const bool out = g_rand_boolean(rand);
        const struct how how = {.mac = out ? alias.inside : alias.outside,
                                .to_guest = !out,
                                .tags = (unsigned)g_rand_int_range(rand, 0, 4),
                                .odd = g_rand_boolean(rand)};
        makers[(guint32)g_rand_int_range(rand, 0, G_N_ELEMENTS(makers))](&f, &how);
        for (int n = g_rand_int_range(rand, 0, 6); n > 0; n--)
            f.bytes[g_rand_int_range(rand, 12, (gint32)f.size)] = (uint8_t)g_rand_int(rand);
        const size_t size = (size_t)g_rand_int_range(rand, NET_ETHERNET, (gint32)f.size + 1);
        g_autofree uint8_t *bytes = g_memdup2(f.bytes, size);
        if (out)
            send_in_pieces(bytes, size, (size_t)g_rand_int_range(rand, 1, 200), g_rand_boolean(rand), &got);
        else
            net_alias_in(&alias, g_rand_boolean(rand), bytes, size);
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/alias/in", test_in);
    g_test_add_func("/alias/in-others", test_in_others);
    g_test_add_func("/alias/out", test_out);
    g_test_add_func("/alias/out-long", test_out_long);
    g_test_add_func("/alias/learned", test_learned);
    g_test_add_func("/alias/wild", test_wild);
    return g_test_run();
}
