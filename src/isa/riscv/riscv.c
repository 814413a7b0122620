/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The RISC-V row of the table of guest instruction sets: set-up, reset, and the ISA string. */
#include <elf.h>

#include "base/error.h"
#include "isa/riscv/decode.h"
#include "isa/riscv/disasm.h"
#include "isa/riscv/priv.h"

/* --- what is implemented --- */

const char *riscv_isa_string(void)
{
    return "rv64"
#define RISCV_LETTER(name) #name
#define RISCV_EXTENSION(name) "_" #name
#include "isa/riscv/extensions.def"
        ;
}

const char *const *riscv_isa_extensions(void)
{
    static const char *const names[] = {
#define RISCV_LETTER(name) #name,
#define RISCV_EXTENSION(name) #name,
#include "isa/riscv/extensions.def"
        NULL,
    };

    return names;
}

#define MISA_LETTER(c) BIT((c) - 'A')
#define MISA_MXL_64 (UINT64_C(2) << 62)
#define MISA                                                                                                 \
    (MISA_MXL_64 | MISA_LETTER('A') | MISA_LETTER('C') | MISA_LETTER('D') | MISA_LETTER('F') |               \
     MISA_LETTER('I') | MISA_LETTER('M') | MISA_LETTER('S') | MISA_LETTER('U'))

/* --- set-up and reset --- */

static bool cpu_init(struct env *env, const struct isa_config *config, const struct cpu_host *host,
                     GError **error)
{
    struct riscv_cpu *cpu = riscv_cpu(env);

    if (config->features && *config->features)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "riscv64: unknown CPU feature \"%s\": this CPU has no options, it is always %s",
                           config->features, riscv_isa_string());
    if (!config->timebase_hz)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "riscv64: the timebase frequency is 0 Hz");
    cpu->host = *host;
    cpu->index = config->index;
    cpu->hartid = config->index;
    cpu->timebase_hz = config->timebase_hz;
    cpu->builtin_firmware = config->builtin_firmware;
    return true;
}

/* What firmware in M-mode leaves behind when it starts an operating system: everything is S-mode's. Accessed
 * and dirty bits fault until S-mode asks the firmware for hardware updates, as SBI says of harts that offer
 * both. */
static void hand_to_supervisor(struct riscv_cpu *cpu)
{
    cpu->medeleg = MEDELEG_MASK;
    cpu->mideleg = IP_SUPERVISOR;
    cpu->mcounteren = COUNTEREN_MASK;
    cpu->scounteren = COUNTEREN_MASK; /* Linux leaves it alone, and user programs read the time in the vDSO */
    cpu->menvcfg = ENVCFG_STCE | ENVCFG_CBIE | ENVCFG_CBCFE | ENVCFG_CBZE;
    riscv_pmpaddr_put(cpu, 0, UINT64_MAX);
    riscv_pmpcfg_put(cpu, 0, PMP_NAPOT << PMP_A_SHIFT | PMP_R | PMP_W | PMP_X);
}

static void clear_registers(struct riscv_cpu *cpu)
{
    struct env *env = &cpu->env;

    for (unsigned i = 0; i < RISCV_REG_COUNT; i++)
        env->reg[i] = 0;
    env->pc = 0;
    env->fp_flags = 0;
    env->exc = (struct env_exception){.pending = false};
    atomic_fetch_and(&env->irq_lines, ~IP_SSIP);
    cpu->frm = 0;
    cpu->mstatus = 0;
    cpu->misa = MISA;
    cpu->mtvec = cpu->mscratch = cpu->mepc = cpu->mcause = cpu->mtval = 0;
    cpu->medeleg = cpu->mideleg = cpu->mie = cpu->mcounteren = cpu->mcountinhibit = 0;
    cpu->stvec = cpu->sscratch = cpu->sepc = cpu->scause = cpu->stval = cpu->satp = 0;
    cpu->scounteren = cpu->senvcfg = 0;
    atomic_store(&cpu->soft_ip, 0);
    cpu->mhpmcounter[COUNTER_CY] = cpu->mhpmcounter[COUNTER_IR] = -env->icount;
}

/* The specification leaves most of this open (section 3.4); zero is chosen, except: no timer is due, and
 * hardware updates accessed and dirty bits, which suits firmware that does not know Svadu. */
static void cpu_reset(struct env *env)
{
    struct riscv_cpu *cpu = riscv_cpu(env);

    clear_registers(cpu);
    riscv_pmp_reset(cpu);
    cpu->menvcfg = ENVCFG_ADUE;
    if (cpu->builtin_firmware)
        hand_to_supervisor(cpu);
    riscv_set_priv(cpu, cpu->builtin_firmware ? RISCV_S : RISCV_M);
    riscv_set_stimecmp(cpu, UINT64_MAX);
}

/* --- the rest of the row --- */

static void bus_error(struct env *env, struct gva va, enum isa_access access)
{
    static const uint8_t cause[] = {[ISA_LOAD] = RISCV_EXC_LOAD_ACCESS,
                                    [ISA_STORE] = RISCV_EXC_STORE_ACCESS,
                                    [ISA_FETCH] = RISCV_EXC_INSN_ACCESS};

    riscv_raise(riscv_cpu(env), cause[access], va.v);
}

static void misaligned(struct env *env, struct gva va, enum isa_access access)
{
    static const uint8_t cause[] = {[ISA_LOAD] = RISCV_EXC_LOAD_MISALIGNED,
                                    [ISA_STORE] = RISCV_EXC_STORE_MISALIGNED,
                                    [ISA_FETCH] = RISCV_EXC_INSN_MISALIGNED};

    riscv_raise(riscv_cpu(env), cause[access], va.v);
}

/* satp names root and ASID together; without paging all spaces are one. */
static uint64_t address_space(const struct env *env)
{
    uint64_t satp = riscv_cpu_const(env)->satp;

    return satp_mode(satp) == SATP_BARE ? 0 : satp;
}

static uint32_t asid(const struct env *env)
{
    return (uint32_t)bits_get(riscv_cpu_const(env)->satp, 44, 16);
}

static unsigned disassemble(uint64_t pc, const uint8_t *bytes, size_t avail, char *text, size_t size)
{
    struct riscv_insn insn;
    uint32_t word = 0;

    for (size_t i = 0; i < avail && i < 4; i++)
        word |= (uint32_t)bytes[i] << (8 * i);
    if (avail < 2 || (size_t)riscv_decode(word, &insn) > avail || insn.op == RISCV_OP_ILLEGAL)
        return 0;
    riscv_disasm(pc, word, text, size);
    return insn.len;
}

const struct isa isa_riscv64 = {
    .name = "riscv64",
    .help = "RISC-V, 64 bits (RV64GC with M, S and U modes)",
    .cpu_size = sizeof(struct riscv_cpu),
    .target = &riscv_target,
    .init = cpu_init,
    .state = riscv_state,
    .version = RISCV_STATE_VERSION,
    .loaded = riscv_loaded,
    .reset = cpu_reset,
    .lift = riscv_lift,
    .fetch_mmu = riscv_fetch_mmu,
    .walk = riscv_walk,
    .bus_error = bus_error,
    .misaligned = misaligned,
    .address_space = address_space,
    .asid = asid,
    .take_exception = riscv_take_exception,
    .poll_interrupt = riscv_poll_interrupt,
    .wakes = riscv_wakes,
    .disassemble = disassemble,
    .elf_machine = EM_RISCV,
    .elf_flags = EF_RISCV_RVC | EF_RISCV_FLOAT_ABI_DOUBLE,
    .core_note = riscv_core_note,
};
