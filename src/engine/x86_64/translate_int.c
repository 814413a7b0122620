/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* T0: integer cells of 32 and 64 bits, conditions, moves. 8 and 16 bits and flags are stepped: no guest needs
 * them yet. */
#include "base/bits.h"
#include "engine/x86_64/t0.h"

/* --- what a cell's name says --- */

enum shape { SHAPE_NONE, SHAPE_RR, SHAPE_RK };

/* op of a family: which member of the group of ten (arith.def binary), or none. */
struct form {
    unsigned size; /* 32 or 64; 0: not for us */
    bool constant, sign;
};

static const struct form binary_form[10] = {
    {0},
    {0},
    {0},
    {0},
    {32, false, false},
    {32, true, false},
    {32, false, true},
    {32, true, true},
    {64, false, false},
    {64, true, false},
};
static const struct form unary_form[5] = {
    {0}, {0}, {32, false, false}, {32, false, true}, {64, false, false}};

/* The families in the order of cells.def, so that a family and a form are found by division. */
enum family {
#define ARITH_BINARY(id, expression) FAMILY_##id,
#define ARITH_UNARY(id, expression)
#include "engine/arith.def"
#undef ARITH_BINARY
#undef ARITH_UNARY
    FAMILY_BINARY_END,
#define ARITH_BINARY(id, expression)
#define ARITH_UNARY(id, expression) FAMILY_##id,
#include "engine/arith.def"
#undef ARITH_BINARY
#undef ARITH_UNARY
    FAMILY_END
};
_Static_assert(CELL_ADD_8 == 0 && CELL_SUB_8 == 10, "ten forms of each binary family, from cell 0 on");
_Static_assert(CELL_NEG_8 == 10 * FAMILY_BINARY_END, "then five forms of each unary family");

/* --- results --- */

/* The value stands in r (32 bits of it when form.size is 32): extends and stores it. */
static void result(struct t0_translation *t, unsigned cell, const struct form *f, enum host_reg r)
{
    if (f->sign) {
        enum host_reg to = t0_target(t, cell, r);
        emit_movsx_rr(&t->e, 64, 32, to, r);
        r = to;
    }
    t0_write(t, cell, r);
}

/* Does the cell live in register r? */
static bool lives_in(const struct t0_translation *t, unsigned cell, enum host_reg r)
{
    enum host_reg p;
    return t0_pinned(t, cell, &p) && p == r;
}

/* Where to compute d = a op b so that b is not overwritten before it is read. */
static enum host_reg place(struct t0_translation *t, const struct cell *c, const struct form *f)
{
    enum host_reg d = t0_target(t, c->dst, HOST_RAX);
    return !f->constant && d != HOST_RAX && lives_in(t, c->b, d) && !lives_in(t, c->a, d) ? HOST_RAX : d;
}

static void alu(struct t0_translation *t, const struct cell *c, const struct form *f, enum host_alu op)
{
    bool commutes = op != HOST_SUB;
    enum host_reg d = t0_target(t, c->dst, HOST_RAX);
    unsigned first = c->a, second = c->b;
    if (commutes && !f->constant && lives_in(t, second, d)) {
        first = c->b;
        second = c->a;
    } else {
        d = place(t, c, f);
    }
    t0_read_into(t, d, first);
    if (f->constant)
        t0_alu_k(t, op, f->size, d, c->imm);
    else
        t0_alu(t, op, f->size, d, second);
    result(t, c->dst, f, d);
}

/* Additions of registers and constants are one LEA, which needs no move in front. */
static void add(struct t0_translation *t, const struct cell *c, const struct form *f)
{
    enum host_reg a, b, d = t0_target(t, c->dst, HOST_RAX);
    bool small = c->imm == (uint64_t)(int64_t)(int32_t)c->imm || (f->size == 32);
    if (t0_pinned(t, c->a, &a) && a != d && f->constant && small) {
        emit_lea(&t->e, f->size, d, host_mem(a, (int32_t)c->imm));
        result(t, c->dst, f, d);
    } else if (!f->constant && t0_pinned(t, c->a, &a) && t0_pinned(t, c->b, &b) && a != d && b != d) {
        emit_lea(&t->e, f->size, d, host_mem_index(a, b, 1, 0));
        result(t, c->dst, f, d);
    } else {
        alu(t, c, f, HOST_ADD);
    }
}

/* a op ~b, ~(a ^ b) */
static void complement(struct t0_translation *t, const struct cell *c, const struct form *f, unsigned family)
{
    static const enum host_alu op[] = {
        [FAMILY_ANDN] = HOST_AND, [FAMILY_ORN] = HOST_OR, [FAMILY_XNOR] = HOST_XOR};
    if (f->constant)
        emit_mov_ri(&t->e, 64, HOST_RAX, ~c->imm);
    else {
        t0_read_into(t, HOST_RAX, c->b);
        emit_not_r(&t->e, 64, HOST_RAX);
    }
    t0_alu(t, op[family], f->size, HOST_RAX, c->a);
    result(t, c->dst, f, HOST_RAX);
}

/* --- shifts --- */

static void shift(struct t0_translation *t, const struct cell *c, const struct form *f, enum host_shift op)
{
    const struct host_features *have = t->t0->have;
    enum host_reg d = t0_target(t, c->dst, HOST_RAX);
    if (f->constant) {
        t0_read_into(t, d, c->a);
        emit_shift_ri(&t->e, op, f->size, d, (unsigned)c->imm & (f->size - 1));
    } else if (have->bmi2 && op != HOST_ROL && op != HOST_ROR) {
        enum host_reg n = t0_read(t, c->b, HOST_RCX), a = t0_read(t, c->a, HOST_RAX);
        if (op == HOST_SHL)
            emit_shlx_rrr(&t->e, f->size, d, a, n);
        else if (op == HOST_SHR)
            emit_shrx_rrr(&t->e, f->size, d, a, n);
        else
            emit_sarx_rrr(&t->e, f->size, d, a, n);
    } else {
        d = HOST_RAX;
        t0_read_into(t, HOST_RCX, c->b);
        t0_read_into(t, d, c->a);
        emit_shift_rc(&t->e, op, f->size, d);
    }
    if (f->size == 32 && !f->sign)
        emit_mov_rr(&t->e, 32, d, d); /* a shift by a count of zero does not clear the upper half */
    result(t, c->dst, f, d);
}

/* --- multiplication and division --- */

/* rcx = the second operand. */
static void second_to_rcx(struct t0_translation *t, const struct cell *c, const struct form *f)
{
    if (f->constant)
        emit_mov_ri(&t->e, f->size, HOST_RCX, c->imm);
    else
        t0_read_into(t, HOST_RCX, c->b);
}

static void multiply(struct t0_translation *t, const struct cell *c, const struct form *f)
{
    enum host_reg b, d = place(t, c, f);
    t0_read_into(t, d, c->a);
    if (f->constant) {
        second_to_rcx(t, c, f);
        emit_imul_rr(&t->e, f->size, d, HOST_RCX);
    } else if (t0_pinned(t, c->b, &b)) {
        emit_imul_rr(&t->e, f->size, d, b);
    } else {
        emit_imul_rm(&t->e, f->size, d, t0_home(c->b));
    }
    result(t, c->dst, f, d);
}

static void multiply_high(struct t0_translation *t, const struct cell *c, const struct form *f,
                          unsigned family)
{
    second_to_rcx(t, c, f);
    t0_read_into(t, HOST_RAX, c->a);
    if (family == FAMILY_MULHS)
        emit_imul_r(&t->e, f->size, HOST_RCX);
    else
        emit_mul_r(&t->e, f->size, HOST_RCX);
    if (family == FAMILY_MULHSU) {
        /* a negative a counts 2^n too much, which is b in the upper half */
        t0_read_into(t, HOST_RAX, c->a);
        emit_sar_ri(&t->e, f->size, HOST_RAX, f->size - 1);
        emit_and_rr(&t->e, f->size, HOST_RAX, HOST_RCX);
        emit_sub_rr(&t->e, f->size, HOST_RDX, HOST_RAX);
    }
    result(t, c->dst, f, HOST_RDX);
}

/* The host traps on division by zero and on overflow; the IR gives them values (ir_ops.def). */
static void divide(struct t0_translation *t, const struct cell *c, const struct form *f, bool is_signed,
                   bool remainder)
{
    struct emit *e = &t->e;
    struct emit_label zero = {0}, minus_one = {0}, done = {0};
    enum host_reg out = remainder ? HOST_RDX : HOST_RAX;
    second_to_rcx(t, c, f);
    t0_read_into(t, HOST_RAX, c->a);
    emit_test_rr(e, f->size, HOST_RCX, HOST_RCX);
    emit_jcc(e, HOST_E, &zero);
    if (is_signed) {
        emit_cmp_ri(e, f->size, HOST_RCX, -1);
        emit_jcc(e, HOST_E, &minus_one);
        emit_cdq(e, f->size);
        emit_idiv_r(e, f->size, HOST_RCX);
    } else {
        emit_xor_rr(e, 32, HOST_RDX, HOST_RDX);
        emit_div_r(e, f->size, HOST_RCX);
    }
    emit_jmp(e, &done);
    emit_bind(e, &zero);
    if (remainder)
        emit_mov_rr(e, f->size, HOST_RDX, HOST_RAX);
    else
        emit_mov_ri(e, f->size, HOST_RAX, UINT64_MAX);
    if (is_signed) {
        emit_jmp(e, &done);
        emit_bind(e, &minus_one);
        if (remainder)
            emit_xor_rr(e, 32, HOST_RDX, HOST_RDX);
        else
            emit_neg_r(e, f->size, HOST_RAX);
    }
    emit_bind(e, &done);
    result(t, c->dst, f, out);
}

/* --- the rest of arith.def --- */

static void extreme(struct t0_translation *t, const struct cell *c, const struct form *f, enum host_cond keep)
{
    second_to_rcx(t, c, f);
    t0_read_into(t, HOST_RAX, c->a);
    emit_cmp_rr(&t->e, f->size, HOST_RAX, HOST_RCX);
    emit_cmovcc_rr(&t->e, keep ^ 1, f->size, HOST_RAX, HOST_RCX);
    result(t, c->dst, f, HOST_RAX);
}

static bool binary(struct t0_translation *t, const struct cell *c, unsigned op)
{
    const struct form *f = &binary_form[op % 10];
    if (!f->size)
        return false;
    switch ((enum family)(op / 10)) {
    case FAMILY_ADD: add(t, c, f); return true;
    case FAMILY_SUB: alu(t, c, f, HOST_SUB); return true;
    case FAMILY_AND: alu(t, c, f, HOST_AND); return true;
    case FAMILY_OR: alu(t, c, f, HOST_OR); return true;
    case FAMILY_XOR: alu(t, c, f, HOST_XOR); return true;
    case FAMILY_ANDN:
    case FAMILY_ORN:
    case FAMILY_XNOR: complement(t, c, f, op / 10); return true;
    case FAMILY_SHL: shift(t, c, f, HOST_SHL); return true;
    case FAMILY_SHR: shift(t, c, f, HOST_SHR); return true;
    case FAMILY_SAR: shift(t, c, f, HOST_SAR); return true;
    case FAMILY_ROL: shift(t, c, f, HOST_ROL); return true;
    case FAMILY_ROR: shift(t, c, f, HOST_ROR); return true;
    case FAMILY_MUL: multiply(t, c, f); return true;
    case FAMILY_MULHU:
    case FAMILY_MULHS:
    case FAMILY_MULHSU: multiply_high(t, c, f, op / 10); return true;
    case FAMILY_DIVU: divide(t, c, f, false, false); return true;
    case FAMILY_DIVS: divide(t, c, f, true, false); return true;
    case FAMILY_REMU: divide(t, c, f, false, true); return true;
    case FAMILY_REMS: divide(t, c, f, true, true); return true;
    case FAMILY_SMIN: extreme(t, c, f, HOST_L); return true;
    case FAMILY_SMAX: extreme(t, c, f, HOST_GE); return true;
    case FAMILY_UMIN: extreme(t, c, f, HOST_B); return true;
    case FAMILY_UMAX: extreme(t, c, f, HOST_AE); return true;
    default: return false;
    }
}

static bool unary(struct t0_translation *t, const struct cell *c, unsigned op)
{
    const struct host_features *have = t->t0->have;
    const struct form *f = &unary_form[(op - CELL_NEG_8) % 5];
    struct emit *e = &t->e;
    if (!f->size)
        return false;
    switch ((enum family)(FAMILY_BINARY_END + 1 + (op - CELL_NEG_8) / 5)) {
    case FAMILY_NEG:
        t0_read_into(t, HOST_RAX, c->a);
        emit_neg_r(e, f->size, HOST_RAX);
        break;
    case FAMILY_NOT:
        t0_read_into(t, HOST_RAX, c->a);
        emit_not_r(e, f->size, HOST_RAX);
        break;
    case FAMILY_BSWAP:
        t0_read_into(t, HOST_RAX, c->a);
        emit_bswap(e, f->size, HOST_RAX);
        break;
    case FAMILY_CLZ:
        if (!have->lzcnt)
            return false;
        emit_lzcnt_rr(e, f->size, HOST_RAX, t0_read(t, c->a, HOST_RAX));
        break;
    case FAMILY_CTZ:
        if (!have->bmi1)
            return false;
        emit_tzcnt_rr(e, f->size, HOST_RAX, t0_read(t, c->a, HOST_RAX));
        break;
    case FAMILY_POPCNT:
        if (!have->popcnt)
            return false;
        emit_popcnt_rr(e, f->size, HOST_RAX, t0_read(t, c->a, HOST_RAX));
        break;
    default: return false;
    }
    result(t, c->dst, f, HOST_RAX);
    return true;
}

/* --- conditions --- */

static const enum host_cond conditions[] = {HOST_E, HOST_NE, HOST_B, HOST_AE, HOST_L, HOST_GE};
enum { SET_FORMS = 8, BRANCH_FORMS = 4, CONDITION_FORMS = SET_FORMS + BRANCH_FORMS };
_Static_assert(CELL_SET_NE_8 == CELL_SET_EQ_8 + CONDITION_FORMS, "twelve forms of each condition");
_Static_assert(CELL_BR_NZ == CELL_SET_EQ_8 + CONDITION_FORMS * 6, "six conditions");

static void compare(struct t0_translation *t, const struct cell *c, unsigned size, bool constant)
{
    enum host_reg a;
    if (!constant) {
        t0_alu(t, HOST_CMP, size, t0_read(t, c->a, HOST_RAX), c->b);
    } else if (t0_pinned(t, c->a, &a)) {
        if (!c->imm)
            emit_test_rr(&t->e, size, a, a);
        else
            t0_alu_k(t, HOST_CMP, size, a, c->imm);
    } else if (size == 32 || c->imm == (uint64_t)(int64_t)(int32_t)c->imm) {
        emit_cmp_mi(&t->e, size, t0_home(c->a), (int32_t)c->imm);
    } else {
        t0_alu_k(t, HOST_CMP, size, t0_read(t, c->a, HOST_RAX), c->imm);
    }
}

static bool condition(struct t0_translation *t, const struct cell *c, unsigned op)
{
    unsigned which = (op - CELL_SET_EQ_8) / CONDITION_FORMS, form = (op - CELL_SET_EQ_8) % CONDITION_FORMS;
    unsigned at = form < SET_FORMS ? form : form - SET_FORMS + 4; /* 32, 32K, 64, 64K are 4 .. 7 of both */
    if (at < 4)
        return false;
    compare(t, c, at < 6 ? 32 : 64, at & 1);
    if (form < SET_FORMS) {
        emit_setcc_r(&t->e, conditions[which], HOST_RAX);
        enum host_reg d = t0_target(t, c->dst, HOST_RAX);
        emit_movzx_rr(&t->e, 8, d, HOST_RAX);
        t0_write(t, c->dst, d);
    } else {
        emit_jcc(&t->e, conditions[which], &t0_slow_new(t, T0_SLOW_EXIT, c)->here);
    }
    return true;
}

/* D = A ? B : C; the constant forms have B or C in imm. */
static void choose(struct t0_translation *t, const struct cell *c, unsigned op)
{
    struct emit *e = &t->e;
    if (op == CELL_SEL_K1)
        emit_mov_ri(e, 64, HOST_RCX, c->imm);
    else
        t0_read_into(t, HOST_RCX, c->b);
    if (op == CELL_SEL_K0)
        emit_mov_ri(e, 64, HOST_RDX, c->imm);
    else
        t0_read_into(t, HOST_RDX, c->c);
    enum host_reg a = t0_read(t, c->a, HOST_RAX);
    emit_test_rr(e, 64, a, a);
    emit_cmovcc_rr(e, HOST_E, 64, HOST_RCX, HOST_RDX);
    t0_write(t, c->dst, HOST_RCX);
}

/* --- moves and widths --- */

static void move_constant(struct t0_translation *t, const struct cell *c)
{
    enum host_reg d;
    if (t0_pinned(t, c->dst, &d)) {
        emit_mov_ri(&t->e, 64, d, c->imm);
    } else if (c->imm == (uint64_t)(int64_t)(int32_t)c->imm) {
        emit_mov_mi(&t->e, 64, t0_home(c->dst), (int32_t)c->imm);
    } else {
        emit_mov_ri(&t->e, 64, HOST_RAX, c->imm);
        t0_write(t, c->dst, HOST_RAX);
    }
}

static void extend(struct t0_translation *t, const struct cell *c, unsigned bits, bool sign)
{
    enum host_reg a, d = t0_target(t, c->dst, HOST_RAX);
    bool pinned = t0_pinned(t, c->a, &a);
    if (sign && pinned)
        emit_movsx_rr(&t->e, 64, bits, d, a);
    else if (sign)
        emit_movsx_rm(&t->e, 64, bits, d, t0_home(c->a));
    else if (pinned)
        emit_movzx_rr(&t->e, bits, d, a);
    else
        emit_movzx_rm(&t->e, bits, d, t0_home(c->a));
    t0_write(t, c->dst, d);
}

static void bit_field(struct t0_translation *t, const struct cell *c, bool sign)
{
    unsigned low = c->imm & 255, n = (unsigned)(c->imm >> 8);
    enum host_reg d = t0_target(t, c->dst, HOST_RAX);
    t0_read_into(t, d, c->a);
    if (64 - low - n)
        emit_shl_ri(&t->e, 64, d, 64 - low - n);
    if (64 - n)
        emit_shift_ri(&t->e, sign ? HOST_SAR : HOST_SHR, 64, d, 64 - n);
    t0_write(t, c->dst, d);
}

/* Fields of the state; what may be in MXCSR or in a host register is stepped. */
static bool state(struct t0_translation *t, const struct cell *c, unsigned op)
{
    enum host_reg pin;
    unsigned bits = 8u << (op <= CELL_GETENV_64 ? op - CELL_GETENV_8 : op - CELL_PUTENV_8);
    const size_t flags = offsetof(struct env, fp_flags);
    if ((c->imm <= flags && c->imm + bits / 8 > flags) || c->imm > INT32_MAX ||
        t0_pinned(t, (unsigned)c->imm / 8, &pin))
        return false;
    struct host_mem field = t0_field((size_t)c->imm);
    if (op > CELL_GETENV_64) {
        t0_fp_forget(t, (unsigned)c->imm / 8);
        emit_mov_mr(&t->e, bits, field, t0_read(t, c->a, HOST_RAX));
        return true;
    }
    enum host_reg d = t0_target(t, c->dst, HOST_RAX);
    if (bits == 64)
        emit_mov_rm(&t->e, 64, d, field);
    else
        emit_movzx_rm(&t->e, bits, d, field);
    t0_write(t, c->dst, d);
    return true;
}

static bool move(struct t0_translation *t, const struct cell *c, unsigned op)
{
    switch (op) {
    case CELL_MOV: {
        enum host_reg d = t0_target(t, c->dst, HOST_RAX);
        t0_read_into(t, d, c->a);
        t0_write(t, c->dst, d);
        return true;
    }
    case CELL_MOVK: move_constant(t, c); return true;
    case CELL_ZEXT_8: extend(t, c, 8, false); return true;
    case CELL_ZEXT_16: extend(t, c, 16, false); return true;
    case CELL_ZEXT_32: extend(t, c, 32, false); return true;
    case CELL_SEXT_8: extend(t, c, 8, true); return true;
    case CELL_SEXT_16: extend(t, c, 16, true); return true;
    case CELL_SEXT_32: extend(t, c, 32, true); return true;
    case CELL_ZEXT_1: {
        enum host_reg d = t0_target(t, c->dst, HOST_RAX);
        t0_read_into(t, d, c->a);
        emit_and_ri(&t->e, 32, d, 1);
        t0_write(t, c->dst, d);
        return true;
    }
    case CELL_UBFX: bit_field(t, c, false); return true;
    case CELL_SBFX: bit_field(t, c, true); return true;
    default: return op >= CELL_GETENV_8 && op <= CELL_PUTENV_64 && state(t, c, op);
    }
}

/* What leaves the block cannot be stepped. */
static bool is_branch(unsigned op)
{
    return op == CELL_BR_NZ ||
           (op >= CELL_SET_EQ_8 && op < CELL_BR_NZ && (op - CELL_SET_EQ_8) % CONDITION_FORMS >= SET_FORMS);
}

bool t0_integer(struct t0_translation *t, const struct cell *c, unsigned op)
{
    if (t->t0->tuning & ENGINE_NO_INTEGER && !is_branch(op))
        return false;
    if (op < CELL_NEG_8)
        return binary(t, c, op);
    if (op < CELL_SET_EQ_8)
        return unary(t, c, op);
    if (op < CELL_BR_NZ)
        return condition(t, c, op);
    if (op == CELL_BR_NZ) {
        enum host_reg a = t0_read(t, c->a, HOST_RAX);
        emit_test_rr(&t->e, 64, a, a);
        emit_jcc(&t->e, HOST_NE, &t0_slow_new(t, T0_SLOW_EXIT, c)->here);
        return true;
    }
    if (op <= CELL_SEL_K0) {
        choose(t, c, op);
        return true;
    }
    return move(t, c, op);
}
