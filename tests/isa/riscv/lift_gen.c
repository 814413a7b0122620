/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Random code that is interesting and harmless: any instruction of the table with any operands, but addresses
 * that are mapped. */
/*
 * Code is made in units of four bytes: a word, or two halves. sp, s0 and a5 point into the data and are never
 * written; loads and stores use them as base, and since compressed ones can name only sp and x8..x15, so do
 * those. s0 is aligned, for the A extension. Jumps and branches go forward to the beginning of a unit, or to
 * the end.
 */
#include "lift_gen.h"

#include "base/bits.h"
#include "base/byteorder.h"

enum { UNITS = VECTOR_CODE_BYTES / 4, NOP = 0x13, SP = 2, TP = 4, S0 = 8, A5 = 15 };

static const struct {
    uint32_t match, mask;
} rows[] = {
    {0, 0},
#define RISCV_INSN(name, mnemonic, match, mask, format, ext) {match, mask},
#include "isa/riscv/insn.def"
};

uint64_t lift_rng(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static bool is_base(unsigned r)
{
    return r == SP || r == S0 || r == A5;
}

/* What the other emulator does not know, what traps or waits, and what word() makes in its own way. */
static bool excluded(enum riscv_op op)
{
    switch (riscv_op_ext(op)) {
    case RISCV_EXT_NONE:
    case RISCV_EXT_PRIV:
    case RISCV_EXT_SVINVAL:
    case RISCV_EXT_ZICBOM:
    case RISCV_EXT_ZICBOZ:
    case RISCV_EXT_ZICOND:
    case RISCV_EXT_ZAWRS:
    case RISCV_EXT_ZIHINTPAUSE: return true;
    default: break;
    }
    switch (op) {
    case RISCV_OP_ECALL:
    case RISCV_OP_EBREAK:
    case RISCV_OP_JALR:
    case RISCV_OP_LR_W:
    case RISCV_OP_LR_D:
    case RISCV_OP_CTZW:
        return true; /* qemu 7.2 finds 63 zeros in an empty word, where the manual counts 32 */
    default: return false;
    }
}

bool lift_gen_makes(enum riscv_op op)
{
    return !excluded(op);
}

static bool writes_x(enum riscv_op op)
{
    switch (riscv_op_format(op)) {
    case RISCV_FMT_R:
    case RISCV_FMT_R1:
    case RISCV_FMT_I:
    case RISCV_FMT_SH6:
    case RISCV_FMT_SH5:
    case RISCV_FMT_LOAD:
    case RISCV_FMT_JALR:
    case RISCV_FMT_U:
    case RISCV_FMT_J:
    case RISCV_FMT_CSR:
    case RISCV_FMT_CSRI:
    case RISCV_FMT_LR:
    case RISCV_FMT_AMO:
    case RISCV_FMT_XFF:
    case RISCV_FMT_XF:
    case RISCV_FMT_XF_RM: return true;
    default: return false;
    }
}

/* --- Words --- */

static void put(uint32_t *w, unsigned lo, unsigned n, uint32_t v)
{
    *w = (uint32_t)bits_set(*w, lo, n, v);
}

static void put_imm_b(uint32_t *w, uint32_t imm)
{
    put(w, 31, 1, imm >> 12 & 1);
    put(w, 25, 6, imm >> 5 & 63);
    put(w, 8, 4, imm >> 1 & 15);
    put(w, 7, 1, imm >> 11 & 1);
}

static void put_imm_j(uint32_t *w, uint32_t imm)
{
    put(w, 31, 1, imm >> 20 & 1);
    put(w, 21, 10, imm >> 1 & 0x3ff);
    put(w, 20, 1, imm >> 11 & 1);
    put(w, 12, 8, imm >> 12 & 0xff);
}

/* No tp anywhere, no base as destination: the next number instead. Immediates that change by this do not
 * mind. */
static void tame_registers(uint32_t *w, uint32_t mask, bool rd_is_x)
{
    static const uint8_t at[] = {7, 15, 20};

    for (unsigned n = 0; n < ARRAY_SIZE(at); n++) {
        unsigned r = *w >> at[n] & 31;
        if ((mask >> at[n] & 31) == 0 && (r == TP || (at[n] == 7 && rd_is_x && is_base(r)))) {
            put(w, at[n], 5, r + 1);
        }
    }
}

/* fflags in any way; frm and fcsr read; frm written, with values that are not reserved. */
static void tame_csr(uint32_t *w, uint64_t r)
{
    switch (r & 3) {
    case 0:
        put(w, 20, 12, 2);
        put(w, 12, 3, 5); /* csrrwi */
        put(w, 15, 5, (uint32_t)(r >> 8) % 5);
        break;
    case 1:
        put(w, 20, 12, r & 4 ? 2 : 3);
        put(w, 12, 3, r & 8 ? 2 : 7); /* csrrs, csrrci */
        put(w, 15, 5, 0);
        break;
    default: put(w, 20, 12, 1); break;
    }
}

static void tame(uint32_t *w, enum riscv_op op, unsigned unit, uint64_t r)
{
    static const uint8_t bases[] = {SP, S0, A5};
    uint32_t offset = (uint32_t)(r >> 16) % 1024 - 512, base = bases[(r >> 8) % 3];
    uint32_t forward = 4 * (1 + (uint32_t)(r >> 8) % (UNITS - unit));

    tame_registers(w, rows[op].mask, writes_x(op));
    switch (riscv_op_format(op)) {
    case RISCV_FMT_LOAD:
    case RISCV_FMT_FLOAD:
        put(w, 15, 5, base);
        put(w, 20, 12, offset);
        break;
    case RISCV_FMT_S:
    case RISCV_FMT_FS:
        put(w, 15, 5, base);
        put(w, 25, 7, offset >> 5);
        put(w, 7, 5, offset);
        break;
    case RISCV_FMT_AMO: put(w, 15, 5, S0); break;
    case RISCV_FMT_B: put_imm_b(w, forward); break;
    case RISCV_FMT_J: put_imm_j(w, forward); break;
    case RISCV_FMT_CSR:
    case RISCV_FMT_CSRI: tame_csr(w, r); break;
    case RISCV_FMT_FR_RM:
    case RISCV_FMT_FR4:
    case RISCV_FMT_FF_RM:
    case RISCV_FMT_XF_RM:
    case RISCV_FMT_FX_RM:
        if ((*w >> 12 & 7) == 5 || (*w >> 12 & 7) == 6) {
            put(w, 12, 3, RISCV_RM_DYN);
        }
        break;
    default: break;
    }
}

static uint32_t word(uint64_t *rng, unsigned unit)
{
    for (;;) {
        uint64_t r = lift_rng(rng);
        enum riscv_op op = (enum riscv_op)(1 + (r >> 32) % (RISCV_OP_COUNT - 1));
        uint32_t w = rows[op].match | ((uint32_t)r & ~rows[op].mask);
        struct riscv_insn insn;

        if (excluded(op)) {
            continue;
        }
        tame(&w, op, unit, lift_rng(rng));
        riscv_decode(w, &insn);
        if (!excluded((enum riscv_op)insn.op)) {
            return w;
        }
    }
}

/* --- Halves, by trial: what comes out must be harmless by itself --- */

static bool harmless(const struct riscv_insn *i, unsigned at)
{
    enum riscv_op op = (enum riscv_op)i->op;
    int target = (int)at + i->imm;

    if (excluded(op) || i->rs1 == TP || i->rs2 == TP || (writes_x(op) && (i->rd == TP || is_base(i->rd)))) {
        return false;
    }
    switch (riscv_op_format(op)) {
    case RISCV_FMT_LOAD:
    case RISCV_FMT_FLOAD:
    case RISCV_FMT_S:
    case RISCV_FMT_FS: return is_base(i->rs1);
    case RISCV_FMT_B:
    case RISCV_FMT_J: return i->imm > 0 && target % 4 == 0 && target <= VECTOR_CODE_BYTES;
    default: return true;
    }
}

static uint16_t half(uint64_t *rng, unsigned at)
{
    for (;;) {
        uint16_t h = (uint16_t)lift_rng(rng);
        struct riscv_insn insn;

        if ((h & 3) != 3) {
            riscv_decode(h, &insn);
            if (harmless(&insn, at)) {
                return h;
            }
        }
    }
}

/* --- Code --- */

/* The units that what lies at the byte may jump to. */
static uint32_t target_of(const uint8_t *code, unsigned at)
{
    struct riscv_insn i;

    riscv_decode((code[at] & 3) == 3 ? ld32le(code + at) : ld16le(code + at), &i);
    bool jumps = riscv_op_format((enum riscv_op)i.op) == RISCV_FMT_B || i.op == RISCV_OP_JAL;
    return jumps ? UINT32_C(1) << (at + (uint32_t)i.imm) / 4 : 0;
}

/* Makes unit n, or a pair that is entered only at its beginning. Returns the units used; adds to the targets
 * so far. */
static unsigned unit(uint8_t *code, uint64_t *rng, unsigned n, uint32_t *targets)
{
    uint64_t r = lift_rng(rng);
    uint32_t rd = 9 + (uint32_t)(r >> 8) % 6, rs2 = 16 + (uint32_t)(r >> 12) % 8;
    bool room = n + 2 <= UNITS && !(*targets >> (n + 1) & 1);
    uint8_t *p = code + 4 * n;

    if (room && (r & 31) == 0) { /* lr, sc */
        uint32_t width = r & 64 ? 3 : 2;
        st32le(p, 0x1000002f | width << 12 | S0 << 15 | rd << 7);
        st32le(p + 4, 0x1800002f | width << 12 | S0 << 15 | rs2 << 20 | rd << 7);
        return 2;
    }
    if (room && (r & 31) == 1) { /* auipc, jalr to a unit behind them */
        uint32_t forward = 8 + 4 * ((uint32_t)(r >> 16) % (UNITS - n - 1));
        st32le(p, 0x00000017 | rd << 7);
        st32le(p + 4, 0x00000067 | rd << 15 | (r & 64 ? 1 : 0) << 7 | forward << 20);
        *targets |= UINT32_C(1) << (n + forward / 4);
        return 2;
    }
    if (r & 1) {
        st32le(p, word(rng, n));
        *targets |= target_of(code, 4 * n);
    } else {
        st16le(p, half(rng, 4 * n));
        st16le(p + 2, half(rng, 4 * n + 2));
        *targets |= target_of(code, 4 * n) | target_of(code, 4 * n + 2);
    }
    return 1;
}

/* --- State --- */

static uint64_t some_integer(uint64_t *rng)
{
    uint64_t r = lift_rng(rng), v = lift_rng(rng);
    static const uint64_t edges[] = {0,          1,          UINT64_MAX, INT64_MAX,   1ull << 63,
                                     0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0xffffffff80000000};

    switch (r & 7) {
    case 0:
    case 1: return edges[(r >> 8) % ARRAY_SIZE(edges)];
    case 2: return v >> (r >> 8 & 63);
    case 3: return (uint64_t)((int64_t)v >> (r >> 8 & 63));
    case 4: return (uint64_t)(int64_t)(int32_t)v;
    default: return v;
    }
}

static uint64_t boxed(uint32_t single)
{
    return UINT64_C(0xffffffff) << 32 | single;
}

static uint64_t some_float(uint64_t *rng)
{
    static const uint32_t singles[] = {
        0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x00800000, 0x3f800000,
        0xbf800001, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000,
        0x7f800001, 0x4f000000, 0xcf000000, 0x4f7fffff, 0x5f000000, 0x3f000000,
    };
    static const uint64_t doubles[] = {
        0x0000000000000000, 0x8000000000000000, 0x0000000000000001, 0x800fffffffffffff, 0x0010000000000000,
        0x3ff0000000000000, 0xbff0000000000001, 0x7fefffffffffffff, 0x7ff0000000000000, 0xfff0000000000000,
        0x7ff8000000000000, 0xfff8000000000000, 0x7ff0000000000001, 0x41dfffffffc00000, 0xc1e0000000000000,
        0x43e0000000000000, 0x47efffffefffffff, 0x36a0000000000000, 0x380fffffe0000000, 0x3fe0000000000000,
    };
    uint64_t r = lift_rng(rng), v = lift_rng(rng);

    switch (r & 15) {
    case 0:
    case 1: return boxed(singles[(r >> 8) % ARRAY_SIZE(singles)]);
    case 2:
    case 3: return doubles[(r >> 8) % ARRAY_SIZE(doubles)];
    case 4: return boxed((uint32_t)v);
    case 5: return v;
    case 6: return boxed((uint32_t)v & 0x807fffff);
    case 7:
    case 8:
    case 9:
    case 10: return boxed((uint32_t)bits_set(v, 23, 8, 127 + (r >> 8) % 40 - 20));
    default: return bits_set(v, 52, 11, 1023 + (r >> 8) % 80 - 40);
    }
}

void lift_gen(struct vector *v, uint64_t *rng, bool sequence)
{
    uint64_t r = lift_rng(rng);
    uint32_t targets = 0;

    for (unsigned n = 0; n < 32; n++) {
        v->x[n] = some_integer(rng);
        v->f[n] = some_float(rng);
    }
    v->x[0] = v->x[TP] = 0;
    v->x[SP] = VECTOR_DATA + 512 + 16 * (r >> 8 & 31);
    v->x[S0] = VECTOR_DATA + 512 + 8 * (r >> 16 & 63);
    v->x[A5] = VECTOR_DATA + 512 + (r >> 24 & 511);
    v->fcsr = (r & 31) | (r >> 40) % 5 << 5;
    v->memory = lift_rng(rng);
    for (unsigned n = 0; n < UNITS;) {
        if (sequence || n == 0) {
            n += unit(v->code, rng, n, &targets);
        } else {
            st32le(v->code + 4 * n++, NOP);
        }
    }
}
