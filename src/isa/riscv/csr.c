/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Access to control and status registers, driven by the table csrs.def. */
/*
 * Every register is kept as the guest may read it: a write turns whatever is not legal into something legal
 * (WARL, section 2.3 of the privileged specification 1.12), so nothing else in this folder meets an illegal
 * value.
 */
#include "isa/riscv/priv.h"

enum csr_when { ALWAYS, FP, COUNTER, SSTC, SATP };

struct csr_row {
    /* The register itself, or a function. */
    uint64_t (*get)(struct riscv_cpu *cpu, unsigned csr);
    /* touched: the bits that the instruction names; the others of value are as get gave them, which may be
     * outdated by now. */
    void (*put)(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched);
    uint64_t mask;   /* of a member */
    uint16_t offset; /* of a member in struct riscv_cpu */
    uint8_t when;    /* enum csr_when */
    bool ends_block;
};

/* --- floating point --- */

enum { FFLAGS_MASK = 0x1f, FRM_MASK = 7, FRM_SHIFT = 5 };

static uint64_t get_fflags(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->env.fp_flags & FFLAGS_MASK;
}

static void put_fflags(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)csr, (void)touched;
    cpu->env.fp_flags = (uint8_t)(value & FFLAGS_MASK);
    riscv_fs_dirty(cpu);
}

static uint64_t get_frm(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->frm;
}

static void put_frm(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)csr, (void)touched;
    cpu->frm = (uint8_t)(value & FRM_MASK);
    riscv_fs_dirty(cpu);
}

static uint64_t get_fcsr(struct riscv_cpu *cpu, unsigned csr)
{
    return get_frm(cpu, csr) << FRM_SHIFT | get_fflags(cpu, csr);
}

static void put_fcsr(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    cpu->frm = (uint8_t)(value >> FRM_SHIFT & FRM_MASK);
    put_fflags(cpu, csr, value, touched);
}

/* --- counters --- */

static bool counter_stopped(const struct riscv_cpu *cpu, unsigned i)
{
    return cpu->mcountinhibit >> i & 1;
}

/* One instruction per cycle: both counters are env.icount with an offset. */
static uint64_t get_counter(struct riscv_cpu *cpu, unsigned csr)
{
    unsigned i = csr & 31;

    return cpu->mhpmcounter[i] + (counter_stopped(cpu, i) ? 0 : cpu->env.icount);
}

/* The value written is what the next instruction reads: the writing one is not counted. */
static void put_counter(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    unsigned i = csr & 31;

    (void)touched;
    cpu->mhpmcounter[i] = value - (counter_stopped(cpu, i) ? 0 : cpu->env.icount + 1);
}

#define MCOUNTINHIBIT_WRITABLE (BIT(COUNTER_CY) | BIT(COUNTER_IR))

static uint64_t get_mcountinhibit(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->mcountinhibit;
}

static void put_mcountinhibit(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    uint64_t next = value & MCOUNTINHIBIT_WRITABLE;

    (void)csr, (void)touched;
    for (unsigned i = COUNTER_CY; i <= COUNTER_IR; i++) {
        /* The change takes effect behind this instruction, which is still counted. */
        if ((next & ~cpu->mcountinhibit) >> i & 1)
            cpu->mhpmcounter[i] += cpu->env.icount + 1;
        else if ((cpu->mcountinhibit & ~next) >> i & 1)
            cpu->mhpmcounter[i] -= cpu->env.icount + 1;
    }
    cpu->mcountinhibit = next;
}

static uint64_t get_time(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return riscv_time(cpu);
}

static uint64_t get_zero(struct riscv_cpu *cpu, unsigned csr)
{
    (void)cpu, (void)csr;
    return 0;
}

/* Read-only registers, and those whose only legal value is the one they have. */
static void put_nothing(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)cpu, (void)csr, (void)value, (void)touched;
}

/* --- status --- */

#define SSTATUS_WRITABLE (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_FS | MSTATUS_SUM | MSTATUS_MXR)
#define MSTATUS_WRITABLE                                                                                     \
    (SSTATUS_WRITABLE | MSTATUS_MIE | MSTATUS_MPIE | MSTATUS_MPP | MSTATUS_MPRV | MSTATUS_TVM | MSTATUS_TW | \
     MSTATUS_TSR)

static uint64_t get_mstatus(struct riscv_cpu *cpu, unsigned csr)
{
    uint64_t dirty = (cpu->mstatus & MSTATUS_FS) == MSTATUS_FS ? MSTATUS_SD : 0;

    (void)csr;
    return cpu->mstatus | MSTATUS_UXL_64 | MSTATUS_SXL_64 | dirty;
}

void riscv_mstatus_put(struct riscv_cpu *cpu, uint64_t value)
{
    enum { MPP_RESERVED = 2 };

    if (bits_get(value, MSTATUS_MPP_SHIFT, 2) == MPP_RESERVED)
        value = (value & ~MSTATUS_MPP) | (cpu->mstatus & MSTATUS_MPP);
    cpu->mstatus = value & MSTATUS_WRITABLE;
}

static void put_mstatus(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)csr, (void)touched;
    riscv_mstatus_put(cpu, value);
    riscv_update_mode(cpu);
    riscv_irq_update(cpu);
}

static uint64_t get_sstatus(struct riscv_cpu *cpu, unsigned csr)
{
    return get_mstatus(cpu, csr) & (SSTATUS_WRITABLE | MSTATUS_UXL_64 | MSTATUS_SD);
}

static void put_sstatus(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    put_mstatus(cpu, csr, (cpu->mstatus & ~SSTATUS_WRITABLE) | (value & SSTATUS_WRITABLE), touched);
}

static uint64_t get_misa(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->misa;
}

static uint64_t get_mhartid(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->hartid;
}

/* --- interrupts --- */

static uint64_t get_mie(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->mie;
}

static void put_mie(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)csr, (void)touched;
    cpu->mie = value & IP_ALL;
    riscv_irq_update(cpu);
}

/* S-mode sees, and changes, what is delegated to it. */
static uint64_t get_sie(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->mie & cpu->mideleg;
}

static void put_sie(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    put_mie(cpu, csr, (cpu->mie & ~cpu->mideleg) | (value & cpu->mideleg), touched);
}

static uint64_t get_mideleg(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->mideleg;
}

static void put_mideleg(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)csr, (void)touched;
    cpu->mideleg = value & IP_SUPERVISOR;
    riscv_irq_update(cpu);
}

static uint64_t get_mip(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return riscv_mip(cpu);
}

/* Changes software's bits of mip that the instruction names, and no others: another thread may be setting
 * SSIP, and the level of SEIP's line that was read must not become software's bit (3.1.9). A device that
 * raises SSIP as a line (ACLINT's SSWI) means the same bit, which the guest clears here. */
static void put_soft_ip(struct riscv_cpu *cpu, uint64_t value, uint64_t touched)
{
    if (touched & ~value & IP_SSIP)
        atomic_fetch_and(&cpu->env.irq_lines, ~IP_SSIP);
    atomic_fetch_and(&cpu->soft_ip, ~(touched & ~value));
    atomic_fetch_or(&cpu->soft_ip, touched & value);
    riscv_irq_update(cpu);
}

/* SEIP: software's half only. STIP can be written while Sstc does not drive it. */
static void put_mip(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    uint64_t writable = cpu->menvcfg & ENVCFG_STCE ? IP_SSIP | IP_SEIP : IP_SUPERVISOR;

    (void)csr;
    put_soft_ip(cpu, value, touched & writable);
}

static uint64_t get_sip(struct riscv_cpu *cpu, unsigned csr)
{
    return get_mip(cpu, csr) & cpu->mideleg;
}

static void put_sip(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)csr;
    put_soft_ip(cpu, value, touched & cpu->mideleg & IP_SSIP);
}

static uint64_t get_stimecmp(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->stimecmp;
}

static void put_stimecmp(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)csr, (void)touched;
    riscv_set_stimecmp(cpu, value);
}

/* --- trap vectors --- */

/* Modes 2 and 3 are reserved: such a write changes nothing. */
static uint64_t tvec_legal(uint64_t value, uint64_t old)
{
    return value & 2 ? old : value;
}

static uint64_t get_stvec(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->stvec;
}

static void put_stvec(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)csr, (void)touched;
    cpu->stvec = tvec_legal(value, cpu->stvec);
}

static uint64_t get_mtvec(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->mtvec;
}

static void put_mtvec(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)csr, (void)touched;
    cpu->mtvec = tvec_legal(value, cpu->mtvec);
}

/* --- environment configuration --- */

#define SENVCFG_WRITABLE (ENVCFG_FIOM | ENVCFG_CBIE | ENVCFG_CBCFE | ENVCFG_CBZE)
#define MENVCFG_WRITABLE (SENVCFG_WRITABLE | ENVCFG_ADUE | ENVCFG_STCE)

/* CBIE: 2 is reserved and leaves the field alone. */
static uint64_t envcfg_legal(uint64_t value, uint64_t old)
{
    enum { CBIE_RESERVED = 2 };

    if (bits_get(value, ENVCFG_CBIE_SHIFT, 2) == CBIE_RESERVED)
        value = (value & ~ENVCFG_CBIE) | (old & ENVCFG_CBIE);
    return value;
}

static uint64_t get_senvcfg(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->senvcfg;
}

static void put_senvcfg(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)csr, (void)touched;
    cpu->senvcfg = envcfg_legal(value, cpu->senvcfg) & SENVCFG_WRITABLE;
}

static uint64_t get_menvcfg(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->menvcfg;
}

static void put_menvcfg(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    uint64_t old = cpu->menvcfg;

    (void)csr, (void)touched;
    cpu->menvcfg = envcfg_legal(value, old) & MENVCFG_WRITABLE;
    if ((cpu->menvcfg ^ old) & ENVCFG_STCE) {
        riscv_timer_update(cpu);
        riscv_irq_update(cpu);
    }
    if ((cpu->menvcfg ^ old) & ENVCFG_ADUE)
        cpu->host.ops->flush(&cpu->env, &(struct cpu_flush){.one_page = false});
}

/* --- memory --- */

static uint64_t get_satp(struct riscv_cpu *cpu, unsigned csr)
{
    (void)csr;
    return cpu->satp;
}

static bool satp_legal(uint64_t value)
{
    unsigned mode = satp_mode(value);

    return mode == SATP_BARE || (mode >= SATP_SV39 && mode <= SATP_SV57);
}

/* An unsupported mode leaves the whole register alone (4.1.11). Cached translations stay: they belong to the
 * address space that isa.address_space() names. */
static void put_satp(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)csr, (void)touched;
    if (satp_legal(value)) {
        cpu->satp = value;
        env_kick(&cpu->env, ENV_EXIT_SPACE);
    }
}

static uint64_t get_pmpcfg(struct riscv_cpu *cpu, unsigned csr)
{
    return riscv_pmpcfg_get(cpu, (csr & 2) * 4);
}

static void put_pmpcfg(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)touched;
    riscv_pmpcfg_put(cpu, (csr & 2) * 4, value);
}

static uint64_t get_pmpaddr(struct riscv_cpu *cpu, unsigned csr)
{
    return cpu->pmpaddr[csr & 15];
}

static void put_pmpaddr(struct riscv_cpu *cpu, unsigned csr, uint64_t value, uint64_t touched)
{
    (void)touched;
    riscv_pmpaddr_put(cpu, csr & 15, value);
}

/* --- the table --- */

enum csr_id {
    ROW_NONE,
#define CSR(first, last, name, when, get, put, then) ROW_##name,
#define CSR_FIELD(number, name, when, field, mask, then) ROW_##name,
#include "isa/riscv/csrs.def"
    ROW_COUNT
};

enum { GOES_ON = false, ENDS = true };

static const struct csr_row rows[ROW_COUNT] = {
#define CSR(first, last, name, when, get, put, then) [ROW_##name] = {get_##get, put_##put, 0, 0, when, then},
#define CSR_FIELD(number, name, when, field, mask, then)                                                     \
    [ROW_##name] = {NULL, NULL, mask, offsetof(struct riscv_cpu, field) - sizeof(struct env), when, then},
#include "isa/riscv/csrs.def"
};

/* From number to row in one step; a byte each. */
static const uint8_t row_of[4096] = {
#define CSR(first, last, name, when, get, put, then) [first... last] = ROW_##name,
#define CSR_FIELD(number, name, when, field, mask, then) [number] = ROW_##name,
#include "isa/riscv/csrs.def"
};

_Static_assert(ROW_COUNT <= UINT8_MAX, "a row number is a byte");

bool riscv_csrs_legal(const struct riscv_cpu *cpu)
{
    enum { MPP_RESERVED = 2 };
    const uint8_t *fields = (const uint8_t *)cpu + sizeof(struct env);

    for (unsigned i = 0; i < ROW_COUNT; i++)
        if (rows[i].mask && *(const uint64_t *)(const void *)(fields + rows[i].offset) & ~rows[i].mask)
            return false;
    /* A value that is legal whatever was there before is one that a write keeps. */
    return !(cpu->mstatus & ~MSTATUS_WRITABLE) &&
           bits_get(cpu->mstatus, MSTATUS_MPP_SHIFT, 2) != MPP_RESERVED && !(cpu->mie & ~IP_ALL) &&
           !(cpu->mideleg & ~IP_SUPERVISOR) && !(cpu->soft_ip & ~IP_SUPERVISOR) &&
           !(cpu->mcountinhibit & ~MCOUNTINHIBIT_WRITABLE) && satp_legal(cpu->satp) &&
           tvec_legal(cpu->mtvec, ~cpu->mtvec) == cpu->mtvec &&
           tvec_legal(cpu->stvec, ~cpu->stvec) == cpu->stvec &&
           (envcfg_legal(cpu->menvcfg, 0) & MENVCFG_WRITABLE) == cpu->menvcfg &&
           (envcfg_legal(cpu->senvcfg, 0) & SENVCFG_WRITABLE) == cpu->senvcfg;
}

/* --- access --- */

static bool counter_enabled(const struct riscv_cpu *cpu, unsigned csr)
{
    uint64_t enabled = COUNTEREN_MASK;

    if (cpu->priv < RISCV_M)
        enabled &= cpu->mcounteren;
    if (cpu->priv < RISCV_S)
        enabled &= cpu->scounteren;
    return enabled >> (csr & 31) & 1;
}

static bool present(const struct riscv_cpu *cpu, unsigned csr, enum csr_when when)
{
    switch (when) {
    case ALWAYS: return true;
    case FP: return cpu->mstatus & MSTATUS_FS;
    case COUNTER: return counter_enabled(cpu, csr);
    case SSTC:
        return cpu->priv == RISCV_M || (cpu->menvcfg & ENVCFG_STCE && cpu->mcounteren >> COUNTER_TM & 1);
    case SATP: return cpu->priv == RISCV_M || !(cpu->mstatus & MSTATUS_TVM);
    }
    return false;
}

/* The row of a CSR that exists for this access, else NULL. */
static const struct csr_row *find(const struct riscv_cpu *cpu, unsigned csr, bool write)
{
    bool readonly = (csr >> 10 & 3) == 3;
    unsigned id = csr < ARRAY_SIZE(row_of) ? row_of[csr] : ROW_NONE;

    if (id == ROW_NONE || cpu->priv < (csr >> 8 & 3) || (write && readonly))
        return NULL;
    return present(cpu, csr, rows[id].when) ? &rows[id] : NULL;
}

static uint64_t *member(struct riscv_cpu *cpu, const struct csr_row *row)
{
    return (uint64_t *)(void *)((char *)cpu + sizeof(struct env) + row->offset);
}

int riscv_csr_access(struct riscv_cpu *cpu, unsigned csr, bool read, bool write, uint64_t clear, uint64_t set,
                     uint64_t *old)
{
    const struct csr_row *row = find(cpu, csr, write);
    uint64_t value = 0;

    *old = 0;
    if (!row) {
        riscv_raise(cpu, RISCV_EXC_ILLEGAL, 0);
        return 1;
    }
    if (read || ~clear)
        value = row->get ? row->get(cpu, csr) : *member(cpu, row);
    *old = value;
    if (!write)
        return 0;
    value = (value & ~clear) | set;
    if (row->put)
        row->put(cpu, csr, value, clear | set);
    else
        *member(cpu, row) = value & row->mask;
    return 0;
}

bool riscv_csr_ends_block(unsigned csr)
{
    return csr < ARRAY_SIZE(row_of) && rows[row_of[csr]].ends_block;
}
