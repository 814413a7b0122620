/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * A guest of a dozen instructions, which docs/translation.md follows: it adds up bytes and switches itself off.
 *
 *     riscv64-linux-gnu-gcc -march=rv64i -mabi=lp64 -nostdlib -static -Wl,--no-relax,--build-id=none,-n,-Ttext=0x80000000 \
 *         docs/sum.S -o sum.elf
 */
    .option norelax
    .globl _start
_start:
    lla a1, first
    lla a2, last
    li a0, 0
loop:
    lbu a3, 0(a1)           /* take a byte, */
    addi a1, a1, 1
    add a0, a0, a3          /* add it, */
    bne a1, a2, loop        /* and so on up to the last */
    li t0, 0x100000         /* the machine's switch (docs/boot.md) */
    li t1, 0x5555
    sw t1, 0(t0)
    j .

first:
    .byte 2, 3, 5, 7, 11, 13, 17, 19
last:
