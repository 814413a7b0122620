/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The privileged side of a hart: bits of its registers, and what csr, trap, mode, timer, mmu and pmp call of
 * each other. */
#ifndef HOSTEL_ISA_RISCV_PRIV_H
#define HOSTEL_ISA_RISCV_PRIV_H

#include "isa/riscv/cpu.h"

/* mstatus (privileged specification 1.12, section 3.1.6); sstatus shows some of it (4.1.1). */
#define MSTATUS_SIE BIT(1)
#define MSTATUS_MIE BIT(3)
#define MSTATUS_SPIE BIT(5)
#define MSTATUS_MPIE BIT(7)
#define MSTATUS_SPP BIT(8)
enum { MSTATUS_MPP_SHIFT = 11, MSTATUS_FS_SHIFT = 13 };
#define MSTATUS_MPP (UINT64_C(3) << MSTATUS_MPP_SHIFT)
#define MSTATUS_FS (UINT64_C(3) << MSTATUS_FS_SHIFT)
#define MSTATUS_MPRV BIT(17)
#define MSTATUS_SUM BIT(18)
#define MSTATUS_MXR BIT(19)
#define MSTATUS_TVM BIT(20)
#define MSTATUS_TW BIT(21)
#define MSTATUS_TSR BIT(22)
#define MSTATUS_UXL_64 (UINT64_C(2) << 32)
#define MSTATUS_SXL_64 (UINT64_C(2) << 34)
#define MSTATUS_SD BIT(63)

/* menvcfg (3.1.18, Sstc, Svadu) and senvcfg (4.1.10). */
#define ENVCFG_FIOM BIT(0)
enum { ENVCFG_CBIE_SHIFT = 4 };
#define ENVCFG_CBIE (UINT64_C(3) << ENVCFG_CBIE_SHIFT)
#define ENVCFG_CBCFE BIT(6)
#define ENVCFG_CBZE BIT(7)
#define ENVCFG_ADUE BIT(61)
#define ENVCFG_STCE BIT(63)

/* Interrupt bits of mip and mie. */
#define IP_SSIP BIT(RISCV_IRQ_SSI)
#define IP_MSIP BIT(RISCV_IRQ_MSI)
#define IP_STIP BIT(RISCV_IRQ_STI)
#define IP_MTIP BIT(RISCV_IRQ_MTI)
#define IP_SEIP BIT(RISCV_IRQ_SEI)
#define IP_MEIP BIT(RISCV_IRQ_MEI)
#define IP_SUPERVISOR (IP_SSIP | IP_STIP | IP_SEIP)
#define IP_ALL (IP_SUPERVISOR | IP_MSIP | IP_MTIP | IP_MEIP)

/* What M-mode can delegate: every synchronous cause but an ecall from M itself. */
#define MEDELEG_MASK UINT64_C(0xb3ff)

/* Counter bits of [m|s]counteren and mcountinhibit. */
enum { COUNTER_CY = 0, COUNTER_TM = 1, COUNTER_IR = 2 };
#define COUNTEREN_MASK UINT64_C(0xffffffff)

/* satp (4.1.11). */
enum { SATP_BARE = 0, SATP_SV39 = 8, SATP_SV48 = 9, SATP_SV57 = 10 };
static inline unsigned satp_mode(uint64_t satp)
{
    return (unsigned)(satp >> 60);
}

/* pmpcfg (3.7.1). */
enum { PMP_R = 1, PMP_W = 2, PMP_X = 4, PMP_A_SHIFT = 3, PMP_L = 0x80 };
enum pmp_match { PMP_OFF, PMP_TOR, PMP_NA4, PMP_NAPOT };
static inline enum pmp_match pmp_match(uint8_t cfg)
{
    return (enum pmp_match)(cfg >> PMP_A_SHIFT & 3);
}

/* Physical addresses have 56 bits. */
enum { RISCV_PHYS_BITS = 56 };

/* --- mode.c --- */
/* Changes the privilege: mode word, and the reservation of a load-reserved is lost. */
void riscv_set_priv(struct riscv_cpu *cpu, enum riscv_priv priv);
unsigned riscv_fetch_mmu(const struct env *env);
/* Turns the floating-point state dirty, as every write to it does. */
void riscv_fs_dirty(struct riscv_cpu *cpu);

/* --- trap.c --- */
/* Behind every change that may make an interrupt takeable: has the vCPU poll at the end of the block. */
void riscv_irq_update(struct riscv_cpu *cpu);

/* --- timer.c --- */
/* Behind every change of stimecmp or menvcfg.STCE: arms or disarms the host's timer. */
void riscv_timer_update(struct riscv_cpu *cpu);
/* Is the supervisor timer interrupt of Sstc pending? False while menvcfg.STCE is clear. */
bool riscv_timer_pending(struct riscv_cpu *cpu);

/* --- pmp.c --- */
/* pmpcfg0 or pmpcfg2 as 8 entries from `first`; writes leave locked entries alone. */
uint64_t riscv_pmpcfg_get(const struct riscv_cpu *cpu, unsigned first);
void riscv_pmpcfg_put(struct riscv_cpu *cpu, unsigned first, uint64_t value);
void riscv_pmpaddr_put(struct riscv_cpu *cpu, unsigned entry, uint64_t value);
/* The registers were loaded: false when they have values that no write leaves, else what follows from them.
 */
bool riscv_pmp_loaded(struct riscv_cpu *cpu);
/* All entries off. */
void riscv_pmp_reset(struct riscv_cpu *cpu);

/* --- csr.c --- */
/* The writable bits of mstatus from value, illegal fields as they were. Does not update the mode. */
void riscv_mstatus_put(struct riscv_cpu *cpu, uint64_t value);
/* Could writes have left the registers as they are (but for those of pmp.c)? */
bool riscv_csrs_legal(const struct riscv_cpu *cpu);

/* --- state.c --- */
extern const struct state_field riscv_state[];
enum { RISCV_STATE_VERSION = 1 };
bool riscv_loaded(struct env *env);

#endif
