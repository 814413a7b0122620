/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * IEEE 754 binary16, binary32 and binary64 arithmetic in integers: results and flags exact in every mode.
 *
 * A value travels as its bit pattern (uint16_t, uint32_t, uint64_t). No function allocates, keeps state or
 * touches the host's floating-point unit; any thread may call any function, as long as one struct sf_ctx is
 * not shared. Nothing fails: what IEEE 754 calls an exception sets a bit in ctx->flags, which are only ever
 * ORed into.
 *
 * Sources: IEEE 754-2019 (sections named below); RISC-V unprivileged specification, chapters "F", "D" and
 * "Zfh"; Intel SDM volume 1, sections 4.8.3.5 and 11.5.2; Arm ARM (DDI 0487), pseudocode FPProcessNaNs and
 * FPMulAdd.
 */
#ifndef HOSTEL_ENGINE_SOFTFLOAT_H
#define HOSTEL_ENGINE_SOFTFLOAT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Rounding direction (IEEE 754-2019, 4.3), numbered as RISC-V's frm field. A guest's reserved encodings are
 * the instruction set's to refuse; here every other number rounds as SF_RNE.
 */
enum sf_round {
    SF_RNE = 0, /* to nearest, ties to even */
    SF_RTZ = 1, /* towards zero */
    SF_RDN = 2, /* down, towards minus infinity */
    SF_RUP = 3, /* up, towards plus infinity */
    SF_RMM = 4, /* to nearest, ties to the larger magnitude */
};

/* Exception flags (IEEE 754-2019, 7), placed as in RISC-V's fflags. */
#define SF_NX 0x01u /* inexact */
#define SF_UF 0x02u /* underflow: tiny and inexact */
#define SF_OF 0x04u /* overflow */
#define SF_DZ 0x08u /* division of a finite number by zero */
#define SF_NV 0x10u /* invalid operation */
#define SF_DN 0x20u /* reserved: denormal operand (x86); never set today */

/* Which NaN comes out of an operation that has one (IEEE 754-2019, 6.2.3 leaves it open). */
enum sf_nan {
    SF_NAN_CANONICAL = 0, /* always the positive quiet NaN without payload: RISC-V, Arm if FPCR.DN = 1 */
    SF_NAN_X86 = 1,       /* the first operand that is a NaN, quieted; made from numbers: the negative one */
    SF_NAN_ARM = 2,       /* the first signaling NaN, quieted, else the first quiet one; fma: addend first */
};

/* What a conversion to an integer gives for NaN and out of range; SF_NV, and no SF_NX, is set each time. */
enum sf_toint {
    SF_TOINT_RISCV = 0, /* nearest representable; NaN: the largest */
    SF_TOINT_ARM = 1,   /* nearest representable; NaN: 0 */
    SF_TOINT_X86 = 2,   /* "integer indefinite": the most negative if signed, all ones if unsigned */
};

/* The environment of an operation. All zero is RISC-V's reset state. */
struct sf_ctx {
    uint8_t round;        /* enum sf_round */
    uint8_t flags;        /* SF_NX...: sticky, the caller clears them */
    uint8_t nan;          /* enum sf_nan */
    uint8_t toint;        /* enum sf_toint */
    bool tininess_before; /* IEEE 754-2019, 7.5: false after rounding (RISC-V, x86), true before (Arm) */
    bool flush;           /* reserved: subnormals count as zero; must be false */
};

/* sf_fN_fma: which sign to turn before the one rounding. */
#define SF_NEG_PRODUCT 1u
#define SF_NEG_ADDEND 2u

/* sf_fN_compare's answer. */
enum sf_relation { SF_LESS = -1, SF_EQUAL = 0, SF_GREATER = 1, SF_UNORDERED = 2 };

/* sf_fN_classify's bits, exactly one set: the result of RISC-V's fclass. */
#define SF_CLASS_NEG_INF (1u << 0)
#define SF_CLASS_NEG_NORMAL (1u << 1)
#define SF_CLASS_NEG_SUBNORMAL (1u << 2)
#define SF_CLASS_NEG_ZERO (1u << 3)
#define SF_CLASS_POS_ZERO (1u << 4)
#define SF_CLASS_POS_SUBNORMAL (1u << 5)
#define SF_CLASS_POS_NORMAL (1u << 6)
#define SF_CLASS_POS_INF (1u << 7)
#define SF_CLASS_SNAN (1u << 8)
#define SF_CLASS_QNAN (1u << 9)

/*
 * The operations of one width N (16, 32, 64), `type` holding a value.
 *
 * add, sub, mul, div, sqrt: IEEE 754-2019, 5.4.1. A NaN operand comes out with its own sign, in sub too.
 *
 * fma: a * b + c rounded once (5.4.1); `negate` is a set of SF_NEG_*. RISC-V: fmadd 0, fmsub SF_NEG_ADDEND,
 *   fnmsub SF_NEG_PRODUCT, fnmadd both. x86: VFMADD, VFMSUB, VFNMADD and VFNMSUB in the same order 0, ADDEND,
 *   PRODUCT, both. Arm's names count from the addend: FMADD 0, FMSUB PRODUCT, FNMSUB ADDEND, FNMADD both.
 *   infinity * 0 + quiet NaN is invalid for RISC-V and Arm, not for x86 (7.2 c leaves it open): by ctx->nan.
 *   SF_NAN_X86 looks for a NaN in the order a, b, c, which is that of the digits of the form:
 *   VFMADD213 is fma(operand 2, operand 1, operand 3), VFMADD132 fma(1, 3, 2), VFMADD231 fma(2, 3, 1).
 *
 * min, max: minimumNumber, maximumNumber (9.6): one NaN gives the other operand, -0 < +0, a signaling NaN is
 *   invalid. (Arm's FMIN and x86's MINSS are other operations: build them on compare.)
 *
 * eq: 5.11 compareQuietEqual, invalid only for a signaling NaN.
 * lt, le: 5.11 compareSignalingLess and compareSignalingLessEqual, invalid for any NaN.
 * compare: all four relations at once; `signaling` chooses which NaNs are invalid.
 *
 * classify: 5.7.2 class; never raises a flag. Returns an SF_CLASS_* bit.
 *
 * round_to_int: nearest integral value in ctx->round, same format; SF_NX if it differs and `inexact` is asked
 *   (5.9 roundToIntegralExact), never without (roundToIntegralTiesToEven and so on).
 *
 * to_iN, to_uN: convertToIntegerExact (5.8) in ctx->round; ctx->toint says what becomes of the rest.
 * from_iN, from_uN: convertFromInt (5.4.1).
 */
#define SF_DECLARE(N, type)                                                                                  \
    type sf_f##N##_add(struct sf_ctx *ctx, type a, type b);                                                  \
    type sf_f##N##_sub(struct sf_ctx *ctx, type a, type b);                                                  \
    type sf_f##N##_mul(struct sf_ctx *ctx, type a, type b);                                                  \
    type sf_f##N##_div(struct sf_ctx *ctx, type a, type b);                                                  \
    type sf_f##N##_sqrt(struct sf_ctx *ctx, type a);                                                         \
    type sf_f##N##_fma(struct sf_ctx *ctx, type a, type b, type c, unsigned negate);                         \
    type sf_f##N##_min(struct sf_ctx *ctx, type a, type b);                                                  \
    type sf_f##N##_max(struct sf_ctx *ctx, type a, type b);                                                  \
    bool sf_f##N##_eq(struct sf_ctx *ctx, type a, type b);                                                   \
    bool sf_f##N##_lt(struct sf_ctx *ctx, type a, type b);                                                   \
    bool sf_f##N##_le(struct sf_ctx *ctx, type a, type b);                                                   \
    enum sf_relation sf_f##N##_compare(struct sf_ctx *ctx, type a, type b, bool signaling);                  \
    unsigned sf_f##N##_classify(type a);                                                                     \
    type sf_f##N##_round_to_int(struct sf_ctx *ctx, type a, bool inexact);                                   \
    int32_t sf_f##N##_to_i32(struct sf_ctx *ctx, type a);                                                    \
    uint32_t sf_f##N##_to_u32(struct sf_ctx *ctx, type a);                                                   \
    int64_t sf_f##N##_to_i64(struct sf_ctx *ctx, type a);                                                    \
    uint64_t sf_f##N##_to_u64(struct sf_ctx *ctx, type a);                                                   \
    type sf_f##N##_from_i32(struct sf_ctx *ctx, int32_t i);                                                  \
    type sf_f##N##_from_u32(struct sf_ctx *ctx, uint32_t i);                                                 \
    type sf_f##N##_from_i64(struct sf_ctx *ctx, int64_t i);                                                  \
    type sf_f##N##_from_u64(struct sf_ctx *ctx, uint64_t i);

SF_DECLARE(16, uint16_t)
SF_DECLARE(32, uint32_t)
SF_DECLARE(64, uint64_t)

/*
 * convertFormat (5.4.2). A signaling NaN is invalid; unless ctx->nan is SF_NAN_CANONICAL a NaN keeps its sign
 * and the leading bits of its payload.
 */
uint64_t sf_f32_to_f64(struct sf_ctx *ctx, uint32_t a);
uint32_t sf_f64_to_f32(struct sf_ctx *ctx, uint64_t a);
uint32_t sf_f16_to_f32(struct sf_ctx *ctx, uint16_t a);
uint16_t sf_f32_to_f16(struct sf_ctx *ctx, uint32_t a);
uint64_t sf_f16_to_f64(struct sf_ctx *ctx, uint16_t a);
uint16_t sf_f64_to_f16(struct sf_ctx *ctx, uint64_t a);

#endif
