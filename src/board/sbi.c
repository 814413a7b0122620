/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Built-in firmware: the RISC-V Supervisor Binary Interface 2.0 (and FWFT of 3.0), answered by the machine
 * itself. */
/*
 * A guest's ecall from S-mode arrives here on its vCPU's thread: a7 names the extension, a6 the function,
 * a0.. the arguments; back go a0, an error, and a1, a value (the two legacy console calls: a0 alone).
 * Extensions are a table; what is not in it, or a function an extension does not have, is SBI_NOT_SUPPORTED.
 *
 * Other harts are reached in three ways only: by an atomic bit and a kick (IPI), by cpu_host's flush_remote
 * (RFENCE), and by vcpus_online/vcpus_offline (HSM). fence.i of another hart needs nothing: a store to
 * translated code invalidates it at once, on every hart.
 */
#include "board/riscv_virt.h"

#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/log.h"
#include "device/uart16550.h"
#include "isa/riscv/cpu.h"

enum sbi_error {
    SBI_SUCCESS = 0,
    SBI_FAILED = -1,
    SBI_NOT_SUPPORTED = -2,
    SBI_INVALID_PARAM = -3,
    SBI_DENIED = -4,
    SBI_INVALID_ADDRESS = -5,
    SBI_ALREADY_AVAILABLE = -6,
};

enum {
    SBI_SPEC_VERSION = 2 << 24,
    SBI_IMPL_ID = 0x484f5354 /* not assigned to anybody: "HOST" */,
    SBI_IMPL_VERSION = 1
};
enum { REG_A0 = RISCV_REG_X0 + 10 };

struct sbi {
    struct machine *m;
    struct riscv_cpu *cpu;
    uint64_t arg[6];
    uint64_t value; /* a1 */
};

struct sbi_extension {
    uint64_t id;
    const char *name;
    bool legacy; /* returns in a0 alone */
    int64_t (*call)(struct sbi *s, uint64_t function);
};

static const struct sbi_extension *find_extension(uint64_t id);

static struct riscv_cpu *hart(const struct sbi *s, unsigned i)
{
    return riscv_cpu(vcpus_env(s->m->vcpus, i));
}

/* The vCPUs that a hart mask and its base name (SBI section 3.1). */
static int64_t hart_mask(const struct sbi *s, uint64_t mask, uint64_t base, uint64_t *vcpus)
{
    uint64_t all = bits_mask(vcpus_count(s->m->vcpus));
    if (base == UINT64_MAX) {
        *vcpus = all;
        return SBI_SUCCESS;
    }
    if (base >= 64 ? mask : mask << base >> base != mask || mask << base & ~all)
        return SBI_INVALID_PARAM;
    *vcpus = base >= 64 ? 0 : mask << base;
    return SBI_SUCCESS;
}

/* --- base --- */

static int64_t call_base(struct sbi *s, uint64_t function)
{
    switch (function) {
    case 0: s->value = SBI_SPEC_VERSION; return SBI_SUCCESS;
    case 1: s->value = SBI_IMPL_ID; return SBI_SUCCESS;
    case 2: s->value = SBI_IMPL_VERSION; return SBI_SUCCESS;
    case 3: s->value = find_extension(s->arg[0]) != NULL; return SBI_SUCCESS;
    case 4: /* mvendorid, */
    case 5: /* marchid, */
    case 6: /* mimpid: the zero that the CSRs read as */ s->value = 0; return SBI_SUCCESS;
    default: return SBI_NOT_SUPPORTED;
    }
}

/* --- time, interrupts, fences --- */

static int64_t call_time(struct sbi *s, uint64_t function)
{
    if (function)
        return SBI_NOT_SUPPORTED;
    riscv_set_stimecmp(s->cpu, s->arg[0]);
    return SBI_SUCCESS;
}

static int64_t call_ipi(struct sbi *s, uint64_t function)
{
    uint64_t vcpus;
    if (function)
        return SBI_NOT_SUPPORTED;
    int64_t r = hart_mask(s, s->arg[0], s->arg[1], &vcpus);
    for (; !r && vcpus; vcpus &= vcpus - 1) {
        struct riscv_cpu *target = hart(s, (unsigned)__builtin_ctzll(vcpus));
        atomic_fetch_or(&target->soft_ip, BIT(RISCV_IRQ_SSI));
        target->host.ops->kick(&target->env);
    }
    return r;
}

enum { RFENCE_I = 0, RFENCE_VMA = 1, RFENCE_VMA_ASID = 2 };

/* Single pages are flushed one by one up to this many; beyond, everything of the address space goes. */
enum { RFENCE_PAGES = 8 };

static int64_t call_rfence(struct sbi *s, uint64_t function)
{
    uint64_t start = s->arg[2], size = s->arg[3], last, vcpus;
    if (function > RFENCE_VMA_ASID) /* the others are of the hypervisor extension */
        return SBI_NOT_SUPPORTED;
    int64_t r = hart_mask(s, s->arg[0], s->arg[1], &vcpus);
    if (r || function == RFENCE_I || !vcpus)
        return r;
    struct cpu_flush what = {.one_asid = function == RFENCE_VMA_ASID, .asid = (uint32_t)(s->arg[4] & 0xffff)};
    if (!size || size > RFENCE_PAGES * MEM_PAGE_SIZE || ckd_add(&last, start, size - 1)) {
        s->cpu->host.ops->flush_remote(&s->cpu->env, vcpus, &what);
        return SBI_SUCCESS;
    }
    what.one_page = true;
    what.va = align_down(start, MEM_PAGE_SIZE);
    for (uint64_t pages = (last - what.va) / MEM_PAGE_SIZE + 1; pages; pages--, what.va += MEM_PAGE_SIZE)
        s->cpu->host.ops->flush_remote(&s->cpu->env, vcpus, &what);
    return SBI_SUCCESS;
}

/* --- hart state --- */

enum { HSM_START, HSM_STOP, HSM_STATUS, HSM_SUSPEND };
enum { HSM_STARTED = 0, HSM_STOPPED = 1 };

struct hsm_start {
    struct sbi *s;
    uint64_t pc, opaque;
};

/* On the caller's thread, while the other hart waits. */
static void prepare_start(struct env *env, void *opaque)
{
    const struct hsm_start *h = opaque;
    h->s->m->isa->reset(env);
    env->pc = h->pc;
    env->reg[REG_A0] = riscv_cpu(env)->hartid;
    env->reg[REG_A0 + 1] = h->opaque;
}

static int64_t hsm_start(struct sbi *s)
{
    struct hsm_start h = {.s = s, .pc = s->arg[1], .opaque = s->arg[2]};
    const struct cpu_flush everything = {.one_page = false};
    if (s->arg[0] >= vcpus_count(s->m->vcpus))
        return SBI_INVALID_PARAM;
    unsigned i = (unsigned)s->arg[0];
    if (h.pc & 1 || !mem_find(s->m->mem, GPA(h.pc)))
        return SBI_INVALID_ADDRESS;
    if (vcpus_is_online(s->m->vcpus, i))
        return SBI_ALREADY_AVAILABLE;
    /* It may have been here before, with other page tables. */
    s->cpu->host.ops->flush_remote(&s->cpu->env, BIT(i), &everything);
    return vcpus_online(s->m->vcpus, i, prepare_start, &h) ? SBI_ALREADY_AVAILABLE : SBI_SUCCESS;
}

static int64_t call_hsm(struct sbi *s, uint64_t function)
{
    switch (function) {
    case HSM_START: return hsm_start(s);
    case HSM_STOP: vcpus_offline(s->m->vcpus, s->cpu->index); return SBI_SUCCESS;
    case HSM_STATUS:
        if (s->arg[0] >= vcpus_count(s->m->vcpus))
            return SBI_INVALID_PARAM;
        s->value = vcpus_is_online(s->m->vcpus, (unsigned)s->arg[0]) ? HSM_STARTED : HSM_STOPPED;
        return SBI_SUCCESS;
    case HSM_SUSPEND:
        /* Default retentive suspend may end at any moment, so it ends at once; a guest that has nothing to do
         * uses wfi. */
        return s->arg[0] == 0                      ? SBI_SUCCESS
               : s->arg[0] == UINT32_C(0x80000000) ? SBI_NOT_SUPPORTED
                                                   : SBI_INVALID_PARAM;
    default: return SBI_NOT_SUPPORTED;
    }
}

/* --- system reset --- */

static int64_t call_srst(struct sbi *s, uint64_t function)
{
    enum { SHUTDOWN, COLD_REBOOT, WARM_REBOOT, NO_REASON = 0, SYSTEM_FAILURE = 1 };
    const struct machine_config *c = &s->m->config;
    if (function)
        return SBI_NOT_SUPPORTED;
    uint32_t type = (uint32_t)s->arg[0], reason = (uint32_t)s->arg[1];
    if (type > WARM_REBOOT || (reason > SYSTEM_FAILURE && reason < 0xe0000000))
        return SBI_INVALID_PARAM;
    /* Such a call does not return: the hart stays where it is until the machine ends or is reset. */
    vcpus_offline(s->m->vcpus, s->cpu->index);
    if (type != SHUTDOWN)
        c->power(c->opaque, MACHINE_RESET, 0);
    else
        c->power(c->opaque, reason == SYSTEM_FAILURE ? MACHINE_FAIL : MACHINE_OFF, reason == SYSTEM_FAILURE);
    return SBI_SUCCESS;
}

/* --- console --- */

enum { CONSOLE_CHUNK = 256 };

/* Where the guest's buffer is. Up to CONSOLE_CHUNK bytes are moved per call, which the specification allows:
 * the guest asks again. */
static int64_t console_buffer(const struct sbi *s, bool to_guest, struct gpa *at, size_t *size)
{
    const struct mem_block *block;
    *at = GPA(s->arg[1]);
    *size = MIN(s->arg[0], (uint64_t)CONSOLE_CHUNK);
    if (s->arg[2]) /* the high half of the address */
        return SBI_INVALID_PARAM;
    if (!s->arg[0])
        return SBI_SUCCESS;
    block = mem_find(s->m->mem, *at);
    if (!block || !range_inside(at->v, s->arg[0], block->base.v, block->size) ||
        (to_guest && block->readonly))
        return SBI_INVALID_PARAM;
    return SBI_SUCCESS;
}

static int64_t console_write(struct sbi *s)
{
    uint8_t bytes[CONSOLE_CHUNK];
    struct gpa at;
    size_t size;
    int64_t r = console_buffer(s, false, &at, &size);
    if (r || !size)
        return r;
    if (mem_read(s->m->mem, at, bytes, size))
        return SBI_INVALID_PARAM;
    s->value = s->m->config.console ? stream_write(s->m->config.console, bytes, size) : size;
    return SBI_SUCCESS;
}

static int64_t console_read(struct sbi *s)
{
    uint8_t bytes[CONSOLE_CHUNK];
    struct gpa at;
    size_t size;
    int64_t r = console_buffer(s, true, &at, &size);
    if (r || !size)
        return r;
    size = uart16550_take(riscv_virt(s->m)->uart, bytes, size);
    if (size && mem_write(s->m->mem, at, bytes, size))
        return SBI_INVALID_PARAM;
    s->value = size;
    return SBI_SUCCESS;
}

static int64_t console_put(struct sbi *s)
{
    uint8_t c = (uint8_t)s->arg[0];
    if (s->m->config.console && !stream_write(s->m->config.console, &c, 1))
        return SBI_FAILED;
    return SBI_SUCCESS;
}

static int64_t call_dbcn(struct sbi *s, uint64_t function)
{
    switch (function) {
    case 0: return console_write(s);
    case 1: return console_read(s);
    case 2: return console_put(s);
    default: return SBI_NOT_SUPPORTED;
    }
}

static int64_t call_legacy_putchar(struct sbi *s, uint64_t function)
{
    (void)function;
    return console_put(s);
}

static int64_t call_legacy_getchar(struct sbi *s, uint64_t function)
{
    uint8_t c;
    (void)function;
    return uart16550_take(riscv_virt(s->m)->uart, &c, 1) ? c : -1;
}

/* --- firmware features --- */

/* Of the features, a guest can change hardware updates of page tables' accessed and dirty bits; misaligned
 * accesses are delegated to it from the beginning. */
static int64_t call_fwft(struct sbi *s, uint64_t function)
{
    enum { SET = 0, GET = 1, MISALIGNED = 0, AD_UPDATING = 4 };
    uint32_t feature = (uint32_t)s->arg[0];
    if (function > GET || (feature != MISALIGNED && feature != AD_UPDATING))
        return SBI_NOT_SUPPORTED;
    if (function == GET) {
        s->value = feature == MISALIGNED || s->cpu->menvcfg >> 61 & 1;
        return SBI_SUCCESS;
    }
    if (s->arg[1] > 1 || s->arg[2])
        return SBI_INVALID_PARAM;
    if (feature == MISALIGNED)
        return s->arg[1] ? SBI_SUCCESS : SBI_DENIED;
    riscv_set_adue(s->cpu, s->arg[1]);
    return SBI_SUCCESS;
}

/* --- dispatch --- */

static const struct sbi_extension extensions[] = {
    {0x01, "legacy putchar", true, call_legacy_putchar},
    {0x02, "legacy getchar", true, call_legacy_getchar},
    {0x10, "base", false, call_base},
    {0x54494d45, "TIME", false, call_time},
    {0x735049, "IPI", false, call_ipi},
    {0x52464e43, "RFENCE", false, call_rfence},
    {0x48534d, "HSM", false, call_hsm},
    {0x53525354, "SRST", false, call_srst},
    {0x4442434e, "DBCN", false, call_dbcn},
    {0x46574654, "FWFT", false, call_fwft},
};

static const struct sbi_extension *find_extension(uint64_t id)
{
    for (unsigned i = 0; i < ARRAY_SIZE(extensions); i++)
        if (extensions[i].id == id)
            return &extensions[i];
    return NULL;
}

bool sbi_call(struct env *env, void *board)
{
    struct sbi s = {.m = board, .cpu = riscv_cpu(env)};
    uint64_t *a = &env->reg[REG_A0];
    memcpy(s.arg, a, sizeof(s.arg));
    const struct sbi_extension *e = find_extension(a[7]);
    int64_t error = e ? e->call(&s, a[6]) : SBI_NOT_SUPPORTED;
    if (log_on(LOG_FIRMWARE))
        log_debug(LOG_FIRMWARE, "hart %u: sbi %s (0x%lx) function %lu (0x%lx, 0x%lx): %ld", s.cpu->index,
                  e ? e->name : "extension", (unsigned long)a[7], (unsigned long)a[6], (unsigned long)a[0],
                  (unsigned long)a[1], (long)error);
    a[0] = (uint64_t)error;
    if (!e || !e->legacy)
        a[1] = error ? 0 : s.value;
    return true;
}
