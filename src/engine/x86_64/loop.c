/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* T0: a block that jumps to itself keeps its floating-point values in registers from turn to turn. */
/*
 * Theory of operation
 *
 * Between blocks, values are in their cells only (fp_cache.c). For a loop that is one block this puts a store
 * and a load into every chain from one turn to the next: a sum of products waits longer for memory than for
 * arithmetic. So the registers that such a block reads before it writes them are loaded at its head. Behind
 * the exit that leads back stands a second way in, which brings them where the head has them, mostly by moves
 * that cost nothing, polls, and goes on behind the loads. The exit is linked to it instead of to the block's
 * entry; linking, unlinking and polling are as for any other exit.
 */
#include "engine/fp_ops.h"
#include "engine/x86_64/t0.h"

enum { MOST_KEPT = 8 }; /* of T0_FP_SLOTS: the others are for the body */

bool t0_leads_back(const struct block *b)
{
    for (uint32_t i = 0; i < b->n_exits; i++)
        if (b->exits[i].target == b->pc && b->exits[i].kind == IR_EXIT_NEAR)
            return true;
    return false;
}

/* How many operands of the cell are doubles, or may be boxed singles, that stand in a register: a, then b,
 * then c. */
static unsigned operands_kept(const struct cell *c)
{
    unsigned n = 0;
    if ((uintptr_t)c->handler == CELL_FUNBOX)
        return 1;
    if ((uintptr_t)c->handler != CELL_FP)
        return 0;
    const struct fp_op *row = &fp_ops[c->imm & 0xffff];
    if ((row->from == IR_TYPE_NONE ? row->type : row->from) != IR_F64)
        return 0;
    while (n < 3 && ir_op_info[row->op].operand[n] != IR_OPERAND_NO)
        n++;
    return n;
}

void t0_loop_begin(struct t0_translation *t)
{
    bool seen[ENV_REGS] = {false};
    unsigned kept = 0;
    t->loop = false;
    if (t->t0->tuning & (ENGINE_COUNTED | ENGINE_NO_FLOAT) || !t->leads_back)
        return;
    for (uint32_t i = 0; i < t->n_cells; i++) {
        const struct cell *c = &t->cells[i];
        const uint16_t operand[3] = {c->a, c->b, c->c};
        t0_fp_begin(t);
        for (unsigned k = operands_kept(c); k-- > 0;) {
            if (!t0_is_fp(t, operand[k]) || seen[operand[k] - T0_FIRST_CELL] || kept == MOST_KEPT)
                continue;
            seen[operand[k] - T0_FIRST_CELL] = true;
            t0_fp_read(t, operand[k], T0_FP_DOUBLE);
            kept++;
        }
        if (t0_is_fp(t, c->dst))
            seen[c->dst - T0_FIRST_CELL] = true;
    }
    t->loop = kept != 0;
    t->head = t->fp;
    t->body = (struct emit_label){0};
    emit_bind(&t->e, &t->body);
}

/* Which slot of `at` holds what slot i of the head is to hold; T0_FP_SLOTS: none does. */
static unsigned source(const struct t0_translation *t, const struct t0_fp_cache *at, unsigned i)
{
    unsigned j = 0;
    while (j < T0_FP_SLOTS && (at->slot[j].cell != t->head.slot[i].cell || at->slot[j].form == T0_FP_SINGLE))
        j++;
    return j;
}

/* Brings the registers from `at` to what the head has: moves as long as none destroys what another needs;
 * what is left is in its cell. */
static void arrange(struct t0_translation *t, const struct t0_fp_cache *at)
{
    unsigned from[T0_FP_SLOTS];
    struct t0_fp_cache left = t->head;
    bool again = true;
    for (unsigned i = 0; i < T0_FP_SLOTS; i++) {
        from[i] = source(t, at, i);
        if (from[i] == i && at->slot[i].form == T0_FP_DOUBLE)
            left.slot[i].cell = 0;
    }
    while (again) {
        again = false;
        for (unsigned i = 0; i < T0_FP_SLOTS; i++) {
            bool needed = false;
            for (unsigned k = 0; k < T0_FP_SLOTS; k++)
                needed |= k != i && left.slot[k].cell && from[k] == i;
            if (!left.slot[i].cell || from[i] == T0_FP_SLOTS || needed)
                continue;
            if (at->slot[from[i]].form == T0_FP_BOXED)
                t0_fp_box(t, t0_fp_xmm(i), t0_fp_xmm(from[i]));
            else
                emit_movaps_xx(&t->e, t0_fp_xmm(i), t0_fp_xmm(from[i]));
            left.slot[i].cell = 0;
            again = true;
        }
    }
    t0_fp_reload(t, &left);
}

void t0_loop_back(struct t0_translation *t, const struct block_exit *exit, const struct t0_fp_cache *at)
{
    struct emit *e = &t->e;
    if (!t->loop || t->block->loop || exit->target != t->block->pc)
        return;
    t->block->loop = (uint32_t)(e->at - t->begin);
    t->block->loop_exit = exit->index;
    arrange(t, at);
    emit_cmp_mi(e, 32, t0_field(offsetof(struct env, exit_request)), 0);
    emit_jcc(e, HOST_NE, &t->slow[0].here); /* the poll */
    emit_jmp(e, &t->body);
}
