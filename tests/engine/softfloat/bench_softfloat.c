/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * How long the operations take, in ns: on independent random operands of mixed sign and magnitude ("random"),
 * on a few repeated ones ("steady", branches predicted), and each depending on the one before ("chain").
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "engine/softfloat.h"
#include "vectors.h"

enum { OPERANDS = 4096, COUNT = 16 * OPERANDS, REPEATS = 20, STEADY_MASK = 7 };

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Random fraction and sign, exponent around that of 1. */
static uint32_t operand32(struct vectors *v)
{
    uint64_t r = vectors_bits(v);

    return (uint32_t)((r >> 63 << 31) | (127 - 8 + (r >> 32 & 15)) << 23 | (r & 0x7fffff));
}

static uint64_t operand64(struct vectors *v)
{
    uint64_t r = vectors_bits(v), s = vectors_bits(v);

    return (s >> 63 << 63) | (1023 - 8 + (s & 15)) << 52 | (r >> 12);
}

static uint32_t x32[3][OPERANDS];
static uint64_t x64[3][OPERANDS];

/* Zero, but the compiler cannot know. */
static volatile uint64_t no_bits;

/* The best of REPEATS, since the machine has other things to do; `link` is what a takes over from the last r.
 */
#define BEST(N, type, mask, link, step, best)                                                                \
    do {                                                                                                     \
        type none = (type)no_bits, r = 0;                                                                    \
        struct sf_ctx ctx = {0};                                                                             \
                                                                                                             \
        best = 1e9;                                                                                          \
        for (int repeat = 0; repeat < REPEATS; repeat++) {                                                   \
            uint64_t begin = now_ns();                                                                       \
            double ns;                                                                                       \
                                                                                                             \
            for (unsigned i = 0; i < COUNT; i++) {                                                           \
                type a = x##N[0][i & (mask)] ^ (link), b = x##N[1][i & (mask)], c = x##N[2][i & (mask)];     \
                                                                                                             \
                (void)b, (void)c;                                                                            \
                step;                                                                                        \
            }                                                                                                \
            ns = (double)(now_ns() - begin) / COUNT;                                                         \
            best = ns < best ? ns : best;                                                                    \
        }                                                                                                    \
        (void)none, (void)r;                                                                                 \
    } while (0)

#define BENCH(N, type, label, step)                                                                          \
    do {                                                                                                     \
        double random, steady, chain;                                                                        \
                                                                                                             \
        BEST(N, type, OPERANDS - 1, 0, step, random);                                                        \
        BEST(N, type, STEADY_MASK, 0, step, steady);                                                         \
        BEST(N, type, STEADY_MASK, r &none, step, chain);                                                    \
        printf("f" #N "_%-8s random %6.2f  steady %6.2f  chain %6.2f ns\n", label, random, steady, chain);   \
    } while (0)

#define BENCH_WIDTH(N, type)                                                                                 \
    BENCH(N, type, "add", r = sf_f##N##_add(&ctx, a, b));                                                    \
    BENCH(N, type, "mul", r = sf_f##N##_mul(&ctx, a, b));                                                    \
    BENCH(N, type, "div", r = sf_f##N##_div(&ctx, a, b));                                                    \
    BENCH(N, type, "sqrt", r = sf_f##N##_sqrt(&ctx, (type)(a << 1) >> 1));                                   \
    BENCH(N, type, "fma", r = sf_f##N##_fma(&ctx, a, b, c, 0));                                              \
    BENCH(N, type, "lt", r = sf_f##N##_lt(&ctx, a, b));                                                      \
    BENCH(N, type, "to_i64", r = (type)sf_f##N##_to_i64(&ctx, a));                                           \
    BENCH(N, type, "from_i64", r = sf_f##N##_from_i64(&ctx, (int64_t)a))

int main(void)
{
    struct vectors v = {.state = 754};

    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < OPERANDS; k++) {
            x32[i][k] = operand32(&v);
            x64[i][k] = operand64(&v);
        }
    }
    BENCH_WIDTH(32, uint32_t);
    BENCH_WIDTH(64, uint64_t);
    return 0;
}
