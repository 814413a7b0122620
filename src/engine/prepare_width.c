/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* How many bits values really have, so that sign extensions which extend nothing are dropped. */
/*
 * Theory of operation
 *
 * RISC-V's 32-bit operations end in a sign extension, which lengthens every chain of dependent instructions
 * by a cycle. It is needed only when the 64-bit operation on the same registers could have a different
 * result. So each 64-bit value gets a *width* w: -2^(w-1) <= value < 2^(w-1), and whether it is known not to
 * be negative. A register has the width of what was last put there in this block.
 *
 * A 32-bit value has the width of some 64-bit number whose lower half it is: of a truncated value, of that
 * value; of a sum, of the sum in 64 bits. When the width is 32 or less, its sign extension is that number.
 */
#include <sys/param.h>

#include "base/bits.h"
#include "engine/prepare_int.h"

struct width {
    unsigned bits;
    bool positive; /* not negative */
};

static const struct width unknown = {64, false};

static struct width of_constant(uint64_t k, unsigned type_bits)
{
    int64_t v = type_bits < 64 ? bits_sext(k, type_bits) : (int64_t)k;
    uint64_t magnitude = (uint64_t)(v < 0 ? ~v : v);
    return (struct width){magnitude ? 65 - (unsigned)__builtin_clzll(magnitude) : 1, v >= 0};
}

static struct width of(const struct prepare *p, ir_ref ref)
{
    if (ir_is_const(ref))
        return of_constant(ir_const_value(p->ir, ref), ir_type_bits(ir_value_type(p->ir, ref)));
    return (struct width){p->v[ref].width, p->v[ref].positive};
}

static struct width either(struct width a, struct width b)
{
    return (struct width){MAX(a.bits, b.bits), a.positive && b.positive};
}

static struct width of_and(struct width a, struct width b)
{
    if (a.positive && b.positive)
        return (struct width){MIN(a.bits, b.bits), true};
    return a.positive ? a : b.positive ? b : either(a, b);
}

/* By a constant, in an operation of n bits. */
static struct width of_shift(enum ir_op op, struct width a, uint64_t by, unsigned n)
{
    unsigned k = (unsigned)by & (n - 1);
    if (op == IR_SHL)
        return a.bits + k <= 64 ? (struct width){a.bits + k, a.positive} : unknown;
    if (a.bits > n) /* only the lower half takes part */
        a = (struct width){n, false};
    if (op == IR_SAR || a.positive)
        return (struct width){a.bits > k ? a.bits - k : 1, a.positive};
    return k ? (struct width){n + 1 - k, true} : unknown;
}

static struct width of_load(uint32_t mem)
{
    unsigned bits = 8u << ir_mem_log2(mem);
    if (bits >= 64)
        return unknown;
    return mem & IR_MEM_SIGNED ? (struct width){bits, false} : (struct width){bits + 1, true};
}

static struct width of_extension(const struct prepare *p, const struct ir_insn *in)
{
    unsigned bits = ir_type_bits(ir_value_type(p->ir, in->a));
    struct width a = of(p, in->a);
    if (bits > 63)
        return unknown;
    if (in->op == IR_ZEXT)
        return a.positive && a.bits <= bits ? a : (struct width){bits + 1, true};
    return a.bits <= bits ? a : (struct width){bits, false};
}

static struct width compute(const struct prepare *p, const struct ir_insn *in)
{
    unsigned n = ir_type_bits((enum ir_type)in->type);
    struct width a, b;
    uint64_t k = ir_const_value(p->ir, in->b);
    switch (in->op) {
    case IR_ADD:
    case IR_SUB:
        a = either(of(p, in->a), of(p, in->b));
        return a.bits < 64 ? (struct width){a.bits + 1, a.positive && in->op == IR_ADD} : unknown;
    case IR_MUL:
        a = of(p, in->a), b = of(p, in->b);
        return a.bits + b.bits < 64 ? (struct width){a.bits + b.bits, a.positive && b.positive} : unknown;
    case IR_NEG: a = of(p, in->a); return a.bits < 64 ? (struct width){a.bits + 1, false} : unknown;
    case IR_NOT: return (struct width){of(p, in->a).bits, false};
    case IR_AND: return of_and(of(p, in->a), of(p, in->b));
    case IR_OR:
    case IR_XOR: return either(of(p, in->a), of(p, in->b));
    case IR_SHL:
    case IR_SHR:
    case IR_SAR: return ir_is_const(in->b) ? of_shift((enum ir_op)in->op, of(p, in->a), k, n) : unknown;
    case IR_LD: return in->type == IR_I64 ? of_load(in->c) : unknown;
    case IR_TRUNC: return n == 32 ? of(p, in->a) : unknown;
    case IR_ZEXT:
    case IR_SEXT: return in->type == IR_I64 ? of_extension(p, in) : unknown;
    case IR_SETCC: return (struct width){2, true};
    case IR_SELECT: return in->type == IR_I64 ? either(of(p, in->b), of(p, in->c)) : unknown;
    default: return unknown;
    }
}

/* Of the registers, by cell; the last place is for cells that are none. */
struct registers {
    struct width at[ENV_REGS + 1];
};

static struct width *cell(struct registers *r, unsigned number)
{
    return &r->at[MIN(number - offsetof(struct env, reg) / 8, (size_t)ENV_REGS)];
}

static void forget(struct registers *r)
{
    for (unsigned i = 0; i <= ENV_REGS; i++)
        r->at[i] = unknown;
}

/* What the instruction does to registers. */
static void follow(const struct prepare *p, const struct ir_insn *in, struct registers *r)
{
    if (in->op == IR_PUTREG) {
        unsigned number = prepare_register(p->ir, in->a);
        *cell(r, number) = in->type == IR_I64 ? of(p, in->b) : unknown;
        if (in->type == IR_I128)
            *cell(r, number + 1) = unknown;
    } else if (in->op == IR_PUTENV ||
               (in->op == IR_CALL && p->ir->target->helpers[in->a].effects & IR_HELPER_WRITES_REGS)) {
        forget(r);
    }
}

void prepare_widths(struct prepare *p)
{
    const struct ir_block *b = p->ir;
    struct registers r;
    forget(&r);
    for (uint32_t i = 1; i < b->n; i++) {
        const struct ir_insn *in = &b->insn[i];
        struct width w = unknown;
        if (in->op == IR_GETREG && in->type == IR_I64)
            w = *cell(&r, prepare_register(b, in->a));
        else if (in->type == IR_I64 || in->type == IR_I32)
            w = compute(p, in);
        p->v[i].width = (uint8_t)w.bits;
        p->v[i].positive = w.positive;
        follow(p, in, &r);
        r.at[ENV_REGS] = unknown;
    }
}

bool prepare_is_extended(const struct prepare *p, ir_ref ref)
{
    return p->ir->insn[ref].op == IR_TRUNC && p->ir->insn[ref].type == IR_I32 && of(p, ref).bits <= 32;
}

/* What a cell of 64 bits reads must be the whole value: registers hold it, and so do constants that are not
 * negative; others are made to (lower.c). */
static bool whole(const struct prepare *p, ir_ref ref, bool constant)
{
    if (ir_is_const(ref))
        return constant || of(p, ref).positive;
    return p->ir->insn[ref].op == IR_TRUNC && !ir_is_const(p->ir->insn[ref].a) &&
           ir_value_type(p->ir, p->ir->insn[ref].a) == IR_I64;
}

static bool short_shift(const struct prepare *p, ir_ref by)
{
    return ir_is_const(by) && ir_const_value(p->ir, by) < 32;
}

bool prepare_is_same_in_64(const struct prepare *p, ir_ref ref)
{
    const struct ir_insn *in = &p->ir->insn[ref];
    struct width a;
    if (of(p, ref).bits > 32 || in->type != IR_I32)
        return false;
    switch (in->op) {
    case IR_ADD:
    case IR_SUB:
    case IR_MUL:
    case IR_AND:
    case IR_OR:
    case IR_XOR: return whole(p, in->a, false) && whole(p, in->b, true);
    case IR_SHL: return whole(p, in->a, false) && short_shift(p, in->b);
    case IR_SHR:
        a = of(p, in->a);
        return whole(p, in->a, false) && short_shift(p, in->b) && a.bits <= 32 && a.positive;
    case IR_SAR: return whole(p, in->a, false) && short_shift(p, in->b) && of(p, in->a).bits <= 32;
    case IR_NEG:
    case IR_NOT: return whole(p, in->a, false);
    default: return false;
    }
}
