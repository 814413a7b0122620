/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A riscv-virt machine of generated files, parked. */
#ifndef HOSTEL_TESTS_BOARD_BENCH_H
#define HOSTEL_TESTS_BOARD_BENCH_H

#include "base/bits.h"
#include "board/riscv_virt.h"
#include "images.h"
#include "isa/riscv/cpu.h"

struct parts {
    unsigned vcpus;  /* 0: one */
    uint64_t memory; /* 0: 64 MiB */
    const GByteArray *kernel, *initrd, *firmware;
    const char *append;
    struct stream *console;
};

struct powered {
    unsigned calls;
    enum machine_power what;
    int code;
};

static struct powered bench_power;

static inline void bench_on_power(void *opaque, enum machine_power what, int code)
{
    (void)opaque;
    bench_power.calls++;
    bench_power.what = what;
    bench_power.code = code;
}

static inline struct machine_config bench_config(const struct parts *p)
{
    return (struct machine_config){.accel = accel_find("emulation"),
                                   .vcpus = p->vcpus ? p->vcpus : 1,
                                   .memory = p->memory ? p->memory : 64 * MiB,
                                   .kernel_fd = make_file(p->kernel),
                                   .initrd_fd = make_file(p->initrd),
                                   .firmware_fd = make_file(p->firmware),
                                   .kernel_name = "Image",
                                   .initrd_name = "initrd.gz",
                                   .firmware_name = "fw.bin",
                                   .append = p->append,
                                   .console = p->console,
                                   .power = bench_on_power};
}

static inline struct machine *bench_machine(const struct parts *p, GError **error)
{
    struct machine_config c = bench_config(p);
    return machine_new(board_find("riscv-virt", NULL), &c, error);
}

static inline uint64_t bench_reg(struct machine *m, unsigned hart, unsigned reg)
{
    return vcpus_env(m->vcpus, hart)->reg[reg];
}

#endif
