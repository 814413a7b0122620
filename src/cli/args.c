/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Command lines of the commands about guests. */
#include "cli/args.h"

#include <string.h>

#include "base/error.h"
#include "cli/cli.h"

#define VALUE(type, args, option) ((type *)(void *)((char *)(args) + (option)->offset))

static const struct cli_command *command_of(const char *name)
{
    const struct cli_command *c = cli_commands;
    while (strcmp(c->name, name) != 0)
        c++;
    return c;
}

static bool is_last(const struct cli_option *o)
{
    return !o->letter && !o->name;
}

/* The option that a word begins with; *value: what follows in the same word, or NULL. */
static const struct cli_option *find(const struct cli_option *options, const char *word, const char **value)
{
    *value = NULL;
    for (const struct cli_option *o = options; o && !is_last(o); o++) {
        const size_t length = o->name ? strlen(o->name) : 0;
        if (length && g_str_has_prefix(word, "--") && !strncmp(word + 2, o->name, length) &&
            (!word[2 + length] || word[2 + length] == '=')) {
            *value = word[2 + length] ? word + 3 + length : NULL;
            return o;
        }
        if (o->letter && word[1] == o->letter && (o->arg || !word[2])) {
            *value = word[2] ? word + 2 : NULL;
            return o;
        }
    }
    return NULL;
}

static bool take_number(const char *word, const char *text, bool whole, double *number, GError **error)
{
    char *end;
    *number = g_ascii_strtod(text, &end);
    if (g_ascii_isdigit(*text) && !*end && *number < 1e9 && (!whole || *number == (unsigned)*number))
        return true;
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s %s: must be a %s, 0 or more", word, text,
                       whole ? "whole number" : "number of seconds");
}

static bool take_value(struct cli_args *args, const struct cli_option *o, const char *word, const char *text,
                       GError **error)
{
    double number;
    if (o->choice) {
        g_auto(GStrv) words = g_strsplit(o->choice, "|", -1);
        if (!g_strv_contains((const char *const *)words, text))
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s %s: must be %s", word, text, o->choice);
    }
    switch (o->type) {
    case CLI_FLAG: *VALUE(bool, args, o) = true; return true;
    case CLI_TEXT: *VALUE(const char *, args, o) = text; return true;
    case CLI_COUNT:
        if (!take_number(word, text, true, &number, error))
            return false;
        *VALUE(unsigned, args, o) = (unsigned)number;
        return true;
    case CLI_SECONDS: return take_number(word, text, false, VALUE(double, args, o), error);
    }
    g_assert_not_reached();
}

/* One option, which may take the next word, too; how many words that were, or 0 with *error. */
static unsigned take_option(struct cli_args *args, const struct cli_command *command, char **argv,
                            GError **error)
{
    const char *value, *word = argv[0];
    const struct cli_option *o = find(command->options, word, &value);
    if (!o) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "hostel %s has no option '%s'; 'hostel help %s' lists them",
                    command->name, word, command->name);
        return 0;
    }
    if (!o->arg && value) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "%s takes no argument", word);
        return 0;
    }
    const unsigned words = o->arg && !value ? 2 : 1;
    if (words == 2)
        value = argv[1];
    if (o->arg && !value) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "%s needs an argument: %s %s", word, word, o->arg);
        return 0;
    }
    return take_value(args, o, word, value, error) ? words : 0;
}

static bool check_count(const struct cli_args *args, const struct cli_command *command, GError **error)
{
    if (args->n > command->most && !command->most)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "unexpected argument '%s'; 'hostel %s' takes none",
                           args->names[0], command->name);
    if (args->n > command->most)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "unexpected argument '%s'; 'hostel %s %s'",
                           args->names[command->most], command->name, command->synopsis);
    return args->n >= command->least ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "%s? 'hostel %s %s'; 'hostel ps -a' lists guests",
                       args->n ? "what else" : "which guest", command->name, command->synopsis);
}

bool cli_args_parse(struct cli_args *args, char **argv, int *code)
{
    GError *error = NULL;
    const struct cli_command *command = command_of(argv[0]);
    args->names = g_new0(char *, g_strv_length(argv));
    for (argv++; *argv && !error;) {
        const char *word = *argv;
        if (word[0] != '-' || !word[1]) {
            args->names[args->n++] = *argv++;
            continue;
        }
        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            cli_help_command(command);
            *code = CLI_OK;
            return false;
        }
        argv += take_option(args, command, argv, &error);
    }
    if (!error && check_count(args, command, &error))
        return true;
    *code = cli_fail(error);
    return false;
}

void cli_args_fini(struct cli_args *args)
{
    g_free(args->names);
    args->names = NULL;
}

int cli_for_each(const struct cli_args *args,
                 bool (*act)(const struct cli_args *args, const char *name, GError **error))
{
    int code = CLI_OK;
    for (unsigned i = 0; i < args->n; i++) {
        GError *error = NULL;
        if (!act(args, args->names[i], &error))
            code = cli_fail(error);
    }
    return code;
}
