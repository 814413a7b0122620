/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The slot of a PCI Express root port as a driver sees it (PCI Express Base 4.0, 6.7 and 7.5.3), without a
 * guest. */
#include "base/error.h"
#include "bus/pci.h"
#include "device/pci_host.h"
#include "device/pci_port.h"
#include "device/virtio/pci.h"
#include "fake.h"

/* Of the capability, written down anew from the specification. */
enum {
    LINK_CAP = 12,
    LINK_CONTROL = 16,
    LINK_STATUS = 18,
    SLOT_CAP = 20,
    SLOT_CONTROL = 24,
    SLOT_STATUS = 26
};
enum { BUTTON = 1, PRESENCE = 8, COMPLETED = 16, PRESENT = 64, LINK_CHANGED = 256, ALL = 0x11f };
enum { POWER_OFF = 0x400, LIGHT_ON = 0x100, BLINK = 0x200, LIGHT_OFF = 0x300 };
/* What Linux's driver sets: link, hot-plug, command completed and button interrupts. */
enum { ENABLED = 0x1000 | 0x20 | 0x10 | 0x01, ACTIVE = 1 << 13 };
enum { SLOT = 3 };

struct rig {
    struct device *host, *port, *card, *rng;
    struct mem *mem;
    struct pins pins, port_pin;
    unsigned cap;
    unsigned notes;
};

static void noted(void *opaque)
{
    ((struct rig *)opaque)->notes++;
}

static uint64_t place(unsigned bus, unsigned slot, unsigned reg)
{
    return (uint64_t)bus << 20 | slot << 15 | reg;
}

static uint32_t get(struct rig *r, unsigned reg)
{
    return (uint32_t)rd(r->host, place(0, SLOT, r->cap + reg), 2);
}

static void put(struct rig *r, unsigned reg, uint32_t value)
{
    wr(r->host, place(0, SLOT, r->cap + reg), 2, value);
}

/* All events that are there, cleared. */
static unsigned events(struct rig *r)
{
    const unsigned seen = get(r, SLOT_STATUS) & ALL;
    put(r, SLOT_STATUS, seen);
    g_assert_cmphex(get(r, SLOT_STATUS) & ALL, ==, 0);
    return seen;
}

static bool interrupt(struct rig *r)
{
    return atomic_load(&r->pins.level) != 0;
}

static bool reached(struct rig *r)
{
    return rd(r->host, place(1, 0, 0), 2) == 0x1af4;
}

static void new_card(struct rig *r)
{
    const struct irq_line out = pci_host_line(r->host, SLOT, true, 1);
    const struct device_wires transport = {.name = "card", .outputs = &out, .output_count = 1};
    r->card = device_new(device_type_find("virtio-pci"), &transport, NULL, NULL);
    const struct irq_line in = device_input(r->card, 0);
    const struct device_wires wires = {.name = "rng", .mem = r->mem, .outputs = &in, .output_count = 1};
    r->rng = device_new(device_type_find("virtio-rng"), &wires, NULL, NULL);
    g_assert_true(r->card && r->rng);
    virtio_pci_carry(r->card, r->rng);
}

static void up(struct rig *r)
{
    struct irq_line lines[PCI_HOST_LINES];
    *r = (struct rig){.mem = mem_new()};
    g_assert_nonnull(mem_add(r->mem, "ram", GPA(0), 1 << 20, false, NULL));
    pins_lines(&r->pins, lines, PCI_HOST_LINES);
    const struct device_wires wires = {.name = "host", .outputs = lines, .output_count = PCI_HOST_LINES};
    r->host = device_new(device_type_find("pci-host"), &wires, NULL, NULL);
    const struct irq_line line = pci_host_line(r->host, SLOT, false, 1);
    const struct device_wires port = {.name = "port", .outputs = &line, .output_count = 1};
    r->port = device_new(device_type_find("pci-port"), &port, NULL, NULL);
    g_assert_true(pci_attach(pci_root(pci_host_tree(r->host)), SLOT, pci_port_function(r->port), NULL));
    pci_port_watch(r->port, noted, r);
    new_card(r);
    wr(r->host, place(0, SLOT, PCI_BUS_PRIMARY), 4, 0x010100);
    r->cap = (unsigned)rd(r->host, place(0, SLOT, PCI_CAPABILITIES), 1);
    g_assert_cmphex(rd(r->host, place(0, SLOT, r->cap), 1), ==, PCI_CAP_EXPRESS);
}

static void down(struct rig *r)
{
    pci_port_unplug(r->port);
    device_free(r->rng);
    device_free(r->card);
    pci_detach(pci_port_function(r->port));
    device_free(r->port);
    device_free(r->host);
    mem_free(r->mem);
}

/* As a driver does at its start with an empty slot. */
static void take_over(struct rig *r)
{
    put(r, SLOT_STATUS, ALL);
    put(r, SLOT_CONTROL, ENABLED | LIGHT_OFF | POWER_OFF);
    g_assert_true(interrupt(r));
    g_assert_cmphex(events(r), ==, COMPLETED);
    g_assert_false(interrupt(r));
}

/* Powered, lit, reached. */
static void plugged(struct rig *r)
{
    take_over(r);
    g_assert_true(pci_port_plug(r->port, virtio_pci_function(r->card), NULL));
    put(r, SLOT_CONTROL, ENABLED | BLINK);
    put(r, SLOT_CONTROL, ENABLED | LIGHT_ON);
    events(r);
    g_assert_true(reached(r));
}

/* 7.5.3: a root port, version 2, with a slot that has a button, a power controller and an indicator. */
static void test_capability(void)
{
    struct rig r;
    up(&r);
    g_assert_cmphex(get(&r, 2), ==, 2 | 4 << 4 | 1 << 8);
    g_assert_cmphex(get(&r, SLOT_CAP), ==, 0x0053);
    g_assert_cmphex(get(&r, SLOT_CAP + 2), ==, 1 << 3);      /* physical slot 1, in bits 31:19 */
    g_assert_cmphex(get(&r, LINK_CAP) & 0x3ff, ==, 0x11);    /* 2.5 GT/s, one lane */
    g_assert_cmphex(get(&r, LINK_CAP + 2) & 0x10, ==, 0x10); /* link active reporting */
    g_assert_cmphex(rd(r.host, place(0, SLOT, PCI_REVISION), 4), ==, 0x06040000);
    put(&r, SLOT_CAP, 0);
    put(&r, LINK_STATUS, 0xffff);
    g_assert_cmphex(get(&r, SLOT_CAP), ==, 0x0053);
    g_assert_cmphex(get(&r, LINK_STATUS), ==, 0x11);
    down(&r);
}

/* Without any driver there is power: a device is found by looking. */
static void test_no_driver(void)
{
    struct rig r;
    up(&r);
    g_assert_false(reached(&r));
    g_assert_true(pci_port_plug(r.port, virtio_pci_function(r.card), NULL));
    g_assert_true(reached(&r));
    g_assert_cmphex(get(&r, SLOT_STATUS), ==, PRESENT | PRESENCE | LINK_CHANGED);
    g_assert_false(interrupt(&r)); /* nobody asked for it */
    GError *error = NULL;
    const struct device_wires none = {.name = "other"};
    AUTO(device) other = device_new(device_type_find("virtio-pci"), &none, NULL, NULL);
    g_assert_false(pci_port_plug(r.port, virtio_pci_function(other), &error));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
    g_clear_error(&error);
    device_reset(r.port); /* a machine that begins with it: no event */
    g_assert_cmphex(get(&r, SLOT_STATUS), ==, PRESENT);
    g_assert_cmphex(get(&r, SLOT_CONTROL), ==, LIGHT_ON);
    down(&r);
}

static void test_add(void)
{
    struct rig r;
    up(&r);
    take_over(&r);
    g_assert_true(pci_port_plug(r.port, virtio_pci_function(r.card), NULL));
    g_assert_true(interrupt(&r));
    g_assert_cmphex(events(&r), ==, PRESENCE | BUTTON);
    g_assert_false(interrupt(&r));
    g_assert_cmphex(get(&r, SLOT_STATUS), ==, PRESENT);
    g_assert_false(reached(&r)); /* no power */
    g_assert_cmphex(get(&r, LINK_STATUS) & ACTIVE, ==, 0);
    put(&r, SLOT_CONTROL, ENABLED | BLINK);
    g_assert_true(reached(&r));
    g_assert_cmphex(get(&r, LINK_STATUS) & ACTIVE, ==, ACTIVE);
    g_assert_cmphex(events(&r), ==, COMPLETED | LINK_CHANGED);
    /* The link can be switched off by itself. */
    put(&r, LINK_CONTROL, 1 << 4);
    g_assert_false(reached(&r));
    g_assert_cmphex(events(&r), ==, LINK_CHANGED);
    put(&r, LINK_CONTROL, 0);
    g_assert_true(reached(&r));
    down(&r);
}

/* Each event interrupts only where it is enabled; and all only with the common bit, and while INTx is
 * allowed. */
static void test_enables(void)
{
    struct rig r;
    up(&r);
    take_over(&r);
    g_assert_true(pci_port_plug(r.port, virtio_pci_function(r.card), NULL));
    put(&r, SLOT_STATUS, BUTTON);
    g_assert_false(interrupt(&r)); /* presence alone is not enabled */
    put(&r, SLOT_CONTROL, 0x28 | LIGHT_OFF | POWER_OFF);
    g_assert_true(interrupt(&r));
    put(&r, SLOT_CONTROL, 0x08 | LIGHT_OFF | POWER_OFF);
    g_assert_false(interrupt(&r));
    put(&r, SLOT_CONTROL, 0x28 | LIGHT_OFF | POWER_OFF);
    wr(r.host, place(0, SLOT, PCI_COMMAND), 2, PCI_COMMAND_NO_INTX);
    g_assert_false(interrupt(&r));
    g_assert_cmphex(rd(r.host, place(0, SLOT, PCI_STATUS), 2) & PCI_STATUS_INTERRUPT, ==,
                    PCI_STATUS_INTERRUPT);
    wr(r.host, place(0, SLOT, PCI_COMMAND), 2, 0);
    g_assert_true(interrupt(&r));
    put(&r, SLOT_STATUS, COMPLETED); /* another bit: nothing changes */
    g_assert_true(interrupt(&r));
    put(&r, SLOT_STATUS, PRESENCE);
    g_assert_false(interrupt(&r));
    down(&r);
}

static void test_remove(void)
{
    struct rig r;
    up(&r);
    plugged(&r);
    g_assert_true(pci_port_ask(r.port, NULL));
    g_assert_true(interrupt(&r));
    g_assert_cmphex(events(&r), ==, BUTTON);
    put(&r, SLOT_CONTROL, ENABLED | BLINK);
    GError *error = NULL;
    g_assert_false(pci_port_ask(r.port, &error)); /* busy */
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
    g_clear_error(&error);
    put(&r, SLOT_CONTROL, ENABLED | BLINK | POWER_OFF);
    g_assert_false(reached(&r));
    g_assert_cmpuint(r.notes, ==, 0); /* not yet: people are told by the light */
    g_assert_cmphex(get(&r, SLOT_STATUS) & PRESENT, ==, PRESENT);
    events(&r);
    put(&r, SLOT_CONTROL, ENABLED | LIGHT_OFF | POWER_OFF);
    g_assert_cmpuint(r.notes, ==, 1);
    g_assert_cmphex(events(&r), ==, COMPLETED | PRESENCE);
    g_assert_cmphex(get(&r, SLOT_STATUS), ==, 0);
    g_assert_cmpint(pci_port_answer(r.port), ==, PCI_PORT_REMOVED);
    g_assert_cmpint(pci_port_answer(r.port), ==, PCI_PORT_SILENT);
    put(&r, SLOT_CONTROL, ENABLED | LIGHT_ON); /* nothing is there any more */
    g_assert_false(reached(&r));
    pci_port_unplug(r.port);
    g_assert_true(pci_port_plug(r.port, virtio_pci_function(r.card), NULL));
    g_assert_true(reached(&r));
    down(&r);
}

/* Pressed again while it blinks, or the guest's people say no: the light goes on again. */
static void test_refused(void)
{
    struct rig r;
    up(&r);
    plugged(&r);
    g_assert_true(pci_port_ask(r.port, NULL));
    put(&r, SLOT_CONTROL, ENABLED | BLINK);
    put(&r, SLOT_CONTROL, ENABLED | LIGHT_ON);
    g_assert_cmpuint(r.notes, ==, 1);
    g_assert_cmpint(pci_port_answer(r.port), ==, PCI_PORT_REFUSED);
    g_assert_true(reached(&r));
    /* Not asked: the guest may switch it off and on, and keeps it. */
    put(&r, SLOT_CONTROL, ENABLED | LIGHT_OFF | POWER_OFF);
    g_assert_false(reached(&r));
    g_assert_cmpuint(r.notes, ==, 1);
    put(&r, SLOT_CONTROL, ENABLED | LIGHT_ON);
    g_assert_true(reached(&r));
    down(&r);
}

/* Power takes the device's state with it. */
static void test_power_resets(void)
{
    struct rig r;
    up(&r);
    plugged(&r);
    wr(r.host, place(1, 0, PCI_BAR0), 4, 0x40000000);
    wr(r.host, place(1, 0, PCI_COMMAND), 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    wr(r.card, PCI_CONFIG_EXTENT + 0x14, 1, 1); /* status: acknowledge */
    g_assert_true(virtio_pci_in_use(r.card));
    put(&r, SLOT_CONTROL, ENABLED | LIGHT_ON | POWER_OFF);
    put(&r, SLOT_CONTROL, ENABLED | LIGHT_ON);
    g_assert_cmphex(rd(r.host, place(1, 0, PCI_BAR0), 4), ==, 0);
    g_assert_cmphex(rd(r.host, place(1, 0, PCI_COMMAND), 2), ==, 0);
    g_assert_cmphex(rd(r.card, PCI_CONFIG_EXTENT + 0x14, 1), ==, 0);
    g_assert_false(virtio_pci_in_use(r.card));
    down(&r);
}

/* The machine's reset is an agreement; without a question it is none. */
static void test_reset(void)
{
    struct rig r;
    up(&r);
    plugged(&r);
    device_reset(r.port);
    g_assert_cmpuint(r.notes, ==, 0);
    wr(r.host, place(0, SLOT, PCI_BUS_PRIMARY), 4, 0x010100);
    g_assert_true(reached(&r));
    pci_port_forget(r.port);
    g_assert_true(reached(&r));
    g_assert_true(pci_port_ask(r.port, NULL));
    pci_port_forget(r.port);
    device_reset(r.port);
    g_assert_cmpuint(r.notes, ==, 1);
    g_assert_cmpint(pci_port_answer(r.port), ==, PCI_PORT_REMOVED);
    wr(r.host, place(0, SLOT, PCI_BUS_PRIMARY), 4, 0x010100);
    g_assert_false(reached(&r));
    down(&r);
}

/* A port that is saved in the middle of a removal goes on with it; a state that says otherwise about who is
 * there is refused, and nobody is thrown out by it. */
static void test_saved(void)
{
    struct rig a, b;
    up(&a);
    up(&b);
    plugged(&a);
    g_assert_true(pci_port_ask(a.port, NULL));
    put(&a, SLOT_CONTROL, ENABLED | BLINK);
    g_autofree uint8_t *bytes = g_malloc(device_state_size(a.port->type));
    device_state_save(a.port, bytes);
    g_assert_false(device_state_load(b.port, bytes)); /* nothing is in its slot */
    g_assert_cmpuint(b.notes, ==, 0);
    g_assert_true(pci_port_plug(b.port, virtio_pci_function(b.card), NULL));
    device_reset(b.port);
    g_assert_true(device_state_load(b.port, bytes));
    g_assert_true(reached(&b));
    g_assert_cmphex(get(&b, SLOT_STATUS), ==, get(&a, SLOT_STATUS));
    g_assert_cmpint(interrupt(&b), ==, interrupt(&a));
    put(&b, SLOT_CONTROL, ENABLED | LIGHT_OFF | POWER_OFF);
    g_assert_cmpuint(b.notes, ==, 1);
    /* Going back to it while the next removal is asked for. */
    pci_port_unplug(b.port);
    g_assert_true(pci_port_plug(b.port, virtio_pci_function(b.card), NULL));
    g_assert_true(pci_port_ask(b.port, NULL));
    g_assert_true(device_state_load(b.port, bytes));
    g_assert_cmpuint(b.notes, ==, 1);
    g_assert_true(reached(&b));
    down(&a);
    down(&b);
}

/* Lines: INTA# of a slot goes to the line of its number, also from behind its port, and all are held
 * together. */
static void test_lines(void)
{
    struct rig r;
    up(&r);
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
        for (unsigned pin = 1; pin <= 4; pin++)
            for (unsigned behind = 0; behind < 2; behind++) {
                const struct irq_line line = pci_host_line(r.host, slot, behind, pin);
                irq_set(&line, true);
                g_assert_cmphex(atomic_load(&r.pins.level), ==, 1u << (slot + pin - 1) % 4);
                irq_set(&line, false);
                g_assert_cmphex(atomic_load(&r.pins.level), ==, 0);
            }
    const struct irq_line one = pci_host_line(r.host, 1, false, 1), two = pci_host_line(r.host, 5, true, 1);
    irq_set(&one, true);
    irq_set(&two, true);
    irq_set(&one, false);
    g_assert_cmphex(atomic_load(&r.pins.level), ==, 2);
    irq_set(&two, false);
    g_assert_cmphex(atomic_load(&r.pins.level), ==, 0);
    down(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pci-port/capability", test_capability);
    g_test_add_func("/pci-port/no-driver", test_no_driver);
    g_test_add_func("/pci-port/add", test_add);
    g_test_add_func("/pci-port/enables", test_enables);
    g_test_add_func("/pci-port/remove", test_remove);
    g_test_add_func("/pci-port/refused", test_refused);
    g_test_add_func("/pci-port/power-resets", test_power_resets);
    g_test_add_func("/pci-port/reset", test_reset);
    g_test_add_func("/pci-port/saved", test_saved);
    g_test_add_func("/pci-port/lines", test_lines);
    return g_test_run();
}
