/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * The RISC-V disassembler, and through its text every decoded field, against GNU objdump.
 *
 * Without an oracle in binutils 2.40, checked by hand-written expectations here and in test_decode.c: Zicond;
 * FENCE and FENCE.I with fields that are to be ignored; rounding modes other than RNE in conversions that are
 * exact.
 */
#include <glib.h>
#include <stdbool.h>
#include <string.h>

#include "isa/riscv/decode.h"
#include "isa/riscv/disasm.h"
#include "objdump.h"

static const struct {
    uint32_t match, mask;
} table[] = {
#define RISCV_INSN(name, mnemonic, match, mask, format, ext) {match, mask},
#include "isa/riscv/insn.def"
};

/* Words binutils 2.40 does not know or names in a way of its own. Everything else must agree. */
static bool has_no_oracle(uint32_t word, const struct riscv_insn *insn)
{
    bool exact =
        insn->op == RISCV_OP_FCVT_D_S || insn->op == RISCV_OP_FCVT_D_W || insn->op == RISCV_OP_FCVT_D_WU;

    switch (insn->op) {
    case RISCV_OP_FENCE: return (word & 0xf00fff80) || insn->rm >> 4 == 0 || (insn->rm & 15) == 0;
    case RISCV_OP_FENCE_I: return (word & 0xffffff80) != 0;
    case RISCV_OP_FENCE_TSO: return (word & 0x000fff80) != 0;
    case RISCV_OP_CSRRW: /* its CSR names are a test of their own */
    case RISCV_OP_CSRRS:
    case RISCV_OP_CSRRC:
    case RISCV_OP_CSRRWI:
    case RISCV_OP_CSRRSI:
    case RISCV_OP_CSRRCI: return riscv_csr_name((unsigned)insn->imm) == NULL;
    case RISCV_OP_ORI: return insn->rd == 0; /* prefetches, where Zicbop is on */
    default: return riscv_op_ext((enum riscv_op)insn->op) == RISCV_EXT_ZICOND || (exact && insn->rm != 0);
    }
}

/* objdump keeps an instruction with a reserved rounding mode, as "unknown", and counts the hypervisor's to
 * Svinval. */
static bool refused(const char *text)
{
    return text[0] == '.' || strstr(text, "unknown") != NULL || g_str_has_prefix(text, "hinval");
}

/* "addi" is "add" to objdump when it uses aliases; the assembler takes both. */
static bool same_but_for_i(const char *ours, const char *theirs)
{
    static const char *const pairs[][2] = {
        {"addi", "add"},     {"addiw", "addw"},   {"andi", "and"},   {"ori", "or"},     {"xori", "xor"},
        {"slli", "sll"},     {"srli", "srl"},     {"srai", "sra"},   {"slliw", "sllw"}, {"srliw", "srlw"},
        {"sraiw", "sraw"},   {"rori", "ror"},     {"roriw", "rorw"}, {"bseti", "bset"}, {"bclri", "bclr"},
        {"binvi", "binv"},   {"bexti", "bext"},   {"slti", "slt"},   {"sltiu", "sltu"}, {"csrrwi", "csrrw"},
        {"csrrsi", "csrrs"}, {"csrrci", "csrrc"}, {"csrwi", "csrw"}, {"csrsi", "csrs"}, {"csrci", "csrc"},
    };
    const char *ours_end = strchr(ours, '\t'), *theirs_end = strchr(theirs, '\t');

    if (!ours_end || !theirs_end || strcmp(ours_end, theirs_end) != 0) {
        return false;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(pairs); i++) {
        if (strlen(pairs[i][0]) == (size_t)(ours_end - ours) && g_str_has_prefix(ours, pairs[i][0]) &&
            strlen(pairs[i][1]) == (size_t)(theirs_end - theirs) && g_str_has_prefix(theirs, pairs[i][1])) {
            return true;
        }
    }
    return false;
}

static unsigned failures;

static void check_word(uint64_t pc, uint32_t word, unsigned flags, const char *theirs)
{
    struct riscv_insn insn;
    char ours[RISCV_DISASM_MAX];

    riscv_decode(word, &insn);
    if (has_no_oracle(word, &insn)) {
        return;
    }
    riscv_disasm_flags(pc, word, flags, ours, sizeof(ours));
    if (insn.op == RISCV_OP_ILLEGAL && refused(theirs)) {
        return;
    }
    bool long_mv =
        insn.op == RISCV_OP_ADD && insn.rs1 == 0; /* what c.mv stands for; objdump's alias is for c.mv only */
    if (strcmp(ours, theirs) == 0 || (!(flags & RISCV_DISASM_EXACT) && long_mv) ||
        (!(flags & RISCV_DISASM_EXACT) && same_but_for_i(ours, theirs))) {
        return;
    }
    g_test_message("%08x: \"%s\" here, \"%s\" for objdump", word, ours, theirs);
    failures++;
}

static void check_words(const uint32_t *words, unsigned n, unsigned flags)
{
    size_t bytes = (size_t)n * 4;
    char **texts = objdump_run(words, bytes, flags & RISCV_DISASM_EXACT ? "-Mno-aliases" : NULL);

    failures = 0;
    for (unsigned i = 0; texts && i < n; i++) {
        g_assert_nonnull(texts[2 * i]);
        check_word(4 * (uint64_t)i, GUINT32_FROM_LE(words[i]), flags, texts[2 * i]);
    }
    objdump_free(texts, bytes);
    g_assert_cmpuint(failures, ==, 0);
}

/* @per_row words of each row with the free bits given by @fill. */
static uint32_t *words_of_table(unsigned per_row, uint32_t (*fill)(void))
{
    uint32_t *words = g_new(uint32_t, per_row * G_N_ELEMENTS(table));

    for (unsigned i = 0; i < per_row * G_N_ELEMENTS(table); i++) {
        unsigned row = i / per_row;
        words[i] = GUINT32_TO_LE(table[row].match | (fill() & ~table[row].mask));
    }
    return words;
}

static uint32_t fill_random(void)
{
    return (uint32_t)g_test_rand_int();
}

/* Mostly zeros, ones and equal registers: where the aliases are. */
static uint32_t fill_corner(void)
{
    static const uint32_t registers[] = {0, 0, 1, 2, 31};
    static const uint32_t immediates[] = {0, 0, 1, 0xfff, 255, 3, 0xc00, 0xc01, 0xc02};
    uint32_t rs1 = registers[g_test_rand_int_range(0, 5)], rs2 = registers[g_test_rand_int_range(0, 5)];
    uint32_t rd = registers[g_test_rand_int_range(0, 5)];
    uint32_t rm = g_test_rand_bit() ? 0 : 7;
    uint32_t high = g_test_rand_bit() ? immediates[g_test_rand_int_range(0, 9)] << 20 : rs2 << 20;

    return high | rs1 << 15 | rm << 12 | rd << 7;
}

static void test_exact_words(void)
{
    g_autofree uint32_t *words = words_of_table(200, fill_random);

    check_words(words, 200 * G_N_ELEMENTS(table), RISCV_DISASM_EXACT);
}

/* Words at random where only this table's extensions live: in the opcodes it uses, with none of the longer
 * ones. */
static void test_exact_anywhere(void)
{
    enum { COUNT = 50000 };
    g_autofree uint32_t *words = g_new(uint32_t, COUNT);

    for (unsigned i = 0; i < COUNT; i++) {
        uint32_t opcode = table[g_test_rand_int_range(0, G_N_ELEMENTS(table))].match & 0x7f;
        words[i] = GUINT32_TO_LE(((uint32_t)g_test_rand_int() & ~0x7fU) | opcode);
    }
    check_words(words, COUNT, RISCV_DISASM_EXACT);
}

static void test_alias_words(void)
{
    g_autofree uint32_t *words = words_of_table(120, fill_corner);

    check_words(words, 120 * G_N_ELEMENTS(table), 0);
}

/* Shifts by 0 have names of their own in binutils: "c.slli64 a0". */
static bool is_shift_by_64(const char *theirs)
{
    return g_str_has_prefix(theirs, "c.slli64") || g_str_has_prefix(theirs, "c.srli64") ||
           g_str_has_prefix(theirs, "c.srai64");
}

static void test_exact_compressed(void)
{
    enum { COUNT = 0xc000 };
    g_autofree guint16 *halves = g_new(guint16, COUNT);
    unsigned n = 0, bad = 0;

    for (unsigned half = 0; half < 0x10000; half++) {
        if ((half & 3) != 3) {
            halves[n++] = GUINT16_TO_LE(half);
        }
    }
    char **texts = objdump_run(halves, COUNT * 2, "-Mno-aliases");
    for (unsigned i = 0; texts && i < COUNT; i++) {
        unsigned half = GUINT16_FROM_LE(halves[i]);
        char ours[RISCV_DISASM_MAX];
        g_assert_cmpint(riscv_disasm_flags(2 * (uint64_t)i, half, RISCV_DISASM_EXACT, ours, sizeof(ours)), ==,
                        2);
        /* There 0 is "c.unimp", 1 "c.addi zero,0", and 0x6101 a c.addi16sp of 0, which the manual reserves.
         */
        if (half <= 1 || half == 0x6101 || is_shift_by_64(texts[i])) {
            continue;
        }
        if (strcmp(ours, texts[i]) != 0) {
            g_test_message("%04x: \"%s\" here, \"%s\" for objdump", half, ours, texts[i]);
            bad++;
        }
    }
    objdump_free(texts, COUNT * 2);
    g_assert_cmpuint(bad, ==, 0);
}

/* All 4096 numbers: a name must be objdump's; not naming a register is allowed (RV32 halves, hypervisor). */
static void test_csr_names(void)
{
    enum { COUNT = 4096 };
    g_autofree uint32_t *words = g_new(uint32_t, COUNT);

    for (unsigned csr = 0; csr < COUNT; csr++) {
        words[csr] = GUINT32_TO_LE(0x00002573 | csr << 20); /* csrrs a0, csr, zero */
    }
    char **texts = objdump_run(words, COUNT * 4, "-Mno-aliases");
    for (unsigned csr = 0; texts && csr < COUNT; csr++) {
        const char *name = riscv_csr_name(csr);
        if (name) {
            g_autofree char *want = g_strdup_printf("csrrs\ta0,%s,zero", name);
            g_assert_cmpstr(texts[2 * csr], ==, want);
        }
    }
    objdump_free(texts, COUNT * 4);
    g_assert_null(riscv_csr_name(4096));
}

static void test_by_hand(void)
{
    static const struct {
        uint32_t bits;
        const char *alias, *exact;
    } cases[] = {
        {0x0e5550b3, "czero.eqz\tra,a0,t0", "czero.eqz\tra,a0,t0"},
        {0x0e5570b3, "czero.nez\tra,a0,t0", "czero.nez\tra,a0,t0"},
        {0x0ff0000f, "fence", "fence\tiorw,iorw"},
        {0x0310000f, "fence\trw,w", "fence\trw,w"},
        {0xd2051553, "fcvt.d.w\tfa0,a0,rtz", "fcvt.d.w\tfa0,a0,rtz"},
        {0x00008082, "ret", "c.jr\tra"},
        {0x00000001, "nop", "c.nop"},
        {0x00000000, ".2byte\t0x0", ".2byte\t0x0"},
        {0xffffffff, ".4byte\t0xffffffff", ".4byte\t0xffffffff"},
        {0xfe000ee3, "beqz\tzero,0xffffffff7ffffffc", "beq\tzero,zero,0xffffffff7ffffffc"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        char text[RISCV_DISASM_MAX];
        riscv_disasm(0xffffffff80000000, cases[i].bits, text, sizeof(text));
        g_assert_cmpstr(text, ==, cases[i].alias);
        riscv_disasm_flags(0xffffffff80000000, cases[i].bits, RISCV_DISASM_EXACT, text, sizeof(text));
        g_assert_cmpstr(text, ==, cases[i].exact);
    }
}

static void test_short_buffers(void)
{
    char whole[RISCV_DISASM_MAX];

    for (unsigned i = 0; i < 2000; i++) {
        uint32_t bits = (uint32_t)g_test_rand_int();
        riscv_disasm(0x80000000, bits, whole, sizeof(whole));
        g_assert_cmpuint(strlen(whole), <, sizeof(whole) - 1);
        for (size_t n = 0; n < sizeof(whole); n++) {
            char cut[RISCV_DISASM_MAX + 1];
            memset(cut, '?', sizeof(cut));
            riscv_disasm(0x80000000, bits, cut, n);
            g_assert_cmpint(cut[n], ==, '?');
            if (n > 0) {
                g_assert_true(strlen(cut) == MIN(strlen(whole), n - 1) && g_str_has_prefix(whole, cut));
            }
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/isa/riscv/disasm/by-hand", test_by_hand);
    g_test_add_func("/isa/riscv/disasm/short-buffers", test_short_buffers);
    g_test_add_func("/isa/riscv/disasm/csr-names", test_csr_names);
    g_test_add_func("/isa/riscv/disasm/exact-compressed", test_exact_compressed);
    g_test_add_func("/isa/riscv/disasm/exact-words", test_exact_words);
    g_test_add_func("/isa/riscv/disasm/exact-anywhere", test_exact_anywhere);
    g_test_add_func("/isa/riscv/disasm/alias-words", test_alias_words);
    return g_test_run();
}
