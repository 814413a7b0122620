/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Floating-point operations of the IR: one function per operation and width, each a call of softfloat. */
#include "engine/fp_ops.h"

#include "base/bits.h"
#include "engine/softfloat.h"

/* Every function has the same parameters; most leave some unused. */
#define FP_FN(name) static uint64_t name(struct env *env, uint64_t a, uint64_t b, uint64_t c, unsigned aux)
#define FP_UNUSED (void)env, (void)a, (void)b, (void)c, (void)aux

static struct sf_ctx fp_begin(unsigned aux)
{
    return (struct sf_ctx){.round = aux & IR_RM_MASK};
}

static void fp_end(struct env *env, const struct sf_ctx *ctx)
{
    env->fp_flags |= ctx->flags;
}

/* A function that needs softfloat's context: raises flags or rounds. */
#define FP_CTX(name, expression)                                                                             \
    FP_FN(name)                                                                                              \
    {                                                                                                        \
        struct sf_ctx ctx = fp_begin(aux);                                                                   \
        FP_UNUSED;                                                                                           \
        uint64_t r = (expression);                                                                           \
        fp_end(env, &ctx);                                                                                   \
        return r;                                                                                            \
    }

/* A function of bit patterns alone. */
#define FP_BITS(name, expression)                                                                            \
    FP_FN(name)                                                                                              \
    {                                                                                                        \
        FP_UNUSED;                                                                                           \
        return (expression);                                                                                 \
    }

static unsigned fma_negate(unsigned aux)
{
    return (aux & IR_FMA_NEG_PRODUCT ? SF_NEG_PRODUCT : 0) | (aux & IR_FMA_NEG_ADDEND ? SF_NEG_ADDEND : 0);
}

/* The operations of one width: N bits in type T. */
#define FP_WIDTH(N, T)                                                                                       \
    FP_CTX(add_##N, sf_f##N##_add(&ctx, (T)a, (T)b))                                                         \
    FP_CTX(sub_##N, sf_f##N##_sub(&ctx, (T)a, (T)b))                                                         \
    FP_CTX(mul_##N, sf_f##N##_mul(&ctx, (T)a, (T)b))                                                         \
    FP_CTX(div_##N, sf_f##N##_div(&ctx, (T)a, (T)b))                                                         \
    FP_CTX(sqrt_##N, sf_f##N##_sqrt(&ctx, (T)a))                                                             \
    FP_CTX(fma_##N, sf_f##N##_fma(&ctx, (T)a, (T)b, (T)c, fma_negate(aux)))                                  \
    FP_CTX(min_##N, sf_f##N##_min(&ctx, (T)a, (T)b))                                                         \
    FP_CTX(max_##N, sf_f##N##_max(&ctx, (T)a, (T)b))                                                         \
    FP_CTX(eq_##N, sf_f##N##_eq(&ctx, (T)a, (T)b))                                                           \
    FP_CTX(lt_##N, sf_f##N##_lt(&ctx, (T)a, (T)b))                                                           \
    FP_CTX(le_##N, sf_f##N##_le(&ctx, (T)a, (T)b))                                                           \
    FP_CTX(rint_##N, sf_f##N##_round_to_int(&ctx, (T)a, (aux & IR_RINT_INEXACT) != 0))                       \
    FP_CTX(to_i32_##N,                                                                                       \
           aux &IR_CVT_UNSIGNED ? sf_f##N##_to_u32(&ctx, (T)a) : (uint32_t)sf_f##N##_to_i32(&ctx, (T)a))     \
    FP_CTX(to_i64_##N,                                                                                       \
           aux &IR_CVT_UNSIGNED ? sf_f##N##_to_u64(&ctx, (T)a) : (uint64_t)sf_f##N##_to_i64(&ctx, (T)a))     \
    FP_CTX(from_i32_##N, aux &IR_CVT_UNSIGNED ? sf_f##N##_from_u32(&ctx, (uint32_t)a)                        \
                                              : sf_f##N##_from_i32(&ctx, (int32_t)a))                        \
    FP_CTX(from_i64_##N,                                                                                     \
           aux &IR_CVT_UNSIGNED ? sf_f##N##_from_u64(&ctx, a) : sf_f##N##_from_i64(&ctx, (int64_t)a))        \
    FP_BITS(class_##N, sf_f##N##_classify((T)a))                                                             \
    FP_BITS(neg_##N, (T)a ^ BIT(N - 1))                                                                      \
    FP_BITS(abs_##N, (T)a &(BIT(N - 1) - 1))                                                                 \
    FP_BITS(sgnj_##N, ((T)a & (BIT(N - 1) - 1)) | (b & BIT(N - 1)))                                          \
    FP_BITS(sgnjn_##N, ((T)a & (BIT(N - 1) - 1)) | (~b & BIT(N - 1)))                                        \
    FP_BITS(sgnjx_##N, (T)a ^ (b & BIT(N - 1)))

FP_WIDTH(32, uint32_t)
FP_WIDTH(64, uint64_t)
FP_CTX(widen, sf_f32_to_f64(&ctx, (uint32_t)a))
FP_CTX(narrow, sf_f64_to_f32(&ctx, a))

#define FP_ROW(id, name)                                                                                     \
    {IR_##id, IR_F32, IR_TYPE_NONE, name##_32},                                                              \
    {                                                                                                        \
        IR_##id, IR_F64, IR_TYPE_NONE, name##_64                                                             \
    }

const struct fp_op fp_ops[] = {
    FP_ROW(FADD, add),
    FP_ROW(FSUB, sub),
    FP_ROW(FMUL, mul),
    FP_ROW(FDIV, div),
    FP_ROW(FSQRT, sqrt),
    FP_ROW(FMA, fma),
    FP_ROW(FMIN, min),
    FP_ROW(FMAX, max),
    FP_ROW(FEQ, eq),
    FP_ROW(FLT, lt),
    FP_ROW(FLE, le),
    FP_ROW(FCLASS, class),
    FP_ROW(FNEG, neg),
    FP_ROW(FABS, abs),
    FP_ROW(FSGNJ, sgnj),
    FP_ROW(FSGNJN, sgnjn),
    FP_ROW(FSGNJX, sgnjx),
    FP_ROW(FRINT, rint),
    {IR_FCVT, IR_F64, IR_F32, widen},
    {IR_FCVT, IR_F32, IR_F64, narrow},
    {IR_F2I, IR_I32, IR_F32, to_i32_32},
    {IR_F2I, IR_I32, IR_F64, to_i32_64},
    {IR_F2I, IR_I64, IR_F32, to_i64_32},
    {IR_F2I, IR_I64, IR_F64, to_i64_64},
    {IR_I2F, IR_F32, IR_I32, from_i32_32},
    {IR_I2F, IR_F64, IR_I32, from_i32_64},
    {IR_I2F, IR_F32, IR_I64, from_i64_32},
    {IR_I2F, IR_F64, IR_I64, from_i64_64},
};

int fp_op_find(enum ir_op op, enum ir_type type, enum ir_type from)
{
    for (unsigned i = 0; i < ARRAY_SIZE(fp_ops); i++) {
        const struct fp_op *f = &fp_ops[i];
        if (f->op == op && f->type == type && (f->from == IR_TYPE_NONE || f->from == from)) {
            return (int)i;
        }
    }
    return -1;
}
