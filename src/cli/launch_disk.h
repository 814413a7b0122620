/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Opens the files of a guest's disks. */
#ifndef HOSTEL_CLI_LAUNCH_DISK_H
#define HOSTEL_CLI_LAUNCH_DISK_H

#include "control/guest_options.h"

/* Opens the files of disk i (from 0): its image, its base, its key, and as far as follow= allows what the
 * image refers to, as items of disk_files. */
bool launch_disk(struct guest_options *options, unsigned i, GError **error);

#endif
