/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The table of subcommands and the choice among them. */
#include "cli/cli.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"

const struct cli_command cli_commands[] = {
    {"run", "[debian] [OPTION]...", "run a guest in the foreground", cli_run},
    {"image", "COMMAND [ARGUMENT]...", "make, describe, check, copy and change disk images", cli_image},
    {"guests", "", "list the guests that have a name", cli_guests},
    {"remove", "NAME...", "remove guests with their disks", cli_remove},
    {"boards", "", "list the machines there are", cli_list},
    {"isas", "", "list the instruction sets there are", cli_list},
    {"methods", "", "list the ways to run guest code there are", cli_list},
    {"help", "[COMMAND]", "explain Hostel or a command", cli_help},
    {"version", "", "print the version", cli_version},
    {0},
};

int cli_fail(GError *error)
{
    log_error(LOG_CLI, "%s", error->message);
    int code = g_error_matches(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE) ? CLI_USAGE : CLI_FAILURE;
    g_error_free(error);
    return code;
}

/* `hostel --help` and the like mean the subcommand. */
static const char *without_dashes(const char *word)
{
    if (!strcmp(word, "-h") || !strcmp(word, "--help"))
        return "help";
    if (!strcmp(word, "-V") || !strcmp(word, "--version"))
        return "version";
    return word;
}

int cli_main(char **argv)
{
    static char help[] = "help", *only_help[] = {help, NULL};
    log_set_program("hostel");
    if (!argv[0] || !argv[1]) {
        cli_help(only_help);
        return CLI_USAGE;
    }
    const char *name = without_dashes(argv[1]);
    for (const struct cli_command *c = cli_commands; c->name; c++)
        if (!strcmp(c->name, name))
            return c->run(argv + 1);
    GError *error = NULL;
    hostel_fail(&error, HOSTEL_ERROR_USAGE, "there is no command '%s'; 'hostel help' lists them", name);
    return cli_fail(error);
}
