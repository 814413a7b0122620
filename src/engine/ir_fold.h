/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Operations on constants: what the builder computes instead of emitting. Pure; any thread. */
#ifndef HOSTEL_ENGINE_IR_FOLD_H
#define HOSTEL_ENGINE_IR_FOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ir.h"

/* Computes a binary or unary integer operation of the type (i8 to i64) on values of that type. False, with
 * *result untouched, for an operation that arith.def does not list. */
bool ir_fold_binary(enum ir_op op, enum ir_type type, uint64_t a, uint64_t b, uint64_t *result);
bool ir_fold_unary(enum ir_op op, enum ir_type type, uint64_t a, uint64_t *result);

/* Compares two values of an integer type (i1 to i64). */
bool ir_fold_setcc(enum ir_cond cond, enum ir_type type, uint64_t a, uint64_t b);

#endif
