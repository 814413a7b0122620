/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel snapshot`: moments of a guest, memory and disks, to which it can go back. */
#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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
#include "cli/merge.h"
#include "cli/merge_job.h"
#include "cli/snapshot_int.h"
#include "cli/stop.h"
#include "cli/table.h"
#include "os/fd.h"

/* What is noted of it, owned by the caller, or is found of one that somebody else made in the images. */
static json_t *look_for(const struct moment *m, const struct guest_state *state)
{
    json_t *noted = json_object_get(json_object_get(m->layers, "snapshots"), m->snapshot);
    if (noted)
        return json_incref(noted);
    AUTO(named) guest = named_look(m->name, NULL);
    json_t *found = guest ? inside_found(guest, m->layers, state) : NULL;
    json_t *snapshot = json_incref(json_object_get(found, m->snapshot));
    json_decref(found);
    if (!snapshot)
        return NULL;
    json_object_update_new(
        snapshot, layers_moment(json_object_get(m->layers, "disks"), json_object_get(m->layers, "sizes")));
    json_object_set_new(snapshot, "kind", json_string("internal"));
    return snapshot;
}

/* Owned by the caller. */
static json_t *find_snapshot(const struct moment *m, const struct guest_state *state, GError **error)
{
    json_t *found = m->snapshot ? look_for(m, state) : NULL;
    if (found)
        return found;
    if (!m->snapshot)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "which snapshot? 'hostel snapshot list %s' lists them",
                    m->name);
    else
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "guest '%s' has no snapshot '%.60s'; 'hostel snapshot list %s' lists them", m->name,
                    m->snapshot, m->name);
    return NULL;
}

/* --- create --- */

static char *new_name(const json_t *snapshots)
{
    for (unsigned i = (unsigned)json_object_size(snapshots) + 1;; i++) {
        char *name = g_strdup_printf("snapshot-%u", i);
        if (!json_object_get(snapshots, name))
            return name;
        g_free(name);
    }
}

static bool check_new_name(const json_t *snapshots, const char *name, GError **error)
{
    if (!named_is_valid(name))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "'%.80s' is no name for a snapshot: letters, digits, '.', '_' and '-', at most 63",
                           name);
    return !json_object_get(snapshots, name) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a snapshot '%s' already; choose another name",
                       name);
}

json_t *snapshot_note(const struct moment *m, const struct named *guest, const char *name,
                      const json_t *disks)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format_iso8601(now);
    g_autofree char *note = g_utf8_make_valid(m->args->note ? m->args->note : "", -1);
    json_t *moment = layers_moment(disks, json_object_get(m->layers, "sizes"));
    json_object_set(moment, "parent", json_object_get(m->layers, "current"));
    json_object_set_new(moment, "time", json_string(time));
    json_object_set_new(moment, "note", json_string(note));
    json_object_set_new(moment, "devices", devices_json(guest));
    json_object_set_new(json_object_get(m->layers, "snapshots"), name, moment);
    json_object_set_new(m->layers, "current", json_string(name));
    return moment;
}

static bool create_over(struct moment *m, const char *name, GError **error)
{
    AUTO_STATE state = {0};
    bool roused = false;
    AUTO(named) guest = freeze_rouse(m->name, &state, &roused, error);
    if (!guest)
        return false;
    g_autofree char *folder = named_path(guest, "snapshots"), *path = layers_snapshot_path(guest, name);
    AUTO(guest_call) call = NULL;
    if (g_mkdir_with_parents(folder, 0700))
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be made: %s", folder, g_strerror(errno));
    else
        call = guest_call_open(m->name, GUEST_CALL_MS, error);
    const bool known = call && merge_job_settle(guest, call, m->layers, error);
    json_t *disks = json_deep_copy(json_object_get(m->layers, "disks"));
    const bool taken = known && freeze_guest(guest, call, m->layers, path, m->args, error);
    if (roused)
        freeze_settle(call, &state);
    if (taken)
        snapshot_note(m, guest, name, disks);
    json_decref(disks);
    if (!taken || !layers_store(guest, m->layers, error))
        return false;
    layers_sweep(guest, m->layers);
    printf("%s\n", name);
    return true;
}

static bool create(struct moment *m, GError **error)
{
    json_t *snapshots = json_object_get(m->layers, "snapshots");
    g_autofree char *made_up = m->snapshot ? NULL : new_name(snapshots);
    const char *name = made_up ? made_up : m->snapshot;
    if (m->args->internal && m->args->compress)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "--internal and --compress: what is inside an image is as it is; leave one out");
    return check_new_name(snapshots, name, error) &&
           (m->args->internal ? snapshot_inside_create : create_over)(m, name, error);
}

/* --- list --- */

/* Names in the order of the tree, each behind its parent; those whose parent is gone are roots. Borrowed
 * names, with their depths. */
struct branch {
    const char *name;
    unsigned depth;
};

static void add_below(GArray *out, json_t *snapshots, const char *parent, unsigned depth)
{
    const char *name;
    json_t *snapshot;
    json_object_foreach(snapshots, name, snapshot)
    {
        const char *own = json_string_value(json_object_get(snapshot, "parent"));
        const char *known = own && json_object_get(snapshots, own) ? own : NULL;
        if (g_strcmp0(known, parent) != 0 || depth > json_object_size(snapshots))
            continue;
        const struct branch branch = {name, depth};
        g_array_append_val(out, branch);
        add_below(out, snapshots, name, depth + 1);
    }
}

static GArray *tree(json_t *snapshots)
{
    GArray *out = g_array_new(FALSE, FALSE, sizeof(struct branch));
    add_below(out, snapshots, NULL, 0);
    return out;
}

static double bytes_of(const struct named *guest, const char *name, const json_t *snapshot)
{
    g_autofree char *path = layers_snapshot_path(guest, name);
    struct stat status;
    if (inside_is(snapshot))
        return (double)json_integer_value(json_object_get(snapshot, "memory"));
    return stat(path, &status) ? 0 : (double)status.st_blocks * 512;
}

/* Notes of what is only in the images, too, but for this command alone. */
static void add_found(const struct named *guest, const struct moment *m)
{
    AUTO_STATE state = {0};
    guest_state_read(m->name, &state);
    json_t *found = inside_found(guest, m->layers, &state), *row;
    json_t *snapshots = json_object_get(m->layers, "snapshots");
    const char *name;
    json_object_foreach(found, name, row)
    {
        if (json_object_get(snapshots, name))
            continue;
        json_object_set_new(row, "kind", json_string("internal"));
        json_object_set_new(row, "parent", json_null());
        json_object_set_new(row, "note", json_string(""));
        json_object_set(snapshots, name, row);
    }
    json_decref(found);
}

static void list_table(const struct named *guest, const struct moment *m)
{
    static const char *const titles[] = {"SNAPSHOT", "KIND", "PARENT", "TIME", ">MEMORY", "NOTE", NULL};
    struct table *t = table_new(titles);
    json_t *snapshots = json_object_get(m->layers, "snapshots");
    const char *current = json_string_value(json_object_get(m->layers, "current"));
    g_autoptr(GArray) branches = tree(snapshots);
    for (guint i = 0; i < branches->len; i++) {
        const struct branch *branch = &g_array_index(branches, struct branch, i);
        const char *name = branch->name;
        const json_t *snapshot = json_object_get(snapshots, name);
        g_autofree char *memory = table_bytes(bytes_of(guest, name, snapshot));
        g_autofree char *valid = g_strescape(name, NULL);
        g_autofree char *shown = g_strdup_printf("%*s%s%s", (int)(2 * branch->depth), "", valid,
                                                 !g_strcmp0(name, current) ? " *" : "");
        const char *parent = json_string_value(json_object_get(snapshot, "parent"));
        table_add(t, (const char *const[]){shown, inside_is(snapshot) ? "internal" : "external",
                                           parent ? parent : "-",
                                           json_string_value(json_object_get(snapshot, "time")), memory,
                                           json_string_value(json_object_get(snapshot, "note"))});
    }
    table_print(t);
}

static json_t *list_json(const struct named *guest, const struct moment *m)
{
    json_t *out = json_array(), *snapshots = json_object_get(m->layers, "snapshots");
    const char *current = json_string_value(json_object_get(m->layers, "current"));
    g_autoptr(GArray) branches = tree(snapshots);
    for (guint i = 0; i < branches->len; i++) {
        const char *name = g_array_index(branches, struct branch, i).name;
        json_t *snapshot = json_object_get(snapshots, name);
        json_array_append_new(
            out, json_pack("{s:s,s:s,s:O,s:O,s:O,s:f,s:b}", "name", name, "kind",
                           inside_is(snapshot) ? "internal" : "external", "parent",
                           json_object_get(snapshot, "parent"), "time", json_object_get(snapshot, "time"),
                           "note", json_object_get(snapshot, "note"), "memory",
                           bytes_of(guest, name, snapshot), "current", !g_strcmp0(current, name)));
    }
    return out;
}

static void list_names(const struct moment *m)
{
    g_autoptr(GArray) branches = tree(json_object_get(m->layers, "snapshots"));
    for (guint i = 0; i < branches->len; i++) {
        g_autofree char *shown = g_strescape(g_array_index(branches, struct branch, i).name, NULL);
        printf("%s\n", shown); /* one in an image may be called anything */
    }
}

static bool list(struct moment *m, GError **error)
{
    AUTO(named) guest = named_look(m->name, error);
    if (!guest)
        return false;
    add_found(guest, m);
    if (!strcmp(m->args->output, "json")) {
        table_json(list_json(guest, m));
    } else if (!strcmp(m->args->output, "name")) {
        list_names(m);
    } else {
        list_table(guest, m);
    }
    return true;
}

/* --- revert --- */

/* Empty layers over those of the snapshot. */
static bool go_back(const struct named *guest, const struct moment *m, json_t *snapshot, GError **error)
{
    const json_t *sizes = json_object_get(snapshot, "sizes");
    json_object_update_new(m->layers, layers_moment(json_object_get(snapshot, "disks"), sizes));
    json_object_set_new(m->layers, "current", json_string(m->snapshot));
    json_object_del(m->layers, "reverting"); /* in images that are no longer the last */
    for (size_t i = 0; i < json_array_size(sizes); i++) {
        const json_int_t size = json_integer_value(json_array_get(sizes, i));
        if (size > 0 && !layers_push(guest, m->layers, i, (uint64_t)size, error))
            return false;
    }
    return layers_store(guest, m->layers, error);
}

static bool revert_over(struct moment *m, json_t *snapshot, const struct guest_state *state, GError **error)
{
    if (state->live && !guest_kill(m->name, error))
        return false;
    AUTO(named) guest = named_open_made(m->name, error);
    g_autofree char *saved = guest ? guest_saved_path(guest) : NULL;
    if (!guest)
        return false;
    g_autofree char *path = layers_snapshot_path(guest, m->snapshot);
    devices_replace(guest, json_object_get(snapshot, "devices"));
    if (saved)
        unlink(saved);
    if (!go_back(guest, m, snapshot, error) || !named_keep(guest, error) ||
        !guest_saved_link(guest, path, error))
        return false;
    layers_sweep(guest, m->layers);
    return m->args->no_start || guest_run_again(STEAL(guest), NULL, m->args->attach) == CLI_OK ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "guest '%s' is at the snapshot, and could not be started",
                       m->name);
}

static bool revert(struct moment *m, GError **error)
{
    AUTO_STATE state = {0};
    json_t *snapshot = guest_find(m->name, &state, error) ? find_snapshot(m, &state, error) : NULL;
    const bool saved = snapshot && guest_saved_exists(m->name);
    bool good = snapshot != NULL;
    if (good && state.live && !m->args->force)
        good = hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "guest '%s' is %s, and what it is now would be lost; --force does it all the same",
                           m->name, state.status);
    if (good && saved && !m->args->force)
        good =
            hostel_fail(error, HOSTEL_ERROR_USAGE,
                        "guest '%s' is saved, and that would be lost; --force does it all the same", m->name);
    if (good)
        good = inside_is(snapshot) ? snapshot_inside_revert(m, snapshot, &state, error)
                                   : revert_over(m, snapshot, &state, error);
    json_decref(snapshot);
    return good;
}

/* --- delete --- */

static bool delete (struct moment *m, GError **error)
{
    AUTO_STATE state = {0};
    AUTO(named) guest = named_look(m->name, error);
    json_t *snapshot = guest && guest_find(m->name, &state, error) ? find_snapshot(m, &state, error) : NULL;
    if (!snapshot)
        return false;
    const bool gone = !inside_is(snapshot) || snapshot_inside_delete(m, snapshot, error);
    json_decref(snapshot);
    if (!gone || !json_object_get(json_object_get(m->layers, "snapshots"), m->snapshot))
        return gone;
    g_autofree char *path = layers_snapshot_path(guest, m->snapshot);
    layers_forget(m->layers, m->snapshot);
    if (!guest_saved_keep(guest, path, error) || !layers_store(guest, m->layers, error))
        return false;
    layers_sweep(guest, m->layers);
    return true;
}

/* What a snapshot inside a layer does not have itself it reads from those below: fold.h looks after those
 * that are noted. */
static bool check_noted(const struct moment *m, const struct guest_state *state, GError **error)
{
    AUTO(named) guest = named_look(m->name, error);
    json_t *found = guest ? inside_found(guest, m->layers, state) : NULL, *row;
    const char *name;
    bool good = found != NULL;
    json_object_foreach(found, name, row)
    {
        if (good && !json_object_get(json_object_get(m->layers, "snapshots"), name))
            good =
                hostel_fail(error, HOSTEL_ERROR_USAGE,
                            "the images of guest '%s' have a snapshot '%.60s' inside that is not Hostel's; "
                            "'hostel snapshot delete %s NAME' removes it",
                            m->name, name, m->name);
    }
    json_decref(found);
    return good;
}

static bool merge(struct moment *m, GError **error)
{
    AUTO_STATE state = {0};
    if (!guest_find(m->name, &state, error))
        return false;
    json_t *snapshot = m->snapshot ? find_snapshot(m, &state, error) : json_null();
    const bool inside = inside_is(snapshot);
    json_decref(snapshot);
    if (inside)
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "snapshot '%s' is inside images, and has no layers; 'hostel snapshot delete %s %s' "
            "removes it",
            m->snapshot, m->name, m->snapshot);
    return snapshot && check_noted(m, &state, error) &&
           merge_layers(m->args, m->name, m->snapshot, m->layers, error);
}

/* --- the command --- */

static const struct {
    const char *word;
    bool (*act)(struct moment *m, GError **error);
    bool changes;
} actions[] = {
    {"create", create, true}, {"list", list, false},  {"revert", revert, true},
    {"delete", delete, true}, {"merge", merge, true},
};

static bool act(struct moment *m, unsigned i, GError **error)
{
    AUTO(named) guest = named_look(m->name, error);
    if (!guest)
        return false;
    AUTO_FD lock = actions[i].changes ? layers_lock(guest, error) : -1;
    if (actions[i].changes && lock < 0)
        return false;
    m->layers = layers_load(guest, error);
    const bool good = m->layers && actions[i].act(m, error);
    json_decref(m->layers);
    return good;
}

int cli_snapshot(char **argv)
{
    GError *error = NULL;
    AUTO_ARGS args = {.output = "table"};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    struct moment m = {.args = &args, .name = args.names[1], .snapshot = args.names[2]};
    for (unsigned i = 0; i < G_N_ELEMENTS(actions); i++)
        if (!strcmp(actions[i].word, args.names[0]))
            return act(&m, i, &error) ? CLI_OK : cli_stop_code(cli_fail(error));
    hostel_fail(&error, HOSTEL_ERROR_USAGE, "snapshot '%s': must be create, list, revert, delete or merge",
                args.names[0]);
    return cli_fail(error);
}
