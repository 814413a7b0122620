/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The back end `tap`: an interface of the host that somebody has attached to a bridge. */
#include <errno.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "net/net.h"

static bool tap_open(struct net *n, GError **error)
{
    unsigned features = 0;
    int size = sizeof(struct net_header), little = 1;
    struct ifreq interface;
    if (ioctl(n->fd, TUNGETIFF, &interface))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "network: descriptor %d is no tap interface: %s; open /dev/net/tun and name the "
                           "interface by TUNSETIFF, or give name=",
                           n->fd, g_strerror(errno));
    const short wanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if ((interface.ifr_flags & (IFF_TAP | IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)) != wanted)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "network: interface %s must be opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR",
                           interface.ifr_name);
    if (ioctl(n->fd, TUNSETVNETHDRSZ, &size) || ioctl(n->fd, TUNSETVNETLE, &little) ||
        ioctl(n->fd, TUNGETFEATURES, &features) || ioctl(n->fd, TUNSETOFFLOAD, 0UL))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "network: interface %s: %s", interface.ifr_name,
                           g_strerror(errno));
    /* Towards the host every tap takes what the header can say. */
    n->takes = n->gives = NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN;
    return true;
}

static int tap_send(struct net *n, const struct net_packet *packets, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (writev(n->fd, packets[i].pieces, (int)packets[i].count) >= 0)
            continue;
        if (errno == EAGAIN || errno == EINTR)
            return (int)i;
        /* The interface is down (EIO), or the guest made a frame that the host refuses (EINVAL): it is lost,
         * as on a wire. The interface itself has gone only when its descriptor says EBADFD. */
        if (errno == EBADFD)
            return -errno;
    }
    return (int)count;
}

static int tap_receive(struct net *n, struct net_slot *slots, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ssize_t size = read(n->fd, slots[i].bytes, NET_MESSAGE_MAX);
        if (size < 0 && errno == EBADFD)
            return i ? (int)i : -errno;
        if (size <= 0)
            return (int)i;
        slots[i].size = (size_t)size;
    }
    return (int)count;
}

static int tap_set_offloads(struct net *n, unsigned guest)
{
    unsigned long flags = 0;
    if (guest & NET_CSUM)
        flags = TUN_F_CSUM | (guest & NET_TSO4 ? TUN_F_TSO4 : 0) | (guest & NET_TSO6 ? TUN_F_TSO6 : 0);
    if (flags & (TUN_F_TSO4 | TUN_F_TSO6) && guest & NET_ECN)
        flags |= TUN_F_TSO_ECN;
    return ioctl(n->fd, TUNSETOFFLOAD, flags) ? -errno : 0;
}

const struct net_ops net_tap = {
    .name = "tap",
    .help = "a tap interface of the host, by name or as a descriptor, for bridges",
    .open = tap_open,
    .send = tap_send,
    .receive = tap_receive,
    .set_offloads = tap_set_offloads,
};
