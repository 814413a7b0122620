/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* bus: which accesses reach which chip, against a linear search. */
#include <errno.h>
#include <glib.h>

#include "base/bits.h"
#include "bus/bus.h"

struct chip {
    uint64_t base, size;
    unsigned reads;
    uint64_t last_offset;
};

static uint64_t chip_read(void *chip, uint64_t offset, unsigned size)
{
    struct chip *c = chip;
    c->reads++;
    c->last_offset = offset;
    return c->base + offset + size;
}

static void chip_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    (void)size;
    (void)value;
    ((struct chip *)chip)->last_offset = offset;
}

static const struct bus_ops any = {chip_read, chip_write, 1, 8}, words = {chip_read, chip_write, 4, 4};

static void test_map(void)
{
    AUTO(bus) bus = bus_new();
    struct chip chips[] = {
        {.base = 0x1000, .size = 0x100}, {.base = 0x100000, .size = 0x1000}, {.base = 0x1100, .size = 0x10}};
    for (unsigned i = 0; i < ARRAY_SIZE(chips); i++)
        g_assert_true(
            bus_map(bus, "chip", GPA(chips[i].base), chips[i].size, i == 1 ? &words : &any, &chips[i], NULL));
    GError *error = NULL;
    g_assert_false(bus_map(bus, "late", GPA(0x10ff), 2, &any, &chips[0], &error));
    g_assert_cmpstr(error->message, ==, "late at 0x10ff overlaps chip");
    g_clear_error(&error);
    g_assert_false(bus_map(bus, "wrap", GPA(UINT64_MAX), 2, &any, &chips[0], &error));
    g_clear_error(&error);

    for (unsigned i = 0; i < 100000; i++) {
        uint64_t addr = (uint64_t)g_test_rand_int_range(0xf00, 0x1200) + (i % 2 ? 0xff000 : 0), value = 0;
        unsigned size = 1u << g_test_rand_int_range(0, 4);
        struct chip *owner = NULL;
        for (unsigned c = 0; c < ARRAY_SIZE(chips); c++)
            if (addr >= chips[c].base && addr + size <= chips[c].base + chips[c].size && !(addr % size) &&
                (c != 1 || size == 4))
                owner = &chips[c];
        int rc = bus_read(bus, GPA(addr), size, &value);
        g_assert_cmpint(rc, ==, owner ? 0 : -ENXIO);
        if (owner) {
            g_assert_cmphex(value, ==, addr + size);
            g_assert_cmphex(owner->last_offset, ==, addr - owner->base);
        }
        g_assert_cmpint(bus_write(bus, GPA(addr), size, 1), ==, rc);
    }
    g_assert_true(bus_at(bus, GPA(0x110f)));
    g_assert_false(bus_at(bus, GPA(0x1110)));
    g_assert_false(bus_at(bus, GPA(0)));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bus/map", test_map);
    return g_test_run();
}
