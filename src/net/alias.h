/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A card that has another address than its guest believes: frames are translated on their way. */
/*
 * Theory of operation
 *
 * A guest's kernel reads its card's address when it boots. A clone of that guest is given a card with an
 * address of its own, and its kernel, in the middle of something else, goes on with the old one. If that
 * address reached the network, it would be there twice. So what the clone sends under the address that it
 * believes (`inside`) goes out under the card's (`outside`), and what comes for the card's is given to it as
 * its own. The address is translated wherever neighbours learn addresses from or a client looks for its own:
 *
 *   - source and destination of the frame
 *   - hardware addresses in ARP and RARP
 *   - link-layer address options of IPv6 neighbour discovery (RFC 4861, 4.6.1)
 *   - DHCP's client hardware address, and a client identifier made of it (RFC 2131, RFC 2132, 9.14)
 *
 * with checksums updated. Addresses that a guest makes up itself (bridges and containers inside it) are not
 * known here and stay.
 *
 * A frame that comes for the inside address is for the guest that had it first, and is dropped. A frame that
 * leaves with the outside address as its source is from a driver that has read the new address: there is
 * nothing to translate any more.
 *
 * Frames from the guest lie in its memory, where it may change them at any time, and must stay as they are.
 * So the first bytes are copied, and only the copy is looked at and changed: as much as the headers take, or
 * all of a frame of one of the kinds above, which are short.
 */
#ifndef HOSTEL_NET_ALIAS_H
#define HOSTEL_NET_ALIAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/frame.h"
#include "net/net.h"

/* Bytes; messages that hold addresses and are longer are not looked into. */
enum { NET_ALIAS_ROOM = 2048 };

/* What one translated packet needs while it is sent. */
struct net_alias_room {
    struct iovec pieces[NET_PIECES_MAX + 1];
    uint8_t head[NET_ALIAS_ROOM];
};

/* A frame of at least NET_ETHERNET bytes for the guest, changed in place. unsummed: its checksum is still to
 * be filled in (NET_NEEDS_CSUM). False: it is not for this guest. */
bool net_alias_in(const struct net_alias *a, bool unsummed, uint8_t *frame, size_t size);

/* A packet of the guest's, translated into *out, which lies in room and in the packet's own memory. False:
 * the guest has learned the outside address. */
bool net_alias_out(const struct net_alias *a, const struct net_packet *packet, struct net_alias_room *room,
                   struct net_packet *out);

#endif
