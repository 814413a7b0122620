/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Running a guest that has a name, for the first time or again. */
#ifndef HOSTEL_CLI_GUEST_RUN_H
#define HOSTEL_CLI_GUEST_RUN_H

#include <stdbool.h>

#include "cli/named.h"
#include "cli/words.h"
#include "control/guest_options.h"

/* Runs a guest as options say, which words (words_of()) were parsed into; its definition becomes these words.
 * Without a name in options it gets one. Takes options. The exit code as cli.h says. */
int guest_run_new(const GPtrArray *words, struct guest_options *options);

/* In the background, in the foreground, or in the background without a word of success. */
enum guest_run_how { GUEST_RUN_DETACHED, GUEST_RUN_ATTACHED, GUEST_RUN_QUIETLY };

/* Runs a guest that is there from its definition. more:
 * words of this run alone, such as --incoming=FILE, which prevail; NULL = none. Takes the guest, locked. The
 * exit code. */
int guest_run_again(struct named *guest, const GPtrArray *more, enum guest_run_how how);

/* What it runs with when it is run from its definition: owned by the caller. */
GPtrArray *guest_words(const struct named *guest);

/* The paths of its disks' images, in their order: owned by the caller. */
GPtrArray *guest_images(const struct named *guest);

/* What kind of guest is it: "run", "debian"? Owned by the caller. */
char *guest_system(const struct named *guest);

/* Notes in a new guest's definition what kind it is, and when it was made. */
void guest_mark_new(struct named *guest, const char *system);

#endif
