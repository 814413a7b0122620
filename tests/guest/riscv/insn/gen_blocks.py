#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
# Writes the random blocks of insn_blocks: many instructions together, where insn_oracle has one at a time.
"""
What a single instruction cannot show: constants that fold, results that die, loads after stores to the same place,
chains of floating-point flags, branches in and out of the middle. Fixed registers: tp the state, gp the memory,
sp the loop counter.
"""
import random
import sys

rng = random.Random(4096)
BLOCKS = 240
ROUNDS = 3
X = [f"x{i}" for i in range(32) if i not in (2, 3, 4)]
F = [f"f{i}" for i in range(32)]
ALU = ("add sub sll slt sltu xor srl sra or and addw subw sllw srlw sraw mul mulh mulhsu mulhu div divu rem remu "
       "mulw divw divuw remw remuw add.uw sh1add sh2add sh3add sh1add.uw sh2add.uw sh3add.uw andn orn xnor max maxu "
       "min minu rol rolw ror rorw bclr bext binv bset clmul clmulh clmulr").split()
ALU_IMM = "addi slti sltiu xori ori andi addiw".split()
SHIFT = "slli srli srai slli.uw rori bclri bseti binvi bexti".split()
SHIFT_W = "slliw srliw sraiw roriw".split()
UNARY = "clz clzw ctz cpop cpopw sext.b sext.h zext.h orc.b rev8 mv neg not seqz snez sext.w".split()
LOADS = [("lb", 1), ("lbu", 1), ("lh", 2), ("lhu", 2), ("lw", 4), ("lwu", 4), ("ld", 8), ("flw", 4), ("fld", 8)]
STORES = [("sb", 1), ("sh", 2), ("sw", 4), ("sd", 8), ("fsw", 4), ("fsd", 8)]
AMO = "swap add xor and or min max minu maxu".split()
BRANCH = "beq bne blt bge bltu bgeu".split()
FP2 = "fadd fsub fmul fdiv fsgnj fsgnjn fsgnjx fmin fmax".split()
FP3 = "fmadd fmsub fnmadd fnmsub".split()


def x():
    """Few registers per block, so that values meet again."""
    return rng.choice(window)


def f():
    return rng.choice(fwindow)


def address(size):
    """Instructions and operand of a memory access: fixed, misaligned now and then, or computed from a register."""
    kind = rng.random()
    if kind < 0.5:
        return [], f"{rng.randrange(0, 256) * size % 2040}(gp)"
    if kind < 0.6:
        return [], f"{rng.randrange(0, 2040)}(gp)"
    t = rng.choice([r for r in window if r != "x0"])
    return [f"andi {t}, {x()}, {0x7f8 & -size}", f"add {t}, {t}, gp"], f"{rng.randrange(0, 16) * size}({t})"


def item():
    """One instruction, or a few that belong together."""
    kind = rng.random()
    s = rng.choice("sd")
    if kind < 0.28:
        return [f"{rng.choice(ALU)} {x()}, {x()}, {x()}"]
    if kind < 0.40:
        return [f"{rng.choice(ALU_IMM)} {x()}, {x()}, {rng.choice([rng.randrange(-2048, 2048), rng.randrange(-8, 8)])}"]
    if kind < 0.46:
        return rng.choice([[f"{rng.choice(SHIFT)} {x()}, {x()}, {rng.randrange(64)}"],
                           [f"{rng.choice(SHIFT_W)} {x()}, {x()}, {rng.randrange(32)}"]])
    if kind < 0.51:
        return [f"{rng.choice(UNARY)} {x()}, {x()}"]
    if kind < 0.55:
        return [f"{rng.choice(['lui', 'auipc'])} {x()}, {rng.randrange(1 << 20)}"]
    if kind < 0.63:
        name, size = rng.choice(LOADS)
        code, where = address(size)
        return code + [f"{name} {f() if name[0] == 'f' else x()}, {where}"]
    if kind < 0.71:
        name, size = rng.choice(STORES)
        code, where = address(size)
        return code + [f"{name} {f() if name[0] == 'f' else x()}, {where}"]
    if kind < 0.74:
        t = rng.choice([r for r in window if r != "x0"])
        w, mask = rng.choice([("w", 0x7fc), ("d", 0x7f8)])
        return [f"andi {t}, {x()}, {mask}", f"add {t}, {t}, gp", f"amo{rng.choice(AMO)}.{w} {x()}, {x()}, ({t})"]
    if kind < 0.85:
        return [rng.choice([f"{rng.choice(FP2)}.{s} {f()}, {f()}, {f()}",
                            f"{rng.choice(FP3)}.{s} {f()}, {f()}, {f()}, {f()}",
                            f"fsqrt.{s} {f()}, {f()}"])]
    if kind < 0.93:
        i = rng.choice(["w", "wu", "l", "lu"])
        return [rng.choice([f"fcvt.{i}.{s} {x()}, {f()}", f"fcvt.{s}.{i} {f()}, {x()}", f"fcvt.s.d {f()}, {f()}",
                            f"fcvt.d.s {f()}, {f()}", f"fmv.x.{'w' if s == 's' else 'd'} {x()}, {f()}",
                            f"fmv.{'w' if s == 's' else 'd'}.x {f()}, {x()}", f"fclass.{s} {x()}, {f()}",
                            f"{rng.choice(['feq', 'flt', 'fle'])}.{s} {x()}, {f()}, {f()}"])]
    if kind < 0.96:
        return [rng.choice([f"frflags {x()}", f"fsflags {x()}", f"frcsr {x()}", f"fsrmi {x()}, {rng.randrange(5)}",
                            f"csrrs {x()}, fflags, {x()}", f"csrrci {x()}, fflags, {rng.randrange(32)}"])]
    return None  # a branch or a jump forward


def block(number):
    """A loop of items, some of which jump over a few of those behind them."""
    global window, fwindow
    window = rng.sample(X, rng.choice([4, 6, 10, 20])) + ["x0"] * rng.randrange(2)
    fwindow = rng.sample(F, rng.choice([3, 5, 12]))
    yield f"    .option {'rvc' if number % 2 else 'norvc'}"
    yield f"block_{number}:"
    pending = {}
    n = rng.choice([8, 20, 40, 90])
    for i in range(n):
        for label in pending.pop(i, []):
            yield f"{label}:"
        lines = item()
        if lines is None:
            label = f"skip_{number}_{i}"
            pending.setdefault(min(n, i + rng.randrange(1, 7)), []).append(label)
            lines = rng.choice([[f"{rng.choice(BRANCH)} {x()}, {x()}, {label}"], [f"jal {x()}, {label}"],
                                [f"beqz {x()}, {label}"], [f"bnez {x()}, {label}"]])
        yield from ("    " + line for line in lines)
    for i in sorted(pending):
        for label in pending[i]:
            yield f"{label}:"
    yield "    addi sp, sp, -1"
    # The loop closes over a distance a conditional branch may not reach.
    yield "    beqz sp, 1f"
    yield f"    j block_{number}"
    yield "1:  j block_return"


def main():
    out = ["/* Generated by gen_blocks.py: do not edit. */", "    .option norelax", "    .text", "    .balign 4",
           "    .globl block_call", "block_call:"]
    saved = ["ra", "sp", "gp", "tp"] + [f"s{i}" for i in range(12)]
    save, fcsr, memory = 512 + 8, 512, 512 + 8 + 128
    out += [f"    sd {r}, {save + 8 * i}(a0)" for i, r in enumerate(saved)]
    out += ["    mv tp, a0", f"    addi gp, tp, {memory}", f"    ld t0, {fcsr}(tp)", "    fscsr t0"]
    out += [f"    fld f{i}, {256 + 8 * i}(tp)" for i in range(32)]
    out += ["    csrw sscratch, a1", f"    li sp, {ROUNDS}"]
    out += [f"    ld x{i}, {8 * i}(tp)" for i in range(5, 31)] + ["    ld x1, 8(tp)"]
    # x31 takes the jump there, so a block begins with its own address in it.
    out += ["    csrr x31, sscratch", "    jr x31"]
    out += ["block_return:"] + [f"    sd x{i}, {8 * i}(tp)" for i in [1] + list(range(5, 32))]
    out += [f"    fsd f{i}, {256 + 8 * i}(tp)" for i in range(32)]
    out += ["    frcsr t0", f"    sd t0, {fcsr}(tp)", "    mv a0, tp"]
    out += [f"    ld {r}, {save + 8 * i}(a0)" for i, r in enumerate(saved)] + ["    ret"]
    for number in range(BLOCKS):
        out += list(block(number))
    out += ["    .section .rodata", "    .balign 8", "    .globl block_table, block_count", "block_table:"]
    out += [f"    .dword block_{i}" for i in range(BLOCKS)] + [f"block_count: .dword {BLOCKS}"]
    with open(sys.argv[1], "w", encoding="ascii") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    window, fwindow = [], []
    main()
