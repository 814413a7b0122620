/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Traps and returns of random harts against a model of section 3.1 and 4.1; interrupts, the timer, built-in
 * firmware. */
#include "hart.h"

/* --- the model: fields by themselves, as the specification's text has them --- */

struct model {
    unsigned priv;
    bool mie, sie, mpie, spie, mprv, tsr;
    unsigned mpp, spp;
    uint64_t pc, mepc, sepc, mcause, scause, mtval, stval;
};

static struct model model_of(const struct riscv_cpu *cpu)
{
    uint64_t s = cpu->mstatus;

    return (struct model){
        .priv = cpu->priv,
        .mie = s >> 3 & 1,
        .sie = s >> 1 & 1,
        .mpie = s >> 7 & 1,
        .spie = s >> 5 & 1,
        .mprv = s >> 17 & 1,
        .tsr = s >> 22 & 1,
        .mpp = s >> 11 & 3,
        .spp = s >> 8 & 1,
        .pc = cpu->env.pc,
        .mepc = cpu->mepc,
        .sepc = cpu->sepc,
        .mcause = cpu->mcause,
        .scause = cpu->scause,
        .mtval = cpu->mtval,
        .stval = cpu->stval,
    };
}

static void check_model(const struct riscv_cpu *cpu, const struct model *m)
{
    struct model is = model_of(cpu);

    g_assert_cmpuint(is.priv, ==, m->priv);
    g_assert_cmpuint(riscv_mode_priv(cpu->env.mode), ==, m->priv);
    g_assert_true(is.mie == m->mie && is.sie == m->sie && is.mpie == m->mpie && is.spie == m->spie);
    g_assert_true(is.mprv == m->mprv && is.tsr == m->tsr && is.mpp == m->mpp && is.spp == m->spp);
    g_assert_cmphex(is.pc, ==, m->pc);
    g_assert_true(is.mepc == m->mepc && is.mcause == m->mcause && is.mtval == m->mtval);
    g_assert_true(is.sepc == m->sepc && is.scause == m->scause && is.stval == m->stval);
}

static void model_enter(struct model *m, const struct riscv_cpu *cpu, bool interrupt, unsigned cause,
                        uint64_t tval)
{
    uint64_t deleg = interrupt ? cpu->mideleg : cpu->medeleg;
    bool to_s = m->priv != 3 && (deleg >> cause & 1);
    uint64_t tvec = to_s ? cpu->stvec : cpu->mtvec, number = cause | (uint64_t)interrupt << 63;

    if (to_s) {
        m->spie = m->sie, m->sie = false, m->spp = m->priv;
        m->sepc = m->pc, m->scause = number, m->stval = tval, m->priv = 1;
    } else {
        m->mpie = m->mie, m->mie = false, m->mpp = m->priv;
        m->mepc = m->pc, m->mcause = number, m->mtval = tval, m->priv = 3;
    }
    m->pc = (tvec & ~UINT64_C(3)) + (interrupt && (tvec & 3) == 1 ? 4 * cause : 0);
}

/* Section 3.1.9: the interrupt to be taken, or -1. */
static int model_interrupt(const struct model *m, const struct riscv_cpu *cpu, uint64_t mip)
{
    static const unsigned order[] = {11, 3, 7, 9, 1, 5};

    for (int target = 3; target >= 1; target -= 2)
        for (unsigned i = 0; i < 6; i++) {
            unsigned n = order[i];
            bool delegated = cpu->mideleg >> n & 1;
            bool enabled = m->priv < (unsigned)target ||
                           (m->priv == (unsigned)target && (target == 3 ? m->mie : m->sie));
            if ((mip & cpu->mie) >> n & 1 && delegated == (target == 1) && enabled)
                return (int)n;
        }
    return -1;
}

static void randomize(struct hart *h)
{
    static const uint16_t csrs[] = {0x300, 0x302, 0x303, 0x304, 0x305, 0x341, 0x105, 0x141, 0x344};
    static const enum riscv_priv privs[] = {RISCV_U, RISCV_S, RISCV_M};

    h->cpu->priv = RISCV_M;
    for (unsigned i = 0; i < ARRAY_SIZE(csrs); i++)
        hart_write(h, csrs[i], hart_pick());
    atomic_store(&h->cpu->env.irq_lines, hart_random() & hart_random() & IP_ALL);
    h->cpu->env.pc = hart_random() & ~UINT64_C(1);
    riscv_set_priv(h->cpu, privs[hart_random() % 3]);
    atomic_store(&h->cpu->env.exit_request, 0);
}

static void test_exceptions(void)
{
    static const uint8_t causes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15};
    struct hart *h = hart_new(false);

    for (unsigned n = 0; n < 50000; n++) {
        unsigned cause = causes[hart_random() % ARRAY_SIZE(causes)];
        uint64_t tval = hart_random();
        randomize(h);
        struct model m = model_of(h->cpu);
        model_enter(&m, h->cpu, false, cause, tval);
        h->cpu->env.excl_addr = 0x1000;
        riscv_raise(h->cpu, (enum riscv_cause)cause, tval);
        riscv_take_exception(&h->cpu->env);
        check_model(h->cpu, &m);
        g_assert_false(h->cpu->env.exc.pending);
        g_assert_cmphex(h->cpu->env.excl_addr, ==, ENV_NO_RESERVATION);
    }
    g_assert_cmpuint(h->calls, ==, 0);
    hart_free(h);
}

static void test_interrupts(void)
{
    struct hart *h = hart_new(false);
    unsigned taken[12] = {0};

    for (unsigned n = 0; n < 100000; n++) {
        randomize(h);
        struct model m = model_of(h->cpu);
        uint64_t mip = hart_read_m(h, 0x344);
        int expect = model_interrupt(&m, h->cpu, mip);
        g_assert_true(riscv_wakes(&h->cpu->env) == !!(mip & h->cpu->mie));
        if (expect >= 0) {
            model_enter(&m, h->cpu, true, (unsigned)expect, 0);
            taken[expect]++;
        }
        g_assert_true(riscv_poll_interrupt(&h->cpu->env) == (expect >= 0));
        check_model(h->cpu, &m);
    }
    for (unsigned i = 1; i < 12; i += 2)
        g_assert_cmpuint(taken[i], >, 100);
    hart_free(h);
}

static void test_returns(void)
{
    struct hart *h = hart_new(false);

    for (unsigned n = 0; n < 50000; n++) {
        bool machine = hart_random() % 2;
        randomize(h);
        struct model m = model_of(h->cpu);
        bool legal = machine ? m.priv == 3 : m.priv == 3 || (m.priv == 1 && !m.tsr);
        if (legal && machine) {
            m.priv = m.mpp, m.mie = m.mpie, m.mpie = true, m.mpp = 0, m.pc = m.mepc;
            m.mprv = m.mprv && m.priv == 3;
        } else if (legal) {
            m.priv = m.spp, m.sie = m.spie, m.spie = true, m.spp = 0, m.pc = m.sepc, m.mprv = false;
        }
        (machine ? riscv_mret : riscv_sret)(h->cpu);
        check_model(h->cpu, &m);
        g_assert_true(h->cpu->env.exc.pending == !legal);
        if (!legal) {
            g_assert_cmpuint(h->cpu->env.exc.cause, ==, RISCV_EXC_ILLEGAL);
            g_assert_cmphex(h->cpu->env.exc.value, ==, machine ? 0x30200073 : 0x10200073);
            h->cpu->env.exc.pending = false;
        }
    }
    hart_free(h);
}

/* Nobody asks for a poll but those who raise lines: whatever the hart itself does to make an interrupt
 * takeable must ask. */
static void test_nothing_is_missed(void)
{
    static const uint16_t csrs[] = {0x300, 0x100, 0x303, 0x304, 0x104, 0x344, 0x144, 0x30a, 0x14d};
    struct hart *h = hart_new(false);
    unsigned asked = 0;

    for (unsigned n = 0; n < 100000; n++) {
        uint64_t old;
        randomize(h);
        /* As at a block boundary: what can be taken has been. */
        while (riscv_poll_interrupt(&h->cpu->env))
            ;
        unsigned what = hart_random() % (ARRAY_SIZE(csrs) + 2);
        if (what == ARRAY_SIZE(csrs))
            riscv_mret(h->cpu);
        else if (what > ARRAY_SIZE(csrs))
            riscv_sret(h->cpu);
        else
            riscv_csr_access(h->cpu, csrs[what], true, true, hart_pick(), hart_pick(), &old);
        if (what < ARRAY_SIZE(csrs))
            g_assert_true(riscv_csr_ends_block(csrs[what]));
        h->cpu->env.exc.pending = false;
        struct model m = model_of(h->cpu);
        bool takeable = model_interrupt(&m, h->cpu, hart_read_m(h, 0x344)) >= 0;
        if (takeable)
            g_assert_cmphex(atomic_load(&h->cpu->env.exit_request) & ENV_EXIT_IRQ, ==, ENV_EXIT_IRQ);
        asked += takeable;
    }
    g_assert_cmpuint(asked, >, 1000);
    hart_free(h);
}

static void test_timer(void)
{
    struct hart *h = hart_new(true);
    struct riscv_cpu *cpu = h->cpu;

    g_assert_cmphex(h->timer, ==, UINT64_MAX);
    hart_write(h, 0x104, IP_STIP);
    cpu->mstatus |= MSTATUS_SIE;
    /* 16 MHz: 62.5 ns a tick; tick 3 is reached at 187.5 ns. */
    hart_write(h, 0x14d, 3);
    g_assert_cmpuint(h->timer, ==, 188);
    h->now = 187;
    g_assert_cmpuint(riscv_time(cpu), ==, 2);
    g_assert_false(riscv_poll_interrupt(&cpu->env));
    g_assert_false(riscv_wakes(&cpu->env));
    h->now = 188;
    g_assert_cmpuint(riscv_time(cpu), ==, 3);
    g_assert_true(riscv_wakes(&cpu->env));
    g_assert_true(riscv_poll_interrupt(&cpu->env));
    g_assert_cmphex(cpu->scause, ==, BIT(63) | 5);
    g_assert_false(riscv_poll_interrupt(&cpu->env));
    /* The kick comes while interrupts are off: enabling them asks for a poll. */
    hart_write(h, 0x14d, 6);
    g_assert_cmpuint(h->timer, ==, 375);
    h->now = 375;
    atomic_store(&cpu->env.exit_request, 0);
    g_assert_false(riscv_poll_interrupt(&cpu->env));
    hart_write(h, 0x100, MSTATUS_SIE);
    g_assert_cmphex(atomic_load(&cpu->env.exit_request), ==, ENV_EXIT_IRQ);
    g_assert_true(riscv_poll_interrupt(&cpu->env));
    /* Later: not pending any more, armed anew. */
    hart_write(h, 0x14d, 16000000);
    g_assert_cmpuint(h->timer, ==, 1000000000);
    g_assert_cmphex(hart_read(h, 0x144), ==, 0);
    /* The past: pending at once, nothing to arm. */
    hart_write(h, 0x14d, 1);
    g_assert_cmphex(h->timer, ==, UINT64_MAX);
    g_assert_cmphex(hart_read(h, 0x144), ==, IP_STIP);
    /* Never; and as far as the clock does not reach. */
    hart_write(h, 0x14d, UINT64_MAX);
    g_assert_cmphex(h->timer, ==, UINT64_MAX);
    g_assert_cmphex(hart_read(h, 0x144), ==, 0);
    /* For every tick the deadline is the first nanosecond that shows it. */
    for (unsigned n = 0; n < 20000; n++) {
        uint64_t tick = hart_random() >> (11 + hart_random() % 50);
        h->now = 0;
        hart_write(h, 0x14d, tick);
        if (h->timer == UINT64_MAX)
            continue;
        h->now = h->timer;
        g_assert_cmpuint(riscv_time(cpu), >=, tick);
        h->now--;
        g_assert_cmpuint(riscv_time(cpu), <, tick);
    }
    hart_free(h);
}

static void test_builtin_firmware(void)
{
    struct hart *h = hart_new(true);
    struct riscv_cpu *cpu = h->cpu;
    uint64_t span;
    uint8_t prot;

    /* S-mode owns the machine. */
    g_assert_cmpuint(cpu->priv, ==, RISCV_S);
    g_assert_true(riscv_pmp_check(cpu, GPA(0), 8, ISA_FETCH, RISCV_U, &span, &prot));
    g_assert_cmphex(span, ==, BIT(56));
    g_assert_false(hart_traps(h, 0x14d, true));
    g_assert_false(hart_traps(h, 0xc01, false));

    /* Handled: behind the instruction, no trap. The firmware sees the pc it will go on from. */
    cpu->stvec = 0x4000;
    cpu->env.pc = 0x1000;
    h->answers = true;
    riscv_raise(cpu, RISCV_EXC_ECALL_S, 0);
    riscv_take_exception(&cpu->env);
    g_assert_cmphex(cpu->env.pc, ==, 0x1004);
    g_assert_cmphex(cpu->env.reg[10], ==, 0x1004);
    g_assert_cmpuint(cpu->scause, ==, 0);
    /* Not handled: the guest's own. */
    h->answers = false;
    riscv_raise(cpu, RISCV_EXC_ECALL_S, 0);
    riscv_take_exception(&cpu->env);
    g_assert_cmphex(cpu->sepc, ==, 0x1004);
    g_assert_cmpuint(cpu->scause, ==, 9);
    g_assert_cmphex(cpu->env.pc, ==, 0x4000);
    g_assert_cmpuint(h->calls, ==, 2);

    /* No exception of S or U finds its way to M-mode. */
    for (unsigned cause = 0; cause < 16; cause++) {
        if (cause == 10 || cause == 11 || cause == 14)
            continue;
        riscv_set_priv(cpu, cause & 1 ? RISCV_S : RISCV_U);
        riscv_raise(cpu, (enum riscv_cause)cause, 0);
        riscv_take_exception(&cpu->env);
        g_assert_cmpuint(cpu->priv, ==, RISCV_S);
    }
    /* Another vCPU's IPI. */
    riscv_set_priv(cpu, RISCV_U);
    hart_write_m(h, 0x304, IP_SSIP);
    atomic_fetch_or(&cpu->soft_ip, IP_SSIP);
    g_assert_true(riscv_poll_interrupt(&cpu->env));
    g_assert_cmphex(cpu->scause, ==, BIT(63) | 1);
    hart_free(h);
}

static void test_reset(void)
{
    struct hart *h = hart_new(false);
    struct riscv_cpu *cpu = h->cpu;

    for (unsigned n = 0; n < 200; n++) {
        randomize(h);
        cpu->env.reg[n % 64] = hart_random();
        cpu->satp = UINT64_C(8) << 60;
        cpu->pmpcfg[n % 16] = 0x9f;
        unsigned flushes = h->flushes;
        isa_riscv64.reset(&cpu->env);
        g_assert_cmpuint(cpu->priv, ==, RISCV_M);
        g_assert_cmphex(cpu->mstatus & (MSTATUS_MIE | MSTATUS_MPRV), ==, 0);
        g_assert_cmphex(hart_read(h, 0x342), ==, 0);
        g_assert_cmphex(hart_read(h, 0x3a0) | hart_read(h, 0x3a2), ==, 0);
        g_assert_cmphex(cpu->satp | cpu->env.pc | cpu->env.reg[n % 64], ==, 0);
        g_assert_cmpuint(cpu->env.mode, ==, 3 | RISCV_MMU_M << RISCV_MODE_MMU);
        g_assert_cmpuint(h->flushes, >, flushes);
        g_assert_cmphex(h->timer, ==, UINT64_MAX);
    }
    hart_free(h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/riscv/trap/exceptions", test_exceptions);
    g_test_add_func("/riscv/trap/interrupts", test_interrupts);
    g_test_add_func("/riscv/trap/returns", test_returns);
    g_test_add_func("/riscv/trap/nothing-is-missed", test_nothing_is_missed);
    g_test_add_func("/riscv/trap/timer", test_timer);
    g_test_add_func("/riscv/trap/builtin-firmware", test_builtin_firmware);
    g_test_add_func("/riscv/trap/reset", test_reset);
    return g_test_run();
}
