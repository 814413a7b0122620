/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The lifter's blocks are well-formed whatever the bytes and the mode, and end where they have to. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "engine/env.h"
#include "isa/riscv/cpu.h"
#include "isa/riscv/decode.h"
#include "isa/riscv/helpers.h"

enum { PAGE = 4096, FS_OFF = 0, FS_INITIAL = 1, FS_CLEAN = 2, FS_DIRTY = 3 };

static struct ir_block block;

static uint32_t mode_word(unsigned priv, unsigned fs, unsigned frm, unsigned mmu)
{
    return priv << RISCV_MODE_PRIV | fs << RISCV_MODE_FS | frm << RISCV_MODE_FRM | mmu << RISCV_MODE_MMU;
}

/* splitmix64 */
static uint64_t rng(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint32_t random_mode(uint64_t *s)
{
    static const uint8_t privs[] = {RISCV_U, RISCV_S, RISCV_M};
    uint64_t r = rng(s);

    return mode_word(privs[r % 3], r >> 8 & 3, r >> 16 & 7, (r >> 24) % (RISCV_MMU_M + 1));
}

/* Every row of the table that has 32 bits: what random words hardly ever hit. */
static const struct {
    uint32_t match, mask;
} rows[] = {
#define RISCV_INSN(name, mnemonic, match, mask, format, ext) {match, mask},
#include "isa/riscv/insn.def"
};

static uint32_t random_word(uint64_t *s)
{
    uint64_t r = rng(s);
    size_t n = (r >> 32) % (ARRAY_SIZE(rows) + 8);

    return n < ARRAY_SIZE(rows) ? rows[n].match | ((uint32_t)r & ~rows[n].mask) : (uint32_t)r | 3;
}

static void lift_words(const uint32_t *words, unsigned n, uint64_t pc, uint32_t mode)
{
    uint8_t bytes[4 * IR_MAX_GUEST_INSNS];
    struct isa_code code = {.pc = pc, .mode = mode, .bytes = bytes, .avail = 4 * n, .max_insns = n};

    for (unsigned i = 0; i < n; i++) {
        st32le(bytes + 4 * i, words[i]);
    }
    g_assert_cmpint(riscv_lift(&code, &block), ==, 0);
}

static void lift_word(uint32_t word, uint32_t mode)
{
    lift_words(&word, 1, 0x80001000, mode);
}

static void verify(void)
{
    char message[200];

    if (ir_verify(&block, message, sizeof(message))) {
        g_autofree char *text = ir_print(&block);
        g_error("%s in\n%s", message, text);
    }
}

static const struct ir_insn *last(void)
{
    return &block.insn[block.n - 1];
}

static void assert_illegal(uint32_t word)
{
    g_assert_cmpuint(last()->op, ==, IR_RAISE);
    g_assert_cmpuint(last()->a, ==, RISCV_EXC_ILLEGAL);
    g_assert_cmphex(ir_const_value(&block, last()->b), ==, word);
}

/* --- any bytes, any mode --- */

static void test_compressed(void)
{
    static const uint8_t privs[] = {RISCV_U, RISCV_S, RISCV_M};

    for (uint32_t half = 0; half < 0x10000; half++) {
        uint8_t bytes[2];
        if ((half & 3) == 3) {
            continue;
        }
        st16le(bytes, (uint16_t)half);
        for (unsigned fs = 0; fs < 4; fs++) {
            struct isa_code code = {
                .pc = 0x7ffffffe,
                .mode = mode_word(privs[half % 3], fs, half >> 3 & 7, half % (RISCV_MMU_M + 1)),
                .bytes = bytes,
                .avail = 2,
                .max_insns = 1,
            };
            g_assert_cmpint(riscv_lift(&code, &block), ==, 0);
            verify();
            g_assert_cmpuint(block.bytes, ==, 2);
        }
    }
}

static void test_random_words(void)
{
    uint64_t s = 20240411;

    for (unsigned n = 0; n < 300000; n++) {
        lift_word(random_word(&s), random_mode(&s));
        verify();
        g_assert_cmpuint(block.bytes, ==, 4);
    }
}

/* Whole blocks of anything, at any place: long ones must end in time. */
static void test_random_blocks(void)
{
    static uint8_t page[PAGE], next[PAGE];
    uint64_t s = 7;

    for (unsigned n = 0; n < 20000; n++) {
        uint32_t start = (uint32_t)(rng(&s) % PAGE) & ~1u;
        struct isa_code code = {
            .pc = (rng(&s) & ENV_PAGE_MASK) | start,
            .mode = random_mode(&s),
            .bytes = page + start,
            .avail = PAGE - start,
            .next = n & 1 ? next : NULL,
            .max_insns = IR_MAX_GUEST_INSNS,
        };
        for (uint32_t at = start; at < PAGE && at < start + 300;) {
            uint64_t r = rng(&s);
            if (r & 1 && at + 4 <= PAGE) {
                st32le(page + at, random_word(&s));
                at += 4;
            } else {
                st16le(page + at, (uint16_t)(r >> 16));
                at += 2;
            }
        }
        st16le(next, (uint16_t)rng(&s));
        int r = riscv_lift(&code, &block);
        if (r == -EAGAIN) {
            g_assert_null(code.next);
            g_assert_cmpuint(code.avail, <, 4);
            continue;
        }
        g_assert_cmpint(r, ==, 0);
        verify();
        g_assert_cmpuint(block.bytes, <=, code.avail < 4 ? 4 : code.avail);
    }
}

/* The most IR one instruction makes, as often as fits: the lifter has to stop before the arrays do. */
static void test_no_overflow(void)
{
    enum { CBO_ZERO_A0 = 0x0045200f, AUIPC_A0 = 0x00001517, LD = 0x00053583 };
    uint32_t words[IR_MAX_GUEST_INSNS];

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        words[i] = i % 2 ? CBO_ZERO_A0 : AUIPC_A0 + (i << 16);
    }
    lift_words(words, ARRAY_SIZE(words), 0x1000, mode_word(RISCV_U, FS_DIRTY, 0, 0));
    verify();
    g_assert_cmpuint(block.n_guest, >, 30);
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        words[i] = CBO_ZERO_A0;
    }
    lift_words(words, ARRAY_SIZE(words), 0x1000, mode_word(RISCV_U, FS_DIRTY, 0, 0));
    verify();
    g_assert_cmpuint(last()->op, ==, IR_EXIT);
    g_assert_cmphex(block.exits[last()->a].target, ==, 0x1000 + block.bytes);
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        words[i] = LD + (i << 20);
    }
    lift_words(words, ARRAY_SIZE(words), 0x1000, mode_word(RISCV_U, FS_DIRTY, 0, 0));
    verify();
    g_assert_cmpuint(block.n_guest, ==, IR_MAX_GUEST_INSNS);
}

/* --- where blocks end --- */

enum { NOP = 0x00000013, ADDI_A0 = 0x00150513, C_NOP = 0x0001 };

static void test_page_end(void)
{
    uint8_t bytes[8], next[4] = {0x15, 0x00};
    struct isa_code code = {
        .pc = 0x10ffa, .mode = RISCV_M, .bytes = bytes, .avail = 6, .max_insns = IR_MAX_GUEST_INSNS};

    st32le(bytes, NOP);
    st16le(bytes + 4, ADDI_A0 & 0xffff);
    /* The second instruction goes over the edge: it begins the next block. */
    g_assert_cmpint(riscv_lift(&code, &block), ==, 0);
    verify();
    g_assert_cmpuint(block.bytes, ==, 4);
    g_assert_cmpuint(block.n_guest, ==, 1);
    g_assert_cmphex(block.exits[last()->a].target, ==, 0x10ffe);
    g_assert_cmpuint(block.exits[last()->a].kind, ==, IR_EXIT_NEAR);

    code.pc = 0x10ffe;
    code.bytes = bytes + 4;
    code.avail = 2;
    g_assert_cmpint(riscv_lift(&code, &block), ==, -EAGAIN);
    code.next = next;
    g_assert_cmpint(riscv_lift(&code, &block), ==, 0);
    verify();
    g_assert_cmpuint(block.bytes, ==, 4);
    g_assert_cmpuint(block.n_guest, ==, 1);
    g_assert_cmphex(block.exits[last()->a].target, ==, 0x11002);
    g_assert_cmpuint(block.exits[last()->a].kind, ==, IR_EXIT_FAR);

    /* A short one that ends with the page needs no next one. */
    st16le(bytes + 4, C_NOP);
    code.next = NULL;
    g_assert_cmpint(riscv_lift(&code, &block), ==, 0);
    g_assert_cmpuint(block.bytes, ==, 2);
}

static void test_limit(void)
{
    uint32_t words[IR_MAX_GUEST_INSNS + 8];
    struct isa_code code = {.pc = 0x2000, .mode = RISCV_M, .bytes = (uint8_t *)words, .avail = sizeof(words)};

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        st32le(&words[i], ADDI_A0);
    }
    for (code.max_insns = 1; code.max_insns < 80; code.max_insns++) {
        g_assert_cmpint(riscv_lift(&code, &block), ==, 0);
        g_assert_cmpuint(block.n_guest, ==, MIN(code.max_insns, IR_MAX_GUEST_INSNS));
        g_assert_cmpuint(block.bytes, ==, 4 * block.n_guest);
        g_assert_cmphex(block.exits[last()->a].target, ==, 0x2000 + block.bytes);
    }
}

/* What stands behind these is another block. */
static void test_enders(void)
{
    static const struct {
        uint32_t word;
        enum ir_op op;
        unsigned aux;
    } enders[] = {
        {0x0000006f, IR_EXIT, 0},                  /* j . */
        {0x00008067, IR_EXIT_REG, IR_HINT_RETURN}, /* ret */
        {0x00050067, IR_EXIT_REG, IR_HINT_JUMP},   /* jr a0 */
        {0x000500e7, IR_EXIT_REG, IR_HINT_CALL},   /* jalr a0 */
        {0x000280e7, IR_EXIT_REG, IR_HINT_CALL},   /* jalr t0 */
        {0x00008567, IR_EXIT_REG, IR_HINT_RETURN}, /* jalr a0, ra */
        {0x00000073, IR_RAISE, 0},                 /* ecall */
        {0x00100073, IR_RAISE, 0},                 /* ebreak */
        {0x30200073, IR_STOP, IR_STOP_NEXT},       /* mret */
        {0x10200073, IR_STOP, IR_STOP_NEXT},       /* sret */
        {0x10500073, IR_STOP, IR_STOP_WAIT},       /* wfi */
        {0x00d00073, IR_STOP, IR_STOP_YIELD},      /* wrs.nto */
        {0x01d00073, IR_STOP, IR_STOP_YIELD},      /* wrs.sto */
        {0x0100000f, IR_STOP, IR_STOP_YIELD},      /* pause */
        {0x12000073, IR_STOP, IR_STOP_NEXT},       /* sfence.vma */
        {0x16000073, IR_STOP, IR_STOP_NEXT},       /* sinval.vma */
        {0x0000100f, IR_STOP, IR_STOP_NEXT},       /* fence.i */
        {0x18051073, IR_STOP, IR_STOP_NEXT},       /* csrw satp, a0 */
        {0x30052073, IR_STOP, IR_STOP_NEXT},       /* csrs mstatus, a0 */
        {0x00251073, IR_STOP, IR_STOP_NEXT},       /* fsrm a0 */
        {0xffffffff, IR_RAISE, 0},
    };
    static const uint32_t others[] = {
        0x00050463, /* beqz a0, .+8 */
        0x0ff0000f, /* fence */
        0x8330000f, /* fence.tso */
        0x30002573, /* csrr a0, mstatus */
        0x140112f3, /* csrrw t0, sscratch, sp */
        0xc0102573, /* rdtime a0 */
        0x00151073, /* fsflags a0 */
        0x00202573, /* frrm a0 */
        0x18000073, /* sfence.w.inval */
    };
    uint32_t mode = mode_word(RISCV_M, FS_DIRTY, 0, RISCV_MMU_M);

    for (size_t n = 0; n < ARRAY_SIZE(enders); n++) {
        uint32_t words[2] = {enders[n].word, NOP};
        lift_words(words, 2, 0x1000, mode);
        verify();
        g_assert_cmpuint(block.n_guest, ==, 1);
        g_assert_cmpuint(last()->op, ==, enders[n].op);
        g_assert_cmpuint(last()->aux, ==, enders[n].aux);
    }
    for (size_t n = 0; n < ARRAY_SIZE(others); n++) {
        uint32_t words[2] = {others[n], NOP};
        lift_words(words, 2, 0x1000, mode);
        verify();
        g_assert_cmpuint(block.n_guest, ==, 2);
    }
}

/* lui, auipc and li are remembered: addresses and targets made of two instructions become constants. */
static void test_constants(void)
{
    uint32_t call[] = {0x00001097, 0x010080e7};               /* auipc ra, 1; jalr ra, 16(ra) */
    uint32_t load[] = {0x00002517, 0xff853583};               /* auipc a0, 2; ld a1, -8(a0) */
    uint32_t forget[] = {0x00002517, 0x00053503, 0x00053583}; /* auipc a0, 2; ld a0, (a0); ld a1, (a0) */

    lift_words(call, 2, 0x5000, RISCV_M);
    g_assert_cmpuint(last()->op, ==, IR_EXIT);
    g_assert_cmphex(block.exits[last()->a].target, ==, 0x6010);
    g_assert_cmpuint(block.exits[last()->a].hint, ==, IR_HINT_CALL);

    lift_words(load, 2, 0x5000, RISCV_M);
    const struct ir_insn *ld = &block.insn[block.n - 3];
    g_assert_cmpuint(ld->op, ==, IR_LD);
    g_assert_cmphex(ir_const_value(&block, ld->a), ==, 0x6ff8);
    g_assert_true(ld->c & IR_MEM_PCREL);

    lift_words(forget, 3, 0x5000, RISCV_M);
    ld = &block.insn[block.n - 3];
    g_assert_cmpuint(ld->op, ==, IR_LD);
    g_assert_false(ir_is_const(ld->a));
}

/* --- what the mode decides --- */

enum {
    FADD_DYN = 0x02b57553,
    FADD_RTZ = 0x02b51553,
    FCVT_D_S_DYN = 0x42057553,
    FMV_X_D = 0xe2050553,
    FSD = 0x00a53427
};

static void test_fs(void)
{
    static const uint32_t words[] = {FADD_DYN, FMV_X_D, FSD, 0x00053507 /* fld */};

    for (size_t n = 0; n < ARRAY_SIZE(words); n++) {
        bool dirties = n == 0 || n == 3;
        for (unsigned fs = 0; fs < 4; fs++) {
            lift_word(words[n], mode_word(RISCV_U, fs, 0, 0));
            if (fs == FS_OFF) {
                assert_illegal(words[n]);
            } else if (fs != FS_DIRTY && dirties) {
                const struct ir_insn *call = &block.insn[block.n - 2];
                g_assert_cmpuint(call->op, ==, IR_CALL);
                g_assert_cmpuint(call->a, ==, RISCV_HELPER_FS_DIRTY);
                g_assert_cmpuint(last()->op, ==, IR_STOP);
                g_assert_cmphex(ir_const_value(&block, last()->a), ==, 0x80001000);
                g_assert_cmpuint(block.n_guest, ==, 0);
                g_assert_cmpuint(block.bytes, ==, 4);
            } else {
                g_assert_cmpuint(block.n_guest, ==, 1);
                g_assert_cmpuint(last()->op, ==, IR_EXIT);
            }
        }
    }
}

static void test_rounding(void)
{
    for (unsigned frm = 0; frm < 8; frm++) {
        uint32_t mode = mode_word(RISCV_U, FS_DIRTY, frm, 0);
        unsigned found = 0;

        lift_word(FADD_RTZ, mode);
        for (uint32_t n = 0; n < block.n; n++) {
            found += block.insn[n].op == IR_FADD && block.insn[n].aux == RISCV_RM_RTZ;
        }
        g_assert_cmpuint(found, ==, 1);
        lift_word(FADD_DYN, mode);
        if (frm > RISCV_RM_RMM) {
            assert_illegal(FADD_DYN);
            lift_word(FCVT_D_S_DYN, mode);
            assert_illegal(FCVT_D_S_DYN);
            continue;
        }
        for (uint32_t n = 0; n < block.n; n++) {
            found += block.insn[n].op == IR_FADD && block.insn[n].aux == frm;
        }
        g_assert_cmpuint(found, ==, 2);
    }
}

static void test_privilege(void)
{
    static const struct {
        uint32_t word;
        unsigned least;
    } all[] = {
        {0x30200073, RISCV_M}, {0x10200073, RISCV_S}, {0x10500073, RISCV_S}, {0x12000073, RISCV_S},
        {0x16000073, RISCV_S}, {0x18000073, RISCV_S}, {0x18100073, RISCV_S},
    };
    static const uint8_t privs[] = {RISCV_U, RISCV_S, RISCV_M};

    for (size_t n = 0; n < ARRAY_SIZE(all); n++) {
        for (unsigned p = 0; p < ARRAY_SIZE(privs); p++) {
            lift_word(all[n].word, mode_word(privs[p], 0, 0, 0));
            if (privs[p] < all[n].least) {
                assert_illegal(all[n].word);
            } else {
                g_assert_cmpuint(last()->op, !=, IR_RAISE);
            }
        }
    }
    for (unsigned p = 0; p < ARRAY_SIZE(privs); p++) {
        lift_word(0x00000073, privs[p]);
        g_assert_cmpuint(last()->a, ==, RISCV_EXC_ECALL_U + privs[p]);
        /* csrr a0, sscratch: a cell of the state where it may be read, the helper's to refuse elsewhere */
        lift_word(0x14002573, privs[p]);
        bool call = false;
        for (uint32_t n = 0; n < block.n; n++) {
            call |= block.insn[n].op == IR_CALL;
        }
        g_assert_cmpint(call, ==, privs[p] == RISCV_U);
    }
}

/* --- how long it takes: a figure, not a test --- */

static void test_speed(void)
{
    enum { WORDS = 1 << 16, ROUNDS = 8 };
    g_autofree uint8_t *code = g_malloc(4 * WORDS);
    static const uint32_t mix[] = {
        0xfe010113, 0x00113c23, 0x00813823, 0x02010413, 0x00050793, 0xfef42623,
        0xfec42783, 0x0007871b, 0x00f50533, 0x00079693, 0x00d70733, 0x00073783,
        0x00f70463, 0x0017879b, 0x00e7b023, 0x41f7d71b, 0x00157513, 0x00a5b5b3,
    };
    uint64_t insns = 0, ir = 0;

    for (unsigned i = 0; i < WORDS; i++) {
        st32le(code + 4 * i, i % 24 == 23 ? 0x00008067 : mix[i % ARRAY_SIZE(mix)]);
    }
    double start = (double)g_get_monotonic_time();
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (uint32_t at = 0; at < 4 * WORDS; at += block.bytes) {
            struct isa_code c = {.pc = 0x80000000 + at,
                                 .mode = mode_word(RISCV_S, FS_DIRTY, 0, RISCV_MMU_S),
                                 .bytes = code + at,
                                 .avail = PAGE - at % PAGE,
                                 .max_insns = IR_MAX_GUEST_INSNS};
            g_assert_cmpint(riscv_lift(&c, &block), ==, 0);
            insns += block.n_guest;
            ir += block.n;
        }
    }
    double ns = ((double)g_get_monotonic_time() - start) * 1000 / (double)insns;
    g_test_message("%.1f ns and %.1f IR instructions per guest instruction", ns, (double)ir / (double)insns);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/riscv/lift/compressed", test_compressed);
    g_test_add_func("/riscv/lift/random-words", test_random_words);
    g_test_add_func("/riscv/lift/random-blocks", test_random_blocks);
    g_test_add_func("/riscv/lift/no-overflow", test_no_overflow);
    g_test_add_func("/riscv/lift/page-end", test_page_end);
    g_test_add_func("/riscv/lift/limit", test_limit);
    g_test_add_func("/riscv/lift/enders", test_enders);
    g_test_add_func("/riscv/lift/constants", test_constants);
    g_test_add_func("/riscv/lift/fs", test_fs);
    g_test_add_func("/riscv/lift/rounding", test_rounding);
    g_test_add_func("/riscv/lift/privilege", test_privilege);
    g_test_add_func("/riscv/lift/speed", test_speed);
    return g_test_run();
}
