/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What people are shown of a block: its cells as text, and where each guest instruction's host code is. */
#include <string.h>

#include "base/bits.h"
#include "engine/cell.h"
#include "rig.h"

static const char text[] =
    "block pc 0x1000 mode 0 bytes 20 guest 5\n"
    "@0 = near jump 0x1000\n@1 = near jump 0x1014\n"
    "insn 0, 4\n%1 = getreg i64 r1\n%2 = add i64 %1, i64:8\nputreg i64 r1, %2\n"
    "insn 4, 4\n%3 = getreg i64 r1\n%4 = add i64 %3, i64:0xfffffffffffffff0\n%5 = ld i64 %4, 4:signed\n"
    "putreg i64 r2, %5\n"
    "insn 8, 4\n%6 = getreg i64 r1\nst i64 %6, i64:5, 2\n"
    "insn 12, 4\n%7 = getreg i64 r9\n%8 = setcc ltu i64 %7, i64:3\nexit_if %8, @0\n"
    "insn 16, 4\nexit @1\n";

static const char *const cells[] = {
    "add_64k r1 <- r1, 0x8\n", "ld_s32 r2 <- [r1 - 0x10]\n",
    "st_16k [r1] <- 5\n",      "br_ltu_64k r9, 0x3 -> @0 after 4\n",
    "exit -> @1 after 5\n",
};

static void check_backend(gconstpointer opaque)
{
    const struct backend *ops = opaque;
    struct rig *r = rig_new_with(ops);
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    rig_parse(ir, text);
    struct block *b = rig_compile(r, ir);
    struct block_view v;
    ops->view(r->backend, b, &v);
    g_assert_cmpuint(v.n_marks, ==, ARRAY_SIZE(cells));
    for (unsigned i = 0; i < ARRAY_SIZE(cells); i++) {
        g_autofree char *line = block_view_cells(&v, ir->target, i);
        g_assert_cmpstr(line, ==, cells[i]);
    }
    g_autofree char *none = block_view_cells(&v, ir->target, ARRAY_SIZE(cells));
    g_assert_cmpstr(none, ==, "");
    if (v.code) {
        g_assert_cmpuint(v.starts[0], ==, 0);
        for (unsigned i = 1; i < v.n_marks; i++)
            g_assert_cmpuint(v.starts[i], >, v.starts[i - 1]);
        g_assert_cmpuint(v.body, >, v.starts[v.n_marks - 1]);
        g_assert_cmpuint(v.bytes, >, v.body); /* the load's way to C, at least */
        g_assert_cmphex(v.address, ==, b->entry);
    }
    rig_free(r);
}

/* A trace would name the wrong one of two. */
static void check_handlers_differ(void)
{
    const void *const *handler = interp_handlers();
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    for (unsigned op = 0; op < CELL_COUNT; op++)
        if (!g_hash_table_add(seen, (gpointer)(uintptr_t)handler[op]))
            g_test_message("%s shares its handler", cell_op_name(op));
    g_assert_cmpuint(g_hash_table_size(seen), ==, CELL_COUNT);
}

static void check_fields(void)
{
    static const struct {
        size_t offset;
        const char *name;
    } fields[] = {
        {offsetof(struct env, icount), "icount"},
        {offsetof(struct env, temp[3]), "tmp3"},
        {offsetof(struct env, tlb[6].tag_w), "tlb[6].tag_w"},
        {offsetof(struct env, tlb[0].addend), "tlb[0].addend"},
        {offsetof(struct env, jump) + offsetof(struct env_jump, salt), "jump.salt"},
        {offsetof(struct env, tlb[0].tag_r[1]), "tlb[0].tag_r[1]"},
        {offsetof(struct env, slots[2].addend[5]), "slots[2].addend[5]"},
        {offsetof(struct env, slots[2].addend[5]) + 1, "+0x"},
        {SIZE_MAX, "+0xffffffffffffffff"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        char name[32];
        block_view_field(&rig_target, fields[i].offset, name, sizeof(name));
        g_assert_true(g_str_has_prefix(name, fields[i].name));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; backends[i]; i++) {
        g_autofree char *name = g_strdup_printf("/engine/view/%s", backends[i]->name);
        g_test_add_data_func(name, backends[i], check_backend);
    }
    g_test_add_func("/engine/view/handlers", check_handlers_differ);
    g_test_add_func("/engine/view/fields", check_fields);
    return g_test_run();
}
