/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel snapshot` of those that are inside the images of a guest's disks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/freeze.h"
#include "cli/guest.h"
#include "cli/guest_run.h"
#include "cli/guest_saved.h"
#include "cli/inside.h"
#include "cli/layers.h"
#include "cli/merge_job.h"
#include "cli/snapshot_int.h"

/* Do the disks have the layers now that they had then? */
static bool same_layers(const json_t *a, const json_t *b)
{
    const json_t *left = json_object_get(a, "disks"), *right = json_object_get(b, "disks");
    const size_t most = MAX(json_array_size(left), json_array_size(right));
    for (size_t i = 0; i < most; i++) {
        const json_t *one = json_array_get(left, i), *two = json_array_get(right, i);
        if (json_array_size(one) != json_array_size(two) || (json_array_size(one) && !json_equal(one, two)))
            return false;
    }
    return true;
}

static bool live(const struct moment *m, struct guest_call *call, enum inside_what what, const char *tag,
                 GError **error)
{
    return inside_live(call, m->name, what, tag, progress_form(m->args->progress, m->args->quiet), error);
}

/* --- create --- */

/* name: it begins; NULL: it has ended. */
static bool note_taking(const struct named *guest, const struct moment *m, const char *name, GError **error)
{
    if (name)
        json_object_set_new(m->layers, "taking", json_string(name));
    else
        json_object_del(m->layers, "taking");
    return layers_store(guest, m->layers, error);
}

/* What was killed while it took one may have left it in some of the images. call NULL: of one that is off. */
static bool remove_torn(const struct moment *m, const struct named *guest, const struct guest_state *state,
                        struct guest_call *call, GError **error)
{
    const char *name = json_string_value(json_object_get(m->layers, "taking"));
    json_t *found = name ? inside_found(guest, m->layers, state) : NULL;
    const bool whole = !name || json_object_get(found, name);
    json_decref(found);
    return whole || (call ? live(m, call, INSIDE_DELETE, name, error)
                          : inside_remove(guest, m->layers, m->layers, name, error));
}

/* call NULL: of one that is off. */
static bool take(const struct moment *m, const struct named *guest, const struct guest_state *state,
                 struct guest_call *call, const char *name, GError **error)
{
    if (!remove_torn(m, guest, state, call, error) || !note_taking(guest, m, name, error))
        return false;
    if (!call)
        return inside_take(guest, m->layers, name, error);
    const bool taken = live(m, call, INSIDE_SAVE, name, error);
    if (!taken && guest_call_do(call, "query-status", NULL, NULL)) /* so it has undone it */
        note_taking(guest, m, NULL, NULL);
    return taken;
}

/* Of one that lives, or is saved; bytes of its state in *memory. */
static bool create_live(struct moment *m, const char *name, json_int_t *memory, GError **error)
{
    AUTO_STATE state = {0};
    bool roused;
    AUTO(named) guest = freeze_rouse(m->name, &state, &roused, error);
    AUTO(guest_call) call = guest ? guest_call_open(m->name, GUEST_CALL_MS, error) : NULL;
    const bool taken =
        call && merge_job_settle(guest, call, m->layers, error) && take(m, guest, &state, call, name, error);
    json_t *found = taken ? inside_found(guest, m->layers, &state) : NULL;
    *memory = json_integer_value(json_object_get(json_object_get(found, name), "memory"));
    json_decref(found);
    if (guest && roused)
        freeze_settle(call, &state);
    return taken;
}

static bool create_off(struct moment *m, const char *name, GError **error)
{
    const struct guest_state off = {0};
    AUTO(named) guest = named_open_made(m->name, error);
    return guest && !inside_is_torn(guest, m->layers, error) && take(m, guest, &off, NULL, name, error);
}

bool snapshot_inside_create(struct moment *m, const char *name, GError **error)
{
    AUTO_STATE state = {0};
    AUTO(named) guest = guest_find(m->name, &state, error) ? named_look(m->name, error) : NULL;
    json_int_t memory = 0;
    if (!guest)
        return false;
    const bool taken = state.live || guest_saved_exists(m->name) ? create_live(m, name, &memory, error)
                                                                 : create_off(m, name, error);
    if (!taken)
        return false;
    json_object_del(m->layers, "taking");
    json_t *moment = snapshot_note(m, guest, name, json_object_get(m->layers, "disks"));
    json_object_set_new(moment, "kind", json_string("internal"));
    json_object_set_new(moment, "memory", json_integer(memory));
    if (!layers_store(guest, m->layers, error))
        return false;
    printf("%s\n", name);
    return true;
}

/* --- revert --- */

/* What is written where notes are replaced as a whole: going back begins (by us: off), or has ended. */
static bool note_reverting(const struct named *guest, const struct moment *m, bool off, GError **error)
{
    json_object_set_new(m->layers, "reverting", json_pack("{s:s,s:b}", "to", m->snapshot, "off", off));
    return layers_store(guest, m->layers, error);
}

static bool note_reverted(const struct named *guest, const struct moment *m, bool done, GError **error)
{
    json_object_del(m->layers, "reverting");
    if (done)
        json_object_set_new(m->layers, "current", json_string(m->snapshot));
    return layers_store(guest, m->layers, error);
}

/* The guest, which nobody runs, has its disks as they were then. What it was saved as does not fit them. */
static bool disks_back(const struct moment *m, GError **error)
{
    AUTO(named) guest = named_open_made(m->name, error);
    g_autofree char *saved = guest ? guest_saved_path(guest) : NULL;
    if (!guest || !note_reverting(guest, m, true, error))
        return false;
    if (saved)
        unlink(saved);
    return inside_apply(guest, m->layers, m->snapshot, error) && note_reverted(guest, m, true, error);
}

/* A guest that lives goes back, and on if it ran. *unsure: its disks may be there, and not the guest. */
static bool load_live(const struct named *guest, const struct moment *m, struct guest_call *call,
                      bool *unsure, GError **error)
{
    GError *failure = NULL;
    *unsure = false;
    if (!note_reverting(guest, m, false, error))
        return false;
    const bool loaded = live(m, call, INSIDE_LOAD, m->snapshot, &failure);
    if (failure)
        g_propagate_error(error, failure);
    /* As long as it answers, and goes on, its disks are all at the snapshot, or all not. */
    *unsure = !loaded && !guest_call_do(call, "query-status", NULL, NULL);
    return !*unsure && note_reverted(guest, m, loaded, loaded ? error : NULL) && loaded;
}

/* It stands at the snapshot: into its own file, and off. */
static bool put_away(const struct named *guest, struct guest_call *call, const struct guest_state *state,
                     GError **error)
{
    g_autofree char *path = named_path(guest, "saved");
    const struct guest_save_how how = {
        .path = path, .about = guest_about(guest), .progress = progress_form(NULL, true)};
    const bool saved = guest_save_to(call, guest->name, &how, error);
    json_decref(how.about);
    if (saved)
        freeze_settle(call, state);
    return saved;
}

/* What it was saved as must never be beside disks that it does not fit. */
static bool load_saved(const struct named *guest, const struct moment *m, struct guest_call *call,
                       GError **error)
{
    g_autofree char *saved = guest_saved_path(guest), *aside = named_path(guest, ".saved.before");
    bool unsure;
    if (saved && rename(saved, aside))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be renamed: %s", saved, g_strerror(errno));
    const bool loaded = load_live(guest, m, call, &unsure, error);
    if (saved && loaded)
        unlink(aside);
    else if (saved && unsure)
        g_prefix_error(error, "what the guest was saved as is kept in %s: ", aside);
    else if (saved)
        (void)rename(aside, saved);
    return loaded;
}

/* Let go, or not, as is asked for. */
static bool settle(const struct named *guest, const struct moment *m, struct guest_call *call, bool was_live,
                   const struct guest_state *state, GError **error)
{
    if (m->args->no_start)
        return put_away(guest, call, state, error);
    if (was_live)
        return true;
    if (!guest_call_do(call, "cont", NULL, error))
        return false;
    guest_await_status(m->name, "running");
    return true;
}

static bool back_with_memory(const struct moment *m, const struct guest_state *before, GError **error)
{
    AUTO_STATE state = {0};
    bool roused;
    AUTO(named) guest = freeze_rouse(m->name, &state, &roused, error);
    AUTO(guest_call) call = guest ? guest_call_open(m->name, GUEST_CALL_MS, error) : NULL;
    const bool stands = before->live && m->args->no_start && !g_strcmp0(before->status, "running");
    bool loaded = call && (!stands || guest_call_do(call, "stop", NULL, error));
    loaded = loaded && load_saved(guest, m, call, error);
    if (loaded)
        return settle(guest, m, call, before->live, &state, error);
    if (call && stands)
        guest_call_do(call, "cont", NULL, NULL);
    if (guest && roused)
        freeze_settle(call, &state);
    return false;
}

static bool back_without_memory(const struct moment *m, const struct guest_state *before, GError **error)
{
    if (before->live && !guest_kill(m->name, error))
        return false;
    if (!disks_back(m, error))
        return false;
    if (m->args->no_start)
        return true;
    struct named *guest = named_open_made(m->name, error);
    return guest && (guest_run_again(guest, NULL, m->args->attach) == CLI_OK ||
                     hostel_fail(error, HOSTEL_ERROR_HOST,
                                 "guest '%s' is at the snapshot, and could not be started", m->name));
}

bool snapshot_inside_revert(struct moment *m, json_t *snapshot, struct guest_state *state, GError **error)
{
    const bool memory = json_integer_value(json_object_get(snapshot, "memory")) > 0;
    AUTO(named) guest = named_look(m->name, error);
    if (!guest)
        return false;
    if (!same_layers(snapshot, m->layers))
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "snapshot '%s' is inside images that others lie over since a snapshot or a clone was "
            "made, and need as they are; guest '%s' cannot go back to it any more ('hostel image "
            "snapshot' and 'hostel image convert -l' can read it)",
            m->snapshot, m->name);
    if (m->args->attach)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "--attach: a guest goes back to a snapshot inside its images in the background; "
                           "'hostel console %s' attaches to it",
                           m->name);
    const bool torn = !state->live && inside_is_torn(guest, m->layers, NULL);
    if (torn && !disks_back(m, error))
        return false;
    if (!memory)
        return back_without_memory(m, state, error);
    return back_with_memory(m, state, error);
}

/* --- delete --- */

bool snapshot_inside_delete(struct moment *m, const json_t *snapshot, GError **error)
{
    AUTO_STATE state = {0};
    if (!guest_find(m->name, &state, error))
        return false;
    if (!state.live) {
        AUTO(named) guest = named_open_made(m->name, error);
        return guest && !inside_is_torn(guest, m->layers, error) && /* which may need this one */
               inside_remove(guest, m->layers, snapshot, m->snapshot, error);
    }
    if (!same_layers(snapshot, m->layers))
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "snapshot '%s' is inside images that others lie over, which the guest uses; stop it "
            "first",
            m->snapshot);
    AUTO(guest_call) call = guest_call_open(m->name, GUEST_CALL_MS, error);
    return call && live(m, call, INSIDE_DELETE, m->snapshot, error);
}
