/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel boards` and its like: the VMM knows what it was built with, so it is the one to say. */
#include <unistd.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/launch.h"

int cli_list(char **argv)
{
    GError *error = NULL;
    g_autofree char *path = launch_find_vmm(&error);
    if (path && argv[1]) {
        hostel_fail(&error, HOSTEL_ERROR_USAGE, "unexpected argument '%s'; 'hostel %s' takes none", argv[1],
                    argv[0]);
    } else if (path) {
        execl(path, "hostel-vmm", "--list", argv[0], (char *)NULL);
        hostel_fail(&error, HOSTEL_ERROR_HOST, "cannot start %s: %s", path, g_strerror(errno));
    }
    return cli_fail(error);
}
