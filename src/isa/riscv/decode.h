/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * From RISC-V machine words to operations with operands; compressed ones come out as what they stand for.
 */
#ifndef HOSTEL_ISA_RISCV_DECODE_H
#define HOSTEL_ISA_RISCV_DECODE_H

#include <stdint.h>

/* One value per row of insn.def, in its order. 0 is every encoding that no row describes. */
enum riscv_op {
    RISCV_OP_ILLEGAL = 0,
#define RISCV_INSN(name, mnemonic, match, mask, format, ext) RISCV_OP_##name,
#include "isa/riscv/insn.def"
    RISCV_OP_COUNT
};

/* The extension that defines an instruction. Compressed forms belong to C, whatever they expand to. */
enum riscv_ext {
    RISCV_EXT_NONE = 0, /* of RISCV_OP_ILLEGAL */
    RISCV_EXT_I,
    RISCV_EXT_M,
    RISCV_EXT_A,
    RISCV_EXT_F,
    RISCV_EXT_D,
    RISCV_EXT_ZICSR,
    RISCV_EXT_ZIFENCEI,
    RISCV_EXT_ZIHINTPAUSE,
    RISCV_EXT_ZBA,
    RISCV_EXT_ZBB,
    RISCV_EXT_ZBS,
    RISCV_EXT_ZBC,
    RISCV_EXT_ZICOND,
    RISCV_EXT_ZICBOM,
    RISCV_EXT_ZICBOZ,
    RISCV_EXT_ZAWRS,
    RISCV_EXT_SVINVAL,
    RISCV_EXT_PRIV, /* volume II, always there with S-mode */
    RISCV_EXT_COUNT
};

/* Where the operands of a row are. x = integer register, f = floating-point register. */
enum riscv_format {
    RISCV_FMT_NONE,   /* no operands */
    RISCV_FMT_R,      /* xd, x1, x2 */
    RISCV_FMT_R1,     /* xd, x1 */
    RISCV_FMT_I,      /* xd, x1, imm[11:0] signed */
    RISCV_FMT_SH6,    /* xd, x1, imm = shift amount 0..63 */
    RISCV_FMT_SH5,    /* xd, x1, imm = shift amount 0..31 */
    RISCV_FMT_LOAD,   /* xd, imm(x1) */
    RISCV_FMT_JALR,   /* xd, imm(x1) */
    RISCV_FMT_S,      /* x2, imm(x1) */
    RISCV_FMT_B,      /* x1, x2, imm = distance from this pc */
    RISCV_FMT_U,      /* xd, imm = bits 31..12 in place, signed 32-bit */
    RISCV_FMT_J,      /* xd, imm = distance from this pc */
    RISCV_FMT_FENCE,  /* imm = fm << 8 | pred << 4 | succ, rm = pred << 4 | succ (IORW from bit 3 to 0) */
    RISCV_FMT_CSR,    /* xd, imm = CSR number, x1 */
    RISCV_FMT_CSRI,   /* xd, imm = CSR number, rs1 = unsigned 5-bit immediate (not a register) */
    RISCV_FMT_SFENCE, /* x1, x2 */
    RISCV_FMT_CBO,    /* x1 */
    RISCV_FMT_LR,     /* xd, (x1), rm = aq << 1 | rl */
    RISCV_FMT_AMO,    /* xd, x2, (x1), rm = aq << 1 | rl */
    RISCV_FMT_FLOAD,  /* fd, imm(x1) */
    RISCV_FMT_FS,     /* f2, imm(x1) */
    RISCV_FMT_FR,     /* fd, f1, f2 */
    RISCV_FMT_FR_RM,  /* fd, f1, f2, rm */
    RISCV_FMT_FR4,    /* fd, f1, f2, f3, rm */
    RISCV_FMT_FF_RM,  /* fd, f1, rm */
    RISCV_FMT_XFF,    /* xd, f1, f2 */
    RISCV_FMT_XF,     /* xd, f1 */
    RISCV_FMT_XF_RM,  /* xd, f1, rm */
    RISCV_FMT_FX,     /* fd, x1 */
    RISCV_FMT_FX_RM,  /* fd, x1, rm */
    /* The compressed layouts. The operands land where the format of the base instruction has them. */
    RISCV_FMT_C_ADDI4SPN,
    RISCV_FMT_C_LW,
    RISCV_FMT_C_LD,
    RISCV_FMT_C_SW,
    RISCV_FMT_C_SD,
    RISCV_FMT_C_ADDI,
    RISCV_FMT_C_LI,
    RISCV_FMT_C_ADDI16SP,
    RISCV_FMT_C_LUI,
    RISCV_FMT_C_SHIFT,
    RISCV_FMT_C_ANDI,
    RISCV_FMT_C_ALU,
    RISCV_FMT_C_J,
    RISCV_FMT_C_BZ,
    RISCV_FMT_C_SLLI,
    RISCV_FMT_C_LWSP,
    RISCV_FMT_C_LDSP,
    RISCV_FMT_C_JR,
    RISCV_FMT_C_JALR,
    RISCV_FMT_C_MV,
    RISCV_FMT_C_ADD,
    RISCV_FMT_C_SWSP,
    RISCV_FMT_C_SDSP,
    RISCV_FMT_COUNT
};

/* Values of riscv_insn.rm in formats with a rounding mode; 5 and 6 are reserved and never come out. */
enum riscv_rm {
    RISCV_RM_RNE = 0,
    RISCV_RM_RTZ = 1,
    RISCV_RM_RDN = 2,
    RISCV_RM_RUP = 3,
    RISCV_RM_RMM = 4,
    RISCV_RM_DYN = 7, /* take frm; a reserved value there is the executing hart's to refuse */
};

#define RISCV_AMO_RL 1 /* riscv_insn.rm of formats LR and AMO */
#define RISCV_AMO_AQ 2

/*
 * One decoded instruction. Fields its format does not name are 0. Registers are numbers 0..31, compressed
 * three-bit ones already with their 8 added; whether integer or floating point follows from the format.
 */
struct riscv_insn {
    uint16_t op; /* enum riscv_op, never a compressed one */
    uint8_t len; /* bytes in memory, 2 or 4, also when op is RISCV_OP_ILLEGAL */
    uint8_t rd;
    uint8_t rs1;
    uint8_t rs2;
    uint8_t rs3;
    uint8_t rm;   /* rounding mode, aq/rl or pred/succ: see enum riscv_format */
    int32_t imm;  /* sign-extended as the format says; an int64_t is made by plain conversion */
    uint32_t raw; /* the encoding, upper half 0 when len is 2: what an illegal instruction puts into xtval */
};

/*
 * Decodes the instruction in @bits, whose lowest two bits say whether it has 2 or 4 bytes; of a 2-byte one
 * the upper half of @bits is ignored, so a caller at the end of a page need not read beyond it. Fills all of
 * @out (borrowed) and returns out->len. Encodings that are undefined, reserved or longer than 32 bits give
 * RISCV_OP_ILLEGAL; hints decode as the operation they are made of, with no effect of its own. No errors, no
 * allocation; any thread.
 */
int riscv_decode(uint32_t bits, struct riscv_insn *out);

/*
 * Builds the decoder's index (well under a millisecond, 11 KiB). The first riscv_decode() does so too; a
 * program calls it at start-up to have no such first call on its data path. Idempotent; any thread.
 */
void riscv_decode_init(void);

/* Facts of a table row by operation; @op below RISCV_OP_COUNT. The strings are constant. */
const char *riscv_op_name(enum riscv_op op);
enum riscv_format riscv_op_format(enum riscv_op op);
enum riscv_ext riscv_op_ext(enum riscv_op op);

/*
 * A compressed instruction under its own name: the mnemonic ("c.addi") of the 16-bit encoding @half and its
 * layout in @format, or NULL with @format untouched when it is illegal. For the disassembler.
 */
const char *riscv_rvc_name(uint16_t half, enum riscv_format *format);

#endif
