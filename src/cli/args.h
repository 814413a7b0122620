/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Command lines of the commands about guests: names, and options with a letter, a name, or both, in any
 * order. */
#ifndef HOSTEL_CLI_ARGS_H
#define HOSTEL_CLI_ARGS_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

enum cli_option_type {
    CLI_FLAG,    /* bool */
    CLI_TEXT,    /* const char *, borrowed from the command line */
    CLI_COUNT,   /* unsigned: a whole number */
    CLI_SECONDS, /* double: a number of seconds that is not negative */
};

/* One option of a command. A table of them ends with one of neither letter nor name. */
struct cli_option {
    char letter;      /* 0 = only a name */
    const char *name; /* NULL = only a letter */
    const char *arg;  /* what its argument is called; NULL = none */
    const char *help;
    enum cli_option_type type;
    size_t offset;      /* in struct cli_args */
    const char *choice; /* the only words allowed, separated by '|'; NULL = any */
};

/* What all these commands together can be told. */
struct cli_args {
    char **names; /* what is no option; ends with NULL; the array is owned */
    unsigned n;
    bool all, attach, compress, console, follow, force, fresh, internal, make_new, no_start, once, quiet,
        verify;
    const char *output; /* "table" unless told otherwise */
    const char *name, *note, *progress, *disk, *net;
    double timeout, delay;
    unsigned lines, count;
};

#define CLI_AT(member) offsetof(struct cli_args, member)
#define CLI_OPT(letter, name, arg, type, member, help)                                                       \
    {                                                                                                        \
        letter, name, arg, help, type, CLI_AT(member), NULL                                                  \
    }
#define CLI_OPT_OUTPUT                                                                                       \
    {                                                                                                        \
        'o', "output", "FORM", "table, json or name", CLI_TEXT, CLI_AT(output), "table|json|name"            \
    }
#define CLI_OPT_COMPRESS(what) CLI_OPT('z', "compress", NULL, CLI_FLAG, compress, what)
#define CLI_OPT_PROGRESS                                                                                     \
    {                                                                                                        \
        0, "progress", "FORM", "bar, json or none", CLI_TEXT, CLI_AT(progress), "bar|json|none"              \
    }
#define CLI_OPT_END                                                                                          \
    {                                                                                                        \
        0, NULL, NULL, NULL, CLI_FLAG, 0, NULL                                                               \
    }

/* Reads argv, argv[0] being the command, as its row in cli_commands says. False when the command is not to be
 * run: it was wrong, or --help was printed; the exit code is in *code. args is to hold the defaults already.
 * To be freed by cli_args_fini() in any case. */
bool cli_args_parse(struct cli_args *args, char **argv, int *code);
void cli_args_fini(struct cli_args *args);
#define AUTO_ARGS __attribute__((cleanup(cli_args_fini))) struct cli_args

/* Calls act for each name, also when it fails for some, which is said; the exit code of the last failure. */
int cli_for_each(const struct cli_args *args,
                 bool (*act)(const struct cli_args *args, const char *name, GError **error));

#endif
