/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest of nothing but RISC-V vCPUs, RAM and one chip of interrupt doorbells, run by the software CPU. */
#ifndef HOSTEL_TESTS_ACCEL_RIG_H
#define HOSTEL_TESTS_ACCEL_RIG_H

#include <glib.h>
#include <string.h>

#include "accel/accel.h"
#include "isa/riscv/priv.h"
#include "rv_asm.h"

enum { RAM = 0x40000000, RAM_SIZE = 16 << 20, CODE = RAM, DOORBELL = 0x2000000, PAGE = 4096, RIG_VCPUS = 4 };
/* Where programs leave results: one cache line per vCPU. */
enum { RESULT = RAM + 0x100000 };

struct rig {
    struct mem *mem;
    struct bus *bus;
    struct clock *clock;
    struct vcpus *vcpus;
    const struct mem_block *ram;
    struct irq_line msip[RIG_VCPUS];
};

struct rig_config {
    unsigned vcpus; /* 0 = 1 */
    size_t code_limit;
    bool supervisor; /* S-mode with built-in firmware, else M-mode */
    bool (*firmware)(struct env *env, void *rig);
};

static uint64_t doorbell_read(void *chip, uint64_t offset, unsigned size)
{
    (void)chip, (void)offset, (void)size;
    return 0;
}

static void doorbell_write(void *chip, uint64_t offset, unsigned size, uint64_t value)
{
    struct rig *r = chip;
    (void)size;
    if (offset / 4 < vcpus_count(r->vcpus))
        irq_set(&r->msip[offset / 4], value & 1);
}

/* The method under test and its tuning (vcpus_tune()): the program's arguments. */
static const char *rig_method = "emulation", *rig_tuning = "";

/* After g_test_init(). False when the host does not have the method: then the program is skipped. */
static inline bool rig_choose(int argc, char **argv)
{
    if (argc > 1)
        rig_method = argv[1];
    if (argc > 2)
        rig_tuning = argv[2];
    const struct accel *accel = accel_find(rig_method);
    return accel && accel->available(NULL);
}

static inline void rig_init(struct rig *r, const struct rig_config *c)
{
    static const struct bus_ops doorbell = {
        .read = doorbell_read, .write = doorbell_write, .min_size = 4, .max_size = 4};
    GError *error = NULL;
    *r = (struct rig){.mem = mem_new(), .bus = bus_new(), .clock = clock_new(NULL)};
    r->ram = mem_add(r->mem, "ram", GPA(RAM), RAM_SIZE, false, &error);
    g_assert_no_error(error);
    g_assert_true(bus_map(r->bus, "doorbell", GPA(DOORBELL), PAGE, &doorbell, r, &error));
    struct vcpus_config config = {
        .isa = isa_find("riscv64"),
        .cpu = {.timebase_hz = 10 * 1000 * 1000, .builtin_firmware = c->supervisor},
        .count = c->vcpus ? c->vcpus : 1,
        .code_limit = c->code_limit,
        .mem = r->mem,
        .bus = r->bus,
        .clock = r->clock,
        .firmware_call = c->firmware,
        .board = r,
    };
    vcpus_tune(&config, c->vcpus > 1 && strstr(rig_tuning, "check=") ? "" : rig_tuning, &error);
    g_assert_no_error(error);
    if (c->code_limit) /* is part of the test */
        config.code_limit = c->code_limit;
    r->vcpus = vcpus_new(accel_find(rig_method), &config, &error);
    g_assert_no_error(error);
    for (unsigned i = 0; i < config.count; i++)
        r->msip[i] = vcpus_irq(r->vcpus, i, RISCV_IRQ_MSI);
    clock_start(r->clock);
}

static inline void rig_fini(struct rig *r)
{
    vcpus_free(r->vcpus);
    clock_free(r->clock);
    bus_free(r->bus);
    mem_free(r->mem);
}

static inline uint64_t rig_get(const struct rig *r, uint64_t addr)
{
    uint64_t v;
    g_assert_cmpint(mem_read(r->mem, GPA(addr), &v, sizeof(v)), ==, 0);
    return v;
}

static inline void rig_put(struct rig *r, uint64_t addr, uint64_t v)
{
    g_assert_cmpint(mem_write(r->mem, GPA(addr), &v, sizeof(v)), ==, 0);
}

static inline void rig_load(struct rig *r, const struct rv *p)
{
    g_assert_cmpint(mem_write(r->mem, GPA(p->base), p->word, 4 * p->n), ==, 0);
}

static inline struct riscv_cpu *rig_cpu(const struct rig *r, unsigned i)
{
    return riscv_cpu(vcpus_env(r->vcpus, i));
}

struct rig_start {
    uint64_t pc, a0, satp;
};

static void rig_prepare(struct env *env, void *opaque)
{
    const struct rig_start *start = opaque;
    env->pc = start->pc;
    env->reg[A0] = start->a0;
    riscv_cpu(env)->satp = start->satp;
}

/* Sets vCPU i at pc with a0 = i, and online. Nothing runs before vcpus_resume(). */
static inline void rig_start(struct rig *r, unsigned i, uint64_t pc, uint64_t satp)
{
    struct rig_start start = {.pc = pc, .a0 = i, .satp = satp};
    if (i)
        g_assert_cmpint(vcpus_online(r->vcpus, i, rig_prepare, &start), ==, 0);
    else
        rig_prepare(vcpus_env(r->vcpus, 0), &start);
}

/* Runs the main loop until the 64-bit word at addr has the value: the test fails when that takes too long. */
static inline void rig_await(struct rig *r, uint64_t addr, uint64_t value)
{
    gint64 limit = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    while (rig_get(r, addr) != value) {
        if (g_get_monotonic_time() > limit)
            g_error("0x%" G_GINT64_MODIFIER "x holds %" G_GUINT64_FORMAT ", not %" G_GUINT64_FORMAT
                    "; pc 0x%" G_GINT64_MODIFIER "x",
                    addr, rig_get(r, addr), value, vcpus_env(r->vcpus, 0)->pc);
        g_main_context_iteration(NULL, FALSE);
        g_usleep(50);
    }
}

/* The end of a program: stores done to RESULT + 64 * s11 and stays there. Programs set s11 to their vCPU
 * number. */
static inline void rv_finish(struct rv *p)
{
    rv(p, SLLI(T0, S11, 6));
    rv_li(p, T1, RESULT);
    rv(p, ADD(T0, T0, T1));
    rv(p, FENCE());
    rv(p, SD(A0, T0, 8));
    rv(p, FENCE());
    rv(p, ADDI(T1, ZERO, 1));
    rv(p, SD(T1, T0, 0));
    rv(p, WFI());
    rv_jump(p, ZERO, rv_here(p) - 4);
}

static inline uint64_t rig_result(const struct rig *r, unsigned i)
{
    return rig_get(r, RESULT + 64 * i + 8);
}

/* Runs until each of n vCPUs has come to rv_finish(). */
static inline void rig_run(struct rig *r, unsigned n)
{
    vcpus_resume(r->vcpus);
    for (unsigned i = 0; i < n; i++)
        rig_await(r, RESULT + 64 * i, 1);
    vcpus_pause(r->vcpus);
}

/* A program for vCPU 0 alone, from satp to result. */
static inline void run_one(struct rig *r, const struct rv *p, uint64_t satp, uint64_t expected)
{
    rig_load(r, p);
    rig_start(r, 0, p->base, satp);
    rig_run(r, 1);
    g_assert_cmpuint(rig_result(r, 0), ==, expected);
}

/* Where programs keep what they call. */
enum { FUNCTION = CODE + 0x10000 };

/* "addi a0, a0, 0; ret". */
static inline void put_function(struct rig *r, uint64_t gpa)
{
    const uint32_t code[] = {ADDI(A0, A0, 0), RET()};
    g_assert_cmpint(mem_write(r->mem, GPA(gpa), code, sizeof(code)), ==, 0);
}

/* --- Sv39 page tables at TABLES: the gigabyte of RAM identity-mapped by a 1 GiB leaf, and 4 KiB pages from
 * WINDOW on --- */

enum { TABLES = RAM + 0x200000 };
#define WINDOW UINT64_C(0x100000000)
enum { PTE_LEAF = 0xcf, PTE_POINTER = 1 }; /* V R W X A D */

static inline uint64_t pte(uint64_t gpa, unsigned flags)
{
    return gpa >> 12 << 10 | flags;
}

/* The entry of the page n of the window. */
static inline uint64_t pte_addr(unsigned n)
{
    return TABLES + 2 * PAGE + 8 * n;
}

/* Returns satp. */
static inline uint64_t rig_tables(struct rig *r, unsigned asid)
{
    rig_put(r, TABLES + 8 * 0, pte(0, PTE_LEAF));
    rig_put(r, TABLES + 8 * 1, pte(RAM, PTE_LEAF));
    rig_put(r, TABLES + 8 * 4, pte(TABLES + PAGE, PTE_POINTER));
    rig_put(r, TABLES + PAGE, pte(TABLES + 2 * PAGE, PTE_POINTER));
    return (uint64_t)SATP_SV39 << 60 | (uint64_t)asid << 44 | TABLES >> 12;
}

#endif
