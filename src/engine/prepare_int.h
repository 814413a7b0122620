/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the two halves of the preparer share: prepare.c decides where values live, lower.c writes the cells.
 */
#ifndef HOSTEL_ENGINE_PREPARE_INT_H
#define HOSTEL_ENGINE_PREPARE_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/cell.h"
#include "engine/ir.h"

enum {
    PREPARE_MAX_CELLS = 4096,
    /* Cells by number: an operand that is not used reads this one, which no other thread writes. */
    PREPARE_IDLE = offsetof(struct env, pc) / 8,
    PREPARE_TEMP = offsetof(struct env, temp) / 8,
};

/* What is known of an instruction and of the value it defines. */
struct prepare_value {
    uint32_t root;         /* the value whose storage this one shares; itself when it has its own */
    uint32_t last;         /* of a root: where it is needed for the last time */
    uint32_t write;        /* of a putreg: where its register may change at the earliest */
    uint16_t uses;         /* by instructions that are alive */
    uint16_t address_uses; /* among these, as the address of a memory operation */
    uint16_t cell;         /* of a root: where it lives */
    uint8_t width;         /* prepare_width.c: of an integer, bits that are more than copies of its sign */
    bool positive;         /* and it is not negative */
    bool wide;             /* of a sign extension: the cell of 64 bits does it all */
    uint8_t part;          /* 1: the second cell of the root, a pair */
    bool live;
    bool dirty;       /* bits above the type's are not zero: the storage of a wider value */
    bool absorbed;    /* performed by the cell of its only user (an address: of all its users) */
    bool sunk;        /* of a putreg: its value is computed into the register */
    bool in_register; /* of a root: cell is a guest register, not a temporary */
};

struct prepare {
    bool plain;
    const void *const *handlers;
    const struct ir_block *ir;
    struct prepare_value v[IR_MAX_INSNS];

    /* what lower.c builds */
    uint64_t temps[ENV_TEMPS / 64]; /* a bit per temporary in use */
    uint16_t scratch[8];            /* temporaries of the instruction at hand */
    unsigned n_scratch;
    ir_ref arg[2]; /* operands waiting for their call */
    unsigned n_args;
    bool full; /* out of cells or temporaries */
    uint32_t n_cells, n_marks;
    struct cell cells[PREPARE_MAX_CELLS];
    struct cell_mark marks[IR_MAX_GUEST_INSNS];
};

/* First cell of a register, and whether the type fills it. */
uint16_t prepare_register(const struct ir_block *b, uint32_t reg);
bool prepare_fills_register(const struct ir_block *b, const struct ir_insn *i, uint32_t reg);

/* The values an instruction reads, ARGs not among them; returns how many. */
static inline unsigned prepare_operands(const struct ir_insn *i, ir_ref ref[3])
{
    const uint32_t operand[3] = {i->a, i->b, i->c};
    unsigned values = ir_op_info[i->op].values, n = 0;

    for (unsigned k = 0; values; k++, values >>= 1) {
        if ((values & 1) || ((values & 16) && operand[k])) {
            ref[n++] = operand[k];
        }
        values &= ~17u;
    }
    return n;
}

/* Is the operation one of arith.def's? */
bool prepare_is_arith(enum ir_op op);

/* prepare_width.c: fills width and positive of all values. Then: has the 32-bit value been cut from one whose
 * extension it is? Is the sign extension of the operation what it results in with 64 bits? */
void prepare_widths(struct prepare *p);
bool prepare_is_extended(const struct prepare *p, ir_ref ref);
bool prepare_is_same_in_64(const struct prepare *p, ir_ref ref);

/* lower.c: fills cells and marks from ir and v. */
void prepare_lower(struct prepare *p);

#endif
