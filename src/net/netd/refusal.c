/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* "Administratively prohibited" (RFC 1812, 5.2.7.1; RFC 4443, 3.1), so a guest need not wait in vain. */
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <string.h>

#include "base/byteorder.h"
#include "net/checksum.h"
#include "net/netd/filter.h"

enum { ICMP_HEADER = 8, QUOTE4 = 8, QUOTE6 = 48, HOPS = 64 };

static size_t refuse_ipv4(const struct netd_packet *p, uint8_t *ip)
{
    size_t quoted = IPV4_HEADER + MIN(p->transport_size, QUOTE4), size = IPV4_HEADER + ICMP_HEADER + quoted;
    uint8_t *icmp = ip + IPV4_HEADER;
    memset(ip, 0, IPV4_HEADER + ICMP_HEADER);
    ip[0] = 0x45;
    st16be(ip + IPV4_LENGTH, (uint16_t)size);
    ip[IPV4_TTL] = HOPS;
    ip[IPV4_PROTOCOL] = IPPROTO_ICMP;
    st32be(ip + IPV4_SOURCE, NETD_GATEWAY);
    memcpy(ip + IPV4_DESTINATION, p->ip + IPV4_SOURCE, 4);
    st16be(ip + IPV4_CHECKSUM, checksum_finish(checksum_add(0, ip, IPV4_HEADER)));
    icmp[0] = ICMP_UNREACH;
    icmp[1] = ICMP_UNREACH_FILTER_PROHIB;
    memcpy(icmp + ICMP_HEADER, p->ip, quoted);
    st16be(icmp + 2, checksum_finish(checksum_add(0, icmp, ICMP_HEADER + quoted)));
    return size;
}

static size_t refuse_ipv6(const struct netd_packet *p, uint8_t *ip)
{
    size_t quoted = IPV6_HEADER + MIN(p->transport_size, QUOTE6 - IPV6_HEADER), size = ICMP_HEADER + quoted;
    uint8_t *icmp = ip + IPV6_HEADER;
    memset(ip, 0, IPV6_HEADER + ICMP_HEADER);
    ip[0] = 0x60;
    st16be(ip + IPV6_LENGTH, (uint16_t)size);
    ip[IPV6_NEXT] = IPPROTO_ICMPV6;
    ip[IPV6_HOPS] = HOPS;
    ip[IPV6_SOURCE] = 0xfe; /* fec0::2, the gateway */
    ip[IPV6_SOURCE + 1] = 0xc0;
    ip[IPV6_SOURCE + 15] = 2;
    memcpy(ip + IPV6_DESTINATION, p->ip + IPV6_SOURCE, 16);
    icmp[0] = ICMP6_DST_UNREACH;
    icmp[1] = ICMP6_DST_UNREACH_ADMIN;
    memcpy(icmp + ICMP_HEADER, p->ip, quoted);
    uint32_t sum = checksum_add((uint32_t)size + IPPROTO_ICMPV6, ip + IPV6_SOURCE, 32); /* pseudo header */
    st16be(icmp + 2, checksum_finish(checksum_add(sum, icmp, size)));
    return IPV6_HEADER + size;
}

size_t netd_refusal(const struct netd_packet *p, uint8_t reply[NETD_REFUSAL_MAX])
{
    memcpy(reply, p->frame + NET_MAC_SIZE, NET_MAC_SIZE);
    memcpy(reply + NET_MAC_SIZE, p->frame, NET_MAC_SIZE);
    memcpy(reply + 2 * NET_MAC_SIZE, p->frame + 2 * NET_MAC_SIZE, 2);
    uint8_t *ip = reply + NET_ETHERNET;
    return NET_ETHERNET + (p->family == AF_INET ? refuse_ipv4(p, ip) : refuse_ipv6(p, ip));
}
