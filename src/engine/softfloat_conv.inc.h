/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * Template, included by softfloat.c once per width after softfloat_pack.inc.h: comparisons, minimum and
 * maximum, classification, rounding to integral values and conversions from and to integers.
 */

/* Order of two values that are no NaNs. */
SF_INLINE enum sf_relation SF(order)(SF_VALUE a, SF_VALUE b)
{
    if (a == b || SF(zero)(a | b)) {
        return SF_EQUAL;
    }
    if (SF(sign)(a) != SF(sign)(b)) {
        return SF(sign)(a) ? SF_LESS : SF_GREATER;
    }
    return (a < b) != SF(sign)(a) ? SF_LESS : SF_GREATER;
}

enum sf_relation SF(compare)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b, bool signaling)
{
    if (sf_unlikely(SF(nan)(a) || SF(nan)(b))) {
        if (signaling || SF(snan)(a) || SF(snan)(b)) {
            ctx->flags |= SF_NV;
        }
        return SF_UNORDERED;
    }
    return SF(order)(a, b);
}

bool SF(eq)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    return SF(compare)(ctx, a, b, false) == SF_EQUAL;
}

bool SF(lt)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    return SF(compare)(ctx, a, b, true) == SF_LESS;
}

bool SF(le)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    enum sf_relation r = SF(compare)(ctx, a, b, true);

    return r == SF_LESS || r == SF_EQUAL;
}

/* min and max with a NaN: a number wins over it, but a signaling one is reported all the same. */
SF_COLD SF_VALUE SF(minmax_nan)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    SF_VALUE nan = SF(propagate2)(ctx, a, b);

    return !SF(nan)(a) ? a : !SF(nan)(b) ? b : nan;
}

SF_VALUE SF(min)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    enum sf_relation r;

    if (sf_unlikely(SF(nan)(a) || SF(nan)(b))) {
        return SF(minmax_nan)(ctx, a, b);
    }
    r = SF(order)(a, b);
    return r == SF_EQUAL ? a | b : r == SF_LESS ? a : b; /* equal but different are zeros; | prefers -0 */
}

SF_VALUE SF(max)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    enum sf_relation r;

    if (sf_unlikely(SF(nan)(a) || SF(nan)(b))) {
        return SF(minmax_nan)(ctx, a, b);
    }
    r = SF(order)(a, b);
    return r == SF_EQUAL ? a & b : r == SF_LESS ? b : a;
}

unsigned SF(classify)(SF_VALUE a)
{
    unsigned rank; /* distance from zero: zero, subnormal, normal, infinity */

    if (SF(nan)(a)) {
        return SF(snan)(a) ? SF_CLASS_SNAN : SF_CLASS_QNAN;
    }
    rank = SF(zero)(a) ? 0 : SF(normal)(a) ? 2 : SF(inf)(a) ? 3 : 1;
    return SF(sign)(a) ? SF_CLASS_NEG_ZERO >> rank : SF_CLASS_POS_ZERO << rank;
}

SF_VALUE SF(round_to_int)(struct sf_ctx *ctx, SF_VALUE a, bool inexact)
{
    SF_VALUE sign = a & SF_SIGN, magnitude = SF(magnitude)(a), rest, up;
    int exp = SF(exponent)(a);
    unsigned drop;

    if (exp >= SF_BIAS + SF_FRAC) {
        return SF(nan)(a) ? SF(propagate)(ctx, &a, 1) : a;
    }
    if (magnitude == 0) {
        return a;
    }
    if (exp < SF_BIAS) { /* below 1: to zero or to one */
        uint64_t half = UINT64_C(1) << 62;
        uint64_t above = magnitude > ((SF_VALUE)(SF_BIAS - 1) << SF_FRAC);
        uint64_t r = exp < SF_BIAS - 1 ? 1 : half + above;

        ctx->flags |= inexact ? SF_NX : 0;
        up = (SF_VALUE)((r + sf_round_increment(ctx->round, sign != 0, 0, 63)) >> 63);
        return up ? sign | (SF_VALUE)((SF_VALUE)SF_BIAS << SF_FRAC) : sign;
    }
    /* drop >= 1 bits are below the point; a carry out of the significand increments the exponent, rightly. */
    drop = (unsigned)(SF_BIAS + SF_FRAC - exp);
    rest = magnitude & (SF_VALUE)(((SF_VALUE)1 << drop) - 1);
    if (rest == 0) {
        return a;
    }
    ctx->flags |= inexact ? SF_NX : 0;
    magnitude >>= drop;
    /* If all the fraction drops, the integer's last bit is the hidden 1; the exponent, the bias, is odd. */
    up = (SF_VALUE)((rest + sf_round_increment(ctx->round, sign != 0, magnitude & 1, drop)) >> drop);
    return sign | (SF_VALUE)((SF_VALUE)(magnitude + up) << drop);
}

/* What a conversion to a `bits` wide integer gives for a value it cannot hold. */
SF_COLD uint64_t SF(to_int_invalid)(struct sf_ctx *ctx, SF_VALUE a, unsigned bits, bool is_signed)
{
    uint64_t most = is_signed ? UINT64_MAX >> (65 - bits) : UINT64_MAX >> (64 - bits);
    uint64_t least = is_signed ? most + 1 : 0;

    ctx->flags |= SF_NV;
    if (ctx->toint == SF_TOINT_X86) {
        return is_signed ? least : most;
    }
    if (SF(nan)(a)) {
        return ctx->toint == SF_TOINT_ARM ? 0 : most;
    }
    return SF(sign)(a) ? least : most;
}

/* Two's complement in the low `bits` bits; those above are the caller's to cut. */
SF_INLINE uint64_t SF(to_int)(struct sf_ctx *ctx, SF_VALUE a, unsigned bits, bool is_signed)
{
    bool sign = SF(sign)(a);
    uint64_t whole = 0, half = UINT64_C(1) << 62, rest, limit;
    struct sf_num n;
    int e;

    if (SF(zero)(a)) {
        return 0;
    }
    n = SF(unpack)(a);
    e = n.exp - SF_BIAS;
    if (e > 63 || SF(exponent)(a) == SF_EXP_MAX) {
        return SF(to_int_invalid)(ctx, a, bits, is_signed);
    }
    /* whole: the integer part; rest: the fraction below it as 63 bits, jammed. */
    if (e >= 0) {
        whole = n.sig >> (63 - e);
        rest = n.sig << e << 1 >> 1; /* nothing is lost: an operand's low bits are zero */
    } else {
        rest = e == -1 ? half | (n.sig << 1 != 0) : 1;
    }
    whole += (rest + sf_round_increment(ctx->round, sign, whole & 1, 63)) >> 63;
    limit = is_signed ? (UINT64_MAX >> (65 - bits)) + sign : sign ? 0 : UINT64_MAX >> (64 - bits);
    if (sf_unlikely(whole > limit)) {
        return SF(to_int_invalid)(ctx, a, bits, is_signed);
    }
    ctx->flags |= rest ? SF_NX : 0;
    return sign ? -whole : whole;
}

int32_t SF(to_i32)(struct sf_ctx *ctx, SF_VALUE a)
{
    return (int32_t)SF(to_int)(ctx, a, 32, true);
}

uint32_t SF(to_u32)(struct sf_ctx *ctx, SF_VALUE a)
{
    return (uint32_t)SF(to_int)(ctx, a, 32, false);
}

int64_t SF(to_i64)(struct sf_ctx *ctx, SF_VALUE a)
{
    return (int64_t)SF(to_int)(ctx, a, 64, true);
}

uint64_t SF(to_u64)(struct sf_ctx *ctx, SF_VALUE a)
{
    return SF(to_int)(ctx, a, 64, false);
}

SF_INLINE SF_VALUE SF(from_int)(struct sf_ctx *ctx, bool sign, uint64_t magnitude)
{
    unsigned shift;

    if (magnitude == 0) {
        return 0;
    }
    shift = (unsigned)__builtin_clzll(magnitude);
    return SF(round_pack)(ctx, sign, SF_BIAS + 63 - (int)shift, magnitude << shift);
}

SF_VALUE SF(from_i32)(struct sf_ctx *ctx, int32_t i)
{
    return SF(from_i64)(ctx, i);
}

SF_VALUE SF(from_u32)(struct sf_ctx *ctx, uint32_t i)
{
    return SF(from_int)(ctx, false, i);
}

SF_VALUE SF(from_i64)(struct sf_ctx *ctx, int64_t i)
{
    return SF(from_int)(ctx, i < 0, i < 0 ? -(uint64_t)i : (uint64_t)i);
}

SF_VALUE SF(from_u64)(struct sf_ctx *ctx, uint64_t i)
{
    return SF(from_int)(ctx, false, i);
}
