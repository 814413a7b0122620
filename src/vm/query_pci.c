/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the guest has made of its PCI buses, as query-pci tells it. */
#include "base/byteorder.h"
#include "board/ports.h"
#include "vm/hotplug.h"
#include "vm/vm.h"

/* Devices of the root bus, with those behind their bridges inside of them. */
struct listing {
    struct vm *vm;
    json_t *devices;
};

static json_t *range(uint64_t base, uint64_t limit)
{
    return json_pack("{s:I,s:I}", "base", (json_int_t)base, "limit", (json_int_t)limit);
}

static json_t *bridge_json(const struct pci_function *f)
{
    const uint8_t *c = f->config;
    const uint64_t mask = 0xfff0, low = 0xfffff;
    const uint64_t high_base = (uint64_t)ld32le(c + PCI_PREFETCH_BASE_HIGH) << 32;
    const uint64_t high_limit = (uint64_t)ld32le(c + PCI_PREFETCH_LIMIT_HIGH) << 32;
    json_t *bus = json_pack(
        "{s:i,s:i,s:i,s:o,s:o,s:o}", "number", c[PCI_BUS_PRIMARY], "secondary", c[PCI_BUS_SECONDARY],
        "subordinate", c[PCI_BUS_SUBORDINATE], "io_range", range(0, 0), "memory_range",
        range((ld16le(c + PCI_MEMORY_BASE) & mask) << 16, (ld16le(c + PCI_MEMORY_LIMIT) & mask) << 16 | low),
        "prefetchable_range",
        range(high_base | (ld16le(c + PCI_PREFETCH_BASE) & mask) << 16,
              high_limit | (ld16le(c + PCI_PREFETCH_LIMIT) & mask) << 16 | low));
    return json_pack("{s:o,s:[]}", "bus", bus, "devices");
}

static json_t *regions_json(const struct pci_function *f)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < PCI_BARS; i++) {
        uint64_t base;
        if (!pci_bar_address(f, i, &base))
            continue;
        const struct pci_bar *bar = &f->bars[i];
        json_t *region =
            json_pack("{s:i,s:s,s:I,s:I}", "bar", (int)i, "type", bar->kind == PCI_BAR_IO ? "io" : "memory",
                      "address", (json_int_t)base, "size", (json_int_t)bar->size);
        if (bar->kind != PCI_BAR_IO)
            json_object_update_new(
                region, json_pack("{s:b,s:b}", "prefetch", 0, "mem_type_64", bar->kind == PCI_BAR_MEMORY64));
        json_array_append_new(list, region);
    }
    return list;
}

static const char *class_name(unsigned class)
{
    switch (class >> 8) {
    case 0x01: return "Mass storage controller";
    case 0x02: return "Network controller";
    case 0x06: return "Bridge";
    case 0x07: return "Communication controller";
    default: return "Device";
    }
}

/* Where in the machine it is: a port by its name, what is in it by the id that device_add gave. */
static const char *name_of(struct vm *vm, const struct pci_function *f)
{
    const struct pci_function *bridge = f->on->bridge;
    const unsigned number = machine_port_number(vm->machine, bridge ? bridge : f);
    const struct machine_port *p = machine_port(vm->machine, number);
    const char *name = bridge ? vm_hotplug_id(vm->hotplug, number) : p ? p->name : NULL;
    return name ? name : "";
}

static void see(void *opaque, struct pci_function *f, unsigned bus)
{
    struct listing *l = opaque;
    const uint8_t *c = f->config;
    const unsigned class = ld16le(c + PCI_REVISION + 2);
    json_t *d =
        json_pack("{s:i,s:i,s:i,s:{s:s,s:i},s:{s:i,s:i},s:i,s:s,s:o}", "bus", (int)bus, "slot", f->slot,
                  "function", 0, "class_info", "desc", class_name(class), "class", (int)class, "id", "device",
                  ld16le(c + PCI_DEVICE), "vendor", ld16le(c + PCI_VENDOR), "irq_pin", c[PCI_INTERRUPT_PIN],
                  "qdev_id", name_of(l->vm, f), "regions", regions_json(f));
    if (f->below)
        json_object_set_new(d, "pci_bridge", bridge_json(f));
    if (!f->on->bridge) {
        json_array_append_new(l->devices, d);
        return;
    }
    /* The bridge came right before what is behind it. */
    json_t *above = json_array_get(l->devices, json_array_size(l->devices) - 1);
    json_array_append_new(json_object_get(json_object_get(above, "pci_bridge"), "devices"), d);
}

json_t *vm_pci_json(struct vm *vm)
{
    const struct machine_port *first = machine_port(vm->machine, 1);
    if (!first)
        return json_array();
    struct listing l = {.vm = vm, .devices = json_array()};
    pci_each(machine_pci(vm->machine), see, &l);
    return json_pack("[{s:i,s:o}]", "bus", 0, "devices", l.devices);
}
