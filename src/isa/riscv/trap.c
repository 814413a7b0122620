/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Exceptions and interrupts of a hart: recording, delegation, entry, return. */
/*
 * Theory of operation
 *
 * An exception is recorded in env.exc by whoever meets it and taken by riscv_take_exception() when running
 * code has stopped with an exact pc.
 *
 * Interrupts are looked for only when somebody asks: bit ENV_EXIT_IRQ of env.exit_request is set by whoever
 * raises a line or lets the timer go off, and by this hart itself whenever its own act (a CSR write, a return
 * from a handler) makes a pending interrupt takeable: riscv_irq_update(). So a poll that finds nothing to
 * take may forget, and code that runs without interrupts pays nothing.
 *
 * The bits of mip come from three places. env.irq_lines holds levels that devices drive: MSIP, MTIP, MEIP,
 * SEIP. soft_ip holds what software wrote: SSIP, its half of SEIP, and STIP for as long as Sstc is off. While
 * Sstc is on, STIP is the comparison of the time with stimecmp. Other harts (through built-in firmware) set
 * SSIP from their own threads, so these bits change only by atomic operations that leave the others alone.
 */
#include <inttypes.h>

#include "base/log.h"
#include "isa/riscv/priv.h"

#define CAUSE_INTERRUPT BIT(63)

void riscv_raise(struct riscv_cpu *cpu, enum riscv_cause cause, uint64_t tval)
{
    cpu->env.exc = (struct env_exception){.pending = true, .cause = cause, .value = tval};
}

/* The bits of mip inside want: the timer costs a clock reading, so it is asked only when somebody wants to
 * know, or, with !look, not even then (timer.c). */
static uint64_t mip_bits(struct riscv_cpu *cpu, uint64_t want, bool look)
{
    uint64_t lines = atomic_load_explicit(&cpu->env.irq_lines, memory_order_seq_cst);
    uint64_t soft = atomic_load_explicit(&cpu->soft_ip, memory_order_seq_cst);
    uint64_t ip = (lines & ~IP_STIP) | soft;

    if (cpu->menvcfg & ENVCFG_STCE) {
        ip &= ~IP_STIP;
        if (want & IP_STIP && (look ? riscv_timer_pending(cpu) : cpu->stimer_due))
            ip |= IP_STIP;
    }
    return ip & want & IP_ALL;
}

uint64_t riscv_mip(struct riscv_cpu *cpu)
{
    return mip_bits(cpu, IP_ALL, true);
}

/* Pending interrupts that would be taken now (section 3.1.9): those for M-mode unless it runs with MIE clear,
 * those delegated to S-mode unless M-mode runs or S-mode runs with SIE clear. */
static uint64_t takeable(struct riscv_cpu *cpu)
{
    bool for_m = cpu->priv < RISCV_M || cpu->mstatus & MSTATUS_MIE;
    bool for_s = cpu->priv < RISCV_S || (cpu->priv == RISCV_S && cpu->mstatus & MSTATUS_SIE);
    uint64_t want = cpu->mie & ((for_m ? ~cpu->mideleg : 0) | (for_s ? cpu->mideleg : 0));

    return want ? mip_bits(cpu, want, false) : 0;
}

void riscv_irq_update(struct riscv_cpu *cpu)
{
    if (takeable(cpu))
        env_kick(&cpu->env, ENV_EXIT_IRQ);
}

bool riscv_wakes(struct env *env)
{
    struct riscv_cpu *cpu = riscv_cpu(env);

    /* Neither the global enables nor delegation matter (section 3.3.3). */
    return mip_bits(cpu, cpu->mie, true) != 0;
}

/* Where a trap goes: the base, and for interrupts in vectored mode four bytes per cause behind it. */
static uint64_t vector(uint64_t tvec, uint64_t cause)
{
    uint64_t base = tvec & ~UINT64_C(3);

    return (tvec & 1) && (cause & CAUSE_INTERRUPT) ? base + 4 * (cause & ~CAUSE_INTERRUPT) : base;
}

/* What happened, in the words of the privileged specification's table of causes (3.1.15), and where. */
static void log_trap(const struct riscv_cpu *cpu, uint64_t cause, uint64_t tval, char to)
{
    static const char *const exceptions[] = {
        "instruction misaligned",
        "instruction access",
        "illegal instruction",
        "breakpoint",
        "load misaligned",
        "load access",
        "store misaligned",
        "store access",
        "ecall from U",
        "ecall from S",
        "(10)",
        "ecall from M",
        "instruction page",
        "load page",
        "(14)",
        "store page",
    };
    uint64_t number = cause & ~CAUSE_INTERRUPT;
    if (cause & CAUSE_INTERRUPT)
        log_debug(LOG_CPU, "hart %u: interrupt %" PRIu64 " at 0x%" PRIx64 ", to %c-mode", cpu->index, number,
                  cpu->env.pc, to);
    else
        log_debug(LOG_CPU,
                  "hart %u: exception %" PRIu64 " (%s) at 0x%" PRIx64 ", value 0x%" PRIx64 ", to %c-mode",
                  cpu->index, number, number < ARRAY_SIZE(exceptions) ? exceptions[number] : "?", cpu->env.pc,
                  tval, to);
}

static void enter_s(struct riscv_cpu *cpu, uint64_t cause, uint64_t tval)
{
    uint64_t status = cpu->mstatus & ~(MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP);
    if (log_on_at(LOG_CPU, cpu->env.pc, 1))
        log_trap(cpu, cause, tval, 'S');

    if (cpu->mstatus & MSTATUS_SIE)
        status |= MSTATUS_SPIE;
    if (cpu->priv == RISCV_S)
        status |= MSTATUS_SPP;
    cpu->mstatus = status;
    cpu->sepc = cpu->env.pc;
    cpu->scause = cause;
    cpu->stval = tval;
    cpu->env.pc = vector(cpu->stvec, cause);
    riscv_set_priv(cpu, RISCV_S);
}

static void enter_m(struct riscv_cpu *cpu, uint64_t cause, uint64_t tval)
{
    uint64_t status = cpu->mstatus & ~(MSTATUS_MIE | MSTATUS_MPIE | MSTATUS_MPP);
    if (log_on_at(LOG_CPU, cpu->env.pc, 1))
        log_trap(cpu, cause, tval, 'M');

    if (cpu->mstatus & MSTATUS_MIE)
        status |= MSTATUS_MPIE;
    status |= (uint64_t)cpu->priv << MSTATUS_MPP_SHIFT;
    cpu->mstatus = status;
    cpu->mepc = cpu->env.pc;
    cpu->mcause = cause;
    cpu->mtval = tval;
    cpu->env.pc = vector(cpu->mtvec, cause);
    riscv_set_priv(cpu, RISCV_M);
}

/* An ecall from S-mode with nothing in M-mode: the firmware is a part of the machine. The pc is moved on
 * before the call, so that a call that resumes elsewhere can set it. */
static bool firmware(struct riscv_cpu *cpu)
{
    const struct cpu_host *host = &cpu->host;
    uint64_t pc = cpu->env.pc;

    if (!cpu->builtin_firmware || !host->ops->firmware_call)
        return false;
    cpu->env.pc = pc + 4;
    if (host->ops->firmware_call(&cpu->env, host->board))
        return true;
    cpu->env.pc = pc;
    return false;
}

void riscv_take_exception(struct env *env)
{
    struct riscv_cpu *cpu = riscv_cpu(env);
    struct env_exception exc = env->exc;

    env->exc = (struct env_exception){.pending = false};
    if (exc.cause == RISCV_EXC_ECALL_S && firmware(cpu))
        return;
    if (cpu->priv <= RISCV_S && cpu->medeleg >> (exc.cause & 63) & 1)
        enter_s(cpu, exc.cause, exc.value);
    else
        enter_m(cpu, exc.cause, exc.value);
}

bool riscv_poll_interrupt(struct env *env)
{
    /* Section 3.1.9: this order, and whatever goes to M-mode before whatever goes to S-mode. */
    static const uint8_t order[] = {
        RISCV_IRQ_MEI, RISCV_IRQ_MSI, RISCV_IRQ_MTI, RISCV_IRQ_SEI, RISCV_IRQ_SSI, RISCV_IRQ_STI,
    };
    struct riscv_cpu *cpu = riscv_cpu(env);

    /* Noted even while the interrupt is masked: nobody kicks twice for one deadline. */
    riscv_timer_pending(cpu);
    uint64_t pending = takeable(cpu);
    if (!pending)
        return false;
    bool to_m = pending & ~cpu->mideleg;
    if (to_m)
        pending &= ~cpu->mideleg;
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
        if (!(pending & BIT(order[i])))
            continue;
        if (to_m)
            enter_m(cpu, CAUSE_INTERRUPT | order[i], 0);
        else
            enter_s(cpu, CAUSE_INTERRUPT | order[i], 0);
        return true;
    }
    return false;
}

void riscv_mret(struct riscv_cpu *cpu)
{
    enum { MRET = 0x30200073 };

    if (cpu->priv != RISCV_M) {
        riscv_raise(cpu, RISCV_EXC_ILLEGAL, MRET);
        return;
    }
    enum riscv_priv to = (enum riscv_priv)bits_get(cpu->mstatus, MSTATUS_MPP_SHIFT, 2);
    uint64_t status = cpu->mstatus & ~(MSTATUS_MIE | MSTATUS_MPP);

    if (status & MSTATUS_MPIE)
        status |= MSTATUS_MIE;
    status |= MSTATUS_MPIE;
    if (to != RISCV_M)
        status &= ~MSTATUS_MPRV;
    cpu->mstatus = status;
    cpu->env.pc = cpu->mepc;
    riscv_set_priv(cpu, to);
    riscv_irq_update(cpu);
}

void riscv_sret(struct riscv_cpu *cpu)
{
    enum { SRET = 0x10200073 };

    if (cpu->priv == RISCV_U || (cpu->priv == RISCV_S && cpu->mstatus & MSTATUS_TSR)) {
        riscv_raise(cpu, RISCV_EXC_ILLEGAL, SRET);
        return;
    }
    enum riscv_priv to = cpu->mstatus & MSTATUS_SPP ? RISCV_S : RISCV_U;
    uint64_t status = cpu->mstatus & ~(MSTATUS_SIE | MSTATUS_SPP | MSTATUS_MPRV);

    if (status & MSTATUS_SPIE)
        status |= MSTATUS_SIE;
    status |= MSTATUS_SPIE;
    cpu->mstatus = status;
    cpu->env.pc = cpu->sepc;
    riscv_set_priv(cpu, to);
    riscv_irq_update(cpu);
}
