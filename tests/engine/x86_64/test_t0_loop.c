/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Loops of one block, whose floating-point values the quick translator keeps in registers: random bodies,
 * linked to themselves, against the interpreter. */
#include "rig.h"

#include <string.h>

#include "base/bits.h"

enum {
    F_REGS = 14, /* more than stay in registers */
    F_CELL = 40,
    COUNTER = 0,
    BASE = 1,
    R_REGS = 4,
    TURNS = 5,
    BODIES = 3000,
};

#define R(n)                                                                                                 \
    {                                                                                                        \
        "r" #n, IR_I64, (n) + 1, -1, offsetof(struct env, reg) + 8 * (n)                                     \
    }
#define F(n)                                                                                                 \
    {                                                                                                        \
        "f" #n, IR_F64, 0, -1, offsetof(struct env, reg) + 8 * (F_CELL + (n))                                \
    }
static const struct ir_reg regs[] = {R(0), R(1), R(2), R(3), F(0), F(1),  F(2),  F(3),  F(4),
                                     F(5), F(6), F(7), F(8), F(9), F(10), F(11), F(12), F(13)};
static const struct ir_target target = {regs, NULL, G_N_ELEMENTS(regs), 0};

struct maker {
    struct ir_block *ir;
    GRand *rand;
    unsigned f_regs; /* that the body uses: few give dense chains, many evict */
};

static unsigned pick(struct maker *m, unsigned n)
{
    return (unsigned)g_rand_int_range(m->rand, 0, (gint32)n);
}

static ir_ref emit(struct maker *m, enum ir_op op, enum ir_type type, uint8_t aux, uint32_t a, uint32_t b,
                   uint32_t c)
{
    return ir_emit(m->ir, op, type, aux, a, b, c);
}

static uint32_t any_f(struct maker *m)
{
    return R_REGS + pick(m, m->f_regs);
}

static ir_ref get(struct maker *m, enum ir_type type)
{
    if (type == IR_F32) {
        return emit(m, IR_FUNBOX, IR_F32, 0, get(m, IR_I64), 0, 0);
    }
    return emit(m, IR_GETREG, type, 0, any_f(m), 0, 0);
}

static void put(struct maker *m, ir_ref v)
{
    if (ir_value_type(m->ir, v) == IR_F32) {
        v = emit(m, IR_FBOX, IR_I64, 0, v, 0, 0);
    }
    emit(m, IR_PUTREG, ir_value_type(m->ir, v), 0, any_f(m), v, 0);
}

static ir_ref slot(struct maker *m)
{
    ir_ref base = emit(m, IR_GETREG, IR_I64, 0, BASE, 0, 0);

    return emit(m, IR_ADD, IR_I64, 0, base, ir_const(m->ir, IR_I64, 8 * pick(m, 8)), 0);
}

static void arithmetic(struct maker *m, enum ir_type type)
{
    static const enum ir_op ops[] = {IR_FADD, IR_FSUB, IR_FMUL, IR_FMAX, IR_FMA, IR_FSQRT, IR_FSGNJN};
    enum ir_op op = ops[pick(m, G_N_ELEMENTS(ops))];
    ir_ref a = get(m, type), b = op == IR_FSQRT ? 0 : get(m, type), c = op == IR_FMA ? get(m, type) : 0;
    /* Sometimes towards zero, which is stepped. */
    uint8_t round = ir_op_info[op].aux == IR_AUX_RM && pick(m, 8) == 0;

    put(m, emit(m, op, type, round, a, b, c));
}

static void exchange(struct maker *m)
{
    uint32_t x = any_f(m), y = any_f(m);
    ir_ref a = emit(m, IR_GETREG, IR_I64, 0, x, 0, 0), b = emit(m, IR_GETREG, IR_I64, 0, y, 0, 0);

    emit(m, IR_PUTREG, IR_I64, 0, x, b, 0);
    emit(m, IR_PUTREG, IR_I64, 0, y, a, 0);
}

static void make_statement(struct maker *m)
{
    switch (pick(m, 9)) {
    case 0:
    case 1:
    case 2: arithmetic(m, IR_F64); break;
    case 3:
    case 4: arithmetic(m, IR_F32); break;
    case 5: exchange(m); break;
    case 6: put(m, get(m, IR_I64)); break;
    case 7: {
        ir_ref at = slot(m);
        put(m, emit(m, IR_LD, IR_F64, 0, at, 0, IR_MEM_SIZE(3)));
        break;
    }
    default: {
        ir_ref at = slot(m);
        emit(m, IR_ST, IR_F64, 0, at, get(m, IR_F64), IR_MEM_SIZE(3));
        break;
    }
    }
}

/* The body, then r0 -= 1 and back while it is not zero: by a branch, or by the jump at the end behind a
 * branch out. */
static void make_loop(struct maker *m)
{
    bool branch_back = pick(m, 2);
    unsigned n = 1 + pick(m, 8);

    m->f_regs = 1 + pick(m, F_REGS);
    ir_begin(m->ir, &target, 0x1000, 0);
    for (unsigned i = 0; i < n; i++) {
        emit(m, IR_INSN, IR_TYPE_NONE, 0, 4 * i, 4, 0);
        make_statement(m);
    }
    emit(m, IR_INSN, IR_TYPE_NONE, 0, 4 * n, 4, 0);
    ir_ref left = emit(m, IR_SUB, IR_I64, 0, emit(m, IR_GETREG, IR_I64, 0, COUNTER, 0, 0),
                       ir_const(m->ir, IR_I64, 1), 0);
    emit(m, IR_PUTREG, IR_I64, 0, COUNTER, left, 0);
    ir_ref go = emit(m, IR_SETCC, IR_I64, branch_back ? IR_NE : IR_EQ, left, ir_const(m->ir, IR_I64, 0), 0);
    uint32_t taken = ir_exit_to(m->ir, branch_back ? 0x1000 : 0x1800, IR_HINT_JUMP);
    emit(m, IR_EXIT_IF, IR_TYPE_NONE, 0, go, taken, 0);
    emit(m, IR_EXIT, IR_TYPE_NONE, 0, ir_exit_to(m->ir, branch_back ? 0x1800 : 0x1000, IR_HINT_JUMP), 0, 0);
    m->ir->n_guest = n + 1;
    m->ir->bytes = 4 * (n + 1);
}

/* --- Running --- */

static struct block *link_to_itself(struct rig *r, const struct ir_block *ir)
{
    struct block *b = rig_compile(r, ir);

    for (uint32_t i = 0; i < b->n_exits; i++) {
        if (b->exits[i].target == b->pc) {
            atomic_store(&b->exits[i].to, b);
            if (r->ops->link) {
                r->ops->link(r->backend, &b->exits[i]);
            }
        }
    }
    return b;
}

static void set_state(struct rig *r, guint32 seed, bool kicked)
{
    static const double values[] = {1, 0.1, -3.5, 1e300, 0, -0.0};
    static const float singles[] = {1, 0.1f, -3.5f, 1e38f, 0, -1e-40f};
    GRand *rand = g_rand_new_with_seed(seed);

    rig_reset(r);
    r->env.target = &target;
    r->env.reg[COUNTER] = TURNS;
    r->env.reg[BASE] = RIG_RAM;
    for (unsigned i = 0; i < F_REGS; i++) {
        unsigned k = g_rand_int(rand) % 6;
        uint32_t low;
        memcpy(&low, &singles[k], 4);
        memcpy(&r->env.reg[F_CELL + i], &values[k], 8);
        if (g_rand_int(rand) & 1) {
            r->env.reg[F_CELL + i] = ~UINT64_C(0) << 32 | low;
        }
        memcpy(r->ram + 8 * i, &r->env.reg[F_CELL + i], 8);
    }
    if (kicked) {
        env_kick(&r->env, ENV_EXIT_IRQ);
    }
    g_rand_free(rand);
}

/* With a request pending each run makes one turn at most; without, one run makes all. */
static unsigned run_all(struct rig *r, struct block *b, bool kicked)
{
    unsigned runs = 0;

    do {
        enum engine_stop stop = rig_run(r, b);
        runs++;
        g_assert_cmpint(stop, ==, r->env.pc == 0x1000 ? ENGINE_POLL : ENGINE_NEXT);
        if (kicked) {
            /* The next run gets one turn further. */
            atomic_store(&r->env.exit_request, 0);
        }
    } while (r->env.pc == 0x1000 && runs < 2 * TURNS);
    return runs;
}

static void check_loops(void)
{
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    struct maker m = {.ir = ir, .rand = g_rand_new_with_seed(1)};

    for (unsigned i = 0; i < BODIES; i++) {
        struct rig *r[2] = {rig_new(true), rig_new_with(backends[0])};
        struct block *b[2];
        make_loop(&m);
        for (unsigned k = 0; k < 2; k++) {
            b[k] = link_to_itself(r[k], ir);
        }
        for (unsigned state = 0; state < 4; state++) {
            for (unsigned k = 0; k < 2; k++) {
                set_state(r[k], 4 * i + state, state & 1);
                g_assert_cmpuint(run_all(r[k], b[k], state & 1), ==, 1 + (state & 1));
            }
            const struct env *x = &r[0]->env, *y = &r[1]->env;
            if (memcmp(x->reg, y->reg, sizeof x->reg) || x->fp_flags != y->fp_flags ||
                x->icount != y->icount || memcmp(r[0]->ram, r[1]->ram, 256)) {
                g_autofree char *text = ir_print(ir);
                g_error("loop %u, state %u: flags %#x, %#x in\n%s", i, state, x->fp_flags, y->fp_flags, text);
            }
        }
        rig_free(r[0]);
        rig_free(r[1]);
    }
    g_rand_free(m.rand);
}

/* A loop that nothing else ends is left when somebody asks. */
static gpointer kick_later(gpointer env)
{
    g_usleep(2000);
    env_kick(env, ENV_EXIT_STOP);
    return NULL;
}

static void check_kick(void)
{
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    struct maker m = {.ir = ir, .rand = g_rand_new_with_seed(2), .f_regs = 2};
    struct rig *r = rig_new_with(backends[0]);

    ir_begin(ir, &target, 0x1000, 0);
    emit(&m, IR_INSN, IR_TYPE_NONE, 0, 0, 4, 0);
    put(&m, emit(&m, IR_FADD, IR_F64, 0, get(&m, IR_F64), get(&m, IR_F64), 0));
    emit(&m, IR_EXIT, IR_TYPE_NONE, 0, ir_exit_to(ir, 0x1000, IR_HINT_JUMP), 0, 0);
    ir->n_guest = 1;
    ir->bytes = 4;
    struct block *b = link_to_itself(r, ir);
    set_state(r, 1, false);
    GThread *thread = g_thread_new("kick", kick_later, &r->env);
    g_assert_cmpint(rig_run(r, b), ==, ENGINE_POLL);
    g_assert_cmphex(r->env.pc, ==, 0x1000);
    g_assert_cmpuint(r->env.icount, >, 0);
    g_thread_join(thread);
    g_rand_free(m.rand);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/engine/t0/loop/random", check_loops);
    g_test_add_func("/engine/t0/loop/kick", check_kick);
    return g_test_run();
}
