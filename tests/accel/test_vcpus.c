/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Several vCPUs at once: fences, atomics, pauses, starts and stops, wake-ups, timers, locks of chips, the
 * dirty log. */
/*
 * As in test_code.c each program computes a number that the test knows, or counts what it finds wrong.
 */
#include <stdio.h>
#include <string.h>

#include "rig.h"

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

/* A chip whose register, under the chip's lock, copies a number into the code that the vCPUs run. */
struct copier {
    GMutex lock;
    struct mem *mem;
    uint64_t to;
};

static void copier_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    struct copier *c = chip;
    uint32_t insn = ADDI(ZERO, ZERO, (int)(value & 1023));
    (void)offset, (void)size;
    g_mutex_lock(&c->lock);
    if (value % 4 == 0)
        g_usleep(50); /* others come to wait, and to translate */
    g_assert_cmpint(mem_write(c->mem, GPA(c->to), &insn, sizeof(insn)), ==, 0);
    g_mutex_unlock(&c->lock);
}

/* One vCPU waits for the chip's lock, another holds it and waits for the code cache's, a third holds that and
 * waits for the first. */
static void test_chip_lock(void)
{
    enum { N = 600, VCPUS = 4, CHIP = 0x3000000 };
    static const struct bus_ops ops = {
        .read = doorbell_read, .write = copier_write, .min_size = 4, .max_size = 4};
    struct rig r;
    rig_init(&r, &(struct rig_config){.vcpus = VCPUS});
    struct copier chip = {.mem = r.mem, .to = FUNCTION};
    g_mutex_init(&chip.lock);
    g_assert_true(bus_map(r.bus, "copier", GPA(CHIP), PAGE, &ops, &chip, NULL));
    put_function(&r, FUNCTION);
    struct rv p = {.base = CODE};
    rv(&p, ADD(S11, A0, ZERO));
    rv_li(&p, S1, CHIP);
    rv_li(&p, S2, FUNCTION);
    rv_li(&p, S3, FUNCTION + 0x800);
    rv_li(&p, S4, N);
    rv(&p, ADDI(S5, ZERO, 1));
    rv(&p, ADDI(A0, ZERO, 0));
    uint64_t loop = rv_here(&p);
    rv(&p, SW(S4, S1, 0)); /* the page changes, */
    rv(&p, FENCE_I());
    rv(&p, JALR(RA, S2));           /* is translated, */
    rv(&p, AMOADD_D(ZERO, S5, S3)); /* and may be written directly again */
    rv(&p, ADDI(S4, S4, -1));
    rv_branch(&p, BNE, S4, ZERO, loop);
    rv_finish(&p);
    rig_load(&r, &p);
    for (unsigned i = 0; i < VCPUS; i++)
        rig_start(&r, i, CODE, 0);
    rig_run(&r, VCPUS);
    g_assert_cmpuint(rig_get(&r, FUNCTION + 0x800), ==, VCPUS * N);
    rig_fini(&r);
    g_mutex_clear(&chip.lock);
}

enum { CALL_FENCE = 1, CALL_OFFLINE = 2, CALL_ONLINE = 3, CALL_FENCE_PAGE = 4 };

static bool firmware(struct env *env, void *opaque)
{
    struct rig *r = opaque;
    struct rig_start start = {.pc = env->reg[A1], .a0 = env->reg[A0], .satp = riscv_cpu(env)->satp};
    const struct cpu_flush page = {.one_page = true, .va = env->reg[A0]}, all = {0};
    switch (env->reg[A7]) {
    case CALL_FENCE: riscv_cpu(env)->host.ops->flush_remote(env, UINT64_MAX, &all); return true;
    case CALL_FENCE_PAGE: riscv_cpu(env)->host.ops->flush_remote(env, UINT64_MAX, &page); return true;
    case CALL_OFFLINE: vcpus_offline(r->vcpus, vcpus_index(env)); return true;
    case CALL_ONLINE:
        env->reg[A0] = (uint64_t)(int64_t)vcpus_online(r->vcpus, (unsigned)env->reg[A0], rig_prepare, &start);
        return true;
    default: return false;
    }
}

/*
 * Each vCPU owns two physical pages and a virtual one that it maps to one of them in turn. A page holds a
 * function that returns the number of the turn. The owner writes the page that is not mapped, maps it, fences
 * all vCPUs, then publishes the turn. Everybody calls and reads everybody's page: what it finds must not be
 * older than what was published before. Errors are counted.
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
    rv(&p, FENCE_I());
    for (unsigned i = 0; i < 40;
         i++) /* a long block: a thread that is preempted in it sees no request until its end */
        rv(&p, ADDI(T1, T1, 1));
    rv(&p, SLLI(T0, S9, 3));
    rv(&p, ADD(T0, T0, S3));
    rv(&p, LD(S10, T0, 0));
    rv(&p, FENCE());
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

/* An interrupt that is pending and enabled, but masked, ends each wfi at once: what loops over that until
 * something else happens shall leave the host's CPUs to others, and notice before long. Counts the rounds. */
static void test_masked_wait(void)
{
    enum { ROUNDS_MAX = 10000, FLAG = RAM + 0x180000 };
    struct rig r;
    rig_init(&r, &(struct rig_config){0});
    struct rv p = {.base = CODE};
    rv(&p, ADDI(S11, ZERO, 0));
    rv(&p, ADDI(A0, ZERO, 0));
    rv_li(&p, S1, FLAG);
    rv(&p, ADDI(T0, ZERO, 8));
    rv(&p, CSRRW(ZERO, CSR_MIE, T0));
    uint64_t loop = rv_here(&p);
    rv(&p, WFI());
    rv(&p, ADDI(A0, A0, 1));
    rv(&p, LD(T0, S1, 0));
    rv_branch(&p, BEQ, T0, ZERO, loop);
    rv_finish(&p);
    rig_load(&r, &p);
    irq_set(&r.msip[0], true);
    rig_start(&r, 0, CODE, 0);
    vcpus_resume(r.vcpus);
    g_usleep(300 * 1000);
    rig_put(&r, FLAG, 1);
    rig_await(&r, RESULT, 1);
    vcpus_pause(r.vcpus);
    g_assert_cmpuint(rig_result(&r, 0), <, ROUNDS_MAX);
    rig_fini(&r);
}

/* Deadlines while waiting: after each wfi that ends with the timer pending, time must have come. Counts too
 * early wakes. */
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

/* The timer interrupts a loop that never leaves translated code; the handler sets it anew, and ends the loop
 * after N. */
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
            g_assert_cmpint(mem_read(r->mem, GPA(RAM + (uint64_t)i * PAGE), shadow + (size_t)i * PAGE, PAGE),
                            ==, 0);
}

/* vCPUs store all over 256 pages, by plain stores and atomics; a copy is kept by copying what the log names.
 */
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
    g_test_init(&argc, &argv, NULL);
    if (!rig_choose(argc, argv)) {
        puts("1..0 # SKIP this host does not have the method");
        return 0;
    }
    g_test_add_func("/vcpus/atomic-on-code", test_atomic_on_code);
    g_test_add_func("/vcpus/chip-lock", test_chip_lock);
    g_test_add_data_func("/vcpus/remote-fences/all", GINT_TO_POINTER(CALL_FENCE), test_remote_fences);
    g_test_add_data_func("/vcpus/remote-fences/page", GINT_TO_POINTER(CALL_FENCE_PAGE), test_remote_fences);
    g_test_add_func("/vcpus/pause", test_pause);
    g_test_add_func("/vcpus/online", test_online);
    g_test_add_func("/vcpus/wake", test_wake);
    g_test_add_func("/vcpus/wait/masked", test_masked_wait);
    g_test_add_func("/vcpus/timer/wait", test_timer_wait);
    g_test_add_func("/vcpus/timer/interrupt", test_timer_interrupt);
    g_test_add_func("/vcpus/dirty-log", test_dirty_log);
    return g_test_run();
}
