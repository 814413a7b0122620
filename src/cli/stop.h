/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Long work that is told to stop by a signal, and leaves nothing half done. */
#ifndef HOSTEL_CLI_STOP_H
#define HOSTEL_CLI_STOP_H

#include <stdbool.h>

/* Set by SIGINT, SIGTERM and SIGHUP; of long work that asks for it. */
extern _Atomic bool cli_stopped;

/* From here on a signal is noted and does not end the process by itself, but the second one does. */
void cli_stop_catch(void);

/* The exit code of work that ended with this one: that of the signal, when it failed for that. */
int cli_stop_code(int code);

#endif
