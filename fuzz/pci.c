/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any accesses to a PCI tree with root ports, while devices come and go: it stays sane, and saved state is
 * taken back. */
/*
 * Eight bytes of input are a step: the first says which (enum step), the second the access's size (bits 0-1)
 * and the port (bit 7), then a place (16 bits) and a value (32 bits).
 */
#include <glib.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "device/pci_host.h"
#include "device/pci_port.h"
#include "device/virtio/pci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    WRITE,
    READ,
    WINDOW_WRITE,
    WINDOW_READ,
    PLUG,
    UNPLUG,
    ASK,
    ANSWER,
    RESET,
    SAVE_AND_LOAD,
    SENSE,
    STEPS
};
enum { STEP = 8, PORTS = 2, STEPS_MAX = 4096 };
#define WINDOW UINT64_C(0x40000000)
#define WINDOW_SIZE UINT64_C(0x1000000)

struct fuzz {
    struct mem *mem;
    struct bus *bus;
    struct device *host;
    struct fuzz_port {
        struct device *port, *card, *rng;
        bool plugged;
    } port[PORTS];
};

static struct device *chip(const char *type, const struct device_wires *wires)
{
    struct device *d = device_new(device_type_find(type), wires, NULL, NULL);
    g_assert_nonnull(d);
    return d;
}

static void make_port(struct fuzz *f, unsigned i)
{
    struct fuzz_port *p = &f->port[i];
    const struct irq_line own = pci_host_line(f->host, i + 1, false, 2);
    const struct irq_line behind = pci_host_line(f->host, i + 1, true, 1);
    const struct device_wires port = {.name = "port", .outputs = &own, .output_count = 1};
    const struct device_wires card = {.name = "card", .outputs = &behind, .output_count = 1};
    p->port = chip("pci-port", &port);
    p->card = chip("virtio-pci", &card);
    const struct irq_line in = device_input(p->card, 0);
    const struct device_wires rng = {.name = "rng", .mem = f->mem, .outputs = &in, .output_count = 1};
    p->rng = chip("virtio-rng", &rng);
    virtio_pci_carry(p->card, p->rng);
    g_assert_true(pci_attach(pci_root(pci_host_tree(f->host)), i + 1, pci_port_function(p->port), NULL));
}

static void up(struct fuzz *f)
{
    const struct device_wires host = {.name = "host"};
    *f = (struct fuzz){.mem = mem_new(), .bus = bus_new()};
    g_assert_nonnull(mem_add(f->mem, "ram", GPA(0), 64 * KiB, false, NULL));
    f->host = chip("pci-host", &host);
    g_assert_true(pci_map_memory(pci_host_tree(f->host), f->bus, "window", GPA(WINDOW), WINDOW_SIZE, NULL));
    for (unsigned i = 0; i < PORTS; i++)
        make_port(f, i);
}

static void down(struct fuzz *f)
{
    for (unsigned i = 0; i < PORTS; i++) {
        struct fuzz_port *p = &f->port[i];
        pci_port_unplug(p->port);
        pci_detach(pci_port_function(p->port));
        device_free(p->rng);
        device_free(p->card);
        device_free(p->port);
    }
    device_free(f->host);
    bus_free(f->bus);
    mem_free(f->mem);
}

/* What a system does at its start: numbers, windows, addresses, everything on. */
static void make_sense(struct fuzz *f)
{
    for (unsigned i = 0; i < PORTS; i++) {
        const uint64_t port = (uint64_t)(i + 1) << 15, card = (uint64_t)(i + 1) << 20;
        const uint32_t base = (uint32_t)(WINDOW >> 16) + i * 0x10;
        f->host->type->ops->write(f->host, port + PCI_BUS_PRIMARY, 4, (i + 1) << 8 | (i + 1) << 16);
        f->host->type->ops->write(f->host, port + PCI_MEMORY_BASE, 4, base << 16 | base);
        f->host->type->ops->write(f->host, port + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
        f->host->type->ops->write(f->host, card + PCI_BAR0, 4, base << 16);
        f->host->type->ops->write(f->host, card + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    }
}

static void save_and_load(struct device *d)
{
    const size_t size = device_state_size(d->type);
    g_autofree uint8_t *before = g_malloc(size), *after = g_malloc(size);
    device_state_save(d, before);
    g_assert_true(device_state_load(d, before));
    device_state_save(d, after);
    g_assert_cmpmem(before, size, after, size);
}

static void save_and_load_all(struct fuzz *f, struct fuzz_port *p)
{
    save_and_load(f->host);
    save_and_load(p->port);
    save_and_load(p->card);
}

static void access_registers(struct fuzz *f, const uint8_t *step)
{
    const unsigned size = 1u << (step[1] & 3);
    const uint16_t place = ld16le(step + 2);
    const uint32_t value = ld32le(step + 4);
    /* Of ECAM: two bits of the bus, two of the slot, then the register. */
    const uint64_t ecam =
        ((uint64_t)(place >> 14) << 20 | (uint64_t)(place >> 12 & 3) << 15 | (place & 0xfff)) &
        ~(uint64_t)(size - 1);
    /* Of the window: 1 MiB for each port, 16 KiB at its beginning. */
    const uint64_t window =
        (WINDOW + ((uint64_t)(place >> 14) << 20) + (place & 0x3fff)) & ~(uint64_t)(size - 1);
    uint64_t seen = 0;
    switch (step[0] % STEPS) {
    case WRITE: f->host->type->ops->write(f->host, ecam, size, value & bits_mask(8 * size)); break;
    case READ: seen = f->host->type->ops->read(f->host, ecam, size); break;
    case WINDOW_WRITE: bus_write(f->bus, GPA(window), size, value & bits_mask(8 * size)); break;
    default: g_assert_cmpint(bus_read(f->bus, GPA(window), size, &seen), ==, 0); break;
    }
    g_assert_cmphex(seen & ~bits_mask(8 * size), ==, 0);
}

static void do_step(struct fuzz *f, const uint8_t *step)
{
    struct fuzz_port *p = &f->port[step[1] >> 7];
    switch ((enum step)(step[0] % STEPS)) {
    case PLUG:
        if (!p->plugged)
            g_assert_true(pci_port_plug(p->port, virtio_pci_function(p->card), NULL));
        p->plugged = true;
        break;
    case UNPLUG:
        pci_port_unplug(p->port);
        p->plugged = false;
        break;
    case ASK: pci_port_ask(p->port, NULL); break;
    case ANSWER:
        if (pci_port_answer(p->port) == PCI_PORT_REMOVED) {
            pci_port_unplug(p->port);
            p->plugged = false;
        }
        break;
    case RESET:
        if (step[1] & 2)
            pci_port_forget(p->port);
        device_reset(step[1] & 1 ? p->port : p->card);
        break;
    case SAVE_AND_LOAD: save_and_load_all(f, p); break;
    case SENSE: make_sense(f); break;
    default: access_registers(f, step); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f;
    up(&f);
    for (unsigned i = 0; i < STEPS_MAX && size >= STEP; i++, data += STEP, size -= STEP)
        do_step(&f, data);
    down(&f);
    return 0;
}
