/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Indirect branches: interpreters of a small machine, by a switch and by computed jumps, and methods of
 * objects. */
#include "suite.h"

#define LOOPS 64u
#define LOOP_LENGTH 14u /* instructions in the small machine's loop */
#define OBJECTS 512u

enum op {
    OP_PUSH,
    OP_ADD,
    OP_SUB,
    OP_XOR,
    OP_MUL,
    OP_DUP,
    OP_SWAP,
    OP_SHIFT,
    OP_LOAD,
    OP_STORE,
    OP_LOOP,
    OP_END
};

/* A loop over both variables; OP_LOOP counts down and jumps back to the start. */
static const uint8_t code[] = {
    OP_LOAD,  0, OP_DUP, OP_MUL,   OP_LOAD, 1,       OP_XOR, OP_PUSH,  7, OP_ADD,  OP_DUP,
    OP_SHIFT, 3, OP_SUB, OP_STORE, 1,       OP_LOAD, 1,      OP_STORE, 0, OP_LOOP, OP_END,
};

static uint64_t __attribute__((noinline, noclone)) interpret_switch(const uint8_t *pc, uint64_t seed)
{
    uint64_t stack[8], *top = stack, var[2] = {seed, 1}, left = LOOPS, t;
    const uint8_t *start = pc;
    for (;;) {
        switch ((enum op) * pc++) {
        case OP_PUSH: *top++ = *pc++; break;
        case OP_ADD: top--, top[-1] += *top; break;
        case OP_SUB: top--, top[-1] -= *top; break;
        case OP_XOR: top--, top[-1] ^= *top; break;
        case OP_MUL: top--, top[-1] *= *top; break;
        case OP_DUP: *top = top[-1], top++; break;
        case OP_SWAP: t = top[-1], top[-1] = top[-2], top[-2] = t; break;
        case OP_SHIFT: top[-1] >>= *pc++; break;
        case OP_LOAD: *top++ = var[*pc++]; break;
        case OP_STORE: var[*pc++] = *--top; break;
        case OP_LOOP:
            if (--left) {
                pc = start;
            }
            break;
        case OP_END: return var[0] + 3 * var[1];
        }
    }
}

static uint64_t __attribute__((noinline, noclone)) interpret_jump(const uint8_t *pc, uint64_t seed)
{
    static const void *const labels[] = {&&push, &&add,   &&sub,  &&xor_,  &&mul,  &&dup,
                                         &&swap, &&shift, &&load, &&store, &&loop, &&end};
    uint64_t stack[8], *top = stack, var[2] = {seed, 1}, left = LOOPS, t;
    const uint8_t *start = pc;
#define NEXT goto *labels[*pc++]
    NEXT;
push:
    *top++ = *pc++;
    NEXT;
add:
    top--, top[-1] += *top;
    NEXT;
sub:
    top--, top[-1] -= *top;
    NEXT;
xor_:
    top--, top[-1] ^= *top;
    NEXT;
mul:
    top--, top[-1] *= *top;
    NEXT;
dup:
    *top = top[-1], top++;
    NEXT;
swap:
    t = top[-1], top[-1] = top[-2], top[-2] = t;
    NEXT;
shift:
    top[-1] >>= *pc++;
    NEXT;
load:
    *top++ = var[*pc++];
    NEXT;
store:
    var[*pc++] = *--top;
    NEXT;
loop:
    if (--left) {
        pc = start;
    }
    NEXT;
end:
    return var[0] + 3 * var[1];
#undef NEXT
}

static uint64_t switch_run(uint64_t steps)
{
    uint64_t sum = 5;
    for (uint64_t s = 0; s < steps; s++) {
        sum = interpret_switch(code, sum);
    }
    return sum;
}

static uint64_t jump_run(uint64_t steps)
{
    uint64_t sum = 5;
    for (uint64_t s = 0; s < steps; s++) {
        sum = interpret_jump(code, sum);
    }
    return sum;
}

struct shape;
struct shape_class {
    uint64_t (*area)(const struct shape *s);
    void (*grow)(struct shape *s, uint64_t by);
};
struct shape {
    const struct shape_class *class;
    uint64_t a, b;
};

static uint64_t square_area(const struct shape *s)
{
    return s->a * s->a;
}
static uint64_t box_area(const struct shape *s)
{
    return s->a * s->b;
}
static uint64_t triangle_area(const struct shape *s)
{
    return s->a * s->b / 2;
}
static uint64_t line_area(const struct shape *s)
{
    return s->a & s->b & 1;
}
static void grow_one(struct shape *s, uint64_t by)
{
    s->a += by;
}
static void grow_both(struct shape *s, uint64_t by)
{
    s->a += by;
    s->b ^= by;
}

static const struct shape_class classes[] = {
    {square_area, grow_one}, {box_area, grow_both}, {triangle_area, grow_both}, {line_area, grow_one}};
static struct shape shapes[OBJECTS];

static void shapes_begin(void)
{
    uint64_t seed = 11;
    for (unsigned i = 0; i < OBJECTS; i++) {
        shapes[i] = (struct shape){&classes[rng_next(&seed) >> 62], i, 3 * i};
    }
}

static uint64_t shapes_run(uint64_t steps)
{
    uint64_t sum = 0;
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < OBJECTS; i++) {
            sum += shapes[i].class->area(&shapes[i]);
            shapes[i].class->grow(&shapes[i], sum & 3);
        }
    }
    return sum;
}

#define LOOP_OPS (LOOPS * LOOP_LENGTH)

const struct program branches_programs[] = {
    {.name = "branches/switch", .unit = "instruction", .per = LOOP_OPS, .run = switch_run},
    {.name = "branches/computed", .unit = "instruction", .per = LOOP_OPS, .run = jump_run},
    {.name = "branches/virtual",
     .unit = "call",
     .per = 2 * OBJECTS,
     .begin = shapes_begin,
     .run = shapes_run},
    {.name = NULL},
};
