/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Lifting of what deals with the hart itself: CSRs, traps and returns, waiting, translation and instruction
 * fences. */
#include <stddef.h>

#include "isa/riscv/lift.h"

/* --- CSRs --- */

enum { CSR_FFLAGS = 0x001, CSR_FRM = 0x002 };

/* What a CSR instruction asks for. csrrw to x0 does not read, csrrs and csrrc of x0 or 0 do not write. */
struct csr_op {
    unsigned csr, rd;
    enum riscv_csr_kind kind;
    bool read, write;
    ir_ref operand;
};

/* Registers that are nothing but a cell of the hart's state, in each access that has no condition beside
 * privilege. */
static const struct cell {
    uint16_t csr;
    uint8_t priv;
    bool writable; /* with any value */
    uint32_t offset;
} cells[] = {
    {0x140, RISCV_S, true, offsetof(struct riscv_cpu, sscratch)},
    {0x141, RISCV_S, false, offsetof(struct riscv_cpu, sepc)},
    {0x142, RISCV_S, false, offsetof(struct riscv_cpu, scause)},
    {0x143, RISCV_S, false, offsetof(struct riscv_cpu, stval)},
    {0x340, RISCV_M, true, offsetof(struct riscv_cpu, mscratch)},
    {0x341, RISCV_M, false, offsetof(struct riscv_cpu, mepc)},
    {0x342, RISCV_M, false, offsetof(struct riscv_cpu, mcause)},
    {0x343, RISCV_M, false, offsetof(struct riscv_cpu, mtval)},
};

/* The value the instruction writes. */
static ir_ref csr_value(struct lift *l, const struct csr_op *op, ir_ref old)
{
    switch (op->kind) {
    case RISCV_CSR_SET: return ir_binary(l->b, IR_OR, IR_I64, old, op->operand);
    case RISCV_CSR_CLEAR: return ir_binary(l->b, IR_ANDN, IR_I64, old, op->operand);
    default: return op->operand;
    }
}

static bool lift_cell(struct lift *l, const struct csr_op *op)
{
    const struct cell *cell = NULL;
    ir_ref old = 0;

    for (unsigned n = 0; n < ARRAY_SIZE(cells); n++) {
        if (cells[n].csr == op->csr) {
            cell = &cells[n];
        }
    }
    if (!cell || riscv_mode_priv(l->mode) < cell->priv || (op->write && !cell->writable)) {
        return false;
    }
    if (op->read) {
        old = ir_emit(l->b, IR_GETENV, IR_I64, 0, cell->offset, 0, 0);
    }
    if (op->write) {
        ir_emit(l->b, IR_PUTENV, IR_I64, 0, cell->offset, csr_value(l, op, old), 0);
    }
    if (op->read) {
        lift_set_x(l, op->rd, old);
    }
    return true;
}

/* fflags is env.fp_flags, and frm a constant of the mode. */
static bool lift_fp_csr(struct lift *l, const struct csr_op *op)
{
    unsigned fs = riscv_mode_fs(l->mode);
    const uint32_t offset = offsetof(struct env, fp_flags);
    ir_ref old = 0;

    if (op->csr == CSR_FRM && fs != 0 && !op->write) {
        lift_set_x(l, op->rd, lift_const(l, riscv_mode_frm(l->mode)));
        return true;
    }
    if (op->csr != CSR_FFLAGS || fs == 0 || (op->write && fs != 3)) {
        return false;
    }
    if (op->read) {
        old = ir_emit(l->b, IR_GETENV, IR_I8, 0, offset, 0, 0);
        old = ir_unary(l->b, IR_ZEXT, IR_I64, old);
    }
    if (op->write) {
        ir_ref v = ir_binary(l->b, IR_AND, IR_I64, csr_value(l, op, old), lift_const(l, 0x1f));
        ir_emit(l->b, IR_PUTENV, IR_I8, 0, offset, ir_unary(l->b, IR_TRUNC, IR_I8, v), 0);
    }
    if (op->read) {
        lift_set_x(l, op->rd, old);
    }
    return true;
}

void riscv_lift_csr(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    struct csr_op op = {
        .csr = (unsigned)i->imm & 0xfff,
        .rd = i->rd,
        .kind = (enum riscv_csr_kind)(arg & ~(uint32_t)LIFT_CSR_IMM),
        .operand = arg & LIFT_CSR_IMM ? lift_const(l, i->rs1) : lift_x(l, i->rs1),
    };
    op.read = op.kind != RISCV_CSR_WRITE || i->rd != 0;
    op.write = op.kind == RISCV_CSR_WRITE || i->rs1 != 0;

    if (lift_cell(l, &op) || lift_fp_csr(l, &op)) {
        return;
    }
    uint64_t ask = op.csr | (uint64_t)op.kind << RISCV_PACK_CSR_KIND | (op.read ? RISCV_PACK_CSR_READ : 0) |
                   (op.write ? RISCV_PACK_CSR_WRITE : 0);
    ir_ref old = lift_call(l, RISCV_HELPER_CSR, lift_packed(l, i, ask), op.operand);
    lift_set_x(l, i->rd, old);
    if (op.write && riscv_csr_ends_block(op.csr)) {
        lift_stop(l, IR_STOP_NEXT, lift_const(l, l->next));
    }
}

/* --- Traps and returns --- */

void riscv_lift_ecall(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)i;
    (void)arg;
    lift_raise(l, (enum riscv_cause)(RISCV_EXC_ECALL_U + riscv_mode_priv(l->mode)), 0);
}

void riscv_lift_ebreak(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)i;
    (void)arg;
    lift_raise(l, RISCV_EXC_BREAKPOINT, l->pc);
}

void riscv_lift_xret(struct lift *l, const struct riscv_insn *i, uint32_t priv)
{
    if (riscv_mode_priv(l->mode) < priv) {
        riscv_lift_illegal(l, i, 0);
        return;
    }
    enum riscv_helper helper = priv == RISCV_M ? RISCV_HELPER_MRET : RISCV_HELPER_SRET;
    lift_stop(l, IR_STOP_NEXT, lift_call(l, helper, lift_packed(l, i, 0), 0));
}

/* --- Waiting --- */

/* In U-mode wfi is illegal whatever mstatus.TW says, as it may be where there is an S-mode. */
void riscv_lift_wfi(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    unsigned priv = riscv_mode_priv(l->mode);

    (void)arg;
    if (priv == RISCV_U) {
        riscv_lift_illegal(l, i, 0);
        return;
    }
    if (priv != RISCV_M) {
        lift_call(l, RISCV_HELPER_WFI, lift_packed(l, i, 0), 0);
    }
    lift_stop(l, IR_STOP_WAIT, lift_const(l, l->next));
}

/*
 * pause, wrs.nto, wrs.sto: others get the processor for a while. A wait on a reservation may end at any time,
 * and this one ends soon enough never to need wrs.nto's exception under mstatus.TW.
 */
void riscv_lift_pause(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)i;
    (void)arg;
    lift_stop(l, IR_STOP_YIELD, lift_const(l, l->next));
}

/* --- Fences of translation and of instructions --- */

/* Blocks made from code that changes are dropped when it does, so a new look-up is all there is to do. */
void riscv_lift_fence_i(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)i;
    (void)arg;
    ir_emit(l->b, IR_FENCE, IR_TYPE_NONE, IR_FENCE_FULL, 0, 0, 0);
    lift_stop(l, IR_STOP_NEXT, lift_const(l, l->next));
}

/* sfence.vma, and sinval.vma, which need not wait for its fences to take effect. */
void riscv_lift_sfence(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    uint64_t ask = (i->rs1 ? RISCV_PACK_SFENCE_VA : 0) | (i->rs2 ? RISCV_PACK_SFENCE_ASID : 0);

    (void)arg;
    if (riscv_mode_priv(l->mode) == RISCV_U) {
        riscv_lift_illegal(l, i, 0);
        return;
    }
    ir_emit(l->b, IR_ARG, IR_TYPE_NONE, 0, lift_x(l, i->rs2), 0, 0);
    lift_call(l, RISCV_HELPER_SFENCE, lift_packed(l, i, ask), lift_x(l, i->rs1));
    lift_stop(l, IR_STOP_NEXT, lift_const(l, l->next));
}

/* sfence.w.inval, sfence.inval.ir: order sinval.vma, which has nothing left to order. */
void riscv_lift_sfence_order(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)arg;
    if (riscv_mode_priv(l->mode) == RISCV_U) {
        riscv_lift_illegal(l, i, 0);
    }
}
