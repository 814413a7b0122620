/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Running from block to block: links, jump cache, polls, budget, faults in the middle, code memory. */
#include "rig.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "engine/cell.h"

/* Adds 1 to r1 in each of two guest instructions, then leaves by the exit of the kind. */
static struct block *counting_block(struct rig *r, const char *pc, const char *exit)
{
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    g_autofree char *text = g_strdup_printf(
        "block pc %s mode 0 bytes 8 guest 2\n@0 = %s\n"
        "insn 0, 4\n%%1 = getreg i64 r1\n%%2 = add i64 %%1, i64:1\nputreg i64 r1, %%2\n"
        "insn 4, 4\n%%3 = getreg i64 r1\n%%4 = add i64 %%3, i64:1\nputreg i64 r1, %%4\nexit @0\n",
        pc, exit);

    rig_parse(ir, text);
    return rig_compile(r, ir);
}

static void check_links(void)
{
    struct rig *r = rig_new(false);
    struct block *a = counting_block(r, "0x1000", "near jump 0x1008");
    struct block *b = counting_block(r, "0x1008", "near jump 0x1010");

    g_assert_cmpint(rig_run(r, a), ==, ENGINE_NEXT);
    g_assert_cmphex(r->env.pc, ==, 0x1008);
    g_assert_true(r->env.last_exit == &a->exits[0]);
    g_assert_cmpuint(r->env.icount, ==, 2);

    atomic_store(&a->exits[0].to, b);
    g_assert_cmpint(rig_run(r, a), ==, ENGINE_NEXT);
    g_assert_cmphex(r->env.pc, ==, 0x1010);
    g_assert_true(r->env.last_exit == &b->exits[0]);
    g_assert_cmpuint(r->env.icount, ==, 6);
    g_assert_cmpuint(r->env.reg[1], ==, 6);

    atomic_store(&a->exits[0].to, NULL);
    g_assert_cmpint(rig_run(r, a), ==, ENGINE_NEXT);
    g_assert_true(r->env.last_exit == &a->exits[0]);
    rig_free(r);
}

static void remember(struct rig *r, struct block *b, uint64_t salt)
{
    r->env.jump[env_jump_index(b->pc)] = (struct env_jump){.pc = b->pc, .salt = salt, .block = b};
}

/* Far exits go through the jump cache: an entry under another salt, for another pc or without a block is
 * none. */
static void check_jump_cache(void)
{
    struct rig *r = rig_new(false);
    struct block *a = counting_block(r, "0x1000", "far call 0x9000");
    struct block *b = counting_block(r, "0x9000", "near jump 0x9010");

    r->env.salt = 77;
    g_assert_cmpint(rig_run(r, a), ==, ENGINE_NEXT);
    g_assert_cmphex(r->env.pc, ==, 0x9000);
    g_assert_null(r->env.last_exit);
    remember(r, b, 78);
    g_assert_cmpint(rig_run(r, a), ==, ENGINE_NEXT);
    g_assert_cmphex(r->env.pc, ==, 0x9000);
    remember(r, b, 77);
    g_assert_cmpint(rig_run(r, a), ==, ENGINE_NEXT);
    g_assert_cmphex(r->env.pc, ==, 0x9010);
    g_assert_true(r->env.last_exit == &b->exits[0]);
    r->env.jump[env_jump_index(b->pc)].pc ^= UINT64_C(1) << 40;
    g_assert_cmpint(rig_run(r, a), ==, ENGINE_NEXT);
    g_assert_cmphex(r->env.pc, ==, 0x9000);
    /* pc 0 under salt 0 is what an empty entry looks like */
    struct block *zero = counting_block(r, "0x1000", "far jump 0");
    r->env.salt = 0;
    g_assert_cmpint(rig_run(r, zero), ==, ENGINE_NEXT);
    g_assert_cmphex(r->env.pc, ==, 0);
    rig_free(r);
}

static void check_exit_reg(void)
{
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    struct rig *r = rig_new(false);
    struct block *b = counting_block(r, "0x9000", "near jump 0x9010");

    rig_parse(ir,
              "block pc 0x1000 mode 0 bytes 4 guest 1\ninsn 0, 4\n%1 = getreg i64 r2\nexit_reg return %1\n");
    struct block *a = rig_compile(r, ir);
    r->env.reg[2] = 0x9000;
    g_assert_cmpint(rig_run(r, a), ==, ENGINE_NEXT);
    g_assert_cmphex(r->env.pc, ==, 0x9000);
    g_assert_null(r->env.last_exit);
    g_assert_cmpuint(r->env.icount, ==, 1);
    remember(r, b, r->env.salt);
    g_assert_cmpint(rig_run(r, a), ==, ENGINE_NEXT);
    g_assert_cmphex(r->env.pc, ==, 0x9010);
    g_assert_cmpuint(r->env.icount, ==, 4);
    rig_free(r);
}

/* A block linked to itself ends by a request of another thread only; where it stands then is exact. */
static gpointer kicker(gpointer env)
{
    g_usleep(2000);
    env_kick(env, ENV_EXIT_STOP);
    return NULL;
}

static void check_poll(void)
{
    struct rig *r = rig_new(false);
    struct block *a = counting_block(r, "0x1000", "near jump 0x1000");

    atomic_store(&a->exits[0].to, a);
    GThread *thread = g_thread_new("kicker", kicker, &r->env);
    g_assert_cmpint(rig_run(r, a), ==, ENGINE_POLL);
    g_thread_join(thread);
    g_assert_cmphex(r->env.pc, ==, 0x1000);
    g_assert_null(r->env.last_exit);
    g_assert_cmpuint(r->env.exit_request, ==, ENV_EXIT_STOP);
    g_assert_cmpuint(r->env.icount, ==, r->env.reg[1]);
    g_assert_cmpuint(r->env.icount % 2, ==, 0);
    /* A request that was there before: the first block still runs, the next does not. */
    uint64_t before = r->env.icount;
    g_assert_cmpint(rig_run(r, a), ==, ENGINE_POLL);
    g_assert_cmpuint(r->env.icount, ==, before + 2);
    rig_free(r);
}

/* Never past the budget, and as close as whole blocks come. */
static void check_budget(void)
{
    struct rig *r = rig_new(false);
    struct block *a = counting_block(r, "0x1000", "near jump 0x1000");

    atomic_store(&a->exits[0].to, a);
    for (unsigned budget = 2; budget < 12; budget++) {
        r->env.icount = 0;
        r->env.exit_request = 0;
        r->env.budget = budget;
        g_assert_cmpint(rig_run(r, a), ==, ENGINE_POLL);
        g_assert_cmpuint(r->env.icount, ==, budget / 2 * 2);
        g_assert_cmpuint(r->env.exit_request, ==, ENV_EXIT_BUDGET);
        g_assert_cmphex(r->env.pc, ==, 0x1000);
    }
    rig_free(r);
}

static void append_numbered(GString *text, const char *pattern, unsigned number)
{
    for (; *pattern; pattern++) {
        if (*pattern == '$') {
            g_string_append_printf(text, "%u", number);
        } else {
            g_string_append_c(text, *pattern);
        }
    }
}

/* Each of eight guest instructions writes a register and loads; the one whose address is bad must be the only
 * one not done. */
static void check_fault(struct rig *r, const char *access, unsigned bad)
{
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    g_autoptr(GString) text =
        g_string_new("block pc 0x1000 mode 0 bytes 32 guest 8\n@0 = near jump 0x1020\n");

    for (unsigned i = 0; i < 8; i++) {
        g_string_append_printf(text, "insn %u, 4\n%%a%u = getreg i64 r%u\n", 4 * i, i, i == bad ? 15 : 14);
        append_numbered(text, access, i);
        g_string_append_printf(
            text, "%%n%u = getreg i64 r13\n%%m%u = add i64 %%n%u, i64:1\nputreg i64 r13, %%m%u\n", i, i, i,
            i);
    }
    g_string_append(text, "exit @0\n");
    rig_parse(ir, text->str);
    struct block *b = rig_compile(r, ir);
    rig_reset(r);
    r->env.icount = 500;
    r->env.reg[14] = RIG_RAM;
    r->env.reg[15] = 0x5550;
    r->env.last_exit = &b->exits[0];
    g_assert_cmpint(rig_run(r, b), ==, ENGINE_EXCEPTION);
    g_assert_true(r->env.exc.pending);
    g_assert_cmphex(r->env.exc.value, ==, 0x5550);
    g_assert_cmphex(r->env.pc, ==, 0x1000 + 4 * bad);
    g_assert_cmpuint(r->env.icount, ==, 500 + bad);
    g_assert_cmpuint(r->env.reg[13], ==, bad);
    g_assert_null(r->env.last_exit);
}

static void check_faults(void)
{
    static const char *const access[] = {
        "%v$ = ld i64 %a$, 8\nputreg i64 r$, %v$\n",
        "%x$ = add i64 %a$, i64:0\n%v$ = ld i32 %x$, 4:acquire\n",
        "%v$ = rmw add i64 %a$, i64:1, 8\n",
        "%v$ = ll i64 %a$, 8\n",
        "st i64 %a$, i64:0, 8\n",
        "st i64 %a$, i64:0x123456789, 4:release\n",
        "arg i64:1\n%v$ = cmpxchg i64 %a$, i64:0, 8\n",
        "%v$ = ld i128 %a$, 16\n",
        "%p$ = pair i128 %a$, %a$\nst i128 %a$, %p$, 16\n",
    };
    struct rig *r[2] = {rig_new(false), rig_new(true)};

    for (unsigned i = 0; i < G_N_ELEMENTS(access); i++) {
        for (unsigned bad = 0; bad < 8; bad++) {
            check_fault(r[0], access[i], bad);
            check_fault(r[1], access[i], bad);
        }
    }
    rig_free(r[0]);
    rig_free(r[1]);
}

/* A block that needs more temporaries than there are. */
static void check_too_big(void)
{
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    struct rig *r = rig_new(false);
    ir_ref v[600], sum;
    struct block b = {0};

    ir_begin(ir, &rig_target, 0x1000, 0);
    ir_ref one = ir_emit(ir, IR_GETREG, IR_I64, 0, 1, 0, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(v); i++) {
        v[i] = ir_emit(ir, IR_MUL, IR_I64, 0, one, i ? v[i - 1] : one, 0);
    }
    sum = v[0];
    for (unsigned i = G_N_ELEMENTS(v); i-- > 1;) {
        sum = ir_emit(ir, IR_XOR, IR_I64, 0, sum, v[i], 0);
    }
    ir_emit(ir, IR_PUTREG, IR_I64, 0, 2, sum, 0);
    ir_emit(ir, IR_EXIT, IR_TYPE_NONE, 0, ir_exit_to(ir, 0x1100, IR_HINT_JUMP), 0, 0);
    g_assert_cmpint(backend_interp.compile(r->backend, ir, &b), ==, -E2BIG);
    g_assert_null(b.code);
    rig_free(r);
}

static void check_code_memory(void)
{
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    void *state = backend_interp.init(4096);
    struct block a = {0}, *b = g_new0(struct block, 1000);
    unsigned n = 0, kept = 0;
    int error = 0;

    rig_parse(ir, "block pc 0x1000 mode 0 bytes 4 guest 1\n@0 = near jump 0x1004\ninsn 0, 4\n"
                  "putreg i64 r1, i64:1\nexit @0\n");
    g_assert_cmpint(backend_interp.compile(state, ir, &a), ==, 0);
    size_t one = backend_interp.used(state);
    g_assert_cmpuint(one, >, 0);
    backend_interp.release(state, &a);
    backend_interp.fini(state);

    state = backend_interp.init(100 * one);
    while (n < 1000 && !(error = backend_interp.compile(state, ir, &b[n]))) {
        n++;
        g_assert_cmpuint(backend_interp.used(state), ==, n * one);
    }
    g_assert_cmpint(error, ==, -ENOSPC);
    g_assert_null(b[n].code);
    g_assert_cmpuint(n, <=, 100);
    g_assert_cmpuint(n, >=, 50);
    unsigned oldest = backend_interp.oldest(state);
    g_assert_cmpuint(oldest, ==, b[0].arena);
    for (unsigned i = 0; i < n; i++) {
        if (b[i].arena == oldest) {
            g_assert_cmpuint(i, <, 50); /* not the newest */
            backend_interp.release(state, &b[i]);
        } else {
            kept++;
        }
    }
    g_assert_cmpuint(kept, >=, n / 2);
    g_assert_cmpuint(backend_interp.used(state), ==, kept * one);
    g_assert_cmpint(backend_interp.compile(state, ir, &a), ==, 0);
    backend_interp.release(state, &a);
    for (unsigned i = 0; i < n; i++) {
        backend_interp.release(state, &b[i]);
    }
    g_assert_cmpuint(backend_interp.used(state), ==, 0);
    backend_interp.fini(state);
    g_free(b);
}

/* The inline paths and the slow ones give the same values; with a filled TLB the slow ones are not taken. */
static void check_tlb(void)
{
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    struct rig *r = rig_new(false);

    rig_parse(ir,
              "block pc 0x1000 mode 0 bytes 8 guest 2\n@0 = near jump 0x1008\ninsn 0, 4\n%1 = getreg i64 r1\n"
              "%2 = ld i64 %1, 4:signed:mmu3\nputreg i64 r2, %2\ninsn 4, 4\n%3 = getreg i64 r1\n"
              "%4 = add i64 %3, i64:-8\n%5 = getreg i64 r2\nst i64 %4, %5, 8:mmu3\nexit @0\n");
    struct block *b = rig_compile(r, ir);
    for (unsigned fill = 0; fill < 2; fill++) {
        rig_reset(r);
        r->fill = fill;
        for (unsigned i = 0; i < 4; i++) {
            r->env.reg[1] = RIG_RAM + 0x100;
            memcpy(r->ram + 0x100, "\x01\x02\x03\x84", 4);
            rig_run(r, b);
            g_assert_cmphex(r->env.reg[2], ==, UINT64_C(0xffffffff84030201));
            g_assert_cmpmem(r->ram + 0xf8, 8, "\x01\x02\x03\x84\xff\xff\xff\xff", 8);
        }
        g_assert_cmpuint(r->loads, ==, fill ? 1 : 4);
        g_assert_cmpuint(r->stores, ==, fill ? 0 : 4);
    }
    /* A misaligned access misses although its page is known. */
    r->env.reg[1] = RIG_RAM + 0x102;
    rig_run(r, b);
    g_assert_cmpuint(r->loads, ==, 2);
    g_assert_cmpuint(r->stores, ==, 1);
    rig_free(r);
}

/* --- Two vCPUs on one memory --- */

enum { ROUNDS = 20000 };

/* Adds 1 to four words: by an atomic addition, a compare-and-exchange that counts when it succeeds, LL and SC
 * likewise, and big-endian. r2 to r5 count what was done. */
static const char counting_text[] =
    "block pc 0x1000 mode 0 bytes 16 guest 4\n@0 = near jump 0x1010\n"
    "insn 0, 4\n%p = getreg i64 r1\n%old = rmw add i64 %p, i64:1, 8:acquire:release\n"
    "insn 4, 4\n%p8 = add i64 %p, i64:8\n%v = ld i32 %p8, 4\n%v1 = add i32 %v, i32:1\narg %v1\n"
    "%seen = cmpxchg i32 %p8, %v, 4\n%same = setcc eq i32 %seen, %v\n%did = zext i64 %same\n"
    "%n3 = getreg i64 r3\n%m3 = add i64 %n3, %did\nputreg i64 r3, %m3\n"
    "insn 8, 4\n%p16 = add i64 %p, i64:16\n%w = ll i64 %p16, 8:acquire\n%w1 = add i64 %w, i64:1\n"
    "%fail = sc i64 %p16, %w1, 8:release\n%n4 = getreg i64 r4\n%m4 = add i64 %n4, i64:1\n"
    "%k4 = sub i64 %m4, %fail\nputreg i64 r4, %k4\n"
    "insn 12, 4\n%p24 = add i64 %p, i64:24\n%big = rmw add i64 %p24, i64:1, 4:big\nexit @0\n";

struct vcpu {
    struct rig *rig;
    struct block *block;
};

static gpointer count(gpointer data)
{
    struct vcpu *v = data;

    for (unsigned i = 0; i < ROUNDS; i++) {
        rig_run(v->rig, v->block);
    }
    return NULL;
}

static void check_atomics(void)
{
    g_autofree struct ir_block *ir = g_new(struct ir_block, 1);
    struct vcpu v[2];
    uint64_t word[4];

    rig_parse(ir, counting_text);
    for (unsigned i = 0; i < 2; i++) {
        v[i].rig = rig_new(false);
        v[i].block = rig_compile(v[i].rig, ir);
        v[i].rig->env.reg[1] = RIG_RAM + 64;
    }
    uint8_t *own = v[1].rig->ram;
    v[1].rig->ram = v[0].rig->ram;
    /* Once in turn, which fills the TLBs: the rig's own slow path is for one thread at a time. */
    rig_run(v[0].rig, v[0].block);
    rig_run(v[1].rig, v[1].block);
    GThread *other = g_thread_new("other", count, &v[1]);
    count(&v[0]);
    g_thread_join(other);
    memcpy(word, v[0].rig->ram + 64, sizeof word);
    g_assert_cmpuint(word[0], ==, 2 * ROUNDS + 2);
    g_assert_cmpuint(word[1], ==, v[0].rig->env.reg[3] + v[1].rig->env.reg[3]);
    g_assert_cmpuint(word[2], ==, v[0].rig->env.reg[4] + v[1].rig->env.reg[4]);
    g_assert_cmpuint(GUINT32_FROM_BE((uint32_t)word[3]), ==, 2 * ROUNDS + 2);
    v[1].rig->ram = own;
    rig_free(v[0].rig);
    rig_free(v[1].rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/engine/run/links", check_links);
    g_test_add_func("/engine/run/jump-cache", check_jump_cache);
    g_test_add_func("/engine/run/exit-reg", check_exit_reg);
    g_test_add_func("/engine/run/poll", check_poll);
    g_test_add_func("/engine/run/budget", check_budget);
    g_test_add_func("/engine/run/faults", check_faults);
    g_test_add_func("/engine/run/too-big", check_too_big);
    g_test_add_func("/engine/run/code-memory", check_code_memory);
    g_test_add_func("/engine/run/tlb", check_tlb);
    g_test_add_func("/engine/run/atomics", check_atomics);
    return g_test_run();
}
