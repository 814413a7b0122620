/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Private to softfloat.c: the integer primitives of all widths (jamming shifts, division, square root). */
#ifndef HOSTEL_ENGINE_SOFTFLOAT_PRIM_H
#define HOSTEL_ENGINE_SOFTFLOAT_PRIM_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/softfloat.h"

#define sf_likely(x) __builtin_expect(!!(x), 1)
#define sf_unlikely(x) __builtin_expect(!!(x), 0)
#define SF_INLINE static inline __attribute__((always_inline, unused))
#define SF_COLD static __attribute__((noinline, cold, unused))

typedef unsigned __int128 sf_u128;
typedef __int128 sf_i128;

/*
 * A finite number other than zero, taken apart: (-1)^sign * (sig / 2^63) * 2^(exp - bias of its format).
 * sig has its bit 63 set, whatever the format and however small the number; so exp may be 0 or negative.
 */
struct sf_num {
    uint64_t sig;
    int exp;
    bool sign;
};

/* v >> n for n >= 0, the bits shifted out ORed into bit 0. */
SF_INLINE uint64_t sf_shift_right_jam64(uint64_t v, unsigned n)
{
    if (sf_unlikely(n > 63)) {
        return v != 0;
    }
    return v >> n | ((v & ((UINT64_C(1) << n) - 1)) != 0);
}

SF_INLINE sf_u128 sf_shift_right_jam128(sf_u128 v, unsigned n)
{
    if (sf_unlikely(n > 127)) {
        return v != 0;
    }
    return v >> n | ((v & (((sf_u128)1 << n) - 1)) != 0);
}

/* Leading zeros; v is not 0. */
SF_INLINE unsigned sf_clz128(sf_u128 v)
{
    uint64_t hi = (uint64_t)(v >> 64);

    return hi ? (unsigned)__builtin_clzll(hi) : 64u + (unsigned)__builtin_clzll((uint64_t)v);
}

/*
 * What to add below the lowest kept bit so that the carry into it is the rounding: with r discarded bits d,
 * (d + increment) >> r is 1 if the magnitude is to grow, else 0. `odd` is the lowest kept bit.
 */
SF_INLINE uint64_t sf_round_increment(unsigned mode, bool sign, uint64_t odd, unsigned r)
{
    uint64_t half = UINT64_C(1) << (r - 1);
    uint64_t all = (UINT64_C(1) << r) - 1;

    if (sf_likely(mode == SF_RNE)) {
        return half - 1 + odd;
    }
    switch (mode) {
    case SF_RTZ: return 0;
    case SF_RDN: return sign ? all : 0;
    case SF_RUP: return sign ? 0 : all;
    case SF_RMM: return half;
    default: return half - 1 + odd;
    }
}

/* hi:lo / d with hi < d, so that the quotient fits; *rem receives the remainder. */
SF_INLINE uint64_t sf_div128(uint64_t hi, uint64_t lo, uint64_t d, uint64_t *rem)
{
    sf_u128 n = (sf_u128)hi << 64 | lo;
    uint64_t q = (uint64_t)(n / d);

    *rem = lo - q * d;
    return q;
}

/* floor(sqrt(256 * i)) for i = 64..255: the seed of all square roots. */
static const uint8_t sf_sqrt_seed[192] = {
    128, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141, 142, 143, 144, 144, 145,
    146, 147, 148, 149, 150, 150, 151, 152, 153, 154, 155, 155, 156, 157, 158, 159, 160, 160, 161, 162,
    163, 163, 164, 165, 166, 167, 167, 168, 169, 170, 170, 171, 172, 173, 173, 174, 175, 176, 176, 177,
    178, 178, 179, 180, 181, 181, 182, 183, 183, 184, 185, 185, 186, 187, 187, 188, 189, 189, 190, 191,
    192, 192, 193, 193, 194, 195, 195, 196, 197, 197, 198, 199, 199, 200, 201, 201, 202, 203, 203, 204,
    204, 205, 206, 206, 207, 208, 208, 209, 209, 210, 211, 211, 212, 212, 213, 214, 214, 215, 215, 216,
    217, 217, 218, 218, 219, 219, 220, 221, 221, 222, 222, 223, 224, 224, 225, 225, 226, 226, 227, 227,
    228, 229, 229, 230, 230, 231, 231, 232, 232, 233, 234, 234, 235, 235, 236, 236, 237, 237, 238, 238,
    239, 240, 240, 241, 241, 242, 242, 243, 243, 244, 244, 245, 245, 246, 246, 247, 247, 248, 248, 249,
    249, 250, 250, 251, 251, 252, 252, 253, 253, 254, 254, 255,
};

/*
 * Square roots with remainder, each from one of half the size (Zimmermann, "Karatsuba Square Root", 1999):
 * let b^2 be the weight of the upper half of n and s' the root of that half, r' its remainder. Dividing
 * r' * b + (upper quarter of the lower half) by 2 * s' gives the lower half of the root, too large by at most
 * one. The argument must have one of its two top bits set. The first step is within one of the truth (for i
 * >= 64, sqrt(256 * (i + 1)) - sqrt(256 * i) < 1).
 */
SF_INLINE uint32_t sf_sqrt16(uint32_t n, uint32_t *rem)
{
    uint32_t s = sf_sqrt_seed[(n >> 8) - 64];
    uint32_t r = n - s * s;

    if (r > 2 * s) {
        r -= 2 * s + 1;
        s++;
    }
    *rem = r;
    return s;
}

SF_INLINE uint32_t sf_sqrt32(uint32_t n, uint32_t *rem)
{
    uint32_t r1, s1 = sf_sqrt16(n >> 16, &r1);
    uint32_t num = r1 << 8 | (n >> 8 & 0xff);
    uint32_t q = num / (2 * s1), u = num % (2 * s1);
    uint32_t s = (s1 << 8) + q;
    int32_t r = (int32_t)(u << 8 | (n & 0xff)) - (int32_t)(q * q);

    if (r < 0) {
        r += (int32_t)(2 * s - 1);
        s--;
    }
    *rem = (uint32_t)r;
    return s;
}

/* The root; *rem the remainder, at most 33 bits. */
SF_INLINE uint32_t sf_sqrt64(uint64_t n, uint64_t *rem)
{
    uint32_t r1, s1 = sf_sqrt32((uint32_t)(n >> 32), &r1);
    uint64_t num = (uint64_t)r1 << 16 | (n >> 16 & 0xffff);
    uint64_t q = num / (2 * s1), u = num % (2 * s1);
    uint64_t s = ((uint64_t)s1 << 16) + q;
    int64_t r = (int64_t)(u << 16 | (n & 0xffff)) - (int64_t)(q * q);

    if (r < 0) {
        r += (int64_t)(2 * s - 1);
        s--;
    }
    *rem = (uint64_t)r;
    return (uint32_t)s;
}

/* The root; *exact says whether the remainder is zero. */
SF_INLINE uint64_t sf_sqrt128(uint64_t hi, uint64_t lo, bool *exact)
{
    uint64_t r1, s1 = sf_sqrt64(hi, &r1);
    /* r1 may have 33 bits: halve dividend and divisor, then give the remainder its lost bit back. */
    uint64_t half = r1 << 31 | lo >> 33;
    uint64_t q = half / s1, u = (half % s1) << 1 | (lo >> 32 & 1);
    uint64_t s = (s1 << 32) + q;
    sf_i128 r = (sf_i128)((sf_u128)u << 32 | (lo & 0xffffffff)) - (sf_i128)((sf_u128)q * q);

    if (r < 0) {
        r += 2 * (sf_i128)s - 1;
        s--;
    }
    *exact = r == 0;
    return s;
}

#endif
