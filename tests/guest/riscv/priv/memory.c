/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Memory: misaligned accesses, LR/SC corner cases, self-modifying code. */
#include "lib/lib.h"
#include "lib/stub.h"

STUB(m_lr_w, "lr.w a0, (a0)");
STUB(m_lr_d, "lr.d a0, (a0)");
STUB(m_sc_w, "sc.w a0, a1, (a0)");
STUB(m_sc_d, "sc.d a0, a1, (a0)");
STUB(m_amo_w, "amoadd.w a0, a1, (a0)");
STUB(m_amo_d, "amoadd.d a0, a1, (a0)");
STUB(m_ld, "ld a0, 0(a0)");
STUB(m_sd, "sd a1, 0(a0)");
STUB(m_pair, "lr.d t0, (a0)\nsc.d a0, a1, (a0)");
STUB(m_pair_other_address, "lr.d t0, (a0)\naddi a2, a0, 64\nsc.d a0, a1, (a2)");
STUB(m_pair_width, "lr.d t0, (a0)\nsc.w a0, a1, (a0)");
STUB(m_sc_alone, "lr.d t0, (a0)\nsc.d t1, a1, (a0)\nsc.d a0, a1, (a0)");
STUB(m_two_lr, "addi a2, a0, 64\nlr.d t0, (a0)\nlr.d t0, (a2)\nsc.d a0, a1, (a0)");
STUB(m_two_lr_second, "addi a2, a0, 64\nlr.d t0, (a0)\nlr.d t0, (a2)\nsc.d a0, a1, (a2)");
STUB(m_failed_sc_kills, "addi a2, a0, 64\nlr.d t0, (a0)\nsc.d t1, a1, (a2)\nsc.d a0, a1, (a0)");
STUB(m_lr_ends_in_trap, "lr.d t0, (a0)\necall");
STUB(m_sc_to_rd_zero, "lr.d t0, (a0)\nsc.d zero, a1, (a0)\nld a0, 0(a0)");
STUB(m_load_between, "lr.d t0, (a0)\nld t1, 8(a0)\nadd t1, t1, t1\nsc.d a0, a1, (a0)");

STUB(m_patch_loop,
     "lla a2, 1f\nli a0, 0\nli a1, 10\nli t1, 0x100000\n1: addi a0, a0, 1\nlw t0, 0(a2)\nadd t0, t0, t1\n"
     "sw t0, 0(a2)\nfence.i\naddi a1, a1, -1\nbnez a1, 1b");

static u64 cells[1024] __attribute__((aligned(4096)));
/* Run-time code: three separate cache lines and pages. */
static u32 code[3072] __attribute__((aligned(4096)));

static const enum mode modes[] = {MODE_M, MODE_S, MODE_U};

static void misaligned_atomics(void)
{
    static const struct {
        const char *name;
        char *stub;
        unsigned size;
    } cases[] = {{"lr.w", m_lr_w, 4}, {"lr.d", m_lr_d, 8},      {"sc.w", m_sc_w, 4},
                 {"sc.d", m_sc_d, 8}, {"amoadd.w", m_amo_w, 4}, {"amoadd.d", m_amo_d, 8}};
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned off = 0; off <= 8; off++) {
            for (unsigned m = 0; m < 3; m += 2) {
                cells[0] = 0x1111111111111111;
                cells[1] = 0x2222222222222222;
                struct hart *h = try_call(modes[m], (u64)cases[i].stub, (u64)cells + off, 5, 0);
                u64 cause = h->cause, epc = h->epc, tval = h->tval;
                if (off % cases[i].size) {
                    /*
                     * Misaligned: an address-misaligned or, equally right, an access fault; for an SC without
                     * reservation failing without a trap is right as well, so only memory is looked at.
                     */
                    print("misaligned %s +%u %s: %s memory 0x%lx 0x%lx\n", cases[i].name, off,
                          mode_names[modes[m]],
                          cases[i].stub == m_sc_w || cases[i].stub == m_sc_d ||
                                  (epc == (u64)cases[i].stub && tval == (u64)cells + off)
                              ? "traps"
                              : "bad",
                          cells[0], cells[1]);
                    if (cases[i].stub != m_sc_w && cases[i].stub != m_sc_d) {
                        bool store = cases[i].stub == m_amo_w || cases[i].stub == m_amo_d;
                        expect(store ? "self memory misaligned amo cause" : "misaligned lr cause",
                               cause == (store ? 6 : 4) || cause == (store ? 7 : 5), 1);
                    }
                } else {
                    print("aligned %s +%u %s: a0=0x%lx memory 0x%lx 0x%lx\n", cases[i].name, off,
                          mode_names[modes[m]], h->regs[10], cells[0], cells[1]);
                }
            }
        }
    }
}

/* Every misalignment, within a page and across two. */
static void misaligned_plain(void)
{
    static const unsigned bases[] = {64, 4096 - 8};
    for (unsigned b = 0; b < 2; b++) {
        for (unsigned off = 0; off < 16; off++) {
            u8 *at = (u8 *)cells + bases[b] + off;
            for (int i = 0; i < 1024; i++) {
                cells[i] = 0;
            }
            try_call(MODE_U, (u64)m_sd, (u64)at, 0x1122334455667788, 0);
            u64 sum = 0;
            for (int i = 0; i < 8; i++) {
                sum = sum << 8 | at[7 - i];
            }
            u64 back = try_call(MODE_S, (u64)m_ld, (u64)at, 0, 0)->regs[10];
            u64 next = try_call(MODE_S, (u64)m_ld, (u64)at + 3, 0, 0)->regs[10];
            print("misaligned %u+%u: bytes 0x%lx load 0x%lx +3 0x%lx around %x %x\n", bases[b], off, sum,
                  back, next, at[-1], at[8]);
        }
    }
}

static u64 pair(char *stub)
{
    cells[0] = 1;
    cells[8] = 2;
    return try_call(MODE_M, (u64)stub, (u64)cells, 77, 0)->regs[10];
}

static void reservations(void)
{
    expect("lrsc pair succeeds", pair(m_pair), 0);
    expect("lrsc pair stored", cells[0], 77);
    expect("lrsc second sc fails", pair(m_sc_alone) != 0, 1);
    expect("lrsc other address fails", pair(m_pair_other_address) != 0, 1);
    expect("lrsc other address stored nothing", cells[8], 2);
    expect("lrsc of the first of two lr fails", pair(m_two_lr) != 0, 1);
    expect("lrsc of the second of two lr", pair(m_two_lr_second), 0);
    expect("lrsc a failed sc drops the reservation", pair(m_failed_sc_kills) != 0, 1);
    expect("lrsc rd may be x0", pair(m_sc_to_rd_zero), 77);
    expect("lrsc a load in between", pair(m_load_between), 0);
    /* The reservation set may be larger than the access, or not: both are right. */
    print("note lr.d then sc.w: %lu\n", pair(m_pair_width));
    pair(m_lr_ends_in_trap);
    print("note a reservation across a trap: sc gives %lu\n",
          try_call(MODE_M, (u64)m_sc_d, (u64)cells, 9, 0)->regs[10]);
    /* Faults: an SC to a hole may fail or trap; an LR must trap. */
    struct hart *h = try_call(MODE_M, (u64)m_lr_d, RAM_END, 0, 0);
    print("lr.d of a hole: cause %lu tval 0x%lx\n", h->cause, h->tval);
    h = try_call(MODE_M, (u64)m_amo_d, RAM_END, 0, 0);
    expect("self memory amoadd.d of a hole is a store fault", h->cause, 7);
    expect("amoadd.d of a hole, tval", h->tval, RAM_END);
}

/* li a0, value; ret */
static void make_li(u32 *at, u32 value)
{
    at[0] = value << 20 | 10 << 7 | 0x13;
    at[1] = 0x00008067;
}

static void self_modifying(void)
{
    u64 bad = 0;
    for (u32 i = 0; i < 300; i++) {
        make_li(code, i);
        make_li(code + 1024, i + 1);
        fence_i();
        bad += try_call(MODE_M, (u64)code, 0, 0, 0)->regs[10] != i;
        bad += try_call(MODE_U, (u64)(code + 1024), 0, 0, 0)->regs[10] != i + 1;
    }
    expect("code rewritten 300 times", bad, 0);
    /* A loop that adds one to the immediate of its own first instruction each time round: 1 + 2 + ... + 10.
     */
    print("self-modifying loop: %lu\n", try_call(MODE_U, (u64)m_patch_loop, 0, 0, 0)->regs[10]);
    for (u32 i = 0; i < 5; i++) {
        /* An instruction that straddles two pages, its halves changed one at a time. */
        u16 *half = (u16 *)(code + 1024) - 1;
        u32 insn = (i + 3) << 20 | 10 << 7 | 0x13;
        half[0] = (u16)insn;
        half[1] = (u16)(insn >> 16);
        half[2] = 0x8067;
        half[3] = 0;
        fence_i();
        print("straddling instruction %u: %lu\n", i, try_call(MODE_U, (u64)half, 0, 0, 0)->regs[10]);
    }
}

int main(u64 fdt)
{
    (void)fdt;
    misaligned_atomics();
    misaligned_plain();
    reservations();
    self_modifying();
    print("memory done\n");
    return 0;
}
