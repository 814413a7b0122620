/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Page walks against a naive walker that follows the privileged specification step by step. */
#include "hart.h"

enum { WALKS = 60000 };

/* --- the naive walker: section 4.3.2, steps 1 to 9, with Svnapot and Svade or Svadu --- */

struct naive {
    enum { NAIVE_OK, NAIVE_PAGE, NAIVE_ACCESS } result;
    uint64_t pa, leaf_size;
    uint64_t set_at, set_to; /* the entry that hardware updated, 0 none */
    bool global;
};

struct question {
    uint64_t satp, va;
    enum isa_access access;
    unsigned priv;
    bool sum, mxr, adue;
};

static struct naive answer(struct hart *h, const struct question *q)
{
    unsigned mode = (unsigned)(q->satp >> 60);
    unsigned levels = mode - 5; /* Sv39, Sv48 and Sv57 are 8, 9 and 10 */
    unsigned va_bits = 12 + 9 * levels;
    struct naive page = {.result = NAIVE_PAGE}, access = {.result = NAIVE_ACCESS}, ok = {.result = NAIVE_OK};
    int m;

    if (mode == 0) {
        ok.pa = q->va;
        return naive_pmp(h->cpu, q->va, 1, q->access, q->priv, &m) ? ok : access;
    }
    /* Bits above the virtual address must equal its highest. */
    for (unsigned bit = va_bits; bit < 64; bit++)
        if ((q->va >> bit & 1) != (q->va >> (va_bits - 1) & 1))
            return page;

    uint64_t a = (q->satp & 0xfffffffffff) * 4096; /* step 1 */
    for (int i = (int)levels - 1;; i--) {
        uint64_t at = a + (q->va >> (12 + 9 * i) & 511) * 8, pte;
        if (!naive_pmp(h->cpu, at, 8, ISA_LOAD, 1, &m) || mem_read(h->mem, GPA(at), &pte, 8)) /* step 2 */
            return access;
        bool v = pte & 1, r = pte & 2, w = pte & 4, x = pte & 8, u = pte & 16, n = pte >> 63;
        uint64_t ppn = pte >> 10 & 0xfffffffffff;
        if (!v || (!r && w) || (pte >> 54 & 0x1ff)) /* step 3; bits 62-61 without Svpbmt, 60-54 reserved */
            return page;
        ok.global |= pte >> 5 & 1;
        if (!r && !x) { /* step 4: a pointer */
            if (n || (pte & 0xd0) || i == 0)
                return page;
            a = ppn * 4096;
            continue;
        }
        /* step 5 */
        if (q->access == ISA_LOAD && !(r || (q->mxr && x)))
            return page;
        if (q->access == ISA_STORE && !w)
            return page;
        if (q->access == ISA_FETCH && !x)
            return page;
        if (q->priv == 0 && !u)
            return page;
        if (q->priv == 1 && u && (q->access == ISA_FETCH || !q->sum))
            return page;
        /* step 6 */
        if (i > 0 && ppn % (UINT64_C(1) << (9 * i)))
            return page;
        if (n && (i > 0 || ppn % 16 != 8))
            return page;
        /* step 7 */
        bool mark = !(pte & 64) || (q->access == ISA_STORE && !(pte & 128));
        if (mark) {
            if (!q->adue)
                return page;
            if (!naive_pmp(h->cpu, at, 8, ISA_STORE, 1, &m))
                return access;
            access.set_at = ok.set_at = at;
            access.set_to = ok.set_to = pte | 64 | (q->access == ISA_STORE ? 128 : 0);
        }
        /* step 8 */
        ok.leaf_size = n ? 65536 : UINT64_C(4096) << (9 * i);
        ok.pa = ppn * 4096 / ok.leaf_size * ok.leaf_size + q->va % ok.leaf_size;
        return naive_pmp(h->cpu, ok.pa, 1, q->access, q->priv, &m) ? ok : access;
    }
}

/* --- random tables --- */

static uint64_t random_page(void)
{
    if (hart_random() % 64 == 0)
        return hart_random() & bits_mask(44);
    return (HART_RAM + (hart_random() % (HART_RAM_SIZE / 4096)) * 4096) >> 12;
}

static uint64_t random_pte(unsigned level)
{
    uint64_t ppn = random_page(), pte;

    if (level && hart_random() % 5) {
        pte = ppn << 10 | 1; /* a pointer, sometimes global */
        if (hart_random() % 4 == 0)
            pte |= 32;
    } else {
        ppn = hart_random() & bits_mask(44);
        if (hart_random() % 16)
            ppn &= ~bits_mask(9 * level);
        if (hart_random() % 2)
            ppn = (ppn & bits_mask(9 * level)) | (HART_RAM >> 12 & ~bits_mask(9 * level));
        pte = ppn << 10 | 1 | (hart_random() & 0xfe);
        if (hart_random() % 3)
            pte |= 0xc0;
        if (hart_random() % 2)
            pte |= 2;
        if (hart_random() % 6 == 0) {
            pte |= BIT(63);
            if (hart_random() % 4)
                pte = bits_set(pte, 10, 4, 8);
        }
    }
    if (hart_random() % 24 == 0)
        pte ^= BIT(hart_random() % 64);
    if (hart_random() % 24 == 0)
        pte ^= BIT(54 + hart_random() % 10);
    return pte | (hart_random() & 0x300); /* bits for software */
}

/* Tables on the way of va, and satp. */
static uint64_t build(struct hart *h, uint64_t va, unsigned levels)
{
    uint64_t root = random_page(), table = root << 12;

    for (unsigned level = levels; level-- > 0;) {
        uint64_t pte = random_pte(level);
        if (mem_write(h->mem, GPA(table + (va >> (12 + 9 * level) & 511) * 8), &pte, 8))
            break;
        table = (pte >> 10 & bits_mask(44)) << 12;
    }
    return (uint64_t)(levels + 5) << 60 | (hart_random() & 0xffff) << 44 | root;
}

static void random_pmp(struct hart *h)
{
    riscv_pmp_reset(h->cpu);
    /* Some holes in RAM and outside, then everything. */
    for (unsigned i = 0; i < 4; i++)
        hart_write_m(h, 0x3b0 + i,
                     (HART_RAM + (hart_random() % HART_RAM_SIZE)) >> 2 | bits_mask(hart_random() % 14));
    uint64_t cfg = hart_random() & UINT64_C(0x7f7f7f7f), rwx = 0x1f;
    if (hart_random() % 2)
        cfg |= UINT64_C(0x01010101) << (hart_random() % 3);
    hart_write_m(h, 0x3b4, UINT64_MAX);
    hart_write_m(h, 0x3a0, cfg | rwx << 32);
}

/* --- comparison --- */

static const struct {
    unsigned priv;
    bool sum, mxr;
} indexes[] = {{0, 0, 0}, {0, 0, 1}, {1, 0, 0}, {1, 1, 0}, {1, 0, 1}, {1, 1, 1}};

/* Whatever the result lets be cached has to be true of every address in its block, without any further
 * update. */
static void check_cacheable(struct hart *h, struct question q, const struct isa_walk *got)
{
    static const uint8_t bit[] = {ISA_PROT_R, ISA_PROT_W, ISA_PROT_X};
    uint64_t va = q.va;
    /* The 16 entries of a NAPOT range must agree (Svnapot): that is the guest's business and not so in these
     * tables. */
    uint64_t size = answer(h, &q).leaf_size == 65536 ? MIN(got->size, 4096) : got->size;

    g_assert_true(is_power_of_two(got->size));
    g_assert_cmphex(va & (got->size - 1), ==, got->gpa.v & (got->size - 1));
    g_assert_true(got->prot & bit[q.access]);
    for (unsigned n = 0; n < 3; n++)
        for (q.access = ISA_LOAD; q.access <= ISA_FETCH; q.access++) {
            if (!(got->prot & bit[q.access]))
                continue;
            uint64_t offset = n == 0 ? 0 : n == 1 ? size - 1 : hart_random() & (size - 1);
            q.va = align_down(va, size) + offset;
            struct naive there = answer(h, &q);
            g_assert_cmpint(there.result, ==, NAIVE_OK);
            g_assert_cmphex(there.set_at, ==, 0);
            g_assert_cmphex(there.pa, ==, align_down(got->gpa.v, size) + offset);
        }
}

static void one_walk(struct hart *h, const struct question *q, unsigned mmu, bool plain_pmp, unsigned *counts)
{
    static const uint8_t cause[3][3] = {{0, 0, 0}, {13, 15, 12}, {5, 7, 1}};
    struct naive expect = answer(h, q);
    struct isa_walk got;
    uint64_t pte;
    int rc = riscv_walk(&h->cpu->env, GVA(q->va), q->access, mmu, &got);

    counts[expect.result]++;
    if (expect.set_at) {
        counts[3]++;
        g_assert_cmpint(mem_read(h->mem, GPA(expect.set_at), &pte, 8), ==, 0);
        g_assert_cmphex(pte, ==, expect.set_to);
    }
    if (expect.result != NAIVE_OK) {
        g_assert_cmpint(rc, ==, 1);
        g_assert_true(h->cpu->env.exc.pending);
        g_assert_cmpuint(h->cpu->env.exc.cause, ==, cause[expect.result][q->access]);
        g_assert_cmphex(h->cpu->env.exc.value, ==, q->va);
        h->cpu->env.exc.pending = false;
        return;
    }
    g_assert_cmpint(rc, ==, 0);
    g_assert_false(h->cpu->env.exc.pending);
    g_assert_cmphex(got.gpa.v, ==, expect.pa);
    if (q->satp >> 60) {
        g_assert_true(got.global == expect.global && !got.identity);
        g_assert_cmphex(got.size, <=, expect.leaf_size);
        if (plain_pmp)
            g_assert_cmphex(got.size, ==, expect.leaf_size);
    } else {
        g_assert_true(got.identity && !got.global);
    }
    check_cacheable(h, *q, &got);
}

static void test_random(void)
{
    struct hart *h = hart_new(true);
    unsigned counts[4] = {0};

    for (unsigned n = 0; n < WALKS; n++) {
        unsigned levels = 3 + hart_random() % 3, mmu = hart_random() % 6;
        struct question q = {.va = (uint64_t)bits_sext(hart_random(), 12 + 9 * levels)};
        bool plain = n % 4096 < 3072;
        if (n % 4096 == 0) {
            riscv_pmp_reset(h->cpu);
            hart_write_m(h, 0x3b0, UINT64_MAX);
            hart_write_m(h, 0x3a0, 0x1f);
        } else if (!plain && n % 8 == 0) {
            random_pmp(h);
        }
        if (hart_random() % 64 == 0)
            q.va ^= BIT(hart_random() % 64);
        q.satp = build(h, q.va, levels);
        if (hart_random() % 64 == 0) {
            q.satp = 0;
            q.va = HART_RAM + hart_random() % HART_RAM_SIZE;
        }
        q.access = (enum isa_access)(hart_random() % 3);
        q.adue = hart_random() % 2;
        q.priv = indexes[mmu].priv, q.sum = indexes[mmu].sum, q.mxr = indexes[mmu].mxr;
        hart_write_m(h, 0x180, q.satp);
        hart_write_m(h, 0x30a, q.adue ? ENVCFG_ADUE : 0);
        one_walk(h, &q, mmu, plain, counts);
        /* The same again: updates are done, so a store that was allowed can be cached. */
        one_walk(h, &q, mmu, plain, counts);
    }
    g_test_message("%u translations, %u page faults, %u access faults, %u updates", counts[0], counts[1],
                   counts[2], counts[3]);
    /* Enough of each kind to mean something. */
    for (unsigned i = 0; i < 4; i++)
        g_assert_cmpuint(counts[i], >, WALKS / 100);
    hart_free(h);
}

/* M-mode: no tables whatever satp says, PMP only. */
static void test_machine(void)
{
    struct hart *h = hart_new(false);
    struct isa_walk got;

    hart_write(h, 0x180, UINT64_C(8) << 60 | HART_RAM >> 12);
    g_assert_cmpint(riscv_walk(&h->cpu->env, GVA(HART_RAM + 5), ISA_STORE, RISCV_MMU_M, &got), ==, 0);
    g_assert_cmphex(got.gpa.v, ==, HART_RAM + 5);
    g_assert_cmphex(got.size, ==, BIT(56));
    g_assert_true(got.identity && got.global);
    /* A locked entry binds M-mode: the page can be read, and the block ends where the entry does. */
    hart_write(h, 0x3b0, HART_RAM >> 2 | bits_mask(9));
    hart_write(h, 0x3a0, 0x99);
    g_assert_cmpint(riscv_walk(&h->cpu->env, GVA(HART_RAM + 5), ISA_STORE, RISCV_MMU_M, &got), ==, 1);
    g_assert_cmpuint(h->cpu->env.exc.cause, ==, RISCV_EXC_STORE_ACCESS);
    g_assert_cmpint(riscv_walk(&h->cpu->env, GVA(HART_RAM + 5), ISA_LOAD, RISCV_MMU_M, &got), ==, 0);
    g_assert_cmphex(got.size, ==, 4096);
    g_assert_cmphex(got.prot, ==, ISA_PROT_R);
    hart_free(h);
}

/* Another hart changes an entry while accessed and dirty are set in it: neither change may be lost. */
struct racer {
    uint64_t *pte;
    _Atomic bool stop;
    uint64_t flips;
};

static void *flip(void *opaque)
{
    struct racer *r = opaque;

    while (!atomic_load(&r->stop)) {
        __atomic_fetch_add(r->pte, BIT(10), __ATOMIC_SEQ_CST); /* the page number counts */
        r->flips++;
    }
    return NULL;
}

static void test_update_race(void)
{
    struct hart *h = hart_new(true);
    const struct mem_block *ram = mem_find(h->mem, GPA(HART_RAM));
    struct racer r = {.pte = (uint64_t *)(void *)(ram->host + 0x2000)};
    uint64_t pointers[] = {(HART_RAM + 0x1000) >> 2 | 1, (HART_RAM + 0x2000) >> 2 | 1},
             first = HART_RAM >> 2 | 7;

    mem_write(h->mem, GPA(HART_RAM), &pointers[0], 8);
    mem_write(h->mem, GPA(HART_RAM + 0x1000), &pointers[1], 8);
    mem_write(h->mem, GPA(HART_RAM + 0x2000), &first, 8);
    riscv_set_adue(h->cpu, true);
    hart_write_m(h, 0x180, UINT64_C(8) << 60 | HART_RAM >> 12);
    GThread *thread = g_thread_new("flip", flip, &r);
    for (unsigned n = 0; n < 20000; n++) {
        struct isa_walk got;
        g_assert_cmpint(riscv_walk(&h->cpu->env, GVA(8), ISA_STORE, RISCV_MMU_S, &got), ==, 0);
        g_assert_cmphex(__atomic_fetch_and(r.pte, ~UINT64_C(0xc0), __ATOMIC_SEQ_CST) & 0xc0, ==, 0xc0);
    }
    atomic_store(&r.stop, true);
    g_thread_join(thread);
    g_assert_cmphex((*r.pte - first) >> 10, ==, r.flips);
    hart_free(h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/riscv/mmu/machine", test_machine);
    g_test_add_func("/riscv/mmu/random-tables", test_random);
    g_test_add_func("/riscv/mmu/update-race", test_update_race);
    return g_test_run();
}
