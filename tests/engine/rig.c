/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The rig's guest: its tables, its memory and how a block of it is run. */
#include "rig.h"

#include <string.h>

#include "base/bits.h"
#include "engine/cell.h"

#define PINNED(name, type, pin, cell)                                                                        \
    {                                                                                                        \
        name, type, pin, -1, offsetof(struct env, reg) + 8 * (cell)                                          \
    }
#define REG(name, type, cell) PINNED(name, type, 0, cell)

static const struct ir_reg regs[RIG_REGS] = {
    PINNED("r0", IR_I64, 1, 0), PINNED("r1", IR_I64, 2, 1), PINNED("r2", IR_I64, 3, 2),
    PINNED("r3", IR_I64, 4, 3), PINNED("r4", IR_I64, 5, 4), PINNED("r5", IR_I64, 6, 5),
    PINNED("r6", IR_I64, 7, 6), PINNED("r7", IR_I64, 8, 7), REG("r8", IR_I64, 8),
    REG("r9", IR_I64, 9),       REG("r10", IR_I64, 10),     REG("r11", IR_I64, 11),
    REG("r12", IR_I64, 12),     REG("r13", IR_I64, 13),     REG("r14", IR_I64, 14),
    REG("r15", IR_I64, 15),     REG("h0", IR_I32, 16),      REG("h1", IR_I32, 17),
    REG("f0", IR_F64, 18),      REG("f1", IR_F64, 19),      REG("q0", IR_I128, 20),
};

static uint64_t helper_sum4(struct env *env, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    (void)env;
    return a + 2 * b + 3 * c + 4 * d;
}

static uint64_t helper_bump(struct env *env, uint64_t x, uint64_t b, uint64_t c, uint64_t d)
{
    uint64_t old = env->reg[15];

    (void)b, (void)c, (void)d;
    env->reg[15] += x;
    return old;
}

static uint64_t helper_fail_if(struct env *env, uint64_t x, uint64_t b, uint64_t c, uint64_t d)
{
    (void)b, (void)c, (void)d;
    if (x) {
        env->exc = (struct env_exception){.pending = true, .cause = RIG_HELPER_FAULT, .value = x};
    }
    return ~x;
}

static uint64_t helper_where(struct env *env, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return env->pc + (env->icount << 32);
}

static uint64_t helper_sync_fail(struct env *env, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    uint64_t here = helper_where(env, a, b, c, d);

    env->exc = (struct env_exception){.pending = true, .cause = RIG_HELPER_FAULT, .value = here};
    return 0;
}

static const struct ir_helper helpers[] = {
    {"sum4", helper_sum4, 4, 0},
    {"bump", helper_bump, 1, IR_HELPER_READS_REGS | IR_HELPER_WRITES_REGS},
    {"fail_if", helper_fail_if, 1, IR_HELPER_MAY_FAULT},
    {"where", helper_where, 0, IR_HELPER_SYNC},
    {"sync_fail", helper_sync_fail, 0, IR_HELPER_SYNC | IR_HELPER_MAY_FAULT},
};

const struct ir_target rig_target = {regs, helpers, RIG_REGS, ARRAY_SIZE(helpers)};

/* --- Memory --- */

static struct rig *rig_of(struct env *env)
{
    return CONTAINER_OF(env, struct rig, env);
}

static void raise_fault(struct env *env, uint32_t cause, uint64_t va)
{
    env->exc = (struct env_exception){.pending = true, .cause = cause, .value = va};
}

static uint8_t *host_of(struct rig *r, uint64_t va, unsigned size)
{
    return va >= RIG_RAM && va <= RIG_RAM + RIG_RAM_SIZE - size ? r->ram + (va - RIG_RAM) : NULL;
}

static void fill(struct rig *r, uint64_t va, uint32_t mem)
{
    struct env_tlb *tlb = &r->env.tlb[ir_mem_mmu(mem)];
    unsigned i = env_tlb_index(va);

    if (r->fill) {
        tlb->tag_r[i] = tlb->tag_w[i] = va & ENV_PAGE_MASK;
        tlb->addend[i] = (uintptr_t)r->ram - RIG_RAM;
    }
}

/* The value of the bytes as the descriptor orders them. Big-endian pairs keep the high half first. */
static int rig_load(struct env *env, uint64_t va, uint32_t mem, uint64_t value[2])
{
    struct rig *r = rig_of(env);
    unsigned size = 1u << ir_mem_log2(mem);
    const uint8_t *host = host_of(r, va, size);

    r->loads++;
    if (!host) {
        raise_fault(env, RIG_LOAD_FAULT, va);
        return 1;
    }
    fill(r, va, mem);
    value[0] = value[1] = 0;
    for (unsigned i = 0; i < size; i++) {
        unsigned at = mem & IR_MEM_BIG ? size - 1 - i : i;
        value[at / 8] |= (uint64_t)host[i] << 8 * (at % 8);
    }
    return 0;
}

static int rig_store(struct env *env, uint64_t va, uint32_t mem, const uint64_t value[2])
{
    struct rig *r = rig_of(env);
    unsigned size = 1u << ir_mem_log2(mem);
    uint8_t *host = host_of(r, va, size);

    r->stores++;
    if (!host) {
        raise_fault(env, RIG_STORE_FAULT, va);
        return 1;
    }
    fill(r, va, mem);
    for (unsigned i = 0; i < size; i++) {
        unsigned at = mem & IR_MEM_BIG ? size - 1 - i : i;
        host[i] = (uint8_t)(value[at / 8] >> 8 * (at % 8));
    }
    return 0;
}

static int rig_atomic(struct env *env, uint64_t va, uint32_t mem, void **host)
{
    *host = host_of(rig_of(env), va, 1u << ir_mem_log2(mem));
    if (!*host) {
        raise_fault(env, RIG_STORE_FAULT, va);
        return 1;
    }
    return 0;
}

static void rig_misaligned(struct env *env, uint64_t va, bool store)
{
    raise_fault(env, store ? RIG_MISALIGNED_STORE : RIG_MISALIGNED_LOAD, va);
}

static const struct env_ops ops = {rig_load, rig_store, rig_atomic, rig_misaligned};

/* --- Life --- */

void rig_reset(struct rig *r)
{
    memset(&r->env, 0, sizeof r->env);
    memset(r->env.tlb, 0xff, sizeof r->env.tlb);
    r->env.budget = UINT64_MAX;
    r->env.salt = r->env.salt_global = ENV_SALT(1, 0); /* that of no empty entry of the jump cache */
    r->env.excl_addr = ENV_NO_RESERVATION;
    r->env.ops = &ops;
    r->env.target = &rig_target;
    memset(r->ram, 0, RIG_RAM_SIZE);
    r->loads = r->stores = 0;
}

static void block_free(gpointer block)
{
    g_free(block);
}

static struct rig *make(const struct backend *backend, void *state)
{
    struct rig *r = g_new0(struct rig, 1);

    g_assert_nonnull(state);
    r->ram = g_malloc0(RIG_RAM_SIZE);
    r->ops = backend;
    r->backend = state;
    r->idle = backend->used(state);
    r->blocks = g_ptr_array_new_with_free_func(block_free);
    r->fill = true;
    rig_reset(r);
    return r;
}

struct rig *rig_new(bool plain)
{
    return make(&backend_interp, plain ? interp_init_plain(1 << 20) : backend_interp.init(1 << 20));
}

struct rig *rig_new_with(const struct backend *backend)
{
    return make(backend, backend->init(1 << 22));
}

void rig_free(struct rig *r)
{
    for (guint i = 0; i < r->blocks->len; i++) {
        r->ops->release(r->backend, g_ptr_array_index(r->blocks, i));
    }
    g_assert_cmpuint(r->ops->used(r->backend), ==, r->idle);
    g_ptr_array_free(r->blocks, TRUE);
    r->ops->fini(r->backend);
    g_free(r->ram);
    g_free(r);
}

struct block *rig_compile(struct rig *r, const struct ir_block *ir)
{
    struct block *b = g_malloc0(sizeof *b + ir->n_exits * sizeof b->exits[0]);
    char message[200] = "";

    if (ir_verify(ir, message, sizeof message)) {
        g_autofree char *text = ir_print(ir);
        g_error("%s in\n%s", message, text);
    }
    b->pc = ir->pc;
    b->mode = ir->mode;
    b->bytes = (uint16_t)ir->bytes;
    b->n_guest = (uint16_t)ir->n_guest;
    b->n_exits = ir->n_exits;
    for (uint32_t i = 0; i < ir->n_exits; i++) {
        b->exits[i].target = ir->exits[i].target;
        b->exits[i].kind = ir->exits[i].kind;
        b->exits[i].hint = ir->exits[i].hint;
        b->exits[i].index = (uint8_t)i;
    }
    g_assert_cmpint(r->ops->compile(r->backend, ir, b), ==, 0);
    g_ptr_array_add(r->blocks, b);
    return b;
}

enum engine_stop rig_run(struct rig *r, struct block *block)
{
    return r->ops->run(r->backend, &r->env, block);
}

void rig_parse(struct ir_block *ir, const char *text)
{
    struct ir_text_error error;

    if (ir_parse(ir, &rig_target, text, &error)) {
        g_error("line %u: %s in\n%s", error.line, error.message, text);
    }
}
