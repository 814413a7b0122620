/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest that has a name, as commands see it: is it there, does it run, when does it end. */
/*
 * The parts, for whoever writes another command about guests:
 *
 *   named.h        its folder, definition and lock      guest_run.h   running it from its definition
 *   guest_state.h  where it is in its life              guest_call.h  talking to its process
 */
#ifndef HOSTEL_CLI_GUEST_H
#define HOSTEL_CLI_GUEST_H

#include <glib.h>
#include <stdbool.h>

#include "cli/guest_state.h"

/* Finds the guest and its state. False with *error when there is none; what is in *state is to be freed by
 * guest_state_fini() in any case. */
bool guest_find(const char *name, struct guest_state *state, GError **error);

/* The same; false with *error also when it does not run. */
bool guest_find_live(const char *name, struct guest_state *state, GError **error);

/* Waits until the supervisor of this state has ended, -1 = as long as it takes. False when time was up. */
bool guest_await_end(const struct guest_state *state, int timeout_ms);

/* Waits a moment until the state that everybody sees has become what a command brought about. */
void guest_await_status(const char *name, const char *status);

/* Kills what runs of it, and waits until nothing is left. Nothing happens when it does not run. */
bool guest_kill(const char *name, GError **error);

/* The exit code of its last run, as `hostel run` would have ended; CLI_CRASH when there is none to be told.
 */
int guest_exit_code(const struct guest_state *state);

#endif
