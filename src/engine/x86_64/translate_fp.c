/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* T0: floating-point cells. */
/*
 * Theory of operation
 *
 * The host computes what IEEE 754 leaves no choice about: values and flags of operations rounded to nearest.
 * The rest is left to the interpreter, which computes with softfloat: other roundings always, a NaN when it
 * comes. A NaN result is noticed behind the operation, whose operands still stand in their cells, and the
 * cell is then stepped out of line. This is exact because flags are only ever ORed together, and what the
 * host has raised by then, softfloat raises too: both signal invalid for a signaling operand and for every
 * invalid operation. (The converse is not true: infinity times zero plus a quiet NaN.) Both find tininess
 * after rounding. The host's denormal-operand flag is nobody's.
 *
 * Conversions to signed integers answer what is out of range with the most negative number and the invalid
 * flag, which is right, or is not raised if that number was meant: again the interpreter decides, and raises
 * nothing new. Unsigned ones look at the operand first, because the signed conversion of the host would find
 * other operands invalid, or inexact.
 *
 * A single in a register has zeros above it in all 128 bits; every instruction here keeps that, so that 64
 * bits are stored.
 */
#include "base/bits.h"
#include "engine/fp_ops.h"
#include "engine/softfloat.h"
#include "engine/x86_64/emit_sse.h"
#include "engine/x86_64/t0.h"

/* A cell taken apart. */
struct fp {
    const struct cell *c;
    enum ir_op op;
    enum ir_type type, from;
    enum t0_fp_form
        form; /* of operands and result; in a conversion, of the side that is floating-point, or the result */
    unsigned round, modifiers;
};

static enum t0_fp_form form_of(enum ir_type type)
{
    return type == IR_F64 ? T0_FP_DOUBLE : T0_FP_SINGLE;
}

/* The encoding of a scalar instruction of this width. */
static uint32_t scalar(enum t0_fp_form form, uint32_t opcode)
{
    return opcode | EMIT_0F | (form == T0_FP_DOUBLE ? EMIT_F2 : EMIT_F3);
}

static void compare_quietly(struct emit *e, enum t0_fp_form form, enum host_xmm a, enum host_xmm b)
{
    if (form == T0_FP_DOUBLE)
        emit_ucomisd_xx(e, a, b);
    else
        emit_ucomiss_xx(e, a, b);
}

/* The result stands in d: a NaN is stepped instead, a number stored. */
static void number_or_step(struct t0_translation *t, const struct fp *f, enum host_xmm d)
{
    struct t0_slow *slow = t0_slow_new(t, T0_SLOW_STEP, f->c);
    compare_quietly(&t->e, f->form, d, d);
    emit_jcc(&t->e, HOST_P, &slow->here);
    t0_fp_write(t, f->c->dst, d, f->form);
    t0_rejoin(t, slow);
}

/* --- arithmetic --- */

static void binary(struct t0_translation *t, const struct fp *f, uint32_t opcode)
{
    enum host_xmm a = t0_fp_read(t, f->c->a, f->form), b = t0_fp_read(t, f->c->b, f->form), d = t0_fp_new(t);
    emit_sse_binary(&t->e, scalar(f->form, opcode), d, a, b, 0);
    number_or_step(t, f, d);
}

/* d = op a, for an instruction that merges its result into what is above it. */
static void merge_into_zero(struct t0_translation *t, uint32_t description, enum host_xmm d, unsigned a,
                            int32_t imm)
{
    emit_xorps_xxx(&t->e, d, d, d);
    emit_sse_rr(&t->e, description, d, d, a, imm);
}

static void square_root(struct t0_translation *t, const struct fp *f)
{
    enum host_xmm a = t0_fp_read(t, f->c->a, f->form), d = t0_fp_new(t);
    merge_into_zero(t, scalar(f->form, 0x51), d, a, 0);
    number_or_step(t, f, d);
}

/* The 231 forms add to their destination: fmadd, fmsub, fnmadd, fnmsub by the modifiers. */
static void multiply_add(struct t0_translation *t, const struct fp *f)
{
    static const uint8_t opcode[] = {
        [0] = 0xb9,
        [IR_FMA_NEG_ADDEND >> 3] = 0xbb,
        [IR_FMA_NEG_PRODUCT >> 3] = 0xbd,
        [(IR_FMA_NEG_PRODUCT | IR_FMA_NEG_ADDEND) >> 3] = 0xbf,
    };
    enum host_xmm a = t0_fp_read(t, f->c->a, f->form), b = t0_fp_read(t, f->c->b, f->form);
    enum host_xmm addend = t0_fp_read(t, f->c->c, f->form), d = t0_fp_new(t);
    uint32_t wide = f->form == T0_FP_DOUBLE ? EMIT_W : 0;
    emit_movaps_xx(&t->e, d, addend);
    emit_rr(&t->e, opcode[f->modifiers >> 3] | EMIT_VEX | EMIT_66 | EMIT_0F38 | wide, d, a, b, 0);
    number_or_step(t, f, d);
}

/*
 * The host's minimum of two numbers is its second operand when they are equal, so the two orders differ only
 * for zeros of both signs. There OR gives the negative one, and AND, for the maximum, the positive one.
 */
static void extreme(struct t0_translation *t, const struct fp *f, bool maximum)
{
    struct emit *e = &t->e;
    struct t0_slow *slow = t0_slow_new(t, T0_SLOW_STEP, f->c);
    enum host_xmm a = t0_fp_read(t, f->c->a, f->form), b = t0_fp_read(t, f->c->b, f->form), d = t0_fp_new(t);
    uint32_t d_code = scalar(f->form, maximum ? 0x5f : 0x5d);
    compare_quietly(e, f->form, a, b);
    emit_jcc(e, HOST_P, &slow->here);
    emit_sse_binary(e, d_code, HOST_XMM0, a, b, 0);
    emit_sse_binary(e, d_code, d, b, a, 0);
    if (maximum)
        emit_andps_xxx(e, d, d, HOST_XMM0);
    else
        emit_orps_xxx(e, d, d, HOST_XMM0);
    t0_fp_write(t, f->c->dst, d, f->form);
    t0_rejoin(t, slow);
}

/* CMPSS and CMPSD: EQ is quiet, LT and LE are signaling, as wanted. */
static void relation(struct t0_translation *t, const struct fp *f, enum host_cmp predicate)
{
    enum host_xmm a = t0_fp_read(t, f->c->a, f->form), b = t0_fp_read(t, f->c->b, f->form);
    enum host_reg d = t0_target(t, f->c->dst, HOST_RAX);
    t0_fp_forget(t, f->c->dst);
    emit_sse_binary(&t->e, scalar(f->form, 0xc2) | EMIT_IMM(1), HOST_XMM0, a, b, (int32_t)predicate);
    emit_movd_rx(&t->e, d, HOST_XMM0);
    emit_and_ri(&t->e, 32, d, 1);
    t0_write(t, f->c->dst, d);
}

static bool round_to_integer(struct t0_translation *t, const struct fp *f)
{
    static const uint8_t mode[] = {[SF_RNE] = HOST_ROUND_NEAREST,
                                   [SF_RTZ] = HOST_ROUND_ZERO,
                                   [SF_RDN] = HOST_ROUND_DOWN,
                                   [SF_RUP] = HOST_ROUND_UP};
    if (!t->t0->have->sse41 || f->round > SF_RUP)
        return false;
    int32_t imm = mode[f->round] | (f->modifiers & IR_RINT_INEXACT ? 0 : 8);
    enum host_xmm a = t0_fp_read(t, f->c->a, f->form), d = t0_fp_new(t);
    uint32_t opcode = f->form == T0_FP_DOUBLE ? 0x0b : 0x0a;
    merge_into_zero(t, opcode | EMIT_66 | EMIT_0F3A | EMIT_IMM(1), d, a, imm);
    number_or_step(t, f, d);
    return true;
}

/* --- signs: bits only --- */

static void sign(struct t0_translation *t, const struct fp *f)
{
    struct emit *e = &t->e;
    enum ir_op op = f->op;
    if (f->c->a == f->c->b && op == IR_FSGNJN)
        op = IR_FNEG;
    if (f->c->a == f->c->b && op == IR_FSGNJX)
        op = IR_FABS;
    bool two = op == IR_FSGNJ || op == IR_FSGNJN || op == IR_FSGNJX;
    uint64_t bit = f->form == T0_FP_DOUBLE ? BIT(63) : BIT(31);
    enum host_xmm a = t0_fp_read(t, f->c->a, f->form), b = two ? t0_fp_read(t, f->c->b, f->form) : a,
                  d = t0_fp_new(t);
    emit_mov_ri(e, 64, HOST_RAX, bit);
    emit_movq_xr(e, HOST_XMM0, HOST_RAX);
    if (op == IR_FSGNJN)
        emit_andnps_xxx(e, HOST_XMM1, b, HOST_XMM0);
    else if (two)
        emit_andps_xxx(e, HOST_XMM1, b, HOST_XMM0);
    if (op == IR_FNEG) {
        emit_xorps_xxx(e, d, a, HOST_XMM0);
    } else if (op == IR_FSGNJX) {
        emit_xorps_xxx(e, d, a, HOST_XMM1);
    } else {
        emit_andnps_xxx(e, d, HOST_XMM0, a);
        if (two)
            emit_orps_xxx(e, d, d, HOST_XMM1);
    }
    t0_fp_write(t, f->c->dst, d, f->form);
}

/* --- conversions --- */

static void change_width(struct t0_translation *t, const struct fp *f)
{
    enum t0_fp_form from = form_of(f->from);
    enum host_xmm a = t0_fp_read(t, f->c->a, from), d = t0_fp_new(t);
    merge_into_zero(t, scalar(from, 0x5a), d, a, 0);
    number_or_step(t, f, d);
}

/* Goes to `out` unless 0 <= x < 2^power, by the bits, which raises nothing; -0 counts as negative. */
static void bound(struct t0_translation *t, enum t0_fp_form form, enum host_xmm x, unsigned power,
                  struct emit_label *out)
{
    struct emit *e = &t->e;
    if (form == T0_FP_DOUBLE) {
        emit_movq_rx(e, HOST_RAX, x);
        emit_mov_ri(e, 64, HOST_RCX, (uint64_t)(1023 + power) << 52);
        emit_cmp_rr(e, 64, HOST_RAX, HOST_RCX);
    } else {
        emit_movd_rx(e, HOST_RAX, x);
        emit_cmp_ri(e, 32, HOST_RAX, (int32_t)((127 + power) << 23));
    }
    emit_jcc(e, HOST_AE, out);
}

static bool to_integer(struct t0_translation *t, const struct fp *f)
{
    struct emit *e = &t->e;
    bool is_unsigned = f->modifiers & IR_CVT_UNSIGNED;
    unsigned size = f->type == IR_I64 ? 64 : 32;
    if (f->round != SF_RTZ && f->round != SF_RNE)
        return false;
    enum t0_fp_form from = form_of(f->from);
    uint32_t opcode = scalar(from, f->round == SF_RTZ ? 0x2c : 0x2d);
    struct t0_slow *slow = t0_slow_new(t, T0_SLOW_STEP, f->c);
    enum host_xmm a = t0_fp_read(t, f->c->a, from);
    t0_fp_forget(t, f->c->dst);
    if (is_unsigned) {
        /* Just below 2^32, rounding to nearest may leave the range. */
        bound(t, from, a, size == 64 ? 63 : f->round == SF_RTZ ? 32 : 31, &slow->here);
        emit_sse_rr(e, opcode | EMIT_W, HOST_RAX, 0, a, 0);
    } else {
        emit_sse_rr(e, opcode | emit_wide(size), HOST_RAX, 0, a, 0);
        emit_cmp_ri(e, size, HOST_RAX, 1); /* overflows for the most negative number alone */
        emit_jcc(e, HOST_O, &slow->here);
    }
    t0_write(t, f->c->dst, HOST_RAX);
    t0_rejoin(t, slow);
    return true;
}

static bool from_integer(struct t0_translation *t, const struct fp *f)
{
    struct emit *e = &t->e;
    bool is_unsigned = f->modifiers & IR_CVT_UNSIGNED, wide = f->from == IR_I64;
    if (f->round != SF_RNE && !(f->type == IR_F64 && !wide))
        return false;
    struct t0_slow *slow = NULL;
    enum host_xmm d = t0_fp_new(t);
    enum host_reg x = t0_read(t, f->c->a, HOST_RAX);
    emit_xorps_xxx(e, d, d, d);
    if (is_unsigned && wide && t->t0->have->avx512f) {
        emit_rr(e, scalar(f->form, 0x7b) | EMIT_EVEX | EMIT_W, d, d, x, 0);
    } else {
        if (is_unsigned && wide) {
            slow = t0_slow_new(t, T0_SLOW_STEP, f->c);
            emit_test_rr(e, 64, x, x);
            emit_jcc(e, HOST_S, &slow->here);
        } else if (is_unsigned) {
            emit_mov_rr(e, 32, HOST_RAX, x);
            x = HOST_RAX;
        }
        emit_sse_rr(e, scalar(f->form, 0x2a) | emit_wide(is_unsigned || wide ? 64 : 32), d, d, x, 0);
    }
    t0_fp_write(t, f->c->dst, d, f->form);
    if (slow)
        t0_rejoin(t, slow);
    return true;
}

/* --- boxes --- */

static void box(struct t0_translation *t, const struct cell *c)
{
    enum host_xmm a = t0_fp_read(t, c->a, T0_FP_SINGLE), d = t0_fp_new(t);
    emit_movaps_xx(&t->e, d, a);
    t0_fp_write_boxed(t, c->dst, d);
}

/* What is no boxed single counts as a NaN: rare, and stepped. */
static bool unbox(struct t0_translation *t, const struct cell *c)
{
    struct emit *e = &t->e;
    enum host_reg r;
    enum host_xmm a, d;
    if (t0_pinned(t, c->a, &r))
        return false;
    if (t0_fp_cached(t, c->a, T0_FP_BOXED, &a)) {
        a = t0_fp_read(t, c->a, T0_FP_BOXED);
        d = t0_fp_new(t);
        emit_movaps_xx(e, d, a);
        t0_fp_write(t, c->dst, d, T0_FP_SINGLE);
        return true;
    }
    struct t0_slow *slow = t0_slow_new(t, T0_SLOW_STEP, c);
    if (t0_fp_cached(t, c->a, T0_FP_DOUBLE, &a)) {
        a = t0_fp_read(t, c->a, T0_FP_DOUBLE);
        d = t0_fp_new(t);
        emit_movq_rx(e, HOST_RAX, a);
        emit_shr_ri(e, 64, HOST_RAX, 32);
        emit_cmp_ri(e, 32, HOST_RAX, -1);
        emit_jcc(e, HOST_NE, &slow->here);
        emit_xorps_xxx(e, d, d, d);
        emit_movss_xxx(e, d, d, a);
    } else {
        struct host_mem upper = t0_home(c->a);
        upper.disp += 4;
        d = t0_fp_new(t);
        emit_cmp_mi(e, 32, upper, -1);
        emit_jcc(e, HOST_NE, &slow->here);
        emit_movss_xm(e, d, t0_home(c->a));
    }
    t0_fp_write(t, c->dst, d, T0_FP_SINGLE);
    t0_rejoin(t, slow);
    return true;
}

/* Moves into, out of and between floating-point registers, where a host register has the value or is to have
 * it. */
static bool move(struct t0_translation *t, const struct cell *c)
{
    enum host_reg r;
    enum host_xmm a, d;
    if (t0_fp_cached(t, c->a, T0_FP_DOUBLE, &a)) {
        a = t0_fp_read(t, c->a, T0_FP_DOUBLE);
        if (t0_pinned(t, c->dst, &r)) {
            emit_movq_rx(&t->e, r, a);
            return true;
        }
        d = t0_fp_new(t);
        emit_movaps_xx(&t->e, d, a);
    } else if (t0_pinned(t, c->a, &r) && t0_is_fp(t, c->dst)) {
        d = t0_fp_new(t);
        emit_movq_xr(&t->e, d, r);
    } else {
        return false;
    }
    t0_fp_write(t, c->dst, d, T0_FP_DOUBLE);
    return true;
}

/* --- a cell --- */

static bool rounded(struct t0_translation *t, const struct fp *f)
{
    if (f->round != SF_RNE)
        return false;
    switch (f->op) {
    case IR_FADD: binary(t, f, 0x58); return true;
    case IR_FSUB: binary(t, f, 0x5c); return true;
    case IR_FMUL: binary(t, f, 0x59); return true;
    case IR_FDIV: binary(t, f, 0x5e); return true;
    case IR_FSQRT: square_root(t, f); return true;
    case IR_FMA:
        if (!t->t0->have->fma || !t->e.avx)
            return false;
        multiply_add(t, f);
        return true;
    default: return false;
    }
}

static bool operation(struct t0_translation *t, const struct fp *f)
{
    switch (f->op) {
    case IR_FMIN: extreme(t, f, false); return true;
    case IR_FMAX: extreme(t, f, true); return true;
    case IR_FEQ: relation(t, f, HOST_CMP_EQ); return true;
    case IR_FLT: relation(t, f, HOST_CMP_LT); return true;
    case IR_FLE: relation(t, f, HOST_CMP_LE); return true;
    case IR_FNEG:
    case IR_FABS:
    case IR_FSGNJ:
    case IR_FSGNJN:
    case IR_FSGNJX: sign(t, f); return true;
    case IR_FRINT: return round_to_integer(t, f);
    case IR_FCVT:
        if (f->type == IR_F32 && f->round != SF_RNE)
            return false;
        change_width(t, f);
        return true;
    case IR_F2I: return to_integer(t, f);
    case IR_I2F: return from_integer(t, f);
    default: return rounded(t, f);
    }
}

bool t0_float(struct t0_translation *t, const struct cell *c, unsigned op)
{
    t0_fp_begin(t);
    if (op == CELL_FBOX) {
        box(t, c);
        return true;
    }
    if (op == CELL_FUNBOX)
        return unbox(t, c);
    if (op == CELL_MOV)
        return move(t, c);
    if (op != CELL_FP)
        return false;
    const struct fp_op *row = &fp_ops[c->imm & 0xffff];
    unsigned aux = (unsigned)(c->imm >> 16);
    struct fp f = {
        .c = c,
        .op = (enum ir_op)row->op,
        .type = (enum ir_type)row->type,
        .from = (enum ir_type)(row->from == IR_TYPE_NONE ? row->type : row->from),
        .form = form_of((enum ir_type)row->type),
        .round = aux & IR_RM_MASK,
        .modifiers = aux & ~(unsigned)IR_RM_MASK,
    };
    return operation(t, &f);
}
