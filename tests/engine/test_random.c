/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Random blocks run by every engine: cell by cell as the IR says; with forwarding, sinking and fusion;
 * translated. All state must be equal. */
#include "rig.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

struct maker {
    struct ir_block *ir;
    GRand *rand;
    ir_ref value[400]; /* results so far */
    unsigned n;
    ir_ref base; /* of the latest address; 0: none */
    bool wrote;  /* this guest instruction must not fault any more */
};

static unsigned pick(struct maker *m, unsigned n)
{
    return (unsigned)g_rand_int_range(m->rand, 0, (gint32)n);
}

static bool chance(struct maker *m, unsigned percent)
{
    return pick(m, 100) < percent;
}

static uint64_t number(struct maker *m)
{
    uint64_t v = (uint64_t)g_rand_int(m->rand) << 32 | g_rand_int(m->rand);

    switch (pick(m, 4)) {
    case 0: return v & 7;
    case 1: return 0 - (v & 7);
    case 2: return (uint64_t)(int32_t)v;
    default: return v;
    }
}

static ir_ref keep(struct maker *m, ir_ref v)
{
    if (m->n < G_N_ELEMENTS(m->value)) {
        m->value[m->n++] = v;
    }
    return v;
}

static ir_ref emit(struct maker *m, enum ir_op op, enum ir_type type, uint8_t aux, uint32_t a, uint32_t b,
                   uint32_t c)
{
    ir_ref v = ir_emit(m->ir, op, type, aux, a, b, c);

    return ir_value_type(m->ir, v) == IR_TYPE_NONE ? v : keep(m, v);
}

static ir_ref getreg(struct maker *m, enum ir_type type)
{
    unsigned reg = type == IR_F64 ? RIG_F + pick(m, 2) : type == IR_I128 ? RIG_Q : pick(m, 16);

    if (type == IR_F32 || (type == IR_I32 && chance(m, 20))) {
        reg = RIG_H + pick(m, 2);
    }
    return emit(m, IR_GETREG, type, 0, reg, 0, 0);
}

/* Some value of the type: a constant, one of the latest, any, or a new one from a register. */
static ir_ref any(struct maker *m, enum ir_type type)
{
    unsigned start = m->n ? (chance(m, 60) ? m->n - 1 - pick(m, m->n < 4 ? m->n : 4) : pick(m, m->n)) : 0;

    if (type != IR_I128 && type != IR_FL && chance(m, 20)) {
        return ir_const(m->ir, type, number(m));
    }
    for (unsigned i = 0; i < m->n && chance(m, 90); i++) {
        ir_ref v = m->value[(start + m->n - i) % m->n];
        if (ir_value_type(m->ir, v) == type) {
            return v;
        }
    }
    switch (type) {
    case IR_I1: {
        ir_ref x = getreg(m, IR_I64);
        return emit(m, IR_SETCC, IR_I64, (uint8_t)pick(m, IR_COND_COUNT), x, getreg(m, IR_I64), 0);
    }
    case IR_FL: return emit(m, IR_FL_UNPACK, IR_TYPE_NONE, 0, getreg(m, IR_I64), 0, 0);
    default: return getreg(m, type);
    }
}

static enum ir_type any_int(struct maker *m)
{
    static const enum ir_type types[] = {IR_I8, IR_I16, IR_I32, IR_I32, IR_I64, IR_I64, IR_I64};

    return types[pick(m, G_N_ELEMENTS(types))];
}

/* --- One of each family --- */

static void make_arith(struct maker *m)
{
    enum ir_type type = any_int(m);
    enum ir_op op = (enum ir_op)(IR_ADD + pick(m, IR_CLMULH - IR_ADD + 1));
    bool carry = op == IR_ADC || op == IR_SBB, unary = ir_op_info[op].operand[1] == IR_OPERAND_NO;

    ir_ref a = any(m, type), b = unary ? 0 : any(m, type), c = carry ? any(m, IR_I1) : 0;
    ir_ref v = emit(m, op, type, 0, a, b, c);
    if (type == IR_I32 && chance(m, 50)) {
        emit(m, IR_SEXT, IR_I64, 0, v, 0, 0);
    }
}

static void make_logic1(struct maker *m)
{
    static const enum ir_op ops[] = {IR_AND, IR_OR, IR_XOR, IR_ANDN, IR_ORN, IR_XNOR, IR_NOT};
    enum ir_op op = ops[pick(m, G_N_ELEMENTS(ops))];
    ir_ref a = any(m, IR_I1);

    emit(m, op, IR_I1, 0, a, op == IR_NOT ? 0 : any(m, IR_I1), 0);
}

static void make_width(struct maker *m)
{
    static const enum ir_type order[] = {IR_I1, IR_I8, IR_I16, IR_I32, IR_I64};
    unsigned narrow = pick(m, 4), wide = narrow + 1 + pick(m, 4 - narrow);

    switch (pick(m, 6)) {
    case 0: emit(m, IR_ZEXT, order[wide], 0, any(m, order[narrow]), 0, 0); break;
    case 1: emit(m, IR_SEXT, order[wide], 0, any(m, order[narrow]), 0, 0); break;
    case 2: emit(m, IR_TRUNC, order[narrow], 0, any(m, order[wide]), 0, 0); break;
    case 3: emit(m, IR_BITCAST, IR_F64, 0, any(m, IR_I64), 0, 0); break;
    case 4: emit(m, IR_TRUNC, order[wide], 0, any(m, IR_I128), 0, 0); break;
    default: {
        ir_ref lo = any(m, IR_I64), pair = emit(m, IR_PAIR, IR_I128, 0, lo, any(m, IR_I64), 0);
        emit(m, chance(m, 50) ? IR_PAIRLO : IR_PAIRHI, IR_I64, 0, chance(m, 50) ? pair : any(m, IR_I128), 0,
             0);
        break;
    }
    }
}

static void make_field(struct maker *m)
{
    enum ir_type type = any_int(m);
    unsigned bits = ir_type_bits(type), lo = pick(m, bits), n = 1 + pick(m, bits - lo);
    ir_ref a = any(m, type);

    if (chance(m, 33)) {
        emit(m, IR_BFI, type, 0, a, any(m, type), lo | n << 8);
    } else {
        emit(m, chance(m, 50) ? IR_UBFX : IR_SBFX, type, 0, a, lo, n);
    }
}

static void make_condition(struct maker *m)
{
    enum ir_type type = any_int(m);
    ir_ref a = any(m, type),
           set = emit(m, IR_SETCC, type, (uint8_t)pick(m, IR_COND_COUNT), a, any(m, type), 0);

    switch (pick(m, 3)) {
    case 0:
        if (m->ir->n_exits < 20) {
            ir_emit(m->ir, IR_EXIT_IF, IR_TYPE_NONE, 0, chance(m, 80) ? set : any(m, IR_I1),
                    ir_exit_to(m->ir, 0x1004 + 4 * pick(m, 8000), IR_HINT_JUMP), 0);
        }
        break;
    case 1: {
        ir_ref x = any(m, type);
        emit(m, IR_SELECT, type, 0, set, x, any(m, type));
        break;
    }
    default: emit(m, IR_ZEXT, IR_I64, 0, set, 0, 0); break;
    }
}

static void make_flags(struct maker *m)
{
    enum ir_type type = any_int(m);
    enum ir_op op = (enum ir_op)(IR_FL_ADD + pick(m, IR_FL_ROR - IR_FL_ADD + 1));
    uint8_t kind_b = ir_op_info[op].operand[1], kind_c = ir_op_info[op].operand[2];
    ir_ref a = any(m, type);
    ir_ref b = kind_b == IR_OPERAND_T ? any(m, type) : kind_b == IR_OPERAND_I1 ? any(m, IR_I1) : 0;
    ir_ref c = kind_c == IR_OPERAND_FL ? any(m, IR_FL) : kind_c == IR_OPERAND_I1 ? any(m, IR_I1) : 0;
    ir_ref f = emit(m, op, type, 0, a, b, c);

    switch (pick(m, 3)) {
    case 0: emit(m, IR_FL_COND, IR_TYPE_NONE, (uint8_t)pick(m, 16), f, 0, 0); break;
    case 1: emit(m, IR_FL_BIT, IR_TYPE_NONE, IR_FLAG_O, f, 0, 0); break;
    default: emit(m, IR_FL_PACK, IR_TYPE_NONE, 0, f, 0, 0); break;
    }
}

static void make_fp(struct maker *m)
{
    enum ir_op op = (enum ir_op)(IR_FADD + pick(m, IR_FSGNJX - IR_FADD + 1));
    const struct ir_op_info *info = &ir_op_info[op];
    ir_ref x[3] = {0, 0, 0};

    for (unsigned i = 0; i < 3; i++) {
        x[i] = info->operand[i] == IR_OPERAND_T ? any(m, IR_F64) : 0;
    }
    emit(m, op, IR_F64, info->aux == IR_AUX_RM ? (uint8_t)pick(m, 5) : 0, x[0], x[1], x[2]);
    if (chance(m, 30)) {
        ir_ref narrow = emit(m, IR_FCVT, IR_F32, (uint8_t)pick(m, 5), any(m, IR_F64), 0, 0);
        emit(m, IR_FBOX, IR_I64, 0, narrow, 0, 0);
        emit(m, IR_FUNBOX, IR_F32, 0, any(m, IR_I64), 0, 0);
        emit(m, IR_F2I, IR_I32, (uint8_t)(pick(m, 5) | (chance(m, 50) ? IR_CVT_UNSIGNED : 0)), any(m, IR_F32),
             0, 0);
    }
}

/* Mostly inside the rig's memory: its first page, past the last page sometimes. */
static ir_ref address(struct maker *m, unsigned log2)
{
    ir_ref low =
        emit(m, IR_AND, IR_I64, 0, any(m, IR_I64), ir_const(m->ir, IR_I64, chance(m, 90) ? 0xff8 : 0xfff), 0);
    ir_ref base =
        emit(m, IR_OR, IR_I64, 0, low, ir_const(m->ir, IR_I64, chance(m, 95) ? RIG_RAM : 0x30000), 0);

    (void)log2;
    if (m->base && chance(m, 60)) { /* a neighbour, which translators may reach by the same look-up */
        base = m->base;
        if (chance(m, 50))
            return emit(m, IR_ADD, IR_I64, 0, base,
                        ir_const(m->ir, IR_I64, (uint64_t)((int64_t)pick(m, 96) - 48)), 0);
    }
    m->base = base;
    return emit(m, IR_ADD, IR_I64, 0, base, ir_const(m->ir, IR_I64, 8 * pick(m, 64)), 0);
}

static void make_memory(struct maker *m)
{
    enum ir_type type = chance(m, 10) ? IR_I128 : any_int(m);
    unsigned bytes = ir_type_bits(type) / 8,
             log2 = type == IR_I128 ? 4 : pick(m, (unsigned)__builtin_ctz(bytes) + 1);
    uint32_t mem = IR_MEM_SIZE(log2) | IR_MEM_MMU(pick(m, 3)) | (chance(m, 20) ? IR_MEM_BIG : 0) |
                   (chance(m, 10) ? IR_MEM_ACQUIRE | IR_MEM_RELEASE : 0) |
                   (chance(m, 10) ? IR_MEM_ALIGNED : 0);
    uint32_t load = mem | (chance(m, 50) ? IR_MEM_SIGNED : 0);
    ir_ref at = address(m, log2);

    if (m->wrote) {
        return;
    }
    switch (type == IR_I128 ? pick(m, 2) : pick(m, 6)) {
    case 0: emit(m, IR_LD, type, 0, at, 0, load); break;
    case 1: emit(m, IR_ST, type, 0, at, any(m, type), mem); break;
    case 2: emit(m, IR_RMW, type, (uint8_t)pick(m, IR_RMW_COUNT), at, any(m, type), load); break;
    case 3: {
        ir_ref expected = any(m, type);
        emit(m, IR_ARG, IR_TYPE_NONE, 0, any(m, type), 0, 0);
        emit(m, IR_CMPXCHG, type, 0, at, expected, load);
        break;
    }
    case 4: emit(m, IR_LL, type, 0, at, 0, load); break;
    default: emit(m, IR_SC, type, 0, at, any(m, type), mem); break;
    }
}

static void make_call(struct maker *m)
{
    ir_ref a = any(m, IR_I64), b = any(m, IR_I64);

    switch (pick(m, m->wrote ? 3 : 5)) {
    case 0: {
        ir_ref c = any(m, IR_I32), d = any(m, IR_I8);
        emit(m, IR_ARG, IR_TYPE_NONE, 0, c, 0, 0);
        emit(m, IR_ARG, IR_TYPE_NONE, 0, d, 0, 0);
        emit(m, IR_CALL, chance(m, 50) ? IR_I64 : IR_I16, 4, 0, a, b);
        break;
    }
    case 1: emit(m, IR_CALL, chance(m, 50) ? IR_I64 : IR_TYPE_NONE, 1, 1, a, 0); break;
    case 2: emit(m, IR_CALL, IR_I64, 0, 3, 0, 0); break;
    case 3:
        b = emit(m, IR_AND, IR_I64, 0, a, ir_const(m->ir, IR_I64, 0xff), 0);
        a = emit(m, IR_SHR, IR_I64, 0, b, ir_const(m->ir, IR_I64, 5), 0);
        emit(m, IR_CALL, IR_I64, 1, 2, a, 0);
        break;
    default:
        if (chance(m, 10)) {
            emit(m, IR_CALL, IR_I64, 0, 4, 0, 0);
        }
        break;
    }
}

static void make_putreg(struct maker *m)
{
    static const enum ir_type types[] = {IR_I64, IR_I64, IR_I64, IR_I64, IR_I32, IR_I8, IR_F64, IR_I128};
    enum ir_type type = types[pick(m, G_N_ELEMENTS(types))];
    /* Often one of the values made last, so that it sinks past the others. */
    ir_ref last = m->n > 3 ? m->value[m->n - 1 - pick(m, 3)] : 0;
    ir_ref v = last && ir_value_type(m->ir, last) == type && chance(m, 80) ? last : any(m, type);
    unsigned reg = type == IR_F64    ? RIG_F + pick(m, 2)
                   : type == IR_I128 ? RIG_Q
                   : chance(m, 50)   ? pick(m, 3)
                                     : pick(m, 16);

    if (type == IR_I32 && chance(m, 50)) {
        reg = RIG_H + pick(m, 2);
    }
    emit(m, IR_PUTREG, type, 0, reg, v, 0);
    m->wrote = true;
}

static void make_env(struct maker *m)
{
    enum ir_type type = any_int(m);
    unsigned bytes = ir_type_bits(type) / 8;
    uint32_t at = (uint32_t)(offsetof(struct env, reg) + 8 * (24 + pick(m, 4)) + bytes * pick(m, 8 / bytes));

    if (chance(m, 50)) {
        emit(m, IR_GETENV, type, 0, at, 0, 0);
    } else {
        emit(m, IR_PUTENV, type, 0, at, any(m, type), 0);
        m->wrote = true;
    }
}

static void make_insn(struct maker *m)
{
    static void (*const makers[])(struct maker *) = {
        make_arith,  make_arith, make_arith,     make_arith,  make_logic1, make_width,
        make_width,  make_field, make_condition, make_flags,  make_fp,     make_memory,
        make_memory, make_call,  make_env,       make_putreg, make_putreg, make_putreg,
    };

    makers[pick(m, G_N_ELEMENTS(makers))](m);
}

static void make_end(struct maker *m)
{
    switch (pick(m, 5)) {
    case 0: ir_emit(m->ir, IR_EXIT_REG, IR_TYPE_NONE, IR_HINT_CALL, any(m, IR_I64), 0, 0); break;
    case 1: ir_emit(m->ir, IR_STOP, IR_TYPE_NONE, (uint8_t)pick(m, 3), any(m, IR_I64), 0, 0); break;
    case 2:
        if (!m->wrote) {
            ir_emit(m->ir, IR_RAISE, IR_TYPE_NONE, 0, pick(m, 16), any(m, IR_I64), 0);
            break;
        }
        __attribute__((fallthrough));
    default: ir_emit(m->ir, IR_EXIT, IR_TYPE_NONE, 0, ir_exit_to(m->ir, 0x1100, IR_HINT_JUMP), 0, 0); break;
    }
}

static void make_block(struct maker *m)
{
    unsigned guest = 1 + pick(m, 12);

    m->n = 0;
    m->base = 0;
    ir_begin(m->ir, &rig_target, 0x1000, 0);
    for (unsigned g = 0; g < guest; g++) {
        ir_emit(m->ir, IR_INSN, IR_TYPE_NONE, 0, 4 * g, 4, 0);
        m->wrote = false;
        for (unsigned i = pick(m, 6); i > 0; i--) {
            make_insn(m);
        }
    }
    m->ir->n_guest = guest;
    m->ir->bytes = 4 * guest;
    make_end(m);
}

/* --- Running and comparing: cell by cell, then with forwarding, then by the host's best backend --- */

enum { RIGS = 3 };

static void seed_state(struct rig *r, guint32 seed, bool fill)
{
    GRand *rand = g_rand_new_with_seed(seed);

    rig_reset(r);
    r->fill = fill;
    for (unsigned i = 0; i < 32; i++) {
        uint64_t v = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
        r->env.reg[i] = i & 1 ? v : v >> (g_rand_int(rand) & 63);
    }
    for (unsigned i = 0; i < 0x2000; i += 4) {
        guint32 v = g_rand_int(rand);
        memcpy(r->ram + i, &v, 4);
    }
    r->env.icount = 1000;
    g_rand_free(rand);
}

static void compare(struct rig *const r[2], struct block *const b[2], const enum engine_stop stop[2],
                    const struct ir_block *ir, unsigned number)
{
    const struct env *x = &r[0]->env, *y = &r[1]->env;
    long e0 = x->last_exit ? x->last_exit - b[0]->exits : -1,
         e1 = y->last_exit ? y->last_exit - b[1]->exits : -1;
    bool same = stop[0] == stop[1] && memcmp(x->reg, y->reg, sizeof x->reg) == 0 && x->pc == y->pc &&
                x->icount == y->icount && x->fp_flags == y->fp_flags && x->excl_addr == y->excl_addr &&
                x->exc.pending == y->exc.pending && x->exc.cause == y->exc.cause &&
                x->exc.value == y->exc.value && e0 == e1 && memcmp(r[0]->ram, r[1]->ram, RIG_RAM_SIZE) == 0;

    if (same) {
        return;
    }
    g_autofree char *text = ir_print(ir);
    GString *what = g_string_new(NULL);
    for (unsigned i = 0; i < ENV_REGS; i++) {
        if (x->reg[i] != y->reg[i]) {
            g_string_append_printf(what, " cell %u: %" G_GINT64_MODIFIER "x, %" G_GINT64_MODIFIER "x;", i,
                                   x->reg[i], y->reg[i]);
        }
    }
    g_error("block %u: stops %d, %d; pc %" G_GINT64_MODIFIER "x, %" G_GINT64_MODIFIER
            "x; icount %" G_GINT64_MODIFIER "u, %" G_GINT64_MODIFIER "u; exits %ld, %ld;%s in\n%s",
            number, (int)stop[0], (int)stop[1], x->pc, y->pc, x->icount, y->icount, e0, e1, what->str, text);
}

static void check_random(gconstpointer data)
{
    guint32 seed = GPOINTER_TO_UINT(data);
    const char *more = g_getenv("HOSTEL_TEST_ROUNDS");
    unsigned rounds = more ? (unsigned)atoi(more) : 1500;
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    struct maker m = {.ir = ir, .rand = g_rand_new_with_seed(seed)};

    for (unsigned i = 0; i < rounds; i++) {
        struct rig *r[RIGS] = {rig_new(true), rig_new(false), rig_new_with(backends[0])};
        enum engine_stop stop[RIGS];
        struct block *b[RIGS];

        make_block(&m);
        for (unsigned k = 0; k < RIGS; k++) {
            b[k] = rig_compile(r[k], ir);
        }
        for (unsigned state = 0; state < 3; state++) {
            for (unsigned k = 0; k < RIGS; k++) {
                seed_state(r[k], seed + 3 * i + state, state == 0);
                stop[k] = rig_run(r[k], b[k]);
            }
            for (unsigned k = 1; k < RIGS; k++) {
                compare((struct rig *[]){r[0], r[k]}, (struct block *[]){b[0], b[k]},
                        (enum engine_stop[]){stop[0], stop[k]}, ir, i);
            }
        }
        for (unsigned k = 0; k < RIGS; k++) {
            rig_free(r[k]);
        }
    }
    g_rand_free(m.rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned seed = 1; seed <= 4; seed++) {
        g_autofree char *path = g_strdup_printf("/engine/random/%u", seed);
        g_test_add_data_func(path, GUINT_TO_POINTER(seed), check_random);
    }
    return g_test_run();
}
