/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * The RISC-V disassembler: the decoder's result through one operand template per format, and a table of
 * aliases.
 *
 * A template is the operand text with a letter where a field goes:
 *
 *   d s t     integer register rd, rs1, rs2        D S T R   floating-point register rd, rs1, rs2, rs3
 *   i         immediate, signed decimal            x         immediate, hexadecimal
 *   u         upper 20 bits of a U immediate       p         branch target
 *   c         CSR                                  z         rs1 as a number
 *   P Q       predecessor and successor set        m         ",mode" unless the rounding mode is dynamic
 *
 * Everything else stands for itself.
 */
#include "isa/riscv/disasm.h"

#include <glib.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "isa/riscv/decode.h"

static const char *const x_names[32] = {
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0",  "a1",  "a2", "a3", "a4", "a5",
    "a6",   "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
};

static const char *const f_names[32] = {
    "ft0", "ft1", "ft2", "ft3", "ft4",  "ft5",  "ft6", "ft7", "fs0",  "fs1",  "fa0",
    "fa1", "fa2", "fa3", "fa4", "fa5",  "fa6",  "fa7", "fs2", "fs3",  "fs4",  "fs5",
    "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
};

/* Compressed loads and stores have no template: their operands read as the base instruction's. */
static const char *const templates[RISCV_FMT_COUNT] = {
    [RISCV_FMT_NONE] = "",
    [RISCV_FMT_R] = "d,s,t",
    [RISCV_FMT_R1] = "d,s",
    [RISCV_FMT_I] = "d,s,i",
    [RISCV_FMT_SH6] = "d,s,x",
    [RISCV_FMT_SH5] = "d,s,x",
    [RISCV_FMT_LOAD] = "d,i(s)",
    [RISCV_FMT_JALR] = "d,i(s)",
    [RISCV_FMT_S] = "t,i(s)",
    [RISCV_FMT_B] = "s,t,p",
    [RISCV_FMT_U] = "d,u",
    [RISCV_FMT_J] = "d,p",
    [RISCV_FMT_FENCE] = "P,Q",
    [RISCV_FMT_CSR] = "d,c,s",
    [RISCV_FMT_CSRI] = "d,c,z",
    [RISCV_FMT_SFENCE] = "s,t",
    [RISCV_FMT_CBO] = "(s)",
    [RISCV_FMT_LR] = "d,(s)",
    [RISCV_FMT_AMO] = "d,t,(s)",
    [RISCV_FMT_FLOAD] = "D,i(s)",
    [RISCV_FMT_FS] = "T,i(s)",
    [RISCV_FMT_FR] = "D,S,T",
    [RISCV_FMT_FR_RM] = "D,S,Tm",
    [RISCV_FMT_FR4] = "D,S,T,Rm",
    [RISCV_FMT_FF_RM] = "D,Sm",
    [RISCV_FMT_XFF] = "d,S,T",
    [RISCV_FMT_XF] = "d,S",
    [RISCV_FMT_XF_RM] = "d,Sm",
    [RISCV_FMT_FX] = "D,s",
    [RISCV_FMT_FX_RM] = "D,sm",
    [RISCV_FMT_C_ADDI4SPN] = "d,s,i",
    [RISCV_FMT_C_ADDI] = "d,i",
    [RISCV_FMT_C_LI] = "d,i",
    [RISCV_FMT_C_ADDI16SP] = "d,i",
    [RISCV_FMT_C_LUI] = "d,u",
    [RISCV_FMT_C_SHIFT] = "d,x",
    [RISCV_FMT_C_ANDI] = "d,i",
    [RISCV_FMT_C_ALU] = "d,t",
    [RISCV_FMT_C_J] = "p",
    [RISCV_FMT_C_BZ] = "s,p",
    [RISCV_FMT_C_SLLI] = "d,x",
    [RISCV_FMT_C_JR] = "s",
    [RISCV_FMT_C_JALR] = "s",
    [RISCV_FMT_C_MV] = "d,t",
    [RISCV_FMT_C_ADD] = "d,t",
};

/*
 * A shorter name for an operation with certain operands. ANY leaves a field open; SAME in rs2 asks for rs2 ==
 * rs1. The first row that fits is used.
 */
enum { ANY = -1, SAME = -2, IMM_ANY = INT32_MIN, FENCE_ALL = 0xff };

struct alias {
    uint16_t op;
    int8_t rd, rs1, rs2;
    int32_t imm;
    const char *name;
    const char *operands;
};

static const struct alias aliases[] = {
    {RISCV_OP_ADDI, 0, 0, ANY, 0, "nop", ""},
    {RISCV_OP_ADDI, ANY, 0, ANY, IMM_ANY, "li", "d,i"},
    {RISCV_OP_ADDI, ANY, ANY, ANY, 0, "mv", "d,s"},
    {RISCV_OP_ADD, ANY, 0, ANY, IMM_ANY, "mv", "d,t"},
    {RISCV_OP_XORI, ANY, ANY, ANY, -1, "not", "d,s"},
    {RISCV_OP_ANDI, ANY, ANY, ANY, 255, "zext.b", "d,s"},
    {RISCV_OP_SUB, ANY, 0, ANY, IMM_ANY, "neg", "d,t"},
    {RISCV_OP_SUBW, ANY, 0, ANY, IMM_ANY, "negw", "d,t"},
    {RISCV_OP_ADDIW, ANY, ANY, ANY, 0, "sext.w", "d,s"},
    {RISCV_OP_ADD_UW, ANY, ANY, 0, IMM_ANY, "zext.w", "d,s"},
    {RISCV_OP_SLTIU, ANY, ANY, ANY, 1, "seqz", "d,s"},
    {RISCV_OP_SLTU, ANY, 0, ANY, IMM_ANY, "snez", "d,t"},
    {RISCV_OP_SLT, ANY, ANY, 0, IMM_ANY, "sltz", "d,s"},
    {RISCV_OP_SLT, ANY, 0, ANY, IMM_ANY, "sgtz", "d,t"},
    {RISCV_OP_BEQ, ANY, ANY, 0, IMM_ANY, "beqz", "s,p"},
    {RISCV_OP_BNE, ANY, ANY, 0, IMM_ANY, "bnez", "s,p"},
    {RISCV_OP_BGE, ANY, 0, ANY, IMM_ANY, "blez", "t,p"},
    {RISCV_OP_BGE, ANY, ANY, 0, IMM_ANY, "bgez", "s,p"},
    {RISCV_OP_BLT, ANY, ANY, 0, IMM_ANY, "bltz", "s,p"},
    {RISCV_OP_BLT, ANY, 0, ANY, IMM_ANY, "bgtz", "t,p"},
    {RISCV_OP_JAL, 0, ANY, ANY, IMM_ANY, "j", "p"},
    {RISCV_OP_JAL, 1, ANY, ANY, IMM_ANY, "jal", "p"},
    {RISCV_OP_JALR, 0, 1, ANY, 0, "ret", ""},
    {RISCV_OP_JALR, 0, ANY, ANY, 0, "jr", "s"},
    {RISCV_OP_JALR, 0, ANY, ANY, IMM_ANY, "jr", "i(s)"},
    {RISCV_OP_JALR, 1, ANY, ANY, 0, "jalr", "s"},
    {RISCV_OP_JALR, 1, ANY, ANY, IMM_ANY, "jalr", "i(s)"},
    {RISCV_OP_JALR, ANY, ANY, ANY, 0, "jalr", "d,s"},
    {RISCV_OP_FENCE, ANY, ANY, ANY, FENCE_ALL, "fence", ""},
    {RISCV_OP_SFENCE_VMA, ANY, 0, 0, IMM_ANY, "sfence.vma", ""},
    {RISCV_OP_SFENCE_VMA, ANY, ANY, 0, IMM_ANY, "sfence.vma", "s"},
    {RISCV_OP_CSRRW, 0, 0, ANY, 0xc00, "unimp", ""},
    {RISCV_OP_CSRRS, ANY, 0, ANY, 0xc00, "rdcycle", "d"},
    {RISCV_OP_CSRRS, ANY, 0, ANY, 0xc01, "rdtime", "d"},
    {RISCV_OP_CSRRS, ANY, 0, ANY, 0xc02, "rdinstret", "d"},
    {RISCV_OP_CSRRS, ANY, 0, ANY, 0x001, "frflags", "d"},
    {RISCV_OP_CSRRS, ANY, 0, ANY, 0x002, "frrm", "d"},
    {RISCV_OP_CSRRS, ANY, 0, ANY, 0x003, "frcsr", "d"},
    {RISCV_OP_CSRRW, 0, ANY, ANY, 0x001, "fsflags", "s"},
    {RISCV_OP_CSRRW, 0, ANY, ANY, 0x002, "fsrm", "s"},
    {RISCV_OP_CSRRW, 0, ANY, ANY, 0x003, "fscsr", "s"},
    {RISCV_OP_CSRRW, ANY, ANY, ANY, 0x001, "fsflags", "d,s"},
    {RISCV_OP_CSRRW, ANY, ANY, ANY, 0x002, "fsrm", "d,s"},
    {RISCV_OP_CSRRW, ANY, ANY, ANY, 0x003, "fscsr", "d,s"},
    {RISCV_OP_CSRRWI, ANY, ANY, ANY, 0x001, "fsflagsi", "d,z"},
    {RISCV_OP_CSRRWI, ANY, ANY, ANY, 0x002, "fsrmi", "d,z"},
    {RISCV_OP_CSRRS, ANY, 0, ANY, IMM_ANY, "csrr", "d,c"},
    {RISCV_OP_CSRRW, 0, ANY, ANY, IMM_ANY, "csrw", "c,s"},
    {RISCV_OP_CSRRS, 0, ANY, ANY, IMM_ANY, "csrs", "c,s"},
    {RISCV_OP_CSRRC, 0, ANY, ANY, IMM_ANY, "csrc", "c,s"},
    {RISCV_OP_CSRRWI, 0, ANY, ANY, IMM_ANY, "csrwi", "c,z"},
    {RISCV_OP_CSRRSI, 0, ANY, ANY, IMM_ANY, "csrsi", "c,z"},
    {RISCV_OP_CSRRCI, 0, ANY, ANY, IMM_ANY, "csrci", "c,z"},
    {RISCV_OP_FSGNJ_S, ANY, ANY, SAME, IMM_ANY, "fmv.s", "D,S"},
    {RISCV_OP_FSGNJN_S, ANY, ANY, SAME, IMM_ANY, "fneg.s", "D,S"},
    {RISCV_OP_FSGNJX_S, ANY, ANY, SAME, IMM_ANY, "fabs.s", "D,S"},
    {RISCV_OP_FSGNJ_D, ANY, ANY, SAME, IMM_ANY, "fmv.d", "D,S"},
    {RISCV_OP_FSGNJN_D, ANY, ANY, SAME, IMM_ANY, "fneg.d", "D,S"},
    {RISCV_OP_FSGNJX_D, ANY, ANY, SAME, IMM_ANY, "fabs.d", "D,S"},
};

/* Text under construction: len counts what was wanted, buf holds what fitted. */
struct text {
    char *buf;
    size_t n;
    size_t len;
};

static void __attribute__((format(printf, 2, 3))) text_add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    bool room = t->len < t->n;

    va_start(ap, fmt);
    int added = vsnprintf(room ? t->buf + t->len : NULL, room ? t->n - t->len : 0, fmt, ap);
    va_end(ap);
    t->len += added > 0 ? (size_t)added : 0;
}

static void text_add_fence_set(struct text *t, unsigned set)
{
    if (set == 0) {
        text_add(t, "0");
    }
    for (unsigned i = 0; i < 4; i++) {
        if (set & 8U >> i) {
            text_add(t, "%c", "iorw"[i]);
        }
    }
}

static void text_add_csr(struct text *t, unsigned csr)
{
    const char *name = riscv_csr_name(csr);

    if (name) {
        text_add(t, "%s", name);
    } else {
        text_add(t, "0x%x", csr);
    }
}

/* Conversions that are always exact carry a rounding mode too, and RNE in it is what assemblers write. */
static bool rm_is_silent(const struct riscv_insn *insn)
{
    bool exact =
        insn->op == RISCV_OP_FCVT_D_S || insn->op == RISCV_OP_FCVT_D_W || insn->op == RISCV_OP_FCVT_D_WU;

    return insn->rm == RISCV_RM_DYN || (exact && insn->rm == RISCV_RM_RNE);
}

static void text_add_rm(struct text *t, const struct riscv_insn *insn)
{
    static const char *const modes[] = {"rne", "rtz", "rdn", "rup", "rmm"};

    if (!rm_is_silent(insn) && insn->rm < G_N_ELEMENTS(modes)) {
        text_add(t, ",%s", modes[insn->rm]);
    }
}

static void text_add_field(struct text *t, char field, uint64_t pc, const struct riscv_insn *insn)
{
    switch (field) {
    case 'd': text_add(t, "%s", x_names[insn->rd]); break;
    case 's': text_add(t, "%s", x_names[insn->rs1]); break;
    case 't': text_add(t, "%s", x_names[insn->rs2]); break;
    case 'D': text_add(t, "%s", f_names[insn->rd]); break;
    case 'S': text_add(t, "%s", f_names[insn->rs1]); break;
    case 'T': text_add(t, "%s", f_names[insn->rs2]); break;
    case 'R': text_add(t, "%s", f_names[insn->rs3]); break;
    case 'i': text_add(t, "%" PRId32, insn->imm); break;
    case 'x': text_add(t, "0x%" PRIx32, (uint32_t)insn->imm); break;
    case 'u': text_add(t, "0x%" PRIx32, (uint32_t)insn->imm >> 12); break;
    case 'p': text_add(t, "0x%" PRIx64, pc + (uint64_t)(int64_t)insn->imm); break;
    case 'c': text_add_csr(t, (unsigned)insn->imm); break;
    case 'z': text_add(t, "%u", insn->rs1); break;
    case 'P': text_add_fence_set(t, insn->rm >> 4); break;
    case 'Q': text_add_fence_set(t, insn->rm & 15); break;
    case 'm': text_add_rm(t, insn); break;
    default: text_add(t, "%c", field); break;
    }
}

static void text_add_operands(struct text *t, const char *operands, uint64_t pc,
                              const struct riscv_insn *insn)
{
    if (*operands) {
        text_add(t, "\t");
    }
    for (; *operands; operands++) {
        text_add_field(t, *operands, pc, insn);
    }
}

static const struct alias *alias_find(const struct riscv_insn *insn)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(aliases); i++) {
        const struct alias *a = &aliases[i];
        if (a->op == insn->op && (a->rd == ANY || a->rd == insn->rd) &&
            (a->rs1 == ANY || a->rs1 == insn->rs1) &&
            (a->rs2 == ANY || (a->rs2 == SAME ? insn->rs1 : a->rs2) == insn->rs2) &&
            (a->imm == IMM_ANY || a->imm == insn->imm)) {
            return a;
        }
    }
    return NULL;
}

/* "amoadd.w.aqrl": the ordering of LR, SC and AMO is part of the name. */
static const char *order_suffix(const struct riscv_insn *insn, enum riscv_format format)
{
    static const char *const suffixes[4] = {"", ".rl", ".aq", ".aqrl"};

    return format == RISCV_FMT_LR || format == RISCV_FMT_AMO ? suffixes[insn->rm & 3] : "";
}

static void text_add_insn(struct text *t, uint64_t pc, const struct riscv_insn *insn, unsigned flags)
{
    enum riscv_format format = riscv_op_format((enum riscv_op)insn->op);
    const struct alias *alias = flags & RISCV_DISASM_EXACT ? NULL : alias_find(insn);

    if (insn->op == RISCV_OP_ILLEGAL) {
        text_add(t, ".%ubyte\t0x%" PRIx32, (unsigned)insn->len, insn->raw);
    } else if (alias) {
        text_add(t, "%s", alias->name);
        text_add_operands(t, alias->operands, pc, insn);
    } else if (insn->len == 2 && flags & RISCV_DISASM_EXACT) {
        enum riscv_format own = RISCV_FMT_NONE;
        const char *name = riscv_rvc_name((uint16_t)insn->raw, &own);
        text_add(t, "%s", name);
        text_add_operands(t, templates[own] ? templates[own] : templates[format], pc, insn);
    } else {
        text_add(t, "%s%s", riscv_op_name((enum riscv_op)insn->op), order_suffix(insn, format));
        text_add_operands(t, templates[format], pc, insn);
    }
}

int riscv_disasm_flags(uint64_t pc, uint32_t bits, unsigned flags, char *buf, size_t n)
{
    struct text t = {.buf = buf, .n = n};
    struct riscv_insn insn;

    if (n > 0) {
        buf[0] = '\0';
    }
    riscv_decode(bits, &insn);
    text_add_insn(&t, pc, &insn, flags);
    return insn.len;
}

int riscv_disasm(uint64_t pc, uint32_t bits, char *buf, size_t n)
{
    return riscv_disasm_flags(pc, bits, 0, buf, n);
}
