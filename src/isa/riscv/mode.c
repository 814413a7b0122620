/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The mode word of a hart: which blocks and which cached translations fit its privilege and status. */
#include "isa/riscv/priv.h"

/* MPRV, SUM and MXR select an index instead of flushing one: an operating system toggles SUM at each copy
 * from user space. */
static unsigned data_mmu(const struct riscv_cpu *cpu)
{
    unsigned priv = cpu->priv;

    if (priv == RISCV_M && cpu->mstatus & MSTATUS_MPRV)
        priv = (unsigned)bits_get(cpu->mstatus, MSTATUS_MPP_SHIFT, 2);
    bool sum = cpu->mstatus & MSTATUS_SUM, mxr = cpu->mstatus & MSTATUS_MXR;

    switch (priv) {
    case RISCV_U: return mxr ? RISCV_MMU_U_MXR : RISCV_MMU_U;
    case RISCV_S:
        if (mxr)
            return sum ? RISCV_MMU_S_SUM_MXR : RISCV_MMU_S_MXR;
        return sum ? RISCV_MMU_S_SUM : RISCV_MMU_S;
    default: return RISCV_MMU_M;
    }
}

void riscv_update_mode(struct riscv_cpu *cpu)
{
    uint32_t fs = (uint32_t)bits_get(cpu->mstatus, MSTATUS_FS_SHIFT, 2);

    cpu->env.mode = (uint32_t)cpu->priv << RISCV_MODE_PRIV | fs << RISCV_MODE_FS |
                    (uint32_t)(cpu->frm & 7) << RISCV_MODE_FRM | data_mmu(cpu) << RISCV_MODE_MMU;
}

void riscv_set_priv(struct riscv_cpu *cpu, enum riscv_priv priv)
{
    cpu->priv = (uint8_t)priv;
    /* Otherwise a store-conditional of one program could succeed on the reservation of another. */
    cpu->env.excl_addr = ENV_NO_RESERVATION;
    riscv_update_mode(cpu);
}

unsigned riscv_fetch_mmu(const struct env *env)
{
    switch (riscv_cpu_const(env)->priv) {
    case RISCV_U: return RISCV_MMU_U;
    case RISCV_S: return RISCV_MMU_S;
    default: return RISCV_MMU_M;
    }
}

void riscv_fs_dirty(struct riscv_cpu *cpu)
{
    cpu->mstatus |= MSTATUS_FS;
    riscv_update_mode(cpu);
}
