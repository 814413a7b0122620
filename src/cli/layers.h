/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a guest's disks have become: layers over them, and snapshots, which are layers that stay as they are.
 */
/*
 * Theory of operation
 *
 * A disk with layers is its image, which is not written any more, below qcow2 files in the folder `layers` of
 * the guest. The guest writes to the last. A snapshot notes how many of them there were, adds an empty one to
 * each disk, and keeps the guest's memory in `snapshots`. Going back is an empty layer over those of a
 * snapshot. So nothing that belongs to a snapshot is ever written, and several may share layers: a tree.
 *
 * The file `layers.json` says which there are; it is replaced as a whole:
 *
 *   {"disks": [["a.qcow2", ...], ...], "sizes": [bytes, ...],   of the guest as it is: a row for each image
 *    "images": ["disk.img", ...],                               these, relative to its folder
 *    "current": "NAME" or null,                                 the snapshot that it comes from
 *    "losing": "PATH",                                          the image of a disk that is being unplugged
 *    "snapshots": {"NAME": {"disks", "sizes", "devices", "parent", "time", "note"}}}
 *
 * The rows are the same for all of them: a disk that comes gets a new one behind the others, and one that
 * goes leaves its own empty, of size 0.
 *
 * It is written *before* a running guest goes on in a new layer. If that then does not happen, the empty
 * layer lies over what the guest writes to, and changes nothing. Files that nobody refers to are removed when
 * the guest's layers are changed the next time.
 */
#ifndef HOSTEL_CLI_LAYERS_H
#define HOSTEL_CLI_LAYERS_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/named.h"
#include "control/guest_options.h"

/* All of it; of a guest without layers, empty. Owned by the caller; NULL with *error when it is damaged. */
json_t *layers_load(const struct named *guest, GError **error);
/* Durable when it returns true. */
bool layers_store(const struct named *guest, const json_t *layers, GError **error);
/* Removes files of layers and snapshots that are not in it. */
void layers_sweep(const struct named *guest, const json_t *layers);

/* {"disks", "sizes"}: what the disks are at the moment at which they had these layers (fewer rows than there
 * are disks when the last had none yet). Copies; owned by the caller. */
json_t *layers_moment(const json_t *disks, const json_t *sizes);

/* Forgets a snapshot: those below get its parent. */
void layers_forget(json_t *layers, const char *snapshot);

/* The path of a layer's file, of a snapshot's; owned by the caller. */
char *layers_path(const struct named *guest, const char *file);
char *layers_snapshot_path(const struct named *guest, const char *snapshot);

/* The row of the disk with that image, which comes into being. It is the same one for all snapshots, whatever
 * other disks have come and gone. */
size_t layers_row(const struct named *guest, json_t *layers, const char *image);
/* Has the guest, as it is, layers over that image? And the name of a snapshot that has the disk, or NULL. */
bool layers_has_changes(const struct named *guest, const json_t *layers, const char *image);
const char *layers_over(const struct named *guest, const json_t *layers, const char *image);
/* The guest, as it is, has the disk no more. False: nothing has changed. */
bool layers_drop(const struct named *guest, json_t *layers, const char *image);
/* Notes that the guest's definition is about to lose the disk: once it has, layers_load() drops it. */
void layers_note_loss(json_t *layers, const char *image);

/* Adds an empty layer of that size to disk i: its file exists when this returns true. */
bool layers_push(const struct named *guest, json_t *layers, size_t i, uint64_t size, GError **error);
/* The path of what the layers of disk i lie over; NULL = not known. Owned by the caller. */
char *layers_image(const struct named *guest, const json_t *layers, size_t i);
/* The last one's file; NULL = disk i has none. */
const char *layers_top(const json_t *layers, size_t i);

/* Gives options what the guest's disks have become. */
bool layers_apply(const struct named *guest, struct guest_options *options, GError **error);

/* A guest's layers may be changed: by us alone, until it is closed. Another one is waited for a moment. -1
 * with *error. */
int layers_lock(const struct named *guest, GError **error);
/* They stay as they are until it is closed; waits for whoever changes them. */
int layers_lock_shared(const struct named *guest, GError **error);

#endif
