/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* How long the interpreter takes per guest instruction: loops of one kind of instruction each. Not a test. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rig.h"

/* A loop of 16 copies of a body and one branch back; r1 counts down. Placed as guest instructions of four
 * bytes. */
struct kind {
    const char *name;
    const char
        *body; /* IR of one guest instruction; $ becomes the number of the copy, so that names differ */
};

static const struct kind kinds[] = {
    {"addi", "%a$ = getreg i64 r2\n%b$ = add i64 %a$, i64:3\nputreg i64 r2, %b$\n"},
    {"add, independent",
     "%a$ = getreg i64 r3\n%c$ = getreg i64 r4\n%b$ = add i64 %a$, %c$\nputreg i64 r5, %b$\n"},
    {"addw", "%a$ = getreg i64 r2\n%c$ = getreg i64 r4\n%ta$ = trunc i32 %a$\n%tc$ = trunc i32 %c$\n"
             "%b$ = add i32 %ta$, %tc$\n%s$ = sext i64 %b$\nputreg i64 r2, %s$\n"},
    {"slt", "%a$ = getreg i64 r3\n%c$ = getreg i64 r4\n%b$ = setcc lts i64 %a$, %c$\n%z$ = zext i64 %b$\n"
            "putreg i64 r5, %z$\n"},
    {"mul", "%a$ = getreg i64 r2\n%c$ = getreg i64 r4\n%b$ = mul i64 %a$, %c$\nputreg i64 r2, %b$\n"},
    {"ld", "%a$ = getreg i64 r6\n%p$ = add i64 %a$, i64:8\n%b$ = ld i64 %p$, 8\nputreg i64 r5, %b$\n"},
    {"lw, chased", "%a$ = getreg i64 r6\n%b$ = ld i64 %a$, 8\nputreg i64 r6, %b$\n"},
    {"sd", "%a$ = getreg i64 r7\n%p$ = add i64 %a$, i64:16\n%c$ = getreg i64 r2\nst i64 %p$, %c$, 8\n"},
    {"branch, not taken",
     "%a$ = getreg i64 r3\n%c$ = getreg i64 r4\n%b$ = setcc eq i64 %a$, %c$\nexit_if %b$, @0\n"},
    {"fadd.d", "%a$ = getreg f64 f0\n%c$ = getreg f64 f1\n%b$ = fadd rne f64 %a$, %c$\nputreg f64 f0, %b$\n"},
    {"amoadd", "%a$ = getreg i64 r7\n%c$ = getreg i64 r4\n%b$ = rmw add i64 %a$, %c$, 8:acquire:release\n"
               "putreg i64 r5, %b$\n"},
};

enum { COPIES = 16, RUNS = 7 };

static void append_copy(GString *text, const char *body, unsigned number)
{
    g_string_append_printf(text, "insn %u, 4\n", 4 * number);
    for (const char *c = body; *c; c++) {
        if (*c == '$') {
            g_string_append_printf(text, "_%u", number);
        } else {
            g_string_append_c(text, *c);
        }
    }
}

/* The thread's own time: what other work on the machine takes does not count. */
static double thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double measure(struct rig *r, const char *body, unsigned copies, uint64_t loops)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    double best = 1e9;

    g_string_append_printf(text, "block pc 0x1000 mode 0 bytes %u guest %u\n", 4 * (copies + 2), copies + 2);
    g_string_append(text, "@0 = near jump 0x2000\n@1 = near jump 0x1000\n@2 = near jump 0x1ffc\n");
    for (unsigned i = 0; i < copies; i++) {
        append_copy(text, body, i);
    }
    g_string_append_printf(
        text, "insn %u, 4\n%%n = getreg i64 r1\n%%m = add i64 %%n, i64:-1\nputreg i64 r1, %%m\n", 4 * copies);
    g_string_append_printf(text,
                           "insn %u, 4\n%%more = setcc ne i64 %%m, i64:0\nexit_if %%more, @1\nexit @2\n",
                           4 * (copies + 1));
    rig_parse(ir, text->str);
    struct block *b = rig_compile(r, ir);
    b->exits[1].to = b;
    for (unsigned run = 0; run < RUNS; run++) {
        r->env.reg[1] = loops;
        r->env.reg[2] = 1;
        r->env.reg[3] = 5;
        r->env.reg[4] = 7;
        r->env.reg[6] = r->env.reg[7] = RIG_RAM;
        r->env.reg[18] = UINT64_C(0x3ff0000000000000);
        r->env.reg[19] = UINT64_C(0x3fb999999999999a);
        memset(r->ram, 0, 64);
        r->ram[2] = 1; /* the chain of loads: the first word points to itself */
        double start = thread_ns();
        g_assert_cmpint(rig_run(r, b), ==, ENGINE_NEXT);
        double ns = (thread_ns() - start) / (double)loops;
        best = ns < best ? ns : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    bool plain = argc > 1 && strcmp(argv[1], "plain") == 0;
    struct rig *r = rig_new(plain);
    double empty = measure(r, "", 0, 2000000);

    printf("%-20s %6.2f ns, %5.0f million guest instructions per second\n", "addi + bne (loop)", empty,
           2000 / empty);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        double ns = (measure(r, kinds[i].body, COPIES, 200000) - empty) / COPIES;
        printf("%-20s %6.2f ns, %5.0f million per second\n", kinds[i].name, ns, 1000 / ns);
    }
    rig_free(r);
    return 0;
}
