/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any accesses to a bank of flash: it stays sane, and what it shows as memory is what it answers. */
/*
 * Four bytes of input are an access: bits 0-1 of the first its size, bit 2 a read, bits 3-4 the place's
 * sector, bit 5 a reset; the second a command or datum, for both chips; the others an offset inside the
 * sector.
 */
#include <glib.h>
#include <stdint.h>
#include <string.h>

#include "base/byteorder.h"
#include "device/pflash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SECTOR (256 * KiB)
#define BASE 0x20000000

static const uint64_t sectors[4] = {0, SECTOR, 77 * SECTOR, PFLASH_SIZE - SECTOR};

static void to_contents(struct device *d)
{
    /* All ones program nothing, are no valid count, and then the command. */
    for (unsigned i = 0; i < 2; i++)
        d->type->ops->write(d, 0, 4, UINT32_MAX);
    device_reset(d);
}

static void erase(struct device *d)
{
    to_contents(d);
    for (unsigned i = 0; i < G_N_ELEMENTS(sectors); i++) {
        d->type->ops->write(d, sectors[i], 4, 0x200020);
        d->type->ops->write(d, sectors[i], 4, 0xd000d0);
    }
    device_reset(d);
}

static void step(struct device *d, const uint8_t *p)
{
    unsigned size = 1u << (p[0] & 3);
    uint64_t offset = (sectors[p[0] >> 3 & 3] + (uint64_t)ld16le(p + 2)) & ~(uint64_t)(size - 1);
    uint64_t value = p[1] * UINT64_C(0x0001000100010001);
    if (p[0] & 0x20)
        device_reset(d);
    else if (!(p[0] & 4))
        d->type->ops->write(d, offset, size, size == 8 ? value : value & bits_mask(8 * size));
    else if (size < 8)
        g_assert_cmphex(d->type->ops->read(d, offset, size) >> 8 * size, ==, 0);
    else
        d->type->ops->read(d, offset, size);
}

static void check(struct mem *m, struct device *d)
{
    const struct mem_block *b = mem_find(m, GPA(BASE));
    to_contents(d);
    for (unsigned i = 0; i < G_N_ELEMENTS(sectors) && !mem_is_chip(b, false); i++)
        for (uint64_t at = sectors[i]; at < sectors[i] + 0x10000; at += 520) {
            uint64_t shown;
            g_assert_cmpint(mem_read(m, GPA(BASE + at), &shown, 8), ==, 0);
            g_assert_cmphex(GUINT64_FROM_LE(shown), ==, d->type->ops->read(d, at, 8));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* One bank for all: making it is what would take the time. Each input finds its sectors erased. */
    static struct mem *m;
    static struct device *d;
    if (!d) {
        const struct device_wires wires = {.name = "flash0"};
        m = mem_new();
        d = device_new(device_type_find("pflash"), &wires, NULL, NULL);
        g_assert_true(pflash_place(d, m, GPA(BASE), NULL));
    }
    erase(d);
    for (; size >= 4; data += 4, size -= 4)
        step(d, data);
    g_autofree uint8_t *state = g_malloc(device_state_size(d->type));
    device_state_save(d, state);
    g_assert_true(device_state_load(d, state));
    check(m, d);
    return 0;
}
