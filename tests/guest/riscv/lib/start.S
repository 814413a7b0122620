/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Entry of every guest program, the machine-mode trap frame, and the way into a lower mode and back. */

/*
 * Theory of operation
 *
 * All harts enter at _start. Each takes a stack and a `struct hart` (lib.h), whose address lives in mscratch from then on.
 *
 * A test runs a few instructions in some mode and wants to know how that ended. `try_call` keeps the caller's callee-saved
 * registers in the hart structure, enters the chosen mode by mret, and *every* trap into machine mode, interrupts
 * included, ends the attempt: trap_entry stores all registers and trap CSRs in the structure and returns to
 * try_call's caller. A function that runs to its end returns to `try_done`, whose ecall is just another trap.
 * Traps delegated to supervisor mode land in s_trap_entry, which notes the supervisor CSRs and does an ecall too.
 */
#include "lib/layout.h"

    .section .text.entry, "ax"
    .option norelax
    .globl _start
_start:
    csrr    t0, mhartid
    li      t1, MAX_HARTS
    bgeu    t0, t1, park
    la      tp, harts
    li      t1, HART_SIZE
    mul     t1, t1, t0
    add     tp, tp, t1
    csrw    mscratch, tp
    la      sp, stacks
    addi    t1, t0, 1
    slli    t1, t1, STACK_SHIFT
    add     sp, sp, t1
    la      t1, trap_entry
    csrw    mtvec, t1
    csrw    mie, zero
    mv      a0, t0
    call    hart_start
park:
    wfi
    j       park

    .text
    .balign 4
    .globl trap_entry
trap_entry:
    csrrw   tp, mscratch, tp
    sd      x1, H_REGS+8*1(tp)
    sd      x2, H_REGS+8*2(tp)
    sd      x3, H_REGS+8*3(tp)
    .irp    r, 5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    sd      x\r, H_REGS+8*\r(tp)
    .endr
    csrr    t0, mscratch
    sd      t0, H_REGS+8*4(tp)
    csrw    mscratch, tp
    csrr    t0, mcause
    sd      t0, H_CAUSE(tp)
    csrr    t0, mepc
    sd      t0, H_EPC(tp)
    csrr    t0, mtval
    sd      t0, H_TVAL(tp)
    csrr    t0, mstatus
    sd      t0, H_STATUS(tp)
    ld      t1, H_ARMED(tp)
    sd      zero, H_ARMED(tp)
    beqz    t1, unexpected
    ld      sp, H_SAVE+8*0(tp)
    ld      ra, H_SAVE+8*1(tp)
    ld      s0, H_SAVE+8*2(tp)
    ld      s1, H_SAVE+8*3(tp)
    ld      s2, H_SAVE+8*4(tp)
    ld      s3, H_SAVE+8*5(tp)
    ld      s4, H_SAVE+8*6(tp)
    ld      s5, H_SAVE+8*7(tp)
    ld      s6, H_SAVE+8*8(tp)
    ld      s7, H_SAVE+8*9(tp)
    ld      s8, H_SAVE+8*10(tp)
    ld      s9, H_SAVE+8*11(tp)
    ld      s10, H_SAVE+8*12(tp)
    ld      s11, H_SAVE+8*13(tp)
    ld      gp, H_SAVE+8*14(tp)
    ret

/* No attempt is under way: the stack pointer may be anything, so take the hart's stack from its top. */
unexpected:
    ld      t0, H_ID(tp)
    addi    t0, t0, 1
    slli    t0, t0, STACK_SHIFT
    la      sp, stacks
    add     sp, sp, t0
    tail    trap_unexpected

/* void try_enter(entry a0, arg0 a1, arg1 a2, stack a3, mstatus a4): see try_call in trap.c */
    .globl try_enter
try_enter:
    csrr    t0, mscratch
    sd      sp, H_SAVE+8*0(t0)
    sd      ra, H_SAVE+8*1(t0)
    sd      s0, H_SAVE+8*2(t0)
    sd      s1, H_SAVE+8*3(t0)
    sd      s2, H_SAVE+8*4(t0)
    sd      s3, H_SAVE+8*5(t0)
    sd      s4, H_SAVE+8*6(t0)
    sd      s5, H_SAVE+8*7(t0)
    sd      s6, H_SAVE+8*8(t0)
    sd      s7, H_SAVE+8*9(t0)
    sd      s8, H_SAVE+8*10(t0)
    sd      s9, H_SAVE+8*11(t0)
    sd      s10, H_SAVE+8*12(t0)
    sd      s11, H_SAVE+8*13(t0)
    sd      gp, H_SAVE+8*14(t0)
    li      t1, 1
    sd      t1, H_ARMED(t0)
    csrw    mepc, a0
    csrw    mstatus, a4
    mv      sp, a3
    ld      ra, H_RET(t0)
    mv      a0, a1
    mv      a1, a2
    li      s6, 0
    mret

/* The end of a function that ran in a lower mode; position-independent, so it works through any alias of the image. */
    .globl try_done
    .balign 4
try_done:
    ecall
    j       try_done

/* Supervisor trap vector: keep what supervisor mode saw in s-registers that the machine-mode frame will hold. */
    .balign 4
    .globl s_trap_entry
s_trap_entry:
    csrr    s2, scause
    csrr    s3, sepc
    csrr    s4, stval
    csrr    s5, sstatus
    li      s6, S_MAGIC
    ecall
    j       s_trap_entry

/* The same with another way out, for tests that delegate the ecall itself. */
    .globl s_trap_entry_ebreak
    .balign 4
s_trap_entry_ebreak:
    csrr    s2, scause
    csrr    s3, sepc
    csrr    s4, stval
    csrr    s5, sstatus
    li      s6, S_MAGIC
    ebreak
    j       s_trap_entry_ebreak

/* A vectored table for either mode: entry i leaves i in s7 (supervisor) or in the hart structure (machine). */
    .balign 256
    .globl m_vectors
m_vectors:
    .irp    i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    .option push
    .option norvc
    j       m_vector_\i
    .option pop
    .endr
    .irp    i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
m_vector_\i:
    csrrw   t0, mscratch, t0
    sd      t1, H_SCRATCH(t0)
    li      t1, \i
    sd      t1, H_VECTOR(t0)
    ld      t1, H_SCRATCH(t0)
    csrrw   t0, mscratch, t0
    j       trap_entry
    .endr
    .balign 256
    .globl s_vectors
s_vectors:
    .irp    i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    .option push
    .option norvc
    j       s_vector_\i
    .option pop
    .endr
    .irp    i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
s_vector_\i:
    li      s7, \i
    j       s_trap_entry
    .endr

    .bss
    .balign 4096
stacks:
    .space  MAX_HARTS << STACK_SHIFT
