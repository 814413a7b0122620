/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Cells as text, for people: the name in small letters, what is written, what is read, the constant. */
/*
 *     add_64k a0 <- a0, 0x1             registers by their names, temporaries as tmp0, tmp1, ...
 *     ld_u64 tmp0 <- [a1 + 0x8]           memory
 *     br_ne_64 a0, a2 -> @1 after 3     an exit, and the guest instructions completed when it is taken
 */
#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "engine/prepare_int.h"

static const char *const names[CELL_COUNT] = {
#define CELL(id) #id,
#include "engine/cells.def"
#undef CELL
};

const char *cell_op_name(unsigned op)
{
    return op < CELL_COUNT ? names[op] : "?";
}

static unsigned op_of(const struct block_view *v, const struct cell *c)
{
    unsigned op = 0;
    while (op < CELL_COUNT && v->handlers[op] != c->handler)
        op++;
    return op;
}

/* Does the name begin so? */
static bool is(unsigned op, const char *prefix)
{
    return g_str_has_prefix(cell_op_name(op), prefix);
}

static bool print_table_field(size_t offset, char *text, size_t size)
{
    static const char *const tlb[] = {"tag_r", "tag_w", "addend"};
    static const char *const jump[] = {"pc", "salt", "block", "host"};
    size_t at = offset - offsetof(struct env, tlb);
    if (at < ENV_MMU_INDEXES * sizeof(struct env_tlb) && at % 8 == 0) {
        size_t n = at / (8 * ENV_TLB_SIZE), i = at / 8 % ENV_TLB_SIZE;
        if (i)
            g_snprintf(text, size, "tlb[%zu].%s[%zu]", n / 3, tlb[n % 3], i);
        else
            g_snprintf(text, size, "tlb[%zu].%s", n / 3, tlb[n % 3]);
        return true;
    }
    at = offset - offsetof(struct env, slots);
    if (at < ENV_MMU_INDEXES * sizeof(struct env_slots) && at % 4 == 0) {
        static const char *const field[] = {"tag", "addend", "before"};
        size_t n = at % sizeof(struct env_slots) / 8, slots = at / sizeof(struct env_slots);
        if (n >= 3 * ENV_SLOTS)
            g_snprintf(text, size, "slots[%zu].credit[%zu]", slots,
                       at % sizeof(struct env_slots) / 4 - 6 * ENV_SLOTS);
        else
            g_snprintf(text, size, "slots[%zu].%s[%zu]", slots, field[n / ENV_SLOTS], n % ENV_SLOTS);
        return true;
    }
    at = offset - offsetof(struct env, jump);
    if (at >= sizeof(struct env_jump) || at % 8)
        return false;
    g_snprintf(text, size, "jump.%s", jump[at / 8]);
    return true;
}

_Static_assert(sizeof(struct env_tlb) == 3 * 8 * ENV_TLB_SIZE, "a TLB is three arrays");
_Static_assert(sizeof(struct env_jump) == 4 * 8, "an entry is four words");

void block_view_field(const struct ir_target *target, size_t offset, char *text, size_t size)
{
#define FIELD(name)                                                                                          \
    {                                                                                                        \
#name, offsetof(struct env, name)                                                                    \
    }
    static const struct {
        const char *name;
        size_t offset;
    } fields[] = {
        FIELD(exit_request), FIELD(mode),      FIELD(pc),          FIELD(icount),
        FIELD(budget),       FIELD(salt),      FIELD(salt_global), FIELD(last_exit),
        FIELD(fp_flags),     FIELD(excl_addr), FIELD(excl_value),
    };
#undef FIELD
    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++)
        if (fields[i].offset == offset) {
            g_strlcpy(text, fields[i].name, size);
            return;
        }
    for (unsigned i = 0; i < target->nregs; i++)
        if (target->regs[i].offset == offset) {
            g_strlcpy(text, target->regs[i].name, size);
            return;
        }
    size_t temp = offset - offsetof(struct env, temp);
    if (temp < sizeof(((struct env *)0)->temp) && temp % 8 == 0)
        g_snprintf(text, size, "tmp%zu", temp / 8);
    else if (!print_table_field(offset, text, size))
        g_snprintf(text, size, "+0x%zx", offset);
}

static void print_operand(GString *s, const struct ir_target *target, unsigned cell)
{
    char name[32];
    block_view_field(target, 8 * (size_t)cell, name, sizeof(name));
    g_string_append(s, name);
}

/* The operands that are used: the others name the cell that stands for none, or 0. */
static void print_sources(GString *s, const struct ir_target *target, const struct cell *c, unsigned count)
{
    const uint16_t source[] = {c->a, c->b, c->c};
    for (unsigned i = 0; i < count; i++)
        if (source[i] && source[i] != PREPARE_IDLE) {
            if (s->str[s->len - 1] != ' ')
                g_string_append(s, ", ");
            print_operand(s, target, source[i]);
        }
}

static void print_constant(GString *s, uint64_t k)
{
    if (s->str[s->len - 1] != ' ')
        g_string_append(s, ", ");
    if ((int64_t)k < 0 && (int64_t)k >= -4096)
        g_string_append_printf(s, "%" PRId64, (int64_t)k);
    else
        g_string_append_printf(s, "0x%" PRIx64, k);
}

static void print_exit(GString *s, const struct ir_target *target, const struct cell *c, unsigned op)
{
    if (op == CELL_EXIT_REG)
        print_operand(s, target, c->a);
    else if (op != CELL_EXIT)
        print_sources(s, target, c, 2);
    if (is(op, "BR_") && g_str_has_suffix(cell_op_name(op), "K"))
        print_constant(s, c->imm);
    if (op != CELL_EXIT_REG)
        g_string_append_printf(s, "%s-> @%u", s->str[s->len - 1] == ' ' ? "" : " ", c->c);
    g_string_append_printf(s, " after %u", c->dst);
}

static void print_address(GString *s, const struct ir_target *target, const struct cell *c)
{
    int32_t displacement = (int32_t)((int64_t)c->imm >> 32);
    g_string_append_c(s, '[');
    print_operand(s, target, c->a);
    if (displacement)
        g_string_append_printf(s, " %c 0x%x", displacement < 0 ? '-' : '+',
                               displacement < 0 ? 0 - (unsigned)displacement : (unsigned)displacement);
    g_string_append_c(s, ']');
}

static void print_access(GString *s, const struct ir_target *target, const struct cell *c, unsigned op)
{
    bool is_store = is(op, "ST_");
    if (!is_store) {
        print_operand(s, target, c->dst);
        g_string_append(s, " <- ");
    }
    print_address(s, target, c);
    if (is_store && g_str_has_suffix(cell_op_name(op), "K"))
        g_string_append_printf(s, " <- %d", (int16_t)c->b);
    else if (is_store)
        g_string_append(s, " <- "), print_operand(s, target, c->b);
    else if (!is(op, "LD_"))
        print_sources(s, target, &(struct cell){.a = c->b, .b = op == CELL_RMW ? 0 : c->c}, 2);
}

static void print_cell(GString *s, const struct block_view *v, const struct ir_target *target,
                       const struct cell *c)
{
    unsigned op = op_of(v, c);
    g_autofree char *name = g_ascii_strdown(cell_op_name(op), -1);
    g_string_append_printf(s, "%s ", name);
    if (is(op, "BR_") || is(op, "EXIT")) {
        print_exit(s, target, c, op);
    } else if (is(op, "LD_") || is(op, "ST_") || is(op, "RMW") || is(op, "CMPXCHG") || op == CELL_LL ||
               op == CELL_SC) {
        print_access(s, target, c, op);
    } else {
        if (c->dst && !is(op, "STOP_")) {
            print_operand(s, target, c->dst);
            g_string_append(s, " <- ");
        }
        print_sources(s, target, c, 3);
        if (c->imm || op == CELL_MOVK)
            print_constant(s, c->imm);
    }
    g_string_append_c(s, '\n');
}

char *block_view_cells(const struct block_view *v, const struct ir_target *target, unsigned insn)
{
    GString *s = g_string_new(NULL);
    unsigned from = insn < v->n_marks ? v->marks[insn].cell : v->n_cells;
    unsigned to = insn + 1 < v->n_marks ? v->marks[insn + 1].cell : v->n_cells;
    for (unsigned i = insn ? from : 0; i < to; i++) {
        unsigned op = op_of(v, &v->cells[i]);
        print_cell(s, v, target, &v->cells[i]);
        if (op == CELL_CALL || op == CELL_CALL_FAULT || op == CELL_CALL_SYNC)
            i++; /* the next one is its data */
    }
    return g_string_free(s, FALSE);
}
