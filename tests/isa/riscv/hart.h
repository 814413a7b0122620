/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One hart by itself for tests: a clock that stands still, RAM, a host that remembers what it was asked. */
#ifndef HOSTEL_TESTS_ISA_RISCV_HART_H
#define HOSTEL_TESTS_ISA_RISCV_HART_H

#include "isa/riscv/priv.h"
#include "mem/mem.h"

#define HART_RAM UINT64_C(0x80000000)
#define HART_RAM_SIZE UINT64_C(0x100000)

struct hart {
    struct riscv_cpu *cpu;
    struct mem *mem;
    uint64_t now;            /* guest ns */
    uint64_t timer;          /* what set_timer was called with last */
    unsigned flushes, calls; /* how often */
    bool answers;            /* does the firmware handle calls? */
};

/* A hart after reset; 16 MHz timebase. Owned by the caller, there is one at a time. */
struct hart *hart_new(bool builtin_firmware);
void hart_free(struct hart *h);

/* csrrw and csrrs; the registers must exist for the present privilege. */
void hart_write(struct hart *h, unsigned csr, uint64_t value);
uint64_t hart_read(struct hart *h, unsigned csr);
/* As M-mode whatever the privilege is. */
void hart_write_m(struct hart *h, unsigned csr, uint64_t value);
uint64_t hart_read_m(struct hart *h, unsigned csr);
/* Would the access raise? Changes nothing else (a write puts back what was read). */
bool hart_traps(struct hart *h, unsigned csr, bool write);

/* Reproducible random numbers; hart_pick: a number whose bits are all clear, all set, or in between. */
uint64_t hart_random(void);
uint64_t hart_pick(void);

/* May the bytes be accessed? Straight from the registers, byte by byte, as section 3.7.1 words it. matched:
 * entry, -1 none, -2 some bytes only. */
bool naive_pmp(const struct riscv_cpu *cpu, uint64_t addr, unsigned size, enum isa_access access,
               unsigned priv, int *matched);

#endif
