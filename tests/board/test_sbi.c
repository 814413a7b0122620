/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The built-in SBI against its specification, called as a hart's ecall calls it, with all harts parked. */
#include <stdatomic.h>

#include "bench.h"
#include "bus/bus.h"

enum {
    BASE = 0x10,
    TIME = 0x54494d45,
    IPI = 0x735049,
    RFENCE = 0x52464e43,
    HSM = 0x48534d,
    SRST = 0x53525354,
    DBCN = 0x4442434e,
    PMU = 0x504d55,
    SUSP = 0x53555350,
    FWFT = 0x46574654
};
enum {
    OK = 0,
    NOT_SUPPORTED = -2,
    INVALID_PARAM = -3,
    DENIED = -4,
    INVALID_ADDRESS = -5,
    ALREADY_AVAILABLE = -6
};

/* A console in memory, which the UART is attached to. */
struct stream {
    const struct stream_client *client;
    void *opaque;
    char out[1024];
    size_t size, room;
};

void stream_attach(struct stream *s, const struct stream_client *client, void *opaque)
{
    s->client = client;
    s->opaque = opaque;
}

void stream_detach(struct stream *s)
{
    if (s)
        stream_attach(s, NULL, NULL);
}

size_t stream_write(struct stream *s, const void *bytes, size_t size)
{
    size_t n = MIN(MIN(size, s->room), sizeof(s->out) - s->size);
    memcpy(s->out + s->size, bytes, n);
    s->size += n;
    s->room -= n;
    return n;
}

void stream_more(struct stream *s)
{
    (void)s;
}

struct bench {
    struct stream stream;
    struct machine *m;
    uint64_t value;
};

static void up(struct bench *b, unsigned vcpus)
{
    g_autoptr(GByteArray) kernel = make_image(8192, 0x200000, 0);
    g_autoptr(GError) error = NULL;
    memset(b, 0, sizeof(*b));
    memset(&bench_power, 0, sizeof(bench_power));
    b->stream.room = SIZE_MAX;
    b->m = bench_machine(&(struct parts){.vcpus = vcpus, .kernel = kernel, .console = &b->stream}, &error);
    g_assert_no_error(error);
}

/* An ecall of hart 0. Arguments not given are 0. */
static int64_t call_(struct bench *b, uint64_t extension, uint64_t function, const uint64_t *args)
{
    struct env *env = vcpus_env(b->m->vcpus, 0);
    memcpy(&env->reg[10], args, 6 * sizeof(*args));
    env->reg[16] = function;
    env->reg[17] = extension;
    g_assert_true(sbi_call(env, b->m));
    b->value = env->reg[11];
    return (int64_t)env->reg[10];
}
#define call(b, extension, function, ...) call_(b, extension, function, (const uint64_t[6]){__VA_ARGS__})

static void test_base(void)
{
    struct bench b;
    up(&b, 1);
    g_assert_cmpint(call(&b, BASE, 0, 0), ==, OK);
    g_assert_cmphex(b.value, ==, 0x02000000);
    for (unsigned f = 1; f <= 6; f++)
        g_assert_cmpint(call(&b, BASE, f, 0), ==, OK);
    static const uint64_t present[] = {BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN, FWFT, 1, 2};
    for (unsigned i = 0; i < G_N_ELEMENTS(present); i++) {
        g_assert_cmpint(call(&b, BASE, 3, present[i]), ==, OK);
        g_assert_cmpuint(b.value, ==, 1);
    }
    static const uint64_t absent[] = {PMU, SUSP, 0, 0x0a000000, UINT64_MAX};
    for (unsigned i = 0; i < G_N_ELEMENTS(absent); i++) {
        g_assert_cmpint(call(&b, BASE, 3, absent[i]), ==, OK);
        g_assert_cmpuint(b.value, ==, 0);
        g_assert_cmpint(call(&b, absent[i], 0, 0), ==, NOT_SUPPORTED);
    }
    static const uint64_t all[] = {BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN, FWFT};
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++)
        g_assert_cmpint(call(&b, all[i], 99, 0), ==, NOT_SUPPORTED);
    machine_free(b.m);
}

static void test_time(void)
{
    struct bench b;
    up(&b, 1);
    g_assert_cmpint(call(&b, TIME, 0, 12345), ==, OK);
    g_assert_cmpuint(riscv_cpu(vcpus_env(b.m->vcpus, 0))->stimecmp, ==, 12345);
    g_assert_cmpint(call(&b, TIME, 0, UINT64_MAX), ==, OK);
    g_assert_cmpuint(riscv_cpu(vcpus_env(b.m->vcpus, 0))->stimecmp, ==, UINT64_MAX);
    machine_free(b.m);
}

static unsigned pending(struct bench *b)
{
    unsigned mask = 0;
    for (unsigned i = 0; i < vcpus_count(b->m->vcpus); i++) {
        struct riscv_cpu *cpu = riscv_cpu(vcpus_env(b->m->vcpus, i));
        if (riscv_mip(cpu) & BIT(RISCV_IRQ_SSI))
            mask |= 1u << i;
        atomic_fetch_and(&cpu->soft_ip, ~BIT(RISCV_IRQ_SSI));
    }
    return mask;
}

static void test_ipi(void)
{
    struct bench b;
    up(&b, 4);
    g_assert_cmpint(call(&b, IPI, 0, 0x5, 1), ==, OK); /* harts 1 and 3 */
    g_assert_cmphex(pending(&b), ==, 0xa);
    g_assert_cmpint(call(&b, IPI, 0, 0, UINT64_MAX), ==, OK); /* all */
    g_assert_cmphex(pending(&b), ==, 0xf);
    g_assert_cmpint(call(&b, IPI, 0, 0, 64), ==, OK); /* none */
    static const uint64_t bad[][2] = {{0x10, 0}, {1, 4}, {1, 64}, {2, 63}, {1, UINT64_MAX - 1}};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_cmpint(call(&b, IPI, 0, bad[i][0], bad[i][1]), ==, INVALID_PARAM);
    g_assert_cmphex(pending(&b), ==, 0);
    machine_free(b.m);
}

static void test_rfence(void)
{
    static const uint64_t ranges[][2] = {{0, 0},
                                         {0, UINT64_MAX},
                                         {0x1000, 0x1000},
                                         {0x1fff, 2},
                                         {UINT64_MAX - 10, 11},
                                         {UINT64_MAX - 10, 100},
                                         {UINT64_MAX & ~0xfffull, 0xfff},
                                         {0x1000, 1ull << 40}};
    struct bench b;
    up(&b, 2);
    for (unsigned i = 0; i < G_N_ELEMENTS(ranges); i++)
        for (unsigned f = 0; f < 3; f++)
            g_assert_cmpint(call(&b, RFENCE, f, 3, 0, ranges[i][0], ranges[i][1], 7), ==, OK);
    g_assert_cmpint(call(&b, RFENCE, 1, 4, 0, 0, 0), ==, INVALID_PARAM);
    for (unsigned f = 3; f < 8; f++) /* of the hypervisor */
        g_assert_cmpint(call(&b, RFENCE, f, 3, 0, 0, 0), ==, NOT_SUPPORTED);
    machine_free(b.m);
}

static void test_hsm(void)
{
    struct bench b;
    up(&b, 3);
    struct env *env = vcpus_env(b.m->vcpus, 2);
    g_assert_cmpint(call(&b, HSM, 2, 0), ==, OK);
    g_assert_cmpuint(b.value, ==, 0); /* started */
    g_assert_cmpint(call(&b, HSM, 2, 2), ==, OK);
    g_assert_cmpuint(b.value, ==, 1); /* stopped */
    g_assert_cmpint(call(&b, HSM, 2, 3), ==, INVALID_PARAM);
    g_assert_cmpint(call(&b, HSM, 0, 3, 0x80200000, 0), ==, INVALID_PARAM);
    g_assert_cmpint(call(&b, HSM, 0, 2, 0x40000000, 0), ==, INVALID_ADDRESS);
    g_assert_cmpint(call(&b, HSM, 0, 2, 0x80200001, 0), ==, INVALID_ADDRESS);
    riscv_cpu(env)->satp = 1;
    atomic_store(&riscv_cpu(env)->soft_ip, BIT(RISCV_IRQ_SSI));
    g_assert_cmpint(call(&b, HSM, 0, 2, 0x80200100, 0xcafe), ==, OK);
    g_assert_cmphex(env->pc, ==, 0x80200100);
    g_assert_cmphex(env->reg[10], ==, 2);
    g_assert_cmphex(env->reg[11], ==, 0xcafe);
    g_assert_cmphex(riscv_cpu(env)->satp, ==, 0);
    g_assert_cmpuint(riscv_cpu(env)->priv, ==, RISCV_S);
    g_assert_cmphex(riscv_cpu(env)->mstatus & BIT(1), ==, 0); /* sstatus.SIE */
    g_assert_cmphex(riscv_mip(riscv_cpu(env)), ==, 0);
    g_assert_cmpint(call(&b, HSM, 2, 2), ==, OK);
    g_assert_cmpuint(b.value, ==, 0);
    g_assert_cmpint(call(&b, HSM, 0, 2, 0x80200100, 0), ==, ALREADY_AVAILABLE);
    g_assert_cmpint(call(&b, HSM, 3, 0), ==, OK); /* retentive suspend */
    g_assert_cmpint(call(&b, HSM, 3, 0x80000000), ==, NOT_SUPPORTED);
    g_assert_cmpint(call(&b, HSM, 3, 5), ==, INVALID_PARAM);
    call(&b, HSM, 1, 0);
    g_assert_false(vcpus_is_online(b.m->vcpus, 0));
    machine_free(b.m);
}

static void test_srst(void)
{
    struct bench b;
    up(&b, 1);
    g_assert_cmpint(call(&b, SRST, 0, 3, 0), ==, INVALID_PARAM);
    g_assert_cmpint(call(&b, SRST, 0, 0, 2), ==, INVALID_PARAM);
    g_assert_cmpuint(bench_power.calls, ==, 0);
    call(&b, SRST, 0, 0, 0);
    g_assert_cmpint(bench_power.what, ==, MACHINE_OFF);
    g_assert_false(vcpus_is_online(b.m->vcpus, 0)); /* does not return */
    call(&b, SRST, 0, 0, 1);
    g_assert_cmpint(bench_power.what, ==, MACHINE_FAIL);
    g_assert_cmpint(bench_power.code, ==, 1);
    call(&b, SRST, 0, 1, 0);
    g_assert_cmpint(bench_power.what, ==, MACHINE_RESET);
    call(&b, SRST, 0, 2, 0);
    g_assert_cmpuint(bench_power.calls, ==, 4);
    g_autoptr(GError) error = NULL;
    g_assert_true(machine_reset(b.m, &error));
    g_assert_true(vcpus_is_online(b.m->vcpus, 0));
    machine_free(b.m);
}

static void test_console(void)
{
    struct bench b;
    uint8_t got[4];
    up(&b, 1);
    mem_write(b.m->mem, GPA(0x81000000), "hello, world", 12);
    g_assert_cmpint(call(&b, DBCN, 0, 12, 0x81000000, 0), ==, OK);
    g_assert_cmpuint(b.value, ==, 12);
    g_assert_cmpint(call(&b, DBCN, 2, '!'), ==, OK);
    call(&b, 1, 0, '\n');
    g_assert_cmpmem(b.stream.out, b.stream.size, "hello, world!\n", 14);
    b.stream.room = 5; /* a full console: fewer bytes, not a wait */
    g_assert_cmpint(call(&b, DBCN, 0, 12, 0x81000000, 0), ==, OK);
    g_assert_cmpuint(b.value, ==, 5);
    g_assert_cmpint(call(&b, DBCN, 0, 12, 0x81000000, 0), ==, OK);
    g_assert_cmpuint(b.value, ==, 0);
    bus_write(b.m->bus, GPA(0x10000002), 1, 1); /* the UART's FIFO on */
    g_assert_cmpint(call(&b, 2, 0, 0), ==, -1); /* looking is listening */
    g_assert_cmpuint(b.stream.client->input(b.stream.opaque, (const uint8_t *)"abcd", 4), ==, 4);
    g_assert_cmpint(call(&b, DBCN, 1, 3, 0x81000000, 0), ==, OK);
    g_assert_cmpuint(b.value, ==, 3);
    mem_read(b.m->mem, GPA(0x81000000), got, 4);
    g_assert_cmpmem(got, 4, "abcl", 4);
    g_assert_cmpint(call(&b, 2, 0, 0), ==, 'd');
    g_assert_cmpint(call(&b, 2, 0, 0), ==, -1);
    machine_free(b.m);
}

/* Buffers that are not RAM, or not all of it. */
static void test_console_addresses(void)
{
    static const uint64_t bad[][3] = {{1, 0x10000000, 0}, {1, 0x40000000, 0},          {2, 0x83ffffff, 0},
                                      {1, 0x84000000, 0}, {UINT64_MAX, 0x80000000, 0}, {1, 0x80000000, 1},
                                      {1, UINT64_MAX, 0}, {5000, 0x83ffff00, 0}};
    struct bench b;
    up(&b, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        for (unsigned f = 0; f < 2; f++)
            g_assert_cmpint(call(&b, DBCN, f, bad[i][0], bad[i][1], bad[i][2]), ==, INVALID_PARAM);
    g_assert_cmpint(call(&b, DBCN, 0, 8, 0x1000, 0), ==, OK);            /* ROM can be printed, */
    g_assert_cmpint(call(&b, DBCN, 1, 8, 0x1000, 0), ==, INVALID_PARAM); /* not read into */
    machine_free(b.m);
}

static void test_fwft(void)
{
    struct bench b;
    up(&b, 1);
    g_assert_cmpint(call(&b, FWFT, 1, 0), ==, OK); /* misaligned accesses are delegated */
    g_assert_cmpuint(b.value, ==, 1);
    g_assert_cmpint(call(&b, FWFT, 0, 0, 1, 0), ==, OK);
    g_assert_cmpint(call(&b, FWFT, 0, 0, 0, 0), ==, DENIED);
    g_assert_cmpint(call(&b, FWFT, 0, 4, 2, 0), ==, INVALID_PARAM);
    g_assert_cmpint(call(&b, FWFT, 0, 4, 1, 2), ==, INVALID_PARAM);
    for (unsigned on = 0; on < 2; on++) {
        g_assert_cmpint(call(&b, FWFT, 0, 4, !on, 0), ==, OK); /* accessed and dirty bits by hardware */
        g_assert_cmpint(call(&b, FWFT, 1, 4), ==, OK);
        g_assert_cmpuint(b.value, ==, !on);
    }
    g_assert_cmpint(call(&b, FWFT, 1, 3), ==, NOT_SUPPORTED);
    machine_free(b.m);
}

/* Any numbers: an answer, and only a0 and a1 change. */
static void test_random(void)
{
    static const uint64_t ids[] = {BASE, TIME, IPI, RFENCE, HSM, DBCN, FWFT, PMU, 0, 1, 2};
    struct bench b;
    up(&b, 2);
    GRand *rand = g_rand_new_with_seed(7);
    struct env *env = vcpus_env(b.m->vcpus, 0);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t args[6], before[32];
        for (unsigned k = 0; k < 6; k++)
            args[k] = ((uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand)) >> g_rand_int_range(rand, 0, 64);
        uint64_t id = ids[g_rand_int_range(rand, 0, G_N_ELEMENTS(ids))],
                 function = (uint64_t)g_rand_int_range(rand, 0, 10);
        for (unsigned k = 0; k < 32; k++)
            before[k] = env->reg[k];
        call_(&b, id, function, args);
        for (unsigned k = 0; k < 10; k++)
            g_assert_cmphex(env->reg[k], ==, before[k]);
        for (unsigned k = 2; k < 6; k++)
            g_assert_cmphex(env->reg[10 + k], ==, args[k]);
        b.stream.size = 0;
    }
    g_rand_free(rand);
    machine_free(b.m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sbi/base", test_base);
    g_test_add_func("/sbi/time", test_time);
    g_test_add_func("/sbi/ipi", test_ipi);
    g_test_add_func("/sbi/rfence", test_rfence);
    g_test_add_func("/sbi/hsm", test_hsm);
    g_test_add_func("/sbi/srst", test_srst);
    g_test_add_func("/sbi/console", test_console);
    g_test_add_func("/sbi/console-addresses", test_console_addresses);
    g_test_add_func("/sbi/fwft", test_fwft);
    g_test_add_func("/sbi/random", test_random);
    return g_test_run();
}
