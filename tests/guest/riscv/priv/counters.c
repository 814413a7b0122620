/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Counters: exact retired instructions of known sequences, writes, inhibit bits, and a time that never goes
 * back. */
#include "lib/lib.h"
#include "lib/stub.h"

/* Each returns the difference of two reads; the first read counts as the first instruction after itself. */
STUB(n_none, "csrr a0, minstret\ncsrr a1, minstret\nsub a0, a1, a0");
STUB(n_ten, "csrr a0, minstret\n.rept 10\nnop\n.endr\ncsrr a1, minstret\nsub a0, a1, a0");
STUB(n_compressed,
     ".option arch, +c\ncsrr a0, minstret\n.rept 7\nc.nop\n.endr\ncsrr a1, minstret\nsub a0, a1, a0");
STUB(n_loop,
     "li t0, 100\ncsrr a0, minstret\n1: addi t0, t0, -1\nbnez t0, 1b\ncsrr a1, minstret\nsub a0, a1, a0");
STUB(n_branch, "csrr a0, minstret\nbeq zero, zero, 1f\nnop\nnop\n1: csrr a1, minstret\nsub a0, a1, a0");
STUB(n_jump, "csrr a0, minstret\nj 1f\nnop\n1: csrr a1, minstret\nsub a0, a1, a0");
STUB(n_memory,
     "csrr a0, minstret\nsd a0, -8(sp)\nld t0, -8(sp)\nsd a0, -13(sp)\ncsrr a1, minstret\nsub a0, a1, a0");
STUB(n_fence, "csrr a0, minstret\nfence\nfence.i\nsfence.vma\ncsrr a1, minstret\nsub a0, a1, a0");
STUB(n_write, "csrw minstret, a0\ncsrr a0, minstret");
STUB(n_write_nops, "csrw minstret, a0\nnop\nnop\nnop\ncsrr a0, minstret");
STUB(n_cycle_write, "csrw mcycle, a0\ncsrr a0, mcycle");
STUB(n_inhibit, "csrwi mcountinhibit, 5\ncsrr a0, minstret\nnop\nnop\ncsrr a1, minstret\nsub a0, a1, "
                "a0\ncsrwi mcountinhibit, 0");
/* The ecall traps, so it does not retire; the handler's instructions do: compare with one nop more before it.
 */
STUB(n_trap_begin, "csrw minstret, zero\necall");
STUB(n_trap_nop, "csrw minstret, zero\nnop\necall");
STUB(n_user, "csrr a0, instret\n.rept 20\nnop\n.endr\ncsrr a1, instret\nsub a0, a1, a0");
STUB(n_wfi, "csrr a0, minstret\nwfi\ncsrr a1, minstret\nsub a0, a1, a0");
STUB(n_time,
     "li t0, 2000\ncsrr a0, time\nli a2, 0\n1: csrr a1, time\nsltu a3, a1, a0\nadd a2, a2, a3\nmv a0, a1\n"
     "addi t0, t0, -1\nbnez t0, 1b\nmv a0, a2");

static u64 value(enum mode mode, char *stub, u64 a0)
{
    return try_call(mode, (u64)stub, a0, 0, 0)->regs[10];
}

/* Retired between entry to the stub and machine mode's read, which is the same code for every caller. */
static u64 __attribute__((noinline)) after_trap(char *stub)
{
    try_call(MODE_M, (u64)stub, 0, 0, 0);
    return csr_read(minstret);
}

static void exact(void)
{
    expect("self counters reads back to back", value(MODE_M, n_none, 0), 1);
    expect("self counters ten nops", value(MODE_M, n_ten, 0), 11);
    expect("self counters compressed", value(MODE_M, n_compressed, 0), 8);
    expect("self counters a loop", value(MODE_M, n_loop, 0), 201);
    expect("self counters a taken branch", value(MODE_M, n_branch, 0), 2);
    expect("self counters a jump", value(MODE_M, n_jump, 0), 2);
    expect("self counters memory", value(MODE_M, n_memory, 0), 4);
    expect("self counters fences", value(MODE_M, n_fence, 0), 4);
    expect("self counters write then read", value(MODE_M, n_write, 1000), 1000);
    expect("self counters write near the top", value(MODE_M, n_write, ~0ul), ~0ul);
    expect("self counters write, three nops, read", value(MODE_M, n_write_nops, 5), 8);
    expect("self counters wrap", value(MODE_M, n_write_nops, ~0ul - 1), 1);
    expect("self counters inhibited", value(MODE_M, n_inhibit, 0), 0);
    expect("self counters user mode", value(MODE_U, n_user, 0), 21);
    expect("self counters supervisor mode", value(MODE_S, n_user, 0), 21);
    expect("self counters a nop before a trap is one more", after_trap(n_trap_nop) - after_trap(n_trap_begin),
           1);
    csr_write(mie, 8);
    clint_msip(0, 1);
    csr_clear(mstatus, MSTATUS_MIE);
    expect("self counters wfi retires", value(MODE_M, n_wfi, 0), 2);
    clint_msip(0, 0);
    csr_write(mie, 0);
}

static void cycles_and_time(void)
{
    u64 c = value(MODE_M, n_cycle_write, 1ul << 40);
    expect("self counters mcycle is near what was written", c - (1ul << 40) < 100000000, 1);
    u64 before = csr_read(mcycle);
    for (volatile int i = 0; i < 1000; i++) {
    }
    expect("self counters mcycle advances", csr_read(mcycle) > before, 1);
    expect("counters time never goes back, M", value(MODE_M, n_time, 0), 0);
    expect("counters time never goes back, U", value(MODE_U, n_time, 0), 0);
    u64 a = csr_read(time), m = clint_mtime(), b = csr_read(time);
    expect("counters time is mtime", a <= m && m <= b, 1);
    u64 until = clint_mtime() + 20000, spins = 0;
    while (clint_mtime() < until) {
        spins++;
    }
    expect("counters mtime advances", spins > 0, 1);
    csr_write(mcountinhibit, ~0ul);
    u64 inhibited = csr_read(mcountinhibit);
    csr_write(mcountinhibit, 0);
    expect("self counters mcountinhibit has CY and IR, not TM", inhibited & 7, 5);
}

int main(u64 fdt)
{
    (void)fdt;
    csr_write(mcounteren, 7);
    csr_write(scounteren, 7);
    exact();
    cycles_and_time();
    print("counters done\n");
    return 0;
}
