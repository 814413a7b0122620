/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Asks softfloat and an oracle the same questions and compares. */
#include "check.h"

#include <glib.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vectors.h"

enum { MISMATCHES_SHOWN = 5 };

static const struct {
    const char *name;
    unsigned width;
    enum operands operands;
} op_table[] = {
#define OP_ROW(N, name, operands) {"f" #N "_" #name, N, operands},
    OPS(OP_ROW)
#undef OP_ROW
};

const char *check_op_name(enum op op)
{
    return op_table[op].name;
}

unsigned check_op_width(enum op op)
{
    return op_table[op].width;
}

/* ops.h has fma's four signs as operations of their own; the negations are named after RISC-V's instructions.
 */
#define SOFTFLOAT_OF_WIDTH(N)                                                                                \
    case OP_f##N##_add: r.value = sf_f##N##_add(&ctx, a, b); break;                                          \
    case OP_f##N##_sub: r.value = sf_f##N##_sub(&ctx, a, b); break;                                          \
    case OP_f##N##_mul: r.value = sf_f##N##_mul(&ctx, a, b); break;                                          \
    case OP_f##N##_div: r.value = sf_f##N##_div(&ctx, a, b); break;                                          \
    case OP_f##N##_sqrt: r.value = sf_f##N##_sqrt(&ctx, a); break;                                           \
    case OP_f##N##_madd: r.value = sf_f##N##_fma(&ctx, a, b, c, 0); break;                                   \
    case OP_f##N##_msub: r.value = sf_f##N##_fma(&ctx, a, b, c, SF_NEG_ADDEND); break;                       \
    case OP_f##N##_nmsub: r.value = sf_f##N##_fma(&ctx, a, b, c, SF_NEG_PRODUCT); break;                     \
    case OP_f##N##_nmadd: r.value = sf_f##N##_fma(&ctx, a, b, c, SF_NEG_PRODUCT | SF_NEG_ADDEND); break;     \
    case OP_f##N##_min: r.value = sf_f##N##_min(&ctx, a, b); break;                                          \
    case OP_f##N##_max: r.value = sf_f##N##_max(&ctx, a, b); break;                                          \
    case OP_f##N##_eq: r.value = sf_f##N##_eq(&ctx, a, b); break;                                            \
    case OP_f##N##_lt: r.value = sf_f##N##_lt(&ctx, a, b); break;                                            \
    case OP_f##N##_le: r.value = sf_f##N##_le(&ctx, a, b); break;                                            \
    case OP_f##N##_classify: r.value = sf_f##N##_classify(a); break;                                         \
    case OP_f##N##_round_to_int: r.value = sf_f##N##_round_to_int(&ctx, a, true); break;                     \
    case OP_f##N##_to_i32: r.value = (uint32_t)sf_f##N##_to_i32(&ctx, a); break;                             \
    case OP_f##N##_to_u32: r.value = sf_f##N##_to_u32(&ctx, a); break;                                       \
    case OP_f##N##_to_i64: r.value = (uint64_t)sf_f##N##_to_i64(&ctx, a); break;                             \
    case OP_f##N##_to_u64: r.value = sf_f##N##_to_u64(&ctx, a); break;                                       \
    case OP_f##N##_from_i32: r.value = sf_f##N##_from_i32(&ctx, (int32_t)q->a); break;                       \
    case OP_f##N##_from_u32: r.value = sf_f##N##_from_u32(&ctx, (uint32_t)q->a); break;                      \
    case OP_f##N##_from_i64: r.value = sf_f##N##_from_i64(&ctx, (int64_t)q->a); break;                       \
    case OP_f##N##_from_u64: r.value = sf_f##N##_from_u64(&ctx, q->a); break;

/* The questions of one width; its type cuts the operands. */
#define SOFTFLOAT_FUNCTION(N, type, conversions)                                                             \
    static struct answer softfloat_f##N(struct sf_ctx ctx, const struct question *q) {                       \
        type a = (type)q->a, b = (type)q->b, c = (type)q->c;                                                 \
        struct answer r = {0};                                                                               \
                                                                                                             \
        switch ((enum op)q->op) {                                                                            \
            SOFTFLOAT_OF_WIDTH(N)                                                                            \
            conversions default : g_assert_not_reached();                                                    \
        }                                                                                                    \
        r.flags = ctx.flags;                                                                                 \
        return r;                                                                                            \
    }

#define SOFTFLOAT_CONVERT(from, to)                                                                          \
    case OP_f##from##_to_f##to: r.value = sf_f##from##_to_f##to(&ctx, a); break;

SOFTFLOAT_FUNCTION(16, uint16_t, SOFTFLOAT_CONVERT(16, 32) SOFTFLOAT_CONVERT(16, 64))
SOFTFLOAT_FUNCTION(32, uint32_t, SOFTFLOAT_CONVERT(32, 16) SOFTFLOAT_CONVERT(32, 64))
SOFTFLOAT_FUNCTION(64, uint64_t, SOFTFLOAT_CONVERT(64, 16) SOFTFLOAT_CONVERT(64, 32))

struct answer check_softfloat(struct sf_ctx ctx, const struct question *q)
{
    ctx.round = (uint8_t)q->round;
    switch (op_table[q->op].width) {
    case 16: return softfloat_f16(ctx, q);
    case 32: return softfloat_f32(ctx, q);
    default: return softfloat_f64(ctx, q);
    }
}

/* The questions waiting to be asked together, and what came of those before. */
struct run {
    const struct oracle *oracle;
    struct question questions[PROBE_BATCH];
    struct answer answers[PROBE_BATCH];
    unsigned waiting, asked, mismatches;
};

static void report(const struct run *run, const struct question *q, struct answer soft, struct answer truth)
{
    g_test_message("%s round %u a=%016" PRIx64 " b=%016" PRIx64 " c=%016" PRIx64 ": softfloat %016" PRIx64
                   " flags %02" PRIx64 ", %s %016" PRIx64 " flags %02" PRIx64,
                   check_op_name(q->op), q->round, q->a, q->b, q->c, soft.value, soft.flags,
                   run->oracle->name, truth.value, truth.flags);
}

static void flush(struct run *run)
{
    run->oracle->ask(run->questions, run->answers, run->waiting);
    for (unsigned i = 0; i < run->waiting; i++) {
        struct answer soft = check_softfloat(run->oracle->ctx, &run->questions[i]);

        if (soft.value != run->answers[i].value || soft.flags != run->answers[i].flags) {
            if (run->mismatches++ < MISMATCHES_SHOWN) {
                report(run, &run->questions[i], soft, run->answers[i]);
            }
        }
    }
    run->asked += run->waiting;
    run->waiting = 0;
}

static void put(struct run *run, const struct question *q)
{
    run->questions[run->waiting++] = *q;
    if (run->waiting == PROBE_BATCH) {
        flush(run);
    }
}

/* All edges, crossed in pairs; the third operand of fma, and there are too many triples, is drawn. */
static void put_edges(struct run *run, struct vectors *v, enum op op, enum sf_round round)
{
    enum operands operands = op_table[op].operands;
    bool integer = operands == OPERANDS_I || operands == OPERANDS_L;
    bool one = integer || operands == OPERANDS_F;
    const uint64_t *edges;
    unsigned n = integer ? vectors_integer_edges(&edges) : vectors_edges(op_table[op].width, &edges);

    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j < (one ? 1 : n); j++) {
            struct question q = {.op = op, .round = round, .a = edges[i]};

            q.a = operands == OPERANDS_I ? (uint32_t)q.a : q.a;
            q.b = one ? 0 : edges[j];
            q.c = operands == OPERANDS_FFF ? edges[vectors_bits(v) % n] : 0;
            put(run, &q);
        }
    }
}

struct op_case {
    const struct oracle *oracle;
    enum op op;
};

static unsigned environment(const char *name, unsigned otherwise)
{
    const char *text = g_getenv(name);

    return text ? (unsigned)strtoul(text, NULL, 0) : otherwise;
}

static void test_op(gconstpointer data)
{
    const struct op_case *c = data;
    g_autofree struct run *run = g_new0(struct run, 1);
    unsigned seed = environment("HOSTEL_TEST_SEED", 754);
    unsigned random = c->oracle->random * environment("HOSTEL_TEST_SCALE", 1);

    run->oracle = c->oracle;
    for (enum sf_round round = SF_RNE; round <= SF_RMM; round++) {
        struct vectors v = {.state = (uint64_t)seed << 32 | (uint64_t)c->op << 8 | round};

        if (!c->oracle->knows(c->op, round)) {
            continue;
        }
        put_edges(run, &v, c->op, round);
        for (unsigned i = 0; i < random; i++) {
            struct question q = {.op = c->op, .round = round};

            vectors_fill(&v, op_table[c->op].width, op_table[c->op].operands, &q);
            put(run, &q);
        }
    }
    flush(run);
    g_test_message("%u questions, seed %u", run->asked, seed);
    g_assert_cmpuint(run->asked, >, 0);
    if (run->mismatches) {
        g_test_fail_printf("%s: %u of %u answers differ", check_op_name(c->op), run->mismatches, run->asked);
    }
}

void check_add_cases(const struct oracle *oracle)
{
    for (enum op op = 0; op < OP_COUNT; op++) {
        g_autofree char *path = g_strdup_printf("/softfloat/%s/%s", oracle->name, check_op_name(op));
        struct op_case *c;

        if (oracle->knows(op, SF_RNE)) {
            c = g_new(struct op_case, 1);
            *c = (struct op_case){oracle, op};
            g_test_add_data_func_full(path, c, test_op, g_free);
        }
    }
}

static void test_skip(gconstpointer reason)
{
    g_test_skip(reason);
}

void check_add_skip(const char *oracle, const char *reason)
{
    g_autofree char *path = g_strdup_printf("/softfloat/%s", oracle);

    g_test_add_data_func(path, reason, test_skip);
}

static struct {
    GPid pid;
    int in, out; /* the probe's standard input and output */
} probe = {.in = -1, .out = -1};

const char *check_probe_start(const char *variable, const char *const *emulator)
{
    const char *path = g_getenv(variable);
    g_autofree char *program = g_find_program_in_path(emulator[0]);
    const char *argv[5];
    unsigned n = 0;

    if (!path || !path[0]) {
        return "no probe: its cross compiler was not found when this was built";
    }
    if (!program) {
        return "no emulator: install qemu-user";
    }
    for (; emulator[n]; n++) {
        argv[n] = emulator[n];
    }
    argv[n++] = path;
    argv[n] = NULL;
    if (!g_spawn_async_with_pipes(NULL, (char **)(uintptr_t)argv, NULL,
                                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &probe.pid,
                                  &probe.in, &probe.out, NULL, NULL)) {
        return "the emulator does not start";
    }
    signal(SIGPIPE, SIG_IGN); /* a probe that dies is a failed assertion in check_probe_ask, not our death */
    return NULL;
}

void check_probe_ask(const struct question *questions, struct answer *answers, unsigned n)
{
    static struct question batch[PROBE_BATCH];
    static struct answer back[PROBE_BATCH];

    /* The probe reads a batch to its end before it writes, so neither side waits for the other in vain. */
    for (unsigned i = 0; i < n; i++) {
        batch[i] = questions[i];
    }
    for (size_t done = 0; done < sizeof(batch);) {
        ssize_t k = write(probe.in, (const char *)batch + done, sizeof(batch) - done);

        g_assert_cmpint(k, >, 0);
        done += (size_t)k;
    }
    for (size_t done = 0; done < sizeof(back);) {
        ssize_t k = read(probe.out, (char *)back + done, sizeof(back) - done);

        g_assert_cmpint(k, >, 0);
        done += (size_t)k;
    }
    for (unsigned i = 0; i < n; i++) {
        answers[i] = back[i];
    }
}

void check_probe_stop(void)
{
    if (probe.in >= 0) {
        close(probe.in);
        close(probe.out);
        waitpid(probe.pid, NULL, 0);
        probe.in = probe.out = -1;
    }
}
