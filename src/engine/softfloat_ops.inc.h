/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * Template, included by softfloat.c once per width after softfloat_pack.inc.h: the arithmetic.
 *
 * Each operation has the same three parts: a fast path for normal operands; *_special, out of the way, for
 * NaNs, infinities, zeros and subnormals in that order; and a core on sf_num that both end in.
 */

/* The sum of two numbers that cancel exactly, or of two zeros of different sign (IEEE 754-2019, 6.3). */
SF_INLINE SF_VALUE SF(cancelled)(const struct sf_ctx *ctx)
{
    return SF(signed_zero)(ctx->round == SF_RDN);
}

/* x + y. The low two bits of both significands are zero, which makes the jammed alignment exact enough. */
SF_INLINE SF_VALUE SF(add_num)(struct sf_ctx *ctx, struct sf_num x, struct sf_num y)
{
    uint64_t sig, aligned;
    unsigned shift;

    if (x.exp < y.exp || (x.exp == y.exp && x.sig < y.sig)) {
        struct sf_num t = x;

        x = y;
        y = t;
    }
    /* One bit of room above, for the carry. */
    aligned = sf_shift_right_jam64(y.sig >> 1, (unsigned)(x.exp - y.exp));
    sig = x.sign == y.sign ? (x.sig >> 1) + aligned : (x.sig >> 1) - aligned;
    if (sf_unlikely(sig == 0)) {
        return SF(cancelled)(ctx);
    }
    shift = (unsigned)__builtin_clzll(sig);
    return SF(round_pack)(ctx, x.sign, x.exp + 1 - (int)shift, sig << shift);
}

/* a + addend: addend is b or, to subtract, b with its sign turned. A NaN comes out as b has it. */
SF_COLD SF_VALUE SF(add_special)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b, SF_VALUE addend)
{
    if (SF(nan)(a) || SF(nan)(b)) {
        return SF(propagate2)(ctx, a, b);
    }
    if (SF(inf)(a)) {
        return SF(inf)(b) && a != addend ? SF(invalid)(ctx) : a;
    }
    if (SF(inf)(b)) {
        return addend;
    }
    if (SF(zero)(b)) {
        return SF(zero)(a) && a != addend ? SF(cancelled)(ctx) : a;
    }
    if (SF(zero)(a)) {
        return addend;
    }
    return SF(add_num)(ctx, SF(unpack)(a), SF(unpack)(addend));
}

SF_VALUE SF(add)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    if (sf_unlikely(!SF(normal)(a) || !SF(normal)(b))) {
        return SF(add_special)(ctx, a, b, b);
    }
    return SF(add_num)(ctx, SF(unpack_normal)(a), SF(unpack_normal)(b));
}

SF_VALUE SF(sub)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    SF_VALUE addend = b ^ SF_SIGN;

    if (sf_unlikely(!SF(normal)(a) || !SF(normal)(b))) {
        return SF(add_special)(ctx, a, b, addend);
    }
    return SF(add_num)(ctx, SF(unpack_normal)(a), SF(unpack_normal)(addend));
}

/* x * y, exact in 16 and 32 bits, jammed in 64: two factors in [1, 2) have a product in [1, 4). */
SF_INLINE struct sf_num SF(mul_num)(struct sf_num x, struct sf_num y)
{
    struct sf_num p = {.sign = x.sign ^ y.sign, .exp = x.exp + y.exp - SF_BIAS};
    unsigned two;

#if SF_PREC <= 32
    p.sig = (x.sig >> 32) * (y.sig >> 32);
#else
    sf_u128 full = (sf_u128)x.sig * y.sig;

    p.sig = (uint64_t)(full >> 64) | ((uint64_t)full != 0);
#endif
    two = (unsigned)(p.sig >> 63);
    p.sig <<= 1 - two;
    p.exp += (int)two;
    return p;
}

SF_COLD SF_VALUE SF(mul_special)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    bool sign = SF(sign)(a ^ b);
    struct sf_num p;

    if (SF(nan)(a) || SF(nan)(b)) {
        return SF(propagate2)(ctx, a, b);
    }
    if (SF(inf)(a) || SF(inf)(b)) {
        return SF(zero)(a) || SF(zero)(b) ? SF(invalid)(ctx) : SF_INF | SF(signed_zero)(sign);
    }
    if (SF(zero)(a) || SF(zero)(b)) {
        return SF(signed_zero)(sign);
    }
    p = SF(mul_num)(SF(unpack)(a), SF(unpack)(b));
    return SF(round_pack)(ctx, p.sign, p.exp, p.sig);
}

SF_VALUE SF(mul)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    struct sf_num p;

    if (sf_unlikely(!SF(normal)(a) || !SF(normal)(b))) {
        return SF(mul_special)(ctx, a, b);
    }
    p = SF(mul_num)(SF(unpack_normal)(a), SF(unpack_normal)(b));
    return SF(round_pack)(ctx, p.sign, p.exp, p.sig);
}

SF_INLINE SF_VALUE SF(div_num)(struct sf_ctx *ctx, struct sf_num x, struct sf_num y)
{
    int exp = x.exp - y.exp + SF_BIAS;
    uint64_t q, rem;

#if SF_PREC <= 24
    /* Dividing by the bare significand leaves a quotient of at least 40 bits. */
    uint64_t d = y.sig >> SF_LOW;
    unsigned shift;

    q = x.sig / d;
    rem = x.sig % d;
    shift = (unsigned)__builtin_clzll(q);
    q <<= shift;
    exp -= (int)shift - (64 - SF_LOW - 1);
#else
    if (x.sig < y.sig) {
        exp--;
        q = sf_div128(x.sig, 0, y.sig, &rem);
    } else {
        q = sf_div128(x.sig >> 1, x.sig << 63, y.sig, &rem);
    }
#endif
    return SF(round_pack)(ctx, x.sign ^ y.sign, exp, q | (rem != 0));
}

SF_COLD SF_VALUE SF(div_special)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    SF_VALUE zero = SF(signed_zero)(SF(sign)(a ^ b));

    if (SF(nan)(a) || SF(nan)(b)) {
        return SF(propagate2)(ctx, a, b);
    }
    if (SF(inf)(a)) {
        return SF(inf)(b) ? SF(invalid)(ctx) : SF_INF | zero;
    }
    if (SF(inf)(b)) {
        return zero;
    }
    if (SF(zero)(b)) {
        if (SF(zero)(a)) {
            return SF(invalid)(ctx);
        }
        ctx->flags |= SF_DZ;
        return SF_INF | zero;
    }
    if (SF(zero)(a)) {
        return zero;
    }
    return SF(div_num)(ctx, SF(unpack)(a), SF(unpack)(b));
}

SF_VALUE SF(div)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    if (sf_unlikely(!SF(normal)(a) || !SF(normal)(b))) {
        return SF(div_special)(ctx, a, b);
    }
    return SF(div_num)(ctx, SF(unpack_normal)(a), SF(unpack_normal)(b));
}

SF_INLINE SF_VALUE SF(sqrt_num)(struct sf_ctx *ctx, struct sf_num x)
{
    int e = x.exp - SF_BIAS;
    int exp = (e >> 1) + SF_BIAS;
    /* An odd exponent lends its 1 to the radicand, which then is in [2, 4) instead of [1, 2). */
    unsigned odd = (unsigned)e & 1;
    uint64_t hi = x.sig >> (1 - odd);

#if SF_PREC <= 24
    uint64_t rem;
    uint64_t root = (uint64_t)sf_sqrt64(hi, &rem) << 32 | (rem != 0);
#else
    bool exact;
    uint64_t root = sf_sqrt128(hi, odd ? 0 : x.sig << 63, &exact);

    root |= !exact;
#endif
    return SF(round_pack)(ctx, false, exp, root);
}

SF_VALUE SF(sqrt)(struct sf_ctx *ctx, SF_VALUE a)
{
    if (SF(nan)(a)) {
        return SF(propagate)(ctx, &a, 1);
    }
    if (SF(zero)(a) || a == SF_INF) {
        return a; /* sqrt(-0) is -0 */
    }
    if (SF(sign)(a)) {
        return SF(invalid)(ctx);
    }
    return SF(sqrt_num)(ctx, SF(unpack)(a));
}

/* x * y + z with one rounding; all three are finite and not zero. */
SF_INLINE SF_VALUE SF(fma_num)(struct sf_ctx *ctx, struct sf_num x, struct sf_num y, struct sf_num z)
{
#if SF_PREC <= 24
    /* The product has at most 48 bits, so it is a number like any other. */
    return SF(add_num)(ctx, SF(mul_num)(x, y), z);
#else
    /* add_num again, with 128 bits: the leading bit at 126 and at least 20 zero bits at the bottom. */
    sf_u128 big = (sf_u128)x.sig * y.sig >> 1;
    sf_u128 small = (sf_u128)z.sig << 63;
    bool sign = x.sign ^ y.sign, small_sign = z.sign;
    int exp = x.exp + y.exp - SF_BIAS + 1;
    int small_exp = z.exp;
    unsigned shift = !(big >> 126);

    big <<= shift;
    exp -= (int)shift;
    if (exp < small_exp || (exp == small_exp && big < small)) {
        sf_u128 t = big;

        big = small;
        small = t;
        small_exp = exp;
        exp = z.exp;
        small_sign = sign;
        sign = z.sign;
    }
    small = sf_shift_right_jam128(small, (unsigned)(exp - small_exp));
    big = sign == small_sign ? big + small : big - small;
    if (sf_unlikely(big == 0)) {
        return SF(cancelled)(ctx);
    }
    shift = sf_clz128(big);
    big <<= shift;
    return SF(round_pack)(ctx, sign, exp + 1 - (int)shift, (uint64_t)(big >> 64) | ((uint64_t)big != 0));
#endif
}

/* The NaN of fma(a, b, c), of which one is a NaN; the signs are still as the caller gave them. */
SF_COLD SF_VALUE SF(fma_nan)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b, SF_VALUE c, unsigned negate)
{
    bool inf_times_zero = (SF(inf)(a) && SF(zero)(b)) || (SF(zero)(a) && SF(inf)(b));

    if (ctx->nan == SF_NAN_X86) {
        return SF(propagate)(ctx, (const SF_VALUE[]){a, b, c}, 3);
    }
    if (inf_times_zero) {
        ctx->flags |= SF_NV;
        if (!SF(snan)(c)) {
            return SF(default_nan)(ctx);
        }
    }
    /* Arm negates operands first, so a NaN's sign turns too. A product turns in its first factor. */
    a ^= negate & SF_NEG_PRODUCT ? SF_SIGN : 0;
    c ^= negate & SF_NEG_ADDEND ? SF_SIGN : 0;
    return SF(propagate)(ctx, (const SF_VALUE[]){c, a, b}, 3);
}

SF_COLD SF_VALUE SF(fma_special)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b, SF_VALUE c, unsigned negate)
{
    SF_VALUE addend = c ^ (negate & SF_NEG_ADDEND ? SF_SIGN : 0);
    SF_VALUE flip = negate & SF_NEG_PRODUCT ? SF_SIGN : 0;
    SF_VALUE zero = (a ^ b ^ flip) & SF_SIGN;

    if (SF(nan)(a) || SF(nan)(b) || SF(nan)(c)) {
        return SF(fma_nan)(ctx, a, b, c, negate);
    }
    if (SF(inf)(a) || SF(inf)(b)) {
        bool fight = SF(inf)(c) && SF(sign)(addend ^ zero);

        return SF(zero)(a) || SF(zero)(b) || fight ? SF(invalid)(ctx) : SF_INF | zero;
    }
    if (SF(inf)(c)) {
        return addend;
    }
    if (SF(zero)(a) || SF(zero)(b)) {
        return SF(zero)(c) && addend != zero ? SF(cancelled)(ctx) : addend;
    }
    if (SF(zero)(c)) {
        struct sf_num p = SF(mul_num)(SF(unpack)(a ^ flip), SF(unpack)(b));

        return SF(round_pack)(ctx, p.sign, p.exp, p.sig);
    }
    return SF(fma_num)(ctx, SF(unpack)(a ^ flip), SF(unpack)(b), SF(unpack)(addend));
}

SF_VALUE SF(fma)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b, SF_VALUE c, unsigned negate)
{
    struct sf_num x, z;

    if (sf_unlikely(!SF(normal)(a) || !SF(normal)(b) || !SF(normal)(c))) {
        return SF(fma_special)(ctx, a, b, c, negate);
    }
    x = SF(unpack_normal)(a);
    z = SF(unpack_normal)(c);
    x.sign ^= (negate & SF_NEG_PRODUCT) != 0;
    z.sign ^= (negate & SF_NEG_ADDEND) != 0;
    return SF(fma_num)(ctx, x, SF(unpack_normal)(b), z);
}
