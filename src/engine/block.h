/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A finished block and the contract of what runs it: the seam between the dispatcher and the interpreter or
 * translators. */
/*
 * The dispatcher (accel/software) owns blocks: it makes, finds, links, invalidates and frees them. A
 * *backend* turns IR into its own form behind `code` and runs from block to block, following links and the
 * jump cache, until something needs the dispatcher. Blocks are shared by all vCPUs of a guest.
 *
 * Links: exits[i].to is read by running code with acquire order and written by the dispatcher. An unlinked
 * exit (NULL) returns to the dispatcher with env->last_exit naming it. A dead block is unlinked and dropped
 * from every jump cache before it is freed, and it is freed only after every vCPU has been outside running
 * code since.
 */
#ifndef HOSTEL_ENGINE_BLOCK_H
#define HOSTEL_ENGINE_BLOCK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/env.h"
#include "engine/ir.h"

struct cell;
struct cell_mark;

struct block_exit {
    _Atomic(struct block *) to;
    uint64_t target;         /* guest pc */
    struct block_exit *next; /* list of exits linked to the same block; the dispatcher's, under its lock */
    uint32_t site;           /* the backend's: where link() patches, or 0 */
    uint8_t index;           /* among its block's exits */
    uint8_t kind;            /* enum ir_exit_kind */
    uint8_t hint;            /* enum ir_hint */
};

struct block {
    uint64_t pc, gpa; /* key: virtual and physical address of the first byte, */
    uint32_t mode;    /* and the mode */
    uint16_t bytes;   /* guest bytes covered */
    uint16_t n_guest; /* guest instructions */
    uint64_t gpa2;    /* physical page of the part beyond the first page, or UINT64_MAX */
    void *owner[4];   /* the dispatcher's links (hash chain, page lists); near what a search looks at */
    void *code;       /* the backend's, perhaps NULL */
    uint64_t entry;   /* the backend's: what the jump cache leads to */
    uint8_t arena;    /* the backend's: blocks with the same number are given up together */
    /* The backend's, if it needs them: places behind the entry, one of which is linked to an exit. */
    uint8_t loop_exit;
    uint16_t forward;
    uint32_t loop;
    uint32_t n_exits;
    _Atomic uint32_t dead;
    struct block_exit *incoming; /* exits linked here */
    struct block_exit exits[];   /* n_exits */
};

/* The block that it leaves. There are so many exits that each byte of one counts. */
static inline struct block *block_exit_from(struct block_exit *exit)
{
    return (struct block *)(void *)((uint8_t *)(exit - exit->index) - offsetof(struct block, exits));
}

/* Why running code came back. pc, icount and registers are exact in every case. */
enum engine_stop {
    ENGINE_NEXT,      /* env->pc has no block at hand: look it up; last_exit may be linked to it */
    ENGINE_POLL,      /* exit_request was seen */
    ENGINE_EXCEPTION, /* env->exc is pending; pc is the faulting instruction's */
    ENGINE_LOOKUP,    /* as NEXT, but more than the mode may have changed (IR_STOP_NEXT while exit_request is
                         set) */
    ENGINE_WAIT,      /* IR_STOP_WAIT; pc is behind the waiting instruction */
    ENGINE_YIELD,
    ENGINE_STOPS, /* how many there are */
};

/* A piece of code that all blocks share. */
struct block_place {
    const char *name; /* a constant string */
    uint64_t address;
};

enum { BLOCK_PLACES = 16 };

/* What a backend made of the block it compiled last, for people to look at. Guest instructions are numbered
 * from 0. Everything belongs to the backend and is good until it compiles or releases a block. */
struct block_view {
    const struct cell *cells; /* the block as cells (cell.h); block_view_cells() prints them */
    const struct cell_mark *marks;
    const void *const *handlers; /* what cell.handler is, by enum cell_op */
    uint32_t n_cells, n_marks;
    const uint8_t *code;      /* host code, readable here; NULL: there is none */
    uint64_t address;         /* where it runs */
    uint32_t bytes;           /* of it, */
    uint32_t body;            /* of these before what is out of line */
    const uint32_t *starts;   /* n_marks of them: where each guest instruction's code begins */
    const char *env_register; /* the host register that leads to struct env, */
    int32_t env_bias;         /* and how far behind its beginning it points */
    unsigned n_places;
    struct block_place places[BLOCK_PLACES];
};

/* The cells of a guest instruction, a line each; engine/cell_text.c describes the form. Newly allocated
 * (g_free). */
char *block_view_cells(const struct block_view *view, const struct ir_target *target, unsigned insn);

/* What struct env has at an offset: "icount", "a0", "tlb[1].tag_r"; or "+0x..." */
void block_view_field(const struct ir_target *target, size_t offset, char *text, size_t size);

/* A kind of thing that was counted. */
struct backend_count {
    const char *name; /* a constant string */
    uint64_t n;
};

/* Shortcuts that a backend takes and can do without (tests switch them off one by one), and ENGINE_COUNTED,
 * which adds. */
enum engine_tuning {
#define TUNING(id, text, help) ENGINE_##id##_BIT,
#include "engine/tuning.def"
#undef TUNING
    ENGINE_TUNINGS,
#define TUNING(id, text, help) ENGINE_##id = 1 << ENGINE_##id##_BIT,
#include "engine/tuning.def"
#undef TUNING
};

struct backend {
    const char *name; /* the method's: "emulation", "translation" */
    const char *help;

    /* One instance per guest; limit = bytes of code memory. NULL with errno. */
    void *(*init)(size_t limit);
    void (*fini)(void *state);
    /* Optional, before the first block: what is different from usual, bits of enum engine_tuning. */
    void (*tune)(void *state, unsigned tuning);

    /* Compiles IR into block->code. Called by the translating vCPU's thread with the dispatcher's code lock
     * held. 0, -ENOSPC when the code memory is full (the dispatcher evicts the blocks of arena oldest() and
     * tries again), -E2BIG when this block is too large (it is lifted again with half the instructions). */
    int (*compile)(void *state, const struct ir_block *ir, struct block *block);
    unsigned (*oldest)(const void *state); /* under the code lock: the arena to be given up next */
    void (*release)(void *state, struct block *block); /* under the code lock, when no vCPU can be in it */
    /* Optional, under the code lock: exit has just been linked to exit->to, or is about to be unlinked; vCPUs
     * may be running the jump. */
    void (*link)(void *state, struct block_exit *exit);
    void (*unlink)(void *state, struct block_exit *exit);
    size_t (*used)(void *state); /* bytes of code memory in use */

    /* Optional, under the code lock: what became of the block compiled last, before another one is. */
    void (*view)(void *state, const struct block *block, struct block_view *out);
    /* Optional, under the code lock: how often each kind of cell was compiled into a call of the interpreter,
     * most frequent first; returns how many of the n places were filled. */
    unsigned (*stepped)(void *state, struct backend_count *out, unsigned n);

    /* Runs from block until a stop. The vCPU's own thread. */
    enum engine_stop (*run)(void *state, struct env *env, struct block *block);
};

/* The backends, in order of preference (engine/backends.def): NULL-terminated. */
extern const struct backend *const backends[];

#endif
