/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One hart by itself for tests, and a model of PMP that knows nothing of ranges. */
#include "hart.h"

static struct hart *the_hart;

static void flush(struct env *env, const struct cpu_flush *what)
{
    (void)env, (void)what;
    the_hart->flushes++;
}

static void flush_remote(struct env *env, uint64_t vcpus, const struct cpu_flush *what)
{
    (void)vcpus;
    flush(env, what);
}

static uint64_t now(struct env *env)
{
    (void)env;
    return the_hart->now;
}

static void set_timer(struct env *env, uint64_t deadline)
{
    (void)env;
    the_hart->timer = deadline;
}

static void kick(struct env *env)
{
    env_kick(env, ENV_EXIT_IRQ);
}

static bool firmware_call(struct env *env, void *board)
{
    g_assert_true(board == the_hart);
    env->reg[10] = env->pc;
    the_hart->calls++;
    return the_hart->answers;
}

static const struct cpu_host_ops ops = {flush, flush_remote, now, set_timer, kick, firmware_call};

struct hart *hart_new(bool builtin_firmware)
{
    struct hart *h = g_new0(struct hart, 1);
    g_autoptr(GError) error = NULL;
    struct isa_config config = {
        .index = 5, .vcpus = 8, .timebase_hz = 16000000, .builtin_firmware = builtin_firmware};

    the_hart = h;
    h->mem = mem_new();
    mem_add(h->mem, "ram", GPA(HART_RAM), HART_RAM_SIZE, false, &error);
    g_assert_no_error(error);
    h->cpu = g_malloc0(isa_riscv64.cpu_size);
    struct cpu_host host = {.ops = &ops, .mem = h->mem, .board = h};
    isa_riscv64.init(&h->cpu->env, &config, &host, &error);
    g_assert_no_error(error);
    isa_riscv64.reset(&h->cpu->env);
    return h;
}

void hart_free(struct hart *h)
{
    mem_free(h->mem);
    g_free(h->cpu);
    g_free(h);
    the_hart = NULL;
}

void hart_write(struct hart *h, unsigned csr, uint64_t value)
{
    uint64_t old;

    g_assert_cmpint(riscv_csr_access(h->cpu, csr, false, true, UINT64_MAX, value, &old), ==, 0);
}

uint64_t hart_read(struct hart *h, unsigned csr)
{
    uint64_t value;

    g_assert_cmpint(riscv_csr_access(h->cpu, csr, true, false, 0, 0, &value), ==, 0);
    return value;
}

void hart_write_m(struct hart *h, unsigned csr, uint64_t value)
{
    uint8_t priv = h->cpu->priv;

    h->cpu->priv = RISCV_M;
    hart_write(h, csr, value);
    h->cpu->priv = priv;
    riscv_update_mode(h->cpu);
    riscv_irq_update(h->cpu);
}

uint64_t hart_read_m(struct hart *h, unsigned csr)
{
    uint8_t priv = h->cpu->priv;

    h->cpu->priv = RISCV_M;
    uint64_t value = hart_read(h, csr);
    h->cpu->priv = priv;
    return value;
}

bool hart_traps(struct hart *h, unsigned csr, bool write)
{
    uint64_t old;
    bool traps = riscv_csr_access(h->cpu, csr, true, write, 0, 0, &old);

    g_assert_true(traps == h->cpu->env.exc.pending);
    if (traps)
        g_assert_cmpuint(h->cpu->env.exc.cause, ==, RISCV_EXC_ILLEGAL);
    h->cpu->env.exc.pending = false;
    return traps;
}

uint64_t hart_random(void)
{
    static uint64_t state = UINT64_C(0x9e3779b97f4a7c15);

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * UINT64_C(0x2545f4914f6cdd1d);
}

uint64_t hart_pick(void)
{
    switch (hart_random() % 8) {
    case 0: return 0;
    case 1: return UINT64_MAX;
    case 2: return BIT(hart_random() % 64);
    case 3: return hart_random() & hart_random();
    case 4: return hart_random() | hart_random();
    default: return hart_random();
    }
}

static bool entry_has(const struct riscv_cpu *cpu, unsigned i, uint64_t byte)
{
    uint64_t reg = cpu->pmpaddr[i], word = byte >> 2;

    switch (cpu->pmpcfg[i] >> 3 & 3) {
    case 1: return word < reg && word >= (i ? cpu->pmpaddr[i - 1] : 0);
    case 2: return word == reg;
    case 3:
        /* yyy...y01...1: the y bits are compared, for the whole register none. */
        for (unsigned bit = 0; bit < 54; bit++) {
            /* Only ones below: this bit is in the run, or ends it. */
            bool ignored = (reg & bits_mask(bit)) == bits_mask(bit);
            if (!ignored && (reg >> bit & 1) != (word >> bit & 1))
                return false;
        }
        return word >> 54 == 0 || (reg == bits_mask(54) && word >> 55 == 0);
    default: return false;
    }
}

bool naive_pmp(const struct riscv_cpu *cpu, uint64_t addr, unsigned size, enum isa_access access,
               unsigned priv, int *matched)
{
    static const uint8_t bit[] = {[ISA_LOAD] = 1, [ISA_STORE] = 2, [ISA_FETCH] = 4};

    for (unsigned i = 0; i < 16; i++) {
        unsigned hits = 0;
        for (unsigned b = 0; b < size; b++)
            hits += entry_has(cpu, i, addr + b);
        if (!hits)
            continue;
        *matched = hits == size ? (int)i : -2;
        if (hits != size)
            return false;
        if (priv == 3 && !(cpu->pmpcfg[i] & 0x80))
            return true;
        return cpu->pmpcfg[i] & bit[access];
    }
    *matched = -1;
    return priv == 3;
}
