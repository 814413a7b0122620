/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any bytes as RISC-V code: the decoder's results stay within their types, and the disassembler within its
 * buffer. */

#include <glib.h>
#include <stdint.h>
#include <string.h>

#include "isa/riscv/decode.h"
#include "isa/riscv/disasm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(uint32_t bits)
{
    struct riscv_insn insn;
    int length = riscv_decode(bits, &insn);
    g_assert_cmpint(length, ==, (bits & 3) == 3 ? 4 : 2);
    g_assert_cmpint(insn.len, ==, length);
    g_assert_cmpint(insn.op, <, RISCV_OP_COUNT);
    g_assert_true(insn.rd < 32 && insn.rs1 < 32 && insn.rs2 < 32 && insn.rs3 < 32);

    /* Memory of exactly its size, so that a sanitizer sees a byte too many; and every shorter buffer. */
    for (size_t n = 0; n <= RISCV_DISASM_MAX; n += 13) {
        g_autofree char *text = g_malloc(n + !n);
        g_assert_cmpint(riscv_disasm(0x80000000, bits, text, n), ==, length);
        if (n)
            g_assert_nonnull(memchr(text, 0, n));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at + 4 <= size; at += 2) {
        uint32_t bits;
        memcpy(&bits, data + at, sizeof(bits));
        check(bits);
    }
    return 0;
}
