/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What of a guest can be changed by `hostel set`, and how. */
/*
 * Every option of `hostel run` that makes a guest what it is can be set: its word in the guest's definition
 * changes, which counts from the next start on. A row of settings.c adds to that: a way to change the guest
 * while it runs, or a key that is no option, whose value is kept in the group [settings] of the definition.
 */
#ifndef HOSTEL_CLI_SETTINGS_H
#define HOSTEL_CLI_SETTINGS_H

#include <glib.h>
#include <stdbool.h>

#include "cli/guest_call.h"
#include "cli/guest_state.h"
#include "cli/named.h"

/* A guest that runs and is to be changed. */
struct setting_live {
    const char *name;
    const struct guest_state *state;
    struct guest_call *call; /* owned by whoever owns this; NULL until it is needed */
};

struct setting {
    const char *name; /* the key; of an option, the option's name */
    const char *arg, *help;
    /* Is this a value? NULL for an option, whose own check counts. */
    bool (*check)(const char *value, GError **error);
    /* Changes a guest that runs; value NULL = back to the default. NULL = counts from the next start on. */
    bool (*apply)(struct setting_live *live, const char *value, GError **error);
};

/* Changes the definition: value NULL = back to the default. False with *error when there is no such key, or
 * the guest could not be run so. */
bool setting_store(struct named *guest, const char *key, const char *value, GError **error);

/* The row with this key; NULL when there is none, and so no way to change a running guest. */
const struct setting *setting_find(const char *key);

/* The value of a key that is no option, from [settings]; owned by the caller, NULL = not set. */
char *setting_load(const struct named *guest, const char *key);

/* Brings about in a guest that has just started what its [settings] say. Complains of what cannot be. */
void settings_start(const struct named *guest, const struct guest_state *state);

/* The list of keys, on standard output. */
void settings_help(void);

#endif
