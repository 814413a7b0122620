/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Running a guest that has a name. */
#include "cli/guest_run.h"

#include <string.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/debian.h"
#include "cli/front.h"

static const char plain[] = "run";

char *guest_system(const struct named *guest)
{
    char *system = g_key_file_get_string(guest->definition, "guest", "system", NULL);
    return system ? system : g_strdup(plain);
}

void guest_mark_new(struct named *guest, const char *system)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format_iso8601(now);
    g_key_file_set_string(guest->definition, "guest", "system", system);
    g_key_file_set_string(guest->definition, "guest", "made", time);
}

GPtrArray *guest_words(const struct named *guest)
{
    g_autoptr(GPtrArray) run = words_load(guest->definition, "run");
    g_autoptr(GPtrArray) last = words_load(guest->definition, "last");
    return words_merge(run, last);
}

GPtrArray *guest_images(const struct named *guest)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *system = guest_system(guest);
    g_autoptr(GPtrArray) words = guest_words(guest);
    g_autofree char **argv = words_argv(words);
    struct guest_options options;
    if (strcmp(system, plain) != 0) /* its own comes first */
        g_ptr_array_add(out, named_path(guest, "disk"));
    guest_options_init(&options);
    if (option_parse(guest_option_rows, OPTION_CLI, argv, &options, NULL)) {
        const struct disk_options *disks = options.disks.items;
        for (unsigned i = 0; i < options.disks.count; i++)
            g_ptr_array_add(out, g_strdup(disks[i].file.name));
    }
    guest_options_fini(&options);
    return out;
}

/* Is it one whose definition is words alone, or still nothing? */
static bool check_plain(const struct named *guest, GError **error)
{
    g_autofree char *system = guest_system(guest);
    return !guest->made || !strcmp(system, plain) ||
           hostel_fail(
               error, HOSTEL_ERROR_USAGE,
               "guest '%s' is there already, and is not one of 'hostel run' alone (%s); 'hostel start %s' "
               "runs it, or choose another --name",
               guest->name, system, guest->name);
}

int guest_run_new(const GPtrArray *words, struct guest_options *options)
{
    GError *error = NULL;
    AUTO(named) guest = options->name ? named_open(options->name, &error) : named_open_new(&error);
    if (!guest || !check_plain(guest, &error)) {
        guest_options_fini(options);
        return cli_fail(error);
    }
    g_autoptr(GPtrArray) keep = words_to_keep(words);
    if (!guest->made)
        guest_mark_new(guest, plain);
    words_store(guest->definition, "run", keep);
    g_autofree char *name = g_strdup(guest->name);
    options->name = name;
    int code = front_run(&(struct front_run){
        .guest = STEAL(guest), .options = options, .detach = options->detach, .discard = options->rm});
    guest_options_fini(options);
    return code;
}

int guest_run_again(struct named *guest, const GPtrArray *more, enum guest_run_how how)
{
    GError *error = NULL;
    g_autofree char *system = guest_system(guest), *name = g_strdup(guest->name);
    if (!strcmp(system, "debian"))
        return debian_start(guest, more, how);
    struct guest_options options;
    guest_options_init(&options);
    g_autoptr(GPtrArray) own = guest_words(guest);
    g_autoptr(GPtrArray) words = words_merge(own, more);
    g_autofree char **argv = words_argv(words);
    int code;
    if (option_parse(guest_option_rows, OPTION_CLI, argv, &options, &error)) {
        options.name = name;
        code = front_run(&(struct front_run){.guest = guest,
                                             .options = &options,
                                             .detach = how != GUEST_RUN_ATTACHED,
                                             .quiet = how == GUEST_RUN_QUIETLY,
                                             .discard = options.rm});
    } else {
        g_prefix_error(&error, "guest '%s': ", name);
        named_free(guest);
        code = cli_fail(error);
    }
    guest_options_fini(&options);
    return code;
}
