/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Disks and network cards that come and go while the guest runs. */
/*
 * Theory of operation
 *
 * A device sits in a PCI Express port of the machine (board/ports.h). Adding it is done when the command
 * returns; the guest finds it when it likes. Removing it is a request: the port asks the guest, which lets go
 * of it and says so, on a vCPU's thread; that wakes a source of the main loop, where the device is taken out
 * and freed and DEVICE_DELETED is sent. A guest that does not answer keeps its device. One that obviously
 * does not use it (no driver has taken it) is not asked.
 *
 * Network back ends are made by netdev_add from a descriptor, and have at most one card on them.
 */
#ifndef HOSTEL_VM_HOTPLUG_H
#define HOSTEL_VM_HOTPLUG_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct vm;
struct vm_hotplug;
struct machine_virtio;

/* For the machine of vm, which is built. Main thread, as all below. */
struct vm_hotplug *vm_hotplug_new(struct vm *vm);
/* The machine is gone; back ends are freed. NULL is fine. */
void vm_hotplug_free(struct vm_hotplug *h);

/* What device_add says; NULL or 0 = not said. */
struct vm_hotplug_request {
    const char *driver, *id;
    const char *bus; /* "port2"; else the first empty one */
    const char *drive, *serial, *rerror, *werror;
    const char *netdev, *mac;
    unsigned mtu;
};

bool vm_hotplug_add(struct vm_hotplug *h, const struct vm_hotplug_request *r, GError **error);
bool vm_hotplug_remove(struct vm_hotplug *h, const char *id, GError **error);

/* A device that is there from the start, in the port that f names. */
bool vm_hotplug_put(struct vm_hotplug *h, const struct machine_virtio *f, GError **error);

/* fd is taken in any case. */
bool vm_netdev_add(struct vm_hotplug *h, const char *id, const char *backend, int fd, GError **error);
bool vm_netdev_remove(struct vm_hotplug *h, const char *id, GError **error);

/* query_pci.c: what query-pci answers, owned by the caller. */
json_t *vm_pci_json(struct vm *vm);

/* The id of the device in that port; NULL: none. */
const char *vm_hotplug_id(const struct vm_hotplug *h, unsigned port);

#endif
