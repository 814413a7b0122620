/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A hart saved and loaded: every register that can be read is as before, and what no guest can make is
 * refused. */
#include <string.h>

#include "base/state.h"
#include "hart.h"

enum { ROUNDS = 300, CSRS = 4096 };

static size_t size(void)
{
    return state_size(isa_riscv64.state, isa_riscv64.version);
}

static void save(struct hart *h, uint8_t *bytes)
{
    state_save(isa_riscv64.state, isa_riscv64.version, h->cpu, bytes);
}

static bool load(struct hart *h, const uint8_t *bytes)
{
    isa_riscv64.reset(&h->cpu->env);
    return state_load(isa_riscv64.state, isa_riscv64.version, h->cpu, bytes) &&
           isa_riscv64.loaded(&h->cpu->env);
}

/* What guests do to a hart: any registers written, any privilege. */
static void shuffle(struct hart *h)
{
    for (unsigned csr = 0; csr < CSRS; csr++) {
        uint64_t old;
        const bool lock = csr >= 0x3a0 && csr < 0x3b0; /* locked entries would stay so for all rounds */
        riscv_csr_access(h->cpu, csr, true, csr >> 10 != 3, UINT64_MAX,
                         lock ? hart_pick() & ~UINT64_C(0x8080808080808080) : hart_pick(), &old);
        h->cpu->env.exc.pending = false;
    }
    for (unsigned i = 1; i < RISCV_REG_COUNT; i++)
        h->cpu->env.reg[i] = hart_random();
    h->cpu->env.pc = hart_random() & ~UINT64_C(1);
    h->cpu->env.icount = hart_random() >> 8;
    static const enum riscv_priv privs[] = {RISCV_U, RISCV_S, RISCV_M};
    riscv_set_priv(h->cpu, privs[hart_random() % 3]);
}

/* Everything that M-mode can see, in out. */
static void look(struct hart *h, uint64_t *out)
{
    const enum riscv_priv priv = (enum riscv_priv)h->cpu->priv;
    riscv_set_priv(h->cpu, RISCV_M);
    for (unsigned csr = 0; csr < CSRS; csr++) {
        out[csr] = 0;
        riscv_csr_access(h->cpu, csr, true, false, 0, 0, &out[csr]);
        h->cpu->env.exc.pending = false;
    }
    riscv_set_priv(h->cpu, priv);
}

static void test_round_trip(void)
{
    struct hart *h = hart_new(false);
    g_autofree uint8_t *one = g_malloc(size()), *two = g_malloc(size());
    g_autofree uint64_t *before = g_new(uint64_t, CSRS), *after = g_new(uint64_t, CSRS);
    for (unsigned i = 0; i < ROUNDS; i++) {
        h->now = hart_random() >> 20;
        riscv_set_priv(h->cpu, RISCV_M);
        shuffle(h);
        save(h, one);
        look(h, before);
        const uint32_t mode = h->cpu->env.mode;
        const uint64_t timer = h->timer, first = h->cpu->pmp_first[3], last = h->cpu->pmp_last[3];
        g_assert_true(load(h, one));
        g_assert_cmphex(h->cpu->env.mode, ==, mode);
        g_assert_cmphex(h->timer, ==, timer);
        g_assert_cmphex(h->cpu->pmp_first[3], ==, first);
        g_assert_cmphex(h->cpu->pmp_last[3], ==, last);
        look(h, after);
        for (unsigned csr = 0; csr < CSRS; csr++)
            if (before[csr] != after[csr])
                g_error("register 0x%x was 0x%" G_GINT64_MODIFIER "x and is 0x%" G_GINT64_MODIFIER "x", csr,
                        before[csr], after[csr]);
        save(h, two);
        g_assert_cmpmem(one, size(), two, size());
    }
    hart_free(h);
}

/* Of one byte changed at random, what is loaded can be saved again and is the same; so nothing of it is given
 * up silently. */
static void test_hostile(void)
{
    struct hart *h = hart_new(false);
    g_autofree uint8_t *one = g_malloc(size()), *two = g_malloc(size());
    unsigned refused = 0;
    shuffle(h);
    save(h, one);
    for (unsigned i = 0; i < ROUNDS * 20; i++) {
        const size_t at = hart_random() % size();
        const uint8_t old = one[at];
        one[at] = (uint8_t)hart_random();
        if (load(h, one)) {
            save(h, two);
            g_assert_cmpmem(one, size(), two, size());
            uint64_t seen[4];
            riscv_set_priv(h->cpu, RISCV_M);
            for (unsigned csr = 0x300; csr < 0x304; csr++) {
                riscv_csr_access(h->cpu, csr, true, false, 0, 0, &seen[csr - 0x300]);
                riscv_csr_access(h->cpu, csr, false, true, UINT64_MAX, seen[csr - 0x300], &seen[0]);
            }
        } else {
            refused++;
        }
        one[at] = old;
    }
    g_assert_cmpuint(refused, >, ROUNDS);
    hart_free(h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/riscv/state/round-trip", test_round_trip);
    g_test_add_func("/riscv/state/hostile", test_hostile);
    return g_test_run();
}
