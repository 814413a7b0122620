/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is kept of a run of a guest with a name: its state, its sockets, its journals. The supervisor's side.
 */
#ifndef HOSTEL_CLI_KEEPER_H
#define HOSTEL_CLI_KEEPER_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/attach.h"
#include "cli/guest_state.h"
#include "cli/journal.h"
#include "cli/launch.h"
#include "cli/named.h"
#include "control/guest_options.h"

struct keeper {
    struct named *guest; /* owned, with the lock on its name */
    int folder, runtime; /* open folders */
    struct journal said; /* console.log */
    struct journal log;  /* log: of the VMM and its helpers */
    struct attach attach;
    struct guest_state state; /* as it was noted last */
    char *reason;             /* of the end, in QMP's words; NULL = none was told */
    bool by_guest;
    bool answered; /* the VMM told its status */
    bool up;       /* from here on the guest is one that there is */
    bool paused;   /* it stands until it is told to go on, so what it was saved as is still true */
    bool discard;  /* the guest goes when the run is over */
};

/* Takes the guest, opens what belongs to a run, and notes that it is starting. options gets the socket on
 * which the VMM listens. In any case keeper_end() is to be called. */
bool keeper_begin(struct keeper *k, struct named *guest, struct guest_options *options, bool foreground,
                  GError **error);

/* The VMM's process was started, and its helpers. */
void keeper_started(struct keeper *k, const struct vmm_process *vmm);

/* It answered, so it runs: the guest's definition is kept. */
bool keeper_up(struct keeper *k, GError **error);

/* A message of the VMM: an event, or an answer. True when its status is to be asked for (query-status), the
 * answer to which comes here, too. */
bool keeper_message(struct keeper *k, const json_t *message);

/* What the guest said on its console; what the VMM and its helpers had to say. */
void keeper_console(struct keeper *k, const uint8_t *bytes, size_t size);
void keeper_log(struct keeper *k, const uint8_t *bytes, size_t size);

/* Nobody watches the run from its beginning to its end any more. */
void keeper_detached(struct keeper *k);

/* The run is over. status: as waitpid() gave it; -1 = the VMM was never started. code: how this run ends for
 * whoever started it. Gives up the guest, which is removed when it never came up and was not there before. */
void keeper_end(struct keeper *k, int status, int code);

#endif
