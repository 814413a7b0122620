/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A run of a guest with a name: a supervisor in a process of its own, and the process in front of it. */
#ifndef HOSTEL_CLI_FRONT_H
#define HOSTEL_CLI_FRONT_H

#include <stdbool.h>

#include "cli/named.h"
#include "control/guest_options.h"

struct front_run {
    struct named *guest;           /* taken */
    struct guest_options *options; /* borrowed; parsed, nothing opened */
    bool detach, discard;          /* leave when it is up; remove the guest when it ended */
    bool quiet;                    /* do not print its name when it is up */
    void (*started)(void *opaque); /* called by the supervisor when the VMM's process was started; or NULL */
    void *opaque;
};

/* Runs the guest: to its end, or with detach until it is up. The exit code as cli.h says. */
int front_run(const struct front_run *run);

#endif
