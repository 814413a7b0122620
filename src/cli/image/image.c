/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image`: the table of its subcommands, and what all of them use. */
#include "cli/image/image.h"

#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "block/module.h"
#include "cli/cli.h"
#include "os/process.h"
#include "os/sandbox.h"

#define IMAGE_COMMAND(name) extern const struct image_command image_command_##name;
#include "cli/image/commands.def"
#undef IMAGE_COMMAND

const struct image_command *const image_commands[] = {
#define IMAGE_COMMAND(name) &image_command_##name,
#include "cli/image/commands.def"
#undef IMAGE_COMMAND
    NULL,
};

/* --- messages --- */

/* Who we are and with which password stands between "://" and the last '@' before the path. */
char *image_shown(const char *text)
{
    GString *shown = g_string_new(NULL);
    for (const char *mark; (mark = strstr(text, "://"));) {
        const char *host = mark + 3;
        const size_t length = strcspn(host, "/ \t\r\n");
        const char *at = memrchr(host, '@', length);
        g_string_append_len(shown, text, host - text);
        text = at ? at + 1 : host;
    }
    g_string_append(shown, text);
    return g_string_free(shown, FALSE);
}

int image_fail(GError *error, int code)
{
    g_autofree char *message = image_shown(error->message);
    log_error(LOG_CLI, "%s", message);
    g_error_free(error);
    return code;
}

void image_say(const struct image_args *args, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (!args->quiet)
        vprintf(format, ap);
    va_end(ap);
}

void image_print_json(json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(4));
    putchar('\n');
    json_decref(json);
}

/* What a parser of images keeps: what is open. */
static const struct sandbox_profile parser = {.files = 64};

bool image_confine(const struct image_args *args, GError **error)
{
    /* What is on servers may need names and keys again. */
    for (unsigned i = 0; i < args->n; i++)
        if (args->image_opts || block_is_uri(args->names[i]))
            return true;
    struct sandbox sandbox;
    tzset(); /* reads a file, for dates */
    return sandbox_enter_as(&sandbox, &parser, error);
}

/* --- the command --- */

int image_run(const struct image_command *command, char **argv)
{
    struct image_args args;
    int code;
    if (image_args_parse(&args, command, argv, &code))
        code = command->run(&args);
    image_args_fini(&args);
    if (cli_stop_code(code) != code)
        return cli_stop_code(code);
    if (fflush(stdout) || ferror(stdout)) {
        log_error(LOG_CLI, "cannot write standard output: %s", g_strerror(errno));
        return code ? code : CLI_FAILURE;
    }
    return code;
}

int image_become(const char *program, struct image_args *args)
{
    g_autofree char *path = process_find_helper(program, X_OK);
    GError *error = NULL;
    if (path)
        execv(path, args->argv);
    hostel_fail(&error, HOSTEL_ERROR_HOST, "cannot start %s: %s; install Hostel again", path ? path : program,
                path ? g_strerror(errno) : "it is neither beside hostel nor in " HOSTEL_LIBEXECDIR);
    return image_fail(error, CLI_FAILURE);
}

static const struct image_command *find(const char *name)
{
    for (unsigned i = 0; image_commands[i]; i++)
        if (!strcmp(image_commands[i]->name, name))
            return image_commands[i];
    return NULL;
}

int cli_image(char **argv)
{
    /* A cluster or a table that is freed goes back to the host, so the next one does not come on top of it.
     */
    mallopt(M_MMAP_THRESHOLD, 32 * 1024);
    const char *name = argv[1];
    if (!name || !strcmp(name, "--help") || !strcmp(name, "-h") || (!strcmp(name, "help") && !argv[2])) {
        image_help();
        return name ? CLI_OK : CLI_FAILURE;
    }
    const bool help = !strcmp(name, "help");
    const struct image_command *command = find(help ? argv[2] : name);
    if (command && !help)
        return image_run(command, argv + 1);
    if (command) {
        image_help_command(command);
        return CLI_OK;
    }
    GError *error = NULL;
    hostel_fail(&error, HOSTEL_ERROR_USAGE, "there is no command 'image %s'; 'hostel image' lists them",
                help ? argv[2] : name);
    return image_fail(error, CLI_FAILURE);
}
