/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the architecture says an access does, computed anew each time: the model of test_softmmu.c. */
#ifndef HOSTEL_TESTS_ACCEL_SOFTMMU_MODEL_H
#define HOSTEL_TESTS_ACCEL_SOFTMMU_MODEL_H

#include <string.h>

#include "accel/software/software.h"
#include "rig.h"

enum { PAGES = RAM_SIZE / PAGE, DATA = 512, DEVICE = 0x3000000, N_SPACES = 6, PMP_RULES = 5, STEPS = 60000 };
enum { F_V = 1, F_R = 2, F_W = 4, F_X = 8, F_U = 16, F_G = 32, F_A = 64, F_D = 128 };

/* What tables there are, as page numbers of RAM. */
enum { TABLE_FIRST = 8, GLOBAL_L1 = TABLE_FIRST, GLOBAL_L0, SPACE_TABLES };
enum {
    ROOT,
    L3_LOW,
    L2_LOW,
    L1_LOW,
    L0_A,
    L0_B,
    TABLES_PER_SPACE,
    L3_HIGH = TABLES_PER_SPACE,
    L2_HIGH,
    ALL_TABLES
};

struct rule {
    uint8_t cfg;
    uint64_t addr;
};

struct test {
    struct rig rig;
    struct env *env;
    struct riscv_cpu *cpu;
    struct soft_vcpu *s;
    GRand *rand;
    uint8_t *shadow;
    bool dirty[PAGES];
    bool ad; /* hardware updates of A and D */
    struct rule pmp[RISCV_PMP_ENTRIES];
    uint64_t satp[N_SPACES];
    unsigned space, levels[N_SPACES];
    struct mem_listener listener;
    uint64_t reported_start, reported_size;
    unsigned reports, faults, hits, accesses;
    struct {
        uint64_t page;
        unsigned mmu;
    } recent[8]; /* accesses, to come back to */
};

static uint32_t below(struct test *t, uint32_t n)
{
    return g_rand_int(t->rand) % n;
}
static bool one_in(struct test *t, uint32_t n)
{
    return below(t, n) == 0;
}

/* --- the model: memory --- */

static uint8_t *shadow_at(struct test *t, uint64_t gpa)
{
    return gpa >= RAM && gpa - RAM < RAM_SIZE ? t->shadow + (gpa - RAM) : NULL;
}

static uint64_t shadow_get(struct test *t, uint64_t gpa)
{
    uint64_t v;
    memcpy(&v, shadow_at(t, gpa), sizeof(v));
    return v;
}

static void shadow_put(struct test *t, uint64_t gpa, const void *bytes, size_t size)
{
    memcpy(shadow_at(t, gpa), bytes, size);
    t->dirty[(gpa - RAM) / PAGE] = true;
}

/* The test's own writes go to both. */
static void put(struct test *t, uint64_t gpa, uint64_t v)
{
    rig_put(&t->rig, gpa, v);
    shadow_put(t, gpa, &v, sizeof(v));
}

/* --- the model: PMP and page tables --- */

struct outcome {
    unsigned cause; /* 0: none (no load, store or fetch of these tests is misaligned to an instruction) */
    uint64_t tval, gpa;
};

static bool rule_matches(const struct test *t, unsigned i, uint64_t byte)
{
    const struct rule *r = &t->pmp[i];
    uint64_t size = 8;
    switch (r->cfg >> 3 & 3) {
    case 1: return byte >= (i ? t->pmp[i - 1].addr << 2 : 0) && byte < r->addr << 2;
    case 2: return byte >> 2 == r->addr;
    case 3:
        for (uint64_t a = r->addr; a & 1; a >>= 1)
            size <<= 1;
        return byte / size == (r->addr << 2) / size;
    default: return false;
    }
}

static bool pmp_allows(const struct test *t, uint64_t gpa, unsigned size, unsigned need, unsigned priv)
{
    for (unsigned i = 0; i < RISCV_PMP_ENTRIES; i++) {
        unsigned n = 0;
        for (unsigned k = 0; k < size; k++)
            n += rule_matches(t, i, gpa + k);
        if (n && n < size)
            return false;
        if (n)
            return priv == RISCV_M || (t->pmp[i].cfg & need) == need;
    }
    return priv == RISCV_M;
}

static const struct {
    unsigned priv;
    bool sum, mxr;
} indexes[] = {
    [RISCV_MMU_U] = {RISCV_U, false, false},    [RISCV_MMU_U_MXR] = {RISCV_U, false, true},
    [RISCV_MMU_S] = {RISCV_S, false, false},    [RISCV_MMU_S_SUM] = {RISCV_S, true, false},
    [RISCV_MMU_S_MXR] = {RISCV_S, false, true}, [RISCV_MMU_S_SUM_MXR] = {RISCV_S, true, true},
    [RISCV_MMU_M] = {RISCV_M, false, false},
};

static bool leaf_allows(uint64_t e, unsigned mmu, bool store)
{
    if (indexes[mmu].priv == RISCV_U && !(e & F_U))
        return false;
    if (indexes[mmu].priv == RISCV_S && e & F_U && !indexes[mmu].sum)
        return false;
    return store ? e & F_W : e & F_R || (indexes[mmu].mxr && e & F_X);
}

/* 0 with *gpa; 1 page fault; 2 access fault. update: sets A and D in the shadow as the walk would. */
static int model_walk(struct test *t, uint64_t va, bool store, unsigned mmu, bool update, uint64_t *gpa)
{
    *gpa = va;
    if (indexes[mmu].priv == RISCV_M)
        return 0;
    unsigned levels = t->levels[t->space];
    uint64_t table = (t->satp[t->space] & bits_mask(44)) << 12;
    if ((uint64_t)((int64_t)(va << (64 - 12 - 9 * levels)) >> (64 - 12 - 9 * levels)) != va)
        return 1;
    for (unsigned level = levels; level-- > 0;) {
        uint64_t at = table + 8 * (va >> (12 + 9 * level) & 511);
        if (!shadow_at(t, at) || !pmp_allows(t, at, 8, F_V, RISCV_S))
            return 2;
        uint64_t e = shadow_get(t, at), ppn = e >> 10 & bits_mask(44);
        if (!(e & F_V) || (!(e & F_R) && e & F_W) || e >> 54 & 0x1ff)
            return 1;
        if (!(e & (F_R | F_X))) {
            if (e & (F_U | F_A | F_D) || e >> 63)
                return 1;
            table = ppn << 12;
            continue;
        }
        unsigned bits = 12 + 9 * level;
        if (!leaf_allows(e, mmu, store))
            return 1;
        if (e >> 63) {
            if (level || (ppn & 15) != 8)
                return 1;
            bits = 16;
        } else if (ppn & bits_mask(9 * level)) {
            return 1;
        }
        uint64_t want = e | F_A | (store ? F_D : 0);
        if (want != e) {
            if (!t->ad)
                return 1;
            if (!pmp_allows(t, at, 8, 2, RISCV_S))
                return 2;
            if (update)
                shadow_put(t, at, &want, sizeof(want));
        }
        *gpa = ((ppn << 12) & ~bits_mask(bits)) | (va & bits_mask(bits));
        return 0;
    }
    return 1;
}

/* One piece inside a page. */
static bool model_piece(struct test *t, uint64_t va, unsigned size, bool store, unsigned mmu,
                        struct outcome *out)
{
    bool whole = (size & (size - 1)) == 0 && !(va & (size - 1));
    int fault = model_walk(t, va, store, mmu, true, &out->gpa);
    out->tval = va;
    if (fault == 1)
        out->cause = store ? RISCV_EXC_STORE_PAGE : RISCV_EXC_LOAD_PAGE;
    if (fault == 2)
        out->cause = store ? RISCV_EXC_STORE_ACCESS : RISCV_EXC_LOAD_ACCESS;
    if (fault)
        return false;
    for (unsigned k = 0; k < size; k += whole ? size : 1)
        if (!pmp_allows(t, out->gpa + k, whole ? size : 1, store ? 2 : 1, indexes[mmu].priv)) {
            out->tval = va + k;
            out->cause = store ? RISCV_EXC_STORE_ACCESS : RISCV_EXC_LOAD_ACCESS;
            return false;
        }
    bool device = out->gpa >= DEVICE && out->gpa < DEVICE + PAGE;
    if (!shadow_at(t, out->gpa) && !device) {
        out->cause = store ? RISCV_EXC_STORE_ACCESS : RISCV_EXC_LOAD_ACCESS;
        return false;
    }
    return true;
}

#endif
