/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A few RISC-V encoders, enough for the programs of these tests (unprivileged specification, chapters 2 and
 * 24). */
#ifndef HOSTEL_TESTS_ACCEL_RV_ASM_H
#define HOSTEL_TESTS_ACCEL_RV_ASM_H

#include <glib.h>
#include <stdint.h>

enum {
    ZERO,
    RA,
    SP,
    GP,
    TP,
    T0,
    T1,
    T2,
    S0,
    S1,
    A0,
    A1,
    A2,
    A3,
    A4,
    A5,
    A6,
    A7,
    S2,
    S3,
    S4,
    S5,
    S6,
    S7,
    S8,
    S9,
    S10,
    S11,
    T3,
    T4,
    T5,
    T6
};
enum { BEQ = 0, BNE = 1, BLT = 4, BGE = 5, BLTU = 6, BGEU = 7 };
enum {
    CSR_SIE = 0x104,
    CSR_STVEC = 0x105,
    CSR_SCAUSE = 0x142,
    CSR_SIP = 0x144,
    CSR_STIMECMP = 0x14d,
    CSR_TIME = 0xc01,
    CSR_SSTATUS = 0x100,
    CSR_MIE = 0x304,
    CSR_MIP = 0x344
};

/* A program under construction: words at consecutive addresses from base. */
struct rv {
    uint64_t base;
    unsigned n;
    uint32_t word[4096];
};

static inline uint64_t rv_here(const struct rv *p)
{
    return p->base + 4 * p->n;
}

static inline void rv(struct rv *p, uint32_t word)
{
    g_assert_cmpuint(p->n, <, G_N_ELEMENTS(p->word));
    p->word[p->n++] = word;
}

static inline uint32_t rv_i(unsigned op, unsigned f3, unsigned rd, unsigned rs1, int imm)
{
    return (uint32_t)imm << 20 | rs1 << 15 | f3 << 12 | rd << 7 | op;
}
static inline uint32_t rv_r(unsigned op, unsigned f3, unsigned f7, unsigned rd, unsigned rs1, unsigned rs2)
{
    return (uint32_t)f7 << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | rd << 7 | op;
}
static inline uint32_t rv_s(unsigned f3, unsigned rs2, unsigned rs1, int imm)
{
    uint32_t u = (uint32_t)imm;
    return (u >> 5 & 127) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | (u & 31) << 7 | 0x23;
}
static inline uint32_t rv_jal(unsigned rd, int64_t offset)
{
    uint32_t u = (uint32_t)offset;
    return (u >> 20 & 1) << 31 | (u >> 1 & 1023) << 21 | (u >> 11 & 1) << 20 | (u >> 12 & 255) << 12 |
           rd << 7 | 0x6f;
}
static inline uint32_t rv_b(unsigned f3, unsigned rs1, unsigned rs2, int64_t offset)
{
    uint32_t u = (uint32_t)offset;
    return (u >> 12 & 1) << 31 | (u >> 5 & 63) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | (u >> 1 & 15) << 8 |
           (u >> 11 & 1) << 7 | 0x63;
}

#define ADDI(rd, rs, imm) rv_i(0x13, 0, rd, rs, imm)
#define ANDI(rd, rs, imm) rv_i(0x13, 7, rd, rs, imm)
#define XORI(rd, rs, imm) rv_i(0x13, 4, rd, rs, imm)
#define SLLI(rd, rs, n) rv_i(0x13, 1, rd, rs, n)
#define SRLI(rd, rs, n) rv_i(0x13, 5, rd, rs, n)
#define ADD(rd, a, b) rv_r(0x33, 0, 0, rd, a, b)
#define SUB(rd, a, b) rv_r(0x33, 0, 0x20, rd, a, b)
#define OR(rd, a, b) rv_r(0x33, 6, 0, rd, a, b)
#define XOR(rd, a, b) rv_r(0x33, 4, 0, rd, a, b)
#define MUL(rd, a, b) rv_r(0x33, 0, 1, rd, a, b)
#define LHU(rd, rs, o) rv_i(0x03, 5, rd, rs, o)
#define LW(rd, rs, o) rv_i(0x03, 2, rd, rs, o)
#define LD(rd, rs, o) rv_i(0x03, 3, rd, rs, o)
#define SH(v, rs, o) rv_s(1, v, rs, o)
#define SW(v, rs, o) rv_s(2, v, rs, o)
#define SD(v, rs, o) rv_s(3, v, rs, o)
#define AMOADD_D(rd, v, rs) rv_r(0x2f, 3, 0, rd, rs, v)
#define AMOSWAP_D(rd, v, rs) rv_r(0x2f, 3, 1 << 2, rd, rs, v)
#define JALR(rd, rs) rv_i(0x67, 0, rd, rs, 0)
#define RET() JALR(ZERO, RA)
#define FENCE() 0x0ff0000fu
#define FENCE_I() 0x0000100fu
#define SFENCE(va, asid) rv_r(0x73, 0, 9, 0, va, asid)
#define ECALL() 0x00000073u
#define WFI() 0x10500073u
#define SRET() 0x10200073u
#define CSRRW(rd, csr, rs) rv_i(0x73, 1, rd, rs, csr)
#define CSRRS(rd, csr, rs) rv_i(0x73, 2, rd, rs, csr)
#define CSRRC(rd, csr, rs) rv_i(0x73, 3, rd, rs, csr)

/* Any value of 32 bits with sign. */
static inline void rv_li(struct rv *p, unsigned rd, int64_t v)
{
    uint32_t high = (uint32_t)(v + 0x800) & 0xfffff000u;
    rv(p, high | rd << 7 | 0x37);
    rv(p, rv_i(0x1b, 0, rd, rd, (int)((uint32_t)v - high)));
}
static inline void rv_branch(struct rv *p, unsigned f3, unsigned a, unsigned b, uint64_t to)
{
    rv(p, rv_b(f3, a, b, (int64_t)(to - rv_here(p))));
}
static inline void rv_jump(struct rv *p, unsigned rd, uint64_t to)
{
    rv(p, rv_jal(rd, (int64_t)(to - rv_here(p))));
}
/* A place for a jump forward, filled in by rv_land(). */
static inline unsigned rv_hole(struct rv *p)
{
    rv(p, 0);
    return p->n - 1;
}
static inline void rv_land_branch(struct rv *p, unsigned hole, unsigned f3, unsigned a, unsigned b)
{
    p->word[hole] = rv_b(f3, a, b, 4 * ((int64_t)p->n - hole));
}

#endif
