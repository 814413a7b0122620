/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Every control and status register: who may touch it, what it keeps, and that nothing written makes an
 * illegal state. */
#include <string.h>

#include "hart.h"
#include "isa/riscv/disasm.h"

/* --- the list, from the specifications: what can be written, what reads as a constant --- */

struct expect {
    uint16_t first, last;
    uint64_t writable, fixed;
};

static const struct expect expected[] = {
    {0x001, 0x001, 0x1f, 0},
    {0x002, 0x002, 0x7, 0},
    {0x003, 0x003, 0xff, 0},
    {0x106, 0x106, 0xffffffff, 0},
    {0x140, 0x140, UINT64_MAX, 0},
    {0x141, 0x141, ~UINT64_C(1), 0},
    {0x142, 0x143, UINT64_MAX, 0},
    {0x14d, 0x14d, UINT64_MAX, 0},
    {0x301, 0x301, 0, 0x800000000014112d},
    {0x302, 0x302, 0xb3ff, 0},
    {0x303, 0x303, 0x222, 0},
    {0x304, 0x304, 0xaaa, 0},
    {0x306, 0x306, 0xffffffff, 0},
    {0x320, 0x320, 0x5, 0},
    {0x323, 0x33f, 0, 0},
    {0x340, 0x340, UINT64_MAX, 0},
    {0x341, 0x341, ~UINT64_C(1), 0},
    {0x342, 0x343, UINT64_MAX, 0},
    {0x3b0, 0x3bf, 0x003fffffffffffff, 0},
    {0xb03, 0xb1f, 0, 0},
    {0xf11, 0xf13, 0, 0},
    {0xf14, 0xf14, 0, 5},
    {0xf15, 0xf15, 0, 0},
};

/* Those with rules of their own, tested below. */
static const uint16_t special[] = {0x100, 0x104, 0x105, 0x10a, 0x144, 0x180, 0x300, 0x305, 0x30a,
                                   0x344, 0x3a0, 0x3a2, 0xb00, 0xb02, 0xc00, 0xc01, 0xc02};

static bool exists(unsigned csr)
{
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++)
        if (csr >= expected[i].first && csr <= expected[i].last)
            return true;
    for (unsigned i = 0; i < ARRAY_SIZE(special); i++)
        if (csr == special[i])
            return true;
    return csr >= 0xc03 && csr <= 0xc1f;
}

static void test_names(void)
{
    static const struct {
        uint16_t first, last;
        const char *name;
    } rows[] = {
#define CSR(first, last, name, when, get, put, then) {first, last, #name},
#define CSR_FIELD(number, name, when, field, mask, then) {number, number, #name},
#include "isa/riscv/csrs.def"
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned csr = rows[i].first; csr <= rows[i].last; csr++) {
            const char *name = riscv_csr_name(csr);
            g_assert_nonnull(name);
            if (rows[i].first == rows[i].last)
                g_assert_cmpstr(name, ==, rows[i].name);
            else
                g_assert_true(g_str_has_prefix(name, rows[i].name));
        }
}

/* All numbers from all privileges, with nothing switched off. */
static void test_existence(void)
{
    static const enum riscv_priv privs[] = {RISCV_U, RISCV_S, RISCV_M};
    struct hart *h = hart_new(true);

    h->cpu->mstatus |= MSTATUS_FS;
    h->cpu->scounteren = h->cpu->mcounteren = COUNTEREN_MASK;
    for (unsigned p = 0; p < ARRAY_SIZE(privs); p++)
        for (unsigned csr = 0; csr < 4096; csr++) {
            bool may = exists(csr) && (csr >> 8 & 3) <= privs[p];
            h->cpu->priv = privs[p];
            g_assert_true(hart_traps(h, csr, false) == !may);
            g_assert_true(hart_traps(h, csr, true) == (!may || csr >> 10 == 3));
        }
    hart_free(h);
}

static void test_masks(void)
{
    struct hart *h = hart_new(false);

    hart_write(h, 0x300, MSTATUS_FS);
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++)
        for (unsigned csr = expected[i].first; csr <= expected[i].last; csr++)
            for (unsigned n = 0; n < 50 && csr >> 10 != 3; n++) {
                uint64_t value = n == 0 ? UINT64_MAX : n == 1 ? 0 : hart_pick(), other = hart_pick(), old;
                uint64_t now = (value & expected[i].writable) | expected[i].fixed;
                hart_write(h, csr, value);
                g_assert_cmphex(hart_read(h, csr), ==, now);
                /* csrrs, then csrrc */
                g_assert_cmpint(riscv_csr_access(h->cpu, csr, true, true, 0, other, &old), ==, 0);
                g_assert_cmphex(old, ==, now);
                now |= other & expected[i].writable;
                g_assert_cmpint(riscv_csr_access(h->cpu, csr, true, true, value, 0, &old), ==, 0);
                g_assert_cmphex(old, ==, now);
                now &= ~(value & expected[i].writable);
                g_assert_cmphex(hart_read(h, csr), ==, now);
            }
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++)
        if (expected[i].first >> 10 == 3)
            g_assert_cmphex(hart_read(h, expected[i].first), ==, expected[i].fixed);
    hart_free(h);
}

/* --- rules of their own --- */

static void test_status(void)
{
    const uint64_t m_mask = 0x7e79aa, s_mask = 0xc6122, two = UINT64_C(0xa) << 32; /* UXL = SXL = 2 */
    struct hart *h = hart_new(false);
    uint64_t model = 0;

    for (unsigned n = 0; n < 20000; n++) {
        uint64_t value = hart_pick();
        if (hart_random() % 2) {
            hart_write(h, 0x300, value);
            uint64_t mpp = (value >> 11 & 3) == 2 ? model & 0x1800 : value & 0x1800;
            model = (value & m_mask & ~UINT64_C(0x1800)) | mpp;
        } else {
            hart_write(h, 0x100, value);
            model = (model & ~s_mask) | (value & s_mask);
        }
        uint64_t sd = (model & 0x6000) == 0x6000 ? BIT(63) : 0;
        g_assert_cmphex(hart_read(h, 0x300), ==, model | two | sd);
        g_assert_cmphex(hart_read(h, 0x100), ==, (model & s_mask) | BIT(33) | sd);

        /* The mode word, from the definitions in cpu.h. */
        unsigned effective = model & BIT(17) ? model >> 11 & 3 : 3, index = 6;
        if (effective == 0)
            index = model & BIT(19) ? 1 : 0;
        else if (effective == 1)
            index = 2 + (model & BIT(18) ? 1 : 0) + (model & BIT(19) ? 2 : 0);
        g_assert_cmphex(h->cpu->env.mode, ==, 3 | (model >> 13 & 3) << 2 | index << 7);
    }
    hart_free(h);
}

static void test_small_fields(void)
{
    struct hart *h = hart_new(false);

    static const uint16_t vectors[] = {0x105, 0x305};
    for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++) {
        hart_write(h, vectors[i], 0x1001);
        g_assert_cmphex(hart_read(h, vectors[i]), ==, 0x1001);
        hart_write(h, vectors[i], 0x2002);
        hart_write(h, vectors[i], 0x2003);
        g_assert_cmphex(hart_read(h, vectors[i]), ==, 0x1001);
        hart_write(h, vectors[i], 0xfffffffffffffffc);
        g_assert_cmphex(hart_read(h, vectors[i]), ==, 0xfffffffffffffffc);
    }

    hart_write(h, 0x30a, UINT64_MAX);
    g_assert_cmphex(hart_read(h, 0x30a), ==, UINT64_C(0xa0000000000000f1));
    hart_write(h, 0x30a, 0xe0); /* CBIE 2 is reserved: stays 3 */
    g_assert_cmphex(hart_read(h, 0x30a), ==, 0xf0);
    hart_write(h, 0x10a, UINT64_MAX);
    g_assert_cmphex(hart_read(h, 0x10a), ==, 0xf1);
    hart_write(h, 0x10a, 0x10);
    g_assert_cmphex(hart_read(h, 0x10a), ==, 0x10);

    for (unsigned mode = 0; mode < 16; mode++) {
        uint64_t before = UINT64_C(9) << 60 | 0x123,
                 value = (uint64_t)mode << 60 | UINT64_C(0x0abcdef123456789);
        bool legal = mode == 0 || (mode >= 8 && mode <= 10);
        hart_write(h, 0x180, before);
        hart_write(h, 0x180, value);
        g_assert_cmphex(hart_read(h, 0x180), ==, legal ? value : before);
        g_assert_cmphex(isa_riscv64.address_space(&h->cpu->env), ==, mode == 0 ? 0 : legal ? value : before);
        if (legal)
            g_assert_cmphex(isa_riscv64.asid(&h->cpu->env), ==, 0xabcd);
    }
    hart_free(h);
}

static void test_gates(void)
{
    struct hart *h = hart_new(false);
    struct riscv_cpu *cpu = h->cpu;

    /* Counters: each bit of mcounteren for S, both registers for U. */
    for (unsigned n = 0; n < 5000; n++) {
        unsigned i = hart_random() % 32;
        hart_write_m(h, 0x306, hart_random());
        hart_write_m(h, 0x106, hart_random());
        bool m = cpu->mcounteren >> i & 1, s = cpu->scounteren >> i & 1;
        cpu->priv = RISCV_S;
        g_assert_true(hart_traps(h, 0xc00 + i, false) == !m);
        cpu->priv = RISCV_U;
        g_assert_true(hart_traps(h, 0xc00 + i, false) == !(m && s));
        cpu->priv = RISCV_M;
        g_assert_false(hart_traps(h, 0xc00 + i, false));
    }
    /* Floating point: off is off for everybody; a write makes it dirty. */
    for (unsigned csr = 1; csr <= 3; csr++) {
        hart_write_m(h, 0x300, 0);
        g_assert_true(hart_traps(h, csr, false));
        hart_write_m(h, 0x300, BIT(MSTATUS_FS_SHIFT));
        g_assert_false(hart_traps(h, csr, false));
        g_assert_cmphex(hart_read_m(h, 0x300) & MSTATUS_FS, ==, BIT(MSTATUS_FS_SHIFT));
        hart_write(h, csr, 0xff);
        g_assert_cmphex(hart_read_m(h, 0x300) & (MSTATUS_FS | MSTATUS_SD), ==, MSTATUS_FS | MSTATUS_SD);
        g_assert_cmpuint(riscv_mode_fs(cpu->env.mode), ==, 3);
    }
    g_assert_cmpuint(riscv_mode_frm(cpu->env.mode), ==, 7);
    /* satp: TVM. */
    cpu->priv = RISCV_S;
    g_assert_false(hart_traps(h, 0x180, true));
    hart_write_m(h, 0x300, MSTATUS_TVM);
    g_assert_true(hart_traps(h, 0x180, false));
    cpu->priv = RISCV_M;
    g_assert_false(hart_traps(h, 0x180, true));
    /* stimecmp: STCE and TM. */
    for (unsigned n = 0; n < 4; n++) {
        hart_write_m(h, 0x30a, n & 1 ? ENVCFG_STCE : 0);
        hart_write_m(h, 0x306, n & 2 ? 2 : 0);
        cpu->priv = RISCV_S;
        g_assert_true(hart_traps(h, 0x14d, true) == (n != 3));
        cpu->priv = RISCV_M;
        g_assert_false(hart_traps(h, 0x14d, true));
    }
    hart_free(h);
}

static void test_counters(void)
{
    static const struct {
        uint16_t own, shadow;
        unsigned bit;
    } counters[] = {{0xb00, 0xc00, 0}, {0xb02, 0xc02, 2}};
    struct hart *h = hart_new(false);
    uint64_t *icount = &h->cpu->env.icount;

    *icount = 1000;
    isa_riscv64.reset(&h->cpu->env);
    for (unsigned i = 0; i < ARRAY_SIZE(counters); i++) {
        unsigned csr = counters[i].own;
        g_assert_cmpuint(hart_read(h, csr), ==, *icount - 1000);
        *icount += 10;
        g_assert_cmpuint(hart_read(h, csr), ==, *icount - 1000);
        /* The instruction after the write reads what was written. */
        hart_write(h, csr, 77);
        *icount += 1;
        g_assert_cmpuint(hart_read(h, csr), ==, 77);
        *icount += 1;
        g_assert_cmpuint(hart_read(h, counters[i].shadow), ==, 78);
        /* Inhibited: stands, can be written, goes on from there. */
        hart_write(h, 0x320, BIT(counters[i].bit));
        *icount += 1;
        g_assert_cmpuint(hart_read(h, csr), ==, 79);
        *icount += 50;
        g_assert_cmpuint(hart_read(h, csr), ==, 79);
        hart_write(h, csr, UINT64_MAX);
        *icount += 1;
        g_assert_cmphex(hart_read(h, csr), ==, UINT64_MAX);
        hart_write(h, 0x320, 0);
        *icount += 1;
        g_assert_cmphex(hart_read(h, csr), ==, UINT64_MAX);
        *icount += 2;
        g_assert_cmphex(hart_read(h, csr), ==, 1);
    }
    h->now = 1000000001;
    g_assert_cmpuint(hart_read(h, 0xc01), ==, 16000000);
    h->now = 1000000063;
    g_assert_cmpuint(hart_read(h, 0xc01), ==, 16000001);
    hart_free(h);
}

static void test_interrupt_views(void)
{
    struct hart *h = hart_new(false);
    struct riscv_cpu *cpu = h->cpu;
    uint64_t old;

    hart_write(h, 0x30a, 0);
    /* Of mip only the supervisor's bits can be written; of the lines all but STIP are seen. */
    hart_write(h, 0x344, UINT64_MAX);
    g_assert_cmphex(hart_read(h, 0x344), ==, 0x222);
    hart_write(h, 0x344, 0);
    atomic_store(&cpu->env.irq_lines, UINT64_MAX & ~IP_SSIP);
    g_assert_cmphex(hart_read(h, 0x344), ==, 0xa88 & ~IP_STIP);

    /* A read-modify-write sees the line, but writes back the software bit (3.1.9). */
    g_assert_cmpint(riscv_csr_access(cpu, 0x344, true, true, 0, IP_SSIP, &old), ==, 0);
    g_assert_cmphex(old & IP_SEIP, ==, IP_SEIP);
    atomic_store(&cpu->env.irq_lines, 0);
    g_assert_cmphex(hart_read(h, 0x344), ==, IP_SSIP);
    g_assert_cmpint(riscv_csr_access(cpu, 0x344, true, true, 0, IP_SEIP, &old), ==, 0);
    g_assert_cmphex(hart_read(h, 0x344), ==, IP_SSIP | IP_SEIP);

    /* sip and sie show what is delegated; of sip only SSIP can be written. */
    for (unsigned n = 0; n < 2000; n++) {
        uint64_t deleg = hart_random() & 0x222, value = hart_random(), before;
        hart_write(h, 0x303, deleg);
        hart_write(h, 0x344, hart_random());
        before = hart_read(h, 0x344);
        g_assert_cmphex(hart_read(h, 0x144), ==, before & deleg);
        hart_write(h, 0x144, value);
        uint64_t mask = deleg & IP_SSIP;
        g_assert_cmphex(hart_read(h, 0x344), ==, (before & ~mask) | (value & mask));
        hart_write(h, 0x304, hart_random());
        before = hart_read(h, 0x304);
        g_assert_cmphex(hart_read(h, 0x104), ==, before & deleg);
        hart_write(h, 0x104, value);
        g_assert_cmphex(hart_read(h, 0x304), ==, (before & ~deleg) | (value & deleg));
    }

    /* With Sstc STIP is the comparison and cannot be written. */
    hart_write(h, 0x344, 0);
    hart_write(h, 0x30a, ENVCFG_STCE);
    hart_write(h, 0x344, IP_STIP);
    g_assert_cmphex(hart_read(h, 0x344), ==, 0);
    hart_write(h, 0x14d, 0);
    hart_write(h, 0x344, 0);
    g_assert_cmphex(hart_read(h, 0x344), ==, IP_STIP);
    hart_free(h);
}

/* --- anything goes --- */

static void check_legal(const struct riscv_cpu *cpu)
{
    unsigned mode = satp_mode(cpu->satp);

    g_assert_true(bits_get(cpu->mstatus, 11, 2) != 2);
    g_assert_true((cpu->mstatus & ~UINT64_C(0x7e79aa)) == 0);
    g_assert_true(mode == 0 || (mode >= 8 && mode <= 10));
    g_assert_true((cpu->mtvec & 2) == 0 && (cpu->stvec & 2) == 0);
    g_assert_true((cpu->mepc & 1) == 0 && (cpu->sepc & 1) == 0);
    g_assert_true((cpu->mie & ~UINT64_C(0xaaa)) == 0 && (cpu->mideleg & ~UINT64_C(0x222)) == 0);
    g_assert_true((cpu->medeleg & ~UINT64_C(0xb3ff)) == 0);
    g_assert_true((cpu->soft_ip & ~UINT64_C(0x222)) == 0);
    g_assert_true(bits_get(cpu->menvcfg, 4, 2) != 2 && bits_get(cpu->senvcfg, 4, 2) != 2);
    g_assert_cmpuint(cpu->frm, <, 8);
    g_assert_cmpuint(cpu->env.fp_flags, <, 32);
    for (unsigned i = 0; i < RISCV_PMP_ENTRIES; i++) {
        g_assert_true((cpu->pmpcfg[i] & 0x60) == 0 && (cpu->pmpcfg[i] & 3) != 2);
        g_assert_true(cpu->pmpaddr[i] >> 54 == 0);
    }
}

static void test_fuzz(void)
{
    static const enum riscv_priv privs[] = {RISCV_U, RISCV_S, RISCV_M, RISCV_M};
    struct hart *h = hart_new(false);
    uint64_t old, again;

    for (unsigned n = 0; n < 300000; n++) {
        unsigned csr = hart_random() % 4096;
        while (!exists(csr))
            csr = hart_random() % 4096;
        if (n % 4096 == 0)
            isa_riscv64.reset(&h->cpu->env);
        h->cpu->priv = privs[hart_random() % 4];
        riscv_update_mode(h->cpu);
        h->cpu->env.icount += hart_random() % 16;
        h->now += hart_random() % 1000;
        int rc = riscv_csr_access(h->cpu, csr, hart_random() % 2, hart_random() % 4, hart_pick(), hart_pick(),
                                  &old);
        g_assert_true(!!rc == h->cpu->env.exc.pending);
        h->cpu->env.exc.pending = false;
        check_legal(h->cpu);
        /* What was read can be written back and reads the same. */
        if (rc || csr >> 10 == 3 || csr == 0xb00 || csr == 0xb02)
            continue;
        if (riscv_csr_access(h->cpu, csr, true, false, 0, 0, &old) == 0 && csr != 0x344 && csr != 0x144) {
            g_assert_cmpint(riscv_csr_access(h->cpu, csr, false, true, UINT64_MAX, old, &again), ==, 0);
            g_assert_cmpint(riscv_csr_access(h->cpu, csr, true, false, 0, 0, &again), ==, 0);
            g_assert_cmphex(again, ==, old);
        }
        h->cpu->env.exc.pending = false;
    }
    hart_free(h);
}

/* --- the row --- */

static void test_row(void)
{
    g_autofree struct riscv_cpu *cpu = g_malloc0(isa_riscv64.cpu_size);
    g_autoptr(GError) error = NULL;
    struct isa_config config = {.features = "h=on", .timebase_hz = 1};
    struct cpu_host host = {0};
    g_autoptr(GString) joined = g_string_new("rv64");

    g_assert_true(isa_find("riscv64") == &isa_riscv64);
    g_assert_null(isa_find("riscv65"));
    g_assert_false(isa_riscv64.init(&cpu->env, &config, &host, &error));
    g_assert_nonnull(strstr(error->message, "\"h=on\""));

    /* The string of the device tree is its list, single letters first. */
    for (const char *const *e = riscv_isa_extensions(); *e; e++)
        g_string_append_printf(joined, "%s%s", (*e)[1] ? "_" : "", *e);
    g_assert_cmpstr(joined->str, ==, riscv_isa_string());
    g_assert_cmpstr(riscv_isa_string(), ==,
                    "rv64imafdc_zicbom_zicboz_zicntr_zicond_zicsr_zifencei_zihpm_zawrs_zba_zbb_zbc_zbs_"
                    "sstc_svade_svadu_svinval_svnapot");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/riscv/csr/names", test_names);
    g_test_add_func("/riscv/csr/existence", test_existence);
    g_test_add_func("/riscv/csr/masks", test_masks);
    g_test_add_func("/riscv/csr/status", test_status);
    g_test_add_func("/riscv/csr/small-fields", test_small_fields);
    g_test_add_func("/riscv/csr/gates", test_gates);
    g_test_add_func("/riscv/csr/counters", test_counters);
    g_test_add_func("/riscv/csr/interrupt-views", test_interrupt_views);
    g_test_add_func("/riscv/csr/fuzz", test_fuzz);
    g_test_add_func("/riscv/row", test_row);
    return g_test_run();
}
