/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * Template, included by softfloat.c once per width: a format's layout, taking a value apart, rounding it back
 * together, and its NaNs. Wants SF_BITS (16, 32, 64), SF_VALUE (the type of a value) and SF_PREC (the
 * precision p of IEEE 754-2019, table 3.5: significand bits including the hidden one). SF(name) is
 * sf_f<SF_BITS>_<name>.
 */

#define SF_FRAC (SF_PREC - 1)                       /* stored significand bits */
#define SF_EXP_MAX ((1 << (SF_BITS - SF_PREC)) - 1) /* the exponent field of infinities and NaNs */
#define SF_BIAS (SF_EXP_MAX >> 1)
#define SF_LOW (64 - SF_PREC) /* bits of sf_num.sig below the precision */
#define SF_QUIET ((SF_VALUE)((SF_VALUE)1 << (SF_FRAC - 1)))
#define SF_SIGN ((SF_VALUE)((SF_VALUE)1 << (SF_BITS - 1)))
#define SF_INF ((SF_VALUE)((SF_VALUE)SF_EXP_MAX << SF_FRAC))

enum { SF(bias) = SF_BIAS }; /* for the conversions between widths */

SF_INLINE bool SF(sign)(SF_VALUE a)
{
    return a >> (SF_BITS - 1);
}

SF_INLINE SF_VALUE SF(magnitude)(SF_VALUE a)
{
    return a & (SF_VALUE)~SF_SIGN;
}

SF_INLINE int SF(exponent)(SF_VALUE a)
{
    return (int)(a >> SF_FRAC & SF_EXP_MAX);
}

/* Neither zero, subnormal, infinite nor NaN: what the fast paths want. */
SF_INLINE bool SF(normal)(SF_VALUE a)
{
    return (unsigned)SF(exponent)(a) - 1u < (unsigned)SF_EXP_MAX - 1u;
}

SF_INLINE bool SF(zero)(SF_VALUE a)
{
    return SF(magnitude)(a) == 0;
}

SF_INLINE bool SF(inf)(SF_VALUE a)
{
    return SF(magnitude)(a) == SF_INF;
}

SF_INLINE bool SF(nan)(SF_VALUE a)
{
    return SF(magnitude)(a) > SF_INF;
}

SF_INLINE bool SF(snan)(SF_VALUE a)
{
    return SF(nan)(a) && !(a & SF_QUIET);
}

SF_INLINE SF_VALUE SF(signed_zero)(bool sign)
{
    return sign ? SF_SIGN : 0;
}

SF_INLINE struct sf_num SF(unpack_normal)(SF_VALUE a)
{
    /* The hidden bit lands on bit 63; sign and exponent leave at the top. */
    return (struct sf_num){
        .sig = (uint64_t)a << SF_LOW | UINT64_C(1) << 63,
        .exp = SF(exponent)(a),
        .sign = SF(sign)(a),
    };
}

/* a is finite and not zero. */
SF_INLINE struct sf_num SF(unpack)(SF_VALUE a)
{
    struct sf_num n;
    unsigned shift;

    if (sf_likely(SF(exponent)(a) != 0)) {
        return SF(unpack_normal)(a);
    }
    n.sig = (uint64_t)SF(magnitude)(a) << SF_LOW;
    shift = (unsigned)__builtin_clzll(n.sig);
    n.sig <<= shift;
    n.exp = 1 - (int)shift;
    n.sign = SF(sign)(a);
    return n;
}

/* IEEE 754-2019, 7.4: what stands for a number too large. */
SF_COLD SF_VALUE SF(overflow)(struct sf_ctx *ctx, bool sign)
{
    bool to_inf = ctx->round == SF_RDN ? sign : ctx->round == SF_RUP ? !sign : ctx->round != SF_RTZ;

    ctx->flags |= SF_OF | SF_NX;
    return SF(signed_zero)(sign) | (SF_VALUE)(SF_INF - !to_inf);
}

/* round_pack at both ends of the exponent range: the result may overflow or be subnormal. */
SF_COLD SF_VALUE SF(round_pack_edge)(struct sf_ctx *ctx, bool sign, int exp, uint64_t sig)
{
    const uint64_t mask = (UINT64_C(1) << SF_LOW) - 1;
    uint64_t kept = sig >> SF_LOW;
    uint64_t rest = sig & mask;
    /* First as if the exponent had no bounds: that result defines 7.4 and 7.5 (tininess after rounding). */
    uint64_t up = (rest + sf_round_increment(ctx->round, sign, kept & 1, SF_LOW)) >> SF_LOW;
    bool carry = (kept + up) >> SF_PREC;

    if (exp > 0) {
        if (exp + carry >= SF_EXP_MAX) {
            return SF(overflow)(ctx, sign);
        }
        ctx->flags |= rest ? SF_NX : 0;
        return SF(signed_zero)(sign) | (SF_VALUE)(((uint64_t)(exp - 1) << SF_FRAC) + kept + up);
    }
    sig = sf_shift_right_jam64(sig, (unsigned)(1 - exp));
    kept = sig >> SF_LOW;
    rest = sig & mask;
    up = (rest + sf_round_increment(ctx->round, sign, kept & 1, SF_LOW)) >> SF_LOW;
    if (rest) {
        bool tiny = ctx->tininess_before || exp < 0 || !carry;

        ctx->flags |= tiny ? SF_UF | SF_NX : SF_NX;
    }
    return SF(signed_zero)(sign) | (SF_VALUE)(kept + up);
}

/*
 * Round a number to the format and pack it. sig has bit 63 set; exp is biased, of any size; bit 0 of sig is
 * sticky: it may stand for any number of lower bits. The carry of the rounding runs into the exponent field
 * by itself, since kept's own hidden bit supplies the 1 that exp - 1 lacks.
 */
SF_INLINE SF_VALUE SF(round_pack)(struct sf_ctx *ctx, bool sign, int exp, uint64_t sig)
{
    uint64_t kept = sig >> SF_LOW;
    uint64_t rest = sig & ((UINT64_C(1) << SF_LOW) - 1);
    uint64_t up;

    if (sf_unlikely((unsigned)(exp - 1) >= (unsigned)SF_EXP_MAX - 2u)) {
        return SF(round_pack_edge)(ctx, sign, exp, sig);
    }
    up = (rest + sf_round_increment(ctx->round, sign, kept & 1, SF_LOW)) >> SF_LOW;
    ctx->flags |= rest ? SF_NX : 0;
    return (SF_VALUE)((uint64_t)sign << (SF_BITS - 1)) |
           (SF_VALUE)(((uint64_t)(unsigned)(exp - 1) << SF_FRAC) + kept + up);
}

/* The NaN made by an invalid operation on numbers. */
SF_INLINE SF_VALUE SF(default_nan)(const struct sf_ctx *ctx)
{
    return SF_INF | SF_QUIET | SF(signed_zero)(ctx->nan == SF_NAN_X86);
}

SF_COLD SF_VALUE SF(invalid)(struct sf_ctx *ctx)
{
    ctx->flags |= SF_NV;
    return SF(default_nan)(ctx);
}

/* The result of an operation with at least one NaN among its operands, given in order of precedence. */
SF_COLD SF_VALUE SF(propagate)(struct sf_ctx *ctx, const SF_VALUE *operand, unsigned n)
{
    SF_VALUE first = 0, first_signaling = 0;

    for (unsigned i = n; i-- > 0;) {
        if (SF(nan)(operand[i])) {
            first = operand[i];
        }
        if (SF(snan)(operand[i])) {
            first_signaling = operand[i];
        }
    }
    if (first_signaling) {
        ctx->flags |= SF_NV;
    }
    if (ctx->nan == SF_NAN_ARM && first_signaling) {
        first = first_signaling;
    }
    return ctx->nan == SF_NAN_CANONICAL ? SF(default_nan)(ctx) : first | SF_QUIET;
}

SF_COLD SF_VALUE SF(propagate2)(struct sf_ctx *ctx, SF_VALUE a, SF_VALUE b)
{
    return SF(propagate)(ctx, (const SF_VALUE[]){a, b}, 2);
}

/* A NaN's payload, the quiet bit foremost, at the top of 64 bits; and a quiet NaN with such a payload. */
SF_INLINE uint64_t SF(nan_payload)(SF_VALUE a)
{
    return (uint64_t)a << (64 - SF_FRAC);
}

SF_INLINE SF_VALUE SF(quiet_nan)(bool sign, uint64_t payload)
{
    return SF(signed_zero)(sign) | SF_INF | SF_QUIET | (SF_VALUE)(payload >> (64 - SF_FRAC));
}

SF_INLINE SF_VALUE SF(signed_inf)(bool sign)
{
    return SF(signed_zero)(sign) | SF_INF;
}
