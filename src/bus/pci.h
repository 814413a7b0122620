/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* PCI and PCI Express: configuration space of a function, and the tree of buses that reaches it. */
/*
 * Theory of operation
 *
 * A *function* is embedded in a chip. Its configuration space (pci_config.c) is bytes and masks: what the
 * register holds after a reset, which bits a guest may write, which it clears by writing ones, which are the
 * chip's own to change. A chip lists its registers once; from then on reading, writing, reset and the check
 * of a loaded state follow from the masks.
 *
 * The *tree* (pci.c) is a root bus, bridges on it and the buses below them. Who is reached by a bus number or
 * an address is decided by what the guest has written into bridges and base address registers, while it runs.
 * The board maps windows of its address space once and for good; inside them the tree finds the function
 * itself, in a sorted table made from the registers.
 *
 *   config access  -> tree lock -> function by bus:device.function -> chip's lock
 *   window access  -> table, no lock -> chip's registers
 *
 * The table. There are two, one of them current. A change of a register that matters marks the tree stale;
 * who finds that (the config access that did it, or the next one of any kind) takes the tree lock, fills the
 * other table, makes it current, and waits until nobody is left who may look at the old one. Accesses through
 * windows are counted for that in two counters: a newcomer counts itself in the one that `epoch` names. The
 * waiter turns the epoch and waits for the counter left behind to fall to zero, twice; newcomers meanwhile
 * are in the other one, so the wait ends. So when pci_detach() returns, no thread is inside the function's
 * registers, and none comes there any more.
 *
 * Rules for chips: an access through a window never makes an access to configuration space (it would wait for
 * itself); a config access may call pci_changed() and what is said to do the same, and drive its pins.
 *
 * Locks, outermost first: the tree's, then a chip's. The tree's is held during config accesses.
 *
 * Interrupts are INTx: a function drives pin 0 of its chip, which the board or bridge wires to a line. A
 * board that takes messages will give functions a place to send them (MSI-X) beside it; the tables for that
 * are a capability and a base address register like any other.
 *
 * Specifications: PCI Local Bus 3.0 (chapter 6), PCI-to-PCI Bridge Architecture 1.2 (chapter 3), PCI Express
 * Base 4.0 (chapter 7).
 */
#ifndef HOSTEL_BUS_PCI_H
#define HOSTEL_BUS_PCI_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "bus/bus.h"

enum {
    PCI_CONFIG_SIZE = 256,    /* bytes kept; what lies behind in PCI Express's 4096 reads as zero */
    PCI_CONFIG_EXTENT = 4096, /* bytes of one function in ECAM */
    PCI_BARS = 6,
    PCI_SLOTS = 32, /* devices on a bus */
    PCI_DEPTH_MAX = 4,
    PCI_TABLE_MAX = 256, /* base address registers in one tree */
};

/* Registers of configuration space that more than one file names. */
enum {
    PCI_VENDOR = 0x00,
    PCI_DEVICE = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08, /* and the class code above it */
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_BUS_PRIMARY = 0x18,
    PCI_BUS_SECONDARY = 0x19,
    PCI_BUS_SUBORDINATE = 0x1a,
    PCI_MEMORY_BASE = 0x20,
    PCI_MEMORY_LIMIT = 0x22,
    PCI_PREFETCH_BASE = 0x24,
    PCI_PREFETCH_LIMIT = 0x26,
    PCI_PREFETCH_BASE_HIGH = 0x28,
    PCI_PREFETCH_LIMIT_HIGH = 0x2c,
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM = 0x2e,
    PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
    PCI_BRIDGE_CONTROL = 0x3e,
};
enum {
    PCI_COMMAND_IO = 1 << 0,
    PCI_COMMAND_MEMORY = 1 << 1,
    PCI_COMMAND_MASTER = 1 << 2,
    PCI_COMMAND_NO_INTX = 1 << 10,
    PCI_STATUS_INTERRUPT = 1 << 3,
    PCI_STATUS_CAPABILITIES = 1 << 4,
    PCI_BRIDGE_RESET = 1 << 6,
};
enum { PCI_CAP_VENDOR = 0x09, PCI_CAP_EXPRESS = 0x10 };

/* --- a function's configuration space --- */

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEMORY32, PCI_BAR_MEMORY64 };

struct pci_bar {
    enum pci_bar_kind kind;
    uint64_t size; /* bytes, a power of two */
    uint64_t at;   /* where its registers begin in the chip's own register space */
};

struct pci_bus;
struct pci;

struct pci_function {
    uint8_t config[PCI_CONFIG_SIZE]; /* guarded by the chip's lock; the only state of a saved function */

    /* Fixed by set-up. */
    uint8_t fresh[PCI_CONFIG_SIZE];    /* after a reset */
    uint8_t writable[PCI_CONFIG_SIZE]; /* bits that keep what is written */
    uint8_t clears[PCI_CONFIG_SIZE];   /* bits that a written one clears */
    uint8_t own[PCI_CONFIG_SIZE];      /* bits that the chip changes */
    struct pci_bar bars[PCI_BARS];
    uint8_t last_capability, end; /* the last one's offset; first byte behind all */
    const struct bus_ops *ops;    /* of the chip: [0, PCI_CONFIG_EXTENT) is configuration space */
    void *chip;
    void (*reset)(void *chip); /* with no lock but the tree's held: to the state after a reset */
    struct pci_bus *below;     /* a bridge's other side; NULL: no bridge */

    /* The tree's. */
    struct pci_bus *on; /* NULL: nowhere */
    uint8_t slot;
};

struct pci_identity {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class; /* 24 bits: class, subclass, interface */
    uint8_t revision;
};

/* From a chip's init. ops and chip as in bus_map(). A type 0 header with one interrupt pin (INTA#). */
void pci_function_init(struct pci_function *f, const struct pci_identity *id, const struct bus_ops *ops,
                       void *chip, void (*reset)(void *chip));
/* The same with a type 1 header; below is the bus on the other side (borrowed, as long as f). Without windows
 * for I/O. */
void pci_bridge_init(struct pci_function *f, const struct pci_identity *id, const struct bus_ops *ops,
                     void *chip, void (*reset)(void *chip), struct pci_bus *below);
/* A base address register; a 64-bit one takes the next one, too. */
void pci_add_bar(struct pci_function *f, unsigned index, enum pci_bar_kind kind, uint64_t size, uint64_t at);
/* size bytes of capability, its two-byte head included; its offset. The rest is for pci_register(). */
unsigned pci_add_capability(struct pci_function *f, uint8_t id, unsigned size);
/* size bytes (1, 2 or 4) at offset: what they are after a reset, and which bits keep what is written. */
void pci_register(struct pci_function *f, unsigned offset, unsigned size, uint32_t fresh, uint32_t writable);
/* Bits that a written one clears, and others that the chip changes. */
void pci_register_status(struct pci_function *f, unsigned offset, unsigned size, uint32_t clears,
                         uint32_t own);

/* All below: the chip's lock is held. */

/* As after a reset. */
void pci_config_reset(struct pci_function *f);
/* As the guest does: size is 1, 2 or 4, offset aligned and below PCI_CONFIG_EXTENT. What it changes about who
 * is reached by an access is seen to. */
uint32_t pci_config_read(const struct pci_function *f, unsigned offset, unsigned size);
void pci_config_write(struct pci_function *f, unsigned offset, unsigned size, uint32_t value);
/* The same for the chip itself: no masks. */
void pci_config_put(struct pci_function *f, unsigned offset, unsigned size, uint32_t value);
/* The interrupt as the function has it, into the status register; what its pin should be, given the command
 * register. */
bool pci_interrupt(struct pci_function *f, bool asserted);
/* After state was loaded: no fixed bit differs. */
bool pci_config_check(const struct pci_function *f);

/* --- the tree --- */

struct pci_bus {
    struct pci *pci; /* NULL: not part of a tree */
    struct pci_function *bridge;
    struct pci_function *functions[PCI_SLOTS]; /* function 0 of each device; guarded by the tree's lock */
    _Atomic bool up;                           /* can it be reached? */
    _Atomic bool reset_wanted;
};

struct pci *pci_new(void);
void pci_free(struct pci *p); /* NULL is fine; nothing is attached any more */
CLEANUP_DEFINE(pci, pci_free)
struct pci_bus *pci_root(struct pci *p);

/* Set-up: [base, base + size) of the machine's addresses reaches PCI's I/O addresses from to on, or memory at
 * the same addresses. name is borrowed. */
bool pci_map_io(struct pci *p, struct bus *bus, const char *name, struct gpa base, uint64_t size, uint64_t to,
                GError **error);
bool pci_map_memory(struct pci *p, struct bus *bus, const char *name, struct gpa base, uint64_t size,
                    GError **error);

/* Puts f into a slot, where the guest reaches it from now on as the registers say. False with *error when the
 * slot is taken or the tree is full. Any thread, no chip's lock held. */
bool pci_attach(struct pci_bus *bus, unsigned slot, struct pci_function *f, GError **error);
/* When it returns nobody is inside f's registers and nobody reaches them any more. */
void pci_detach(struct pci_function *f);

/* For chips, under any of their locks: registers that decide who is reached may have changed; a bus can be
 * reached from now on, or not; what is on a bus is to be reset (before anything is reached there again). */
void pci_changed(struct pci *p);
void pci_bus_up(struct pci_bus *bus, bool up);
void pci_bus_reset(struct pci_bus *bus);

/* Configuration space by ECAM's offset: bus << 20 | device << 15 | function << 12 | register. Nobody there
 * reads as all ones. size is 1 to 8. vCPU threads. */
uint64_t pci_ecam_read(struct pci *p, uint64_t offset, unsigned size);
void pci_ecam_write(struct pci *p, uint64_t offset, unsigned size, uint64_t value);

/* Calls see(opaque) for each function that can be reached, bridges before what is behind them, with its bus
 * number. The tree's lock is held. */
void pci_each(struct pci *p, void (*see)(void *opaque, struct pci_function *f, unsigned bus), void *opaque);

/* Where register i of f lies now: false when it is not decoded (by f itself; bridges may still stand before
 * it). The tree's lock is held, or no guest runs. */
bool pci_bar_address(const struct pci_function *f, unsigned i, uint64_t *base);

#endif
