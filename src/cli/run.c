/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel run`: one guest, in the foreground or in the background. */
#include "base/error.h"
#include "cli/cli.h"
#include "cli/clone.h"
#include "cli/debian.h"
#include "cli/guest_run.h"
#include "cli/launch.h"
#include "cli/session.h"

/* A guest without a name is this process's alone, and leaves nothing. Takes options. */
static int run_unnamed(struct guest_options *options)
{
    GError *error = NULL;
    struct vmm_process vmm;
    session_block_signals();
    bool started = launch_vmm(options, &vmm, &error);
    guest_options_fini(options);
    return started ? session_run(&vmm, NULL) : cli_fail(error);
}

int cli_run(char **argv)
{
    GError *error = NULL;
    struct guest_options options;
    if (debian_is_meant(argv[1]))
        return debian_run(argv + 1);
    g_autoptr(GPtrArray) words = words_of(argv + 1);
    g_autofree char **word_argv = words_argv(words);
    guest_options_init(&options);
    const bool good = option_parse(guest_option_rows, OPTION_CLI, word_argv, &options, &error);
    if (good && !options.help && options.from) {
        const int code = clone_run_from(&options);
        guest_options_fini(&options);
        return code;
    }
    if (good && !options.help)
        return options.name || options.detach ? guest_run_new(words, &options) : run_unnamed(&options);
    guest_options_fini(&options);
    if (!good)
        return cli_fail(error);
    cli_help_run();
    return CLI_OK;
}
