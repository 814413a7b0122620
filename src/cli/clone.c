/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel clone` and `hostel run --from`: new guests that go on from a moment of another. */
/*
 * Theory of operation
 *
 * A clone's folder has the files of the other guest as links, its layers too, and an empty layer of its own
 * over each disk; its memory is mapped from the file of the moment. So it takes room for what it changes, and
 * nothing else.
 *
 * The moment is a snapshot, or is made for this: then its file goes when all clones run, and only their
 * mappings keep it. The other guest has gone on in new layers, as after a snapshot.
 *
 * What must not be twice is left out of a clone's options: addresses of its cards, ports of the host.
 */
#include "cli/clone.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/devices.h"
#include "cli/freeze.h"
#include "cli/guest.h"
#include "cli/guest_run.h"
#include "cli/guest_saved.h"
#include "cli/inside.h"
#include "cli/layers.h"
#include "cli/merge_job.h"
#include "cli/stop.h"
#include "cli/thin.h"
#include "cli/words.h"
#include "os/fd.h"

enum { CLONES_MAX = 1000 };

/* Where clones begin. */
struct origin {
    const struct named *guest;
    const json_t *disks, *sizes; /* their layers; sizes of all disks */
    const json_t *images;        /* that those lie over */
    const json_t *devices;       /* that the guest had; NULL = those of its definition */
    const char *state;           /* path of the file of the moment */
};

/* --- a new guest --- */

/* Without the keys that belong to one guest alone. */
static char *without_identity(const char *word)
{
    static const char net[] = "--net=";
    if (!g_str_has_prefix(word, net))
        return g_strdup(word);
    g_autoptr(GRegex) own = g_regex_new("(^|,)(mac|forward)=([^,]|,,)*", 0, 0, NULL);
    g_autofree char *keys = g_regex_replace_literal(own, word + strlen(net), -1, 0, "", 0, NULL);
    return g_strconcat(net, *keys == ',' ? keys + 1 : keys, NULL);
}

static void drop_identity(struct named *to, const char *group)
{
    g_autoptr(GPtrArray) words = words_load(to->definition, group);
    g_autoptr(GPtrArray) own = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; i < words->len; i++)
        g_ptr_array_add(own, without_identity(words->pdata[i]));
    words_store(to->definition, group, own);
}

/* The other guest's, with the devices that it had at that moment. */
static bool copy_definition(const struct origin *o, struct named *to, GError **error)
{
    g_autofree char *text = g_key_file_to_data(o->guest->definition, NULL, NULL);
    g_autofree char *system = guest_system(o->guest);
    if (!g_key_file_load_from_data(to->definition, text, (gsize)-1, G_KEY_FILE_NONE, error))
        return false;
    guest_mark_new(to, system);
    devices_replace(to, o->devices);
    drop_identity(to, "run");
    drop_identity(to, "last");
    return true;
}

/* The files that make a guest of some systems, beside those that tell of its life. */
static bool share_files(const struct named *from, const struct named *to, GError **error)
{
    static const char *const own[] = {"definition", "layers.json", "saved", "layers", "snapshots", NULL};
    g_autoptr(GDir) dir = g_dir_open(from->folder, 0, error);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *here = named_path(from, name), *there = named_path(to, name);
        if (*name == '.' || g_strv_contains(own, name) || g_str_has_prefix(name, "log") ||
            g_str_has_prefix(name, "console.log"))
            continue;
        if (!thin_share(here, there, error))
            return false;
    }
    return dir != NULL;
}

static bool share_layers(const struct origin *o, const struct named *to, GError **error)
{
    g_autofree char *folder = named_path(to, "layers");
    size_t i, k;
    json_t *disk, *file;
    if (g_mkdir_with_parents(folder, 0700))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be made: %s", folder, g_strerror(errno));
    json_array_foreach(o->disks, i, disk)
    {
        json_array_foreach(disk, k, file)
        {
            g_autofree char *here = layers_path(o->guest, json_string_value(file));
            g_autofree char *there = layers_path(to, json_string_value(file));
            if (!thin_share(here, there, error))
                return false;
        }
    }
    return true;
}

/* A layer of its own over each disk that is written. */
static bool add_layers(const struct origin *o, const struct named *to, GError **error)
{
    json_t *layers = layers_load(to, error);
    if (!layers)
        return false;
    json_object_update_new(layers, layers_moment(o->disks, o->sizes));
    json_object_set_new(layers, "images", json_deep_copy(o->images));
    bool good = true;
    for (size_t i = 0; good && i < json_array_size(o->sizes); i++) {
        const json_int_t size = json_integer_value(json_array_get(o->sizes, i));
        good = size <= 0 || layers_push(to, layers, i, (uint64_t)size, error);
    }
    good = good && layers_store(to, layers, error);
    json_decref(layers);
    return good;
}

/* Fills and keeps a guest that is not there yet. */
static bool make_clone(const struct origin *o, struct named *to, GError **error)
{
    if (to->made)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a guest '%s' already; choose another name",
                           to->name);
    return copy_definition(o, to, error) && share_files(o->guest, to, error) && share_layers(o, to, error) &&
           add_layers(o, to, error) && guest_saved_link(to, o->state, error) && named_keep(to, error);
}

/* --- clone --- */

static char *clone_name(const char *name, unsigned i, unsigned count)
{
    return count == 1 ? g_strdup(name) : g_strdup_printf("%s-%u", name, i + 1);
}

static int start_clones(const struct origin *o, const char *name, unsigned count)
{
    GError *error = NULL;
    for (unsigned i = 0; i < count; i++) {
        g_autofree char *own = clone_name(name, i, count);
        AUTO(named) to = named_open(own, &error);
        if (!to || !make_clone(o, to, &error))
            return cli_fail(error);
        const int code = guest_run_again(STEAL(to), NULL, false);
        if (code)
            return code;
    }
    return CLI_OK;
}

/* Before anything is done: is every name free? */
static bool check_names(const char *name, unsigned count, GError **error)
{
    if (!count || count > CLONES_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--count %u: must be 1 to %d", count, CLONES_MAX);
    for (unsigned i = 0; i < count; i++) {
        g_autofree char *own = clone_name(name, i, count);
        if (!named_is_valid(own))
            return hostel_fail(
                error, HOSTEL_ERROR_USAGE,
                "'%.80s' is no name for a guest: letters, digits, '.', '_' and '-', at most 63", own);
        if (named_exists(own))
            return hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "there is a guest '%s' already; choose another name", own);
    }
    return true;
}

/* The guest's moment is in the file: what is below its new layers is as it was then. */
static int clone_moment(const struct named *guest, const json_t *disks, const json_t *layers,
                        const char *state, const struct cli_args *args)
{
    const struct origin origin = {.guest = guest,
                                  .disks = disks,
                                  .sizes = json_object_get(layers, "sizes"),
                                  .images = json_object_get(layers, "images"),
                                  .state = state};
    const int code = start_clones(&origin, args->names[1], args->count);
    unlink(state);
    return code;
}

int cli_clone(char **argv)
{
    GError *error = NULL;
    AUTO_ARGS args = {.count = 1};
    AUTO_STATE state = {0};
    int code;
    bool roused = false;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    const char *name = args.names[0];
    AUTO(named) guest = NULL;
    if (check_names(args.names[1], args.count, &error))
        guest = freeze_rouse(name, &state, &roused, &error);
    AUTO_FD lock = guest ? layers_lock(guest, &error) : -1;
    json_t *layers = lock >= 0 ? layers_load(guest, &error) : NULL;
    AUTO(guest_call) call = layers ? guest_call_open(name, GUEST_CALL_MS, &error) : NULL;
    g_autofree char *file = g_strdup_printf(".clone-%08x", g_random_int());
    g_autofree char *path = guest ? named_path(guest, file) : NULL;
    const bool known = call && merge_job_settle(guest, call, layers, &error);
    json_t *disks = known ? json_deep_copy(json_object_get(layers, "disks")) : NULL;
    const bool frozen = known && freeze_guest(guest, call, layers, path, &args, &error);
    if (roused)
        freeze_settle(call, &state);
    code = frozen ? clone_moment(guest, disks, layers, path, &args) : cli_stop_code(cli_fail(error));
    json_decref(disks);
    json_decref(layers);
    return code;
}

/* --- run --from --- */

/* "GUEST/SNAPSHOT"; owned, NULL with *error. */
static struct named *find_origin(const char *from, char **snapshot, GError **error)
{
    const char *slash = strchr(from, '/');
    if (!slash || slash == from || !slash[1]) {
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "--from %s: must be GUEST/SNAPSHOT; 'hostel snapshot list GUEST' lists them", from);
        return NULL;
    }
    g_autofree char *name = g_strndup(from, (size_t)(slash - from));
    *snapshot = g_strdup(slash + 1);
    return named_exists(name) ? named_look(name, error) : (named_fail_unknown(name, error), NULL);
}

int clone_run_from(const struct guest_options *options)
{
    GError *error = NULL;
    g_autofree char *snapshot = NULL, *state = NULL;
    AUTO(named) guest = find_origin(options->from, &snapshot, &error);
    /* Until the new guest is there, and everybody sees what it uses. */
    AUTO_FD lock = guest ? layers_lock_shared(guest, &error) : -1;
    json_t *layers = lock >= 0 ? layers_load(guest, &error) : NULL;
    const json_t *moment = json_object_get(json_object_get(layers, "snapshots"), snapshot);
    int code = CLI_USAGE;
    if (layers && !moment)
        hostel_fail(&error, HOSTEL_ERROR_USAGE,
                    "guest '%s' has no snapshot '%.60s'; 'hostel snapshot list %s' lists them", guest->name,
                    snapshot, guest->name);
    if (inside_is(moment)) {
        hostel_fail(
            &error, HOSTEL_ERROR_USAGE,
            "snapshot '%.60s' is inside the images of guest '%s', which guests cannot share; go back to "
            "it, and clone the guest, or make one without --internal",
            snapshot, guest->name);
        moment = NULL;
    }
    struct named *to = !moment         ? NULL
                       : options->name ? named_open(options->name, &error)
                                       : named_open_new(&error);
    if (to) {
        state = layers_snapshot_path(guest, snapshot);
        const struct origin origin = {.guest = guest,
                                      .disks = json_object_get(moment, "disks"),
                                      .sizes = json_object_get(moment, "sizes"),
                                      .images = json_object_get(layers, "images"),
                                      .devices = json_object_get(moment, "devices"),
                                      .state = state};
        g_autoptr(GPtrArray) more = g_ptr_array_new_with_free_func(g_free);
        if (options->rm || (!options->name && !options->detach)) /* nobody could call it by a name */
            g_ptr_array_add(more, g_strdup("--rm"));
        if (make_clone(&origin, to, &error)) {
            fd_close(&lock);
            code = guest_run_again(to, more, !options->detach);
            to = NULL;
        }
    }
    named_free(to);
    json_decref(layers);
    return error ? cli_fail(error) : code;
}
