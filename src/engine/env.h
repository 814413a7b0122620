/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The fixed head of a vCPU's state: what running code touches, at offsets the engine knows. */
/*
 * Theory of operation
 *
 * Every ISA's CPU structure begins with `struct env` and appends its own registers. The head is ordered by
 * heat: control words, the register file, then the interpreter's scratch cells, then the big tables (TLB,
 * jump cache), which the host's kernel backs with memory only where they are touched.
 *
 * Who writes: the vCPU's own thread, except the fields marked atomic, which any thread may set.
 *
 * The inline TLB. Per MMU index, ENV_TLB_SIZE entries in three arrays. An access of size s (power of two) at
 * va hits when tag[i] == (va & (PAGE_MASK | (s - 1)))        i = va >> 12 & (ENV_TLB_SIZE - 1) so a
 * misaligned access misses, and host address = va + addend[i]. (A translator may let misaligned accesses
 * inside a page hit.) An empty tag is ENV_TLB_EMPTY, which no aligned page address equals. tag_r serves
 * loads, tag_w stores: a tag_w is present only for a page that is writable now, marked dirty, holds no
 * translated code and is not watched (mem/mem.h); so those events cost nothing on the fast path.
 *
 * The jump cache maps {pc, salt} to a block. The salt names (address space, generation of its mappings,
 * mode); an entry made under another salt misses, so a context switch clears nothing. Entries for pages that
 * are mapped alike in every address space carry a salt of their own, so a kernel's survive the switch.
 */
#ifndef HOSTEL_ENGINE_ENV_H
#define HOSTEL_ENGINE_ENV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct block;
struct block_exit;
struct env;
struct ir_target;

enum {
    ENV_PAGE_BITS = 12,
    ENV_MMU_INDEXES = 8,
    ENV_TLB_BITS = 9,
    ENV_TLB_SIZE = 1 << ENV_TLB_BITS,
    ENV_JUMP_BITS = 15,
    ENV_JUMP_SIZE = 1 << ENV_JUMP_BITS,
    ENV_REGS = 96,
    ENV_TEMPS = 512,
    ENV_SLOTS = 64, /* half of them for loads, half for stores */
    ENV_SLOT_CREDIT = 16384,
};
#define ENV_PAGE_SIZE (UINT64_C(1) << ENV_PAGE_BITS)
#define ENV_PAGE_MASK (~(ENV_PAGE_SIZE - 1))
#define ENV_TLB_EMPTY UINT64_MAX

/* Bits of exit_request: set by any thread with env_kick(), cleared by the vCPU's thread alone. */
enum env_exit {
    ENV_EXIT_IRQ = 1,    /* interrupt lines changed, or a timer: poll the ISA */
    ENV_EXIT_FLUSH = 2,  /* requests of other threads are queued (TLB, code) */
    ENV_EXIT_STOP = 4,   /* pause, reset, quit: leave vcpu_run */
    ENV_EXIT_BUDGET = 8, /* the instruction budget is used up */
    ENV_EXIT_SPACE = 16, /* this vCPU's address space changed: set by the ISA itself behind the change */
};

/* A guest exception on its way: set by the softmmu, a helper or `raise`; taken by the ISA (isa.h,
 * take_exception). */
struct env_exception {
    bool pending;
    uint32_t cause; /* the ISA's number */
    uint64_t value; /* fault address or the like */
};

struct env_tlb {
    uint64_t tag_r[ENV_TLB_SIZE];
    uint64_t tag_w[ENV_TLB_SIZE];
    uint64_t addend[ENV_TLB_SIZE];
};

/* Page slots: what a load or store in a loop looked up last, so that its next turn need not compute where in
 * the TLB to look. tag as in env_tlb (of a load's slot tag_r, of a store's tag_w). A slot may be shared by
 * several places of the code. Cleared with the TLB and on the vCPU's own thread, like that. */
struct env_slots {
    uint64_t tag[ENV_SLOTS];
    uint64_t addend[ENV_SLOTS];
    uint64_t before[ENV_SLOTS]; /* the tag that was there before this one */
    int32_t credit[ENV_SLOTS]; /* how often an access may still go back to that page; negative: it has gone to
                                  and fro too often, and the slot stays empty */
};

struct env_jump {
    uint64_t pc, salt;
    struct block *block; /* NULL: empty */
    uint64_t host;       /* block->entry */
};

/* Slow paths of memory operations, provided by the accelerator (accel/software/softmmu.c). Each returns 0, or
 * nonzero with env->exc set and nothing done. Values are raw: zero-extended from the access's size, in the
 * guest's number order (IR_MEM_BIG is done here), sign extension is the engine's. They are called with
 * env->pc not necessarily exact: the engine stores the exact pc and icount after a nonzero return (device
 * accesses do not look at them). mem is the IR's memory descriptor. */
struct env_ops {
    int (*load)(struct env *env, uint64_t va, uint32_t mem, uint64_t value[2]);
    int (*store)(struct env *env, uint64_t va, uint32_t mem, const uint64_t value[2]);
    /* Host address for an atomic access at va (aligned, in RAM, reported as written), or an exception. */
    int (*atomic)(struct env *env, uint64_t va, uint32_t mem, void **host);
    /* Records a guest exception raised by the engine for a misaligned access that the descriptor forbids. */
    void (*misaligned)(struct env *env, uint64_t va, bool store);
};

struct env {
    /* --- hot --- */
    _Atomic uint32_t exit_request; /* enum env_exit bits */
    uint32_t mode;                 /* the ISA's mode word: part of every block's key */
    uint64_t pc;                   /* exact only outside running code (and in IR_HELPER_SYNC helpers) */
    uint64_t icount;               /* guest instructions retired; exact where pc is */
    uint64_t budget;               /* stop when icount reaches it; UINT64_MAX never */
    uint64_t salt; /* jump cache salt in force: ENV_SALT(identifier of the address space, mode) */
    struct block_exit *last_exit; /* the exit just taken, for linking; NULL when it cannot be linked */
    uint8_t fp_flags;             /* accrued exceptions, enum of softfloat.h (SF_NX ...) */
    uint64_t excl_addr;           /* LL/SC: guest virtual address, or ENV_NO_RESERVATION */
    uint64_t excl_value;          /* what LL read */
    struct env_exception exc;
    _Atomic uint64_t irq_lines; /* levels of interrupt inputs; bit numbers are the ISA's */
    const struct env_ops *ops;
    const struct ir_target *target;
    void *owner; /* the accelerator's vCPU */

    /* --- the register file: 64-bit cells; an ISA's register table says who lives where --- */
    uint64_t reg[ENV_REGS];

    /* --- scratch of the interpreter: values of the running block --- */
    uint64_t temp[ENV_TEMPS];

    uint64_t salt_global; /* the salt of entries that hold in every address space */
    uint8_t fp_used;      /* a translator's: the host's floating-point flags are the guest's since entry */

    /* --- big tables --- */
    struct env_tlb tlb[ENV_MMU_INDEXES];
    struct env_slots slots[ENV_MMU_INDEXES];
    struct env_jump jump[ENV_JUMP_SIZE];
};

#define ENV_NO_RESERVATION UINT64_MAX

/* Identifier 0 is nobody's. Running code may itself replace the mode when that changes (stop next). */
#define ENV_SALT(id, mode) ((uint64_t)(id) << 32 | (uint32_t)(mode))

static inline unsigned env_tlb_index(uint64_t va)
{
    return (unsigned)(va >> ENV_PAGE_BITS) & (ENV_TLB_SIZE - 1);
}

/* Translators compute this inline (x86_64/translate.c): a shift, an exclusive or, a mask. */
static inline unsigned env_jump_index(uint64_t pc)
{
    return (unsigned)((pc >> 1) ^ (pc >> ENV_PAGE_BITS)) & (ENV_JUMP_SIZE - 1);
}

/* Asks the vCPU to leave running code at its next poll. Any thread; does not wake one that sleeps (bus, accel
 * do). */
static inline void env_kick(struct env *env, enum env_exit why)
{
    atomic_fetch_or_explicit(&env->exit_request, (uint32_t)why, memory_order_seq_cst);
}

#endif
