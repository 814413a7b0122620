/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Floating-point operations of the IR as a table of functions over softfloat. */
#ifndef HOSTEL_ENGINE_FP_OPS_H
#define HOSTEL_ENGINE_FP_OPS_H

#include <stdint.h>

#include "engine/env.h"
#include "engine/ir.h"

/* Operands and result are bit patterns, f32 in the low half. aux is the IR instruction's (rounding,
 * modifiers). Exception flags are ORed into env->fp_flags. The vCPU's own thread. */
typedef uint64_t fp_fn(struct env *env, uint64_t a, uint64_t b, uint64_t c, unsigned aux);

struct fp_op {
    uint8_t op;   /* enum ir_op */
    uint8_t type; /* the instruction's type */
    uint8_t from; /* type of the operand of a conversion; IR_TYPE_NONE: the instruction's */
    fp_fn *fn;
};

extern const struct fp_op fp_ops[];

/* Index in fp_ops of the operation; -1 when there is none. */
int fp_op_find(enum ir_op op, enum ir_type type, enum ir_type from);

#endif
