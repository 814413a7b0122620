/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A PCI Express root port whose slot can be filled and emptied while the guest runs. */
/*
 * Theory of operation (PCI Express Base 4.0, sections 6.7 and 7.5.3)
 *
 * The slot has an attention button, a power controller and a power indicator, no latch and no attention
 * indicator. What its driver in the guest ("pciehp" in Linux) sees is the slot status register:
 *
 *   presence detect           a device is in the slot (pci_port_plug)
 *   data link layer active    it is there, has power, and the link is not disabled: now it can be reached
 *   attention button pressed  we ask for the removal (pci_port_ask); the driver lets the indicator blink
 *                             for some seconds and then removes, unless the button is pressed again
 *   command completed         a write to slot control has taken effect, here always at once
 *
 * Each change of these raises a status bit that stays until the guest writes a one to it. The interrupt is a
 * level: a status bit and its enable bit in slot control, together with the common enable bit.
 *
 * The device leaves when both power and indicator are off after we asked: the driver has let go of it then
 * and tells people that they may pull the card (6.7.1.1.2). Power off alone is no leave: it may come back.
 * Losing power or link resets the device. A reset of the machine is an agreement, too: nobody in the guest
 * knows of the device any more.
 */
#include "device/pci_port.h"

#include "base/error.h"
#include "base/log.h"

/* Registers in the capability. */
enum {
    EXP_FLAGS = 2,
    EXP_DEVICE_CAP = 4,
    EXP_DEVICE_CONTROL = 8,
    EXP_LINK_CAP = 12,
    EXP_LINK_CONTROL = 16,
    EXP_LINK_STATUS = 18,
    EXP_SLOT_CAP = 20,
    EXP_SLOT_CONTROL = 24,
    EXP_SLOT_STATUS = 26,
    EXP_ROOT_CONTROL = 28,
    EXP_LINK_CAP2 = 44,
    EXP_LINK_CONTROL2 = 48,
    EXP_SIZE = 60,
};
enum {
    FLAGS_VERSION = 2,
    FLAGS_ROOT_PORT = 4 << 4,
    FLAGS_SLOT = 1 << 8,
    DEVICE_ROLE_BASED = 1 << 15, /* errors are reported as since version 1.1 */
    DEVICE_CONTROL_FRESH = 0x2810,
    DEVICE_CONTROL_WRITABLE = 0x78ff,
    LINK_SPEED = 1,      /* 2.5 GT/s */
    LINK_WIDTH = 1 << 4, /* one lane */
    LINK_CAP_ACTIVE = 1 << 20,
    LINK_CAP_ASPM_OPTIONAL = 1 << 22,
    LINK_CAP_PORT_SHIFT = 24,
    LINK_DISABLE = 1 << 4,
    LINK_CONTROL_WRITABLE = LINK_DISABLE | 1 << 6 | 1 << 7, /* and common clock, extended synch */
    LINK_ACTIVE = 1 << 13,
    SLOT_CAP_BUTTON = 1 << 0,
    SLOT_CAP_POWER = 1 << 1,
    SLOT_CAP_POWER_INDICATOR = 1 << 4,
    SLOT_CAP_HOTPLUG = 1 << 6,
    SLOT_CAP_NUMBER_SHIFT = 19,
    /* Of slot control; the lowest five and DLLSC enable the status bits of the same place or, */
    SLOT_HOTPLUG_INTERRUPT = 1 << 5,
    SLOT_INDICATOR = 3 << 8,
    SLOT_INDICATOR_ON = 1 << 8,
    SLOT_INDICATOR_BLINK = 2 << 8,
    SLOT_INDICATOR_OFF = 3 << 8,
    SLOT_POWER_OFF = 1 << 10,
    SLOT_ENABLE_LINK = 1 << 12, /* this one's, bit 8 */
    SLOT_CONTROL_WRITABLE =
        0x1f | SLOT_HOTPLUG_INTERRUPT | SLOT_INDICATOR | SLOT_POWER_OFF | SLOT_ENABLE_LINK,
    /* Of slot status. */
    SLOT_BUTTON = 1 << 0,
    SLOT_PRESENCE_CHANGED = 1 << 3,
    SLOT_COMMAND_COMPLETED = 1 << 4,
    SLOT_PRESENT = 1 << 6,
    SLOT_LINK_CHANGED = 1 << 8,
    SLOT_EVENTS = 0x1f | SLOT_LINK_CHANGED,
    ROOT_CONTROL_WRITABLE = 0xf,
};

struct pci_port {
    struct device dev;
    struct pci_function function;
    struct pci_bus below;
    uint8_t slot, pin; /* options: the number on the slot; 1 is INTA# */
    uint8_t express;
    bool present; /* a device is in the slot */
    bool asked;   /* the button was pressed */
    enum pci_port_answer answer;
    void (*noted)(void *opaque);
    void *opaque;
};

static struct pci_port *port_of(struct device *d)
{
    return (struct pci_port *)(void *)d;
}

struct pci_function *pci_port_function(struct device *d)
{
    return &port_of(d)->function;
}

/* --- registers under the lock --- */

static unsigned get(const struct pci_port *p, unsigned reg)
{
    return pci_config_read(&p->function, p->express + reg, 2);
}

static void put(struct pci_port *p, unsigned reg, unsigned value)
{
    pci_config_put(&p->function, p->express + reg, 2, value);
}

static void raise_event(struct pci_port *p, unsigned events)
{
    put(p, EXP_SLOT_STATUS, get(p, EXP_SLOT_STATUS) | events);
}

static void update_pin(struct pci_port *p)
{
    const unsigned control = get(p, EXP_SLOT_CONTROL);
    const unsigned enabled = (control & 0x1f) | (control & SLOT_ENABLE_LINK ? SLOT_LINK_CHANGED : 0);
    const bool asserted = control & SLOT_HOTPLUG_INTERRUPT && get(p, EXP_SLOT_STATUS) & SLOT_EVENTS & enabled;
    device_pin(&p->dev, 0, pci_interrupt(&p->function, asserted));
}

static bool link_wanted(const struct pci_port *p)
{
    return p->present && !(get(p, EXP_SLOT_CONTROL) & SLOT_POWER_OFF) &&
           !(get(p, EXP_LINK_CONTROL) & LINK_DISABLE);
}

/* Brings the link to what presence, power and link control make it. True when that changed it. */
static bool update_link(struct pci_port *p)
{
    const bool up = link_wanted(p), was = get(p, EXP_LINK_STATUS) & LINK_ACTIVE;
    put(p, EXP_LINK_STATUS, LINK_SPEED | LINK_WIDTH | (up ? LINK_ACTIVE : 0));
    pci_bus_up(&p->below, up);
    if (was && !up)
        pci_bus_reset(&p->below);
    return was != up;
}

static void set_present(struct pci_port *p, bool present)
{
    p->present = present;
    put(p, EXP_SLOT_STATUS,
        (get(p, EXP_SLOT_STATUS) & ~(unsigned)SLOT_PRESENT) | (present ? SLOT_PRESENT : 0));
}

/* The device is out of the guest's reach from now on, and its owner is told to take it. */
static void eject(struct pci_port *p)
{
    set_present(p, false);
    update_link(p);
    p->asked = false;
    p->answer = PCI_PORT_REMOVED;
}

static void note(struct pci_port *p)
{
    if (p->noted)
        p->noted(p->opaque);
}

/* --- what the guest does --- */

/* Slot control was written. True when there is an answer. */
static bool slot_commanded(struct pci_port *p, unsigned old)
{
    const unsigned now = get(p, EXP_SLOT_CONTROL), off = SLOT_POWER_OFF | SLOT_INDICATOR_OFF;
    raise_event(p, SLOT_COMMAND_COMPLETED | (update_link(p) ? SLOT_LINK_CHANGED : 0));
    if (!p->asked)
        return false;
    if ((now & off) == off) {
        eject(p);
        raise_event(p, SLOT_PRESENCE_CHANGED);
        return true;
    }
    if ((old & SLOT_INDICATOR) == SLOT_INDICATOR_BLINK && (now & SLOT_INDICATOR) == SLOT_INDICATOR_ON &&
        !(now & SLOT_POWER_OFF)) {
        p->asked = false;
        p->answer = PCI_PORT_REFUSED;
        return true;
    }
    return false;
}

static bool touches(const struct pci_port *p, unsigned reg, uint64_t offset, unsigned size)
{
    return offset < p->express + reg + 2 && offset + size > p->express + reg;
}

static uint64_t port_read(void *chip, uint64_t offset, unsigned size)
{
    struct pci_port *p = chip;
    device_lock(&p->dev);
    const uint32_t value = pci_config_read(&p->function, (unsigned)offset, size);
    device_release(&p->dev);
    return value;
}

static void port_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_port *p = chip;
    bool answered = false;
    device_lock(&p->dev);
    const unsigned old = get(p, EXP_SLOT_CONTROL);
    pci_config_write(&p->function, (unsigned)offset, size, (uint32_t)value);
    if (touches(p, EXP_SLOT_CONTROL, offset, size))
        answered = slot_commanded(p, old);
    if (touches(p, EXP_LINK_CONTROL, offset, size) && update_link(p))
        raise_event(p, SLOT_LINK_CHANGED);
    update_pin(p);
    device_release(&p->dev);
    if (answered)
        note(p);
}

/* --- what the slot's owner does --- */

void pci_port_watch(struct device *d, void (*noted)(void *opaque), void *opaque)
{
    struct pci_port *p = port_of(d);
    p->noted = noted;
    p->opaque = opaque;
}

bool pci_port_plug(struct device *d, struct pci_function *f, GError **error)
{
    struct pci_port *p = port_of(d);
    if (!pci_attach(&p->below, 0, f, error))
        return false;
    device_lock(d);
    set_present(p, true);
    /* Drivers of slots with a button do not listen to presence: who puts a card in presses it, too. Where the
     * slot has power the link tells them. */
    raise_event(p, SLOT_PRESENCE_CHANGED | (update_link(p) ? SLOT_LINK_CHANGED : SLOT_BUTTON));
    update_pin(p);
    device_release(d);
    return true;
}

void pci_port_unplug(struct device *d)
{
    struct pci_port *p = port_of(d);
    struct pci_function *f = p->below.functions[0]; /* only we change it */
    if (!f)
        return;
    device_lock(d);
    if (p->present) {
        set_present(p, false);
        raise_event(p, SLOT_PRESENCE_CHANGED | (update_link(p) ? SLOT_LINK_CHANGED : 0));
        update_pin(p);
    }
    p->asked = false;
    p->answer = PCI_PORT_SILENT;
    device_release(d);
    pci_detach(f);
}

bool pci_port_ask(struct device *d, GError **error)
{
    struct pci_port *p = port_of(d);
    device_lock(d);
    /* A second press means the opposite of the first to a guest that has begun (6.7.1.5). */
    const bool busy = p->asked && (get(p, EXP_SLOT_CONTROL) & SLOT_INDICATOR) == SLOT_INDICATOR_BLINK;
    const bool there = p->present;
    if (there && !busy) {
        p->asked = true;
        p->answer = PCI_PORT_SILENT;
        raise_event(p, SLOT_BUTTON);
        update_pin(p);
    }
    device_release(d);
    if (busy)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "the guest has been asked to let go of the device and is about to do it; wait for "
                           "its answer");
    return there || hostel_fail(error, HOSTEL_ERROR_USAGE, "the device is on its way out already");
}

enum pci_port_answer pci_port_answer(struct device *d)
{
    struct pci_port *p = port_of(d);
    device_lock(d);
    const enum pci_port_answer answer = p->answer;
    p->answer = PCI_PORT_SILENT;
    device_release(d);
    return answer;
}

void pci_port_forget(struct device *d)
{
    struct pci_port *p = port_of(d);
    device_lock(d);
    const bool agreed = p->asked;
    if (agreed)
        eject(p);
    device_release(d);
    if (agreed)
        note(p);
}

/* --- life --- */

static void port_reset(struct device *d)
{
    struct pci_port *p = port_of(d);
    pci_config_reset(&p->function);
    p->asked = false;
    /* There is power until a driver switches it off: without one, a device that comes later can be found. */
    put(p, EXP_SLOT_CONTROL, p->present ? SLOT_INDICATOR_ON : SLOT_INDICATOR_OFF);
    set_present(p, p->present);
    update_link(p);
    update_pin(p);
}

/* After a reset of the bus above; there is none above a root port. */
static void reset_function(void *chip)
{
    device_reset(chip);
}

static bool port_post_load(struct device *d)
{
    struct pci_port *p = port_of(d);
    const bool present = get(p, EXP_SLOT_STATUS) & SLOT_PRESENT;
    const bool link = get(p, EXP_LINK_STATUS) & LINK_ACTIVE;
    if (!pci_config_check(&p->function) || present != p->present || link != link_wanted(p) ||
        (p->asked && !present))
        return false;
    pci_bus_up(&p->below, link);
    update_pin(p);
    return true;
}

static void add_express(struct pci_port *p)
{
    struct pci_function *f = &p->function;
    const unsigned at = pci_add_capability(f, PCI_CAP_EXPRESS, EXP_SIZE);
    p->express = (uint8_t)at;
    pci_register(f, at + EXP_FLAGS, 2, FLAGS_VERSION | FLAGS_ROOT_PORT | FLAGS_SLOT, 0);
    pci_register(f, at + EXP_DEVICE_CAP, 4, DEVICE_ROLE_BASED, 0);
    pci_register(f, at + EXP_DEVICE_CONTROL, 2, DEVICE_CONTROL_FRESH, DEVICE_CONTROL_WRITABLE);
    pci_register(f, at + EXP_LINK_CAP, 4,
                 LINK_SPEED | LINK_WIDTH | LINK_CAP_ACTIVE | LINK_CAP_ASPM_OPTIONAL |
                     (uint32_t)p->slot << LINK_CAP_PORT_SHIFT,
                 0);
    pci_register(f, at + EXP_LINK_CONTROL, 2, 0, LINK_CONTROL_WRITABLE);
    pci_register(f, at + EXP_LINK_STATUS, 2, LINK_SPEED | LINK_WIDTH, 0);
    pci_register_status(f, at + EXP_LINK_STATUS, 2, 0, LINK_ACTIVE);
    pci_register(f, at + EXP_SLOT_CAP, 4,
                 SLOT_CAP_BUTTON | SLOT_CAP_POWER | SLOT_CAP_POWER_INDICATOR | SLOT_CAP_HOTPLUG |
                     (uint32_t)p->slot << SLOT_CAP_NUMBER_SHIFT,
                 0);
    pci_register(f, at + EXP_SLOT_CONTROL, 2, SLOT_INDICATOR_OFF, SLOT_CONTROL_WRITABLE);
    pci_register_status(f, at + EXP_SLOT_STATUS, 2, SLOT_EVENTS, SLOT_PRESENT);
    pci_register(f, at + EXP_ROOT_CONTROL, 2, 0, ROOT_CONTROL_WRITABLE);
    pci_register(f, at + EXP_LINK_CAP2, 4, 1 << 1, 0); /* speeds: 2.5 GT/s */
    pci_register(f, at + EXP_LINK_CONTROL2, 2, LINK_SPEED, 0xf);
}

static const struct bus_ops port_ops = {port_read, port_write, .min_size = 1, .max_size = 4};

static bool port_init(struct device *d, GError **error G_GNUC_UNUSED)
{
    /* The root port that guests know from QEMU; a bridge between PCI buses by its class. */
    static const struct pci_identity id = {.vendor = 0x1b36, .device = 0x000c, .class = 0x060400};
    struct pci_port *p = port_of(d);
    pci_bridge_init(&p->function, &id, &port_ops, p, reset_function, &p->below);
    pci_register(&p->function, PCI_INTERRUPT_PIN, 1, p->pin, 0);
    add_express(p);
    return true;
}

static uint64_t port_extent(const struct device *d G_GNUC_UNUSED)
{
    return PCI_CONFIG_EXTENT;
}

static const struct device_option port_options[] = {
    {.name = "slot",
     .help = "the slot's number",
     .type = STATE_U8,
     .offset = offsetof(struct pci_port, slot),
     .value = 1,
     .min = 1,
     .max = UINT8_MAX},
    {.name = "pin",
     .help = "its interrupt pin, 1 (INTA) to 4 (INTD)",
     .type = STATE_U8,
     .offset = offsetof(struct pci_port, pin),
     .value = 1,
     .min = 1,
     .max = 4},
    {0},
};

static const struct state_field port_state[] = {
    STATE_FIELD(pci_port, function.config, STATE_U8, 1), STATE_FIELD(pci_port, asked, STATE_BOOL, 1), {0}};

const struct device_type device_pci_port = {
    .name = "pci-port",
    .help = "PCI Express root port with a slot for hot-plug",
    .size = sizeof(struct pci_port),
    .options = port_options,
    .state = port_state,
    .version = 1,
    .ops = &port_ops,
    .init = port_init,
    .extent = port_extent,
    .reset = port_reset,
    .post_load = port_post_load,
};
