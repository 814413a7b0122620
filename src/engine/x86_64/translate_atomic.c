/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* T0: atomic operations on words and doublewords that hit the TLB, by the host's locked instructions. */
/*
 * Every one of them is a full fence on the host, so whatever order the guest asks for it gets. What misses
 * the TLB, and what the host has no single instruction or short loop for, is stepped. The reservation of LL
 * and SC is env's, as in interp_mem.c.
 */
#include "engine/x86_64/t0.h"

/* The value in r, of the descriptor's size, extended as it says, becomes the cell's. */
static void extended_result(struct t0_translation *t, const struct cell *c, enum host_reg r)
{
    uint32_t mem = (uint32_t)c->imm;
    if (ir_mem_log2(mem) == 2 && mem & IR_MEM_SIGNED)
        emit_movsx_rr(&t->e, 64, 32, r, r);
    else if (ir_mem_log2(mem) == 2)
        emit_mov_rr(&t->e, 32, r, r);
    t0_write(t, c->dst, r);
}

/* No instruction gives the old value: rax = [rcx], and again until nobody came between. */
static void exchange_loop(struct t0_translation *t, const struct cell *c, unsigned size, enum host_alu op)
{
    struct emit *e = &t->e;
    struct emit_label again = {0};
    struct host_mem at = host_mem(HOST_RCX, 0);
    emit_add_rr(e, 64, HOST_RCX, HOST_RAX);
    emit_mov_rm(e, size, HOST_RAX, at);
    emit_bind(e, &again);
    emit_mov_rr(e, size, HOST_RDX, HOST_RAX);
    t0_alu(t, op, size, HOST_RDX, c->b);
    emit_lock_cmpxchg_mr(e, size, at, HOST_RDX);
    emit_jcc(e, HOST_NE, &again);
    extended_result(t, c, HOST_RAX);
}

static bool rmw(struct t0_translation *t, const struct cell *c, unsigned size)
{
    struct emit *e = &t->e;
    enum ir_rmw op = (enum ir_rmw)c->c;
    struct host_mem at = host_mem_index(HOST_RAX, HOST_RCX, 1, 0);
    if (op > IR_RMW_XOR)
        return false;
    struct t0_slow *slow = t0_slow_new(t, T0_SLOW_STEP, c);
    t0_address(t, c);
    t0_look_up(t, (uint32_t)c->imm | IR_MEM_ALIGNED, true, &slow->here);
    switch (op) {
    case IR_RMW_AND: exchange_loop(t, c, size, HOST_AND); break;
    case IR_RMW_OR: exchange_loop(t, c, size, HOST_OR); break;
    case IR_RMW_XOR: exchange_loop(t, c, size, HOST_XOR); break;
    default:
        t0_read_into(t, HOST_RDX, c->b);
        if (op == IR_RMW_ADD)
            emit_lock_xadd_mr(e, size, at, HOST_RDX);
        else
            emit_xchg_mr(e, size, at, HOST_RDX);
        extended_result(t, c, HOST_RDX);
        break;
    }
    t0_rejoin(t, slow);
    return true;
}

static void load_linked(struct t0_translation *t, const struct cell *c, unsigned size)
{
    struct emit *e = &t->e;
    struct t0_slow *slow = t0_slow_new(t, T0_SLOW_STEP, c);
    t0_address(t, c);
    t0_look_up(t, (uint32_t)c->imm | IR_MEM_ALIGNED, false, &slow->here);
    emit_mov_rm(e, size, HOST_RDX, host_mem_index(HOST_RAX, HOST_RCX, 1, 0));
    emit_mov_mr(e, 64, t0_field(offsetof(struct env, excl_addr)), HOST_RAX);
    emit_mov_mr(e, 64, t0_field(offsetof(struct env, excl_value)), HOST_RDX);
    extended_result(t, c, HOST_RDX);
    t0_rejoin(t, slow);
}

static void store_conditional(struct t0_translation *t, const struct cell *c, unsigned size)
{
    struct emit *e = &t->e;
    struct emit_label done = {0};
    struct t0_slow *slow = t0_slow_new(t, T0_SLOW_STEP, c);
    t0_address(t, c);
    t0_look_up(t, (uint32_t)c->imm | IR_MEM_ALIGNED, true, &slow->here);
    emit_add_rr(e, 64, HOST_RCX, HOST_RAX);
    emit_cmp_rm(e, 64, HOST_RAX, t0_field(offsetof(struct env, excl_addr)));
    /* Keeps the flags. */
    emit_mov_mi(e, 64, t0_field(offsetof(struct env, excl_addr)), (int32_t)ENV_NO_RESERVATION);
    emit_jcc(e, HOST_NE, &done);
    emit_mov_rm(e, 64, HOST_RAX, t0_field(offsetof(struct env, excl_value)));
    t0_read_into(t, HOST_RDX, c->b);
    emit_lock_cmpxchg_mr(e, size, host_mem(HOST_RCX, 0), HOST_RDX);
    emit_bind(e, &done);
    emit_setcc_r(e, HOST_NE, HOST_RAX);
    emit_movzx_rr(e, 8, HOST_RAX, HOST_RAX);
    t0_write(t, c->dst, HOST_RAX);
    t0_rejoin(t, slow);
}

bool t0_atomic(struct t0_translation *t, const struct cell *c, unsigned op)
{
    uint32_t mem = (uint32_t)c->imm;
    unsigned log2 = ir_mem_log2(mem), size = 8u << log2;
    if ((op != CELL_RMW && op != CELL_LL && op != CELL_SC) || (log2 != 2 && log2 != 3) || mem & IR_MEM_BIG)
        return false;
    if (op == CELL_RMW)
        return rmw(t, c, size);
    if (op == CELL_LL)
        load_linked(t, c, size);
    else
        store_conditional(t, c, size);
    return true;
}
