/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The disks and network cards of a guest's definition, each with the name that it has while the guest runs.
 */
/*
 * Theory of operation
 *
 * A definition has a word for each of them, and their order matters: a disk is called disk0 by its place, and
 * a card's address is made from its own. Devices that come and go keep the others what they were. What is
 * added says its name (`id=`), its port and its address itself; when something is taken away, what stood
 * behind it gets its name in writing, and in the place of a card stays a `--net=none` that counts.
 *
 * A guest that runs has the devices of its definition, and what changes one changes the other. What did not
 * come from a definition, by another client's `device_add`, is noticed by devices_agree().
 */
#ifndef HOSTEL_CLI_DEVICES_H
#define HOSTEL_CLI_DEVICES_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/guest_call.h"
#include "cli/named.h"

struct device_row {
    char *id;
    char *what; /* of a disk, its image's path; of a card, what is behind it */
    char *word; /* of the definition; NULL = the guest's system brings it */
    bool net;
    bool named;    /* by the word itself */
    unsigned port; /* 0 = it is in none, and stays while the guest runs */
    uint64_t rate_in, rate_out;
};

/* All of them, disks first, each kind in its order: of struct device_row, owned by the caller. */
GPtrArray *devices_of(const struct named *guest);

/* The one of that name; NULL = there is none. */
const struct device_row *devices_find(const GPtrArray *devices, const char *id);

/* Has the guest that runs these devices, on these images, and no others? False with *error, which says what
 * to do. */
bool devices_agree(const struct named *guest, struct guest_call *call, GError **error);

/* Appends a word, "--disk=..." or "--net=..."; takes a device away. The definition is not kept yet. */
void devices_add(struct named *guest, const char *word);
void devices_remove(struct named *guest, const struct device_row *row);

/* The words of the definition that say which devices there are, to be noted with a moment of the guest; owned
 * by the caller. And back to these; NULL changes nothing. */
json_t *devices_json(const struct named *guest);
void devices_replace(struct named *guest, const json_t *words);

#endif
