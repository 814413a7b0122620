/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The guest's time counter and the supervisor timer of Sstc, on the host's guest clock. */
/*
 * The counter is floor(ns * hz / 10^9). The deadline of a comparison value t is the first nanosecond at which
 * the counter has reached it, ceil(t * 10^9 / hz); then "counter >= t" and "ns >= deadline" are the same
 * statement, and whether the timer is pending takes one clock reading and one comparison.
 *
 * The guest's clock never goes back, so a timer once seen to be due stays so until stimecmp is written.
 * Enabling interrupts, which operating systems do all the time, looks at that memory alone and reads no
 * clock: if the deadline has come since, the host's kick is on its way, and the poll that follows it looks.
 */
#include "isa/riscv/priv.h"

enum { NS_PER_S = 1000000000 };
#define NEVER UINT64_MAX

__extension__ typedef unsigned __int128 u128;

uint64_t riscv_time(struct riscv_cpu *cpu)
{
    uint64_t ns = cpu->host.ops->now(&cpu->env);

    return (uint64_t)((u128)ns * cpu->timebase_hz / NS_PER_S);
}

static uint64_t deadline_of(const struct riscv_cpu *cpu, uint64_t ticks)
{
    u128 ns = ((u128)ticks * NS_PER_S + cpu->timebase_hz - 1) / cpu->timebase_hz;

    return ns < NEVER ? (uint64_t)ns : NEVER;
}

bool riscv_timer_pending(struct riscv_cpu *cpu)
{
    if (!(cpu->menvcfg & ENVCFG_STCE) || cpu->stimer_deadline == NEVER)
        return false;
    if (!cpu->stimer_due)
        cpu->stimer_due = cpu->host.ops->now(&cpu->env) >= cpu->stimer_deadline;
    return cpu->stimer_due;
}

void riscv_timer_update(struct riscv_cpu *cpu)
{
    bool on = cpu->menvcfg & ENVCFG_STCE;

    cpu->stimer_deadline = deadline_of(cpu, cpu->stimecmp);
    cpu->stimer_due = false;
    if (riscv_timer_pending(cpu)) {
        cpu->host.ops->set_timer(&cpu->env, NEVER);
        riscv_irq_update(cpu);
        return;
    }
    cpu->host.ops->set_timer(&cpu->env, on ? cpu->stimer_deadline : NEVER);
}

void riscv_set_stimecmp(struct riscv_cpu *cpu, uint64_t value)
{
    cpu->stimecmp = value;
    riscv_timer_update(cpu);
}
