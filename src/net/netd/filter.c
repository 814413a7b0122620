/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Which frames of a guest go on. */
#include "net/netd/filter.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <string.h>

#include "base/byteorder.h"

enum { DHCP_SERVER = 67, DHCPV6_SERVER = 547 };

/* The guest's IPv6 addresses on its Ethernet (libslirp derives them from the prefix fec0::/64). */
static const struct in6_addr gateway6 = {.s6_addr = {0xfe, 0xc0, [15] = 2}};
static const struct in6_addr nameserver6 = {.s6_addr = {0xfe, 0xc0, [15] = 3}};
static const struct in6_addr link_gateway6 = {.s6_addr = {0xfe, 0x80, [15] = 2}};
static const struct in6_addr dhcpv6_servers = {.s6_addr = {0xff, 0x02, [13] = 1, [15] = 2}};

static bool bit_get(const uint8_t *bits, unsigned n)
{
    return bits[n / 8] >> (n % 8) & 1;
}

static void bit_set(uint8_t *bits, unsigned n, bool on)
{
    bits[n / 8] = (uint8_t)((bits[n / 8] & ~(1U << (n % 8))) | (unsigned)on << (n % 8));
}

/* --- addresses --- */

static bool allows_ipv4(const struct netd_filter *f, uint32_t a)
{
    bool refused = a >> 24 == 0 || a >> 24 == 127 || a >> 16 == 0xa9fe || a >> 28 >= 0xe ||
                   (a & NETD_NETMASK) == NETD_NETWORK;
    const struct netd_address address = netd_ipv4(a);
    return !refused && !netd_hosts_has(f->hosts, &address);
}

static bool allows_ipv6(const struct netd_filter *f, const struct netd_address *address)
{
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    const uint8_t *a = address->v6.s6_addr;
    if (!memcmp(a, nat64, sizeof(nat64)))
        return allows_ipv4(f, ld32be(a + 12));
    if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
        return allows_ipv4(f, ld32be(a + 2)) && !netd_hosts_has(f->hosts, address);
    /* ::/8 holds loopback and IPv4 in disguise; fe80::/10 and fec0::/10 are links and sites, the guest's own
     * among them. */
    bool refused = a[0] == 0 || a[0] == 0xff || (a[0] == 0xfe && a[1] >= 0x80);
    return !refused && !netd_hosts_has(f->hosts, address);
}

bool netd_filter_allows(const struct netd_filter *f, const struct netd_address *address)
{
    if (f->isolated)
        return false;
    return address->family == AF_INET ? allows_ipv4(f, ntohl(address->v4.s_addr)) : allows_ipv6(f, address);
}

static bool is_many(const struct netd_packet *p)
{
    if (p->family == AF_INET)
        return ntohl(p->destination.v4.s_addr) >> 28 >= 0xe;
    return p->destination.v6.s6_addr[0] == 0xff;
}

static bool is_gateway(const struct netd_packet *p)
{
    if (p->family == AF_INET)
        return p->destination.v4.s_addr == htonl(NETD_GATEWAY);
    return !memcmp(&p->destination.v6, &gateway6, sizeof(gateway6)) ||
           !memcmp(&p->destination.v6, &link_gateway6, sizeof(link_gateway6));
}

static struct netd_address nameserver(sa_family_t family)
{
    return family == AF_INET ? netd_ipv4(NETD_NAMESERVER)
                             : (struct netd_address){.family = AF_INET6, .v6 = nameserver6};
}

/* --- the name server --- */

static uint8_t *asked(struct netd_filter *f, const struct netd_packet *p)
{
    return f->asked[p->family == AF_INET6][p->protocol == IPPROTO_TCP];
}

static bool has_ports(const struct netd_packet *p)
{
    return !p->fragment && (p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP);
}

/* A packet that was for the false name server and goes to the real one now. */
static bool redirect(struct netd_filter *f, struct netd_packet *p)
{
    const struct netd_address *real = &f->resolver[p->family == AF_INET6];
    const struct netd_address alias = nameserver(p->family);
    if (!real->family || !has_ports(p) || p->destination_port != NETD_DNS_PORT)
        return false;
    bool false_one = netd_address_equal(&p->destination, &alias);
    if (!false_one && !netd_address_equal(&p->destination, real))
        return false;
    bit_set(asked(f, p), p->source_port, false_one);
    if (!false_one || f->isolated)
        return false;
    netd_packet_set_destination(p, real);
    return true;
}

/* --- by protocol --- */

static bool has_note(const struct netd_filter *f, const struct netd_packet *p)
{
    for (unsigned i = 0; i < NETD_NOTES; i++) {
        const struct netd_note *n = &f->notes[i];
        if (n->port == p->destination_port && n->guest_port == p->source_port &&
            netd_address_equal(&n->who, &p->destination))
            return true;
    }
    return false;
}

static enum netd_verdict judge_address(const struct netd_filter *f, const struct netd_packet *p)
{
    if (netd_filter_allows(f, &p->destination))
        return NETD_PASS;
    return is_many(p) ? NETD_DROP : NETD_REFUSE;
}

static enum netd_verdict judge_tcp(const struct netd_filter *f, const struct netd_packet *p)
{
    uint8_t flags = p->transport[TCP_FLAGS] & (PACKET_SYN | PACKET_ACK);
    return flags == PACKET_SYN ? judge_address(f, p) : NETD_PASS;
}

static enum netd_verdict judge_udp(const struct netd_filter *f, const struct netd_packet *p)
{
    bool dhcp =
        p->family == AF_INET
            ? p->destination_port == DHCP_SERVER && (is_gateway(p) || p->destination.v4.s_addr == INADDR_NONE)
            : p->destination_port == DHCPV6_SERVER &&
                  !memcmp(&p->destination.v6, &dhcpv6_servers, sizeof(dhcpv6_servers));
    if (dhcp || has_note(f, p))
        return NETD_PASS;
    return judge_address(f, p);
}

/* Echo requests, and for IPv6 what finds routers and neighbours. */
static enum netd_verdict judge_icmp(const struct netd_filter *f, const struct netd_packet *p)
{
    if (!p->transport_size)
        return NETD_DROP;
    uint8_t type = p->transport[0];
    if (p->family == AF_INET6 &&
        (type == ND_ROUTER_SOLICIT || type == ND_NEIGHBOR_SOLICIT || type == ND_NEIGHBOR_ADVERT))
        return NETD_PASS;
    if (type != (p->family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST))
        return NETD_DROP;
    const struct netd_address alias = nameserver(p->family);
    if (is_gateway(p) || netd_address_equal(&p->destination, &alias))
        return NETD_PASS;
    return judge_address(f, p);
}

static enum netd_verdict judge_fragment(struct netd_filter *f, const struct netd_packet *p, int64_t now)
{
    const int64_t second = now / 1000000000;
    if (f->fragment_second != second) {
        f->fragment_second = second;
        f->fragments = 0;
    }
    if (f->fragments++ >= NETD_FRAGMENTS_PER_SECOND || p->protocol == IPPROTO_TCP)
        return NETD_DROP;
    return netd_filter_allows(f, &p->destination) ? NETD_PASS : NETD_DROP;
}

enum netd_verdict netd_filter_from_guest(struct netd_filter *f, uint8_t *frame, size_t size, int64_t now,
                                         struct netd_packet *p)
{
    if (size < NET_ETHERNET)
        return NETD_DROP;
    if (ld16be(frame + NET_ETHERNET - 2) == NET_ETHER_ARP)
        return NETD_PASS;
    if (!netd_packet_parse(p, frame, size))
        return NETD_DROP;
    if (p->fragment)
        return judge_fragment(f, p, now);
    if (redirect(f, p))
        return NETD_PASS;
    switch (p->protocol) {
    case IPPROTO_TCP: return judge_tcp(f, p);
    case IPPROTO_UDP: return judge_udp(f, p);
    case IPPROTO_ICMP: return p->family == AF_INET ? judge_icmp(f, p) : NETD_DROP;
    case IPPROTO_ICMPV6: return p->family == AF_INET6 ? judge_icmp(f, p) : NETD_DROP;
    default: return NETD_DROP;
    }
}

/* --- towards the guest --- */

static void note(struct netd_filter *f, const struct netd_packet *p)
{
    const struct netd_packet back = {
        .destination = p->source, .destination_port = p->source_port, .source_port = p->destination_port};
    if (has_note(f, &back))
        return;
    f->notes[f->next_note++ % NETD_NOTES] =
        (struct netd_note){p->source, p->source_port, p->destination_port};
}

void netd_filter_to_guest(struct netd_filter *f, uint8_t *frame, size_t size)
{
    struct netd_packet p;
    if (!netd_packet_parse(&p, frame, size) || !has_ports(&p))
        return;
    const struct netd_address *real = &f->resolver[p.family == AF_INET6];
    if (p.source_port == NETD_DNS_PORT && netd_address_equal(&p.source, real) &&
        bit_get(asked(f, &p), p.destination_port)) {
        const struct netd_address alias = nameserver(p.family);
        netd_packet_set_source(&p, &alias);
    } else if (p.protocol == IPPROTO_UDP && bit_get(f->udp_forwards, p.destination_port)) {
        note(f, &p);
    }
}
