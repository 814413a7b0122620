/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The code cache and the dispatcher: small programs that change code, mappings and each other while they run.
 */
/*
 * Each program computes a number that is wrong when one stale instruction, translation or wake-up slips
 * through, and the test knows the number. Programs end in rv_finish().
 */
#include <stdio.h>
#include <string.h>

#include "rig.h"

static uint64_t sum_to(uint64_t n, uint64_t mask)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += i & mask;
    return sum;
}

/* --- code that changes itself --- */

/* for (i = 0; i < n; i++) { write "addi a0, a0, i & 1023" at s1; fence.i; call s2 or s3 in turn; } with "ret"
 * behind it. */
static void patch_and_call(struct rv *p, uint64_t write, uint64_t call, uint64_t call_too, int n)
{
    rv_li(p, S1, 0);
    if (write >= WINDOW) {
        rv(p, ADDI(S1, ZERO, 1));
        rv(p, SLLI(S1, S1, 32));
    }
    rv_li(p, T0, (int64_t)(write & 0xffffffff));
    rv(p, ADD(S1, S1, T0));
    for (unsigned k = 0; k < 2; k++) {
        uint64_t to = k ? call_too : call;
        rv_li(p, S2 + k, (int64_t)(to & 0xffffffff));
        if (to >= WINDOW) {
            rv(p, ADDI(T0, ZERO, 1));
            rv(p, SLLI(T0, T0, 32));
            rv(p, ADD(S2 + k, S2 + k, T0));
        }
    }
    rv_li(p, S4, n);
    rv_li(p, S5, ADDI(A0, A0, 0));
    rv(p, ADDI(A0, ZERO, 0));
    rv(p, ADDI(S6, ZERO, 0));
    rv(p, ADDI(S11, ZERO, 0));
    uint64_t loop = rv_here(p);
    rv(p, ANDI(T0, S6, 1023));
    rv(p, SLLI(T0, T0, 20));
    rv(p, OR(T0, T0, S5));
    rv(p, SW(T0, S1, 0));
    rv(p, FENCE_I());
    rv(p, JALR(RA, S2));
    rv(p, ADD(T0, S2, ZERO));
    rv(p, ADD(S2, S3, ZERO));
    rv(p, ADD(S3, T0, ZERO));
    rv(p, ADDI(S6, S6, 1));
    rv_branch(p, BNE, S6, S4, loop);
    rv_finish(p);
}

static void test_patch(gconstpointer same_page)
{
    enum { N = 3000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){0});
    struct rv p = {.base = CODE};
    uint64_t at = same_page ? CODE + 0xf00 : FUNCTION;
    patch_and_call(&p, at, at, at, N);
    put_function(&r, at);
    run_one(&r, &p, 0, sum_to(N, 1023));
    struct vcpus_stats stats;
    vcpus_stats(r.vcpus, &stats);
    g_assert_cmpuint(stats.invalidations, >=, N - 1);
    rig_fini(&r);
}

/* One physical page seen at three virtual ones: written through the first, run through the others. */
static void test_patch_alias(void)
{
    enum { N = 3000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.supervisor = true});
    uint64_t satp = rig_tables(&r, 1);
    for (unsigned i = 0; i < 3; i++)
        rig_put(&r, pte_addr(i), pte(FUNCTION, PTE_LEAF));
    struct rv p = {.base = CODE};
    patch_and_call(&p, WINDOW + 0x100, WINDOW + PAGE + 0x100, WINDOW + 2 * PAGE + 0x100, N);
    put_function(&r, FUNCTION + 0x100);
    run_one(&r, &p, satp, sum_to(N, 1023));
    rig_fini(&r);
}

/* The store, the fence and the changed instruction follow each other in straight code. */
static void test_patch_ahead(void)
{
    enum { N = 3000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){0});
    struct rv p = {.base = CODE};
    rv_li(&p, S5, ADDI(A0, A0, 0));
    rv_li(&p, S4, N);
    rv(&p, ADDI(A0, ZERO, 0));
    rv(&p, ADDI(S6, ZERO, 0));
    rv(&p, ADDI(S11, ZERO, 0));
    rv_li(&p, S1, CODE);
    unsigned fix = p.n;
    rv(&p, 0);
    uint64_t loop = rv_here(&p);
    rv(&p, ANDI(T0, S6, 1023));
    rv(&p, SLLI(T0, T0, 20));
    rv(&p, OR(T0, T0, S5));
    rv(&p, SW(T0, S1, 0));
    rv(&p, FENCE_I());
    p.word[fix] = ADDI(S1, S1, (int)(rv_here(&p) - CODE));
    rv(&p, ADDI(A0, A0, 0));
    rv(&p, ADDI(S6, S6, 1));
    rv_branch(&p, BNE, S6, S4, loop);
    rv_finish(&p);
    run_one(&r, &p, 0, sum_to(N, 1023));
    rig_fini(&r);
}

/* --- an instruction that lies across a page boundary --- */

/* At the end of page a: a jump, linked directly, to "addi a0, a0, x" whose upper half (x and more) lies on
 * the next page; then ret. */
static void put_crossing(struct rig *r, uint64_t end_of_first, uint64_t second, int x)
{
    uint32_t insn = ADDI(A0, A0, x);
    uint16_t low = (uint16_t)insn, high = (uint16_t)(insn >> 16);
    uint32_t jump = rv_jal(ZERO, 6), ret = RET();
    g_assert_cmpint(mem_write(r->mem, GPA(end_of_first - 8), &jump, 4), ==, 0);
    g_assert_cmpint(mem_write(r->mem, GPA(end_of_first - 2), &low, 2), ==, 0);
    g_assert_cmpint(mem_write(r->mem, GPA(second), &high, 2), ==, 0);
    g_assert_cmpint(mem_write(r->mem, GPA(second + 2), &ret, 4), ==, 0);
}

/* The upper half changes under the jump that leads there. */
static void test_crossing_written(void)
{
    enum { N = 3000, SECOND = FUNCTION + PAGE };
    struct rig r;
    rig_init(&r, &(struct rig_config){0});
    put_crossing(&r, SECOND, SECOND, 0);
    struct rv p = {.base = CODE};
    rv_li(&p, S1, SECOND);
    rv_li(&p, S2, SECOND - 8);
    rv_li(&p, S4, N);
    rv_li(&p, S5, ADDI(A0, A0, 0) >> 16);
    rv(&p, ADDI(A0, ZERO, 0));
    rv(&p, ADDI(S6, ZERO, 0));
    rv(&p, ADDI(S11, ZERO, 0));
    uint64_t loop = rv_here(&p);
    rv(&p, ANDI(T0, S6, 1023));
    rv(&p, SLLI(T0, T0, 4));
    rv(&p, OR(T0, T0, S5));
    rv(&p, SH(T0, S1, 0));
    rv(&p, FENCE_I());
    rv(&p, JALR(RA, S2));
    rv(&p, ADDI(S6, S6, 1));
    rv_branch(&p, BNE, S6, S4, loop);
    rv_finish(&p);
    run_one(&r, &p, 0, sum_to(N, 1023));
    rig_fini(&r);
}

enum fence { FENCE_PAGE, FENCE_PAGE_ASID, FENCE_ASID, FENCE_ALL, FENCES };

/* for (i = 0; i < n; i++) { swap two values of the entry at s1; sfence.vma; call s2; } Every entry, s8 and
 * s9, has its own addend. */
static void remap_and_call(struct rv *p, uint64_t entry, uint64_t fence_va, uint64_t call, uint64_t pte0,
                           uint64_t pte1, enum fence fence, int n)
{
    rv(p, ADDI(T2, ZERO, 1));
    rv(p, SLLI(T2, T2, 32));
    rv_li(p, S1, (int64_t)entry);
    rv_li(p, S2, (int64_t)(call - WINDOW));
    rv(p, ADD(S2, S2, T2));
    rv_li(p, S3, (int64_t)(fence_va - WINDOW));
    rv(p, ADD(S3, S3, T2));
    rv_li(p, S8, (int64_t)pte0);
    rv_li(p, S9, (int64_t)pte1);
    rv_li(p, S4, n);
    rv(p, ADDI(S7, ZERO, 1)); /* the ASID */
    rv(p, ADDI(A0, ZERO, 0));
    rv(p, ADDI(S6, ZERO, 0));
    rv(p, ADDI(S11, ZERO, 0));
    uint64_t loop = rv_here(p);
    rv(p, SD(S8, S1, 0));
    rv(p, SFENCE(fence == FENCE_PAGE || fence == FENCE_PAGE_ASID ? S3 : ZERO,
                 fence == FENCE_ASID || fence == FENCE_PAGE_ASID ? S7 : ZERO));
    rv(p, JALR(RA, S2));
    rv(p, JALR(RA, S2));
    rv(p, ADD(T0, S8, ZERO));
    rv(p, ADD(S8, S9, ZERO));
    rv(p, ADD(S9, T0, ZERO));
    rv(p, ADDI(S6, S6, 1));
    rv_branch(p, BNE, S6, S4, loop);
    rv_finish(p);
}

/* The second page is mapped elsewhere, while the jump stays as it is. */
static void test_crossing_remapped(gconstpointer fence)
{
    enum { N = 1000, A = FUNCTION, B = FUNCTION + 0x2000, C = FUNCTION + 0x4000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.supervisor = true});
    uint64_t satp = rig_tables(&r, 1);
    rig_put(&r, pte_addr(0), pte(A, PTE_LEAF));
    put_crossing(&r, A + PAGE, B, 1);
    put_crossing(&r, A + PAGE, C, 1000);
    struct rv p = {.base = CODE};
    remap_and_call(&p, pte_addr(1), WINDOW + PAGE, WINDOW + PAGE - 8, pte(B, PTE_LEAF), pte(C, PTE_LEAF),
                   (enum fence)GPOINTER_TO_INT(fence), N);
    run_one(&r, &p, satp, N * 1001);
    rig_fini(&r);
}

/* The first page once more behind itself: the upper half is its own beginning. */
static void test_crossing_itself(void)
{
    enum { N = 1000, A = FUNCTION, C = FUNCTION + 0x4000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.supervisor = true});
    uint64_t satp = rig_tables(&r, 1);
    rig_put(&r, pte_addr(0), pte(A, PTE_LEAF));
    put_crossing(&r, A + PAGE, A, 1);
    put_crossing(&r, A + PAGE, C, 1000);
    struct rv p = {.base = CODE};
    remap_and_call(&p, pte_addr(1), WINDOW + PAGE, WINDOW + PAGE - 8, pte(A, PTE_LEAF), pte(C, PTE_LEAF),
                   FENCE_PAGE, N);
    run_one(&r, &p, satp, N * 1001);
    struct vcpus_stats before, after;
    vcpus_stats(r.vcpus, &before);
    put_crossing(&r, A + PAGE, A, 2); /* both halves are tracked */
    vcpus_stats(r.vcpus, &after);
    g_assert_cmpuint(after.invalidations, >, before.invalidations);
    rig_fini(&r);
}

/* A loop of loads, which remembers its page, called again and again with that page mapped elsewhere. */
static void test_loop_remapped(gconstpointer fence)
{
    enum { N = 1000, TURNS = 4, A = FUNCTION, B = FUNCTION + 0x2000, C = FUNCTION + 0x4000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.supervisor = true});
    uint64_t satp = rig_tables(&r, 1);
    rig_put(&r, pte_addr(0), pte(A, PTE_LEAF));
    rig_put(&r, B, 1);
    rig_put(&r, C, 1000);
    const uint32_t code[] = {
        ADDI(T4, ZERO, TURNS), rv_jal(ZERO, 4), /* so that the loop is a block */
        LD(T5, S3, 0),         ADD(A0, A0, T5), ADDI(T4, T4, -1), rv_b(BNE, T4, ZERO, -12), RET()};
    g_assert_cmpint(mem_write(r.mem, GPA(A), code, sizeof(code)), ==, 0);
    struct rv p = {.base = CODE};
    remap_and_call(&p, pte_addr(1), WINDOW + PAGE, WINDOW, pte(B, PTE_LEAF), pte(C, PTE_LEAF),
                   (enum fence)GPOINTER_TO_INT(fence), N);
    run_one(&r, &p, satp, N * TURNS * 1001);
    rig_fini(&r);
}

/* A loop of stores, which remembers its page, changes code that has been run since. */
static void test_loop_patches(void)
{
    enum { N = 1000, TURNS = 4 };
    struct rig r;
    rig_init(&r, &(struct rig_config){0});
    const uint32_t code[] = {ADDI(A0, A0, 0), RET()};
    g_assert_cmpint(mem_write(r.mem, GPA(FUNCTION), code, sizeof(code)), ==, 0);
    struct rv p = {.base = CODE};
    rv_li(&p, S1, FUNCTION);
    rv_li(&p, S2, ADDI(A0, A0, 1));
    rv_li(&p, S3, ADDI(A0, A0, 2));
    rv_li(&p, S4, N);
    rv(&p, ADDI(A0, ZERO, 0));
    rv(&p, ADDI(S11, ZERO, 0));
    uint64_t outer = rv_here(&p);
    rv(&p, ADDI(T4, ZERO, TURNS));
    rv(&p, rv_jal(ZERO, 4)); /* so that the loop is a block */
    uint64_t inner = rv_here(&p);
    rv(&p, SW(S2, S1, 0));
    rv(&p, ADDI(T4, T4, -1));
    rv_branch(&p, BNE, T4, ZERO, inner);
    rv(&p, FENCE_I());
    rv(&p, JALR(RA, S1));
    rv(&p, ADD(T5, S2, ZERO));
    rv(&p, ADD(S2, S3, ZERO));
    rv(&p, ADD(S3, T5, ZERO));
    rv(&p, ADDI(S4, S4, -1));
    rv_branch(&p, BNE, S4, ZERO, outer);
    rv_finish(&p);
    run_one(&r, &p, 0, N / 2 * 3);
    rig_fini(&r);
}

/* Two instructions on one page joined by a link, the page mapped to one or another physical page. */
static void test_remapped(gconstpointer fence)
{
    enum { N = 1000, A = FUNCTION, B = FUNCTION + 0x2000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.supervisor = true});
    uint64_t satp = rig_tables(&r, 1);
    for (unsigned i = 0; i < 2; i++) {
        const uint32_t code[] = {ADDI(A0, A0, i ? 100 : 1), rv_jal(ZERO, 8), 0, ADDI(A0, A0, i ? 1000 : 10),
                                 RET()};
        g_assert_cmpint(mem_write(r.mem, GPA(i ? B : A), code, sizeof(code)), ==, 0);
    }
    struct rv p = {.base = CODE};
    remap_and_call(&p, pte_addr(0), WINDOW, WINDOW, pte(A, PTE_LEAF), pte(B, PTE_LEAF),
                   (enum fence)GPOINTER_TO_INT(fence), N);
    run_one(&r, &p, satp, N * 1111);
    rig_fini(&r);
}

/* --- writes by a device --- */

/* The guest calls the function over and over; the test changes what it returns. Smaller numbers than before
 * are stale. */
static void test_dma(void)
{
    enum { N = 400 };
    struct rig r;
    rig_init(&r, &(struct rig_config){0});
    const uint32_t code[] = {ADDI(A0, ZERO, 0), RET()};
    g_assert_cmpint(mem_write(r.mem, GPA(FUNCTION), code, sizeof(code)), ==, 0);
    struct rv p = {.base = CODE};
    rv_li(&p, S1, FUNCTION);
    rv_li(&p, S2, RESULT);
    rv(&p, ADDI(S3, ZERO, 0));
    rv(&p, ADDI(S4, ZERO, 0));
    rv_li(&p, S5, N);
    rv(&p, ADDI(S11, ZERO, 0));
    uint64_t loop = rv_here(&p);
    rv(&p, FENCE_I());
    rv(&p, JALR(RA, S1));
    rv(&p, SD(A0, S2, 16));
    unsigned fine = rv_hole(&p);
    rv(&p, ADDI(S4, S4, 1)); /* errors */
    rv_land_branch(&p, fine, BGE, A0, S3);
    rv(&p, ADD(S3, A0, ZERO));
    rv_branch(&p, BNE, A0, S5, loop);
    rv(&p, ADD(A0, S4, ZERO));
    rv_finish(&p);
    rig_load(&r, &p);
    rig_start(&r, 0, CODE, 0);
    vcpus_resume(r.vcpus);
    for (int i = 1; i <= N; i++) {
        uint32_t insn = ADDI(A0, ZERO, i);
        g_assert_cmpint(mem_write(r.mem, GPA(FUNCTION), &insn, 4), ==, 0);
        rig_await(&r, RESULT + 16, (uint64_t)i);
    }
    rig_await(&r, RESULT, 1);
    vcpus_pause(r.vcpus);
    g_assert_cmpuint(rig_result(&r, 0), ==, 0);
    rig_fini(&r);
}

/* A loop of linked blocks that never leaves translated code by itself: replacing its jump must reach it all
 * the same. */
static void test_unlink(void)
{
    enum { N = 200 };
    struct rig r;
    rig_init(&r, &(struct rig_config){0});
    struct rv p = {.base = CODE};
    rv_li(&p, S2, RESULT);
    rv(&p, ADDI(A0, ZERO, 0));
    rv(&p, ADDI(S11, ZERO, 0));
    uint64_t loop = rv_here(&p);
    rv(&p, ADDI(S3, S3, 1));
    unsigned jump = p.n;
    rv_jump(&p, ZERO, loop);
    rv(&p, ADDI(A0, A0, 1));
    rv(&p, SD(A0, S2, 16));
    uint64_t wait = rv_here(&p); /* until the jump is there again */
    rv(&p, LD(T0, S2, 24));
    rv_branch(&p, BNE, T0, A0, wait);
    rv_jump(&p, ZERO, loop);
    rig_load(&r, &p);
    rig_start(&r, 0, CODE, 0);
    vcpus_resume(r.vcpus);
    uint32_t nop = ADDI(ZERO, ZERO, 0);
    for (unsigned i = 1; i <= N; i++) {
        g_usleep(i % 8 * 50);
        g_assert_cmpint(mem_write(r.mem, GPA(CODE + 4 * jump), &nop, 4), ==, 0);
        rig_await(&r, RESULT + 16, i);
        g_assert_cmpint(mem_write(r.mem, GPA(CODE + 4 * jump), &p.word[jump], 4), ==, 0);
        rig_put(&r, RESULT + 24, i);
    }
    vcpus_pause(r.vcpus);
    g_assert_cmpuint(rig_get(&r, RESULT + 16), ==, N);
    rig_fini(&r);
}

/* --- little room for code --- */

/* How much room, and what does not fit into it. */
struct eviction {
    size_t limit;
    int functions, stride;
};

/* Calls the functions N times; each adds its own number. vCPU i in a0. */
static void call_many(struct rv *p, const struct eviction *e, int n)
{
    rv(p, ADD(S11, A0, ZERO));
    rv(p, ADDI(A0, ZERO, 0));
    rv_li(p, S4, n);
    uint64_t outer = rv_here(p);
    rv_li(p, S1, FUNCTION);
    rv_li(p, S2, e->functions);
    rv_li(p, S3, e->stride);
    uint64_t inner = rv_here(p);
    rv(p, JALR(RA, S1));
    rv(p, ADD(S1, S1, S3));
    rv(p, ADDI(S2, S2, -1));
    rv_branch(p, BNE, S2, ZERO, inner);
    rv(p, ADDI(S4, S4, -1));
    rv_branch(p, BNE, S4, ZERO, outer);
    rv_finish(p);
}

static void test_eviction(gconstpointer opaque)
{
    enum { N = 12, VCPUS = 2 };
    const struct eviction *e = opaque;
    struct rig r;
    rig_init(&r, &(struct rig_config){.vcpus = VCPUS, .code_limit = e->limit});
    uint64_t sum = 0;
    for (int i = 0; i < e->functions; i++) {
        const uint32_t code[] = {ADDI(A0, A0, i & 1023), rv_b(BNE, A0, ZERO, 8), ADDI(A0, A0, 0), RET()};
        g_assert_cmpint(
            mem_write(r.mem, GPA(FUNCTION + (uint64_t)i * (unsigned)e->stride), code, sizeof(code)), ==, 0);
        sum += (unsigned)i & 1023;
    }
    struct rv p = {.base = CODE};
    call_many(&p, e, N);
    rig_load(&r, &p);
    for (unsigned i = 0; i < VCPUS; i++)
        rig_start(&r, i, CODE, 0);
    rig_run(&r, VCPUS);
    for (unsigned i = 0; i < VCPUS; i++)
        g_assert_cmpuint(rig_result(&r, i), ==, N * sum);
    struct vcpus_stats stats;
    vcpus_stats(r.vcpus, &stats);
    g_assert_cmpuint(stats.evictions, >=, N / 2);
    g_assert_cmpuint(stats.code_bytes, <=, e->limit);
    rig_fini(&r);
}

/* A page that was evicted, and made again, is still watched for changes. */
static void test_eviction_and_patch(void)
{
    enum { N = 500, FUNCTIONS = 20 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.code_limit = 1500});
    struct rv p = {.base = CODE};
    rv_li(&p, S5, ADDI(A0, A0, 0));
    rv_li(&p, S4, N);
    rv_li(&p, S7, FUNCTIONS);
    rv(&p, ADDI(A0, ZERO, 0));
    rv(&p, ADDI(S6, ZERO, 0));
    rv(&p, ADDI(S11, ZERO, 0));
    uint64_t outer = rv_here(&p);
    rv_li(&p, S1, FUNCTION);
    rv(&p, ADDI(S2, ZERO, 0));
    uint64_t inner = rv_here(&p);
    for (int k = 0; k < 2;
         k++) { /* the second change finds the block that the first has just brought about */
        rv(&p, ADDI(T0, S6, k));
        rv(&p, ANDI(T0, T0, 1023));
        rv(&p, SLLI(T0, T0, 20));
        rv(&p, OR(T0, T0, S5));
        rv(&p, SW(T0, S1, 0));
        rv(&p, FENCE_I());
        rv(&p, JALR(RA, S1));
    }
    rv_li(&p, T0, PAGE);
    rv(&p, ADD(S1, S1, T0));
    rv(&p, ADDI(S2, S2, 1));
    rv_branch(&p, BNE, S2, S7, inner);
    rv(&p, ADDI(S6, S6, 1));
    rv_branch(&p, BNE, S6, S4, outer);
    rv_finish(&p);
    for (unsigned i = 0; i < FUNCTIONS; i++)
        put_function(&r, FUNCTION + i * PAGE);
    run_one(&r, &p, 0, FUNCTIONS * (sum_to(N, 1023) + sum_to(N + 1, 1023)));
    rig_fini(&r);
}

/* --- physical protection that ends inside a page --- */

/* M-mode locks the second half of the function's page against execution: the block that ran through must not
 * any more. */
static void test_pmp_inside_page(void)
{
    enum { HALF = FUNCTION + PAGE / 2 };
    struct rig r;
    rig_init(&r, &(struct rig_config){0});
    const uint32_t code[] = {ADDI(A0, A0, 1), rv_jal(ZERO, 4), ADDI(A0, A0, 10), ADDI(A0, A0, 100), RET()};
    struct rv p = {.base = CODE};
    unsigned to_handler;
    rv(&p, ADDI(S11, ZERO, 0));
    rv(&p, ADDI(A0, ZERO, 0));
    to_handler = p.n;
    rv(&p, 0), rv(&p, 0);
    rv(&p, CSRRW(ZERO, 0x305, T0));
    rv_li(&p, S1, HALF - 12);
    rv(&p, JALR(RA, S1));
    rv(&p, JALR(RA, S1)); /* linked by now */
    rv_li(&p, T0, (HALF | (PAGE / 2 - 1) >> 1) >> 2);
    rv(&p, CSRRW(ZERO, 0x3b0, T0)); /* pmpaddr0 */
    rv_li(&p, T0, 0x80 | 3 << 3 | 1);
    rv(&p, CSRRW(ZERO, 0x3a0, T0)); /* pmpcfg0: locked, NAPOT, read only */
    rv(&p, JALR(RA, S1));
    rv_finish(&p); /* not reached */
    struct rv load_handler = {.base = CODE + 4 * to_handler};
    rv_li(&load_handler, T0, (int64_t)rv_here(&p));
    p.word[to_handler] = load_handler.word[0];
    p.word[to_handler + 1] = load_handler.word[1];
    rv(&p, CSRRS(T0, 0x342, ZERO)); /* mcause 1: instruction access */
    rv_li(&p, T1, 10000);
    rv(&p, MUL(T0, T0, T1));
    rv(&p, ADD(A0, A0, T0));
    rv(&p, CSRRS(T0, 0x341, ZERO));
    rv_li(&p, T1, HALF);
    unsigned wrong = rv_hole(&p);
    rv_li(&p, T0, 100000);
    rv(&p, ADD(A0, A0, T0));
    rv_land_branch(&p, wrong, BNE, T0, T1);
    rv_finish(&p);
    g_assert_cmpint(mem_write(r.mem, GPA(HALF - 12), code, sizeof(code)), ==, 0);
    run_one(&r, &p, 0, 2 * 111 + 11 + 10000 + 100000);
    rig_fini(&r);
}

int main(int argc, char **argv)
{
    static const char *const fence_names[FENCES] = {"page", "page-asid", "asid", "all"};
    g_test_init(&argc, &argv, NULL);
    if (!rig_choose(argc, argv)) {
        puts("1..0 # SKIP this host does not have the method");
        return 0;
    }
    g_test_add_data_func("/code/patch/same-page", "", test_patch);
    g_test_add_data_func("/code/patch/other-page", NULL, test_patch);
    g_test_add_func("/code/patch/alias", test_patch_alias);
    g_test_add_func("/code/patch/ahead", test_patch_ahead);
    g_test_add_func("/code/crossing/written", test_crossing_written);
    g_test_add_func("/code/crossing/itself", test_crossing_itself);
    for (int i = 0; i < FENCES; i++) {
        g_autofree char *crossing = g_strdup_printf("/code/crossing/remapped/%s", fence_names[i]);
        g_autofree char *plain = g_strdup_printf("/code/remapped/%s", fence_names[i]);
        g_test_add_data_func(crossing, GINT_TO_POINTER(i), test_crossing_remapped);
        g_test_add_data_func(plain, GINT_TO_POINTER(i), test_remapped);
        g_autofree char *loop = g_strdup_printf("/code/remapped/loop/%s", fence_names[i]);
        g_test_add_data_func(loop, GINT_TO_POINTER(i), test_loop_remapped);
    }
    g_test_add_func("/code/patch/loop", test_loop_patches);
    g_test_add_func("/code/dma", test_dma);
    g_test_add_func("/code/unlink", test_unlink);
    static const struct eviction k16 = {16 * KiB, 600, PAGE + 64}, k64 = {64 * KiB, 4800, 192};
    g_test_add_data_func("/code/eviction/16k", &k16, test_eviction);
    g_test_add_data_func("/code/eviction/64k", &k64, test_eviction);
    if (!strcmp(rig_method, "emulation")) { /* translators need more room than that */
        static const struct eviction k8 = {8 * KiB, 150, PAGE + 64}, k1 = {1 * KiB, 150, PAGE + 64};
        g_test_add_data_func("/code/eviction/8k", &k8, test_eviction);
        g_test_add_data_func("/code/eviction/1k", &k1, test_eviction);
        g_test_add_func("/code/eviction/patch", test_eviction_and_patch);
    }
    static const struct eviction k512 = {512 * KiB, 4800, 192};
    g_test_add_data_func("/code/eviction/512k", &k512, test_eviction);
    g_test_add_func("/code/pmp-inside-page", test_pmp_inside_page);
    return g_test_run();
}
