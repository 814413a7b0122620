/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* PCI: configuration space after the specifications' rules, and a tree that is moved and cut while it is
 * used. */
#include <pthread.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "bus/pci.h"

#define WINDOW UINT64_C(0x40000000)
#define WINDOW_SIZE UINT64_C(0x10000000)
#define HIGH UINT64_C(0x400000000)
#define PORTS UINT64_C(0x3000000)
enum { BAR_SIZE = 0x1000, HIGH_SIZE = 0x200000, CARD = 0x5678, BRIDGE = 0xb41d };

/* A function with one base address register of each kind. Reads of its registers give their offset and its
 * mark. */
struct card {
    struct pci_function f;
    struct pci_bus below; /* of a bridge */
    unsigned mark;
    unsigned resets;
    _Atomic bool gone;         /* nobody may come any more */
    _Atomic unsigned accesses; /* to registers */
};

static uint64_t card_read(void *chip, uint64_t offset, unsigned size)
{
    struct card *c = chip;
    if (offset < PCI_CONFIG_EXTENT)
        return pci_config_read(&c->f, (unsigned)offset, size);
    g_assert_false(atomic_load(&c->gone));
    if (atomic_fetch_add(&c->accesses, 1) % 16 == 0)
        g_thread_yield();
    g_assert_false(atomic_load(&c->gone));
    g_assert_cmpuint(offset + size, <=, PCI_CONFIG_EXTENT + 2 * BAR_SIZE + HIGH_SIZE);
    return (offset - PCI_CONFIG_EXTENT + c->mark) & bits_mask(8 * size);
}

static void card_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    struct card *c = chip;
    if (offset < PCI_CONFIG_EXTENT) {
        pci_config_write(&c->f, (unsigned)offset, size, (uint32_t)value);
        return;
    }
    g_assert_false(atomic_load(&c->gone));
    atomic_fetch_add(&c->accesses, 1);
}

static void card_reset(void *chip)
{
    struct card *c = chip;
    c->resets++;
    pci_config_reset(&c->f);
}

static const struct bus_ops card_ops = {card_read, card_write, .min_size = 1, .max_size = 4};

static void card_init(struct card *c, unsigned mark)
{
    const struct pci_identity id = {.vendor = 0x1234, .device = CARD, .class = 0x020000, .revision = 3};
    memset(c, 0, sizeof(*c));
    c->mark = mark;
    pci_function_init(&c->f, &id, &card_ops, c, card_reset);
    pci_add_bar(&c->f, 0, PCI_BAR_MEMORY32, BAR_SIZE, PCI_CONFIG_EXTENT);
    pci_add_bar(&c->f, 1, PCI_BAR_IO, 16, PCI_CONFIG_EXTENT + BAR_SIZE);
    pci_add_bar(&c->f, 2, PCI_BAR_MEMORY64, HIGH_SIZE, PCI_CONFIG_EXTENT + 2 * BAR_SIZE);
}

static void bridge_init(struct card *c)
{
    const struct pci_identity id = {.vendor = 0x1234, .device = BRIDGE, .class = 0x060400};
    memset(c, 0, sizeof(*c));
    pci_bridge_init(&c->f, &id, &card_ops, c, card_reset, &c->below);
}

/* --- one function --- */

static uint32_t rd(struct card *c, unsigned at, unsigned size)
{
    return pci_config_read(&c->f, at, size);
}

static void wr(struct card *c, unsigned at, unsigned size, uint32_t value)
{
    pci_config_write(&c->f, at, size, value);
}

/* PCI 3.0, 6.1 and 6.2: identity is fixed, header type 0, one interrupt pin, unknown registers read as zero.
 */
static void test_header(void)
{
    struct card c;
    card_init(&c, 0);
    for (unsigned at = 0; at < PCI_CONFIG_EXTENT; at += 4)
        wr(&c, at, 4, UINT32_MAX);
    g_assert_cmphex(rd(&c, PCI_VENDOR, 4), ==, 0x56781234);
    g_assert_cmphex(rd(&c, PCI_REVISION, 4), ==, 0x02000003);
    g_assert_cmphex(rd(&c, PCI_HEADER_TYPE, 1), ==, 0);
    g_assert_cmphex(rd(&c, PCI_INTERRUPT_PIN, 1), ==, 1);
    g_assert_cmphex(rd(&c, PCI_INTERRUPT_LINE, 1), ==, 0xff);
    /* I/O, memory, master, parity, SERR, interrupt disable: 6.2.2. */
    g_assert_cmphex(rd(&c, PCI_COMMAND, 2), ==, 0x0547);
    g_assert_cmphex(rd(&c, 0x28, 4), ==, 0); /* CardBus */
    g_assert_cmphex(rd(&c, 0x30, 4), ==, 0); /* no expansion ROM */
    g_assert_cmphex(rd(&c, PCI_CAPABILITIES, 1), ==, 0);
    g_assert_cmphex(rd(&c, PCI_STATUS, 2), ==, 0);
    g_assert_cmphex(rd(&c, 0x100, 4), ==, 0);
    pci_config_reset(&c.f);
    g_assert_cmphex(rd(&c, PCI_COMMAND, 2), ==, 0);
}

/* PCI 3.0, 6.2.5.1: all ones written, the size is what reads back; low bits say what kind it is. */
static void test_bar_sizing(void)
{
    struct card c;
    card_init(&c, 0);
    for (unsigned i = 0; i < 6; i++)
        wr(&c, PCI_BAR0 + 4 * i, 4, UINT32_MAX);
    g_assert_cmphex(rd(&c, PCI_BAR0, 4), ==, 0xfffff000);
    g_assert_cmphex(rd(&c, PCI_BAR0 + 4, 4), ==, 0xfffffff1);
    g_assert_cmphex(rd(&c, PCI_BAR0 + 8, 4), ==, 0xffe00004);
    g_assert_cmphex(rd(&c, PCI_BAR0 + 12, 4), ==, 0xffffffff);
    g_assert_cmphex(rd(&c, PCI_BAR0 + 16, 4), ==, 0);
    wr(&c, PCI_BAR0, 4, 0x40012345);
    g_assert_cmphex(rd(&c, PCI_BAR0, 4), ==, 0x40012000);
    wr(&c, PCI_BAR0 + 3, 1, 0x77); /* bytes can be written, too */
    g_assert_cmphex(rd(&c, PCI_BAR0, 4), ==, 0x77012000);
    uint64_t base;
    g_assert_false(pci_bar_address(&c.f, 0, &base));
    wr(&c, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    g_assert_true(pci_bar_address(&c.f, 0, &base));
    g_assert_cmphex(base, ==, 0x77012000);
    g_assert_false(pci_bar_address(&c.f, 1, &base));
}

/* Linked from the header, each behind the other, the last with a zero; status says that there are any. */
static void test_capabilities(void)
{
    struct card c;
    card_init(&c, 0);
    const unsigned first = pci_add_capability(&c.f, PCI_CAP_VENDOR, 13);
    const unsigned second = pci_add_capability(&c.f, PCI_CAP_EXPRESS, 60);
    pci_register(&c.f, first + 4, 4, 0x11223344, 0x00ff0000);
    pci_register(&c.f, first + 8, 2, 0, 0x00f0);
    pci_register_status(&c.f, first + 8, 2, 0xff00, 0x000f);
    g_assert_cmphex(rd(&c, PCI_STATUS, 2), ==, PCI_STATUS_CAPABILITIES);
    g_assert_cmpuint(rd(&c, PCI_CAPABILITIES, 1), ==, first);
    g_assert_cmphex(rd(&c, first, 2), ==, second << 8 | PCI_CAP_VENDOR);
    g_assert_cmphex(rd(&c, second, 2), ==, PCI_CAP_EXPRESS);
    g_assert_cmpuint(first % 4 + second % 4, ==, 0);
    wr(&c, first + 4, 4, UINT32_MAX);
    g_assert_cmphex(rd(&c, first + 4, 4), ==, 0x11ff3344);
    /* Set by the chip, cleared by ones: zeros leave them. */
    pci_config_put(&c.f, first + 8, 2, 0xa505);
    wr(&c, first + 8, 2, 0x0000);
    g_assert_cmphex(rd(&c, first + 8, 2), ==, 0xa505);
    wr(&c, first + 8, 2, 0x25f0);
    g_assert_cmphex(rd(&c, first + 8, 2), ==, 0x80f5);
    g_assert_true(pci_config_check(&c.f));
    c.f.config[first + 4] ^= 1;
    g_assert_false(pci_config_check(&c.f));
}

/* The pin is low while the command register forbids it, the status bit says all the same (6.2.3). */
static void test_interrupt(void)
{
    struct card c;
    card_init(&c, 0);
    g_assert_true(pci_interrupt(&c.f, true));
    g_assert_cmphex(rd(&c, PCI_STATUS, 2), ==, PCI_STATUS_INTERRUPT);
    wr(&c, PCI_COMMAND, 2, PCI_COMMAND_NO_INTX);
    g_assert_false(pci_interrupt(&c.f, true));
    g_assert_cmphex(rd(&c, PCI_STATUS, 2), ==, PCI_STATUS_INTERRUPT);
    g_assert_false(pci_interrupt(&c.f, false));
    g_assert_cmphex(rd(&c, PCI_STATUS, 2), ==, 0);
}

/* --- the tree --- */

struct rig {
    struct bus *bus;
    struct pci *pci;
    struct card card, bridge;
};

static void up(struct rig *r)
{
    r->bus = bus_new();
    r->pci = pci_new();
    g_assert_true(pci_map_memory(r->pci, r->bus, "low", GPA(WINDOW), WINDOW_SIZE, NULL));
    g_assert_true(pci_map_memory(r->pci, r->bus, "high", GPA(HIGH), WINDOW_SIZE, NULL));
    g_assert_true(pci_map_io(r->pci, r->bus, "io", GPA(PORTS), 0x10000, 0, NULL));
    card_init(&r->card, 0);
    bridge_init(&r->bridge);
}

static void down(struct rig *r)
{
    pci_free(r->pci);
    bus_free(r->bus);
}

static uint64_t place(unsigned bus, unsigned slot, unsigned reg)
{
    return (uint64_t)bus << 20 | slot << 15 | reg;
}

static uint32_t look(struct rig *r, uint64_t addr, unsigned size)
{
    uint64_t value = 0;
    g_assert_cmpint(bus_read(r->bus, GPA(addr), size, &value), ==, 0);
    return (uint32_t)value;
}

static void config(struct rig *r, uint64_t at, unsigned size, uint32_t value)
{
    pci_ecam_write(r->pci, at, size, value);
}

/* Where nobody is, all ones are read and writes are lost. */
static void test_nobody(void)
{
    struct rig r;
    up(&r);
    g_assert_true(pci_attach(pci_root(r.pci), 5, &r.card.f, NULL));
    g_assert_cmphex(pci_ecam_read(r.pci, place(0, 5, 0), 4), ==, 0x56781234);
    g_assert_cmphex(pci_ecam_read(r.pci, place(0, 5, 0), 8), ==, UINT64_C(0x56781234)); /* command is zero */
    g_assert_cmphex(pci_ecam_read(r.pci, place(0, 4, 0), 4), ==, 0xffffffff);
    g_assert_cmphex(pci_ecam_read(r.pci, place(0, 5, 1 << 12), 2), ==, 0xffff); /* function 1 */
    g_assert_cmphex(pci_ecam_read(r.pci, place(1, 5, 0), 1), ==, 0xff);
    config(&r, place(0, 4, PCI_COMMAND), 2, 2);
    g_assert_cmphex(look(&r, WINDOW, 4), ==, 0xffffffff);
    g_assert_cmphex(look(&r, PORTS, 1), ==, 0xff);
    g_assert_cmpint(bus_write(r.bus, GPA(WINDOW), 4, 1), ==, 0);
    GError *error = NULL;
    struct card other;
    card_init(&other, 1);
    g_assert_false(pci_attach(pci_root(r.pci), 5, &other.f, &error));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_USAGE);
    g_clear_error(&error);
    pci_detach(&r.card.f);
    g_assert_cmphex(pci_ecam_read(r.pci, place(0, 5, 0), 4), ==, 0xffffffff);
    down(&r);
}

/* Registers are found where the guest has put them, as long as it lets the function decode. */
static void test_moving(void)
{
    struct rig r;
    up(&r);
    g_assert_true(pci_attach(pci_root(r.pci), 2, &r.card.f, NULL));
    config(&r, place(0, 2, PCI_BAR0), 4, WINDOW + 0x3000);
    config(&r, place(0, 2, PCI_BAR0 + 4), 4, 0x100);
    config(&r, place(0, 2, PCI_BAR0 + 8), 4, (uint32_t)(HIGH + HIGH_SIZE));
    config(&r, place(0, 2, PCI_BAR0 + 12), 4, HIGH >> 32);
    g_assert_cmphex(look(&r, WINDOW + 0x3010, 4), ==, 0xffffffff);
    config(&r, place(0, 2, PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
    g_assert_cmphex(look(&r, WINDOW + 0x3010, 4), ==, 0x10);
    g_assert_cmphex(look(&r, WINDOW + 0x3fff, 1), ==, 0xff);
    g_assert_cmphex(look(&r, WINDOW + 0x2ffc, 4), ==, 0xffffffff);
    g_assert_cmphex(look(&r, WINDOW + 0x4000, 4), ==, 0xffffffff);
    g_assert_cmphex(look(&r, HIGH + HIGH_SIZE + 8, 4), ==, 2 * BAR_SIZE + 8);
    g_assert_cmphex(look(&r, PORTS + 0x100, 2), ==, 0xffff);
    config(&r, place(0, 2, PCI_COMMAND), 2, PCI_COMMAND_IO);
    g_assert_cmphex(look(&r, PORTS + 0x10f, 1), ==, 0x0f);
    g_assert_cmphex(look(&r, PORTS + 0x110, 1), ==, 0xff);
    g_assert_cmphex(look(&r, WINDOW + 0x3010, 4), ==, 0xffffffff);
    config(&r, place(0, 2, PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
    config(&r, place(0, 2, PCI_BAR0), 4, WINDOW + 0x8000);
    g_assert_cmphex(look(&r, WINDOW + 0x3010, 4), ==, 0xffffffff);
    g_assert_cmphex(look(&r, WINDOW + 0x8010, 4), ==, 0x10);
    uint64_t wide;
    g_assert_cmpint(bus_read(r.bus, GPA(WINDOW + 0x8010), 8, &wide), ==, 0); /* in pieces the chip takes */
    g_assert_cmphex(wide, ==, UINT64_C(0x1400000010));
    card_reset(&r.card); /* as the machine's reset does */
    g_assert_cmphex(look(&r, WINDOW + 0x8010, 4), ==, 0xffffffff);
    pci_detach(&r.card.f);
    down(&r);
}

/* Where two would answer, one does, and the other one does when that is gone. */
static void test_overlap(void)
{
    struct rig r;
    struct card other;
    up(&r);
    card_init(&other, 0x100);
    g_assert_true(pci_attach(pci_root(r.pci), 1, &r.card.f, NULL));
    g_assert_true(pci_attach(pci_root(r.pci), 2, &other.f, NULL));
    for (unsigned slot = 1; slot <= 2; slot++) {
        config(&r, place(0, slot, PCI_BAR0), 4, WINDOW);
        config(&r, place(0, slot, PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
    }
    g_assert_cmphex(look(&r, WINDOW, 4), ==, 0);
    pci_detach(&r.card.f);
    g_assert_cmphex(look(&r, WINDOW, 4), ==, 0x100);
    pci_detach(&other.f);
    down(&r);
}

/* PCI-to-PCI Bridge 1.2, 3.2.5: a bridge passes on what its registers say, by bus number and by address. */
static void test_bridge(void)
{
    struct rig r;
    up(&r);
    g_assert_true(pci_attach(pci_root(r.pci), 1, &r.bridge.f, NULL));
    g_assert_true(pci_attach(&r.bridge.below, 0, &r.card.f, NULL));
    g_assert_cmphex(pci_ecam_read(r.pci, place(0, 1, PCI_HEADER_TYPE), 1), ==, 1);
    config(&r, place(0, 1, PCI_BUS_PRIMARY), 4, 0x00090700);                  /* buses 7 to 9 */
    g_assert_cmphex(pci_ecam_read(r.pci, place(7, 0, 0), 4), ==, 0xffffffff); /* nothing is up yet */
    pci_bus_up(&r.bridge.below, true);
    g_assert_cmphex(pci_ecam_read(r.pci, place(7, 0, 0), 4), ==, 0x56781234);
    g_assert_cmphex(pci_ecam_read(r.pci, place(8, 0, 0), 4), ==, 0xffffffff);
    config(&r, place(7, 0, PCI_BAR0), 4, WINDOW + 0x100000);
    config(&r, place(7, 0, PCI_BAR0 + 8), 4, (uint32_t)HIGH);
    config(&r, place(7, 0, PCI_BAR0 + 12), 4, HIGH >> 32);
    config(&r, place(7, 0, PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
    g_assert_cmphex(look(&r, WINDOW + 0x100004, 4), ==, 0xffffffff); /* the bridge passes nothing */
    config(&r, place(0, 1, PCI_MEMORY_BASE), 4, 0x40104010);
    g_assert_cmphex(look(&r, WINDOW + 0x100004, 4), ==, 0xffffffff);
    config(&r, place(0, 1, PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
    g_assert_cmphex(look(&r, WINDOW + 0x100004, 4), ==, 4);
    g_assert_cmphex(look(&r, HIGH + 4, 4), ==, 0xffffffff);
    config(&r, place(0, 1, PCI_PREFETCH_BASE), 4, 0x00110001); /* 2 MiB at HIGH */
    config(&r, place(0, 1, PCI_PREFETCH_BASE_HIGH), 4, HIGH >> 32);
    config(&r, place(0, 1, PCI_PREFETCH_LIMIT_HIGH), 4, HIGH >> 32);
    g_assert_cmphex(look(&r, HIGH + 4, 4), ==, 2 * BAR_SIZE + 4);
    config(&r, place(0, 1, PCI_MEMORY_BASE), 4, 0x40104020); /* base above limit: closed */
    g_assert_cmphex(look(&r, WINDOW + 0x100004, 4), ==, 0xffffffff);
    config(&r, place(0, 1, PCI_BUS_PRIMARY), 4, 0x00030300); /* renumbered */
    g_assert_cmphex(pci_ecam_read(r.pci, place(3, 0, 0), 4), ==, 0x56781234);
    g_assert_cmphex(pci_ecam_read(r.pci, place(7, 0, 0), 4), ==, 0xffffffff);
    pci_bus_up(&r.bridge.below, false);
    g_assert_cmphex(pci_ecam_read(r.pci, place(3, 0, 0), 4), ==, 0xffffffff);
    g_assert_cmphex(look(&r, HIGH + 4, 4), ==, 0xffffffff);
    pci_detach(&r.card.f);
    pci_detach(&r.bridge.f);
    down(&r);
}

/* The reset bit resets what is below, bridges and what is below them included (3.2.5.18), once. */
static void test_bus_reset(void)
{
    struct rig r;
    struct card deeper;
    up(&r);
    bridge_init(&deeper);
    g_assert_true(pci_attach(pci_root(r.pci), 1, &r.bridge.f, NULL));
    g_assert_true(pci_attach(&r.bridge.below, 0, &deeper.f, NULL));
    g_assert_true(pci_attach(&deeper.below, 0, &r.card.f, NULL));
    pci_bus_up(&r.bridge.below, true);
    pci_bus_up(&deeper.below, true);
    config(&r, place(0, 1, PCI_BUS_PRIMARY), 4, 0x020100);
    config(&r, place(1, 0, PCI_BUS_PRIMARY), 4, 0x020201);
    config(&r, place(2, 0, PCI_INTERRUPT_LINE), 1, 9);
    g_assert_cmphex(pci_ecam_read(r.pci, place(2, 0, PCI_INTERRUPT_LINE), 1), ==, 9);
    config(&r, place(0, 1, PCI_BRIDGE_CONTROL), 2, PCI_BRIDGE_RESET);
    config(&r, place(0, 1, PCI_BRIDGE_CONTROL), 2, 0);
    g_assert_cmpuint(r.bridge.resets, ==, 0);
    g_assert_cmpuint(deeper.resets, ==, 1);
    g_assert_cmpuint(r.card.resets, ==, 1);
    g_assert_cmphex(pci_ecam_read(r.pci, place(2, 0, 0), 4), ==, 0xffffffff); /* the number is gone */
    config(&r, place(1, 0, PCI_BUS_PRIMARY), 4, 0x020201);
    g_assert_cmphex(pci_ecam_read(r.pci, place(2, 0, PCI_INTERRUPT_LINE), 1), ==, 0);
    pci_detach(&r.card.f);
    pci_detach(&deeper.f);
    pci_detach(&r.bridge.f);
    down(&r);
}

/* --- hostile --- */

/* Bus 1 behind the bridge, a window from WINDOW on, all on. */
static void make_sense(struct rig *r)
{
    config(r, place(0, 1, PCI_BUS_PRIMARY), 4, 0x010100);
    config(r, place(0, 1, PCI_MEMORY_BASE), 4, 0x4ff04000);
    config(r, place(0, 1, PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
    config(r, place(1, 0, PCI_COMMAND), 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    config(r, place(1, 0, PCI_BAR0), 4, WINDOW);
}

/* Any writes anywhere: every access stays inside the registers of the function that it is for. */
static void test_random(void)
{
    struct rig r;
    GRand *rand = g_rand_new_with_seed(7);
    up(&r);
    g_assert_true(pci_attach(pci_root(r.pci), 1, &r.bridge.f, NULL));
    g_assert_true(pci_attach(&r.bridge.below, 0, &r.card.f, NULL));
    pci_bus_up(&r.bridge.below, true);
    for (unsigned i = 0; i < 200000; i++) {
        if (i % 64 == 0)
            make_sense(&r);
        const unsigned size = 1u << g_rand_int_range(rand, 0, 4);
        const unsigned bus = (unsigned)g_rand_int_range(rand, 0, 4),
                       reg = (unsigned)g_rand_int_range(rand, 0, 0x48);
        uint32_t value = g_rand_int(rand);
        if (g_rand_boolean(rand))
            value = (uint32_t)(WINDOW + (value & 0xfffff));
        if (g_rand_boolean(rand))
            value = bus << 16 | bus << 8 | 3;
        const uint64_t at = place(bus, bus == 0, reg & ~(size - 1));
        if (g_rand_int_range(rand, 0, 3))
            pci_ecam_write(r.pci, at, size, value);
        else
            pci_ecam_read(r.pci, at, size);
        uint64_t seen;
        bus_read(r.bus, GPA((WINDOW + (g_rand_int(rand) & 0x1fff)) & ~(uint64_t)(size - 1)), size, &seen);
        bus_write(r.bus, GPA((PORTS + (g_rand_int(rand) & 0xffff)) & ~(uint64_t)(size - 1)), size, value);
    }
    g_assert_cmpuint(atomic_load(&r.card.accesses), >, 0);
    pci_detach(&r.card.f);
    pci_detach(&r.bridge.f);
    g_rand_free(rand);
    down(&r);
}

/* --- while others look --- */

struct looker {
    struct rig *r;
    _Atomic bool stop;
    _Atomic unsigned seen;
};

static void *keep_looking(void *data)
{
    struct looker *l = data;
    while (!atomic_load(&l->stop)) {
        for (unsigned i = 0; i < 4; i++) {
            const uint32_t value = look(l->r, WINDOW + i * BAR_SIZE + 0x20, 4);
            g_assert_true(value == 0xffffffff || value == 0x20);
            atomic_fetch_add(&l->seen, value == 0x20);
        }
    }
    return NULL;
}

/* Two vCPUs look while a third moves the card about and the owner takes it out and puts it in: nobody is
 * inside of it once it is out. */
static void test_race(void)
{
    struct rig r;
    enum { LOOKERS = 2, ROUNDS = 400 };
    pthread_t threads[LOOKERS];
    up(&r);
    struct looker l = {.r = &r};
    for (unsigned i = 0; i < LOOKERS; i++)
        pthread_create(&threads[i], NULL, keep_looking, &l);
    for (unsigned round = 0; round < ROUNDS; round++) {
        atomic_store(&r.card.gone, false);
        g_assert_true(pci_attach(pci_root(r.pci), 3, &r.card.f, NULL));
        config(&r, place(0, 3, PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
        const unsigned before = atomic_load(&l.seen);
        for (unsigned i = 0; i < 8; i++)
            config(&r, place(0, 3, PCI_BAR0), 4, (uint32_t)(WINDOW + i % 4 * BAR_SIZE));
        while (round % 64 == 0 && atomic_load(&l.seen) == before) /* they do get at it */
            g_thread_yield();
        pci_detach(&r.card.f);
        atomic_store(&r.card.gone, true);
    }
    atomic_store(&l.stop, true);
    for (unsigned i = 0; i < LOOKERS; i++)
        pthread_join(threads[i], NULL);
    down(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pci/header", test_header);
    g_test_add_func("/pci/bar-sizing", test_bar_sizing);
    g_test_add_func("/pci/capabilities", test_capabilities);
    g_test_add_func("/pci/interrupt", test_interrupt);
    g_test_add_func("/pci/nobody", test_nobody);
    g_test_add_func("/pci/moving", test_moving);
    g_test_add_func("/pci/overlap", test_overlap);
    g_test_add_func("/pci/bridge", test_bridge);
    g_test_add_func("/pci/bus-reset", test_bus_reset);
    g_test_add_func("/pci/random", test_random);
    g_test_add_func("/pci/race", test_race);
    return g_test_run();
}
