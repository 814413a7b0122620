/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * IEEE 754 arithmetic in integers, for the interpreter and for whatever a translation cannot leave to the
 * host.
 *
 * Theory of operation
 * -------------------
 *
 * Why not the host's unit: it knows four rounding modes of RISC-V's five and its own NaNs only, compilers
 * move operations across changes of its mode, and an aarch64 host detects tininess at another point than a
 * guest may want. Integers give the same bits everywhere, and an answer to compare translated code with.
 *
 * Representation. A finite number other than zero is unpacked to struct sf_num: sign, biased exponent and a
 * 64-bit significand whose leading one is always bit 63, for every width:
 *
 *      63  62                  11  10           0
 *     +---+----------------------+---------------+
 *     | 1 |  fraction (64: 52)   |  SF_LOW bits  |      16: 53 low bits, 32: 40, 64: 11
 *     +---+----------------------+---------------+
 *
 * The low bits are zero in an operand; in an unrounded result they hold what lies below the precision.
 * Subnormals are normalized on the way in, their exponents running on below 1, so the cores know one kind of
 * number only. Zeros, infinities and NaNs never become an sf_num: *_special answers for them before.
 *
 * Sticky bit. IEEE 754 rounds the exact result, which may be infinitely long. To round correctly in any
 * direction it is enough to know the kept bits, the first bit below, and whether anything follows (IEEE
 * 754-2019, 4.3 and the usual guard and sticky argument). So whenever bits are lost, in an alignment, the
 * lower half of a product or a remainder, their OR is "jammed" into bit 0 of what stays. That bit is never a
 * bit of its own at that point: at least ten low bits separate it from the kept ones. Subtracting a jammed
 * number is as good: with the exact subtrahend strictly between k and k + 1, and zeros in the minuend's low
 * bits, either bound jams to the odd one, and the difference comes out odd, that is floor(exact) | 1, the
 * jammed exact difference. When the alignment lost bits it was by two places or more, so the difference has
 * at most one leading zero, and the sticky bit stays below the rounding point.
 *
 * Rounding is an addition: sf_round_increment() gives the number to add to the low bits so that the carry out
 * of them is the rounding (for RNE half - 1 + the last kept bit, for RMM half, away from zero all ones,
 * towards it none). round_pack adds the carry to the packed pattern of exponent and significand, where
 * 1.11..1 becomes 10.00..0 by itself, exponent included. Only exponents at either end go to round_pack_edge:
 *
 *   - overflow (7.4) if the result rounded with unbounded exponent is too large;
 *   - otherwise, below the smallest normal number, the significand is shifted into place, jammed, and rounded
 *     there. Underflow (7.5) with masked exceptions is "tiny and inexact"; tiny before rounding means just
 *     exp <= 0 here, tiny after rounding that the number rounded to full precision with unbounded exponent is
 *     still below the smallest normal one, which spares only those that carry up to it.
 *
 * Operations. Sum: align the smaller to the larger, add or subtract, normalize by counting leading zeros.
 * Product: 64 x 64 -> 128 bits. Quotient: an integer division that yields 64 bits (40 for the narrow widths)
 * and a remainder. Root: softfloat_prim.h, an exact integer root and a remainder. fma: the exact product goes
 * into the sum, in 128 bits where 64 would lose some.
 *
 * NaNs are the one point where IEEE 754 leaves results open (6.2.3): enum sf_nan. RISC-V (unprivileged, 11.3
 * "NaN generation and propagation") wants the canonical one.
 *
 * Files: the templates softfloat_*.inc.h are read here once per width; the conversions between widths follow.
 */
#include "engine/softfloat.h"

#include "engine/softfloat_prim.h"

#define SF_GLUE_(bits, name) sf_f##bits##_##name
#define SF_GLUE(bits, name) SF_GLUE_(bits, name)
#define SF(name) SF_GLUE(SF_BITS, name)

#define SF_BITS 16
#define SF_VALUE uint16_t
#define SF_PREC 11
#include "engine/softfloat_width.inc.h"

#define SF_BITS 32
#define SF_VALUE uint32_t
#define SF_PREC 24
#include "engine/softfloat_width.inc.h"

#define SF_BITS 64
#define SF_VALUE uint64_t
#define SF_PREC 53
#include "engine/softfloat_width.inc.h"

#define SF_CONVERT(from, from_type, to, to_type)                                                             \
    to_type sf_f##from##_to_f##to(struct sf_ctx *ctx, from_type a)                                           \
    {                                                                                                        \
        bool sign = sf_f##from##_sign(a);                                                                    \
        struct sf_num n;                                                                                     \
                                                                                                             \
        if (sf_likely(sf_f##from##_normal(a))) {                                                             \
            n = sf_f##from##_unpack_normal(a);                                                               \
        } else if (sf_f##from##_nan(a)) {                                                                    \
            ctx->flags |= sf_f##from##_snan(a) ? SF_NV : 0;                                                  \
            return ctx->nan == SF_NAN_CANONICAL ? sf_f##to##_default_nan(ctx)                                \
                                                : sf_f##to##_quiet_nan(sign, sf_f##from##_nan_payload(a));   \
        } else if (sf_f##from##_inf(a)) {                                                                    \
            return sf_f##to##_signed_inf(sign);                                                              \
        } else if (sf_f##from##_zero(a)) {                                                                   \
            return sf_f##to##_signed_zero(sign);                                                             \
        } else {                                                                                             \
            n = sf_f##from##_unpack(a);                                                                      \
        }                                                                                                    \
        return sf_f##to##_round_pack(ctx, sign, n.exp - sf_f##from##_bias + sf_f##to##_bias, n.sig);         \
    }

SF_CONVERT(16, uint16_t, 32, uint32_t)
SF_CONVERT(16, uint16_t, 64, uint64_t)
SF_CONVERT(32, uint32_t, 16, uint16_t)
SF_CONVERT(32, uint32_t, 64, uint64_t)
SF_CONVERT(64, uint64_t, 16, uint16_t)
SF_CONVERT(64, uint64_t, 32, uint32_t)
