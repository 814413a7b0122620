/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Address translation: Bare, Sv39, Sv48, Sv57 with Svnapot, Svade and Svadu; each access checked by PMP. */
/*
 * Theory of operation
 *
 * The walk is the one of the privileged specification 1.12, section 4.3.2, for 3, 4 or 5 levels. It ends in
 * one of three ways: a translation, a page fault (the tables forbid the access) or an access fault (PMP
 * forbids an access, either the walker's own to a table or the one asked for; or a table is not in RAM).
 *
 * What is returned may be cached, so it is valid for every access of the same MMU index that its protection
 * names: execution counts the rules of fetches, reading those of loads, and writing is left out while the
 * dirty bit is clear, so that the first store walks again. The size is that of the leaf, clipped to the
 * largest aligned block around the address for which PMP gives one answer; addresses inside have the same
 * offset on both sides.
 *
 * Accessed and dirty bits are set with a compare-and-swap on the entry as it was read; when another hart has
 * changed it meanwhile the walk starts over, as the specification asks.
 */
#include <errno.h>

#include "isa/riscv/priv.h"
#include "mem/mem.h"

#define PTE_V BIT(0)
#define PTE_R BIT(1)
#define PTE_W BIT(2)
#define PTE_X BIT(3)
#define PTE_U BIT(4)
#define PTE_G BIT(5)
#define PTE_A BIT(6)
#define PTE_D BIT(7)
#define PTE_N BIT(63)
enum { PTE_PPN_SHIFT = 10, PTE_PPN_BITS = 44, VPN_BITS = 9, NAPOT_BITS = 4 };
/* Bits 60-54 are reserved, 62-61 belong to Svpbmt, which is not there. */
#define PTE_RESERVED (bits_mask(63) & ~bits_mask(54))

struct walker {
    struct riscv_cpu *cpu;
    uint64_t va;
    enum isa_access access;
    unsigned priv; /* effective: RISCV_S or RISCV_U */
    bool sum, mxr;
};

enum { WALK_DONE, WALK_FAULT, WALK_AGAIN };

static int fail(const struct walker *w, bool page)
{
    static const uint8_t cause[2][3] = {
        {[ISA_LOAD] = RISCV_EXC_LOAD_ACCESS,
         [ISA_STORE] = RISCV_EXC_STORE_ACCESS,
         [ISA_FETCH] = RISCV_EXC_INSN_ACCESS},
        {[ISA_LOAD] = RISCV_EXC_LOAD_PAGE,
         [ISA_STORE] = RISCV_EXC_STORE_PAGE,
         [ISA_FETCH] = RISCV_EXC_INSN_PAGE},
    };

    riscv_raise(w->cpu, cause[page][w->access], w->va);
    return WALK_FAULT;
}

static int page_fault(const struct walker *w)
{
    return fail(w, true);
}

static int access_fault(const struct walker *w)
{
    return fail(w, false);
}

static bool pmp_allows(const struct walker *w, uint64_t pa, enum isa_access access)
{
    uint64_t span;
    uint8_t prot;

    return riscv_pmp_check(w->cpu, GPA(pa), sizeof(uint64_t), access, RISCV_S, &span, &prot);
}

/* What a leaf lets the effective privilege do, dirty bit aside. */
static uint8_t leaf_prot(const struct walker *w, uint64_t pte)
{
    bool user = pte & PTE_U;
    uint8_t prot = 0;

    if (pte & PTE_R || (w->mxr && pte & PTE_X))
        prot |= ISA_PROT_R;
    if (pte & PTE_W)
        prot |= ISA_PROT_W;
    if (pte & PTE_X)
        prot |= ISA_PROT_X;
    if (w->priv == RISCV_U)
        return user ? prot : 0;
    /* S-mode never executes what belongs to user programs, and reads and writes it only with SUM. */
    if (user)
        return w->sum ? prot & (ISA_PROT_R | ISA_PROT_W) : 0;
    return prot;
}

/* Is a leaf at this level well-formed? Gives its size in bits. */
static bool leaf_bits(uint64_t pte, unsigned level, unsigned *bits)
{
    uint64_t ppn = bits_get(pte, PTE_PPN_SHIFT, PTE_PPN_BITS);

    *bits = ENV_PAGE_BITS + VPN_BITS * level;
    if (pte & PTE_N) {
        /* Svnapot: 64 KiB on the last level is all that is defined. */
        *bits += NAPOT_BITS;
        return level == 0 && (ppn & bits_mask(NAPOT_BITS)) == BIT(NAPOT_BITS - 1);
    }
    return (ppn & bits_mask(VPN_BITS * level)) == 0;
}

/* Steps 5 to 8: the leaf at pte_pa allows the access or it does not. */
static int take_leaf(const struct walker *w, uint64_t pte_pa, uint64_t pte, unsigned level,
                     struct isa_walk *out)
{
    static const uint8_t needs[] = {
        [ISA_LOAD] = ISA_PROT_R, [ISA_STORE] = ISA_PROT_W, [ISA_FETCH] = ISA_PROT_X};
    uint8_t prot = leaf_prot(w, pte), pmp_prot;
    uint64_t span, marks = PTE_A | (w->access == ISA_STORE ? PTE_D : 0);
    unsigned bits;

    if (!(prot & needs[w->access]) || !leaf_bits(pte, level, &bits))
        return page_fault(w);
    if ((pte & marks) != marks) {
        if (!(w->cpu->menvcfg & ENVCFG_ADUE))
            return page_fault(w);
        if (!pmp_allows(w, pte_pa, ISA_STORE))
            return access_fault(w);
        uint64_t found = pte;
        int rc = mem_cas64(w->cpu->host.mem, GPA(pte_pa), &found, pte | marks);
        if (rc == -EAGAIN)
            return WALK_AGAIN;
        if (rc)
            return access_fault(w);
        pte |= marks;
    }
    if (!(pte & PTE_D))
        prot &= (uint8_t)~ISA_PROT_W;

    uint64_t base = bits_get(pte, PTE_PPN_SHIFT, PTE_PPN_BITS) << ENV_PAGE_BITS;
    out->gpa = GPA((base & ~bits_mask(bits)) | (w->va & bits_mask(bits)));
    if (!riscv_pmp_check(w->cpu, out->gpa, 1, w->access, w->priv, &span, &pmp_prot))
        return access_fault(w);
    out->size = span < BIT(bits) ? span : BIT(bits);
    out->leaf = BIT(bits);
    out->prot = prot & pmp_prot;
    return WALK_DONE;
}

static int walk_tables(const struct walker *w, uint64_t satp, struct isa_walk *out)
{
    unsigned levels = 3 + satp_mode(satp) - SATP_SV39;
    uint64_t table = bits_get(satp, 0, PTE_PPN_BITS) << ENV_PAGE_BITS;

    if (bits_sext(w->va, ENV_PAGE_BITS + VPN_BITS * levels) != (int64_t)w->va)
        return page_fault(w);
    out->global = out->identity = false;
    for (unsigned level = levels; level-- > 0;) {
        uint64_t vpn = bits_get(w->va, ENV_PAGE_BITS + VPN_BITS * level, VPN_BITS);
        uint64_t pte_pa = table + vpn * sizeof(uint64_t), pte;

        if (!pmp_allows(w, pte_pa, ISA_LOAD) || mem_load64(w->cpu->host.mem, GPA(pte_pa), &pte))
            return access_fault(w);
        if (!(pte & PTE_V) || (pte & (PTE_R | PTE_W)) == PTE_W || pte & PTE_RESERVED)
            return page_fault(w);
        out->global |= (pte & PTE_G) != 0;
        if (pte & (PTE_R | PTE_X))
            return take_leaf(w, pte_pa, pte, level, out);
        /* In a pointer these are reserved. */
        if (pte & (PTE_U | PTE_A | PTE_D | PTE_N))
            return page_fault(w);
        table = bits_get(pte, PTE_PPN_SHIFT, PTE_PPN_BITS) << ENV_PAGE_BITS;
    }
    return page_fault(w);
}

/* M-mode and Bare: the address itself. Global in M-mode only, which has no address spaces; Bare is one of
 * S-mode's. */
static int walk_identity(const struct walker *w, struct isa_walk *out)
{
    uint64_t span;
    uint8_t prot;

    if (!riscv_pmp_check(w->cpu, GPA(w->va), 1, w->access, w->priv, &span, &prot))
        return access_fault(w);
    *out = (struct isa_walk){
        .gpa = GPA(w->va),
        .size = span,
        .prot = prot,
        .global = w->priv == RISCV_M,
        .identity = true,
    };
    return WALK_DONE;
}

int riscv_walk(struct env *env, struct gva va, enum isa_access access, unsigned mmu, struct isa_walk *out)
{
    static const struct {
        uint8_t priv;
        bool sum, mxr;
    } of_index[] = {
        [RISCV_MMU_U] = {RISCV_U, false, false},    [RISCV_MMU_U_MXR] = {RISCV_U, false, true},
        [RISCV_MMU_S] = {RISCV_S, false, false},    [RISCV_MMU_S_SUM] = {RISCV_S, true, false},
        [RISCV_MMU_S_MXR] = {RISCV_S, false, true}, [RISCV_MMU_S_SUM_MXR] = {RISCV_S, true, true},
        [RISCV_MMU_M] = {RISCV_M, false, false},
    };
    struct riscv_cpu *cpu = riscv_cpu(env);
    const struct walker w = {
        .cpu = cpu,
        .va = va.v,
        .access = access,
        .priv = of_index[mmu].priv,
        .sum = of_index[mmu].sum,
        .mxr = of_index[mmu].mxr,
    };
    int rc;

    if (w.priv == RISCV_M || satp_mode(cpu->satp) == SATP_BARE)
        return walk_identity(&w, out);
    do {
        rc = walk_tables(&w, cpu->satp, out);
    } while (rc == WALK_AGAIN);
    return rc;
}

void riscv_set_adue(struct riscv_cpu *cpu, bool on)
{
    cpu->menvcfg = on ? cpu->menvcfg | ENVCFG_ADUE : cpu->menvcfg & ~ENVCFG_ADUE;
    cpu->host.ops->flush(&cpu->env, &(struct cpu_flush){.one_page = false});
}
