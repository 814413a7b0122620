/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What an ISA's CPU needs from outside, as callbacks that accelerator and board provide. */
#ifndef HOSTEL_ISA_CPU_HOST_H
#define HOSTEL_ISA_CPU_HOST_H

#include <stdbool.h>
#include <stdint.h>

struct env;
struct mem;
struct bus;

/* Which cached translations to drop. */
struct cpu_flush {
    bool one_page; /* only the page of va */
    bool one_asid; /* only entries of asid that are not global */
    uint64_t va;
    uint32_t asid;
};

/* All callbacks are made on the calling vCPU's thread, outside running code or in a helper. */
struct cpu_host_ops {
    /* Drops cached translations of this vCPU. The block in progress must end with IR_STOP_NEXT. */
    void (*flush)(struct env *env, const struct cpu_flush *what);

    /* Drops cached translations of the vCPUs in the bit mask (bit n = vCPU index n), itself included, and
     * returns when none of them can use one any more. */
    void (*flush_remote)(struct env *env, uint64_t vcpus, const struct cpu_flush *what);

    /* Guest clock in ns. */
    uint64_t (*now)(struct env *env);

    /* From guest time deadline (ns, UINT64_MAX never) on, the vCPU is kicked with ENV_EXIT_IRQ (and woken).
     * One per vCPU. */
    void (*set_timer)(struct env *env, uint64_t deadline);

    /* Kicks another vCPU with ENV_EXIT_IRQ and wakes it. Any thread. */
    void (*kick)(struct env *env);

    /* A call into built-in firmware (RISC-V ecall from S with no M-mode software). True: handled, registers
     * updated, execution goes on behind the instruction. False: the guest takes the exception. NULL when
     * there is none. */
    bool (*firmware_call)(struct env *env, void *board);
};

struct cpu_host {
    const struct cpu_host_ops *ops;
    struct mem *mem;
    struct bus *bus;
    void *board; /* passed to firmware_call */
};

#endif
