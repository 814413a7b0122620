/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * The RISC-V decoder: an index into the rows of insn.def, and one extraction of operands per format.
 *
 * Theory of operation
 *
 * insn.def is searched by mask and match, but not all of it. A 32-bit word selects one of 256 cells by its
 * major opcode and funct3. A cell of more than two rows leads to a page of 128 further cells, selected by
 * funct7. A 16-bit word selects one of 192 cells by quadrant and its six highest bits. Each cell ends in a
 * *run*: the rows possible there, in table order, closed by row 0. Nearly every run is one row long.
 *
 * The index is derived from the table at run time (it would be a second truth if written down), built once,
 * published by pointer and constant from then on, so that decoding threads share it without a lock.
 */
#include "isa/riscv/decode.h"

#include <assert.h>
#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

enum {
    CELLS = 256,
    PAGE_CELLS = 128, /* funct7 */
    PAGES_MAX = 32,
    RUN_MAX = 1024,
    CELL_PAGED = 0x8000, /* the rest of the cell is a page number, not the start of a run */
};

struct row {
    uint32_t match;
    uint32_t mask;
    uint16_t op;
    uint8_t format;
};

/* Row 0 ends every run and is ILLEGAL; row n of the 32-bit part is operation n; compressed rows follow. */
enum row_number {
    ROW_END = 0,
#define RISCV_INSN(name, mnemonic, match, mask, format, ext) ROW_##name,
#include "isa/riscv/insn.def"
    ROW_RVC_FIRST,
    ROW_RVC_BEFORE = ROW_RVC_FIRST - 1,
#define RISCV_RVC(name, mnemonic, match, mask, format, base) ROW_##name,
#include "isa/riscv/insn.def"
    ROW_COUNT
};

static const struct row rows[ROW_COUNT] = {
    [ROW_END] = {0, 0, RISCV_OP_ILLEGAL, RISCV_FMT_NONE},
#define RISCV_INSN(name, mnemonic, match, mask, format, ext)                                                 \
    [ROW_##name] = {match, mask, RISCV_OP_##name, RISCV_FMT_##format},
#define RISCV_RVC(name, mnemonic, match, mask, format, base)                                                 \
    [ROW_##name] = {match, mask, RISCV_OP_##base, RISCV_FMT_##format},
#include "isa/riscv/insn.def"
};

static_assert((int)ROW_RVC_FIRST == (int)RISCV_OP_COUNT, "a 32-bit row has the number of its operation");
static_assert(sizeof(struct riscv_insn) == 16, "the lifter keeps arrays of these");

struct index {
    uint16_t word[CELLS];                 /* opcode[6:2] << 3 | funct3 -> run or page */
    uint16_t half[3 << 6];                /* quadrant << 6 | bits 15..10 -> run */
    uint16_t page[PAGES_MAX][PAGE_CELLS]; /* funct7 -> run */
    uint16_t run[RUN_MAX];                /* row numbers, each run closed by ROW_END; run 0 is empty */
    unsigned pages_used;
    unsigned run_used;
    unsigned run_last; /* start of the run added last */
};

static struct index index_storage;
static _Atomic(const struct index *) index_ready;

/* Every row has its own run of one, laid out in advance, because most cells need just that. */
static inline uint16_t run_of_row(unsigned row)
{
    return (uint16_t)(2 * row - 1);
}

/*
 * Returns the run of all rows of [first, end) that can match a word whose bits under @known equal @bits. A
 * run equal to the one added before is shared: neighbours in a page often are.
 */
static uint16_t index_add_run(struct index *ix, unsigned first, unsigned end, uint32_t bits, uint32_t known)
{
    unsigned start = ix->run_used, len = 0;

    for (unsigned r = first; r < end; r++) {
        if (((rows[r].match ^ bits) & rows[r].mask & known) == 0) {
            g_assert(start + len + 1 < RUN_MAX);
            ix->run[start + len++] = (uint16_t)r;
        }
    }
    if (len == 0) {
        return 0;
    }
    if (len == 1) {
        return run_of_row(ix->run[start]);
    }
    ix->run[start + len++] = ROW_END;
    if (memcmp(&ix->run[ix->run_last], &ix->run[start], len * sizeof(ix->run[0])) == 0) {
        return (uint16_t)ix->run_last;
    }
    ix->run_last = start;
    ix->run_used = start + len;
    return (uint16_t)start;
}

/* Fills the cell of one opcode and funct3, with a page behind it when more than two rows live there. */
static void index_add_word_cell(struct index *ix, unsigned cell)
{
    uint32_t bits = (cell >> 3) << 2 | 3 | (cell & 7) << 12;
    unsigned rows_here = 0;

    for (unsigned r = 1; r < ROW_RVC_FIRST; r++) {
        rows_here += ((rows[r].match ^ bits) & rows[r].mask & 0x707f) == 0;
    }
    if (rows_here <= 2) {
        ix->word[cell] = index_add_run(ix, 1, ROW_RVC_FIRST, bits, 0x707f);
        return;
    }
    g_assert(ix->pages_used < PAGES_MAX);
    unsigned page = ix->pages_used++;
    ix->word[cell] = (uint16_t)(CELL_PAGED | page);
    for (uint32_t funct7 = 0; funct7 < PAGE_CELLS; funct7++) {
        ix->page[page][funct7] = index_add_run(ix, 1, ROW_RVC_FIRST, bits | funct7 << 25, 0xfe00707f);
    }
}

static void index_build(struct index *ix)
{
    for (unsigned r = 1; r < ROW_COUNT; r++) {
        ix->run[run_of_row(r)] = (uint16_t)r;
    }
    ix->run_used = run_of_row(ROW_COUNT);
    for (unsigned cell = 0; cell < CELLS; cell++) {
        index_add_word_cell(ix, cell);
    }
    for (unsigned cell = 0; cell < 3 << 6; cell++) {
        uint32_t bits = (cell & 0x3f) << 10 | cell >> 6;
        ix->half[cell] = index_add_run(ix, ROW_RVC_FIRST, ROW_COUNT, bits, 0xfc03);
    }
}

void riscv_decode_init(void)
{
    static gsize once;

    if (g_once_init_enter(&once)) {
        index_build(&index_storage);
        atomic_store_explicit(&index_ready, &index_storage, memory_order_release);
        g_once_init_leave(&once, 1);
    }
}

/* Kept out of line so that riscv_decode() holds nothing across a call. */
static __attribute__((noinline, cold)) const struct index *index_first_use(void)
{
    riscv_decode_init();
    return atomic_load_explicit(&index_ready, memory_order_acquire);
}

/* @count bits of @v from @from on, moved to @to. */
static inline uint32_t bits_move(uint32_t v, unsigned from, unsigned count, unsigned to)
{
    return (v >> from & ((1U << count) - 1)) << to;
}

/* The lowest @width bits of @v as a signed number. */
static inline int32_t sign_extend(uint32_t v, unsigned width)
{
    return (int32_t)(v << (32 - width)) >> (32 - width);
}

static inline int32_t imm_i(uint32_t w)
{
    return (int32_t)w >> 20;
}

static inline int32_t imm_s(uint32_t w)
{
    return (int32_t)((uint32_t)((int32_t)w >> 25) << 5 | bits_move(w, 7, 5, 0));
}

static inline int32_t imm_b(uint32_t w)
{
    return sign_extend(bits_move(w, 31, 1, 12) | bits_move(w, 7, 1, 11) | bits_move(w, 25, 6, 5) |
                           bits_move(w, 8, 4, 1),
                       13);
}

static inline int32_t imm_j(uint32_t w)
{
    return sign_extend(bits_move(w, 31, 1, 20) | bits_move(w, 12, 8, 12) | bits_move(w, 20, 1, 11) |
                           bits_move(w, 21, 10, 1),
                       21);
}

/* Rounding modes 5 and 6 are reserved (volume I, section 21.2). */
static inline bool take_rm(uint32_t w, struct riscv_insn *out)
{
    out->rm = w >> 12 & 7;
    return out->rm != 5 && out->rm != 6;
}

/* The operands of a 32-bit instruction. False: a field holds a reserved value. */
static inline bool extract_word(uint32_t w, unsigned format, struct riscv_insn *out)
{
    const uint8_t rd = w >> 7 & 31, rs1 = w >> 15 & 31, rs2 = w >> 20 & 31;

    switch (format) {
    case RISCV_FMT_R:
    case RISCV_FMT_FR:
    case RISCV_FMT_XFF: out->rd = rd, out->rs1 = rs1, out->rs2 = rs2; return true;
    case RISCV_FMT_R1:
    case RISCV_FMT_XF:
    case RISCV_FMT_FX: out->rd = rd, out->rs1 = rs1; return true;
    case RISCV_FMT_I:
    case RISCV_FMT_LOAD:
    case RISCV_FMT_JALR:
    case RISCV_FMT_FLOAD: out->rd = rd, out->rs1 = rs1, out->imm = imm_i(w); return true;
    case RISCV_FMT_SH6: out->rd = rd, out->rs1 = rs1, out->imm = w >> 20 & 63; return true;
    case RISCV_FMT_SH5: out->rd = rd, out->rs1 = rs1, out->imm = w >> 20 & 31; return true;
    case RISCV_FMT_S:
    case RISCV_FMT_FS: out->rs1 = rs1, out->rs2 = rs2, out->imm = imm_s(w); return true;
    case RISCV_FMT_B: out->rs1 = rs1, out->rs2 = rs2, out->imm = imm_b(w); return true;
    case RISCV_FMT_U: out->rd = rd, out->imm = (int32_t)(w & 0xfffff000); return true;
    case RISCV_FMT_J: out->rd = rd, out->imm = imm_j(w); return true;
    case RISCV_FMT_FENCE: out->imm = (int32_t)(w >> 20), out->rm = w >> 20 & 0xff; return true;
    case RISCV_FMT_CSR:
    case RISCV_FMT_CSRI: out->rd = rd, out->rs1 = rs1, out->imm = (int32_t)(w >> 20); return true;
    case RISCV_FMT_SFENCE: out->rs1 = rs1, out->rs2 = rs2; return true;
    case RISCV_FMT_CBO: out->rs1 = rs1; return true;
    case RISCV_FMT_LR: out->rd = rd, out->rs1 = rs1, out->rm = w >> 25 & 3; return true;
    case RISCV_FMT_AMO: out->rd = rd, out->rs1 = rs1, out->rs2 = rs2, out->rm = w >> 25 & 3; return true;
    case RISCV_FMT_FR4:
        out->rd = rd, out->rs1 = rs1, out->rs2 = rs2, out->rs3 = (uint8_t)(w >> 27);
        return take_rm(w, out);
    case RISCV_FMT_FR_RM: out->rd = rd, out->rs1 = rs1, out->rs2 = rs2; return take_rm(w, out);
    case RISCV_FMT_FF_RM:
    case RISCV_FMT_XF_RM:
    case RISCV_FMT_FX_RM: out->rd = rd, out->rs1 = rs1; return take_rm(w, out);
    default: return true;
    }
}

/* The immediates of the compressed layouts, named as the manual's table of RVC formats lays them out. */
static inline int32_t imm_c6(uint32_t h)
{
    return sign_extend(bits_move(h, 12, 1, 5) | bits_move(h, 2, 5, 0), 6);
}

static inline int32_t imm_c_shift(uint32_t h)
{
    return (int32_t)(bits_move(h, 12, 1, 5) | bits_move(h, 2, 5, 0));
}

static inline int32_t imm_c_w(uint32_t h)
{
    return (int32_t)(bits_move(h, 10, 3, 3) | bits_move(h, 6, 1, 2) | bits_move(h, 5, 1, 6));
}

static inline int32_t imm_c_d(uint32_t h)
{
    return (int32_t)(bits_move(h, 10, 3, 3) | bits_move(h, 5, 2, 6));
}

static inline int32_t imm_c_addi4spn(uint32_t h)
{
    return (int32_t)(bits_move(h, 11, 2, 4) | bits_move(h, 7, 4, 6) | bits_move(h, 6, 1, 2) |
                     bits_move(h, 5, 1, 3));
}

static inline int32_t imm_c_addi16sp(uint32_t h)
{
    return sign_extend(bits_move(h, 12, 1, 9) | bits_move(h, 6, 1, 4) | bits_move(h, 5, 1, 6) |
                           bits_move(h, 3, 2, 7) | bits_move(h, 2, 1, 5),
                       10);
}

static inline int32_t imm_c_j(uint32_t h)
{
    return sign_extend(bits_move(h, 12, 1, 11) | bits_move(h, 11, 1, 4) | bits_move(h, 9, 2, 8) |
                           bits_move(h, 8, 1, 10) | bits_move(h, 7, 1, 6) | bits_move(h, 6, 1, 7) |
                           bits_move(h, 3, 3, 1) | bits_move(h, 2, 1, 5),
                       12);
}

static inline int32_t imm_c_b(uint32_t h)
{
    return sign_extend(bits_move(h, 12, 1, 8) | bits_move(h, 10, 2, 3) | bits_move(h, 5, 2, 6) |
                           bits_move(h, 3, 2, 1) | bits_move(h, 2, 1, 5),
                       9);
}

/* The operands of a 16-bit instruction, in the places its base instruction has them. */
static inline void extract_half(uint32_t h, unsigned format, struct riscv_insn *out)
{
    const uint8_t r11 = h >> 7 & 31, r6 = h >> 2 & 31;              /* full numbers, named by their top bit */
    const uint8_t r9_3 = 8 + (h >> 7 & 7), r4_3 = 8 + (h >> 2 & 7); /* three-bit ones, x8 or f8 onwards */
    enum { RA = 1, SP = 2 };

    switch (format) {
    case RISCV_FMT_C_ADDI4SPN: out->rd = r4_3, out->rs1 = SP, out->imm = imm_c_addi4spn(h); return;
    case RISCV_FMT_C_LW: out->rd = r4_3, out->rs1 = r9_3, out->imm = imm_c_w(h); return;
    case RISCV_FMT_C_LD: out->rd = r4_3, out->rs1 = r9_3, out->imm = imm_c_d(h); return;
    case RISCV_FMT_C_SW: out->rs2 = r4_3, out->rs1 = r9_3, out->imm = imm_c_w(h); return;
    case RISCV_FMT_C_SD: out->rs2 = r4_3, out->rs1 = r9_3, out->imm = imm_c_d(h); return;
    case RISCV_FMT_C_ADDI: out->rd = out->rs1 = r11, out->imm = imm_c6(h); return;
    case RISCV_FMT_C_LI: out->rd = r11, out->imm = imm_c6(h); return;
    case RISCV_FMT_C_ADDI16SP: out->rd = out->rs1 = SP, out->imm = imm_c_addi16sp(h); return;
    case RISCV_FMT_C_LUI: out->rd = r11, out->imm = imm_c6(h) * 4096; return;
    case RISCV_FMT_C_SHIFT: out->rd = out->rs1 = r9_3, out->imm = imm_c_shift(h); return;
    case RISCV_FMT_C_ANDI: out->rd = out->rs1 = r9_3, out->imm = imm_c6(h); return;
    case RISCV_FMT_C_ALU: out->rd = out->rs1 = r9_3, out->rs2 = r4_3; return;
    case RISCV_FMT_C_J: out->imm = imm_c_j(h); return;
    case RISCV_FMT_C_BZ: out->rs1 = r9_3, out->imm = imm_c_b(h); return;
    case RISCV_FMT_C_SLLI: out->rd = out->rs1 = r11, out->imm = imm_c_shift(h); return;
    case RISCV_FMT_C_LWSP:
        out->rd = r11, out->rs1 = SP;
        out->imm = (int32_t)(bits_move(h, 12, 1, 5) | bits_move(h, 4, 3, 2) | bits_move(h, 2, 2, 6));
        return;
    case RISCV_FMT_C_LDSP:
        out->rd = r11, out->rs1 = SP;
        out->imm = (int32_t)(bits_move(h, 12, 1, 5) | bits_move(h, 5, 2, 3) | bits_move(h, 2, 3, 6));
        return;
    case RISCV_FMT_C_JR: out->rs1 = r11; return;
    case RISCV_FMT_C_JALR: out->rd = RA, out->rs1 = r11; return;
    case RISCV_FMT_C_MV: out->rd = r11, out->rs2 = r6; return;
    case RISCV_FMT_C_ADD: out->rd = out->rs1 = r11, out->rs2 = r6; return;
    case RISCV_FMT_C_SWSP:
        out->rs2 = r6, out->rs1 = SP;
        out->imm = (int32_t)(bits_move(h, 9, 4, 2) | bits_move(h, 7, 2, 6));
        return;
    case RISCV_FMT_C_SDSP:
        out->rs2 = r6, out->rs1 = SP;
        out->imm = (int32_t)(bits_move(h, 10, 3, 3) | bits_move(h, 7, 3, 6));
        return;
    default: return;
    }
}

/* The row for @bits in a run, or at its end the ILLEGAL row, whose match 0 under mask 0 takes everything. */
static inline const struct row *run_find(const uint16_t *run, uint32_t bits)
{
    const struct row *row = &rows[*run];

    while ((bits & row->mask) != row->match) {
        row = &rows[*++run];
    }
    return row;
}

int riscv_decode(uint32_t bits, struct riscv_insn *out)
{
    const struct index *ix = atomic_load_explicit(&index_ready, memory_order_acquire);

    if (G_UNLIKELY(ix == NULL)) {
        ix = index_first_use();
    }
    if ((bits & 3) != 3) {
        bits &= 0xffff;
        const struct row *row = run_find(&ix->run[ix->half[(bits & 3) << 6 | bits >> 10]], bits);
        *out = (struct riscv_insn){.op = row->op, .len = 2, .raw = bits};
        extract_half(bits, row->format, out);
        return 2;
    }

    unsigned cell = ix->word[(bits & 0x7c) << 1 | (bits >> 12 & 7)];
    if (cell & CELL_PAGED) {
        cell = ix->page[cell & ~(unsigned)CELL_PAGED][bits >> 25];
    }
    const struct row *row = run_find(&ix->run[cell], bits);
    *out = (struct riscv_insn){.op = row->op, .len = 4, .raw = bits};
    if (!extract_word(bits, row->format, out)) {
        *out = (struct riscv_insn){.op = RISCV_OP_ILLEGAL, .len = 4, .raw = bits};
    }
    return 4;
}

const char *riscv_op_name(enum riscv_op op)
{
    static const char *const names[RISCV_OP_COUNT] = {
        [RISCV_OP_ILLEGAL] = "illegal",
#define RISCV_INSN(name, mnemonic, match, mask, format, ext) [RISCV_OP_##name] = mnemonic,
#include "isa/riscv/insn.def"
    };

    return names[op];
}

enum riscv_format riscv_op_format(enum riscv_op op)
{
    return (enum riscv_format)rows[op].format;
}

enum riscv_ext riscv_op_ext(enum riscv_op op)
{
    static const uint8_t exts[RISCV_OP_COUNT] = {
#define RISCV_INSN(name, mnemonic, match, mask, format, ext) [RISCV_OP_##name] = RISCV_EXT_##ext,
#include "isa/riscv/insn.def"
    };

    return (enum riscv_ext)exts[op];
}

const char *riscv_rvc_name(uint16_t half, enum riscv_format *format)
{
    static const struct {
        uint16_t match, mask, op;
        uint8_t format;
        const char *name;
    } forms[] = {
#define RISCV_RVC(name, mnemonic, match, mask, format, base)                                                 \
    {match, mask, RISCV_OP_##base, RISCV_FMT_##format, mnemonic},
#include "isa/riscv/insn.def"
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(forms); i++) {
        if ((half & forms[i].mask) != forms[i].match) {
            continue;
        }
        if (forms[i].op == RISCV_OP_ILLEGAL) {
            return NULL;
        }
        *format = (enum riscv_format)forms[i].format;
        return forms[i].name;
    }
    return NULL;
}
