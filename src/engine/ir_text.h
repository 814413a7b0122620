/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Words of the IR's text form that its printer and its parser share. */
/*
 * The text form, line by line (`;` begins a comment):
 *
 *     block pc 0x80000000 mode 0x3 bytes 8 guest 2     first line: the block's key and size
 *     @0 = near jump 0x80000010                        exits, in order: kind, hint, target
 *         insn 0, 4
 *         %2 = getreg i64 a0                           [%result =] operation [aux] [type] operands
 *         %3 = setcc ltu i64 %2, i64:0x10              constants carry their type
 *         %4 = ld i64 %2, 4:signed:mmu1                memory descriptor: bytes, then words
 *         exit_if %3, @0
 *
 * Values are named freely in a file that is read; the printer names them by their index.
 */
#ifndef HOSTEL_ENGINE_IR_TEXT_H
#define HOSTEL_ENGINE_IR_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "engine/ir.h"

/* A list of words for the values 0, 1, ... of an enumeration. */
struct ir_words {
    const char *const *word;
    unsigned n;
};

/* Words of an aux kind that is a plain enumeration; n = 0 for the other kinds. IR_AUX_RM gives the rounding
 * modes. */
struct ir_words ir_text_aux(enum ir_aux kind);

/* A bit and its word: modifiers of rounding, of memory descriptors. */
struct ir_text_bit {
    uint32_t bit;
    const char *word;
};

/* The modifiers that may follow the rounding mode of the operation; ends with bit 0. */
const struct ir_text_bit *ir_text_modifiers(enum ir_op op);

/* The words of memory descriptors (size and MMU index apart); ends with bit 0. */
extern const struct ir_text_bit ir_text_mem[];

extern const char *const ir_text_kind[2]; /* enum ir_exit_kind */
extern const char *const ir_text_hint[3]; /* enum ir_hint */

#endif
