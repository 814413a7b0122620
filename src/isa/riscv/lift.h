/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Private to lift*.c: the state of a lift in progress and the vocabulary its parts share. */
#ifndef HOSTEL_ISA_RISCV_LIFT_H
#define HOSTEL_ISA_RISCV_LIFT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ir.h"
#include "isa/riscv/cpu.h"
#include "isa/riscv/decode.h"
#include "isa/riscv/helpers.h"

enum { RISCV_X_RA = 1, RISCV_X_SP = 2, RISCV_X_GP = 3, RISCV_X_T0 = 5, RISCV_X_S0 = 8 };

struct lift {
    struct ir_block *b;
    uint64_t pc, next; /* of the instruction being lifted, and of the one behind it */
    uint32_t mode;
    uint32_t mmu;     /* the part of memory descriptors that says which MMU index */
    bool done;        /* the block has its terminator */
    ir_ref known[32]; /* integer registers whose value is a constant here; 0 = not known */
};

/* Lifts one instruction. arg is from its row in lift.def: what the function's instructions differ in. */
typedef void riscv_lift_fn(struct lift *l, const struct riscv_insn *i, uint32_t arg);

/* arg of memory functions: a memory descriptor; of AMOs this below the IR's operation. */
enum { LIFT_AMO_LOG2 = 0x0f, LIFT_AMO_RMW_SHIFT = 4 };
#define LIFT_AMO(rmw, log2) ((uint32_t)(rmw) << LIFT_AMO_RMW_SHIFT | (log2))

/* arg of shNadd: the shift, and whether the shifted operand is an unsigned word. */
enum { LIFT_SHIFT = 3, LIFT_UW = 4 };
/* arg of floating-point functions: the IR's operation or modifiers, and the width. */
enum { LIFT_OP = 0xff, LIFT_DOUBLE = 0x100, LIFT_LONG = 0x200 };
/* arg of CSR functions: enum riscv_csr_kind and this. */
enum { LIFT_CSR_IMM = 0x100 };

/* lift_int.c */
riscv_lift_fn riscv_lift_upper, riscv_lift_jal, riscv_lift_jalr, riscv_lift_branch;
riscv_lift_fn riscv_lift_reg, riscv_lift_imm, riscv_lift_reg_w, riscv_lift_imm_w, riscv_lift_unary,
    riscv_lift_unary_w;
riscv_lift_fn riscv_lift_set_reg, riscv_lift_set_imm;
riscv_lift_fn riscv_lift_zbs_reg, riscv_lift_zbs_imm;
riscv_lift_fn riscv_lift_bext, riscv_lift_bexti, riscv_lift_shadd, riscv_lift_slli_uw;
riscv_lift_fn riscv_lift_zext, riscv_lift_sext, riscv_lift_orc_b, riscv_lift_clmulr, riscv_lift_czero;

/* lift_mem.c */
riscv_lift_fn riscv_lift_load, riscv_lift_store, riscv_lift_fload, riscv_lift_fstore;
riscv_lift_fn riscv_lift_lr, riscv_lift_sc, riscv_lift_amo;
riscv_lift_fn riscv_lift_fence, riscv_lift_fence_tso, riscv_lift_cbo, riscv_lift_cbo_zero;

/* lift_fp.c */
riscv_lift_fn riscv_lift_fp_round1, riscv_lift_fp_round2, riscv_lift_fp_fma, riscv_lift_fp_exact2;
riscv_lift_fn riscv_lift_fp_compare, riscv_lift_fp_class, riscv_lift_fp_to_int, riscv_lift_fp_from_int;
riscv_lift_fn riscv_lift_fp_narrow, riscv_lift_fp_widen, riscv_lift_fmv_x, riscv_lift_fmv_f;

/* lift_sys.c */
riscv_lift_fn riscv_lift_csr, riscv_lift_ecall, riscv_lift_ebreak, riscv_lift_xret, riscv_lift_wfi;
riscv_lift_fn riscv_lift_pause, riscv_lift_fence_i, riscv_lift_sfence, riscv_lift_sfence_order;

/* lift.c: every encoding that has no meaning here and now */
riscv_lift_fn riscv_lift_illegal;

static inline ir_ref lift_const(struct lift *l, uint64_t value)
{
    return ir_const(l->b, IR_I64, value);
}

/* The value of integer register r. */
static inline ir_ref lift_x(struct lift *l, unsigned r)
{
    ir_ref k = l->known[r];

    return k ? k : ir_emit(l->b, IR_GETREG, IR_I64, 0, RISCV_REG_X0 + r, 0, 0);
}

/* Integer register r becomes v (i64); x0 stays 0. */
static inline void lift_set_x(struct lift *l, unsigned r, ir_ref v)
{
    if (r == 0) {
        return;
    }
    l->known[r] = ir_is_const(v) ? v : 0;
    ir_emit(l->b, IR_PUTREG, IR_I64, 0, RISCV_REG_X0 + r, v, 0);
}

/* Floating-point register r as a value of the type; singles are NaN-boxed in their registers. */
static inline ir_ref lift_f(struct lift *l, unsigned r, enum ir_type type)
{
    if (type == IR_F64) {
        return ir_emit(l->b, IR_GETREG, IR_F64, 0, RISCV_REG_F0 + r, 0, 0);
    }
    ir_ref v = ir_emit(l->b, IR_GETREG, IR_I64, 0, RISCV_REG_F0 + r, 0, 0);
    return ir_emit(l->b, IR_FUNBOX, IR_F32, 0, v, 0, 0);
}

static inline void lift_set_f(struct lift *l, unsigned r, enum ir_type type, ir_ref v)
{
    if (type == IR_F32) {
        v = ir_emit(l->b, IR_FBOX, IR_I64, 0, v, 0, 0);
        type = IR_I64;
    }
    ir_emit(l->b, IR_PUTREG, type, 0, RISCV_REG_F0 + r, v, 0);
}

/* v cut to the narrower type and extended to 64 bits again. */
static inline ir_ref lift_zext(struct lift *l, ir_ref v, enum ir_type from)
{
    return ir_unary(l->b, IR_ZEXT, IR_I64, ir_unary(l->b, IR_TRUNC, from, v));
}

static inline ir_ref lift_sext(struct lift *l, ir_ref v, enum ir_type from)
{
    return ir_unary(l->b, IR_SEXT, IR_I64, ir_unary(l->b, IR_TRUNC, from, v));
}

/* The terminators. */
static inline void lift_exit(struct lift *l, uint64_t target, enum ir_hint hint)
{
    ir_emit(l->b, IR_EXIT, IR_TYPE_NONE, 0, ir_exit_to(l->b, target, hint), 0, 0);
    l->done = true;
}

static inline void lift_stop(struct lift *l, enum ir_stop why, ir_ref pc)
{
    ir_emit(l->b, IR_STOP, IR_TYPE_NONE, (uint8_t)why, pc, 0, 0);
    l->done = true;
}

static inline void lift_raise(struct lift *l, enum riscv_cause cause, uint64_t value)
{
    ir_emit(l->b, IR_RAISE, IR_TYPE_NONE, 0, cause, lift_const(l, value), 0);
    l->done = true;
}

/* The first operand of helpers that may refuse their instruction (helpers.h). */
static inline ir_ref lift_packed(struct lift *l, const struct riscv_insn *i, uint64_t low)
{
    return lift_const(l, (uint64_t)i->raw << RISCV_PACK_RAW | low);
}

/* Calls a helper of at most two operands; 0 for those it does not have. The result is an i64. */
static inline ir_ref lift_call(struct lift *l, enum riscv_helper helper, ir_ref a0, ir_ref a1)
{
    return ir_emit(l->b, IR_CALL, IR_I64, riscv_target.helpers[helper].nargs, helper, a0, a1);
}

#endif
