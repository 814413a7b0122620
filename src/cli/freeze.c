/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A running guest as it is at one moment. */
#include "cli/freeze.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "block/file.h"
#include "cli/guest.h"
#include "cli/guest_node.h"
#include "cli/guest_run.h"
#include "cli/guest_saved.h"
#include "cli/layers.h"
#include "os/fd.h"

enum { QUIT_MS = 5000 };

static bool run_paused(const char *name, GError **error)
{
    struct named *guest = named_open_made(name, error);
    g_autoptr(GPtrArray) more = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(more, g_strdup("--paused"));
    return guest &&
           (guest_run_again(guest, more, GUEST_RUN_QUIETLY) == 0 ||
            hostel_fail(error, HOSTEL_ERROR_HOST, "guest '%s' cannot be looked at without being run", name));
}

struct named *freeze_rouse(const char *name, struct guest_state *state, bool *roused, GError **error)
{
    *roused = false;
    if (!guest_find(name, state, error))
        return NULL;
    if (!state->live) {
        if (!run_paused(name, error))
            return NULL;
        guest_state_fini(state);
        if (!guest_find_live(name, state, error))
            return NULL;
        *roused = true;
    }
    return named_look(name, error);
}

void freeze_settle(struct guest_call *call, const struct guest_state *state)
{
    if (!call || !guest_call_do(call, "quit", NULL, NULL) || !guest_await_end(state, QUIT_MS))
        guest_process_kill(&state->vmm, SIGKILL);
}

/* Gives the VMM the last layer of disk i as a node with the name of its file. */
static bool add_node(const struct named *guest, struct guest_call *call, const json_t *layers, size_t i,
                     GError **error)
{
    const char *file = layers_top(layers, i);
    g_autofree char *path = layers_path(guest, file);
    AUTO_FD fd = block_file_open(path, false, error);
    if (fd < 0)
        return false;
    return guest_node_add(call, json_pack("{s:s,s:s,s:n}", "driver", "qcow2", "node-name", file, "backing"),
                          fd, error);
}

/* One disk of the guest: a new layer, as a node, and a row of what is to be switched. */
static bool prepare(const struct named *guest, struct guest_call *call, json_t *layers, size_t i,
                    json_t *device, json_t *switches, GError **error)
{
    json_t *inserted = json_object_get(device, "inserted");
    const char *id = json_string_value(json_object_get(device, "device"));
    const json_int_t size =
        json_integer_value(json_object_get(json_object_get(inserted, "image"), "virtual-size"));
    if (!inserted || json_is_true(json_object_get(inserted, "ro")))
        return true;
    g_autoptr(GPtrArray) images = guest_images(guest);
    const size_t row = i < images->len ? layers_row(guest, layers, images->pdata[i]) : i;
    if (!layers_push(guest, layers, row, (uint64_t)size, error))
        return false;
    json_array_append_new(switches, json_pack("{s:s,s:s}", "disk", id, "overlay", layers_top(layers, row)));
    return add_node(guest, call, layers, row, error);
}

static bool prepare_all(const struct named *guest, struct guest_call *call, json_t *layers, json_t *switches,
                        GError **error)
{
    json_t *devices = guest_call(call, "query-block", NULL, error), *device;
    bool good = devices != NULL;
    size_t i;
    json_array_foreach(devices, i, device)
    {
        good = good && prepare(guest, call, layers, i, device, switches, error);
    }
    json_decref(devices);
    return good;
}

/* Do we know that no disk of the guest is in a new layer? */
static bool is_unchanged(struct guest_call *call, const json_t *switches)
{
    json_t *devices = guest_call(call, "query-block", NULL, NULL), *device, *row;
    bool unchanged = devices != NULL;
    size_t i, k;
    json_array_foreach(devices, i, device)
    {
        json_t *node = json_object_get(json_object_get(device, "inserted"), "node-name");
        json_array_foreach(switches, k, row)
        {
            unchanged = unchanged && !json_equal(node, json_object_get(row, "overlay"));
        }
    }
    json_decref(devices);
    return unchanged;
}

/* Nothing came of it: layers that the guest is not in go again, the file that says so first. */
static void undo(const struct named *guest, struct guest_call *call, json_t *layers, json_t *before,
                 const json_t *switches)
{
    size_t i;
    json_t *row;
    if (!is_unchanged(call, switches))
        return;
    json_array_foreach(switches, i, row)
    {
        const char *node = json_string_value(json_object_get(row, "overlay"));
        guest_call_do(call, "blockdev-del", json_pack("{s:s}", "node-name", node), NULL);
    }
    json_object_update(layers, before);
    if (layers_store(guest, layers, NULL))
        layers_sweep(guest, layers);
}

bool freeze_guest(const struct named *guest, struct guest_call *call, json_t *layers, const char *path,
                  const struct cli_args *args, GError **error)
{
    json_t *before = json_deep_copy(layers), *switches = json_array();
    bool good = prepare_all(guest, call, layers, switches, error) && layers_store(guest, layers, error);
    const struct guest_save_how how = {.path = path,
                                       .about = guest_about(guest),
                                       .disks = json_array_size(switches) ? switches : NULL,
                                       .run_on = true,
                                       .compress = args->compress,
                                       .progress = progress_form(args->progress, false)};
    good = good && guest_save_to(call, guest->name, &how, error);
    if (!good)
        undo(guest, call, layers, before, switches);
    json_decref(how.about);
    json_decref(switches);
    json_decref(before);
    return good;
}
