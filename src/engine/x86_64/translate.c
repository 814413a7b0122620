/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* T0's pass over a block: operands, stepping, control flow; t0.h has the theory. */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "engine/interp.h"
#include "engine/x86_64/t0.h"

/* --- operands --- */

enum host_reg t0_read(struct t0_translation *t, unsigned cell, enum host_reg scratch)
{
    enum host_reg r;
    if (t0_pinned(t, cell, &r))
        return r;
    emit_mov_rm(&t->e, 64, scratch, t0_home(cell));
    return scratch;
}

void t0_read_into(struct t0_translation *t, enum host_reg r, unsigned cell)
{
    enum host_reg from;
    if (!t0_pinned(t, cell, &from))
        emit_mov_rm(&t->e, 64, r, t0_home(cell));
    else if (from != r)
        emit_mov_rr(&t->e, 64, r, from);
}

enum host_reg t0_target(struct t0_translation *t, unsigned cell, enum host_reg scratch)
{
    enum host_reg r;
    return t0_pinned(t, cell, &r) ? r : scratch;
}

void t0_write(struct t0_translation *t, unsigned cell, enum host_reg r)
{
    enum host_reg to;
    if (!t0_pinned(t, cell, &to))
        emit_mov_mr(&t->e, 64, t0_home(cell), r);
    else if (to != r)
        emit_mov_rr(&t->e, 64, to, r);
}

void t0_alu(struct t0_translation *t, enum host_alu op, unsigned size, enum host_reg r, unsigned cell)
{
    enum host_reg other;
    if (t0_pinned(t, cell, &other))
        emit_alu_rr(&t->e, op, size, r, other);
    else
        emit_alu_rm(&t->e, op, size, r, t0_home(cell));
}

void t0_alu_k(struct t0_translation *t, enum host_alu op, unsigned size, enum host_reg r, uint64_t k)
{
    if (size <= 32 || k == (uint64_t)(int64_t)(int32_t)k) {
        emit_alu_ri(&t->e, op, size, r, (int32_t)k);
        return;
    }
    emit_mov_ri(&t->e, 64, HOST_RCX, k);
    emit_alu_rr(&t->e, op, size, r, HOST_RCX);
}

/* --- sites and paths out of line --- */

uint32_t t0_site(const struct t0_translation *t)
{
    return t->sites + t->at_mark * (uint32_t)sizeof(struct t0_site);
}

struct t0_slow *t0_slow_new(struct t0_translation *t, enum t0_slow_kind kind, const struct cell *cell)
{
    if (t->n_slow == T0_MAX_SLOW) {
        t->e.overflow = true;
        return &t->slow[0];
    }
    struct t0_slow *s = &t->slow[t->n_slow++];
    *s = (struct t0_slow){.kind = (uint8_t)kind, .cell = cell, .site = t0_site(t), .fp = t->fp};
    return s;
}

void t0_rejoin(struct t0_translation *t, struct t0_slow *slow)
{
    slow->fp = t->fp;
    emit_bind(&t->e, &slow->back);
}

/* --- stepping --- */

static void step_at(struct t0_translation *t, const struct cell *cell, unsigned more, uint32_t site)
{
    struct cell *to = &t->steps[t->n_steps];
    const void *const *handlers = interp_handlers();
    memcpy(to, cell, (1 + more) * sizeof(*cell));
    to[0].handler = handlers[(uintptr_t)cell->handler];
    to[1 + more] = (struct cell){.handler = handlers[CELL_DONE]};
    t->n_steps += 2 + more;
    t->t0->stepped[(uintptr_t)cell->handler]++;
    emit_push_i(&t->e, (int32_t)site);
    emit_mov_ri(&t->e, 64, HOST_RAX, (uintptr_t)to);
    emit_call_to(&t->e, t->t0->thunks.step);
}

void t0_step(struct t0_translation *t, const struct cell *cell, unsigned more)
{
    step_at(t, cell, more, t0_site(t));
    t0_fp_forget_all(t);
}

/* --- control flow --- */

static void count(struct t0_translation *t, unsigned done)
{
    if (done)
        emit_add_mi(&t->e, 64, t0_field(offsetof(struct env, icount)), (int32_t)done);
}

/* To the pc in rax, by the jump cache. Uses rcx and rdx. The index is env_jump_index() times the size of an
 * entry. */
static void jump_to_rax(struct t0_translation *t)
{
    struct emit *e = &t->e;
    if (t->t0->tuning & ENGINE_NO_JUMPS)
        emit_jmp_to(e, t->t0->thunks.lost);
    const size_t jump = offsetof(struct env, jump);
    const int shift = __builtin_ctz(sizeof(struct env_jump)) - 1; /* bit 1 of the pc is bit 0 of the index */
    emit_mov_rr(e, 32, HOST_RCX, HOST_RAX);
    emit_shr_ri(e, 32, HOST_RCX, 11);
    emit_xor_rr(e, 32, HOST_RCX, HOST_RAX);
    emit_and_ri(e, 32, HOST_RCX, (ENV_JUMP_SIZE - 1) << 1);
    emit_shl_ri(e, 32, HOST_RCX, (unsigned)shift);
#define ENTRY(field)                                                                                         \
    host_mem_index((enum host_reg)T0_ENV, HOST_RCX, 1,                                                       \
                   (int32_t)(jump + offsetof(struct env_jump, field)) - T0_BIAS)
    emit_cmp_rm(e, 64, HOST_RAX, ENTRY(pc));
    emit_jcc_to(e, HOST_NE, t->t0->thunks.lost);
    /* The likelier salt inline: kernels live in the upper half and are mapped everywhere. */
    bool kernel = t->block->pc >> 63;
    emit_mov_rm(e, 64, HOST_RDX, ENTRY(salt));
    emit_cmp_rm(e, 64, HOST_RDX,
                t0_field(kernel ? offsetof(struct env, salt_global) : offsetof(struct env, salt)));
    emit_jcc_to(e, HOST_NE, t->t0->thunks.other_salt);
    emit_jmp_m(e, ENTRY(host));
#undef ENTRY
}

/* Leaves by an exit: the count, then a jump that the dispatcher may link, or the jump cache for another page.
 */
static void leave_by(struct t0_translation *t, const struct cell *cell, const struct t0_fp_cache *fp)
{
    struct emit *e = &t->e;
    struct block_exit *exit = &t->block->exits[cell->c];
    struct emit_label unlinked = {0};
    count(t, cell->dst);
    if (exit->kind == IR_EXIT_FAR) {
        emit_mov_ri(e, 64, HOST_RAX, exit->target);
        jump_to_rax(t);
        return;
    }
    exit->site = (uint32_t)(emit_jmp_patchable(e, &unlinked) - t->t0->mem.rw);
    emit_bind(e, &unlinked);
    emit_mov_ri(e, 64, HOST_RAX, (uintptr_t)exit);
    emit_jmp_to(e, t->t0->thunks.unlinked);
    t0_loop_back(t, exit, fp);
}

static void stop(struct t0_translation *t, const struct cell *cell, enum engine_stop why)
{
    count(t, cell->dst);
    t0_read_into(t, HOST_RAX, cell->a);
    emit_mov_ri(&t->e, 32, HOST_RCX, why);
    emit_jmp_to(&t->e, t->t0->thunks.stop);
}

/* What was assumed may have changed: the mode, which the salts follow, or more, and then somebody has set
 * exit_request. */
static void stop_next(struct t0_translation *t, const struct cell *cell)
{
    struct emit *e = &t->e;
    struct emit_label look = {0};
    count(t, cell->dst);
    t0_read_into(t, HOST_RAX, cell->a);
    emit_mov_rm(e, 32, HOST_RCX, t0_field(offsetof(struct env, mode)));
    emit_cmp_mi(e, 32, t0_field(offsetof(struct env, exit_request)), 0);
    emit_jcc_short(e, HOST_NE, &look);
    emit_mov_mr(e, 32, t0_field(offsetof(struct env, salt)), HOST_RCX);
    emit_mov_mr(e, 32, t0_field(offsetof(struct env, salt_global)), HOST_RCX);
    jump_to_rax(t);
    emit_bind(e, &look);
    emit_mov_ri(e, 32, HOST_RCX, ENGINE_LOOKUP);
    emit_jmp_to(e, t->t0->thunks.stop);
}

bool t0_flow(struct t0_translation *t, const struct cell *cell, unsigned op)
{
    switch (op) {
    case CELL_EXIT: leave_by(t, cell, &t->fp); return true;
    case CELL_EXIT_REG:
        count(t, cell->dst);
        t0_read_into(t, HOST_RAX, cell->a);
        jump_to_rax(t);
        return true;
    case CELL_STOP_NEXT: stop_next(t, cell); return true;
    case CELL_STOP_WAIT: stop(t, cell, ENGINE_WAIT); return true;
    case CELL_STOP_YIELD: stop(t, cell, ENGINE_YIELD); return true;
    case CELL_FENCE: /* the host orders everything but stores before loads */ return true;
    case CELL_FENCE_FULL: emit_fence(&t->e); return true;
    default: return false;
    }
}

/* --- the pass --- */

/* C has been called, which keeps no XMM register. */
static void back(struct t0_translation *t, struct t0_slow *s)
{
    t0_fp_reload(t, &s->fp);
    emit_jmp(&t->e, &s->back);
}

/* A slot's miss comes here first, and to C when the TLB misses, too. */
static void slow_look_up(struct t0_translation *t, struct t0_slow *s)
{
    struct emit_label miss = {0};
    if (s->constant)
        emit_mov_ri(&t->e, 64, HOST_RAX, s->va);
    if (!s->has_slot)
        return;
    t0_fill_slot(t, s, &miss);
    emit_bind(&t->e, &miss);
}

static void slow_load(struct t0_translation *t, struct t0_slow *s)
{
    slow_look_up(t, s);
    emit_push_i(&t->e, (int32_t)s->site);
    emit_mov_ri(&t->e, 32, HOST_RCX, (uint32_t)s->cell->imm);
    emit_call_to(&t->e, t->t0->thunks.load);
    if (s->is_fp)
        emit_mov_mr(&t->e, 64, t0_home(s->cell->dst), HOST_RAX);
    else if (s->value != HOST_RAX)
        emit_mov_rr(&t->e, 64, (enum host_reg)s->value, HOST_RAX);
    back(t, s);
}

/* The value is in its register or, when it is a constant (s->value is rax), in the cell. */
static void slow_store(struct t0_translation *t, struct t0_slow *s)
{
    slow_look_up(t, s);
    emit_push_i(&t->e, (int32_t)s->site);
    if (s->value == HOST_RAX)
        emit_mov_ri(&t->e, 64, HOST_RDX, (uint64_t)(int64_t)(int16_t)s->cell->b);
    else
        t0_read_into(t, HOST_RDX, s->cell->b);
    emit_mov_ri(&t->e, 32, HOST_RCX, (uint32_t)s->cell->imm);
    emit_call_to(&t->e, t->t0->thunks.store);
    back(t, s);
}

void t0_slow_paths(struct t0_translation *t)
{
    for (uint32_t i = 0; i < t->n_slow; i++) {
        struct t0_slow *s = &t->slow[i];
        emit_bind(&t->e, &s->here);
        switch ((enum t0_slow_kind)s->kind) {
        case T0_SLOW_LOAD: slow_load(t, s); break;
        case T0_SLOW_STORE: slow_store(t, s); break;
        case T0_SLOW_STEP:
            step_at(t, s->cell, 0, s->site);
            back(t, s);
            break;
        case T0_SLOW_EXIT: leave_by(t, s->cell, &s->fp); break;
        case T0_SLOW_GROUP: t0_group_one_by_one(t, s); break;
        case T0_SLOW_FAULT: t0_fault(t, s->site); break;
        case T0_SLOW_OWN_FP:
            emit_ldmxcsr_m(&t->e, host_mem_rip(t->t0->thunks.mxcsr));
            emit_mov_mi(&t->e, 8, t0_field(offsetof(struct env, fp_used)), 1);
            emit_jmp(&t->e, &s->back);
            break;
        case T0_SLOW_POLL:
            emit_mov_ri(&t->e, 64, HOST_RAX, t->block->pc);
            emit_jmp_to(&t->e, t->t0->thunks.poll);
            break;
        }
    }
}

/* Cells of data behind a cell. */
static unsigned data_behind(unsigned op)
{
    return op == CELL_CALL || op == CELL_CALL_FAULT || op == CELL_CALL_SYNC;
}

static void write_sites(struct t0_translation *t)
{
    emit_align(&t->e, sizeof(uint64_t));
    uint32_t n = t->n_marks ? t->n_marks : 1;
    size_t bytes = sizeof(struct t0_sites) + n * sizeof(struct t0_site);
    if ((size_t)(t->e.end - t->e.at) < bytes) {
        t->e.overflow = true;
        return;
    }
    struct t0_sites *sites = (struct t0_sites *)(void *)t->e.at;
    t->sites = (uint32_t)((uint8_t *)sites->site - t->t0->mem.rw);
    sites->pc = t->block->pc;
    for (uint32_t i = 0; i < n; i++)
        sites->site[i] = (struct t0_site){.offset = t->n_marks ? t->marks[i].pc : 0, .done = i};
    t->e.at += bytes;
}

/* Goes to the poll's path unless the budget has room for the whole block. */
static void check_budget(struct t0_translation *t, struct t0_slow *poll)
{
    struct emit *e = &t->e;
    emit_mov_rm(e, 64, HOST_RAX, t0_field(offsetof(struct env, budget)));
    emit_alu_rm(e, HOST_SUB, 64, HOST_RAX, t0_field(offsetof(struct env, icount)));
    emit_cmp_ri(e, 64, HOST_RAX, t->block->n_guest);
    emit_jcc(e, HOST_B, &poll->here);
}

/* A block that computes makes MXCSR the guest's, unless one before it has. */
static void own_fp_flags(struct t0_translation *t)
{
    bool computes = false;
    for (uint32_t i = 0; i < t->n_cells; i++)
        computes |= (uintptr_t)t->cells[i].handler == CELL_FP;
    if (!computes)
        return;
    struct t0_slow *s = t0_slow_new(t, T0_SLOW_OWN_FP, NULL);
    emit_cmp_mi(&t->e, 8, t0_field(offsetof(struct env, fp_used)), 0);
    emit_jcc(&t->e, HOST_E, &s->here);
    emit_bind(&t->e, &s->back);
}

int t0_translate(struct t0_translation *t)
{
    struct emit *e = &t->e;
    write_sites(t);
    emit_align(e, 16);
    t->begin = e->at;
    t->start[0] = 0;
    t0_fp_forget_all(t);
    t->folded = 0;
    t->leads_back = t0_leads_back(t->block);
    struct t0_slow *poll = t0_slow_new(t, T0_SLOW_POLL, NULL);
    emit_cmp_mi(e, 32, t0_field(offsetof(struct env, exit_request)), 0);
    emit_jcc(e, HOST_NE, &poll->here);
    if (t->t0->tuning & ENGINE_COUNTED)
        check_budget(t, poll);
    t->block->forward = (uint16_t)(e->at - t->begin);
    own_fp_flags(t);
    t0_loop_begin(t);
    for (uint32_t i = 0; i < t->n_cells && !e->overflow; i++) {
        const struct cell *cell = &t->cells[i];
        unsigned op = (unsigned)(uintptr_t)cell->handler, more = data_behind(op);
        while (t->at_mark + 1 < t->n_marks && t->marks[t->at_mark + 1].cell <= i)
            t->start[++t->at_mark] = (uint32_t)(e->at - t->begin);
        if (op == CELL_MOVK && !(t->t0->tuning & ENGINE_NO_INTEGER) && t0_fold_address(t, cell))
            continue;
        unsigned grouped = t0_group(t, i);
        if (grouped) {
            i += grouped - 1;
            continue;
        }
        if (t->t0->tuning & ENGINE_NO_FLOAT || !t0_float(t, cell, op)) {
            t0_fp_forget(t, cell->dst);
            if (!t0_integer(t, cell, op) && !t0_memory(t, cell, op) && !t0_flow(t, cell, op) &&
                !t0_call(t, cell, op) && !t0_atomic(t, cell, op))
                t0_step(t, cell, more);
        }
        t->folded = 0;
        i += more;
    }
    t->out_of_line = (uint32_t)(e->at - t->begin);
    while (t->at_mark + 1 < t->n_marks) /* without cells, at the end */
        t->start[++t->at_mark] = t->out_of_line;
    t0_slow_paths(t);
    return emit_ok(e) ? 0 : -E2BIG;
}
