/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * Operands for the softfloat tests; integers only, so that no host unit can spoil a signaling NaN. No
 * expression draws twice: C leaves the order open, and a seed must mean the same operands to every compiler.
 */
#include "vectors.h"

#include <stdbool.h>
#include <stddef.h>

struct layout {
    unsigned width, frac, exp_max, bias;
};

static struct layout layout_of(unsigned width)
{
    switch (width) {
    case 16: return (struct layout){16, 10, 31, 15};
    case 32: return (struct layout){32, 23, 255, 127};
    default: return (struct layout){64, 52, 2047, 1023};
    }
}

static uint64_t mask(unsigned bits)
{
    return bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

/* exp is clipped to the format, so that callers may aim beyond its ends. */
static uint64_t value(struct layout l, bool sign, long exp, uint64_t frac)
{
    exp = exp < 0 ? 0 : exp > (long)l.exp_max ? (long)l.exp_max : exp;
    return (uint64_t)sign << (l.width - 1) | (uint64_t)exp << l.frac | (frac & mask(l.frac));
}

enum { EDGES_MAX = 128 };

unsigned vectors_edges(unsigned width, const uint64_t **values)
{
    static uint64_t edges[3][EDGES_MAX];
    static unsigned counts[3];
    struct layout l = layout_of(width);
    unsigned slot = width == 16 ? 0 : width == 32 ? 1 : 2;
    uint64_t *e = edges[slot];
    unsigned n = 0;
    uint64_t ones = mask(l.frac), top = UINT64_C(1) << (l.frac - 1);
    /* Exponents at the ends, around one, at the end of the fraction and at the ends of the integers. */
    const long exps[] = {0,
                         1,
                         2,
                         l.bias - 2,
                         l.bias - 1,
                         l.bias,
                         l.bias + 1,
                         l.bias + l.frac - 1,
                         l.bias + l.frac,
                         l.bias + l.frac + 1,
                         l.bias + 30,
                         l.bias + 31,
                         l.bias + 62,
                         l.bias + 63,
                         l.exp_max - 1};

    *values = e;
    if (counts[slot]) {
        return counts[slot];
    }
    for (unsigned i = 0; i < sizeof(exps) / sizeof(exps[0]); i++) {
        if (exps[i] < (long)l.exp_max) {
            e[n++] = value(l, false, exps[i], 0);
            e[n++] = value(l, false, exps[i], 1);
            e[n++] = value(l, false, exps[i], ones);
        }
    }
    e[n++] = value(l, false, l.bias, top);           /* 1.5 */
    e[n++] = value(l, false, l.bias + 1, top >> 1);  /* 2.5 */
    e[n++] = value(l, false, 0, top);                /* half the smallest normal number */
    e[n++] = value(l, false, l.exp_max, 0);          /* infinity */
    e[n++] = value(l, false, l.exp_max, 1);          /* signaling */
    e[n++] = value(l, false, l.exp_max, ones ^ top); /* signaling, all payload */
    e[n++] = value(l, false, l.exp_max, top);        /* quiet */
    e[n++] = value(l, false, l.exp_max, top | 5);    /* quiet with payload */
    for (unsigned i = 0; i < n; i++) {
        e[n + i] = e[i] | UINT64_C(1) << (width - 1);
    }
    return counts[slot] = 2 * n;
}

unsigned vectors_integer_edges(const uint64_t **values)
{
    static const uint64_t edges[] = {
        0,
        1,
        2,
        3,
        UINT64_MAX,
        UINT64_MAX - 1,
        0x7fffffff,
        0x80000000,
        0x80000001,
        0xffffffff,
        0xfffffffe,
        0x100000000,
        INT64_MAX,
        1ull << 63,
        1ull << 62,
        0xffffff,
        0x1000001,
        0x1ffffff,
        0x1000003,
        1ull << 53,
        0x3ffffe80,
        0x7fffffbf,
        0x7fffffc0,
        0x7fffffc1,
        65504,
        65519,
        65520,
        65521,
        2049,
        2051,
        -65519ull,
        -65520ull,
        -2049ull,
        -1ull << 31,
        0x7ffffffffffffdff,
        0x7ffffffffffffe00,
        0xfffffffffffffbff,
        0xfffffffffffffc00,
        (1ull << 53) + 1,
        (1ull << 54) + 2,
        (1ull << 54) + 6,
    };

    *values = edges;
    return sizeof(edges) / sizeof(edges[0]);
}

uint64_t vectors_bits(struct vectors *v)
{
    /* Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014): SplitMix64. */
    uint64_t z = v->state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static unsigned below(struct vectors *v, unsigned n)
{
    return (unsigned)((vectors_bits(v) >> 32) * n >> 32);
}

/* From -n to n. */
static long around(struct vectors *v, unsigned n)
{
    return (long)below(v, 2 * n + 1) - (long)n;
}

/* Random fractions hardly ever tie; these do: few ones, long runs, everything below or above a bit. */
static uint64_t fraction(struct vectors *v, struct layout l)
{
    uint64_t r = vectors_bits(v);
    unsigned bit = below(v, l.frac);

    switch (below(v, 8)) {
    case 0: return 0;
    case 1: return UINT64_C(1) << bit;
    case 2: return mask(bit);
    case 3: return mask(l.frac) & ~mask(bit);
    case 4: return UINT64_C(1) << bit | UINT64_C(1) << (r >> 58) % l.frac;
    case 5: return r & mask(l.frac) & ~mask(bit); /* so many zeros at the end */
    default: return r;
    }
}

static uint64_t near(struct vectors *v, struct layout l, long exp)
{
    bool sign = vectors_bits(v) >> 63;

    return value(l, sign, exp, fraction(v, l));
}

/* One operand: anything, an edge, or a number that an integer or a narrower format may just hold or not. */
static uint64_t single(struct vectors *v, struct layout l)
{
    static const int interesting[] = {31, 32, 63, 64, -14, -24, 15, -126, -149, 127, 0, 10, 23};
    const uint64_t *edges;
    unsigned n = vectors_edges(l.width, &edges);
    long exp = (long)l.bias;

    switch (below(v, 6)) {
    case 0: return vectors_bits(v) & mask(l.width);
    case 1: return edges[below(v, n)];
    case 2: return near(v, l, exp + around(v, 70));
    case 3: return near(v, l, below(v, l.exp_max));
    default:
        exp += interesting[below(v, sizeof(interesting) / sizeof(interesting[0]))];
        return near(v, l, exp + around(v, 2));
    }
}

/* b such that a + b must align, or a * b or a / b falls at an end of the exponent range. */
static uint64_t partner(struct vectors *v, struct layout l, uint64_t a)
{
    long exp = (long)(a >> l.frac & l.exp_max);
    long bias = (long)l.bias, prec = (long)l.frac + 1;
    uint64_t r = vectors_bits(v);

    switch (below(v, 8)) {
    case 0: return near(v, l, exp);
    case 1: return a ^ (r & 1) << (l.width - 1) ^ r >> (62 - (r >> 1 & 3)); /* cancels but for a few bits */
    case 2:
    case 3: return near(v, l, exp + around(v, (unsigned)prec + 3));
    case 4: return near(v, l, bias - exp + around(v, 3));                    /* product at the small end */
    case 5: return near(v, l, bias - exp - around(v, (unsigned)prec));       /* product subnormal */
    case 6: return near(v, l, bias - exp + (long)l.exp_max + around(v, 3));  /* product at the large end */
    default: return near(v, l, exp + (r & 1 ? bias : -bias) + around(v, 3)); /* quotient at either */
    }
}

/* c such that a * b + c must align, or cancels. */
static uint64_t addend(struct vectors *v, struct layout l, uint64_t a, uint64_t b)
{
    long exp = (long)(a >> l.frac & l.exp_max) + (long)(b >> l.frac & l.exp_max) - (long)l.bias;

    switch (below(v, 4)) {
    case 0: return single(v, l);
    case 1: return near(v, l, exp + around(v, 2));
    case 2: return near(v, l, exp + around(v, 2 * l.frac + 4));
    default: {
        /* The leading bits of the product, with either sign: most of the sum goes away. */
        uint64_t x = (a & mask(l.frac)) | UINT64_C(1) << l.frac, y = (b & mask(l.frac)) | UINT64_C(1)
                                                                                              << l.frac;
        unsigned __int128 p = (unsigned __int128)x * y;
        unsigned two = (unsigned)(p >> (2 * l.frac + 1));

        uint64_t r = vectors_bits(v);

        return value(l, r >> 63, exp + two, (uint64_t)(p >> (l.frac + two)) + (r & 1));
    }
    }
}

void vectors_fill(struct vectors *v, unsigned width, enum operands operands, struct question *q)
{
    struct layout l = layout_of(width);

    q->a = q->b = q->c = 0;
    if (operands == OPERANDS_I || operands == OPERANDS_L) {
        unsigned shift = below(v, operands == OPERANDS_I ? 32 : 64);
        uint64_t i = (UINT64_C(1) << 63 | vectors_bits(v)) >> (operands == OPERANDS_I ? 32 : 0) >> shift;

        i &= below(v, 2) ? UINT64_MAX : ~mask(below(v, 64 - shift));
        i = below(v, 2) ? -i : i;
        q->a = operands == OPERANDS_I ? (uint32_t)i : i;
        return;
    }
    q->a = single(v, l);
    if (operands != OPERANDS_F) {
        q->b = below(v, 3) ? partner(v, l, q->a) : single(v, l);
    }
    if (operands == OPERANDS_FFF) {
        q->c = addend(v, l, q->a, q->b);
    }
    if (operands == OPERANDS_FF && below(v, 2)) {
        uint64_t t = q->a;

        q->a = q->b;
        q->b = t;
    }
}
