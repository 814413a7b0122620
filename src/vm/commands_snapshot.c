/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands of the control socket: snapshots of the guest inside its disks' images. */
#include "vm/snapshot.h"
#include "vm/vm.h"

static const char *text(json_t *args, const char *key)
{
    return json_string_value(json_object_get(args, key));
}

static json_t *with_request(void *opaque, json_t *args, GError **error,
                            bool (*start)(struct vm *vm, const struct vm_snapshot_request *request,
                                          GError **error))
{
    const json_t *list = json_object_get(args, "devices");
    g_autofree const char **devices = g_new0(const char *, json_array_size(list) + 1);
    for (size_t i = 0; i < json_array_size(list); i++)
        devices[i] = json_string_value(json_array_get(list, i));
    const struct vm_snapshot_request request = {.job = text(args, "job-id"),
                                                .tag = text(args, "tag"),
                                                .vmstate = text(args, "vmstate"),
                                                .devices = devices};
    return start(opaque, &request, error) ? qmp_done() : NULL;
}

static json_t *save(void *opaque, json_t *args, GError **error)
{
    return with_request(opaque, args, error, vm_snapshot_save);
}

static json_t *load(void *opaque, json_t *args, GError **error)
{
    return with_request(opaque, args, error, vm_snapshot_load);
}

static json_t *delete (void *opaque, json_t *args, GError **error)
{
    return with_request(opaque, args, error, vm_snapshot_delete);
}

const struct qmp_command vm_snapshot_commands[] = {
    {"snapshot-save", "job-id: str, tag: str, vmstate: str, devices: [str]", NULL, 0, save},
    {"snapshot-load", "job-id: str, tag: str, vmstate: str, devices: [str]", NULL, 0, load},
    {"snapshot-delete", "job-id: str, tag: str, devices: [str]", NULL, 0, delete},
    {0},
};
