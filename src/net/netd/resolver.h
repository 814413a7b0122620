/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The host's name servers. */
#ifndef HOSTEL_NET_NETD_RESOLVER_H
#define HOSTEL_NET_NETD_RESOLVER_H

#include "net/netd/netd.h"

/* The first IPv4 and the first IPv6 name server in the text of a resolv.conf(5); family 0 = none. IPv6
 * addresses with a zone are passed over. */
void netd_resolver_parse(const char *text, struct netd_address servers[2]);

/* The same of the host's /etc/resolv.conf. */
void netd_resolver_read(struct netd_address servers[2]);

#endif
