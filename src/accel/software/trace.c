/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* --trace translate: a new block, guest instruction by guest instruction, with its IR, cells and host code
 * beside it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "accel/hostdis.h"
#include "accel/software/software.h"
#include "base/bits.h"
#include "base/log.h"

enum { IR_WIDTH = 42, CELL_WIDTH = 30, TEXT = 160 };

/* A column: lines, each owned. */
static GPtrArray *column_new(void)
{
    return g_ptr_array_new_with_free_func(g_free);
}

static const char *column_line(const GPtrArray *column, unsigned i)
{
    return i < column->len ? column->pdata[i] : "";
}

static void column_fill(GPtrArray *column, const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++)
        if (**line)
            g_ptr_array_add(column, g_strdup(g_strstrip(*line)));
}

static void print_row(const char *ir, const char *cell, const char *host)
{
    g_autofree char *line = g_strdup_printf("    %-*s  %-*s  %s", IR_WIDTH, ir, CELL_WIDTH, cell, host);
    log_debug(LOG_TRANSLATE, "%s", g_strchomp(line));
}

static void print_columns(const GPtrArray *ir, const GPtrArray *cells, const GPtrArray *host)
{
    for (unsigned i = 0; i < ir->len || i < cells->len || i < host->len; i++)
        print_row(column_line(ir, i), column_line(cells, i), column_line(host, i));
}

/* --- host code --- */

/* Code is disassembled as if it began at 0, so that a jump inside it names the offset of a line. One that
 * leaves it names a place all blocks share. */
static void name_target(const struct block_view *view, char *text)
{
    char *operand = strchr(text, ' ');
    if ((*text != 'j' && !g_str_has_prefix(text, "call")) || !operand || operand[1] != '0')
        return;
    uint64_t target = strtoull(operand + 1, NULL, 0);
    for (unsigned i = 0; i < view->n_places; i++)
        if (target >= view->bytes && target + view->address == view->places[i].address)
            g_strlcpy(operand + 1, view->places[i].name, TEXT - (size_t)(operand + 1 - text));
}

/* "[r14 - 0x70]" becomes "[env.icount]", "[r14 + rcx*8 + 0x13300]" becomes "[env.tlb[6].tag_r + rcx*8]". */
static void name_field(const struct block_view *view, const struct ir_target *target, char *text)
{
    char *open = strchr(text, '['), *close = open ? strchr(open, ']') : NULL;
    if (!close || !view->env_register || !g_str_has_prefix(open + 1, view->env_register))
        return;
    char *at = open + 1 + strlen(view->env_register), *end = at;
    int64_t offset = view->env_bias;
    g_autofree char *tail = g_strdup(close);
    g_autofree char *index = NULL;
    if (g_str_has_prefix(at, " + r")) {
        end = at + 3 + strcspn(at + 3, " ]");
        index = g_strndup(at, (size_t)(end - at));
    }
    if (end[0] == ' ' && (end[1] == '+' || end[1] == '-'))
        offset += (end[1] == '-' ? -1 : 1) * strtoll(end + 3, NULL, 0);
    if (offset < 0)
        return;
    char name[32];
    block_view_field(target, (size_t)offset, name, sizeof(name));
    g_snprintf(open + 1, TEXT - (size_t)(open + 1 - text), "env.%s%s%s", name, index ? index : "", tail);
}

static void fill_host(GPtrArray *column, const struct block_view *view, const struct ir_target *target,
                      uint32_t from, uint32_t to)
{
    while (from < to) {
        char text[TEXT];
        unsigned n = hostdis_print(view->code + from, to - from, from, text, sizeof(text));
        name_target(view, text);
        name_field(view, target, text);
        g_ptr_array_add(column, g_strdup_printf("%4x: %s", from, text));
        from += n;
    }
}

static void print_out_of_line(const struct block_view *view, const struct ir_target *target)
{
    g_autoptr(GPtrArray) nothing = column_new();
    g_autoptr(GPtrArray) host = column_new();
    fill_host(host, view, target, view->body, view->bytes);
    if (!host->len)
        return;
    log_debug(LOG_TRANSLATE, "  out of line");
    print_columns(nothing, nothing, host);
}

/* --- guest instructions --- */

/* Prints the instruction at an offset into the block. */
static void print_guest(const struct soft_vcpu *s, const struct isa_code *code, uint32_t offset)
{
    enum { LONGEST = 16 };
    uint8_t bytes[LONGEST];
    uint32_t have = MIN(code->avail - offset, (uint32_t)LONGEST), avail = have;
    memcpy(bytes, code->bytes + offset, have);
    for (; code->next && avail < LONGEST; avail++)
        bytes[avail] = code->next[avail - have];
    char text[TEXT] = "(undefined)", hex[2 * LONGEST + 1];
    unsigned n = s->isa->disassemble(code->pc + offset, bytes, avail, text, sizeof(text));
    n = n ? n : MIN(avail, 4);
    for (unsigned i = 0; i < n; i++) /* as a number: the most significant byte first */
        g_snprintf(hex + (size_t)(2 * i), 3, "%02x", bytes[n - 1 - i]);
    log_debug(LOG_TRANSLATE, "  0x%" PRIx64 "  %-8s  %s", code->pc + offset, hex,
              g_strdelimit(text, "\t", ' '));
}

static void print_insn(const struct block_view *view, const struct ir_block *ir, unsigned insn,
                       const char *ir_text)
{
    g_autoptr(GPtrArray) ir_lines = column_new();
    g_autoptr(GPtrArray) cells = column_new();
    g_autoptr(GPtrArray) host = column_new();
    g_autofree char *cell_text = block_view_cells(view, ir->target, insn);
    column_fill(ir_lines, ir_text);
    column_fill(cells, cell_text);
    if (view->code && insn < view->n_marks)
        fill_host(host, view, ir->target, view->starts[insn],
                  insn + 1 < view->n_marks ? view->starts[insn + 1] : view->body);
    print_columns(ir_lines, cells, host);
}

void trace_block(const struct soft_vcpu *s, const struct isa_code *code, const struct ir_block *ir,
                 const struct block *b)
{
    const struct backend *backend = s->soft->backend;
    struct block_view view = {0};
    if (backend->view)
        backend->view(s->soft->backend_state, b, &view);
    log_debug(LOG_TRANSLATE,
              "block 0x%" PRIx64 " physical 0x%" PRIx64 " mode 0x%" PRIx32 ": %u instructions, %u bytes",
              b->pc, b->gpa, b->mode, b->n_guest, b->bytes);
    if (view.code)
        log_debug(LOG_TRANSLATE,
                  "  host code 0x%" PRIx64 ", %" PRIu32 " bytes, %" PRIu32 " of them out of line",
                  view.address, view.bytes, view.bytes - view.body);
    g_autofree char *text = ir_print(ir);
    g_auto(GStrv) part =
        g_strsplit(text, "\n  insn ", -1); /* the head, then each instruction: "OFFSET, LENGTH" first */
    g_auto(GStrv) head = g_strsplit(part[0], "\n", -1);
    for (char **line = head + 1; *head && *line; line++)
        log_debug(LOG_TRANSLATE, "  %s", *line);
    for (unsigned i = 0; part[0] && part[i + 1]; i++) {
        const char *body = strchr(part[i + 1], '\n');
        print_guest(s, code, (uint32_t)strtoul(part[i + 1], NULL, 10));
        print_insn(&view, ir, i, body ? body : "");
    }
    if (view.code)
        print_out_of_line(&view, ir->target);
}
