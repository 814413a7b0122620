/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The x86-64 emitter's floating-point instructions, in VEX forms or, on older hosts, legacy SSE. */
/*
 * Names: emit_<instruction>_<operands>, the instruction as legacy SSE names it; operands, destination first:
 * x XMM register, m memory, r integer register, i immediate. emit.avx chooses the form: functions are the
 * same for both, three operands where VEX has three. Legacy SSE has two, so there a function may emit up to
 * three instructions, and when dst is also the *second* source it goes through EMIT_SSE_SCRATCH, which users
 * of legacy SSE must leave alone. Sources keep their order, since the first one decides which NaN comes out.
 *
 * Memory operands are as wide as the element; those of the packed instructions (andps and its kind, movaps)
 * are 16 bytes, aligned to 16. Rounding and exception flags: MXCSR.
 */
#ifndef HOSTEL_ENGINE_X86_64_EMIT_SSE_H
#define HOSTEL_ENGINE_X86_64_EMIT_SSE_H

#include "engine/x86_64/emit_core.h"

#define EMIT_SSE_SCRATCH HOST_XMM15

/* How MXCSR's rounding is overruled in ROUNDSS and ROUNDSD; | 8 keeps the inexact flag as it was. */
enum host_round { HOST_ROUND_NEAREST, HOST_ROUND_DOWN, HOST_ROUND_UP, HOST_ROUND_ZERO, HOST_ROUND_MXCSR };

/* Predicates of CMPSS and CMPSD that both forms know. */
enum host_cmp {
    HOST_CMP_EQ,
    HOST_CMP_LT,
    HOST_CMP_LE,
    HOST_CMP_UNORD,
    HOST_CMP_NEQ,
    HOST_CMP_NLT,
    HOST_CMP_NLE,
    HOST_CMP_ORD
};

/* The shapes. d has no EMIT_VEX; it is added when emit.avx. */
void emit_sse_binary(struct emit *e, uint32_t d, enum host_xmm dst, enum host_xmm a, enum host_xmm b,
                     int32_t imm);
void emit_sse_binary_m(struct emit *e, uint32_t d, enum host_xmm dst, enum host_xmm a, struct host_mem b,
                       int32_t imm);

/* Without a third operand; v fills VEX.vvvv where the VEX form wants one. */
static inline void emit_sse_rr(struct emit *e, uint32_t d, unsigned reg, unsigned v, unsigned rm, int32_t imm)
{
    emit_rr(e, e->avx ? d | EMIT_VEX : d, reg, v, rm, imm);
}

static inline void emit_sse_rm(struct emit *e, uint32_t d, unsigned reg, unsigned v, struct host_mem m,
                               int32_t imm)
{
    emit_rm(e, e->avx ? d | EMIT_VEX : d, reg, v, m, imm);
}

/* --- emit_sse.def --- */

/* emit_addsd_xxx(e, dst, a, b), emit_addsd_xxm(e, dst, a, m) */
#define SSE_BINARY(name, d)                                                                                  \
    static inline void emit_##name##_xxx(struct emit *e, enum host_xmm dst, enum host_xmm a,                 \
                                         enum host_xmm b)                                                    \
    {                                                                                                        \
        emit_sse_binary(e, (d) | EMIT_0F, dst, a, b, 0);                                                     \
    }                                                                                                        \
    static inline void emit_##name##_xxm(struct emit *e, enum host_xmm dst, enum host_xmm a,                 \
                                         struct host_mem b)                                                  \
    {                                                                                                        \
        emit_sse_binary_m(e, (d) | EMIT_0F, dst, a, b, 0);                                                   \
    }

/* emit_sqrtsd_xx(e, dst, src), emit_sqrtsd_xm(e, dst, m) */
#define SSE_UNARY(name, d)                                                                                   \
    static inline void emit_##name##_xx(struct emit *e, enum host_xmm dst, enum host_xmm src)                \
    {                                                                                                        \
        emit_sse_rr(e, (d) | EMIT_0F, dst, src, src, 0);                                                     \
    }                                                                                                        \
    static inline void emit_##name##_xm(struct emit *e, enum host_xmm dst, struct host_mem src)              \
    {                                                                                                        \
        emit_sse_rm(e, (d) | EMIT_0F, dst, dst, src, 0);                                                     \
    }

/* emit_ucomisd_xx(e, a, b), emit_ucomisd_xm(e, a, m) */
#define SSE_COMPARE(name, d)                                                                                 \
    static inline void emit_##name##_xx(struct emit *e, enum host_xmm a, enum host_xmm b)                    \
    {                                                                                                        \
        emit_sse_rr(e, (d) | EMIT_0F, a, 0, b, 0);                                                           \
    }                                                                                                        \
    static inline void emit_##name##_xm(struct emit *e, enum host_xmm a, struct host_mem b)                  \
    {                                                                                                        \
        emit_sse_rm(e, (d) | EMIT_0F, a, 0, b, 0);                                                           \
    }

/* emit_cvttsd2si_rx(e, size, dst, src), emit_cvttsd2si_rm(e, size, dst, m); size: 32, 64 */
#define SSE_TO_INT(name, d)                                                                                  \
    static inline void emit_##name##_rx(struct emit *e, unsigned size, enum host_reg dst, enum host_xmm src) \
    {                                                                                                        \
        emit_sse_rr(e, (d) | EMIT_0F | emit_wide(size), dst, 0, src, 0);                                     \
    }                                                                                                        \
    static inline void emit_##name##_rm(struct emit *e, unsigned size, enum host_reg dst,                    \
                                        struct host_mem src)                                                 \
    {                                                                                                        \
        emit_sse_rm(e, (d) | EMIT_0F | emit_wide(size), dst, 0, src, 0);                                     \
    }

/* emit_cvtsi2sd_xr(e, size, dst, src), emit_cvtsi2sd_xm(e, size, dst, m). Waits for dst: XORPS it first. */
#define SSE_FROM_INT(name, d)                                                                                \
    static inline void emit_##name##_xr(struct emit *e, unsigned size, enum host_xmm dst, enum host_reg src) \
    {                                                                                                        \
        emit_sse_rr(e, (d) | EMIT_0F | emit_wide(size), dst, dst, src, 0);                                   \
    }                                                                                                        \
    static inline void emit_##name##_xm(struct emit *e, unsigned size, enum host_xmm dst,                    \
                                        struct host_mem src)                                                 \
    {                                                                                                        \
        emit_sse_rm(e, (d) | EMIT_0F | emit_wide(size), dst, dst, src, 0);                                   \
    }

/* emit_fmadd231sd_xxx(e, one, two, three): operands 1, 2 and 3 of the name, of which the first is the
 * destination. */
#define SSE_FMA(name, d)                                                                                     \
    static inline void emit_##name##_xxx(struct emit *e, enum host_xmm one, enum host_xmm two,               \
                                         enum host_xmm three)                                                \
    {                                                                                                        \
        emit_rr(e, (d) | EMIT_VEX | EMIT_66 | EMIT_0F38, one, two, three, 0);                                \
    }                                                                                                        \
    static inline void emit_##name##_xxm(struct emit *e, enum host_xmm one, enum host_xmm two,               \
                                         struct host_mem three)                                              \
    {                                                                                                        \
        emit_rm(e, (d) | EMIT_VEX | EMIT_66 | EMIT_0F38, one, two, three, 0);                                \
    }

#include "engine/x86_64/emit_sse.def"

/* --- Moves --- */

/* The whole register. */
static inline void emit_movaps_xx(struct emit *e, enum host_xmm dst, enum host_xmm src)
{
    emit_sse_rr(e, 0x28 | EMIT_0F, dst, 0, src, 0);
}

/* Loads and stores: the load of an element clears the rest of the register. movups is movaps for any
 * alignment. */
#define EMIT_MOVE(name, load, store)                                                                         \
    static inline void emit_##name##_xm(struct emit *e, enum host_xmm dst, struct host_mem src)              \
    {                                                                                                        \
        emit_sse_rm(e, (load) | EMIT_0F, dst, 0, src, 0);                                                    \
    }                                                                                                        \
    static inline void emit_##name##_mx(struct emit *e, struct host_mem dst, enum host_xmm src)              \
    {                                                                                                        \
        emit_sse_rm(e, (store) | EMIT_0F, src, 0, dst, 0);                                                   \
    }
EMIT_MOVE(movss, 0x10 | EMIT_F3, 0x11 | EMIT_F3)
EMIT_MOVE(movsd, 0x10 | EMIT_F2, 0x11 | EMIT_F2)
EMIT_MOVE(movq, 0x7e | EMIT_F3, 0xd6 | EMIT_66)
EMIT_MOVE(movaps, 0x28, 0x29)
EMIT_MOVE(movups, 0x10, 0x11)
#undef EMIT_MOVE

/* dst = the low element of b, the rest of a. */
static inline void emit_movss_xxx(struct emit *e, enum host_xmm dst, enum host_xmm a, enum host_xmm b)
{
    emit_sse_binary(e, 0x10 | EMIT_F3 | EMIT_0F, dst, a, b, 0);
}

static inline void emit_movsd_xxx(struct emit *e, enum host_xmm dst, enum host_xmm a, enum host_xmm b)
{
    emit_sse_binary(e, 0x10 | EMIT_F2 | EMIT_0F, dst, a, b, 0);
}

/* The low 64 bits; the rest of dst is cleared. */
static inline void emit_movq_xx(struct emit *e, enum host_xmm dst, enum host_xmm src)
{
    emit_sse_rr(e, 0x7e | EMIT_F3 | EMIT_0F, dst, 0, src, 0);
}

/* Between integer and XMM registers: 32 bits (movd), 64 bits (movq). The rest of the destination is cleared.
 */
static inline void emit_movd_xr(struct emit *e, enum host_xmm dst, enum host_reg src)
{
    emit_sse_rr(e, 0x6e | EMIT_66 | EMIT_0F, dst, 0, src, 0);
}

static inline void emit_movd_rx(struct emit *e, enum host_reg dst, enum host_xmm src)
{
    emit_sse_rr(e, 0x7e | EMIT_66 | EMIT_0F, src, 0, dst, 0);
}

static inline void emit_movq_xr(struct emit *e, enum host_xmm dst, enum host_reg src)
{
    emit_sse_rr(e, 0x6e | EMIT_66 | EMIT_0F | EMIT_W, dst, 0, src, 0);
}

static inline void emit_movq_rx(struct emit *e, enum host_reg dst, enum host_xmm src)
{
    emit_sse_rr(e, 0x7e | EMIT_66 | EMIT_0F | EMIT_W, src, 0, dst, 0);
}

/* --- With an immediate --- */

/* Low part of dst = src rounded to an integer (host_features.sse41). mode: enum host_round, | 8. */
static inline void emit_roundss_xxi(struct emit *e, enum host_xmm dst, enum host_xmm src, unsigned mode)
{
    emit_sse_rr(e, 0x0a | EMIT_66 | EMIT_0F3A | EMIT_IMM(1), dst, src, src, (int32_t)mode);
}

static inline void emit_roundsd_xxi(struct emit *e, enum host_xmm dst, enum host_xmm src, unsigned mode)
{
    emit_sse_rr(e, 0x0b | EMIT_66 | EMIT_0F3A | EMIT_IMM(1), dst, src, src, (int32_t)mode);
}

/* The low element of dst = all ones if the predicate holds for a and b, else zero. */
static inline void emit_cmpss_xxxi(struct emit *e, enum host_xmm dst, enum host_xmm a, enum host_xmm b,
                                   enum host_cmp pred)
{
    emit_sse_binary(e, 0xc2 | EMIT_F3 | EMIT_0F | EMIT_IMM(1), dst, a, b, (int32_t)pred);
}

static inline void emit_cmpsd_xxxi(struct emit *e, enum host_xmm dst, enum host_xmm a, enum host_xmm b,
                                   enum host_cmp pred)
{
    emit_sse_binary(e, 0xc2 | EMIT_F2 | EMIT_0F | EMIT_IMM(1), dst, a, b, (int32_t)pred);
}

/* Carry-less product of two 64-bit halves (host_features.clmul): bit 0 of halves chooses a's, bit 4 chooses
 * b's. */
static inline void emit_pclmulqdq_xxxi(struct emit *e, enum host_xmm dst, enum host_xmm a, enum host_xmm b,
                                       unsigned halves)
{
    emit_sse_binary(e, 0x44 | EMIT_66 | EMIT_0F3A | EMIT_IMM(1), dst, a, b, (int32_t)halves);
}

/* --- Unsigned conversions (host_features.avx512f); size: 32, 64 --- */

#define EMIT_FROM_UNSIGNED(name, d)                                                                          \
    static inline void emit_##name##_xr(struct emit *e, unsigned size, enum host_xmm dst, enum host_reg src) \
    {                                                                                                        \
        emit_rr(e, (d) | EMIT_EVEX | EMIT_0F | emit_wide(size), dst, dst, src, 0);                           \
    }                                                                                                        \
    static inline void emit_##name##_xm(struct emit *e, unsigned size, enum host_xmm dst,                    \
                                        struct host_mem src)                                                 \
    {                                                                                                        \
        emit_rm(e, (d) | EMIT_EVEX | EMIT_0F | emit_wide(size) | EMIT_N(size == 64 ? 3 : 2), dst, dst, src,  \
                0);                                                                                          \
    }
EMIT_FROM_UNSIGNED(vcvtusi2ss, 0x7b | EMIT_F3)
EMIT_FROM_UNSIGNED(vcvtusi2sd, 0x7b | EMIT_F2)
#undef EMIT_FROM_UNSIGNED

/* log2: of the source element's bytes */
#define EMIT_TO_UNSIGNED(name, d, log2)                                                                      \
    static inline void emit_##name##_rx(struct emit *e, unsigned size, enum host_reg dst, enum host_xmm src) \
    {                                                                                                        \
        emit_rr(e, (d) | EMIT_EVEX | EMIT_0F | emit_wide(size), dst, 0, src, 0);                             \
    }                                                                                                        \
    static inline void emit_##name##_rm(struct emit *e, unsigned size, enum host_reg dst,                    \
                                        struct host_mem src)                                                 \
    {                                                                                                        \
        emit_rm(e, (d) | EMIT_EVEX | EMIT_0F | emit_wide(size) | EMIT_N(log2), dst, 0, src, 0);              \
    }
EMIT_TO_UNSIGNED(vcvttss2usi, 0x78 | EMIT_F3, 2)
EMIT_TO_UNSIGNED(vcvttsd2usi, 0x78 | EMIT_F2, 3)
EMIT_TO_UNSIGNED(vcvtss2usi, 0x79 | EMIT_F3, 2)
EMIT_TO_UNSIGNED(vcvtsd2usi, 0x79 | EMIT_F2, 3)
#undef EMIT_TO_UNSIGNED

/* --- State --- */

/* MXCSR from and to 32 bits of memory. */
static inline void emit_ldmxcsr_m(struct emit *e, struct host_mem m)
{
    emit_rm(e, 0xae | EMIT_0F, 2, 0, m, 0);
}

static inline void emit_stmxcsr_m(struct emit *e, struct host_mem m)
{
    emit_rm(e, 0xae | EMIT_0F, 3, 0, m, 0);
}

/* Before legacy SSE code runs (host_features.avx): clears the upper halves of the YMM registers. */
static inline void emit_vzeroupper(struct emit *e)
{
    emit_bytes(e, 0x77f8c5, 3);
}

#endif
