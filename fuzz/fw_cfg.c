/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any accesses to fw_cfg, DMA requests among them: only RAM changes. */
/*
 * Input is a row of accesses: a byte with the register's offset in its low bits and the size's logarithm in
 * its upper ones, and eight bytes of value. Bit 7 instead puts sixteen bytes, a request, at the place in RAM
 * that the low bits name, and starts it.
 */
#include <glib.h>
#include <stdint.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "device/fw_cfg.h"
#include "mem/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM UINT64_C(0x80000000)
#define RAM_SIZE (64 * KiB)
#define ROM (RAM + RAM_SIZE) /* right behind it */

static struct device *make(struct mem *m)
{
    const struct device_wires wires = {.name = "fw_cfg", .mem = m};
    static uint8_t kernel[10000];
    g_assert_nonnull(mem_add(m, "ram", GPA(RAM), RAM_SIZE, false, NULL));
    g_assert_nonnull(mem_add(m, "rom", GPA(ROM), MEM_PAGE_SIZE, true, NULL));
    struct device *d = device_new(device_type_find("fw-cfg"), &wires, NULL, NULL);
    memset(kernel, 0xa5, sizeof(kernel));
    fw_cfg_put(d, FW_CFG_KERNEL_DATA, kernel, sizeof(kernel));
    g_assert_true(fw_cfg_add_file(d, "opt/x", "text", -1, 4, NULL));
    return d;
}

static void request(struct mem *m, struct device *d, uint64_t at, const uint8_t *bytes)
{
    mem_write(m, GPA(at), bytes, 16);
    d->type->ops->write(d, 16, 8, GUINT64_SWAP_LE_BE(at));
}

static void touch(struct device *d, uint8_t how, uint64_t value)
{
    unsigned size = 1u << (how >> 5 & 3);
    uint64_t offset = (how & 31) % 24 & ~(uint64_t)(size - 1);
    d->type->ops->write(d, offset, size, value & bits_mask(8 * size));
    value = d->type->ops->read(d, offset, size);
    if (size < 8)
        g_assert_cmphex(value >> 8 * size, ==, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(mem) m = mem_new();
    AUTO(device) d = make(m);
    while (size >= 17) {
        if (data[0] & 0x80)
            request(m, d, RAM + RAM_SIZE - 16 - 8 * (data[0] & 0x7f), data + 1);
        else
            touch(d, data[0], ld64le(data + 1));
        unsigned used = data[0] & 0x80 ? 17 : 9;
        data += used;
        size -= used;
    }
    const struct mem_block *rom = mem_find(m, GPA(ROM));
    for (uint64_t i = 0; i < rom->size; i++)
        g_assert_cmphex(rom->host[i], ==, 0);
    return 0;
}
