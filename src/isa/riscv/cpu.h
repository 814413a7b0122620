/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A RISC-V hart: state, mode word, MMU indexes, and what the parts of this folder offer each other. */
#ifndef HOSTEL_ISA_RISCV_CPU_H
#define HOSTEL_ISA_RISCV_CPU_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bits.h"
#include "engine/env.h"
#include "isa/isa.h"

enum riscv_priv { RISCV_U = 0, RISCV_S = 1, RISCV_M = 3 };

/* Register numbers of getreg/putreg: x0..x31 (x0 is never written), f0..f31 (NaN-boxed). env.reg[] holds them
 * in this order. */
enum { RISCV_REG_X0 = 0, RISCV_REG_F0 = 32, RISCV_REG_COUNT = 64 };

/* The mode word: everything a lifted block assumes beside its bytes.
 *   bits 0-1  privilege           bits 2-3  FS (0 off, 1 initial, 2 clean, 3 dirty)
 *   bits 4-6  frm                 bits 7-10 MMU index of loads and stores
 */
enum { RISCV_MODE_PRIV = 0, RISCV_MODE_FS = 2, RISCV_MODE_FRM = 4, RISCV_MODE_MMU = 7 };
static inline unsigned riscv_mode_priv(uint32_t mode)
{
    return mode & 3;
}

static inline unsigned riscv_mode_fs(uint32_t mode)
{
    return mode >> RISCV_MODE_FS & 3;
}

static inline unsigned riscv_mode_frm(uint32_t mode)
{
    return mode >> RISCV_MODE_FRM & 7;
}

static inline unsigned riscv_mode_mmu(uint32_t mode)
{
    return mode >> RISCV_MODE_MMU & 15;
}

/* MMU indexes: effective privilege with SUM and MXR, so that changing these (or MPRV) flushes nothing.
 * Fetches use RISCV_MMU_U, RISCV_MMU_S or RISCV_MMU_M by privilege. */
enum riscv_mmu {
    RISCV_MMU_U,
    RISCV_MMU_U_MXR,
    RISCV_MMU_S,
    RISCV_MMU_S_SUM,
    RISCV_MMU_S_MXR,
    RISCV_MMU_S_SUM_MXR,
    RISCV_MMU_M,
};

/* Exception causes (privileged specification 1.12, table 3.6). */
enum riscv_cause {
    RISCV_EXC_INSN_MISALIGNED = 0,
    RISCV_EXC_INSN_ACCESS = 1,
    RISCV_EXC_ILLEGAL = 2,
    RISCV_EXC_BREAKPOINT = 3,
    RISCV_EXC_LOAD_MISALIGNED = 4,
    RISCV_EXC_LOAD_ACCESS = 5,
    RISCV_EXC_STORE_MISALIGNED = 6,
    RISCV_EXC_STORE_ACCESS = 7,
    RISCV_EXC_ECALL_U = 8,
    RISCV_EXC_ECALL_S = 9,
    RISCV_EXC_ECALL_M = 11,
    RISCV_EXC_INSN_PAGE = 12,
    RISCV_EXC_LOAD_PAGE = 13,
    RISCV_EXC_STORE_PAGE = 15,
};

/* Interrupt numbers: bits of mip, mie and of env.irq_lines. */
enum riscv_irq {
    RISCV_IRQ_SSI = 1,
    RISCV_IRQ_MSI = 3,
    RISCV_IRQ_STI = 5,
    RISCV_IRQ_MTI = 7,
    RISCV_IRQ_SEI = 9,
    RISCV_IRQ_MEI = 11,
};

enum { RISCV_PMP_ENTRIES = 16 };

struct riscv_cpu {
    struct env env; /* first */

    uint8_t priv; /* enum riscv_priv */
    uint8_t frm;
    /* M and S mode CSRs, values as the guest last left them (WARL already applied). */
    uint64_t mstatus; /* also the sstatus view; FS lives here */
    uint64_t misa, mtvec, mscratch, mepc, mcause, mtval, medeleg, mideleg, mie, mcounteren, mcountinhibit,
        menvcfg;
    uint64_t stvec, sscratch, sepc, scause, stval, satp, scounteren, senvcfg, stimecmp;
    /* Bits of mip that software set (SSIP, STIP without Sstc, SEIP). Another hart's firmware call sets SSIP
     * here (an inter-processor interrupt), so it is changed by atomic_fetch_or and atomic_fetch_and alone,
     * never by load and store. */
    _Atomic uint64_t soft_ip;
    uint64_t stimer_deadline;                /* guest ns at which stimecmp is reached (timer.c) */
    bool stimer_due;                         /* and has been seen to be */
    uint64_t mhpmcounter[32], mhpmevent[32]; /* cycle and instret, [0] and [2]: to be added to env.icount, or
                                                the value itself while mcountinhibit stops the counter */
    uint8_t pmpcfg[RISCV_PMP_ENTRIES];
    uint64_t pmpaddr[RISCV_PMP_ENTRIES];
    /* Bytes an entry matches, empty: first > last (pmp.c). */
    uint64_t pmp_first[RISCV_PMP_ENTRIES], pmp_last[RISCV_PMP_ENTRIES];
    uint8_t pmp_count; /* entries from here on are OFF; 0: M-mode may do everything, S and U nothing */

    /* configuration */
    struct cpu_host host;
    unsigned index;
    uint64_t hartid, timebase_hz;
    bool builtin_firmware;
};

static inline struct riscv_cpu *riscv_cpu(struct env *env)
{
    return (struct riscv_cpu *)(void *)env;
}

static inline const struct riscv_cpu *riscv_cpu_const(const struct env *env)
{
    return (const struct riscv_cpu *)(const void *)env;
}

extern const struct isa isa_riscv64;
extern const struct ir_target riscv_target; /* regs.c, helpers in helpers.def */

/* --- mode (mode.c): recomputes env.mode from privilege, mstatus and frm; call behind every change --- */
void riscv_update_mode(struct riscv_cpu *cpu);

/* --- lifting (lift*.c) --- */
int riscv_lift(const struct isa_code *code, struct ir_block *out);

/* --- traps (trap.c) --- */
/* Records an exception in env.exc. */
void riscv_raise(struct riscv_cpu *cpu, enum riscv_cause cause, uint64_t tval);
void riscv_take_exception(struct env *env);
bool riscv_poll_interrupt(struct env *env);
bool riscv_wakes(struct env *env);
/* The mip value a guest would read now: lines, timer, software bits. */
uint64_t riscv_mip(struct riscv_cpu *cpu);
/* mret and sret: privilege, interrupt enables and env.pc. Illegal use is recorded in env.exc. */
void riscv_mret(struct riscv_cpu *cpu);
void riscv_sret(struct riscv_cpu *cpu);

/* --- control and status registers (csr.c, csrs.def) --- */
/* Reads, then (write) stores (old & ~clear) | set, as csrrw (clear = all ones), csrrs, csrrc need. 0, or 1
 * with an illegal-instruction exception recorded (the caller puts the instruction's bits in tval). *old: the
 * value read. */
int riscv_csr_access(struct riscv_cpu *cpu, unsigned csr, bool read, bool write, uint64_t clear, uint64_t set,
                     uint64_t *old);
/* Can writing this CSR change mode, mappings or enable interrupts, so that the block must end? Constant
 * facts, for the lifter. */
bool riscv_csr_ends_block(unsigned csr);

/* --- core files (core.c) --- */
unsigned riscv_core_note(const struct env *env, enum isa_note kind, uint32_t id, uint8_t *note);

/* --- time (timer.c) --- */
/* The time counter now, in ticks of timebase_hz. */
uint64_t riscv_time(struct riscv_cpu *cpu);
/* Writes stimecmp, as the guest or built-in firmware (SBI set_timer) does. This vCPU's thread. */
void riscv_set_stimecmp(struct riscv_cpu *cpu, uint64_t value);

/* --- memory (mmu.c, pmp.c) --- */
/* Hardware updates of A and D (Svadu, menvcfg.ADUE) instead of page faults (Svade): for built-in firmware.
 * Drops this vCPU's cached translations. */
void riscv_set_adue(struct riscv_cpu *cpu, bool on);
int riscv_walk(struct env *env, struct gva va, enum isa_access access, unsigned mmu, struct isa_walk *out);
/* Is the access allowed to [addr, addr + size) for the privilege? *span: the aligned power of two around addr
 * (up to 2^56) with the same answer for all three kinds of access; *prot the kinds. */
bool riscv_pmp_check(const struct riscv_cpu *cpu, struct gpa addr, uint64_t size, enum isa_access access,
                     unsigned priv, uint64_t *span, uint8_t *prot);

/* ISA string ("rv64imafdc_zicsr_...") and the pieces of the device tree's riscv,isa-extensions:
 * NULL-terminated, static. */
const char *riscv_isa_string(void);
const char *const *riscv_isa_extensions(void);

#endif
