/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Lifting of what computes in integer registers or jumps: I, M, Zba, Zbb, Zbs, Zbc, Zicond. */
/*
 * Word instructions cut their operands to 32 bits, compute and extend by sign: the form that backends know
 * how to make one operation of. An instruction whose destination is x0 has no effect here and leaves nothing
 * behind.
 */
#include "isa/riscv/lift.h"

/* --- Jumps and branches --- */

void riscv_lift_upper(struct lift *l, const struct riscv_insn *i, uint32_t pc_relative)
{
    lift_set_x(l, i->rd, lift_const(l, (uint64_t)(int64_t)i->imm + (pc_relative ? l->pc : 0)));
}

static bool is_link(unsigned r)
{
    return r == RISCV_X_RA || r == RISCV_X_T0;
}

void riscv_lift_jal(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)arg;
    lift_set_x(l, i->rd, lift_const(l, l->next));
    lift_exit(l, l->pc + (uint64_t)(int64_t)i->imm, is_link(i->rd) ? IR_HINT_CALL : IR_HINT_JUMP);
}

/* The return-address stack hints of the unprivileged manual (chapter 2, table of jalr): pop then push counts
 * as a call. */
static enum ir_hint jalr_hint(const struct riscv_insn *i)
{
    if (is_link(i->rd)) {
        return IR_HINT_CALL;
    }
    return is_link(i->rs1) ? IR_HINT_RETURN : IR_HINT_JUMP;
}

void riscv_lift_jalr(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    ir_ref base = lift_x(l, i->rs1);
    ir_ref sum = ir_binary(l->b, IR_ADD, IR_I64, base, lift_const(l, (uint64_t)(int64_t)i->imm));
    ir_ref target = ir_binary(l->b, IR_AND, IR_I64, sum, lift_const(l, ~UINT64_C(1)));
    enum ir_hint hint = jalr_hint(i);

    (void)arg;
    lift_set_x(l, i->rd, lift_const(l, l->next));
    if (ir_is_const(target)) {
        lift_exit(l, ir_const_value(l->b, target), hint);
        return;
    }
    ir_emit(l->b, IR_EXIT_REG, IR_TYPE_NONE, (uint8_t)hint, target, 0, 0);
    l->done = true;
}

void riscv_lift_branch(struct lift *l, const struct riscv_insn *i, uint32_t cond)
{
    ir_ref x = lift_x(l, i->rs1);
    ir_ref y = i->rs2 == i->rs1 ? x : lift_x(l, i->rs2);
    ir_ref taken = ir_setcc(l->b, (enum ir_cond)cond, IR_I64, x, y);
    uint64_t target = l->pc + (uint64_t)(int64_t)i->imm;

    if (!ir_is_const(taken)) {
        ir_emit(l->b, IR_EXIT_IF, IR_TYPE_NONE, 0, taken, ir_exit_to(l->b, target, IR_HINT_JUMP), 0);
    } else if (ir_const_value(l->b, taken)) {
        lift_exit(l, target, IR_HINT_JUMP);
    }
}

/* --- Arithmetic and logic --- */

static inline void set_binary(struct lift *l, unsigned rd, uint32_t op, ir_ref x, ir_ref y)
{
    lift_set_x(l, rd, ir_binary(l->b, (enum ir_op)op, IR_I64, x, y));
}

/* A 32-bit operation, sign-extended. */
static inline void set_binary_w(struct lift *l, unsigned rd, uint32_t op, ir_ref x, ir_ref y)
{
    ir_ref v = ir_binary(l->b, (enum ir_op)op, IR_I32, x, y);

    lift_set_x(l, rd, ir_unary(l->b, IR_SEXT, IR_I64, v));
}

static inline ir_ref word(struct lift *l, ir_ref v)
{
    return ir_unary(l->b, IR_TRUNC, IR_I32, v);
}

void riscv_lift_reg(struct lift *l, const struct riscv_insn *i, uint32_t op)
{
    if (i->rd == 0) {
        return;
    }
    ir_ref x = lift_x(l, i->rs1);
    ir_ref y = i->rs2 == i->rs1 ? x : lift_x(l, i->rs2);
    set_binary(l, i->rd, op, x, y);
}

void riscv_lift_imm(struct lift *l, const struct riscv_insn *i, uint32_t op)
{
    if (i->rd == 0) {
        return;
    }
    set_binary(l, i->rd, op, lift_x(l, i->rs1), lift_const(l, (uint64_t)(int64_t)i->imm));
}

void riscv_lift_reg_w(struct lift *l, const struct riscv_insn *i, uint32_t op)
{
    if (i->rd == 0) {
        return;
    }
    ir_ref x = word(l, lift_x(l, i->rs1));
    ir_ref y = i->rs2 == i->rs1 ? x : word(l, lift_x(l, i->rs2));
    set_binary_w(l, i->rd, op, x, y);
}

void riscv_lift_imm_w(struct lift *l, const struct riscv_insn *i, uint32_t op)
{
    if (i->rd == 0) {
        return;
    }
    ir_ref y = ir_const(l->b, IR_I32, (uint64_t)(int64_t)i->imm);
    set_binary_w(l, i->rd, op, word(l, lift_x(l, i->rs1)), y);
}

void riscv_lift_unary(struct lift *l, const struct riscv_insn *i, uint32_t op)
{
    if (i->rd == 0) {
        return;
    }
    lift_set_x(l, i->rd, ir_unary(l->b, (enum ir_op)op, IR_I64, lift_x(l, i->rs1)));
}

/* Counts of bits in a word: never negative, so the extension's kind does not matter. */
void riscv_lift_unary_w(struct lift *l, const struct riscv_insn *i, uint32_t op)
{
    if (i->rd == 0) {
        return;
    }
    ir_ref v = ir_unary(l->b, (enum ir_op)op, IR_I32, word(l, lift_x(l, i->rs1)));
    lift_set_x(l, i->rd, ir_unary(l->b, IR_ZEXT, IR_I64, v));
}

void riscv_lift_sext(struct lift *l, const struct riscv_insn *i, uint32_t from)
{
    if (i->rd == 0) {
        return;
    }
    lift_set_x(l, i->rd, lift_sext(l, lift_x(l, i->rs1), (enum ir_type)from));
}

void riscv_lift_zext(struct lift *l, const struct riscv_insn *i, uint32_t from)
{
    if (i->rd == 0) {
        return;
    }
    lift_set_x(l, i->rd, lift_zext(l, lift_x(l, i->rs1), (enum ir_type)from));
}

/* slt and kin: the condition as 0 or 1. */
static inline void set_condition(struct lift *l, unsigned rd, uint32_t cond, ir_ref x, ir_ref y)
{
    ir_ref c = ir_setcc(l->b, (enum ir_cond)cond, IR_I64, x, y);

    lift_set_x(l, rd, ir_unary(l->b, IR_ZEXT, IR_I64, c));
}

void riscv_lift_set_reg(struct lift *l, const struct riscv_insn *i, uint32_t cond)
{
    if (i->rd == 0) {
        return;
    }
    ir_ref x = lift_x(l, i->rs1);
    ir_ref y = i->rs2 == i->rs1 ? x : lift_x(l, i->rs2);
    set_condition(l, i->rd, cond, x, y);
}

void riscv_lift_set_imm(struct lift *l, const struct riscv_insn *i, uint32_t cond)
{
    if (i->rd == 0) {
        return;
    }
    set_condition(l, i->rd, cond, lift_x(l, i->rs1), lift_const(l, (uint64_t)(int64_t)i->imm));
}

/* --- Zba --- */

void riscv_lift_shadd(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    if (i->rd == 0) {
        return;
    }
    ir_ref x = lift_x(l, i->rs1);

    if (arg & LIFT_UW) {
        x = lift_zext(l, x, IR_I32);
    }
    x = ir_binary(l->b, IR_SHL, IR_I64, x, lift_const(l, arg & LIFT_SHIFT));
    lift_set_x(l, i->rd, ir_binary(l->b, IR_ADD, IR_I64, x, lift_x(l, i->rs2)));
}

void riscv_lift_slli_uw(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)arg;
    if (i->rd == 0) {
        return;
    }
    ir_ref x = lift_zext(l, lift_x(l, i->rs1), IR_I32);
    lift_set_x(l, i->rd, ir_binary(l->b, IR_SHL, IR_I64, x, lift_const(l, (uint64_t)i->imm)));
}

/* --- Zbb --- */

/*
 * orc.b: every byte that is not 0 becomes 0xff. Adding 0x7f to the low seven bits of a byte carries into its
 * top bit unless they are 0, and stays inside the byte; with the byte's own top bit that marks it. A mark m
 * at bit 0 of each byte times 255 is (m << 8) - m.
 */
void riscv_lift_orc_b(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)arg;
    if (i->rd == 0) {
        return;
    }
    ir_ref low7 = lift_const(l, 0x7f7f7f7f7f7f7f7f);
    ir_ref x = lift_x(l, i->rs1);
    ir_ref m = ir_binary(l->b, IR_AND, IR_I64, x, low7);

    m = ir_binary(l->b, IR_ADD, IR_I64, m, low7);
    m = ir_binary(l->b, IR_OR, IR_I64, m, x);
    m = ir_binary(l->b, IR_SHR, IR_I64, m, lift_const(l, 7));
    m = ir_binary(l->b, IR_AND, IR_I64, m, lift_const(l, 0x0101010101010101));
    ir_ref up = ir_binary(l->b, IR_SHL, IR_I64, m, lift_const(l, 8));
    lift_set_x(l, i->rd, ir_binary(l->b, IR_SUB, IR_I64, up, m));
}

/* --- Zbs: the bit's number is taken modulo 64 by the shift --- */

void riscv_lift_zbs_reg(struct lift *l, const struct riscv_insn *i, uint32_t op)
{
    if (i->rd == 0) {
        return;
    }
    ir_ref x = lift_x(l, i->rs1);
    ir_ref bit = ir_binary(l->b, IR_SHL, IR_I64, lift_const(l, 1), lift_x(l, i->rs2));
    set_binary(l, i->rd, op, x, bit);
}

void riscv_lift_zbs_imm(struct lift *l, const struct riscv_insn *i, uint32_t op)
{
    if (i->rd == 0) {
        return;
    }
    uint64_t bit = BIT((unsigned)i->imm);

    if (op == IR_ANDN) {
        set_binary(l, i->rd, IR_AND, lift_x(l, i->rs1), lift_const(l, ~bit));
    } else {
        set_binary(l, i->rd, op, lift_x(l, i->rs1), lift_const(l, bit));
    }
}

void riscv_lift_bext(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)arg;
    if (i->rd == 0) {
        return;
    }
    ir_ref x = lift_x(l, i->rs1);
    ir_ref v = ir_binary(l->b, IR_SHR, IR_I64, x, lift_x(l, i->rs2));
    set_binary(l, i->rd, IR_AND, v, lift_const(l, 1));
}

void riscv_lift_bexti(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)arg;
    if (i->rd == 0) {
        return;
    }
    ir_ref v = ir_binary(l->b, IR_SHR, IR_I64, lift_x(l, i->rs1), lift_const(l, (uint64_t)i->imm));
    set_binary(l, i->rd, IR_AND, v, lift_const(l, 1));
}

/* --- Zbc, Zicond --- */

/* clmulr is bits 126..63 of the product. */
void riscv_lift_clmulr(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)arg;
    if (i->rd == 0) {
        return;
    }
    ir_ref x = lift_x(l, i->rs1);
    ir_ref y = i->rs2 == i->rs1 ? x : lift_x(l, i->rs2);
    ir_ref low = ir_binary(l->b, IR_CLMUL, IR_I64, x, y);
    ir_ref high = ir_binary(l->b, IR_CLMULH, IR_I64, x, y);

    low = ir_binary(l->b, IR_SHR, IR_I64, low, lift_const(l, 63));
    high = ir_binary(l->b, IR_SHL, IR_I64, high, lift_const(l, 1));
    set_binary(l, i->rd, IR_OR, high, low);
}

/* czero: 0 when rs2 compares so with 0, else rs1. */
void riscv_lift_czero(struct lift *l, const struct riscv_insn *i, uint32_t cond)
{
    if (i->rd == 0) {
        return;
    }
    ir_ref zero = lift_const(l, 0);
    ir_ref c = ir_setcc(l->b, (enum ir_cond)cond, IR_I64, lift_x(l, i->rs2), zero);
    lift_set_x(l, i->rd, ir_select(l->b, IR_I64, c, zero, lift_x(l, i->rs1)));
}
