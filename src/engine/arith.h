/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The pieces arith.def's expressions are made of: pure, for any thread. */
#ifndef HOSTEL_ENGINE_ARITH_H
#define HOSTEL_ENGINE_ARITH_H

#include <stdint.h>

/* The low n bits of x, n in 1..64, extended with zeros or by sign. */
static inline uint64_t arith_cut(uint64_t x, unsigned n)
{
    return x << (64 - n) >> (64 - n);
}

static inline int64_t arith_sext(uint64_t x, unsigned n)
{
    return (int64_t)(x << (64 - n)) >> (64 - n);
}

/* x, of n bits, turned left by count < n. Zero needs no case: both halves are x then, or one is zero. */
static inline uint64_t arith_rol(uint64_t x, uint64_t count, unsigned n)
{
    return x << count | x >> ((n - count) & 63);
}

/* Bits n to 2n - 1 of a product. */
static inline uint64_t arith_high(unsigned __int128 product, unsigned n)
{
    return (uint64_t)(product >> n);
}

/* Product of polynomials over GF(2): a multiplication that does not carry. */
static inline unsigned __int128 arith_clmul(uint64_t x, uint64_t y)
{
    unsigned __int128 sum = 0;

    for (; y; y &= y - 1) {
        sum ^= (unsigned __int128)x << __builtin_ctzll(y);
    }
    return sum;
}

/* Bits in reverse order: neighbours, pairs and nibbles change places within bytes, then the bytes do. */
static inline uint64_t arith_brev(uint64_t x)
{
    x = (x >> 1 & UINT64_C(0x5555555555555555)) | (x & UINT64_C(0x5555555555555555)) << 1;
    x = (x >> 2 & UINT64_C(0x3333333333333333)) | (x & UINT64_C(0x3333333333333333)) << 2;
    x = (x >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f)) | (x & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4;
    return __builtin_bswap64(x);
}

#endif
