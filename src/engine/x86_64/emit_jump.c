/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Jumps, the labels they go to, and what can be redirected while it runs. */
#include "engine/x86_64/emit_core.h"

#include <glib.h>
#include <string.h>

/* Opcodes, as literal bytes, first one lowest. */
#define JMP_SHORT 0xebu
#define JMP_NEAR 0xe9u
#define CALL_NEAR 0xe8u
#define JCC_SHORT(cond) (0x70u | (unsigned)(cond))
#define JCC_NEAR(cond) (0x0fu | (0x80u | (unsigned)(cond)) << 8)

static uint32_t emit_offset(const struct emit *e, const uint8_t *at)
{
    return (uint32_t)(at - e->start);
}

/* --- Binding --- */

/* The 32-bit fields that wait for a label are a list through themselves: give each its displacement. */
static void bind_far(struct emit *e, uint32_t link, uint32_t place)
{
    while (link) {
        uint32_t offset = (link >> 3) - 1;
        uint32_t rel = place - (offset + 4 + (link & 7));

        memcpy(&link, e->start + offset, 4);
        memcpy(e->start + offset, &rel, 4);
    }
}

/* So are the 8-bit fields, which hold the distance to the next older one, or 0. */
static void bind_near(struct emit *e, uint32_t link, uint32_t place)
{
    while (link) {
        uint8_t *field = e->start + link - 1;
        uint32_t rel = place - link;

        link = *field ? link - *field : 0;
        if (rel > INT8_MAX)
            e->unreached = true;
        *field = (uint8_t)rel;
    }
}

void emit_bind(struct emit *e, struct emit_label *label)
{
    uint32_t place = emit_offset(e, e->at);

    bind_far(e, label->far, place);
    bind_near(e, label->near, place);
    *label = (struct emit_label){.bound = place + 1};
}

/* --- Jumps to labels --- */

static void label_field8(struct emit *e, struct emit_label *label, uint8_t *field)
{
    uint32_t link = emit_offset(e, field) + 1;

    if (label->bound) {
        int32_t rel = (int32_t)(label->bound - 1 - link);

        if (rel != (int8_t)rel)
            e->unreached = true;
        *field = (uint8_t)rel;
        return;
    }
    *field = 0;
    if (label->near && link - label->near <= INT8_MAX)
        *field = (uint8_t)(link - label->near);
    else if (label->near)
        e->unreached = true; /* the older ones cannot reach a label that is still to come */
    label->near = link;
}

/* An opcode of n bytes and an 8-bit displacement. */
static void jump_short(struct emit *e, unsigned opcode, struct emit_label *label)
{
    uint8_t *was = e->at;

    emit_bytes(e, opcode, 2);
    if (e->at != was)
        label_field8(e, label, e->at - 1);
}

/* An opcode of n bytes and a 32-bit displacement. Returns the displacement's place, NULL on overflow. */
static uint8_t *jump_near(struct emit *e, unsigned opcode, unsigned n, struct emit_label *label)
{
    uint8_t *was = e->at;

    emit_bytes(e, opcode, n + 4);
    if (e->at == was)
        return NULL;
    emit_label_field(e, label, e->at - 4, 0);
    return e->at - 4;
}

/* The label is bound, and a jump of two bytes from here reaches it. */
static bool reaches_short(const struct emit *e, const struct emit_label *label)
{
    uint32_t back = emit_offset(e, e->at) + 2 - (label->bound - 1);

    return label->bound && back <= 128;
}

void emit_jmp(struct emit *e, struct emit_label *label)
{
    if (reaches_short(e, label))
        jump_short(e, JMP_SHORT, label);
    else
        jump_near(e, JMP_NEAR, 1, label);
}

void emit_jcc(struct emit *e, enum host_cond cond, struct emit_label *label)
{
    if (reaches_short(e, label))
        jump_short(e, JCC_SHORT(cond), label);
    else
        jump_near(e, JCC_NEAR(cond), 2, label);
}

void emit_call(struct emit *e, struct emit_label *label)
{
    jump_near(e, CALL_NEAR, 1, label);
}

void emit_jmp_short(struct emit *e, struct emit_label *label)
{
    jump_short(e, JMP_SHORT, label);
}

void emit_jcc_short(struct emit *e, enum host_cond cond, struct emit_label *label)
{
    jump_short(e, JCC_SHORT(cond), label);
}

/* --- Jumps to addresses --- */

static void jump_to(struct emit *e, unsigned opcode, unsigned n, uint64_t target)
{
    int64_t rel = (int64_t)(target - (emit_rx(e) + n + 4));

    if (rel != (int32_t)rel)
        e->unreached = true;
    emit_bytes(e, opcode | (uint64_t)(uint32_t)rel << n * 8, n + 4);
}

void emit_jmp_to(struct emit *e, uint64_t target)
{
    jump_to(e, JMP_NEAR, 1, target);
}

void emit_jcc_to(struct emit *e, enum host_cond cond, uint64_t target)
{
    jump_to(e, JCC_NEAR(cond), 2, target);
}

void emit_call_to(struct emit *e, uint64_t target)
{
    jump_to(e, CALL_NEAR, 1, target);
}

bool emit_reaches(const struct emit *e, uint64_t target)
{
    int64_t first = (int64_t)(target - emit_rx_of(e, e->start));
    int64_t last = (int64_t)(target - emit_rx_of(e, e->end));

    return first == (int32_t)first && last == (int32_t)last;
}

/* --- Jumps that can be redirected --- */

/* NOPs until an opcode of n bytes ends on a multiple of four. */
static void align_field(struct emit *e, unsigned n)
{
    emit_nops(e, -((uintptr_t)e->at + n) & 3);
}

uint8_t *emit_jmp_patchable(struct emit *e, struct emit_label *label)
{
    align_field(e, 1);
    return jump_near(e, JMP_NEAR, 1, label);
}

uint8_t *emit_jcc_patchable(struct emit *e, enum host_cond cond, struct emit_label *label)
{
    align_field(e, 2);
    return jump_near(e, JCC_NEAR(cond), 2, label);
}

uint8_t *emit_call_patchable(struct emit *e, struct emit_label *label)
{
    align_field(e, 1);
    return jump_near(e, CALL_NEAR, 1, label);
}

bool emit_patch(uint8_t *field, int64_t rx_delta, uint64_t target)
{
    int64_t rel = (int64_t)(target - ((uintptr_t)field + (uint64_t)rx_delta + 4));

    g_assert(((uintptr_t)field & 3) == 0);
    if (rel != (int32_t)rel)
        return false;
    /* Release: whoever follows the jump also sees the code that was written before. */
    __atomic_store_n((int32_t *)(void *)field, (int32_t)rel, __ATOMIC_RELEASE);
    return true;
}

uint64_t emit_patch_target(const uint8_t *field, int64_t rx_delta)
{
    int32_t rel = __atomic_load_n((const int32_t *)(const void *)field, __ATOMIC_ACQUIRE);

    return (uintptr_t)field + (uint64_t)rx_delta + 4 + (uint64_t)(int64_t)rel;
}

/* --- Filling --- */

void emit_nops(struct emit *e, size_t n)
{
    /* The sequences that processors decode as one instruction (Intel SDM volume 2B, NOP). */
    static const uint8_t nop[9][9] = {
        {0x90},
        {0x66, 0x90},
        {0x0f, 0x1f, 0x00},
        {0x0f, 0x1f, 0x40, 0x00},
        {0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
        {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
    };

    if ((size_t)(e->end - e->at) < n) {
        e->overflow = true;
        return;
    }
    while (n) {
        size_t len = n < 9 ? n : 9;

        memcpy(e->at, nop[len - 1], len);
        e->at += len;
        n -= len;
    }
}

void emit_align(struct emit *e, size_t align)
{
    emit_nops(e, -(uintptr_t)e->at & (align - 1));
}
