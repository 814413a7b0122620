/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Files of saved guests, as commands make and read them. */
/*
 * Theory of operation
 *
 * A guest whose folder has a `saved` goes on from it when it is run the next time, whoever runs it. `saved`
 * is the file itself (`hostel save NAME`) or a link to it (`hostel save NAME FILE`, `hostel restore FILE`).
 * The supervisor removes it as soon as the guest runs: what is on its disks is later from then on.
 *
 * The file of a saved guest (codec/saved.h) says what guest it is: a section about it in JSON, so that it can
 * be restored where nothing else is known of it.
 */
#ifndef HOSTEL_CLI_GUEST_SAVED_H
#define HOSTEL_CLI_GUEST_SAVED_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/guest_call.h"
#include "cli/named.h"
#include "cli/progress.h"

/* --- of a guest's folder --- */

/* The path of `saved`, owned by the caller; NULL when the guest is not saved. */
char *guest_saved_path(const struct named *guest);
bool guest_saved_exists(const char *name);
/* From the guest's folder, open. */
void guest_saved_forget(int folder);
/* The guest, locked, goes on from the file the next time. False with *error. */
bool guest_saved_link(const struct named *guest, const char *file, GError **error);
/* The file is about to be removed: if the guest is to go on from it, it is made the guest's own. */
bool guest_saved_keep(const struct named *guest, const char *file, GError **error);

/* --- files --- */

/* What is kept in the file about the guest: owned by the caller. */
json_t *guest_about(const struct named *guest);

/* What is kept in a file; NULL with *error when it is no saved guest, or damaged. verify: memory too, which
 * reads all of it. Owned by the caller. */
json_t *guest_about_read(const char *file, bool verify, GError **error);

/* How a guest is saved. */
struct guest_save_how {
    const char *path;            /* of the new file */
    json_t *about;               /* what is kept about the guest */
    json_t *disks;               /* that are to go on in overlays, as x-save has them; NULL = none */
    bool run_on;                 /* the guest goes on behind it */
    bool compress;               /* the file is to be small (codec/packed.h) */
    enum progress_form progress; /* where people see how far it is */
};

/* Has a guest's process write itself into a new file, which has its name and is durable when this returns
 * true; otherwise, also when a signal stopped it (cli_stop_catch() is called), nothing is left and the guest
 * goes on. All of how is borrowed. */
bool guest_save_to(struct guest_call *call, const char *name, const struct guest_save_how *how,
                   GError **error);

#endif
