/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Emitted code beside the text it should disassemble to; objdump is the judge. */
#ifndef HOSTEL_TESTS_ENGINE_X86_64_LISTING_H
#define HOSTEL_TESTS_ENGINE_X86_64_LISTING_H

#include <glib.h>

#include "engine/x86_64/emit.h"

/* Memory operands with every special case of ModRM and SIB: each is used with each instruction. */
#define LISTING_MEMS 26

struct listing {
    struct emit e;
    uint8_t *code;
    GPtrArray *text; /* expected lines */
    GArray *offsets; /* uint32_t: where each begins */
    uint32_t next;   /* offset behind the last expected line */
};

/* False, with the test marked as skipped, when there is no objdump. */
bool listing_begin(struct listing *l, size_t size);

/* The bytes since the last call are one instruction with this text; blanks between mnemonic and operands do
 * not matter. */
void listing_expect(struct listing *l, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The last emission was more than one instruction, and this is the text of the next one of them. */
void listing_expect_more(struct listing *l, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Disassembles everything in one run and compares; fails the test with the first few differences. Frees. */
void listing_end(struct listing *l);

/* Names as objdump writes them. */
const char *listing_reg(unsigned size, unsigned reg);
const char *listing_cond(unsigned cond);

/* Operand `i` of LISTING_MEMS, and its text for an access of `bits`. The text is overwritten eight calls
 * later. */
struct host_mem listing_mem(unsigned i);
const char *listing_mem_text(unsigned bits, unsigned i);

/* The text of any base-index operand. */
const char *listing_address(unsigned bits, struct host_mem m);

/* An immediate as an operand of `size` bits; owned by the caller. */
char *listing_imm(unsigned size, int64_t imm);

#endif
