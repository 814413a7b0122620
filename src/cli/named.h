/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Guests that have a name: a folder each, with the disk and what is needed to run it again. */
/*
 * Theory of operation
 *
 * $XDG_DATA_HOME/hostel/guests/NAME holds a guest's files and its `definition` (a GKeyFile). The folder is
 * filled under another name and renamed when it is complete, so a guest is there as a whole or not at all.
 * Beside it, .NAME.lock is locked by whoever runs, makes, changes or removes the guest. The lock is the open
 * file's (F_OFD_SETLK): it ends with the last process that has that file open, and whether it is held can be
 * asked without taking it, so that whoever looks is in nobody's way.
 *
 * The definition has these groups:
 *
 *   [guest]  system (`run`, or `debian`), made, and what the system notes
 *   [run]    words: the options of `hostel run`, as `--name=value`, with absolute paths; `hostel set` changes
 *            them
 *   [last]   words: what the last run was given beside them; `hostel start` repeats it
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

/* The same of a guest that is there, else NULL with *error, which says what was probably meant. */
struct named *named_open_made(const char *name, GError **error);

/* The same without reading the definition, which may be damaged: to remove it. */
struct named *named_open_unread(const char *name, GError **error);

/* A guest that is there, to change its definition and named_keep() it, whether it runs or not: what is locked
 * is the definition, for which this waits. A run reads the definition when it begins. */
struct named *named_edit(const char *name, GError **error);

/* A guest that is there, without locking it: to be looked at only. */
struct named *named_look(const char *name, GError **error);

/* A name that no guest has, "guest-1" and so on, locked like named_open(). */
struct named *named_open_new(GError **error);

/* Removes an unfinished folder, gives up the lock. NULL is fine. */
void named_free(struct named *n);
CLEANUP_DEFINE(named, named_free)

/* Forgets the guest without removing anything: another process, which got the lock by fork(), has it. */
void named_leave(struct named *n);

/* The path of one of its files, owned by the caller. */
char *named_path(const struct named *n, const char *file);

/* Writes the definition and gives the folder its name: durable when it returns. */
bool named_keep(struct named *n, GError **error);

/* Gives it another name, which nobody has. */
bool named_rename(struct named *n, const char *name, GError **error);

/* Removes it with all its files. */
bool named_remove(struct named *n, GError **error);

/* The names of all guests, sorted; owned by the caller. */
GStrv named_list(void);

/* Is its lock held: is somebody running, making, changing or removing it? */
bool named_is_busy(const char *name);

/* Is there a guest of that name? */
bool named_exists(const char *name);

/* The folder that all of them are in; owned by the caller. */
char *named_folder(void);

/* Sets *error to say that there is no such guest, and which name was probably meant. False. */
bool named_fail_unknown(const char *name, GError **error);

#endif
