/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The host's own addresses. */
#include "net/netd/hosts.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "net/netd/packet.h"
#include "os/fd.h"

static void add(GArray *list, const struct sockaddr *address)
{
    struct netd_address a = {0};
    if (!address)
        return;
    a.family = address->sa_family;
    if (a.family == AF_INET)
        a.v4 = ((const struct sockaddr_in *)(const void *)address)->sin_addr;
    else if (a.family == AF_INET6)
        a.v6 = ((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    else
        return;
    g_array_append_val(list, a);
}

static bool load(struct netd_hosts *h)
{
    struct ifaddrs *all;
    if (getifaddrs(&all))
        return false;
    g_array_set_size(h->own, 0);
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        add(h->own, i->ifa_addr);
        if (i->ifa_flags & IFF_BROADCAST)
            add(h->own, i->ifa_broadaddr);
    }
    freeifaddrs(all);
    return true;
}

bool netd_hosts_init(struct netd_hosts *h, GError **error)
{
    *h = (struct netd_hosts){.own = g_array_new(FALSE, FALSE, sizeof(struct netd_address))};
    const struct sockaddr_nl groups = {.nl_family = AF_NETLINK,
                                       .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
    h->watch = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (h->watch < 0 || bind(h->watch, (const struct sockaddr *)(const void *)&groups, sizeof(groups)) ||
        !load(h)) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot learn the host's addresses: %s", g_strerror(errno));
        netd_hosts_fini(h);
        return false;
    }
    return true;
}

void netd_hosts_fini(struct netd_hosts *h)
{
    fd_close(&h->watch);
    if (h->own)
        g_array_unref(h->own);
    h->own = NULL;
}

void netd_hosts_changed(struct netd_hosts *h)
{
    uint8_t message[4096];
    ssize_t n;
    /* What it says does not matter. A watch that lost messages says so by an error, once. */
    do {
        n = recv(h->watch, message, sizeof(message), MSG_DONTWAIT);
    } while (n > 0 || (n < 0 && errno == ENOBUFS));
    load(h);
}

bool netd_hosts_has(const struct netd_hosts *h, const struct netd_address *address)
{
    const struct netd_address *own = (const struct netd_address *)(const void *)h->own->data;
    for (unsigned i = 0; i < h->own->len; i++)
        if (netd_address_equal(&own[i], address))
            return true;
    return false;
}
