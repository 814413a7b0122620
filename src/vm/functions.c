/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* From options to a guest's virtio functions. */
#include "vm/functions.h"

#include <string.h>

#include "base/error.h"
#include "block/block.h"
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

/* --- disks --- */

/* The longest serial number a virtio disk can tell, bytes. */
enum { DISK_SERIAL_MAX = 20 };

static void free_disk(gpointer disk)
{
    block_free(disk);
}

static const struct block_driver *find_format(const struct disk_options *o, GError **error)
{
    const struct block_driver *driver = block_driver_find(o->format);
    if (driver && driver->kind == BLOCK_FORMAT)
        return driver;
    g_autofree char *names = block_driver_names();
    hostel_fail(error, HOSTEL_ERROR_USAGE, "--disk format=%s: there is no such format; there are: %s",
                o->format, names);
    return NULL;
}

static struct disk *open_disk(struct disk_options *o, GError **error)
{
    const struct block_driver *driver = find_format(o, error);
    if (!driver)
        return NULL;
    if (o->serial && strlen(o->serial) > DISK_SERIAL_MAX) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "--disk serial=%s: has more than %d characters", o->serial,
                    DISK_SERIAL_MAX);
        return NULL;
    }
    struct block_config base = {.name = o->base.name, .fd = fd_steal(&o->base.fd), .readonly = true};
    struct block_config config = {.name = o->file.name, .fd = fd_steal(&o->file.fd), .readonly = o->readonly};
    struct disk *disk = NULL;
    if (!o->base.name || (config.base = block_open(block_driver_find("raw"), &base, error)))
        disk = block_open(driver, &config, error);
    fd_close(&config.fd);
    if (!disk)
        g_prefix_error(error, "--disk ");
    return disk;
}

/* A queue for each vCPU, within reason. */
static const struct device_value *disk_values(unsigned vcpus)
{
    static const struct device_value by_queues[][2] = {
        {{"queues", 1}, {0}}, {{"queues", 2}, {0}}, {{"queues", 3}, {0}}, {{"queues", 4}, {0}}};
    return by_queues[MIN(vcpus, G_N_ELEMENTS(by_queues)) - 1];
}

static bool add_disks(struct vm *vm, struct guest_options *o, struct vm_functions *f, GError **error)
{
    struct disk_options *items = o->disks.items;
    vm->disks = g_ptr_array_new_with_free_func(free_disk);
    for (unsigned i = 0; i < o->disks.count; i++) {
        struct disk *disk = open_disk(&items[i], error);
        if (!disk)
            return false;
        g_ptr_array_add(vm->disks, disk);
        const struct device_wires wires = {.disk = disk, .serial = items[i].serial};
        if (!vm_functions_add(f, "virtio-blk", disk_values(o->cpus), &wires, error))
            return false;
    }
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

bool vm_functions_collect(struct vm *vm, struct guest_options *o, struct vm_functions *f, GError **error)
{
    f->count = 0;
    return add_disks(vm, o, f, error) && vm_functions_add_networks(vm, o, f, error) &&
           add_console(vm, o, f, error) && (!o->rng || vm_functions_add(f, "virtio-rng", NULL, NULL, error));
}
