/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What stands before and in an Ethernet frame: the header that virtio, tap interfaces and our own link share,
 * and the sizes. */
#ifndef HOSTEL_NET_FRAME_H
#define HOSTEL_NET_FRAME_H

#include <stdint.h>

/* virtio 1.2, 5.1.6: struct virtio_net_hdr. All fields little-endian. */
struct net_header {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t header_length; /* a hint, never relied upon */
    uint16_t gso_size;      /* payload of each piece a segment is to be cut into */
    uint16_t csum_start;    /* from the first byte of the frame: sum from here to its end, */
    uint16_t csum_offset;   /* and store it this far behind */
    uint16_t buffers;       /* towards the guest: how many it takes (written by the card) */
};
_Static_assert(sizeof(struct net_header) == 12, "as in virtio 1.2, 5.1.6");

enum {
    NET_NEEDS_CSUM = 1, /* flags */
    NET_DATA_VALID = 2,

    NET_GSO_NONE = 0, /* gso_type */
    NET_GSO_TCP4 = 1,
    NET_GSO_TCP6 = 4,
    NET_GSO_ECN = 0x80,
};

enum {
    NET_ETHERNET = 14, /* bytes of its header */
    NET_MAC_SIZE = 6,
    NET_MTU_MIN = 1280,  /* what IPv6 needs */
    NET_MTU_MAX = 65520, /* and the default towards hostel-netd: the fewer frames, the better */
    NET_FRAME_MAX = NET_ETHERNET + 65535, /* an IP packet cannot be longer */
    NET_MESSAGE_MAX = (int)sizeof(struct net_header) + NET_FRAME_MAX,
    NET_PIECES_MAX = 64, /* of one frame in memory, its header included */
    NET_BATCH = 32,      /* frames moved at once */
};

/* EtherTypes. */
enum { NET_ETHER_IPV4 = 0x0800, NET_ETHER_ARP = 0x0806, NET_ETHER_IPV6 = 0x86dd };

#endif
