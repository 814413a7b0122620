/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Character devices in QMP's words: the streams of a guest, and those that clients make besides. */
/*
 * The guest's console and its channels have streams, which live as long as it does; where they lead can be
 * exchanged. Those that clients make have no chip: they keep what is written to them, or swallow it, until
 * they are removed.
 */
#ifndef HOSTEL_VM_CHARDEVS_H
#define HOSTEL_VM_CHARDEVS_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "console/stream.h"

struct control_fds;
struct vm;

/* Those that clients may make besides. */
enum { VM_CHARDEVS_MAX = 16 };

struct vm_chardev {
    char *id;
    const char *kind; /* the name of its backend, as query-chardev tells it; static */
    struct stream *stream;
    bool in_use; /* by a chip; then the stream is borrowed */
};

/* The console, whose backend is called so, and the channels, which vm has. Main thread, as all below. */
void vm_chardevs_init(struct vm *vm, const char *console_kind);
void vm_chardevs_fini(struct vm *vm);

/* NULL with *error. */
struct vm_chardev *vm_chardev_find(const struct vm *vm, const char *id, GError **error);
/* May one of that name be made? Then vm_chardev_add() makes it, and end is its own. */
bool vm_chardev_may_add(const struct vm *vm, const char *id, GError **error);
void vm_chardev_add(struct vm *vm, const char *id, const char *kind, const struct stream_end *end);
bool vm_chardev_remove(struct vm *vm, const char *id, GError **error);

/* The end that a ChardevBackend describes, the caller's, and the name of its kind, with the descriptors of a
 * client. False with *error: then there is nothing to be closed. */
bool vm_chardev_open(struct control_fds *fds, json_t *backend, struct stream_end *end, const char **kind,
                     GError **error);
/* [ChardevBackendInfo], owned by the caller. */
json_t *vm_chardev_kinds(void);

#endif
