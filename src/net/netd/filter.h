/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Which frames of a guest go on: what it may reach, and what not. */
/*
 * Theory of operation
 *
 * libslirp connects to whatever address stands in a packet. What must not be reached is therefore stopped
 * here:
 *
 *   - the host: its loopback, each address of its interfaces, the gateway of the guest's Ethernet (which
 * libslirp would turn into the host's loopback);
 *   - what is on the host's link only, where clouds keep their metadata services: 169.254/16, fe80::/10;
 *   - what names none or many: 0/8, multicast, broadcast; IPv4 in disguise of IPv6 (mapped, compatible, and
 * NAT64 and 6to4 of what is refused in plain);
 *   - with isolated=on, everything.
 *
 * A connection into the guest, by a forward, often comes from such an address, and the guest must answer it:
 *
 *   - TCP: a connection begins with a SYN without an ACK, so only that is checked. Anything else libslirp
 * knows as part of a connection, or answers with a reset.
 *   - UDP: what a forward brought in was noted (from where, to which port), and the way back is open as long
 *     as the note lasts; 256 notes, the oldest goes first.
 *
 * In a fragment these headers cannot be seen. It is checked by its address alone, and there is a limit to how
 * many fragments per second pass, since libslirp keeps them until the last one has come.
 *
 * The name server's address that the guest uses is none that exists. Packets to its port 53 go to the real
 * one and the answers come from the false one. The guest may also ask the real one itself: a bit for each of
 * its ports says which of both it asked last from there.
 */
#ifndef HOSTEL_NET_NETD_FILTER_H
#define HOSTEL_NET_NETD_FILTER_H

#include "net/netd/hosts.h"
#include "net/netd/packet.h"

enum { NETD_NOTES = 256, NETD_PORTS = 65536, NETD_FRAGMENTS_PER_SECOND = 512 };

/* Somebody outside who has reached a UDP forward. */
struct netd_note {
    struct netd_address who;
    uint16_t port, guest_port;
};

struct netd_filter {
    const struct netd_hosts *hosts; /* borrowed */
    bool isolated;
    struct netd_address resolver[2];      /* IPv4, IPv6; family 0 = none */
    uint8_t asked[2][2][NETD_PORTS / 8];  /* by family and protocol (UDP, TCP): the false one was asked */
    uint8_t udp_forwards[NETD_PORTS / 8]; /* ports of the guest */
    struct netd_note notes[NETD_NOTES];
    unsigned next_note;
    int64_t fragment_second;
    unsigned fragments; /* in that second */
};

enum netd_verdict {
    NETD_PASS,
    NETD_DROP,   /* broken, or nothing that is answered */
    NETD_REFUSE, /* answered with a refusal */
};

/* Judges a frame of the guest, whose checksums are complete; sends those for the name server on their way. p
 * is filled in when the verdict is NETD_REFUSE. now in nanoseconds. */
enum netd_verdict netd_filter_from_guest(struct netd_filter *f, uint8_t *frame, size_t size, int64_t now,
                                         struct netd_packet *p);

/* Looks at a frame for the guest: notes, and answers of the name server. */
void netd_filter_to_guest(struct netd_filter *f, uint8_t *frame, size_t size);

/* May the guest reach this address? Not what the notes say. */
bool netd_filter_allows(const struct netd_filter *f, const struct netd_address *address);

/* refusal.c: the frame that says no to p; how many bytes were stored. */
enum { NETD_REFUSAL_MAX = 128 };
size_t netd_refusal(const struct netd_packet *p, uint8_t reply[NETD_REFUSAL_MAX]);

#endif
