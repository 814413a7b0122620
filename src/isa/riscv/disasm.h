/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * RISC-V machine words as text, in the syntax GNU objdump prints.
 */
#ifndef HOSTEL_ISA_RISCV_DISASM_H
#define HOSTEL_ISA_RISCV_DISASM_H

#include <stddef.h>
#include <stdint.h>

enum riscv_disasm_flags {
    RISCV_DISASM_EXACT =
        1, /* no aliases, compressed instructions by their own names: "c.jr\tra", not "ret" */
};

#define RISCV_DISASM_MAX 80 /* bytes that hold any instruction's text with its terminator */

/*
 * Writes the instruction in @bits, located at @pc (bytes, for branch targets), into @buf of @n bytes as
 * "mnemonic\toperands" with a terminator, cut off if @n is too small (nothing is written when @n is 0).
 * Prefers the aliases of the assembler's manual (li, mv, ret, csrw); a compressed instruction reads as what
 * it stands for. What the decoder refuses reads ".4byte\t0x..." or ".2byte\t0x...". Returns the instruction's
 * length, 2 or 4. No errors, no allocation; any thread.
 */
int riscv_disasm(uint64_t pc, uint32_t bits, char *buf, size_t n);

/* As riscv_disasm(), with a set of enum riscv_disasm_flags. */
int riscv_disasm_flags(uint64_t pc, uint32_t bits, unsigned flags, char *buf, size_t n);

/* The assembler's name of control and status register @csr (12 bits), or NULL: constant, any thread. */
const char *riscv_csr_name(unsigned csr);

#endif
