/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The PCI Express ports of a machine: root ports, and virtio devices in their slots. */
/*
 * Theory of operation
 *
 * Interrupt lines. A driver that takes a device away waits until no handler of its interrupt line runs. The
 * one that asks it to, on behalf of a slot, may be such a handler itself (Linux's pciehp is), so a port and
 * the device in it on one line would wait for each other for ever. The pin of each port is therefore such
 * that it ends up on line INTA, and no port is in a slot whose devices do: they have the other three lines.
 */
#include "board/ports.h"

#include <stdio.h>

#include "base/error.h"
#include "device/pci_host.h"
#include "device/pci_port.h"
#include "device/virtio/pci.h"

enum { POOL_THREADS = 4 };

struct machine_ports {
    struct device *host;
    unsigned n;
    struct machine_port port[MACHINE_PORTS_MAX];
};

/* Slots 1, 2, 3, 5, 6, 7, 9 ... of the root bus. */
static unsigned slot_of(unsigned number)
{
    return number + (number - 1) / (PCI_HOST_LINES - 1);
}

static bool add_port(struct machine *m, unsigned number, GError **error)
{
    const unsigned slot = slot_of(number), pin = PCI_HOST_LINES - slot % PCI_HOST_LINES + 1;
    struct machine_ports *ports = m->ports;
    struct machine_port *p = &ports->port[number - 1];
    snprintf(p->name, sizeof(p->name), "port%u", number);
    snprintf(p->transport_name, sizeof(p->transport_name), "port%u.pci", number);
    snprintf(p->function_name, sizeof(p->function_name), "port%u.virtio", number);
    const struct device_value values[] = {{"slot", number}, {"pin", pin}, {0}};
    const struct irq_line line = pci_host_line(ports->host, slot, false, pin);
    const struct device_wires wires = {.name = p->name, .outputs = &line, .output_count = 1};
    p->port = device_new(device_type_find("pci-port"), &wires, values, error);
    if (!p->port)
        return false;
    g_ptr_array_add(m->devices, p->port);
    ports->n = number;
    p->pool = block_pool_new(POOL_THREADS, error);
    if (!p->pool)
        return false;
    return pci_attach(pci_root(pci_host_tree(ports->host)), slot, pci_port_function(p->port), error);
}

bool machine_add_ports(struct machine *m, struct device *host, unsigned n, GError **error)
{
    m->ports = g_new0(struct machine_ports, 1);
    m->ports->host = host;
    if (n > MACHINE_PORTS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%u ports for hot-plug are too many: at most %d", n,
                           MACHINE_PORTS_MAX);
    for (unsigned number = 1; number <= n; number++)
        if (!add_port(m, number, error))
            return false;
    return true;
}

struct machine_port *machine_port(struct machine *m, unsigned number)
{
    return m->ports && number && number <= m->ports->n ? &m->ports->port[number - 1] : NULL;
}

unsigned machine_port_number(struct machine *m, const struct pci_function *f)
{
    for (unsigned i = 0; i < m->ports->n; i++)
        if (pci_port_function(m->ports->port[i].port) == f)
            return i + 1;
    return 0;
}

struct pci *machine_pci(struct machine *m)
{
    return pci_host_tree(m->ports->host);
}

/* The two chips, wired up; the guest does not see them yet. */
static bool build_pair(struct machine *m, struct machine_port *p, const struct machine_virtio *f,
                       GError **error)
{
    const unsigned number = (unsigned)(p - m->ports->port) + 1;
    const struct irq_line out = pci_host_line(m->ports->host, slot_of(number), true, 1);
    const struct device_wires transport = {.name = p->transport_name, .outputs = &out, .output_count = 1};
    AUTO(device) t = device_new(device_type_find("virtio-pci"), &transport, NULL, error);
    if (!t)
        return false;
    const struct irq_line in = device_input(t, 0);
    struct device_wires wires = f->wires;
    wires.name = p->function_name;
    wires.clock = m->clock;
    wires.mem = m->mem;
    wires.pool = p->pool;
    wires.outputs = &in;
    wires.output_count = 1;
    p->function = device_new(device_type_find(f->type), &wires, f->values, error);
    if (!p->function)
        return false;
    virtio_pci_carry(t, p->function);
    p->transport = STEAL(t);
    return true;
}

static void free_pair(struct machine_port *p)
{
    device_free(p->function);
    device_reset(p->transport);
    device_free(p->transport);
    p->function = p->transport = NULL;
}

bool machine_plug(struct machine *m, struct machine_port *p, const struct machine_virtio *f, bool cold,
                  GError **error)
{
    g_assert(!p->transport);
    if (!build_pair(m, p, f, error))
        return false;
    if (!pci_port_plug(p->port, virtio_pci_function(p->transport), error)) {
        free_pair(p);
        return false;
    }
    g_ptr_array_add(m->devices, p->transport);
    g_ptr_array_add(m->devices, p->function);
    if (cold)
        device_reset(p->port);
    return true;
}

void machine_unplug(struct machine *m, struct machine_port *p)
{
    if (!p->transport)
        return;
    pci_port_unplug(p->port);
    g_ptr_array_remove(m->devices, p->function);
    g_ptr_array_remove(m->devices, p->transport);
    device_reset(p->function); /* what is under way ends, the interrupt falls */
    free_pair(p);
}

void machine_reset_ports(struct machine *m)
{
    for (unsigned i = 0; m->ports && i < m->ports->n; i++)
        pci_port_forget(m->ports->port[i].port);
}

void machine_free_ports(struct machine *m)
{
    for (unsigned i = 0; m->ports && i < m->ports->n; i++)
        block_pool_free(m->ports->port[i].pool);
    g_free(m->ports);
}
