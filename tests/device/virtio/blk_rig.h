/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A virtio disk over a memory that can be told to fail, and requests to it. Numbers are written down anew
 * from virtio 1.2, section 5.2. */
#ifndef HOSTEL_TESTS_DEVICE_VIRTIO_BLK_RIG_H
#define HOSTEL_TESTS_DEVICE_VIRTIO_BLK_RIG_H

#include <unistd.h>

#include "base/byteorder.h"
#include "block/filter/fault.h"
#include "block/filter/root.h"
#include "driver.h"

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, UNTOUCHED = 0xee };
enum {
    F_SIZE_MAX = 1,
    F_SEG_MAX = 2,
    F_RO = 5,
    F_BLK_SIZE = 6,
    F_FLUSH = 9,
    F_TOPOLOGY = 10,
    F_WCE = 11,
    F_MQ = 12
};
enum { F_DISCARD = 13, F_ZEROES = 14 };
#define FEATURE(bit) (UINT64_C(1) << (bit))
#define EVERYTHING UINT64_MAX

enum { SECTOR = 512, SECTORS = 512, SIZE = SECTORS * SECTOR, SLOTS = 16, SLOT_BYTES = 0x20000, PIECES = 4 };

/* A device with a disk that can be told to fail, and the places of requests in guest RAM. */
struct rig {
    struct drv t;
    struct disk *disk; /* a fault filter over memory */
    struct disk *root; /* over disk */
    unsigned slot_of[VIRTIO_QUEUES_MAX][DRV_ENTRIES];
    uint64_t length[SLOTS]; /* told by the device */
    bool done[SLOTS];
    GRand *rand;
};

static inline void rig_new(struct rig *g, bool with_disk, unsigned queues)
{
    memset(g, 0, sizeof(*g));
    g->rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    struct block_config config = {.name = "test", .fd = -1, .size = SIZE};
    if (with_disk)
        g->disk = block_fault_new(block_open(block_driver_find("memory"), &config, NULL));
    if (with_disk)
        g->root = block_root_new("test", g->disk);
    const struct device_wires wires = {.disk = g->root, .serial = "HOSTEL-0123456789"};
    const struct device_value values[] = {{"queues", queues}, {0}};
    drv_new_wired(&g->t, device_type_find("virtio-blk"), &wires, values);
}

static inline void rig_free(struct rig *g)
{
    drv_free(&g->t);
    block_free(g->root);
    block_free(g->disk);
    g_rand_free(g->rand);
}

/* --- one request --- */

struct request {
    unsigned slot, queue;
    uint32_t type;
    uint64_t sector;
    uint64_t size; /* of the data */
};

static inline bool fills(uint32_t type)
{
    return type == IN || type == GET_ID;
}

static inline uint64_t slot_addr(unsigned slot)
{
    return DRV_RAM + DRV_DATA + slot * SLOT_BYTES;
}

/* The slot's bytes: header, data, status lie one behind the other. */
static inline uint8_t *slot_data(struct rig *g, unsigned slot)
{
    return drv_at(&g->t, slot_addr(slot)) + 16;
}

/* Cuts [addr, addr + size) into buffers. */
static inline unsigned cut(struct rig *g, uint64_t addr, uint64_t size, bool write, struct drv_buffer *b)
{
    unsigned n = 0;
    for (unsigned i = 1; i < PIECES && size > 1; i++) {
        uint32_t part = (uint32_t)g_rand_int_range(g->rand, 1, (gint32)size);
        b[n++] = (struct drv_buffer){addr, part, write};
        addr += part;
        size -= part;
    }
    b[n++] = (struct drv_buffer){addr, (uint32_t)size, write};
    return n;
}

/* Makes a request available; for those that bring data, the slot holds it already. */
static inline void submit(struct rig *g, const struct request *r)
{
    struct drv_buffer b[2 * PIECES];
    const uint64_t addr = slot_addr(r->slot);
    uint8_t *bytes = drv_at(&g->t, addr);
    const uint64_t readable = 16 + (fills(r->type) ? 0 : r->size);
    st32le(bytes, r->type);
    st32le(bytes + 4, g_rand_int(g->rand)); /* reserved */
    st64le(bytes + 8, r->sector);
    bytes[16 + r->size] = UNTOUCHED;
    unsigned n = cut(g, addr, readable, false, b);
    n += cut(g, addr + readable, 16 + r->size + 1 - readable, true, b + n);
    const bool indirect = g->t.features & VIRTIO_F_INDIRECT_DESC && g_rand_boolean(g->rand);
    unsigned id = drv_add(&g->t, r->queue, b, n, indirect ? addr + SLOT_BYTES - 1024 : 0);
    g->slot_of[r->queue][id] = r->slot;
    g->done[r->slot] = false;
}

static inline void collect(struct rig *g, unsigned queue)
{
    unsigned id;
    uint32_t length;
    while (drv_used(&g->t, queue, &id, &length)) {
        unsigned slot = g->slot_of[queue][id];
        g_assert_false(g->done[slot]);
        g->done[slot] = true;
        g->length[slot] = length;
    }
}

static inline uint8_t wait_for(struct rig *g, const struct request *r)
{
    for (unsigned i = 0; i < 100000; i++) {
        collect(g, r->queue);
        if (g->done[r->slot])
            return slot_data(g, r->slot)[r->size];
        usleep(100);
    }
    g_error("a request of type %u never ended", r->type);
}

/* One from beginning to end; its status. */
static inline uint8_t ask(struct rig *g, uint32_t type, uint64_t sector, uint64_t size)
{
    const struct request r = {.type = type, .sector = sector, .size = size};
    submit(g, &r);
    drv_kick(&g->t, 0);
    return wait_for(g, &r);
}

static inline uint8_t ask_segment(struct rig *g, uint32_t type, uint64_t sector, uint32_t sectors,
                                  uint32_t flags)
{
    uint8_t *data = slot_data(g, 0);
    st64le(data, sector);
    st32le(data + 8, sectors);
    st32le(data + 12, flags);
    return ask(g, type, 0, 16);
}

static inline uint8_t ask_write(struct rig *g, uint64_t sector, uint8_t value)
{
    memset(slot_data(g, 0), value, SECTOR);
    return ask(g, OUT, sector, SECTOR);
}

static inline void assert_sector(struct rig *g, uint64_t sector, uint8_t value)
{
    g_assert_cmpuint(ask(g, IN, sector, SECTOR), ==, OK);
    for (unsigned i = 0; i < SECTOR; i++)
        g_assert_cmphex(slot_data(g, 0)[i], ==, value);
}

static inline uint64_t config(struct rig *g, unsigned offset, unsigned size)
{
    if (size == 8)
        return config(g, offset, 4) | config(g, offset + 4, 4) << 32;
    return rd(g->t.d, R_CONFIG + offset, size);
}

#endif
