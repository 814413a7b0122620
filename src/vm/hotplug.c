/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Disks and network cards that come and go while the guest runs. */
#include "vm/hotplug.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "board/ports.h"
#include "device/pci_port.h"
#include "device/virtio/pci.h"
#include "net/net.h"
#include "os/fd.h"
#include "vm/functions.h"
#include "vm/nodes.h"
#include "vm/snapshot.h"
#include "vm/vm.h"

enum { ID_MAX = 127 /* bytes */, BLK_QUEUES_MAX = 4 };
/* The cards of a guest's own options are numbered from 0 on; these behind any of them. */
enum { FIRST_CARD = 1 << 16 };

struct hot_netdev {
    char *id;
    struct net *net;
    bool used; /* by a card */
};

struct hot_device {
    char *id;
    char *serial;
    unsigned port;             /* its number */
    struct disk *root;         /* of our making, of vm->nodes; or NULL */
    struct hot_netdev *netdev; /* or NULL */
    bool asked;
};

struct vm_hotplug {
    struct vm *vm;
    GSource *source;
    GPtrArray *devices; /* of struct hot_device */
    GPtrArray *netdevs; /* of struct hot_netdev */
};

struct hotplug_source {
    GSource base;
    struct vm_hotplug *hotplug;
};

static void free_netdev(gpointer data)
{
    struct hot_netdev *n = data;
    net_free(n->net);
    g_free(n->id);
    g_free(n);
}

static void free_device(gpointer data)
{
    struct hot_device *d = data;
    g_free(d->id);
    g_free(d->serial);
    g_free(d);
}

static struct machine_port *port_of(const struct vm_hotplug *h, const struct hot_device *d)
{
    return machine_port(h->vm->machine, d->port);
}

static struct hot_device *find_device(const struct vm_hotplug *h, const char *id)
{
    for (guint i = 0; i < h->devices->len; i++) {
        struct hot_device *d = h->devices->pdata[i];
        if (!strcmp(d->id, id))
            return d;
    }
    return NULL;
}

static struct hot_netdev *find_netdev(const struct vm_hotplug *h, const char *id)
{
    for (guint i = 0; i < h->netdevs->len; i++) {
        struct hot_netdev *n = h->netdevs->pdata[i];
        if (!strcmp(n->id, id))
            return n;
    }
    return NULL;
}

const char *vm_hotplug_id(const struct vm_hotplug *h, unsigned port)
{
    for (guint i = 0; i < h->devices->len; i++) {
        const struct hot_device *d = h->devices->pdata[i];
        if (d->port == port)
            return d->id;
    }
    return NULL;
}

static bool check_id(const char *id, GError **error)
{
    const size_t size = strlen(id);
    return (size && size <= ID_MAX) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "the id '%.40s' must have 1 to %d characters", id, ID_MAX);
}

/* --- going --- */

static void tell(struct vm_hotplug *h, const char *event, const struct hot_device *d)
{
    g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", d->id);
    vm_event(h->vm, event, json_pack("{s:s,s:s}", "device", d->id, "path", path));
}

/* The device is gone from the machine: the rest of it. */
static void let_go(struct vm_hotplug *h, struct hot_device *d)
{
    if (d->root)
        vm_nodes_detach(h->vm->nodes, d->root);
    else
        vm_network_remove(h->vm, d->id);
    if (d->netdev)
        d->netdev->used = false;
}

static void take_out(struct vm_hotplug *h, struct hot_device *d)
{
    machine_unplug(h->vm->machine, port_of(h, d));
    let_go(h, d);
    tell(h, "DEVICE_DELETED", d);
    g_ptr_array_remove(h->devices, d);
}

/* What guests have answered. */
static gboolean serve(GSource *base, GSourceFunc callback G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
    struct vm_hotplug *h = ((struct hotplug_source *)(void *)base)->hotplug;
    g_source_set_ready_time(base, -1); /* first: who notes something from here on wakes us again */
    for (guint i = h->devices->len; i-- > 0;) {
        struct hot_device *d = h->devices->pdata[i];
        switch (pci_port_answer(port_of(h, d)->port)) {
        case PCI_PORT_SILENT: break;
        case PCI_PORT_REMOVED: take_out(h, d); break;
        case PCI_PORT_REFUSED: tell(h, "DEVICE_UNPLUG_GUEST_ERROR", d); break;
        }
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {.dispatch = serve};

static void noted(void *opaque)
{
    struct vm_hotplug *h = opaque;
    g_source_set_ready_time(h->source, 0);
}

bool vm_hotplug_remove(struct vm_hotplug *h, const char *id, GError **error)
{
    struct hot_device *d = find_device(h, id);
    if (!vm_snapshot_idle(h->vm, error))
        return false;
    if (h->vm->state == VM_SAVED)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "the guest has been saved; it cannot change any more");
    if (!d) {
        qmp_fail(error, QMP_ERROR_DEVICE_NOT_FOUND,
                 "there is no device '%.40s' in a port; devices outside of ports stay", id);
        return false;
    }
    struct machine_port *port = port_of(h, d);
    if (virtio_pci_in_use(port->transport))
        return pci_port_ask(port->port, error);
    take_out(h, d);
    return true;
}

/* --- coming --- */

static struct machine_port *empty_port(struct vm_hotplug *h, const char *bus, unsigned *number,
                                       GError **error)
{
    struct machine_port *p;
    bool known = false;
    if (!machine_port(h->vm->machine, 1)) {
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "the guest has no ports to put devices into; start it with --hotplug N");
        return NULL;
    }
    for (*number = 1; (p = machine_port(h->vm->machine, *number)); ++*number) {
        if (bus && strcmp(bus, p->name) != 0)
            continue;
        known = true;
        if (!p->transport)
            return p;
    }
    if (bus && !known)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no bus '%.40s'; there are port1 to port%u", bus,
                    *number - 1);
    else
        hostel_fail(error, HOSTEL_ERROR_USAGE, bus ? "%.40s is taken" : "all ports are taken%.0s",
                    bus ? bus : "");
    return NULL;
}

/* Puts it into the port. Takes d, which in case of failure is let go. */
static bool put(struct vm_hotplug *h, struct hot_device *d, const struct machine_virtio *f, bool cold,
                GError **error)
{
    struct machine_port *p = port_of(h, d);
    if (!machine_plug(h->vm->machine, p, f, cold, error)) {
        let_go(h, d);
        free_device(d);
        return false;
    }
    pci_port_watch(p->port, noted, h);
    g_ptr_array_add(h->devices, d);
    return true;
}

static bool add_disk(struct vm_hotplug *h, const struct vm_hotplug_request *r, struct hot_device *d,
                     GError **error)
{
    const struct device_value values[] = {{"queues", MIN(vcpus_count(h->vm->machine->vcpus), BLK_QUEUES_MAX)},
                                          {0}};
    struct machine_virtio f = {.type = "virtio-blk", .values = values, .wires = {.serial = d->serial}};
    if (!r->drive)
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "drive is missing: the name of a node, as blockdev-add made it");
    else
        d->root = vm_nodes_attach(h->vm->nodes, r->id, r->drive, r->rerror, r->werror, error);
    if (!d->root) {
        free_device(d);
        return false;
    }
    f.wires.disk = d->root;
    return put(h, d, &f, false, error);
}

/* The card's address and MTU into values; and its back end. */
static bool find_card(struct vm_hotplug *h, const struct vm_hotplug_request *r, struct hot_device *d,
                      struct device_value values[3], GError **error)
{
    uint64_t mac = vm_mac_default(h->vm->options->name, FIRST_CARD + d->port);
    if (r->mac && !vm_mac_parse(r->mac, &mac, error))
        return false;
    if (!vm_mtu_check(r->mtu, error))
        return false;
    if (vm_network_find(h->vm, r->id))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a card '%.40s' already", r->id);
    d->netdev = r->netdev ? find_netdev(h, r->netdev) : NULL;
    if (r->netdev && (!d->netdev || d->netdev->used)) {
        const bool used = d->netdev;
        d->netdev = NULL;
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           used ? "the back end '%.40s' has a card already"
                                : "there is no back end '%.40s'; netdev_add makes one",
                           r->netdev);
    }
    values[0] = (struct device_value){"mac", mac};
    values[1] = (struct device_value){"mtu", r->mtu};
    values[2] = (struct device_value){0};
    return true;
}

static bool add_card(struct vm_hotplug *h, const struct vm_hotplug_request *r, struct hot_device *d,
                     GError **error)
{
    struct device_value values[3];
    struct machine_virtio f = {.type = "virtio-net", .values = values};
    if (!find_card(h, r, d, values, error)) {
        free_device(d);
        return false;
    }
    if (d->netdev) {
        d->netdev->used = true;
        f.wires.net = d->netdev->net;
        vm_network_add(h->vm, d->id, d->netdev->net);
    }
    return put(h, d, &f, false, error);
}

bool vm_hotplug_add(struct vm_hotplug *h, const struct vm_hotplug_request *r, GError **error)
{
    static const struct {
        const char *driver;
        bool (*add)(struct vm_hotplug *h, const struct vm_hotplug_request *r, struct hot_device *d,
                    GError **error);
    } drivers[] = {{"virtio-blk-pci", add_disk}, {"virtio-net-pci", add_card}};
    unsigned number, i = 0;
    while (i < G_N_ELEMENTS(drivers) && strcmp(drivers[i].driver, r->driver) != 0)
        i++;
    if (i == G_N_ELEMENTS(drivers))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "there is no driver '%.40s'; there are virtio-blk-pci and virtio-net-pci",
                           r->driver);
    if (!vm_snapshot_idle(h->vm, error))
        return false;
    if (h->vm->state == VM_SAVED)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "the guest has been saved; it cannot change any more");
    if (!r->id)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "id is missing: what the device is to be called");
    if (!check_id(r->id, error))
        return false;
    if (find_device(h, r->id))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a device '%.40s' already", r->id);
    if (!empty_port(h, r->bus, &number, error))
        return false;
    struct hot_device *d = g_new0(struct hot_device, 1);
    *d = (struct hot_device){.id = g_strdup(r->id), .serial = g_strdup(r->serial), .port = number};
    return drivers[i].add(h, r, d, error);
}

bool vm_hotplug_put(struct vm_hotplug *h, const struct machine_virtio *f, GError **error)
{
    const struct machine_port *p = machine_port(h->vm->machine, f->port);
    if (!p)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "port=%u: there is no such port; --hotplug says how many there are", f->port);
    if (p->transport)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "port=%u: is given twice", f->port);
    if (!check_id(f->id, error))
        return false;
    if (find_device(h, f->id))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a device '%.40s' already", f->id);
    struct hot_device *d = g_new0(struct hot_device, 1);
    *d = (struct hot_device){.id = g_strdup(f->id), .port = f->port, .root = f->wires.disk};
    return put(h, d, f, true, error);
}

/* --- network back ends --- */

bool vm_netdev_add(struct vm_hotplug *h, const char *id, const char *backend, int fd, GError **error)
{
    if (!check_id(id, error) || find_netdev(h, id)) {
        fd_close(&fd);
        return (error && *error) ||
               hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a back end '%.40s' already", id);
    }
    struct net *net = net_new(net_backend_find(backend), fd, NULL, error);
    if (!net)
        return false;
    struct hot_netdev *n = g_new0(struct hot_netdev, 1);
    *n = (struct hot_netdev){.id = g_strdup(id), .net = net};
    g_ptr_array_add(h->netdevs, n);
    return true;
}

bool vm_netdev_remove(struct vm_hotplug *h, const char *id, GError **error)
{
    struct hot_netdev *n = find_netdev(h, id);
    if (!n) {
        qmp_fail(error, QMP_ERROR_DEVICE_NOT_FOUND, "there is no back end '%.40s'", id);
        return false;
    }
    if (n->used)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "a card uses the back end '%.40s'; device_del it first",
                           id);
    g_ptr_array_remove(h->netdevs, n);
    return true;
}

/* --- life --- */

struct vm_hotplug *vm_hotplug_new(struct vm *vm)
{
    struct vm_hotplug *h = g_new0(struct vm_hotplug, 1);
    h->vm = vm;
    h->devices = g_ptr_array_new_with_free_func(free_device);
    h->netdevs = g_ptr_array_new_with_free_func(free_netdev);
    h->source = g_source_new(&source_funcs, sizeof(struct hotplug_source));
    ((struct hotplug_source *)(void *)h->source)->hotplug = h;
    g_source_set_static_name(h->source, "hotplug");
    g_source_attach(h->source, NULL);
    return h;
}

void vm_hotplug_free(struct vm_hotplug *h)
{
    if (!h)
        return;
    g_source_destroy(h->source);
    g_source_unref(h->source);
    g_ptr_array_unref(h->devices);
    g_ptr_array_unref(h->netdevs);
    g_free(h);
}
