/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* T0: neighbouring loads, or stores, off one base register share one look into the TLB. */
/*
 * Theory of operation
 *
 * Function prologues and epilogues, copies and structures access several words off one register in a row.
 * When all of them lie on one page, one comparison says so for all: of the page of the span's last byte with
 * the tag of its first. The accesses are then plain host instructions, which cannot fault. When the
 * comparison fails (another page, a miss, a span across two pages), each access is done by itself out of
 * line, exactly as without a group; so nothing about faults or order changes.
 *
 * A group is broken by any other cell, by a load into the base, and by values that live in XMM registers.
 */
#include "base/bits.h"
#include "engine/x86_64/t0.h"

enum { GROUP_MOST = 32, GROUP_SPAN = 512 };

struct plain {
    bool known, store, sign, constant;
    uint8_t log2;
};

static const struct plain plain_cells[CELL_COUNT] = {
    [CELL_LD_U8] = {true, false, false, false, 0},  [CELL_LD_U16] = {true, false, false, false, 1},
    [CELL_LD_U32] = {true, false, false, false, 2}, [CELL_LD_U64] = {true, false, false, false, 3},
    [CELL_LD_S8] = {true, false, true, false, 0},   [CELL_LD_S16] = {true, false, true, false, 1},
    [CELL_LD_S32] = {true, false, true, false, 2},  [CELL_ST_8] = {true, true, false, false, 0},
    [CELL_ST_16] = {true, true, false, false, 1},   [CELL_ST_32] = {true, true, false, false, 2},
    [CELL_ST_64] = {true, true, false, false, 3},   [CELL_ST_8K] = {true, true, false, true, 0},
    [CELL_ST_16K] = {true, true, false, true, 1},   [CELL_ST_32K] = {true, true, false, true, 2},
    [CELL_ST_64K] = {true, true, false, true, 3},
};

bool t0_is_plain_access(const struct cell *c)
{
    return plain_cells[(uintptr_t)c->handler].known;
}

static const struct plain *plain(const struct cell *c)
{
    return &plain_cells[(uintptr_t)c->handler];
}

static int32_t displacement(const struct cell *c)
{
    return (int32_t)((int64_t)c->imm >> 32);
}

static bool in_xmm(const struct t0_translation *t, unsigned cell)
{
    enum host_xmm x;
    return t0_is_fp(t, cell) || t0_fp_cached(t, cell, T0_FP_DOUBLE, &x) ||
           t0_fp_cached(t, cell, T0_FP_SINGLE, &x);
}

/* May the cell stand in a group that begins with `first`? */
static bool belongs(const struct t0_translation *t, const struct cell *first, const struct cell *c)
{
    const struct plain *p = plain(c);
    if (!p->known || p->store != plain(first)->store || c->a != first->a ||
        ir_mem_mmu((uint32_t)c->imm) != ir_mem_mmu((uint32_t)first->imm) || (uint32_t)c->imm & IR_MEM_ALIGNED)
        return false;
    return p->store ? p->constant || !in_xmm(t, c->b) : !in_xmm(t, c->dst) && !t0_loads_fp(t, c, p->log2);
}

struct group {
    unsigned n;
    int32_t low, high; /* displacements: of the first byte, behind the last */
};

static struct group find(const struct t0_translation *t, uint32_t at)
{
    const struct cell *first = &t->cells[at];
    struct group g = {.low = INT32_MAX, .high = INT32_MIN};
    for (uint32_t i = at; i < t->n_cells && g.n < GROUP_MOST; i++) {
        const struct cell *c = &t->cells[i];
        if (!belongs(t, first, c))
            break;
        int32_t from = displacement(c), low = from < g.low ? from : g.low;
        int64_t to = (int64_t)from + (1 << plain(c)->log2), high = to > g.high ? to : g.high;
        if (high - low > GROUP_SPAN)
            break;
        g = (struct group){.n = g.n + 1, .low = low, .high = (int32_t)high};
        if (!plain(c)->store && c->dst == first->a)
            break;
    }
    return g;
}

/* One access at rcx + offset. */
static void access(struct t0_translation *t, const struct cell *c, int32_t offset)
{
    struct emit *e = &t->e;
    const struct plain *p = plain(c);
    unsigned size = 8u << p->log2;
    struct host_mem at = host_mem(HOST_RCX, offset);
    if (p->constant) {
        emit_mov_mi(e, size, at, (int16_t)c->b);
    } else if (p->store) {
        emit_mov_mr(e, size, at, t0_read(t, c->b, HOST_RDX));
    } else {
        enum host_reg d = t0_target(t, c->dst, HOST_RAX);
        if (p->log2 == 3)
            emit_mov_rm(e, 64, d, at);
        else if (p->sign)
            emit_movsx_rm(e, 64, size, d, at);
        else
            emit_movzx_rm(e, size, d, at);
        t0_write(t, c->dst, d);
    }
}

unsigned t0_group(struct t0_translation *t, uint32_t at)
{
    struct emit *e = &t->e;
    const struct cell *first = &t->cells[at];
    if (t->t0->tuning & (ENGINE_NO_GROUPS | ENGINE_NO_TLB | ENGINE_NO_INTEGER) || !plain(first)->known ||
        first->a == t->folded)
        return 0;
    struct group g = find(t, at);
    if (g.n < 2)
        return 0;
    for (unsigned i = 0; i < g.n && !plain(first)->store; i++)
        t0_fp_forget(t, first[i].dst);
    struct t0_slow *slow = t0_slow_new(t, T0_SLOW_GROUP, first);
    slow->group = (uint8_t)g.n;
    slow->mark = t->at_mark;
    t0_base_to_rax(t, first->a, g.low);
    t0_look_up_span(t, (uint32_t)first->imm, (unsigned)(g.high - g.low), plain(first)->store, &slow->here);
    emit_add_rr(e, 64, HOST_RCX, HOST_RAX);
    for (unsigned i = 0; i < g.n; i++)
        access(t, &first[i], displacement(&first[i]) - g.low);
    t0_rejoin(t, slow);
    return g.n;
}

void t0_group_one_by_one(struct t0_translation *t, struct t0_slow *slow)
{
    const struct cell *first = slow->cell;
    struct t0_fp_cache after = t->fp;
    uint32_t mark = t->at_mark;
    t->fp = slow->fp;
    t->at_mark = slow->mark;
    for (unsigned i = 0; i < slow->group; i++) {
        while (t->at_mark + 1 < t->n_marks &&
               t->marks[t->at_mark + 1].cell <= (uint32_t)(first + i - t->cells))
            t->at_mark++;
        t0_memory(t, &first[i], (unsigned)(uintptr_t)first[i].handler);
    }
    emit_jmp(&t->e, &slow->back);
    t->fp = after;
    t->at_mark = mark;
}
