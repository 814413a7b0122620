/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel run`: one guest in the foreground. */
#include "base/error.h"
#include "cli/cli.h"
#include "cli/debian.h"
#include "cli/launch.h"
#include "cli/session.h"

int cli_run(char **argv)
{
    GError *error = NULL;
    struct guest_options options;
    struct vmm_process vmm;
    if (debian_is_meant(argv[1]))
        return debian_run(argv + 1);
    bool started = false, help = false;
    guest_options_init(&options);
    if (option_parse(guest_option_rows, OPTION_CLI, argv + 1, &options, &error)) {
        help = options.help;
        if (!help) {
            session_block_signals();
            started = launch_vmm(&options, &vmm, &error);
        }
    }
    guest_options_fini(&options);
    if (help) {
        cli_help_run();
        return CLI_OK;
    }
    return started ? session_run(&vmm) : cli_fail(error);
}
