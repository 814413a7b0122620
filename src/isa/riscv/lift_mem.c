/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Lifting of what touches memory: loads, stores, atomics (A), fences, cache-block operations (Zicbom,
 * Zicboz). */
#include "isa/riscv/lift.h"

/* Bytes of a cache block, as the device tree says (riscv,cbom-block-size, riscv,cboz-block-size). */
enum { CACHE_BLOCK = 64 };

/* The address rs1 + imm, and the hints it allows. */
static inline ir_ref address(struct lift *l, const struct riscv_insn *i, uint32_t *mem)
{
    ir_ref base = lift_x(l, i->rs1);
    ir_ref va = ir_binary(l->b, IR_ADD, IR_I64, base, lift_const(l, (uint64_t)(int64_t)i->imm));

    if (ir_is_const(va)) {
        *mem |= IR_MEM_PCREL;
    } else if (i->rs1 == RISCV_X_SP || i->rs1 == RISCV_X_S0 || i->rs1 == RISCV_X_GP) {
        *mem |= IR_MEM_STACK;
    }
    *mem |= l->mmu;
    return va;
}

void riscv_lift_load(struct lift *l, const struct riscv_insn *i, uint32_t mem)
{
    ir_ref va = address(l, i, &mem);

    lift_set_x(l, i->rd, ir_emit(l->b, IR_LD, IR_I64, 0, va, 0, mem));
}

void riscv_lift_store(struct lift *l, const struct riscv_insn *i, uint32_t mem)
{
    ir_ref va = address(l, i, &mem);

    ir_emit(l->b, IR_ST, IR_I64, 0, va, lift_x(l, i->rs2), mem);
}

void riscv_lift_fload(struct lift *l, const struct riscv_insn *i, uint32_t mem)
{
    ir_ref va = address(l, i, &mem);
    enum ir_type type = ir_mem_log2(mem) == 3 ? IR_F64 : IR_F32;

    lift_set_f(l, i->rd, type, ir_emit(l->b, IR_LD, type, 0, va, 0, mem));
}

/* fsw stores the low half whatever the high half holds: no unboxing. */
void riscv_lift_fstore(struct lift *l, const struct riscv_insn *i, uint32_t mem)
{
    ir_ref va = address(l, i, &mem);
    ir_ref v = ir_emit(l->b, IR_GETREG, IR_I64, 0, RISCV_REG_F0 + i->rs2, 0, 0);

    ir_emit(l->b, IR_ST, IR_I64, 0, va, v, mem);
}

/* --- A --- */

static inline uint32_t atomic_mem(const struct lift *l, const struct riscv_insn *i)
{
    return l->mmu | IR_MEM_ALIGNED | (i->rm & RISCV_AMO_AQ ? IR_MEM_ACQUIRE : 0) |
           (i->rm & RISCV_AMO_RL ? IR_MEM_RELEASE : 0);
}

void riscv_lift_lr(struct lift *l, const struct riscv_insn *i, uint32_t mem)
{
    ir_ref va = lift_x(l, i->rs1);

    mem |= atomic_mem(l, i);
    lift_set_x(l, i->rd, ir_emit(l->b, IR_LL, IR_I64, 0, va, 0, mem));
}

void riscv_lift_sc(struct lift *l, const struct riscv_insn *i, uint32_t mem)
{
    ir_ref va = lift_x(l, i->rs1);
    ir_ref v = lift_x(l, i->rs2);
    enum ir_type type = ir_mem_log2(mem) == 2 ? IR_I32 : IR_I64;

    v = ir_unary(l->b, IR_TRUNC, type, v);
    mem |= atomic_mem(l, i);
    lift_set_x(l, i->rd, ir_emit(l->b, IR_SC, type, 0, va, v, mem));
}

/* Word AMOs are done in 32 bits, since minimum and maximum must compare words. */
void riscv_lift_amo(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    uint32_t log2 = arg & LIFT_AMO_LOG2;
    enum ir_type type = log2 == 2 ? IR_I32 : IR_I64;
    ir_ref va = lift_x(l, i->rs1);
    ir_ref v = ir_unary(l->b, IR_TRUNC, type, lift_x(l, i->rs2));
    uint32_t mem = IR_MEM_SIZE(log2) | atomic_mem(l, i);
    ir_ref old = ir_emit(l->b, IR_RMW, type, (uint8_t)(arg >> LIFT_AMO_RMW_SHIFT), va, v, mem);

    if (i->rd != 0) {
        lift_set_x(l, i->rd, ir_unary(l->b, IR_SEXT, IR_I64, old));
    }
}

/* --- Fences --- */

/* The fields' bits, W R O I upwards, are the IR's. A fence with an empty side is a hint and orders nothing;
 * reserved values of fm are ordinary fences. */
_Static_assert(IR_FENCE_W == 1 && IR_FENCE_R == 2 && IR_FENCE_O == 4 && IR_FENCE_I == 8, "fence's fields");

void riscv_lift_fence(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    uint32_t before = i->rm >> 4, after = i->rm & 15;

    (void)arg;
    if (before && after) {
        ir_emit(l->b, IR_FENCE, IR_TYPE_NONE, (uint8_t)(before | after << 4), 0, 0, 0);
    }
}

/* fence.tso leaves only stores before loads unordered. */
void riscv_lift_fence_tso(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    (void)i;
    (void)arg;
    ir_emit(l->b, IR_FENCE, IR_TYPE_NONE, IR_FENCE_R | (IR_FENCE_R | IR_FENCE_W) << 4, 0, 0, 0);
    ir_emit(l->b, IR_FENCE, IR_TYPE_NONE, IR_FENCE_W | IR_FENCE_W << 4, 0, 0, 0);
}

/* --- Cache blocks --- */

/* There is no cache to maintain; the helper checks that the guest may. */
void riscv_lift_cbo(struct lift *l, const struct riscv_insn *i, uint32_t flags)
{
    lift_call(l, RISCV_HELPER_CBO, lift_packed(l, i, flags), lift_x(l, i->rs1));
}

/* The first store is there to fault at the address in rs1, as the CMO specification asks, not at the block's
 * beginning. */
void riscv_lift_cbo_zero(struct lift *l, const struct riscv_insn *i, uint32_t arg)
{
    ir_ref zero = lift_const(l, 0);
    ir_ref va = lift_x(l, i->rs1);

    (void)arg;
    if (riscv_mode_priv(l->mode) != RISCV_M) {
        lift_call(l, RISCV_HELPER_CBO_ZERO, lift_packed(l, i, 0), 0);
    }
    ir_emit(l->b, IR_ST, IR_I64, 0, va, zero, l->mmu | IR_MEM_SIZE(0));
    va = ir_binary(l->b, IR_AND, IR_I64, va, lift_const(l, ~(uint64_t)(CACHE_BLOCK - 1)));
    for (unsigned n = 0; n < CACHE_BLOCK; n += 8) {
        ir_ref at = ir_binary(l->b, IR_ADD, IR_I64, va, lift_const(l, n));
        ir_emit(l->b, IR_ST, IR_I64, 0, at, zero, l->mmu | IR_MEM_SIZE(3));
    }
}
