/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The shared library of the RISC-V guest programs: console, power, traps, page tables, random numbers. */
#ifndef GUEST_LIB_H
#define GUEST_LIB_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/layout.h"

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;
typedef int64_t s64;

/* The board (QEMU virt's map). */
#define UART_BASE 0x10000000ul
#define FINISHER_BASE 0x00100000ul
#define CLINT_BASE 0x02000000ul
#define PLIC_BASE 0x0c000000ul
#define RAM_BASE 0x80000000ul
/* The first byte after RAM when the machine has 128 MiB, as run.py gives it. */
#define RAM_END 0x88000000ul

enum mode { MODE_U = 0, MODE_S = 1, MODE_M = 3 };

/* How an attempt ended: all registers and machine trap CSRs. Offsets are in layout.h. */
struct hart {
    u64 regs[32];
    u64 save[16];
    u64 cause, epc, tval, status;
    u64 armed, ret, vector, scratch;
    u64 id, pad[7];
};
extern struct hart harts[MAX_HARTS];

#define csr_read(csr)                                                                                        \
    ({                                                                                                       \
        u64 v_;                                                                                              \
        __asm__ volatile("csrr %0, " #csr : "=r"(v_)::"memory");                                             \
        v_;                                                                                                  \
    })
#define csr_write(csr, val) __asm__ volatile("csrw " #csr ", %0" ::"rK"((u64)(val)) : "memory")
#define csr_set(csr, val) __asm__ volatile("csrs " #csr ", %0" ::"rK"((u64)(val)) : "memory")
#define csr_clear(csr, val) __asm__ volatile("csrc " #csr ", %0" ::"rK"((u64)(val)) : "memory")

static inline struct hart *hart_self(void)
{
    return (struct hart *)csr_read(mscratch);
}
static inline u32 mmio_r32(u64 a)
{
    return *(volatile u32 *)a;
}
static inline u64 mmio_r64(u64 a)
{
    return *(volatile u64 *)a;
}
static inline void mmio_w32(u64 a, u32 v)
{
    *(volatile u32 *)a = v;
}
static inline void mmio_w64(u64 a, u64 v)
{
    *(volatile u64 *)a = v;
}
static inline void sfence(void)
{
    __asm__ volatile("sfence.vma" ::: "memory");
}
static inline void fence_i(void)
{
    __asm__ volatile("fence.i" ::: "memory");
}

#define MSTATUS_SIE (1ul << 1)
#define MSTATUS_MIE (1ul << 3)
#define MSTATUS_SPIE (1ul << 5)
#define MSTATUS_MPIE (1ul << 7)
#define MSTATUS_SPP (1ul << 8)
#define MSTATUS_MPP (3ul << 11)
#define MSTATUS_FS (3ul << 13)
#define MSTATUS_MPRV (1ul << 17)
#define MSTATUS_SUM (1ul << 18)
#define MSTATUS_MXR (1ul << 19)
#define MSTATUS_TVM (1ul << 20)
#define MSTATUS_TW (1ul << 21)
#define MSTATUS_TSR (1ul << 22)

#define IRQ_BIT (1ul << 63)
enum { IRQ_SSI = 1, IRQ_MSI = 3, IRQ_STI = 5, IRQ_MTI = 7, IRQ_SEI = 9, IRQ_MEI = 11 };

static inline void clint_msip(u64 hart, u32 v)
{
    mmio_w32(CLINT_BASE + 4 * hart, v);
}
static inline void clint_mtimecmp(u64 hart, u64 v)
{
    mmio_w64(CLINT_BASE + 0x4000 + 8 * hart, v);
}
static inline u64 clint_mtime(void)
{
    return mmio_r64(CLINT_BASE + 0xbff8);
}

/* console.c. Verbs: %d %u %x (64-bit), %s %c %%, a width with optional leading 0. Hart 0 only, or under a
 * lock. */
void put_char(char c);
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Ends the run: status 0 is a power-off with success, others a failure with that exit code. */
_Noreturn void power_off(u32 status);
/*
 * Ends a line with "NAME: ok" or "NAME: FAIL got X want Y". A line that begins with `self` does not depend on
 * the oracle: the runner requires `ok` of it, from QEMU too unless deviations.txt says why not.
 */
void expect(const char *name, u64 got, u64 want);

/* trap.c */
/*
 * Runs fn(a0, a1) in `mode` until the first trap to machine mode. `mstatus_set` is or-ed into mstatus for the
 * entry (MPP is set by the callee; MPRV, SUM, MXR, TVM... as wanted; MIE/SIE by way of MPIE/SIE). Returns the
 * hart's frame. After it mstatus is back to what the caller had, with MIE clear.
 */
struct hart *try_call(enum mode mode, u64 fn, u64 a0, u64 a1, u64 mstatus_set);
/* Where a function called in a lower mode returns to, and the stack it has; changed by the paging tests. */
extern u64 try_alias;
/* Did supervisor mode take the trap first? Then its view is in s2..s5 of the frame. */
static inline bool took_in_s(const struct hart *h)
{
    return h->regs[22] == S_MAGIC;
}
/* Prints "NAME: ..." with cause, epc relative to `base`, tval, previous mode; the S view if S-mode took it.
 */
void show_trap(const char *name, const struct hart *h, u64 base);
/* Opens the whole address space to S and U by one NAPOT entry. */
void pmp_open(void);
void trap_unexpected(void);
void try_done(void);
/* Supervisor trap vectors: they hand the trap on to machine mode by ecall, or by ebreak. The tables are
 * vectored. */
void s_trap_entry(void);
void s_trap_entry_ebreak(void);
void trap_entry(void);
void m_vectors(void);
void s_vectors(void);

/* paging.c */
enum { PTE_V = 1, PTE_R = 2, PTE_W = 4, PTE_X = 8, PTE_U = 16, PTE_G = 32, PTE_A = 64, PTE_D = 128 };
/* A fresh zeroed page for tables or data; pages_reset frees all. */
u64 *page_new(void);
void pages_reset(void);
/* Installs the leaf for va at `level` (0 = 4 KiB) in the tree of `levels` levels; returns the PTE's address.
 */
u64 *map_page(u64 *root, int levels, u64 va, u64 pa, int level, u64 flags);
/* Writes satp for a tree of 3, 4 or 5 levels, and fences. */
void satp_use(u64 *root, int levels, u64 asid);

/* fdt.c: how many cpu@ nodes the device tree at this address has. */
u64 fdt_count_harts(u64 fdt);

/* A small xorshift generator, and mixing into a running hash. */
static inline u64 rng_next(u64 *state)
{
    u64 x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return x * 0x2545f4914f6cdd1dul;
}
static inline u64 hash_mix(u64 h, u64 v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15ul;
    return h ^ (h >> 29);
}

/* The program: hart 0 runs main; the others run secondary_main, which waits for ever unless the program has
 * its own. */
int main(u64 fdt);
void secondary_main(u64 hart);
_Noreturn void hart_start(u64 hart, u64 fdt);

#endif
