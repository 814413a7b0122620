/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest whose registers and memory are known: firmware for tests of what is told about a guest that stands. */
/*
 * Each hart fills x1 to x31 with 0x1111 * number and its own number in the top byte, f0 to f31 with 0x2222 * number,
 * and spins. The first one has written a pattern to memory at 8 MiB and behind 12 MiB before, and says "ready".
 */
        .option norelax
        .globl  _start
        .globl  spin
_start:
        csrr    t0, mhartid
        bnez    t0, fill
        li      s0, 0x80000000 + (8 << 20)
        li      s1, 0x1122334455667788
        sd      s1, 0(s0)
        addi    s1, s1, 1
        sd      s1, 8(s0)
        li      s0, 0x80000000 + (12 << 20) + 0x123
        li      s1, 0x5a
        sb      s1, 0(s0)
        li      s0, 0x10000000
        la      s1, ready
put:    lbu     t1, 0(s1)
        beqz    t1, fill
        sb      t1, 0(s0)
        addi    s1, s1, 1
        j       put
fill:   li      t1, 0x2000      /* FS: initial */
        csrs    mstatus, t1
        li      t1, 0x22        /* fflags: divided by zero; frm: down, shifted */
        csrw    fcsr, t1
        slli    t0, t0, 56
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        li      t1, 0x2222 * \n
        fmv.d.x f\n, t1
        .endr
        .irp n, 1,2,3,4,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,6
        li      x\n, 0x1111 * \n
        add     x\n, x\n, t0
        .endr
        li      x5, 0x1111 * 5
spin:   j       spin
ready:  .asciz  "ready\n"
