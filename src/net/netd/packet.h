/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* An IP packet in a frame, taken apart once; what filter, resolver and refusals look at. */
#ifndef HOSTEL_NET_NETD_PACKET_H
#define HOSTEL_NET_NETD_PACKET_H

#include "net/netd/netd.h"

/* Fields of IPv4 headers (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293), UDP (RFC 768), by their place. */
enum {
    IPV4_HEADER = 20,
    IPV4_LENGTH = 2,
    IPV4_FRAGMENT = 6,
    IPV4_TTL = 8,
    IPV4_PROTOCOL = 9,
    IPV4_CHECKSUM = 10,
    IPV4_SOURCE = 12,
    IPV4_DESTINATION = 16,

    IPV6_HEADER = 40,
    IPV6_LENGTH = 4,
    IPV6_NEXT = 6,
    IPV6_HOPS = 7,
    IPV6_SOURCE = 8,
    IPV6_DESTINATION = 24,

    PORT_SOURCE = 0, /* TCP and UDP */
    PORT_DESTINATION = 2,
    TCP_FLAGS = 13,
    TCP_CHECKSUM = 16,
    TCP_HEADER = 20,
    UDP_CHECKSUM = 6,
    UDP_HEADER = 8,
};

enum { PACKET_SYN = 2, PACKET_ACK = 16 };

/* Host byte order where it is a number; addresses as on the wire. */
struct netd_packet {
    uint8_t *frame;
    size_t size; /* of the frame, without what stands behind the packet */
    sa_family_t family;
    uint8_t protocol;
    bool fragment; /* then there is no transport header to be looked at */
    uint8_t *ip, *transport;
    size_t transport_size;
    struct netd_address source, destination;
    uint16_t source_port, destination_port; /* TCP and UDP; else 0 */
};

/* Takes an IPv4 or IPv6 frame apart. False: it is none, is cut short, contradicts itself, or has what no
 * ordinary guest sends (IPv4 options, IPv6 extension headers). */
bool netd_packet_parse(struct netd_packet *p, uint8_t *frame, size_t size);

/* The place of the checksum of a TCP or UDP packet; NULL for others and fragments. */
uint8_t *netd_packet_checksum(const struct netd_packet *p);

/* Replaces source or destination by an address of the same family, with the checksums that cover it. */
void netd_packet_set_source(struct netd_packet *p, const struct netd_address *address);
void netd_packet_set_destination(struct netd_packet *p, const struct netd_address *address);

bool netd_address_equal(const struct netd_address *a, const struct netd_address *b);

static inline struct netd_address netd_ipv4(uint32_t address)
{
    return (struct netd_address){.family = AF_INET, .v4.s_addr = htonl(address)};
}

#endif
