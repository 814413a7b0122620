/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands of the control socket: devices in ports, and network back ends. */
#include <string.h>

#include "base/error.h"
#include "control/fds.h"
#include "vm/hotplug.h"
#include "vm/vm.h"

static struct vm_hotplug *hotplug_of(void *opaque)
{
    return ((struct vm *)opaque)->hotplug;
}

static const char *text(json_t *args, const char *name)
{
    return json_string_value(json_object_get(args, name));
}

static json_t *answer(bool ok)
{
    return ok ? qmp_done() : NULL;
}

static json_t *device_add(void *opaque, json_t *args, GError **error)
{
    const struct vm_hotplug_request r = {
        .driver = text(args, "driver"),
        .id = text(args, "id"),
        .bus = text(args, "bus"),
        .drive = text(args, "drive"),
        .serial = text(args, "serial"),
        .rerror = text(args, "rerror"),
        .werror = text(args, "werror"),
        .netdev = text(args, "netdev"),
        .mac = text(args, "mac"),
        .mtu = (unsigned)json_integer_value(json_object_get(args, "host_mtu")),
    };
    return answer(vm_hotplug_add(hotplug_of(opaque), &r, error));
}

static json_t *device_del(void *opaque, json_t *args, GError **error)
{
    return answer(vm_hotplug_remove(hotplug_of(opaque), text(args, "id"), error));
}

/* Back ends that need more than a descriptor are somebody else's to make. */
static json_t *netdev_add(void *opaque, json_t *args, GError **error)
{
    struct vm *vm = opaque;
    const char *type = text(args, "type"), *name = text(args, "fd");
    if (!name)
        name = text(args, "x-fd");
    if (!name)
        return qmp_fail(error, QMP_ERROR_GENERIC,
                        "%s is missing: the name that getfd gave to the descriptor of the back end",
                        strcmp(type, "tap") == 0 ? "fd" : "x-fd");
    int fd = control_fd_take(qmp_request_fds(qmp_request(vm->control)), name, error);
    return answer(fd >= 0 && vm_netdev_add(vm->hotplug, text(args, "id"), type, fd, error));
}

static json_t *netdev_del(void *opaque, json_t *args, GError **error)
{
    return answer(vm_netdev_remove(hotplug_of(opaque), text(args, "id"), error));
}

static json_t *query_pci(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return vm_pci_json(opaque);
}

const struct qmp_command vm_device_commands[] = {
    {"device_add",
     "driver: str, ?id: str, ?bus: str, ?drive: str, ?serial: str, ?rerror: str, "
     "?werror: str, ?netdev: str, ?mac: str, ?host_mtu: uint16",
     NULL, 0, device_add},
    {"device_del", "id: str", NULL, 0, device_del},
    {"netdev_add", "Netdev", NULL, 0, netdev_add},
    {"netdev_del", "id: str", NULL, 0, netdev_del},
    {"query-pci", NULL, "[PciInfo]", 0, query_pci},
    {0},
};
