/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The interpreter's own form of a block: threaded code. Private to prepare*.c and interp*.c. */
#ifndef HOSTEL_ENGINE_CELL_H
#define HOSTEL_ENGINE_CELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/block.h"

/* One step. Operands are numbers of 64-bit cells counted from the start of struct env, so that a guest
 * register and a temporary are reached alike. cells.def says what each operation does with its fields. */
struct cell {
    const void *handler; /* address of a label in interp_run() */
    uint16_t dst, a, b, c;
    uint64_t imm;
};

_Static_assert(sizeof(struct cell) == 24, "a cell is three words");
_Static_assert(offsetof(struct env, jump) / 8 <= UINT16_MAX, "every cell of the head can be named");

enum cell_op {
#define CELL(id) CELL_##id,
#include "engine/cells.def"
#undef CELL
    CELL_COUNT
};

/* In c of a MOVK to a temporary: only the instruction at hand reads it. */
enum { CELL_MOVK_FLEETING = 1 };

/* Where a guest instruction begins: consulted only when one faults. */
struct cell_mark {
    uint32_t cell; /* its first cell */
    int32_t pc;    /* from the block's pc */
};

/* What block->code points to. marks has one entry per guest instruction and lies behind the cells. */
struct prepared {
    size_t bytes; /* of this allocation */
    uint32_t n_cells, n_marks;
    const struct cell_mark *marks;
    struct cell cells[];
};

/* The displacement and the descriptor of a memory cell. */
static inline uint64_t cell_mem(int32_t displacement, uint32_t mem)
{
    return (uint64_t)(uint32_t)displacement << 32 | mem;
}

/* --- cell_text.c --- */

/* "ADD_64K"; "?" for a number that is none. */
const char *cell_op_name(unsigned op);

/* --- prepare.c --- */

struct prepare;

/* A preparer and its scratch memory; NULL when there is none. plain: no forwarding and no fusion, cell by
 * cell what the IR says; tests compare it with the other. handlers: what cell.handler becomes, by enum
 * cell_op (borrowed): interp_handlers(), or a translator's own. */
struct prepare *prepare_new(bool plain, const void *const *handlers);
void prepare_free(struct prepare *p);

/* Prepares a verified block; *out is allocated by malloc. 0; -ENOMEM; -E2BIG when the block needs more
 * temporaries or cells than there are. Not for two threads at once with the same preparer. */
int prepare_block(struct prepare *p, const struct ir_block *ir, struct prepared **out);

/* The same without a copy: the view lives until the preparer's next block. */
struct prepared_view {
    const struct cell *cells;
    const struct cell_mark *marks;
    uint32_t n_cells, n_marks;
};
int prepare_cells(struct prepare *p, const struct ir_block *ir, struct prepared_view *out);

/* --- interp.c --- */

/* Handlers by enum cell_op. */
const void *const *interp_handlers(void);
enum engine_stop interp_run(struct env *env, struct block *block);
/* Performs cells one after the other up to CELL_DONE; none of them ends a block except RAISE. ENGINE_NEXT; or
 * ENGINE_EXCEPTION with env->exc pending, pc and icount left to the caller. */
enum engine_stop interp_step(struct env *env, const struct cell *cells);

/* --- interp_mem.c: what the inline paths leave. All return 0, or nonzero with env->exc set and nothing done.
 * --- */

/* Up to 8 bytes in any order and byte order, the value extended to 64 bits as the descriptor says. */
int interp_load(struct env *env, uint64_t va, uint32_t mem, uint64_t *value);
int interp_store(struct env *env, uint64_t va, uint32_t mem, uint64_t value);
/* 16 bytes. */
int interp_load_pair(struct env *env, uint64_t va, uint32_t mem, uint64_t value[2]);
int interp_store_pair(struct env *env, uint64_t va, uint32_t mem, const uint64_t value[2]);

int interp_rmw(struct env *env, uint64_t va, uint32_t mem, enum ir_rmw op, uint64_t operand, uint64_t *old);
int interp_cmpxchg(struct env *env, uint64_t va, uint32_t mem, uint64_t expected, uint64_t desired,
                   uint64_t *old);
int interp_cmpxchg_pair(struct env *env, uint64_t va, uint32_t mem, const uint64_t expected[2],
                        const uint64_t desired[2], uint64_t old[2]);
int interp_ll(struct env *env, uint64_t va, uint32_t mem, uint64_t *value);
/* *failed: 0 stored, 1 not. */
int interp_sc(struct env *env, uint64_t va, uint32_t mem, uint64_t value, uint64_t *failed);

/* --- interp_backend.c --- */

/* For tests and benchmarks: an instance as backend_interp.init gives, of the plain kind. */
void *interp_init_plain(size_t limit);

#endif
