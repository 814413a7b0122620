/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Images of VirtualBox: as a disk, beside qemu-img, growing, damaged maps and headers. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "flat.h"

enum { COUNT_AT = 0x184, MAP = 512 };

static const struct image_setup setups[] = {
    {.name = "dynamic", .driver = "vdi", .size = 9 * MiB + 1536, .qemu = "vdi"},
    {.name = "fixed", .driver = "vdi", .options = "static=on", .size = 6 * MiB, .qemu = "vdi"},
    {0},
};
static const struct image_setup small[] = {
    {.name = "4k", .driver = "vdi", .options = "block_size=4K", .size = 5 * MiB + 512},
    {0},
};

static void put32(struct store *s, uint64_t at, uint32_t value)
{
    uint8_t bytes[4];
    st32le(bytes, value);
    store_write(s, bytes, 4, at);
}

static uint32_t get32(struct store *s, uint64_t at)
{
    uint8_t bytes[4];
    store_read(s, bytes, 4, at);
    return ld32le(bytes);
}

/* An image with blocks 5, 3 and 0, in the slots 0, 1 and 2. */
static struct store *with_three(const struct image_setup *setup)
{
    struct store *s = image_make(setup);
    AUTO(disk) b = flat_good(setup, s);
    const uint32_t block = b->facts.cluster;
    flat_write(b, 5 * (uint64_t)block, 1000, 5);
    flat_write(b, 3 * (uint64_t)block, 1000, 3);
    flat_write(b, 0, 1000, 0);
    return s;
}

static void test_header(void)
{
    static const struct {
        uint32_t at, value;
        const char *words;
    } cases[] = {
        {0x40, 1, "no vdi"},
        {0x44, 0x00020001, "version 2.1"},
        {0x4c, 4, "differencing"},
        {0x4c, 9, "type 9"},
        {0x154, 100, "map"},
        {0x154, 0, "map"},
        {0x158, 512, "map"},
        {0x158, 0x100001, "map"},
        {0x168, 4096, "sectors of 4096"},
        {0x178, 0, "blocks of 0"},
        {0x178, 3 << 20, "blocks of"},
        {0x178, 1 << 29, "blocks of"},
        {0x17c, 1, "extra"},
        {0x180, 0, "0 blocks"},
        {0x180, 9, "disk of"},
        {0x180, 11, "disk of"},
        {0x180, UINT32_MAX, "blocks"},
        {0x170, 0, "disk of 0"},
        {0x174, UINT32_MAX, "disk of"},
        {0x1a8, 1, "another vdi"},
        {0x1b8, 1, "another vdi"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(store) s = image_make(&setups[0]);
        put32(s, cases[i].at, cases[i].value);
        flat_refused(&setups[0], s, i % 2, cases[i].words);
    }
    AUTO(store) cut = image_make(&setups[0]);
    store_resize(cut, 500);
    flat_refused(&setups[0], cut, true, "shorter than a header");
}

/* What is wrong is found, is not written to, and can be mended. */
static void test_damage(void)
{
    static const struct {
        uint32_t entry, value; /* of block 0, in slot 2 */
        uint32_t corruptions;
        bool lost; /* its contents, when mended */
    } cases[] = {{0, 1, 1, false}, {0, 77, 1, true}, {0, 0x7fffffff, 1, true}, {0, 3, 1, true}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(store) s = with_three(&setups[0]);
        put32(s, MAP, cases[i].value);
        flat_refused(&setups[0], s, false, "damaged");
        struct block_check check = flat_check(&setups[0], s, 0);
        g_assert_cmpuint(check.corruptions, ==, cases[i].corruptions);
        check = flat_check(&setups[0], s, BLOCK_FIX_ERRORS | BLOCK_FIX_LEAKS);
        g_assert_cmpuint(check.corruptions_fixed, ==, cases[i].corruptions);
        check = flat_check(&setups[0], s, 0);
        g_assert_cmpuint(check.corruptions + check.leaks, ==, 0);
        AUTO(disk) b = flat_good(&setups[0], s);
        flat_same(b, 5 * MiB, 1000, 5);
        flat_same(b, 3 * MiB, 1000, 3);
        if (cases[i].lost)
            flat_zeroes(b, 0, 1000);
    }
}

/* Slots that are nobody's: given out again, or taken away by a repair. */
static void test_leaks(void)
{
    AUTO(store) s = with_three(&setups[0]);
    put32(s, MAP + 5 * 4, UINT32_MAX); /* slot 0 */
    put32(s, COUNT_AT, 5);             /* slots 3 and 4 */
    struct block_check check = flat_check(&setups[0], s, 0);
    g_assert_cmpuint(check.leaks, ==, 3);
    AUTO(store) again = store_copy(s);
    check = flat_check(&setups[0], s, BLOCK_FIX_LEAKS);
    g_assert_cmpuint(check.leaks_fixed, ==, 3);
    g_assert_cmpuint(get32(s, COUNT_AT), ==, 2);
    g_assert_cmpuint(store_size(s), ==, 3 * MiB);
    AUTO(disk) mended = flat_good(&setups[0], s);
    flat_same(mended, 3 * MiB, 1000, 3);
    flat_same(mended, 0, 1000, 0);
    flat_zeroes(mended, 5 * MiB, 1000);

    AUTO(disk) b = flat_good(&setups[0], again);
    flat_write(b, 7 * MiB + 5000, 100, 7);
    flat_zeroes(b, 7 * MiB, 5000); /* not what was in the slot */
    block_free(STEAL(b));
    g_assert_cmpuint(get32(again, MAP + 7 * 4), ==, 0);
    g_assert_cmpuint(get32(again, COUNT_AT), ==, 3);
    g_assert_cmpuint(flat_check(&setups[0], again, 0).leaks, ==, 0);
}

/* Into the room behind the map, and past it, where blocks have to move. */
static void test_grow(void)
{
    static const uint64_t sizes[] = {9 * MiB, 700 * MiB, 1200 * MiB, 3 * GiB};
    const struct image_setup *const both[] = {&small[0], &setups[1]};
    for (unsigned k = 0; k < ARRAY_SIZE(both); k++) {
        AUTO(store) s = with_three(both[k]);
        AUTO(disk) b = flat_good(both[k], s);
        const uint64_t block = b->facts.cluster;
        g_assert_cmpint(block_resize(b, 512), ==, -EOPNOTSUPP);
        for (unsigned i = 0; i < ARRAY_SIZE(sizes) && (!k || i < 1); i++) {
            g_assert_cmpint(block_resize(b, sizes[i]), ==, 0);
            flat_write(b, sizes[i] - 1000, 1000, i);
            block_free(STEAL(b));
            const struct block_check check = flat_check(both[k], s, 0);
            g_assert_cmpuint(check.corruptions + check.leaks, ==, 0);
            b = flat_good(both[k], s);
            g_assert_cmpuint(b->facts.size, ==, sizes[i]);
            flat_same(b, sizes[i] - 1000, 1000, i);
            flat_same(b, 5 * block, 1000, 5);
            flat_same(b, 3 * block, 1000, 3);
            flat_same(b, 0, 1000, 0);
            flat_zeroes(b, 4 * block, block);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    flat_add(setups);
    flat_add(small);
    g_test_add_func("/block/vdi/header", test_header);
    g_test_add_func("/block/vdi/damage", test_damage);
    g_test_add_func("/block/vdi/leaks", test_leaks);
    g_test_add_func("/block/vdi/grow", test_grow);
    return g_test_run();
}
