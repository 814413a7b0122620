/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * Softfloat against what the specifications print, and against itself one width up: these run on every host,
 * with no emulator and no particular processor.
 */
#include <glib.h>
#include <inttypes.h>

#include "engine/softfloat.h"
#include "vectors.h"

enum { SEED = 754, TRIES = 100000 };

#define F32_ONE 0x3f800000u
#define F32_INF 0x7f800000u
#define F32_QNAN 0x7fc00000u
#define F32_SNAN 0x7f800001u
#define F32_MINUS 0x80000000u
#define F32_MIN_NORMAL 0x00800000u

/* Flags are ORed into what is there, and exact operations leave them alone. */
static void test_sticky(void)
{
    struct sf_ctx ctx = {.flags = SF_DZ};

    g_assert_cmphex(sf_f32_add(&ctx, F32_ONE, F32_ONE), ==, 0x40000000);
    g_assert_cmphex(ctx.flags, ==, SF_DZ);
    sf_f32_add(&ctx, F32_ONE, 1);
    g_assert_cmphex(ctx.flags, ==, SF_DZ | SF_NX);
    sf_f32_sqrt(&ctx, F32_MINUS | F32_ONE);
    g_assert_cmphex(ctx.flags, ==, SF_DZ | SF_NX | SF_NV);
}

/* 1 + 2^-24 is a tie: modes 0 to 4 as printed in RISC-V's table of frm; reserved ones round to nearest even.
 */
static void test_rounding_modes(void)
{
    static const uint32_t of_one[] = {0, 0, 0, 1, 1, 0, 0, 0};
    static const uint32_t of_minus_one[] = {0, 0, 1, 0, 1, 0, 0, 0};

    for (uint8_t round = 0; round < 8; round++) {
        struct sf_ctx ctx = {.round = round};

        g_assert_cmphex(sf_f32_add(&ctx, F32_ONE, 0x33800000), ==, F32_ONE + of_one[round]);
        g_assert_cmphex(sf_f32_sub(&ctx, F32_MINUS | F32_ONE, 0x33800000), ==,
                        (F32_MINUS | F32_ONE) + of_minus_one[round]);
    }
}

/* (2 - 2^-23) * 2^-127 rounds to the smallest normal number: tiny before rounding, not after (IEEE
 * 754-2019, 7.5). */
static void test_tininess(void)
{
    struct sf_ctx after = {0}, before = {.tininess_before = true};
    const uint32_t half = 0x3f000000, a = F32_MIN_NORMAL | 0x007fffff; /* (2 - 2^-23) * 2^-126 */

    g_assert_cmphex(sf_f32_mul(&after, a, half), ==, 0x01000000 - F32_MIN_NORMAL);
    g_assert_cmphex(after.flags, ==, SF_NX | SF_UF);
    /* With one more bit to round, the unbounded result is 2^-126 exactly. */
    after.flags = 0;
    g_assert_cmphex(sf_f64_to_f32(&after, 0x380fffffffffffff), ==, F32_MIN_NORMAL);
    g_assert_cmphex(after.flags, ==, SF_NX);
    g_assert_cmphex(sf_f64_to_f32(&before, 0x380fffffffffffff), ==, F32_MIN_NORMAL);
    g_assert_cmphex(before.flags, ==, SF_NX | SF_UF);
    /* Tiny but exact is no underflow. */
    before.flags = 0;
    g_assert_cmphex(sf_f32_mul(&before, F32_MIN_NORMAL, half), ==, 0x00400000);
    g_assert_cmphex(before.flags, ==, 0);
}

static void test_min_max(void)
{
    static const struct {
        uint32_t a, b, min, max;
        uint8_t flags;
    } rows[] = {
        {0, F32_MINUS, F32_MINUS, 0, 0},
        {F32_MINUS, 0, F32_MINUS, 0, 0},
        {F32_ONE, F32_QNAN, F32_ONE, F32_ONE, 0},
        {F32_SNAN, F32_ONE, F32_ONE, F32_ONE, SF_NV},
        {F32_QNAN | 3, F32_QNAN | 5, F32_QNAN, F32_QNAN, 0},
        {F32_QNAN | 3, F32_SNAN, F32_QNAN, F32_QNAN, SF_NV},
        {F32_MINUS | F32_INF, F32_ONE, F32_MINUS | F32_INF, F32_ONE, 0},
        {F32_MINUS | F32_ONE, F32_MINUS | 1, F32_MINUS | F32_ONE, F32_MINUS | 1, 0},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct sf_ctx ctx = {0};

        g_assert_cmphex(sf_f32_min(&ctx, rows[i].a, rows[i].b), ==, rows[i].min);
        g_assert_cmphex(ctx.flags, ==, rows[i].flags);
        ctx.flags = 0;
        g_assert_cmphex(sf_f32_max(&ctx, rows[i].a, rows[i].b), ==, rows[i].max);
        g_assert_cmphex(ctx.flags, ==, rows[i].flags);
    }
}

/* RISC-V's table "Domains of float-to-integer conversions and behavior for invalid inputs", and its
 * neighbours'. */
static void test_to_int_policies(void)
{
    static const struct {
        uint32_t a;
        uint32_t i32[3], u32[3]; /* by enum sf_toint */
    } rows[] = {
        {F32_INF, {0x7fffffff, 0x7fffffff, 0x80000000}, {0xffffffff, 0xffffffff, 0xffffffff}},
        {F32_MINUS | F32_INF, {0x80000000, 0x80000000, 0x80000000}, {0, 0, 0xffffffff}},
        {F32_QNAN, {0x7fffffff, 0, 0x80000000}, {0xffffffff, 0, 0xffffffff}},
        {F32_MINUS | F32_SNAN, {0x7fffffff, 0, 0x80000000}, {0xffffffff, 0, 0xffffffff}},
        {0x4f800000, {0x7fffffff, 0x7fffffff, 0x80000000}, {0xffffffff, 0xffffffff, 0xffffffff}}, /* 2^32 */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (uint8_t toint = SF_TOINT_RISCV; toint <= SF_TOINT_X86; toint++) {
            struct sf_ctx ctx = {.toint = toint};

            g_assert_cmphex((uint32_t)sf_f32_to_i32(&ctx, rows[i].a), ==, rows[i].i32[toint]);
            g_assert_cmphex(ctx.flags, ==, SF_NV);
            ctx.flags = 0;
            g_assert_cmphex(sf_f32_to_u32(&ctx, rows[i].a), ==, rows[i].u32[toint]);
            g_assert_cmphex(ctx.flags, ==, SF_NV);
        }
    }
}

static void test_nan_policies(void)
{
    struct sf_ctx riscv = {.nan = SF_NAN_CANONICAL}, x86 = {.nan = SF_NAN_X86}, arm = {.nan = SF_NAN_ARM};

    g_assert_cmphex(sf_f32_add(&riscv, F32_QNAN | 7, F32_SNAN), ==, F32_QNAN);
    g_assert_cmphex(sf_f32_add(&x86, F32_QNAN | 7, F32_SNAN), ==, F32_QNAN | 7);
    g_assert_cmphex(sf_f32_add(&arm, F32_QNAN | 7, F32_SNAN), ==, F32_QNAN | 1);
    g_assert_cmphex(sf_f32_sub(&riscv, F32_INF, F32_INF), ==, F32_QNAN);
    g_assert_cmphex(sf_f32_sub(&x86, F32_INF, F32_INF), ==, F32_MINUS | F32_QNAN);
    g_assert_cmphex(sf_f32_sub(&arm, F32_INF, F32_INF), ==, F32_QNAN);
    g_assert_cmphex(sf_f32_sub(&arm, F32_ONE, F32_QNAN), ==, F32_QNAN);
    /* Infinity times zero plus a quiet NaN. */
    riscv.flags = x86.flags = 0;
    g_assert_cmphex(sf_f32_fma(&riscv, F32_INF, 0, F32_QNAN | 7, 0), ==, F32_QNAN);
    g_assert_cmphex(riscv.flags, ==, SF_NV);
    g_assert_cmphex(sf_f32_fma(&x86, F32_INF, 0, F32_QNAN | 7, 0), ==, F32_QNAN | 7);
    g_assert_cmphex(x86.flags, ==, 0);
    /* A payload narrows from the top and widens to it. */
    g_assert_cmphex(sf_f64_to_f32(&arm, 0xfff8000020000001), ==, F32_MINUS | F32_QNAN | 1);
    g_assert_cmphex(sf_f32_to_f64(&arm, F32_MINUS | F32_QNAN | 1), ==, 0xfff8000020000000);
}

/* What lt and eq cannot say apart, and who is invalid. */
static void test_compare(void)
{
    struct sf_ctx ctx = {0};

    g_assert_cmpint(sf_f64_compare(&ctx, 0, UINT64_C(1) << 63, true), ==, SF_EQUAL);
    g_assert_cmpint(sf_f32_compare(&ctx, F32_MINUS | 1, 0, true), ==, SF_LESS);
    g_assert_cmpint(sf_f32_compare(&ctx, F32_ONE, F32_MINUS | F32_INF, true), ==, SF_GREATER);
    g_assert_cmpint(sf_f32_compare(&ctx, F32_ONE, F32_QNAN, false), ==, SF_UNORDERED);
    g_assert_cmphex(ctx.flags, ==, 0);
    g_assert_cmpint(sf_f32_compare(&ctx, F32_ONE, F32_QNAN, true), ==, SF_UNORDERED);
    g_assert_cmphex(ctx.flags, ==, SF_NV);
    ctx.flags = 0;
    g_assert_cmpint(sf_f32_compare(&ctx, F32_SNAN, F32_ONE, false), ==, SF_UNORDERED);
    g_assert_cmphex(ctx.flags, ==, SF_NV);
}

/* Rounding to an integral value in every mode, with and without the inexact flag. */
static void test_round_to_int(void)
{
    static const struct {
        uint16_t a, r[5]; /* by enum sf_round */
    } rows[] = {
        {0x3800, {0x0000, 0x0000, 0x0000, 0x3c00, 0x3c00}}, /* 0.5 */
        {0xb800, {0x8000, 0x8000, 0xbc00, 0x8000, 0xbc00}}, /* -0.5 */
        {0x3801, {0x3c00, 0x0000, 0x0000, 0x3c00, 0x3c00}}, /* just above 0.5 */
        {0x0001, {0x0000, 0x0000, 0x0000, 0x3c00, 0x0000}}, /* the smallest number */
        {0x3e00, {0x4000, 0x3c00, 0x3c00, 0x4000, 0x4000}}, /* 1.5 */
        {0x4100, {0x4000, 0x4000, 0x4000, 0x4200, 0x4200}}, /* 2.5 */
        {0x63ff, {0x6400, 0x63fe, 0x63fe, 0x6400, 0x6400}}, /* 1023.5 */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (uint8_t round = SF_RNE; round <= SF_RMM; round++) {
            struct sf_ctx ctx = {.round = round};

            g_assert_cmphex(sf_f16_round_to_int(&ctx, rows[i].a, false), ==, rows[i].r[round]);
            g_assert_cmphex(ctx.flags, ==, 0);
            g_assert_cmphex(sf_f16_round_to_int(&ctx, rows[i].a, true), ==, rows[i].r[round]);
            g_assert_cmphex(ctx.flags, ==, SF_NX);
        }
    }
}

/*
 * A format with at least 2p + 2 bits computes the sum, product, quotient and root of p-bit numbers so well
 * that rounding twice does not show (Figueroa, "When is double rounding innocuous?", 1995). So each width
 * checks the next.
 */
#define DEFINE_BY_WIDER(N, type, W)                                                                          \
    static void test_f##N##_by_f##W(void)                                                                    \
    {                                                                                                        \
        struct vectors v = {.state = SEED};                                                                  \
        struct sf_ctx ctx = {0};                                                                             \
                                                                                                             \
        for (int i = 0; i < TRIES; i++) {                                                                    \
            struct question q;                                                                               \
            type a, b;                                                                                       \
                                                                                                             \
            vectors_fill(&v, N, OPERANDS_FF, &q);                                                            \
            a = (type)q.a;                                                                                   \
            b = (type)q.b;                                                                                   \
            BY_WIDER(N, W, add, sf_f##N##_to_f##W(&ctx, a), sf_f##N##_to_f##W(&ctx, b), a, b)                \
            BY_WIDER(N, W, mul, sf_f##N##_to_f##W(&ctx, a), sf_f##N##_to_f##W(&ctx, b), a, b)                \
            BY_WIDER(N, W, div, sf_f##N##_to_f##W(&ctx, a), sf_f##N##_to_f##W(&ctx, b), a, b)                \
            g_assert_cmphex(sf_f##N##_sqrt(&ctx, a), ==,                                                     \
                            sf_f##W##_to_f##N(&ctx, sf_f##W##_sqrt(&ctx, sf_f##N##_to_f##W(&ctx, a))));      \
        }                                                                                                    \
        g_test_message("%d operands, seed %d", TRIES, SEED);                                                 \
    }

#define BY_WIDER(N, W, name, wa, wb, a, b)                                                                   \
    g_assert_cmphex(sf_f##N##_##name(&ctx, a, b), ==,                                                        \
                    sf_f##W##_to_f##N(&ctx, sf_f##W##_##name(&ctx, wa, wb)));

DEFINE_BY_WIDER(16, uint16_t, 32)
DEFINE_BY_WIDER(32, uint32_t, 64)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/softfloat/sticky", test_sticky);
    g_test_add_func("/softfloat/rounding-modes", test_rounding_modes);
    g_test_add_func("/softfloat/tininess", test_tininess);
    g_test_add_func("/softfloat/min-max", test_min_max);
    g_test_add_func("/softfloat/to-int-policies", test_to_int_policies);
    g_test_add_func("/softfloat/nan-policies", test_nan_policies);
    g_test_add_func("/softfloat/compare", test_compare);
    g_test_add_func("/softfloat/round-to-int", test_round_to_int);
    g_test_add_func("/softfloat/f16-by-f32", test_f16_by_f32);
    g_test_add_func("/softfloat/f32-by-f64", test_f32_by_f64);
    return g_test_run();
}
