/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A virtio driver without a guest: it works a device by register accesses and by rings in guest RAM. */
#ifndef HOSTEL_TESTS_DEVICE_VIRTIO_DRIVER_H
#define HOSTEL_TESTS_DEVICE_VIRTIO_DRIVER_H

#include "../fake.h"
#include "device/virtio/virtio.h"

/* Guest physical memory: RAM, a readonly block, and holes around them. */
#define DRV_RAM UINT64_C(0x80000000)
#define DRV_ROM UINT64_C(0x1000)
enum {
    DRV_RAM_SIZE = 4 << 20,
    DRV_ROM_SIZE = 0x2000,
    DRV_RING_STRIDE = 0x10000, /* of a queue's areas: descriptors, the driver's, the device's */
    DRV_DRIVER_AREA = 0x8000,
    DRV_DEVICE_AREA = 0xc000,
    DRV_DATA = 0x200000, /* offset in RAM from which buffers may lie */
    DRV_ENTRIES = 1024,
};

/* Registers of the transport (virtio 1.2, table 4.1), written down anew from the specification. */
enum {
    R_MAGIC = 0x0,
    R_VERSION = 0x4,
    R_DEVICE_ID = 0x8,
    R_VENDOR_ID = 0xc,
    R_DEVICE_FEATURES = 0x10,
    R_DEVICE_FEATURES_SEL = 0x14,
    R_DRIVER_FEATURES = 0x20,
    R_DRIVER_FEATURES_SEL = 0x24,
    R_QUEUE_SEL = 0x30,
    R_QUEUE_SIZE_MAX = 0x34,
    R_QUEUE_SIZE = 0x38,
    R_QUEUE_READY = 0x44,
    R_QUEUE_NOTIFY = 0x50,
    R_INTERRUPT_STATUS = 0x60,
    R_INTERRUPT_ACK = 0x64,
    R_STATUS = 0x70,
    R_DESC = 0x80,
    R_DRIVER = 0x90,
    R_DEVICE = 0xa0,
    R_SHM_SEL = 0xac,
    R_SHM_LEN = 0xb0,
    R_SHM_BASE = 0xb8,
    R_GENERATION = 0xfc,
    R_CONFIG = 0x100,
};

struct drv_buffer {
    uint64_t addr;
    uint32_t len;
    bool write;
};

struct drv_queue {
    unsigned size;
    uint8_t *desc, *driver, *device; /* host addresses */
    /* What of the ring the driver has filled, and emptied. */
    uint16_t added, seen;        /* split: free-running; packed: index */
    bool added_wrap, seen_wrap;  /* packed */
    uint16_t next;               /* split: descriptor to use next */
    uint16_t count[DRV_ENTRIES]; /* by id: descriptors of the chain; 0 = not under way */
    unsigned outstanding;        /* descriptors under way */
};

struct drv {
    struct mem *mem;
    struct clock *clock;
    struct pins pins;
    struct stream stream;
    struct device *d;
    struct device *pci; /* the transport that carries it; NULL: MMIO */
    struct virtio *v;
    uint8_t *ram, *rom;
    uint64_t features;
    struct drv_queue q[VIRTIO_QUEUES_MAX];
};

/* RAM and a device of the type, in its reset state; over PCI when the environment says VIRTIO_TRANSPORT=pci.
 * The registers above are then found where that transport has them. */
void drv_new(struct drv *t, const struct device_type *type);
/* The same with back ends of the device's own and option values, as for device_new(). */
void drv_new_wired(struct drv *t, const struct device_type *type, const struct device_wires *back_ends,
                   const struct device_value *values);
void drv_free(struct drv *t);

uint32_t drv_read(struct drv *t, unsigned reg);
void drv_write(struct drv *t, unsigned reg, uint32_t value);
void drv_write64(struct drv *t, unsigned reg, uint64_t value);

uint64_t drv_offered(struct drv *t);
/* Reset, then up to FEATURES_OK with those of the wanted features that are offered. False when refused. */
bool drv_negotiate(struct drv *t, uint64_t wanted);
/* Sets queue i up with size entries in its usual place. */
void drv_queue(struct drv *t, unsigned i, unsigned size);
void drv_go(struct drv *t); /* DRIVER_OK */
/* All of it, each queue with size entries (or as many as it can have). */
void drv_start(struct drv *t, uint64_t wanted, unsigned size);

static inline bool drv_packed(const struct drv *t)
{
    return t->features & VIRTIO_F_RING_PACKED;
}

static inline uint8_t *drv_at(struct drv *t, uint64_t addr)
{
    return t->ram + (addr - DRV_RAM);
}

/* Is there room for a chain of n descriptors? */
bool drv_room(const struct drv *t, unsigned i, unsigned n);
/* Adds a chain and makes it available, without a kick; table: guest address for an indirect table, 0 = none.
 * Returns the id that will come back. */
unsigned drv_add(struct drv *t, unsigned i, const struct drv_buffer *b, unsigned n, uint64_t table);
void drv_kick(struct drv *t, unsigned i);
/* Has the device asked for a kick for what was added since old (of q.added)? */
bool drv_kick_wanted(struct drv *t, unsigned i, uint16_t old, bool old_wrap);
/* The next used element; false when there is none. */
bool drv_used(struct drv *t, unsigned i, unsigned *id, uint32_t *len);
/* Interrupts for the next used element (on), or never. */
void drv_interrupts(struct drv *t, unsigned i, bool on);

/* The level of the pin; acknowledges all causes and tells which there were. */
static inline bool drv_pin(struct drv *t)
{
    return t->pins.level & 1;
}
uint32_t drv_acknowledge(struct drv *t);

/* Raw descriptors, for what no driver should do. */
void drv_put_desc(uint8_t *at, uint64_t addr, uint32_t len, uint16_t third, uint16_t fourth);
enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4, D_AVAIL = 1 << 7, D_USED = 1 << 15 };

#endif
