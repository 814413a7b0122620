/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Text to IR: a parser of one line at a time. ir_text.h describes the form; ir_verify checks what the form
 * cannot. */
#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "engine/ir_text.h"

struct parser {
    struct ir_block *b;
    const struct ir_target *target;
    struct ir_text_error *error;
    GHashTable *names; /* value's name (owned) to its reference */
    char *at;          /* what is left of the line */
    unsigned line;
};

G_GNUC_PRINTF(2, 3) static int fail(struct parser *p, const char *format, ...)
{
    va_list ap;

    p->error->line = p->line;
    va_start(ap, format);
    vsnprintf(p->error->message, sizeof p->error->message, format, ap);
    va_end(ap);
    return -EINVAL;
}

/* The next word of the line, cut out in place: ends at white space or a comma, which are eaten. "" at the
 * end. */
static const char *word(struct parser *p)
{
    char *start = p->at + strspn(p->at, " \t");
    char *end = start + strcspn(start, " \t,");

    p->at = end + strspn(end, " \t");
    if (*p->at == ',') {
        p->at++;
    }
    *end = '\0';
    return start;
}

static int parse_number(struct parser *p, const char *text, uint64_t *value)
{
    bool negative = *text == '-';
    const char *digits = text + negative;
    char *end = NULL;

    *value = 0;
    if (g_ascii_isdigit(*digits)) {
        errno = 0;
        *value = g_ascii_strtoull(digits, &end, 0);
    }
    if (!end || *end || errno) {
        return fail(p, "\"%.40s\" is not a number", text);
    }
    *value = negative ? 0 - *value : *value;
    return 0;
}

static int parse_u32(struct parser *p, const char *text, uint32_t *value)
{
    uint64_t wide;

    *value = 0;
    if (parse_number(p, text, &wide)) {
        return -EINVAL;
    }
    if (wide > UINT32_MAX && wide < (uint64_t)INT32_MIN) {
        return fail(p, "\"%.40s\" does not fit in 32 bits", text);
    }
    *value = (uint32_t)wide;
    return 0;
}

static bool find_word(const char *const *words, unsigned n, const char *text, unsigned *index)
{
    for (unsigned i = 0; i < n; i++) {
        if (words[i] && strcmp(words[i], text) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

static bool find_type(const char *text, size_t length, enum ir_type *type)
{
    for (unsigned i = 1; i < IR_TYPE_COUNT; i++) {
        const char *name = ir_type_name((enum ir_type)i);
        if (strlen(name) == length && memcmp(name, text, length) == 0) {
            *type = (enum ir_type)i;
            return true;
        }
    }
    return false;
}

/* Words of a set, each after the separator: ":signed:mmu1", "+unsigned". Sets bits of *value; cuts text up.
 */
static int parse_bits(struct parser *p, const struct ir_text_bit *bits, char *text, char separator,
                      uint32_t *value)
{
    while (text && *text) {
        char *next = strchr(text, separator);
        const struct ir_text_bit *b = bits;

        if (next) {
            *next++ = '\0';
        }
        while (b->bit && strcmp(b->word, text) != 0) {
            b++;
        }
        if (b->bit) {
            *value |= b->bit;
        } else if (bits == ir_text_mem && strncmp(text, "mmu", 3) == 0 && g_ascii_isdigit(text[3]) &&
                   !text[4]) {
            *value |= IR_MEM_MMU(text[3] - '0');
        } else {
            return fail(p, "unknown word \"%.40s\"", text);
        }
        text = next;
    }
    return 0;
}

/* Cuts text at the first separator and returns what follows it; NULL if there is none. */
static char *cut(const char *text, char separator)
{
    /* Words point into the parser's own copy of the line, so they may be written to. */
    char *rest = strchr((char *)(uintptr_t)text, separator);

    if (rest) {
        *rest++ = '\0';
    }
    return rest;
}

static int parse_mem(struct parser *p, const char *text, uint32_t *mem)
{
    char *rest = cut(text, ':');
    uint32_t size = 0;

    if (parse_u32(p, text, &size)) {
        return -EINVAL;
    }
    if (size == 0 || size > 64 || !is_power_of_two(size)) {
        return fail(p, "memory size %" PRIu32 " is none of 1, 2, 4, 8, 16, 32, 64", size);
    }
    *mem = IR_MEM_SIZE(__builtin_ctz(size));
    return parse_bits(p, ir_text_mem, rest, ':', mem);
}

static int parse_value(struct parser *p, const char *text, uint32_t *v)
{
    const char *colon = strchr(text, ':');
    enum ir_type type;
    uint64_t value;
    gpointer found;

    if (*text == '%') {
        if (!g_hash_table_lookup_extended(p->names, text, NULL, &found)) {
            return fail(p, "%.40s is not defined above", text);
        }
        *v = GPOINTER_TO_UINT(found);
        return 0;
    }
    if (!colon || !find_type(text, (size_t)(colon - text), &type)) {
        return fail(p, "\"%.40s\" is no value: expected %%name or type:number", text);
    }
    if (parse_number(p, colon + 1, &value)) {
        return -EINVAL;
    }
    *v = ir_const(p->b, type, value);
    return *v ? 0 : fail(p, "more than %d constants", IR_MAX_CONSTS);
}

static int parse_register(struct parser *p, const char *text, uint32_t *v)
{
    for (unsigned i = 0; p->target && i < p->target->nregs; i++) {
        if (strcmp(p->target->regs[i].name, text) == 0) {
            *v = i;
            return 0;
        }
    }
    return fail(p, "no register is called \"%.40s\"", text);
}

static int parse_helper(struct parser *p, const char *text, uint32_t *v)
{
    for (unsigned i = 0; p->target && i < p->target->nhelpers; i++) {
        if (strcmp(p->target->helpers[i].name, text) == 0) {
            *v = i;
            return 0;
        }
    }
    return fail(p, "no helper is called \"%.40s\"", text);
}

static int parse_operand(struct parser *p, enum ir_operand kind, uint32_t *v)
{
    const char *text;

    if (kind == IR_OPERAND_NO) {
        return 0;
    }
    text = word(p);
    switch (kind) {
    case IR_OPERAND_REG: return parse_register(p, text, v);
    case IR_OPERAND_HELPER: return parse_helper(p, text, v);
    case IR_OPERAND_MEM: return parse_mem(p, text, v);
    case IR_OPERAND_OFS:
    case IR_OPERAND_IMM: return parse_u32(p, text, v);
    case IR_OPERAND_EXIT:
        return *text == '@' ? parse_u32(p, text + 1, v)
                            : fail(p, "\"%.40s\" is no exit: expected @number", text);
    case IR_OPERAND_OPT:
        if (strcmp(text, "_") == 0) {
            return 0;
        }
        return parse_value(p, text, v);
    default: return parse_value(p, text, v);
    }
}

static int parse_fence_side(struct parser *p, const char *text, unsigned *side)
{
    static const char letters[] = "wroi";

    for (*side = 0; *text && strcmp(text, "-") != 0; text++) {
        const char *l = strchr(letters, *text);
        if (!l) {
            return fail(p, "\"%c\" is no side of a fence: expected w, r, o, i", *text);
        }
        *side |= 1u << (l - letters);
    }
    return 0;
}

static int parse_aux(struct parser *p, enum ir_op op, uint8_t *aux)
{
    enum ir_aux kind = (enum ir_aux)ir_op_info[op].aux;
    struct ir_words words = ir_text_aux(kind);
    uint32_t value = 0;

    if (kind == IR_AUX_NO) {
        return 0;
    }
    const char *text = word(p);
    if (kind == IR_AUX_FENCE) {
        char *after = cut(text, ':');
        unsigned b, a;
        if (parse_fence_side(p, text, &b) || parse_fence_side(p, after ? after : "-", &a)) {
            return -EINVAL;
        }
        *aux = (uint8_t)(b | a << 4);
        return 0;
    }
    char *rest = kind == IR_AUX_RM ? cut(text, '+') : NULL;
    if (!find_word(words.word, words.n, text, &value) && parse_u32(p, text, &value)) {
        return fail(p, "\"%.40s\" does not say which %s", text, ir_op_info[op].text);
    }
    if (parse_bits(p, ir_text_modifiers(op), rest, '+', &value)) {
        return -EINVAL;
    }
    if (value > UINT8_MAX) {
        return fail(p, "\"%.40s\" is too large", text);
    }
    *aux = (uint8_t)value;
    return 0;
}

static bool find_op(const char *text, enum ir_op *op)
{
    for (unsigned i = 0; i < IR_OP_COUNT; i++) {
        if (strcmp(ir_op_info[i].text, text) == 0) {
            *op = (enum ir_op)i;
            return true;
        }
    }
    return false;
}

/* An instruction; name is its result's ("%x"), or NULL. */
static int parse_insn(struct parser *p, const char *name, const char *mnemonic)
{
    enum ir_type type = IR_TYPE_NONE;
    uint32_t operand[3] = {0, 0, 0};
    uint8_t aux = 0;
    enum ir_op op;
    ir_ref v;

    if (!find_op(mnemonic, &op)) {
        return fail(p, "no operation is called \"%.40s\"", mnemonic);
    }
    if (parse_aux(p, op, &aux)) {
        return -EINVAL;
    }
    p->at += strspn(p->at, " \t");
    if (find_type(p->at, strcspn(p->at, " \t,"), &type)) {
        word(p);
    }
    for (unsigned k = 0; k < 3; k++) {
        if (parse_operand(p, (enum ir_operand)ir_op_info[op].operand[k], &operand[k])) {
            return -EINVAL;
        }
    }
    v = ir_emit(p->b, op, type, aux, operand[0], operand[1], operand[2]);
    if (p->b->overflow) {
        return fail(p, "more than %d instructions", IR_MAX_INSNS - 1);
    }
    if (name && ir_value_type(p->b, v) == IR_TYPE_NONE) {
        return fail(p, "%s has no result to call %.40s", ir_op_info[op].text, name);
    }
    if (name && !g_hash_table_insert(p->names, g_strdup(name), GUINT_TO_POINTER(v))) {
        return fail(p, "%.40s is defined twice", name);
    }
    return 0;
}

static int parse_exit(struct parser *p, const char *name)
{
    unsigned kind, hint;
    uint64_t target;
    uint32_t index = 0;

    if (parse_u32(p, name + 1, &index)) {
        return -EINVAL;
    }
    if (index != p->b->n_exits || index >= IR_MAX_EXITS) {
        return fail(p, "exit @%" PRIu32 " where @%" PRIu32 " of at most %d comes next", index, p->b->n_exits,
                    IR_MAX_EXITS);
    }
    if (!find_word(ir_text_kind, ARRAY_SIZE(ir_text_kind), word(p), &kind)) {
        return fail(p, "an exit is near or far");
    }
    if (!find_word(ir_text_hint, ARRAY_SIZE(ir_text_hint), word(p), &hint)) {
        return fail(p, "an exit is a jump, a call or a return");
    }
    if (parse_number(p, word(p), &target)) {
        return -EINVAL;
    }
    p->b->exits[p->b->n_exits++] =
        (struct ir_exit){.target = target, .kind = (uint8_t)kind, .hint = (uint8_t)hint};
    return 0;
}

static int parse_header(struct parser *p)
{
    uint32_t mode = 0, bytes = 0, guest = 0;
    uint64_t pc = 0;

    if (strcmp(word(p), "pc") != 0 || parse_number(p, word(p), &pc) || strcmp(word(p), "mode") != 0 ||
        parse_u32(p, word(p), &mode) || strcmp(word(p), "bytes") != 0 || parse_u32(p, word(p), &bytes) ||
        strcmp(word(p), "guest") != 0 || parse_u32(p, word(p), &guest)) {
        return fail(p, "expected: block pc N mode N bytes N guest N");
    }
    ir_begin(p->b, p->target, pc, mode);
    p->b->bytes = bytes;
    p->b->n_guest = guest;
    return 0;
}

static int parse_line(struct parser *p, bool *begun)
{
    const char *first = word(p);
    const char *name = NULL;
    int rc;

    if (!*first) {
        return 0;
    }
    if (strcmp(first, "block") == 0) {
        if (*begun) {
            return fail(p, "a second block");
        }
        *begun = true;
        return parse_header(p);
    }
    if (!*begun) {
        return fail(p, "the first line is not a block's");
    }
    if (*first == '%' || *first == '@') {
        name = first;
        if (strcmp(word(p), "=") != 0) {
            return fail(p, "expected = after %.40s", name);
        }
        rc = *name == '@' ? parse_exit(p, name) : parse_insn(p, name, word(p));
    } else {
        rc = parse_insn(p, NULL, first);
    }
    if (rc == 0 && *word(p)) {
        return fail(p, "something is left at the end of the line");
    }
    return rc;
}

int ir_parse(struct ir_block *b, const struct ir_target *target, const char *text,
             struct ir_text_error *error)
{
    g_autofree char *copy = g_strdup(text);
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    struct parser p = {.b = b, .target = target, .error = error, .names = names};
    bool begun = false;
    int rc = 0;

    ir_begin(b, target, 0, 0);
    for (char *line = copy, *next; rc == 0 && line; line = next) {
        next = cut(line, '\n');
        cut(line, ';');
        p.line++;
        p.at = line;
        rc = parse_line(&p, &begun);
    }
    if (rc == 0 && !begun) {
        return fail(&p, "no block");
    }
    return rc;
}
