/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the files of `hostel snapshot` know of each other. */
#ifndef HOSTEL_CLI_SNAPSHOT_INT_H
#define HOSTEL_CLI_SNAPSHOT_INT_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/cli.h"
#include "cli/guest_state.h"
#include "cli/named.h"

/* What every action needs. */
struct moment {
    const struct cli_args *args;
    const char *name;     /* of the guest */
    const char *snapshot; /* NULL = none was given */
    json_t *layers;
};

/* Adds a moment at which disks had these layers to the tree, below where the guest came from; borrowed. */
json_t *snapshot_note(const struct moment *m, const struct named *guest, const char *name,
                      const json_t *disks);

/* --- snapshot_inside.c: those inside the images --- */

/* The name is free, as far as is known. */
bool snapshot_inside_create(struct moment *m, const char *name, GError **error);
/* snapshot: what is noted of it. state: of the guest, who may be killed. */
bool snapshot_inside_revert(struct moment *m, json_t *snapshot, struct guest_state *state, GError **error);
/* Out of the images; not out of the notes. */
bool snapshot_inside_delete(struct moment *m, const json_t *snapshot, GError **error);

#endif
