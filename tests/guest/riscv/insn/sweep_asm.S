/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Enters U-mode with every register chosen, and folds the register file of a trap frame into one word. */
#include "lib/layout.h"

    .text
    .option norelax
/* void sweep_enter(entry a0, const u64 regs[32] a1, mstatus a2): returns like try_enter, after a trap. */
    .globl sweep_enter
sweep_enter:
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
    csrw    mstatus, a2
    mv      x31, a1
    .irp    r, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    ld      x\r, 8*\r(x31)
    .endr
    ld      x31, 8*31(x31)
    mret

/* u64 sweep_fold(const u64 regs[32] a0): order-dependent and cheap; one wrong register always shows. */
    .globl sweep_fold
sweep_fold:
    li      a1, 0
    .irp    r, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld      a2, 8*\r(a0)
    slli    a3, a1, 5
    sub     a1, a3, a1
    add     a1, a1, a2
    .endr
    mv      a0, a1
    ret

/* The floating-point registers, between attempts. */
    .globl sweep_load_fp
sweep_load_fp:
    .irp    r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    fld     f\r, 8*\r(a0)
    .endr
    ret
    .globl sweep_store_fp
sweep_store_fp:
    .irp    r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    fsd     f\r, 8*\r(a0)
    .endr
    ret
