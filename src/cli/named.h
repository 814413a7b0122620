/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Guests that have a name: a folder each, with the disk and what is needed to run it again. */
/*
 * Theory of operation
 *
 * $XDG_DATA_HOME/hostel/guests/NAME holds a guest's files and its `definition` (a GKeyFile). The folder is
 * filled under another name and renamed when it is complete, so a guest is there as a whole or not at all.
 * Beside it, .NAME.lock is locked by whoever runs, makes or removes the guest; the lock ends with that
 * process.
 */
#ifndef HOSTEL_CLI_NAMED_H
#define HOSTEL_CLI_NAMED_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct named {
    char *name;
    char *folder;         /* of its files; while it is being made, not yet the final one */
    GKeyFile *definition; /* has a group [guest] */
    bool made;            /* it was there before, or named_keep() made it so */
    int lock;
};

/* Can a guest be called so? Letters, digits, '.', '_' and '-', the first a letter or digit, at most 63. */
bool named_is_valid(const char *name);

/* Locks the name and finds the guest; when there is none, an empty folder to be filled (made is false). NULL
 * with *error, also when the guest is in use. */
struct named *named_open(const char *name, GError **error);

/* Removes an unfinished folder, gives up the lock. NULL is fine. */
void named_free(struct named *n);
CLEANUP_DEFINE(named, named_free)

/* The path of one of its files, owned by the caller. */
char *named_path(const struct named *n, const char *file);

/* Writes the definition and gives the folder its name. */
bool named_keep(struct named *n, GError **error);

/* Removes it with all its files. */
bool named_remove(struct named *n, GError **error);

/* The names of all guests, sorted; owned by the caller. */
GStrv named_list(void);

/* Is somebody running it? */
bool named_is_busy(const char *name);

#endif
