/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * The RISC-V decoder against its own table, against the reserved encodings of the manual, and against GNU
 * objdump.
 */
#include <glib.h>
#include <stdbool.h>
#include <string.h>

#include "isa/riscv/decode.h"
#include "objdump.h"

struct test_row {
    const char *name;
    uint32_t match, mask;
    enum riscv_format format;
    bool half;
};

static const struct test_row table[] = {
    [RISCV_OP_ILLEGAL] = {"ILLEGAL", 0, 0xffffffff, RISCV_FMT_NONE, false},
#define RISCV_INSN(name, mnemonic, match, mask, format, ext) {#name, match, mask, RISCV_FMT_##format, false},
#include "isa/riscv/insn.def"
#define RISCV_RVC(name, mnemonic, match, mask, format, base) {#name, match, mask, RISCV_FMT_##format, true},
#include "isa/riscv/insn.def"
};

/* The rows of a word by linear search: the index must not lose or reorder one. */
static enum riscv_op naive_op(uint32_t word)
{
    unsigned rm = word >> 12 & 7;

    for (unsigned i = 1; i < RISCV_OP_COUNT; i++) {
        if ((word & table[i].mask) == table[i].match) {
            bool has_rm = !(table[i].mask & 0x7000) && (table[i].match & 0x7f) >= 0x43 &&
                          (table[i].match & 0x7f) <= 0x53;
            return has_rm && (rm == 5 || rm == 6) ? RISCV_OP_ILLEGAL : (enum riscv_op)i;
        }
    }
    return RISCV_OP_ILLEGAL;
}

/* Several threads make the first call at once; run first, and under the thread sanitizer. */
static void *first_use_thread(void *unused)
{
    struct riscv_insn insn;

    for (int i = 0; i < 1000; i++) {
        riscv_decode(0x02a58533, &insn);
        g_assert_cmpint(insn.op, ==, RISCV_OP_MUL);
    }
    return unused;
}

static void test_first_use(void)
{
    GThread *threads[4];

    for (int i = 0; i < 4; i++) {
        threads[i] = g_thread_new("decode", first_use_thread, NULL);
    }
    for (int i = 0; i < 4; i++) {
        g_thread_join(threads[i]);
    }
}

/* A row before both takes every encoding that @a and @b share. */
static bool shared_is_taken(unsigned a, unsigned b)
{
    uint32_t match = table[a].match | table[b].match, mask = table[a].mask | table[b].mask;

    for (unsigned i = 1; i < a; i++) {
        if (table[i].half == table[a].half && (table[i].mask & ~mask) == 0 &&
            (match & table[i].mask) == table[i].match) {
            return true;
        }
    }
    return false;
}

static void test_table(void)
{
    for (unsigned i = 1; i < G_N_ELEMENTS(table); i++) {
        const struct test_row *a = &table[i];
        g_assert_cmphex(a->match & ~a->mask, ==, 0);
        g_assert_true(a->half ? (a->match & 3) != 3 && a->mask <= 0xffff : (a->match & 3) == 3);
        g_assert_cmphex(a->mask & 3, ==, 3);
        for (unsigned j = i + 1; j < G_N_ELEMENTS(table); j++) {
            const struct test_row *b = &table[j];
            if (a->half != b->half || ((a->match ^ b->match) & a->mask & b->mask)) {
                continue;
            }
            bool more_specific = (a->mask & b->mask) == b->mask && a->mask != b->mask;
            if (!more_specific && !shared_is_taken(i, j)) {
                g_error("%s and %s overlap, and the first is not the more specific one", a->name, b->name);
            }
        }
    }
}

/* Formats without a second, or a third, source leave it 0, also where a compressed instruction was expanded.
 */
static void check_unused(const struct riscv_insn *insn)
{
    enum riscv_format format = riscv_op_format((enum riscv_op)insn->op);
    const uint64_t with_rs2 = 1ULL << RISCV_FMT_R | 1ULL << RISCV_FMT_S | 1ULL << RISCV_FMT_B |
                              1ULL << RISCV_FMT_SFENCE | 1ULL << RISCV_FMT_AMO | 1ULL << RISCV_FMT_FS |
                              1ULL << RISCV_FMT_FR | 1ULL << RISCV_FMT_FR_RM | 1ULL << RISCV_FMT_FR4 |
                              1ULL << RISCV_FMT_XFF;
    const uint64_t without_rd = 1ULL << RISCV_FMT_NONE | 1ULL << RISCV_FMT_S | 1ULL << RISCV_FMT_B |
                                1ULL << RISCV_FMT_FENCE | 1ULL << RISCV_FMT_SFENCE | 1ULL << RISCV_FMT_CBO |
                                1ULL << RISCV_FMT_FS;

    g_assert_true(insn->rs2 == 0 || with_rs2 >> format & 1);
    g_assert_true(insn->rs3 == 0 || format == RISCV_FMT_FR4);
    g_assert_false(insn->rd != 0 && without_rd >> format & 1);
    g_assert_false(insn->rs1 != 0 &&
                   (format == RISCV_FMT_U || format == RISCV_FMT_J || format == RISCV_FMT_NONE));
}

static void check_insn(uint32_t bits)
{
    struct riscv_insn insn;
    int len = riscv_decode(bits, &insn);

    g_assert_cmpint(len, ==, (bits & 3) == 3 ? 4 : 2);
    g_assert_cmpint(insn.len, ==, len);
    g_assert_cmphex(insn.raw, ==, len == 4 ? bits : bits & 0xffff);
    g_assert_cmpint(insn.op, <, RISCV_OP_COUNT);
    g_assert_cmpint(insn.rd | insn.rs1 | insn.rs2 | insn.rs3, <, 32);
    if (insn.op == RISCV_OP_ILLEGAL) {
        g_assert_cmpint(insn.rd | insn.rs1 | insn.rs2 | insn.rs3 | insn.rm | insn.imm, ==, 0);
    }
    check_unused(&insn);
    if (len == 4) {
        g_assert_cmpint(insn.op, ==, naive_op(bits));
    }
}

static void test_index(void)
{
    for (uint32_t half = 0; half < 0x10000; half++) {
        check_insn(half | 0xdead0000);
    }
    for (int i = 0; i < 500000; i++) {
        check_insn((uint32_t)g_test_rand_int());
        check_insn((uint32_t)g_test_rand_int() | 3);
    }
    for (unsigned i = 1; i < RISCV_OP_COUNT; i++) {
        for (int j = 0; j < 300; j++) {
            uint32_t word = table[i].match | ((uint32_t)g_test_rand_int() & ~table[i].mask);
            check_insn(word);
            check_insn(word ^ 1U << g_test_rand_int_range(2, 32)); /* the neighbourhood of what is defined */
        }
    }
}

static void test_reserved(void)
{
    static const uint32_t illegal[] = {
        0x00000000,                         /* all zero */
        0xffffffff,                         /* all one */
        0x0000001f,                         /* 48 bits and more */
        0x0000003f, 0x0000007f, 0x0000000c, /* c.addi4spn with immediate 0: the rest of the layout free */
        0x00008000,                         /* quadrant 0, funct3 4 (Zcb) */
        0x00002001,                         /* c.addiw x0 */
        0x00006101,                         /* c.addi16sp 0 */
        0x00006081,                         /* c.lui ra, 0 */
        0x00009c41,                         /* quadrant 1, 100111 with 10 */
        0x00009c61,                         /* and with 11 (Zcb) */
        0x00004002,                         /* c.lwsp x0 */
        0x00006002,                         /* c.ldsp x0 */
        0x00008002,                         /* c.jr x0 */
        0x02b5d553,                         /* fadd.d with rounding mode 5 */
        0x02b5e553,                         /* and 6 */
        0x62b5d543,                         /* fmadd.d with rounding mode 5 */
        0x06b57553,                         /* fadd.q */
        0x04b57553,                         /* fadd.h */
        0x58157553,                         /* fsqrt.s with rs2 = 1 */
        0x1015252f,                         /* lr.w with rs2 = 1 */
        0x1005452f,                         /* lr.q */
        0x0200101b,                         /* slliw by 32 */
        0x8000101b, 0x04001013,             /* slli with bit 26 */
        0x00001067,                         /* jalr with funct3 1 */
        0x00002063,                         /* branch with funct3 2 */
        0x00007003,                         /* load with funct3 7 */
        0x00004023,                         /* store with funct3 4 */
        0x00004073,                         /* system with funct3 4 (hypervisor) */
        0x00000173,                         /* ecall with rd = 2 */
        0x10200173,                         /* sret with rd = 2 */
        0x00200073,                         /* uret, gone */
        0x12000173,                         /* sfence.vma with rd */
        0x0030200f,                         /* cbo with 3 */
        0x0000208f,                         /* cbo with rd */
        0x0000002b,                         /* custom-1 */
        0x00000057,                         /* vector */
    };
    struct riscv_insn insn;

    for (unsigned i = 0; i < G_N_ELEMENTS(illegal); i++) {
        riscv_decode(illegal[i], &insn);
        if (insn.op != RISCV_OP_ILLEGAL) {
            g_error("0x%08x decodes as %s", illegal[i], riscv_op_name((enum riscv_op)insn.op));
        }
    }
}

/* Fields that objdump's text does not show, or shows in another way. */
static void test_fields(void)
{
    static const struct {
        uint32_t bits;
        struct riscv_insn want;
    } cases[] = {
        {0x0ff0000f, {.op = RISCV_OP_FENCE, .len = 4, .rm = 0xff, .imm = 0x0ff}},
        {0x9230050f, {.op = RISCV_OP_FENCE, .len = 4, .rm = 0x23, .imm = (int32_t)0x923}},
        {0x8330000f, {.op = RISCV_OP_FENCE_TSO, .len = 4}},
        {0x0100000f, {.op = RISCV_OP_PAUSE, .len = 4}},
        {0x1234908f, {.op = RISCV_OP_FENCE_I, .len = 4}},
        {0x3002d073, {.op = RISCV_OP_CSRRWI, .len = 4, .rs1 = 5, .imm = 0x300}},
        {0xf1402573, {.op = RISCV_OP_CSRRS, .len = 4, .rd = 10, .imm = 0xf14}},
        {0x1405a52f, {.op = RISCV_OP_LR_W, .len = 4, .rd = 10, .rs1 = 11, .rm = RISCV_AMO_AQ}},
        {0x1ac5b52f, {.op = RISCV_OP_SC_D, .len = 4, .rd = 10, .rs1 = 11, .rs2 = 12, .rm = RISCV_AMO_RL}},
        {0x800000b7, {.op = RISCV_OP_LUI, .len = 4, .rd = 1, .imm = INT32_MIN}},
        {0x6ac5f543, {.op = RISCV_OP_FMADD_D, .len = 4, .rd = 10, .rs1 = 11, .rs2 = 12, .rs3 = 13, .rm = 7}},
        {0x0e5550b3, {.op = RISCV_OP_CZERO_EQZ, .len = 4, .rd = 1, .rs1 = 10, .rs2 = 5}},
        {0x0e5570b3, {.op = RISCV_OP_CZERO_NEZ, .len = 4, .rd = 1, .rs1 = 10, .rs2 = 5}},
        {0x0012e013, {.op = RISCV_OP_ORI, .len = 4, .rs1 = 5, .imm = 1}}, /* prefetch.r */
        {0x00009002, {.op = RISCV_OP_EBREAK, .len = 2}},
        {0x00008082, {.op = RISCV_OP_JALR, .len = 2, .rs1 = 1}},
        {0x00004505, {.op = RISCV_OP_ADDI, .len = 2, .rd = 10, .imm = 1}},
        {0x0000b502, {.op = RISCV_OP_FSD, .len = 2, .rs1 = 2, .rs2 = 0, .imm = 168}},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct riscv_insn insn, want = cases[i].want;
        want.raw = cases[i].bits;
        riscv_decode(cases[i].bits, &insn);
        g_test_message("%08x: op %u rd %u rs1 %u rs2 %u rm %u imm 0x%x", insn.raw, insn.op, insn.rd, insn.rs1,
                       insn.rs2, insn.rm, (unsigned)insn.imm);
        g_assert_cmpmem(&insn, sizeof(insn), &want, sizeof(want));
    }
}

/* The 32-bit word of an operation with these operands, for the formats that compressed instructions stand
 * for. */
static uint32_t encode(const struct riscv_insn *insn)
{
    uint32_t word = table[insn->op].match, imm = (uint32_t)insn->imm;
    uint32_t rd = (uint32_t)insn->rd << 7, rs1 = (uint32_t)insn->rs1 << 15, rs2 = (uint32_t)insn->rs2 << 20;

    switch (riscv_op_format((enum riscv_op)insn->op)) {
    case RISCV_FMT_NONE: return word;
    case RISCV_FMT_R:
        if (insn->op == RISCV_OP_ADD && insn->rs1 == 0) { /* c.mv: objdump says "mv" to addi rd, rs, 0 only */
            return table[RISCV_OP_ADDI].match | rd | (uint32_t)insn->rs2 << 15;
        }
        return word | rd | rs1 | rs2;
    case RISCV_FMT_U: return word | rd | imm;
    case RISCV_FMT_I:
    case RISCV_FMT_LOAD:
    case RISCV_FMT_JALR:
    case RISCV_FMT_FLOAD:
    case RISCV_FMT_SH6: return word | rd | rs1 | imm << 20;
    case RISCV_FMT_S:
    case RISCV_FMT_FS: return word | rs1 | rs2 | (imm >> 5) << 25 | (imm & 31) << 7;
    case RISCV_FMT_B:
        return word | rs1 | rs2 | (imm >> 12 & 1) << 31 | (imm >> 5 & 63) << 25 | (imm >> 1 & 15) << 8 |
               (imm >> 11 & 1) << 7;
    case RISCV_FMT_J:
        return word | rd | (imm >> 20 & 1) << 31 | (imm >> 1 & 1023) << 21 | (imm >> 11 & 1) << 20 |
               (imm >> 12 & 255) << 12;
    default: g_assert_not_reached();
    }
}

/*
 * What binutils 2.40 prints for halves that are no instruction. It takes 0x6101 (c.addi16sp with immediate 0)
 * for one, although the manual reserves it.
 */
static bool oracle_refuses(const char *text, uint32_t half)
{
    return g_str_has_prefix(text, ".2byte") || strcmp(text, "unimp") == 0 || half == 0x6101;
}

/*
 * All halves: objdump reads the compressed instruction (followed by a c.nop) and the base instruction the
 * decoder made of it at the same address, and must print the same. Hints it prints by their compressed name,
 * which says that they are legal and no more.
 */
static void test_expansion(void)
{
    enum { COUNT = 0xc000, BYTES = COUNT * 4 };
    g_autofree uint32_t *halves = g_new(uint32_t, COUNT);
    g_autofree uint32_t *words = g_new(uint32_t, COUNT);
    g_autofree struct riscv_insn *insns = g_new(struct riscv_insn, COUNT);
    unsigned hints = 0, refused = 0, n = 0;

    for (uint32_t half = 0; half < 0x10000; half++) {
        if ((half & 3) != 3) {
            riscv_decode(half, &insns[n]);
            halves[n] = GUINT32_TO_LE(0x00010000 | half);
            words[n] = GUINT32_TO_LE(encode(&insns[n]));
            n++;
        }
    }
    g_assert_cmpuint(n, ==, COUNT);
    char **got = objdump_run(halves, BYTES, NULL);
    char **want = objdump_run(words, BYTES, NULL);
    for (unsigned i = 0; got && want && i < COUNT; i++) {
        uint32_t half = GUINT32_FROM_LE(halves[i]) & 0xffff;
        const char *text = got[2 * i];
        bool refuses = oracle_refuses(text, half);
        if (refuses != (insns[i].op == RISCV_OP_ILLEGAL)) {
            g_error("0x%04x: %s for objdump, %s here", half, text, riscv_op_name((enum riscv_op)insns[i].op));
        }
        refused += refuses;
        if (refuses) {
            continue;
        }
        bool hint = g_str_has_prefix(text, "c.") || (half & 0xf07f) == 0x0001; /* the latter: c.addi of 0 */
        hints += hint;
        if (!hint && strcmp(text, want[2 * i]) != 0) {
            g_error("0x%04x: %s for objdump, %s once expanded", half, text, want[2 * i]);
        }
    }
    g_test_message("%u compressed encodings: %u refused, %u hints", COUNT, refused, hints);
    objdump_free(got, BYTES);
    objdump_free(want, BYTES);
}

/* Not a check: `test_decode -m perf` prints what a decode costs. */
static void test_speed(void)
{
    enum { COUNT = 1 << 16, ROUNDS = 100 };
    g_autofree uint32_t *code = g_new(uint32_t, COUNT);
    unsigned sum = 0;

    for (unsigned i = 0; i < COUNT; i++) {
        unsigned r = (unsigned)g_test_rand_int_range(1, G_N_ELEMENTS(table));
        code[i] = table[r].match | ((uint32_t)g_test_rand_int() & ~table[r].mask);
    }
    g_test_timer_start();
    for (unsigned i = 0; i < COUNT * ROUNDS; i++) {
        struct riscv_insn insn;
        riscv_decode(code[i % COUNT], &insn);
        sum += insn.op + (unsigned)insn.imm;
    }
    double ns = g_test_timer_elapsed() * 1e9 / (COUNT * ROUNDS);
    g_test_minimized_result(ns, "%.1f ns per decode of randomly mixed instructions (sum %u)", ns, sum);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/isa/riscv/decode/first-use", test_first_use);
    g_test_add_func("/isa/riscv/decode/table", test_table);
    g_test_add_func("/isa/riscv/decode/index", test_index);
    g_test_add_func("/isa/riscv/decode/reserved", test_reserved);
    g_test_add_func("/isa/riscv/decode/fields", test_fields);
    g_test_add_func("/isa/riscv/decode/expansion", test_expansion);
    if (g_test_perf()) {
        g_test_add_func("/isa/riscv/decode/speed", test_speed);
    }
    return g_test_run();
}
