/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Images that a running guest's process is given. */
#ifndef HOSTEL_CLI_GUEST_NODE_H
#define HOSTEL_CLI_GUEST_NODE_H

#include "cli/guest_call.h"

/* Gives the guest's process an open file, borrowed, as a node: the arguments of blockdev-add without "file",
 * taken. It opens no path, so the descriptor goes along. */
bool guest_node_add(struct guest_call *call, json_t *node, int fd, GError **error);

#endif
