/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The contract of a way to run vCPUs: one row per method in accels.def. */
/*
 * A guest has one set of vCPUs (`struct vcpus`), created by one accelerator. Each vCPU is a host thread that
 * is *parked* (outside guest code, its state may be read and changed by others) or runs. vcpus_resume() and
 * vcpus_pause() move all of them. Beside that, a vCPU is *online* or *offline* (RISC-V HSM, PSCI): an offline
 * one waits even while the others run.
 */
#ifndef HOSTEL_ACCEL_ACCEL_H
#define HOSTEL_ACCEL_ACCEL_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "engine/block.h"
#include "engine/env.h"
#include "isa/isa.h"
#include "mem/mem.h"

enum { VCPUS_MAX = 64 };

struct vcpus;

struct vcpus_config {
    const struct isa *isa;
    struct isa_config cpu; /* index is filled per vCPU; strings borrowed */
    unsigned count;        /* 1 .. VCPUS_MAX */
    size_t code_limit;     /* bytes of translated code kept, 0 = default */
    unsigned tuning;       /* enum engine_tuning (engine/block.h); budgets are exact with ENGINE_COUNTED */
    unsigned check;  /* every so manieth block is run by the interpreter too, and must agree; 0 = none; one
                        vCPU only */
    struct mem *mem; /* borrowed, as the two below */
    struct bus *bus;
    struct clock *clock;
    /* Firmware call of cpu_host.h, NULL when the guest brings its own firmware; and its argument. */
    bool (*firmware_call)(struct env *env, void *board);
    void *board;
};

/* Why translated code was thrown away. */
enum vcpus_drop {
    VCPUS_DROP_STORE,  /* a vCPU stored to the bytes it was made from */
    VCPUS_DROP_DEVICE, /* a device did */
    VCPUS_DROP_ATOMIC, /* an atomic access needed the page */
    VCPUS_DROP_LONGER, /* less of the page may be executed than when it was made */
    VCPUS_DROPS,
};
extern const char *const vcpus_drop_names[VCPUS_DROPS];
/* "next", "poll", ... by enum engine_stop. */
extern const char *const vcpus_stop_names[ENGINE_STOPS];

enum { VCPUS_STEPPED = 6 };

/* Counters for --stats and tests; sums over vCPUs. They are kept where code is not running, so they cost
 * nothing where it is. */
struct vcpus_stats {
    uint64_t instructions;
    uint64_t cpu_ns; /* host processor time of the vCPUs' threads */
    uint64_t blocks_made, blocks_freed;
    uint64_t links;       /* exits made to lead from block to block */
    uint64_t lookups;     /* in the table of all blocks */
    uint64_t jump_misses; /* computed and far jumps that the inline jump cache did not know */
    uint64_t
        tlb_misses; /* accesses that the inline TLB left to C: also device accesses and misaligned ones */
    uint64_t walks, flushes, device_accesses;
    uint64_t invalidations, invalidated[VCPUS_DROPS]; /* the sum; events, each of one block or more */
    uint64_t evictions;                               /* times that all code was given up to make room */
    uint64_t waits, exceptions, interrupts;
    uint64_t checked;             /* blocks that lockstep compared */
    uint64_t stops[ENGINE_STOPS]; /* returns to the dispatcher */
    size_t code_bytes;
    unsigned n_stepped; /* kinds of cells most often translated into a call of the interpreter */
    struct backend_count stepped[VCPUS_STEPPED];
};

/* Tests: sets tuning, check and code_limit by words with commas between (engine/tuning.def; "check=N",
 * "code=BYTES"); NULL or "" changes nothing. */
bool vcpus_tune(struct vcpus_config *config, const char *words, GError **error);

struct vcpu;

struct accel {
    const char *name; /* the method: "emulation", "translation", ... */
    const char *help;
    /* Can this host run it? False with the reason. */
    bool (*available)(GError **error);
    /* Fills set->method, each vcpu->method, and the callbacks of set->host_ops that are the method's (flush,
     * flush_remote). */
    bool (*init)(struct vcpus *set, GError **error);
    void (*fini)(struct vcpus *set);
    /* Runs guest code on the vCPU's thread until ENV_EXIT_STOP, which it clears. */
    void (*run)(struct vcpu *v);
    void (*flush_all)(struct vcpus *set);
    void (*stats)(struct vcpus *set, struct vcpus_stats *out);
};

/* All methods in order of preference, NULL-terminated; by name, NULL when unknown. */
extern const struct accel *const accels[];
const struct accel *accel_find(const char *name);

/* Creates the vCPUs and their threads, parked, vCPU 0 online. Nothing is allocated per guest event after
 * this. */
struct vcpus *vcpus_new(const struct accel *accel, const struct vcpus_config *config, GError **error);

/* Ends the threads and frees. Control thread; NULL is fine. */
void vcpus_free(struct vcpus *v);
CLEANUP_DEFINE(vcpus, vcpus_free)

unsigned vcpus_count(const struct vcpus *v);

/* The kernel's number of vCPU i's thread, i < count. Control thread. */
pid_t vcpus_thread(struct vcpus *v, unsigned i);

/* The CPU structure of vCPU i (struct riscv_cpu, ...). Others may touch it only while that vCPU is parked or
 * offline. */
struct env *vcpus_env(struct vcpus *v, unsigned i);
/* Which vCPU an env belongs to. */
unsigned vcpus_index(const struct env *env);

/* Interrupt input pin of vCPU i: level becomes bit pin of env.irq_lines, and the vCPU is kicked and woken. */
struct irq_line vcpus_irq(struct vcpus *v, unsigned i, unsigned pin);

/* Control thread. pause returns when every vCPU is parked at an instruction boundary. */
void vcpus_resume(struct vcpus *v);
void vcpus_pause(struct vcpus *v);

/* Brings vCPU i online after prepare(env, opaque) has set its registers (called on this thread while it
 * waits). -EALREADY when it is online. Any thread. */
int vcpus_online(struct vcpus *v, unsigned i, void (*prepare)(struct env *env, void *opaque), void *opaque);
/* Takes the calling vCPU (from a firmware call) offline as soon as the callback returns; or, parked, any
 * vCPU. */
void vcpus_offline(struct vcpus *v, unsigned i);
bool vcpus_is_online(struct vcpus *v, unsigned i);

/* Drops all translated code and cached translations (all parked: reset, restore). */
void vcpus_flush_all(struct vcpus *v);

void vcpus_stats(struct vcpus *v, struct vcpus_stats *out);

#endif
