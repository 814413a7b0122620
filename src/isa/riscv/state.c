/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A hart as data: what of it is saved, and what is checked and derived when it is loaded. */
#include "base/state.h"

#include "isa/riscv/priv.h"

#define FIELD(member, type) STATE_FIELD(riscv_cpu, member, type, 1)

/* The time counter and the interrupt lines belong to the clock and to chips; a reservation is lost. */
const struct state_field riscv_state[] = {
    {.name = "reg",
     .type = STATE_U64,
     .offset = offsetof(struct riscv_cpu, env.reg),
     .count = RISCV_REG_COUNT,
     .since = 1},
    FIELD(env.pc, STATE_U64),
    FIELD(env.icount, STATE_U64),
    FIELD(env.fp_flags, STATE_U8),
    FIELD(priv, STATE_U8),
    FIELD(frm, STATE_U8),
    FIELD(mstatus, STATE_U64),
    FIELD(mtvec, STATE_U64),
    FIELD(mscratch, STATE_U64),
    FIELD(mepc, STATE_U64),
    FIELD(mcause, STATE_U64),
    FIELD(mtval, STATE_U64),
    FIELD(medeleg, STATE_U64),
    FIELD(mideleg, STATE_U64),
    FIELD(mie, STATE_U64),
    FIELD(mcounteren, STATE_U64),
    FIELD(mcountinhibit, STATE_U64),
    FIELD(menvcfg, STATE_U64),
    FIELD(stvec, STATE_U64),
    FIELD(sscratch, STATE_U64),
    FIELD(sepc, STATE_U64),
    FIELD(scause, STATE_U64),
    FIELD(stval, STATE_U64),
    FIELD(satp, STATE_U64),
    FIELD(scounteren, STATE_U64),
    FIELD(senvcfg, STATE_U64),
    FIELD(stimecmp, STATE_U64),
    FIELD(soft_ip, STATE_U64),
    FIELD(mhpmcounter, STATE_U64),
    FIELD(pmpcfg, STATE_U8),
    FIELD(pmpaddr, STATE_U64),
    {0},
};

bool riscv_loaded(struct env *env)
{
    enum { FFLAGS = 31, FRM_MAX = 7 };
    struct riscv_cpu *cpu = riscv_cpu(env);

    if ((cpu->priv != RISCV_U && cpu->priv != RISCV_S && cpu->priv != RISCV_M) || cpu->frm > FRM_MAX ||
        env->fp_flags > FFLAGS || env->reg[RISCV_REG_X0] || env->pc & 1)
        return false;
    if (!riscv_csrs_legal(cpu) || !riscv_pmp_loaded(cpu))
        return false;
    env->exc.pending = false;
    riscv_set_priv(cpu, (enum riscv_priv)cpu->priv);
    riscv_timer_update(cpu);
    riscv_irq_update(cpu);
    return true;
}
