/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a driver may do to any virtio device, as steps read from a fuzzer's bytes. */
/*
 * The first byte chooses the features; then eight bytes are a step: the first says which, with the queue in
 * its upper half, of the others come a place (16 bits), a value (32 bits) and one more byte. Steps that the
 * target knows itself come behind those here.
 */
#ifndef HOSTEL_FUZZ_VIRTIO_STEPS_H
#define HOSTEL_FUZZ_VIRTIO_STEPS_H

#include "../tests/device/virtio/driver.h"
#include "base/byteorder.h"

enum { STEP = 8, ENTRIES = 16, TABLE = 0x8000 };
enum step { CHAIN, DESCRIPTOR, OFFER, POKE, KICK, REGISTER, RESTART, RESET, SAVE_AND_LOAD, STEPS };

struct fuzz {
    struct drv t;
    bool spoilt; /* the rings are not as a good driver has them */
};

static uint64_t fuzz_features(uint8_t byte)
{
    return VIRTIO_F_VERSION_1 | (byte & 1 ? VIRTIO_F_RING_PACKED : 0) | (byte & 2 ? VIRTIO_F_EVENT_IDX : 0) |
           (byte & 4 ? VIRTIO_F_INDIRECT_DESC : 0) | (byte & 8 ? 0 : 0xffffff);
}

/* Somewhere in RAM, or past its end, or far away. */
static uint64_t fuzz_address(uint16_t place)
{
    switch (place & 0xf) {
    case 0xf: return (uint64_t)place << 48;
    case 0xe: return DRV_RAM + DRV_RAM_SIZE - (place >> 4);
    case 0xd: return DRV_RAM + (place >> 4); /* the rings */
    default: return DRV_RAM + DRV_DATA + place;
    }
}

/* A good chain of one to four buffers in a queue that nobody has spoilt; the place's bytes are what earlier
 * steps put there. */
static inline void fuzz_chain(struct fuzz *f, unsigned queue, const uint8_t *p)
{
    struct drv *t = &f->t;
    struct drv_buffer b[4];
    unsigned n = 1 + (p[7] & 3), readable = p[7] >> 2 & 7;
    if (f->spoilt || !t->q[queue].size || !drv_room(t, queue, n))
        return;
    for (unsigned i = 0; i < n; i++)
        b[i] =
            (struct drv_buffer){DRV_RAM + DRV_DATA + ld16le(p + 1) + i * 64u, p[3 + i] * 4u, i >= readable};
    drv_add(t, queue, b, n,
            p[7] & 0x80 && t->features & VIRTIO_F_INDIRECT_DESC ? DRV_RAM + DRV_DATA + 0x20000 : 0);
    if (!(p[7] & 0x40))
        drv_kick(t, queue);
}

static inline void fuzz_save_and_load(struct fuzz *f)
{
    struct device *d = f->t.d;
    g_autofree uint8_t *bytes = g_malloc(device_state_size(d->type));
    device_state_save(d, bytes);
    bool ok = device_state_load(d, bytes);
    g_assert_true(ok); /* a guest made it */
}

/* One step; the number of a step that is the target's own, or -1. */
static inline int fuzz_step(struct fuzz *f, const uint8_t *p, unsigned own)
{
    static const uint8_t sizes[4] = {4, 4, 2, 1};
    struct drv *t = &f->t;
    const unsigned queue = (p[0] >> 4) % t->v->setup.queues, step = (p[0] & 0xf) % (STEPS + own);
    const uint16_t place = ld16le(p + 1);
    const uint32_t value = ld32le(p + 3);
    uint8_t *ring = drv_at(t, DRV_RAM + queue * DRV_RING_STRIDE);
    switch (step) {
    case CHAIN: fuzz_chain(f, queue, p); return -1;
    case DESCRIPTOR:
        drv_put_desc(ring + 16 * (p[7] % ENTRIES), fuzz_address(place), value & 0x1ffff,
                     (uint16_t)(value >> 17), (uint16_t)(p[7] >> 4 | (p[7] & 8) << 4));
        f->spoilt = true;
        return -1;
    case OFFER: /* whatever the ring holds */
        st16le(ring + DRV_DRIVER_AREA + 2, (uint16_t)(ld16le(ring + DRV_DRIVER_AREA + 2) + p[1]));
        st16le(ring + DRV_DRIVER_AREA + 4 + 2 * (p[7] % ENTRIES), p[3]);
        f->spoilt = true;
        return -1;
    case POKE:
        if (fuzz_address(place) < DRV_RAM + DRV_RAM_SIZE - 4 && fuzz_address(place) >= DRV_RAM)
            st32le(drv_at(t, fuzz_address(place)), value);
        f->spoilt |= fuzz_address(place) < DRV_RAM + DRV_DATA;
        return -1;
    case KICK: drv_kick(t, queue); return -1;
    case REGISTER:
        wr(t->d, place & 0x1ff & ~(sizes[p[7] & 3] - 1u), sizes[p[7] & 3], value);
        rd(t->d, place & 0x1ff & ~(sizes[p[7] & 3] - 1u), sizes[p[7] & 3]);
        f->spoilt = true;
        return -1;
    case RESTART:
        drv_start(t, fuzz_features(p[1]), ENTRIES);
        f->spoilt = false;
        return -1;
    case RESET:
        device_reset(t->d);
        f->spoilt = true;
        return -1;
    case SAVE_AND_LOAD: fuzz_save_and_load(f); return -1;
    default: return (int)(step - STEPS);
    }
}

/* A fresh start with the features of the first byte. */
static inline void fuzz_begin(struct fuzz *f, uint8_t features)
{
    memset(drv_at(&f->t, DRV_RAM + DRV_DATA), 0, 0x30000);
    drv_start(&f->t, fuzz_features(features), ENTRIES);
    f->spoilt = false;
}

/* All of an input: the first byte, then steps; own(n, step) does the target's own ones. */
static inline void fuzz_all(struct fuzz *f, const uint8_t *data, size_t size, unsigned own_steps,
                            void (*own)(int, const uint8_t *))
{
    fuzz_begin(f, *data);
    for (data++, size--; size >= STEP; data += STEP, size -= STEP) {
        int number = fuzz_step(f, data, own_steps);
        if (number >= 0)
            own(number, data);
    }
}

#endif
