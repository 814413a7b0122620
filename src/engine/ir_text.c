/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The IR as text: the words of the form and the printer. ir_text.h describes the form. */
#include "engine/ir_text.h"

#include <glib.h>
#include <inttypes.h>

#include "base/bits.h"

static const char *const rounding[] = {"rne", "rtz", "rdn", "rup", "rmm"};
static const char *const conditions[] = {"eq", "ne", "ltu", "geu", "leu", "gtu", "lts", "ges", "les", "gts"};
static const char *const flag_bits[] = {
    [IR_FLAG_C] = "c", [IR_FLAG_P] = "p", [IR_FLAG_A] = "a",
    [IR_FLAG_Z] = "z", [IR_FLAG_S] = "s", [IR_FLAG_O] = "o",
};
static const char *const flag_conditions[] = {"o", "no", "b", "nb", "z", "nz", "be", "nbe",
                                              "s", "ns", "p", "np", "l", "ge", "le", "g"};
static const char *const rmw[] = {"xchg", "add", "and", "or", "xor", "andn", "smin", "smax", "umin", "umax"};
static const char *const stops[] = {"next", "wait", "yield"};
const char *const ir_text_kind[2] = {"near", "far"};
const char *const ir_text_hint[3] = {"jump", "call", "return"};

_Static_assert(ARRAY_SIZE(conditions) == IR_COND_COUNT, "a word for each condition");
_Static_assert(ARRAY_SIZE(flag_conditions) == IR_FLCOND_COUNT, "a word for each flag condition");
_Static_assert(ARRAY_SIZE(rmw) == IR_RMW_COUNT, "a word for each atomic operation");
_Static_assert(ARRAY_SIZE(stops) == IR_STOP_COUNT, "a word for each stop");

const struct ir_text_bit ir_text_mem[] = {
    {IR_MEM_SIGNED, "signed"},   {IR_MEM_ACQUIRE, "acquire"}, {IR_MEM_RELEASE, "release"},
    {IR_MEM_ALIGNED, "aligned"}, {IR_MEM_BIG, "big"},         {IR_MEM_STACK, "stack"},
    {IR_MEM_PCREL, "pcrel"},     {IR_MEM_NOFAULT, "nofault"}, {0, NULL},
};

struct ir_words ir_text_aux(enum ir_aux kind)
{
#define WORDS(list) ((struct ir_words){(list), ARRAY_SIZE(list)})
    switch (kind) {
    case IR_AUX_RM: return WORDS(rounding);
    case IR_AUX_COND: return WORDS(conditions);
    case IR_AUX_FLBIT: return WORDS(flag_bits);
    case IR_AUX_FLCOND: return WORDS(flag_conditions);
    case IR_AUX_RMW: return WORDS(rmw);
    case IR_AUX_HINT: return WORDS(ir_text_hint);
    case IR_AUX_STOP: return WORDS(stops);
    default: return (struct ir_words){NULL, 0};
    }
#undef WORDS
}

const struct ir_text_bit *ir_text_modifiers(enum ir_op op)
{
    static const struct ir_text_bit none[] = {{0, NULL}};
    static const struct ir_text_bit fma[] = {
        {IR_FMA_NEG_PRODUCT, "negproduct"}, {IR_FMA_NEG_ADDEND, "negaddend"}, {0, NULL}};
    static const struct ir_text_bit convert[] = {{IR_CVT_UNSIGNED, "unsigned"}, {0, NULL}};
    static const struct ir_text_bit rint[] = {{IR_RINT_INEXACT, "inexact"}, {0, NULL}};

    switch (op) {
    case IR_FMA: return fma;
    case IR_F2I:
    case IR_I2F: return convert;
    case IR_FRINT: return rint;
    default: return none;
    }
}

/* --- Printing --- */

static void print_bits(GString *s, const struct ir_text_bit *bits, uint32_t value, char separator)
{
    for (; bits->bit; bits++) {
        if (value & bits->bit) {
            g_string_append_printf(s, "%c%s", separator, bits->word);
        }
    }
}

static void print_fence_side(GString *s, unsigned side)
{
    static const char letters[] = "wroi"; /* by bit */

    if (!side) {
        g_string_append_c(s, '-');
    }
    for (unsigned i = 0; i < 4; i++) {
        if (side & 1u << i) {
            g_string_append_c(s, letters[i]);
        }
    }
}

static void print_aux(GString *s, const struct ir_insn *i, enum ir_aux kind)
{
    struct ir_words words = ir_text_aux(kind);
    unsigned value = kind == IR_AUX_RM ? i->aux & IR_RM_MASK : i->aux;

    if (kind == IR_AUX_NO) {
        return;
    }
    g_string_append_c(s, ' ');
    if (kind == IR_AUX_FENCE) {
        print_fence_side(s, i->aux & 15);
        g_string_append_c(s, ':');
        print_fence_side(s, i->aux >> 4);
        return;
    }
    if (value < words.n && words.word[value]) {
        g_string_append(s, words.word[value]);
    } else {
        g_string_append_printf(s, "%u", value);
    }
    if (kind == IR_AUX_RM) {
        print_bits(s, ir_text_modifiers((enum ir_op)i->op), i->aux, '+');
    }
}

static void print_value(GString *s, const struct ir_block *b, ir_ref v)
{
    if (ir_is_const(v)) {
        g_string_append_printf(s, "%s:0x%" PRIx64, ir_type_name(ir_value_type(b, v)), ir_const_value(b, v));
    } else if (v) {
        g_string_append_printf(s, "%%%" PRIu32, v);
    } else {
        g_string_append_c(s, '_');
    }
}

static void print_operand(GString *s, const struct ir_block *b, enum ir_operand kind, uint32_t v)
{
    const struct ir_target *t = b->target;

    switch (kind) {
    case IR_OPERAND_REG:
        if (t && v < t->nregs) {
            g_string_append(s, t->regs[v].name);
            return;
        }
        break;
    case IR_OPERAND_HELPER:
        if (t && v < t->nhelpers) {
            g_string_append(s, t->helpers[v].name);
            return;
        }
        break;
    case IR_OPERAND_MEM:
        g_string_append_printf(s, "%u", 1u << ir_mem_log2(v));
        if (ir_mem_mmu(v)) {
            g_string_append_printf(s, ":mmu%u", ir_mem_mmu(v));
        }
        print_bits(s, ir_text_mem, v, ':');
        return;
    case IR_OPERAND_EXIT: g_string_append_c(s, '@'); break;
    case IR_OPERAND_IMM: g_string_append_printf(s, "%" PRId32, (int32_t)v); return;
    case IR_OPERAND_OFS: break;
    default: print_value(s, b, v); return;
    }
    g_string_append_printf(s, "%" PRIu32, v);
}

static void print_insn(GString *s, const struct ir_block *b, uint32_t at)
{
    const struct ir_insn *i = &b->insn[at];
    const uint32_t operand[3] = {i->a, i->b, i->c};
    const char *separator = " ";

    g_string_append(s, i->op == IR_INSN ? "  " : "    ");
    if (i->op >= IR_OP_COUNT) {
        g_string_append_printf(s, "; operation %u\n", i->op);
        return;
    }
    const struct ir_op_info *info = &ir_op_info[i->op];
    if (ir_value_type(b, at) != IR_TYPE_NONE) {
        g_string_append_printf(s, "%%%" PRIu32 " = ", at);
    }
    g_string_append(s, info->text);
    print_aux(s, i, (enum ir_aux)info->aux);
    if (i->type != IR_TYPE_NONE) {
        g_string_append_printf(s, " %s", ir_type_name((enum ir_type)i->type));
    }
    for (unsigned k = 0; k < 3; k++) {
        if (info->operand[k] != IR_OPERAND_NO) {
            g_string_append(s, separator);
            print_operand(s, b, (enum ir_operand)info->operand[k], operand[k]);
            separator = ", ";
        }
    }
    g_string_append_c(s, '\n');
}

char *ir_print(const struct ir_block *b)
{
    GString *s = g_string_new(NULL);

    g_string_append_printf(s,
                           "block pc 0x%" PRIx64 " mode 0x%" PRIx32 " bytes %" PRIu32 " guest %" PRIu32 "\n",
                           b->pc, b->mode, b->bytes, b->n_guest);
    for (uint32_t i = 0; i < b->n_exits; i++) {
        const struct ir_exit *e = &b->exits[i];
        g_string_append_printf(s, "@%" PRIu32 " = %s %s 0x%" PRIx64 "\n", i, ir_text_kind[e->kind & 1],
                               ir_text_hint[e->hint <= IR_HINT_RETURN ? e->hint : 0], e->target);
    }
    for (uint32_t i = 1; i < b->n; i++) {
        print_insn(s, b, i);
    }
    return g_string_free(s, FALSE);
}
