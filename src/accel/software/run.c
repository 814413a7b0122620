/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The dispatcher: from one stop of running code to the next block; and the `emulation` and `translation`
 * methods. */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "accel/software/software.h"
#include "base/bits.h"
#include "base/error.h"

_Thread_local struct soft_vcpu *soft_current;

/* --- callbacks of cpu_host.h --- */

static void host_flush(struct env *env, const struct cpu_flush *what)
{
    tlb_flush(soft_of(env), what);
}

static void host_flush_remote(struct env *env, uint64_t vcpus, const struct cpu_flush *what)
{
    struct soft_vcpu *s = soft_of(env);
    struct request r = {.kind = REQUEST_FLUSH, .flush = *what};
    soft_broadcast(s->soft, s, vcpus, &r);
}

/* Firmware may wait for other vCPUs, so it is called from outside. */
static bool host_firmware_call(struct env *env, void *board)
{
    struct soft_vcpu *s = soft_of(env);
    bool was_inside = soft_leave(s);
    bool handled = s->vcpu->set->config.firmware_call(env, board);
    if (was_inside)
        soft_enter(s);
    return handled;
}

/* --- between blocks --- */

/* The vCPU holds no block here: notes the deaths so far, and serves requests, so that its jump cache holds no
 * dead ones either (deaths are counted after they were posted). */
static void between_blocks(struct soft_vcpu *s)
{
    uint64_t deaths = atomic_load(&s->soft->deaths);
    if (atomic_load_explicit(&s->seen, memory_order_relaxed) != deaths) {
        s->env->last_exit = NULL;
        atomic_store(&s->seen, deaths);
    }
    soft_serve(s);
}

/* Deals with exit_request. False when the vCPU's thread shall park. */
static bool attend(struct soft_vcpu *s)
{
    uint32_t why = atomic_exchange(&s->env->exit_request, 0);
    if (why & ENV_EXIT_FLUSH)
        between_blocks(s); /* whoever kicks for deaths has counted them, and does so once */
    if (why & ENV_EXIT_IRQ) {
        tlb_credit_slots(s);
        s->interrupts += s->isa->poll_interrupt(s->env);
    }
    return !(why & ENV_EXIT_STOP);
}

static struct block *jump_cache_find(const struct env *env)
{
    const struct env_jump *j = &env->jump[env_jump_index(env->pc)];
    return j->pc == env->pc && (j->salt == env->salt || j->salt == env->salt_global) ? j->block : NULL;
}

/* The block at pc, when the jump cache does not know it: looked up or made, entered there, and linked to the
 * exit that led here. NULL: an exception was taken, or what happened meanwhile must be looked at first. Steps
 * outside, since it locks. */
static struct block *find_block(struct soft_vcpu *s, struct block_exit *from)
{
    struct env *env = s->env;
    uint64_t seen = atomic_load(&s->seen), served = atomic_load(&s->requests.served);
    bool global;
    soft_leave(s);
    struct block *b = code_find(s, &global);
    bool fault = !b && env->exc.pending;
    if (atomic_load(&s->seen) != seen)
        from = NULL; /* making room freed the dead, perhaps the block it belongs to */
    if (b && from && !s->partial)
        code_link(s->soft, from, b);
    soft_enter(s);
    if (fault) {
        s->exceptions++;
        s->isa->take_exception(env);
        tlb_follow_space(s);
        return NULL;
    }
    if (!b || atomic_load(&s->requests.served) != served || atomic_load(&b->dead))
        return NULL; /* a mapping may have changed while others were waited for */
    tlb_remember_jump(s, b, global);
    return b;
}

static struct block *next_block(struct soft_vcpu *s)
{
    struct block_exit *from = s->partial ? NULL : s->env->last_exit;
    struct block *b = jump_cache_find(s->env);
    s->env->last_exit = NULL;
    if (!b)
        return find_block(s, from);
    if (!from)
        return b;
    uint64_t served = atomic_load(&s->requests.served);
    soft_leave(s);
    code_link(s->soft, from, b);
    soft_enter(s);
    return atomic_load(&s->requests.served) == served ? b : NULL; /* else a mapping may have changed */
}

/* From here on the vCPU may hold blocks; and no longer. */
static void come_in(struct soft_vcpu *s)
{
    atomic_store(&s->in_use, 1);
    soft_enter(s);
    between_blocks(s);
}

static void go_out(struct soft_vcpu *s)
{
    s->env->last_exit = NULL;
    soft_leave(s);
    atomic_store(&s->in_use, 0);
}

/* An interrupt that is pending, enabled and masked ends every wait at once. Firmware that waits for something
 * else in a loop (OpenSBI's secondary harts do, with an old software interrupt pending) would take the host's
 * CPUs from the vCPUs that have work. So after a row of waits in vain each further one takes a while, longer
 * each time. An interrupt that was not pending before, or a request, ends it early. */
static void vain_wait(struct soft_vcpu *s)
{
    enum { FREE = 16, FIRST_NS = 1 << 15, DOUBLINGS = 5 };
    if (s->vain_since != s->interrupts) {
        s->vain_since = s->interrupts;
        s->vain_waits = 0;
    }
    if (s->vain_waits < FREE) {
        s->vain_waits++;
        return;
    }
    vcpu_pause(s->vcpu, (uint64_t)FIRST_NS << (s->vain_waits - FREE));
    if (s->vain_waits < FREE + DOUBLINGS)
        s->vain_waits++;
}

static void wait_for_interrupt(struct soft_vcpu *s)
{
    go_out(s);
    if (s->isa->wakes(s->env)) {
        vain_wait(s);
    } else {
        vcpu_wait(s->vcpu);
        s->vain_waits = 0;
    }
    come_in(s);
}

/* Reacts to why running code came back. What makes an interrupt takeable sets ENV_EXIT_IRQ, so there is no
 * need to look for one here. */
static void on_stop(struct soft_vcpu *s, enum engine_stop stop)
{
    struct env *env = s->env;
    s->stops[stop]++;
    switch (stop) {
    case ENGINE_NEXT: s->jump_misses += !env->last_exit; return;
    case ENGINE_POLL: return;
    case ENGINE_EXCEPTION:
        s->exceptions++;
        s->isa->take_exception(env);
        break;
    case ENGINE_LOOKUP: break;
    case ENGINE_WAIT: wait_for_interrupt(s); break;
    case ENGINE_STOPS: break; /* no stop but their number */
    case ENGINE_YIELD:
        soft_leave(s);
        sched_yield();
        soft_enter(s);
        break;
    }
    tlb_follow_space(s);
}

static enum engine_stop run(struct soft_vcpu *s, struct block *b)
{
    const struct soft *soft = s->soft;
    return soft->unusual ? alone_run(s, b) : soft->backend->run(soft->backend_state, s->env, b);
}

void soft_run(struct vcpu *v)
{
    struct soft_vcpu *s = v->method;
    soft_current = s;
    come_in(s);
    tlb_follow_space(s);
    for (;;) {
        between_blocks(s);
        code_collect(s);
        if (atomic_load_explicit(&s->env->exit_request, memory_order_relaxed)) {
            s->env->last_exit = NULL;
            if (!attend(s))
                break;
            tlb_follow_space(s);
        }
        struct block *b = next_block(s);
        if (b)
            on_stop(s, run(s, b));
    }
    go_out(s);
}

/* --- the method's row --- */

static bool init_vcpu(struct soft *soft, unsigned i)
{
    struct vcpu *v = &soft->set->vcpu[i];
    struct soft_vcpu *s = &soft->cpu[i];
    s->vcpu = v;
    s->env = v->env;
    s->isa = soft->set->config.isa;
    s->soft = soft;
    atomic_store(&s->outside, 1);
    g_mutex_init(&s->requests.lock);
    v->method = s;
    v->env->ops = &softmmu_ops;
    tlb_init(s);
    return true;
}

static bool soft_init(struct vcpus *set, const struct backend *backend, GError **error)
{
    struct soft *soft = g_new0(struct soft, 1);
    soft->set = set;
    soft->backend = backend;
    set->method = soft;
    /* Mapped, not allocated: the L3s of vCPUs that never run cost nothing. */
    soft->cpu = mmap(NULL, set->count * sizeof(soft->cpu[0]), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (soft->cpu == MAP_FAILED) {
        soft->cpu = NULL;
        return hostel_fail(error, HOSTEL_ERROR_HOST, "no host memory for the vCPUs' tables: %s",
                           g_strerror(errno));
    }
    set->host_ops.flush = host_flush;
    set->host_ops.flush_remote = host_flush_remote;
    if (set->config.firmware_call)
        set->host_ops.firmware_call = host_firmware_call;
    for (unsigned i = 0; i < set->count; i++)
        init_vcpu(soft, i);
    return code_init(soft, error) && alone_init(soft, error);
}

static void soft_fini(struct vcpus *set)
{
    struct soft *soft = set->method;
    if (soft->cpu) {
        alone_fini(soft);
        code_fini(soft);
        for (unsigned i = 0; i < set->count; i++)
            g_mutex_clear(&soft->cpu[i].requests.lock);
        munmap(soft->cpu, set->count * sizeof(soft->cpu[0]));
    }
    g_free(soft);
}

static void soft_flush_all(struct vcpus *set)
{
    struct soft *soft = set->method;
    code_flush_all(soft);
    for (unsigned i = 0; i < set->count; i++) {
        soft_serve(&soft->cpu[i]);
        tlb_init(&soft->cpu[i]);
    }
}

static void soft_stats(struct vcpus *set, struct vcpus_stats *out)
{
    struct soft *soft = set->method;
    for (unsigned i = 0; i < set->count; i++) {
        const struct soft_vcpu *s = &soft->cpu[i];
        out->tlb_misses += s->tlb_misses;
        out->walks += s->walks;
        out->flushes += s->flushes;
        out->device_accesses += s->device_accesses;
        out->lookups += s->lookups;
        out->jump_misses += s->jump_misses;
        for (unsigned k = 0; k < ENGINE_STOPS; k++)
            out->stops[k] += s->stops[k];
        out->exceptions += s->exceptions;
        out->interrupts += s->interrupts;
    }
    g_mutex_lock(&soft->code_lock);
    out->blocks_made = soft->blocks_made;
    out->blocks_freed = soft->blocks_freed;
    out->links = soft->links;
    for (unsigned why = 0; why < VCPUS_DROPS; why++) {
        out->invalidated[why] = soft->invalidated[why];
        out->invalidations += soft->invalidated[why];
    }
    out->evictions = soft->evictions;
    out->code_bytes = soft->backend->used(soft->backend_state);
    if (soft->backend->stepped)
        out->n_stepped = soft->backend->stepped(soft->backend_state, out->stepped, VCPUS_STEPPED);
    g_mutex_unlock(&soft->code_lock);
    out->checked = soft->check ? check_count(soft->check) : 0;
}

/* The backend of a method, NULL when this host has none. */
static const struct backend *find_backend(const char *method)
{
    for (const struct backend *const *b = backends; *b; b++)
        if (!strcmp((*b)->name, method))
            return *b;
    return NULL;
}

static bool backend_available(const char *method, GError **error)
{
    return find_backend(method) ||
           hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                       "this host's processor has no method \"%s\"; use --method emulation", method);
}

static bool backend_init(struct vcpus *set, GError **error)
{
    return soft_init(set, find_backend(set->accel->name), error);
}

static bool translation_available(GError **error)
{
    return backend_available("translation", error);
}

static bool emulation_available(GError **error)
{
    return backend_available("emulation", error);
}

#define SOFTWARE_METHOD(id, text, what)                                                                      \
    const struct accel accel_##id = {                                                                        \
        .name = text,                                                                                        \
        .help = what,                                                                                        \
        .available = id##_available,                                                                         \
        .init = backend_init,                                                                                \
        .fini = soft_fini,                                                                                   \
        .run = soft_run,                                                                                     \
        .flush_all = soft_flush_all,                                                                         \
        .stats = soft_stats,                                                                                 \
    }

SOFTWARE_METHOD(translation, "translation", "translate guest code to host code (x86-64 hosts)");
SOFTWARE_METHOD(emulation, "emulation", "interpret the intermediate representation (any host)");
