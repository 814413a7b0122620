/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Help texts, made from the tables of subcommands and options. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/debian.h"
#include "cli/settings.h"
#include "control/guest_options.h"

/* The keys of a list: "      readonly=on|off ...". */
static void print_keys(const struct option_row *keys)
{
    for (const struct option_row *key = keys; key->name; key++) {
        if (!(key->who & OPTION_CLI))
            continue;
        g_autofree char *left = g_strdup_printf("%s=%s", key->name, key->arg);
        printf("      %-28s %s", left, key->help);
        if (key->value)
            printf(" (default %s)", key->value);
        printf(key->type == OPTION_TEXTS ? "; may be repeated\n" : "\n");
    }
}

/* One row: "  --memory SIZE        guest memory, ... (default 512M)". */
static void print_option(const struct option_row *row)
{
    g_autofree char *left = g_strdup_printf("--%s %s", row->name, row->arg ? row->arg : "");
    printf("  %-32s %s", left, row->help);
    if (row->value)
        printf(" (default %s)", row->value);
    putchar('\n');
    if (row->type == OPTION_LIST)
        print_keys(row->keys);
}

void cli_help_run(void)
{
    printf("Usage: hostel run --isa ISA [OPTION]... --kernel FILE\n"
           "       hostel run debian[:trixie] [OPTION]...\n\n"
           "Runs a guest. Its console is this terminal, where Ctrl-] opens a menu, unless with --detach.\n"
           "The second form makes a Debian guest, or starts the one with that --name again.\n");
    const char *group = "";
    for (const struct option_row *row = guest_option_rows; row->name; row++) {
        if (!(row->who & OPTION_CLI))
            continue;
        if (strcmp(group, row->group) != 0)
            printf("\n%s:\n", row->group);
        group = row->group;
        print_option(row);
    }
    printf("\n%s (debian):\n", debian_option_rows->group);
    for (const struct option_row *row = debian_option_rows; row->name; row++)
        print_option(row);
    printf("\nAreas for --trace:");
    for (unsigned i = 0; i < LOG_AREA_COUNT; i++)
        printf(" %s", log_area_name((enum log_area)i));
    printf("\n");
}

static void print_overview(void)
{
    printf("Usage: hostel COMMAND [ARGUMENT]...\n\nRuns unmodified operating systems as guests of this "
           "host.\n\n");
    for (const struct cli_command *c = cli_commands; c->name; c++)
        printf("  %-10s %s\n", c->name, c->help);
    printf("\n'hostel help run' lists the options of a guest; hostel(1) explains everything.\n");
}

/* "  -o, --output FORM          table, json or name". */
static void print_own_option(const struct cli_option *o)
{
    g_autoptr(GString) left = g_string_new("  ");
    if (o->letter)
        g_string_append_printf(left, "-%c%s", o->letter, o->name ? ", " : "");
    if (o->name)
        g_string_append_printf(left, "--%s", o->name);
    if (o->arg)
        g_string_append_printf(left, " %s", o->arg);
    printf("%-28s %s\n", left->str, o->help);
}

void cli_help_command(const struct cli_command *command)
{
    printf("Usage: hostel %s%s%s\n\nWhat it does: %s.\n", command->name, *command->synopsis ? " " : "",
           command->synopsis, command->help);
    const struct cli_option *o = command->options;
    if (o)
        printf("\nOptions:\n");
    for (; o && (o->letter || o->name); o++)
        print_own_option(o);
    if (command->run == cli_set)
        settings_help();
}

int cli_help(char **argv)
{
    if (!argv[1]) {
        print_overview();
        return CLI_OK;
    }
    if (!strcmp(argv[1], "run")) {
        cli_help_run();
        return CLI_OK;
    }
    if (!strcmp(argv[1], "image")) {
        char help[] = "help", *words[] = {argv[1], help, argv[2], NULL};
        return cli_image(words);
    }
    for (const struct cli_command *c = cli_commands; c->name; c++)
        if (!strcmp(c->name, argv[1])) {
            cli_help_command(c);
            return CLI_OK;
        }
    GError *error = NULL;
    hostel_fail(&error, HOSTEL_ERROR_USAGE, "there is no command '%s'; 'hostel help' lists them", argv[1]);
    return cli_fail(error);
}

int cli_version(char **argv G_GNUC_UNUSED)
{
    printf("hostel " HOSTEL_VERSION "\n");
    return CLI_OK;
}
