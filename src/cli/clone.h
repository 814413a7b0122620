/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* New guests that go on from a moment of another. */
#ifndef HOSTEL_CLI_CLONE_H
#define HOSTEL_CLI_CLONE_H

#include "control/guest_options.h"

/* `hostel run --from`: runs a new guest from the snapshot that options name. The exit code. */
int clone_run_from(const struct guest_options *options);

#endif
