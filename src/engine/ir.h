/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The intermediate representation: what a guest block means, free of any guest's and any host's encoding. */
/*
 * Theory of operation
 *
 * A *block* is a run of guest instructions with one entry and several exits (an extended basic block:
 * conditional branches that are not taken stay inside). It is an array of 16-byte instructions in program
 * order. An instruction that has a result *is* that value: operands name it by its index, so every value is
 * defined once, before its uses, and lives only inside the block. What outlives the block goes through guest
 * registers (getreg, putreg).
 *
 * State is precise without bookkeeping by the lifter: `insn` marks where a guest instruction begins, an
 * operation that can fault comes before the putregs of its instruction, so at any fault the registers written
 * so far are exactly those of the completed guest instructions, and the pc is that of the last `insn`. A
 * translator that delays putregs must be able to reproduce this (side tables); the interpreter simply
 * executes in order.
 *
 * Constants live in a pool beside the instructions and are named by references with IR_CONST set.
 *
 * Types: i1 (condition), i8..i64, i128 (a pair), f32, f64, fl (flags), v128..v512 (reserved for vector
 * guests). Flag values (fl) are opaque to passes; the interpreter's form is a word with bits at their EFLAGS
 * positions (enum ir_flag_bit): Arm's N Z C V are S Z C O, with C inverted by the lifter after subtractions.
 */
#ifndef HOSTEL_ENGINE_IR_H
#define HOSTEL_ENGINE_IR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct env;

enum ir_op {
#define IR_OP(id, text, result, a, b, c, aux, effects) IR_##id,
#include "engine/ir_ops.def"
#undef IR_OP
    IR_OP_COUNT
};

enum ir_type {
    IR_TYPE_NONE,
    IR_I1,
    IR_I8,
    IR_I16,
    IR_I32,
    IR_I64,
    IR_I128,
    IR_F32,
    IR_F64,
    IR_FL,
    IR_V128,
    IR_V256,
    IR_V512,
    IR_TYPE_COUNT
};

/* A value: index of the defining instruction, or of a constant when IR_CONST is set. 0 (instruction 0 is
 * always a nop) means "no value". */
typedef uint32_t ir_ref;
#define IR_CONST UINT32_C(0x80000000)

enum ir_cond { IR_EQ, IR_NE, IR_LTU, IR_GEU, IR_LEU, IR_GTU, IR_LTS, IR_GES, IR_LES, IR_GTS, IR_COND_COUNT };

enum ir_rmw {
    IR_RMW_XCHG,
    IR_RMW_ADD,
    IR_RMW_AND,
    IR_RMW_OR,
    IR_RMW_XOR,
    IR_RMW_ANDN,
    IR_RMW_SMIN,
    IR_RMW_SMAX,
    IR_RMW_UMIN,
    IR_RMW_UMAX,
    IR_RMW_COUNT
};

/* Bits of a packed flag value. */
enum ir_flag_bit {
    IR_FLAG_C = 0,
    IR_FLAG_P = 2,
    IR_FLAG_A = 4,
    IR_FLAG_Z = 6,
    IR_FLAG_S = 7,
    IR_FLAG_O = 11
};

/* Conditions over flags: x86's tttn encoding (Intel SDM volume 2, appendix B.1.4.7), O NO B NB Z NZ BE NBE S
 * NS P NP L GE LE G. */
enum { IR_FLCOND_COUNT = 16 };

/* Rounding in aux: mode in bits 0-2 (enum sf_round), modifiers above. */
enum {
    IR_RM_MASK = 7,
    IR_FMA_NEG_PRODUCT = 8,
    IR_FMA_NEG_ADDEND = 16,
    IR_CVT_UNSIGNED = 8,
    IR_RINT_INEXACT = 8, /* frint raises NX when the value changes */
};

/* Fence in aux: what before (bits 0-3) is ordered against what after (bits 4-7). */
enum { IR_FENCE_W = 1, IR_FENCE_R = 2, IR_FENCE_O = 4, IR_FENCE_I = 8, IR_FENCE_FULL = 0xff };

/* What a computed jump is, for the return predictor. */
enum ir_hint { IR_HINT_JUMP, IR_HINT_CALL, IR_HINT_RETURN };

/* Why a block goes back to the dispatcher. */
enum ir_stop {
    IR_STOP_NEXT,  /* look up the next block afresh: mode or code may have changed; who changes more sets
                      exit_request */
    IR_STOP_WAIT,  /* wait for an interrupt (WFI, HLT) */
    IR_STOP_YIELD, /* a spin-wait hint: let other vCPUs run */
    IR_STOP_COUNT
};

/* Memory descriptor (operand c of memory operations). */
#define IR_MEM_SIZE(n) ((uint32_t)(n))     /* bits 0-2: log2 of the bytes moved */
#define IR_MEM_SIGNED (UINT32_C(1) << 3)   /* extend by sign to the result's type */
#define IR_MEM_MMU(i) ((uint32_t)(i) << 4) /* bits 4-7: MMU index (env.h) */
#define IR_MEM_ACQUIRE (UINT32_C(1) << 8)
#define IR_MEM_RELEASE (UINT32_C(1) << 9)  /* both: sequentially consistent */
#define IR_MEM_ALIGNED (UINT32_C(1) << 10) /* misaligned raises the guest's alignment exception */
#define IR_MEM_BIG (UINT32_C(1) << 11)     /* big-endian */
#define IR_MEM_STACK (UINT32_C(1) << 12)   /* hint: off the stack, frame or global pointer */
#define IR_MEM_PCREL (UINT32_C(1) << 13)   /* hint: constant address */
#define IR_MEM_NOFAULT (UINT32_C(1) << 14) /* dominated by an identical check */

static inline unsigned ir_mem_log2(uint32_t mem)
{
    return mem & 7;
}

static inline unsigned ir_mem_mmu(uint32_t mem)
{
    return mem >> 4 & 15;
}

struct ir_insn {
    uint16_t op;  /* enum ir_op */
    uint8_t type; /* enum ir_type */
    uint8_t aux;
    uint32_t a, b, c;
};

_Static_assert(sizeof(struct ir_insn) == 16, "an instruction is 16 bytes");

/* A C function that a block may call. Returns the result (ignored for calls of type none). */
typedef uint64_t ir_helper_fn(struct env *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);

enum ir_helper_effect {
    IR_HELPER_READS_REGS = 1, /* guest registers (the register table) */
    IR_HELPER_WRITES_REGS = 2,
    IR_HELPER_MAY_FAULT = 4, /* sets env.exc; the block then stops with the instruction not completed */
    IR_HELPER_SYNC =
        8, /* needs exact env.pc (of the current instruction) and env.icount (instructions before it) */
    IR_HELPER_MEMORY = 16, /* reads or writes guest memory */
};

struct ir_helper {
    const char *name;
    ir_helper_fn *fn;
    uint8_t nargs;
    uint8_t effects; /* enum ir_helper_effect */
};

/* One entry of an ISA's register table: what getreg and putreg number. */
struct ir_reg {
    const char *name;
    uint8_t type;    /* enum ir_type of the whole register */
    uint8_t pin;     /* 0 = keep in memory; else priority for a host register, 1 first */
    int16_t gdb;     /* number in the debugger's protocol, -1 none */
    uint32_t offset; /* bytes from the vCPU's state, 8-byte aligned */
};

/* What the engine must know of a guest to run, print or check its blocks: tables only. */
struct ir_target {
    const struct ir_reg *regs;
    const struct ir_helper *helpers;
    unsigned nregs, nhelpers;
};

enum ir_exit_kind {
    IR_EXIT_NEAR, /* target on the block's own page: may be linked directly */
    IR_EXIT_FAR,  /* another page: through the jump cache, since its mapping may change */
};

struct ir_exit {
    uint64_t target; /* guest pc */
    uint8_t kind;    /* enum ir_exit_kind */
    uint8_t hint;    /* enum ir_hint */
};

enum {
    IR_MAX_INSNS = 2048,
    IR_MAX_CONSTS = 512,
    IR_MAX_EXITS = 72,
    IR_MAX_GUEST_INSNS = 64,
    IR_HEADROOM = 96
};

/* A block under construction or finished. About 40 KiB: one per translating thread, reused. */
struct ir_block {
    const struct ir_target *target;
    uint64_t pc;      /* guest virtual address of the first byte */
    uint32_t mode;    /* the ISA's mode word, all blocks of equal key assume it */
    uint32_t bytes;   /* guest bytes covered, counted from pc */
    uint32_t n_guest; /* guest instructions */
    uint32_t n, n_consts, n_exits;
    bool overflow; /* a limit was hit: the block is unusable (a lifter keeps IR_HEADROOM free, so never on its
                      account) */
    struct ir_insn insn[IR_MAX_INSNS];
    uint64_t konst[IR_MAX_CONSTS];
    uint8_t konst_type[IR_MAX_CONSTS];
    struct ir_exit exits[IR_MAX_EXITS];
};

/* Facts about operations, from ir_ops.def. */
enum ir_operand {
    IR_OPERAND_NO,
    IR_OPERAND_T,
    IR_OPERAND_V,
    IR_OPERAND_I1,
    IR_OPERAND_I64,
    IR_OPERAND_FL,
    IR_OPERAND_REG,
    IR_OPERAND_OFS,
    IR_OPERAND_MEM,
    IR_OPERAND_IMM,
    IR_OPERAND_EXIT,
    IR_OPERAND_HELPER,
    IR_OPERAND_OPT,
    IR_OPERAND_NONE,
};
enum ir_aux {
    IR_AUX_NO,
    IR_AUX_RM,
    IR_AUX_COND,
    IR_AUX_FLBIT,
    IR_AUX_FLCOND,
    IR_AUX_RMW,
    IR_AUX_FENCE,
    IR_AUX_HINT,
    IR_AUX_STOP,
    IR_AUX_NARGS,
};
enum ir_effect { IR_EFFECT_R = 1, IR_EFFECT_W = 2, IR_EFFECT_M = 4, IR_EFFECT_E = 8, IR_EFFECT_X = 16 };

struct ir_op_info {
    const char *text;
    uint8_t result;     /* enum ir_operand: T, I1, I64, FL or NONE */
    uint8_t operand[3]; /* enum ir_operand */
    uint8_t aux;        /* enum ir_aux */
    uint8_t effects;    /* enum ir_effect */
    uint8_t values;     /* bits 0..2: operand a, b, c is a value; 4..6: it is one unless it is 0 */
};
extern const struct ir_op_info ir_op_info[IR_OP_COUNT];
extern const uint16_t ir_type_width[IR_TYPE_COUNT];

/* Bits of a type (1, 8 .. 512); 0 for none, 64 for fl. */
static inline unsigned ir_type_bits(enum ir_type type)
{
    return (unsigned)type < IR_TYPE_COUNT ? ir_type_width[type] : 0;
}
const char *ir_type_name(enum ir_type type);

/* Type of a value of this block (an instruction's result or a constant); IR_TYPE_NONE when it has none. */
enum ir_type ir_value_type(const struct ir_block *b, ir_ref v);

/* --- Building (ir.c). Nothing allocates; on overflow the block's flag is set and 0 returned. --- */

/* Empties the block and sets its key. */
void ir_begin(struct ir_block *b, const struct ir_target *target, uint64_t pc, uint32_t mode);

/* Appends an instruction; returns its reference (also for those without result, to be ignored). */
ir_ref ir_emit(struct ir_block *b, enum ir_op op, enum ir_type type, uint8_t aux, uint32_t a, uint32_t b_,
               uint32_t c);

/* A constant of the type, the value cut to its bits; equal ones share an entry. */
ir_ref ir_const(struct ir_block *b, enum ir_type type, uint64_t value);
static inline bool ir_is_const(ir_ref v)
{
    return (v & IR_CONST) != 0;
}
static inline uint64_t ir_const_value(const struct ir_block *b, ir_ref v)
{
    uint32_t i = v & ~IR_CONST;
    return ir_is_const(v) && i < b->n_consts ? b->konst[i] : 0;
}

/* Operators that fold constants and identities (x + 0, x & 0, ...) while building: what a lifter should use.
 */
ir_ref ir_binary(struct ir_block *b, enum ir_op op, enum ir_type type, ir_ref x, ir_ref y);
ir_ref ir_unary(struct ir_block *b, enum ir_op op, enum ir_type type, ir_ref x);
ir_ref ir_setcc(struct ir_block *b, enum ir_cond cond, enum ir_type operand_type, ir_ref x, ir_ref y);
ir_ref ir_select(struct ir_block *b, enum ir_type type, ir_ref cond, ir_ref x, ir_ref y);

/* Appends an exit to the block's table and returns its index. kind is found from the pages of pc and target.
 */
uint32_t ir_exit_to(struct ir_block *b, uint64_t target, enum ir_hint hint);

/* --- Text form and verifier (ir_text.c, ir_verify.c); not for hot paths --- */

struct ir_text_error {
    unsigned line;
    char message[160];
};

/* Prints the block; the text parses back to an equal block. Returns a newly allocated string (g_free). */
char *ir_print(const struct ir_block *b);

/* Parses text into *b, with target's register and helper names. 0, or -EINVAL with *error filled and *b
 * unspecified. */
int ir_parse(struct ir_block *b, const struct ir_target *target, const char *text,
             struct ir_text_error *error);

/* Checks order of definitions, types, operand kinds, effects rules (an instruction that may fault precedes
 * the writes of its guest instruction; ARG counts; one terminator, last; limits). 0, or -EINVAL with a
 * message. */
int ir_verify(const struct ir_block *b, char *message, size_t size);

#endif
