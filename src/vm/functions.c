/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* From options to a guest's virtio functions. */
#include "vm/functions.h"

#include <string.h>

#include "base/error.h"
#include "os/fd.h"

bool vm_functions_add(struct vm_functions *f, const char *type, const struct device_value *values,
                      const struct device_wires *back_ends, GError **error)
{
    static const struct device_wires none;
    if (f->count == VM_FUNCTIONS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "more than %d virtio devices", VM_FUNCTIONS_MAX);
    f->row[f->count++] =
        (struct machine_virtio){.type = type, .values = values, .wires = back_ends ? *back_ends : none};
    return true;
}

/* --- the console, when it is not the serial port; channels, which are ports of the same device --- */

static void free_stream(gpointer stream)
{
    stream_free(stream);
}

/* The longest name of a channel, bytes. */
enum { CHANNEL_NAME_MAX = 64 };

static bool open_channels(struct vm *vm, struct guest_options *o, GError **error)
{
    struct channel_options *items = o->channels.items;
    for (unsigned i = 0; i < o->channels.count; i++)
        if (!*items[i].name || strlen(items[i].name) > CHANNEL_NAME_MAX)
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "--channel name=%s: must have 1 to %d characters",
                               items[i].name, CHANNEL_NAME_MAX);
    vm->channels = g_ptr_array_new_with_free_func(free_stream);
    vm->ports = g_new0(struct device_port, o->channels.count + 1);
    for (unsigned i = 0; i < o->channels.count; i++) {
        int fd = fd_steal(&items[i].socket.fd);
        vm->ports[i] = (struct device_port){.name = items[i].name, .stream = stream_new_fd(NULL, fd, fd)};
        g_ptr_array_add(vm->channels, vm->ports[i].stream);
    }
    return true;
}

static bool add_console(struct vm *vm, struct guest_options *o, struct vm_functions *f, GError **error)
{
    const bool console = strcmp(o->console_via, "virtio") == 0;
    if (!console && !o->channels.count)
        return true;
    if (!open_channels(vm, o, error))
        return false;
    const struct device_wires wires = {
        .stream = console ? vm->console : NULL, .ports = vm->ports, .port_count = o->channels.count};
    return vm_functions_add(f, "virtio-console", NULL, &wires, error);
}

/* Behind all others, which keep their places. */
static bool add_optional(struct vm_functions *f, const char *type, GError **error)
{
    if (f->count == VM_FUNCTIONS_MAX)
        return true;
    if (!vm_functions_add(f, type, NULL, NULL, error))
        return false;
    f->row[f->count - 1].optional = true;
    return true;
}

unsigned vm_functions_split(struct vm_functions *f)
{
    struct vm_functions all = *f;
    unsigned n = 0, own;
    for (unsigned i = 0; i < all.count; i++)
        if (!all.row[i].port)
            f->row[n++] = all.row[i];
    own = n;
    for (unsigned i = 0; i < all.count; i++)
        if (all.row[i].port)
            f->row[n++] = all.row[i];
    return own;
}

bool vm_functions_collect(struct vm *vm, struct guest_options *o, struct vm_functions *f, GError **error)
{
    f->count = 0;
    return vm_functions_add_disks(vm, o, f, error) && vm_functions_add_networks(vm, o, f, error) &&
           add_console(vm, o, f, error) &&
           (!o->rng || vm_functions_add(f, "virtio-rng", NULL, NULL, error)) &&
           (!o->balloon || add_optional(f, "virtio-balloon", error)) &&
           (!o->power_button || add_optional(f, "virtio-input", error));
}
