/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The threads of a guest's vCPUs: start, park, kick, wait, online and offline (vcpu.h has the theory). */
#include "accel/vcpu.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

enum { SPIN_MAX_NS = 40 * 1000, SPIN_STEP_NS = 10 * 1000, CPU_ALIGN = 4096 };

#define ACCEL(name) extern const struct accel accel_##name;
#include "accel/accels.def"
#undef ACCEL

const struct accel *const accels[] = {
#define ACCEL(name) &accel_##name,
#include "accel/accels.def"
#undef ACCEL
    NULL};

const struct accel *accel_find(const char *name)
{
    for (const struct accel *const *a = accels; *a; a++)
        if (!strcmp((*a)->name, name))
            return *a;
    return NULL;
}

/* --- kicking and waiting --- */

void vcpu_kick(struct vcpu *v, enum env_exit why)
{
    env_kick(v->env, why);
    if (atomic_load(&v->sleeping))
        syscall(SYS_futex, &v->env->exit_request, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Tells the host CPU that this is a spin-wait. */
static void cpu_relax(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint64_t guest_now(const struct vcpu *v)
{
    return clock_now(v->set->config.clock);
}

/* One sleep on exit_request; returns at a kick, at the deadline, or for no reason. */
static void sleep_on_request(struct vcpu *v, uint64_t now, uint64_t deadline)
{
    struct timespec timeout, *limit = NULL;
    if (deadline != CLOCK_NEVER) {
        uint64_t left = deadline > now ? deadline - now : 0;
        timeout.tv_sec = (time_t)MIN(left / 1000000000, (uint64_t)INT32_MAX);
        timeout.tv_nsec = (long)(left % 1000000000);
        limit = &timeout;
    }
    atomic_store(&v->sleeping, 1);
    syscall(SYS_futex, &v->env->exit_request, FUTEX_WAIT_PRIVATE, 0, limit, NULL, 0);
    atomic_store(&v->sleeping, 0);
}

void vcpu_wait(struct vcpu *v)
{
    uint64_t start = guest_now(v);
    bool slept = false;
    v->waits++;
    while (!atomic_load(&v->env->exit_request)) {
        uint64_t now = guest_now(v);
        if (now >= atomic_load(&v->deadline)) {
            atomic_store(&v->deadline, CLOCK_NEVER); /* once per arming */
            env_kick(v->env, ENV_EXIT_IRQ);
            break;
        }
        if (now - start >= v->spin_ns) {
            /* The sleep has the deadline itself: the main thread need not wake for it too. */
            if (!slept)
                clock_timer_set(v->timer, CLOCK_NEVER);
            sleep_on_request(v, now, atomic_load(&v->deadline));
            slept = true;
        } else {
            cpu_relax();
        }
    }
    if (slept)
        clock_timer_set(v->timer, atomic_load(&v->deadline));
    /* A sleep costs two switches and a cross-core wake, so it pays to spin when waits are short, and only
     * then. */
    uint64_t waited = guest_now(v) - start;
    if (!slept || waited < SPIN_MAX_NS)
        v->spin_ns = MIN(v->spin_ns + SPIN_STEP_NS, SPIN_MAX_NS);
    else
        v->spin_ns = 0;
}

void vcpu_pause(struct vcpu *v, uint64_t ns)
{
    uint64_t now = guest_now(v);
    uint64_t end = MIN(atomic_load(&v->deadline), now + ns);
    if (end > now)
        sleep_on_request(v, now, end); /* not at all when exit_request is set */
}

/* --- cpu_host callbacks that are the same for every method --- */

static uint64_t host_now(struct env *env)
{
    return guest_now(vcpu_of(env));
}

static void host_set_timer(struct env *env, uint64_t deadline)
{
    struct vcpu *v = vcpu_of(env);
    atomic_store(&v->deadline, deadline);
    clock_timer_set(v->timer, deadline);
}

static void host_kick(struct env *env)
{
    vcpu_kick(vcpu_of(env), ENV_EXIT_IRQ);
}

static void on_timer(void *opaque)
{
    vcpu_kick(opaque, ENV_EXIT_IRQ);
}

/* --- interrupt pins --- */

static void set_irq(void *sink, unsigned pin, bool level)
{
    struct vcpu *v = sink;
    uint64_t bit = BIT(pin);
    uint64_t old =
        level ? atomic_fetch_or(&v->env->irq_lines, bit) : atomic_fetch_and(&v->env->irq_lines, ~bit);
    if (log_on(LOG_IRQ))
        log_debug(LOG_IRQ, "vCPU %u: pin %u %s", v->index, pin, level ? "high" : "low");
    if (level && !(old & bit))
        vcpu_kick(v, ENV_EXIT_IRQ);
}

struct irq_line vcpus_irq(struct vcpus *set, unsigned i, unsigned pin)
{
    return (struct irq_line){.set = set_irq, .sink = &set->vcpu[i], .pin = pin};
}

/* --- threads --- */

static void *vcpu_thread(void *opaque)
{
    struct vcpu *v = opaque;
    struct vcpus *set = v->set;
    g_mutex_lock(&set->lock);
    v->thread_id = gettid();
    v->has_clock = !pthread_getcpuclockid(pthread_self(), &v->cpu_clock);
    for (;;) {
        v->parked = true;
        g_cond_broadcast(&set->changed);
        while (!set->quit && !(set->running && v->online))
            g_cond_wait(&set->changed, &set->lock);
        if (set->quit)
            break;
        v->parked = false;
        g_mutex_unlock(&set->lock);
        set->accel->run(v);
        g_mutex_lock(&set->lock);
    }
    g_mutex_unlock(&set->lock);
    return NULL;
}

/* Maps the CPU structure and fills what the accelerator's init looks at. */
static bool map_vcpu(struct vcpus *set, unsigned i, GError **error)
{
    struct vcpu *v = &set->vcpu[i];
    const struct isa *isa = set->config.isa;
    size_t size = align_up(isa->cpu_size, CPU_ALIGN);
    void *cpu = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (cpu == MAP_FAILED)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "no memory for vCPU %u: %s", i, g_strerror(errno));
    *v = (struct vcpu){.set = set, .env = cpu, .index = i, .online = i == 0, .deadline = CLOCK_NEVER};
    v->env->owner = v;
    v->env->target = isa->target;
    v->env->budget = UINT64_MAX;
    v->timer = clock_timer_new(set->config.clock, on_timer, v);
    return true;
}

/* Reset drops cached translations, so the accelerator is there before. */
static bool init_cpu(struct vcpus *set, unsigned i, GError **error)
{
    const struct isa *isa = set->config.isa;
    struct env *env = set->vcpu[i].env;
    struct isa_config config = set->config.cpu;
    config.index = i;
    config.vcpus = set->count;
    struct cpu_host host = {
        .ops = &set->host_ops, .mem = set->config.mem, .bus = set->config.bus, .board = set->config.board};
    if (!isa->init(env, &config, &host, error))
        return false;
    isa->reset(env);
    return true;
}

struct vcpus *vcpus_new(const struct accel *accel, const struct vcpus_config *config, GError **error)
{
    if (!accel->available(error))
        return NULL;
    AUTO(vcpus) set = g_new0(struct vcpus, 1);
    set->accel = accel;
    set->config = *config;
    set->vcpu = g_new0(struct vcpu, config->count);
    g_mutex_init(&set->lock);
    g_cond_init(&set->changed);
    set->host_ops = (struct cpu_host_ops){.now = host_now,
                                          .set_timer = host_set_timer,
                                          .kick = host_kick,
                                          .firmware_call = config->firmware_call};
    for (unsigned i = 0; i < config->count; i++) {
        set->count = i + 1;
        if (!map_vcpu(set, i, error))
            return NULL;
    }
    if (!accel->init(set, error))
        return NULL;
    for (unsigned i = 0; i < config->count; i++)
        if (!init_cpu(set, i, error))
            return NULL;
    for (unsigned i = 0; i < set->count; i++) {
        char name[16];
        g_snprintf(name, sizeof(name), "vcpu%u", i);
        set->vcpu[i].thread = g_thread_new(name, vcpu_thread, &set->vcpu[i]);
    }
    return STEAL(set);
}

void vcpus_free(struct vcpus *set)
{
    if (!set)
        return;
    g_mutex_lock(&set->lock);
    set->quit = true;
    g_cond_broadcast(&set->changed);
    g_mutex_unlock(&set->lock);
    for (unsigned i = 0; i < set->count; i++)
        if (set->vcpu[i].thread) {
            vcpu_kick(&set->vcpu[i], ENV_EXIT_STOP);
            g_thread_join(set->vcpu[i].thread);
        }
    if (set->method)
        set->accel->fini(set);
    for (unsigned i = 0; i < set->count; i++) {
        clock_timer_free(set->vcpu[i].timer);
        if (set->vcpu[i].env)
            munmap(set->vcpu[i].env, align_up(set->config.isa->cpu_size, CPU_ALIGN));
    }
    g_mutex_clear(&set->lock);
    g_cond_clear(&set->changed);
    g_free(set->vcpu);
    g_free(set);
}

unsigned vcpus_count(const struct vcpus *set)
{
    return set->count;
}

struct env *vcpus_env(struct vcpus *set, unsigned i)
{
    return set->vcpu[i].env;
}

unsigned vcpus_index(const struct env *env)
{
    return vcpu_of(env)->index;
}

void vcpus_resume(struct vcpus *set)
{
    g_mutex_lock(&set->lock);
    set->running = true;
    g_cond_broadcast(&set->changed);
    g_mutex_unlock(&set->lock);
}

void vcpus_pause(struct vcpus *set)
{
    g_mutex_lock(&set->lock);
    set->running = false;
    for (unsigned i = 0; i < set->count; i++)
        if (!set->vcpu[i].parked)
            vcpu_kick(&set->vcpu[i], ENV_EXIT_STOP);
    for (unsigned i = 0; i < set->count; i++)
        while (!set->vcpu[i].parked)
            g_cond_wait(&set->changed, &set->lock);
    g_mutex_unlock(&set->lock);
}

int vcpus_online(struct vcpus *set, unsigned i, void (*prepare)(struct env *env, void *opaque), void *opaque)
{
    struct vcpu *v = &set->vcpu[i];
    g_mutex_lock(&set->lock);
    /* Offline but still on its way to the wait: it gives up the processor soon, its callback has returned. */
    while (!v->online && !v->parked)
        g_cond_wait(&set->changed, &set->lock);
    int result = v->online ? -EALREADY : 0;
    if (!result) {
        if (prepare)
            prepare(v->env, opaque);
        v->online = true;
        g_cond_broadcast(&set->changed);
    }
    g_mutex_unlock(&set->lock);
    return result;
}

void vcpus_offline(struct vcpus *set, unsigned i)
{
    g_mutex_lock(&set->lock);
    set->vcpu[i].online = false;
    g_mutex_unlock(&set->lock);
    vcpu_kick(&set->vcpu[i], ENV_EXIT_STOP);
}

bool vcpus_is_online(struct vcpus *set, unsigned i)
{
    g_mutex_lock(&set->lock);
    bool online = set->vcpu[i].online;
    g_mutex_unlock(&set->lock);
    return online;
}

void vcpus_flush_all(struct vcpus *set)
{
    set->accel->flush_all(set);
}

const char *const vcpus_drop_names[VCPUS_DROPS] = {
    [VCPUS_DROP_STORE] = "store",
    [VCPUS_DROP_DEVICE] = "device",
    [VCPUS_DROP_ATOMIC] = "atomic",
    [VCPUS_DROP_LONGER] = "longer",
};

const char *const vcpus_stop_names[ENGINE_STOPS] = {
    [ENGINE_NEXT] = "next",     [ENGINE_POLL] = "poll", [ENGINE_EXCEPTION] = "exception",
    [ENGINE_LOOKUP] = "lookup", [ENGINE_WAIT] = "wait", [ENGINE_YIELD] = "yield",
};

pid_t vcpus_thread(struct vcpus *set, unsigned i)
{
    struct vcpu *v = &set->vcpu[i];
    g_mutex_lock(&set->lock);
    while (!v->thread_id)
        g_cond_wait(&set->changed, &set->lock);
    g_mutex_unlock(&set->lock);
    return v->thread_id;
}

/* Host processor time of the vCPU's thread in ns. The set's lock is held. */
static uint64_t cpu_time_locked(const struct vcpu *v)
{
    struct timespec t;
    if (!v->has_clock || clock_gettime(v->cpu_clock, &t))
        return 0;
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void vcpus_stats(struct vcpus *set, struct vcpus_stats *out)
{
    *out = (struct vcpus_stats){0};
    g_mutex_lock(&set->lock);
    for (unsigned i = 0; i < set->count; i++)
        out->cpu_ns += cpu_time_locked(&set->vcpu[i]);
    g_mutex_unlock(&set->lock);
    for (unsigned i = 0; i < set->count; i++) {
        out->instructions += set->vcpu[i].env->icount;
        out->waits += set->vcpu[i].waits;
    }
    set->accel->stats(set, out);
}
