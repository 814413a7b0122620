/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel snapshot merge`: layers that no moment needs by themselves become one. */
#ifndef HOSTEL_CLI_MERGE_H
#define HOSTEL_CLI_MERGE_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "cli/args.h"

/* Forgets the snapshot (NULL = none) and merges all that can be. The layers' lock is held; layers is what was
 * loaded. False with *error: until the layers have been copied, nothing has changed. */
bool merge_layers(const struct cli_args *args, const char *name, const char *snapshot, const json_t *layers,
                  GError **error);

#endif
