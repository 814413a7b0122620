/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel guests` and `hostel remove`: the guests that have a name. */
#include <stdio.h>
#include <sys/stat.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/named.h"

/* MiB of the host's storage that the guest's own files take; what it shares with others is left out. */
static unsigned own_mib(const char *name)
{
    g_autofree char *folder = g_build_filename(g_get_user_data_dir(), "hostel", "guests", name, NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    guint64 bytes = 0;
    for (const char *file; dir && (file = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(folder, file, NULL);
        struct stat status;
        if (!lstat(path, &status) && status.st_nlink == 1)
            bytes += (guint64)status.st_blocks * 512;
    }
    return (unsigned)(bytes >> 20);
}

int cli_guests(char **argv)
{
    GError *error = NULL;
    if (argv[1]) {
        hostel_fail(&error, HOSTEL_ERROR_USAGE, "unexpected argument '%s'; 'hostel guests' takes none",
                    argv[1]);
        return cli_fail(error);
    }
    g_auto(GStrv) names = named_list();
    for (char **name = names; *name; name++)
        printf("%-20s %-8s %6u MiB\n", *name, named_is_busy(*name) ? "in use" : "off", own_mib(*name));
    return CLI_OK;
}

int cli_remove(char **argv)
{
    GError *error = NULL;
    if (!argv[1] || argv[1][0] == '-') {
        hostel_fail(&error, HOSTEL_ERROR_USAGE,
                    "which guest? 'hostel remove NAME...'; 'hostel guests' lists them");
        return cli_fail(error);
    }
    for (argv++; *argv; argv++) {
        AUTO(named) guest = named_open(*argv, &error);
        if (guest && !guest->made)
            hostel_fail(&error, HOSTEL_ERROR_USAGE, "there is no guest '%s'; 'hostel guests' lists them",
                        *argv);
        if (!guest || !guest->made || !named_remove(guest, &error))
            return cli_fail(error);
    }
    return CLI_OK;
}
