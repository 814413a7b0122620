/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Slow paths of guest memory access: TLB refill, page-crossing and device accesses, stores that must be
 * reported. */
/*
 * Theory of operation
 *
 * Running code comes here when its inline TLB check fails: a new page, a misaligned access, a device, or a
 * store to a page for which no direct permission may be given (mem.h). An access is cut at page boundaries
 * into one or two *pieces*. All pieces are translated first, so that an exception leaves nothing half done;
 * then the bytes are moved. RAM pieces that are whole aligned numbers move in one access (single-copy
 * atomicity for other vCPUs), others byte by byte. RAM is moved before devices are accessed and stores are
 * reported, because these step outside and make host addresses void.
 *
 * A refill installs a load tag for any readable RAM page. It installs a store tag only when the access is a
 * store and mem_hand_out() agrees; otherwise each store comes here and is reported by mem_wrote(), which
 * invalidates translated code.
 */
#include <string.h>

#include "accel/software/software.h"
#include "base/bits.h"
#include "base/byteorder.h"

struct piece {
    uint64_t va;
    struct gpa gpa;
    unsigned size;
    const struct mem_block *block; /* NULL: device */
    uint8_t *host;
    uint8_t prot;
    bool cacheable; /* the whole page shares translation and protection */
};

/* A boundary of physical protection lies inside the piece. An aligned access has to lie on one side as a
 * whole; a misaligned one counts as one access per byte. */
static int resolve_parts(struct soft_vcpu *s, const struct piece *p, enum isa_access access, unsigned mmu)
{
    struct isa_walk part;
    if (is_power_of_two(p->size) && !(p->va & (p->size - 1))) {
        s->isa->bus_error(s->env, GVA(p->va), access);
        return 1;
    }
    for (unsigned i = 1; i < p->size; i++)
        if (tlb_translate(s, GVA(p->va + i), access, mmu, &part))
            return 1;
    return 0;
}

/* Translates one piece. */
static int resolve_one(struct soft_vcpu *s, struct piece *p, enum isa_access access, unsigned mmu)
{
    struct isa_walk walk;
    if (tlb_translate(s, GVA(p->va), access, mmu, &walk))
        return 1;
    p->gpa = walk.gpa;
    p->prot = walk.prot;
    p->cacheable = walk.size >= ENV_PAGE_SIZE;
    if ((p->va & (walk.size - 1)) + p->size > walk.size && resolve_parts(s, p, access, mmu))
        return 1;
    p->block = mem_find(s->vcpu->set->config.mem, p->gpa);
    if (p->block && mem_is_chip(p->block, access == ISA_STORE))
        p->block = NULL; /* flash; of ROM nothing is on the bus */
    p->host = p->block ? p->block->host + (p->gpa.v - p->block->base.v) : NULL;
    if (p->block || bus_at(s->vcpu->set->config.bus, p->gpa))
        return 0;
    s->isa->bus_error(s->env, GVA(p->va), access);
    return 1;
}

/* Translates all pieces, as of one moment. */
static int resolve(struct soft_vcpu *s, struct piece *p, unsigned n, enum isa_access access, unsigned mmu)
{
    uint64_t served;
    do {
        served = atomic_load(&s->requests.served);
        for (unsigned i = 0; i < n; i++)
            if (resolve_one(s, &p[i], access, mmu))
                return 1;
    } while (atomic_load(&s->requests.served) != served);
    return 0;
}

/* Enters the page into the inline TLB, with a store tag if the access is a store and the page may be written
 * directly. */
static bool refill(struct soft_vcpu *s, const struct piece *p, enum isa_access access, unsigned mmu)
{
    if (!p->block || !p->cacheable)
        return false;
    uint64_t page = p->va & ENV_PAGE_MASK;
    unsigned at = env_tlb_index(p->va);
    struct env_tlb *t = &s->env->tlb[mmu];
    uint64_t addend = (uint64_t)(uintptr_t)p->host - p->va;
    bool direct = access == ISA_STORE && mem_hand_out(p->block, p->gpa);
    s->mmu_used |= 1u << mmu;
    /* Another page may own the entry; its tags must not survive a new addend. */
    if (t->addend[at] != addend || (t->tag_r[at] != page && t->tag_w[at] != page))
        t->tag_r[at] = t->tag_w[at] = ENV_TLB_EMPTY;
    t->addend[at] = addend;
    if (p->prot & ISA_PROT_R)
        t->tag_r[at] = page;
    if (direct)
        t->tag_w[at] = page;
    return direct;
}

/* --- moving bytes --- */

static uint64_t ram_get(const uint8_t *host, unsigned size)
{
    if (!((uintptr_t)host & (size - 1)))
        switch (size) {
        case 1: return __atomic_load_n(host, __ATOMIC_RELAXED);
        case 2: return le16toh(__atomic_load_n((const uint16_t *)(const void *)host, __ATOMIC_SEQ_CST));
        case 4: return le32toh(__atomic_load_n((const uint32_t *)(const void *)host, __ATOMIC_SEQ_CST));
        case 8: return le64toh(__atomic_load_n((const uint64_t *)(const void *)host, __ATOMIC_SEQ_CST));
        default: break;
        }
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)__atomic_load_n(&host[i], __ATOMIC_RELAXED) << 8 * i;
    return v;
}

static void ram_put(uint8_t *host, unsigned size, uint64_t v)
{
    if (!((uintptr_t)host & (size - 1)))
        switch (size) {
        case 1: __atomic_store_n(host, (uint8_t)v, __ATOMIC_SEQ_CST); return;
        case 2: __atomic_store_n((uint16_t *)(void *)host, htole16((uint16_t)v), __ATOMIC_SEQ_CST); return;
        case 4: __atomic_store_n((uint32_t *)(void *)host, htole32((uint32_t)v), __ATOMIC_SEQ_CST); return;
        case 8: __atomic_store_n((uint64_t *)(void *)host, htole64(v), __ATOMIC_SEQ_CST); return;
        default: break;
        }
    for (unsigned i = 0; i < size; i++)
        __atomic_store_n(&host[i], (uint8_t)(v >> 8 * i), __ATOMIC_RELAXED);
}

/* A device access, from outside, since chips have locks and may write to memory. Sizes and alignments that
 * the chip does not take are access faults; misaligned ones never reach it. */
static int device_get(struct soft_vcpu *s, const struct piece *p, uint64_t *v)
{
    bool was_inside = soft_leave(s);
    s->device_accesses++;
    bool done = is_power_of_two(p->size) && !bus_read(s->vcpu->set->config.bus, p->gpa, p->size, v);
    if (was_inside)
        soft_enter(s);
    if (done)
        return 0;
    s->isa->bus_error(s->env, GVA(p->va), ISA_LOAD);
    return 1;
}

static int device_put(struct soft_vcpu *s, const struct piece *p, uint64_t v)
{
    bool was_inside = soft_leave(s);
    s->device_accesses++;
    bool done = is_power_of_two(p->size) && !bus_write(s->vcpu->set->config.bus, p->gpa, p->size, v);
    if (was_inside)
        soft_enter(s);
    if (done)
        return 0;
    s->isa->bus_error(s->env, GVA(p->va), ISA_STORE);
    return 1;
}

static int get(struct soft_vcpu *s, const struct piece *p, unsigned n, uint64_t *v)
{
    for (unsigned i = 0; i < n; i++)
        if (p[i].block)
            v[i] = ram_get(p[i].host, p[i].size);
    for (unsigned i = 0; i < n; i++)
        if (!p[i].block && device_get(s, &p[i], &v[i]))
            return 1;
    return 0;
}

static int put(struct soft_vcpu *s, const struct piece *p, unsigned n, bool direct, const uint64_t *v)
{
    for (unsigned i = 0; i < n; i++)
        if (p[i].block)
            ram_put(p[i].host, p[i].size, v[i]);
    if (direct)
        return 0;
    for (unsigned i = 0; i < n; i++)
        if (p[i].block)
            mem_wrote(s->vcpu->set->config.mem, p[i].block, p[i].gpa, p[i].size);
        else if (device_put(s, &p[i], v[i]))
            return 1;
    return 0;
}

/* --- accesses of up to eight bytes --- */

static uint64_t swap(uint64_t v, unsigned size)
{
    return __builtin_bswap64(v) >> (64 - 8 * size);
}

/* Cuts [va, va + size) at the page boundary: one or two pieces. */
static unsigned cut(uint64_t va, unsigned size, struct piece p[2])
{
    unsigned room = (unsigned)(ENV_PAGE_SIZE - (va & ~ENV_PAGE_MASK));
    p[0] = (struct piece){.va = va, .size = MIN(size, room)};
    if (size <= room)
        return 1;
    p[1] = (struct piece){.va = va + room, .size = size - room};
    return 2;
}

static int load_word(struct soft_vcpu *s, uint64_t va, unsigned size, unsigned mmu, uint64_t *value)
{
    struct piece p[2];
    unsigned n = cut(va, size, p);
    if (resolve(s, p, n, ISA_LOAD, mmu))
        return 1;
    uint64_t v[2] = {0, 0};
    refill(s, &p[0], ISA_LOAD, mmu);
    if (get(s, p, n, v))
        return 1;
    *value = n == 1 ? v[0] : v[0] | v[1] << 8 * p[0].size;
    return 0;
}

static int store_word(struct soft_vcpu *s, uint64_t va, unsigned size, unsigned mmu, uint64_t value)
{
    struct piece p[2];
    unsigned n = cut(va, size, p);
    if (resolve(s, p, n, ISA_STORE, mmu))
        return 1;
    uint64_t v[2] = {n == 1 ? value : value & bits_mask(8 * p[0].size), n == 1 ? 0 : value >> 8 * p[0].size};
    bool direct = refill(s, &p[0], ISA_STORE, mmu);
    return put(s, p, n, direct && n == 1, v);
}

/* --- the operations of env.h --- */

/* A misaligned access that its descriptor forbids has raised the guest's exception. */
static bool alignment_fault(struct soft_vcpu *s, uint64_t va, uint32_t mem, enum isa_access access)
{
    if (!(mem & IR_MEM_ALIGNED) || !(va & (BIT(ir_mem_log2(mem)) - 1)))
        return false;
    s->isa->misaligned(s->env, GVA(va), access);
    return true;
}

static int softmmu_load(struct env *env, uint64_t va, uint32_t mem, uint64_t value[2])
{
    struct soft_vcpu *s = soft_of(env);
    unsigned size = 1u << ir_mem_log2(mem), mmu = ir_mem_mmu(mem);
    s->tlb_misses++;
    if (alignment_fault(s, va, mem, ISA_LOAD))
        return 1;
    unsigned word = MIN(size, 8);
    for (unsigned i = 0; i * 8 < size; i++)
        if (load_word(s, va + 8 * i, word, mmu, &value[i]))
            return 1;
    if (mem & IR_MEM_BIG) {
        uint64_t first = swap(value[0], word);
        value[0] = size == 16 ? swap(value[1], word) : first;
        value[1] = first;
    }
    return 0;
}

static int softmmu_store(struct env *env, uint64_t va, uint32_t mem, const uint64_t value[2])
{
    struct soft_vcpu *s = soft_of(env);
    unsigned size = 1u << ir_mem_log2(mem), mmu = ir_mem_mmu(mem);
    s->tlb_misses++;
    if (alignment_fault(s, va, mem, ISA_STORE))
        return 1;
    if (size < 16)
        return store_word(s, va, size, mmu, mem & IR_MEM_BIG ? swap(value[0], size) : value[0]);
    /* The far end faults first, so that nothing is stored when it does. */
    struct piece last = {.va = va + 15, .size = 1};
    if (resolve(s, &last, 1, ISA_STORE, mmu))
        return 1;
    bool big = mem & IR_MEM_BIG;
    if (store_word(s, va, 8, mmu, big ? swap(value[1], 8) : value[0]))
        return 1;
    return store_word(s, va + 8, 8, mmu, big ? swap(value[0], 8) : value[1]);
}

static int softmmu_atomic(struct env *env, uint64_t va, uint32_t mem, void **host)
{
    struct soft_vcpu *s = soft_of(env);
    unsigned mmu = ir_mem_mmu(mem);
    s->tlb_misses++;
    if (va & (BIT(ir_mem_log2(mem)) - 1)) {
        s->isa->misaligned(env, GVA(va), ISA_STORE);
        return 1;
    }
    struct piece p = {.va = va, .size = 1u << ir_mem_log2(mem)};
    /* The engine will write behind our back, so the page must be one that needs no report: code made from it
     * goes. Another vCPU may make it again at once, but not more often than we ask. */
    for (;;) {
        if (resolve(s, &p, 1, ISA_STORE, mmu))
            return 1;
        if (!p.block) {
            s->isa->bus_error(env, GVA(va), ISA_STORE);
            return 1;
        }
        if (refill(s, &p, ISA_STORE, mmu))
            break;
        uint64_t served = atomic_load(&s->requests.served);
        if (mem_lend(p.block, p.gpa)) {
            /* A watcher hears of it just before. */
            mem_wrote(s->vcpu->set->config.mem, p.block, p.gpa, p.size);
            if (atomic_load(&s->requests.served) == served)
                break;
            continue;
        }
        bool was_inside = soft_leave(s);
        code_drop_page(s->soft, s, p.gpa);
        if (was_inside)
            soft_enter(s);
    }
    *host = p.host;
    return 0;
}

static void softmmu_misaligned(struct env *env, uint64_t va, bool store)
{
    soft_of(env)->isa->misaligned(env, GVA(va), store ? ISA_STORE : ISA_LOAD);
}

const struct env_ops softmmu_ops = {
    .load = softmmu_load,
    .store = softmmu_store,
    .atomic = softmmu_atomic,
    .misaligned = softmmu_misaligned,
};
