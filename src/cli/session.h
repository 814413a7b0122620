/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest in the foreground: from its start to its end, the terminal and the signals. */
#ifndef HOSTEL_CLI_SESSION_H
#define HOSTEL_CLI_SESSION_H

#include "cli/launch.h"

/* Blocks the signals that a session reads. Before the VMM is started, so that none is missed. */
void session_block_signals(void);

/* Serves the guest until it ends; the exit code as cli.h says. Takes vmm's descriptors. */
int session_run(struct vmm_process *vmm);

#endif
