/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio over PCI (virtio 1.2, section 4.1), without what drivers of before 1.0 need: a chip that carries a
 * virtio function. */
/*
 * Theory of operation
 *
 * A function (blk, net, ...) is one chip, the transport is another one beside it. The function's registers,
 * as far as they are the same over any transport, are in its `struct virtio` and are saved with it; what is
 * saved here is the configuration space. The function's only pin is the transport's input pin: it is high
 * while the interrupt status is not zero, which is just what INTx and its status bit want.
 *
 * Register space of this chip: configuration space, then the one base address register's memory:
 *
 *     0x0000  common configuration   0x2000  the function's configuration
 *     0x1000  interrupt status       0x3000  notification, four bytes for each queue
 *
 * The same registers can be reached by a window in configuration space (4.1.4.9), for firmware that has no
 * addresses to give away.
 *
 * There is no MSI-X table, and the vectors read as "none": boards that can take messages will want a second
 * base address register, and from the function to hear which queue an interrupt is for.
 */
#include "device/virtio/pci.h"

#include "base/bits.h"
#include "base/log.h"
#include "device/virtio/virtio_int.h"

enum {
    BAR = 0,
    BAR_SIZE = 0x4000,
    PART_SIZE = 0x1000,
    PART_COMMON = 0,
    PART_ISR = 1,
    PART_CONFIG = 2,
    PART_NOTIFY = 3,
    NOTIFY_SHIFT = 2, /* offset of a queue's: its number << this */
};

/* Identity (4.1.2), and what QEMU has for a subsystem. */
enum { VENDOR = 0x1af4, DEVICE_BASE = 0x1040, REVISION = 1, SUBSYSTEM = 0x1100 };

/* Types of capabilities, and their layout (4.1.4). */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_CONFIG = 4, CAP_WINDOW = 5 };
enum {
    CAP_LENGTH = 2,
    CAP_TYPE = 3,
    CAP_BAR = 4,
    CAP_OFFSET = 8,
    CAP_BYTES = 12,
    CAP_SIZE = 16,
    CAP_NOTIFY_MULTIPLIER = 16,
    CAP_WINDOW_DATA = 16,
};

/* Common configuration (4.1.4.3). */
enum {
    COMMON_DEVICE_FEATURES_SEL = 0x00,
    COMMON_DEVICE_FEATURES = 0x04,
    COMMON_DRIVER_FEATURES_SEL = 0x08,
    COMMON_DRIVER_FEATURES = 0x0c,
    COMMON_CONFIG_VECTOR = 0x10,
    COMMON_STATUS = 0x14,
    COMMON_QUEUE_SEL = 0x16,
    COMMON_QUEUE_SIZE = 0x18,
    COMMON_QUEUE_ENABLE = 0x1c,
    COMMON_QUEUE_DESC = 0x20,
    COMMON_QUEUE_DRIVER = 0x28,
    COMMON_QUEUE_DEVICE = 0x30,
    COMMON_SIZE = 0x38,
    NO_VECTOR = 0xffff,
};

/* PCI Express, as an endpoint behind a root port (PCI Express Base 4.0, 7.5.3). */
enum { EXP_SIZE = 60, EXP_FLAGS = 2, EXP_DEVICE_CAP = 4, EXP_DEVICE_CONTROL = 8, EXP_LINK_CAP = 12 };
enum { EXP_LINK_CONTROL = 16, EXP_LINK_STATUS = 18, EXP_LINK_CAP2 = 44, EXP_LINK_CONTROL2 = 48 };

struct virtio_pci {
    struct device dev;
    struct pci_function function;
    struct virtio *v; /* borrowed; NULL: nothing is carried */
    uint8_t window;   /* offset of its capability */
    uint8_t level;    /* of the input pin */
};

static struct virtio_pci *pci_of(struct device *d)
{
    return (struct virtio_pci *)(void *)d;
}

struct pci_function *virtio_pci_function(struct device *d)
{
    return &pci_of(d)->function;
}

/* A driver first lets the device reach memory (bus master), then makes it ready; and undoes both. */
bool virtio_pci_in_use(struct device *d)
{
    struct virtio_pci *p = pci_of(d);
    device_lock(d);
    bool used = pci_config_read(&p->function, PCI_COMMAND, 2) & PCI_COMMAND_MASTER;
    device_release(d);
    if (!p->v)
        return used;
    device_lock(&p->v->dev);
    used |= p->v->status & VIRTIO_DRIVER_OK;
    device_release(&p->v->dev);
    return used;
}

/* --- common configuration --- */

/* Four bytes of it, as the registers stand side by side. */
static uint32_t common_read_locked(const struct virtio *v, unsigned offset)
{
    const struct virtio_rings *r = &v->rings;
    const unsigned i = v->queue_sel;
    const bool there = i < v->setup.queues;
    const bool high = offset & 4;
    switch (offset) {
    case COMMON_DEVICE_FEATURES_SEL: return v->device_features_sel;
    case COMMON_DEVICE_FEATURES: return virtio_offered_half(v);
    case COMMON_DRIVER_FEATURES_SEL: return v->driver_features_sel;
    case COMMON_DRIVER_FEATURES:
        return v->driver_features_sel > 1 ? 0 : (uint32_t)(v->driver_features >> 32 * v->driver_features_sel);
    case COMMON_CONFIG_VECTOR: return NO_VECTOR | v->setup.queues << 16;
    case COMMON_STATUS: return (v->status & 0xff) | (v->generation & 0xff) << 8 | (i & 0xffff) << 16;
    default: break;
    }
    if (!there)
        return offset == COMMON_QUEUE_SIZE ? (uint32_t)NO_VECTOR << 16 : 0;
    switch (offset & ~4u) {
    case COMMON_QUEUE_SIZE:
        return high ? r->ready[i] | i << 16 : (r->size[i] & 0xffff) | (uint32_t)NO_VECTOR << 16;
    case COMMON_QUEUE_DESC: return (uint32_t)(r->descriptors[i] >> (high ? 32 : 0));
    case COMMON_QUEUE_DRIVER: return (uint32_t)(r->driver[i] >> (high ? 32 : 0));
    case COMMON_QUEUE_DEVICE: return (uint32_t)(r->device[i] >> (high ? 32 : 0));
    default: return 0;
    }
}

/* The selected queue; NULL, or what makes it impossible. A ready queue and a device in use stay as they are;
 * a queue is put out of use by a reset only. */
static const char *queue_write_locked(struct virtio *v, unsigned offset, unsigned size, uint32_t value)
{
    struct virtio_rings *r = &v->rings;
    const unsigned i = v->queue_sel;
    const bool high = offset & 4, word = offset >= COMMON_QUEUE_DESC;
    if (i >= v->setup.queues || size != (word ? 4 : 2))
        return NULL;
    if (offset == COMMON_QUEUE_ENABLE)
        return value == 1 ? virtio_queue_ready_locked(v, i, true) : NULL;
    if (r->ready[i] || v->status & VIRTIO_DRIVER_OK) {
        log_guest(LOG_DEVICE, "%s: queue %u is not to be changed now", v->dev.wires.name, i);
        return NULL;
    }
    switch (word ? offset & ~4u : offset) {
    case COMMON_QUEUE_SIZE: r->size[i] = value; break;
    case COMMON_QUEUE_DESC: r->descriptors[i] = virtio_half(r->descriptors[i], high, value); break;
    case COMMON_QUEUE_DRIVER: r->driver[i] = virtio_half(r->driver[i], high, value); break;
    case COMMON_QUEUE_DEVICE: r->device[i] = virtio_half(r->device[i], high, value); break;
    default: break;
    }
    return NULL;
}

/* Registers take writes of their own width only (4.1.3.1). */
static const char *common_write_locked(struct virtio *v, unsigned offset, unsigned size, uint32_t value)
{
    switch (offset) {
    case COMMON_DEVICE_FEATURES_SEL:
        if (size == 4)
            v->device_features_sel = value;
        return NULL;
    case COMMON_DRIVER_FEATURES_SEL:
        if (size == 4)
            v->driver_features_sel = value;
        return NULL;
    case COMMON_DRIVER_FEATURES:
        if (size == 4)
            virtio_want_half_locked(v, value);
        return NULL;
    case COMMON_QUEUE_SEL:
        if (size == 2)
            v->queue_sel = value;
        return NULL;
    default: return offset < COMMON_SIZE ? queue_write_locked(v, offset, size, value) : NULL;
    }
}

/* --- the parts of the base address register --- */

static uint32_t part_read_locked(struct virtio *v, unsigned part, unsigned offset, unsigned size)
{
    uint32_t value;
    switch (part) {
    case PART_COMMON: return common_read_locked(v, offset & ~3u) >> 8 * (offset & 3);
    case PART_ISR: /* reading clears it (4.1.4.5.1) */
        value = offset ? 0 : v->interrupt;
        virtio_interrupt_clear_locked(v, value);
        return value;
    case PART_CONFIG: return virtio_config_read_locked(v, offset, size);
    default: return 0;
    }
}

static uint64_t bar_read(struct virtio_pci *p, unsigned offset, unsigned size)
{
    struct virtio *v = p->v;
    if (!v)
        return 0;
    device_lock(&v->dev);
    const uint32_t value = part_read_locked(v, offset / PART_SIZE, offset % PART_SIZE, size);
    device_release(&v->dev);
    return value & bits_mask(8 * size);
}

static void bar_write(struct virtio_pci *p, unsigned offset, unsigned size, uint32_t value)
{
    struct virtio *v = p->v;
    const unsigned part = offset / PART_SIZE, at = offset % PART_SIZE, queue = at >> NOTIFY_SHIFT;
    const char *fault = NULL;
    if (!v)
        return;
    if (part == PART_NOTIFY) {
        if (queue < v->setup.queues)
            virtq_service(v->queue[queue]);
        return;
    }
    if (part == PART_COMMON && at == COMMON_STATUS) {
        if (size == 1)
            virtio_set_status(v, value);
        return;
    }
    device_lock(&v->dev);
    if (part == PART_CONFIG)
        virtio_config_write_locked(v, at, size, value);
    else if (part == PART_COMMON)
        fault = common_write_locked(v, at, size, value);
    device_release(&v->dev);
    if (fault)
        virtio_break(v, fault);
}

/* --- configuration space --- */

static void update_pin(struct virtio_pci *p)
{
    device_pin(&p->dev, 0, pci_interrupt(&p->function, p->level));
}

static bool in_window(const struct virtio_pci *p, uint64_t offset, unsigned size)
{
    const unsigned data = p->window + CAP_WINDOW_DATA;
    return offset < data + 4 && offset + size > data;
}

/* Where the window looks: false when that is nowhere. The lock is held. */
static bool window_place(const struct virtio_pci *p, unsigned *offset, unsigned *size)
{
    const struct pci_function *f = &p->function;
    *offset = pci_config_read(f, p->window + CAP_OFFSET, 4);
    *size = pci_config_read(f, p->window + CAP_BYTES, 4);
    return pci_config_read(f, p->window + CAP_BAR, 1) == BAR && (*size == 1 || *size == 2 || *size == 4) &&
           *offset < BAR_SIZE && !(*offset & (*size - 1));
}

/* The access through the window is made without the lock: it may end in our own input pin. */
static uint32_t config_read(struct virtio_pci *p, unsigned offset, unsigned size)
{
    unsigned at, bytes;
    device_lock(&p->dev);
    if (in_window(p, offset, size) && window_place(p, &at, &bytes)) {
        device_unlock(&p->dev);
        const uint32_t seen = (uint32_t)bar_read(p, at, bytes);
        device_lock(&p->dev);
        pci_config_put(&p->function, p->window + CAP_WINDOW_DATA, 4, seen);
    }
    const uint32_t value = pci_config_read(&p->function, offset, size);
    device_release(&p->dev);
    return value;
}

static void config_write(struct virtio_pci *p, unsigned offset, unsigned size, uint32_t value)
{
    unsigned at = 0, bytes = 0;
    device_lock(&p->dev);
    pci_config_write(&p->function, offset, size, value);
    const bool through = in_window(p, offset, size) && window_place(p, &at, &bytes);
    const uint32_t data = pci_config_read(&p->function, p->window + CAP_WINDOW_DATA, 4);
    update_pin(p);
    device_release(&p->dev);
    if (through)
        bar_write(p, at, bytes, data & (uint32_t)bits_mask(8 * bytes));
}

static uint64_t pci_read(void *chip, uint64_t offset, unsigned size)
{
    return offset < PCI_CONFIG_EXTENT ? config_read(chip, (unsigned)offset, size)
                                      : bar_read(chip, (unsigned)offset - PCI_CONFIG_EXTENT, size);
}

static void pci_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset < PCI_CONFIG_EXTENT)
        config_write(chip, (unsigned)offset, size, (uint32_t)value);
    else
        bar_write(chip, (unsigned)offset - PCI_CONFIG_EXTENT, size, (uint32_t)value);
}

static const struct bus_ops pci_ops = {pci_read, pci_write, .min_size = 1, .max_size = 4};

/* --- life --- */

static void pci_input(void *device, unsigned pin, bool level)
{
    struct virtio_pci *p = device;
    if (pin)
        return;
    device_lock(&p->dev);
    p->level = level;
    update_pin(p);
    device_release(&p->dev);
}

/* The function resets by itself when the whole machine does. */
static void pci_reset(struct device *d)
{
    struct virtio_pci *p = pci_of(d);
    pci_config_reset(&p->function);
    update_pin(p);
}

/* The slot lost its power, or the bus is reset: both. */
static void reset_all(void *chip)
{
    struct virtio_pci *p = chip;
    if (p->v)
        device_reset(&p->v->dev);
    device_reset(&p->dev);
}

static bool pci_post_load(struct device *d)
{
    struct virtio_pci *p = pci_of(d);
    if (!pci_config_check(&p->function) || p->level > 1)
        return false;
    update_pin(p);
    return true;
}

static void add_express(struct pci_function *f)
{
    const unsigned at = pci_add_capability(f, PCI_CAP_EXPRESS, EXP_SIZE);
    pci_register(f, at + EXP_FLAGS, 2, 2, 0);            /* version 2, an endpoint */
    pci_register(f, at + EXP_DEVICE_CAP, 4, 1 << 15, 0); /* errors are reported as since version 1.1 */
    pci_register(f, at + EXP_DEVICE_CONTROL, 2, 0x2810, 0x78ff);
    pci_register(f, at + EXP_LINK_CAP, 4, 1 << 4 | 1 | 1 << 22, 0); /* one lane, 2.5 GT/s */
    pci_register(f, at + EXP_LINK_CONTROL, 2, 0, 1 << 3 | 1 << 6 | 1 << 7);
    pci_register(f, at + EXP_LINK_STATUS, 2, 1 << 4 | 1, 0);
    pci_register(f, at + EXP_LINK_CAP2, 4, 1 << 1, 0);
    pci_register(f, at + EXP_LINK_CONTROL2, 2, 1, 0xf);
}

static unsigned add_part(struct pci_function *f, unsigned type, unsigned part, unsigned bytes, unsigned size)
{
    const unsigned at = pci_add_capability(f, PCI_CAP_VENDOR, size);
    pci_register(f, at + CAP_LENGTH, 1, size, 0);
    pci_register(f, at + CAP_TYPE, 1, type, 0);
    pci_register(f, at + CAP_BAR, 1, BAR, 0);
    pci_register(f, at + CAP_OFFSET, 4, part * PART_SIZE, 0);
    pci_register(f, at + CAP_BYTES, 4, bytes, 0);
    return at;
}

static void add_window(struct virtio_pci *p)
{
    const unsigned at = add_part(&p->function, CAP_WINDOW, 0, 0, CAP_WINDOW_DATA + 4);
    pci_register(&p->function, at + CAP_BAR, 1, 0, 0xff);
    pci_register(&p->function, at + CAP_OFFSET, 4, 0, UINT32_MAX);
    pci_register(&p->function, at + CAP_BYTES, 4, 0, UINT32_MAX);
    pci_register(&p->function, at + CAP_WINDOW_DATA, 4, 0, UINT32_MAX);
    p->window = (uint8_t)at;
}

/* The class that people expect to read for a function; drivers go by the device's number. */
static uint32_t class_of(uint32_t id)
{
    switch (id) {
    case VIRTIO_ID_NET: return 0x020000;
    case VIRTIO_ID_BLOCK: return 0x018000;
    case VIRTIO_ID_CONSOLE: return 0x078000;
    default: return 0xff0000;
    }
}

void virtio_pci_carry(struct device *d, struct device *function)
{
    struct virtio_pci *p = pci_of(d);
    p->v = (struct virtio *)(void *)function;
    const uint32_t id = p->v->function->id;
    pci_register(&p->function, PCI_DEVICE, 2, DEVICE_BASE + id, 0);
    pci_register(&p->function, PCI_REVISION, 4, class_of(id) << 8 | REVISION, 0);
}

static bool pci_init(struct device *d, GError **error G_GNUC_UNUSED)
{
    struct virtio_pci *p = pci_of(d);
    struct pci_function *f = &p->function;
    const struct pci_identity identity = {.vendor = VENDOR,
                                          .device = DEVICE_BASE,
                                          .subsystem_vendor = VENDOR,
                                          .subsystem = SUBSYSTEM,
                                          .class = class_of(0),
                                          .revision = REVISION};
    pci_function_init(f, &identity, &pci_ops, p, reset_all);
    pci_add_bar(f, BAR, PCI_BAR_MEMORY32, BAR_SIZE, PCI_CONFIG_EXTENT);
    add_express(f);
    add_part(f, CAP_COMMON, PART_COMMON, COMMON_SIZE, CAP_SIZE);
    add_part(f, CAP_ISR, PART_ISR, 1, CAP_SIZE);
    add_part(f, CAP_CONFIG, PART_CONFIG, PART_SIZE, CAP_SIZE);
    const unsigned at =
        add_part(f, CAP_NOTIFY, PART_NOTIFY, VIRTIO_QUEUES_MAX << NOTIFY_SHIFT, CAP_NOTIFY_MULTIPLIER + 4);
    pci_register(f, at + CAP_NOTIFY_MULTIPLIER, 4, 1 << NOTIFY_SHIFT, 0);
    add_window(p);
    return true;
}

static uint64_t pci_extent(const struct device *d G_GNUC_UNUSED)
{
    return PCI_CONFIG_EXTENT + BAR_SIZE;
}

static const struct state_field pci_state[] = {
    STATE_FIELD(virtio_pci, function.config, STATE_U8, 1), STATE_FIELD(virtio_pci, level, STATE_U8, 1), {0}};

const struct device_type device_virtio_pci = {
    .name = "virtio-pci",
    .help = "PCI Express transport of a virtio device",
    .size = sizeof(struct virtio_pci),
    .state = pci_state,
    .version = 1,
    .ops = &pci_ops,
    .init = pci_init,
    .extent = pci_extent,
    .reset = pci_reset,
    .input = pci_input,
    .post_load = pci_post_load,
};
