/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* libslirp and what stands around it: frames in, frames out, sockets to wait for. */
#ifndef HOSTEL_NET_NETD_STACK_H
#define HOSTEL_NET_NETD_STACK_H

#include <poll.h>

#include "net/netd/filter.h"
#include "net/netd/outbox.h"

struct netd_stack;

/* config, hosts and out are borrowed. Listens for the forwards. NULL with *error: a port is taken, say. */
struct netd_stack *netd_stack_new(const struct netd_config *config, const struct netd_hosts *hosts,
                                  struct netd_outbox *out, GError **error);
void netd_stack_free(struct netd_stack *s); /* NULL is fine */
CLEANUP_DEFINE(netd_stack, netd_stack_free)

/* A message of the guest: struct net_header and frame, size bytes in all. Changes them. */
void netd_stack_input(struct netd_stack *s, uint8_t *message, size_t size);

/* Appends what is to be waited for to fds (of struct pollfd). How many milliseconds at most; -1 = for ever.
 * With hold set, sockets are not read from. */
int netd_stack_wait(struct netd_stack *s, GArray *fds, bool hold);
/* fds as poll() left them; the same array. */
void netd_stack_serve(struct netd_stack *s, GArray *fds);

#endif
