/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Three-operand instructions for hosts that have two operands. */
#include "engine/x86_64/emit_sse.h"

static void move_legacy(struct emit *e, enum host_xmm dst, enum host_xmm src)
{
    if (dst != src)
        emit_rr(e, 0x28 | EMIT_0F, dst, 0, src, 0); /* MOVAPS */
}

void emit_sse_binary(struct emit *e, uint32_t d, enum host_xmm dst, enum host_xmm a, enum host_xmm b,
                     int32_t imm)
{
    if (e->avx) {
        emit_rr(e, d | EMIT_VEX, dst, a, b, imm);
        return;
    }
    if (dst == b && a != b) { /* b must survive the move of a */
        move_legacy(e, EMIT_SSE_SCRATCH, b);
        b = EMIT_SSE_SCRATCH;
    }
    move_legacy(e, dst, a);
    emit_rr(e, d, dst, 0, b, imm);
}

void emit_sse_binary_m(struct emit *e, uint32_t d, enum host_xmm dst, enum host_xmm a, struct host_mem b,
                       int32_t imm)
{
    if (e->avx) {
        emit_rm(e, d | EMIT_VEX, dst, a, b, imm);
        return;
    }
    move_legacy(e, dst, a);
    emit_rm(e, d, dst, 0, b, imm);
}
