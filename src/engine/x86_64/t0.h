/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The quick tier for x86-64 hosts: what its files share. */
/*
 * Theory of operation
 *
 * T0 turns the interpreter's cells (engine/cell.h) into host code, one after the other. The preparer has
 * already done what an optimizer of one pass can do: registers forwarded, results sunk into registers,
 * comparisons fused with branches, constants and displacements folded. What is left is to say each cell in
 * x86-64, and to take away the dispatch between cells.
 *
 * Where values live. Operands are cells of struct env, reached from r14 = env + T0_BIAS, so that the hottest
 * have 8-bit displacements. The guest registers that the register table wants most (ir_reg.pin) stay in host
 * registers for as long as code runs; all code has the same assignment, so blocks link without shuffling. The
 * others are read from and written to memory, which costs next to nothing on processors that rename
 * stack-like memory. rax, rcx and rdx are scratch and hold nothing between cells.
 *
 * Precision. Registers are written in program order, as in the interpreter, so they are exact at every cell.
 * A cell that may fault carries the number of a *site*, which names its pc and how many instructions are
 * completed.
 *
 * Cells without code of their own are *stepped*: pinned registers go to their homes, the interpreter performs
 * the one cell, and they come back. So every cell works from the first day, and each can be made faster
 * alone.
 *
 * Control flow. Each exit ends in a jump of its own. A near exit's is patched when the dispatcher links it.
 * Far exits and computed jumps look into the jump cache (env.h) inline. A block polls exit_request at its
 * head; near links that go forward enter behind the poll, so every loop polls once per turn at least.
 *
 * Floating point runs with MXCSR at its default (nearest, all masked): what asks for another rounding is
 * stepped. Flags collect in MXCSR and are folded into env.fp_flags when code is left and before anything that
 * may look at them.
 */
#ifndef HOSTEL_ENGINE_X86_64_T0_H
#define HOSTEL_ENGINE_X86_64_T0_H

#include "engine/cell.h"
#include "engine/x86_64/codemem.h"
#include "engine/x86_64/emit.h"
#include "engine/x86_64/emit_sse.h"
#include "engine/x86_64/features.h"

enum {
    T0_BIAS = 128,
    T0_ENV = HOST_R14,
    T0_PINNED = 11,    /* host registers that can hold guest registers */
    T0_MAX_SLOW = 512, /* out-of-line paths per block */
    T0_FIRST_CELL = offsetof(struct env, reg) / 8,
    T0_NO_PIN = 0xff,
    T0_MXCSR_DEFAULT = 0x1f80, /* round to nearest, all exceptions masked, no flags */
};

/* Shared pieces of code, at the beginning of code memory. Executable addresses. */
struct t0_thunks {
    uint64_t enter;       /* C: enum engine_stop (struct env *, const void *code) */
    uint64_t leave;       /* eax = enum engine_stop, env's fields set */
    uint64_t unlinked;    /* rax = struct block_exit *: to the dispatcher, which may link it */
    uint64_t lost;        /* rax = pc that the jump cache does not know */
    uint64_t other_salt;  /* rax = pc, rcx = offset of its jump-cache entry, rdx = that entry's salt */
    uint64_t poll;        /* rax = pc */
    uint64_t stop;        /* rax = pc, ecx = enum engine_stop */
    uint64_t mxcsr;       /* data: MXCSR's default */
    uint64_t fault;       /* rax = site; env->exc is pending */
    uint64_t call_folded; /* C: t0_call_folded() */
    uint64_t load;        /* rax = address, ecx = descriptor, site pushed: rax = value; pops the site */
    uint64_t store;       /* rax = address, rdx = value, ecx = descriptor, site pushed */
    uint64_t step;        /* rax = cells for interp_step(), site pushed */
};

/* Where a guest instruction stands, for its faults; in code memory beside the code. */
struct t0_site {
    int32_t offset; /* of its pc from the block's */
    uint32_t done;  /* instructions completed before it in this block; its index among the block's sites */
};

struct t0_sites {
    uint64_t pc; /* the block's */
    struct t0_site site[];
};

struct t0 {
    struct codemem mem;
    unsigned next_slot;               /* page slots are given out in turn */
    unsigned tuning;                  /* enum engine_tuning */
    const struct host_features *have; /* what the host has, or is to have */
    struct prepare *prepare;
    const struct ir_target *target; /* for which `pin` was made; NULL until the first block */
    uint8_t pin[ENV_REGS];          /* by cell - T0_FIRST_CELL: enum host_reg, or T0_NO_PIN */
    bool is_fp[ENV_REGS];           /* by the same: is it a floating-point register? */
    struct t0_thunks thunks;
    struct t0_translation *translation;
    uint64_t stepped[CELL_COUNT]; /* how often each kind of cell was translated into a step */
};

/* Of a block: `code` points to the cells that are stepped, each run of them ended by CELL_DONE, and is NULL
 * when there are none, as in most. `entry` is the poll, where its code begins; behind it are `forward`,
 * behind the poll, and `loop`, where the exit `loop_exit` is linked to when it leads back to this block
 * (loop.c); 0: none. */

enum t0_slow_kind {
    T0_SLOW_LOAD,
    T0_SLOW_STORE,
    T0_SLOW_EXIT,
    T0_SLOW_POLL,
    T0_SLOW_FAULT,  /* an exception is pending */
    T0_SLOW_GROUP,  /* accesses of a group, one by one */
    T0_SLOW_OWN_FP, /* the first of a run that computes */
    T0_SLOW_STEP,   /* the interpreter performs the cell */
};

/* --- copies of floating-point cells in XMM registers (fp_cache.c) --- */

enum {
    T0_FP_SLOTS = 12, /* xmm2 to xmm13 */
};

/* What is known of a cell that a register holds. */
enum t0_fp_form {
    T0_FP_DOUBLE, /* its 64 bits */
    T0_FP_SINGLE, /* its low half, zeros above */
    T0_FP_BOXED,  /* as T0_FP_SINGLE; and the upper half of the cell is all ones */
};

struct t0_fp_slot {
    uint16_t cell; /* 0: none */
    uint8_t form;  /* enum t0_fp_form */
};

struct t0_fp_cache {
    struct t0_fp_slot slot[T0_FP_SLOTS];
    uint16_t busy; /* a bit per slot: operands and result of the cell at hand */
    uint8_t next;  /* where to look for a place first */
};

/* A path out of line, emitted behind the block. */
struct t0_slow {
    uint8_t kind;
    bool is_fp;    /* load: the result goes to its cell and an XMM register */
    bool has_slot; /* load, store: the lookup in the TLB is here, out of line, */
    uint8_t value; /* load, store: host register of the result, of the operand (not rax, not rcx) */
    const struct cell *cell;
    uint32_t site;
    uint8_t group; /* a group: cells in it */
    uint32_t mark; /* and the mark of its first */
    bool constant; /* load, store: the address is known: */
    uint64_t va;
    uint16_t slot; /* and fills this slot of env_slots for what is at `hit` */
    struct emit_label here, back, hit;
    struct t0_fp_cache fp; /* what registers hold: at `back`; where an exit was taken */
};

/* One block on its way. */
struct t0_translation {
    struct t0 *t0;
    struct emit e;
    struct block *block;
    const struct ir_block *ir;
    const struct cell *cells;
    const struct cell_mark *marks;
    uint32_t n_cells, n_marks, at_mark; /* at_mark: the mark of the cell at hand */
    uint32_t sites;                     /* offset in code memory of the block's first site */
    uint8_t *begin;                     /* of the code, writable */
    struct cell *steps;                 /* n_steps so far */
    struct t0_fp_cache fp;
    uint16_t folded; /* a temporary that was not written, since the cell behind only has it as its address: */
    uint64_t folded_k; /* what would be in it */
    bool leads_back;   /* an exit leads to the block itself */
    bool loop;         /* it has a body to come back to, with this in registers: */
    struct t0_fp_cache head;
    struct emit_label body;
    uint32_t start[IR_MAX_GUEST_INSNS]; /* by mark: where its code begins, from begin; for people */
    uint32_t out_of_line;               /* the same of the first path out of line */
    uint32_t n_steps;
    uint32_t n_slow;
    struct t0_slow slow[T0_MAX_SLOW];
};

/* --- operands (inline: used for every cell) --- */

static inline struct host_mem t0_field(size_t offset)
{
    return host_mem((enum host_reg)T0_ENV, (int32_t)offset - T0_BIAS);
}
static inline struct host_mem t0_home(unsigned cell)
{
    return t0_field(8 * (size_t)cell);
}
/* Is the cell kept in a host register? *r then. */
static inline bool t0_pinned(const struct t0_translation *t, unsigned cell, enum host_reg *r)
{
    unsigned i = cell - T0_FIRST_CELL;
    if (i >= ENV_REGS || t->t0->pin[i] == T0_NO_PIN)
        return false;
    *r = (enum host_reg)t->t0->pin[i];
    return true;
}

/* The register that holds the cell: its own, or scratch after loading it. */
enum host_reg t0_read(struct t0_translation *t, unsigned cell, enum host_reg scratch);
/* Copies the cell into r. */
void t0_read_into(struct t0_translation *t, enum host_reg r, unsigned cell);
/* The register to compute the cell's new value in; t0_write() behind it stores what is not pinned. */
enum host_reg t0_target(struct t0_translation *t, unsigned cell, enum host_reg scratch);
void t0_write(struct t0_translation *t, unsigned cell, enum host_reg r);
/* op r, cell */
void t0_alu(struct t0_translation *t, enum host_alu op, unsigned size, enum host_reg r, unsigned cell);
/* op r, constant (any 64 bits; rcx may be used) */
void t0_alu_k(struct t0_translation *t, enum host_alu op, unsigned size, enum host_reg r, uint64_t k);

static inline bool t0_is_fp(const struct t0_translation *t, unsigned cell)
{
    unsigned i = cell - T0_FIRST_CELL;
    return i < ENV_REGS && t->t0->is_fp[i] && t->t0->pin[i] == T0_NO_PIN;
}

static inline enum host_xmm t0_fp_xmm(unsigned slot)
{
    return (enum host_xmm)(HOST_XMM2 + slot);
}

/* A new cell begins: no register is needed any more for its operands. */
void t0_fp_begin(struct t0_translation *t);
/* The register that holds the cell in this form, if one does. A single may be had from a boxed one. */
bool t0_fp_cached(const struct t0_translation *t, unsigned cell, enum t0_fp_form form, enum host_xmm *x);
/* The same, loaded if need be; it stays until the next cell. */
enum host_xmm t0_fp_read(struct t0_translation *t, unsigned cell, enum t0_fp_form form);
/* A register to compute a result in. */
enum host_xmm t0_fp_new(struct t0_translation *t);
/* Stores x, from t0_fp_new(), which holds the cell's new value from now on: T0_FP_DOUBLE or T0_FP_SINGLE; */
void t0_fp_write(struct t0_translation *t, unsigned cell, enum host_xmm x, enum t0_fp_form form);
/* a single in x, which the cell is to hold boxed. Uses rax and xmm0. */
void t0_fp_write_boxed(struct t0_translation *t, unsigned cell, enum host_xmm x);
/* to = the single in x, boxed. Uses rax and xmm0. */
void t0_fp_box(struct t0_translation *t, enum host_xmm to, enum host_xmm x);
/* The cell gets another value; all may. */
void t0_fp_forget(struct t0_translation *t, unsigned cell);
void t0_fp_forget_all(struct t0_translation *t);
/* Loads what the registers are to hold. */
void t0_fp_reload(struct t0_translation *t, const struct t0_fp_cache *cache);

/* loop.c: at a block's head, */
bool t0_leads_back(const struct block *b);
void t0_loop_begin(struct t0_translation *t);
/* and behind the code of a near exit, which nothing runs into: registers are as `at` says. */
void t0_loop_back(struct t0_translation *t, const struct block_exit *exit, const struct t0_fp_cache *at);

/* A new path out of line; NULL when there are too many (the block is then cut). */
struct t0_slow *t0_slow_new(struct t0_translation *t, enum t0_slow_kind kind, const struct cell *cell);
/* The path out of line comes back here, with what XMM registers hold here. */
void t0_rejoin(struct t0_translation *t, struct t0_slow *slow);
/* The site of the cell at hand: what is pushed. */
uint32_t t0_site(const struct t0_translation *t);
/* Has the interpreter perform the cell (and `more` cells of data behind it). */
void t0_step(struct t0_translation *t, const struct cell *cell, unsigned more);

/* Each: true when the cell was emitted, false when it is not one of theirs or is to be stepped. op is enum
 * cell_op. */
bool t0_integer(struct t0_translation *t, const struct cell *cell, unsigned op);
bool t0_memory(struct t0_translation *t, const struct cell *cell, unsigned op);
bool t0_atomic(struct t0_translation *t, const struct cell *cell, unsigned op);
/* rax = the guest's address of a memory cell. */
void t0_address(struct t0_translation *t, const struct cell *cell);
/* rax = a cell plus a displacement. */
void t0_base_to_rax(struct t0_translation *t, unsigned cell, int32_t displacement);
/* Is the cell to be loaded a floating-point value? One that is boxed next, or goes to such a register. */
bool t0_loads_fp(const struct t0_translation *t, const struct cell *cell, unsigned log2);
/* translate_group.c: a group that begins with cell number `at`: returns how many cells were emitted, 0 when
 * none does; and its accesses one by one, out of line. */
unsigned t0_group(struct t0_translation *t, uint32_t at);
void t0_group_one_by_one(struct t0_translation *t, struct t0_slow *slow);
/* The same as below for `bytes` bytes from rax on. */
void t0_look_up_span(struct t0_translation *t, uint32_t mem, unsigned bytes, bool is_store,
                     struct emit_label *miss);
/* Looks rax up in the inline TLB; goes to `miss`, or leaves the distance from guest to host address in rcx.
 * Uses rdx. */
void t0_look_up(struct t0_translation *t, uint32_t mem, bool is_store, struct emit_label *miss);
/* Is the access behind the constant c the only reader of it? Then it is not written anywhere, and the access
 * has a known address. */
bool t0_fold_address(struct t0_translation *t, const struct cell *c);
bool t0_is_plain_access(const struct cell *c);
/* Out of line: looks up what missed its page slot, fills the slot and goes to slow->hit. */
void t0_fill_slot(struct t0_translation *t, struct t0_slow *slow, struct emit_label *miss);
bool t0_float(struct t0_translation *t, const struct cell *cell, unsigned op);
bool t0_flow(struct t0_translation *t, const struct cell *cell, unsigned op);
bool t0_call(struct t0_translation *t, const struct cell *cell, unsigned op);
/* Leaves with the exception that is pending, at the site. */
void t0_fault(struct t0_translation *t, uint32_t site);
/* Emits the paths out of line. */
void t0_slow_paths(struct t0_translation *t);

/* Translates t->cells into the buffer t->e. 0 or -E2BIG. */
int t0_translate(struct t0_translation *t);

/* t0.c: interp_load() and interp_store() for translated code: MXCSR stays as it is. */
int t0_load_in_c(struct env *env, uint64_t va, uint32_t mem, uint64_t *value);
int t0_store_in_c(struct env *env, uint64_t va, uint32_t mem, uint64_t value);
/* performs stepped cells on behalf of translated code; nonzero when the guest's exception is pending. */
int t0_step_in_c(struct env *env, const struct cell *cells);

/* t0.c: calls a helper that may look at the guest's floating-point flags. */
uint64_t t0_call_folded(struct env *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
                        ir_helper_fn *fn);

/* thunks.c: moves pinned registers to (or from) their homes; unless `all`, only those that C does not
 * preserve. */
void t0_spill(struct emit *e, const struct t0 *t0, bool all, bool store);
bool t0_preserved_by_c(enum host_reg r);

/* thunks.c: emits the thunks for the assignment in t0->pin; returns bytes used. */
size_t t0_emit_thunks(struct t0 *t0, size_t room);

#endif
