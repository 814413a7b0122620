/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* hostel-netd: one guest's way to the host's network, as a process of its own. */
/*
 * Theory of operation
 *
 * The guest is the only machine on an Ethernet of ours. libslirp plays the gateway: it answers ARP, DHCP and
 * router solicitation, ends the guest's TCP connections and opens ordinary sockets in their place. What it
 * does not do lies around it here:
 *
 *   link -> offload -> filter -> resolver -> libslirp      frames from the guest
 *   link <- resolver, filter <- libslirp                   frames to the guest
 *
 * offload.c fills in the checksums that the guest left to its card. A big TCP segment is not cut: libslirp
 * ends the connection, so nobody ever sees the pieces. filter.c lets pass what the guest may reach and
 * answers the rest with "administratively prohibited". resolver.c puts the host's name server in the place of
 * the one the guest sees.
 *
 *   10.0.2.2    the gateway; also how connections from the host's loopback appear to the guest
 *   10.0.2.3    the name server
 *   10.0.2.15   the guest; its IPv6 addresses are below fec0::/64
 *
 * The process has one thread and one loop. Its order of life: arguments, listening sockets of the forwards,
 * sandbox, "ready" on standard output, frames, end of the link. After "ready" it opens no file, has no
 * capability, and a list of system calls. It never listens on anything new: Landlock refuses to, where the
 * kernel can.
 */
#ifndef HOSTEL_NET_NETD_NETD_H
#define HOSTEL_NET_NETD_NETD_H

#include <glib.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "net/frame.h"

/* The guest's Ethernet, in host byte order. */
#define NETD_NETWORK UINT32_C(0x0a000200)
#define NETD_NETMASK UINT32_C(0xffffff00)
#define NETD_GATEWAY UINT32_C(0x0a000202)
#define NETD_NAMESERVER UINT32_C(0x0a000203)
#define NETD_GUEST UINT32_C(0x0a00020f)

enum { NETD_FORWARDS_MAX = 64, NETD_DNS_PORT = 53 };

/* An address of either family. */
struct netd_address {
    sa_family_t family; /* AF_INET, AF_INET6; 0 = none */
    union {
        struct in_addr v4;
        struct in6_addr v6;
    };
};

/* A port of the host that leads into the guest. */
struct netd_forward {
    bool udp;
    struct netd_address host;  /* where to listen */
    struct netd_address guest; /* of the same family; IPv6 "::" = the first address the guest shows */
    uint16_t host_port, guest_port;
    const char *text; /* as it was written, for messages; borrowed */
};

struct netd_config {
    int link; /* the socket; -1 = not given */
    uint16_t mtu;
    bool isolated;
    struct netd_address dns; /* family 0: the host's */
    struct netd_forward forwards[NETD_FORWARDS_MAX];
    unsigned forward_count;
};

/* config.c: reads "link=5", "mtu=1500", "isolated=on", "dns=192.0.2.1" and "forward=..."; the strings must
 * outlive the config. False with *error. */
bool netd_config_parse(char *const *words, struct netd_config *config, GError **error);

/* config.c: tcp|udp:[HOSTADDR]:PORT-[GUESTADDR]:PORT; IPv6 addresses stand in brackets. Without HOSTADDR it
 * is 127.0.0.1, without GUESTADDR the guest's own. */
bool netd_forward_parse(const char *text, struct netd_forward *forward, GError **error);

/* config.c: an address written as numbers; false when it is none. */
bool netd_address_parse(const char *text, struct netd_address *address);

/* netd.c: the whole program; the exit code. */
int netd_main(char **argv);

#endif
