/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The software CPU: what its parts (dispatcher, code cache, softmmu, requests) share. */
/*
 * Theory of operation
 *
 * A vCPU's thread alternates between the dispatcher (run.c) and running code (a backend's run()). Running
 * code may call down into the softmmu's slow paths. What other threads want of a vCPU goes through a small
 * queue of *requests* (request.c): drop TLB entries, drop write permissions, forget jump-cache entries.
 *
 * Inside and outside. A vCPU is *inside* while running code may use its TLB or jump cache. Whoever needs to
 * be sure that a request has taken effect posts it, kicks, and waits until the target has served its queue or
 * stands outside; a vCPU that goes inside serves its queue first. Both sides use sequentially consistent
 * stores and loads on (outside, queue), so one of them sees the other. A vCPU steps outside before it waits
 * for a lock (a chip's too) or for another vCPU, also in the middle of a slow path; so no two can wait for
 * each other. Stepping inside again serves requests, so a host address or a translation from before is void:
 * compare requests.served. Locks are ordered: code lock, then a request queue's lock.
 *
 * Quiescence. A dead block may still be in use by a vCPU that entered it before. Each vCPU notes the count of
 * deaths whenever it is between blocks (`seen`); a block is freed when every vCPU that may hold one has seen
 * its death.
 */
#ifndef HOSTEL_ACCEL_SOFTWARE_SOFTWARE_H
#define HOSTEL_ACCEL_SOFTWARE_SOFTWARE_H

#include <stdatomic.h>

#include "accel/software/region_set.h"
#include "accel/vcpu.h"
#include "engine/block.h"

/* --- requests (request.c) --- */

enum request_kind {
    REQUEST_REVOKE,       /* drop direct write permissions to host addresses [start, start + size) */
    REQUEST_REVOKE_READS, /* the same for read permissions */
    REQUEST_FLUSH,        /* drop translations as in flush */
    REQUEST_FORGET,       /* forget every jump-cache entry: blocks died */
    REQUEST_FORGET_BLOCK, /* only that of block `start`, at pc flush.va; it is not looked into */
};

struct request {
    enum request_kind kind;
    uintptr_t start;
    size_t size;
    struct cpu_flush flush;
};

enum { REQUEST_QUEUE = 16 };

struct request_queue {
    GMutex lock;
    struct request item[REQUEST_QUEUE];
    unsigned n;
    bool overflow;           /* more came than fit: do everything */
    _Atomic uint32_t posted; /* something is queued */
    _Atomic uint64_t tail;   /* requests posted so far, */
    _Atomic uint64_t served; /* and served */
};

/* --- translations (tlb.c) --- */

enum { TLB_L3_SETS = 1024, TLB_L3_WAYS = 4, SPACES = 16 };

/* One cached page walk, for a 4 KiB page (a large leaf is entered page by page as it is used). */
struct tlb_entry {
    uint64_t key;   /* virtual page number << 4 | MMU index */
    uint64_t gpa;   /* of the page, | ISA_PROT_* */
    uint32_t space; /* whose: an identifier of `spaces`, or the global one; 0 = empty */
    uint32_t spare;
};

/* An address space this vCPU has used lately. New identifiers make all older entries miss. */
struct space {
    uint64_t root; /* isa->address_space() */
    uint32_t asid;
    uint32_t tlb_id;  /* of L3 entries */
    uint32_t jump_id; /* of jump-cache salts */
    uint64_t used;    /* for replacing the oldest */
};

struct check;

struct soft_vcpu {
    struct vcpu *vcpu;
    struct env *env;
    const struct isa *isa;
    struct soft *soft;

    _Atomic uint32_t outside;
    _Atomic uint32_t in_use; /* may hold pointers to blocks: neither parked nor waiting */
    _Atomic uint64_t seen;   /* deaths known when last between blocks */
    struct request_queue requests;

    struct space spaces[SPACES];
    struct space *space; /* the current one */
    uint32_t next_id, global_id, global_jump_id;
    uint64_t space_clock;
    uint32_t mmu_used;              /* MMU indexes whose inline TLB is not empty */
    struct region_set large_leaves; /* 2 MiB regions with entries from leaves of up to 2 MiB */
    struct region_set jump_pages;   /* pages that the jump cache leads to */
    uint64_t huge_lo, huge_hi;      /* span covered by still larger leaves */
    bool partial; /* fetched from a page protected in parts since the last full flush: makes no links */
    struct tlb_entry l3[TLB_L3_SETS][TLB_L3_WAYS];
    uint8_t l3_next[TLB_L3_SETS];

    unsigned vain_waits; /* waits in a row that a masked interrupt ended at once */
    uint64_t vain_since; /* interrupts taken when the row began */

    /* statistics */
    uint64_t tlb_misses, walks, flushes, device_accesses, lookups, jump_misses, exceptions, interrupts;
    uint64_t stops[ENGINE_STOPS];
};

/* --- code cache (code.c) --- */

struct code_page;

struct soft {
    struct vcpus *set;
    const struct backend *backend;
    void *backend_state;
    bool unusual;                    /* blocks go through alone_run(): budgets, lockstep */
    const struct backend *reference; /* then: the interpreter, */
    void *reference_state;           /* guarded by code_lock, as the next */
    struct check *check;             /* lockstep; NULL: none */
    struct soft_vcpu *cpu;           /* one per vCPU */

    GMutex code_lock;       /* guards all below */
    struct block **buckets; /* 1 << bucket_bits chains */
    unsigned bucket_bits;
    size_t n_blocks;                          /* in the chains */
    unsigned evicted;                         /* the arena whose blocks were killed last */
    struct code_page **pages[MEM_MAX_BLOCKS]; /* per RAM block, per page: its code, or NULL */
    struct block *dead;                       /* waiting to be freed, newest first */
    _Atomic unsigned n_dead;
    struct ir_block *ir; /* the one block under construction */
    uint64_t blocks_made, blocks_freed, links, evictions, invalidated[VCPUS_DROPS];
    _Atomic uint64_t deaths;
    struct mem_listener listener;
};

static inline struct soft_vcpu *soft_of(const struct env *env)
{
    return vcpu_of(env)->method;
}

/* The vCPU whose thread this is; NULL on other threads. */
extern _Thread_local struct soft_vcpu *soft_current;

/* request.c */
void soft_post(struct soft_vcpu *target, const struct request *request);
/* Returns when target has served everything posted so far or stands outside. The caller must be outside. */
void soft_settle(struct soft_vcpu *target);
void soft_serve(struct soft_vcpu *s);
/* Does what the request says. The vCPU's own thread. */
void soft_perform(struct soft_vcpu *s, const struct request *r);
/* Steps outside; true when it was inside. Pairs with soft_enter(). */
bool soft_leave(struct soft_vcpu *s);
/* Steps inside and serves the queue. */
void soft_enter(struct soft_vcpu *s);
/* Posts to every vCPU of the bit mask and waits for all; serves the caller's own at once. self may be NULL.
 */
void soft_broadcast(struct soft *soft, struct soft_vcpu *self, uint64_t mask, const struct request *request);

/* tlb.c */
void tlb_init(struct soft_vcpu *s);
/* The inline TLB and salts follow the current address space and mode: call after anything that may have
 * changed them. */
void tlb_follow_space(struct soft_vcpu *s);
void tlb_flush(struct soft_vcpu *s, const struct cpu_flush *what);
void tlb_flush_all(struct soft_vcpu *s);
/* Page slots that were given up are tried again: now and then. */
void tlb_credit_slots(struct soft_vcpu *s);
/* Of direct permissions to host addresses: those to read, or those to write. */
void tlb_revoke(struct soft_vcpu *s, uintptr_t start, size_t size, bool reads);
void tlb_forget_jumps(struct soft_vcpu *s);
void tlb_forget_block(struct soft_vcpu *s, uint64_t pc, const struct block *b);
/* Enters the block at the current pc, under the current salt; global: it was fetched through pages mapped in
 * every space. */
void tlb_remember_jump(struct soft_vcpu *s, struct block *b, bool global);
/* Translates through L3 and the walker. 0, or 1 with the exception recorded. */
int tlb_translate(struct soft_vcpu *s, struct gva va, enum isa_access access, unsigned mmu,
                  struct isa_walk *out);

/* softmmu.c */
extern const struct env_ops softmmu_ops;

/* code.c */
bool code_init(struct soft *soft, GError **error);
void code_fini(struct soft *soft);
/* The block for the vCPU's pc and mode, made if need be; NULL when fetching raised an exception (recorded).
 */
struct block *code_find(struct soft_vcpu *s, bool *global);
/* Lets exit lead to block from now on, if both still live. */
void code_link(struct soft *soft, struct block_exit *exit, struct block *block);
/* Kills every block made from the page, so that it needs no tracking any more. The caller is outside. */
void code_drop_page(struct soft *soft, struct soft_vcpu *self, struct gpa page);
/* Lifts up to max instructions at the vCPU's pc and compiles them for the backend: a block that nothing else
 * knows. 0; 1 with the exception recorded; -errno. The caller is outside; alone_free() gives it back. */
int code_make_alone(struct soft_vcpu *s, uint32_t max, const struct backend *backend, void *state,
                    struct block **out);
/* All code dies; with every vCPU parked. */
void code_flush_all(struct soft *soft);
/* Frees what no vCPU can be in any more, when enough has died. The vCPU stands between blocks, inside. */
void code_collect(struct soft_vcpu *s);

/* trace.c */
/* Prints the block that was just made of what code says, and its IR. The code lock is held. */
void trace_block(const struct soft_vcpu *s, const struct isa_code *code, const struct ir_block *ir,
                 const struct block *b);

/* alone.c: blocks run one by one. Before the first vCPU runs; false with *error. */
bool alone_init(struct soft *soft, GError **error);
void alone_fini(struct soft *soft);
/* Runs from b on where something is unusual, in place of the backend's run(). */
enum engine_stop alone_run(struct soft_vcpu *s, struct block *b);
/* Runs the block of code_make_alone() and comes back behind it, with no exit to be linked. */
enum engine_stop alone_enter(struct soft_vcpu *s, struct env *env, const struct backend *backend, void *state,
                             struct block *b);
/* NULL is fine. The caller is outside. */
void alone_free(struct soft *soft, const struct backend *backend, void *state, struct block *b);

/* check.c: lockstep. */
struct check *check_new(struct soft *soft, unsigned interval, GError **error);
void check_free(struct check *c);
/* The same as alone_run(); every so manieth block twice. */
enum engine_stop check_run(struct check *c, struct soft_vcpu *s, struct block *b);
uint64_t check_count(const struct check *c);

/* run.c */
void soft_run(struct vcpu *v);

#endif
