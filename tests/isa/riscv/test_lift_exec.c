/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Lifted code against another emulator: random instructions and sequences, all registers, fcsr and memory
 * compared. */
/*
 * The vectors go through lift_oracle.c, built for riscv64 and run by qemu-riscv64, in one batch; then each is
 * lifted and interpreted here. Code lies at the same address in both, so that auipc and links agree.
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "engine/block.h"
#include "isa/riscv/disasm.h"
#include "isa/riscv/priv.h"
#include "lift_gen.h"

enum { MAX_REPORTS = 8, MAX_BLOCKS = 64 };

struct machine {
    struct riscv_cpu *cpu;
    enum riscv_priv priv; /* that vectors run in, */
    uint64_t mstatus;     /* with these bits beside FS */
    const struct backend *backend;
    void *state;
    struct ir_block ir;
    uint64_t data[VECTOR_DATA_BYTES / 8];
};

static struct machine *machine;
static struct env_exception trap; /* the last one */

/* --- The memory --- */

static void *host_of(uint64_t va, uint32_t mem)
{
    uint64_t offset = va - VECTOR_DATA;

    return offset <= VECTOR_DATA_BYTES - (1u << ir_mem_log2(mem)) ? (char *)machine->data + offset : NULL;
}

static int flat_load(struct env *env, uint64_t va, uint32_t mem, uint64_t value[2])
{
    void *p = host_of(va, mem);

    if (!p) {
        riscv_raise(riscv_cpu(env), RISCV_EXC_LOAD_ACCESS, va);
        return 1;
    }
    value[0] = value[1] = 0;
    memcpy(value, p, (size_t)1 << ir_mem_log2(mem));
    return 0;
}

static int flat_store(struct env *env, uint64_t va, uint32_t mem, const uint64_t value[2])
{
    void *p = host_of(va, mem);

    if (!p) {
        riscv_raise(riscv_cpu(env), RISCV_EXC_STORE_ACCESS, va);
        return 1;
    }
    memcpy(p, value, (size_t)1 << ir_mem_log2(mem));
    return 0;
}

static int flat_atomic(struct env *env, uint64_t va, uint32_t mem, void **host)
{
    *host = host_of(va, mem);
    if (!*host) {
        riscv_raise(riscv_cpu(env), RISCV_EXC_STORE_ACCESS, va);
        return 1;
    }
    return 0;
}

static void flat_misaligned(struct env *env, uint64_t va, bool store)
{
    riscv_raise(riscv_cpu(env), store ? RISCV_EXC_STORE_MISALIGNED : RISCV_EXC_LOAD_MISALIGNED, va);
}

static const struct env_ops flat_ops = {flat_load, flat_store, flat_atomic, flat_misaligned};

/* --- The machine --- */

static struct cpu_flush flushed;

static void note_flush(struct env *env, const struct cpu_flush *what)
{
    (void)env;
    flushed = *what;
}

static const struct cpu_host_ops host_ops = {.flush = note_flush};

static struct machine *machine_new(void)
{
    struct machine *m = g_new0(struct machine, 1);

    m->cpu = g_new0(struct riscv_cpu, 1);
    for (unsigned n = 0; backends[n]; n++) {
        if (strcmp(backends[n]->name, "emulation") == 0) {
            m->backend = backends[n];
        }
    }
    g_assert_nonnull(m->backend);
    m->state = m->backend->init((size_t)1 << 20);
    g_assert_nonnull(m->state);
    m->cpu->host.ops = &host_ops;
    m->cpu->env.ops = &flat_ops;
    m->cpu->env.target = &riscv_target;
    m->cpu->env.budget = UINT64_MAX;
    memset(m->cpu->env.tlb, 0xff, sizeof(m->cpu->env.tlb));
    return m;
}

/* With the data's page in the TLB only what is misaligned takes the slow path. */
static void machine_map(struct machine *m, bool mapped)
{
    struct env_tlb *tlb = &m->cpu->env.tlb[RISCV_MMU_U];
    unsigned i = env_tlb_index(VECTOR_DATA);

    tlb->tag_r[i] = tlb->tag_w[i] = mapped ? VECTOR_DATA : ENV_TLB_EMPTY;
    tlb->addend[i] = (uint64_t)(uintptr_t)m->data - VECTOR_DATA;
}

/* Lifts and runs one block at env.pc. */
static enum engine_stop machine_step(struct machine *m, const struct vector *v, uint64_t base)
{
    struct env *env = &m->cpu->env;
    uint64_t offset = env->pc - base;
    struct isa_code code = {
        .pc = env->pc,
        .mode = env->mode,
        .bytes = v->code + offset,
        .avail = VECTOR_CODE_BYTES - (uint32_t)offset,
        .max_insns = IR_MAX_GUEST_INSNS,
    };
    g_assert_cmpint(riscv_lift(&code, &m->ir), ==, 0);
    struct block *block = g_malloc0(sizeof(*block) + m->ir.n_exits * sizeof(block->exits[0]));
    block->pc = m->ir.pc;
    block->mode = m->ir.mode;
    block->bytes = (uint16_t)m->ir.bytes;
    block->n_guest = (uint16_t)m->ir.n_guest;
    block->gpa2 = UINT64_MAX;
    block->n_exits = m->ir.n_exits;
    for (uint32_t n = 0; n < block->n_exits; n++) {
        block->exits[n].target = m->ir.exits[n].target;
        block->exits[n].kind = m->ir.exits[n].kind;
        block->exits[n].hint = m->ir.exits[n].hint;
        block->exits[n].index = (uint8_t)n;
    }
    g_assert_cmpint(m->backend->compile(m->state, &m->ir, block), ==, 0);
    enum engine_stop stop = m->backend->run(m->state, env, block);
    m->backend->release(m->state, block);
    g_free(block);
    return stop;
}

/* Runs the vector in place. False when the code trapped or did not come to its end. */
static bool machine_run(struct machine *m, struct vector *v, uint64_t base, bool dirty)
{
    struct env *env = &m->cpu->env;
    unsigned blocks = 0;

    memcpy(&env->reg[RISCV_REG_X0], v->x, sizeof(v->x));
    memcpy(&env->reg[RISCV_REG_F0], v->f, sizeof(v->f));
    env->fp_flags = v->fcsr & 31;
    env->excl_addr = ENV_NO_RESERVATION;
    env->pc = base;
    m->cpu->frm = v->fcsr >> 5 & 7;
    m->cpu->priv = (uint8_t)m->priv;
    m->cpu->mstatus = m->mstatus | (uint64_t)(dirty ? 3 : 1) << 13;
    riscv_update_mode(m->cpu);
    vector_fill(m->data, v->memory);
    while (env->pc != base + VECTOR_CODE_BYTES) {
        enum engine_stop stop = machine_step(m, v, base);
        if (stop == ENGINE_EXCEPTION || ++blocks == MAX_BLOCKS) {
            g_test_message("stop %d at +%d, cause %u, value 0x%" G_GINT64_MODIFIER "x", stop,
                           (int)(env->pc - base), env->exc.cause, env->exc.value);
            trap = env->exc;
            env->exc.pending = false;
            return false;
        }
    }
    memcpy(v->x, &env->reg[RISCV_REG_X0], sizeof(v->x));
    memcpy(v->f, &env->reg[RISCV_REG_F0], sizeof(v->f));
    v->fcsr = env->fp_flags | (uint64_t)m->cpu->frm << 5;
    v->memory = vector_digest(m->data);
    return true;
}

/* --- The other emulator --- */

/* Runs all vectors there, in place. False, with the test skipped, when it is not installed. */
static bool oracle_run(struct vector *v, size_t n)
{
    const char *program = g_getenv("LIFT_ORACLE"), *emulator = g_getenv("QEMU_RISCV64");
    g_autofree char *dir = g_dir_make_tmp("lift-XXXXXX", NULL);
    g_autofree char *in = g_build_filename(dir, "in", NULL);
    g_autofree char *out = g_build_filename(dir, "out", NULL);
    g_autofree char *back = NULL;
    size_t size = 0;
    int status = -1;

    if (!program || !emulator) {
        g_test_skip("needs qemu-riscv64 and a riscv64 compiler (LIFT_ORACLE, QEMU_RISCV64)");
        g_rmdir(dir);
        return false;
    }
    g_assert_true(g_file_set_contents(in, (const char *)v, (gssize)(n * sizeof(*v)), NULL));
    g_autofree char *command = g_strdup_printf("exec '%s' '%s' < '%s' > '%s'", emulator, program, in, out);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    g_assert_true(g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL,
                               &status, NULL));
    g_assert_true(g_file_get_contents(out, &back, &size, NULL));
    g_unlink(in);
    g_unlink(out);
    g_rmdir(dir);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpuint(size, ==, n * sizeof(*v));
    memcpy(v, back, size);
    return true;
}

/* --- Comparison --- */

static void show_code(const struct vector *v, uint64_t base)
{
    for (unsigned at = 0; at < VECTOR_CODE_BYTES;) {
        char text[RISCV_DISASM_MAX];
        uint32_t bits = 0;
        memcpy(&bits, v->code + at, at + 4 <= VECTOR_CODE_BYTES ? 4 : 2);
        unsigned len = (unsigned)riscv_disasm(base + at, bits, text, sizeof(text));
        g_test_message("  %2u: %0*x  %s", at, (int)len * 2, len == 2 ? bits & 0xffff : bits, text);
        at += len;
    }
}

static bool same(const struct vector *was, const struct vector *ours, const struct vector *theirs)
{
    bool equal = true;

    for (unsigned n = 0; n < 64; n++) {
        uint64_t a = n < 32 ? ours->x[n] : ours->f[n - 32], b = n < 32 ? theirs->x[n] : theirs->f[n - 32];
        if (n != 0 && n != 4 && a != b) {
            g_test_message("%s: was %016" G_GINT64_MODIFIER "x, is %016" G_GINT64_MODIFIER
                           "x, should be %016" G_GINT64_MODIFIER "x",
                           riscv_target.regs[n].name, n < 32 ? was->x[n] : was->f[n - 32], a, b);
            equal = false;
        }
    }
    if (ours->fcsr != theirs->fcsr) {
        g_test_message("fcsr: was %02x, is %02x, should be %02x", (unsigned)was->fcsr, (unsigned)ours->fcsr,
                       (unsigned)theirs->fcsr);
        equal = false;
    }
    if (ours->memory != theirs->memory) {
        g_test_message("memory differs");
        equal = false;
    }
    return equal;
}

/* Does every operation that can come come, and often? */
static void check_coverage(const struct vector *v, size_t n)
{
    unsigned count[RISCV_OP_COUNT] = {0};

    for (size_t i = 0; i < n; i++) {
        struct riscv_insn insn;
        riscv_decode(ld32le(v[i].code), &insn);
        count[insn.op]++;
    }
    for (unsigned op = 1; op < RISCV_OP_COUNT; op++) {
        if (lift_gen_makes((enum riscv_op)op) && count[op] < 20) {
            g_error("%s comes %u times in %zu vectors", riscv_op_name((enum riscv_op)op), count[op], n);
        }
    }
}

static void compare(size_t n, uint64_t seed, bool sequence)
{
    g_autofree struct vector *v = g_new0(struct vector, n);
    g_autofree struct vector *theirs = NULL;
    unsigned wrong = 0;

    for (size_t i = 0; i < n; i++) {
        lift_gen(&v[i], &seed, sequence);
    }
    if (!sequence) {
        check_coverage(v, n);
    }
    theirs = g_memdup2(v, n * sizeof(*v));
    if (!oracle_run(theirs, n)) {
        return;
    }
    for (size_t i = 0; i < n && wrong < MAX_REPORTS; i++) {
        struct vector ours = v[i];
        uint64_t base = VECTOR_CODE + i % VECTOR_CHUNK * VECTOR_SLOT;
        machine_map(machine, i & 1);
        if (!machine_run(machine, &ours, base, i & 2) || !same(&v[i], &ours, &theirs[i])) {
            g_test_message("vector %zu:", i);
            show_code(&v[i], base);
            wrong++;
        }
    }
    g_assert_cmpuint(wrong, ==, 0);
}

/* LIFT_EXEC_FACTOR=n for n times as many, from another seed. */
static unsigned factor(void)
{
    const char *s = g_getenv("LIFT_EXEC_FACTOR");

    return s ? (unsigned)atoi(s) : 1;
}

static void test_single(void)
{
    compare((size_t)30000 * factor(), factor(), false);
}

static void test_sequences(void)
{
    compare((size_t)10000 * factor(), 1000 + factor(), true);
}

/* --- What the other emulator does not know or gets wrong, and what traps: against the manual's words --- */

/* Runs words from the base with the registers of *v. Returns whether they came to their end. */
static bool run_words(struct vector *v, const uint32_t *words, unsigned n)
{
    for (unsigned i = 0; i < VECTOR_CODE_BYTES / 4; i++) {
        st32le(v->code + 4 * i, i < n ? words[i] : 0x13);
    }
    return machine_run(machine, v, VECTOR_CODE, true);
}

enum { A0 = 10, A1 = 11, A2 = 12 };

static void test_formulas(void)
{
    static const struct {
        uint32_t word;
        uint64_t a1, a2, result;
    } cases[] = {
        {0x6015951b, UINT64_C(0xffffffff) << 32, 0, 32}, /* ctzw a0, a1 */
        {0x6015951b, 0, 0, 32},
        {0x6015951b, 0x80000000, 0, 31},
        {0x6015951b, 0xff01, 0, 0},
        {0x0ec5d533, 7, 0, 0}, /* czero.eqz a0, a1, a2 */
        {0x0ec5d533, 7, 1, 7},
        {0x0ec5d533, 7, UINT64_C(1) << 63, 7},
        {0x0ec5f533, 7, 0, 7}, /* czero.nez a0, a1, a2 */
        {0x0ec5f533, 7, 1, 0},
        {0x0ec5f533, 7, UINT64_C(1) << 32, 0},
    };

    for (size_t n = 0; n < G_N_ELEMENTS(cases); n++) {
        struct vector v = {.x[A1] = cases[n].a1, .x[A2] = cases[n].a2};
        g_assert_true(run_words(&v, &cases[n].word, 1));
        g_assert_cmphex(v.x[A0], ==, cases[n].result);
    }
}

static void test_cbo_zero(void)
{
    static const uint32_t cbo_zero_a1 = 0x0045a00f;
    uint64_t want[VECTOR_DATA_BYTES / 8];
    struct vector v = {.x[A1] = VECTOR_DATA + 64 * 5 + 37, .memory = 99};

    /* In U-mode both levels of environment configuration have to allow it. */
    machine->cpu->menvcfg = machine->cpu->senvcfg = ENVCFG_CBZE;
    g_assert_true(run_words(&v, &cbo_zero_a1, 1));
    vector_fill(want, 99);
    memset(want + 8 * 5, 0, 64);
    g_assert_cmphex(v.memory, ==, vector_digest(want));
    machine->cpu->senvcfg = 0;
    g_assert_false(run_words(&v, &cbo_zero_a1, 1));
    g_assert_cmpuint(trap.cause, ==, RISCV_EXC_ILLEGAL);
    g_assert_cmphex(trap.value, ==, cbo_zero_a1);
}

/* A trap leaves the registers as the instructions before it made them. Each case begins with addi a0, a0, 1.
 */
static void test_traps(void)
{
    static const struct {
        uint32_t word;
        uint64_t a1;
        uint32_t cause;
        uint64_t value;
    } cases[] = {
        {0x0005b503, 0x4000, RISCV_EXC_LOAD_ACCESS, 0x4000},                        /* ld a0, 0(a1) */
        {0xfe05bc23, 0x4008, RISCV_EXC_STORE_ACCESS, 0x4000},                       /* sd zero, -8(a1) */
        {0x1005a52f, VECTOR_DATA + 2, RISCV_EXC_LOAD_MISALIGNED, VECTOR_DATA + 2},  /* lr.w a0, (a1) */
        {0x18a5b52f, VECTOR_DATA + 4, RISCV_EXC_STORE_MISALIGNED, VECTOR_DATA + 4}, /* sc.d a0, a0, (a1) */
        {0x00a5a52f, VECTOR_DATA + 1, RISCV_EXC_STORE_MISALIGNED,
         VECTOR_DATA + 1},                                    /* amoadd.w a0, a0, (a1) */
        {0x00a5b52f, 0x4000, RISCV_EXC_STORE_ACCESS, 0x4000}, /* amoadd.d a0, a0, (a1) */
        {0x00000073, 0, RISCV_EXC_ECALL_U, 0},
        {0x00100073, 0, RISCV_EXC_BREAKPOINT, VECTOR_CODE + 4},
        {0x10500073, 0, RISCV_EXC_ILLEGAL, 0x10500073}, /* wfi */
        {0x30059573, 0, RISCV_EXC_ILLEGAL, 0x30059573}, /* csrrw a0, mstatus, a1 */
        {0xc0059573, 0, RISCV_EXC_ILLEGAL, 0xc0059573}, /* csrrw a0, cycle, a1 */
        {0x7c002573, 0, RISCV_EXC_ILLEGAL, 0x7c002573}, /* csrr a0, 0x7c0 */
        {0x14002573, 0, RISCV_EXC_ILLEGAL, 0x14002573}, /* csrr a0, sscratch */
        {0x0015a00f, 0, RISCV_EXC_ILLEGAL, 0x0015a00f}, /* cbo.clean (a1) */
    };

    machine->cpu->menvcfg = machine->cpu->senvcfg = 0;
    for (size_t n = 0; n < G_N_ELEMENTS(cases); n++) {
        uint32_t words[] = {0x00150513, cases[n].word, 0x00150513};
        struct vector v = {.x[A0] = 41, .x[A1] = cases[n].a1};
        machine_map(machine, n & 1);
        uint64_t before = machine->cpu->env.icount;
        g_assert_false(run_words(&v, words, 3));
        g_assert_cmpuint(trap.cause, ==, cases[n].cause);
        g_assert_cmphex(trap.value, ==, cases[n].value);
        g_assert_cmphex(machine->cpu->env.pc, ==, VECTOR_CODE + 4);
        g_assert_cmphex(machine->cpu->env.reg[RISCV_REG_X0 + A0], ==, 42);
        g_assert_cmpuint(machine->cpu->env.icount - before, ==, 1);
    }
}

/* --- What the hart's own state decides --- */

static void assert_refused(struct vector *v, uint32_t word)
{
    g_assert_false(run_words(v, &word, 1));
    g_assert_cmpuint(trap.cause, ==, RISCV_EXC_ILLEGAL);
    g_assert_cmphex(trap.value, ==, word);
}

static void test_supervisor(void)
{
    static const uint32_t sfence = 0x12c58073, sfence_all = 0x12000073, sinval = 0x16c58073, wfi = 0x10500073,
                          sret = 0x10200073;
    struct vector v = {.x[A1] = 0x123456789000, .x[A2] = 0x1000f};

    machine->priv = RISCV_S;
    g_assert_true(run_words(&v, &sfence, 1));
    g_assert_true(flushed.one_page && flushed.one_asid);
    g_assert_cmphex(flushed.va, ==, v.x[A1]);
    g_assert_cmphex(flushed.asid, ==, 0xf);
    g_assert_true(run_words(&v, &sfence_all, 1));
    g_assert_false(flushed.one_page || flushed.one_asid);
    g_assert_true(run_words(&v, &sinval, 1));
    g_assert_true(flushed.one_page && flushed.one_asid);
    g_assert_true(run_words(&v, &wfi, 1));
    machine->cpu->sepc = VECTOR_CODE + VECTOR_CODE_BYTES;
    g_assert_true(run_words(&v, &sret, 1));
    g_assert_cmpuint(machine->cpu->priv, ==, RISCV_U);

    machine->mstatus = MSTATUS_TVM | MSTATUS_TW | MSTATUS_TSR;
    assert_refused(&v, sfence);
    assert_refused(&v, sinval);
    assert_refused(&v, wfi);
    assert_refused(&v, sret);
    machine->priv = RISCV_M;
    g_assert_true(run_words(&v, &sfence, 1));
    g_assert_true(run_words(&v, &wfi, 1));
    g_assert_true(run_words(&v, &sret, 1));
    machine->priv = RISCV_U;
    machine->mstatus = 0;
}

/* csrrw t0, sscratch, a1 and csrrs, csrrc of it, without a helper; mret. */
static void test_scratch(void)
{
    static const uint32_t words[] = {0x140592f3, 0x14063373, 0x140023f3, 0x30200073};
    struct vector v = {.x[A1] = 0xff00, .x[A2] = 0x0f00};

    machine->priv = RISCV_M;
    machine->cpu->sscratch = 77;
    machine->cpu->mepc = VECTOR_CODE + VECTOR_CODE_BYTES;
    g_assert_true(run_words(&v, words, 4));
    g_assert_cmphex(v.x[5], ==, 77);
    g_assert_cmphex(v.x[6], ==, 0xff00);
    g_assert_cmphex(v.x[7], ==, 0xf000);
    g_assert_cmphex(machine->cpu->sscratch, ==, 0xf000);
    machine->priv = RISCV_U;
}

/* Cache-block operations need what a load or a store needs, fault as stores, and name rs1, not the block. */
static void test_cbo(void)
{
    static const uint32_t clean = 0x0015a00f, flush = 0x0025a00f, inval = 0x0005a00f;
    struct vector v = {.x[A1] = VECTOR_DATA + 33};

    riscv_pmpaddr_put(machine->cpu, 0, UINT64_MAX);
    riscv_pmpcfg_put(machine->cpu, 0, PMP_NAPOT << PMP_A_SHIFT | PMP_R);
    machine->cpu->menvcfg = machine->cpu->senvcfg = ENVCFG_CBCFE;
    g_assert_true(run_words(&v, &clean, 1));
    g_assert_true(run_words(&v, &flush, 1));
    assert_refused(&v, inval);
    machine->cpu->menvcfg = machine->cpu->senvcfg = BIT(ENVCFG_CBIE_SHIFT);
    g_assert_true(run_words(&v, &inval, 1));
    assert_refused(&v, clean);
    riscv_pmpcfg_put(machine->cpu, 0, PMP_NAPOT << PMP_A_SHIFT | PMP_X);
    g_assert_false(run_words(&v, &inval, 1));
    g_assert_cmpuint(trap.cause, ==, RISCV_EXC_STORE_ACCESS);
    g_assert_cmphex(trap.value, ==, VECTOR_DATA + 33);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    machine = machine_new();
    g_test_add_func("/riscv/lift-exec/single", test_single);
    g_test_add_func("/riscv/lift-exec/sequences", test_sequences);
    g_test_add_func("/riscv/lift-exec/formulas", test_formulas);
    g_test_add_func("/riscv/lift-exec/cbo-zero", test_cbo_zero);
    g_test_add_func("/riscv/lift-exec/traps", test_traps);
    g_test_add_func("/riscv/lift-exec/supervisor", test_supervisor);
    g_test_add_func("/riscv/lift-exec/scratch", test_scratch);
    g_test_add_func("/riscv/lift-exec/cbo", test_cbo);
    int r = g_test_run();
    machine->backend->fini(machine->state);
    g_free(machine->cpu);
    g_free(machine);
    return r;
}
