/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The builder's folds, the text form (there and back, and what it refuses), and what the verifier refuses. */
#include "rig.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"

/* --- Builder --- */

static void check_folds(void)
{
    g_autofree struct ir_block *b = g_new(struct ir_block, 1);

    ir_begin(b, &rig_target, 0x1000, 0);
    ir_ref x = ir_emit(b, IR_GETREG, IR_I32, 0, 1, 0, 0), zero = ir_const(b, IR_I32, 0),
           ones = ir_const(b, IR_I32, -1);
    uint32_t before = b->n;

    g_assert_cmphex(ir_binary(b, IR_ADD, IR_I32, zero, x), ==, x);
    g_assert_cmphex(ir_binary(b, IR_AND, IR_I32, x, ones), ==, x);
    g_assert_cmphex(ir_binary(b, IR_AND, IR_I32, zero, x), ==, zero);
    g_assert_cmphex(ir_binary(b, IR_OR, IR_I32, x, ones), ==, ones);
    g_assert_cmphex(ir_binary(b, IR_XOR, IR_I32, x, x), ==, zero);
    g_assert_cmphex(ir_binary(b, IR_SHL, IR_I32, x, ir_const(b, IR_I32, 32)), ==, x);
    g_assert_cmphex(ir_binary(b, IR_MUL, IR_I32, ir_const(b, IR_I32, 1), x), ==, x);
    g_assert_cmphex(ir_select(b, IR_I32, ir_const(b, IR_I1, 1), x, zero), ==, x);
    g_assert_cmphex(ir_select(b, IR_I32, ir_const(b, IR_I1, 0), x, zero), ==, zero);
    g_assert_cmphex(ir_setcc(b, IR_GEU, IR_I32, x, x), ==, ir_const(b, IR_I1, 1));
    g_assert_cmphex(ir_setcc(b, IR_LTS, IR_I32, x, x), ==, ir_const(b, IR_I1, 0));
    g_assert_cmphex(ir_unary(b, IR_SEXT, IR_I64, ones), ==, ir_const(b, IR_I64, UINT64_MAX));
    g_assert_cmphex(ir_unary(b, IR_ZEXT, IR_I64, ones), ==, ir_const(b, IR_I64, UINT32_MAX));
    g_assert_cmphex(ir_unary(b, IR_TRUNC, IR_I8, ir_const(b, IR_I32, 0x1ff)), ==, ir_const(b, IR_I8, 0xff));
    g_assert_cmpuint(b->n, ==, before);

    /* What may not fold: 0 - x, 0 << x, x / 0. */
    g_assert_false(ir_is_const(ir_binary(b, IR_SUB, IR_I32, zero, x)));
    g_assert_false(ir_is_const(ir_binary(b, IR_SHL, IR_I32, zero, x)));
    g_assert_cmphex(ir_binary(b, IR_DIVU, IR_I32, x, zero), !=, x);
    /* A subtraction of a constant is an addition. */
    const struct ir_insn *i = &b->insn[ir_binary(b, IR_SUB, IR_I32, x, ir_const(b, IR_I32, 5))];
    g_assert_cmpint(i->op, ==, IR_ADD);
    g_assert_cmphex(ir_const_value(b, i->b), ==, 0xfffffffb);
    /* A constant in front of a comparison turns it round. */
    i = &b->insn[ir_setcc(b, IR_LTS, IR_I32, zero, x)];
    g_assert_cmpint(i->aux, ==, IR_GTS);
    g_assert_cmphex(i->a, ==, x);
    /* Truncating back what was extended. */
    g_assert_cmphex(ir_unary(b, IR_TRUNC, IR_I32, ir_unary(b, IR_SEXT, IR_I64, x)), ==, x);
}

static void check_limits(void)
{
    g_autofree struct ir_block *b = g_new(struct ir_block, 1);

    ir_begin(b, &rig_target, 0x1000, 0);
    g_assert_cmphex(ir_const(b, IR_I8, 0x1234), ==, ir_const(b, IR_I8, 0x34));
    g_assert_cmphex(ir_const(b, IR_I8, 0x34), !=, ir_const(b, IR_I16, 0x34));
    ir_begin(b, &rig_target, 0x1000, 0);
    for (unsigned i = 0; i <= IR_MAX_CONSTS; i++) {
        g_assert_false(b->overflow);
        ir_const(b, IR_I64, 1000 + i);
    }
    g_assert_true(b->overflow);
    ir_begin(b, &rig_target, 0x1000, 0);
    for (unsigned i = 0; i < IR_MAX_INSNS - 1; i++) {
        ir_emit(b, IR_NOP, IR_TYPE_NONE, 0, 0, 0, 0);
    }
    g_assert_false(b->overflow);
    g_assert_cmpuint(ir_emit(b, IR_NOP, IR_TYPE_NONE, 0, 0, 0, 0), ==, 0);
    g_assert_true(b->overflow);
    ir_begin(b, &rig_target, 0xfff8, 0);
    g_assert_cmpint(b->exits[ir_exit_to(b, 0xf000, IR_HINT_JUMP)].kind, ==, IR_EXIT_NEAR);
    g_assert_cmpint(b->exits[ir_exit_to(b, 0x10000, IR_HINT_JUMP)].kind, ==, IR_EXIT_FAR);
    for (unsigned i = 0; i < IR_MAX_EXITS - 2; i++) {
        ir_exit_to(b, i, IR_HINT_JUMP);
    }
    g_assert_false(b->overflow);
    ir_exit_to(b, 0, IR_HINT_JUMP);
    g_assert_true(b->overflow);
}

/* --- There and back --- */

/* Prints, parses, prints: the texts are equal, and so are the instructions. */
static void round_trip(const struct ir_block *b)
{
    g_autofree struct ir_block *back = g_new0(struct ir_block, 1);
    g_autofree char *text = ir_print(b);

    rig_parse(back, text);
    g_autofree char *again = ir_print(back);
    g_assert_cmpstr(text, ==, again);
    g_assert_cmpuint(b->n, ==, back->n);
    for (uint32_t i = 1; i < b->n; i++) {
        g_assert_cmpint(b->insn[i].op, ==, back->insn[i].op);
        g_assert_cmpint(b->insn[i].type, ==, back->insn[i].type);
        g_assert_cmpint(b->insn[i].aux, ==, back->insn[i].aux);
    }
    g_assert_true(b->pc == back->pc && b->mode == back->mode && b->bytes == back->bytes &&
                  b->n_guest == back->n_guest);
    g_assert_cmpuint(b->n_exits, ==, back->n_exits);
}

static void check_files(void)
{
    const char *source = g_getenv("HOSTEL_TEST_SOURCE");
    g_autofree char *folder = g_build_filename(source ? source : ".", "ir", NULL);
    g_autofree struct ir_block *b = g_new(struct ir_block, 1);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    unsigned n = 0;

    g_assert_nonnull(dir);
    for (const char *name; (name = g_dir_read_name(dir)); n++) {
        g_autofree char *path = g_build_filename(folder, name, NULL), *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        rig_parse(b, text);
        round_trip(b);
    }
    g_assert_cmpuint(n, >, 10);
}

/* How many values an aux can have, from 0; flag bits that are no flag have no word but a number. */
static unsigned aux_count(enum ir_aux kind)
{
    switch (kind) {
    case IR_AUX_NO: return 1;
    case IR_AUX_FENCE: return 256;
    case IR_AUX_COND: return IR_COND_COUNT;
    case IR_AUX_FLCOND: return IR_FLCOND_COUNT;
    case IR_AUX_FLBIT: return IR_FLAG_O + 1;
    case IR_AUX_RMW: return IR_RMW_COUNT;
    case IR_AUX_HINT: return IR_HINT_RETURN + 1;
    case IR_AUX_STOP: return IR_STOP_COUNT;
    default: return 5; /* rounding modes; operands of a call */
    }
}

/* Every operation with every word of its aux, whether it would verify or not. */
static void check_every_operation(void)
{
    g_autofree struct ir_block *b = g_new(struct ir_block, 1);

    for (unsigned op = 1; op < IR_OP_COUNT; op++) {
        const struct ir_op_info *info = &ir_op_info[op];
        ir_begin(b, &rig_target, 0xfffffffffffff000, 0xffffffff);
        ir_exit_to(b, 0x10, IR_HINT_RETURN);
        ir_ref v = ir_emit(b, IR_GETREG, IR_I64, 0, 3, 0, 0), k = ir_const(b, IR_F64, UINT64_C(1) << 63);
        unsigned n_aux = aux_count((enum ir_aux)info->aux);
        for (unsigned aux = 0; aux < n_aux; aux++) {
            uint32_t operand[3];
            for (unsigned i = 0; i < 3; i++) {
                switch (info->operand[i]) {
                case IR_OPERAND_NO:
                case IR_OPERAND_EXIT: operand[i] = 0; break;
                case IR_OPERAND_MEM: operand[i] = (aux * 0x1357) & 0x7f7f; break;
                case IR_OPERAND_REG: operand[i] = 5; break;
                case IR_OPERAND_HELPER: operand[i] = 2; break;
                case IR_OPERAND_OPT: operand[i] = i == 1 ? v : 0; break;
                case IR_OPERAND_IMM: operand[i] = (uint32_t)-7; break;
                case IR_OPERAND_OFS: operand[i] = 64; break;
                default: operand[i] = i == 1 ? k : v; break;
                }
            }
            ir_emit(b, (enum ir_op)op, IR_I64, (uint8_t)aux, operand[0], operand[1], operand[2]);
        }
        for (uint32_t i = 1; i < b->n; i++) {
            /* memory sizes above 64 bytes have no text */
            if (info->operand[2] == IR_OPERAND_MEM && ir_mem_log2(b->insn[i].c) == 7) {
                b->insn[i].c &= ~UINT32_C(1);
            }
        }
        round_trip(b);
    }
}

/* --- What is refused --- */

#define HEAD "block pc 0x1000 mode 0 bytes 4 guest 1\n@0 = near jump 0x1004\ninsn 0, 4\n"
#define TAIL "\nexit @0\n"

struct refusal {
    const char *text, *message;
};

static const struct refusal bad_text[] = {
    {"", "no block"},
    {"nop\n", "first line is not"},
    {"block pc 1 mode 2 bytes 3\n", "expected: block"},
    {"block pc x mode 2 bytes 3 guest 1\n", "expected: block"},
    {HEAD "block pc 1 mode 2 bytes 3 guest 1\n", "second block"},
    {HEAD "@2 = near jump 0\n", "comes next"},
    {HEAD "@1 = here jump 0\n", "near or far"},
    {HEAD "@1 = near hop 0\n", "a jump, a call"},
    {HEAD "frob i64 %1\n", "no operation is called \"frob\""},
    {HEAD "%1 getreg i64 r1\n", "expected ="},
    {HEAD "%1 = getreg i64 r77\n", "no register"},
    {HEAD "%1 = call 0 i64 nobody, _, _\n", "no helper"},
    {HEAD "%1 = add i64 %2, i64:1\n", "%2 is not defined above"},
    {HEAD "%1 = getreg i64 r1\n%1 = getreg i64 r2\n", "defined twice"},
    {HEAD "%1 = putreg i64 r1, i64:1\n", "no result"},
    {HEAD "%1 = add i64 i99:1, i64:1\n", "is no value"},
    {HEAD "%1 = add i64 i64:1, i64:z\n", "is not a number"},
    {HEAD "%1 = add i64 i64:99999999999999999999999, i64:1\n", "is not a number"},
    {HEAD "%1 = ld i64 i64:0, 3\n", "memory size 3"},
    {HEAD "%1 = ld i64 i64:0, 8:odd\n", "unknown word \"odd\""},
    {HEAD "%1 = setcc xx i64 i64:0, i64:1\n", "does not say which"},
    {HEAD "fence q:r\n", "no side of a fence"},
    {HEAD "exit 0\n", "is no exit"},
    {HEAD "insn 0, 99999999999\n", "32 bits"},
    {HEAD "exit @0 now\n", "left at the end"},
};

static void check_bad_text(void)
{
    g_autofree struct ir_block *b = g_new(struct ir_block, 1);

    for (unsigned i = 0; i < G_N_ELEMENTS(bad_text); i++) {
        struct ir_text_error error = {0};
        g_assert_cmpint(ir_parse(b, &rig_target, bad_text[i].text, &error), ==, -EINVAL);
        if (!strstr(error.message, bad_text[i].message)) {
            g_error("\"%s\" gave \"%s\", not \"%s\"", bad_text[i].text, error.message, bad_text[i].message);
        }
        g_assert_cmpuint(error.line, >, 0);
    }
}

static const struct refusal bad_block[] = {
    {"block pc 0 mode 0 bytes 0 guest 0\n", "limits"},
    {HEAD "%1 = getreg i64 r1\n", "does not end the block"},
    {HEAD "exit @0\nexit @0\n", "before its end"},
    {HEAD "exit @1\n", "no exit @1"},
    {HEAD "insn 4, 4" TAIL, "2 insn markers"},
    {HEAD "%1 = add i64 i64:1, i32:1" TAIL, "operand of type i32"},
    {HEAD "%1 = add f64 f64:1, f64:1" TAIL, "of type f64"},
    {HEAD "%1 = fadd rne i64 i64:1, i64:1" TAIL, "of type i64"},
    {HEAD "%1 = fadd 6 f64 f64:1, f64:1" TAIL, "aux 6"},
    {HEAD "%1 = fadd 11 f64 f64:1, f64:1" TAIL, "aux 11"},
    {HEAD "%1 = setcc 10 i64 i64:1, i64:1" TAIL, "aux 10"},
    {HEAD "%1 = fl.bit 3 fl:0" TAIL, "aux 3"},
    {HEAD "%1 = getreg i64 h0" TAIL, "wider than h0"},
    {HEAD "%1 = zext i32 i64:1" TAIL, "not narrower"},
    {HEAD "%1 = trunc i64 i32:1" TAIL, "not wider"},
    {HEAD "%1 = bitcast f32 i64:1" TAIL, "not as wide"},
    {HEAD "%1 = fcvt rne f32 f32:1" TAIL, "operand of type f32"},
    {HEAD "%1 = pairlo i64:1" TAIL, "operand of type i64"},
    {HEAD "%1 = ubfx i32 i32:1, 30, 3" TAIL, "a field of 3 bits at bit 30"},
    {HEAD "%1 = ubfx i32 i32:1, 30, 0" TAIL, "a field of 0 bits"},
    {HEAD "%1 = bfi i8 i8:1, i8:1, 1032" TAIL, "a field of 4 bits at bit 8"},
    {HEAD "%1 = getenv i64 4" TAIL, "offset 4"},
    {HEAD "%1 = getenv i64 99999992" TAIL, "offset"},
    {HEAD "%1 = ld i32 i64:0, 8" TAIL, "8 bytes for i32"},
    {HEAD "%1 = ld f64 i64:0, 4" TAIL, "4 bytes for f64"},
    {HEAD "%1 = ld i64 i64:0, 8:mmu9" TAIL, "memory descriptor"},
    {HEAD "st i64 i64:0, i64:1, 4:signed" TAIL, "signed store"},
    {HEAD "exit_if i64:1, @0" TAIL, "operand of type i64"},
    {HEAD "putreg i64 r1, i64:1\n%1 = ld i64 i64:0, 8" TAIL, "after its guest instruction has written"},
    {HEAD "putreg i64 r1, i64:1\n%1 = call 1 i64 fail_if, i64:0, _" TAIL,
     "after its guest instruction has written"},
    {HEAD "putreg i64 r1, i64:1\nraise 1, i64:0\n", "after its guest instruction has written"},
    {"block pc 0 mode 0 bytes 0 guest 0\n%1 = ld i64 i64:0, 8\nstop next i64:0\n",
     "outside a guest instruction"},
    {HEAD "%1 = call 1 i64 sum4, i64:1, _" TAIL, "1 operands"},
    {HEAD "%1 = call 3 i64 bump, i64:1, _" TAIL, "1 operands, 3 announced"},
    {HEAD "arg i64:1\narg i64:1\narg i64:1" TAIL, "more than two args"},
    {HEAD "arg i64:1" TAIL, "has no call"},
    {HEAD "%1 = cmpxchg i64 i64:0, i64:1, 8" TAIL, "needs one arg"},
    {HEAD "arg i32:1\n%1 = cmpxchg i64 i64:0, i64:1, 8" TAIL, "needs one arg"},
};

static void check_bad_blocks(void)
{
    g_autofree struct ir_block *b = g_new(struct ir_block, 1);

    for (unsigned i = 0; i < G_N_ELEMENTS(bad_block); i++) {
        char message[160] = "";
        rig_parse(b, bad_block[i].text);
        g_assert_cmpint(ir_verify(b, message, sizeof message), ==, -EINVAL);
        if (!strstr(message, bad_block[i].message)) {
            g_error("\"%s\" gave \"%s\", not \"%s\"", bad_block[i].text, message, bad_block[i].message);
        }
    }
}

/* What no text can say: wild references, operations and types. */
static void check_wild_blocks(void)
{
    g_autofree struct ir_block *b = g_new(struct ir_block, 1);
    static const struct ir_insn wild[] = {
        {.op = 999},
        {.op = IR_ADD, .type = 99},
        {.op = IR_ADD, .type = IR_I64, .a = 5, .b = 1},
        {.op = IR_ADD, .type = IR_I64, .a = UINT32_MAX, .b = UINT32_MAX},
        {.op = IR_ADD, .type = IR_I64, .a = 1, .b = 1},
        {.op = IR_PUTREG, .type = IR_I64, .a = 1},
        {.op = IR_GETREG, .type = IR_I64, .a = 9999},
        {.op = IR_GETREG, .type = IR_I64, .a = 1, .b = 1},
        {.op = IR_CALL, .type = IR_I64, .a = 9999},
        {.op = IR_EXIT_IF, .a = IR_CONST, .b = 77},
        {.op = IR_NEG, .type = IR_I64, .aux = 1, .a = 2},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wild); i++) {
        char message[160] = "";
        rig_parse(b, HEAD "%1 = getreg i64 r1" TAIL);
        g_assert_cmpint(ir_verify(b, message, sizeof message), ==, 0);
        b->insn[b->n - 1] = wild[i];
        ir_emit(b, IR_EXIT, IR_TYPE_NONE, 0, 0, 0, 0);
        g_assert_cmpint(ir_verify(b, message, sizeof message), ==, -EINVAL);
        g_assert_cmpuint(strlen(message), >, 0);
        /* A message that does not fit is cut, not written over its end. */
        char small[8] = "xxxxxxx";
        ir_verify(b, small, 4);
        g_assert_cmpuint(strlen(small), ==, 3);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/engine/ir/folds", check_folds);
    g_test_add_func("/engine/ir/limits", check_limits);
    g_test_add_func("/engine/ir/text/files", check_files);
    g_test_add_func("/engine/ir/text/every-operation", check_every_operation);
    g_test_add_func("/engine/ir/text/refused", check_bad_text);
    g_test_add_func("/engine/ir/verify/refused", check_bad_blocks);
    g_test_add_func("/engine/ir/verify/wild", check_wild_blocks);
    return g_test_run();
}
