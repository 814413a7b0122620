/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The x86-64 emitter's core: buffer, operands, the word that describes an encoding, labels and patches. */
/*
 * Theory of operation
 *
 * An x86-64 instruction is: prefixes, opcode, ModRM (a register and either a register or a memory operand),
 * immediate. All but the operands is known when the translator is compiled, so an instruction is described by
 * one 32-bit constant (EMIT_* below) and encoded by one of three functions: register-register (emit_rr),
 * register-memory (emit_rm) and register-in-opcode (emit_opreg). emit.h and emit_sse.h hold nothing but
 * inline functions that name these constants.
 *
 * Memory. Code memory is mapped twice: writable here (`start`..`end`), executable elsewhere; `rx_delta` leads
 * from a writable address to the executable one. Both mappings are page-aligned, so alignment is the same in
 * both. Instructions are written with wider stores than they need: up to EMIT_ROOM bytes behind `at` may be
 * scribbled upon, never anything from `end` on. When fewer bytes than that are left, nothing is written, `at`
 * stays, and `overflow` is set, so a translator emits on without looking and asks emit_ok() once per block.
 *
 * Labels. A zeroed struct emit_label is fresh. A jump to a label that is not bound yet leaves its place in a
 * chain threaded through the displacement fields themselves; binding walks the chain. So a label costs twelve
 * bytes and no allocation.
 *
 * Errors. A displacement that does not reach its target sets `unreached`. Nothing here allocates, logs or
 * aborts. A struct emit belongs to one thread; emit_patch() may be called by any thread while others run the
 * code.
 *
 * Encodings: Intel SDM volume 2A, chapter 2, and the instructions' own pages in volumes 2A to 2C.
 */
#ifndef HOSTEL_ENGINE_X86_64_EMIT_CORE_H
#define HOSTEL_ENGINE_X86_64_EMIT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The compilers tell the two kinds of register apart (-Wenum-conversion). Sizes of integer operands are in
 * bits. */
enum host_reg {
    HOST_RAX,
    HOST_RCX,
    HOST_RDX,
    HOST_RBX,
    HOST_RSP,
    HOST_RBP,
    HOST_RSI,
    HOST_RDI,
    HOST_R8,
    HOST_R9,
    HOST_R10,
    HOST_R11,
    HOST_R12,
    HOST_R13,
    HOST_R14,
    HOST_R15,
};

enum host_xmm {
    HOST_XMM0,
    HOST_XMM1,
    HOST_XMM2,
    HOST_XMM3,
    HOST_XMM4,
    HOST_XMM5,
    HOST_XMM6,
    HOST_XMM7,
    HOST_XMM8,
    HOST_XMM9,
    HOST_XMM10,
    HOST_XMM11,
    HOST_XMM12,
    HOST_XMM13,
    HOST_XMM14,
    HOST_XMM15,
};

/* Conditions, in the order of their encoding; c ^ 1 is the opposite. */
enum host_cond {
    HOST_O,
    HOST_NO,
    HOST_B,
    HOST_AE,
    HOST_E,
    HOST_NE,
    HOST_BE,
    HOST_A,
    HOST_S,
    HOST_NS,
    HOST_P,
    HOST_NP,
    HOST_L,
    HOST_GE,
    HOST_LE,
    HOST_G,
};

#define EMIT_ROOM 16 /* more than the longest instruction (15), and all that one emission scribbles upon */

struct emit {
    uint8_t *at;      /* the next instruction goes here */
    uint8_t *end;     /* nothing is written at or behind this address */
    uint8_t *start;   /* what labels count from; at most 256 MiB before `end` */
    int64_t rx_delta; /* address where the code runs, minus address where it is written */
    bool overflow;    /* something did not fit and was left out */
    bool unreached;   /* a jump or RIP-relative operand was too far from its target */
    bool avx;         /* emit_sse.h uses VEX forms */
};

/* A place in the code. All zero: fresh. Offsets count from emit.start, plus one so that zero means "none". */
struct emit_label {
    uint32_t bound; /* its place */
    uint32_t far;   /* youngest 32-bit field that waits for it: (offset + 1) * 8 + bytes from field's to
                       instruction's end */
    uint32_t near;  /* youngest 8-bit field that waits */
};

/* A memory operand. Use the constructors. */
struct host_mem {
    int32_t disp;
    uint8_t base;  /* enum host_reg, or one of EMIT_BASE_* */
    uint8_t index; /* enum host_reg; HOST_RSP, which cannot be an index, means none */
    uint8_t shift; /* index is multiplied by 1 << shift */
    union {
        uint64_t target;          /* EMIT_BASE_RIP: executable address */
        struct emit_label *label; /* EMIT_BASE_LABEL */
    };
};

enum { EMIT_BASE_NONE = 16, EMIT_BASE_RIP, EMIT_BASE_LABEL };

/* --- The description of an encoding --- */

#define EMIT_66 (1u << 8) /* mandatory prefix, two bits, as VEX numbers them */
#define EMIT_F3 (2u << 8)
#define EMIT_F2 (3u << 8)
#define EMIT_0F (1u << 10) /* opcode map, two bits, as VEX numbers them */
#define EMIT_0F38 (2u << 10)
#define EMIT_0F3A (3u << 10)
#define EMIT_W (1u << 12)
#define EMIT_BYTE_REG                                                                                        \
    (1u << 13) /* the register operand is 8 bits wide: SPL, BPL, SIL and DIL want a REX prefix */
#define EMIT_BYTE_RM (1u << 14) /* so is the other, when a register */
#define EMIT_LOCK (1u << 15)
#define EMIT_IMM(n) ((uint32_t)(n) << 16) /* bytes of immediate: 0, 1, 2, 4; emit_opreg: 8 too */
#define EMIT_O16 (1u << 20)               /* operand size 16, before any mandatory prefix */
#define EMIT_VEX (1u << 21)
#define EMIT_EVEX (1u << 22)
#define EMIT_N(log2) ((uint32_t)(log2) << 26) /* EVEX: an 8-bit displacement counts in units of 1 << log2 */

/* reg: ModRM.reg; v: VEX.vvvv, 0 for what has none; rm: ModRM.rm. imm is taken modulo its size. */
void emit_rr(struct emit *e, uint32_t d, unsigned reg, unsigned v, unsigned rm, int32_t imm);
void emit_rm(struct emit *e, uint32_t d, unsigned reg, unsigned v, struct host_mem m, int32_t imm);
void emit_opreg(struct emit *e, uint32_t d, unsigned reg, uint64_t imm);
/* n (at most 8) literal bytes, the first one lowest. */
void emit_bytes(struct emit *e, uint64_t bytes, unsigned n);

/* Leaves the 32-bit displacement at `field` to the label, `trail` bytes from the field's end to the
 * instruction's. */
void emit_label_field(struct emit *e, struct emit_label *label, uint8_t *field, unsigned trail);

/* The part of a description that operand size decides, for opcodes whose lowest bit tells bytes from the
 * rest, */
static inline uint32_t emit_size(unsigned size)
{
    return size == 8 ? EMIT_BYTE_REG | EMIT_BYTE_RM : size == 16 ? EMIT_O16 | 1 : size == 32 ? 1 : EMIT_W | 1;
}

/* the same where ModRM.reg is part of the opcode, */
static inline uint32_t emit_group(unsigned size)
{
    return emit_size(size) & ~EMIT_BYTE_REG;
}

/* and for opcodes that know 16, 32 and 64 bits only. */
static inline uint32_t emit_wide(unsigned size)
{
    return size == 64 ? EMIT_W : size == 16 ? EMIT_O16 : 0;
}

/* An immediate as wide as the operand, 32 bits at most. */
static inline uint32_t emit_imm_size(unsigned size)
{
    return EMIT_IMM(size == 8 ? 1 : size == 16 ? 2 : 4);
}

/* --- The buffer --- */

/* size bytes at rw (writable), which will run at the executable address rx. rw is borrowed. */
static inline void emit_init(struct emit *e, void *rw, size_t size, uint64_t rx, bool avx)
{
    *e = (struct emit){
        .at = rw,
        .end = (uint8_t *)rw + size,
        .start = rw,
        .rx_delta = (int64_t)(rx - (uintptr_t)rw),
        .avx = avx,
    };
}

/* All that was asked for so far has been written and reaches its targets. */
static inline bool emit_ok(const struct emit *e)
{
    return !e->overflow && !e->unreached;
}

/* The executable address of a place in the buffer, and of the next instruction. */
static inline uint64_t emit_rx_of(const struct emit *e, const uint8_t *rw)
{
    return (uintptr_t)rw + (uint64_t)e->rx_delta;
}

static inline uint64_t emit_rx(const struct emit *e)
{
    return emit_rx_of(e, e->at);
}

/* --- Memory operands --- */

/* [base + disp] */
static inline struct host_mem host_mem(enum host_reg base, int32_t disp)
{
    return (struct host_mem){.disp = disp, .base = (uint8_t)base, .index = HOST_RSP};
}

/* [base + index * scale + disp]; scale is 1, 2, 4 or 8, index is not HOST_RSP. */
static inline struct host_mem host_mem_index(enum host_reg base, enum host_reg index, unsigned scale,
                                             int32_t disp)
{
    return (struct host_mem){
        .disp = disp, .base = (uint8_t)base, .index = (uint8_t)index, .shift = (uint8_t)__builtin_ctz(scale)};
}

/* [index * scale + disp] */
static inline struct host_mem host_mem_scaled(enum host_reg index, unsigned scale, int32_t disp)
{
    return (struct host_mem){.disp = disp,
                             .base = EMIT_BASE_NONE,
                             .index = (uint8_t)index,
                             .shift = (uint8_t)__builtin_ctz(scale)};
}

/* [disp]: the lowest and the highest two gigabytes of the address space. */
static inline struct host_mem host_mem_abs(int32_t disp)
{
    return (struct host_mem){.disp = disp, .base = EMIT_BASE_NONE, .index = HOST_RSP};
}

/* RIP-relative: the address `target`, which must be within two gigabytes of the code, */
static inline struct host_mem host_mem_rip(uint64_t target)
{
    return (struct host_mem){.base = EMIT_BASE_RIP, .target = target};
}

/* or the place of a label, which is bound now or later. */
static inline struct host_mem host_mem_label(struct emit_label *label)
{
    return (struct host_mem){.base = EMIT_BASE_LABEL, .label = label};
}

/* --- Labels and jumps --- */

/* The label is the next instruction's place. Once per label. */
void emit_bind(struct emit *e, struct emit_label *label);

/* Some jump waits for the label. A label must not be forgotten in this state. */
static inline bool emit_label_pending(const struct emit_label *label)
{
    return !label->bound && (label->far || label->near);
}

/* Executable address of a bound label. */
static inline uint64_t emit_label_rx(const struct emit *e, const struct emit_label *label)
{
    return emit_rx_of(e, e->start + label->bound - 1);
}

/* Jumps to a label: as short as possible when it is bound, else with a 32-bit displacement. */
void emit_jmp(struct emit *e, struct emit_label *label);
void emit_jcc(struct emit *e, enum host_cond cond, struct emit_label *label);
void emit_call(struct emit *e, struct emit_label *label);

/* Jumps with an 8-bit displacement; `unreached` is set if that turns out not to do. */
void emit_jmp_short(struct emit *e, struct emit_label *label);
void emit_jcc_short(struct emit *e, enum host_cond cond, struct emit_label *label);

/* Jumps to an executable address within two gigabytes, with a 32-bit displacement. */
void emit_jmp_to(struct emit *e, uint64_t target);
void emit_jcc_to(struct emit *e, enum host_cond cond, uint64_t target);
void emit_call_to(struct emit *e, uint64_t target);

/* Whether the three above reach `target` from anywhere in the buffer. */
bool emit_reaches(const struct emit *e, uint64_t target);

/*
 * Jumps to a label (bound or not) that emit_patch() may redirect later, while other threads run them: with a
 * 32-bit displacement, aligned to four bytes by NOPs in front. Returns the field's writable address; NULL on
 * overflow.
 */
uint8_t *emit_jmp_patchable(struct emit *e, struct emit_label *label);
uint8_t *emit_jcc_patchable(struct emit *e, enum host_cond cond, struct emit_label *label);
uint8_t *emit_call_patchable(struct emit *e, struct emit_label *label);

/*
 * Makes the jump whose displacement is at `field` (writable address, aligned to four) go to the executable
 * address `target`. Threads that run it meanwhile go to the old or the new target. Returns false, and changes
 * nothing, if it does not reach.
 */
bool emit_patch(uint8_t *field, int64_t rx_delta, uint64_t target);

/* Where the jump at `field` goes now. */
uint64_t emit_patch_target(const uint8_t *field, int64_t rx_delta);

/* n bytes of NOPs, in as few instructions as possible. */
void emit_nops(struct emit *e, size_t n);

/* NOPs up to a multiple of `align`, a power of two. */
void emit_align(struct emit *e, size_t align);

#endif
