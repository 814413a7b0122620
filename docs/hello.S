/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * The smallest kernel that docs/boot.md can follow: a RISC-V Image that says two words through SBI and has the
 * machine switched off. Its header is the one of Linux, Documentation/arch/riscv/boot-image-header.rst.
 */
    .option norelax
    .option norvc
    .globl _start
_start:
    j main                  /* code0 */
    .word 0                 /* code1 */
    .dword 0x200000         /* text_offset: where in RAM */
    .dword end - _start     /* image_size */
    .dword 0                /* flags: little-endian */
    .word 2                 /* version 0.2 */
    .word 0
    .dword 0
    .ascii "RISCV\0\0\0"    /* magic, the old one */
    .ascii "RSC\x05"        /* magic2 */
    .word 0

main:                       /* S-mode, a0 = hart, a1 = device tree */
    lla s0, text
say:
    lbu a0, 0(s0)
    beqz a0, off
    li a7, 1                /* legacy console putchar */
    ecall
    addi s0, s0, 1
    j say
off:
    li a7, 0x53525354       /* "SRST", system_reset: shutdown, for no reason */
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
    j .

text:
    .asciz "hello, machine\n"
    .balign 8
end:
