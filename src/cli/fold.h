/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Which layers of a guest's disks no moment needs by themselves, and into what each can be merged. */
/*
 * Theory of operation
 *
 * All that the guest and its snapshots have of one disk is a tree: the image at its root, layers above it. A
 * node is needed as it is when a snapshot ends there, or when more than one layer lies over it. Every other
 * node has one layer above it, and readers always see the two together, so they can be one:
 *
 *   image --- a --- b --- c (guest)        nothing ends at a and b:  a and b into c
 *          \_ d ("old")
 *
 *   image --- a --- b ("two") --- c        nothing ends at the image:  a and b into the image, which is then
 *                                          where "two" ends
 *
 * A snapshot inside an image ends there, too, and reads what the image lies over. So such an image stays one,
 * and is not copied into.
 *
 * Upwards, what lies below is copied into the layer above, and nothing else is written: whoever looks sees
 * the same all the time. Down, into the image, is for the image alone, which would else be copied whole. The
 * guest's own layer goes there by itself and last: it is emptied, and must lie over nothing but the image
 * then.
 */
#ifndef HOSTEL_CLI_FOLD_H
#define HOSTEL_CLI_FOLD_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

/* One merge: layers that are one another's neighbours, and are gone afterwards. */
struct fold {
    size_t disk;       /* from 0 */
    const char *into;  /* the layer above them; NULL = the image, below them */
    GPtrArray *gone;   /* of const char *, names of files, the lowest first */
    const char *below; /* the layer that the lowest of them lies over; NULL = the image */
    bool needed;       /* what the last one holds is read without what lies over it, too */
};

/* May this layer, or the disk's image (file NULL), be written to? */
typedef bool fold_may(void *opaque, size_t disk, const char *file);

/* All that is to be done, in that order: those into layers, which can be told in one change of the guest's
 * layers, then those into images, one change each. Of struct fold, with names borrowed from layers. Owned by
 * the caller. */
GPtrArray *fold_plan(const json_t *layers, fold_may *may, void *opaque);

/* Changes layers (a copy of those) to what they are when it is done. */
void fold_apply(const struct fold *f, json_t *layers);

#endif
