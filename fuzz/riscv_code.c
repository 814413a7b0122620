/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any bytes as RISC-V code: decoder and disassembler stay within their types and buffers, and what is lifted
 * is well-formed. The first two bytes choose the mode. */

#include <errno.h>
#include <glib.h>
#include <stdint.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "engine/ir.h"
#include "isa/isa.h"
#include "isa/riscv/cpu.h"
#include "isa/riscv/decode.h"
#include "isa/riscv/disasm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(uint64_t pc, uint32_t bits)
{
    struct riscv_insn insn, again;
    int length = riscv_decode(bits, &insn);
    g_assert_cmpint(length, ==, (bits & 3) == 3 ? 4 : 2);
    g_assert_cmpint(insn.len, ==, length);
    g_assert_cmpint(insn.op, <, RISCV_OP_COUNT);
    g_assert_true((insn.rd | insn.rs1 | insn.rs2 | insn.rs3) < 32);
    /* What follows a short instruction is not read. */
    riscv_decode(length == 2 ? bits ^ 0xffff0000 : bits, &again);
    g_assert_cmpmem(&insn, sizeof(insn), &again, sizeof(again));

    /* Memory of exactly its size, so that a sanitizer sees a byte too many; and every shorter buffer. */
    for (unsigned flags = 0; flags <= RISCV_DISASM_EXACT; flags++)
        for (size_t n = RISCV_DISASM_MAX % 13; n <= RISCV_DISASM_MAX; n += 13) {
            g_autofree char *text = g_malloc(n);
            g_assert_cmpint(riscv_disasm_flags(pc, bits, flags, text, n), ==, length);
            g_assert_nonnull(memchr(text, 0, n));
            g_assert_cmpuint(strlen(text), <, RISCV_DISASM_MAX - 1);
        }
}

static uint32_t mode_of(uint16_t choice)
{
    static const uint32_t privs[] = {RISCV_U, RISCV_S, RISCV_M};
    uint32_t mmu = (choice >> 8) % (RISCV_MMU_M + 1u);
    return privs[choice % 3] << RISCV_MODE_PRIV | (choice >> 2 & 3u) << RISCV_MODE_FS |
           (choice >> 4 & 7u) << RISCV_MODE_FRM | mmu << RISCV_MODE_MMU;
}

/* The bytes end where the page ends, and nobody has fetched the next one. */
static void lift(const struct isa *isa, uint16_t choice, const uint8_t *bytes, size_t size)
{
    static struct ir_block block;
    char message[160];
    struct isa_code code = {
        .pc = 0x80001000 - size,
        .mode = mode_of(choice),
        .bytes = bytes,
        .avail = (uint32_t)size,
        .max_insns = IR_MAX_GUEST_INSNS,
    };
    int status = isa->lift(&code, &block);
    if (status == -EAGAIN && size < 4)
        return;
    g_assert_cmpint(status, ==, 0);
    if (ir_verify(&block, message, sizeof(message)))
        g_error("%s", message);
    g_assert_cmpuint(block.bytes, >, 0);
    g_assert_cmpuint(block.bytes, <=, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct isa *isa = isa_find("riscv64");
    if (size < 4 || size > 4096)
        return 0;
    uint16_t choice = ld16le(data);

    /* Code is aligned to two bytes, and a copy of exactly its size shows a read beyond it. */
    size = (size - 2) & ~(size_t)1;
    g_autofree uint8_t *bytes = g_memdup2(data + 2, size);
    for (size_t at = 0; at + 4 <= size; at += 2)
        decode(0xffffffff80000000 + at, ld32le(bytes + at));
    lift(isa, choice, bytes, size);
    return 0;
}
