/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The softmmu of a RISC-V vCPU against a model that caches nothing: random tables, accesses, edits, flushes.
 */
/*
 * The vCPU stands still; the test calls what running code would call, after the inline TLB check of env.h.
 * The model walks the page tables byte by byte (privileged specification 1.12, sections 3.7 and 4.3-4.5;
 * Svnapot), checks PMP rules one by one, and keeps its own copy of RAM. Every access must give the model's
 * value or exception. Now and then all TLB entries are compared with the model, and the dirty log with the
 * set of pages that were written.
 *
 * The low part of each address space holds 4 KiB, 64 KiB, 2 MiB and 1 GiB leaves; the top gigabyte is global
 * and shared. After each edit of a table exactly the flush is made that the architecture asks for.
 */
#include "softmmu_model.h"

/* --- the TLB, as a whole, against the model --- */

static bool page_allows(struct test *t, uint64_t page, bool store, unsigned mmu, uint64_t *gpa)
{
    if (model_walk(t, page, store, mmu, false, gpa))
        return false;
    for (unsigned k = 0; k < PAGE; k += 4)
        if (!pmp_allows(t, *gpa + k, 4, store ? 2 : 1, indexes[mmu].priv))
            return false;
    return true;
}

static void check_tlb(struct test *t)
{
    for (unsigned mmu = 0; mmu < G_N_ELEMENTS(indexes); mmu++) {
        const struct env_tlb *tlb = &t->env->tlb[mmu];
        for (unsigned i = 0; i < ENV_TLB_SIZE; i++)
            for (unsigned store = 0; store < 2; store++) {
                uint64_t page = store ? tlb->tag_w[i] : tlb->tag_r[i], gpa;
                if (page == ENV_TLB_EMPTY)
                    continue;
                g_assert_cmpuint(env_tlb_index(page), ==, i);
                g_assert_true(page_allows(t, page, store, mmu, &gpa));
                g_assert_cmpuint(page + tlb->addend[i], ==, (uintptr_t)t->rig.ram->host + (gpa - RAM));
                uint8_t track = atomic_load(&t->rig.ram->track[(gpa - RAM) / PAGE]);
                if (store) {
                    g_assert_cmpuint(track & MEM_DIRTY, !=, 0);
                    g_assert_cmpuint(track & (MEM_CODE | MEM_WATCHED), ==, 0);
                }
            }
    }
}

static void check_log(struct test *t)
{
    uint8_t bitmap[PAGES / 8];
    mem_log_take(t->rig.mem, t->rig.ram, bitmap);
    for (unsigned i = 0; i < PAGES; i++)
        if ((bitmap[i / 8] >> i % 8 & 1) != t->dirty[i])
            g_error("page %u is %s in the log", i, t->dirty[i] ? "missing" : "too much");
    memset(t->dirty, 0, sizeof(t->dirty));
    for (unsigned mmu = 0; mmu < ENV_MMU_INDEXES; mmu++)
        for (unsigned i = 0; i < ENV_TLB_SIZE; i++)
            g_assert_cmpuint(t->env->tlb[mmu].tag_w[i], ==, ENV_TLB_EMPTY);
}

/* --- accesses --- */

/* Host address when the inline TLB knows the page (env.h), else NULL. */
static void *inline_hit(struct test *t, uint64_t va, unsigned size, bool store, unsigned mmu)
{
    const struct env_tlb *tlb = &t->env->tlb[mmu];
    unsigned i = env_tlb_index(va);
    if ((store ? tlb->tag_w[i] : tlb->tag_r[i]) != (va & (ENV_PAGE_MASK | (size - 1))))
        return NULL;
    t->hits++;
    return (void *)(uintptr_t)(va + tlb->addend[i]);
}

static uint64_t swapped(uint64_t v, unsigned size)
{
    return GUINT64_SWAP_LE_BE(v) >> (64 - 8 * size);
}

static void expect_exception(struct test *t, const struct outcome *want, int got)
{
    g_assert_cmpint(got, !=, 0);
    g_assert_true(t->env->exc.pending);
    g_assert_cmpuint(t->env->exc.cause, ==, want->cause);
    g_assert_cmphex(t->env->exc.value, ==, want->tval);
    t->env->exc.pending = false;
    t->faults++;
}

struct access {
    uint64_t va;
    unsigned size, mmu, n; /* n pieces */
    bool store, atomic;
    uint32_t mem;
    struct {
        uint64_t gpa;
        unsigned size;
    } piece[2];
};

static uint64_t device_value(uint64_t offset)
{
    return (uint32_t)(offset * 0x01030507 + 1);
}

static uint64_t model_load(struct test *t, const struct access *a)
{
    uint64_t v = 0;
    if (!shadow_at(t, a->piece[0].gpa))
        return device_value(a->piece[0].gpa - DEVICE);
    for (unsigned i = 0, at = 0; i < a->n; at += a->piece[i++].size)
        for (unsigned k = 0; k < a->piece[i].size; k++)
            v |= (uint64_t)*shadow_at(t, a->piece[i].gpa + k) << 8 * (at + k);
    return v;
}

static void model_store(struct test *t, const struct access *a, uint64_t v)
{
    for (unsigned i = 0, at = 0; i < a->n; at += a->piece[i++].size)
        if (shadow_at(t, a->piece[i].gpa))
            for (unsigned k = 0; k < a->piece[i].size; k++) {
                uint8_t byte = (uint8_t)(v >> 8 * (at + k));
                shadow_put(t, a->piece[i].gpa + k, &byte, 1);
            }
}

static void do_load(struct test *t, const struct access *a)
{
    uint64_t want = model_load(t, a), got[2] = {0, 0};
    const void *host = inline_hit(t, a->va, a->size, false, a->mmu);
    if (host) {
        memcpy(&got[0], host, a->size);
        got[0] = a->mem & IR_MEM_BIG ? swapped(got[0], a->size) : got[0];
    } else {
        g_assert_cmpint(t->env->ops->load(t->env, a->va, a->mem, got), ==, 0);
    }
    g_assert_cmphex(got[0], ==, a->mem & IR_MEM_BIG ? swapped(want, a->size) : want);
}

static void do_store(struct test *t, const struct access *a)
{
    uint64_t v[2] = {(uint64_t)g_rand_int(t->rand) << 32 | g_rand_int(t->rand), 0};
    v[0] &= bits_mask(8 * a->size);
    uint64_t raw = a->mem & IR_MEM_BIG ? swapped(v[0], a->size) : v[0];
    bool ram = shadow_at(t, a->piece[0].gpa);
    uint8_t track = ram ? atomic_load(&t->rig.ram->track[(a->piece[0].gpa - RAM) / PAGE]) : 0;
    void *host = inline_hit(t, a->va, a->size, true, a->mmu);
    t->reports = 0;
    if (host) {
        g_assert_true(ram);
        memcpy(host, &raw, a->size);
    } else {
        g_assert_cmpint(t->env->ops->store(t->env, a->va, a->mem, v), ==, 0);
    }
    model_store(t, a, raw);
    if (track & (MEM_CODE | MEM_WATCHED)) {
        g_assert_cmpuint(t->reports, >=, 1);
        if (a->n == 1) {
            g_assert_cmphex(t->reported_start, ==, a->piece[0].gpa);
            g_assert_cmpuint(t->reported_size, ==, a->size);
        }
    }
}

static void do_atomic(struct test *t, const struct access *a)
{
    void *host = inline_hit(t, a->va, a->size, true, a->mmu);
    if (!host)
        g_assert_cmpint(t->env->ops->atomic(t->env, a->va, a->mem, &host), ==, 0);
    g_assert_true(host == t->rig.ram->host + (a->piece[0].gpa - RAM));
    uint8_t track = atomic_load(&t->rig.ram->track[(a->piece[0].gpa - RAM) / PAGE]);
    g_assert_cmpuint(track & (MEM_DIRTY | MEM_HANDED | MEM_CODE), ==, MEM_DIRTY | MEM_HANDED);
    uint64_t v = model_load(t, a) + 1;
    memcpy(host, &v, a->size);
    model_store(t, a, v);
}

static bool is_device(uint64_t gpa)
{
    return gpa >= DEVICE && gpa < DEVICE + PAGE;
}

/* Does it cross into or out of a device? Such a store may be done in part, which no model wants to know. */
static bool crosses_device(struct test *t, const struct access *a, unsigned room)
{
    uint64_t gpa[2];
    return a->size > room &&
           ((!model_walk(t, a->va, a->store, a->mmu, false, &gpa[0]) && is_device(gpa[0])) ||
            (!model_walk(t, a->va + room, a->store, a->mmu, false, &gpa[1]) && is_device(gpa[1])));
}

/* What the model says of the access: true with the pieces, or false with the exception. */
static bool model_access(struct test *t, struct access *a, unsigned room, struct outcome *out)
{
    if ((a->mem & IR_MEM_ALIGNED || a->atomic) && a->va & (a->size - 1)) {
        *out = (struct outcome){.cause = a->store ? RISCV_EXC_STORE_MISALIGNED : RISCV_EXC_LOAD_MISALIGNED,
                                .tval = a->va};
        return false;
    }
    a->n = a->size > room ? 2 : 1;
    for (unsigned i = 0; i < a->n; i++) {
        a->piece[i].size = a->n == 1 ? a->size : i ? a->size - room : room;
        if (!model_piece(t, a->va + (i ? room : 0), a->piece[i].size, a->store, a->mmu, out))
            return false;
        a->piece[i].gpa = out->gpa;
    }
    /* The device takes words. */
    if (is_device(out->gpa) && (a->atomic || a->size != 4 || a->va % 4)) {
        *out = (struct outcome){.cause = a->store ? RISCV_EXC_STORE_ACCESS : RISCV_EXC_LOAD_ACCESS,
                                .tval = a->va};
        return false;
    }
    return true;
}

static void access_once(struct test *t, struct access *a)
{
    struct outcome out = {0};
    unsigned room = PAGE - (unsigned)(a->va % PAGE);
    if (crosses_device(t, a, room))
        return;
    t->accesses++;
    if (!model_access(t, a, room, &out)) {
        uint64_t v[2] = {0, 0};
        void *host = inline_hit(t, a->va, a->size, a->store, a->mmu);
        g_assert_null(host);
        expect_exception(t, &out,
                         a->atomic  ? t->env->ops->atomic(t->env, a->va, a->mem, &host)
                         : a->store ? t->env->ops->store(t->env, a->va, a->mem, v)
                                    : t->env->ops->load(t->env, a->va, a->mem, v));
    } else if (a->atomic) {
        do_atomic(t, a);
    } else if (a->store) {
        do_store(t, a);
    } else {
        do_load(t, a);
    }
}

/* --- what is accessed and edited: the leaves of each space --- */

static uint64_t table_page(unsigned space, unsigned which)
{
    return RAM + (uint64_t)(SPACE_TABLES + space * ALL_TABLES + which) * PAGE;
}

/* The low gigabyte's level-1 table has: 0 and 1 tables of small pages, 2 to 5 leaves of 2 MiB. The second
 * gigabyte is a leaf. In the tables of small pages, 16 to 31 is a 64 KiB leaf. Virtual addresses of each
 * kind, and where the entry is. */
enum kind { SMALL, NAPOT, MEGA, GIGA, GLOBAL, KINDS };

struct leaf {
    enum kind kind;
    uint64_t va, size, at; /* at: guest physical address of the (first) entry */
};

static struct leaf random_leaf(struct test *t, unsigned space)
{
    unsigned k = below(t, 32), half = below(t, 2);
    uint64_t l0 = table_page(space, half ? L0_B : L0_A), base = half ? 2 * MiB : 0;
    switch (k) {
    case 0 ... 1: return (struct leaf){GIGA, GiB, GiB, table_page(space, L2_LOW) + 8};
    case 2 ... 6:
        k = 2 + below(t, 4);
        return (struct leaf){MEGA, k * 2 * MiB, 2 * MiB, table_page(space, L1_LOW) + 8 * k};
    case 7 ... 9: return (struct leaf){NAPOT, base + 16 * PAGE, 16 * PAGE, l0 + 8 * 16};
    case 10 ... 16:
        k = below(t, 12);
        return (struct leaf){GLOBAL, (uint64_t)0 - GiB + k * PAGE, PAGE, RAM + GLOBAL_L0 * PAGE + 8 * k};
    default: k = below(t, 14); return (struct leaf){SMALL, base + k * PAGE, PAGE, l0 + 8 * k};
    }
}

static uint64_t random_entry(struct test *t, enum kind kind)
{
    static const uint64_t align[KINDS] = {
        [SMALL] = 1, [NAPOT] = 16, [MEGA] = 512, [GIGA] = 512 * 512, [GLOBAL] = 1};
    static const uint8_t flags[] = {F_R,       F_R | F_W, F_R | F_W | F_X, F_X,       F_R | F_X, F_W,
                                    F_R | F_W, F_R | F_W, F_R | F_W,       F_R | F_W, F_R | F_W, F_R | F_W};
    uint64_t page = (RAM >> 12) + DATA + below(t, 24);
    if (kind == MEGA)
        page = (RAM >> 12) + 512 * (1 + below(t, 3));
    if (kind == GIGA)
        page = RAM >> 12;
    if (kind == SMALL && one_in(t, 16))
        page = one_in(t, 2) ? DEVICE >> 12 : (RAM + RAM_SIZE) >> 12;
    page = page & ~(align[kind] - 1);
    uint64_t e = flags[below(t, G_N_ELEMENTS(flags))] | (one_in(t, 12) ? 0 : F_V) | (one_in(t, 5) ? 0 : F_A) |
                 (one_in(t, 3) ? 0 : F_D) | (one_in(t, 2) ? F_U : 0) | (kind == GLOBAL ? F_G : 0);
    if (kind == NAPOT)
        return e | (page | 8) << 10 | BIT(63);
    return e | page << 10 | (one_in(t, 40) ? BIT(55 + below(t, 9)) : 0);
}

static void forget(struct test *t, const struct cpu_flush *f)
{
    t->cpu->host.ops->flush(t->env, f);
}

/* A jump-cache entry for pc, as the dispatcher makes one. */
static void plant(struct test *t, uint64_t pc)
{
    static struct block block;
    block.pc = pc;
    tlb_remember_jump(t->s, &block, false);
}
static bool planted(const struct test *t, uint64_t pc)
{
    const struct env_jump *j = &t->env->jump[env_jump_index(pc)];
    return j->pc == pc && j->salt == t->env->salt && j->block;
}

static void edit(struct test *t)
{
    unsigned space = one_in(t, 3) ? below(t, N_SPACES) : t->space;
    struct leaf leaf = random_leaf(t, space);
    uint64_t e = random_entry(t, leaf.kind), va = leaf.va + (uint64_t)g_rand_int(t->rand) % leaf.size;
    plant(t, va & ~UINT64_C(1));
    plant(t, (va & ENV_PAGE_MASK) - 2);
    for (unsigned i = 0; i < (leaf.kind == NAPOT ? 16 : 1); i++)
        put(t, leaf.at + 8 * i, e);
    struct cpu_flush f = {.one_page = one_in(t, 4) ? false : true,
                          .one_asid = leaf.kind != GLOBAL && one_in(t, 2),
                          .va = va,
                          .asid = (uint32_t)bits_get(t->satp[space], 44, 16)};
    forget(t, &f);
    if (space == t->space) {
        g_assert_false(planted(t, va & ~UINT64_C(1)));
        g_assert_false(planted(t, (va & ENV_PAGE_MASK) - 2));
    }
}

/* Rules near and inside the data pages; the last one is for all the rest. */
static void edit_pmp(struct test *t)
{
    for (unsigned i = 0; i < PMP_RULES; i++) {
        uint64_t addr = RAM + (uint64_t)(DATA + below(t, 24)) * PAGE + (one_in(t, 3) ? 0 : below(t, PAGE));
        if (one_in(t, 2))
            continue;
        unsigned match = below(t, 4), size = below(t, 12);
        t->pmp[i].addr =
            match == 3 ? (addr >> 2 & ~bits_mask(size)) | bits_mask(size ? size - 1 : 0) : addr >> 2;
        t->pmp[i].cfg = (uint8_t)(match << 3 | (one_in(t, 4) ? below(t, 8) : 7));
        if (match == 1 && one_in(t, 2)) /* a range of its own, beginning at the entry below */
            t->pmp[i].addr = (i ? t->pmp[i - 1].addr : 0) + below(t, 600);
        if (!(t->pmp[i].cfg & 1))
            t->pmp[i].cfg &= (uint8_t)~2;
    }
    bool none = !one_in(t, 3); /* often nothing but the last, so that TLB entries live */
    for (unsigned i = 0; i < PMP_RULES; i++)
        if (none)
            t->pmp[i] = (struct rule){0, 0};
    for (unsigned i = 0; i < RISCV_PMP_ENTRIES; i++)
        riscv_pmpaddr_put(t->cpu, i, t->pmp[i].addr);
    for (unsigned i = 0; i < RISCV_PMP_ENTRIES; i += 8) {
        uint64_t cfg = 0;
        for (unsigned k = 0; k < 8; k++)
            cfg |= (uint64_t)t->pmp[i + k].cfg << 8 * k;
        riscv_pmpcfg_put(t->cpu, i, cfg);
    }
}

static void go_to_space(struct test *t, unsigned space)
{
    t->space = space;
    t->cpu->satp = t->satp[space];
    tlb_follow_space(t->s);
}

static void random_access(struct test *t)
{
    struct leaf leaf = random_leaf(t, t->space);
    struct access a = {.mmu = below(t, G_N_ELEMENTS(indexes))};
    unsigned log2 = below(t, 4), what = below(t, 8);
    uint64_t page =
        leaf.va + (uint64_t)below(t, leaf.size > GiB / 2 ? 4200 : (uint32_t)(leaf.size / PAGE)) * PAGE;
    if (leaf.size > 64 * KiB && !one_in(t, 8))
        page = leaf.va + (uint64_t)below(t, 24) * PAGE; /* come again */
    if (a.mmu == RISCV_MMU_M)
        page = RAM + (uint64_t)(DATA + below(t, 24)) * PAGE;
    unsigned again = below(t, G_N_ELEMENTS(t->recent));
    if (!one_in(t, 4)) {
        page = t->recent[again].page;
        a.mmu = t->recent[again].mmu;
    }
    t->recent[again].page = page;
    t->recent[again].mmu = a.mmu;
    a.size = 1u << log2;
    a.va = page + (one_in(t, 6) ? PAGE - 1 - below(t, 8) : below(t, PAGE));
    if (!one_in(t, 4))
        a.va &= ~(uint64_t)(a.size - 1);
    if (one_in(t, 200))
        a.va ^= BIT(38 + below(t, 26)); /* perhaps not canonical */
    a.atomic = what == 0 && log2 >= 2;
    a.store = a.atomic || what < 4;
    a.mem = log2 | IR_MEM_MMU(a.mmu) | (one_in(t, 4) ? IR_MEM_ALIGNED : 0) | (one_in(t, 5) ? IR_MEM_BIG : 0);
    if (a.atomic)
        a.mem &= ~IR_MEM_BIG;
    /* Neither by way of large leaves nor else may accesses write the tables: they would need fences. */
    uint64_t gpa;
    for (unsigned end = 0; end < 2; end++)
        if (a.store && !model_walk(t, a.va + end * (a.size - 1), true, a.mmu, false, &gpa) && gpa >= RAM &&
            gpa < RAM + DATA * PAGE)
            return;
    access_once(t, &a);
}

/* --- set-up --- */

static uint64_t device_read(void *chip, uint64_t offset, unsigned size)
{
    (void)chip, (void)size;
    return device_value(offset);
}

static void device_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    (void)chip, (void)offset, (void)size, (void)value;
}

static void on_revoke(struct mem_listener *l, struct gpa start, uint64_t size)
{
    (void)l, (void)start, (void)size;
}

static void on_written(struct mem_listener *l, struct gpa start, uint64_t size)
{
    struct test *t = CONTAINER_OF(l, struct test, listener);
    t->reports++;
    t->reported_start = start.v;
    t->reported_size = size;
}

static void make_tables(struct test *t)
{
    uint64_t global_l1 = RAM + GLOBAL_L1 * PAGE;
    put(t, global_l1, pte(RAM + GLOBAL_L0 * PAGE, F_V));
    for (unsigned space = 0; space < N_SPACES; space++) {
        unsigned levels = 3 + space % 3;
        uint64_t above = table_page(space, ROOT), high = above;
        if (levels == 5) {
            put(t, above, pte(table_page(space, L3_LOW), F_V));
            put(t, high + 8 * 511, pte(table_page(space, L3_HIGH), F_V));
            above = table_page(space, L3_LOW);
            high = table_page(space, L3_HIGH);
        }
        if (levels >= 4) {
            put(t, above, pte(table_page(space, L2_LOW), F_V));
            put(t, high + 8 * 511, pte(table_page(space, L2_HIGH), F_V));
            high = table_page(space, L2_HIGH);
        } else {
            high = table_page(space, L2_LOW);
        }
        put(t, table_page(space, L2_LOW), pte(table_page(space, L1_LOW), F_V));
        put(t, high + 8 * 511, pte(global_l1, F_V | F_G));
        put(t, table_page(space, L1_LOW), pte(table_page(space, L0_A), F_V));
        put(t, table_page(space, L1_LOW) + 8, pte(table_page(space, L0_B), F_V));
        t->levels[space] = levels;
        t->satp[space] = (uint64_t)(SATP_SV39 + levels - 3) << 60 | (uint64_t)(space + 1) << 44 |
                         table_page(space, levels == 3 ? L2_LOW : ROOT) >> 12;
    }
}

static void test_init(struct test *t, uint32_t seed)
{
    static const struct bus_ops ops = {
        .read = device_read, .write = device_write, .min_size = 4, .max_size = 4};
    memset(t, 0, sizeof(*t));
    rig_init(&t->rig, &(struct rig_config){0});
    g_assert_true(bus_map(t->rig.bus, "device", GPA(DEVICE), PAGE, &ops, t, NULL));
    t->env = vcpus_env(t->rig.vcpus, 0);
    t->cpu = riscv_cpu(t->env);
    t->s = soft_of(t->env);
    t->rand = g_rand_new_with_seed(seed);
    t->shadow = g_malloc0(RAM_SIZE);
    t->listener = (struct mem_listener){.revoke = on_revoke, .written = on_written};
    mem_listen(t->rig.mem, &t->listener);
    soft_current = t->s;
    soft_enter(t->s);
    make_tables(t);
    t->pmp[RISCV_PMP_ENTRIES - 1] = (struct rule){.cfg = 3 << 3 | 7, .addr = bits_mask(54)};
    edit_pmp(t);
    t->ad = true;
    go_to_space(t, 0);
}

static void test_fini(struct test *t)
{
    soft_leave(t->s);
    soft_current = NULL;
    mem_unlisten(t->rig.mem, &t->listener);
    g_rand_free(t->rand);
    g_free(t->shadow);
    rig_fini(&t->rig);
}

/* --- the tests --- */

static void toggle_tracking(struct test *t)
{
    struct gpa page = GPA(RAM + (uint64_t)(DATA + below(t, 24)) * PAGE);
    switch (below(t, 4)) {
    case 0: mem_track_code(t->rig.mem, t->rig.ram, page); break;
    case 1: mem_untrack_code(t->rig.ram, page); break;
    case 2: mem_watch(t->rig.mem, page, PAGE, true); break;
    default: mem_watch(t->rig.mem, page, PAGE, false); break;
    }
}

static void test_random(void)
{
    uint32_t seed = (uint32_t)g_test_rand_int();
    struct test *t = g_new(struct test, 1);
    test_init(t, seed);
    g_test_message("seed %u", seed);
    for (unsigned space = 0; space < N_SPACES; space++)
        for (unsigned i = 0; i < 200; i++) {
            struct leaf leaf = random_leaf(t, space);
            uint64_t e = random_entry(t, leaf.kind);
            for (unsigned k = 0; k < (leaf.kind == NAPOT ? 16 : 1); k++)
                put(t, leaf.at + 8 * k, e);
        }
    forget(t, &(struct cpu_flush){0});
    for (unsigned i = 0; i < STEPS; i++) {
        random_access(t);
        if (one_in(t, 25))
            edit(t);
        if (one_in(t, 100))
            go_to_space(t, below(t, N_SPACES));
        if (one_in(t, 300))
            edit_pmp(t);
        if (one_in(t, 40))
            toggle_tracking(t);
        if (one_in(t, 400)) {
            t->ad = !t->ad;
            riscv_set_adue(t->cpu, t->ad);
        }
        if (one_in(t, 500))
            check_log(t);
        if (one_in(t, 100))
            check_tlb(t);
        if (one_in(t, 4000))
            g_assert_cmpint(memcmp(t->shadow, t->rig.ram->host, RAM_SIZE), ==, 0);
    }
    g_assert_cmpint(memcmp(t->shadow, t->rig.ram->host, RAM_SIZE), ==, 0);
    check_log(t);
    g_test_message("%u accesses, %u inline hits, %u exceptions, %" G_GUINT64_FORMAT " walks", t->accesses,
                   t->hits, t->faults, t->s->walks);
    g_assert_cmpuint(t->hits, >, STEPS / 20);
    g_assert_cmpuint(t->faults, >, STEPS / 20);
    test_fini(t);
    g_free(t);
}

static int load_at(struct test *t, uint64_t va, unsigned log2, uint64_t *v)
{
    uint64_t got[2] = {0, 0};
    int failed = t->env->ops->load(t->env, va, log2 | IR_MEM_MMU(RISCV_MMU_S), got);
    *v = got[0];
    return failed;
}

/* A rule of PMP cuts one page out of a large leaf. Fencing any other address of the leaf must still drop that
 * page. */
static void test_clipped_leaf(void)
{
    enum { MEGA_A = RAM + 2 * 1024 * 1024, MEGA_B = RAM + 4 * 1024 * 1024, MEGA_VA = 4 * 1024 * 1024 };
    struct test *t = g_new(struct test, 1);
    test_init(t, 1);
    uint64_t at = table_page(0, L1_LOW) + 8 * 2, v;
    put(t, at, pte(MEGA_A, PTE_LEAF));
    put(t, MEGA_A + 5 * PAGE, 1);
    put(t, MEGA_B + 5 * PAGE, 2);
    riscv_pmp_reset(t->cpu);
    riscv_pmpaddr_put(t->cpu, 0, (MEGA_A + 5 * PAGE) >> 2 | 511); /* one page */
    riscv_pmpaddr_put(t->cpu, 1, UINT64_MAX);
    riscv_pmpcfg_put(t->cpu, 0, 0x1f1f);
    g_assert_cmpint(load_at(t, MEGA_VA + 5 * PAGE, 3, &v), ==, 0);
    g_assert_cmpuint(v, ==, 1);
    put(t, at, pte(MEGA_B, PTE_LEAF));
    forget(t, &(struct cpu_flush){.one_page = true, .va = MEGA_VA + 100 * PAGE});
    g_assert_null(inline_hit(t, MEGA_VA + 5 * PAGE, 8, false, RISCV_MMU_S));
    g_assert_cmpint(load_at(t, MEGA_VA + 5 * PAGE, 3, &v), ==, 0);
    g_assert_cmpuint(v, ==, 2);
    test_fini(t);
    g_free(t);
}

/* Section 3.7.1: the rule that matches any byte of an access must match all of it. A misaligned access is one
 * of bytes. */
static void test_pmp_parts(void)
{
    enum { AT = RAM + 2 * 1024 * 1024 };
    struct test *t = g_new(struct test, 1);
    test_init(t, 1);
    uint64_t v;
    put(t, table_page(0, L1_LOW) + 8 * 2, pte(AT, PTE_LEAF));
    riscv_pmp_reset(t->cpu);
    riscv_pmpaddr_put(t->cpu, 0, (AT + 0x104) >> 2);
    riscv_pmpaddr_put(t->cpu, 1, (AT + 0x204) >> 2);
    riscv_pmpaddr_put(t->cpu, 2, UINT64_MAX);
    riscv_pmpcfg_put(t->cpu, 0, 0x1f1017); /* four bytes allowed, four forbidden, all allowed */
    g_assert_cmpint(load_at(t, 4 * MiB + 0x100, 2, &v), ==, 0);
    g_assert_cmpint(load_at(t, 4 * MiB + 0x104, 2, &v), ==, 0);
    expect_exception(t, &(struct outcome){.cause = RISCV_EXC_LOAD_ACCESS, .tval = 4 * MiB + 0x100},
                     load_at(t, 4 * MiB + 0x100, 3, &v));
    g_assert_cmpint(load_at(t, 4 * MiB + 0x101, 3, &v), ==, 0);
    expect_exception(t, &(struct outcome){.cause = RISCV_EXC_LOAD_ACCESS, .tval = 4 * MiB + 0x204},
                     load_at(t, 4 * MiB + 0x201, 3, &v));
    test_fini(t);
    g_free(t);
}

/* An address space that comes back unchanged has its salt back; one that was fenced has a new one. */
static void test_salts(void)
{
    struct test *t = g_new(struct test, 1);
    test_init(t, 1);
    uint64_t first = t->env->salt;
    go_to_space(t, 1);
    uint64_t second = t->env->salt;
    g_assert_cmpuint(first, !=, second);
    forget(t, &(struct cpu_flush){.one_asid = true, .asid = 1});
    g_assert_cmpuint(t->env->salt, ==, second);
    go_to_space(t, 0);
    g_assert_cmpuint(t->env->salt, !=, first);
    g_assert_cmpuint(t->env->salt, !=, second);
    first = t->env->salt;
    go_to_space(t, 1);
    go_to_space(t, 0);
    g_assert_cmpuint(t->env->salt, ==, first);
    forget(t, &(struct cpu_flush){0});
    g_assert_cmpuint(t->env->salt, !=, first);
    test_fini(t);
    g_free(t);
}

/* Identifiers end after 2^32 flushes: whatever comes then, no old salt comes back. */
static void test_identifiers_end(void)
{
    struct test *t = g_new(struct test, 1);
    test_init(t, 1);
    for (unsigned kind = 0; kind < 3; kind++) {
        t->s->next_id = UINT32_MAX - 500;
        for (unsigned i = 0; i < 1000; i++) {
            uint64_t pc = RAM;
            plant(t, pc);
            g_assert_true(planted(t, pc));
            if (kind == 0)
                tlb_forget_jumps(t->s);
            else if (kind == 1)
                forget(t, &(struct cpu_flush){.one_asid = true, .asid = 1});
            else
                forget(t, &(struct cpu_flush){0});
            g_assert_false(planted(t, pc));
            g_assert_cmpuint(t->s->space->tlb_id, !=, 0);
            g_assert_cmpuint(t->s->next_id, >, 1);
        }
        g_assert_cmpuint(t->s->next_id, <, 100000);
    }
    test_fini(t);
    g_free(t);
}

/* --- figures (-m perf) --- */

static double nanoseconds(struct test *t, bool flush, bool load)
{
    enum { N = 200000, OVER = 64 };
    uint64_t v[2];
    gint64 start = g_get_monotonic_time();
    for (unsigned i = 0; i < N; i++) {
        uint64_t va = WINDOW + (uint64_t)(i % OVER) * PAGE;
        if (flush)
            forget(t, &(struct cpu_flush){.one_page = true, .va = va});
        if (load)
            t->env->ops->load(t->env, va, 3 | IR_MEM_MMU(RISCV_MMU_S), v);
    }
    return (double)(g_get_monotonic_time() - start) * 1000 / N;
}

static void test_figures(void)
{
    if (!g_test_perf()) {
        g_test_skip("figures are printed with -m perf");
        return;
    }
    struct test *t = g_new(struct test, 1);
    test_init(t, 1);
    riscv_pmp_reset(t->cpu);
    riscv_pmpaddr_put(t->cpu, 0, UINT64_MAX);
    riscv_pmpcfg_put(t->cpu, 0, 3 << 3 | 7);
    t->cpu->satp = rig_tables(&t->rig, 1);
    for (unsigned i = 0; i < 512; i++)
        rig_put(&t->rig, pte_addr(i), pte(RAM + 0x400000 + (uint64_t)i * PAGE, PTE_LEAF));
    tlb_follow_space(t->s);
    nanoseconds(t, false, true);
    double miss = nanoseconds(t, false, true), fence = nanoseconds(t, true, false),
           both = nanoseconds(t, true, true);
    g_test_message("TLB miss that L3 hits: %.0f ns; fence of a page: %.0f ns; Sv39 walk: %.0f ns", miss,
                   fence, both - fence);
    test_fini(t);
    g_free(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/softmmu/random", test_random);
    g_test_add_func("/softmmu/clipped-leaf", test_clipped_leaf);
    g_test_add_func("/softmmu/pmp-parts", test_pmp_parts);
    g_test_add_func("/softmmu/salts", test_salts);
    g_test_add_func("/softmmu/identifiers-end", test_identifiers_end);
    g_test_add_func("/softmmu/figures", test_figures);
    return g_test_run();
}
