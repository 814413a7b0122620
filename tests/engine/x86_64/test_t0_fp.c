/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Floating point as the quick translator does it, on the host's own instructions, against the interpreter,
 * which computes with softfloat: results, flags, and flags seen from within the block. */
#include "rig.h"
#include "vectors.h"

#include <string.h>

#include "base/bits.h"
#include "engine/fp_ops.h"
#include "engine/softfloat.h"

/*
 * Where a block finds its operands and leaves its results. The two forms differ in what the translator can
 * keep where: registers of both kinds, with the result over the first operand, or memory.
 */
enum form { FORM_REGISTERS, FORM_MEMORY, FORMS };

enum {
    REG_BASE = 1, /* points to the operands in memory; pinned */
    REG_A = 2,    /* integers and boxed singles: one in a host register, the others not */
    REG_B = 10,
    REG_C = 11,
    REG_FLAGS = 12, /* the flags behind the first operation */
    REG_AGAIN = 13, /* the operation on its own result */
    REG_INT = 3,    /* an integer result; pinned */
    OFFSET_RESULT = 64,
};

struct question_of {
    const struct fp_op *op;
    uint8_t aux;
    enum form form;
};

/* --- Blocks --- */

static ir_ref address(struct ir_block *ir, unsigned offset)
{
    ir_ref base = ir_emit(ir, IR_GETREG, IR_I64, 0, REG_BASE, 0, 0);

    return ir_emit(ir, IR_ADD, IR_I64, 0, base, ir_const(ir, IR_I64, offset), 0);
}

static ir_ref operand(struct ir_block *ir, enum form form, enum ir_type type, unsigned k)
{
    static const unsigned reg[] = {REG_A, REG_B, REG_C};

    if (form == FORM_MEMORY) {
        uint32_t mem = IR_MEM_SIZE(ir_type_bits(type) == 64 ? 3 : 2);
        return ir_emit(ir, IR_LD, type, 0, address(ir, 8 * k), 0, mem);
    }
    if (type == IR_F64 && k < 2) {
        return ir_emit(ir, IR_GETREG, IR_F64, 0, RIG_F + k, 0, 0);
    }
    ir_ref v = ir_emit(ir, IR_GETREG, IR_I64, 0, reg[k], 0, 0);
    switch (type) {
    case IR_F64: return ir_emit(ir, IR_BITCAST, IR_F64, 0, v, 0, 0);
    case IR_F32: return ir_emit(ir, IR_FUNBOX, IR_F32, 0, v, 0, 0);
    case IR_I32: return ir_emit(ir, IR_TRUNC, IR_I32, 0, v, 0, 0);
    default: return v;
    }
}

static void keep(struct ir_block *ir, ir_ref v, unsigned f, unsigned r)
{
    switch (ir_value_type(ir, v)) {
    case IR_F64: ir_emit(ir, IR_PUTREG, IR_F64, 0, f, v, 0); return;
    case IR_F32:
        /* Boxed, the upper half of its storage does not show. */
        ir_emit(ir, IR_PUTREG, IR_I64, 0, r + 1,
                ir_emit(ir, IR_ZEXT, IR_I64, 0, ir_emit(ir, IR_BITCAST, IR_I32, 0, v, 0, 0), 0, 0), 0);
        v = ir_emit(ir, IR_FBOX, IR_I64, 0, v, 0, 0);
        break;
    case IR_I1: v = ir_emit(ir, IR_ZEXT, IR_I64, 0, v, 0, 0); break;
    case IR_I32: v = ir_emit(ir, IR_SEXT, IR_I64, 0, v, 0, 0); break;
    default: break;
    }
    ir_emit(ir, IR_PUTREG, IR_I64, 0, r, v, 0);
}

/* Two guest instructions: the operation; and the same with its result for the first operand, if it is one, or
 * once more. */
static void make_block(struct ir_block *ir, const struct question_of *q)
{
    const struct ir_op_info *info = &ir_op_info[q->op->op];
    enum ir_type from = q->op->from == IR_TYPE_NONE ? q->op->type : q->op->from;
    ir_ref x[3] = {0};

    ir_begin(ir, &rig_target, 0x1000, 0);
    ir_emit(ir, IR_INSN, IR_TYPE_NONE, 0, 0, 4, 0);
    for (unsigned k = 0; k < 3; k++) {
        bool has = info->operand[k] != IR_OPERAND_NO;
        x[k] = has ? operand(ir, q->form, from, k) : 0;
    }
    ir_ref v = ir_emit(ir, q->op->op, q->op->type, q->aux, x[0], x[1], x[2]);
    if (q->form == FORM_MEMORY && (ir_value_type(ir, v) == IR_F64 || ir_value_type(ir, v) == IR_F32)) {
        uint32_t mem = IR_MEM_SIZE(ir_value_type(ir, v) == IR_F64 ? 3 : 2);
        ir_emit(ir, IR_ST, ir_value_type(ir, v), 0, address(ir, OFFSET_RESULT), v, mem);
    }
    keep(ir, v, RIG_F, REG_INT);
    ir_emit(ir, IR_INSN, IR_TYPE_NONE, 0, 4, 4, 0);
    ir_ref flags = ir_emit(ir, IR_GETENV, IR_I8, 0, offsetof(struct env, fp_flags), 0, 0);
    keep(ir, ir_emit(ir, IR_ZEXT, IR_I64, 0, flags, 0, 0), 0, REG_FLAGS);
    if (ir_value_type(ir, v) == from) {
        x[0] = v;
    }
    v = ir_emit(ir, q->op->op, q->op->type, q->aux, x[0], x[1], x[2]);
    keep(ir, v, RIG_F + 1, REG_AGAIN);
    ir->n_guest = 2;
    ir->bytes = 8;
    ir_emit(ir, IR_EXIT, IR_TYPE_NONE, 0, ir_exit_to(ir, 0x2000, IR_HINT_JUMP), 0, 0);
}

/* --- Operands --- */

static unsigned width_of(const struct fp_op *op)
{
    return ir_type_bits((enum ir_type)(op->from == IR_TYPE_NONE ? op->type : op->from));
}

static bool from_integer(const struct fp_op *op)
{
    return op->op == IR_I2F;
}

static unsigned operands_of(const struct fp_op *op)
{
    unsigned n = 0;

    while (n < 3 && ir_op_info[op->op].operand[n] != IR_OPERAND_NO) {
        n++;
    }
    return n;
}

static enum operands shape_of(const struct fp_op *op)
{
    if (from_integer(op)) {
        return width_of(op) == 32 ? OPERANDS_I : OPERANDS_L;
    }
    return (enum operands[]){OPERANDS_F, OPERANDS_FF, OPERANDS_FFF}[operands_of(op) - 1];
}

/* The number-th question: the edge values in all pairs first, then random. */
static void ask(struct vectors *v, const struct fp_op *op, unsigned number, struct question *q)
{
    const uint64_t *edge;
    unsigned width = width_of(op);
    unsigned n = from_integer(op) ? vectors_integer_edges(&edge) : vectors_edges(width, &edge);
    unsigned pairs = operands_of(op) == 1 ? n : n * n;

    memset(q, 0, sizeof *q);
    vectors_fill(v, width, shape_of(op), q);
    if (number < pairs) {
        q->a = edge[number % n];
        q->b = edge[number / n % n];
        q->c = edge[vectors_bits(v) % n];
    }
}

static void set_state(struct rig *r, const struct fp_op *op, const struct question *q, uint64_t more)
{
    uint64_t x[3] = {q->a, q->b, q->c};
    static const unsigned reg[] = {REG_A, REG_B, REG_C};

    /* One single in 16 comes in no box. */
    uint64_t upper =
        width_of(op) == 32 && !from_integer(op) && more >> 8 & 15 ? ~UINT64_C(0) << 32 : more << 32;
    r->env.fp_flags = more & 0x40 ? (uint8_t)(more & 0x1f) : 0;
    r->env.reg[REG_BASE] = RIG_RAM;
    r->env.exc.pending = false;
    memcpy(r->ram, x, sizeof x);
    for (unsigned k = 0; k < 3; k++) {
        r->env.reg[reg[k]] = width_of(op) == 32 ? (uint32_t)x[k] | upper : x[k];
        if (k < 2) {
            r->env.reg[RIG_F + k] = x[k];
        }
    }
}

/* --- Cases --- */

struct pair {
    struct rig *rig[2]; /* interpreted, translated */
    struct ir_block *ir;
    struct vectors vectors;
    unsigned vectors_per_block;
};

static void check_vector(struct pair *p, struct block *const block[2], const struct question_of *what,
                         const struct question *q, uint64_t more)
{
    for (unsigned k = 0; k < 2; k++) {
        set_state(p->rig[k], what->op, q, more);
        g_assert_cmpint(rig_run(p->rig[k], block[k]), ==, ENGINE_NEXT);
    }
    const struct env *x = &p->rig[0]->env, *y = &p->rig[1]->env;
    if (x->fp_flags == y->fp_flags && memcmp(x->reg, y->reg, sizeof x->reg) == 0 &&
        memcmp(p->rig[0]->ram, p->rig[1]->ram, 2 * OFFSET_RESULT) == 0) {
        return;
    }
    GString *s = g_string_new(NULL);
    for (unsigned i = 0; i < ENV_REGS; i++) {
        if (x->reg[i] != y->reg[i]) {
            g_string_append_printf(s, " cell %u: %#" G_GINT64_MODIFIER "x, %#" G_GINT64_MODIFIER "x;", i,
                                   x->reg[i], y->reg[i]);
        }
    }
    g_autofree char *text = ir_print(p->ir);
    g_error("%#" G_GINT64_MODIFIER "x %#" G_GINT64_MODIFIER "x %#" G_GINT64_MODIFIER "x (%#" G_GINT64_MODIFIER
            "x): flags %#x, %#x;%s in\n%s",
            q->a, q->b, q->c, more, x->fp_flags, y->fp_flags, s->str, text);
}

static void check_block(struct pair *p, const struct question_of *what)
{
    struct block *block[2];

    make_block(p->ir, what);
    for (unsigned k = 0; k < 2; k++) {
        rig_reset(p->rig[k]);
        block[k] = rig_compile(p->rig[k], p->ir);
    }
    for (unsigned i = 0; i < p->vectors_per_block; i++) {
        struct question q;
        ask(&p->vectors, what->op, i, &q);
        check_vector(p, block, what, &q, vectors_bits(&p->vectors));
    }
}

/* Everything that aux may say of the operation: roundings, then modifiers. */
static unsigned modifiers_of(enum ir_op op)
{
    return op == IR_FMA ? 4 : op == IR_F2I || op == IR_I2F || op == IR_FRINT ? 2 : 1;
}

static void check_op(gconstpointer data)
{
    const struct fp_op *op = data;
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    struct pair p = {.rig = {rig_new_with(&backend_interp), rig_new_with(backends[0])},
                     .ir = ir,
                     .vectors = {op->op + 1u}};
    unsigned rounds = ir_op_info[op->op].aux == IR_AUX_RM ? SF_RMM + 1 : 1;

    for (enum form form = 0; form < FORMS; form++) {
        for (unsigned m = 0; m < modifiers_of((enum ir_op)op->op); m++) {
            for (unsigned round = 0; round < rounds; round++) {
                struct question_of what = {op, (uint8_t)(round | m << 3), form};
                /* Other roundings are the interpreter's anyway, but for conversions. */
                p.vectors_per_block = round == SF_RNE ? 12000 : 2000;
                check_block(&p, &what);
            }
        }
    }
    rig_free(p.rig[0]);
    rig_free(p.rig[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpstr(backends[0]->name, ==, "translation");
    static const enum ir_type types[] = {IR_F32, IR_F64, IR_I32, IR_I64};
    for (unsigned op = 0; op < IR_OP_COUNT; op++) {
        for (unsigned t = 0; t < G_N_ELEMENTS(types); t++) {
            for (unsigned f = 0; f < G_N_ELEMENTS(types); f++) {
                int row = fp_op_find((enum ir_op)op, types[t], types[f]);
                if (row < 0 || (fp_ops[row].from == IR_TYPE_NONE && f != t)) {
                    continue;
                }
                g_autofree char *path = g_strdup_printf("/engine/t0/fp/%s/%s/%s", ir_op_info[op].text,
                                                        ir_type_name(types[t]), ir_type_name(types[f]));
                g_test_add_data_func(path, &fp_ops[row], check_op);
            }
        }
    }
    return g_test_run();
}
