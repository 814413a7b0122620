/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The interpreter: runs prepared blocks, cell by cell. */
/*
 * Theory of operation
 *
 * A block is an array of cells (cell.h), each with the address of the code that performs it. That code ends
 * by fetching the next cell and jumping to its address: there is no loop and no switch, and each operation
 * has an indirect jump of its own, which is what branch predictors need to learn the guest's control flow.
 * Labels as values are an extension that gcc and clang share.
 *
 * Operands are numbers of 64-bit cells counted from env; `pc->a` being 4 may mean a guest register. A value
 * of N bits is kept extended with zeros, but an operation looks at the low N bits of its operands only, so
 * that narrowing is free.
 *
 * The code below is one function because jumps to labels do not leave one. It is a table in disguise: a macro
 * per family and a line per operation; the work beyond a line is in arith.def, flags.h, fp_ops.c and
 * interp_mem.c.
 *
 * What is exact when. Registers are written in program order, so they are exact at every cell. pc and icount
 * are not kept: an exit knows how many guest instructions are completed when it is taken, and a fault finds
 * both from the number of its cell (prepared.marks). A helper with IR_HELPER_SYNC has both in its cell.
 *
 * Between blocks (label enter) the exit request and the instruction budget are looked at; never inside, so a
 * block is the unit of interruption, and the loads are relaxed: who kicks also wakes or waits, nothing is
 * published through this word.
 */
#include "base/bits.h"
#include "engine/arith.h"
#include "engine/cell.h"
#include "engine/flags.h"
#include "engine/fp_ops.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* The guest instruction that the cell belongs to: the last one that begins at or before it. */
static const struct cell_mark *find_mark(const struct prepared *code, const struct cell *cell)
{
    uint32_t at = (uint32_t)(cell - code->cells), lo = 0, hi = code->n_marks;

    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (code->marks[mid].cell <= at) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return &code->marks[lo];
}

/* Makes pc and icount exact at a cell whose guest instruction is not completed. */
static enum engine_stop stop_at(struct env *env, const struct block *block, const struct cell *cell)
{
    const struct prepared *code = block->code;

    env->last_exit = NULL;
    if (code->n_marks) {
        const struct cell_mark *mark = find_mark(code, cell);
        env->pc = block->pc + (uint64_t)(int64_t)mark->pc;
        env->icount += (uint64_t)(mark - code->marks);
    } else {
        env->pc = block->pc;
    }
    return ENGINE_EXCEPTION;
}

/* The block for a pc, when the jump cache knows it. */
static struct block *jump_find(const struct env *env, uint64_t pc)
{
    const struct env_jump *j = &env->jump[env_jump_index(pc)];

    if (UNLIKELY(j->pc != pc)) {
        return NULL;
    }
    return LIKELY(j->salt == env->salt || j->salt == env->salt_global) ? j->block : NULL;
}

/* The inline TLB (env.h): the tag says both that the page is known and that the address is aligned. */
static inline bool tlb_hit(const struct env_tlb *tlb, const uint64_t *tag, uint64_t va, unsigned bytes,
                           void **host)
{
    unsigned i = env_tlb_index(va);

    *host = (void *)(uintptr_t)(va + tlb->addend[i]);
    return tag[i] == (va & (ENV_PAGE_MASK | (bytes - 1)));
}

/* With env NULL: only returns the addresses of the handlers, by enum cell_op. With steps: performs these
 * cells, of no block. */
static enum engine_stop run(struct env *env, struct block *block, const struct cell *steps,
                            const void *const **handlers)
{
    static const void *const labels[CELL_COUNT] = {
#define CELL(id) [CELL_##id] = &&do_##id,
#include "engine/cells.def"
#undef CELL
    };
    uint64_t *const cells = (uint64_t *)env;
    const struct prepared *code;
    const struct cell *pc;
    struct block_exit *exit;
    uint64_t target; /* of a jump; or a result that is not yet to be written */

    if (!env) {
        *handlers = labels;
        return ENGINE_NEXT;
    }

#define D cells[pc->dst]
#define A cells[pc->a]
#define B cells[pc->b]
#define C cells[pc->c]
#define K (pc->imm)
#define DISPATCH goto * pc->handler
#define NEXT                                                                                                 \
    do {                                                                                                     \
        pc++;                                                                                                \
        DISPATCH;                                                                                            \
    } while (0)
/* An operation: its label and what it does; then the next cell. */
#define DO(id, ...)                                                                                          \
    do_##id:                                                                                                 \
    {                                                                                                        \
        __VA_ARGS__;                                                                                         \
    }                                                                                                        \
    NEXT;

    code = block ? block->code : NULL;
    pc = block ? code->cells : steps;
    DISPATCH;

    /* --- Integers --- */

/* arith.def's expressions are over x, y, sx, sy and n. cut makes the result what its type keeps in a cell. */
#define OPERATE(id, bits, second, cut, expression)                                                           \
    DO(id, const unsigned n = (bits); uint64_t x = arith_cut(A, n), y = arith_cut(second, n);                \
       int64_t sx = arith_sext(x, n), sy = arith_sext(y, n); (void)n, (void)x, (void)y, (void)sx, (void)sy;  \
       D = cut(expression, (bits)))
#define SEXT_CUT(r, bits) ((uint64_t)arith_sext((r), (bits)))
#define ARITH_BINARY(id, expression)                                                                         \
    OPERATE(id##_8, 8, B, arith_cut, expression)                                                             \
    OPERATE(id##_8K, 8, K, arith_cut, expression)                                                            \
    OPERATE(id##_16, 16, B, arith_cut, expression)                                                           \
    OPERATE(id##_16K, 16, K, arith_cut, expression)                                                          \
    OPERATE(id##_32, 32, B, arith_cut, expression)                                                           \
    OPERATE(id##_32K, 32, K, arith_cut, expression)                                                          \
    OPERATE(id##_32S, 32, B, SEXT_CUT, expression)                                                           \
    OPERATE(id##_32SK, 32, K, SEXT_CUT, expression)                                                          \
    OPERATE(id##_64, 64, B, arith_cut, expression)                                                           \
    OPERATE(id##_64K, 64, K, arith_cut, expression)
#define ARITH_UNARY(id, expression)                                                                          \
    OPERATE(id##_8, 8, 0, arith_cut, expression)                                                             \
    OPERATE(id##_16, 16, 0, arith_cut, expression)                                                           \
    OPERATE(id##_32, 32, 0, arith_cut, expression)                                                           \
    OPERATE(id##_32S, 32, 0, SEXT_CUT, expression)                                                           \
    OPERATE(id##_64, 64, 0, arith_cut, expression)
#include "engine/arith.def"
#undef ARITH_BINARY
#undef ARITH_UNARY

#define CARRY(id, bits, expression)                                                                          \
    DO(id##_##bits, uint64_t x = A, y = B, carry = C; D = arith_cut(expression, bits))
#define CARRIES(id, expression)                                                                              \
    CARRY(id, 8, expression)                                                                                 \
    CARRY(id, 16, expression)                                                                                \
    CARRY(id, 32, expression)                                                                                \
    CARRY(id, 64, expression)
    CARRIES(ADC, x + y + carry)
    CARRIES(SBB, x - y - carry)

    DO(UBFX, D = bits_get(A, K & 255, (unsigned)(K >> 8)))
    DO(SBFX, D = (uint64_t)bits_sext(A >> (K & 255), (unsigned)(K >> 8)))
    DO(BFI, D = (A & ~K) | (B << pc->c & K))

    /* --- Conditions --- */

#define SET(id, bits, second, type, relation)                                                                \
    DO(SET_##id, D = (type##bits##_t)A relation(type##bits##_t) second)
#define BRANCH(id, bits, second, type, relation)                                                             \
    do_BR_##id:                                                                                              \
    {                                                                                                        \
        if ((type##bits##_t)A relation(type##bits##_t) second) {                                             \
            goto take_exit;                                                                                  \
        }                                                                                                    \
    }                                                                                                        \
    NEXT;
#define CONDITION(id, type, relation)                                                                        \
    SET(id##_8, 8, B, type, relation)                                                                        \
    SET(id##_8K, 8, K, type, relation)                                                                       \
    SET(id##_16, 16, B, type, relation)                                                                      \
    SET(id##_16K, 16, K, type, relation)                                                                     \
    SET(id##_32, 32, B, type, relation)                                                                      \
    SET(id##_32K, 32, K, type, relation)                                                                     \
    SET(id##_64, 64, B, type, relation)                                                                      \
    SET(id##_64K, 64, K, type, relation)                                                                     \
    BRANCH(id##_32, 32, B, type, relation)                                                                   \
    BRANCH(id##_32K, 32, K, type, relation)                                                                  \
    BRANCH(id##_64, 64, B, type, relation)                                                                   \
    BRANCH(id##_64K, 64, K, type, relation)
    CONDITION(EQ, uint, ==)
    CONDITION(NE, uint, !=)
    CONDITION(LTU, uint, <)
    CONDITION(GEU, uint, >=)
    CONDITION(LTS, int, <)
    CONDITION(GES, int, >=)

do_BR_NZ:
    if (A) {
        goto take_exit;
    }
    NEXT;

    DO(SEL, D = A ? B : C)
    DO(SEL_K1, D = A ? K : C)
    DO(SEL_K0, D = A ? B : K)

    /* --- Moves and widths --- */

    DO(MOV, D = A)
    DO(MOVK, D = K)
    DO(ZEXT_1, D = A & 1)
    DO(ZEXT_8, D = (uint8_t)A)
    DO(ZEXT_16, D = (uint16_t)A)
    DO(ZEXT_32, D = (uint32_t)A)
    DO(SEXT_1, D = 0 - (A & 1))
    DO(SEXT_8, D = (uint64_t)(int8_t)A)
    DO(SEXT_16, D = (uint64_t)(int16_t)A)
    DO(SEXT_32, D = (uint64_t)(int32_t)A)
    DO(MERGE, D = (D & ~K) | (A & K))

#define STATE(type) (*(type *)((char *)env + K))
    DO(GETENV_8, D = STATE(uint8_t))
    DO(GETENV_16, D = STATE(uint16_t))
    DO(GETENV_32, D = STATE(uint32_t))
    DO(GETENV_64, D = STATE(uint64_t))
    DO(PUTENV_8, STATE(uint8_t) = (uint8_t)A)
    DO(PUTENV_16, STATE(uint16_t) = (uint16_t)A)
    DO(PUTENV_32, STATE(uint32_t) = (uint32_t)A)
    DO(PUTENV_64, STATE(uint64_t) = A)

    /* --- Flags --- */

#define FLAGS(id, bits, expression)                                                                          \
    DO(FL_##id##_##bits, const unsigned n = (bits);                                                          \
       uint64_t x = arith_cut(A, n), y = arith_cut(B, n), z = C; (void)x, (void)y, (void)z;                  \
       D = (expression))
#define FLAGS_WIDTHS(id, expression)                                                                         \
    FLAGS(id, 8, expression)                                                                                 \
    FLAGS(id, 16, expression)                                                                                \
    FLAGS(id, 32, expression)                                                                                \
    FLAGS(id, 64, expression)
    FLAGS_WIDTHS(ADD, flags_add(x, y, 0, n))
    FLAGS_WIDTHS(ADC, flags_add(x, y, z, n))
    FLAGS_WIDTHS(SUB, flags_sub(x, y, 0, n))
    FLAGS_WIDTHS(SBB, flags_sub(x, y, z, n))
    FLAGS_WIDTHS(LOGIC, flags_result(x, n))
    FLAGS_WIDTHS(INC, flags_keep_carry(flags_add(x, 1, 0, n), y))
    FLAGS_WIDTHS(DEC, flags_keep_carry(flags_sub(x, 1, 0, n), y))
    FLAGS_WIDTHS(SHL, flags_shl(x, y, z, n))
    FLAGS_WIDTHS(SHR, flags_shr(x, y, z, n))
    FLAGS_WIDTHS(SAR, flags_sar(x, y, z, n))
    FLAGS_WIDTHS(ROL, flags_rol(x, y, z, n))
    FLAGS_WIDTHS(ROR, flags_ror(x, y, z, n))
    DO(FL_BIT, D = A >> K & 1)
    DO(FL_COND, D = flags_cond(A, (unsigned)K))

    /* --- Memory --- */

#define MEM ((uint32_t)K)
#define ADDRESS (A + (uint64_t)((int64_t)K >> 32))
/* c numbers the first cell of the MMU index's TLB. */
#define TLB ((const struct env_tlb *)(cells + pc->c))
#define LOAD(id, bits, type)                                                                                 \
    do_LD_##id:                                                                                              \
    {                                                                                                        \
        void *host;                                                                                          \
        if (UNLIKELY(!tlb_hit(TLB, TLB->tag_r, ADDRESS, (bits) / 8, &host))) {                               \
            goto load_slowly;                                                                                \
        }                                                                                                    \
        D = (uint64_t)(type)__atomic_load_n((uint##bits##_t *)host, __ATOMIC_RELAXED);                       \
    }                                                                                                        \
    NEXT;
    LOAD(U8, 8, uint8_t)
    LOAD(U16, 16, uint16_t)
    LOAD(U32, 32, uint32_t)
    LOAD(U64, 64, uint64_t)
    LOAD(S8, 8, int8_t)
    LOAD(S16, 16, int16_t)
    LOAD(S32, 32, int32_t)
do_LD_ANY:
load_slowly:
    if (UNLIKELY(interp_load(env, ADDRESS, MEM, &target))) {
        goto fault;
    }
    D = target;
    NEXT;

#define STORE(id, bits, value, slowly)                                                                       \
    do_ST_##id:                                                                                              \
    {                                                                                                        \
        void *host;                                                                                          \
        if (UNLIKELY(!tlb_hit(TLB, TLB->tag_w, ADDRESS, (bits) / 8, &host))) {                               \
            goto slowly;                                                                                     \
        }                                                                                                    \
        __atomic_store_n((uint##bits##_t *)host, (uint##bits##_t)(value), __ATOMIC_RELAXED);                 \
    }                                                                                                        \
    NEXT;
#define STORES(bits)                                                                                         \
    STORE(bits, bits, B, store_slowly)                                                                       \
    STORE(bits##K, bits, (int16_t)pc->b, store_constant_slowly)
    STORES(8)
    STORES(16)
    STORES(32)
    STORES(64)
do_ST_ANY:
store_slowly:
    if (UNLIKELY(interp_store(env, ADDRESS, MEM, B))) {
        goto fault;
    }
    NEXT;
store_constant_slowly:
    if (UNLIKELY(interp_store(env, ADDRESS, MEM, (uint64_t)(int16_t)pc->b))) {
        goto fault;
    }
    NEXT;

/* An operation that may end in the guest's exception. */
#define TRY(id, call)                                                                                        \
    do_##id:                                                                                                 \
    {                                                                                                        \
        if (UNLIKELY(call)) {                                                                                \
            goto fault;                                                                                      \
        }                                                                                                    \
    }                                                                                                        \
    NEXT;
    TRY(LD_PAIR, interp_load_pair(env, ADDRESS, MEM, &D))
    TRY(ST_PAIR, interp_store_pair(env, ADDRESS, MEM, &B))
    TRY(RMW, interp_rmw(env, ADDRESS, MEM, (enum ir_rmw)pc->c, B, &D))
    TRY(CMPXCHG, interp_cmpxchg(env, ADDRESS, MEM, B, C, &D))
    TRY(CMPXCHG_PAIR, interp_cmpxchg_pair(env, ADDRESS, MEM, &B, &C, &D))
    TRY(LL, interp_ll(env, ADDRESS, MEM, &D))
    TRY(SC, interp_sc(env, ADDRESS, MEM, B, &D))
    DO(FENCE, __atomic_thread_fence(__ATOMIC_ACQ_REL))
    DO(FENCE_FULL, __atomic_thread_fence(__ATOMIC_SEQ_CST))

    /* --- Floating point --- */

    DO(FP, D = fp_ops[K & 0xffff].fn(env, A, B, C, (unsigned)(K >> 16)))
    DO(FBOX, D = A | UINT64_C(0xffffffff00000000))
    DO(FUNBOX, uint64_t x = A; D = x >> 32 == UINT32_MAX ? (uint32_t)x : UINT32_C(0x7fc00000))

    /* --- Helpers --- */

/* The function's address travelled through a 64-bit field. */
#define HELPER(cell) ((ir_helper_fn *)(uintptr_t)(cell)->imm)
do_CALL:
    D = HELPER(pc + 1)(env, A, B, C, cells[pc[1].a]);
    pc++;
    NEXT;
do_CALL_FAULT:
    target = HELPER(pc + 1)(env, A, B, C, cells[pc[1].a]);
    if (UNLIKELY(env->exc.pending)) {
        goto fault;
    }
    D = target;
    pc++;
    NEXT;
do_CALL_SYNC:
    /* The next cell's c: guest instructions completed before; the helper may change icount itself. */
    env->pc = K;
    env->icount += pc[1].c;
    target = HELPER(pc + 1)(env, A, B, C, cells[pc[1].a]);
    env->icount -= pc[1].c;
    if (UNLIKELY(env->exc.pending)) {
        goto fault;
    }
    D = target;
    pc++;
    NEXT;

    /* --- Ends --- */

do_EXIT:
take_exit:
    env->icount += pc->dst;
    exit = &block->exits[pc->c];
    struct block *to = atomic_load_explicit(&exit->to, memory_order_acquire);
    if (LIKELY(to)) {
        block = to;
        goto enter;
    }
    /* The steps of a translator, which have no block, hold no exit cells. */
    target = exit->target; /* NOLINT(clang-analyzer-core.NullDereference) */
    if (exit->kind == IR_EXIT_NEAR) {
        env->pc = target;
        env->last_exit = exit;
        return ENGINE_NEXT;
    }
    goto jump;

do_EXIT_REG:
    env->icount += pc->dst;
    target = A;
jump:
    to = jump_find(env, target);
    if (UNLIKELY(!to)) {
        env->pc = target;
        env->last_exit = NULL;
        return ENGINE_NEXT;
    }
    block = to;

enter:
    if (UNLIKELY(atomic_load_explicit(&env->exit_request, memory_order_relaxed))) {
        goto poll;
    }
    if (UNLIKELY(env->icount + block->n_guest > env->budget)) {
        env_kick(env, ENV_EXIT_BUDGET);
        goto poll;
    }
    code = block->code;
    pc = code->cells;
    DISPATCH;
poll:
    env->pc = block->pc;
    env->last_exit = NULL;
    return ENGINE_POLL;

do_STOP_NEXT:
    /* The mode may have changed, which the salts follow; or more, and then somebody has set exit_request. */
    env->icount += pc->dst;
    target = A;
    if (UNLIKELY(atomic_load_explicit(&env->exit_request, memory_order_relaxed))) {
        env->pc = target;
        env->last_exit = NULL;
        return ENGINE_LOOKUP;
    }
    env->salt = ENV_SALT(env->salt >> 32, env->mode);
    env->salt_global = ENV_SALT(env->salt_global >> 32, env->mode);
    goto jump;

#define STOP(id, why)                                                                                        \
    do_STOP_##id:                                                                                            \
    {                                                                                                        \
        env->icount += pc->dst;                                                                              \
        env->pc = A;                                                                                         \
        env->last_exit = NULL;                                                                               \
        return why;                                                                                          \
    }
    STOP(WAIT, ENGINE_WAIT)
    STOP(YIELD, ENGINE_YIELD)

do_RAISE:
    env->exc = (struct env_exception){.pending = true, .cause = (uint32_t)K, .value = A};
fault:
    return block ? stop_at(env, block, pc) : ENGINE_EXCEPTION;
do_DONE:
    return ENGINE_NEXT;
}

const void *const *interp_handlers(void)
{
    const void *const *handlers = NULL;

    run(NULL, NULL, NULL, &handlers);
    return handlers;
}

enum engine_stop interp_run(struct env *env, struct block *block)
{
    return run(env, block, NULL, NULL);
}

enum engine_stop interp_step(struct env *env, const struct cell *cells)
{
    return run(env, NULL, cells, NULL);
}
