/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The contract between a guest's network card and what carries its frames: a back end, one row each in
 * backends.def. */
/*
 * Theory of operation
 *
 * A back end is a descriptor that somebody else opened (the socket to hostel-netd, a tap interface) and the
 * few functions that differ between kinds: how frames are written to it and read from it. Everything else is
 * the same for all and lies in net.c: waiting on the main loop, holding frames the card has no room for,
 * telling the card when there is room again, and the end of the link.
 *
 * Every frame is an Ethernet frame without its check sequence, preceded by a struct net_header
 * (virtio 1.2, 5.1.6, struct virtio_net_hdr with num_buffers), which says what is left to be done with it: a
 * checksum to be filled in, a big TCP segment to be cut. `takes` says which of that the back end does for
 * frames from the guest; a frame towards the guest asks for nothing but what net_set_offloads() said the
 * guest can do.
 *
 * Threads. net_send() runs on whichever thread the card sends from, one at a time, and never blocks: what the
 * descriptor does not take now stays with the caller, who is told by `writable`. The card's callbacks run on
 * the main thread with no lock held. net_more() and net_set_offloads() may be called from any thread.
 *
 * Rates. Each direction may be limited, while the card is in use. What the guest sends beyond its rate stays
 * with the card, as when the descriptor is full; what is sent to it waits in the descriptor, whose own buffer
 * then holds back, or drops.
 *
 * Hostile input. Frames towards the guest are only bounded in size here; their header is checked in net.c, so
 * a card may use it. Frames from the guest pass unseen: whoever reads the other end must check them.
 */
#ifndef HOSTEL_NET_NET_H
#define HOSTEL_NET_NET_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "net/frame.h"

/* What may be left undone in a frame's header. */
enum net_offload {
    NET_CSUM = 1, /* the checksum of TCP or UDP */
    NET_TSO4 = 2, /* cutting a TCP segment over IPv4 */
    NET_TSO6 = 4,
    NET_ECN = 8, /* with congestion bits, for either */
};

/* One frame to send: piece[0] is its struct net_header, the rest the frame. */
struct net_packet {
    const struct iovec *pieces;
    unsigned count; /* 2..NET_PIECES_MAX */
};

/* One frame as read, header and all. */
struct net_slot {
    uint8_t *bytes; /* NET_MESSAGE_MAX of them */
    size_t size;    /* that were read */
};

/* The address that a guest believes its card to have, and the one that the card has (alias.h). */
struct net_alias {
    uint8_t inside[NET_MAC_SIZE], outside[NET_MAC_SIZE];
};

/* What a card wants to hear. Main thread, no lock held. */
struct net_client {
    /* A frame for the guest, of 14 to NET_FRAME_MAX bytes. False: no room, offer it again after net_more().
     */
    bool (*receive)(void *opaque, const struct net_header *header, const uint8_t *frame, size_t size);
    /* That was the last one for now: time to tell the guest. */
    void (*received)(void *opaque);
    /* Room again after net_send() took less than it was given. */
    void (*writable)(void *opaque);
    /* The link went down (it does not come up again). */
    void (*down)(void *opaque);
};

struct net;

struct net_ops {
    const char *name, *help;
    /* Looks at n->fd, which is non-blocking, and sets takes and gives. False with *error. Set-up. */
    bool (*open)(struct net *n, GError **error);
    /* Writes up to count packets: how many, less when the descriptor is full; or -errno when the link is
     * gone. */
    int (*send)(struct net *n, const struct net_packet *packets, unsigned count);
    /* Reads up to count frames: how many; 0 when there are none now; or -errno when the link is gone. */
    int (*receive)(struct net *n, struct net_slot *slots, unsigned count);
    /* What the guest can do (enum net_offload), a subset of gives. 0 or -errno. NULL: nothing to be told. */
    int (*set_offloads)(struct net *n, unsigned guest);
};

enum net_direction { NET_TO_GUEST, NET_FROM_GUEST, NET_DIRECTIONS };

struct net_rate {
    uint64_t bits;  /* a second, of Ethernet frames; 0 = no limit */
    uint64_t burst; /* bits that may pass at once behind a pause; 0 = a tenth of a second's */
};

struct net_count {
    uint64_t frames, bytes; /* of Ethernet */
};

struct net {
    const struct net_ops *ops;
    int fd;
    unsigned takes; /* enum net_offload: from the guest */
    unsigned gives; /* enum net_offload: to the guest, when it can */
    struct net_port *port;
};

/* All back ends (backends.def), NULL-terminated; and by name, NULL when unknown. */
extern const struct net_ops *const net_backends[];
const struct net_ops *net_backend_find(const char *name);

/* A back end on a descriptor, which it owns from now on, in any case; served from context (NULL = default) as
 * soon as there is a client. NULL with *error. Main thread, as below unless it says otherwise. */
struct net *net_new(const struct net_ops *ops, int fd, GMainContext *context, GError **error);
void net_free(struct net *n); /* NULL is fine; the client is not called any more */
CLEANUP_DEFINE(net, net_free)

/* Both borrowed, until net_detach() or net_free(). */
void net_attach(struct net *n, const struct net_client *client, void *opaque);
void net_detach(struct net *n);

/* Sends packets: how many were taken. Less than count: `writable` will come. When the link is down all are
 * taken and lost. Any thread, one at a time. */
unsigned net_send(struct net *n, const struct net_packet *packets, unsigned count);

/* Asks for `writable`, as soon as the descriptor takes something. Any thread. */
void net_again(struct net *n);

/* The card has room again after `receive` had returned false. Any thread. */
void net_more(struct net *n);

/* What the guest can do from now on, at most n->gives. Any thread. */
void net_set_offloads(struct net *n, unsigned guest);

/* Limits a direction from now on; tells what was set. Main thread. */
void net_set_rate(struct net *n, enum net_direction direction, const struct net_rate *rate);
void net_get_rate(const struct net *n, enum net_direction direction, struct net_rate *rate);

/* What has passed since the beginning. Any thread. */
void net_get_count(const struct net *n, enum net_direction direction, struct net_count *count);

/* Translates one address into another from now on, when nobody sends or receives; NULL = none, at any time
 * and on any thread. */
void net_set_alias(struct net *n, const struct net_alias *alias);

/* Is one translated? Not any more when the guest has sent a frame from the outside one. Any thread. */
bool net_has_alias(const struct net *n);

/* Is the other end there? Any thread. */
bool net_up(const struct net *n);

#endif
