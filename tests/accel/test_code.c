/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The code cache and the dispatcher: small programs that change code, mappings and each other while they run. */
/*
 * Each program computes a number that is wrong when one stale instruction, translation or wake-up slips through, and the
 * test knows the number. Programs end in rv_finish().
 */
#include "rig.h"

enum { FUNCTION = CODE + 0x10000 };

static uint64_t sum_to(uint64_t n, uint64_t mask)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += i & mask;
    return sum;
}

static void run_one(struct rig *r, const struct rv *p, uint64_t satp, uint64_t expected)
{
    rig_load(r, p);
    rig_start(r, 0, p->base, satp);
    rig_run(r, 1);
    g_assert_cmpuint(rig_result(r, 0), ==, expected);
}

/* --- code that changes itself --- */

/* for (i = 0; i < n; i++) { write "addi a0, a0, i & 1023" at s1; fence.i; call s2 or s3 in turn; } with "ret" behind it. */
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

static void put_function(struct rig *r, uint64_t gpa)
{
    const uint32_t code[] = {ADDI(A0, A0, 0), RET()};
    g_assert_cmpint(mem_write(r->mem, GPA(gpa), code, sizeof(code)), ==, 0);
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

/* At the end of page a: a jump, linked directly, to "addi a0, a0, x" whose upper half (x and more) lies on the next page; then ret. */
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

/* for (i = 0; i < n; i++) { swap two values of the entry at s1; sfence.vma; call s2; } Every entry, s8 and s9, has its own addend. */
static void remap_and_call(struct rv *p, uint64_t entry, uint64_t fence_va, uint64_t call, uint64_t pte0, uint64_t pte1,
                           enum fence fence, int n)
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
    remap_and_call(&p, pte_addr(1), WINDOW + PAGE, WINDOW + PAGE - 8, pte(A, PTE_LEAF), pte(C, PTE_LEAF), FENCE_PAGE, N);
    run_one(&r, &p, satp, N * 1001);
    struct vcpus_stats before, after;
    vcpus_stats(r.vcpus, &before);
    put_crossing(&r, A + PAGE, A, 2); /* both halves are tracked */
    vcpus_stats(r.vcpus, &after);
    g_assert_cmpuint(after.invalidations, >, before.invalidations);
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
        const uint32_t code[] = {ADDI(A0, A0, i ? 100 : 1), rv_jal(ZERO, 8), 0, ADDI(A0, A0, i ? 1000 : 10), RET()};
        g_assert_cmpint(mem_write(r.mem, GPA(i ? B : A), code, sizeof(code)), ==, 0);
    }
    struct rv p = {.base = CODE};
    remap_and_call(&p, pte_addr(0), WINDOW, WINDOW, pte(A, PTE_LEAF), pte(B, PTE_LEAF), (enum fence)GPOINTER_TO_INT(fence), N);
    run_one(&r, &p, satp, N * 1111);
    rig_fini(&r);
}

/* --- writes by a device --- */

/* The guest calls the function over and over; the test changes what it returns. Smaller numbers than before are stale. */
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

/* A loop of linked blocks that never leaves translated code by itself: replacing its jump must reach it all the same. */
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

/* Calls F functions of different pages N times; each adds its own number. vCPU i in a0. */
static void call_many(struct rv *p, int functions, int n)
{
    rv(p, ADD(S11, A0, ZERO));
    rv(p, ADDI(A0, ZERO, 0));
    rv_li(p, S4, n);
    uint64_t outer = rv_here(p);
    rv_li(p, S1, FUNCTION);
    rv_li(p, S2, functions);
    uint64_t inner = rv_here(p);
    rv(p, JALR(RA, S1));
    rv_li(p, T0, PAGE + 64);
    rv(p, ADD(S1, S1, T0));
    rv(p, ADDI(S2, S2, -1));
    rv_branch(p, BNE, S2, ZERO, inner);
    rv(p, ADDI(S4, S4, -1));
    rv_branch(p, BNE, S4, ZERO, outer);
    rv_finish(p);
}

static void test_eviction(gconstpointer limit)
{
    enum { N = 30, FUNCTIONS = 150, VCPUS = 2 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.vcpus = VCPUS, .code_limit = GPOINTER_TO_SIZE(limit)});
    uint64_t sum = 0;
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        const uint32_t code[] = {ADDI(A0, A0, (int)i), rv_b(BNE, A0, ZERO, 8), ADDI(A0, A0, 0), RET()};
        g_assert_cmpint(mem_write(r.mem, GPA(FUNCTION + i * (PAGE + 64)), code, sizeof(code)), ==, 0);
        sum += i;
    }
    struct rv p = {.base = CODE};
    call_many(&p, FUNCTIONS, N);
    rig_load(&r, &p);
    for (unsigned i = 0; i < VCPUS; i++)
        rig_start(&r, i, CODE, 0);
    rig_run(&r, VCPUS);
    for (unsigned i = 0; i < VCPUS; i++)
        g_assert_cmpuint(rig_result(&r, i), ==, N * sum);
    struct vcpus_stats stats;
    vcpus_stats(r.vcpus, &stats);
    g_assert_cmpuint(stats.evictions, >, N);
    g_assert_cmpuint(stats.code_bytes, <=, GPOINTER_TO_SIZE(limit));
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
    rv(&p, ANDI(T0, S6, 1023));
    rv(&p, SLLI(T0, T0, 20));
    rv(&p, OR(T0, T0, S5));
    rv(&p, SW(T0, S1, 0));
    rv(&p, FENCE_I());
    rv(&p, JALR(RA, S1));
    rv_li(&p, T0, PAGE);
    rv(&p, ADD(S1, S1, T0));
    rv(&p, ADDI(S2, S2, 1));
    rv_branch(&p, BNE, S2, S7, inner);
    rv(&p, ADDI(S6, S6, 1));
    rv_branch(&p, BNE, S6, S4, outer);
    rv_finish(&p);
    for (unsigned i = 0; i < FUNCTIONS; i++)
        put_function(&r, FUNCTION + i * PAGE);
    run_one(&r, &p, 0, FUNCTIONS * sum_to(N, 1023));
    rig_fini(&r);
}

/* --- physical protection that ends inside a page --- */

/* M-mode locks the second half of the function's page against execution: the block that ran through must not any more. */
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

/* --- several vCPUs --- */

/* Atomics on a page of code that others run: each of them drops the page's blocks. */
static void test_atomic_on_code(void)
{
    enum { N = 1000, VCPUS = 3, COUNTER = CODE + 0xf00 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.vcpus = VCPUS});
    struct rv p = {.base = CODE};
    rv(&p, ADD(S11, A0, ZERO));
    rv_li(&p, S1, COUNTER);
    rv_li(&p, S2, N);
    rv(&p, ADDI(S3, ZERO, 1));
    rv(&p, ADDI(A0, ZERO, 0));
    uint64_t loop = rv_here(&p);
    rv(&p, AMOADD_D(ZERO, S3, S1));
    rv(&p, ADDI(A0, A0, 3));
    rv(&p, ADDI(S2, S2, -1));
    rv_branch(&p, BNE, S2, ZERO, loop);
    rv_finish(&p);
    rig_load(&r, &p);
    for (unsigned i = 0; i < VCPUS; i++)
        rig_start(&r, i, CODE, 0);
    rig_run(&r, VCPUS);
    g_assert_cmpuint(rig_get(&r, COUNTER), ==, VCPUS * N);
    for (unsigned i = 0; i < VCPUS; i++)
        g_assert_cmpuint(rig_result(&r, i), ==, 3 * N);
    rig_fini(&r);
}

enum { CALL_FENCE = 1, CALL_OFFLINE = 2, CALL_ONLINE = 3, CALL_FENCE_PAGE = 4 };

static bool firmware(struct env *env, void *opaque)
{
    struct rig *r = opaque;
    struct rig_start start = {.pc = env->reg[A1], .a0 = env->reg[A0], .satp = riscv_cpu(env)->satp};
    const struct cpu_flush page = {.one_page = true, .va = env->reg[A0]}, all = {0};
    switch (env->reg[A7]) {
    case CALL_FENCE:
        riscv_cpu(env)->host.ops->flush_remote(env, UINT64_MAX, &all);
        return true;
    case CALL_FENCE_PAGE:
        riscv_cpu(env)->host.ops->flush_remote(env, UINT64_MAX, &page);
        return true;
    case CALL_OFFLINE:
        vcpus_offline(r->vcpus, vcpus_index(env));
        return true;
    case CALL_ONLINE:
        env->reg[A0] = (uint64_t)(int64_t)vcpus_online(r->vcpus, (unsigned)env->reg[A0], rig_prepare, &start);
        return true;
    default:
        return false;
    }
}

/*
 * Each vCPU owns two physical pages and a virtual one that it maps to one of them in turn. A page holds a function that returns the
 * number of the turn. The owner writes the page that is not mapped, maps it, fences all vCPUs, then publishes the turn. Everybody
 * calls and reads everybody's page: what it finds must not be older than what was published before. Errors are counted.
 */
static void test_remote_fences(gconstpointer call)
{
    enum { N = 300, VCPUS = 4, PUBLISHED = RESULT + 0x1000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.vcpus = VCPUS, .supervisor = true, .firmware = firmware});
    uint64_t satp = rig_tables(&r, 1);
    for (unsigned i = 0; i < VCPUS; i++) {
        uint64_t page = FUNCTION + i * 2 * PAGE;
        const uint32_t code[] = {ADDI(A0, ZERO, 0), RET()};
        g_assert_cmpint(mem_write(r.mem, GPA(page), code, sizeof(code)), ==, 0);
        g_assert_cmpint(mem_write(r.mem, GPA(page + PAGE), code, sizeof(code)), ==, 0);
        rig_put(&r, pte_addr(i), pte(page, PTE_LEAF));
    }
    struct rv p = {.base = CODE};
    rv(&p, ADD(S11, A0, ZERO));
    rv(&p, SLLI(S1, S11, 3));
    rv_li(&p, T0, (int64_t)pte_addr(0));
    rv(&p, ADD(S1, S1, T0)); /* my entry */
    rv(&p, SLLI(S2, S11, 13));
    rv_li(&p, T0, FUNCTION);
    rv(&p, ADD(S2, S2, T0)); /* my pages */
    rv_li(&p, S3, PUBLISHED);
    rv(&p, ADDI(S4, ZERO, 1));
    rv(&p, SLLI(S4, S4, 32)); /* the window */
    rv_li(&p, S5, ADDI(A0, ZERO, 0));
    rv(&p, ADDI(S6, ZERO, 1)); /* turn */
    rv_li(&p, S7, N + 1);
    rv(&p, ADDI(S8, ZERO, 0)); /* errors */
    uint64_t loop = rv_here(&p);
    rv(&p, ANDI(T0, S6, 1));
    rv(&p, SLLI(T0, T0, 12));
    rv(&p, ADD(T0, T0, S2)); /* the page of this turn */
    rv(&p, SLLI(T1, S6, 20));
    rv(&p, OR(T1, T1, S5));
    rv(&p, SW(T1, T0, 0));
    rv(&p, FENCE());
    rv(&p, SRLI(T0, T0, 2));
    rv(&p, ADDI(T0, T0, PTE_LEAF));
    rv(&p, SD(T0, S1, 0));
    rv(&p, FENCE());
    rv(&p, SLLI(A0, S11, 12));
    rv(&p, ADD(A0, A0, S4));
    rv(&p, ADDI(A7, ZERO, GPOINTER_TO_INT(call)));
    rv(&p, ECALL());
    rv(&p, SLLI(T0, S11, 3));
    rv(&p, ADD(T0, T0, S3));
    rv(&p, AMOSWAP_D(ZERO, S6, T0));
    rv(&p, ADDI(S9, ZERO, 0));
    uint64_t each = rv_here(&p);
    rv(&p, SLLI(T0, S9, 3));
    rv(&p, ADD(T0, T0, S3));
    rv(&p, LD(S10, T0, 0));
    rv(&p, FENCE());
    rv(&p, FENCE_I());
    rv(&p, SLLI(T2, S9, 12));
    rv(&p, ADD(T2, T2, S4));
    rv(&p, LW(A1, T2, 0));
    rv(&p, SRLI(A1, A1, 20));
    unsigned fresh = rv_hole(&p);
    rv(&p, ADDI(S8, S8, 1));
    rv_land_branch(&p, fresh, BGE, A1, S10);
    rv(&p, JALR(RA, T2));
    fresh = rv_hole(&p);
    rv_li(&p, T0, 10000);
    rv(&p, ADD(S8, S8, T0));
    rv_land_branch(&p, fresh, BGE, A0, S10);
    rv(&p, ADDI(S9, S9, 1));
    rv(&p, ADDI(T0, ZERO, VCPUS));
    rv_branch(&p, BNE, S9, T0, each);
    rv(&p, ADDI(S6, S6, 1));
    rv_branch(&p, BNE, S6, S7, loop);
    rv(&p, ADD(A0, S8, ZERO));
    rv_finish(&p);
    rig_load(&r, &p);
    for (unsigned i = 0; i < VCPUS; i++)
        rig_start(&r, i, CODE, satp);
    rig_run(&r, VCPUS);
    for (unsigned i = 0; i < VCPUS; i++)
        g_assert_cmpuint(rig_result(&r, i), ==, 0);
    rig_fini(&r);
}

/* --- pausing --- */

/* x = x * 5 + 1, N times, through memory and a few linked blocks. */
static void long_computation(struct rv *p, int n)
{
    rv(p, ADD(S11, A0, ZERO));
    rv(p, SLLI(S1, S11, 12));
    rv_li(p, T0, RESULT + 0x10000);
    rv(p, ADD(S1, S1, T0));
    rv_li(p, S2, n);
    rv(p, ADDI(S3, ZERO, 5));
    uint64_t loop = rv_here(p);
    rv(p, LD(T0, S1, 0));
    rv(p, MUL(T0, T0, S3));
    rv(p, ADDI(T0, T0, 1));
    rv(p, SD(T0, S1, 0));
    rv(p, ANDI(T1, T0, 4));
    rv(p, rv_b(BEQ, T1, ZERO, 8));
    rv(p, ADDI(S2, S2, 0));
    rv(p, ADDI(S2, S2, -1));
    rv_branch(p, BNE, S2, ZERO, loop);
    rv(p, LD(A0, S1, 0));
    rv_finish(p);
}

static void test_pause(void)
{
    enum { N = 300000, VCPUS = 3, PAUSES = 150 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.vcpus = VCPUS});
    struct rv p = {.base = CODE};
    long_computation(&p, N);
    rig_load(&r, &p);
    for (unsigned i = 0; i < VCPUS; i++)
        rig_start(&r, i, CODE, 0);
    for (unsigned k = 0; k < PAUSES; k++) {
        uint64_t pc[VCPUS], count[VCPUS];
        vcpus_resume(r.vcpus);
        g_usleep(k % 5 * 20);
        vcpus_pause(r.vcpus);
        for (unsigned i = 0; i < VCPUS; i++) {
            pc[i] = vcpus_env(r.vcpus, i)->pc;
            count[i] = vcpus_env(r.vcpus, i)->icount;
        }
        if (k % 16 == 0)
            vcpus_flush_all(r.vcpus);
        g_usleep(20);
        for (unsigned i = 0; i < VCPUS; i++) {
            g_assert_cmpuint(vcpus_env(r.vcpus, i)->pc, ==, pc[i]);
            g_assert_cmpuint(vcpus_env(r.vcpus, i)->icount, ==, count[i]);
        }
    }
    rig_run(&r, VCPUS);
    uint64_t x = 0;
    for (unsigned i = 0; i < N; i++)
        x = x * 5 + 1;
    for (unsigned i = 0; i < VCPUS; i++)
        g_assert_cmpuint(rig_result(&r, i), ==, x);
    rig_fini(&r);
}

/* vCPU 0 starts the others in turn; each notes that it ran and stops itself. */
static void test_online(void)
{
    enum { N = 400, VCPUS = 3, STARTED = RESULT + 0x1000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.vcpus = VCPUS, .supervisor = true, .firmware = firmware});
    struct rv other = {.base = FUNCTION};
    rv_li(&other, S1, STARTED);
    rv(&other, ADDI(T0, ZERO, 1));
    rv(&other, AMOADD_D(ZERO, T0, S1));
    rv(&other, ADDI(A7, ZERO, CALL_OFFLINE));
    rv(&other, ECALL());
    rv(&other, AMOADD_D(ZERO, T0, S1)); /* not reached */
    rv_jump(&other, ZERO, rv_here(&other));
    rig_load(&r, &other);
    struct rv p = {.base = CODE};
    rv(&p, ADDI(S11, ZERO, 0));
    rv(&p, ADDI(S2, ZERO, 0));
    rv_li(&p, S3, N);
    rv_li(&p, S4, STARTED);
    uint64_t loop = rv_here(&p);
    uint64_t again = rv_here(&p);
    rv(&p, ANDI(A0, S2, 1));
    rv(&p, ADDI(A0, A0, 1));
    rv_li(&p, A1, FUNCTION);
    rv(&p, ADDI(A7, ZERO, CALL_ONLINE));
    rv(&p, ECALL());
    rv_branch(&p, BNE, A0, ZERO, again);
    rv(&p, ADDI(S2, S2, 1));
    uint64_t wait = rv_here(&p);
    rv(&p, LD(T0, S4, 0));
    rv_branch(&p, BNE, T0, S2, wait);
    rv_branch(&p, BNE, S2, S3, loop);
    rv(&p, LD(A0, S4, 0));
    rv_finish(&p);
    rig_load(&r, &p);
    rig_start(&r, 0, CODE, 0);
    rig_run(&r, 1);
    g_assert_cmpuint(rig_get(&r, STARTED), ==, N);
    rig_fini(&r);
}

/* --- waiting --- */

/* Two vCPUs wake each other by doorbells. A wake-up that gets lost ends the test. */
static void test_wake(void)
{
    enum { N = 3000, VCPUS = 2 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.vcpus = VCPUS});
    struct rv p = {.base = CODE};
    rv(&p, ADD(S11, A0, ZERO));
    rv(&p, ADDI(T0, ZERO, 8));
    rv(&p, CSRRW(ZERO, CSR_MIE, T0));
    rv(&p, SLLI(S1, S11, 2));
    rv_li(&p, S2, DOORBELL);
    rv(&p, ADD(S1, S1, S2)); /* mine */
    rv(&p, XORI(S3, S11, 1));
    rv(&p, SLLI(S3, S3, 2));
    rv(&p, ADD(S2, S2, S3)); /* the other's */
    rv_li(&p, S4, N);
    rv(&p, ADDI(S5, ZERO, 1));
    rv(&p, ADDI(A0, ZERO, 0));
    unsigned first = rv_hole(&p);
    rv(&p, SW(S5, S2, 0)); /* vCPU 0 begins */
    rv_land_branch(&p, first, BNE, S11, ZERO);
    uint64_t wait = rv_here(&p);
    rv(&p, WFI());
    rv(&p, CSRRS(T0, CSR_MIP, ZERO));
    rv(&p, ANDI(T0, T0, 8));
    rv_branch(&p, BEQ, T0, ZERO, wait);
    rv(&p, SW(ZERO, S1, 0));
    rv(&p, ADDI(A0, A0, 1));
    rv(&p, SW(S5, S2, 0));
    rv_branch(&p, BNE, A0, S4, wait);
    rv_finish(&p);
    rig_load(&r, &p);
    for (unsigned i = 0; i < VCPUS; i++)
        rig_start(&r, i, CODE, 0);
    rig_run(&r, VCPUS);
    for (unsigned i = 0; i < VCPUS; i++)
        g_assert_cmpuint(rig_result(&r, i), ==, N);
    rig_fini(&r);
}

/* Deadlines while waiting: after each wfi that ends with the timer pending, time must have come. Counts too early wakes. */
static void test_timer_wait(void)
{
    enum { N = 60, TICKS = 2000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.supervisor = true});
    struct rv p = {.base = CODE};
    rv(&p, ADDI(S11, ZERO, 0));
    rv(&p, ADDI(S5, ZERO, 32));
    rv(&p, CSRRW(ZERO, CSR_SIE, S5));
    rv_li(&p, S4, N);
    rv_li(&p, S6, TICKS);
    rv(&p, ADDI(A0, ZERO, 0));
    uint64_t loop = rv_here(&p);
    rv(&p, CSRRS(S1, CSR_TIME, ZERO));
    rv(&p, ADD(S1, S1, S6));
    rv(&p, CSRRW(ZERO, CSR_STIMECMP, S1));
    uint64_t wait = rv_here(&p);
    rv(&p, WFI());
    rv(&p, CSRRS(T0, CSR_SIP, ZERO));
    rv(&p, ANDI(T0, T0, 32));
    rv_branch(&p, BEQ, T0, ZERO, wait);
    rv(&p, CSRRS(T0, CSR_TIME, ZERO));
    rv(&p, rv_b(BGEU, T0, S1, 8));
    rv(&p, ADDI(A0, A0, 1));
    rv(&p, ADDI(S4, S4, -1));
    rv_branch(&p, BNE, S4, ZERO, loop);
    rv_finish(&p);
    run_one(&r, &p, 0, 0);
    rig_fini(&r);
}

/* The timer interrupts a loop that never leaves translated code; the handler sets it anew, and ends the loop after N. */
static void test_timer_interrupt(void)
{
    enum { N = 50, TICKS = 1000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.supervisor = true});
    struct rv p = {.base = CODE};
    rv(&p, ADDI(S11, ZERO, 0));
    rv_li(&p, T0, CODE + 0x800);
    rv(&p, CSRRW(ZERO, CSR_STVEC, T0));
    rv(&p, ADDI(T0, ZERO, 32));
    rv(&p, CSRRW(ZERO, CSR_SIE, T0));
    rv_li(&p, S4, N);
    rv_li(&p, S6, TICKS);
    rv(&p, ADDI(A0, ZERO, 0));
    rv(&p, CSRRS(S1, CSR_TIME, ZERO));
    rv(&p, ADD(S1, S1, S6));
    rv(&p, CSRRW(ZERO, CSR_STIMECMP, S1));
    rv(&p, ADDI(T0, ZERO, 2));
    rv(&p, CSRRS(ZERO, CSR_SSTATUS, T0));
    rv_branch(&p, BNE, A0, S4, rv_here(&p));
    rv(&p, CSRRC(ZERO, CSR_SSTATUS, T0));
    rv_finish(&p);
    rig_load(&r, &p);
    struct rv handler = {.base = CODE + 0x800};
    rv(&handler, ADDI(A0, A0, 1));
    rv(&handler, CSRRS(S1, CSR_TIME, ZERO));
    rv(&handler, ADD(S1, S1, S6));
    rv(&handler, rv_b(BNE, A0, S4, 8));
    rv(&handler, ADDI(S1, ZERO, -1));
    rv(&handler, CSRRW(ZERO, CSR_STIMECMP, S1));
    rv(&handler, SRET());
    rig_load(&r, &handler);
    run_one(&r, &p, 0, N);
    rig_fini(&r);
}

/* --- the dirty log under running vCPUs --- */

static void copy_dirty(struct rig *r, uint8_t *shadow)
{
    enum { PAGES = RAM_SIZE / PAGE };
    static uint8_t bitmap[PAGES / 8];
    mem_log_take(r->mem, r->ram, bitmap);
    for (unsigned i = 0; i < PAGES; i++)
        if (bitmap[i / 8] >> i % 8 & 1)
            g_assert_cmpint(mem_read(r->mem, GPA(RAM + (uint64_t)i * PAGE), shadow + (size_t)i * PAGE, PAGE), ==, 0);
}

/* vCPUs store all over 256 pages, by plain stores and atomics; a copy is kept by copying what the log names. */
static void test_dirty_log(void)
{
    enum { N = 200000, VCPUS = 2, ROUNDS = 40 };
    struct rig r;
    rig_init(&r, &(struct rig_config){.vcpus = VCPUS});
    uint8_t *shadow = g_malloc0(RAM_SIZE);
    struct rv p = {.base = CODE};
    rv(&p, ADD(S11, A0, ZERO));
    rv_li(&p, S1, RAM + 0x800000);
    rv(&p, ADDI(S2, A0, 17));
    rv_li(&p, S3, 1103515245);
    rv_li(&p, S4, N);
    rv_li(&p, S5, 0xffff8);
    uint64_t loop = rv_here(&p);
    rv(&p, MUL(S2, S2, S3));
    rv(&p, ADDI(S2, S2, 1234));
    rv(&p, SRLI(T0, S2, 16));
    rv(&p, rv_r(0x33, 7, 0, T0, T0, S5));
    rv(&p, ADD(T0, T0, S1));
    rv(&p, SD(S2, T0, 0));
    rv(&p, XORI(T0, T0, 1024));
    rv(&p, AMOADD_D(ZERO, S2, T0));
    rv(&p, ADDI(S4, S4, -1));
    rv_branch(&p, BNE, S4, ZERO, loop);
    rv_finish(&p);
    mem_log_start(r.mem);
    rig_load(&r, &p);
    for (unsigned i = 0; i < VCPUS; i++)
        rig_start(&r, i, CODE, 0);
    vcpus_resume(r.vcpus);
    for (unsigned k = 0; k < ROUNDS; k++)
        copy_dirty(&r, shadow);
    rig_run(&r, VCPUS);
    copy_dirty(&r, shadow);
    g_assert_cmpint(memcmp(shadow, r.ram->host, RAM_SIZE), ==, 0);
    g_free(shadow);
    rig_fini(&r);
}

int main(int argc, char **argv)
{
    static const char *const fence_names[FENCES] = {"page", "page-asid", "asid", "all"};
    g_test_init(&argc, &argv, NULL);
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
    }
    g_test_add_func("/code/dma", test_dma);
    g_test_add_func("/code/unlink", test_unlink);
    g_test_add_data_func("/code/eviction/8k", GSIZE_TO_POINTER(8192), test_eviction);
    g_test_add_data_func("/code/eviction/1k", GSIZE_TO_POINTER(1024), test_eviction);
    g_test_add_func("/code/eviction/patch", test_eviction_and_patch);
    g_test_add_func("/code/pmp-inside-page", test_pmp_inside_page);
    g_test_add_func("/vcpus/atomic-on-code", test_atomic_on_code);
    g_test_add_data_func("/vcpus/remote-fences/all", GINT_TO_POINTER(CALL_FENCE), test_remote_fences);
    g_test_add_data_func("/vcpus/remote-fences/page", GINT_TO_POINTER(CALL_FENCE_PAGE), test_remote_fences);
    g_test_add_func("/vcpus/pause", test_pause);
    g_test_add_func("/vcpus/online", test_online);
    g_test_add_func("/vcpus/wake", test_wake);
    g_test_add_func("/vcpus/timer/wait", test_timer_wait);
    g_test_add_func("/vcpus/timer/interrupt", test_timer_interrupt);
    g_test_add_func("/vcpus/dirty-log", test_dirty_log);
    return g_test_run();
}
