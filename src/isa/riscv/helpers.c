/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The C functions that lifted RISC-V blocks call: what depends on state that no mode word holds. */
/*
 * All run on the vCPU's thread. A helper that refuses its instruction records an illegal-instruction
 * exception with the encoding, which it finds in the high half of its first operand.
 */
#include "isa/riscv/helpers.h"

#include "isa/riscv/priv.h"

#define HELPER(function)                                                                                     \
    static uint64_t function(struct env *env, G_GNUC_UNUSED uint64_t a0, G_GNUC_UNUSED uint64_t a1,          \
                             G_GNUC_UNUSED uint64_t a2, G_GNUC_UNUSED uint64_t a3)

static uint64_t refuse(struct riscv_cpu *cpu, uint64_t packed)
{
    riscv_raise(cpu, RISCV_EXC_ILLEGAL, packed >> RISCV_PACK_RAW);
    return 0;
}

/* A CSR instruction: what it does in a0 (helpers.h), its operand in a1. Returns the old value if it reads. */
HELPER(csr)
{
    struct riscv_cpu *cpu = riscv_cpu(env);
    unsigned kind = a0 >> RISCV_PACK_CSR_KIND & 3;
    uint64_t clear = kind == RISCV_CSR_WRITE ? UINT64_MAX : kind == RISCV_CSR_CLEAR ? a1 : 0;
    uint64_t set = kind == RISCV_CSR_CLEAR ? 0 : a1;
    uint64_t old = 0;

    if (riscv_csr_access(cpu, a0 & 0xfff, a0 & RISCV_PACK_CSR_READ, a0 & RISCV_PACK_CSR_WRITE, clear, set,
                         &old)) {
        return refuse(cpu, a0);
    }
    return old;
}

/* Before the first instruction that changes floating-point state. */
HELPER(fs_dirty)
{
    riscv_fs_dirty(riscv_cpu(env));
    return 0;
}

/* Returns the pc to go on at. */
HELPER(mret)
{
    riscv_mret(riscv_cpu(env));
    return env->pc;
}

HELPER(sret)
{
    riscv_sret(riscv_cpu(env));
    return env->pc;
}

/* Below M-mode: may the hart wait? */
HELPER(wfi)
{
    struct riscv_cpu *cpu = riscv_cpu(env);

    return cpu->mstatus & MSTATUS_TW ? refuse(cpu, a0) : 0;
}

/* sfence.vma or sinval.vma in S- or M-mode: a1 the address, a2 the ASID, as far as a0 says that they count.
 */
HELPER(sfence)
{
    struct riscv_cpu *cpu = riscv_cpu(env);

    if (cpu->priv == RISCV_S && cpu->mstatus & MSTATUS_TVM) {
        return refuse(cpu, a0);
    }
    struct cpu_flush what = {
        .one_page = a0 & RISCV_PACK_SFENCE_VA,
        .one_asid = a0 & RISCV_PACK_SFENCE_ASID,
        .va = a1,
        .asid = a2 & 0xffff,
    };
    cpu->host.ops->flush(env, &what);
    return 0;
}

/* The bits that menvcfg, and for U-mode senvcfg too, leave of those asked for (CMO specification, chapter
 * "Control and status registers"). */
static uint64_t envcfg(const struct riscv_cpu *cpu, uint64_t bits)
{
    if (cpu->priv < RISCV_M) {
        bits &= cpu->menvcfg;
    }
    return cpu->priv < RISCV_S ? bits & cpu->senvcfg : bits;
}

/* A cache-block operation needs what a load or a store needs, and faults as a store does (CMO specification,
 * "Memory access" and "Exceptions"). */
static void check_block(struct env *env, uint64_t va)
{
    struct isa_walk walk;
    unsigned mmu = riscv_mode_mmu(env->mode);

    if (riscv_walk(env, (struct gva){va}, ISA_LOAD, mmu, &walk) == 0) {
        return;
    }
    env->exc.pending = false;
    riscv_walk(env, (struct gva){va}, ISA_STORE, mmu, &walk);
}

/* cbo.inval, cbo.clean, cbo.flush on the block at a1. */
HELPER(cbo)
{
    struct riscv_cpu *cpu = riscv_cpu(env);
    uint64_t need = a0 & RISCV_PACK_CBO_INVAL ? ENVCFG_CBIE : ENVCFG_CBCFE;

    if (!envcfg(cpu, need)) {
        return refuse(cpu, a0);
    }
    check_block(env, a1);
    return 0;
}

/* May cbo.zero run below M-mode? */
HELPER(cbo_zero)
{
    struct riscv_cpu *cpu = riscv_cpu(env);

    return envcfg(cpu, ENVCFG_CBZE) ? 0 : refuse(cpu, a0);
}

enum {
    NONE = 0,
    SYNC = IR_HELPER_SYNC,
    MAY_FAULT = IR_HELPER_MAY_FAULT,
    MEMORY = IR_HELPER_MEMORY,
};

const struct ir_helper riscv_helpers[RISCV_HELPER_COUNT] = {
#define RISCV_HELPER(name, function, operands, effects)                                                      \
    [RISCV_HELPER_##name] = {"riscv_" #function, function, operands, effects},
#include "isa/riscv/helpers.def"
#undef RISCV_HELPER
};
