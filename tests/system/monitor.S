/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest that does what it is told on its console: firmware for tests of everything around a guest. */
/*
 * Prints "ready", then obeys bytes: P power off, F fail with code 42, R reset,
 * N never reads again, O prints without end, L prints 6,000 numbered lines and "end". Any other byte is printed between
 * angle brackets. A break condition prints "break".
 */
#define UART 0x10000000
#define FINISHER 0x100000
#define LSR 5
#define LSR_DATA 1
#define LSR_BREAK 0x10
#define LSR_EMPTY 0x20

        .option norelax
        .globl  _start
_start:
        csrr    t0, mhartid
        bnez    t0, idle
        la      sp, stack_end
        li      s0, UART
        la      a0, ready
        call    print

next:   lbu     t0, LSR(s0)
        andi    t1, t0, LSR_BREAK
        beqz    t1, no_break
        lbu     t2, 0(s0)       /* the zero that comes with it */
        la      a0, broken
        call    print
        j       next
no_break:
        andi    t1, t0, LSR_DATA
        beqz    t1, next
        lbu     s1, 0(s0)
        li      t0, 'P'
        beq     s1, t0, power_off
        li      t0, 'F'
        beq     s1, t0, fail
        li      t0, 'R'
        beq     s1, t0, reset
        li      t0, 'N'
        beq     s1, t0, spin
        li      t0, 'O'
        beq     s1, t0, flood
        li      t0, 'L'
        beq     s1, t0, lines
        li      a0, '<'
        call    put
        mv      a0, s1
        call    put
        li      a0, '>'
        call    put
        j       next

power_off:
        li      t1, 0x5555
        j       finish
fail:   li      t1, 42 << 16 | 0x3333
        j       finish
reset:  li      t1, 0x7777
finish: li      t0, FINISHER
        sw      t1, 0(t0)
spin:   j       spin
idle:   wfi
        j       idle

flood:  li      a0, 'o'
        call    put
        j       flood

lines:  li      s2, 0
1:      mv      a0, s2
        call    number
        addi    s2, s2, 1
        li      t0, 6000
        bne     s2, t0, 1b
        la      a0, end
        call    print
        j       next

/* Prints a0 as eight hexadecimal digits and a newline. */
number: addi    sp, sp, -32
        sd      ra, 0(sp)
        sd      s3, 8(sp)
        sd      s4, 16(sp)
        mv      s3, a0
        li      s4, 28
2:      srl     a0, s3, s4
        andi    a0, a0, 15
        addi    a0, a0, '0'
        li      t0, '9'
        ble     a0, t0, 3f
        addi    a0, a0, 'a' - '9' - 1
3:      call    put
        addi    s4, s4, -4
        bgez    s4, 2b
        li      a0, '\n'
        call    put
        ld      ra, 0(sp)
        ld      s3, 8(sp)
        ld      s4, 16(sp)
        addi    sp, sp, 32
        ret

/* Prints the string at a0. */
print:  addi    sp, sp, -16
        sd      ra, 0(sp)
        sd      s5, 8(sp)
        mv      s5, a0
4:      lbu     a0, 0(s5)
        beqz    a0, 5f
        call    put
        addi    s5, s5, 1
        j       4b
5:      ld      ra, 0(sp)
        ld      s5, 8(sp)
        addi    sp, sp, 16
        ret

/* Prints the character a0. */
put:    lbu     t0, LSR(s0)
        andi    t0, t0, LSR_EMPTY
        beqz    t0, put
        sb      a0, 0(s0)
        ret

ready:  .asciz  "ready\n"
broken: .asciz  "break\n"
end:    .asciz  "end\n"

        .bss
        .balign 16
        .space  512
stack_end:
