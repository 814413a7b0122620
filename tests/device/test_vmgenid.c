/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The generation ID: 16 bytes that are read in pieces of any size, and one edge when they change. */
#include "device/vmgenid.h"
#include "fake.h"

struct counted {
    bool level;
    unsigned rises;
};

static void count(void *sink, unsigned pin, bool level)
{
    struct counted *c = sink;
    g_assert_cmpuint(pin, ==, 0);
    c->rises += level && !c->level;
    c->level = level;
}

static struct device *chip(struct counted *c)
{
    const struct irq_line line = {.set = count, .sink = c};
    const struct device_wires wires = {.name = "generation", .outputs = &line, .output_count = 1};
    return device_new(device_type_find("vmgenid"), &wires, NULL, NULL);
}

static void assert_reads(struct device *d, const uint8_t id[VMGENID_SIZE])
{
    for (unsigned size = 1; size <= 8; size *= 2)
        for (unsigned at = 0; at < VMGENID_SIZE; at += size) {
            const uint64_t value = rd(d, at, size);
            for (unsigned i = 0; i < size; i++)
                g_assert_cmphex(value >> 8 * i & 0xff, ==, id[at + i]);
            g_assert_cmphex(size < 8 ? value >> 8 * size : 0, ==, 0);
        }
}

static void test_renewed(void)
{
    uint8_t one[VMGENID_SIZE], two[VMGENID_SIZE];
    struct counted c = {0};
    struct device *d = chip(&c);
    for (unsigned i = 0; i < VMGENID_SIZE; i++) {
        one[i] = (uint8_t)(0x80 + 3 * i);
        two[i] = (uint8_t)(7 * i);
    }
    vmgenid_set(d, one);
    assert_reads(d, one);
    g_assert_cmpuint(c.rises, ==, 0); /* a guest that begins need not be told */
    wr(d, 0, 8, 0x1234);
    device_reset(d);
    assert_reads(d, one);
    g_assert_cmpuint(c.rises, ==, 0);
    for (unsigned times = 1; times <= 3; times++) {
        vmgenid_renew(d, two);
        assert_reads(d, two);
        g_assert_cmpuint(c.rises, ==, times);
        g_assert_false(c.level);
    }
    device_free(d);
}

/* A guest that has not looked at the number since it began is not interrupted; one that had when it was saved
 * is. */
static void test_not_looked(void)
{
    static const uint8_t one[VMGENID_SIZE] = {1}, two[VMGENID_SIZE] = {2};
    uint8_t bytes[VMGENID_SIZE + 1];
    struct counted c = {0};
    struct device *d = chip(&c);
    vmgenid_renew(d, one);
    g_assert_cmpuint(c.rises, ==, 0);
    assert_reads(d, one);
    device_state_save(d, bytes);
    device_reset(d);
    vmgenid_renew(d, two);
    g_assert_cmpuint(c.rises, ==, 0);
    g_assert_true(device_state_load(d, bytes));
    vmgenid_renew(d, two);
    g_assert_cmpuint(c.rises, ==, 1);
    device_free(d);
}

/* Loading alone leaves the number that was saved: whether it may stay is for others to say. */
static void test_loaded(void)
{
    static const uint8_t one[VMGENID_SIZE] = {1, 2, 3}, two[VMGENID_SIZE] = {4};
    uint8_t bytes[VMGENID_SIZE + 1];
    struct counted c = {0};
    struct device *d = chip(&c);
    g_assert_cmpuint(device_state_size(d->type), ==, sizeof(bytes));
    vmgenid_set(d, one);
    device_state_save(d, bytes);
    vmgenid_set(d, two);
    g_assert_true(device_state_load(d, bytes));
    assert_reads(d, one);
    g_assert_cmpuint(c.rises, ==, 0);
    device_free(d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vmgenid/renewed", test_renewed);
    g_test_add_func("/vmgenid/not-looked", test_not_looked);
    g_test_add_func("/vmgenid/loaded", test_loaded);
    return g_test_run();
}
