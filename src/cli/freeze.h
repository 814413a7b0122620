/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A running guest as it is at one moment, memory and disks: for snapshots and clones. */
#ifndef HOSTEL_CLI_FREEZE_H
#define HOSTEL_CLI_FREEZE_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/guest_call.h"
#include "cli/named.h"

/* Writes the guest's state into a new file while its disks, from the same moment on, go on in new layers,
 * which are added to layers and stored. What layers held before is the disks as of that moment. The guest
 * goes on if it ran. False with *error: no state is there, and the guest goes on as before; its disks perhaps
 * in new layers. The layers' lock is held. */
bool freeze_guest(const struct named *guest, struct guest_call *call, json_t *layers, const char *path,
                  GError **error);

#endif
