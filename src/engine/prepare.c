/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Prepares IR for the interpreter: decides which operations vanish and where values live. lower.c then writes
 * the cells. */
/*
 * Theory of operation
 *
 * Each cell costs an indirect jump, so the aim is one cell per guest instruction (real programs get to 1.1).
 * `addw a0, a1, a2` arrives as
 *
 *     %1 = getreg i64 a1     %3 = trunc i32 %1     %5 = add i32 %3, %4     putreg i64 a0, %6
 *     %2 = getreg i64 a2     %4 = trunc i32 %2     %6 = sext i64 %5
 *
 * and leaves as the one cell ADD_32S a0, a1, a2. Four observations do that:
 *
 * Forwarding. A getreg needs no copy while its register keeps the value: consumers read the register's
 * cell. If the register is written before the last of them, the getreg becomes a copy into a temporary.
 *
 * Sharing. trunc, zext of a value with zeros above, bitcast and halves of pairs are names for the same
 * storage. After trunc the storage is `dirty`: it has bits above the type's. Operations look at their
 * type's bits only; those that do not (helpers, zext, select) ask lower.c for a clean copy.
 *
 * Sinking. A putreg of a value whose producer stands just before it, with nothing between that has
 * effects, makes the register the producer's destination. A producer that faults writes nothing, so state
 * stays precise. The value then lives in the register for later readers too; if the register is written
 * before the last of them, the putreg stays a copy.
 *
 * Absorption. A comparison whose only user is the exit behind it, a 32-bit operation whose only user is
 * the sign extension behind it, an addition of a constant used as address alone: the user's cell performs
 * it. The operands are then needed until the user.
 *
 * Forwarding and sinking ask the same question: is the register written in (from, to)? A sunk putreg writes
 * earlier than it stands, so each putreg first gets the earliest place where its register may change, whether
 * it will sink or not (`write`); all answers are then on the safe side and do not depend on the order of
 * decisions.
 *
 * Values without effects or users are dropped. With `plain` none of this is done, which tests use as the
 * reference.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/prepare_int.h"

/* How far apart a producer and the putreg, exit or extension that takes it over may stand. */
enum { REACH = 8 };

uint16_t prepare_register(const struct ir_block *b, uint32_t reg)
{
    return (uint16_t)(b->target->regs[reg].offset / 8);
}

bool prepare_fills_register(const struct ir_block *b, const struct ir_insn *i, uint32_t reg)
{
    return ir_type_bits((enum ir_type)i->type) == ir_type_bits((enum ir_type)b->target->regs[reg].type);
}

bool prepare_is_arith(enum ir_op op)
{
    switch (op) {
#define ARITH_BINARY(id, expression) case IR_##id:
#define ARITH_UNARY(id, expression) case IR_##id:
#include "engine/arith.def"
#undef ARITH_BINARY
#undef ARITH_UNARY
        return true;
    default: return false;
    }
}

static bool takes_address(enum ir_op op)
{
    return (ir_op_info[op].effects & IR_EFFECT_M) && op != IR_CALL;
}

/* --- Who is needed --- */

/* From the end: an instruction is alive if it has effects beyond reading or a user that is. */
static void find_live(struct prepare *p)
{
    const struct ir_block *b = p->ir;
    ir_ref ref[3];

    for (uint32_t i = 0; i < b->n; i++) {
        p->v[i] = (struct prepare_value){.root = i};
    }
    for (uint32_t i = b->n - 1; i > 0; i--) {
        const struct ir_insn *in = &b->insn[i];
        struct prepare_value *v = &p->v[i];

        v->live =
            v->uses || (ir_op_info[in->op].effects & ~IR_EFFECT_R) || in->op == IR_INSN || in->op == IR_ARG;
        if (!v->live) {
            continue;
        }
        unsigned n = prepare_operands(in, ref);
        for (unsigned k = 0; k < n; k++) {
            if (!ir_is_const(ref[k])) {
                p->v[ref[k]].uses++;
            }
        }
        if (takes_address((enum ir_op)in->op) && !ir_is_const(in->a)) {
            p->v[in->a].address_uses++;
        }
    }
}

/* Nothing between two instructions that has effects or begins a guest instruction. */
static bool quiet(const struct ir_block *b, uint32_t from, uint32_t to)
{
    if (to - from > REACH) {
        return false;
    }
    for (uint32_t i = from + 1; i < to; i++) {
        if (ir_op_info[b->insn[i].op].effects || b->insn[i].op == IR_INSN) {
            return false;
        }
    }
    return true;
}

/* --- Sharing and absorption --- */

static void share(struct prepare *p, uint32_t i, ir_ref with, unsigned part, bool dirty)
{
    p->v[i].root = p->v[with].root;
    p->v[i].part = (uint8_t)(p->v[with].part + part);
    p->v[i].dirty = dirty;
}

/* May the instruction at i perform the one at from itself? */
static bool absorbs(struct prepare *p, uint32_t i, ir_ref from)
{
    return !ir_is_const(from) && p->v[from].uses == 1 && p->v[from].root == from && quiet(p->ir, from, i);
}

static bool is_address_sum(const struct prepare *p, uint32_t i)
{
    const struct ir_insn *in = &p->ir->insn[i];

    if (in->type != IR_I64 || ir_is_const(in->a) || !ir_is_const(in->b) ||
        p->v[i].uses != p->v[i].address_uses) {
        return false;
    }
    int64_t k = (int64_t)ir_const_value(p->ir, in->b);
    return k == (int32_t)k;
}

static void classify(struct prepare *p, uint32_t i)
{
    const struct ir_block *b = p->ir;
    const struct ir_insn *in = &b->insn[i];
    ir_ref a = in->a;
    bool value = !ir_is_const(a);

    switch (in->op) {
    case IR_TRUNC:
        if (value && in->type != IR_I1) {
            share(p, i, a, 0, ir_type_bits((enum ir_type)in->type) < 64);
        }
        break;
    case IR_ZEXT:
        if (value && !p->v[a].dirty) {
            share(p, i, a, 0, false);
        }
        break;
    case IR_BITCAST:
        if (value) {
            share(p, i, a, 0, p->v[a].dirty);
        }
        break;
    case IR_FL_PACK:
    case IR_PAIRLO:
    case IR_PAIRHI:
        if (value) {
            share(p, i, a, in->op == IR_PAIRHI, false);
        }
        break;
    case IR_GETREG: p->v[i].dirty = ir_type_bits((enum ir_type)in->type) < 64; break;
    case IR_SEXT:
        if (in->type == IR_I64 && value && prepare_is_extended(p, a)) {
            share(p, i, a, 0, false);
        } else if (in->type == IR_I64 && absorbs(p, i, a) && b->insn[a].type == IR_I32 &&
                   prepare_is_arith((enum ir_op)b->insn[a].op)) {
            p->v[a].absorbed = true;
            p->v[i].wide = prepare_is_same_in_64(p, a);
        }
        break;
    case IR_EXIT_IF:
        if (absorbs(p, i, a) && b->insn[a].op == IR_SETCC &&
            ir_type_bits((enum ir_type)b->insn[a].type) >= 32) {
            p->v[a].absorbed = true;
        }
        break;
    case IR_ADD: p->v[i].absorbed = is_address_sum(p, i); break;
    default: break;
    }
}

/* --- Lifetimes --- */

static void touch(struct prepare *p, ir_ref ref, uint32_t at)
{
    if (ir_is_const(ref)) {
        return;
    }
    if (p->v[ref].absorbed) {
        touch(p, p->ir->insn[ref].a, at);
        touch(p, p->ir->insn[ref].b, at);
        return;
    }
    p->v[p->v[ref].root].last = at;
}

static void find_last_uses(struct prepare *p)
{
    const struct ir_block *b = p->ir;
    ir_ref ref[3], arg[2];
    unsigned n_args = 0;

    for (uint32_t i = 1; i < b->n; i++) {
        const struct ir_insn *in = &b->insn[i];

        if (!p->v[i].live || p->v[i].absorbed || p->v[i].root != i) {
            continue;
        }
        if (in->op == IR_ARG) {
            arg[n_args++ % 2] = in->a;
            continue;
        }
        unsigned n = prepare_operands(in, ref);
        for (unsigned k = 0; k < n; k++) {
            touch(p, ref[k], i);
        }
        if (in->op == IR_CALL || in->op == IR_CMPXCHG) {
            for (unsigned k = 0; k < n_args; k++) {
                touch(p, arg[k], i);
            }
            n_args = 0;
        }
    }
}

/* --- Registers --- */

/* The value that the putreg at i could have computed into its register; 0 when it cannot be. */
static ir_ref sinkable(const struct prepare *p, uint32_t i)
{
    const struct ir_insn *in = &p->ir->insn[i];
    const struct prepare_value *v = &p->v[ir_is_const(in->b) ? 0 : in->b];

    if (p->plain || ir_is_const(in->b) || v->dirty || v->part || !prepare_fills_register(p->ir, in, in->a)) {
        return 0;
    }
    if (p->ir->insn[v->root].op == IR_GETREG || ir_type_bits(ir_value_type(p->ir, v->root)) > 64) {
        return 0;
    }
    return quiet(p->ir, v->root, i) ? v->root : 0;
}

static bool overlaps(const struct prepare *p, const struct ir_insn *write, uint16_t cell)
{
    if (write->op == IR_PUTENV) {
        return write->a / 8 == cell;
    }
    unsigned first = prepare_register(p->ir, write->a), n = write->type == IR_I128 ? 2 : 1;
    return cell >= first && cell < first + n;
}

/* Does the register's cell change after the instruction at from and before the one at to? What happens at
 * `to` itself does not count: a cell reads its operands before it writes. */
static bool written(const struct prepare *p, uint16_t cell, uint32_t from, uint32_t to)
{
    const struct ir_block *b = p->ir;

    for (uint32_t i = from + 1; i < b->n && i < to + REACH; i++) {
        const struct ir_insn *in = &b->insn[i];
        if ((in->op == IR_PUTREG || in->op == IR_PUTENV) && overlaps(p, in, cell) && p->v[i].write < to) {
            return true;
        }
        if (in->op == IR_CALL && i < to && (b->target->helpers[in->a].effects & IR_HELPER_WRITES_REGS)) {
            return true;
        }
    }
    return false;
}

static void sink(struct prepare *p, uint32_t i)
{
    uint16_t cell = prepare_register(p->ir, p->ir->insn[i].a);
    ir_ref from = sinkable(p, i);

    if (from && !p->v[from].in_register && !written(p, cell, i, p->v[from].last)) {
        p->v[from].in_register = true;
        p->v[from].cell = cell;
        p->v[i].sunk = true;
    }
}

static void place_registers(struct prepare *p)
{
    const struct ir_block *b = p->ir;

    for (uint32_t i = 1; i < b->n; i++) {
        ir_ref from = b->insn[i].op == IR_PUTREG ? sinkable(p, i) : 0;
        p->v[i].write = from ? from : i;
    }
    for (uint32_t i = 1; i < b->n; i++) {
        const struct ir_insn *in = &b->insn[i];
        struct prepare_value *v = &p->v[i];

        if (in->op == IR_PUTREG) {
            sink(p, i);
        } else if (in->op == IR_GETREG && v->live && !p->plain && in->type != IR_I128) {
            v->cell = prepare_register(b, in->a);
            v->in_register = !written(p, v->cell, i, v->last);
        }
    }
}

/* --- The preparer --- */

struct prepare *prepare_new(bool plain, const void *const *handlers)
{
    struct prepare *p = calloc(1, sizeof *p);

    if (p) {
        p->plain = plain;
        p->handlers = handlers;
    }
    return p;
}

void prepare_free(struct prepare *p)
{
    free(p);
}

/* Copies cells and marks into one allocation of their size. */
static int finish(const struct prepare *p, struct prepared **out)
{
    size_t cells = p->n_cells * sizeof p->cells[0], marks = p->n_marks * sizeof p->marks[0];
    struct prepared *code = malloc(sizeof *code + cells + marks);
    struct cell_mark *copy;

    if (!code) {
        return -ENOMEM;
    }
    copy = (struct cell_mark *)((char *)code->cells + cells);
    memcpy(code->cells, p->cells, cells);
    memcpy(copy, p->marks, marks);
    code->bytes = sizeof *code + cells + marks;
    code->n_cells = p->n_cells;
    code->n_marks = p->n_marks;
    code->marks = copy;
    *out = code;
    return 0;
}

int prepare_cells(struct prepare *p, const struct ir_block *ir, struct prepared_view *out)
{
    if (ir->overflow || ir->n < 2 || ir->n_guest > IR_MAX_GUEST_INSNS) {
        return -E2BIG;
    }
    p->ir = ir;
    find_live(p);
    if (!p->plain) {
        prepare_widths(p);
    }
    for (uint32_t i = 1; i < ir->n && !p->plain; i++) {
        if (p->v[i].live) {
            classify(p, i);
        }
    }
    find_last_uses(p);
    place_registers(p);
    prepare_lower(p);
    *out = (struct prepared_view){
        .cells = p->cells, .marks = p->marks, .n_cells = p->n_cells, .n_marks = p->n_marks};
    return p->full ? -E2BIG : 0;
}

int prepare_block(struct prepare *p, const struct ir_block *ir, struct prepared **out)
{
    struct prepared_view view;
    int rc = prepare_cells(p, ir, &view);

    return rc ? rc : finish(p, out);
}
