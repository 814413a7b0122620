/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel save` and `hostel restore`: a guest that waits in a file. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/devices.h"
#include "cli/guest.h"
#include "cli/guest_call.h"
#include "cli/guest_run.h"
#include "cli/guest_saved.h"
#include "cli/stop.h"

enum { QUIT_MS = 5000 };

/* --- save --- */

/* The guest stands and is in the file: nothing more of it is needed. */
static bool end_saved(struct guest_call *call, const char *name, const struct guest_state *state,
                      GError **error)
{
    if (guest_call_do(call, "quit", NULL, error) && guest_await_end(state, QUIT_MS))
        return true;
    g_clear_error(error);
    return guest_kill(name, error);
}

static bool save(const struct cli_args *args, GError **error)
{
    const char *name = args->names[0], *file = args->names[1];
    AUTO_STATE state = {0};
    AUTO(named) guest = guest_find_live(name, &state, error) ? named_look(name, error) : NULL;
    AUTO(guest_call) call = guest ? guest_call_open(name, GUEST_CALL_MS, error) : NULL;
    g_autoptr(GError) differs = NULL;
    if (!call)
        return false;
    const bool agree = devices_agree(guest, call, &differs);
    g_autofree char *own = named_path(guest, "saved");
    const struct guest_save_how how = {.path = file ? file : own,
                                       .about = guest_about(guest),
                                       .compress = args->compress,
                                       .progress = progress_form(args->progress, false)};
    const bool saved = guest_save_to(call, name, &how, error);
    json_decref(how.about);
    if (!saved)
        return false;
    if (!agree) /* it may be meant for other options than these */
        log_warn(LOG_CLI, "%s; until then the file fits other options than the guest's", differs->message);
    if (file && !guest_saved_link(guest, file, error)) {
        guest_call_do(call, "cont", NULL, NULL);
        return false;
    }
    return end_saved(call, name, &state, error);
}

int cli_save(char **argv)
{
    GError *error = NULL;
    AUTO_ARGS args = {0};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    return save(&args, &error) ? CLI_OK : cli_stop_code(cli_fail(error));
}

/* --- restore --- */

/* Whoever made the file chose the options, and these name files of this host. */
static bool check_wanted(const struct named *guest, const char *file, const GPtrArray *words, bool wanted,
                         GError **error)
{
    if (wanted)
        return true;
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; i < words->len; i++) {
        g_autofree char *shown = g_strescape(words->pdata[i], NULL);
        g_string_append_printf(text, " %s", shown);
    }
    return hostel_fail(
        error, HOSTEL_ERROR_USAGE,
        "there is no guest '%s'; if %s is from somebody you trust, --new makes it with the options that "
        "stand there:%s",
        guest->name, file, text->str);
}

/* A new guest as the file says. */
static bool make_guest(struct named *guest, const char *file, const json_t *about, bool wanted,
                       GError **error)
{
    const char *system = json_string_value(json_object_get(about, "system"));
    const json_t *list = json_object_get(about, "words");
    if (g_strcmp0(system, "run") != 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "the guest '%s' is not there any more, and its disks were in its folder",
                           guest->name);
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    size_t i;
    json_t *word;
    json_array_foreach(list, i, word)
    {
        if (json_is_string(word) && strncmp(json_string_value(word), "--", 2) == 0)
            g_ptr_array_add(words, g_strdup(json_string_value(word)));
    }
    if (!check_wanted(guest, file, words, wanted, error))
        return false;
    guest_mark_new(guest, "run");
    words_store(guest->definition, "run", words);
    return named_keep(guest, error);
}

/* The guest, locked, ready to be run: it goes on from the file. NULL with *error. */
static struct named *take_file(const struct cli_args *args, GError **error)
{
    const char *file = args->names[0], *name = args->name;
    json_t *about = guest_about_read(file, args->verify, error);
    if (!about)
        return NULL;
    const char *own = json_string_value(json_object_get(about, "name"));
    const char *wanted = name ? name : own ? own : "";
    AUTO(named) guest = NULL;
    if (named_is_valid(wanted))
        guest = named_open(wanted, error);
    else
        hostel_fail(error, HOSTEL_ERROR_USAGE, "'%.40s' is no name of a guest; give one with --name", wanted);
    const bool was_there = guest && guest->made;
    bool good = guest && (was_there || make_guest(guest, file, about, args->make_new, error));
    json_decref(about);
    g_autofree char *saved = good ? guest_saved_path(guest) : NULL;
    if (saved) /* perhaps the same: restoring it failed before */
        unlink(saved);
    good = good && guest_saved_link(guest, file, error);
    return good ? STEAL(guest) : NULL;
}

int cli_restore(char **argv)
{
    GError *error = NULL;
    AUTO_ARGS args = {0};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    const char *file = args.names[0];
    struct named *guest;
    if (named_is_valid(file) && guest_saved_exists(file)) /* a guest's own file, by the guest's name */
        guest = named_open_made(file, &error);
    else
        guest = take_file(&args, &error);
    return guest ? guest_run_again(guest, NULL, args.attach) : cli_fail(error);
}
