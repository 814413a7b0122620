/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * Fuzzes the RISC-V decoder and disassembler: any four bytes decode to something consistent and printable.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "isa/riscv/decode.h"
#include "isa/riscv/disasm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

static void check(uint64_t pc, uint32_t bits)
{
    char text[RISCV_DISASM_MAX], cut[16];
    struct riscv_insn insn, again;
    int len = riscv_decode(bits, &insn);

    require(len == ((bits & 3) == 3 ? 4 : 2) && insn.len == len && insn.op < RISCV_OP_COUNT);
    require((insn.rd | insn.rs1 | insn.rs2 | insn.rs3) < 32);
    riscv_decode(len == 2 ? bits ^ 0xffff0000 : bits,
                 &again); /* what follows a short instruction is not read */
    require(memcmp(&insn, &again, sizeof(insn)) == 0);
    for (unsigned flags = 0; flags <= RISCV_DISASM_EXACT; flags++) {
        require(riscv_disasm_flags(pc, bits, flags, text, sizeof(text)) == len);
        require(strlen(text) < sizeof(text) - 1);
    }
    riscv_disasm(pc, bits, cut, sizeof(cut));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at + 4 <= size; at += 4) {
        uint32_t bits = data[at] | (uint32_t)data[at + 1] << 8 | (uint32_t)data[at + 2] << 16 |
                        (uint32_t)data[at + 3] << 24;
        check(0xffffffff80000000 + at, bits);
    }
    return 0;
}
