/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * A freestanding RISC-V program that answers the questions of ops.h with the instructions of F, D and Zfh:
 * run under an emulator or on a real machine, it is what our softfloat is compared with. No libc; system
 * calls by hand.
 */
#include "probe.h"

static long syscall3(long number, long x, const void *y, long z)
{
    register long a0 __asm__("a0") = x;
    register const void *a1 __asm__("a1") = y;
    register long a2 __asm__("a2") = z;
    register long a7 __asm__("a7") = number;

    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
    return a0;
}

/* All of an operation in one asm, so that nothing comes between the rounding mode, the work and the flags. */
#define RUN(body)                                                                                            \
    __asm__ volatile("fscsr %[csr]\n\t" body "\n\t"                                                          \
                     "frflags %[flags]"                                                                      \
                     : [r] "=&r"(r), [flags] "=r"(flags)                                                     \
                     : [csr] "r"((uint64_t)q->round << 5), [a] "r"(q->a), [b] "r"(q->b), [c] "r"(q->c)       \
                     : "ft0", "ft1", "ft2", "ft3");                                                          \
    break;

#define IN1(x) "fmv." x ".x ft0, %[a]\n\t"
#define IN2(x) IN1(x) "fmv." x ".x ft1, %[b]\n\t"
#define IN3(x) IN2(x) "fmv." x ".x ft2, %[c]\n\t"
#define OUT(x) "\n\tfmv.x." x " %[r], ft3"

/* w: the width, s: the instructions' suffix, m: the suffix of moves. */
#define CASES(w, s, m)                                                                                       \
    case OP_f##w##_add: RUN(IN2(m) "fadd." s " ft3, ft0, ft1" OUT(m))                                        \
    case OP_f##w##_sub: RUN(IN2(m) "fsub." s " ft3, ft0, ft1" OUT(m))                                        \
    case OP_f##w##_mul: RUN(IN2(m) "fmul." s " ft3, ft0, ft1" OUT(m))                                        \
    case OP_f##w##_div: RUN(IN2(m) "fdiv." s " ft3, ft0, ft1" OUT(m))                                        \
    case OP_f##w##_sqrt: RUN(IN1(m) "fsqrt." s " ft3, ft0" OUT(m))                                           \
    case OP_f##w##_madd: RUN(IN3(m) "fmadd." s " ft3, ft0, ft1, ft2" OUT(m))                                 \
    case OP_f##w##_msub: RUN(IN3(m) "fmsub." s " ft3, ft0, ft1, ft2" OUT(m))                                 \
    case OP_f##w##_nmsub: RUN(IN3(m) "fnmsub." s " ft3, ft0, ft1, ft2" OUT(m))                               \
    case OP_f##w##_nmadd: RUN(IN3(m) "fnmadd." s " ft3, ft0, ft1, ft2" OUT(m))                               \
    case OP_f##w##_min: RUN(IN2(m) "fmin." s " ft3, ft0, ft1" OUT(m))                                        \
    case OP_f##w##_max: RUN(IN2(m) "fmax." s " ft3, ft0, ft1" OUT(m))                                        \
    case OP_f##w##_eq: RUN(IN2(m) "feq." s " %[r], ft0, ft1")                                                \
    case OP_f##w##_lt: RUN(IN2(m) "flt." s " %[r], ft0, ft1")                                                \
    case OP_f##w##_le: RUN(IN2(m) "fle." s " %[r], ft0, ft1")                                                \
    case OP_f##w##_classify: RUN(IN1(m) "fclass." s " %[r], ft0")                                            \
    case OP_f##w##_to_i32: RUN(IN1(m) "fcvt.w." s " %[r], ft0, dyn")                                         \
    case OP_f##w##_to_u32: RUN(IN1(m) "fcvt.wu." s " %[r], ft0, dyn")                                        \
    case OP_f##w##_to_i64: RUN(IN1(m) "fcvt.l." s " %[r], ft0, dyn")                                         \
    case OP_f##w##_to_u64: RUN(IN1(m) "fcvt.lu." s " %[r], ft0, dyn")                                        \
    case OP_f##w##_from_i32: RUN("fcvt." s ".w ft3, %[a]" OUT(m))                                            \
    case OP_f##w##_from_u32: RUN("fcvt." s ".wu ft3, %[a]" OUT(m))                                           \
    case OP_f##w##_from_i64: RUN("fcvt." s ".l ft3, %[a]" OUT(m))                                            \
    case OP_f##w##_from_u64: RUN("fcvt." s ".lu ft3, %[a]" OUT(m))

static uint64_t narrow(uint32_t op, uint64_t r)
{
    switch (op) {
#define NARROW_INTS(w)                                                                                       \
    case OP_f##w##_to_i32:                                                                                   \
    case OP_f##w##_to_u32: return (uint32_t)r;                                                               \
    case OP_f##w##_to_i64:                                                                                   \
    case OP_f##w##_to_u64: return r;
        NARROW_INTS(16)
        NARROW_INTS(32)
        NARROW_INTS(64)
    case OP_f32_to_f16:
    case OP_f64_to_f16: return (uint16_t)r;
    case OP_f16_to_f32:
    case OP_f64_to_f32: return (uint32_t)r;
    case OP_f16_to_f64:
    case OP_f32_to_f64: return r;
    default: return op < OP_f32_add ? (uint16_t)r : op < OP_f64_add ? (uint32_t)r : r;
    }
}

static void answer(const struct question *q, struct answer *out)
{
    uint64_t r = 0, flags = 0;

    switch (q->op) {
        CASES(16, "h", "h")
        CASES(32, "s", "w")
        CASES(64, "d", "d")
    case OP_f16_to_f32: RUN(IN1("h") "fcvt.s.h ft3, ft0" OUT("w"))
    case OP_f16_to_f64: RUN(IN1("h") "fcvt.d.h ft3, ft0" OUT("d"))
    case OP_f32_to_f16: RUN(IN1("w") "fcvt.h.s ft3, ft0" OUT("h"))
    case OP_f32_to_f64: RUN(IN1("w") "fcvt.d.s ft3, ft0" OUT("d"))
    case OP_f64_to_f16: RUN(IN1("d") "fcvt.h.d ft3, ft0" OUT("h"))
    case OP_f64_to_f32: RUN(IN1("d") "fcvt.s.d ft3, ft0" OUT("w"))
    }
    out->value = narrow(q->op, r);
    out->flags = flags;
}

__asm__(".globl _start\n_start:\n.option push\n.option norelax\nla gp, __global_pointer$\n.option pop\n"
        "andi sp, sp, -16\nj probe_main\n");
