/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Disks and network cards into a guest that runs, and out of it. */
#ifndef HOSTEL_CLI_PLUG_LIVE_H
#define HOSTEL_CLI_PLUG_LIVE_H

#include <jansson.h>

#include "cli/guest_call.h"
#include "control/guest_options.h"

/* Opens what the disk or card needs and puts it into the port that its options name, under the name that they
 * say. The guest finds it when it likes. False with *error; then nothing has changed. */
bool plug_disk(struct guest_call *call, struct guest_options *options, GError **error);
/* log: where what carries the card's frames says what there is to say; -1 = nowhere. */
bool plug_net(struct guest_call *call, struct guest_options *options, int log, GError **error);

/* The first port with nothing in it, from 1 on; 0 with *error: there is none. */
unsigned plug_find_port(struct guest_call *call, const char *name, GError **error);

/* Has the guest a disk or card of that name? */
bool plug_is_in(struct guest_call *call, const char *id);

/* Asks the guest to let go of it, and waits. False with *error, and the guest still has it. */
bool plug_ask_out(struct guest_call *call, const char *name, const char *id, double seconds, GError **error);

/* The device is out: what was behind it goes, too. layers: file names of the disk's layers, or NULL. */
void plug_drop_disk(struct guest_call *call, const char *id, const json_t *layers);
void plug_drop_net(struct guest_call *call, const char *id);

#endif
