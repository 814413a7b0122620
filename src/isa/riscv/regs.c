/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The register table of a RISC-V hart: what the engine, the debugger and the IR's text form call its
 * registers. */
#include "isa/riscv/cpu.h"
#include "isa/riscv/helpers.h"

/* The debugger's numbers: x0..x31, then pc, then f0..f31. */
enum { GDB_X0 = 0, GDB_F0 = 33 };

#define X(n, text, priority)                                                                                 \
    [RISCV_REG_X0 + (n)] = {text, IR_I64, priority, GDB_X0 + (n),                                            \
                            offsetof(struct env, reg) + 8 * (RISCV_REG_X0 + (n))}
#define F(n, text)                                                                                           \
    [RISCV_REG_F0 + (n)] = {text, IR_F64, 0, GDB_F0 + (n),                                                   \
                            offsetof(struct env, reg) + 8 * (RISCV_REG_F0 + (n))}

/* Priorities by how often compiled code names the register: stack, arguments, link, then the lowest saved and
 * temporary. */
static const struct ir_reg regs[RISCV_REG_COUNT] = {
    X(0, "zero", 0), X(1, "ra", 5),  X(2, "sp", 1),   X(3, "gp", 0),   X(4, "tp", 0),   X(5, "t0", 13),
    X(6, "t1", 14),  X(7, "t2", 0),  X(8, "s0", 6),   X(9, "s1", 7),   X(10, "a0", 2),  X(11, "a1", 3),
    X(12, "a2", 8),  X(13, "a3", 9), X(14, "a4", 10), X(15, "a5", 4),  X(16, "a6", 12), X(17, "a7", 0),
    X(18, "s2", 11), X(19, "s3", 0), X(20, "s4", 0),  X(21, "s5", 0),  X(22, "s6", 0),  X(23, "s7", 0),
    X(24, "s8", 0),  X(25, "s9", 0), X(26, "s10", 0), X(27, "s11", 0), X(28, "t3", 0),  X(29, "t4", 0),
    X(30, "t5", 0),  X(31, "t6", 0), F(0, "ft0"),     F(1, "ft1"),     F(2, "ft2"),     F(3, "ft3"),
    F(4, "ft4"),     F(5, "ft5"),    F(6, "ft6"),     F(7, "ft7"),     F(8, "fs0"),     F(9, "fs1"),
    F(10, "fa0"),    F(11, "fa1"),   F(12, "fa2"),    F(13, "fa3"),    F(14, "fa4"),    F(15, "fa5"),
    F(16, "fa6"),    F(17, "fa7"),   F(18, "fs2"),    F(19, "fs3"),    F(20, "fs4"),    F(21, "fs5"),
    F(22, "fs6"),    F(23, "fs7"),   F(24, "fs8"),    F(25, "fs9"),    F(26, "fs10"),   F(27, "fs11"),
    F(28, "ft8"),    F(29, "ft9"),   F(30, "ft10"),   F(31, "ft11"),
};

const struct ir_target riscv_target = {
    .regs = regs,
    .helpers = riscv_helpers,
    .nregs = RISCV_REG_COUNT,
    .nhelpers = RISCV_HELPER_COUNT,
};
