/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* T0: calls of helpers, and exceptions that the guest's own instructions raise. */
/*
 * A helper's effects decide what moves: one that looks at no guest register needs only the pinned registers
 * saved that C does not preserve. Operands are then taken from their homes, unless their register is one that
 * C preserves, which still holds them.
 */
#include <string.h>

#include "engine/x86_64/t0.h"

static const enum host_reg argument[] = {HOST_RSI, HOST_RDX, HOST_RCX, HOST_R8};

static const struct ir_helper *find_helper(const struct ir_target *target, uint64_t fn)
{
    for (unsigned i = 0; i < target->nhelpers; i++)
        if ((uintptr_t)target->helpers[i].fn == fn)
            return &target->helpers[i];
    return NULL;
}

/* The operand, whose home is up to date when `all` registers were saved or C does not preserve its register.
 */
static void pass(struct t0_translation *t, enum host_reg to, unsigned cell, bool all)
{
    enum host_reg r;
    if (t0_pinned(t, cell, &r) && !all && t0_preserved_by_c(r))
        emit_mov_rr(&t->e, 64, to, r);
    else
        emit_mov_rm(&t->e, 64, to, t0_home(cell));
}

static void add_to_count(struct t0_translation *t, int32_t n)
{
    if (n)
        emit_add_mi(&t->e, 64, t0_field(offsetof(struct env, icount)), n);
}

static void call(struct t0_translation *t, const struct cell *c, unsigned op)
{
    struct emit *e = &t->e;
    const struct cell *more = c + 1;
    const struct ir_helper *h = find_helper(t->t0->target, more->imm);
    bool all = !h || h->effects & (IR_HELPER_READS_REGS | IR_HELPER_WRITES_REGS), sync = op == CELL_CALL_SYNC;
    const unsigned operand[] = {c->a, c->b, c->c, more->a};
    unsigned operands = h ? h->nargs : 4;
    if (sync) {
        emit_mov_ri(e, 64, HOST_RAX, c->imm);
        emit_mov_mr(e, 64, t0_field(offsetof(struct env, pc)), HOST_RAX);
        add_to_count(t, more->c);
    }
    t0_spill(e, t->t0, all, true);
    for (unsigned i = 0; i < operands; i++)
        pass(t, argument[i], operand[i], all);
    emit_lea(e, 64, HOST_RDI, host_mem((enum host_reg)T0_ENV, -T0_BIAS));
    /* What may look at the flags has them folded first. */
    emit_mov_ri(e, 64, sync ? HOST_R9 : HOST_RAX, more->imm);
    if (sync)
        emit_call_to(e, t->t0->thunks.call_folded);
    else
        emit_call_r(e, HOST_RAX);
    t0_spill(e, t->t0, all, false);
    if (sync)
        add_to_count(t, -(int32_t)more->c);
    if (op != CELL_CALL) {
        emit_cmp_mi(e, 8, t0_field(offsetof(struct env, exc.pending)), 0);
        emit_jcc(e, HOST_NE, &t0_slow_new(t, T0_SLOW_FAULT, c)->here);
    }
    t0_write(t, c->dst, HOST_RAX);
    t0_fp_forget_all(t);
}

static void raise(struct t0_translation *t, const struct cell *c)
{
    struct emit *e = &t->e;
    t0_read_into(t, HOST_RAX, c->a);
    emit_mov_mi(e, 8, t0_field(offsetof(struct env, exc.pending)), 1);
    emit_mov_mi(e, 32, t0_field(offsetof(struct env, exc.cause)), (int32_t)c->imm);
    emit_mov_mr(e, 64, t0_field(offsetof(struct env, exc.value)), HOST_RAX);
    t0_fault(t, t0_site(t));
}

void t0_fault(struct t0_translation *t, uint32_t site)
{
    emit_mov_ri(&t->e, 32, HOST_RAX, site);
    emit_jmp_to(&t->e, t->t0->thunks.fault);
}

bool t0_call(struct t0_translation *t, const struct cell *c, unsigned op)
{
    switch (op) {
    case CELL_CALL:
    case CELL_CALL_FAULT:
    case CELL_CALL_SYNC: call(t, c, op); return true;
    case CELL_RAISE: raise(t, c); return true;
    default: return false;
    }
}
