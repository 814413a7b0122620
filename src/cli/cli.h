/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The command `hostel`: its subcommands and its exit codes. */
#ifndef HOSTEL_CLI_CLI_H
#define HOSTEL_CLI_CLI_H

#include <glib.h>

#include "cli/args.h"

/* What hostel(1) promises. A guest's own failure code is passed on as it is. A negative code says: end by
 * this signal. */
enum {
    CLI_OK = 0,
    CLI_FAILURE = 1, /* the guest could not be started, or what was asked could not be done */
    CLI_USAGE = 2,   /* the command line is wrong */
    CLI_CRASH = 125, /* the guest's process ended by a signal */
};

/* The whole program: argv as main() has it. */
int cli_main(char **argv);

/* Says the error on one line of standard error; the exit code for it. Takes the error. */
int cli_fail(GError *error);

/* Subcommands: argv[0] is the subcommand's name. */
int cli_run(char **argv);
int cli_image(char **argv);
int cli_ps(char **argv);
int cli_info(char **argv);
int cli_top(char **argv);
int cli_start(char **argv);
int cli_pause(char **argv);
int cli_resume(char **argv);
int cli_reset(char **argv);
int cli_shutdown(char **argv);
int cli_stop(char **argv);
int cli_kill(char **argv);
int cli_wait(char **argv);
int cli_save(char **argv);
int cli_restore(char **argv);
int cli_dump(char **argv);
int cli_snapshot(char **argv);
int cli_plug(char **argv);
int cli_unplug(char **argv);
int cli_clone(char **argv);
int cli_console(char **argv);
int cli_logs(char **argv);
int cli_rename(char **argv);
int cli_set(char **argv);
int cli_rm(char **argv);
int cli_list(char **argv);
int cli_help(char **argv);
int cli_version(char **argv);

struct cli_command {
    const char *name;
    const char *synopsis; /* of the arguments */
    const char *help;
    int (*run)(char **argv);

    /* Of those that are read by cli_args_parse(): */
    const struct cli_option *options; /* NULL = none */
    unsigned least, most;             /* names */
};

/* All subcommands, ending with a NULL name. */
extern const struct cli_command cli_commands[];

/* Prints the help of `hostel run`, or of another command, to standard output. */
void cli_help_run(void);
void cli_help_command(const struct cli_command *command);

#endif
