/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Which frames a network card takes: what its driver says over the control queue (virtio 1.2,
 * section 5.1.6.5). */
#ifndef HOSTEL_DEVICE_VIRTIO_NET_FILTER_H
#define HOSTEL_DEVICE_VIRTIO_NET_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/frame.h"

enum { NET_FILTER_MACS = 64, NET_FILTER_VLANS = 4096 };

/* A table of addresses; when more were given than fit, all are taken. */
struct net_filter_macs {
    uint8_t mac[NET_FILTER_MACS][NET_MAC_SIZE];
    unsigned count;
    bool overflow;
};

struct net_filter {
    uint8_t mac[NET_MAC_SIZE]; /* the card's own */
    bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
    bool vlans_filtered;
    struct net_filter_macs unicast, multicast;
    uint8_t vlans[NET_FILTER_VLANS / 8];
};

/* As after a reset: everything is taken until the driver says otherwise (section 5.1.6.5.1). vlans: only
 * those that it names (the feature was agreed). */
void net_filter_reset(struct net_filter *f, const uint8_t mac[NET_MAC_SIZE], bool promiscuous, bool vlans);

/* Does the card take a frame of at least 14 bytes? */
bool net_filter_takes(const struct net_filter *f, const uint8_t *frame, size_t size);

/* One command: its class, number and size bytes of data. False: unknown, or malformed, and nothing changed.
 */
bool net_filter_command(struct net_filter *f, uint8_t class, uint8_t command, const uint8_t *data,
                        size_t size);

/* The most bytes of data a command can have that is not nonsense. */
enum { NET_FILTER_DATA_MAX = 8192 };

#endif
