/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Anything a driver may do to a disk: no access and no bytes in its rings do more than break the device, and
 * after a reset it works. */
/*
 * The first byte of input chooses the features; then eight bytes are a step: the first says which, of the
 * others come a place (16 bits) and a value (32 bits).
 */
#include <errno.h>
#include <unistd.h>

#include "../tests/device/virtio/driver.h"
#include "base/byteorder.h"
#include "block/filter/fault.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { QUEUES = 2, ENTRIES = 16, DISK = 64 * 1024, STEP = 8, AREA = 0x10000 };
enum step { REQUEST, DESCRIPTOR, OFFER, POKE, KICK, WRITE_REGISTER, RESTART, FAIL, STEPS };

static struct drv t;
static struct disk *disk;

static void set_up(void)
{
    struct block_config config = {.name = "fuzz", .fd = -1, .size = DISK};
    disk = block_fault_new(block_open(block_driver_find("memory"), &config, NULL));
    const struct device_wires wires = {.disk = disk, .serial = "fuzz"};
    static const struct device_value values[] = {{"queues", QUEUES}, {0}};
    drv_new_wired(&t, device_type_find("virtio-blk"), &wires, values);
}

static uint64_t features_of(uint8_t byte)
{
    return VIRTIO_F_VERSION_1 | (byte & 1 ? VIRTIO_F_RING_PACKED : 0) | (byte & 2 ? VIRTIO_F_EVENT_IDX : 0) |
           (byte & 4 ? VIRTIO_F_INDIRECT_DESC : 0) | (byte & 8 ? 0 : 0xffff);
}

/* Somewhere in RAM, or past its end, or far away. */
static uint64_t address(uint16_t place)
{
    switch (place & 0xf) {
    case 0xf: return (uint64_t)place << 48;
    case 0xe: return DRV_RAM + DRV_RAM_SIZE - (place >> 4);
    case 0xd: return DRV_RAM + (place >> 4); /* the rings */
    default: return DRV_RAM + DRV_DATA + place;
    }
}

/* A chain as a good driver makes it, as long as there is room in a ring that nobody has spoilt. */
static void request(unsigned queue, const uint8_t *p)
{
    static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 2, 0xffffffff};
    const uint64_t at = DRV_RAM + DRV_DATA + ld16le(p + 1);
    const uint32_t size = p[3] * 128u;
    const bool in = !(p[4] & 1);
    uint8_t *header = drv_at(&t, at);
    if (!drv_room(&t, queue, 3))
        return;
    st32le(header, types[p[4] >> 1 & 7]);
    st64le(header + 8, p[4] & 0x80 ? UINT64_MAX - p[5] : p[5]);
    const struct drv_buffer b[] = {{at, 16, false}, {at + 16, MAX(size, 1), in}, {at + 16 + size, 1, true}};
    drv_add(&t, queue, b, 3, p[4] & 0x40 ? DRV_RAM + DRV_DATA + AREA : 0);
}

static void do_step(const uint8_t *p, bool *spoilt)
{
    static const uint8_t sizes[4] = {4, 4, 2, 1};
    const unsigned queue = p[0] >> 7;
    const uint16_t place = ld16le(p + 1);
    const uint32_t value = ld32le(p + 3);
    uint8_t *ring = drv_at(&t, DRV_RAM + queue * DRV_RING_STRIDE);
    switch ((enum step)(p[0] & 0x7f) % STEPS) {
    case REQUEST:
        if (!*spoilt)
            request(queue, p);
        break;
    case DESCRIPTOR:
        drv_put_desc(ring + 16 * (p[7] % ENTRIES), address(place), value & 0x1ffff, (uint16_t)(value >> 17),
                     (uint16_t)(p[7] >> 4));
        *spoilt = true;
        break;
    case OFFER: /* whatever the ring holds */
        st16le(ring + DRV_DRIVER_AREA + 2, (uint16_t)(ld16le(ring + DRV_DRIVER_AREA + 2) + p[1]));
        *spoilt = true;
        break;
    case POKE:
        if (address(place) < DRV_RAM + DRV_RAM_SIZE - 4 && address(place) >= DRV_RAM)
            st32le(drv_at(&t, address(place)), value);
        *spoilt |= address(place) < DRV_RAM + DRV_DATA;
        break;
    case KICK: drv_kick(&t, place % 4); break;
    case WRITE_REGISTER:
        wr(t.d, place & 0x1ff, sizes[p[7] & 3], value);
        *spoilt = true;
        break;
    case RESTART:
        drv_start(&t, features_of(p[1]), ENTRIES);
        *spoilt = false;
        break;
    case FAIL: /* not a flush, after which the disk takes no writes for good */
        block_fault_set(disk, p[1] & 1 ? BLOCK_FAULT_WRITE : BLOCK_FAULT_READ, p[2] % 8, p[3] % 4, -EIO,
                        p[4]);
        break;
    case STEPS: break;
    }
}

/* A write and a read, after a reset. */
static void check_alive(void)
{
    for (unsigned type = 2; type-- > 0;) { /* out, in */
        const uint64_t at = DRV_RAM + DRV_DATA;
        const struct drv_buffer b[] = {{at, 16, false}, {at + 16, 512, type == 0}, {at + 528, 1, true}};
        unsigned id;
        uint32_t length;
        memset(drv_at(&t, at), type ? 0x5a : 0, 529);
        st32le(drv_at(&t, at), type);
        st64le(drv_at(&t, at + 8), 7);
        *drv_at(&t, at + 528) = 0xff;
        drv_add(&t, 0, b, 3, 0);
        drv_kick(&t, 0);
        while (!drv_used(&t, 0, &id, &length))
            usleep(10);
        g_assert_cmphex(*drv_at(&t, at + 528), ==, 0);
        g_assert_cmphex(*drv_at(&t, at + 100), ==, 0x5a);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool spoilt = false;
    if (!t.d)
        set_up();
    if (!size)
        return 0;
    memset(drv_at(&t, DRV_RAM + DRV_DATA), 0, 2 * AREA);
    for (unsigned kind = 0; kind < BLOCK_FAULT_KINDS; kind++)
        block_fault_set(disk, kind, 0, 0, 0, 0);
    drv_start(&t, features_of(*data), ENTRIES);
    for (data++, size--; size >= STEP; data += STEP, size -= STEP)
        do_step(data, &spoilt);
    drv_write(&t, R_STATUS, 0);
    for (unsigned kind = 0; kind < BLOCK_FAULT_KINDS; kind++)
        block_fault_set(disk, kind, 0, 0, 0, 0);
    drv_start(&t, VIRTIO_F_VERSION_1, ENTRIES);
    check_alive();
    return 0;
}
