/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What several commands tell of a guest without asking anybody. */
#ifndef HOSTEL_CLI_PS_H
#define HOSTEL_CLI_PS_H

#include <jansson.h>
#include <stdint.h>

#include "cli/guest_state.h"

/* What is known of its state; owned by the caller. */
json_t *ps_json(const char *name, const struct guest_state *s);

/* Bytes of the host's storage that the guest's own files take; what it shares with others is left out. */
uint64_t ps_storage(const char *name);

#endif
