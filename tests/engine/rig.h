/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A rig for engine tests: a made-up guest with registers, helpers and a little memory, and no accelerator
 * around it. */
#ifndef HOSTEL_TESTS_ENGINE_RIG_H
#define HOSTEL_TESTS_ENGINE_RIG_H

#include <glib.h>

#include "engine/block.h"
#include "engine/interp.h"
#include "engine/ir.h"

/* Memory: RIG_RAM_SIZE bytes at RIG_RAM; elsewhere accesses raise RIG_LOAD_FAULT or RIG_STORE_FAULT with the
 * address. */
enum {
    RIG_RAM = 0x10000,
    RIG_RAM_SIZE = 0x10000,
    RIG_LOAD_FAULT = 13,
    RIG_STORE_FAULT = 15,
    RIG_MISALIGNED_LOAD = 4,
    RIG_MISALIGNED_STORE = 6,
    RIG_HELPER_FAULT = 2,
};

/* Registers by number: r0..r15 (i64; a translator keeps the first eight in host registers), then h0, h1
 * (i32), f0, f1 (f64), q0 (i128). */
enum { RIG_R = 0, RIG_H = 16, RIG_F = 18, RIG_Q = 20, RIG_REGS = 21 };

/* Helpers: sum4(a, b, c, d) = a + 2b + 3c + 4d; bump(x): r15 += x, returns the old r15; fail_if(x): faults
 * when x is not 0; where(): needs exact pc and icount, returns pc + (icount << 32); sync_fail(): the same and
 * faults. */
extern const struct ir_target rig_target;

struct rig {
    struct env env; /* first: the memory operations find the rig from it */
    uint8_t *ram;
    const struct backend *ops;
    void *backend;          /* its state */
    size_t idle;            /* code memory that it uses without blocks */
    bool fill;              /* misses fill the TLB */
    unsigned loads, stores; /* slow paths taken */
    GPtrArray *blocks;
};

/* Of the interpreter; plain: cell by cell what the IR says. */
struct rig *rig_new(bool plain);
/* Of any backend, which must outlive the rig. */
struct rig *rig_new_with(const struct backend *ops);
void rig_free(struct rig *r);

/* Registers, memory, counters and TLB as after rig_new. */
void rig_reset(struct rig *r);

/* Compiles a block, which must verify. The rig owns the result. */
struct block *rig_compile(struct rig *r, const struct ir_block *ir);

/* Runs from the block until it stops. */
enum engine_stop rig_run(struct rig *r, struct block *block);

/* Parses text that must be correct. */
void rig_parse(struct ir_block *ir, const char *text);

#endif
