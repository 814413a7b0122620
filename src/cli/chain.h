/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Which of a guest's layers its process has open, and in which order. */
/*
 * What layers.json says and what the guest's process has differ after a hostel was killed: there may be an
 * empty layer that the guest did not get to, or one that has been merged already.
 */
#ifndef HOSTEL_CLI_CHAIN_H
#define HOSTEL_CLI_CHAIN_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "cli/guest_call.h"
#include "cli/named.h"

/* The images that lie over each other under a disk of the guest, the topmost first. */
struct chain {
    json_t *nodes;    /* of query-named-block-nodes; owned */
    GPtrArray *names; /* of nodes, borrowed from nodes */
    GPtrArray *files; /* their layers, borrowed from layers; NULL = no layer */
};

void chain_fini(struct chain *c);
#define AUTO_CHAIN __attribute__((cleanup(chain_fini))) struct chain

/* That of the device which has a layer of the disk; else that of the device with its image; else it is empty.
 * False with *error. */
bool chain_find(const struct named *guest, struct guest_call *call, const json_t *layers, size_t disk,
                struct chain *c, GError **error);

/* Where a layer is in it; its length when it is not there. */
guint chain_layer(const struct chain *c, const char *file);

/* The name of the file that its image at i was opened from, without the folder; owned, NULL = not known. */
char *chain_place(const struct chain *c, guint i);

/* Takes layers out of what the guest is, in layers, that it does not write to: a hostel that was killed while
 * it took a moment has left them. They are empty, and its process cannot go on in them afterwards. False with
 * *error, also when the guest has other devices than it should. */
bool chain_trim(const struct named *guest, struct guest_call *call, json_t *layers, GError **error);

#endif
