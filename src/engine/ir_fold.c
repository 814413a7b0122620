/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Operations on constants, from the expressions of arith.def. */
#include "engine/ir_fold.h"

#include "engine/arith.h"

bool ir_fold_binary(enum ir_op op, enum ir_type type, uint64_t a, uint64_t b, uint64_t *result)
{
    unsigned n = ir_type_bits(type);
    uint64_t x = arith_cut(a, n), y = arith_cut(b, n), r;
    int64_t sx = arith_sext(a, n), sy = arith_sext(b, n);

    switch (op) {
#define ARITH_BINARY(id, expression)                                                                         \
    case IR_##id:                                                                                            \
        r = (expression);                                                                                    \
        break;
#define ARITH_UNARY(id, expression)
#include "engine/arith.def"
#undef ARITH_BINARY
#undef ARITH_UNARY
    default: return false;
    }
    *result = arith_cut(r, n);
    return true;
}

bool ir_fold_unary(enum ir_op op, enum ir_type type, uint64_t a, uint64_t *result)
{
    unsigned n = ir_type_bits(type);
    uint64_t x = arith_cut(a, n), r;

    switch (op) {
#define ARITH_BINARY(id, expression)
#define ARITH_UNARY(id, expression)                                                                          \
    case IR_##id:                                                                                            \
        r = (expression);                                                                                    \
        break;
#include "engine/arith.def"
#undef ARITH_BINARY
#undef ARITH_UNARY
    default: return false;
    }
    *result = arith_cut(r, n);
    return true;
}

bool ir_fold_setcc(enum ir_cond cond, enum ir_type type, uint64_t a, uint64_t b)
{
    unsigned n = ir_type_bits(type);
    uint64_t x = arith_cut(a, n), y = arith_cut(b, n);
    int64_t sx = arith_sext(a, n), sy = arith_sext(b, n);

    switch (cond) {
    case IR_EQ: return x == y;
    case IR_NE: return x != y;
    case IR_LTU: return x < y;
    case IR_GEU: return x >= y;
    case IR_LEU: return x <= y;
    case IR_GTU: return x > y;
    case IR_LTS: return sx < sy;
    case IR_GES: return sx >= sy;
    case IR_LES: return sx <= sy;
    case IR_GTS: return sx > sy;
    case IR_COND_COUNT: break;
    }
    return false;
}
