/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Frames on their way to the guest. */
#ifndef HOSTEL_NET_NETD_OUTBOX_H
#define HOSTEL_NET_NETD_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many frames wait at most while the guest takes none; and from when on nothing is read from the host's
 * sockets, so that they wait there. libslirp adds what windows have already granted. */
enum { NETD_OUTBOX_SIZE = 256, NETD_OUTBOX_HIGH = 32 };

struct netd_outbox;

/* Frames go to `link`, which is borrowed. */
struct netd_outbox *netd_outbox_new(int link);
void netd_outbox_free(struct netd_outbox *o); /* NULL is fine */

/* Room for a frame of NET_FRAME_MAX bytes, to be filled and then put; NULL when the box is full. */
uint8_t *netd_outbox_room(struct netd_outbox *o);
void netd_outbox_put(struct netd_outbox *o, size_t size);

/* Sends what the link takes. False: the link is gone. */
bool netd_outbox_flush(struct netd_outbox *o);

unsigned netd_outbox_count(const struct netd_outbox *o);

#endif
