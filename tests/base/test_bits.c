/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* base/bits.h, base/checked.h and base/byteorder.h against the slow and obvious: one bit at a time, 128-bit
 * sums. */

#include <glib.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"

typedef unsigned __int128 u128;

static const uint64_t edges[] = {
    0,          1,          2,         0x7f,    0x80,           0xff,       0x7fffffff,
    0x80000000, 0xffffffff, INT64_MAX, BIT(63), UINT64_MAX - 1, UINT64_MAX,
};

static bool bit_of(uint64_t v, unsigned n)
{
    return n < 64 && v >> n & 1;
}

static void test_fields(void)
{
    for (unsigned e = 0; e < ARRAY_SIZE(edges); e++)
        for (unsigned lo = 0; lo < 64; lo++)
            for (unsigned n = 1; n <= 64 - lo; n++) {
                uint64_t v = edges[e] ^ UINT64_C(0x0123456789abcdef), field = bits_get(v, lo, n);
                uint64_t set = bits_set(v, lo, n, edges[e]), sext = (uint64_t)bits_sext(v, n);
                for (unsigned i = 0; i < 64; i++) {
                    bool inside = i >= lo && i < lo + n;
                    g_assert_cmpint(bit_of(field, i), ==, i < n && bit_of(v, i + lo));
                    g_assert_cmpint(bit_of(set, i), ==, inside ? bit_of(edges[e], i - lo) : bit_of(v, i));
                    g_assert_cmpint(bit_of(sext, i), ==, bit_of(v, MIN(i, n - 1)));
                }
            }
}

static void test_masks(void)
{
    for (unsigned n = 0; n <= 64; n++)
        for (unsigned i = 0; i < 64; i++)
            g_assert_cmpint(bit_of(bits_mask(n), i), ==, i < n);
}

static void test_rotations(void)
{
    for (unsigned e = 0; e < ARRAY_SIZE(edges); e++)
        for (unsigned n = 0; n < 130; n++) {
            uint64_t v64 = bits_rol64(edges[e], n);
            uint32_t v32 = bits_rol32((uint32_t)edges[e], n);
            for (unsigned i = 0; i < 64; i++)
                g_assert_cmpint(bit_of(v64, (i + n) % 64), ==, bit_of(edges[e], i));
            for (unsigned i = 0; i < 32; i++)
                g_assert_cmpint(bit_of(v32, (i + n) % 32), ==, bit_of(edges[e], i));
        }
}

static void test_alignment(void)
{
    g_assert_cmpuint(align_down(4095, 4096), ==, 0);
    g_assert_cmpuint(align_down(4096, 4096), ==, 4096);
    g_assert_cmpuint(align_up(0, 4096), ==, 0);
    g_assert_cmpuint(align_up(1, 4096), ==, 4096);
    g_assert_cmpuint(align_up(4096, 4096), ==, 4096);
    g_assert_false(is_power_of_two(0));
    for (unsigned n = 0; n < 64; n++) {
        g_assert_true(is_power_of_two(BIT(n)));
        g_assert_cmpint(is_power_of_two(BIT(n) | 1), ==, n == 0);
    }
}

static void test_container(void)
{
    struct outer {
        char before;
        int inner;
    } o;
    g_assert_true(CONTAINER_OF(&o.inner, struct outer, inner) == &o);
}

static void test_checked(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(edges); i++)
        for (unsigned j = 0; j < ARRAY_SIZE(edges); j++) {
            uint64_t a = edges[i], b = edges[j], sum, difference, product;
            g_assert_cmpint(ckd_add(&sum, a, b), ==, (u128)a + b > UINT64_MAX);
            g_assert_cmpint(ckd_sub(&difference, a, b), ==, a < b);
            g_assert_cmpint(ckd_mul(&product, a, b), ==, (u128)a * b > UINT64_MAX);
            g_assert_cmpuint(sum, ==, (uint64_t)((u128)a + b));
            g_assert_cmpuint(difference, ==, (uint64_t)((u128)a - b));
            g_assert_cmpuint(product, ==, (uint64_t)((u128)a * b));
        }
}

/* Ranges are compared with the same question asked in 128 bits, where nothing wraps. */
static void test_ranges(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(edges); i++)
        for (unsigned j = 0; j < ARRAY_SIZE(edges); j++)
            for (unsigned k = 0; k < ARRAY_SIZE(edges); k++)
                for (unsigned l = 0; l < ARRAY_SIZE(edges); l++) {
                    uint64_t start = edges[i], size = edges[j], base = edges[k], extent = edges[l];
                    u128 end = (u128)start + size, limit = (u128)base + extent;
                    g_assert_cmpint(range_inside(start, size, base, extent), ==,
                                    start >= base && end <= limit);
                    if (end > (u128)1 << 64 || limit > (u128)1 << 64)
                        continue;
                    g_assert_cmpint(ranges_overlap(start, size, base, extent), ==,
                                    size && extent && start < limit && base < end);
                }
}

static void test_byteorder(void)
{
    static const uint8_t bytes[] = {0xee, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08};
    uint8_t out[8];
    g_assert_cmphex(ld16le(bytes + 1), ==, 0x0201);
    g_assert_cmphex(ld16be(bytes + 1), ==, 0x0102);
    g_assert_cmphex(ld32le(bytes + 1), ==, 0x04030201);
    g_assert_cmphex(ld32be(bytes + 1), ==, 0x01020304);
    g_assert_cmphex(ld64le(bytes + 1), ==, UINT64_C(0x0807060504030201));
    g_assert_cmphex(ld64be(bytes + 1), ==, UINT64_C(0x0102030405060708));
    st64be(out, UINT64_C(0x0102030405060708));
    g_assert_cmpmem(out, 8, bytes + 1, 8);
    st64le(out, UINT64_C(0x0807060504030201));
    g_assert_cmpmem(out, 8, bytes + 1, 8);
    st32le(out, 0x04030201);
    st16be(out + 4, 0x0506);
    st16le(out + 6, 0x0807);
    g_assert_cmpmem(out, 8, bytes + 1, 8);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/bits/fields", test_fields);
    g_test_add_func("/base/bits/masks", test_masks);
    g_test_add_func("/base/bits/rotations", test_rotations);
    g_test_add_func("/base/bits/alignment", test_alignment);
    g_test_add_func("/base/bits/container", test_container);
    g_test_add_func("/base/checked/arithmetic", test_checked);
    g_test_add_func("/base/checked/ranges", test_ranges);
    g_test_add_func("/base/byteorder", test_byteorder);
    return g_test_run();
}
