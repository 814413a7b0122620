/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a guest leaves to its card: done here, in front of everything else. */
#ifndef HOSTEL_NET_NETD_OFFLOAD_H
#define HOSTEL_NET_NETD_OFFLOAD_H

#include "net/netd/netd.h"

/* Fills in the checksum that the header asks for. False: the header contradicts the frame, or asks for what
 * was not offered. */
bool netd_offload(const struct net_header *header, uint8_t *frame, size_t size);

#endif
