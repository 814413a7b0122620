/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * The operations under test, and how a question travels to a probe: shared by the tests and by the
 * freestanding probe programs, so it includes nothing but types. Records are in the byte order of the probe;
 * all are little.
 */
#ifndef HOSTEL_TESTS_SOFTFLOAT_OPS_H
#define HOSTEL_TESTS_SOFTFLOAT_OPS_H

#include <stdint.h>

/* X(width, name, operands): f, ff, fff values of the width; i a 32-bit, l a 64-bit integer. */
#define OPS_OF_WIDTH(N, X)                                                                                   \
    X(N, add, OPERANDS_FF)                                                                                   \
    X(N, sub, OPERANDS_FF)                                                                                   \
    X(N, mul, OPERANDS_FF)                                                                                   \
    X(N, div, OPERANDS_FF)                                                                                   \
    X(N, sqrt, OPERANDS_F)                                                                                   \
    X(N, madd, OPERANDS_FFF)  /* a * b + c */                                                                \
    X(N, msub, OPERANDS_FFF)  /* a * b - c */                                                                \
    X(N, nmsub, OPERANDS_FFF) /* -(a * b) + c */                                                             \
    X(N, nmadd, OPERANDS_FFF) /* -(a * b) - c */                                                             \
    X(N, min, OPERANDS_FF)                                                                                   \
    X(N, max, OPERANDS_FF)                                                                                   \
    X(N, eq, OPERANDS_FF)                                                                                    \
    X(N, lt, OPERANDS_FF)                                                                                    \
    X(N, le, OPERANDS_FF)                                                                                    \
    X(N, classify, OPERANDS_F)                                                                               \
    X(N, round_to_int, OPERANDS_F) /* exact: raises inexact */                                               \
    X(N, to_i32, OPERANDS_F)                                                                                 \
    X(N, to_u32, OPERANDS_F)                                                                                 \
    X(N, to_i64, OPERANDS_F)                                                                                 \
    X(N, to_u64, OPERANDS_F)                                                                                 \
    X(N, from_i32, OPERANDS_I)                                                                               \
    X(N, from_u32, OPERANDS_I)                                                                               \
    X(N, from_i64, OPERANDS_L)                                                                               \
    X(N, from_u64, OPERANDS_L)

#define OPS(X)                                                                                               \
    OPS_OF_WIDTH(16, X)                                                                                      \
    OPS_OF_WIDTH(32, X)                                                                                      \
    OPS_OF_WIDTH(64, X)                                                                                      \
    X(16, to_f32, OPERANDS_F)                                                                                \
    X(16, to_f64, OPERANDS_F)                                                                                \
    X(32, to_f16, OPERANDS_F)                                                                                \
    X(32, to_f64, OPERANDS_F)                                                                                \
    X(64, to_f16, OPERANDS_F)                                                                                \
    X(64, to_f32, OPERANDS_F)

#define OP_ENUM(N, name, operands) OP_f##N##_##name,
enum op { OPS(OP_ENUM) OP_COUNT };
#undef OP_ENUM

enum operands { OPERANDS_F, OPERANDS_FF, OPERANDS_FFF, OPERANDS_I, OPERANDS_L };

/* A question: 32 bytes. Narrow operands have zeros above. */
struct question {
    uint64_t a, b, c;
    uint32_t op;    /* enum op */
    uint32_t round; /* enum sf_round */
};

/* The answer: 16 bytes. Narrow results, the 32-bit integers too, have zeros above. */
struct answer {
    uint64_t value;
    uint64_t flags; /* SF_NX... */
};

/* A probe reads this many questions, the last ones ignored if need be, then writes as many answers, until
 * EOF. */
#define PROBE_BATCH 4096

#endif
