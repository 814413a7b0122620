/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Numbers of the helpers and the layout of their packed operands. */
#ifndef HOSTEL_ISA_RISCV_HELPERS_H
#define HOSTEL_ISA_RISCV_HELPERS_H

#include "engine/ir.h"

enum riscv_helper {
#define RISCV_HELPER(name, function, operands, effects) RISCV_HELPER_##name,
#include "isa/riscv/helpers.def"
#undef RISCV_HELPER
    RISCV_HELPER_COUNT
};

extern const struct ir_helper riscv_helpers[RISCV_HELPER_COUNT];

/* What a CSR instruction does with its operand. */
enum riscv_csr_kind { RISCV_CSR_WRITE, RISCV_CSR_SET, RISCV_CSR_CLEAR };

/* The first operand of helpers that can refuse their instruction: its encoding above, what it asks for below.
 */
enum { RISCV_PACK_RAW = 32 };

/* CSR: number in bits 0-11, enum riscv_csr_kind in 12-13, and whether the register is read and written at
 * all. */
enum { RISCV_PACK_CSR_KIND = 12 };
#define RISCV_PACK_CSR_READ (UINT64_C(1) << 14)
#define RISCV_PACK_CSR_WRITE (UINT64_C(1) << 15)

/* SFENCE: which of the two operands narrow it. */
#define RISCV_PACK_SFENCE_VA UINT64_C(1)
#define RISCV_PACK_SFENCE_ASID UINT64_C(2)

/* CBO: whether it is cbo.inval, which has a permission of its own. */
#define RISCV_PACK_CBO_INVAL UINT64_C(1)

#endif
