/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Flag values computed at once: bits at their EFLAGS positions (enum ir_flag_bit). Pure; any thread. */
/*
 * x and y have n bits and are extended with zeros. Sources: Intel SDM volume 1, 3.4.3.1 (meaning of the
 * flags) and volume 2, the pages of ADD, ADC, SUB, SBB, INC, DEC, AND, SAL/SAR/SHL/SHR and RCL/RCR/ROL/ROR.
 *
 * Where these leave a flag undefined, we do what a processor was seen to do (tests/engine/test_flags.c
 * compares on every x86 host):
 *
 * AF after logic: 0. After shifts 0 too, although AMD's Zen 5 was seen to set it.
 *
 * OF after a shift by more than one bit: shl: the sign of the result differs from CF; shr: the two top
 * bits of the result differ; sar: 0. After a rotation by more than one bit: as by one bit, from the
 * result.
 *
 * CF after a shift of 8 or 16 bits by more than the width: what shifting bit by bit would push out last.
 */
#ifndef HOSTEL_ENGINE_FLAGS_H
#define HOSTEL_ENGINE_FLAGS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/arith.h"
#include "engine/ir.h"

#define FLAGS_ALL                                                                                            \
    (1u << IR_FLAG_C | 1u << IR_FLAG_P | 1u << IR_FLAG_A | 1u << IR_FLAG_Z | 1u << IR_FLAG_S |               \
     1u << IR_FLAG_O)

static inline uint64_t flags_top(uint64_t x, unsigned n)
{
    return x >> (n - 1) & 1;
}

/* Zero, sign and parity (even number of ones in the low byte) of a result of n bits. */
static inline uint64_t flags_result(uint64_t r, unsigned n)
{
    return (uint64_t)(r == 0) << IR_FLAG_Z | flags_top(r, n) << IR_FLAG_S |
           (uint64_t)!__builtin_parity((unsigned)r & 0xff) << IR_FLAG_P;
}

/* Of x + y + carry. The carry out of a bit is the majority of its two operands and the carry into it. */
static inline uint64_t flags_add(uint64_t x, uint64_t y, uint64_t carry, unsigned n)
{
    uint64_t r = arith_cut(x + y + carry, n);

    return flags_result(r, n) | flags_top((x & y) | ((x | y) & ~r), n) << IR_FLAG_C |
           flags_top((x ^ r) & (y ^ r), n) << IR_FLAG_O | ((x ^ y ^ r) >> 4 & 1) << IR_FLAG_A;
}

/* Of x - y - borrow. */
static inline uint64_t flags_sub(uint64_t x, uint64_t y, uint64_t borrow, unsigned n)
{
    uint64_t r = arith_cut(x - y - borrow, n);

    return flags_result(r, n) | flags_top((~x & y) | (~(x ^ y) & r), n) << IR_FLAG_C |
           flags_top((x ^ y) & (x ^ r), n) << IR_FLAG_O | ((x ^ y ^ r) >> 4 & 1) << IR_FLAG_A;
}

static inline uint64_t flags_keep_carry(uint64_t flags, uint64_t carry)
{
    return (flags & ~(UINT64_C(1) << IR_FLAG_C)) | carry << IR_FLAG_C;
}

/* The count a shift of n bits takes from its operand. */
static inline unsigned flags_count(uint64_t y, unsigned n)
{
    return (unsigned)y & (n == 64 ? 63 : 31);
}

static inline uint64_t flags_shl(uint64_t x, uint64_t y, uint64_t old, unsigned n)
{
    unsigned count = flags_count(y, n);
    uint64_t r = arith_cut(x << count, n), carry = count && count <= n ? x >> (n - count) & 1 : 0;

    if (!count) {
        return old;
    }
    return flags_result(r, n) | carry << IR_FLAG_C | (flags_top(r, n) ^ carry) << IR_FLAG_O;
}

static inline uint64_t flags_shr(uint64_t x, uint64_t y, uint64_t old, unsigned n)
{
    unsigned count = flags_count(y, n);
    uint64_t r = x >> count;

    if (!count) {
        return old;
    }
    return flags_result(r, n) | (x >> (count - 1) & 1) << IR_FLAG_C | flags_top(r ^ r << 1, n) << IR_FLAG_O;
}

static inline uint64_t flags_sar(uint64_t x, uint64_t y, uint64_t old, unsigned n)
{
    unsigned count = flags_count(y, n);
    int64_t sx = arith_sext(x, n);

    if (!count) {
        return old;
    }
    return flags_result(arith_cut((uint64_t)(sx >> count), n), n) | ((uint64_t)(sx >> (count - 1)) & 1)
                                                                        << IR_FLAG_C;
}

/* Rotations change C and O alone. */
static inline uint64_t flags_rotated(uint64_t old, uint64_t carry, uint64_t overflow)
{
    uint64_t changed = UINT64_C(1) << IR_FLAG_C | UINT64_C(1) << IR_FLAG_O;

    return (old & ~changed) | carry << IR_FLAG_C | overflow << IR_FLAG_O;
}

static inline uint64_t flags_rol(uint64_t x, uint64_t y, uint64_t old, unsigned n)
{
    unsigned count = flags_count(y, n);
    uint64_t r = arith_rol(x, count & (n - 1), n);

    return count ? flags_rotated(old, r & 1, flags_top(r, n) ^ (r & 1)) : old;
}

static inline uint64_t flags_ror(uint64_t x, uint64_t y, uint64_t old, unsigned n)
{
    unsigned count = flags_count(y, n);
    uint64_t r = arith_rol(x, (0 - count) & (n - 1), n);

    return count ? flags_rotated(old, flags_top(r, n), flags_top(r ^ r << 1, n)) : old;
}

/* A condition in x86's encoding: bit 0 negates. */
static inline bool flags_cond(uint64_t f, unsigned cond)
{
    bool c = f >> IR_FLAG_C & 1, z = f >> IR_FLAG_Z & 1, s = f >> IR_FLAG_S & 1, o = f >> IR_FLAG_O & 1;
    bool p = f >> IR_FLAG_P & 1, holds;

    switch (cond >> 1) {
    case 0: holds = o; break;
    case 1: holds = c; break;
    case 2: holds = z; break;
    case 3: holds = c || z; break;
    case 4: holds = s; break;
    case 5: holds = p; break;
    case 6: holds = s != o; break;
    default: holds = z || s != o; break;
    }
    return holds != (cond & 1);
}

#endif
