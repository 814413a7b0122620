/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The table of subcommands and the choice among them. */
#include "cli/cli.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"

static const struct cli_option ps_options[] = {
    CLI_OPT('a', "all", NULL, CLI_FLAG, all, "those that do not run, too"),
    CLI_OPT_OUTPUT,
    CLI_OPT_END,
};
static const struct cli_option output_options[] = {CLI_OPT_OUTPUT, CLI_OPT_END};
static const struct cli_option top_options[] = {
    CLI_OPT(0, "once", NULL, CLI_FLAG, once, "print one table and end"),
    CLI_OPT('d', "delay", "SECONDS", CLI_SECONDS, delay, "between two looks, 2 by default"),
    CLI_OPT_OUTPUT,
    CLI_OPT_END,
};
static const struct cli_option start_options[] = {
    CLI_OPT('a', "attach", NULL, CLI_FLAG, attach, "run it in the foreground"),
    CLI_OPT(0, "fresh", NULL, CLI_FLAG, fresh, "boot one that is saved, and forget what was saved"),
    CLI_OPT_END,
};
static const struct cli_option save_options[] = {
    CLI_OPT_COMPRESS("make the file small, by zstd; it goes on a little later from there"),
    CLI_OPT_PROGRESS,
    CLI_OPT_END,
};
static const struct cli_option restore_options[] = {
    CLI_OPT('a', "attach", NULL, CLI_FLAG, attach, "run it in the foreground"),
    CLI_OPT('n', "name", "NAME", CLI_TEXT, name, "of the guest, instead of the one it had"),
    CLI_OPT(0, "new", NULL, CLI_FLAG, make_new, "make the guest, as the file says, when it is not there"),
    CLI_OPT(0, "verify", NULL, CLI_FLAG, verify, "read all of its memory first, and compare checksums"),
    CLI_OPT_END,
};
static const struct cli_option snapshot_options[] = {
    CLI_OPT(0, "internal", NULL, CLI_FLAG, internal,
            "create: inside the images of its disks, all of them qcow2"),
    CLI_OPT('m', "note", "TEXT", CLI_TEXT, note, "create: what is to be remembered of it"),
    CLI_OPT('f', "force", NULL, CLI_FLAG, force, "revert: lose what the guest is now"),
    CLI_OPT(0, "no-start", NULL, CLI_FLAG, no_start, "revert: do not let it go on yet"),
    CLI_OPT('a', "attach", NULL, CLI_FLAG, attach, "revert: run it in the foreground"),
    CLI_OPT_COMPRESS("create: make its file small, by zstd"),
    CLI_OPT('q', "quiet", NULL, CLI_FLAG, quiet, "merge: print errors only"),
    CLI_OPT_PROGRESS,
    CLI_OPT_OUTPUT,
    CLI_OPT_END,
};
static const struct cli_option clone_options[] = {
    CLI_OPT('c', "count", "N", CLI_COUNT, count, "make so many, called NEW-1, NEW-2, and so on"),
    CLI_OPT_PROGRESS,
    CLI_OPT_END,
};
static const struct cli_option plug_options[] = {
    CLI_OPT(0, "disk", "KEYS", CLI_TEXT, disk, "a disk, as of 'hostel run --disk'"),
    CLI_OPT(0, "net", "KEYS", CLI_TEXT, net, "a network card, as of 'hostel run --net'"),
    CLI_OPT_END,
};
static const struct cli_option unplug_options[] = {
    CLI_OPT('t', "timeout", "SECONDS", CLI_SECONDS, timeout,
            "that the guest has to let go of it, 30 by default"),
    CLI_OPT('f', "force", NULL, CLI_FLAG, force, "also a disk whose changes are in layers, which are lost"),
    CLI_OPT_END,
};
static const struct cli_option stop_options[] = {
    CLI_OPT('t', "timeout", "SECONDS", CLI_SECONDS, timeout,
            "that it has before it is killed, 60 by default"),
    CLI_OPT_END,
};
static const struct cli_option logs_options[] = {
    CLI_OPT('c', "console", NULL, CLI_FLAG, console, "what the guest said, not what its process said"),
    CLI_OPT('f', "follow", NULL, CLI_FLAG, follow, "go on until the guest ends"),
    CLI_OPT('n', "lines", "N", CLI_COUNT, lines, "only the last N lines"),
    CLI_OPT_END,
};
static const struct cli_option rm_options[] = {
    CLI_OPT('f', "force", NULL, CLI_FLAG, force, "kill those that run"),
    CLI_OPT_END,
};

enum { ANY = UINT_MAX };

const struct cli_command cli_commands[] = {
    {"run", "[debian] [OPTION]...", "run a guest", cli_run, NULL, 0, 0},
    {"ps", "[OPTION]...", "list the guests that run", cli_ps, ps_options, 0, 0},
    {"info", "[OPTION]... NAME...", "tell everything about guests", cli_info, output_options, 1, ANY},
    {"top", "[OPTION]... [NAME...]", "show what running guests use, again and again", cli_top, top_options, 0,
     ANY},
    {"start", "[OPTION]... NAME...", "run guests again", cli_start, start_options, 1, ANY},
    {"pause", "NAME...", "let guests stand still", cli_pause, NULL, 1, ANY},
    {"resume", "NAME...", "let paused guests go on", cli_resume, NULL, 1, ANY},
    {"reset", "NAME...", "reset guests, as by the button", cli_reset, NULL, 1, ANY},
    {"shutdown", "NAME...", "ask guests to power off", cli_shutdown, NULL, 1, ANY},
    {"stop", "[OPTION]... NAME...", "ask guests to power off, then cut their power", cli_stop, stop_options,
     1, ANY},
    {"kill", "NAME...", "kill guests at once", cli_kill, NULL, 1, ANY},
    {"save", "[OPTION]... NAME [FILE]", "put a guest aside, into a file", cli_save, save_options, 1, 2},
    {"restore", "[OPTION]... NAME|FILE", "let a saved guest go on", cli_restore, restore_options, 1, 1},
    {"dump", "NAME FILE", "write a guest's memory and registers to a file that gdb opens", cli_dump, NULL, 2,
     2},
    {"snapshot", "create|list|revert|delete|merge [OPTION]... NAME [SNAPSHOT]",
     "keep moments of a guest, and go back to them", cli_snapshot, snapshot_options, 2, 3},
    {"clone", "[OPTION]... NAME NEW", "make guests that go on from where one is", cli_clone, clone_options, 2,
     2},
    {"plug", "NAME --disk KEYS|--net KEYS", "give a guest a disk or a network card, also while it runs",
     cli_plug, plug_options, 1, 1},
    {"unplug", "[OPTION]... NAME DEVICE...", "take disks and network cards from a guest, also while it runs",
     cli_unplug, unplug_options, 2, ANY},
    {"wait", "NAME...", "wait for the end of guests", cli_wait, NULL, 1, ANY},
    {"console", "NAME", "attach this terminal to a guest's console", cli_console, NULL, 1, 1},
    {"logs", "[OPTION]... NAME", "print what happened to a guest", cli_logs, logs_options, 1, 1},
    {"rename", "NAME NEW", "give a guest another name", cli_rename, NULL, 2, 2},
    {"set", "NAME KEY=VALUE...", "change what a guest is made of", cli_set, NULL, 2, ANY},
    {"rm", "[OPTION]... NAME...", "remove guests with their disks", cli_rm, rm_options, 1, ANY},
    {"image", "COMMAND [ARGUMENT]...", "make, describe, check, copy and change disk images", cli_image, NULL,
     0, 0},
    {"guests", "[OPTION]...", "the same as ps -a", cli_ps, ps_options, 0, 0},
    {"remove", "[OPTION]... NAME...", "the same as rm", cli_rm, rm_options, 1, ANY},
    {"boards", "", "list the machines there are", cli_list, NULL, 0, 0},
    {"isas", "", "list the instruction sets there are", cli_list, NULL, 0, 0},
    {"methods", "", "list the ways to run guest code there are", cli_list, NULL, 0, 0},
    {"help", "[COMMAND]", "explain Hostel or a command", cli_help, NULL, 0, 0},
    {"version", "", "print the version", cli_version, NULL, 0, 0},
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
