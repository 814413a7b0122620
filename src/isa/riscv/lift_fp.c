/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Lifting of floating-point arithmetic: F and D but their loads and stores. */
/*
 * The rounding mode is always a constant: the instruction's own, or frm, which the mode word holds. Reserved
 * values of frm make every instruction that asks for the dynamic mode illegal, also those that never round.
 */
#include "isa/riscv/lift.h"

static inline enum ir_type width(uint32_t arg)
{
    return arg & LIFT_DOUBLE ? IR_F64 : IR_F32;
}

/* The rounding mode; false when it is reserved and the instruction has been lifted as illegal. */
static inline bool rounding(struct lift *l, const struct riscv_insn *i, uint8_t *rm)
{
    *rm = i->rm == RISCV_RM_DYN ? (uint8_t)riscv_mode_frm(l->mode) : i->rm;
    if (*rm > RISCV_RM_RMM) {
        riscv_lift_illegal(l, i, 0);
        return false;
    }
    return true;
}

void riscv_lift_fp_round1(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    enum ir_type type = width(arg);
    uint8_t rm;

    if (rounding(l, i, &rm)) {
        ir_ref x = lift_f(l, i->rs1, type);
        lift_set_f(l, i->rd, type, ir_emit(l->b, (enum ir_op)(arg & LIFT_OP), type, rm, x, 0, 0));
    }
}

void riscv_lift_fp_round2(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    enum ir_type type = width(arg);
    uint8_t rm;

    if (rounding(l, i, &rm)) {
        ir_ref x = lift_f(l, i->rs1, type);
        ir_ref y = i->rs2 == i->rs1 ? x : lift_f(l, i->rs2, type);
        lift_set_f(l, i->rd, type, ir_emit(l->b, (enum ir_op)(arg & LIFT_OP), type, rm, x, y, 0));
    }
}

void riscv_lift_fp_fma(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    enum ir_type type = width(arg);
    uint8_t rm;

    if (rounding(l, i, &rm)) {
        ir_ref x = lift_f(l, i->rs1, type);
        ir_ref y = lift_f(l, i->rs2, type);
        ir_ref z = lift_f(l, i->rs3, type);
        rm |= arg & (IR_FMA_NEG_PRODUCT | IR_FMA_NEG_ADDEND);
        lift_set_f(l, i->rd, type, ir_emit(l->b, IR_FMA, type, rm, x, y, z));
    }
}

/* Signs, minimum, maximum: no rounding. fsgnj of a register with itself moves it, if it holds a single at
 * all. */
void riscv_lift_fp_exact2(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    enum ir_type type = width(arg);
    enum ir_op op = (enum ir_op)(arg & LIFT_OP);
    ir_ref x = lift_f(l, i->rs1, type);

    if (op == IR_FSGNJ && i->rs1 == i->rs2) {
        lift_set_f(l, i->rd, type, x);
        return;
    }
    ir_ref y = i->rs2 == i->rs1 ? x : lift_f(l, i->rs2, type);
    lift_set_f(l, i->rd, type, ir_emit(l->b, op, type, 0, x, y, 0));
}

/* The comparison stays when its result goes to x0: it may raise flags. */
void riscv_lift_fp_compare(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    enum ir_type type = width(arg);
    ir_ref x = lift_f(l, i->rs1, type);
    ir_ref y = i->rs2 == i->rs1 ? x : lift_f(l, i->rs2, type);
    ir_ref c = ir_emit(l->b, (enum ir_op)(arg & LIFT_OP), type, 0, x, y, 0);

    if (i->rd != 0) {
        lift_set_x(l, i->rd, ir_unary(l->b, IR_ZEXT, IR_I64, c));
    }
}

void riscv_lift_fp_class(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    enum ir_type type = width(arg);

    if (i->rd != 0) {
        lift_set_x(l, i->rd, ir_emit(l->b, IR_FCLASS, type, 0, lift_f(l, i->rs1, type), 0, 0));
    }
}

/* Words come out sign-extended, unsigned ones too. */
void riscv_lift_fp_to_int(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    enum ir_type to = arg & LIFT_LONG ? IR_I64 : IR_I32;
    uint8_t rm;

    if (!rounding(l, i, &rm)) {
        return;
    }
    ir_ref x = lift_f(l, i->rs1, width(arg));
    ir_ref v = ir_emit(l->b, IR_F2I, to, rm | (uint8_t)(arg & IR_CVT_UNSIGNED), x, 0, 0);
    if (i->rd != 0) {
        lift_set_x(l, i->rd, ir_unary(l->b, IR_SEXT, IR_I64, v));
    }
}

void riscv_lift_fp_from_int(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    enum ir_type from = arg & LIFT_LONG ? IR_I64 : IR_I32, to = width(arg);
    uint8_t rm;

    if (!rounding(l, i, &rm)) {
        return;
    }
    ir_ref x = ir_unary(l->b, IR_TRUNC, from, lift_x(l, i->rs1));
    lift_set_f(l, i->rd, to, ir_emit(l->b, IR_I2F, to, rm | (uint8_t)(arg & IR_CVT_UNSIGNED), x, 0, 0));
}

/* fcvt.s.d and fcvt.d.s */
static void convert(struct lift *l, const struct riscv_insn *i, enum ir_type from, enum ir_type to)
{
    uint8_t rm;

    if (rounding(l, i, &rm)) {
        lift_set_f(l, i->rd, to, ir_emit(l->b, IR_FCVT, to, rm, lift_f(l, i->rs1, from), 0, 0));
    }
}

void riscv_lift_fp_narrow(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)arg;
    convert(l, i, IR_F64, IR_F32);
}

void riscv_lift_fp_widen(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)arg;
    convert(l, i, IR_F32, IR_F64);
}

/* Bits from one file to the other, as they are: fmv.x.w takes the low half whatever the high half holds. */
void riscv_lift_fmv_x(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    if (i->rd == 0) {
        return;
    }
    ir_ref v = ir_emit(l->b, IR_GETREG, IR_I64, 0, RISCV_REG_F0 + i->rs1, 0, 0);
    lift_set_x(l, i->rd, arg & LIFT_DOUBLE ? v : lift_sext(l, v, IR_I32));
}

void riscv_lift_fmv_f(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    ir_ref v = lift_x(l, i->rs1);

    if (!(arg & LIFT_DOUBLE)) {
        v = ir_binary(l->b, IR_OR, IR_I64, v, lift_const(l, UINT64_C(0xffffffff) << 32));
    }
    ir_emit(l->b, IR_PUTREG, IR_I64, 0, RISCV_REG_F0 + i->rd, v, 0);
}
