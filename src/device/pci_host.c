/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The PCI host bridge "pci-host-ecam-generic": configuration space in memory, and four interrupt lines. */
/*
 * Its registers are the configuration space of all functions, a megabyte for each bus (PCI Express Base 4.0,
 * 7.2.2, ECAM). Its input pins are the interrupt pins of all devices, its output pins the lines INTA to INTD.
 * A device's INTA# goes to the line of its slot's number modulo four, INTB# to the next one, and so on; what
 * comes through a bridge is counted by the device's slot on the bridge's bus (0 behind a root port) and then
 * by the bridge's (PCI-to-PCI Bridge 1.2, 9.1). A line is high while any of its devices wants it to be.
 */
#include "device/pci_host.h"

#include "base/bits.h"

/* Of a line: each slot's own device, and what is behind it. */
enum { SOURCES = 2 * PCI_SLOTS, BUS_SIZE = 1 << 20, BUSES_MAX = 256 };

struct pci_host {
    struct device dev;
    struct pci *pci;
    uint16_t buses;                 /* option */
    uint64_t level[PCI_HOST_LINES]; /* of the input pins, SOURCES for each line */
};

static struct pci_host *host_of(struct device *d)
{
    return (struct pci_host *)(void *)d;
}

struct pci *pci_host_tree(struct device *d)
{
    return host_of(d)->pci;
}

struct irq_line pci_host_line(struct device *d, unsigned slot, bool behind, unsigned pin)
{
    const unsigned line = (slot + pin - 1) % PCI_HOST_LINES;
    return device_input(d, line * SOURCES + slot + (behind ? PCI_SLOTS : 0));
}

static void update_locked(struct pci_host *h)
{
    for (unsigned line = 0; line < PCI_HOST_LINES; line++)
        device_pin(&h->dev, line, h->level[line]);
}

static void host_input(void *device, unsigned pin, bool level)
{
    struct pci_host *h = device;
    if (pin >= SOURCES * PCI_HOST_LINES)
        return;
    device_lock(&h->dev);
    uint64_t *word = &h->level[pin / SOURCES];
    *word = bits_set(*word, pin % SOURCES, 1, level);
    update_locked(h);
    device_release(&h->dev);
}

static uint64_t host_read(void *chip, uint64_t offset, unsigned size)
{
    return pci_ecam_read(((struct pci_host *)chip)->pci, offset, size);
}

static void host_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    pci_ecam_write(((struct pci_host *)chip)->pci, offset, size, value);
}

static uint64_t host_extent(const struct device *d)
{
    return (uint64_t)((const struct pci_host *)(const void *)d)->buses * BUS_SIZE;
}

/* The lines are what the devices make of them. */
static void host_reset(struct device *d)
{
    update_locked(host_of(d));
}

static bool host_post_load(struct device *d)
{
    update_locked(host_of(d));
    return true;
}

static bool host_init(struct device *d, GError **error G_GNUC_UNUSED)
{
    host_of(d)->pci = pci_new();
    return true;
}

static void host_destroy(struct device *d)
{
    pci_free(host_of(d)->pci);
}

static const struct device_option host_options[] = {
    {.name = "buses",
     .help = "number of buses that can be numbered",
     .type = STATE_U16,
     .offset = offsetof(struct pci_host, buses),
     .value = BUSES_MAX,
     .min = 1,
     .max = BUSES_MAX},
    {0},
};

static const struct state_field host_state[] = {STATE_FIELD(pci_host, level, STATE_U64, 1), {0}};

static const struct bus_ops host_ops = {host_read, host_write, .min_size = 1, .max_size = 8};

const struct device_type device_pci_host = {
    .name = "pci-host",
    .help = "PCI Express host bridge (ECAM)",
    .size = sizeof(struct pci_host),
    .options = host_options,
    .state = host_state,
    .version = 1,
    .ops = &host_ops,
    .init = host_init,
    .extent = host_extent,
    .reset = host_reset,
    .input = host_input,
    .post_load = host_post_load,
    .destroy = host_destroy,
};
