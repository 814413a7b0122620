/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Attempts: run a function in some mode, see which trap ends it. The theory of operation is in start.S. */
#include "lib/lib.h"

_Static_assert(offsetof(struct hart, save) == H_SAVE, "layout.h");
_Static_assert(offsetof(struct hart, cause) == H_CAUSE, "layout.h");
_Static_assert(offsetof(struct hart, armed) == H_ARMED, "layout.h");
_Static_assert(offsetof(struct hart, ret) == H_RET, "layout.h");
_Static_assert(offsetof(struct hart, scratch) == H_SCRATCH, "layout.h");
_Static_assert(offsetof(struct hart, id) == H_ID, "layout.h");
_Static_assert(sizeof(struct hart) == HART_SIZE, "layout.h");

struct hart harts[MAX_HARTS];
u64 try_alias;
static u8 try_stack[MAX_HARTS][4096] __attribute__((aligned(4096)));

void try_enter(u64 entry, u64 a0, u64 a1, u64 stack, u64 status);

struct hart *try_call(enum mode mode, u64 fn, u64 a0, u64 a1, u64 mstatus_set)
{
    struct hart *h = hart_self();
    u64 before = csr_read(mstatus) & ~MSTATUS_MIE;
    u64 status = (before & ~(MSTATUS_MPP | MSTATUS_MPIE)) | (u64)mode << 11 | mstatus_set;
    h->ret = (u64)try_done + try_alias;
    h->vector = ~0ul;
    try_enter(fn, a0, a1, (u64)try_stack[h->id] + sizeof(try_stack[0]) + try_alias, status);
    csr_write(mstatus, before);
    return h;
}

/* Where a trap happened: at the end of a function that ran through, or relative to its beginning. */
static void show_place(u64 epc, u64 base)
{
    if (epc == (u64)try_done + try_alias) {
        print(" done");
    } else {
        print(" epc=+0x%lx", epc - base);
    }
}

static void show_cause(u64 cause)
{
    print("%s%lu", cause & IRQ_BIT ? "irq" : "exc", cause & ~IRQ_BIT);
}

void show_trap(const char *name, const struct hart *h, u64 base)
{
    print("%s: ", name);
    show_cause(h->cause);
    if (took_in_s(h)) {
        /* The trap into machine mode is only the way back; what matters is the supervisor's view. */
        print(" S: ");
        show_cause(h->regs[18]);
        show_place(h->regs[19], base);
        print(" tval=0x%lx spp=%lu spie=%lu sie=%lu", h->regs[20], h->regs[21] >> 8 & 1, h->regs[21] >> 5 & 1,
              h->regs[21] >> 1 & 1);
    } else {
        show_place(h->epc, base);
        print(" tval=0x%lx mpp=%lu mpie=%lu", h->tval, h->status >> 11 & 3, h->status >> 7 & 1);
    }
    print(" a0=0x%lx\n", h->regs[10]);
}

void pmp_open(void)
{
    csr_write(pmpaddr0, ~0ul >> 10);
    csr_write(pmpcfg0, 0x1f);
    sfence();
}

void trap_unexpected(void)
{
    struct hart *h = hart_self();
    print("\nunexpected trap: hart %lu cause 0x%lx epc 0x%lx tval 0x%lx\n", h->id, h->cause, h->epc, h->tval);
    power_off(99);
}

__attribute__((weak)) void secondary_main(u64 hart)
{
    (void)hart;
    for (;;) {
        __asm__ volatile("wfi");
    }
}

void hart_start(u64 hart, u64 fdt)
{
    harts[hart].id = hart;
    pmp_open();
    if (hart == 0) {
        power_off((u32)main(fdt));
    }
    secondary_main(hart);
    for (;;) {
        __asm__ volatile("wfi");
    }
}
