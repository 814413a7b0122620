/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The method "translation" on x86-64 hosts: the quick tier as a backend. */
#include "engine/x86_64/t0.h"

#include <errno.h>
#include <stdlib.h>
#include <xmmintrin.h>
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

#include "base/bits.h"
#include "engine/softfloat.h"

enum {
    THUNK_ROOM = 4096,
    MXCSR_FLAGS = 0x3f,
};

/* The registers that hold guest registers, best first: those without a REX prefix, then those that C
 * preserves. */
static const uint8_t pinned[T0_PINNED] = {
    HOST_RBX, HOST_RBP, HOST_RSI, HOST_RDI, HOST_R12, HOST_R13,
    HOST_R15, HOST_R8,  HOST_R9,  HOST_R10, HOST_R11,
};

/* --- which guest register lives where --- */

static void assign(struct t0 *t0, const struct ir_target *target)
{
    for (unsigned i = 0; i < ENV_REGS; i++)
        t0->pin[i] = T0_NO_PIN;
    for (unsigned i = 0; i < target->nregs; i++)
        if (target->regs[i].type == IR_F32 || target->regs[i].type == IR_F64)
            t0->is_fp[target->regs[i].offset / 8 - T0_FIRST_CELL] = true;
    unsigned next = 0, most = t0->tuning & ENGINE_NO_PINS ? 0 : T0_PINNED;
    for (unsigned priority = 1; priority < UINT8_MAX && next < most; priority++)
        for (unsigned i = 0; i < target->nregs && next < most; i++)
            if (target->regs[i].pin == priority)
                t0->pin[target->regs[i].offset / 8 - T0_FIRST_CELL] = pinned[next++];
    t0->target = target;
}

/* --- MXCSR and the guest's flags --- */

/*
 * Looking at MXCSR takes longer than most helpers, and most code computes nothing. So the first block of a
 * run that does sets env.fp_used and MXCSR's default (translate.c); until then MXCSR holds nothing of the
 * guest's.
 */

/* Moves the exception flags that host instructions have raised into env. */
static void fold_flags(struct env *env)
{
    unsigned csr = env->fp_used ? _mm_getcsr() : 0;
    if (!(csr & MXCSR_FLAGS))
        return;
    /* MXCSR: invalid, denormal operand, division by zero, overflow, underflow, inexact (SDM volume
     * 1, 10.2.3.1) */
    env->fp_flags |= (uint8_t)((csr & 1 ? SF_NV : 0) | (csr & 4 ? SF_DZ : 0) | (csr & 8 ? SF_OF : 0) |
                               (csr & 16 ? SF_UF : 0) | (csr & 32 ? SF_NX : 0));
    _mm_setcsr(T0_MXCSR_DEFAULT);
}

/* What C code has computed for itself leaves traces in MXCSR that are none of the guest's. */
static void drop_flags(const struct env *env, unsigned csr)
{
    if (env->fp_used && _mm_getcsr() != csr)
        _mm_setcsr(csr);
}

uint64_t t0_call_folded(struct env *env, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, ir_helper_fn *fn)
{
    fold_flags(env);
    uint64_t result = fn(env, a0, a1, a2, a3);
    drop_flags(env, T0_MXCSR_DEFAULT);
    return result;
}

/* One vCPU's thread writes the cells, another comes to them through translated code, whose jumps
 * ThreadSanitizer does not see: they are what orders the two, so it is told. */
#ifdef __SANITIZE_THREAD__
static void publish_steps(struct cell *steps, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        __tsan_release(&steps[i]);
}
#define RECEIVE_STEPS(cells) __tsan_acquire((void *)(uintptr_t)(cells))
#else
#define publish_steps(steps, n) ((void)0)
#define RECEIVE_STEPS(cells) ((void)0)
#endif

int t0_step_in_c(struct env *env, const struct cell *cells)
{
    RECEIVE_STEPS(cells);
    fold_flags(env);
    int fault = interp_step(env, cells) == ENGINE_EXCEPTION;
    drop_flags(env, T0_MXCSR_DEFAULT);
    return fault;
}

int t0_load_in_c(struct env *env, uint64_t va, uint32_t mem, uint64_t *value)
{
    unsigned csr = env->fp_used ? _mm_getcsr() : 0;
    int fault = interp_load(env, va, mem, value);
    drop_flags(env, csr);
    return fault;
}

int t0_store_in_c(struct env *env, uint64_t va, uint32_t mem, uint64_t value)
{
    unsigned csr = env->fp_used ? _mm_getcsr() : 0;
    int fault = interp_store(env, va, mem, value);
    drop_flags(env, csr);
    return fault;
}

/* --- the backend's operations --- */

static const void *const *op_numbers(void)
{
    static const void *numbers[CELL_COUNT];
    for (uintptr_t i = 0; i < CELL_COUNT; i++)
        numbers[i] = (const void *)i;
    return numbers;
}

static void t0_fini(void *state)
{
    struct t0 *t0 = state;
    codemem_fini(&t0->mem);
    prepare_free(t0->prepare);
    free(t0->translation);
    free(t0);
}

static void *t0_init(size_t limit)
{
    struct t0 *t0 = calloc(1, sizeof(*t0));
    if (!t0)
        return NULL;
    t0->have = host_features_get();
    t0->prepare = prepare_new(false, op_numbers());
    t0->translation = calloc(1, sizeof(*t0->translation));
    int error = t0->prepare && t0->translation ? codemem_init(&t0->mem, limit, THUNK_ROOM) : -ENOMEM;
    if (!error)
        return t0;
    t0_fini(t0);
    errno = -error;
    return NULL;
}

static void t0_tune(void *state, unsigned tuning)
{
    static const struct host_features none;
    struct t0 *t0 = state;
    t0->tuning = tuning;
    t0->have = tuning & ENGINE_NO_EXTENSIONS ? &none : host_features_get();
}

/* Translates the view into what is free of the current arena. 0 or -E2BIG. */
static int translate(struct t0 *t0, const struct ir_block *ir, const struct prepared_view *view,
                     struct block *block, struct cell *steps)
{
    struct t0_translation *t = t0->translation;
    size_t room;
    uint8_t *rw = codemem_begin(&t0->mem, &room);
    t->t0 = t0;
    t->block = block;
    t->ir = ir;
    t->cells = view->cells;
    t->marks = view->marks;
    t->n_cells = view->n_cells;
    t->n_marks = view->n_marks;
    t->at_mark = t->n_steps = t->n_slow = 0;
    t->steps = steps;
    block->loop = 0;
    emit_init(&t->e, rw, room, (uintptr_t)rw + (uint64_t)t0->mem.rx_delta, t0->have->avx);
    return t0_translate(t);
}

static int t0_compile(void *state, const struct ir_block *ir, struct block *block)
{
    struct t0 *t0 = state;
    struct t0_translation *t = t0->translation;
    if (!t0->target) {
        assign(t0, ir->target);
        if (!t0_emit_thunks(t0, THUNK_ROOM))
            return -ENOMEM;
    }
    struct prepared_view view;
    int rc = prepare_cells(t0->prepare, ir, &view);
    if (rc)
        return rc;
    struct cell *steps = malloc(2 * view.n_cells * sizeof(*steps));
    if (!steps)
        return -ENOSPC; /* without host memory, giving up old blocks is what helps */
    while ((rc = translate(t0, ir, &view, block, steps)) == -E2BIG)
        if ((rc = arenas_next(&t0->mem.arenas)))
            break;
    if (rc) {
        free(steps);
        return rc;
    }
    size_t bytes = (size_t)(t->e.at - t->e.start);
    if (!t->n_steps) {
        free(steps);
        steps = NULL;
    }
    publish_steps(steps, t->n_steps);
    block->code = steps;
    block->arena = (uint8_t)codemem_commit(&t0->mem, bytes);
    block->entry = (uintptr_t)t->begin + (uint64_t)t0->mem.rx_delta;
    return 0;
}

static void t0_release(void *state, struct block *block)
{
    struct t0 *t0 = state;
    if (!block->entry)
        return;
    arenas_give(&t0->mem.arenas, block->arena);
    free(block->code);
    block->code = NULL;
    block->entry = 0;
}

static unsigned t0_oldest(const void *state)
{
    const struct t0 *t0 = state;
    return arenas_oldest(&t0->mem.arenas);
}

static size_t t0_used(void *state)
{
    struct t0 *t0 = state;
    return codemem_used(&t0->mem);
}

static void t0_view(void *state, const struct block *block, struct block_view *out)
{
    struct t0 *t0 = state;
    const struct t0_translation *t = t0->translation;
    uint8_t *code = (uint8_t *)(uintptr_t)(block->entry - (uint64_t)t0->mem.rx_delta);
    *out = (struct block_view){
        .cells = t->cells,
        .marks = t->marks,
        .handlers = op_numbers(),
        .n_cells = t->n_cells,
        .n_marks = t->n_marks,
        .code = code,
        .address = block->entry,
        .bytes = (uint32_t)(t->e.at - code),
        .body = t->out_of_line,
        .starts = t->start,
        .env_register = "r14",
        .env_bias = T0_BIAS,
    };
#define PLACE(what) out->places[out->n_places++] = (struct block_place){#what, t0->thunks.what}
    PLACE(unlinked), PLACE(lost), PLACE(other_salt), PLACE(poll), PLACE(fault), PLACE(call_folded),
        PLACE(stop), PLACE(load), PLACE(store), PLACE(step);
#undef PLACE
}

static unsigned t0_stepped(void *state, struct backend_count *out, unsigned n)
{
    const struct t0 *t0 = state;
    unsigned found = 0;
    for (unsigned op = 0; op < CELL_COUNT; op++) {
        if (!t0->stepped[op])
            continue;
        unsigned at = found < n ? found++ : n;
        for (; at > 0 && out[at - 1].n < t0->stepped[op]; at--)
            if (at < n)
                out[at] = out[at - 1];
        if (at < n)
            out[at] = (struct backend_count){.name = cell_op_name(op), .n = t0->stepped[op]};
    }
    return found;
}

/* A jump that goes forward in the guest needs no poll: every loop has one that does not. */
static void t0_link(void *state, struct block_exit *exit)
{
    struct t0 *t0 = state;
    const struct block *to = atomic_load(&exit->to);
    const struct block *from = block_exit_from(exit);
    if (!exit->site || t0->tuning & ENGINE_NO_LINKS)
        return;
    bool forward = exit->target > from->pc && !(t0->tuning & (ENGINE_NO_FORWARD | ENGINE_COUNTED));
    uint64_t place = to->entry + (forward ? to->forward : 0);
    if (to == from && to->loop && exit->index == to->loop_exit)
        place = to->entry + to->loop;
    emit_patch(t0->mem.rw + exit->site, t0->mem.rx_delta, place);
}

/* Behind each linkable jump stands the way to the dispatcher. */
static void t0_unlink(void *state, struct block_exit *exit)
{
    struct t0 *t0 = state;
    uint8_t *site = t0->mem.rw + exit->site;
    if (exit->site)
        emit_patch(site, t0->mem.rx_delta, (uintptr_t)site + 4 + (uint64_t)t0->mem.rx_delta);
}

typedef enum engine_stop enter_fn(struct env *env, const void *code);

static enum engine_stop t0_run(void *state, struct env *env, struct block *block)
{
    struct t0 *t0 = state;
    enter_fn *enter = (enter_fn *)(uintptr_t)t0->thunks.enter;
    env->fp_used = 0;
    enum engine_stop stop = enter(env, (const void *)(uintptr_t)block->entry);
    fold_flags(env);
    if (stop == ENGINE_EXCEPTION) {
        const struct t0_site *site =
            (const struct t0_site *)(const void *)(t0->mem.rw + (uint32_t)env->temp[0]);
        const struct t0_sites *sites =
            (const struct t0_sites *)(const void *)((const char *)(site - site->done) -
                                                    offsetof(struct t0_sites, site));
        env->pc = sites->pc + (uint64_t)(int64_t)site->offset;
        env->icount += site->done;
    }
    return stop;
}

const struct backend backend_t0 = {
    .name = "translation",
    .help = "quick translator for x86-64 hosts",
    .init = t0_init,
    .fini = t0_fini,
    .tune = t0_tune,
    .compile = t0_compile,
    .oldest = t0_oldest,
    .release = t0_release,
    .link = t0_link,
    .unlink = t0_unlink,
    .used = t0_used,
    .view = t0_view,
    .stepped = t0_stepped,
    .run = t0_run,
};
