/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Physical memory protection: 16 entries, 4-byte granularity (privileged specification 1.12, section 3.7). */
/*
 * Each write to a register of the unit is turned into the first and last byte of the ranges concerned, so
 * that a check only compares. A write of one entry changes two ranges: an address register is also the lower
 * bound of a TOR entry above it.
 */
#include "isa/riscv/priv.h"

#define PMPADDR_MASK bits_mask(RISCV_PHYS_BITS - 2)

/* The range of an entry, from its two registers and the one below. Empty: first > last. */
static void entry_range(const struct riscv_cpu *cpu, unsigned i, uint64_t *first, uint64_t *last)
{
    uint64_t addr = cpu->pmpaddr[i];
    uint64_t below = i ? cpu->pmpaddr[i - 1] : 0;
    uint64_t ones;

    switch (pmp_match(cpu->pmpcfg[i])) {
    case PMP_TOR:
        if (below >= addr)
            break;
        *first = below << 2;
        *last = (addr << 2) - 1;
        return;
    case PMP_NA4:
        *first = addr << 2;
        *last = *first + 3;
        return;
    case PMP_NAPOT:
        /* n trailing ones: 2^(n + 3) bytes */
        ones = addr ^ (addr + 1);
        *first = (addr & ~ones) << 2;
        *last = *first + (ones << 2 | 3);
        return;
    case PMP_OFF: break;
    }
    *first = 1;
    *last = 0;
}

static void pmp_changed(struct riscv_cpu *cpu)
{
    cpu->pmp_count = 0;
    for (unsigned i = 0; i < RISCV_PMP_ENTRIES; i++) {
        entry_range(cpu, i, &cpu->pmp_first[i], &cpu->pmp_last[i]);
        if (pmp_match(cpu->pmpcfg[i]) != PMP_OFF)
            cpu->pmp_count = (uint8_t)(i + 1);
    }
    cpu->host.ops->flush(&cpu->env, &(struct cpu_flush){.one_page = false});
}

/* A lock holds until reset; that of a TOR entry holds its lower bound too. */
static bool addr_locked(const struct riscv_cpu *cpu, unsigned i)
{
    if (cpu->pmpcfg[i] & PMP_L)
        return true;
    if (i + 1 == RISCV_PMP_ENTRIES)
        return false;
    return cpu->pmpcfg[i + 1] & PMP_L && pmp_match(cpu->pmpcfg[i + 1]) == PMP_TOR;
}

void riscv_pmpaddr_put(struct riscv_cpu *cpu, unsigned entry, uint64_t value)
{
    if (addr_locked(cpu, entry))
        return;
    cpu->pmpaddr[entry] = value & PMPADDR_MASK;
    pmp_changed(cpu);
}

uint64_t riscv_pmpcfg_get(const struct riscv_cpu *cpu, unsigned first)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 8; i++)
        value |= (uint64_t)cpu->pmpcfg[first + i] << (8 * i);
    return value;
}

/* Writable but not readable is reserved. */
static uint8_t cfg_legal(uint8_t value)
{
    enum { LEGAL = PMP_R | PMP_W | PMP_X | 3 << PMP_A_SHIFT | PMP_L };

    return (uint8_t)(value & (value & PMP_R ? LEGAL : LEGAL & ~PMP_W));
}

void riscv_pmpcfg_put(struct riscv_cpu *cpu, unsigned first, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        uint8_t cfg = cfg_legal((uint8_t)(value >> (8 * i)));
        if (!(cpu->pmpcfg[first + i] & PMP_L))
            cpu->pmpcfg[first + i] = cfg;
    }
    pmp_changed(cpu);
}

bool riscv_pmp_loaded(struct riscv_cpu *cpu)
{
    for (unsigned i = 0; i < RISCV_PMP_ENTRIES; i++)
        if (cpu->pmpcfg[i] != cfg_legal(cpu->pmpcfg[i]) || cpu->pmpaddr[i] & ~PMPADDR_MASK)
            return false;
    pmp_changed(cpu);
    return true;
}

void riscv_pmp_reset(struct riscv_cpu *cpu)
{
    for (unsigned i = 0; i < RISCV_PMP_ENTRIES; i++) {
        cpu->pmpcfg[i] = 0;
        cpu->pmpaddr[i] = 0;
    }
    pmp_changed(cpu);
}

/* Shrinks *bits until the aligned 2^*bits bytes around addr do not hold the byte at `other`. */
static void stay_clear(uint64_t addr, uint64_t other, unsigned *bits)
{
    unsigned differ = 63 - (unsigned)__builtin_clzll(addr ^ other);

    if (differ < *bits)
        *bits = differ;
}

bool riscv_pmp_check(const struct riscv_cpu *cpu, struct gpa addr, uint64_t size, enum isa_access access,
                     unsigned priv, uint64_t *span, uint8_t *prot)
{
    static const uint8_t needs[] = {
        [ISA_LOAD] = ISA_PROT_R, [ISA_STORE] = ISA_PROT_W, [ISA_FETCH] = ISA_PROT_X};
    uint64_t start = addr.v, end = addr.v + (size - 1);
    unsigned bits = RISCV_PHYS_BITS;
    uint8_t allowed = priv == RISCV_M ? ISA_PROT_R | ISA_PROT_W | ISA_PROT_X : 0;

    for (unsigned i = 0; i < cpu->pmp_count; i++) {
        uint64_t first = cpu->pmp_first[i], last = cpu->pmp_last[i];
        if (first > last)
            continue;
        if (end < first || start > last) {
            stay_clear(start, end < first ? first : last, &bits);
            continue;
        }
        uint8_t cfg = cpu->pmpcfg[i];
        if (priv != RISCV_M || cfg & PMP_L)
            allowed = cfg & (PMP_R | PMP_W | PMP_X);
        /* An entry that matches some bytes only refuses the access. */
        if (start < first || end > last) {
            allowed = 0;
            bits = 0;
            break;
        }
        if (first > 0)
            stay_clear(start, first - 1, &bits);
        stay_clear(start, last + 1, &bits);
        break;
    }
    *span = BIT(bits);
    *prot = allowed;
    return allowed & needs[access];
}
