/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* PMP against a model that looks at every byte, and its registers against the rules of locking. */
#include "hart.h"

enum { CONFIGURATIONS = 3000, PROBES = 40 };

static uint64_t random_pmpaddr(void)
{
    switch (hart_random() % 6) {
    case 0: return UINT64_MAX;
    case 1: return hart_random();
    case 2: return (hart_random() & 0xff) << 4 | 0xf;
    case 3: return bits_mask(hart_random() % 55);
    default: return hart_random() & 0x3ff;
    }
}

static void random_configuration(struct hart *h, bool locks)
{
    uint64_t cfg[2] = {0, 0};

    riscv_pmp_reset(h->cpu);
    for (unsigned i = 0; i < 16; i++) {
        hart_write(h, 0x3b0 + i, random_pmpaddr());
        uint64_t c = hart_random() & (locks ? 0xff : 0x7f);
        if (hart_random() % 3 == 0)
            c &= ~UINT64_C(0x18);
        cfg[i / 8] |= c << (i % 8 * 8);
    }
    hart_write(h, 0x3a0, cfg[0]);
    hart_write(h, 0x3a2, cfg[1]);
}

/* Addresses around the edges of the entries, where mistakes are. */
static uint64_t probe_address(const struct hart *h)
{
    uint64_t reg = h->cpu->pmpaddr[hart_random() % 16];

    switch (hart_random() % 4) {
    case 0: return hart_random() & 0xfff;
    case 1: return (reg << 2) + hart_random() % 16 - 8;
    case 2: return ((reg | bits_mask(hart_random() % 54)) << 2) + hart_random() % 16;
    default: return hart_random() & bits_mask(hart_random() % 65);
    }
}

static void check_span(const struct hart *h, uint64_t addr, unsigned priv, uint64_t span, uint8_t prot)
{
    static const uint8_t bit[] = {ISA_PROT_R, ISA_PROT_W, ISA_PROT_X};
    int here, there = -1;

    naive_pmp(h->cpu, addr, 1, ISA_LOAD, priv, &here);
    g_assert_true(is_power_of_two(span) && span <= BIT(56));
    for (unsigned n = 0; n < 12; n++) {
        uint64_t other = align_down(addr, span);
        other += n == 0 ? 0 : n == 1 ? span - 1 : hart_random() & (span - 1);
        for (enum isa_access access = ISA_LOAD; access <= ISA_FETCH; access++) {
            bool ok = naive_pmp(h->cpu, other, 1, access, priv, &there);
            g_assert_true(ok == !!(prot & bit[access]));
        }
        g_assert_cmpint(here, ==, there);
    }
    if (span == BIT(56))
        return;
    /* Twice the span would hold an edge: some byte at an edge of an entry belongs elsewhere. */
    uint64_t base = align_down(addr, 2 * span);
    bool edge = false;
    for (unsigned i = 0; i < 16 && !edge; i++) {
        uint64_t reg = h->cpu->pmpaddr[i], ones = reg ^ (reg + 1);
        uint64_t edges[] = {reg << 2, (reg << 2) + 4, (reg & ~ones) << 2, ((reg | ones) + 1) << 2};
        for (unsigned e = 0; e < ARRAY_SIZE(edges) && !edge; e++)
            for (uint64_t byte = edges[e] - 1; byte - edges[e] + 1 < 2 && !edge; byte++)
                if (byte - base < 2 * span) {
                    naive_pmp(h->cpu, byte, 1, ISA_LOAD, priv, &there);
                    edge = there != here;
                }
    }
    g_assert_true(edge);
}

static void test_against_bytes(void)
{
    struct hart *h = hart_new(false);

    for (unsigned c = 0; c < CONFIGURATIONS; c++) {
        random_configuration(h, c & 1);
        for (unsigned p = 0; p < PROBES; p++) {
            uint64_t addr = probe_address(h), span;
            unsigned size = 1u << (hart_random() % 4), priv = (unsigned[]){0, 1, 3}[hart_random() % 3];
            enum isa_access access = (enum isa_access)(hart_random() % 3);
            uint8_t prot;
            int matched;
            if (addr + size < addr)
                continue;
            bool expect = naive_pmp(h->cpu, addr, size, access, priv, &matched);
            bool got = riscv_pmp_check(h->cpu, GPA(addr), size, access, priv, &span, &prot);
            g_assert_true(got == expect);
            if (matched != -2)
                check_span(h, addr, priv, span, prot);
        }
    }
    hart_free(h);
}

/* The registers themselves: what a write may change, from section 3.7.1's rules about L, A and reserved
 * patterns. */
static void test_registers(void)
{
    struct hart *h = hart_new(false);
    uint8_t cfg[16] = {0};
    uint64_t addr[16] = {0};

    for (unsigned n = 0; n < 20000; n++) {
        if (n % 64 == 0) {
            riscv_pmp_reset(h->cpu);
            memset(cfg, 0, sizeof(cfg));
            memset(addr, 0, sizeof(addr));
        }
        uint64_t value = hart_pick();
        unsigned i = hart_random() % 16;
        if (hart_random() % 8 == 0) {
            unsigned first = i / 8 * 8;
            if (hart_random() % 4)
                value &= UINT64_C(0x7f7f7f7f7f7f7f7f);
            hart_write(h, first ? 0x3a2 : 0x3a0, value);
            for (unsigned k = first; k < first + 8; k++, value >>= 8)
                if (!(cfg[k] & 0x80))
                    cfg[k] = (value & 3) == 2 ? value & 0x9d : value & 0x9f;
        } else {
            hart_write(h, 0x3b0 + i, value);
            bool below_locked_tor = i < 15 && (cfg[i + 1] & 0x98) == 0x88;
            if (!(cfg[i] & 0x80) && !below_locked_tor)
                addr[i] = value & bits_mask(54);
        }
        for (unsigned k = 0; k < 16; k++) {
            g_assert_cmphex(hart_read(h, 0x3b0 + k), ==, addr[k]);
            g_assert_cmphex(hart_read(h, k < 8 ? 0x3a0 : 0x3a2) >> (k % 8 * 8) & 0xff, ==, cfg[k]);
        }
    }
    hart_free(h);
}

/* Nothing configured: M-mode may do everything, others nothing; and a change drops cached translations. */
static void test_off(void)
{
    struct hart *h = hart_new(false);
    uint64_t span;
    uint8_t prot;

    g_assert_true(riscv_pmp_check(h->cpu, GPA(HART_RAM), 8, ISA_STORE, RISCV_M, &span, &prot));
    g_assert_cmphex(span, ==, BIT(56));
    g_assert_false(riscv_pmp_check(h->cpu, GPA(HART_RAM), 8, ISA_LOAD, RISCV_S, &span, &prot));
    g_assert_false(riscv_pmp_check(h->cpu, GPA(HART_RAM), 8, ISA_FETCH, RISCV_U, &span, &prot));
    unsigned before = h->flushes;
    hart_write(h, 0x3b0, 1);
    g_assert_cmpuint(h->flushes, >, before);
    hart_free(h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/riscv/pmp/off", test_off);
    g_test_add_func("/riscv/pmp/registers", test_registers);
    g_test_add_func("/riscv/pmp/against-bytes", test_against_bytes);
    return g_test_run();
}
