/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Every cell that the quick translator turns into code, with its operands in every kind of place, against the
 * interpreter cell by cell. */
/*
 * A block computes one thing. Its operands and its result are each in one of PLACES registers: host registers
 * that differ in how they are encoded (with and without a REX prefix; rbp and r12 need other address bytes),
 * or memory; the same register for several of them included. The reference is the plain interpreter, which
 * tests/engine/test_ops.c holds to the specification.
 */
#include "rig.h"

#include <string.h>

#include "base/bits.h"

enum { PLACES = 6, T0_PINS = 11 };
/* rbx, rbp, r12, r11 with the registers below, and two in memory. */
static const uint8_t place[PLACES] = {0, 1, 4, 10, 11, 12};

/* Bits of operands: edges of all widths, counts of shifts, ordinary numbers. */
static const uint64_t number[] = {
    0,
    1,
    2,
    7,
    31,
    32,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0x7fffffff,
    0x80000000,
    0xffffffff,
    0x100000000,
    0x123456789abcdef0,
    INT64_MAX,
    UINT64_C(1) << 63,
    UINT64_MAX,
    UINT64_MAX - 6,
    0xffffffff80000000,
    0xfedcba9876543210,
};
enum { NUMBERS = ARRAY_SIZE(number) };

/* The rig's guest with as many registers pinned as the translator takes. */
static struct ir_reg regs[RIG_REGS];
static struct ir_target target;

static void target_init(void)
{
    target = rig_target;
    memcpy(regs, rig_target.regs, sizeof(regs));
    for (unsigned i = 0; i < T0_PINS; i++)
        regs[i].pin = (uint8_t)(i + 1);
    target.regs = regs;
}

/* --- two engines side by side --- */

struct pair {
    struct rig *r[2];
    struct block *b[2];
    struct ir_block *ir;
    unsigned runs;
};

static void pair_init(struct pair *p)
{
    *p = (struct pair){.r = {rig_new(true), rig_new_with(backends[0])}, .ir = g_new(struct ir_block, 1)};
}

static void pair_fini(struct pair *p)
{
    g_assert_cmpuint(p->runs, >, 0);
    rig_free(p->r[0]);
    rig_free(p->r[1]);
    g_free(p->ir);
}

/* Gives the compiled blocks back, so that a few rigs do for many blocks. */
static void pair_clear(struct pair *p)
{
    for (unsigned k = 0; k < 2; k++) {
        struct rig *r = p->r[k];
        for (guint i = 0; i < r->blocks->len; i++)
            r->ops->release(r->backend, g_ptr_array_index(r->blocks, i));
        g_ptr_array_set_size(r->blocks, 0);
    }
}

static struct ir_block *begin(struct pair *p)
{
    ir_begin(p->ir, &target, 0x1000, 0);
    ir_emit(p->ir, IR_INSN, IR_TYPE_NONE, 0, 0, 4, 0);
    return p->ir;
}

/* Ends the block and compiles it for both. */
static void finish(struct pair *p)
{
    struct ir_block *ir = p->ir;
    ir->n_guest = 1;
    ir->bytes = 4;
    ir_emit(ir, IR_EXIT, IR_TYPE_NONE, 0, ir_exit_to(ir, 0x1100, IR_HINT_JUMP), 0, 0);
    if (p->r[0]->blocks->len >= 256)
        pair_clear(p);
    for (unsigned k = 0; k < 2; k++)
        p->b[k] = rig_compile(p->r[k], ir);
}

static void differ(const struct pair *p, const enum engine_stop stop[2], const uint64_t *before)
{
    const struct env *x = &p->r[0]->env, *y = &p->r[1]->env;
    GString *what = g_string_new(NULL);
    for (unsigned i = 0; i < ENV_REGS; i++)
        if (x->reg[i] != y->reg[i])
            g_string_append_printf(what, " cell %u: %" G_GINT64_MODIFIER "x, %" G_GINT64_MODIFIER "x;", i,
                                   x->reg[i], y->reg[i]);
    g_string_append(what, " before:");
    for (unsigned i = 0; i < 16; i++)
        g_string_append_printf(what, " %" G_GINT64_MODIFIER "x", before[i]);
    g_autofree char *text = ir_print(p->ir);
    g_error("stops %d, %d; pc %" G_GINT64_MODIFIER "x, %" G_GINT64_MODIFIER "x; icount %" G_GINT64_MODIFIER
            "u, %" G_GINT64_MODIFIER "u; fault %u %" G_GINT64_MODIFIER "x, %u %" G_GINT64_MODIFIER
            "x;%s in\n%s",
            (int)stop[0], (int)stop[1], x->pc, y->pc, x->icount, y->icount, x->exc.cause, x->exc.value,
            y->exc.cause, y->exc.value, what->str, text);
}

/* Runs both from the same registers: all that running may change must be equal. */
static void run(struct pair *p, const uint64_t *before)
{
    enum engine_stop stop[2];
    long exit[2];
    for (unsigned k = 0; k < 2; k++) {
        struct env *env = &p->r[k]->env;
        memcpy(env->reg, before, sizeof(env->reg));
        env->exc = (struct env_exception){0};
        env->icount = 1000;
        env->fp_flags = 0;
        stop[k] = rig_run(p->r[k], p->b[k]);
        if (stop[k] == ENGINE_LOOKUP) /* which a translator may try itself, and not find */
            stop[k] = ENGINE_NEXT;
        exit[k] = env->last_exit ? env->last_exit - p->b[k]->exits : -1;
    }
    const struct env *x = &p->r[0]->env, *y = &p->r[1]->env;
    p->runs++;
    if (stop[0] != stop[1] || exit[0] != exit[1] || memcmp(x->reg, y->reg, sizeof(x->reg)) ||
        x->pc != y->pc || x->icount != y->icount || x->fp_flags != y->fp_flags ||
        x->exc.pending != y->exc.pending || x->exc.cause != y->exc.cause || x->exc.value != y->exc.value)
        differ(p, stop, before);
}

/* Every register gets a number of its own, so that the wrong one is seen. */
static void fill(uint64_t *state)
{
    memset(state, 0, sizeof(((struct env *)NULL)->reg));
    for (unsigned i = 0; i < 24; i++)
        state[i] = 0x0101010101010101 * (i + 0x21);
}

/* All pairs of numbers in two places. */
static void run_pairs(struct pair *p, unsigned a, unsigned b)
{
    uint64_t state[ENV_REGS];
    fill(state);
    for (unsigned i = 0; i < NUMBERS; i++)
        for (unsigned k = 0; k < NUMBERS; k++) {
            state[a] = number[i];
            state[b] = number[k];
            run(p, state);
            if (a == b)
                break;
        }
}

static void run_each(struct pair *p, unsigned a)
{
    run_pairs(p, a, a);
}

static ir_ref get(struct ir_block *ir, enum ir_type type, unsigned reg)
{
    return ir_emit(ir, IR_GETREG, type, 0, reg, 0, 0);
}

/* The value, extended, to a register: by sign with `sext`, which the 32-bit cells do themselves. */
static void put(struct ir_block *ir, enum ir_type type, unsigned reg, ir_ref v, bool sext)
{
    if (type != IR_I64)
        v = ir_emit(ir, sext ? IR_SEXT : IR_ZEXT, IR_I64, 0, v, 0, 0);
    ir_emit(ir, IR_PUTREG, IR_I64, 0, reg, v, 0);
}

static const enum ir_type widths[] = {IR_I8, IR_I16, IR_I32, IR_I64};
enum { WIDTHS = ARRAY_SIZE(widths) };

/* Calls visit for each (dst, a, b) of the places. */
#define EACH_PLACE(d, a, b)                                                                                  \
    for (unsigned d##_ = 0; d##_ < PLACES; d##_++)                                                           \
        for (unsigned a##_ = 0, d = place[d##_]; a##_ < PLACES; a##_++)                                      \
            for (unsigned b##_ = 0, a = place[a##_], b = place[0]; b##_ < PLACES; b = place[++b##_ % PLACES])

/* --- arithmetic --- */

static void check_binary(gconstpointer opaque)
{
    enum ir_op op = (enum ir_op)GPOINTER_TO_UINT(opaque);
    struct pair p;
    pair_init(&p);
    for (unsigned w = 0; w < WIDTHS; w++)
        for (unsigned sext = 0; sext <= (widths[w] == IR_I32); sext++)
            EACH_PLACE(d, a, b)
            {
                struct ir_block *ir = begin(&p);
                ir_ref x = get(ir, widths[w], a), y = get(ir, widths[w], b);
                put(ir, widths[w], d, ir_emit(ir, op, widths[w], 0, x, y, 0), sext);
                finish(&p);
                run_pairs(&p, a, b);
            }
    pair_fini(&p);
}

static void check_binary_constant(gconstpointer opaque)
{
    enum ir_op op = (enum ir_op)GPOINTER_TO_UINT(opaque);
    struct pair p;
    pair_init(&p);
    for (unsigned w = 0; w < WIDTHS; w++)
        for (unsigned sext = 0; sext <= (widths[w] == IR_I32); sext++)
            for (unsigned k = 0; k < 2 * NUMBERS; k++)
                for (unsigned at = 0; at < PLACES * PLACES; at++) {
                    unsigned a = place[at % PLACES], d = place[at / PLACES];
                    struct ir_block *ir = begin(&p);
                    ir_ref x = get(ir, widths[w], a), c = ir_const(ir, widths[w], number[k / 2]);
                    put(ir, widths[w], d, ir_emit(ir, op, widths[w], 0, k % 2 ? c : x, k % 2 ? x : c, 0),
                        sext);
                    finish(&p);
                    run_each(&p, a);
                }
    pair_fini(&p);
}

static void check_unary(gconstpointer opaque)
{
    enum ir_op op = (enum ir_op)GPOINTER_TO_UINT(opaque);
    struct pair p;
    pair_init(&p);
    for (unsigned w = 0; w < WIDTHS; w++)
        for (unsigned sext = 0; sext <= (widths[w] == IR_I32); sext++)
            for (unsigned at = 0; at < PLACES * PLACES; at++) {
                unsigned a = place[at % PLACES], d = place[at / PLACES];
                struct ir_block *ir = begin(&p);
                put(ir, widths[w], d, ir_emit(ir, op, widths[w], 0, get(ir, widths[w], a), 0, 0), sext);
                finish(&p);
                run_each(&p, a);
            }
    pair_fini(&p);
}

/* --- conditions --- */

enum use { USE_SET, USE_EXIT, USE_EXIT_NOT_FUSED, USE_SELECT, USES };

/* What a condition of two operands is good for. */
static void use_condition(struct ir_block *ir, enum use use, enum ir_type type, unsigned d, ir_ref set,
                          ir_ref x, ir_ref y)
{
    switch (use) {
    case USE_SET: put(ir, IR_I1, d, set, false); break;
    case USE_EXIT_NOT_FUSED: put(ir, IR_I1, d, set, false); __attribute__((fallthrough));
    case USE_EXIT:
        ir_emit(ir, IR_EXIT_IF, IR_TYPE_NONE, 0, set, ir_exit_to(ir, 0x1200, IR_HINT_JUMP), 0);
        break;
    default: put(ir, type, d, ir_emit(ir, IR_SELECT, type, 0, set, x, y), false); break;
    }
}

static void check_condition(gconstpointer opaque)
{
    uint8_t cond = (uint8_t)GPOINTER_TO_UINT(opaque);
    struct pair p;
    pair_init(&p);
    for (unsigned w = 0; w < WIDTHS; w++)
        for (unsigned u = 0; u < USES; u++) {
            EACH_PLACE(d, a, b)
            {
                if (u == USE_EXIT && d != a)
                    continue;
                struct ir_block *ir = begin(&p);
                ir_ref x = get(ir, widths[w], a), y = get(ir, widths[w], b);
                use_condition(ir, (enum use)u, widths[w], d, ir_emit(ir, IR_SETCC, widths[w], cond, x, y, 0),
                              x, y);
                finish(&p);
                run_pairs(&p, a, b);
            }
        }
    pair_fini(&p);
}

static void check_condition_constant(gconstpointer opaque)
{
    uint8_t cond = (uint8_t)GPOINTER_TO_UINT(opaque);
    struct pair p;
    pair_init(&p);
    for (unsigned w = 0; w < WIDTHS; w++)
        for (unsigned n = 0; n < NUMBERS * USES; n++)
            for (unsigned at = 0; at < PLACES * PLACES; at++) {
                unsigned a = place[at % PLACES], d = place[at / PLACES];
                struct ir_block *ir = begin(&p);
                ir_ref x = get(ir, widths[w], a), c = ir_const(ir, widths[w], number[n / USES]);
                use_condition(ir, (enum use)(n % USES), widths[w], d,
                              ir_emit(ir, IR_SETCC, widths[w], cond, x, c, 0), c, x);
                finish(&p);
                run_each(&p, a);
            }
    pair_fini(&p);
}

/* A choice by a condition that lives in a register itself, between registers and constants. */
static void check_select(void)
{
    struct pair p;
    uint64_t state[ENV_REGS];
    pair_init(&p);
    fill(state);
    for (unsigned s = 0; s < PLACES; s++)
        for (unsigned form = 0; form < 4; form++)
            EACH_PLACE(d, a, b)
            {
                struct ir_block *ir = begin(&p);
                ir_ref set =
                    ir_emit(ir, IR_SETCC, IR_I64, IR_NE, get(ir, IR_I64, 14), get(ir, IR_I64, 15), 0);
                put(ir, IR_I1, place[s], set, false);
                ir_ref x = form & 1 ? ir_const(ir, IR_I64, 0x1122334455667788) : get(ir, IR_I64, a);
                ir_ref y = form & 2 ? ir_const(ir, IR_I64, UINT64_MAX) : get(ir, IR_I64, b);
                ir_emit(ir, IR_PUTREG, IR_I64, 0, d, ir_emit(ir, IR_SELECT, IR_I64, 0, set, x, y), 0);
                finish(&p);
                for (unsigned equal = 0; equal < 2; equal++) {
                    state[14] = equal ? state[15] : 5;
                    run(&p, state);
                }
            }
    pair_fini(&p);
}

/* --- moves, widths, fields --- */

static void check_widths(void)
{
    static const enum ir_type order[] = {IR_I1, IR_I8, IR_I16, IR_I32, IR_I64};
    struct pair p;
    pair_init(&p);
    for (unsigned at = 0; at < PLACES * PLACES; at++) {
        unsigned a = place[at % PLACES], d = place[at / PLACES];
        for (unsigned narrow = 0; narrow < 4; narrow++)
            for (unsigned sext = 0; sext < 2; sext++) {
                struct ir_block *ir = begin(&p);
                ir_ref v = ir_emit(ir, IR_TRUNC, order[narrow], 0, get(ir, IR_I64, a), 0, 0);
                put(ir, order[narrow], d, v, sext);
                finish(&p);
                run_each(&p, a);
            }
        for (unsigned n = 0; n < NUMBERS; n++) { /* constants, and parts of registers */
            struct ir_block *ir = begin(&p);
            ir_ref v = get(ir, IR_I64, a);
            ir_emit(ir, IR_PUTREG, IR_I64, 0, d, ir_const(ir, IR_I64, number[n]), 0);
            enum ir_type part = widths[n % 3];
            ir_emit(ir, IR_PUTREG, part, 0, a, ir_emit(ir, IR_TRUNC, part, 0, get(ir, IR_I64, d), 0, 0), 0);
            ir_emit(ir, IR_PUTREG, IR_I64, 0, d, v, 0);
            finish(&p);
            run_each(&p, a);
        }
    }
    pair_fini(&p);
}

static void check_fields(void)
{
    struct pair p;
    uint64_t state[ENV_REGS];
    pair_init(&p);
    fill(state);
    for (unsigned w = 0; w < WIDTHS; w++)
        for (unsigned at = 0; at < PLACES * PLACES; at++)
            for (unsigned n = 0, bits = ir_type_bits(widths[w]); n < 3 * bits; n++) {
                unsigned a = place[at % PLACES], d = place[at / PLACES], low = n / 3 % bits;
                unsigned length = n % 3 == 0 ? 1 : n % 3 == 1 ? bits - low : (bits - low + 1) / 2;
                struct ir_block *ir = begin(&p);
                ir_ref x = get(ir, widths[w], a), y = get(ir, widths[w], d);
                put(ir, widths[w], d, ir_emit(ir, IR_UBFX, widths[w], 0, x, low, length), false);
                put(ir, widths[w], 13, ir_emit(ir, IR_SBFX, widths[w], 0, x, low, length), true);
                put(ir, widths[w], 2, ir_emit(ir, IR_BFI, widths[w], 0, x, y, low | length << 8), false);
                finish(&p);
                for (unsigned k = 13; k < NUMBERS; k++) {
                    state[a] = number[k];
                    run(&p, state);
                }
            }
    pair_fini(&p);
}

/* The state by offset: fields of the head, free cells, and registers (which may live elsewhere meanwhile). */
static void check_state(void)
{
    struct pair p;
    uint64_t state[ENV_REGS];
    pair_init(&p);
    fill(state);
    for (unsigned w = 0; w < WIDTHS; w++)
        for (unsigned cell = 0; cell < 32; cell++)
            for (unsigned at = 0; at < PLACES; at++) {
                unsigned bytes = ir_type_bits(widths[w]) / 8;
                uint32_t offset = (uint32_t)(offsetof(struct env, reg) + 8 * cell + 8 - bytes);
                struct ir_block *ir = begin(&p);
                ir_ref v = ir_emit(ir, IR_GETENV, widths[w], 0, offset, 0, 0);
                put(ir, widths[w], place[at], v, false);
                ir_emit(ir, IR_PUTENV, widths[w], 0, offset, get(ir, widths[w], 3), 0);
                put(ir, widths[w], 13, ir_emit(ir, IR_GETENV, widths[w], 0, offset, 0, 0), false);
                finish(&p);
                run(&p, state);
            }
    pair_fini(&p);
}

/* --- memory --- */

enum { WINDOW = RIG_RAM + 0x800 };

static void memory_block(struct pair *p, enum ir_op op, enum ir_type type, unsigned d, unsigned a,
                         int64_t displacement, uint32_t mem, ir_ref constant)
{
    struct ir_block *ir = begin(p);
    ir_ref at = get(ir, IR_I64, a);
    if (displacement)
        at = ir_emit(ir, IR_ADD, IR_I64, 0, at, ir_const(ir, IR_I64, (uint64_t)displacement), 0);
    if (op == IR_LD)
        put(ir, type, d, ir_emit(ir, IR_LD, type, 0, at, 0, mem), mem & IR_MEM_SIGNED);
    else
        ir_emit(ir, IR_ST, type, 0, at, constant ? ir_const(ir, type, constant) : get(ir, type, d), mem);
    finish(p);
}

/* The address in place a, in the TLB or not, aligned or not, in memory or beyond; d the value's place. */
static void memory_runs(struct pair *p, unsigned d, unsigned a, int64_t displacement)
{
    static const uint64_t addresses[] = {WINDOW,          WINDOW,         WINDOW + 8, WINDOW + 1,
                                         WINDOW + 2,      WINDOW + 4,     WINDOW + 7, WINDOW - 1,
                                         RIG_RAM + 0xffc, RIG_RAM + 4095, 0x400000,   RIG_RAM - 2};
    uint64_t state[ENV_REGS];
    for (unsigned n = 0; n < ARRAY_SIZE(addresses); n++) {
        fill(state);
        state[d] = 0x8899aabbccddeeff;
        state[a] = addresses[n] - (uint64_t)displacement;
        for (unsigned k = 0; k < 2; k++) {
            struct rig *r = p->r[k];
            r->fill = n != 0;
            if (n <= 1)
                memset(r->env.tlb, 0xff, sizeof(r->env.tlb[0]));
            for (unsigned i = 0; i < 0x1100; i++)
                r->ram[i] = (uint8_t)(i * 37 + 0x85);
        }
        run(p, state);
        g_assert_cmpint(memcmp(p->r[0]->ram, p->r[1]->ram, 0x1100), ==, 0);
    }
}

static void check_memory(gconstpointer opaque)
{
    enum ir_op op = (enum ir_op)GPOINTER_TO_UINT(opaque);
    static const int64_t displacements[] = {0, 8, -2048, 2047, INT32_MAX, INT64_C(1) << 40};
    struct pair p;
    pair_init(&p);
    for (unsigned w = 0; w < WIDTHS; w++)
        for (unsigned form = 0; form < 4 * ARRAY_SIZE(displacements); form++)
            for (unsigned at = 0; at < PLACES * PLACES; at++) {
                unsigned a = place[at % PLACES], d = place[at / PLACES], kind = form % 4;
                int64_t displacement = displacements[form / 4];
                uint32_t mem = IR_MEM_SIZE(w) | (kind & 1 && op == IR_LD ? IR_MEM_SIGNED : 0) |
                               (kind == 2 ? IR_MEM_ALIGNED : 0) | (kind == 3 ? IR_MEM_BIG : 0);
                ir_ref constant = kind == 1 && op == IR_ST   ? 0x7e83
                                  : kind == 2 && op == IR_ST ? 0xfffffffe
                                                             : 0;
                memory_block(&p, op, widths[w], d, a, displacement, mem, constant);
                memory_runs(&p, d, a, displacement);
            }
    for (unsigned k = 0; k < 2; k++)
        g_assert_cmpuint(p.r[k]->loads + p.r[k]->stores, <, p.runs); /* some are served inline */
    pair_fini(&p);
}

/* --- ends --- */

static void check_ends(void)
{
    struct pair p;
    pair_init(&p);
    for (unsigned at = 0; at < PLACES; at++)
        for (unsigned form = 0; form < 5; form++) {
            struct ir_block *ir = begin(&p);
            ir_ref v = get(ir, IR_I64, place[at]);
            if (form == 0)
                ir_emit(ir, IR_EXIT_REG, IR_TYPE_NONE, IR_HINT_CALL, v, 0, 0);
            else if (form < 4)
                ir_emit(ir, IR_STOP, IR_TYPE_NONE, (uint8_t)(form - 1), v, 0, 0);
            else
                ir_emit(ir, IR_RAISE, IR_TYPE_NONE, 0, 7, v, 0);
            ir->n_guest = 1;
            ir->bytes = 4;
            for (unsigned k = 0; k < 2; k++)
                p.b[k] = rig_compile(p.r[k], ir);
            run_each(&p, place[at]);
        }
    pair_fini(&p);
}

static void add(const char *family, const char *name, unsigned what, void (*check)(gconstpointer))
{
    g_autofree char *path = g_strdup_printf("/engine/t0/%s/%s", family, name);
    g_test_add_data_func(path, GUINT_TO_POINTER(what), check);
}

int main(int argc, char **argv)
{
    static const char *const conditions[IR_COND_COUNT] = {"eq",  "ne",  "ltu", "geu", "leu",
                                                          "gtu", "lts", "ges", "les", "gts"};
    g_test_init(&argc, &argv, NULL);
    target_init();
#define ARITH_BINARY(id, expression)                                                                         \
    add("binary", ir_op_info[IR_##id].text, IR_##id, check_binary);                                          \
    add("constant", ir_op_info[IR_##id].text, IR_##id, check_binary_constant);
#define ARITH_UNARY(id, expression) add("unary", ir_op_info[IR_##id].text, IR_##id, check_unary);
#include "engine/arith.def"
#undef ARITH_BINARY
#undef ARITH_UNARY
    for (unsigned i = 0; i < IR_COND_COUNT; i++) {
        add("condition", conditions[i], i, check_condition);
        add("condition-constant", conditions[i], i, check_condition_constant);
    }
    g_test_add_func("/engine/t0/select", check_select);
    g_test_add_func("/engine/t0/widths", check_widths);
    g_test_add_func("/engine/t0/fields", check_fields);
    g_test_add_func("/engine/t0/state", check_state);
    add("memory", "load", IR_LD, check_memory);
    add("memory", "store", IR_ST, check_memory);
    g_test_add_func("/engine/t0/ends", check_ends);
    return g_test_run();
}
