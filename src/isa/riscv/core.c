/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A hart's registers as the notes of an ELF core file: Linux's layouts for RISC-V, which debuggers know. */
#include "base/byteorder.h"
#include "isa/riscv/priv.h"

/* struct elf_prstatus of 64-bit Linux: what is not named here means nothing for a machine and stays zero. */
enum { STATUS_PID = 32, STATUS_REGS = 112, STATUS_FP_VALID = 368, STATUS_BYTES = 376 };
/* struct user_regs_struct: pc, then x1 to x31. */
enum { REGS_PC = STATUS_REGS, REGS_X0 = STATUS_REGS };
/* struct __riscv_d_ext_state: f0 to f31, then fcsr. */
enum { FP_CSR = 256, FP_BYTES = 264 };

unsigned riscv_core_note(const struct env *env, enum isa_note kind, uint32_t id, uint8_t *note)
{
    switch (kind) {
    case ISA_NOTE_STATUS:
        st32le(note + STATUS_PID, id);
        st64le(note + REGS_PC, env->pc);
        for (unsigned i = 1; i < 32; i++)
            st64le(note + REGS_X0 + i * 8, env->reg[RISCV_REG_X0 + i]);
        st32le(note + STATUS_FP_VALID, 1);
        return STATUS_BYTES;
    case ISA_NOTE_FP:
        for (unsigned i = 0; i < 32; i++)
            st64le(note + i * 8, env->reg[RISCV_REG_F0 + i]);
        st32le(note + FP_CSR, (uint32_t)riscv_cpu_const(env)->frm << 5 | env->fp_flags);
        return FP_BYTES;
    }
    return 0;
}
