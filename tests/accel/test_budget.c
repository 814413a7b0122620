/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The instruction budget: a vCPU stops behind exactly so many instructions, wherever blocks begin and end. */
#include <stdio.h>
#include <string.h>

#include "rig.h"

enum { TOTAL = 900, INTEGER_REGISTERS = 32 };

/* What is exact at a stop. */
struct moment {
    uint64_t pc, mode, reg[INTEGER_REGISTERS], memory;
};

/*
 * Straight code longer than a block, loops of one and of several blocks, a call and a return, a computed
 * jump, loads, stores and an atomic operation, the instruction counter read by the guest itself, and an
 * exception in the middle of a block whose handler skips the instruction.
 */
static void program(struct rv *p)
{
    enum { CSR_MTVEC = 0x305, CSR_MEPC = 0x341, CSR_MINSTRET = 0xb02 };
    rv_li(p, S1, RESULT);
    unsigned handler = p->n;
    rv(p, 0), rv(p, 0);
    rv(p, CSRRW(ZERO, CSR_MTVEC, T0));
    for (int i = 0; i < 100; i++)
        rv(p, ADDI(S2, S2, i));
    uint64_t outer = rv_here(p);
    rv(p, ADDI(S3, ZERO, 7));
    uint64_t inner = rv_here(p);
    rv(p, ADD(S2, S2, S3));
    rv(p, ADDI(S3, S3, -1));
    rv_branch(p, BNE, S3, ZERO, inner);
    rv(p, CSRRS(S4, CSR_MINSTRET, ZERO));
    rv(p, SD(S4, S1, 128));
    rv(p, LD(S5, S1, 128));
    rv(p, ADDI(S6, S6, 1));
    rv(p, ECALL());
    rv(p, ADDI(S6, S6, 1));
    rv(p, AMOADD_D(S7, S6, S1));
    rv_jump(p, RA, rv_here(p) + 8);
    rv_jump(p, ZERO, outer);
    rv(p, XORI(S2, S2, 0x55));
    rv(p, RET());
    struct rv set = {.base = p->base + 4 * handler};
    while (rv_here(p) & 3)
        rv(p, ADDI(ZERO, ZERO, 0));
    rv_li(&set, T0, (int64_t)rv_here(p));
    memcpy(&p->word[handler], set.word, 2 * sizeof(set.word[0]));
    rv(p, CSRRS(T1, CSR_MEPC, ZERO));
    rv(p, ADDI(T1, T1, 4));
    rv(p, CSRRW(ZERO, CSR_MEPC, T1));
    rv(p, 0x30200073); /* mret */
}

/* Lets the vCPU run until `budget` instructions are retired in all, and says what it is like then. */
static void run_to(struct rig *r, uint64_t budget, struct moment *out)
{
    struct env *env = vcpus_env(r->vcpus, 0);
    gint64 limit = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    env->budget = budget;
    while (env->icount != budget) {
        g_assert_cmpuint(env->icount, <, budget);
        g_assert_cmpint(g_get_monotonic_time(), <, limit);
        vcpus_resume(r->vcpus);
        g_usleep(20);
        vcpus_pause(r->vcpus);
    }
    *out = (struct moment){.pc = env->pc, .mode = env->mode, .memory = rig_get(r, RESULT)};
    memcpy(out->reg, env->reg, sizeof(out->reg));
}

/* Runs the program by the method in steps of so many instructions; visits every stop. */
static void run_in_steps(const char *method, const char *tuning, unsigned step, struct moment *moments)
{
    const char *methods = rig_method, *tunings = rig_tuning;
    struct rig r;
    rig_method = method;
    rig_tuning = tuning;
    rig_init(&r, &(struct rig_config){0});
    rig_method = methods;
    rig_tuning = tunings;
    struct rv p = {.base = CODE};
    program(&p);
    rig_load(&r, &p);
    rig_start(&r, 0, CODE, 0);
    for (unsigned at = step; at <= TOTAL; at += step)
        run_to(&r, at, &moments[at]);
    rig_fini(&r);
}

/* The state behind each instruction, one at a time. */
static struct moment reference[TOTAL + 1], found[TOTAL + 1];

static void test_reference(void)
{
    run_in_steps("emulation", "counted", 1, reference);
    unsigned counted = 0;
    for (unsigned i = 2; i <= TOTAL; i++) {
        const uint64_t *now = reference[i].reg, *before = reference[i - 1].reg;
        if (now[S4] == before[S4])
            continue;
        g_assert_cmpuint(now[S4], ==, i - 1); /* the guest has counted the same */
        counted++;
    }
    g_assert_cmpuint(counted, >, 10);
}

static void test_steps(gconstpointer opaque)
{
    unsigned step = GPOINTER_TO_UINT(opaque);
    run_in_steps(rig_method, rig_tuning, step, found);
    for (unsigned at = step; at <= TOTAL; at += step)
        if (memcmp(&found[at], &reference[at], sizeof(found[at])))
            g_error("behind %u instructions: pc 0x%" G_GINT64_MODIFIER "x, not 0x%" G_GINT64_MODIFIER "x", at,
                    found[at].pc, reference[at].pc);
}

int main(int argc, char **argv)
{
    static const unsigned steps[] = {1, 2, 3, 5, 7, 13, 31, 64, 65, 100, 299, 450};
    g_test_init(&argc, &argv, NULL);
    if (!rig_choose(argc, argv)) {
        puts("1..0 # SKIP this host does not have the method");
        return 0;
    }
    g_test_add_func("/budget/reference", test_reference);
    for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autofree char *path = g_strdup_printf("/budget/steps/%u", steps[i]);
        g_test_add_data_func(path, GUINT_TO_POINTER(steps[i]), test_steps);
    }
    return g_test_run();
}
