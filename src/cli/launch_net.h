/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest's networks before it starts: hostel-netd running, tap interfaces opened. */
#ifndef HOSTEL_CLI_LAUNCH_NET_H
#define HOSTEL_CLI_LAUNCH_NET_H

#include <stdbool.h>

#include "cli/launch.h"

/* Fills in each network's `link`. A hostel-netd says on `errors` (borrowed) what there is to say; it ends
 * with its guest and with us, and is listed in *vmm. False with *error when a network cannot be had. */
bool launch_networks(struct guest_options *options, int errors, struct vmm_process *vmm, GError **error);

/* One of them. The hostel-netd, if it takes one (*helper, else 0), ends with its guest; unless it is to
 * outlive us, with us, too. */
bool launch_network(struct net_options *n, int errors, bool outlive, pid_t *helper, GError **error);

#endif
