/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The configuration space of a PCI function: bytes, and masks of what may be done to them. */
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "bus/pci.h"

enum { HEADER_SIZE = 0x40 };
enum { BAR_IO = 1, BAR_64 = 4 };
/* A bridge's windows are as fine as this many low bits of the address: those of the register are fixed. */
enum { WINDOW_MASK = 0xfff0, WINDOW_64 = 1 };

static uint32_t get(const uint8_t *bytes, unsigned size)
{
    return size == 1 ? bytes[0] : size == 2 ? ld16le(bytes) : ld32le(bytes);
}

static void put(uint8_t *bytes, unsigned size, uint32_t value)
{
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> 8 * i);
}

/* --- set-up --- */

void pci_register(struct pci_function *f, unsigned offset, unsigned size, uint32_t fresh, uint32_t writable)
{
    g_assert(offset + size <= PCI_CONFIG_SIZE);
    put(f->fresh + offset, size, fresh);
    put(f->config + offset, size, fresh);
    put(f->writable + offset, size, writable);
}

void pci_register_status(struct pci_function *f, unsigned offset, unsigned size, uint32_t clears,
                         uint32_t own)
{
    g_assert(offset + size <= PCI_CONFIG_SIZE);
    put(f->clears + offset, size, clears);
    put(f->own + offset, size, own | clears);
}

static void init(struct pci_function *f, const struct pci_identity *id, const struct bus_ops *ops, void *chip,
                 void (*reset)(void *chip))
{
    memset(f, 0, sizeof(*f));
    f->ops = ops;
    f->chip = chip;
    f->reset = reset;
    f->end = HEADER_SIZE;
    pci_register(f, PCI_VENDOR, 2, id->vendor, 0);
    pci_register(f, PCI_DEVICE, 2, id->device, 0);
    /* Parity and system errors are never reported; their enable bits are there to be kept (6.2.2). */
    pci_register(f, PCI_COMMAND, 2, 0,
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | 1 << 6 | 1 << 8 | PCI_COMMAND_NO_INTX);
    pci_register(f, PCI_STATUS, 2, 0, 0);
    pci_register_status(f, PCI_STATUS, 2, 0, PCI_STATUS_INTERRUPT);
    pci_register(f, PCI_REVISION, 4, id->class << 8 | id->revision, 0);
    pci_register(f, 0x0c, 1, 0, 0xff); /* cache line size: kept, without a meaning */
    pci_register(f, PCI_INTERRUPT_LINE, 1, 0, 0xff);
    pci_register(f, PCI_INTERRUPT_PIN, 1, 1, 0);
}

void pci_function_init(struct pci_function *f, const struct pci_identity *id, const struct bus_ops *ops,
                       void *chip, void (*reset)(void *chip))
{
    init(f, id, ops, chip, reset);
    pci_register(f, PCI_SUBSYSTEM_VENDOR, 2, id->subsystem_vendor, 0);
    pci_register(f, PCI_SUBSYSTEM, 2, id->subsystem, 0);
}

void pci_bridge_init(struct pci_function *f, const struct pci_identity *id, const struct bus_ops *ops,
                     void *chip, void (*reset)(void *chip), struct pci_bus *below)
{
    init(f, id, ops, chip, reset);
    pci_register(f, PCI_HEADER_TYPE, 1, 1, 0);
    pci_register(f, PCI_BUS_PRIMARY, 4, 0, 0xffffff);
    pci_register(f, PCI_MEMORY_BASE, 2, 0, WINDOW_MASK);
    pci_register(f, PCI_MEMORY_LIMIT, 2, 0, WINDOW_MASK);
    pci_register(f, PCI_PREFETCH_BASE, 2, WINDOW_64, WINDOW_MASK);
    pci_register(f, PCI_PREFETCH_LIMIT, 2, WINDOW_64, WINDOW_MASK);
    pci_register(f, PCI_PREFETCH_BASE_HIGH, 4, 0, UINT32_MAX);
    pci_register(f, PCI_PREFETCH_LIMIT_HIGH, 4, 0, UINT32_MAX);
    /* Parity and system errors again, and the reset of what is below. */
    pci_register(f, PCI_BRIDGE_CONTROL, 2, 0, 1 << 0 | 1 << 1 | PCI_BRIDGE_RESET);
    f->below = below;
    below->bridge = f;
}

void pci_add_bar(struct pci_function *f, unsigned index, enum pci_bar_kind kind, uint64_t size, uint64_t at)
{
    const bool wide = kind == PCI_BAR_MEMORY64;
    const unsigned offset = PCI_BAR0 + 4 * index;
    /* So each access that is aligned and inside the window is inside the register, too. */
    g_assert(index + wide < PCI_BARS && is_power_of_two(size) && size >= 16);
    f->bars[index] = (struct pci_bar){.kind = kind, .size = size, .at = at};
    const uint64_t mask = ~(size - 1);
    pci_register(f, offset, 4, kind == PCI_BAR_IO ? BAR_IO : wide ? BAR_64 : 0, (uint32_t)mask);
    if (wide)
        pci_register(f, offset + 4, 4, 0, (uint32_t)(mask >> 32));
    if (kind == PCI_BAR_IO)
        f->writable[PCI_COMMAND] |= PCI_COMMAND_IO;
}

unsigned pci_add_capability(struct pci_function *f, uint8_t id, unsigned size)
{
    const unsigned offset = f->end;
    g_assert(offset + size <= PCI_CONFIG_SIZE - 4); /* `end` stays a byte */
    pci_register(f, f->last_capability ? f->last_capability + 1u : PCI_CAPABILITIES, 1, offset, 0);
    pci_register(f, offset, 2, id, 0);
    f->fresh[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    f->config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    f->last_capability = (uint8_t)offset;
    f->end = (uint8_t)align_up(offset + size, 4);
    return offset;
}

/* --- at run time --- */

/* Bytes that decide who is reached by an access. */
static bool decides(const struct pci_function *f, unsigned offset)
{
    return offset == PCI_COMMAND || (offset >= PCI_BAR0 && offset < PCI_BAR0 + 4 * PCI_BARS) ||
           (f->below && offset >= PCI_BUS_PRIMARY && offset < PCI_PREFETCH_LIMIT_HIGH + 4);
}

void pci_config_reset(struct pci_function *f)
{
    memcpy(f->config, f->fresh, sizeof(f->config));
    if (f->on)
        pci_changed(f->on->pci);
}

uint32_t pci_config_read(const struct pci_function *f, unsigned offset, unsigned size)
{
    return offset + size <= PCI_CONFIG_SIZE ? get(f->config + offset, size) : 0;
}

void pci_config_write(struct pci_function *f, unsigned offset, unsigned size, uint32_t value)
{
    if (offset + size > PCI_CONFIG_SIZE)
        return;
    const bool was_reset = f->below && f->config[PCI_BRIDGE_CONTROL] & PCI_BRIDGE_RESET;
    bool changed = false;
    for (unsigned i = offset; i < offset + size; i++, value >>= 8) {
        const uint8_t old = f->config[i], mask = f->writable[i];
        f->config[i] = (uint8_t)(((old & ~mask) | (value & mask)) & ~(value & f->clears[i]));
        changed |= f->config[i] != old && decides(f, i);
    }
    if (changed && f->on)
        pci_changed(f->on->pci);
    if (f->below && !was_reset && f->config[PCI_BRIDGE_CONTROL] & PCI_BRIDGE_RESET)
        pci_bus_reset(f->below);
}

void pci_config_put(struct pci_function *f, unsigned offset, unsigned size, uint32_t value)
{
    g_assert(offset + size <= PCI_CONFIG_SIZE);
    put(f->config + offset, size, value);
}

bool pci_interrupt(struct pci_function *f, bool asserted)
{
    f->config[PCI_STATUS] =
        (uint8_t)((f->config[PCI_STATUS] & ~PCI_STATUS_INTERRUPT) | (asserted ? PCI_STATUS_INTERRUPT : 0));
    return asserted && !(ld16le(f->config + PCI_COMMAND) & PCI_COMMAND_NO_INTX);
}

bool pci_config_check(const struct pci_function *f)
{
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
        if ((f->config[i] ^ f->fresh[i]) & ~(f->writable[i] | f->own[i]))
            return false;
    return true;
}
