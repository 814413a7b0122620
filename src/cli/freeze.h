/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A running guest as it is at one moment, memory and disks: for snapshots and clones. */
#ifndef HOSTEL_CLI_FREEZE_H
#define HOSTEL_CLI_FREEZE_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/args.h"
#include "cli/guest_call.h"
#include "cli/guest_state.h"
#include "cli/named.h"

/* Finds a guest for freeze_guest(): one that does not run is run, but stands still before it goes on from
 * where it was saved, or before its first instruction. *roused: freeze_settle() is to end that. The state is
 * to be freed by guest_state_fini() in any case. NULL with *error. */
struct named *freeze_rouse(const char *name, struct guest_state *state, bool *roused, GError **error);
void freeze_settle(struct guest_call *call, const struct guest_state *state);

/* Writes the guest's state into a new file while its disks, from the same moment on, go on in new layers,
 * which are added to layers and stored. What layers held before is the disks as of that moment. The guest
 * goes on if it ran. False with *error: no state is there, and the guest goes on as before; its disks perhaps
 * in new layers. args say whether it is compressed and who sees how far it is; a signal stops it
 * (cli_stop_catch()). The layers' lock is held, and they are what the guest has (chain_trim()). */
bool freeze_guest(const struct named *guest, struct guest_call *call, json_t *layers, const char *path,
                  const struct cli_args *args, GError **error);

#endif
