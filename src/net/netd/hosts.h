/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The host's own addresses, as they come and go. */
#ifndef HOSTEL_NET_NETD_HOSTS_H
#define HOSTEL_NET_NETD_HOSTS_H

#include "net/netd/netd.h"

struct netd_hosts {
    int watch;   /* readable when addresses may have changed; -1 = the host cannot tell */
    GArray *own; /* of struct netd_address: of interfaces, and their broadcast addresses */
};

bool netd_hosts_init(struct netd_hosts *h, GError **error);
void netd_hosts_fini(struct netd_hosts *h);

/* `watch` is readable: reads the addresses anew. When that fails, the old ones stay. */
void netd_hosts_changed(struct netd_hosts *h);

/* Is it one of the host's? */
bool netd_hosts_has(const struct netd_hosts *h, const struct netd_address *address);

#endif
