/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * A freestanding Arm program that answers the questions of ops.h, those that Arm has an instruction for. It
 * brings what RISC-V and x86 cannot: tininess detected before rounding, and Arm's choice of NaNs. FPCR is
 * zero but for the rounding mode. Arm knows SF_RMM only in conversions to integers and frinta.
 */
#include "probe.h"

static long syscall3(long number, long x, const void *y, long z)
{
    register long x0 __asm__("x0") = x;
    register const void *x1 __asm__("x1") = y;
    register long x2 __asm__("x2") = z;
    register long x8 __asm__("x8") = number;

    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x8) : "memory");
    return x0;
}

/* FPCR.RMode by enum sf_round; ties to the larger magnitude has none and rounds to even here. */
static const uint64_t fpcr_of_round[] = {0u << 22, 3u << 22, 2u << 22, 1u << 22, 0};

#define RUN(body)                                                                                            \
    __asm__ volatile("msr fpcr, %[fpcr]\n\tmsr fpsr, xzr\n\t" body "\n\tmrs %[fpsr], fpsr"                   \
                     : [r] "=&r"(r), [fpsr] "=&r"(fpsr)                                                      \
                     : [fpcr] "r"(fpcr_of_round[q->round]), [a] "r"(q->a), [b] "r"(q->b), [c] "r"(q->c)      \
                     : "v0", "v1", "v2", "v3", "cc");                                                        \
    break;

#define IN1 "fmov d0, %[a]\n\t"
#define IN2 IN1 "fmov d1, %[b]\n\t"
#define IN3 IN2 "fmov d2, %[c]\n\t"
#define OUT "\n\tfmov %[r], d3"

/* Conversions to integers name their rounding instead of reading FPCR. */
#define TO_INT(sign, size, s)                                                                                \
    switch (q->round) {                                                                                      \
    case 0: RUN(IN1 "fcvtn" sign " %" size "[r], " s "0")                                                    \
    case 1: RUN(IN1 "fcvtz" sign " %" size "[r], " s "0")                                                    \
    case 2: RUN(IN1 "fcvtm" sign " %" size "[r], " s "0")                                                    \
    case 3: RUN(IN1 "fcvtp" sign " %" size "[r], " s "0")                                                    \
    default: RUN(IN1 "fcvta" sign " %" size "[r], " s "0")                                                   \
    }                                                                                                        \
    break;

#define CASES(w, s)                                                                                          \
    case OP_f##w##_add: RUN(IN2 "fadd " s "3, " s "0, " s "1" OUT)                                           \
    case OP_f##w##_sub: RUN(IN2 "fsub " s "3, " s "0, " s "1" OUT)                                           \
    case OP_f##w##_mul: RUN(IN2 "fmul " s "3, " s "0, " s "1" OUT)                                           \
    case OP_f##w##_div: RUN(IN2 "fdiv " s "3, " s "0, " s "1" OUT)                                           \
    case OP_f##w##_sqrt: RUN(IN1 "fsqrt " s "3, " s "0" OUT)                                                 \
    case OP_f##w##_madd: RUN(IN3 "fmadd " s "3, " s "0, " s "1, " s "2" OUT)                                 \
    case OP_f##w##_msub: RUN(IN3 "fnmsub " s "3, " s "0, " s "1, " s "2" OUT)                                \
    case OP_f##w##_nmsub: RUN(IN3 "fmsub " s "3, " s "0, " s "1, " s "2" OUT)                                \
    case OP_f##w##_nmadd: RUN(IN3 "fnmadd " s "3, " s "0, " s "1, " s "2" OUT)                               \
    case OP_f##w##_eq: RUN(IN2 "fcmp " s "0, " s "1\n\tcset %w[r], eq")                                      \
    case OP_f##w##_lt: RUN(IN2 "fcmpe " s "0, " s "1\n\tcset %w[r], mi")                                     \
    case OP_f##w##_le: RUN(IN2 "fcmpe " s "0, " s "1\n\tcset %w[r], ls")                                     \
    case OP_f##w##_round_to_int: RUN(IN1 "frintx " s "3, " s "0" OUT)                                        \
    case OP_f##w##_to_i32: TO_INT("s", "w", s)                                                               \
    case OP_f##w##_to_u32: TO_INT("u", "w", s)                                                               \
    case OP_f##w##_to_i64: TO_INT("s", "x", s)                                                               \
    case OP_f##w##_to_u64: TO_INT("u", "x", s)                                                               \
    case OP_f##w##_from_i32: RUN("scvtf " s "3, %w[a]" OUT)                                                  \
    case OP_f##w##_from_u32: RUN("ucvtf " s "3, %w[a]" OUT)                                                  \
    case OP_f##w##_from_i64: RUN("scvtf " s "3, %x[a]" OUT)                                                  \
    case OP_f##w##_from_u64: RUN("ucvtf " s "3, %x[a]" OUT)

/* FPSR has invalid, divide by zero, overflow, underflow, inexact from bit 0 up; RISC-V's order is the
 * reverse. */
static uint64_t flags_of_fpsr(uint64_t fpsr)
{
    uint64_t flags = 0;

    for (int i = 0; i < 5; i++) {
        flags |= (fpsr >> i & 1) << (4 - i);
    }
    return flags;
}

static void answer(const struct question *q, struct answer *out)
{
    uint64_t r = 0, fpsr = 0;

    /* A write to a scalar register clears the bits above it, so results come narrow by themselves. */
    switch (q->op) {
        CASES(16, "h")
        CASES(32, "s")
        CASES(64, "d")
    case OP_f16_to_f32: RUN(IN1 "fcvt s3, h0" OUT)
    case OP_f16_to_f64: RUN(IN1 "fcvt d3, h0" OUT)
    case OP_f32_to_f16: RUN(IN1 "fcvt h3, s0" OUT)
    case OP_f32_to_f64: RUN(IN1 "fcvt d3, s0" OUT)
    case OP_f64_to_f16: RUN(IN1 "fcvt h3, d0" OUT)
    case OP_f64_to_f32: RUN(IN1 "fcvt s3, d0" OUT)
    }
    out->value = r;
    out->flags = flags_of_fpsr(fpsr);
}

__asm__(".globl _start\n_start:\nb probe_main\n");
