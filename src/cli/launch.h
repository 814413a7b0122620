/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* From the options of a guest to a VMM that runs: files opened, sockets made, process started. */
#ifndef HOSTEL_CLI_LAUNCH_H
#define HOSTEL_CLI_LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>

#include "control/guest_options.h"

/* Processes beside a VMM: its networks'. */
enum { LAUNCH_HELPERS_MAX = 32 };

/* Our ends of what connects us with a VMM; -1 = not there. */
struct vmm_process {
    pid_t pid;
    int console; /* stream socket, non-blocking */
    int control; /* stream socket that speaks QMP */
    int errors;  /* reads its standard error, and its helpers' */
    pid_t helpers[LAUNCH_HELPERS_MAX];
    unsigned helper_count;
};

/* The path of a helper program: from an environment's variable, beside this program, or where it was
 * installed. Owned; NULL with *error. */
char *launch_find_helper(const char *name, const char *variable, GError **error);

/* That of hostel-vmm (HOSTEL_VMM). */
char *launch_find_vmm(GError **error);

/* Opens the file that an option names for reading. True also without a name. */
bool launch_open_input(const char *option, struct option_file *file, GError **error);

/* Opens what the options name and starts a VMM, which ends with us. The descriptors in options are closed by
 * guest_options_fini(). */
bool launch_vmm(struct guest_options *options, struct vmm_process *out, GError **error);

#endif
