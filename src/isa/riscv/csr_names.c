/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * The names of the control and status registers of RV64, for people who read disassembly.
 *
 * Source: volume II, tables 3 to 7 of chapter 2. The numbered families are written by macros; their 32-bit
 * "h" halves do not exist on RV64.
 */
#include "isa/riscv/disasm.h"

#define ONE(base, name, i) [(base) + (i)] = name #i,
#define FOUR(base, name, a, b, c, d)                                                                         \
    ONE(base, name, a) ONE(base, name, b) ONE(base, name, c) ONE(base, name, d)
/* The wrapping of lines of calls without semicolons is not stable from one formatting to the next. */
/* clang-format off */
#define FROM_8_TO_31(base, name)                                                                             \
    FOUR(base, name, 8, 9, 10, 11)                                                                           \
    FOUR(base, name, 12, 13, 14, 15)                                                                         \
    FOUR(base, name, 16, 17, 18, 19) FOUR(base, name, 20, 21, 22, 23) FOUR(base, name, 24, 25, 26, 27)       \
        FOUR(base, name, 28, 29, 30, 31)
#define FROM_3_TO_31(base, name) ONE(base, name, 3) FOUR(base, name, 4, 5, 6, 7) FROM_8_TO_31(base, name)
#define FROM_0_TO_31(base, name)                                                                             \
    FOUR(base, name, 0, 1, 2, 3) FOUR(base, name, 4, 5, 6, 7) FROM_8_TO_31(base, name)
#define FROM_32_TO_63(base, name)                                                                            \
    FOUR(base, name, 32, 33, 34, 35)                                                                         \
    FOUR(base, name, 36, 37, 38, 39)                                                                         \
    FOUR(base, name, 40, 41, 42, 43) FOUR(base, name, 44, 45, 46, 47) FOUR(base, name, 48, 49, 50, 51)       \
        FOUR(base, name, 52, 53, 54, 55) FOUR(base, name, 56, 57, 58, 59) FOUR(base, name, 60, 61, 62, 63)
/* clang-format on */

const char *riscv_csr_name(unsigned csr)
{
    static const char *const names[4096] = {
        /* Unprivileged */
        [0x001] = "fflags",
        [0x002] = "frm",
        [0x003] = "fcsr",
        [0x008] = "vstart",
        [0x009] = "vxsat",
        [0x00a] = "vxrm",
        [0x00f] = "vcsr",
        [0x015] = "seed",
        [0xc00] = "cycle",
        [0xc01] = "time",
        [0xc02] = "instret",
        [0xc20] = "vl",
        [0xc21] = "vtype",
        [0xc22] = "vlenb",
        /* Supervisor */
        [0x100] = "sstatus",
        [0x104] = "sie",
        [0x105] = "stvec",
        [0x106] = "scounteren",
        [0x10a] = "senvcfg",
        [0x10c] = "sstateen0",
        [0x10d] = "sstateen1",
        [0x10e] = "sstateen2",
        [0x10f] = "sstateen3",
        [0x140] = "sscratch",
        [0x141] = "sepc",
        [0x142] = "scause",
        [0x143] = "stval",
        [0x144] = "sip",
        [0x14d] = "stimecmp",
        [0x150] = "siselect",
        [0x151] = "sireg",
        [0x15c] = "stopei",
        [0x180] = "satp",
        [0x5a8] = "scontext",
        [0xda0] = "scountovf",
        [0xdb0] = "stopi",
        /* Machine */
        [0xf11] = "mvendorid",
        [0xf12] = "marchid",
        [0xf13] = "mimpid",
        [0xf14] = "mhartid",
        [0xf15] = "mconfigptr",
        [0xfb0] = "mtopi",
        [0x300] = "mstatus",
        [0x301] = "misa",
        [0x302] = "medeleg",
        [0x303] = "mideleg",
        [0x304] = "mie",
        [0x305] = "mtvec",
        [0x306] = "mcounteren",
        [0x308] = "mvien",
        [0x309] = "mvip",
        [0x30a] = "menvcfg",
        [0x30c] = "mstateen0",
        [0x30d] = "mstateen1",
        [0x30e] = "mstateen2",
        [0x30f] = "mstateen3",
        [0x320] = "mcountinhibit",
        [0x340] = "mscratch",
        [0x341] = "mepc",
        [0x342] = "mcause",
        [0x343] = "mtval",
        [0x344] = "mip",
        [0x34a] = "mtinst",
        [0x34b] = "mtval2",
        [0x350] = "miselect",
        [0x351] = "mireg",
        [0x35c] = "mtopei",
        [0x747] = "mseccfg",
        [0xb00] = "mcycle",
        [0xb02] = "minstret",
        /* Debug and trace */
        [0x7a0] = "tselect",
        [0x7a1] = "tdata1",
        [0x7a2] = "tdata2",
        [0x7a3] = "tdata3",
        [0x7a4] = "tinfo",
        [0x7a5] = "tcontrol",
        [0x7a8] = "mcontext",
        [0x7b0] = "dcsr",
        [0x7b1] = "dpc",
        [0x7b2] = "dscratch0",
        [0x7b3] = "dscratch1",
        /* Families */
        FROM_3_TO_31(0xc00, "hpmcounter") FROM_3_TO_31(0xb00, "mhpmcounter") FROM_3_TO_31(0x320, "mhpmevent")
            FROM_0_TO_31(0x3b0, "pmpaddr") FROM_32_TO_63(0x3b0, "pmpaddr")
        /* RV64 has the even ones only. */
        FOUR(0x3a0, "pmpcfg", 0, 2, 4, 6) FOUR(0x3a0, "pmpcfg", 8, 10, 12, 14)};

    return csr < 4096 ? names[csr] : NULL;
}
