#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
# Writes the assembly thunks and the table of insn_oracle: one thunk per instruction, register choice and immediate.
"""
Theory of operation

A thunk runs exactly one instruction under test. tp points to `struct vector` (insn_oracle.c); the thunk loads the
operand registers from it, runs the instruction, stores the result, and jumps to thunk_return. Every register but tp
may be used, so the generator varies them: distinct ones, each aliasing of destination and sources, and x0.

The lists below are the whole unprivileged instruction set under test; a new extension is a new list.
"""
import random
import sys

rng = random.Random(20191213)
A, B, C, PRE, R, FLAGS, FRM, R2, MEM = 0, 8, 16, 24, 32, 40, 48, 56, 64

XREGS = [f"x{i}" for i in range(1, 32) if i != 4]
FREGS = [f"f{i}" for i in range(32)]
CX = [f"x{i}" for i in range(8, 16)]
CF = [f"f{i}" for i in range(8, 16)]
I_IMM = [0, 1, -1, 2047, -2048, 5, -16, 1024, -1365, 1365, 31, -512]
ROUND = ["rne", "rtz", "rdn", "rup", "rmm"]

out = []
table = []   # (name, label, kind, vectors)
count = 0


def thunk(name, kind, vectors, body):
    """One thunk: `body` is a list of lines; kind says how insn_oracle.c makes the operands."""
    global count
    label = f"thunk_{count}"
    count += 1
    out.append(f"{label}:")
    out.extend("    " + line for line in body)
    out.append("    j thunk_return")
    table.append((name, label, kind, vectors))


def pick(pool, n, avoid=()):
    return rng.sample([r for r in pool if r not in avoid], n)


def load(reg, off):
    return [] if reg == "x0" else [f"ld {reg}, {off}(tp)"]


def aliasings(n):
    """(rd, rs1..rsn) choices: distinct, rd == each source, all sources equal, all equal, x0 in each place."""
    for _ in range(2):
        regs = pick(XREGS, n + 1)
        yield regs
    for i in range(n):
        regs = pick(XREGS, n + 1)
        regs[0] = regs[i + 1]
        yield regs
    if n > 1:
        rd, rs = pick(XREGS, 2)
        yield [rd] + [rs] * n
        yield [rs] * (n + 1)
    for i in range(n + 1):
        regs = pick(XREGS, n + 1)
        regs[i] = "x0"
        yield regs


def integer(name, n, vectors=36):
    for regs in aliasings(n):
        rd, src = regs[0], regs[1:]
        body = load(rd, PRE)
        for reg, off in zip(src, (A, B)):
            if not (n == 2 and src[0] == src[1] and off == B):
                body += load(reg, off)
        if name == "ctzw" and src[0] != "x0":
            # QEMU 7.2 counts on into the upper word when the lower one is zero: insn_formula has that case.
            t = pick(XREGS, 1, regs)[0]
            body += [f"li {t}, 0x80000000", f"or {src[0]}, {src[0]}, {t}"]
        thunk(name, "INT", vectors, body + [f"{name} {rd}, {', '.join(src)}", f"sd {rd}, {R}(tp)"])


def immediate(name, imms, vectors=24):
    choices = list(aliasings(1))
    for i, imm in enumerate(imms):
        rd, rs = choices[i % len(choices)] if i % 3 else pick(XREGS, 2)
        thunk(name, "INT", vectors, load(rd, PRE) + load(rs, A) + [f"{name} {rd}, {rs}, {imm}", f"sd {rd}, {R}(tp)"])


def upper():
    for imm in (0, 1, 0x7ffff, 0x80000, 0xfffff, 0x12345):
        for rd in pick(XREGS, 2) + ["x0"]:
            thunk("lui", "INT", 2, load(rd, PRE) + [f"lui {rd}, {imm}", f"sd {rd}, {R}(tp)"])
            if rd == "x0":
                continue
            base = pick(XREGS, 1, [rd])[0]
            thunk("auipc", "INT", 2, [f"lla {base}, 1f", f"1: auipc {rd}, {imm}", f"sub {rd}, {rd}, {base}",
                                      f"sd {rd}, {R}(tp)"])


def branches():
    for name in ("beq", "bne", "blt", "bge", "bltu", "bgeu"):
        for same in (False, True, False):
            r1, r2 = pick(XREGS, 2)
            if same:
                r2 = rng.choice(["x0", r1])
            rd = pick(XREGS, 1, [r1, r2])[0]
            get = load(r1, A) + (load(r2, B) if r2 != r1 else [])
            thunk(name, "INT", 60, get + [f"li {rd}, 1", f"{name} {r1}, {r2}, 1f", f"addi {rd}, {rd}, 4", "1:",
                                          f"sd {rd}, {R}(tp)"])
            thunk(name, "INT", 60, get + [f"li {rd}, 1", "j 2f", f"1: addi {rd}, {rd}, 8", "j 3f",
                                          f"2: {name} {r1}, {r2}, 1b", "3:", f"sd {rd}, {R}(tp)"])
            # The far ends of the offset: +4092 and back by the same amount.
            thunk(name, "INT", 8, get + [f"li {rd}, 1", f"{name} {r1}, {r2}, 1f", f"addi {rd}, {rd}, 4", "j 1f",
                                         ".space 4080", "1:", f"sd {rd}, {R}(tp)"])


def jumps():
    for rd in pick(XREGS, 4) + ["x0"]:
        base, tgt = pick(XREGS, 2, [rd])
        link = [f"sub {rd}, {rd}, {base}"] if rd != "x0" else []
        thunk("jal", "INT", 2, [f"lla {base}, 2f", f"jal {rd}, 1f", f"2: li {rd}, 0", "1:"] + link +
              [f"sd {rd}, {R}(tp)"])
        thunk("jal", "INT", 2, [f"lla {base}, 2f", "j 3f", "4:"] + link + ["j 5f", f"3: jal {rd}, 4b",
                                f"2: li {rd}, 0", "5:", f"sd {rd}, {R}(tp)"])
        for imm in (0, 1, 5, -8, 2047, -2048):
            for same in (False, True):
                t = tgt if not same or rd == "x0" else rd
                # With an odd immediate the sum is odd too, and jalr clears its lowest bit.
                target = [f"lla {t}, 1f + {imm & 1}", f"addi {t}, {t}, {min(-imm, 2047)}"]
                if imm == -2048:
                    target.append(f"addi {t}, {t}, 1")
                thunk("jalr", "INT", 2, [f"lla {base}, 2f"] + target +
                      [f"jalr {rd}, {imm}({t})", f"2: li {rd}, 0", "1:"] + link + [f"sd {rd}, {R}(tp)"])


def memory():
    imms = [0, 8, -8, 2040, -2048, 2047, -1]
    loads = [("lb", 1), ("lbu", 1), ("lh", 2), ("lhu", 2), ("lw", 4), ("lwu", 4), ("ld", 8)]
    stores = [("sb", 1), ("sh", 2), ("sw", 4), ("sd", 8)]
    for suffix in ("", ".misaligned"):
        for name, size in loads + stores + [("flw", 4), ("fld", 8), ("fsw", 4), ("fsd", 8)]:
            if size == 1 and suffix:
                continue
            kind = f"MEM{size}" + ("U" if suffix else "")
            for i, imm in enumerate(imms):
                base, rd, tmp = pick(XREGS, 3)
                if i == 1 and name[0] != "s":
                    rd = base
                if i == 2:
                    rd = "x0"
                set_base = [f"ld {base}, {A}(tp)", f"li {tmp}, {imm}", f"sub {base}, {base}, {tmp}"]
                if name[0] == "f":
                    f = rng.choice(FREGS)
                    body = set_base + [f"fld {f}, {B}(tp)", f"{name} {f}, {imm}({base})", f"fsd {f}, {R}(tp)"]
                elif name[0] == "l":
                    body = load(rd, PRE) + set_base + [f"{name} {rd}, {imm}({base})", f"sd {rd}, {R}(tp)"]
                else:
                    body = set_base + load(rd, B) + [f"{name} {rd}, {imm}({base})"]
                thunk(name + suffix, kind, 20, body)


def atomics():
    for op in ("swap", "add", "xor", "and", "or", "min", "max", "minu", "maxu"):
        for w, size in (("w", 4), ("d", 8)):
            for i, order in enumerate(("", ".aq", ".rl", ".aqrl", "", "")):
                rd, rs2, base = pick(XREGS, 3)
                if i == 3:
                    rd = rs2
                if i == 4:
                    rd = base
                if i == 5:
                    rd = "x0"
                if i == 2:
                    rs2 = "x0"
                thunk(f"amo{op}.{w}", f"MEM{size}", 40, load(rd, PRE) + load(rs2, B) + load(base, A) +
                      [f"amo{op}.{w}{order} {rd}, {rs2}, ({base})", f"sd {rd}, {R}(tp)"])
    for w, size in (("w", 4), ("d", 8)):
        for order in ("", ".aq", ".rl", ".aqrl"):
            rd, rs2, base, ok = pick(XREGS, 4)
            thunk(f"lr.{w}", f"MEM{size}", 20, load(rd, PRE) + load(base, A) +
                  [f"lr.{w}{order} {rd}, ({base})", f"sd {rd}, {R}(tp)"])
            # A pair always succeeds here: QEMU and a single hart have nothing that takes the reservation away.
            thunk(f"sc.{w}", f"MEM{size}", 20, load(rd, PRE) + load(base, A) + load(rs2, B) +
                  [f"lr.{w} {rd}, ({base})", f"sc.{w}{order} {ok}, {rs2}, ({base})", f"sd {rd}, {R}(tp)",
                   f"sd {ok}, {R2}(tp)"])
            # The second of two store-conditionals must fail and store nothing.
            thunk(f"sc.{w}", f"MEM{size}", 20, load(rd, PRE) + load(base, A) + load(rs2, B) +
                  [f"lr.{w} {rd}, ({base})", f"sc.{w}{order} {ok}, {rs2}, ({base})",
                   f"sc.{w} {ok}, {rd}, ({base})", f"snez {ok}, {ok}", f"sd {ok}, {R2}(tp)"])


def csrs():
    for name in ("csrrw", "csrrs", "csrrc"):
        for csr in ("sscratch", "fcsr", "fflags", "frm"):
            for regs in ("", "rd=rs", "rd=x0", "rs=x0"):
                rd, rs, t = pick(XREGS, 3)
                rd, rs = {"rd=rs": (rs, rs), "rd=x0": ("x0", rs), "rs=x0": (rd, "x0")}.get(regs, (rd, rs))
                thunk(name, "INT", 12, [f"ld {t}, {B}(tp)", f"csrw {csr}, {t}"] + load(rd, PRE) + load(rs, A) +
                      [f"{name} {rd}, {csr}, {rs}", f"sd {rd}, {R}(tp)", f"csrr {t}, {csr}", f"sd {t}, {R2}(tp)"])
        for imm in (0, 1, 16, 31, 21):
            rd, t = pick(XREGS, 2)
            thunk(name + "i", "INT", 12, [f"ld {t}, {B}(tp)", f"csrw sscratch, {t}"] +
                  [f"{name}i {rd}, sscratch, {imm}", f"sd {rd}, {R}(tp)", f"csrr {t}, sscratch", f"sd {t}, {R2}(tp)"])
    for text in ("fence", "fence rw, w", "fence.tso", "fence.i", "pause"):
        thunk(text.replace(" ", "_").replace(",", ""), "INT", 2, [".word 0x0100000f" if text == "pause" else text])


def fp_body(name, fmt, src_fp, dst_fp, regs, rm, in_regs):
    """Loads operands, sets frm and clears the flags, runs the instruction, keeps result and flags."""
    body = []
    for reg, off in in_regs:
        body.append(f"{'fld' if reg[0] == 'f' else 'ld'} {reg}, {off}(tp)")
    busy = [r for r in regs]
    t = pick(XREGS, 1, busy)[0]
    body += [f"ld {t}, {FRM}(tp)", f"slli {t}, {t}, 5", f"fscsr {t}",
             f"{name} {', '.join(regs)}" + (f", {rm}" if rm else ""),
             f"frcsr {t}", f"sd {t}, {FLAGS}(tp)", f"{'fsd' if dst_fp else 'sd'} {regs[0]}, {R}(tp)"]
    return body


def fp(name, kind, n, src="f", dst="f", rounds=True, vectors=60):
    modes = ["", "", ""] + (ROUND if rounds else [""])
    for i, rm in enumerate(modes):
        pool = FREGS if src == "f" else XREGS
        sources = pick(pool, n)
        rd = pick(FREGS if dst == "f" else XREGS, 1, sources)[0]
        if i == 1 and src == dst:
            rd = sources[-1]
        if i == 2 and n > 1:
            sources = [sources[0]] * 2 + sources[2:]
        in_regs = list({r: off for r, off in zip(reversed(sources), reversed((A, B, C)[:n]))}.items())
        per = vectors * 3 if rounds and i == 0 else vectors
        thunk(name, kind, per, fp_body(name, kind, src == "f", dst == "f", [rd] + sources, rm, in_regs))


def floating():
    for s, kind in (("s", "F32"), ("d", "F64")):
        for op in ("fadd", "fsub", "fmul", "fdiv"):
            fp(f"{op}.{s}", kind, 2)
        fp(f"fsqrt.{s}", kind, 1)
        for op in ("fmadd", "fmsub", "fnmadd", "fnmsub"):
            fp(f"{op}.{s}", kind + "M", 3)
        for op in ("fsgnj", "fsgnjn", "fsgnjx", "fmin", "fmax"):
            fp(f"{op}.{s}", kind, 2, rounds=False)
        for op in ("feq", "flt", "fle"):
            fp(f"{op}.{s}", kind, 2, dst="x", rounds=False)
        fp(f"fclass.{s}", kind, 1, dst="x", rounds=False)
        for i in ("w", "wu", "l", "lu"):
            fp(f"fcvt.{i}.{s}", kind + "I", 1, dst="x")
            fp(f"fcvt.{s}.{i}", "INT", 1, src="x", rounds=not (s == "d" and i in ("w", "wu")))
    fp("fcvt.s.d", "F64", 1)
    fp("fcvt.d.s", "F32", 1, rounds=False)
    fp("fmv.x.w", "F32", 1, dst="x", rounds=False)
    fp("fmv.x.d", "F64", 1, dst="x", rounds=False)
    fp("fmv.w.x", "INT", 1, src="x", rounds=False)
    fp("fmv.d.x", "INT", 1, src="x", rounds=False)


def c_int(name, pool, form, sources, imms=(None,), vectors=24):
    """Compressed arithmetic. form: "rd", "rd,imm", "rd,rs"; sources: does it read rd (rd comes from A, rs from B)."""
    for imm in imms:
        for _ in range(3 if imm is None else 2):
            rd, rs = pick(pool, 2, ["x2"] if pool is XREGS else [])
            args = {"rd,imm": f"{rd}, {imm}", "rd,rs": f"{rd}, {rs}"}[form]
            thunk(name, "INT", vectors, load(rd, A if sources else PRE) + load(rs, B) +
                  [f"{name} {args}", f"sd {rd}, {R}(tp)"])


def compressed():
    small = (1, -1, 31, -32, 5, 17)
    c_int("c.addi", XREGS, "rd,imm", True, small)
    c_int("c.addiw", XREGS, "rd,imm", True, small + (0,))
    c_int("c.li", XREGS, "rd,imm", False, small + (0,), 2)
    c_int("c.lui", XREGS, "rd,imm", False, (1, 31, 0xfffe0, 0xfffff, 0xffff0, 7), 2)
    c_int("c.andi", CX, "rd,imm", True, small + (0,))
    for op in ("c.srli", "c.srai"):
        c_int(op, CX, "rd,imm", True, (1, 31, 32, 63, 8))
    c_int("c.slli", XREGS, "rd,imm", True, (1, 31, 32, 63, 8))
    for op in ("c.sub", "c.xor", "c.or", "c.and", "c.subw", "c.addw"):
        c_int(op, CX, "rd,rs", True)
    c_int("c.mv", XREGS, "rd,rs", False)
    c_int("c.add", XREGS, "rd,rs", True)
    thunk("c.nop", "INT", 2, ["c.nop"])
    for imm in (-512, 496, 16, -16, 256):
        thunk("c.addi16sp", "INT", 12, load("x2", A) + [f"c.addi16sp x2, {imm}", f"sd x2, {R}(tp)"])
    for imm in (4, 8, 16, 512, 1020, 680):
        rd = rng.choice(CX)
        thunk("c.addi4spn", "INT", 12, load("x2", A) + [f"c.addi4spn {rd}, x2, {imm}", f"sd {rd}, {R}(tp)"])
    for name, size, top in (("c.lw", 4, 124), ("c.ld", 8, 248), ("c.fld", 8, 248), ("c.sw", 4, 124), ("c.sd", 8, 248),
                            ("c.fsd", 8, 248)):
        for imm in (0, size, top, 64, top - 2 * size, 40):
            base, rd, tmp = pick(CX, 3)
            f = rng.choice(CF)
            c_mem(name, size, imm, base, f if "f" in name else rd, tmp)
    for name, size, top in (("c.lwsp", 4, 252), ("c.ldsp", 8, 504), ("c.fldsp", 8, 504), ("c.swsp", 4, 252),
                            ("c.sdsp", 8, 504), ("c.fsdsp", 8, 504)):
        for imm in (0, size, top, 64, top - 2 * size, 40):
            rd, tmp = pick(XREGS, 2, ["x2"])
            c_mem(name, size, imm, "x2", rng.choice(FREGS) if "f" in name else rd, tmp)
    for name in ("c.beqz", "c.bnez"):
        for _ in range(2):
            rs, rd = pick(CX, 2)
            thunk(name, "INT", 40, load(rs, A) + [f"li {rd}, 1", f"{name} {rs}, 1f", f"addi {rd}, {rd}, 4", "1:",
                                                  f"sd {rd}, {R}(tp)"])
            thunk(name, "INT", 40, load(rs, A) + [f"li {rd}, 1", "j 2f", f"1: addi {rd}, {rd}, 8", "j 3f", ".space 200",
                                                  f"2: {name} {rs}, 1b", "3:", f"sd {rd}, {R}(tp)"])
    rd = "x9"
    thunk("c.j", "INT", 2, [f"li {rd}, 1", "c.j 1f", f"li {rd}, 2", ".space 1024", f"1: sd {rd}, {R}(tp)"])
    thunk("c.j", "INT", 2, [f"li {rd}, 1", "j 2f", f"1: addi {rd}, {rd}, 5", "j 3f", ".space 1024", "2: c.j 1b", "3:",
                            f"sd {rd}, {R}(tp)"])
    for t in ("x1", "x5", "x31"):
        thunk("c.jr", "INT", 2, [f"li x6, 1", f"lla {t}, 1f", f"c.jr {t}", "li x6, 2", f"1: sd x6, {R}(tp)"])
        thunk("c.jalr", "INT", 2, [f"lla x7, 2f", f"lla {t}, 1f + 1", f"c.jalr {t}", "2: li x1, 0", "1: sub x1, x1, x7",
                                   f"sd x1, {R}(tp)"])


def c_mem(name, size, imm, base, reg, tmp):
    ld, st = ("fld", "fsd") if reg[0] == "f" else ("ld", "sd")
    body = [f"ld {base}, {A}(tp)", f"addi {base}, {base}, {-imm}", f"{ld} {reg}, {B}(tp)",
            f"{name} {reg}, {imm}({base})", f"{st} {reg}, {R}(tp)"]
    thunk(name, f"MEM{size}", 20, body)


def build():
    for name in ("addi", "slti", "sltiu", "xori", "ori", "andi", "addiw"):
        immediate(name, I_IMM)
    for name in ("slli", "srli", "srai", "slli.uw", "rori", "bclri", "bseti", "binvi", "bexti"):
        immediate(name, (0, 1, 31, 32, 63, 8, 47))
    for name in ("slliw", "srliw", "sraiw", "roriw"):
        immediate(name, (0, 1, 31, 16, 8, 23))
    for name in ("add sub sll slt sltu xor srl sra or and addw subw sllw srlw sraw "
                 "mul mulh mulhsu mulhu div divu rem remu mulw divw divuw remw remuw "
                 "add.uw sh1add sh2add sh3add sh1add.uw sh2add.uw sh3add.uw "
                 "andn orn xnor max maxu min minu rol rolw ror rorw bclr bext binv bset clmul clmulh clmulr").split():
        integer(name, 2)
    for name in "clz clzw ctz ctzw cpop cpopw sext.b sext.h zext.h orc.b rev8".split():
        integer(name, 1, 60)
    upper()
    branches()
    jumps()
    memory()
    atomics()
    csrs()
    compressed()
    floating()


def main():
    build()
    lines = ["/* Generated by gen.py: do not edit. */", '#include "lib/layout.h"', "    .option norelax",
             "    .text", "    .balign 4", "    .globl thunk_call",
             # void thunk_call(struct vector *a0, thunk a1): all callee-saved registers are the thunk's to use.
             "thunk_call:"]
    saved = ["ra", "sp", "gp", "tp"] + [f"s{i}" for i in range(12)]
    save_base = MEM + 64
    lines += [f"    sd {r}, {save_base + 8 * i}(a0)" for i, r in enumerate(saved)]
    lines += ["    mv tp, a0", "    jr a1", "thunk_return:", "    mv a0, tp"]
    lines += [f"    ld {r}, {save_base + 8 * i}(a0)" for i, r in enumerate(saved)]
    lines += ["    ret", "    .option norvc", "    .balign 4"]
    for line in out:
        text = line.strip()
        is_c = any(part.startswith("c.") for part in text.replace(":", " ").split()[:2])
        lines.append(f"    .option rvc\n{line}\n    .option norvc" if is_c else line)
        if text.startswith("j thunk_return"):
            lines.append("    .balign 4")
    names = sorted({name for name, *_ in table}, key=[t[0] for t in table].index)
    lines += ["    .section .rodata", "    .balign 8", "    .globl thunk_table", "thunk_table:"]
    # All thunks of a name are one line of output, whatever the order in which they were made.
    for name in names:
        for n, label, kind, vectors in table:
            if n == name:
                lines.append(f"    .dword name_{names.index(name)}, {label}\n    .word KIND_{kind}, {vectors}")
    lines.append("    .dword 0, 0, 0")
    lines += [f'name_{i}: .string "{name}"' for i, name in enumerate(names)]
    kinds = "INT MEM1 MEM2 MEM4 MEM8 MEM2U MEM4U MEM8U F32 F64 F32M F64M F32I F64I".split()
    defs = [f"    .equ KIND_{k}, {i}" for i, k in enumerate(kinds)]
    with open(sys.argv[1], "w", encoding="ascii") as f:
        f.write("\n".join(lines[:1] + defs + lines[1:]) + "\n")


if __name__ == "__main__":
    main()
