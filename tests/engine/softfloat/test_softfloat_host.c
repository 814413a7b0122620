/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * Softfloat against the silicon: SSE, FMA3, F16C and AVX-512 of an x86 host, in MXCSR's four rounding modes.
 *
 * Each instruction sits in one asm between loading MXCSR with clear flags and storing it again, so no
 * compiler can fold it or move it to another rounding mode. Instructions the host lacks are left out, those
 * of other hosts too.
 */
#include <glib.h>

#include "check.h"

#ifdef __x86_64__

#include <cpuid.h>

enum { MXCSR_DEFAULT = 0x1f80, MXCSR_RC_SHIFT = 13 };

/* MXCSR.RC: nearest, down, up, to zero. */
static const uint32_t rc_of_round[] = {[SF_RNE] = 0, [SF_RTZ] = 3, [SF_RDN] = 1, [SF_RUP] = 2};

/* MXCSR has invalid, denormal, divide by zero, overflow, underflow, precision from bit 0 up. */
static uint64_t flags_of_mxcsr(uint32_t mxcsr)
{
    return (mxcsr & 1 ? SF_NV : 0) | (mxcsr & 4 ? SF_DZ : 0) | (mxcsr & 8 ? SF_OF : 0) |
           (mxcsr & 16 ? SF_UF : 0) | (mxcsr & 32 ? SF_NX : 0);
}

#define RUN(body)                                                                                            \
    __asm__ volatile("ldmxcsr %[csr]\n\t" body "\n\tstmxcsr %[csr]\n\tldmxcsr %[normal]"                     \
                     : [r] "=&r"(r), [csr] "+m"(csr)                                                         \
                     : [a] "r"(q->a), [b] "r"(q->b), [c] "r"(q->c), [normal] "m"(normal)                     \
                     : "xmm0", "xmm1", "xmm2", "cc");                                                        \
    break;

#define IN1 "movq %[a], %%xmm0\n\t"
#define IN2 IN1 "movq %[b], %%xmm1\n\t"
#define IN3 IN2 "movq %[c], %%xmm2\n\t"
#define OUT "\n\tmovq %%xmm0, %[r]"
#define OUT1 "\n\tmovq %%xmm1, %[r]"
#define OUT2 "\n\tmovq %%xmm2, %[r]"
#define OUT_BOOL OUT "\n\tandq $1, %[r]"
#define CLEAR "xorps %%xmm0, %%xmm0\n\t" /* what an instruction does not write above its result */

/*
 * w: the width, s: "ss" or "sd". The digits of an FMA form number its operands, 1 being the destination, in
 * the order factor, factor, addend: that is also the order in which NaNs take precedence, and a, b, c of
 * sf_fN_fma. All three forms occur here. (AT&T syntax lists operands 3, 2, 1.)
 */
#define CASES(w, s)                                                                                          \
    case OP_f##w##_add: RUN(IN2 "add" s " %%xmm1, %%xmm0" OUT)                                               \
    case OP_f##w##_sub: RUN(IN2 "sub" s " %%xmm1, %%xmm0" OUT)                                               \
    case OP_f##w##_mul: RUN(IN2 "mul" s " %%xmm1, %%xmm0" OUT)                                               \
    case OP_f##w##_div: RUN(IN2 "div" s " %%xmm1, %%xmm0" OUT)                                               \
    case OP_f##w##_sqrt: RUN(IN1 "sqrt" s " %%xmm0, %%xmm0" OUT)                                             \
    case OP_f##w##_madd: RUN(IN3 "vfmadd213" s " %%xmm2, %%xmm0, %%xmm1" OUT1)                               \
    case OP_f##w##_msub: RUN(IN3 "vfmsub132" s " %%xmm1, %%xmm2, %%xmm0" OUT)                                \
    case OP_f##w##_nmsub: RUN(IN3 "vfnmadd231" s " %%xmm1, %%xmm0, %%xmm2" OUT2)                             \
    case OP_f##w##_nmadd: RUN(IN3 "vfnmsub213" s " %%xmm2, %%xmm0, %%xmm1" OUT1)                             \
    case OP_f##w##_eq: RUN(IN2 "cmpeq" s " %%xmm1, %%xmm0" OUT_BOOL)                                         \
    case OP_f##w##_lt: RUN(IN2 "cmplt" s " %%xmm1, %%xmm0" OUT_BOOL)                                         \
    case OP_f##w##_le: RUN(IN2 "cmple" s " %%xmm1, %%xmm0" OUT_BOOL)                                         \
    case OP_f##w##_round_to_int: RUN(IN1 "round" s " $4, %%xmm0, %%xmm0" OUT)                                \
    case OP_f##w##_to_i32: RUN(IN1 "cvt" s "2si %%xmm0, %k[r]")                                              \
    case OP_f##w##_to_i64: RUN(IN1 "cvt" s "2si %%xmm0, %q[r]")                                              \
    case OP_f##w##_to_u32: RUN(IN1 "vcvt" s "2usi %%xmm0, %k[r]")                                            \
    case OP_f##w##_to_u64: RUN(IN1 "vcvt" s "2usi %%xmm0, %q[r]")                                            \
    case OP_f##w##_from_i32: RUN(CLEAR "cvtsi2" s " %k[a], %%xmm0" OUT)                                      \
    case OP_f##w##_from_i64: RUN(CLEAR "cvtsi2" s " %q[a], %%xmm0" OUT)                                      \
    case OP_f##w##_from_u32: RUN(CLEAR "vcvtusi2" s " %k[a], %%xmm0, %%xmm0" OUT)                            \
    case OP_f##w##_from_u64: RUN(CLEAR "vcvtusi2" s " %q[a], %%xmm0, %%xmm0" OUT)

static struct answer host_answer(const struct question *q)
{
    uint32_t csr = MXCSR_DEFAULT | rc_of_round[q->round] << MXCSR_RC_SHIFT;
    const uint32_t normal = MXCSR_DEFAULT;
    uint64_t r = 0;

    switch (q->op) {
        CASES(32, "ss")
        CASES(64, "sd")
    case OP_f32_to_f64: RUN(IN1 "cvtss2sd %%xmm0, %%xmm0" OUT)
    case OP_f64_to_f32: RUN(IN1 "cvtsd2ss %%xmm0, %%xmm0\n\tmovd %%xmm0, %k[r]")
    case OP_f16_to_f32: RUN(IN1 "vcvtph2ps %%xmm0, %%xmm0\n\tmovd %%xmm0, %k[r]")
    case OP_f32_to_f16: RUN(IN1 "vcvtps2ph $4, %%xmm0, %%xmm0\n\tmovd %%xmm0, %k[r]\n\tmovzwl %w[r], %k[r]")
    default: g_assert_not_reached();
    }
    return (struct answer){.value = r, .flags = flags_of_mxcsr(csr)};
}

static void host_ask(const struct question *questions, struct answer *answers, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        answers[i] = host_answer(&questions[i]);
    }
}

/* clang 14's __builtin_cpu_supports does not know the name: CPUID leaf 1, ECX bit 29. */
static bool has_f16c(void)
{
    unsigned eax, ebx, ecx = 0, edx;

    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx >> 29 & 1);
}

static bool host_knows(enum op op, enum sf_round round)
{
    if (round == SF_RMM) {
        return false;
    }
    switch (op) {
    case OP_f16_to_f32:
    case OP_f32_to_f16: return __builtin_cpu_supports("avx") && has_f16c();
    case OP_f16_to_f64:
    case OP_f64_to_f16:
    case OP_f32_min: /* MINSS and MAXSS are comparisons, not IEEE 754's minimum */
    case OP_f32_max:
    case OP_f64_min:
    case OP_f64_max:
    case OP_f32_classify:
    case OP_f64_classify: return false;
    case OP_f32_madd:
    case OP_f32_msub:
    case OP_f32_nmsub:
    case OP_f32_nmadd:
    case OP_f64_madd:
    case OP_f64_msub:
    case OP_f64_nmsub:
    case OP_f64_nmadd: return __builtin_cpu_supports("fma");
    case OP_f32_to_u32:
    case OP_f32_to_u64:
    case OP_f32_from_u32:
    case OP_f32_from_u64:
    case OP_f64_to_u32:
    case OP_f64_to_u64:
    case OP_f64_from_u32:
    case OP_f64_from_u64: return __builtin_cpu_supports("avx512f");
    case OP_f32_round_to_int:
    case OP_f64_round_to_int: return __builtin_cpu_supports("sse4.1");
    default: return check_op_width(op) != 16;
    }
}

static const struct oracle host = {
    .name = "host",
    .ctx = {.nan = SF_NAN_X86, .toint = SF_TOINT_X86},
    .random = 30000,
    .knows = host_knows,
    .ask = host_ask,
};

#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#ifdef __x86_64__
    check_add_cases(&host);
#else
    check_add_skip("host", "the host is no x86-64: no SSE to compare with");
#endif
    return g_test_run();
}
