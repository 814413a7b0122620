/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The encoder: prefixes, ModRM, SIB, displacement, immediate. See emit_core.h for the theory of operation. */
#include "engine/x86_64/emit.h"

#include <string.h>

#define likely(x) __builtin_expect(!!(x), 1)

static bool room(struct emit *e)
{
    if (likely(e->end - e->at >= EMIT_ROOM))
        return true;
    e->overflow = true;
    return false;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, 4);
    return p + 4;
}

/* Fourth bits of the operands, as REX and VEX order them: R, X, B. */
static unsigned rxb(unsigned reg, unsigned index, unsigned base)
{
    return (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);
}

/*
 * Prefixes, REX and opcode of an instruction without VEX. Every byte that may be wanted is stored, and `p`
 * passes over it only if it is: no branches.
 */
static uint8_t *put_legacy(uint8_t *p, uint32_t d, unsigned ext, unsigned rex)
{
    unsigned pp = d >> 8 & 3, map = d >> 10 & 3;

    *p = 0xf0;
    p += (d & EMIT_LOCK) != 0;
    *p = 0x66;
    p += (d & EMIT_O16) != 0;
    *p = (uint8_t)(0xf2f36600u >> pp * 8);
    p += pp != 0;
    rex |= ext | (d & EMIT_W) >> 9;
    *p = (uint8_t)(0x40 | rex);
    p += rex != 0;
    *p = 0x0f;
    p += map != 0;
    *p = (uint8_t)(0x34 + 2 * map); /* 38 or 3a */
    p += map >> 1;
    *p++ = (uint8_t)d;
    return p;
}

/* VEX or EVEX prefix and opcode. The registers' fourth bits and vvvv are stored inverted. */
static uint8_t *put_vex(uint8_t *p, uint32_t d, unsigned ext, unsigned v)
{
    unsigned pp = d >> 8 & 3, map = d >> 10 & 3, w = (d & EMIT_W) != 0;
    unsigned vvvv = (~v & 15) << 3;

    if (d & EMIT_EVEX) { /* scalar, unmasked, registers 0 to 15 */
        *p++ = 0x62;
        *p++ = (uint8_t)((~ext & 7) << 5 | 0x10 | map);
        *p++ = (uint8_t)(w << 7 | vvvv | 4 | pp);
        *p++ = 8;
    } else if (map == 1 && !w && !(ext & 3)) {
        *p++ = 0xc5;
        *p++ = (uint8_t)((~ext & 4) << 5 | vvvv | pp);
    } else {
        *p++ = 0xc4;
        *p++ = (uint8_t)((~ext & 7) << 5 | map);
        *p++ = (uint8_t)(w << 7 | vvvv | pp);
    }
    *p++ = (uint8_t)d;
    return p;
}

/* SPL, BPL, SIL and DIL are AH to BH unless there is a REX prefix. Returns the bit that forces one, outside
 * its fields. */
static unsigned byte_rex(uint32_t d, unsigned reg, unsigned rm)
{
    return ((d & EMIT_BYTE_REG) && reg - 4 < 4) || ((d & EMIT_BYTE_RM) && rm - 4 < 4) ? 0x40 : 0;
}

void emit_rr(struct emit *e, uint32_t d, unsigned reg, unsigned v, unsigned rm, int32_t imm)
{
    uint8_t *p = e->at;
    unsigned ext = rxb(reg, 0, rm);

    if (!room(e))
        return;
    if (d & (EMIT_VEX | EMIT_EVEX))
        p = put_vex(p, d, ext, v);
    else
        p = put_legacy(p, d, ext, byte_rex(d, reg, rm));
    *p++ = (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7));
    put32(p, (uint32_t)imm);
    e->at = p + (d >> 16 & 7);
}

void emit_label_field(struct emit *e, struct emit_label *label, uint8_t *field, unsigned trail)
{
    uint32_t offset = (uint32_t)(field - e->start);

    if (label->bound) {
        put32(field, label->bound - 1 - (offset + 4 + trail));
    } else {
        put32(field, label->far);
        label->far = (offset + 1) << 3 | trail;
    }
}

/* The difference from `from` to `target` as a 32-bit displacement. */
static uint32_t reach(struct emit *e, uint64_t from, uint64_t target)
{
    int64_t rel = (int64_t)(target - from);

    if (rel != (int32_t)rel)
        e->unreached = true;
    return (uint32_t)rel;
}

/* ModRM and displacement of operands without a base register. */
static uint8_t *put_mem_special(struct emit *e, uint8_t *p, unsigned reg, struct host_mem m, unsigned trail)
{
    uint8_t modrm = (uint8_t)((reg & 7) << 3);

    switch (m.base) {
    case EMIT_BASE_RIP: *p++ = modrm | 5; return put32(p, reach(e, emit_rx_of(e, p + 4 + trail), m.target));
    case EMIT_BASE_LABEL:
        *p++ = modrm | 5;
        emit_label_field(e, m.label, p, trail);
        return p + 4;
    default:
        *p++ = modrm | 4;
        *p++ = (uint8_t)(m.shift << 6 | (m.index & 7) << 3 | 5);
        return put32(p, (uint32_t)m.disp);
    }
}

/* ModRM, SIB and displacement. Base fields 4 (RSP, R12) want a SIB, 5 (RBP, R13) a displacement. */
static uint8_t *put_mem(uint8_t *p, uint32_t d, unsigned reg, struct host_mem m)
{
    unsigned base = m.base & 7, mod;
    bool sib = m.index != HOST_RSP || base == 4;
    int32_t disp = m.disp;

    if (d & EMIT_EVEX) {
        unsigned log2 = d >> 26 & 7;
        int32_t scaled = disp >> log2;
        bool small = (disp & ((1 << log2) - 1)) == 0 && scaled == (int8_t)scaled;

        mod = small ? 1 : 2;
        disp = small ? scaled : disp;
    } else {
        mod = disp == (int8_t)disp ? 1 : 2;
    }
    mod = disp == 0 && base != 5 ? 0 : mod;
    *p++ = (uint8_t)(mod << 6 | (reg & 7) << 3 | (sib ? 4 : base));
    *p = (uint8_t)(m.shift << 6 | (m.index & 7) << 3 | base);
    p += sib;
    put32(p, (uint32_t)disp);
    return p + (0x410 >> mod * 4 & 7);
}

void emit_rm(struct emit *e, uint32_t d, unsigned reg, unsigned v, struct host_mem m, int32_t imm)
{
    uint8_t *p = e->at;
    unsigned trail = d >> 16 & 7;
    unsigned ext;

    if (!room(e))
        return;
    /* EMIT_BASE_* have no bit 3, and no index at zero is HOST_RAX. */
    ext = rxb(reg, m.index, m.base);
    if (d & (EMIT_VEX | EMIT_EVEX))
        p = put_vex(p, d, ext, v);
    else
        p = put_legacy(p, d, ext, byte_rex(d & ~EMIT_BYTE_RM, reg, 0));
    if (likely(m.base < EMIT_BASE_NONE))
        p = put_mem(p, d, reg, m);
    else
        p = put_mem_special(e, p, reg, m, trail);
    put32(p, (uint32_t)imm);
    e->at = p + trail;
}

void emit_opreg(struct emit *e, uint32_t d, unsigned reg, uint64_t imm)
{
    uint8_t *p = e->at;

    if (!room(e))
        return;
    p = put_legacy(p, d, rxb(0, 0, reg), byte_rex(d, reg, 0));
    p[-1] |= reg & 7;
    memcpy(p, &imm, 8);
    e->at = p + (d >> 16 & 15);
}

void emit_bytes(struct emit *e, uint64_t bytes, unsigned n)
{
    if (!room(e))
        return;
    memcpy(e->at, &bytes, 8);
    e->at += n;
}

/* --- Forms that depend on the immediate --- */

/* The immediate sign-extended from the operand's size: what the processor makes of it. */
static int32_t imm_of_size(unsigned size, int32_t imm)
{
    return size == 8 ? (int8_t)imm : size == 16 ? (int16_t)imm : imm;
}

/* Opcode and immediate size of an operation of group 1 (80, 81, 83) with an immediate. */
static uint32_t alu_imm(unsigned size, int32_t imm)
{
    if (size != 8 && imm == (int8_t)imm)
        return 0x82 | emit_group(size) | EMIT_IMM(1);
    return 0x80 | emit_group(size) | emit_imm_size(size);
}

void emit_alu_ri(struct emit *e, enum host_alu op, unsigned size, enum host_reg dst, int32_t imm)
{
    uint32_t d;

    imm = imm_of_size(size, imm);
    d = alu_imm(size, imm);
    if (dst == HOST_RAX && (d & 0xff) != 0x83) /* RAX has an opcode of its own, without ModRM */
        emit_opreg(e, (unsigned)op << 3 | 4 | emit_group(size) | emit_imm_size(size), 0, (uint32_t)imm);
    else
        emit_rr(e, d, op, 0, dst, imm);
}

void emit_alu_mi(struct emit *e, enum host_alu op, unsigned size, struct host_mem dst, int32_t imm)
{
    imm = imm_of_size(size, imm);
    emit_rm(e, alu_imm(size, imm), op, 0, dst, imm);
}

void emit_lock_alu_mi(struct emit *e, enum host_alu op, unsigned size, struct host_mem dst, int32_t imm)
{
    imm = imm_of_size(size, imm);
    emit_rm(e, alu_imm(size, imm) | EMIT_LOCK, op, 0, dst, imm);
}

void emit_test_ri(struct emit *e, unsigned size, enum host_reg a, int32_t imm)
{
    if (a == HOST_RAX)
        emit_opreg(e, 0xa8 | emit_group(size) | emit_imm_size(size), 0, (uint32_t)imm);
    else
        emit_rr(e, 0xf6 | emit_group(size) | emit_imm_size(size), 0, 0, a, imm);
}

void emit_mov_ri(struct emit *e, unsigned size, enum host_reg dst, uint64_t imm)
{
    if (size == 8)
        emit_opreg(e, 0xb0 | EMIT_BYTE_REG | EMIT_IMM(1), dst, imm);
    else if (size == 16)
        emit_opreg(e, 0xb8 | EMIT_O16 | EMIT_IMM(2), dst, imm);
    else if (size == 32 || imm == (uint32_t)imm)
        emit_opreg(e, 0xb8 | EMIT_IMM(4), dst, imm);
    else if (imm == (uint64_t)(int64_t)(int32_t)imm)
        emit_rr(e, 0xc7 | EMIT_W | EMIT_IMM(4), 0, 0, dst, (int32_t)imm);
    else
        emit_opreg(e, 0xb8 | EMIT_W | EMIT_IMM(8), dst, imm);
}
