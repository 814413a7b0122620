/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One address translated into another: where it stands in frames. */
#include "net/alias.h"

#include <string.h>

#include "base/byteorder.h"
#include "net/checksum.h"

enum { ETHER_RARP = 0x8035, ETHER_VLAN = 0x8100, ETHER_PROVIDER_VLAN = 0x88a8, VLAN_TAG = 4, VLAN_TAGS = 2 };

/* Of IPv4 and UDP. */
enum { IPV4_HEADER = 20, IPV4_FRAGMENT = 0x3fff, PROTOCOL_UDP = 17, UDP_HEADER = 8, UDP_SUM = 6 };
enum { PORT_SERVER = 67, PORT_CLIENT = 68 };

/* DHCP: offsets in its message, and options. */
enum { DHCP_TYPE = 1, DHCP_LENGTH = 2, DHCP_ADDRESS = 28, DHCP_COOKIE = 236, DHCP_OPTIONS = 240 };
enum { OPTION_PAD = 0, OPTION_CLIENT_ID = 61, OPTION_END = 255 };
#define DHCP_MAGIC UINT32_C(0x63825363)

enum { HARDWARE_ETHERNET = 1 };

/* Of IPv6 and neighbour discovery. */
enum { IPV6_HEADER = 40, IPV6_NEXT = 6, PROTOCOL_ICMP6 = 58, ICMP6_SUM = 2 };
enum { ND_FIRST = 133, ND_LAST = 137, ND_SOURCE = 1, ND_TARGET = 2, ND_UNIT = 8 };

/* The most bytes in front of what tells the kind of a frame. */
enum { HEADERS_MAX = NET_ETHERNET + VLAN_TAGS * VLAN_TAG + 60 + UDP_HEADER };

/* One address that becomes another. */
struct change {
    const uint8_t *from, *to;
    bool unsummed;
};

/* Bytes that one checksum covers, itself among them. */
struct covered {
    uint8_t *bytes;
    size_t size;
    uint8_t *sum; /* NULL: there is none, or it is still to be made */
};

static bool is_same(const uint8_t *a, const uint8_t *b)
{
    return !memcmp(a, b, NET_MAC_SIZE);
}

static void replace(const struct change *c, uint8_t *address)
{
    if (is_same(address, c->from))
        memcpy(address, c->to, NET_MAC_SIZE);
}

/* The same of an address at any place, with the checksum. */
static void replace_covered(const struct change *c, const struct covered *s, size_t at)
{
    uint8_t before[NET_MAC_SIZE + 2] = {0}, after[NET_MAC_SIZE + 2] = {0};
    if (at + NET_MAC_SIZE > s->size || !is_same(s->bytes + at, c->from))
        return;
    const size_t even = at & ~(size_t)1,
                 size = s->size - even < sizeof(before) ? s->size - even : sizeof(before);
    memcpy(before, s->bytes + even, size);
    memcpy(s->bytes + at, c->to, NET_MAC_SIZE);
    memcpy(after, s->bytes + even, size);
    if (s->sum)
        st16be(s->sum, checksum_update(ld16be(s->sum), before, after, sizeof(before)));
}

/* --- kinds of messages; each returns whether the frame is of its kind --- */

/* RFC 826. */
static bool is_arp(unsigned type)
{
    return type == NET_ETHER_ARP || type == ETHER_RARP;
}

static void change_arp(const struct change *c, uint8_t *arp, size_t size)
{
    enum { SIZE = 28, HARDWARE_SIZE = 4, SENDER = 8, TARGET = 18 };
    if (size < SIZE || ld16be(arp) != HARDWARE_ETHERNET || arp[HARDWARE_SIZE] != NET_MAC_SIZE)
        return;
    replace(c, arp + SENDER);
    replace(c, arp + TARGET);
}

static bool is_neighbour(unsigned type, const uint8_t *ip, size_t size)
{
    return type == NET_ETHER_IPV6 && size >= IPV6_HEADER + ND_UNIT && ip[IPV6_NEXT] == PROTOCOL_ICMP6 &&
           ip[IPV6_HEADER] >= ND_FIRST && ip[IPV6_HEADER] <= ND_LAST;
}

/* RFC 4861, 4.1 to 4.6. */
static void change_neighbour(const struct change *c, uint8_t *ip, size_t size)
{
    /* Where options begin in solicitations and advertisements of routers, of neighbours, and in redirects. */
    static const uint8_t options[ND_LAST - ND_FIRST + 1] = {8, 16, 24, 24, 40};
    uint8_t *message = ip + IPV6_HEADER;
    const struct covered s = {message, size - IPV6_HEADER, c->unsummed ? NULL : message + ICMP6_SUM};
    for (size_t at = options[message[0] - ND_FIRST]; at + ND_UNIT <= s.size && message[at + 1];
         at += (size_t)message[at + 1] * ND_UNIT)
        if (message[at] == ND_SOURCE || message[at] == ND_TARGET)
            replace_covered(c, &s, at + 2);
}

/* Where UDP begins in a DHCP message over IPv4; 0: it is none. */
static size_t find_dhcp(unsigned type, const uint8_t *ip, size_t size)
{
    if (type != NET_ETHER_IPV4 || size < IPV4_HEADER || ip[0] >> 4 != 4 || ip[9] != PROTOCOL_UDP ||
        ld16be(ip + 6) & IPV4_FRAGMENT)
        return 0;
    const size_t udp = (size_t)(ip[0] & 15) * 4;
    if (udp < IPV4_HEADER || udp + UDP_HEADER > size)
        return 0;
    const unsigned from = ld16be(ip + udp), to = ld16be(ip + udp + 2);
    return (from == PORT_CLIENT && to == PORT_SERVER) || (from == PORT_SERVER && to == PORT_CLIENT) ? udp : 0;
}

static void change_dhcp(const struct change *c, uint8_t *udp, size_t size)
{
    uint8_t *sum = udp + UDP_SUM, *message = udp + UDP_HEADER;
    const struct covered s = {udp, size, c->unsummed || !ld16be(sum) ? NULL : sum};
    size_t end = size - UDP_HEADER;
    if (end < DHCP_OPTIONS || message[DHCP_TYPE] != HARDWARE_ETHERNET || message[DHCP_LENGTH] != NET_MAC_SIZE)
        return;
    replace_covered(c, &s, UDP_HEADER + DHCP_ADDRESS);
    if (ld32be(message + DHCP_COOKIE) != DHCP_MAGIC)
        end = 0;
    for (size_t at = DHCP_OPTIONS; at + 2 <= end && message[at] != OPTION_END;) {
        if (message[at] == OPTION_PAD) {
            at++;
            continue;
        }
        if (message[at] == OPTION_CLIENT_ID && message[at + 1] == 1 + NET_MAC_SIZE && at + 3 <= end &&
            message[at + 2] == HARDWARE_ETHERNET)
            replace_covered(c, &s, UDP_HEADER + at + 3);
        at += 2 + (size_t)message[at + 1];
    }
    if (s.sum && !ld16be(s.sum))
        st16be(s.sum, UINT16_MAX); /* 0 says that there is none */
}

/* --- frames --- */

/* Where that which the EtherType names begins, behind tags of virtual networks. */
static size_t find_payload(const uint8_t *frame, size_t size, unsigned *type)
{
    size_t at = NET_ETHERNET;
    *type = ld16be(frame + at - 2);
    for (unsigned n = 0;
         n < VLAN_TAGS && (*type == ETHER_VLAN || *type == ETHER_PROVIDER_VLAN) && at + VLAN_TAG <= size;
         n++) {
        at += VLAN_TAG;
        *type = ld16be(frame + at - 2);
    }
    return at;
}

/* May addresses stand behind the Ethernet header of a frame whose first size bytes these are? */
static bool goes_deep(const uint8_t *frame, size_t size)
{
    unsigned type;
    const size_t at = find_payload(frame, size, &type);
    return is_arp(type) || is_neighbour(type, frame + at, size - at) ||
           find_dhcp(type, frame + at, size - at);
}

/* deep: there is all of the frame. */
static void change(const struct change *c, uint8_t *frame, size_t size, bool deep)
{
    unsigned type;
    const size_t at = find_payload(frame, size, &type);
    replace(c, frame);
    replace(c, frame + NET_MAC_SIZE);
    if (!deep)
        return;
    if (is_arp(type)) {
        change_arp(c, frame + at, size - at);
    } else if (is_neighbour(type, frame + at, size - at)) {
        change_neighbour(c, frame + at, size - at);
    } else {
        const size_t udp = find_dhcp(type, frame + at, size - at);
        if (udp)
            change_dhcp(c, frame + at + udp, size - at - udp);
    }
}

bool net_alias_in(const struct net_alias *a, bool unsummed, uint8_t *frame, size_t size)
{
    const struct change c = {a->outside, a->inside, unsummed};
    if (is_same(frame, a->inside))
        return false;
    change(&c, frame, size, size <= NET_ALIAS_ROOM);
    return true;
}

/* --- packets --- */

static size_t packet_size(const struct net_packet *p)
{
    size_t size = 0;
    for (unsigned i = 1; i < p->count; i++)
        size += p->pieces[i].iov_len;
    return size;
}

/* Copies the frame's bytes from begin to end. */
static void copy_out(const struct net_packet *p, uint8_t *head, size_t begin, size_t end)
{
    size_t at = 0;
    for (unsigned i = 1; i < p->count && at < end; i++) {
        const size_t size = p->pieces[i].iov_len, from = begin > at ? begin - at : 0;
        const size_t to = end - at < size ? end - at : size;
        if (from < to)
            memcpy(head + at + from, (const uint8_t *)p->pieces[i].iov_base + from, to - from);
        at += size;
    }
}

/* The packet with its first size bytes in head. */
static void splice(const struct net_packet *p, struct net_alias_room *room, size_t size,
                   struct net_packet *out)
{
    unsigned n = 0;
    room->pieces[n++] = p->pieces[0];
    room->pieces[n++] = (struct iovec){room->head, size};
    for (unsigned i = 1; i < p->count; i++) {
        const struct iovec *piece = &p->pieces[i];
        const size_t skip = size < piece->iov_len ? size : piece->iov_len;
        size -= skip;
        if (skip < piece->iov_len)
            room->pieces[n++] = (struct iovec){(uint8_t *)piece->iov_base + skip, piece->iov_len - skip};
    }
    *out = (struct net_packet){room->pieces, n};
}

bool net_alias_out(const struct net_alias *a, const struct net_packet *packet, struct net_alias_room *room,
                   struct net_packet *out)
{
    const uint8_t *flags = packet->pieces[0].iov_base; /* a header begins with them */
    const struct change c = {a->inside, a->outside, *flags & NET_NEEDS_CSUM};
    const size_t size = packet_size(packet);
    size_t head = size < HEADERS_MAX ? size : HEADERS_MAX;
    copy_out(packet, room->head, 0, head);
    *out = *packet;
    if (head < NET_ETHERNET)
        return true;
    if (is_same(room->head + NET_MAC_SIZE, a->outside))
        return false;
    const bool deep = size <= NET_ALIAS_ROOM && goes_deep(room->head, head);
    if (deep) {
        copy_out(packet, room->head, head, size);
        head = size;
    }
    change(&c, room->head, head, deep);
    splice(packet, room, head, out);
    return true;
}
