/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Lockstep: a block run by the interpreter on a copy of the vCPU, then by the method itself, and compared. */
/*
 * Theory of operation
 *
 * Every so manieth block is lifted anew and compiled twice, for the interpreter and for the method's backend,
 * so that what is compared is one block and not what it is linked to. The interpreter goes first, on a
 * *shadow*: a copy of the CPU structure whose TLB is empty, so that each access comes to the operations
 * below. They read guest memory and write to a *journal*, which later reads of the block see. Then the
 * backend runs the block on the vCPU itself; registers, the rest of the CPU structure, the way it stopped,
 * and memory where the journal wrote must be equal.
 *
 * What would happen twice is not compared: blocks that call helpers (which flush, set timers, look at the
 * clock) are passed over, and the shadow's run is given up when it comes to a device or to memory that is
 * protected in parts. Other vCPUs would change memory between the two runs, so there must be one only; a
 * device that does is found out by looking again at what the shadow has read.
 *
 * A difference is reported with the guest's code, the IR and both states, and ends the process: nothing
 * behind it means anything.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/software/software.h"
#include "base/bits.h"
#include "base/error.h"

enum { MOST_WRITES = 256, MOST_READS = 1024 };

struct check_write {
    _Alignas(16) uint8_t bytes[16]; /* an atomic operation works here */
    uint8_t *host;
    unsigned size;
};

/* A byte as the shadow found it. */
struct check_read {
    const uint8_t *host;
    uint8_t value;
};

struct check {
    struct soft *soft;
    unsigned interval, left;
    uint64_t count;
    struct env *shadow;
    size_t cpu_size;
    bool abandoned;
    unsigned n_writes, n_reads;
    struct check_write write[MOST_WRITES];
    struct check_read read[MOST_READS];
};

/* --- memory as the shadow sees it --- */

static struct check *check_of(const struct env *shadow)
{
    return soft_of(shadow)->soft->check;
}

/* Fails the shadow's access without a meaning. */
static int abandon(struct check *c)
{
    c->abandoned = true;
    c->shadow->exc.pending = true;
    return 1;
}

/* The host's address of va, in RAM; NULL with the shadow's exception, or abandoned. */
static uint8_t *resolve(struct check *c, uint64_t va, enum isa_access access, unsigned mmu)
{
    struct soft_vcpu *s = soft_of(c->shadow);
    struct isa_walk walk;
    if (tlb_translate(s, GVA(va), access, mmu, &walk)) {
        c->shadow->exc = s->env->exc;
        s->env->exc = (struct env_exception){0};
        return NULL;
    }
    const struct mem_block *b = mem_find(c->soft->set->config.mem, walk.gpa);
    if (!b || walk.size < ENV_PAGE_SIZE || mem_is_chip(b, access == ISA_STORE)) {
        abandon(c);
        return NULL;
    }
    return b->host + (walk.gpa.v - b->base.v);
}

static bool covers(const struct check_write *w, const uint8_t *host)
{
    return host >= w->host && host < w->host + w->size;
}

static uint8_t journaled(const struct check *c, const uint8_t *host)
{
    for (unsigned i = c->n_writes; i-- > 0;)
        if (covers(&c->write[i], host))
            return c->write[i].bytes[host - c->write[i].host];
    return __atomic_load_n(host, __ATOMIC_RELAXED);
}

/* An access, in up to two pages: where each part begins and how long the first is. */
struct span {
    uint8_t *host[2];
    unsigned first, size;
};

static int find_span(struct check *c, uint64_t va, uint32_t mem, enum isa_access access, struct span *out)
{
    unsigned size = 1u << ir_mem_log2(mem), room = (unsigned)(ENV_PAGE_SIZE - (va & ~ENV_PAGE_MASK));
    if (mem & IR_MEM_BIG)
        return abandon(c);
    if (mem & IR_MEM_ALIGNED && va & (size - 1)) {
        c->soft->set->config.isa->misaligned(c->shadow, GVA(va), access);
        return 1;
    }
    *out = (struct span){.first = MIN(size, room), .size = size};
    out->host[0] = resolve(c, va, access, ir_mem_mmu(mem));
    if (out->host[0] && size > room)
        out->host[1] = resolve(c, va + room, access, ir_mem_mmu(mem));
    return !out->host[0] || (size > room && !out->host[1]);
}

static uint8_t *byte_of(const struct span *span, unsigned i)
{
    return i < span->first ? span->host[0] + i : span->host[1] + (i - span->first);
}

static int shadow_load(struct env *env, uint64_t va, uint32_t mem, uint64_t value[2])
{
    struct check *c = check_of(env);
    struct span span;
    if (find_span(c, va, mem, ISA_LOAD, &span))
        return 1;
    if (c->n_reads + span.size > MOST_READS)
        return abandon(c);
    value[0] = value[1] = 0;
    for (unsigned i = 0; i < span.size; i++) {
        const uint8_t *host = byte_of(&span, i);
        uint8_t byte = journaled(c, host);
        c->read[c->n_reads++] = (struct check_read){.host = host, .value = byte};
        value[i / 8] |= (uint64_t)byte << 8 * (i % 8);
    }
    return 0;
}

/* A new entry of the journal, with what is there now; NULL when there are too many. */
static struct check_write *write_to(struct check *c, uint8_t *host, unsigned size)
{
    if (c->n_writes == MOST_WRITES) {
        abandon(c);
        return NULL;
    }
    struct check_write *w = &c->write[c->n_writes];
    for (unsigned i = 0; i < size; i++)
        w->bytes[i] = journaled(c, host + i);
    w->host = host;
    w->size = size;
    c->n_writes++;
    return w;
}

static int shadow_store(struct env *env, uint64_t va, uint32_t mem, const uint64_t value[2])
{
    struct check *c = check_of(env);
    struct span span;
    if (find_span(c, va, mem, ISA_STORE, &span))
        return 1;
    for (unsigned part = 0, at = 0; at < span.size; part++) {
        unsigned size = part ? span.size - span.first : span.first;
        struct check_write *w = write_to(c, span.host[part], size);
        if (!w)
            return 1;
        for (unsigned i = 0; i < size; i++, at++)
            w->bytes[i] = (uint8_t)(value[at / 8] >> 8 * (at % 8));
    }
    return 0;
}

static int shadow_atomic(struct env *env, uint64_t va, uint32_t mem, void **host)
{
    struct check *c = check_of(env);
    unsigned size = 1u << ir_mem_log2(mem);
    if (va & (size - 1)) {
        c->soft->set->config.isa->misaligned(env, GVA(va), ISA_STORE);
        return 1;
    }
    uint8_t *at = resolve(c, va, ISA_STORE, ir_mem_mmu(mem));
    struct check_write *w = at ? write_to(c, at, size) : NULL;
    *host = w ? w->bytes : NULL;
    return !w;
}

static void shadow_misaligned(struct env *env, uint64_t va, bool store)
{
    soft_of(env)->isa->misaligned(env, GVA(va), store ? ISA_STORE : ISA_LOAD);
}

static const struct env_ops shadow_ops = {
    .load = shadow_load,
    .store = shadow_store,
    .atomic = shadow_atomic,
    .misaligned = shadow_misaligned,
};

/* --- comparing --- */

struct outcome {
    const struct env *env;
    enum engine_stop stop;
};

static bool same_exception(const struct env_exception *x, const struct env_exception *y)
{
    return x->pending == y->pending && (!x->pending || (x->cause == y->cause && x->value == y->value));
}

static bool same_head(const struct env *x, const struct env *y)
{
    return !memcmp(x->reg, y->reg, sizeof(x->reg)) && x->pc == y->pc && x->icount == y->icount &&
           x->mode == y->mode && x->fp_flags == y->fp_flags && x->excl_addr == y->excl_addr &&
           x->excl_value == y->excl_value && same_exception(&x->exc, &y->exc);
}

/* The first byte behind the head that differs; cpu_size: none. */
static size_t different_tail(const struct check *c, const struct env *x, const struct env *y)
{
    size_t at = sizeof(struct env);
    while (at < c->cpu_size && ((const uint8_t *)x)[at] == ((const uint8_t *)y)[at])
        at++;
    return at;
}

/* The first byte of memory that is not what the journal says; NULL: none. */
static const uint8_t *different_memory(const struct check *c)
{
    for (unsigned i = 0; i < c->n_writes; i++)
        for (unsigned k = 0; k < c->write[i].size; k++) {
            const uint8_t *host = c->write[i].host + k;
            if (journaled(c, host) != __atomic_load_n(host, __ATOMIC_RELAXED))
                return host;
        }
    return NULL;
}

/* Has a device written to what the block read, so that a difference means nothing? */
static bool memory_moved(const struct check *c)
{
    for (unsigned i = 0; i < c->n_reads; i++) {
        const struct check_read *r = &c->read[i];
        bool written = false;
        for (unsigned k = 0; k < c->n_writes; k++)
            written |= covers(&c->write[k], r->host);
        if (!written && __atomic_load_n(r->host, __ATOMIC_RELAXED) != r->value)
            return true;
    }
    return false;
}

static void print_state(const char *who, const struct outcome *o)
{
    const struct env *e = o->env;
    fprintf(stderr, "%s: stop %d pc %" PRIx64 " icount %" PRIu64 " mode %x fp flags %x reservation %" PRIx64,
            who, (int)o->stop, e->pc, e->icount, e->mode, e->fp_flags, e->excl_addr);
    fprintf(stderr, " exception %d %u %" PRIx64 "\n", e->exc.pending, e->exc.cause, e->exc.value);
}

static void print_code(const struct soft_vcpu *s, const struct block *b)
{
    uint8_t bytes[ENV_PAGE_SIZE];
    unsigned avail = MIN(b->bytes, sizeof(bytes)), n;
    if (mem_read(s->vcpu->set->config.mem, GPA(b->gpa), bytes, avail))
        return;
    for (unsigned at = 0; at < avail; at += n) {
        char text[128] = "(cut off)";
        n = s->isa->disassemble(b->pc + at, bytes + at, avail - at, text, sizeof(text));
        fprintf(stderr, "%16" PRIx64 "  %s\n", b->pc + at, text);
        if (!n)
            break;
    }
}

static void print_registers(const uint64_t *before, const struct outcome run[2])
{
    for (unsigned i = 0; i < ENV_REGS; i++) {
        uint64_t x = run[0].env->reg[i], y = run[1].env->reg[i];
        if (before[i] || x || y)
            fprintf(stderr, "cell %2u: before %16" PRIx64 "  %16" PRIx64 "  %16" PRIx64 "%s\n", i, before[i],
                    x, y, x != y ? "  <-" : "");
    }
}

/* Says all that helps to find the reason. before: registers at the block's beginning. */
static G_GNUC_NORETURN void report(const struct check *c, const struct soft_vcpu *s, const struct block *b,
                                   const uint64_t *before, const struct outcome run[2])
{
    const struct soft *soft = c->soft;
    fprintf(stderr,
            "lockstep: %s and %s differ behind the block at %" PRIx64 ", after %" PRIu64 " equal ones\n",
            soft->reference->name, soft->backend->name, b->pc, c->count);
    print_code(s, b);
    g_autofree char *ir = ir_print(soft->ir);
    fputs(ir, stderr);
    print_state(soft->reference->name, &run[0]);
    print_state(soft->backend->name, &run[1]);
    print_registers(before, run);
    size_t tail = different_tail(c, run[0].env, run[1].env);
    if (tail < c->cpu_size)
        fprintf(stderr, "the CPU structure at offset %zu\n", tail);
    const uint8_t *memory = different_memory(c);
    if (memory)
        fprintf(stderr, "memory at host address %p: %02x, %02x\n", (const void *)memory, journaled(c, memory),
                *memory);
    abort();
}

/* --- the two runs --- */

static bool calls_helpers(const struct ir_block *ir)
{
    for (uint32_t i = 0; i < ir->n; i++)
        if (ir->insn[i].op == IR_CALL)
            return true;
    return false;
}

/* The interpreter on the shadow. False when it was given up. */
static bool run_shadow(struct check *c, struct soft_vcpu *s, struct block *b, enum engine_stop *stop)
{
    const struct env *env = s->env;
    struct env *shadow = c->shadow;
    memcpy(shadow, env, offsetof(struct env, temp));
    memcpy(shadow + 1, env + 1, c->cpu_size - sizeof(*env));
    shadow->ops = &shadow_ops;
    atomic_store(&shadow->exit_request, 0);
    c->abandoned = false;
    c->n_writes = c->n_reads = 0;
    *stop = alone_enter(s, shadow, c->soft->reference, c->soft->reference_state, b);
    return !c->abandoned;
}

/* A backend may try the look-up itself before it asks for it. */
static enum engine_stop plain(enum engine_stop stop)
{
    return stop == ENGINE_LOOKUP ? ENGINE_NEXT : stop;
}

/* b: for the interpreter, for the backend. */
static enum engine_stop run_both(struct check *c, struct soft_vcpu *s, struct block *original,
                                 struct block *const b[2])
{
    struct soft *soft = c->soft;
    struct outcome run[2] = {{.env = c->shadow}, {.env = s->env}};
    uint64_t before[ENV_REGS], served = atomic_load(&s->requests.served);
    memcpy(before, s->env->reg, sizeof(before));
    if (!run_shadow(c, s, b[0], &run[0].stop))
        return soft->backend->run(soft->backend_state, s->env, original);
    if (atomic_load(&s->requests.served) != served)
        return ENGINE_POLL; /* what was found may not hold any more */
    run[1].stop = alone_enter(s, s->env, soft->backend, soft->backend_state, b[1]);
    if (run[1].stop == ENGINE_POLL)
        return ENGINE_POLL; /* asked to leave before the block's beginning */
    if (plain(run[0].stop) == plain(run[1].stop) && same_head(c->shadow, s->env) &&
        different_tail(c, c->shadow, s->env) == c->cpu_size && !different_memory(c))
        c->count++;
    else if (!memory_moved(c))
        report(c, s, b[1], before, run);
    return run[1].stop;
}

/* Tells two blocks apart: devices may write to code, too. */
static uint32_t digest(const struct ir_block *ir)
{
    const uint8_t *bytes = (const uint8_t *)ir->insn, *konst = (const uint8_t *)ir->konst;
    uint32_t h = ir->n_guest;
    for (size_t i = 0; i < ir->n * sizeof(ir->insn[0]); i++)
        h = h * 31 + bytes[i];
    for (size_t i = 0; i < ir->n_consts * sizeof(ir->konst[0]); i++)
        h = h * 31 + konst[i];
    return h;
}

/* The block at the vCPU's pc for both backends. False when it is not to be compared. */
static bool make_both(struct check *c, struct soft_vcpu *s, uint32_t n_guest, struct block *b[2])
{
    struct soft *soft = c->soft;
    if (code_make_alone(s, n_guest, soft->reference, soft->reference_state, &b[0]) || calls_helpers(soft->ir))
        return false;
    uint32_t first = digest(soft->ir);
    return !code_make_alone(s, n_guest, soft->backend, soft->backend_state, &b[1]) &&
           digest(soft->ir) == first;
}

enum engine_stop check_run(struct check *c, struct soft_vcpu *s, struct block *original)
{
    struct soft *soft = c->soft;
    struct block *b[2] = {NULL, NULL};
    enum engine_stop stop;
    if (--c->left)
        return soft->backend->run(soft->backend_state, s->env, original);
    c->left = c->interval;
    uint64_t served = atomic_load(&s->requests.served);
    soft_leave(s);
    bool made = make_both(c, s, original->n_guest, b);
    soft_enter(s);
    if (atomic_load(&s->requests.served) != served || s->env->exc.pending) {
        s->env->exc = (struct env_exception){0}; /* of a fetch that succeeded before; it is tried again */
        stop = ENGINE_POLL;
    } else if (made) {
        stop = run_both(c, s, original, b);
    } else {
        stop = soft->backend->run(soft->backend_state, s->env, original);
    }
    soft_leave(s);
    alone_free(soft, soft->reference, soft->reference_state, b[0]);
    alone_free(soft, soft->backend, soft->backend_state, b[1]);
    soft_enter(s);
    return stop;
}

/* --- life --- */

struct check *check_new(struct soft *soft, unsigned interval, GError **error)
{
    if (soft->set->count != 1) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "lockstep compares one vCPU, not %u", soft->set->count);
        return NULL;
    }
    struct check *c = g_new0(struct check, 1);
    c->soft = soft;
    c->interval = c->left = interval;
    c->cpu_size = soft->set->config.isa->cpu_size;
    c->shadow = g_malloc0(c->cpu_size);
    memset(c->shadow->tlb, 0xff, sizeof(c->shadow->tlb));
    return c;
}

void check_free(struct check *c)
{
    if (!c)
        return;
    g_free(c->shadow);
    g_free(c);
}

uint64_t check_count(const struct check *c)
{
    return c->count;
}
