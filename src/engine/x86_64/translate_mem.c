/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* T0: loads and stores through the inline TLB (env.h); a miss goes out of line to the same C code that the
 * interpreter uses. */
#include "base/bits.h"
#include "engine/x86_64/t0.h"

bool t0_fold_address(struct t0_translation *t, const struct cell *c)
{
    const struct cell *next = c + 1;
    bool fits = c->c == CELL_MOVK_FLEETING && next < t->cells + t->n_cells && t0_is_plain_access(next);
    if (!fits || next->a != c->dst || next->b == c->dst)
        return false;
    t->folded = c->dst;
    t->folded_k = c->imm;
    return true;
}

void t0_base_to_rax(struct t0_translation *t, unsigned cell, int32_t displacement)
{
    enum host_reg a;
    if (t0_pinned(t, cell, &a)) {
        if (displacement)
            emit_lea(&t->e, 64, HOST_RAX, host_mem(a, displacement));
        else
            emit_mov_rr(&t->e, 64, HOST_RAX, a);
        return;
    }
    emit_mov_rm(&t->e, 64, HOST_RAX, t0_home(cell));
    if (displacement)
        emit_add_ri(&t->e, 64, HOST_RAX, displacement);
}

void t0_address(struct t0_translation *t, const struct cell *c)
{
    t0_base_to_rax(t, c->a, (int32_t)((int64_t)c->imm >> 32));
}

void t0_look_up_span(struct t0_translation *t, uint32_t mem, unsigned bytes, bool is_store,
                     struct emit_label *miss)
{
    struct emit *e = &t->e;
    if (t->t0->tuning & ENGINE_NO_TLB)
        emit_jmp(e, miss);
    size_t tlb = offsetof(struct env, tlb) + ir_mem_mmu(mem) % ENV_MMU_INDEXES * sizeof(struct env_tlb),
           tag = tlb + (is_store ? offsetof(struct env_tlb, tag_w) : offsetof(struct env_tlb, tag_r));
    emit_mov_rr(e, 32, HOST_RCX, HOST_RAX);
    emit_shr_ri(e, 32, HOST_RCX, ENV_PAGE_BITS);
    emit_and_ri(e, 32, HOST_RCX, ENV_TLB_SIZE - 1);
    /* The page of the last byte: what crosses into the next page misses, what is only misaligned does not. */
    if (bytes > 1 && !(mem & IR_MEM_ALIGNED)) {
        emit_lea(e, 64, HOST_RDX, host_mem(HOST_RAX, (int32_t)bytes - 1));
        emit_and_ri(e, 64, HOST_RDX, (int32_t)ENV_PAGE_MASK);
    } else {
        emit_mov_rr(e, 64, HOST_RDX, HOST_RAX);
        emit_and_ri(e, 64, HOST_RDX, (int32_t)(ENV_PAGE_MASK | (bytes - 1)));
    }
#define ENTRY(offset) host_mem_index((enum host_reg)T0_ENV, HOST_RCX, 8, (int32_t)(offset)-T0_BIAS)
    emit_cmp_rm(e, 64, HOST_RDX, ENTRY(tag));
    emit_jcc(e, HOST_NE, miss);
    emit_mov_rm(e, 64, HOST_RCX, ENTRY(tlb + offsetof(struct env_tlb, addend)));
#undef ENTRY
}

void t0_look_up(struct t0_translation *t, uint32_t mem, bool is_store, struct emit_label *miss)
{
    t0_look_up_span(t, mem, 1u << ir_mem_log2(mem), is_store, miss);
}

/* --- page slots --- */

/*
 * A lookup in the TLB delays the access it is made for: the entry's place must be computed before the addend
 * can be loaded. In a loop most accesses stay on the page of the turn before. So each access of a block that
 * leads back to itself has a slot of its own at a fixed place: the addend is at hand before the address is,
 * and only a comparison, which is predicted, depends on the address. A miss looks into the TLB, fills the
 * slot, and comes back. Elsewhere slots would only be fought for: most code runs seldom.
 *
 * The comparison is of the page and the bits that must be zero in an aligned address, so what is misaligned
 * is looked up in the TLB each time, and nothing crosses into another page.
 *
 * An access that goes to and fro between pages would find its slot wrong half of the time, which no processor
 * can predict. So a slot has a credit of returns to the page it held before; one that has spent it stays
 * empty, which is predicted, until the next interrupt.
 */

static size_t slot_field(const struct cell *c, size_t offset)
{
    return offsetof(struct env, slots) +
           ir_mem_mmu((uint32_t)c->imm) % ENV_MMU_INDEXES * sizeof(struct env_slots) + offset;
}

/* The address is in rax: its addend comes to rcx. */
static void find_page(struct t0_translation *t, struct t0_slow *s, bool is_store)
{
    struct emit *e = &t->e;
    const struct cell *c = s->cell;
    uint32_t mem = (uint32_t)c->imm;
    if (!t->leads_back || t->t0->tuning & (ENGINE_NO_SLOTS | ENGINE_NO_TLB)) {
        t0_look_up(t, mem, is_store, &s->here);
        return;
    }
    s->has_slot = true;
    s->slot = (uint16_t)(t->t0->next_slot++ % (ENV_SLOTS / 2) * 2 + is_store);
    emit_mov_rm(e, 64, HOST_RCX, t0_field(slot_field(c, offsetof(struct env_slots, addend[s->slot]))));
    emit_mov_rr(e, 64, HOST_RDX, HOST_RAX);
    emit_and_ri(e, 64, HOST_RDX, (int32_t)(ENV_PAGE_MASK | ((1u << ir_mem_log2(mem)) - 1)));
    emit_cmp_rm(e, 64, HOST_RDX, t0_field(slot_field(c, offsetof(struct env_slots, tag[s->slot]))));
    emit_jcc(e, HOST_NE, &s->here);
    emit_bind(e, &s->hit);
}

void t0_fill_slot(struct t0_translation *t, struct t0_slow *s, struct emit_label *miss)
{
    struct emit *e = &t->e;
    const struct cell *c = s->cell;
    struct emit_label fill = {0};
#define SLOT(field) t0_field(slot_field(c, offsetof(struct env_slots, field[s->slot])))
    t0_look_up(t, (uint32_t)c->imm, s->kind == T0_SLOW_STORE, miss);
    emit_cmp_mi(e, 32, SLOT(credit), 0);
    emit_jcc(e, HOST_S, &s->hit);
    emit_mov_rr(e, 64, HOST_RDX, HOST_RAX);
    emit_and_ri(e, 64, HOST_RDX, (int32_t)ENV_PAGE_MASK);
    emit_cmp_rm(e, 64, HOST_RDX, SLOT(before));
    emit_jcc_short(e, HOST_NE, &fill);
    emit_alu_mi(e, HOST_SUB, 32, SLOT(credit), 1);
    emit_jcc_short(e, HOST_NS, &fill);
    emit_mov_mi(e, 64, SLOT(tag), -1); /* ENV_TLB_EMPTY */
    emit_jmp(e, &s->hit);
    emit_bind(e, &fill);
    emit_mov_mr(e, 64, SLOT(addend), HOST_RCX);
    emit_mov_rm(e, 64, HOST_RCX, SLOT(tag));
    emit_mov_mr(e, 64, SLOT(before), HOST_RCX);
    emit_mov_mr(e, 64, SLOT(tag), HOST_RDX);
    emit_mov_rm(e, 64, HOST_RCX, SLOT(addend));
    emit_jmp(e, &s->hit);
#undef SLOT
}

/* --- loads and stores --- */

static bool fits(uint64_t value)
{
    return value == (uint64_t)(int64_t)(int32_t)value;
}

/* Where the access at a known address is to be made: where in the TLB to look is known, too. */
static struct host_mem locate_constant(struct t0_translation *t, struct t0_slow *s, bool is_store)
{
    struct emit *e = &t->e;
    uint32_t mem = (uint32_t)s->cell->imm;
    uint64_t va = t->folded_k + (uint64_t)((int64_t)s->cell->imm >> 32), page = va & ENV_PAGE_MASK;
    size_t tlb = offsetof(struct env, tlb) + ir_mem_mmu(mem) % ENV_MMU_INDEXES * sizeof(struct env_tlb) +
                 env_tlb_index(va) * sizeof(uint64_t),
           tag = tlb + (is_store ? offsetof(struct env_tlb, tag_w) : offsetof(struct env_tlb, tag_r));
    if (t->t0->tuning & ENGINE_NO_TLB || va & ((1u << ir_mem_log2(mem)) - 1)) {
        emit_mov_ri(e, 64, HOST_RAX, va);
        t0_look_up(t, mem, is_store, &s->here);
        return host_mem_index(HOST_RAX, HOST_RCX, 1, 0);
    }
    s->constant = true;
    s->va = va;
    if (fits(page)) {
        emit_cmp_mi(e, 64, t0_field(tag), (int32_t)page);
    } else {
        emit_mov_ri(e, 64, HOST_RDX, page);
        emit_cmp_rm(e, 64, HOST_RDX, t0_field(tag));
    }
    emit_jcc(e, HOST_NE, &s->here);
    emit_mov_rm(e, 64, HOST_RCX, t0_field(tlb + offsetof(struct env_tlb, addend)));
    if (fits(va))
        return host_mem(HOST_RCX, (int32_t)va);
    emit_mov_ri(e, 64, HOST_RAX, va);
    return host_mem_index(HOST_RAX, HOST_RCX, 1, 0);
}

static struct host_mem locate(struct t0_translation *t, struct t0_slow *s, bool is_store)
{
    if (t->folded == s->cell->a)
        return locate_constant(t, s, is_store);
    t0_address(t, s->cell);
    find_page(t, s, is_store);
    return host_mem_index(HOST_RAX, HOST_RCX, 1, 0);
}

bool t0_loads_fp(const struct t0_translation *t, const struct cell *c, unsigned log2)
{
    const struct cell *next = c + 1;
    enum host_reg r;
    if (log2 == 3)
        return t0_is_fp(t, c->dst);
    return log2 == 2 && next < t->cells + t->n_cells && (uintptr_t)next->handler == CELL_FBOX &&
           next->a == c->dst && !t0_pinned(t, c->dst, &r);
}

static void load(struct t0_translation *t, const struct cell *c, unsigned log2, bool sign)
{
    struct emit *e = &t->e;
    struct t0_slow *slow = t0_slow_new(t, T0_SLOW_LOAD, c);
    enum host_reg d = t0_target(t, c->dst, HOST_RAX);
    struct host_mem from = locate(t, slow, false);
    if (!sign && t0_loads_fp(t, c, log2)) {
        enum host_xmm x = t0_fp_new(t);
        slow->is_fp = true;
        if (log2 == 3)
            emit_movsd_xm(e, x, from);
        else
            emit_movss_xm(e, x, from);
        t0_fp_write(t, c->dst, x, log2 == 3 ? T0_FP_DOUBLE : T0_FP_SINGLE);
        t0_rejoin(t, slow);
        return;
    }
    if (log2 == 3)
        emit_mov_rm(e, 64, d, from);
    else if (sign)
        emit_movsx_rm(e, 64, 8u << log2, d, from);
    else
        emit_movzx_rm(e, 8u << log2, d, from);
    slow->value = (uint8_t)d;
    t0_rejoin(t, slow);
    t0_write(t, c->dst, d);
}

static void store(struct t0_translation *t, const struct cell *c, unsigned log2, bool constant)
{
    struct emit *e = &t->e;
    struct t0_slow *slow = t0_slow_new(t, T0_SLOW_STORE, c);
    enum host_reg b = HOST_RAX;
    enum host_xmm x;
    struct host_mem to = locate(t, slow, true);
    if (constant) {
        emit_mov_mi(e, 8u << log2, to, (int16_t)c->b);
    } else if (log2 == 3 && t0_fp_cached(t, c->b, T0_FP_DOUBLE, &x)) {
        b = HOST_RDX;
        emit_movsd_mx(e, to, x);
    } else if (log2 == 2 &&
               (t0_fp_cached(t, c->b, T0_FP_SINGLE, &x) || t0_fp_cached(t, c->b, T0_FP_DOUBLE, &x))) {
        b = HOST_RDX;
        emit_movss_mx(e, to, x);
    } else {
        b = t0_read(t, c->b, HOST_RDX);
        emit_mov_mr(e, 8u << log2, to, b);
    }
    slow->value = (uint8_t)b;
    t0_rejoin(t, slow);
}

bool t0_memory(struct t0_translation *t, const struct cell *c, unsigned op)
{
    switch (op) {
    case CELL_LD_U8: load(t, c, 0, false); return true;
    case CELL_LD_U16: load(t, c, 1, false); return true;
    case CELL_LD_U32: load(t, c, 2, false); return true;
    case CELL_LD_U64: load(t, c, 3, false); return true;
    case CELL_LD_S8: load(t, c, 0, true); return true;
    case CELL_LD_S16: load(t, c, 1, true); return true;
    case CELL_LD_S32: load(t, c, 2, true); return true;
    case CELL_ST_8: store(t, c, 0, false); return true;
    case CELL_ST_16: store(t, c, 1, false); return true;
    case CELL_ST_32: store(t, c, 2, false); return true;
    case CELL_ST_64: store(t, c, 3, false); return true;
    case CELL_ST_8K: store(t, c, 0, true); return true;
    case CELL_ST_16K: store(t, c, 1, true); return true;
    case CELL_ST_32K: store(t, c, 2, true); return true;
    case CELL_ST_64K: store(t, c, 3, true); return true;
    default: return false;
    }
}
