/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* T0: floating-point cells of which a host register holds a copy. */
/*
 * Theory of operation
 *
 * A result that is stored to its cell and loaded again by the next instruction costs several cycles of
 * latency for nothing. So T0 remembers, while it translates a block, which cells stand in XMM registers too.
 * Memory always has the value as well: whatever looks at cells (the interpreter, another block, a handler of
 * a fault) finds it there, leaving a block needs no writing back, and forgetting a copy is always right. A
 * path out of line that calls C, which keeps no XMM register, loads the copies again that the code behind it
 * counts on.
 *
 * xmm0 and xmm1 are scratch, xmm15 belongs to the legacy SSE forms (emit_sse.h).
 */
#include "engine/x86_64/t0.h"

static void load(struct emit *e, enum host_xmm x, unsigned cell, enum t0_fp_form form)
{
    if (form == T0_FP_DOUBLE)
        emit_movsd_xm(e, x, t0_home(cell));
    else
        emit_movss_xm(e, x, t0_home(cell));
}

void t0_fp_begin(struct t0_translation *t)
{
    t->fp.busy = 0;
}

void t0_fp_forget(struct t0_translation *t, unsigned cell)
{
    for (unsigned i = 0; i < T0_FP_SLOTS; i++)
        if (t->fp.slot[i].cell == cell)
            t->fp.slot[i].cell = 0;
}

void t0_fp_forget_all(struct t0_translation *t)
{
    t->fp = (struct t0_fp_cache){0};
}

void t0_fp_reload(struct t0_translation *t, const struct t0_fp_cache *cache)
{
    for (unsigned i = 0; i < T0_FP_SLOTS; i++)
        if (cache->slot[i].cell)
            load(&t->e, t0_fp_xmm(i), cache->slot[i].cell, (enum t0_fp_form)cache->slot[i].form);
}

bool t0_fp_cached(const struct t0_translation *t, unsigned cell, enum t0_fp_form form, enum host_xmm *x)
{
    for (unsigned i = 0; i < T0_FP_SLOTS; i++) {
        const struct t0_fp_slot *s = &t->fp.slot[i];
        if (s->cell != cell)
            continue;
        /* A boxed single is a single; the converse is not known. */
        *x = t0_fp_xmm(i);
        return s->form == form || (form == T0_FP_SINGLE && s->form == T0_FP_BOXED);
    }
    return false;
}

/* How little it would cost to lose the slot. Temporaries are mostly used once. */
static unsigned cheapness(const struct t0_fp_slot *s)
{
    return !s->cell ? 2 : s->cell >= T0_FIRST_CELL + ENV_REGS;
}

enum host_xmm t0_fp_new(struct t0_translation *t)
{
    unsigned best = T0_FP_SLOTS;
    for (unsigned i = 0; i < T0_FP_SLOTS; i++) {
        unsigned slot = (t->fp.next + i) % T0_FP_SLOTS;
        if (t->fp.busy >> slot & 1)
            continue;
        if (best == T0_FP_SLOTS || cheapness(&t->fp.slot[slot]) > cheapness(&t->fp.slot[best]))
            best = slot;
    }
    t->fp.slot[best].cell = 0;
    t->fp.busy |= (uint16_t)(1u << best);
    t->fp.next = (uint8_t)((best + 1) % T0_FP_SLOTS);
    return t0_fp_xmm(best);
}

/* The register x, from t0_fp_new(), now holds the cell. */
static void remember(struct t0_translation *t, unsigned cell, enum host_xmm x, enum t0_fp_form form)
{
    t0_fp_forget(t, cell);
    t->fp.slot[x - HOST_XMM2] = (struct t0_fp_slot){.cell = (uint16_t)cell, .form = (uint8_t)form};
}

enum host_xmm t0_fp_read(struct t0_translation *t, unsigned cell, enum t0_fp_form form)
{
    enum host_xmm x;
    enum host_reg r;
    if (t0_fp_cached(t, cell, form, &x)) {
        t->fp.busy |= (uint16_t)(1u << (x - HOST_XMM2));
        return x;
    }
    x = t0_fp_new(t);
    if (!t0_pinned(t, cell, &r)) {
        load(&t->e, x, cell, form);
        remember(t, cell, x, form);
    } else if (form == T0_FP_DOUBLE) {
        emit_movq_xr(&t->e, x, r);
    } else {
        emit_movd_xr(&t->e, x, r);
    }
    return x;
}

void t0_fp_write(struct t0_translation *t, unsigned cell, enum host_xmm x, enum t0_fp_form form)
{
    enum host_reg r;
    if (t0_pinned(t, cell, &r)) {
        emit_movq_rx(&t->e, r, x);
        return;
    }
    emit_movq_mx(&t->e, t0_home(cell), x);
    remember(t, cell, x, form);
}

void t0_fp_box(struct t0_translation *t, enum host_xmm to, enum host_xmm x)
{
    emit_mov_ri(&t->e, 64, HOST_RAX, UINT64_C(0xffffffff00000000));
    emit_movq_xr(&t->e, HOST_XMM0, HOST_RAX);
    emit_orps_xxx(&t->e, to, HOST_XMM0, x);
}

void t0_fp_write_boxed(struct t0_translation *t, unsigned cell, enum host_xmm x)
{
    enum host_reg r;
    t0_fp_box(t, HOST_XMM0, x);
    if (t0_pinned(t, cell, &r)) {
        emit_movq_rx(&t->e, r, HOST_XMM0);
        return;
    }
    emit_movq_mx(&t->e, t0_home(cell), HOST_XMM0);
    remember(t, cell, x, T0_FP_BOXED);
}
