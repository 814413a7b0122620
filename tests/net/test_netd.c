/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* hostel-netd's parts: arguments, the name server's file, packets taken apart, what a guest may reach,
 * checksums. */
#include <arpa/inet.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "net/checksum.h"
#include "net/netd/filter.h"
#include "net/netd/offload.h"
#include "net/netd/resolver.h"

/* --- packets, made here --- */

static const char *const guest4 = "10.0.2.15", *const guest6 = "fec0::1234";

struct made {
    uint8_t frame[256];
    size_t size;
};

static void put_address(uint8_t *at, const char *text)
{
    g_assert_cmpint(inet_pton(strchr(text, ':') ? AF_INET6 : AF_INET, text, at), ==, 1);
}

static uint32_t pseudo(const uint8_t *ip, bool v6, uint8_t protocol, size_t size)
{
    return checksum_add((uint32_t)size + protocol, v6 ? ip + 8 : ip + 12, v6 ? 32 : 8);
}

/* A frame of a protocol with a payload that begins with its header. */
static struct made make(const char *from, const char *to, uint8_t protocol, const uint8_t *payload,
                        size_t size)
{
    bool v6 = strchr(to, ':');
    size_t head = v6 ? 40 : 20;
    struct made m = {.size = 14 + head + size};
    uint8_t *ip = m.frame + 14;
    memset(m.frame, 2, 12);
    st16be(m.frame + 12, v6 ? 0x86dd : 0x0800);
    if (v6) {
        ip[0] = 0x60;
        st16be(ip + 4, (uint16_t)size);
        ip[6] = protocol;
        ip[7] = 64;
        put_address(ip + 8, from);
        put_address(ip + 24, to);
    } else {
        ip[0] = 0x45;
        st16be(ip + 2, (uint16_t)(head + size));
        ip[8] = 64;
        ip[9] = protocol;
        put_address(ip + 12, from);
        put_address(ip + 16, to);
        st16be(ip + 10, checksum_finish(checksum_add(0, ip, 20)));
    }
    memcpy(ip + head, payload, size);
    int place = protocol == IPPROTO_TCP ? 16 : protocol == IPPROTO_UDP ? 6 : -1;
    if (place >= 0)
        st16be(ip + head + place,
               checksum_finish(checksum_add(pseudo(ip, v6, protocol, size), payload, size)));
    return m;
}

static struct made tcp(const char *from, const char *to, uint16_t source, uint16_t destination, uint8_t flags)
{
    uint8_t header[20] = {[12] = 0x50, [13] = flags};
    st16be(header, source);
    st16be(header + 2, destination);
    return make(from, to, IPPROTO_TCP, header, sizeof(header));
}

static struct made udp(const char *from, const char *to, uint16_t source, uint16_t destination)
{
    uint8_t header[12] = {0, 0, 0, 0, 0, 12, 0, 0, 'n', 'a', 'm', 'e'};
    st16be(header, source);
    st16be(header + 2, destination);
    return make(from, to, IPPROTO_UDP, header, sizeof(header));
}

static struct made icmp(const char *from, const char *to, uint8_t type)
{
    const uint8_t header[8] = {type};
    return make(from, to, strchr(to, ':') ? IPPROTO_ICMPV6 : IPPROTO_ICMP, header, sizeof(header));
}

/* Every checksum of a packet is right. */
static void assert_sums(const struct made *m)
{
    const uint8_t *ip = m->frame + 14;
    bool v6 = ip[0] >> 4 == 6;
    size_t head = v6 ? 40 : 20, size = m->size - 14 - head;
    if (!v6)
        g_assert_cmphex(checksum_finish(checksum_add(0, ip, 20)), ==, 0);
    g_assert_cmphex(checksum_finish(checksum_add(pseudo(ip, v6, ip[v6 ? 6 : 9], size), ip + head, size)), ==,
                    0);
}

/* --- a host to be protected --- */

struct rig {
    struct netd_hosts hosts;
    struct netd_filter filter;
};

static void rig_init(struct rig *r)
{
    static const char *const own[] = {"192.168.7.9", "192.168.7.255", "2001:db8::9", "127.0.0.1", "::1"};
    memset(r, 0, sizeof(*r));
    r->hosts =
        (struct netd_hosts){.watch = -1, .own = g_array_new(FALSE, FALSE, sizeof(struct netd_address))};
    for (unsigned i = 0; i < G_N_ELEMENTS(own); i++) {
        struct netd_address a;
        g_assert_true(netd_address_parse(own[i], &a));
        g_array_append_val(r->hosts.own, a);
    }
    r->filter.hosts = &r->hosts;
    netd_address_parse("192.168.7.53", &r->filter.resolver[0]);
    netd_address_parse("2001:db8::53", &r->filter.resolver[1]);
}

static void rig_fini(struct rig *r)
{
    netd_hosts_fini(&r->hosts);
}

static enum netd_verdict judge(struct rig *r, struct made m)
{
    struct netd_packet p;
    return netd_filter_from_guest(&r->filter, m.frame, m.size, 0, &p);
}

/* --- addresses --- */

static const char *const refused4[] = {
    "0.0.0.0",     "0.1.2.3",     "127.0.0.1",     "127.255.255.254", "169.254.169.254",
    "169.254.0.1", "192.168.7.9", "192.168.7.255", "10.0.2.2",        "10.0.2.4",
    "10.0.2.255",  "224.0.0.251", "240.0.0.1",     "255.255.255.255", "239.255.255.250",
};
static const char *const refused6[] = {
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b::192.168.7.9",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "fe80::1",
    "febf::1",
    "fec0::2",
    "fec0::99",
    "fe80::a9fe:a9fe",
    "ff02::1",
    "ff0e::1",
    "2001:db8::9",
};
static const char *const reached[] = {"192.168.7.10",     "8.8.8.8",        "10.0.3.1",     "128.0.0.1",
                                      "169.253.255.255",  "223.255.255.1",  "2001:db8::10", "fd00::1",
                                      "64:ff9b::8.8.8.8", "2002:808:808::1"};

static void test_addresses(void)
{
    struct rig r;
    rig_init(&r);
    for (unsigned i = 0; i < G_N_ELEMENTS(refused4); i++) {
        g_assert_cmpint(judge(&r, tcp(guest4, refused4[i], 1000, 80, PACKET_SYN)), !=, NETD_PASS);
        g_assert_cmpint(judge(&r, udp(guest4, refused4[i], 1000, 80)), !=, NETD_PASS);
        if (strcmp(refused4[i], "10.0.2.2") != 0)
            g_assert_cmpint(judge(&r, icmp(guest4, refused4[i], 8)), !=, NETD_PASS);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(refused6); i++) {
        g_assert_cmpint(judge(&r, tcp(guest6, refused6[i], 1000, 80, PACKET_SYN)), !=, NETD_PASS);
        g_assert_cmpint(judge(&r, udp(guest6, refused6[i], 1000, 80)), !=, NETD_PASS);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(reached); i++) {
        const char *from = strchr(reached[i], ':') ? guest6 : guest4;
        g_assert_cmpint(judge(&r, tcp(from, reached[i], 1000, 80, PACKET_SYN)), ==, NETD_PASS);
        g_assert_cmpint(judge(&r, udp(from, reached[i], 1000, 80)), ==, NETD_PASS);
        g_assert_cmpint(judge(&r, icmp(from, reached[i], strchr(reached[i], ':') ? 128 : 8)), ==, NETD_PASS);
    }
    r.filter.isolated = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(reached); i++) {
        const char *from = strchr(reached[i], ':') ? guest6 : guest4;
        g_assert_cmpint(judge(&r, tcp(from, reached[i], 1000, 80, PACKET_SYN)), !=, NETD_PASS);
        g_assert_cmpint(judge(&r, udp(from, reached[i], 1000, 80)), !=, NETD_PASS);
    }
    g_assert_cmpint(judge(&r, udp(guest4, "10.0.2.3", 1000, 53)), !=, NETD_PASS);
    rig_fini(&r);
}

/* What a guest needs to get its own addresses, and to know the gateway. */
static void test_bring_up(void)
{
    struct rig r;
    struct made arp = {.size = 42};
    rig_init(&r);
    st16be(arp.frame + 12, 0x0806);
    for (unsigned isolated = 0; isolated < 2; isolated++) {
        r.filter.isolated = isolated;
        g_assert_cmpint(judge(&r, arp), ==, NETD_PASS);
        g_assert_cmpint(judge(&r, udp("0.0.0.0", "255.255.255.255", 68, 67)), ==, NETD_PASS);
        g_assert_cmpint(judge(&r, udp(guest4, "10.0.2.2", 68, 67)), ==, NETD_PASS);
        g_assert_cmpint(judge(&r, udp("fe80::1", "ff02::1:2", 546, 547)), ==, NETD_PASS);
        g_assert_cmpint(judge(&r, icmp("fe80::1", "ff02::2", 133)), ==, NETD_PASS);
        g_assert_cmpint(judge(&r, icmp("fe80::1", "ff02::1:ff00:2", 135)), ==, NETD_PASS);
        g_assert_cmpint(judge(&r, icmp(guest4, "10.0.2.2", 8)), ==, NETD_PASS);
    }
    g_assert_cmpint(judge(&r, icmp("fe80::1", "ff02::1", 134)), ==, NETD_DROP); /* it is no router */
    g_assert_cmpint(judge(&r, icmp(guest4, "8.8.8.8", 5)), ==, NETD_DROP);      /* nor redirects */
    rig_fini(&r);
}

/* A connection that a forward brought in is answered, whoever is at its other end; none begins like that. */
static void test_answers(void)
{
    struct rig r;
    rig_init(&r);
    g_assert_cmpint(judge(&r, tcp(guest4, "192.168.7.9", 22, 5000, PACKET_SYN | PACKET_ACK)), ==, NETD_PASS);
    g_assert_cmpint(judge(&r, tcp(guest4, "10.0.2.2", 22, 5000, PACKET_ACK)), ==, NETD_PASS);
    g_assert_cmpint(judge(&r, tcp(guest4, "10.0.2.2", 22, 5000, PACKET_SYN)), ==, NETD_REFUSE);
    g_assert_cmpint(judge(&r, tcp(guest4, "10.0.2.2", 22, 5000, PACKET_SYN | 1)), ==, NETD_REFUSE);

    const unsigned port = 7000;
    r.filter.udp_forwards[port / 8] = 1U << (port % 8);
    g_assert_cmpint(judge(&r, udp(guest4, "10.0.2.2", port, 4000)), ==, NETD_REFUSE);
    struct made in = udp("10.0.2.2", guest4, 4000, port), other = udp("10.0.2.2", guest4, 4000, port + 1);
    netd_filter_to_guest(&r.filter, in.frame, in.size);
    netd_filter_to_guest(&r.filter, other.frame, other.size);
    g_assert_cmpint(judge(&r, udp(guest4, "10.0.2.2", port, 4000)), ==, NETD_PASS);
    g_assert_cmpint(judge(&r, udp(guest4, "10.0.2.2", port, 4001)), ==, NETD_REFUSE);
    g_assert_cmpint(judge(&r, udp(guest4, "192.168.7.9", port, 4000)), ==, NETD_REFUSE);
    g_assert_cmpint(judge(&r, udp(guest4, "10.0.2.2", port + 1, 4000)), ==, NETD_REFUSE);
    for (uint16_t i = 0; i < NETD_NOTES; i++) { /* forgotten when there are too many */
        struct made more = udp("10.0.2.2", guest4, (uint16_t)(9000 + i), port);
        netd_filter_to_guest(&r.filter, more.frame, more.size);
    }
    g_assert_cmpint(judge(&r, udp(guest4, "10.0.2.2", port, 4000)), ==, NETD_REFUSE);
    rig_fini(&r);
}

static void test_fragments(void)
{
    struct rig r;
    struct netd_packet p;
    rig_init(&r);
    struct made first = udp(guest4, "8.8.8.8", 1, 2), host = udp(guest4, "127.0.0.1", 1, 2);
    struct made late = tcp(guest4, "8.8.8.8", 1, 2, PACKET_SYN);
    st16be(first.frame + 14 + IPV4_FRAGMENT, 0x2000);
    st16be(host.frame + 14 + IPV4_FRAGMENT, 0x0001);
    st16be(late.frame + 14 + IPV4_FRAGMENT, 0x0001);
    g_assert_cmpint(judge(&r, first), ==, NETD_PASS);
    g_assert_cmpint(judge(&r, host), ==, NETD_DROP);
    g_assert_cmpint(judge(&r, late), ==, NETD_DROP);
    unsigned passed = 0;
    for (unsigned i = 0; i < 2000; i++)
        passed += judge(&r, first) == NETD_PASS;
    g_assert_cmpuint(passed, <=, NETD_FRAGMENTS_PER_SECOND);
    g_assert_cmpint(netd_filter_from_guest(&r.filter, first.frame, first.size, 1000000000, &p), ==,
                    NETD_PASS);
    rig_fini(&r);
}

/* Cut short, contradictory, or of a kind that nobody needs. */
static void test_malformed(void)
{
    struct rig r;
    rig_init(&r);
    struct made good[] = {tcp(guest4, "8.8.8.8", 1, 2, PACKET_SYN), udp(guest6, "2001:db8::10", 1, 2),
                          tcp(guest6, "2001:db8::10", 1, 2, PACKET_ACK)};
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++)
        for (size_t size = 0; size < good[i].size; size++) {
            struct made cut = good[i];
            cut.size = size;
            g_assert_cmpint(judge(&r, cut), ==, NETD_DROP);
        }
    struct made m = good[0];
    m.frame[14] = 0x46; /* options */
    g_assert_cmpint(judge(&r, m), ==, NETD_DROP);
    m = good[0];
    m.frame[14] = 0x65;
    g_assert_cmpint(judge(&r, m), ==, NETD_DROP);
    m = good[0];
    st16be(m.frame + 12, 0x8100); /* VLAN */
    g_assert_cmpint(judge(&r, m), ==, NETD_DROP);
    m = good[0];
    st16be(m.frame + 12, 0x88f8); /* NC-SI, which libslirp would answer */
    g_assert_cmpint(judge(&r, m), ==, NETD_DROP);
    m = good[1];
    m.frame[14 + IPV6_NEXT] = 0; /* extension header */
    g_assert_cmpint(judge(&r, m), ==, NETD_DROP);
    m = good[1];
    m.frame[14 + IPV6_NEXT] = 44; /* fragment */
    g_assert_cmpint(judge(&r, m), ==, NETD_DROP);
    m = good[0];
    m.frame[14 + IPV4_PROTOCOL] = 132; /* SCTP */
    g_assert_cmpint(judge(&r, m), ==, NETD_DROP);
    rig_fini(&r);
}

/* The false name server's packets go to the real one and come back, sums and all. */
static void test_name_server(void)
{
    static const struct {
        const char *guest, *alias, *real;
    } families[] = {{"10.0.2.15", "10.0.2.3", "192.168.7.53"}, {"fec0::1234", "fec0::3", "2001:db8::53"}};
    struct rig r;
    rig_init(&r);
    for (unsigned i = 0; i < G_N_ELEMENTS(families); i++) {
        const char *guest = families[i].guest, *alias = families[i].alias, *real = families[i].real;
        for (unsigned stream = 0; stream < 2; stream++) {
            struct netd_packet p;
            struct made question =
                stream ? tcp(guest, alias, 999, 53, PACKET_SYN) : udp(guest, alias, 999, 53);
            struct made wanted = stream ? tcp(guest, real, 999, 53, PACKET_SYN) : udp(guest, real, 999, 53);
            g_assert_cmpint(netd_filter_from_guest(&r.filter, question.frame, question.size, 0, &p), ==,
                            NETD_PASS);
            g_assert_cmpmem(question.frame, question.size, wanted.frame, wanted.size);
            assert_sums(&question);
            struct made reply = stream ? tcp(real, guest, 53, 999, 18) : udp(real, guest, 53, 999);
            struct made seen = stream ? tcp(alias, guest, 53, 999, 18) : udp(alias, guest, 53, 999);
            netd_filter_to_guest(&r.filter, reply.frame, reply.size);
            g_assert_cmpmem(reply.frame, reply.size, seen.frame, seen.size);
            /* Asked itself, the real one answers itself. */
            struct made direct = udp(guest, real, 999, 53), own = udp(real, guest, 53, 999), same = own;
            g_assert_cmpint(judge(&r, direct), ==, NETD_PASS);
            netd_filter_to_guest(&r.filter, own.frame, own.size);
            g_assert_cmpmem(own.frame, own.size, same.frame, same.size);
        }
        g_assert_cmpint(judge(&r, udp(guest, alias, 999, 54)), ==, NETD_REFUSE);
        r.filter.resolver[i].family = 0;
        g_assert_cmpint(judge(&r, udp(guest, alias, 999, 53)), ==, NETD_REFUSE);
    }
    rig_fini(&r);
}

static void test_refusal(void)
{
    struct rig r;
    struct netd_packet p;
    uint8_t reply[NETD_REFUSAL_MAX];
    rig_init(&r);
    struct made m = tcp(guest4, "169.254.169.254", 1000, 80, PACKET_SYN);
    g_assert_cmpint(netd_filter_from_guest(&r.filter, m.frame, m.size, 0, &p), ==, NETD_REFUSE);
    size_t size = netd_refusal(&p, reply);
    g_assert_cmpuint(size, ==, 14 + 20 + 8 + 28);
    g_assert_cmphex(checksum_finish(checksum_add(0, reply + 14, 20)), ==, 0);
    g_assert_cmphex(checksum_finish(checksum_add(0, reply + 34, 36)), ==, 0);
    g_assert_cmphex(ld16be(reply + 34), ==, 0x030d); /* RFC 1812: unreachable, prohibited */
    g_assert_cmpmem(reply + 42, 28, m.frame + 14, 28);
    m = tcp(guest6, "fe80::9", 1000, 80, PACKET_SYN);
    g_assert_cmpint(netd_filter_from_guest(&r.filter, m.frame, m.size, 0, &p), ==, NETD_REFUSE);
    size = netd_refusal(&p, reply);
    g_assert_cmpuint(size, <=, sizeof(reply));
    g_assert_cmphex(ld16be(reply + 54), ==, 0x0101); /* RFC 4443: unreachable, prohibited */
    struct made made = {.size = size};
    memcpy(made.frame, reply, size);
    assert_sums(&made);
    rig_fini(&r);
}

/* --- checksums that the guest left out --- */

static void test_offload(void)
{
    struct made whole = tcp(guest4, "8.8.8.8", 1, 2, PACKET_ACK), partial = whole;
    uint8_t *ip = partial.frame + 14;
    st16be(ip + 20 + 16, (uint16_t)~checksum_finish(pseudo(ip, false, IPPROTO_TCP, 20)));
    const struct net_header header = {
        .flags = NET_NEEDS_CSUM, .csum_start = htole16(34), .csum_offset = htole16(16)};
    struct made done = partial;
    g_assert_true(netd_offload(&header, done.frame, done.size));
    g_assert_cmpmem(done.frame, done.size, whole.frame, whole.size);

    static const struct net_header bad[] = {
        {.gso_type = NET_GSO_TCP4, .gso_size = 100},
        {.gso_type = 3, .flags = NET_NEEDS_CSUM, .csum_start = 34},
        {.flags = NET_NEEDS_CSUM, .csum_start = 13},
        {.flags = NET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 19},
        {.flags = NET_NEEDS_CSUM, .csum_start = 0xffff, .csum_offset = 0xffff},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct net_header h = bad[i];
        h.csum_start = htole16(h.csum_start);
        h.csum_offset = htole16(h.csum_offset);
        done = partial;
        g_assert_false(netd_offload(&h, done.frame, done.size));
        g_assert_cmpmem(done.frame, done.size, partial.frame, partial.size);
    }
}

/* --- words --- */

static void test_forwards(void)
{
    static const struct {
        const char *text;
        bool udp;
        const char *host, *guest;
        uint16_t host_port, guest_port;
    } good[] = {
        {"tcp:127.0.0.1:2222-:22", false, "127.0.0.1", "10.0.2.15", 2222, 22},
        {"tcp::2222-:22", false, "127.0.0.1", "10.0.2.15", 2222, 22},
        {"udp:0.0.0.0:65535-10.0.2.20:1", true, "0.0.0.0", "10.0.2.20", 65535, 1},
        {"tcp:[::1]:80-:8080", false, "::1", "::", 80, 8080},
        {"tcp:[::]:80-[fec0::5]:8080", false, "::", "fec0::5", 80, 8080},
    };
    static const char *const bad[] = {
        "",
        "tcp",
        "sctp::1-:2",
        "tcp:1-:2",
        "tcp::1",
        "tcp::1-",
        "tcp::0-:2",
        "tcp::1-:0",
        "tcp::65536-:2",
        "tcp::1-:2x",
        "tcp::-1-:2",
        "tcp:host:1-:2",
        "tcp:::1:1-:2",
        "tcp:[::1:1-:2",
        "tcp:[]:1-:2",
        "tcp:[127.0.0.1]:1-:2",
        "tcp:127.0.0.1:1-[::1]:2",
        "tcp:127.0.0.1:1-192.168.1.1:2",
        "tcp::99999999999999999999-:2",
        "tcp:: 1-:2",
        "tcp::1-:2-:3",
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        struct netd_forward f;
        struct netd_address host, guest;
        GError *error = NULL;
        netd_forward_parse(good[i].text, &f, &error);
        g_assert_no_error(error);
        g_assert_true(netd_address_parse(good[i].host, &host) && netd_address_parse(good[i].guest, &guest));
        g_assert_true(netd_address_equal(&f.host, &host) && netd_address_equal(&f.guest, &guest));
        g_assert_true(f.udp == good[i].udp);
        g_assert_cmpuint(f.host_port, ==, good[i].host_port);
        g_assert_cmpuint(f.guest_port, ==, good[i].guest_port);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct netd_forward f;
        GError *error = NULL;
        g_assert_false(netd_forward_parse(bad[i], &f, &error));
        g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
        g_clear_error(&error);
    }
}

static void test_words(void)
{
    static const char *const bad[] = {"mtu=100",   "mtu=65521",  "mtu=x",  "isolated=yes",
                                      "dns=name",  "dns=",       "link=1", "link=99999",
                                      "forward=x", "colour=red", "mtu"};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct netd_config config;
        GError *error = NULL;
        char *const words[] = {(char *)(uintptr_t)bad[i], NULL};
        g_assert_false(netd_config_parse(words, &config, &error));
        g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
        g_clear_error(&error);
    }
}

static void test_resolver(void)
{
    struct netd_address servers[2], wanted;
    netd_resolver_parse("# nameserver 1.1.1.1\nsearch x\n nameserver \t fe80::1%eth0\nnameserver name\n"
                        "nameserver 2001:db8::1\nnameserver 192.0.2.1 # first\nnameserver 192.0.2.2\n",
                        servers);
    netd_address_parse("192.0.2.1", &wanted);
    g_assert_true(netd_address_equal(&servers[0], &wanted));
    netd_address_parse("2001:db8::1", &wanted);
    g_assert_true(netd_address_equal(&servers[1], &wanted));
    netd_resolver_parse("", servers);
    g_assert_cmpuint(servers[0].family, ==, 0);
    g_assert_cmpuint(servers[1].family, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/netd/addresses", test_addresses);
    g_test_add_func("/netd/bring-up", test_bring_up);
    g_test_add_func("/netd/answers", test_answers);
    g_test_add_func("/netd/fragments", test_fragments);
    g_test_add_func("/netd/malformed", test_malformed);
    g_test_add_func("/netd/name-server", test_name_server);
    g_test_add_func("/netd/refusal", test_refusal);
    g_test_add_func("/netd/offload", test_offload);
    g_test_add_func("/netd/forwards", test_forwards);
    g_test_add_func("/netd/words", test_words);
    g_test_add_func("/netd/resolver", test_resolver);
    return g_test_run();
}
