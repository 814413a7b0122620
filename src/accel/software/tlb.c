/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Cached translations of one vCPU: the inline TLB of env.h, the L3 behind it, address spaces, and every way
 * to flush. */
/*
 * Theory of operation
 *
 * Running code hits the inline TLB, which knows nothing of address spaces: it is emptied when the space
 * changes. Behind it the L3 (4-way, tagged with a space identifier) keeps the walks of several spaces, so
 * that a guest that switches back and forth walks its page tables once. Identifiers are never reused: to
 * flush a space is to give it a new one, and global pages have one of their own.
 *
 * Flushing one address needs care with large leaves, whose 4 KiB pieces are separate entries: regions that
 * received such pieces are remembered (a set per 2 MiB, a span beyond), and flushing an address in them
 * flushes everything.
 *
 * A walk may have to step outside in its middle (it sets accessed bits, and such a store may have to be
 * reported). What was asked of this vCPU meanwhile is done by then, so a walk during which requests were
 * served is used once at most and not kept.
 */
#include <inttypes.h>
#include <string.h>

#include "accel/software/software.h"
#include "base/bits.h"
#include "base/log.h"

static uint64_t l3_key(uint64_t va, unsigned mmu)
{
    return va >> ENV_PAGE_BITS << 4 | mmu;
}

static unsigned l3_set(uint64_t va, unsigned mmu)
{
    return (unsigned)((va >> ENV_PAGE_BITS) ^ (va >> 22) ^ mmu * 0x155) & (TLB_L3_SETS - 1);
}

/* --- inline TLB --- */

void tlb_credit_slots(struct soft_vcpu *s)
{
    for (unsigned i = 0; i < ENV_MMU_INDEXES; i++)
        for (unsigned j = 0; j < ENV_SLOTS && s->mmu_used >> i & 1; j++)
            s->env->slots[i].credit[j] = ENV_SLOT_CREDIT;
}

/* There are few slots, and they fill again at once: whatever is flushed, all are. */
static void slots_clear(struct soft_vcpu *s)
{
    for (unsigned i = 0; i < ENV_MMU_INDEXES; i++)
        if (s->mmu_used >> i & 1)
            memset(s->env->slots[i].tag, 0xff, sizeof(s->env->slots[i].tag));
}

static void inline_clear(struct soft_vcpu *s)
{
    slots_clear(s);
    for (unsigned i = 0; i < ENV_MMU_INDEXES; i++) {
        if (!(s->mmu_used >> i & 1))
            continue;
        memset(s->env->tlb[i].tag_r, 0xff, sizeof(s->env->tlb[i].tag_r));
        memset(s->env->tlb[i].tag_w, 0xff, sizeof(s->env->tlb[i].tag_w));
    }
    s->mmu_used = 0;
}

static void inline_clear_page(struct soft_vcpu *s, uint64_t va)
{
    unsigned at = env_tlb_index(va);
    slots_clear(s);
    for (unsigned i = 0; i < ENV_MMU_INDEXES; i++)
        if (s->mmu_used >> i & 1)
            s->env->tlb[i].tag_r[at] = s->env->tlb[i].tag_w[at] = ENV_TLB_EMPTY;
}

void tlb_revoke(struct soft_vcpu *s, uintptr_t start, size_t size, bool reads)
{
    slots_clear(s);
    for (unsigned i = 0; i < ENV_MMU_INDEXES; i++) {
        if (!(s->mmu_used >> i & 1))
            continue;
        struct env_tlb *t = &s->env->tlb[i];
        uint64_t *tag = reads ? t->tag_r : t->tag_w;
        for (unsigned j = 0; j < ENV_TLB_SIZE; j++)
            if (tag[j] != ENV_TLB_EMPTY && tag[j] + t->addend[j] - start < size)
                tag[j] = ENV_TLB_EMPTY;
    }
}

/* --- the jump cache --- */

/* The pages that jump-cache entries lead to are known, so that flushing a page of data, which is frequent,
 * forgets no jump. */
void tlb_remember_jump(struct soft_vcpu *s, struct block *b, bool global)
{
    if (s->jump_pages.shared > REGION_SET_FULL)
        tlb_forget_jumps(s);
    region_set_add(&s->jump_pages, b->pc >> ENV_PAGE_BITS);
    s->env->jump[env_jump_index(b->pc)] = (struct env_jump){
        .pc = b->pc, .salt = global ? s->env->salt_global : s->env->salt, .block = b, .host = b->entry};
}

void tlb_forget_block(struct soft_vcpu *s, uint64_t pc, const struct block *b)
{
    struct env_jump *j = &s->env->jump[env_jump_index(pc)];
    if (j->block == b)
        *j = (struct env_jump){0};
}

/* --- address spaces and salts --- */

static void update_salt(struct soft_vcpu *s)
{
    s->env->salt = ENV_SALT(s->space->jump_id, s->env->mode);
    s->env->salt_global = ENV_SALT(s->global_jump_id, s->env->mode);
}

static void renew(struct soft_vcpu *s, struct space *space)
{
    space->tlb_id = s->next_id++;
    space->jump_id = s->next_id++;
}

static void start_over(struct soft_vcpu *s);

/* Identifiers are 32 bits: true when they have run out, after billions of flushes. Each caller below takes at
 * most two per space. */
static bool out_of_ids(const struct soft_vcpu *s)
{
    return s->next_id > UINT32_MAX - 4 * SPACES;
}

static struct space *find_space(struct soft_vcpu *s, uint64_t root, uint32_t asid)
{
    if (out_of_ids(s)) {
        start_over(s);
        return s->space;
    }
    struct space *oldest = &s->spaces[0];
    for (unsigned i = 0; i < SPACES; i++) {
        struct space *p = &s->spaces[i];
        if (p->tlb_id && p->root == root && p->asid == asid)
            return p;
        if (p->used < oldest->used)
            oldest = p;
    }
    *oldest = (struct space){.root = root, .asid = asid};
    renew(s, oldest);
    return oldest;
}

void tlb_follow_space(struct soft_vcpu *s)
{
    uint64_t root = s->isa->address_space(s->env);
    uint32_t asid = s->isa->asid(s->env);
    if (root != s->space->root || asid != s->space->asid) {
        s->space = find_space(s, root, asid);
        s->space->used = ++s->space_clock;
        inline_clear(s);
    }
    update_salt(s);
}

void tlb_forget_jumps(struct soft_vcpu *s)
{
    if (out_of_ids(s)) {
        start_over(s);
        return;
    }
    for (unsigned i = 0; i < SPACES; i++)
        if (s->spaces[i].tlb_id)
            s->spaces[i].jump_id = s->next_id++;
    s->global_jump_id = s->next_id++;
    region_set_clear(&s->jump_pages);
    update_salt(s);
}

/* Everything empty, identifiers from 1 on. */
static void start_over(struct soft_vcpu *s)
{
    memset(s->spaces, 0, sizeof(s->spaces));
    memset(s->l3, 0, sizeof(s->l3));
    memset(s->env->jump, 0, sizeof(s->env->jump));
    region_set_clear(&s->large_leaves);
    s->huge_lo = UINT64_MAX;
    s->huge_hi = 0;
    s->next_id = 1;
    s->global_id = s->next_id++;
    s->global_jump_id = s->next_id++;
    s->space = &s->spaces[0];
    *s->space = (struct space){
        .root = s->isa->address_space(s->env), .asid = s->isa->asid(s->env), .used = ++s->space_clock};
    renew(s, s->space);
    tlb_credit_slots(s);
    inline_clear(s);
    update_salt(s);
}

void tlb_init(struct soft_vcpu *s)
{
    s->mmu_used = (uint32_t)bits_mask(ENV_MMU_INDEXES);
    start_over(s);
}

/* --- flushing --- */

void tlb_flush_all(struct soft_vcpu *s)
{
    s->partial = false;
    if (out_of_ids(s)) {
        start_over(s);
        return;
    }
    for (unsigned i = 0; i < SPACES; i++)
        if (s->spaces[i].tlb_id)
            renew(s, &s->spaces[i]);
    s->global_id = s->next_id++;
    s->global_jump_id = s->next_id++;
    region_set_clear(&s->large_leaves);
    s->huge_lo = UINT64_MAX;
    s->huge_hi = 0;
    inline_clear(s);
    update_salt(s);
}

static void flush_asid(struct soft_vcpu *s, uint32_t asid)
{
    if (out_of_ids(s)) {
        start_over(s);
        return;
    }
    for (unsigned i = 0; i < SPACES; i++)
        if (s->spaces[i].tlb_id && s->spaces[i].asid == asid)
            renew(s, &s->spaces[i]);
    if (s->space->asid == asid)
        inline_clear(s);
    update_salt(s);
}

enum { LARGE_BITS = 21 };

static bool from_large_leaf(const struct soft_vcpu *s, uint64_t va)
{
    return region_set_has(&s->large_leaves, va >> LARGE_BITS) || (va >= s->huge_lo && va <= s->huge_hi);
}

static void note_large_leaf(struct soft_vcpu *s, uint64_t va, uint64_t size)
{
    if (size <= 2 * MiB) {
        region_set_add(&s->large_leaves, va >> LARGE_BITS);
        return;
    }
    uint64_t lo = align_down(va, size), hi = lo + (size - 1);
    s->huge_lo = MIN(s->huge_lo, lo);
    s->huge_hi = MAX(s->huge_hi, hi);
}

/* Clears the entries that lead to the page: one for each place where an instruction may begin. */
static void forget_jumps_of(struct soft_vcpu *s, uint64_t page)
{
    if (!region_set_has(&s->jump_pages, page >> ENV_PAGE_BITS))
        return;
    for (unsigned offset = 0; offset < ENV_PAGE_SIZE; offset += 2) {
        struct env_jump *j = &s->env->jump[env_jump_index(page + offset)];
        if (j->pc == page + offset)
            *j = (struct env_jump){0};
    }
    region_set_remove(&s->jump_pages, page >> ENV_PAGE_BITS);
}

static void flush_page(struct soft_vcpu *s, uint64_t va)
{
    uint64_t page = align_down(va, ENV_PAGE_SIZE);
    for (unsigned mmu = 0; mmu < ENV_MMU_INDEXES; mmu++) {
        struct tlb_entry *set = s->l3[l3_set(page, mmu)];
        for (unsigned w = 0; w < TLB_L3_WAYS; w++)
            if (set[w].key == l3_key(page, mmu))
                set[w].space = 0;
    }
    inline_clear_page(s, page);
    forget_jumps_of(s, page);
    forget_jumps_of(s, page - ENV_PAGE_SIZE); /* a block that begins there may continue on this page */
}

static void log_flush(const struct soft_vcpu *s, const struct cpu_flush *what)
{
    if (what->one_page && log_on_at(LOG_MMU, what->va, 1))
        log_debug(LOG_MMU, "vCPU %u: flush 0x%" PRIx64, s->vcpu->index, what->va);
    else if (!what->one_page && what->one_asid)
        log_debug(LOG_MMU, "vCPU %u: flush address space %" PRIu32, s->vcpu->index, what->asid);
    else if (!what->one_page)
        log_debug(LOG_MMU, "vCPU %u: flush everything", s->vcpu->index);
}

void tlb_flush(struct soft_vcpu *s, const struct cpu_flush *what)
{
    s->flushes++;
    if (log_on(LOG_MMU))
        log_flush(s, what);
    if (what->one_page && !from_large_leaf(s, what->va))
        flush_page(s, what->va);
    else if (what->one_page || !what->one_asid)
        tlb_flush_all(s);
    else
        flush_asid(s, what->asid);
}

/* --- looking up --- */

static const struct tlb_entry *l3_find(const struct soft_vcpu *s, uint64_t va, unsigned mmu)
{
    const struct tlb_entry *set = s->l3[l3_set(va, mmu)];
    uint64_t key = l3_key(va, mmu);
    for (unsigned w = 0; w < TLB_L3_WAYS; w++)
        if (set[w].key == key && (set[w].space == s->space->tlb_id || set[w].space == s->global_id))
            return &set[w];
    return NULL;
}

static void l3_insert(struct soft_vcpu *s, uint64_t va, unsigned mmu, const struct isa_walk *walk)
{
    unsigned at = l3_set(va, mmu);
    struct tlb_entry *set = s->l3[at], *to = NULL;
    uint64_t key = l3_key(va, mmu);
    for (unsigned w = 0; w < TLB_L3_WAYS && !to; w++)
        if (!set[w].space ||
            (set[w].key == key && (set[w].space == s->space->tlb_id || set[w].space == s->global_id)))
            to = &set[w];
    if (!to)
        to = &set[s->l3_next[at]++ % TLB_L3_WAYS];
    *to = (struct tlb_entry){.key = key,
                             .gpa = align_down(walk->gpa.v, ENV_PAGE_SIZE) | walk->prot,
                             .space = walk->global ? s->global_id : s->space->tlb_id};
    if (walk->leaf > ENV_PAGE_SIZE && !walk->identity)
        note_large_leaf(s, va, walk->leaf);
}

/* out NULL: a fault. */
static void log_walk(const struct soft_vcpu *s, struct gva va, enum isa_access access,
                     const struct isa_walk *out)
{
    static const char *const what[] = {[ISA_LOAD] = "load", [ISA_STORE] = "store", [ISA_FETCH] = "fetch"};
    if (!out)
        log_debug(LOG_MMU, "vCPU %u: walk 0x%" PRIx64 " to %s: fault %" PRIu32, s->vcpu->index, va.v,
                  what[access], s->env->exc.cause);
    else
        log_debug(LOG_MMU, "vCPU %u: walk 0x%" PRIx64 " to %s: 0x%" PRIx64 " %c%c%c%s", s->vcpu->index, va.v,
                  what[access], out->gpa.v, out->prot & ISA_PROT_R ? 'r' : '-',
                  out->prot & ISA_PROT_W ? 'w' : '-', out->prot & ISA_PROT_X ? 'x' : '-',
                  out->identity               ? ", no table"
                  : out->leaf > ENV_PAGE_SIZE ? ", a large page"
                                              : "");
}

int tlb_translate(struct soft_vcpu *s, struct gva va, enum isa_access access, unsigned mmu,
                  struct isa_walk *out)
{
    static const uint8_t needed[] = {
        [ISA_LOAD] = ISA_PROT_R, [ISA_STORE] = ISA_PROT_W, [ISA_FETCH] = ISA_PROT_X};
    const struct tlb_entry *e = l3_find(s, va.v, mmu);
    if (e && e->gpa & needed[access]) {
        *out = (struct isa_walk){.gpa = GPA(align_down(e->gpa, ENV_PAGE_SIZE) | (va.v & ~ENV_PAGE_MASK)),
                                 .size = ENV_PAGE_SIZE,
                                 .global = e->space == s->global_id,
                                 .prot = e->gpa & 7};
        return 0;
    }
    s->walks++;
    uint64_t served = atomic_load(&s->requests.served);
    int fault = s->isa->walk(s->env, va, access, mmu, out);
    if (log_on_at(LOG_MMU, va.v, 1))
        log_walk(s, va, access, fault ? NULL : out);
    if (fault)
        return 1;
    if (out->size >= ENV_PAGE_SIZE && atomic_load(&s->requests.served) == served)
        l3_insert(s, va.v, mmu, out);
    return 0;
}
