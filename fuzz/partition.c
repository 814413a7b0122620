/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any bytes as the beginning of a disk with partitions: refused with one line, or all of them inside the
 * disk. */
/* The first byte says whether the check sums of a GPT are made right, which no mutation would hit. */
#include <glib.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "block/partition.h"
#include "codec/crc32.h"

enum { DISK = 1 << 18, HEADER = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend(uint8_t *disk)
{
    uint8_t *h = disk + HEADER;
    const uint64_t place = ld64le(h + 72) % (DISK / 512) * 512,
                   bytes = (uint64_t)ld32le(h + 80) * ld32le(h + 84);
    memcpy(h, "EFI PART", 8);
    st32le(h + 12, 92);
    if (range_inside(place, bytes, 0, DISK))
        st32le(h + 88, crc32_ieee(0, disk + place, bytes));
    st32le(h + 16, 0);
    st32le(h + 16, crc32_ieee(0, h, 92));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[DISK];
    GError *error = NULL;
    struct block_config config = {.name = "disk", .fd = -1, .size = DISK};
    AUTO(disk) b = block_open(block_driver_find("memory"), &config, &error);
    g_assert_no_error(error);
    memset(bytes, 0, sizeof(bytes));
    if (size)
        memcpy(bytes, data + 1, MIN(size - 1, sizeof(bytes)));
    if (size && data[0] & 1)
        mend(bytes);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, 0);
    g_autoptr(GPtrArray) list = block_partitions(b, &error);
    for (unsigned i = 0; list && i < list->len; i++) {
        const struct block_partition *p = list->pdata[i];
        g_assert_true(p->size && range_inside(p->offset, p->size, 0, DISK));
        g_assert_true(g_utf8_validate(p->name, -1, NULL));
    }
    if (error) {
        g_assert_null(strchr(error->message, '\n'));
        g_error_free(error);
    }
    return 0;
}
