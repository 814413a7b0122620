/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The IR's facts (types, operations) and its builder, which folds constants while it appends. */
#include "engine/ir.h"

#include "base/bits.h"
#include "engine/arith.h"
#include "engine/env.h"
#include "engine/ir_fold.h"

/* The words of ir_ops.def's effects column. */
enum { R = IR_EFFECT_R, W = IR_EFFECT_W, M = IR_EFFECT_M, E = IR_EFFECT_E, X = IR_EFFECT_X };

#define IS_VALUE(what)                                                                                       \
    ((what) == IR_OPERAND_T || (what) == IR_OPERAND_V || (what) == IR_OPERAND_I1 ||                          \
     (what) == IR_OPERAND_I64 || (what) == IR_OPERAND_FL)
#define VALUES(what, n) (IS_VALUE(what) << (n) | ((what) == IR_OPERAND_OPT) << (4 + (n)))

const struct ir_op_info ir_op_info[IR_OP_COUNT] = {
#define IR_OP(id, name, res, a, b, c, ax, eff)                                                               \
    [IR_##id] = {                                                                                            \
        .text = name,                                                                                        \
        .result = IR_OPERAND_##res,                                                                          \
        .operand = {IR_OPERAND_##a, IR_OPERAND_##b, IR_OPERAND_##c},                                         \
        .aux = IR_AUX_##ax,                                                                                  \
        .effects = (eff),                                                                                    \
        .values = VALUES(IR_OPERAND_##a, 0) | VALUES(IR_OPERAND_##b, 1) | VALUES(IR_OPERAND_##c, 2),         \
    },
#include "engine/ir_ops.def"
#undef IR_OP
};

const uint16_t ir_type_width[IR_TYPE_COUNT] = {
    [IR_TYPE_NONE] = 0, [IR_I1] = 1,     [IR_I8] = 8,     [IR_I16] = 16, [IR_I32] = 32,
    [IR_I64] = 64,      [IR_I128] = 128, [IR_F32] = 32,   [IR_F64] = 64, [IR_FL] = 64,
    [IR_V128] = 128,    [IR_V256] = 256, [IR_V512] = 512,
};

static const char *const type_names[] = {
    [IR_TYPE_NONE] = "none", [IR_I1] = "i1",     [IR_I8] = "i8",     [IR_I16] = "i16", [IR_I32] = "i32",
    [IR_I64] = "i64",        [IR_I128] = "i128", [IR_F32] = "f32",   [IR_F64] = "f64", [IR_FL] = "fl",
    [IR_V128] = "v128",      [IR_V256] = "v256", [IR_V512] = "v512",
};
_Static_assert(ARRAY_SIZE(type_names) == IR_TYPE_COUNT, "every type has a name");

const char *ir_type_name(enum ir_type type)
{
    return (unsigned)type < IR_TYPE_COUNT ? type_names[type] : "?";
}

enum ir_type ir_value_type(const struct ir_block *b, ir_ref v)
{
    if (v & IR_CONST) {
        v &= ~IR_CONST;
        return v < b->n_consts ? (enum ir_type)b->konst_type[v] : IR_TYPE_NONE;
    }
    if (v >= b->n || b->insn[v].op >= IR_OP_COUNT) {
        return IR_TYPE_NONE;
    }
    switch (ir_op_info[b->insn[v].op].result) {
    case IR_OPERAND_T: return (enum ir_type)b->insn[v].type;
    case IR_OPERAND_I1: return IR_I1;
    case IR_OPERAND_I64: return IR_I64;
    case IR_OPERAND_FL: return IR_FL;
    default: return IR_TYPE_NONE;
    }
}

/* --- Building --- */

void ir_begin(struct ir_block *b, const struct ir_target *target, uint64_t pc, uint32_t mode)
{
    b->target = target;
    b->pc = pc;
    b->mode = mode;
    b->bytes = 0;
    b->n_guest = 0;
    b->n = 1; /* instruction 0 is the nop that stands for "no value" */
    b->insn[0] = (struct ir_insn){.op = IR_NOP};
    b->n_consts = 0;
    b->n_exits = 0;
    b->overflow = false;
}

ir_ref ir_emit(struct ir_block *b, enum ir_op op, enum ir_type type, uint8_t aux, uint32_t a, uint32_t b_,
               uint32_t c)
{
    if (b->n >= IR_MAX_INSNS) {
        b->overflow = true;
        return 0;
    }
    b->insn[b->n] =
        (struct ir_insn){.op = (uint16_t)op, .type = (uint8_t)type, .aux = aux, .a = a, .b = b_, .c = c};
    return b->n++;
}

ir_ref ir_const(struct ir_block *b, enum ir_type type, uint64_t value)
{
    unsigned bits = ir_type_bits(type);

    if (bits >= 1 && bits < 64) {
        value = arith_cut(value, bits);
    }
    /* From the newest: a constant that comes again mostly comes again soon. */
    for (uint32_t i = b->n_consts; i-- > 0;) {
        if (b->konst[i] == value && b->konst_type[i] == type) {
            return IR_CONST | i;
        }
    }
    if (b->n_consts >= IR_MAX_CONSTS) {
        b->overflow = true;
        return 0;
    }
    b->konst[b->n_consts] = value;
    b->konst_type[b->n_consts] = (uint8_t)type;
    return IR_CONST | b->n_consts++;
}

/* --- Folding --- */

static bool is_integer(enum ir_type type)
{
    return type == IR_I8 || type == IR_I16 || type == IR_I32 || type == IR_I64;
}

static bool commutes(enum ir_op op)
{
    switch (op) {
    case IR_ADD:
    case IR_AND:
    case IR_OR:
    case IR_XOR:
    case IR_XNOR:
    case IR_MUL:
    case IR_MULHU:
    case IR_MULHS:
    case IR_SMIN:
    case IR_SMAX:
    case IR_UMIN:
    case IR_UMAX:
    case IR_CLMUL:
    case IR_CLMULH: return true;
    default: return false;
    }
}

/* x op x, without looking at x. Returns 0 when that says nothing. */
static ir_ref fold_same(struct ir_block *b, enum ir_op op, enum ir_type type, ir_ref x)
{
    switch (op) {
    case IR_AND:
    case IR_OR:
    case IR_SMIN:
    case IR_SMAX:
    case IR_UMIN:
    case IR_UMAX: return x;
    case IR_SUB:
    case IR_XOR:
    case IR_ANDN: return ir_const(b, type, 0);
    case IR_ORN:
    case IR_XNOR: return ir_const(b, type, UINT64_MAX);
    default: return 0;
    }
}

/* x op k for the constants that need no operation. Returns 0 when k is none of them. */
static ir_ref fold_identity(struct ir_block *b, enum ir_op op, enum ir_type type, ir_ref x, uint64_t k)
{
    unsigned n = ir_type_bits(type);
    bool ones = k == bits_mask(n);

    switch (op) {
    case IR_ADD:
    case IR_SUB:
    case IR_XOR:
    case IR_ANDN: return k == 0 ? x : 0;
    case IR_OR: return k == 0 ? x : ones ? ir_const(b, type, k) : 0;
    case IR_AND: return ones ? x : k == 0 ? ir_const(b, type, 0) : 0;
    case IR_ORN:
    case IR_XNOR: return ones ? x : 0;
    case IR_SHL:
    case IR_SHR:
    case IR_SAR:
    case IR_ROL:
    case IR_ROR: return (k & (n - 1)) == 0 ? x : 0;
    case IR_MUL: return k == 1 ? x : k == 0 ? ir_const(b, type, 0) : 0;
    case IR_DIVU: return k == 1 ? x : 0;
    default: return 0;
    }
}

ir_ref ir_binary(struct ir_block *b, enum ir_op op, enum ir_type type, ir_ref x, ir_ref y)
{
    ir_ref folded = 0;
    uint64_t r;

    if (!is_integer(type)) {
        return ir_emit(b, op, type, 0, x, y, 0);
    }
    if (ir_is_const(x) && ir_is_const(y) &&
        ir_fold_binary(op, type, ir_const_value(b, x), ir_const_value(b, y), &r)) {
        return ir_const(b, type, r);
    }
    if (op == IR_SUB && ir_is_const(x) && ir_const_value(b, x) == 0) {
        return ir_unary(b, IR_NEG, type, y);
    }
    if (ir_is_const(x) && commutes(op)) {
        ir_ref t = x;
        x = y;
        y = t;
    }
    if (x == y) {
        folded = fold_same(b, op, type, x);
    } else if (ir_is_const(y)) {
        folded = fold_identity(b, op, type, x, ir_const_value(b, y));
    }
    if (folded) {
        return folded;
    }
    /* One form for additions of constants: passes and backends look for that only. */
    if (op == IR_SUB && ir_is_const(y)) {
        return ir_emit(b, IR_ADD, type, 0, x, ir_const(b, type, 0 - ir_const_value(b, y)), 0);
    }
    return ir_emit(b, op, type, 0, x, y, 0);
}

/* zext, sext and trunc: constants, nothing to do, and a truncation back to what was extended. */
static ir_ref fold_width(struct ir_block *b, enum ir_op op, enum ir_type type, ir_ref x)
{
    enum ir_type from = ir_value_type(b, x);

    if (from == type) {
        return x;
    }
    if (ir_is_const(x) && ir_type_bits(type) <= 64 && ir_type_bits(from) <= 64) {
        uint64_t v = ir_const_value(b, x);
        return ir_const(b, type, op == IR_SEXT ? (uint64_t)arith_sext(v, ir_type_bits(from)) : v);
    }
    if (op == IR_TRUNC && !ir_is_const(x)) {
        const struct ir_insn *i = &b->insn[x];
        bool extends = i->op == IR_ZEXT || i->op == IR_SEXT;
        if (extends && ir_value_type(b, i->a) == type) {
            return i->a;
        }
    }
    return 0;
}

ir_ref ir_unary(struct ir_block *b, enum ir_op op, enum ir_type type, ir_ref x)
{
    ir_ref folded = 0;
    uint64_t r;

    if (op == IR_ZEXT || op == IR_SEXT || op == IR_TRUNC) {
        folded = fold_width(b, op, type, x);
    } else if (ir_is_const(x) && is_integer(type) && ir_fold_unary(op, type, ir_const_value(b, x), &r)) {
        folded = ir_const(b, type, r);
    }
    return folded ? folded : ir_emit(b, op, type, 0, x, 0, 0);
}

/* The condition that holds of (y, x) when cond holds of (x, y). */
static enum ir_cond cond_swapped(enum ir_cond cond)
{
    switch (cond) {
    case IR_LTU: return IR_GTU;
    case IR_GEU: return IR_LEU;
    case IR_LEU: return IR_GEU;
    case IR_GTU: return IR_LTU;
    case IR_LTS: return IR_GTS;
    case IR_GES: return IR_LES;
    case IR_LES: return IR_GES;
    case IR_GTS: return IR_LTS;
    default: return cond;
    }
}

ir_ref ir_setcc(struct ir_block *b, enum ir_cond cond, enum ir_type operand_type, ir_ref x, ir_ref y)
{
    if (ir_is_const(x) && ir_is_const(y)) {
        return ir_const(b, IR_I1,
                        ir_fold_setcc(cond, operand_type, ir_const_value(b, x), ir_const_value(b, y)));
    }
    if (x == y) {
        return ir_const(b, IR_I1, ir_fold_setcc(cond, operand_type, 0, 0));
    }
    if (ir_is_const(x)) {
        ir_ref t = x;
        x = y;
        y = t;
        cond = cond_swapped(cond);
    }
    return ir_emit(b, IR_SETCC, operand_type, (uint8_t)cond, x, y, 0);
}

ir_ref ir_select(struct ir_block *b, enum ir_type type, ir_ref cond, ir_ref x, ir_ref y)
{
    if (x == y) {
        return x;
    }
    if (ir_is_const(cond)) {
        return ir_const_value(b, cond) ? x : y;
    }
    return ir_emit(b, IR_SELECT, type, 0, cond, x, y);
}

uint32_t ir_exit_to(struct ir_block *b, uint64_t target, enum ir_hint hint)
{
    bool near = (target ^ b->pc) >> ENV_PAGE_BITS == 0;

    if (b->n_exits >= IR_MAX_EXITS) {
        b->overflow = true;
        return 0;
    }
    b->exits[b->n_exits] = (struct ir_exit){
        .target = target,
        .kind = near ? IR_EXIT_NEAR : IR_EXIT_FAR,
        .hint = (uint8_t)hint,
    };
    return b->n_exits++;
}
