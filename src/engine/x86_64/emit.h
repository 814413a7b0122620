/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The x86-64 emitter's integer instructions: emit_<instruction>_<operands>, one function per form. */
/*
 * Operands, destination first: r register, m memory, i immediate, c the CL register. `size` is the operand
 * size in bits: 8, 16, 32 or 64 unless said otherwise. As the processor has it, 32-bit results clear the
 * upper half of the register, 8- and 16-bit results keep the rest. Immediates are sign-extended to the
 * operand size. Each function emits one instruction, in its shortest form; flags are as the instruction
 * leaves them. Meaning: Intel SDM volume 2, the instruction's page.
 */
#ifndef HOSTEL_ENGINE_X86_64_EMIT_H
#define HOSTEL_ENGINE_X86_64_EMIT_H

#include "engine/x86_64/emit_core.h"

/* --- Moves --- */

static inline void emit_mov_rr(struct emit *e, unsigned size, enum host_reg dst, enum host_reg src)
{
    emit_rr(e, 0x88 | emit_size(size), src, 0, dst, 0);
}

static inline void emit_mov_rm(struct emit *e, unsigned size, enum host_reg dst, struct host_mem src)
{
    emit_rm(e, 0x8a | emit_size(size), dst, 0, src, 0);
}

static inline void emit_mov_mr(struct emit *e, unsigned size, struct host_mem dst, enum host_reg src)
{
    emit_rm(e, 0x88 | emit_size(size), src, 0, dst, 0);
}

/* imm as an unsigned number of `size` bits; what is above is ignored. Flags are kept: zero is no XOR. */
void emit_mov_ri(struct emit *e, unsigned size, enum host_reg dst, uint64_t imm);

static inline void emit_mov_mi(struct emit *e, unsigned size, struct host_mem dst, int32_t imm)
{
    emit_rm(e, 0xc6 | emit_group(size) | emit_imm_size(size), 0, 0, dst, imm);
}

/* Zero extension from `from` bits (8, 16, 32) to 64. */
static inline void emit_movzx_rr(struct emit *e, unsigned from, enum host_reg dst, enum host_reg src)
{
    if (from == 32)
        emit_mov_rr(e, 32, dst, src);
    else
        emit_rr(e, (from == 8 ? 0xb6 | EMIT_BYTE_RM : 0xb7) | EMIT_0F, dst, 0, src, 0);
}

static inline void emit_movzx_rm(struct emit *e, unsigned from, enum host_reg dst, struct host_mem src)
{
    if (from == 32)
        emit_mov_rm(e, 32, dst, src);
    else
        emit_rm(e, (from == 8 ? 0xb6 : 0xb7) | EMIT_0F, dst, 0, src, 0);
}

/* The description of a sign extension from `from` bits to `size`. */
static inline uint32_t emit_movsx_desc(unsigned size, unsigned from)
{
    return from == 8    ? 0xbe | EMIT_0F | EMIT_BYTE_RM | emit_wide(size)
           : from == 16 ? 0xbf | EMIT_0F | emit_wide(size)
                        : 0x63 | EMIT_W;
}

/* Sign extension from `from` bits to `size` (32 or 64), which is more; 32 to 64 is MOVSXD. */
static inline void emit_movsx_rr(struct emit *e, unsigned size, unsigned from, enum host_reg dst,
                                 enum host_reg src)
{
    emit_rr(e, emit_movsx_desc(size, from), dst, 0, src, 0);
}

static inline void emit_movsx_rm(struct emit *e, unsigned size, unsigned from, enum host_reg dst,
                                 struct host_mem src)
{
    emit_rm(e, emit_movsx_desc(size, from), dst, 0, src, 0);
}

/* size: 32, 64 */
static inline void emit_lea(struct emit *e, unsigned size, enum host_reg dst, struct host_mem src)
{
    emit_rm(e, 0x8d | emit_wide(size), dst, 0, src, 0);
}

/* With memory, an atomic exchange. */
static inline void emit_xchg_rr(struct emit *e, unsigned size, enum host_reg a, enum host_reg b)
{
    emit_rr(e, 0x86 | emit_size(size), b, 0, a, 0);
}

static inline void emit_xchg_mr(struct emit *e, unsigned size, struct host_mem m, enum host_reg r)
{
    emit_rm(e, 0x86 | emit_size(size), r, 0, m, 0);
}

static inline void emit_push_r(struct emit *e, enum host_reg r)
{
    emit_opreg(e, 0x50, r, 0);
}

static inline void emit_pop_r(struct emit *e, enum host_reg r)
{
    emit_opreg(e, 0x58, r, 0);
}

static inline void emit_push_m(struct emit *e, struct host_mem m)
{
    emit_rm(e, 0xff, 6, 0, m, 0);
}

static inline void emit_pop_m(struct emit *e, struct host_mem m)
{
    emit_rm(e, 0x8f, 0, 0, m, 0);
}

static inline void emit_push_i(struct emit *e, int32_t imm)
{
    if (imm == (int8_t)imm)
        emit_bytes(e, 0x6a | (uint64_t)(uint8_t)imm << 8, 2);
    else
        emit_bytes(e, 0x68 | (uint64_t)(uint32_t)imm << 8, 5);
}

/* --- Arithmetic of two operands --- */

/* In the order of their encoding. */
enum host_alu { HOST_ADD, HOST_OR, HOST_ADC, HOST_SBB, HOST_AND, HOST_SUB, HOST_XOR, HOST_CMP };

static inline void emit_alu_rr(struct emit *e, enum host_alu op, unsigned size, enum host_reg dst,
                               enum host_reg src)
{
    emit_rr(e, (unsigned)op << 3 | emit_size(size), src, 0, dst, 0);
}

static inline void emit_alu_rm(struct emit *e, enum host_alu op, unsigned size, enum host_reg dst,
                               struct host_mem src)
{
    emit_rm(e, (unsigned)op << 3 | 2 | emit_size(size), dst, 0, src, 0);
}

static inline void emit_alu_mr(struct emit *e, enum host_alu op, unsigned size, struct host_mem dst,
                               enum host_reg src)
{
    emit_rm(e, (unsigned)op << 3 | emit_size(size), src, 0, dst, 0);
}

void emit_alu_ri(struct emit *e, enum host_alu op, unsigned size, enum host_reg dst, int32_t imm);
void emit_alu_mi(struct emit *e, enum host_alu op, unsigned size, struct host_mem dst, int32_t imm);

/* The same by name: emit_add_rr(e, size, dst, src) and so on, for add or adc sbb and sub xor cmp. */
#define EMIT_ALU(name, op)                                                                                   \
    static inline void emit_##name##_rr(struct emit *e, unsigned size, enum host_reg dst, enum host_reg src) \
    {                                                                                                        \
        emit_alu_rr(e, op, size, dst, src);                                                                  \
    }                                                                                                        \
    static inline void emit_##name##_rm(struct emit *e, unsigned size, enum host_reg dst,                    \
                                        struct host_mem src)                                                 \
    {                                                                                                        \
        emit_alu_rm(e, op, size, dst, src);                                                                  \
    }                                                                                                        \
    static inline void emit_##name##_mr(struct emit *e, unsigned size, struct host_mem dst,                  \
                                        enum host_reg src)                                                   \
    {                                                                                                        \
        emit_alu_mr(e, op, size, dst, src);                                                                  \
    }                                                                                                        \
    static inline void emit_##name##_ri(struct emit *e, unsigned size, enum host_reg dst, int32_t imm)       \
    {                                                                                                        \
        emit_alu_ri(e, op, size, dst, imm);                                                                  \
    }                                                                                                        \
    static inline void emit_##name##_mi(struct emit *e, unsigned size, struct host_mem dst, int32_t imm)     \
    {                                                                                                        \
        emit_alu_mi(e, op, size, dst, imm);                                                                  \
    }
EMIT_ALU(add, HOST_ADD)
EMIT_ALU(or, HOST_OR)
EMIT_ALU(adc, HOST_ADC)
EMIT_ALU(sbb, HOST_SBB)
EMIT_ALU(and, HOST_AND)
EMIT_ALU(sub, HOST_SUB)
EMIT_ALU(xor, HOST_XOR)
EMIT_ALU(cmp, HOST_CMP)
#undef EMIT_ALU

static inline void emit_test_rr(struct emit *e, unsigned size, enum host_reg a, enum host_reg b)
{
    emit_rr(e, 0x84 | emit_size(size), b, 0, a, 0);
}

static inline void emit_test_mr(struct emit *e, unsigned size, struct host_mem a, enum host_reg b)
{
    emit_rm(e, 0x84 | emit_size(size), b, 0, a, 0);
}

void emit_test_ri(struct emit *e, unsigned size, enum host_reg a, int32_t imm);

static inline void emit_test_mi(struct emit *e, unsigned size, struct host_mem a, int32_t imm)
{
    emit_rm(e, 0xf6 | emit_group(size) | emit_imm_size(size), 0, 0, a, imm);
}

/* --- Arithmetic of one operand, multiplication, division --- */

/* Opcode f6 or f7 and ModRM.reg. MUL and IMUL: RDX:RAX = RAX * operand; DIV and IDIV: RAX, RDX = RDX:RAX /
 * operand. */
enum host_unary { HOST_NOT = 2, HOST_NEG, HOST_MUL, HOST_IMUL, HOST_DIV, HOST_IDIV };

#define EMIT_UNARY(name, opcode, ext)                                                                        \
    static inline void emit_##name##_r(struct emit *e, unsigned size, enum host_reg r)                       \
    {                                                                                                        \
        emit_rr(e, (opcode) | emit_group(size), (ext), 0, r, 0);                                             \
    }                                                                                                        \
    static inline void emit_##name##_m(struct emit *e, unsigned size, struct host_mem m)                     \
    {                                                                                                        \
        emit_rm(e, (opcode) | emit_group(size), (ext), 0, m, 0);                                             \
    }
EMIT_UNARY(not, 0xf6, HOST_NOT)
EMIT_UNARY(neg, 0xf6, HOST_NEG)
EMIT_UNARY(mul, 0xf6, HOST_MUL)
EMIT_UNARY(imul, 0xf6, HOST_IMUL)
EMIT_UNARY(div, 0xf6, HOST_DIV)
EMIT_UNARY(idiv, 0xf6, HOST_IDIV)
EMIT_UNARY(inc, 0xfe, 0)
EMIT_UNARY(dec, 0xfe, 1)
#undef EMIT_UNARY

/* RDX = the sign of RAX: CWD, CDQ, CQO for 16, 32, 64. In front of IDIV. */
static inline void emit_cdq(struct emit *e, unsigned size)
{
    if (size == 32)
        emit_bytes(e, 0x99, 1);
    else
        emit_bytes(e, size == 64 ? 0x9948 : 0x9966, 2);
}

/* dst *= src; size: 16, 32, 64 */
static inline void emit_imul_rr(struct emit *e, unsigned size, enum host_reg dst, enum host_reg src)
{
    emit_rr(e, 0xaf | EMIT_0F | emit_wide(size), dst, 0, src, 0);
}

static inline void emit_imul_rm(struct emit *e, unsigned size, enum host_reg dst, struct host_mem src)
{
    emit_rm(e, 0xaf | EMIT_0F | emit_wide(size), dst, 0, src, 0);
}

/* dst = src * imm; size: 16, 32, 64 */
static inline void emit_imul_rri(struct emit *e, unsigned size, enum host_reg dst, enum host_reg src,
                                 int32_t imm)
{
    bool small = imm == (int8_t)imm;

    emit_rr(e, (small ? 0x6b | EMIT_IMM(1) : 0x69 | emit_imm_size(size)) | emit_wide(size), dst, 0, src, imm);
}

static inline void emit_imul_rmi(struct emit *e, unsigned size, enum host_reg dst, struct host_mem src,
                                 int32_t imm)
{
    bool small = imm == (int8_t)imm;

    emit_rm(e, (small ? 0x6b | EMIT_IMM(1) : 0x69 | emit_imm_size(size)) | emit_wide(size), dst, 0, src, imm);
}

/* --- Shifts --- */

/* In the order of their encoding. */
enum host_shift { HOST_ROL, HOST_ROR, HOST_RCL, HOST_RCR, HOST_SHL, HOST_SHR, HOST_SAR = 7 };

/* By `count` modulo 32, or 64 when size is 64. */
static inline void emit_shift_ri(struct emit *e, enum host_shift op, unsigned size, enum host_reg r,
                                 unsigned count)
{
    if (count == 1)
        emit_rr(e, 0xd0 | emit_group(size), op, 0, r, 0);
    else
        emit_rr(e, 0xc0 | emit_group(size) | EMIT_IMM(1), op, 0, r, (int32_t)count);
}

static inline void emit_shift_mi(struct emit *e, enum host_shift op, unsigned size, struct host_mem m,
                                 unsigned count)
{
    if (count == 1)
        emit_rm(e, 0xd0 | emit_group(size), op, 0, m, 0);
    else
        emit_rm(e, 0xc0 | emit_group(size) | EMIT_IMM(1), op, 0, m, (int32_t)count);
}

static inline void emit_shift_rc(struct emit *e, enum host_shift op, unsigned size, enum host_reg r)
{
    emit_rr(e, 0xd2 | emit_group(size), op, 0, r, 0);
}

static inline void emit_shift_mc(struct emit *e, enum host_shift op, unsigned size, struct host_mem m)
{
    emit_rm(e, 0xd2 | emit_group(size), op, 0, m, 0);
}

/* The same by name: emit_shl_ri(e, size, r, count), emit_shl_rc(e, size, r), for rol ror rcl rcr shl shr sar.
 */
#define EMIT_SHIFT(name, op)                                                                                 \
    static inline void emit_##name##_ri(struct emit *e, unsigned size, enum host_reg r, unsigned count)      \
    {                                                                                                        \
        emit_shift_ri(e, op, size, r, count);                                                                \
    }                                                                                                        \
    static inline void emit_##name##_rc(struct emit *e, unsigned size, enum host_reg r)                      \
    {                                                                                                        \
        emit_shift_rc(e, op, size, r);                                                                       \
    }
EMIT_SHIFT(rol, HOST_ROL)
EMIT_SHIFT(ror, HOST_ROR)
EMIT_SHIFT(rcl, HOST_RCL)
EMIT_SHIFT(rcr, HOST_RCR)
EMIT_SHIFT(shl, HOST_SHL)
EMIT_SHIFT(shr, HOST_SHR)
EMIT_SHIFT(sar, HOST_SAR)
#undef EMIT_SHIFT

/* --- BMI1 and BMI2 (host_features.bmi1, .bmi2); size: 32, 64; no flags except ANDN's --- */

/* dst = src shifted by the register count, modulo size. */
#define EMIT_SHIFTX(name, prefix)                                                                            \
    static inline void emit_##name##_rrr(struct emit *e, unsigned size, enum host_reg dst,                   \
                                         enum host_reg src, enum host_reg count)                             \
    {                                                                                                        \
        emit_rr(e, 0xf7 | EMIT_VEX | EMIT_0F38 | (prefix) | emit_wide(size), dst, count, src, 0);            \
    }                                                                                                        \
    static inline void emit_##name##_rmr(struct emit *e, unsigned size, enum host_reg dst,                   \
                                         struct host_mem src, enum host_reg count)                           \
    {                                                                                                        \
        emit_rm(e, 0xf7 | EMIT_VEX | EMIT_0F38 | (prefix) | emit_wide(size), dst, count, src, 0);            \
    }
EMIT_SHIFTX(shlx, EMIT_66)
EMIT_SHIFTX(sarx, EMIT_F3)
EMIT_SHIFTX(shrx, EMIT_F2)
#undef EMIT_SHIFTX

/* dst = src rotated right by count. */
static inline void emit_rorx_rri(struct emit *e, unsigned size, enum host_reg dst, enum host_reg src,
                                 unsigned count)
{
    emit_rr(e, 0xf0 | EMIT_VEX | EMIT_0F3A | EMIT_F2 | EMIT_IMM(1) | emit_wide(size), dst, 0, src,
            (int32_t)count);
}

/* dst = ~a & b */
static inline void emit_andn_rrr(struct emit *e, unsigned size, enum host_reg dst, enum host_reg a,
                                 enum host_reg b)
{
    emit_rr(e, 0xf2 | EMIT_VEX | EMIT_0F38 | emit_wide(size), dst, a, b, 0);
}

static inline void emit_andn_rrm(struct emit *e, unsigned size, enum host_reg dst, enum host_reg a,
                                 struct host_mem b)
{
    emit_rm(e, 0xf2 | EMIT_VEX | EMIT_0F38 | emit_wide(size), dst, a, b, 0);
}

/* high:low = RDX * src */
static inline void emit_mulx_rrr(struct emit *e, unsigned size, enum host_reg high, enum host_reg low,
                                 enum host_reg src)
{
    emit_rr(e, 0xf6 | EMIT_VEX | EMIT_0F38 | EMIT_F2 | emit_wide(size), high, low, src, 0);
}

/* --- Bits --- */

/* size: 32, 64 */
static inline void emit_bswap(struct emit *e, unsigned size, enum host_reg r)
{
    emit_opreg(e, 0xc8 | EMIT_0F | emit_wide(size), r, 0);
}

/* size: 16, 32, 64. LZCNT, TZCNT and POPCNT need their features. BSF and BSR leave dst undefined for zero. */
#define EMIT_COUNT(name, opcode)                                                                             \
    static inline void emit_##name##_rr(struct emit *e, unsigned size, enum host_reg dst, enum host_reg src) \
    {                                                                                                        \
        emit_rr(e, (opcode) | EMIT_0F | emit_wide(size), dst, 0, src, 0);                                    \
    }                                                                                                        \
    static inline void emit_##name##_rm(struct emit *e, unsigned size, enum host_reg dst,                    \
                                        struct host_mem src)                                                 \
    {                                                                                                        \
        emit_rm(e, (opcode) | EMIT_0F | emit_wide(size), dst, 0, src, 0);                                    \
    }
EMIT_COUNT(popcnt, 0xb8 | EMIT_F3)
EMIT_COUNT(tzcnt, 0xbc | EMIT_F3)
EMIT_COUNT(lzcnt, 0xbd | EMIT_F3)
EMIT_COUNT(bsf, 0xbc)
EMIT_COUNT(bsr, 0xbd)
#undef EMIT_COUNT

/* CF = the bit of `r`, which is then kept, set, cleared or turned; bit modulo size; size: 16, 32, 64. */
#define EMIT_BIT(name, ext)                                                                                  \
    static inline void emit_##name##_rr(struct emit *e, unsigned size, enum host_reg r, enum host_reg bit)   \
    {                                                                                                        \
        emit_rr(e, 0x83 | (ext) << 3 | EMIT_0F | emit_wide(size), bit, 0, r, 0);                             \
    }                                                                                                        \
    static inline void emit_##name##_ri(struct emit *e, unsigned size, enum host_reg r, unsigned bit)        \
    {                                                                                                        \
        emit_rr(e, 0xba | EMIT_0F | EMIT_IMM(1) | emit_wide(size), (ext), 0, r, (int32_t)bit);               \
    }                                                                                                        \
    static inline void emit_##name##_mi(struct emit *e, unsigned size, struct host_mem m, unsigned bit)      \
    {                                                                                                        \
        emit_rm(e, 0xba | EMIT_0F | EMIT_IMM(1) | emit_wide(size), (ext), 0, m, (int32_t)bit);               \
    }
EMIT_BIT(bt, 4)
EMIT_BIT(bts, 5)
EMIT_BIT(btr, 6)
EMIT_BIT(btc, 7)
#undef EMIT_BIT

/* --- Conditions --- */

/* The low byte of r = condition. */
static inline void emit_setcc_r(struct emit *e, enum host_cond cond, enum host_reg r)
{
    emit_rr(e, 0x90 | (unsigned)cond | EMIT_0F | EMIT_BYTE_RM, 0, 0, r, 0);
}

static inline void emit_setcc_m(struct emit *e, enum host_cond cond, struct host_mem m)
{
    emit_rm(e, 0x90 | (unsigned)cond | EMIT_0F, 0, 0, m, 0);
}

/* size: 16, 32, 64. With 32, the upper half of dst is cleared whatever the condition. */
static inline void emit_cmovcc_rr(struct emit *e, enum host_cond cond, unsigned size, enum host_reg dst,
                                  enum host_reg src)
{
    emit_rr(e, 0x40 | (unsigned)cond | EMIT_0F | emit_wide(size), dst, 0, src, 0);
}

static inline void emit_cmovcc_rm(struct emit *e, enum host_cond cond, unsigned size, enum host_reg dst,
                                  struct host_mem src)
{
    emit_rm(e, 0x40 | (unsigned)cond | EMIT_0F | emit_wide(size), dst, 0, src, 0);
}

/* --- Atomics and fences --- */

/* op: HOST_ADD, HOST_OR, HOST_AND, HOST_SUB, HOST_XOR (not HOST_CMP) */
static inline void emit_lock_alu_mr(struct emit *e, enum host_alu op, unsigned size, struct host_mem dst,
                                    enum host_reg src)
{
    emit_rm(e, (unsigned)op << 3 | EMIT_LOCK | emit_size(size), src, 0, dst, 0);
}

void emit_lock_alu_mi(struct emit *e, enum host_alu op, unsigned size, struct host_mem dst, int32_t imm);

/* m += r; r = what m was */
static inline void emit_lock_xadd_mr(struct emit *e, unsigned size, struct host_mem m, enum host_reg r)
{
    emit_rm(e, 0xc0 | EMIT_0F | EMIT_LOCK | emit_size(size), r, 0, m, 0);
}

/* If m == RAX, m = r and ZF is set; else RAX = m. */
static inline void emit_lock_cmpxchg_mr(struct emit *e, unsigned size, struct host_mem m, enum host_reg r)
{
    emit_rm(e, 0xb0 | EMIT_0F | EMIT_LOCK | emit_size(size), r, 0, m, 0);
}

/* The same for RDX:RAX and RCX:RBX; m is aligned to 16 (host_features.cx16). */
static inline void emit_lock_cmpxchg16b_m(struct emit *e, struct host_mem m)
{
    emit_rm(e, 0xc7 | EMIT_0F | EMIT_LOCK | EMIT_W, 1, 0, m, 0);
}

static inline void emit_mfence(struct emit *e)
{
    emit_bytes(e, 0xf0ae0f, 3);
}

static inline void emit_lfence(struct emit *e)
{
    emit_bytes(e, 0xe8ae0f, 3);
}

/* A full fence for ordinary memory, faster than MFENCE: LOCK OR dword [rsp], 0. Changes flags. */
static inline void emit_fence(struct emit *e)
{
    emit_lock_alu_mi(e, HOST_OR, 32, host_mem(HOST_RSP, 0), 0);
}

/* --- Control --- */

static inline void emit_jmp_r(struct emit *e, enum host_reg r)
{
    emit_rr(e, 0xff, 4, 0, r, 0);
}

static inline void emit_jmp_m(struct emit *e, struct host_mem m)
{
    emit_rm(e, 0xff, 4, 0, m, 0);
}

static inline void emit_call_r(struct emit *e, enum host_reg r)
{
    emit_rr(e, 0xff, 2, 0, r, 0);
}

static inline void emit_call_m(struct emit *e, struct host_mem m)
{
    emit_rm(e, 0xff, 2, 0, m, 0);
}

static inline void emit_ret(struct emit *e)
{
    emit_bytes(e, 0xc3, 1);
}

/* The trap for what cannot happen. UD2 is not offered: under a hypervisor it may cost ten microseconds. */
static inline void emit_int3(struct emit *e)
{
    emit_bytes(e, 0xcc, 1);
}

static inline void emit_pause(struct emit *e)
{
    emit_bytes(e, 0x90f3, 2);
}

static inline void emit_pushfq(struct emit *e)
{
    emit_bytes(e, 0x9c, 1);
}

static inline void emit_popfq(struct emit *e)
{
    emit_bytes(e, 0x9d, 1);
}

#endif
