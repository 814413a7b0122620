/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* An IP packet in a frame, taken apart once. */
#include "net/netd/packet.h"

#include <string.h>

#include "base/byteorder.h"
#include "net/checksum.h"

enum { IPV4_MORE_OR_OFFSET = 0x3fff };

static bool parse_ipv4(struct netd_packet *p, size_t size)
{
    if (size < IPV4_HEADER || p->ip[0] != 0x45) /* version 4, no options */
        return false;
    size_t length = ld16be(p->ip + IPV4_LENGTH);
    if (length < IPV4_HEADER || length > size)
        return false;
    p->family = AF_INET;
    p->protocol = p->ip[IPV4_PROTOCOL];
    p->fragment = ld16be(p->ip + IPV4_FRAGMENT) & IPV4_MORE_OR_OFFSET;
    p->source.family = p->destination.family = AF_INET;
    memcpy(&p->source.v4, p->ip + IPV4_SOURCE, sizeof(p->source.v4));
    memcpy(&p->destination.v4, p->ip + IPV4_DESTINATION, sizeof(p->destination.v4));
    p->transport = p->ip + IPV4_HEADER;
    p->transport_size = length - IPV4_HEADER;
    return true;
}

static bool parse_ipv6(struct netd_packet *p, size_t size)
{
    if (size < IPV6_HEADER || p->ip[0] >> 4 != 6)
        return false;
    size_t length = ld16be(p->ip + IPV6_LENGTH);
    if (length > size - IPV6_HEADER)
        return false;
    p->family = AF_INET6;
    p->protocol = p->ip[IPV6_NEXT];
    p->source.family = p->destination.family = AF_INET6;
    memcpy(&p->source.v6, p->ip + IPV6_SOURCE, sizeof(p->source.v6));
    memcpy(&p->destination.v6, p->ip + IPV6_DESTINATION, sizeof(p->destination.v6));
    p->transport = p->ip + IPV6_HEADER;
    p->transport_size = length;
    return p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP || p->protocol == IPPROTO_ICMPV6;
}

bool netd_packet_parse(struct netd_packet *p, uint8_t *frame, size_t size)
{
    *p = (struct netd_packet){.frame = frame};
    if (size < NET_ETHERNET)
        return false;
    p->ip = frame + NET_ETHERNET;
    uint16_t type = ld16be(frame + NET_ETHERNET - 2);
    bool parsed = type == NET_ETHER_IPV4   ? parse_ipv4(p, size - NET_ETHERNET)
                  : type == NET_ETHER_IPV6 ? parse_ipv6(p, size - NET_ETHERNET)
                                           : false;
    if (!parsed)
        return false;
    p->size = (size_t)(p->transport - frame) + p->transport_size;
    bool ports = !p->fragment && (p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP);
    if (!ports)
        return true;
    if (p->transport_size < (p->protocol == IPPROTO_TCP ? TCP_HEADER : UDP_HEADER))
        return false;
    p->source_port = ld16be(p->transport + PORT_SOURCE);
    p->destination_port = ld16be(p->transport + PORT_DESTINATION);
    return true;
}

uint8_t *netd_packet_checksum(const struct netd_packet *p)
{
    if (p->fragment)
        return NULL;
    if (p->protocol == IPPROTO_TCP)
        return p->transport + TCP_CHECKSUM;
    return p->protocol == IPPROTO_UDP ? p->transport + UDP_CHECKSUM : NULL;
}

/* Stores an address at `place` (even, from the start of the IP header). */
static void set_address(struct netd_packet *p, unsigned place, const struct netd_address *address)
{
    uint8_t before[16];
    size_t size = p->family == AF_INET ? 4 : 16;
    memcpy(before, p->ip + place, size);
    memcpy(p->ip + place, p->family == AF_INET ? (const void *)&address->v4 : &address->v6, size);
    if (p->family == AF_INET) {
        uint8_t *sum = p->ip + IPV4_CHECKSUM;
        st16be(sum, checksum_update(ld16be(sum), before, p->ip + place, size));
    }
    uint8_t *sum = netd_packet_checksum(p);
    if (!sum || (p->protocol == IPPROTO_UDP && !ld16be(sum))) /* UDP: 0 means there is none */
        return;
    uint16_t updated = checksum_update(ld16be(sum), before, p->ip + place, size);
    st16be(sum, p->protocol == IPPROTO_UDP && !updated ? 0xffff : updated);
}

void netd_packet_set_source(struct netd_packet *p, const struct netd_address *address)
{
    set_address(p, p->family == AF_INET ? IPV4_SOURCE : IPV6_SOURCE, address);
    p->source = *address;
}

void netd_packet_set_destination(struct netd_packet *p, const struct netd_address *address)
{
    set_address(p, p->family == AF_INET ? IPV4_DESTINATION : IPV6_DESTINATION, address);
    p->destination = *address;
}

bool netd_address_equal(const struct netd_address *a, const struct netd_address *b)
{
    if (a->family != b->family)
        return false;
    return a->family == AF_INET ? a->v4.s_addr == b->v4.s_addr : !memcmp(&a->v6, &b->v6, sizeof(a->v6));
}
