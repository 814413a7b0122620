/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Snapshots inside the images that a guest writes to, of all its disks at once. */
/*
 * Theory of operation
 *
 * A guest that lives takes, loads and deletes them itself, with its memory (QMP's snapshot-save and so on).
 * Of one that does not run we change the images, whose locks keep others away; there is no memory then.
 *
 * The images are the last layer of each disk, or, without layers, the disk's own. layers.json notes such a
 * snapshot as it does others, with "kind": "internal", the layers of its moment, and in "memory" how many
 * bytes the guest's state has (0: none). Going back writes to those images. So that is done only while they
 * are what the guest writes to: as soon as there is a layer over them, others may need them as they are.
 *
 * To take one in several images takes several writes, too. "taking", its name, is there until it is noted, or
 * for good when that was cut off: the next one begins with removing what only some of the images have.
 *
 * To go back in several images takes several writes. "reverting" in layers.json says that it began: {"to":
 * "NAME", "off": bool}. When it is still there and the guest did it (off is false), it was cut off in the
 * middle if an image has a snapshot called INSIDE_UNDO (vm/node_snapshot.c); when we did, it always was. Such
 * a guest is not run until it has gone back.
 */
#ifndef HOSTEL_CLI_INSIDE_H
#define HOSTEL_CLI_INSIDE_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/guest_call.h"
#include "cli/guest_state.h"
#include "cli/named.h"
#include "cli/progress.h"

#define INSIDE_UNDO "hostel-undo"

/* Is this row of layers.json's snapshots one of these? */
bool inside_is(const json_t *snapshot);

/* --- of a guest that lives --- */

enum inside_what { INSIDE_SAVE, INSIDE_LOAD, INSIDE_DELETE };

/* Waits for its end, or, when a signal asks to stop, for the end of that. name: of the guest. False with
 * *error: the guest is as it was, or else *error says so. */
bool inside_live(struct guest_call *call, const char *name, enum inside_what what, const char *tag,
                 enum progress_form form, GError **error);

/* --- of one that does not run; it is locked. layers is what was loaded --- */

/* All images have it then, or none; without memory. */
bool inside_take(const struct named *guest, const json_t *layers, const char *tag, GError **error);
/* All images are at it then; also after it was cut off. */
bool inside_apply(const struct named *guest, const json_t *layers, const char *tag, GError **error);
/* Out of the images that it wrote to at a moment, a row of layers or layers itself. */
bool inside_remove(const struct named *guest, const json_t *layers, const json_t *moment, const char *tag,
                   GError **error);
/* Was going back cut off in the middle? Then *error says so. */
bool inside_is_torn(const struct named *guest, const json_t *layers, GError **error);

/* --- seen --- */

/* Those that all images of the guest as it is have: {"NAME": {"memory": bytes, "time": "..."}}. Owned by the
 * caller; nothing when it cannot be told. */
json_t *inside_found(const struct named *guest, const json_t *layers, const struct guest_state *state);

#endif
