/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Control and status registers: who may touch which, what writes leave behind, and the counters. */
#include "lib/lib.h"
#include "lib/stub.h"

/* A one-instruction function made at run time, since the CSR number is part of the instruction. */
static u32 scratch_code[4] __attribute__((aligned(16)));

enum { CSRRW = 1, CSRRS = 2, CSRRC = 3, CSRRWI = 5, CSRRSI = 6, CSRRCI = 7 };

static struct hart *csr_op(enum mode mode, u32 f3, u32 csr, u32 rs1, u32 rd, u64 a0)
{
    scratch_code[0] = csr << 20 | rs1 << 15 | f3 << 12 | rd << 7 | 0x73;
    scratch_code[1] = 0x00008067;
    fence_i();
    return try_call(mode, (u64)scratch_code, a0, 0, 0);
}

#define A0 10

struct named {
    const char *name;
    u32 csr;
};

/* Registers that both machines have. */
static const struct named standard[] = {
    {"fflags", 0x001},     {"frm", 0x002},           {"fcsr", 0x003},        {"cycle", 0xc00},
    {"time", 0xc01},       {"instret", 0xc02},       {"hpmcounter3", 0xc03}, {"sstatus", 0x100},
    {"sie", 0x104},        {"stvec", 0x105},         {"scounteren", 0x106},  {"senvcfg", 0x10a},
    {"sscratch", 0x140},   {"sepc", 0x141},          {"scause", 0x142},      {"stval", 0x143},
    {"sip", 0x144},        {"stimecmp", 0x14d},      {"satp", 0x180},        {"mvendorid", 0xf11},
    {"marchid", 0xf12},    {"mimpid", 0xf13},        {"mhartid", 0xf14},     {"mconfigptr", 0xf15},
    {"mstatus", 0x300},    {"misa", 0x301},          {"medeleg", 0x302},     {"mideleg", 0x303},
    {"mie", 0x304},        {"mtvec", 0x305},         {"mcounteren", 0x306},  {"mscratch", 0x340},
    {"mepc", 0x341},       {"mcause", 0x342},        {"mtval", 0x343},       {"mip", 0x344},
    {"menvcfg", 0x30a},    {"pmpcfg0", 0x3a0},       {"pmpcfg2", 0x3a2},     {"pmpaddr0", 0x3b0},
    {"pmpaddr15", 0x3bf},  {"mcycle", 0xb00},        {"minstret", 0xb02},    {"mhpmcounter3", 0xb03},
    {"mhpmevent3", 0x323}, {"mcountinhibit", 0x320},
};
/* Registers that RV64 does not have. */
static const struct named absent[] = {
    {"sedeleg", 0x102},   {"sideleg", 0x103},  {"ustatus", 0x000},  {"uie", 0x004},      {"mstatush", 0x310},
    {"cycleh", 0xc80},    {"mcycleh", 0xb80},  {"pmpcfg1", 0x3a1},  {"pmpcfg3", 0x3a3},  {"menvcfgh", 0x31a},
    {"stimecmph", 0x15d}, {"hstatus", 0x600},  {"hgatp", 0x680},    {"vsstatus", 0x200}, {"vl", 0xc20},
    {"vstart", 0x008},    {"custom-u", 0x800}, {"custom-s", 0x5c0}, {"custom-m", 0x7c0}, {"custom-ro", 0xfc0},
};

static void access_matrix(const struct named *list, unsigned n)
{
    static const enum mode modes[] = {MODE_M, MODE_S, MODE_U};
    for (unsigned i = 0; i < n; i++) {
        print("csr %s:", list[i].name);
        for (unsigned m = 0; m < 3; m++) {
            /* Setting no bit through a register that is not x0 counts as a write; reads of x0 do not. */
            u64 read = csr_op(modes[m], CSRRS, list[i].csr, 0, A0, 0)->cause;
            u64 write = csr_op(modes[m], CSRRC, list[i].csr, A0, 0, 0)->cause;
            print(" %s r=%s", mode_names[modes[m]], read == 2 ? "illegal" : "ok");
            /* Read-only registers are in access_rules, because QEMU 7.2 lets this write of nothing pass. */
            if (list[i].csr >> 10 != 3) {
                print(" w=%s", write == 2 ? "illegal" : "ok");
            }
        }
        print("\n");
    }
}

/* The two rules that hold for all 4096 numbers, whatever is implemented: privilege in bits 9:8, read-only in
 * 11:10. */
static void access_rules(void)
{
    u64 bad_privilege = 0, bad_read_only = 0, bad_nothing = 0, bad_tval = 0;
    for (u32 csr = 0; csr < 4096; csr++) {
        u32 need = csr >> 8 & 3;
        if (need > MODE_U) {
            struct hart *h = csr_op(MODE_U, CSRRS, csr, 0, A0, 0);
            bad_privilege += h->cause != 2;
            bad_tval += h->tval != scratch_code[0];
        }
        if (need > MODE_S) {
            bad_privilege += csr_op(MODE_S, CSRRS, csr, 0, A0, 0)->cause != 2;
        }
        if (csr >> 10 == 3) {
            bad_read_only += csr_op(MODE_M, CSRRW, csr, 0, 0, 0)->cause != 2;
            bad_read_only += csr_op(MODE_M, CSRRSI, csr, 1, A0, 0)->cause != 2;
            bad_nothing += csr_op(MODE_M, CSRRC, csr, A0, A0, 0)->cause != 2;
        }
    }
    expect("self csr number says the privilege", bad_privilege, 0);
    expect("self csr number says read-only", bad_read_only, 0);
    expect("self csr read-only even to a write of no bit", bad_nothing, 0);
    expect("self csr illegal instruction in tval", bad_tval, 0);
}

static void counter_enables(void)
{
    static const struct named counters[] = {{"cycle", 0xc00}, {"time", 0xc01}, {"instret", 0xc02}};
    for (unsigned m = 0; m < 8; m++) {
        for (unsigned s = 0; s < 8; s++) {
            csr_write(mcounteren, m);
            csr_write(scounteren, s);
            print("mcounteren=%u scounteren=%u:", m, s);
            for (unsigned c = 0; c < 3; c++) {
                print(" %s S=%lu U=%lu", counters[c].name,
                      csr_op(MODE_S, CSRRS, counters[c].csr, 0, A0, 0)->cause,
                      csr_op(MODE_U, CSRRS, counters[c].csr, 0, A0, 0)->cause);
            }
            print("\n");
        }
    }
    csr_write(mcounteren, 7);
    csr_write(scounteren, 7);
}

static void writes_and_reads(void)
{
    u64 keep = csr_read(mstatus);
    const u64 known = 0x807fe1aa | 1ul << 63;
    csr_write(mstatus, ~(MSTATUS_MIE | MSTATUS_MPRV));
    u64 ones = csr_read(mstatus) & ~(3ul << 11);
    csr_write(mstatus, 0);
    u64 zeros = csr_read(mstatus);
    csr_write(mstatus, MSTATUS_MPRV);
    u64 mprv = csr_read(mstatus);
    csr_write(mstatus, keep);
    /* XS and VS (no such state here) are masked out, as are the bits of extensions. */
    print("mstatus ones: 0x%lx\n", ones & known & ~(3ul << 15) & ~(3ul << 9) & ~(1ul << 31));
    print("mstatus zero: 0x%lx mprv 0x%lx\n", zeros & known, mprv & known);
    expect("self csr UXL", zeros >> 32 & 3, 2);
    expect("self csr SXL", zeros >> 34 & 3, 2);
    expect("self csr MBE, SBE, UBE", zeros >> 36 & 3, 0);
    for (u64 mpp = 0; mpp < 4; mpp++) {
        csr_write(mstatus, (keep & ~MSTATUS_MPP) | mpp << 11);
        u64 got = csr_read(mstatus) >> 11 & 3;
        if (mpp == 2) {
            expect("self csr MPP never holds 2", got != 2, 1);
        } else {
            print("MPP %lu reads %lu\n", mpp, got);
        }
    }
    csr_write(mstatus, keep);
    for (u64 fs = 0; fs < 4; fs++) {
        csr_write(mstatus, (keep & ~MSTATUS_FS) | fs << 13);
        print("FS %lu: sd=%lu sstatus 0x%lx\n", fs, csr_read(mstatus) >> 63,
              csr_read(sstatus) & 0x80000000000c6122);
    }
    csr_write(mstatus, keep);
    csr_write(sstatus, ~0ul);
    print("sstatus ones: 0x%lx mstatus 0x%lx\n", csr_read(sstatus) & 0xc6122, csr_read(mstatus) & 0x7e79aa);
    csr_write(mstatus, keep);
    u64 isa = csr_read(misa);
    print("misa: mxl=%lu IMAFDCSU=0x%lx\n", isa >> 62, isa & 0x14112d);
    csr_write(misa, isa & ~4ul);
    __asm__ volatile(".balign 4");
    print("note misa.C is %s\n", csr_read(misa) & 4 ? "fixed" : "writable");
    csr_write(misa, isa);
}

static void vectors_and_scratch(void)
{
    u64 mtvec = csr_read(mtvec);
    for (u64 v = 0x80001000; v < 0x80001004; v++) {
        csr_write(mtvec, mtvec);
        csr_write(mtvec, v);
        u64 m = csr_read(mtvec);
        csr_write(mtvec, mtvec);
        csr_write(stvec, v);
        u64 s = csr_read(stvec);
        if (v & 2) {
            expect("self csr reserved mtvec mode does not stick", (m & 3) < 2, 1);
            expect("self csr reserved stvec mode does not stick", (s & 3) < 2, 1);
        } else {
            print("tvec 0x%lx: m 0x%lx s 0x%lx\n", v, m, s);
        }
    }
    static const u64 values[] = {0, ~0ul, 0x123456789abcdef0, 1ul << 63};
    for (unsigned i = 0; i < 4; i++) {
        u64 keep = csr_read(mscratch);
        csr_write(mscratch, values[i]);
        u64 m = csr_read(mscratch);
        csr_write(mscratch, keep);
        csr_write(sscratch, values[i]);
        csr_write(mtval, values[i]);
        csr_write(stval, values[i]);
        print("scratch 0x%lx: m 0x%lx s 0x%lx mtval 0x%lx stval 0x%lx\n", values[i], m, csr_read(sscratch),
              csr_read(mtval), csr_read(stval));
    }
    for (u64 c = 0; c < 16; c++) {
        csr_write(scause, c);
        csr_write(mcause, c | IRQ_BIT);
        print("cause %lu: s 0x%lx m 0x%lx\n", c, csr_read(scause), csr_read(mcause));
    }
}

static void interrupt_masks(void)
{
    csr_write(mideleg, ~0ul);
    print("mideleg ones: 0x%lx\n", csr_read(mideleg) & 0x222);
    csr_write(mie, ~0ul);
    print("mie ones: 0x%lx sie 0x%lx\n", csr_read(mie) & 0xaaa, csr_read(sie) & 0xaaa);
    csr_write(sie, 0);
    print("sie zero: mie 0x%lx\n", csr_read(mie) & 0xaaa);
    csr_write(mideleg, 0);
    csr_write(mie, ~0ul);
    print("nothing delegated: sie 0x%lx\n", csr_read(sie) & 0xaaa);
    csr_write(sie, 0);
    print("nothing delegated, sie written 0: mie 0x%lx\n", csr_read(mie) & 0xaaa);
    csr_write(mie, 0);
    csr_write(mip, ~0ul);
    print("mip ones: 0x%lx\n", csr_read(mip) & 0xaaa);
    csr_write(mideleg, 0x222);
    csr_write(sip, 0);
    print("sip zero: mip 0x%lx sip 0x%lx\n", csr_read(mip) & 0xaaa, csr_read(sip) & 0xaaa);
    csr_write(mip, 0);
    csr_write(sip, ~0ul);
    print("sip ones: mip 0x%lx sip 0x%lx\n", csr_read(mip) & 0xaaa, csr_read(sip) & 0xaaa);
    csr_write(mip, 0);
    csr_write(mideleg, 0);
}

static void address_translation(void)
{
    for (u64 mode = 0; mode < 16; mode++) {
        csr_write(satp, 0);
        u64 value = mode << 60 | (mode ? 0x80000 : 0);
        csr_write(satp, value);
        u64 got = csr_read(satp);
        csr_write(satp, 0);
        print("satp mode %lu: 0x%lx\n", mode, got);
    }
    csr_write(satp, 8ul << 60 | 0xfffful << 44 | 0x80000);
    print("note satp asid bits 0x%lx\n", csr_read(satp) >> 44 & 0xffff);
    csr_write(satp, 0);
    for (unsigned bit = 0; bit < 2; bit++) {
        csr_write(menvcfg, bit);
        csr_write(senvcfg, bit);
        print("envcfg FIOM %u: m %lu s %lu\n", bit, csr_read(menvcfg) & 1, csr_read(senvcfg) & 1);
    }
    csr_write(menvcfg, 0);
    csr_write(senvcfg, 0);
    csr_write(menvcfg, 1ul << 63);
    print("menvcfg STCE %lu\n", csr_read(menvcfg) >> 63);
    csr_write(menvcfg, 0);
}

/* Sstc: stimecmp needs menvcfg.STCE and mcounteren.TM outside machine mode. */
static void stimecmp_access(void)
{
    for (unsigned stce = 0; stce < 2; stce++) {
        for (unsigned tm = 0; tm < 2; tm++) {
            csr_write(menvcfg, (u64)stce << 63);
            csr_write(mcounteren, tm << 1);
            print("stimecmp stce=%u tm=%u: M=%lu S=%lu U=%lu\n", stce, tm,
                  csr_op(MODE_M, CSRRS, 0x14d, 0, A0, 0)->cause,
                  csr_op(MODE_S, CSRRS, 0x14d, 0, A0, 0)->cause,
                  csr_op(MODE_U, CSRRS, 0x14d, 0, A0, 0)->cause);
        }
    }
    csr_write(menvcfg, 0);
    csr_write(mcounteren, 7);
}

int main(u64 fdt)
{
    (void)fdt;
    clint_mtimecmp(0, ~0ul);
    csr_set(mstatus, MSTATUS_FS);
    csr_write(mcounteren, ~0ul);
    csr_write(scounteren, ~0ul);
    access_matrix(standard, sizeof(standard) / sizeof(standard[0]));
    access_matrix(absent, sizeof(absent) / sizeof(absent[0]));
    access_rules();
    counter_enables();
    writes_and_reads();
    vectors_and_scratch();
    interrupt_masks();
    address_translation();
    stimecmp_access();
    print("csr done\n");
    return 0;
}
