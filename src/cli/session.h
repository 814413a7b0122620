/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest in the foreground: from its start to its end, the terminal and the signals. */
#ifndef HOSTEL_CLI_SESSION_H
#define HOSTEL_CLI_SESSION_H

#include "cli/keeper.h"
#include "cli/launch.h"

/* Blocks the signals that a session reads. Before the VMM is started, so that none is missed. */
void session_block_signals(void);

/* Of a guest with a name; of one without, all is absent. */
struct session_how {
    struct keeper *keeper; /* is ended with the session */
    int front;             /* socket to the process in front (front_link.h), borrowed; -1 = we are that */
    bool detach;           /* go to the background when the guest is up; there is no terminal */
};

/* Serves the guest until it ends; the exit code as cli.h says. Takes vmm's descriptors. */
int session_run(struct vmm_process *vmm, const struct session_how *how);

#endif
