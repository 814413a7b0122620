/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Physical memory protection: matching, priority, permissions, locks, and what it does to page walks. */
#include "lib/lib.h"
#include "lib/stub.h"

STUB(q_load, "ld a0, 0(a0)");
STUB(q_lw, "lw a0, 0(a0)");
STUB(q_lb, "lb a0, 0(a0)");
STUB(q_store, "sd a1, 0(a0)");
STUB(q_sb, "sb a1, 0(a0)");
STUB(q_amo, "amoadd.d a0, a1, (a0)");

enum { R = 1, W = 2, X = 4, TOR = 8, NA4 = 16, NAPOT = 24, L = 128 };

static u8 area[65536] __attribute__((aligned(65536)));

/* Entry 15 is the background that lets everything else through. */
static void pmp_set(int i, u64 addr, u8 cfg)
{
    u64 shift = 8 * (u64)(i & 7), mask = ~(0xfful << shift);
#define ONE(n)                                                                                               \
    case n: csr_write(pmpaddr##n, addr); break;
    switch (i) {
        ONE(0) ONE(1) ONE(2) ONE(3) ONE(4) ONE(5) ONE(6) ONE(7) ONE(8) ONE(15) default : break;
    }
    if (i < 8) {
        csr_write(pmpcfg0, (csr_read(pmpcfg0) & mask) | (u64)cfg << shift);
    } else {
        csr_write(pmpcfg2, (csr_read(pmpcfg2) & mask) | (u64)cfg << shift);
    }
    sfence();
}

static void background(void)
{
    csr_write(pmpaddr15, ~0ul >> 10);
    csr_write(pmpcfg2, (u64)(NAPOT | R | W | X) << 56);
    csr_write(pmpcfg0, 0);
    sfence();
}

static u64 napot(u64 base, u64 size)
{
    return base >> 2 | ((size >> 3) - 1);
}

static char outcome(u64 cause, u64 fault)
{
    return cause >= 8 && cause <= 11 ? '.' : cause == fault ? 'a' : '?';
}

static void code_reset(void)
{
    for (unsigned i = 0; i < 32768; i += 2) {
        area[i] = 0x82; /* c.jr ra */
        area[i + 1] = 0x80;
    }
    fence_i();
}

/* Load, store, fetch by each mode at one address. */
static void probe(const char *name, u64 at)
{
    static const enum mode modes[] = {MODE_M, MODE_S, MODE_U};
    print("%s +0x%lx:", name, at - (u64)area);
    for (int m = 0; m < 3; m++) {
        char l = outcome(try_call(modes[m], (u64)q_lb, at, 0, 0)->cause, 5);
        char s = outcome(try_call(modes[m], (u64)q_sb, at, at & 1 ? 0x80 : 0x82, 0)->cause, 7);
        char f = at & 1 ? '-' : outcome(try_call(modes[m], at, 0, 0, 0)->cause, 1);
        print(" %s %c%c%c", mode_names[modes[m]], l, s, f);
    }
    print("\n");
}

static void permissions(void)
{
    for (unsigned rwx = 0; rwx < 8; rwx++) {
        if ((rwx & 3) == W) {
            continue; /* W without R is reserved */
        }
        background();
        pmp_set(0, napot((u64)area + 4096, 4096), (u8)(NAPOT | rwx));
        code_reset();
        print("rwx=%u ", rwx);
        probe("below", (u64)area + 4094);
        print("rwx=%u ", rwx);
        probe("inside", (u64)area + 4096);
        print("rwx=%u ", rwx);
        probe("last", (u64)area + 8190);
        print("rwx=%u ", rwx);
        probe("above", (u64)area + 8192);
    }
}

static void sizes(void)
{
    for (u64 size = 4; size <= 8192; size *= 2) {
        background();
        code_reset();
        u64 base = (u64)area + 8192;
        pmp_set(0, size == 4 ? base >> 2 : napot(base, size), size == 4 ? NA4 : NAPOT);
        print("size=%lu ", size);
        probe("below", base - 2);
        print("size=%lu ", size);
        probe("first", base);
        print("size=%lu ", size);
        probe("last", base + size - 2);
        print("size=%lu ", size);
        probe("above", base + size);
    }
}

static void top_of_range(void)
{
    static const struct {
        u64 from, to;
    } ranges[] = {{0, 4096}, {4096, 4100}, {4092, 8196}, {8192, 8192}, {8192, 4096}, {12, 16}};
    for (unsigned i = 0; i < 6; i++) {
        background();
        code_reset();
        pmp_set(1, ((u64)area + ranges[i].from) >> 2, 0);
        pmp_set(2, ((u64)area + ranges[i].to) >> 2, TOR | R);
        static const u64 at[] = {0, 8, 12, 14, 16, 4090, 4092, 4096, 4098, 4100, 8190, 8192, 8194, 8196};
        for (unsigned k = 0; k < sizeof(at) / sizeof(at[0]); k++) {
            print("tor %lu..%lu ", ranges[i].from, ranges[i].to);
            probe("", (u64)area + at[k]);
        }
    }
    /* Entry 0 as TOR begins at address 0. */
    background();
    pmp_set(0, ((u64)area + 4096) >> 2, TOR | R | W | X);
    pmp_set(1, napot((u64)area, 65536), NAPOT);
    probe("tor from zero", (u64)area + 100);
    probe("tor from zero", (u64)area + 4096);
}

static void priority(void)
{
    for (int swap = 0; swap < 2; swap++) {
        background();
        code_reset();
        pmp_set(swap ? 4 : 3, napot((u64)area + 4096, 4096), NAPOT | R);
        pmp_set(swap ? 3 : 4, napot((u64)area, 16384), NAPOT | R | W | X);
        print("priority %d ", swap);
        probe("", (u64)area + 4096);
        print("priority %d ", swap);
        probe("", (u64)area);
    }
    background();
    csr_write(pmpcfg2, 0);
    pmp_set(0, napot((u64)area, 65536), NAPOT | R | W | X);
    pmp_set(1, ~0ul >> 10, NAPOT | R | X);
    struct hart *h = try_call(MODE_S, (u64)q_sb, (u64)hart_self() - 8192, 0, 0);
    print("write to a readable region: cause %lu\n", h->cause);
    background();
}

/*
 * An access that lies in two regions fails even if both allow it: the first entry that matches any byte must
 * cover all of them. A misaligned access may be made in parts, each checked for itself, so only aligned ones
 * are sure to fail.
 */
static void partial(void)
{
    background();
    code_reset();
    for (u64 entry = 4092; entry <= 4104; entry += 4) {
        pmp_set(0, ((u64)area + entry) >> 2, NA4 | R | W | X);
        bool part = entry == 4096 || entry == 4100;
        print("self pmp doubleword at +4096, entry at +%lu", entry);
        expect("", try_call(MODE_S, (u64)q_load, (u64)area + 4096, 0, 0)->cause, part ? 5 : 9);
        print("self pmp store to it, entry at +%lu", entry);
        expect("", try_call(MODE_U, (u64)q_store, (u64)area + 4096, 0x8082808280828082, 0)->cause,
               part ? 7 : 8);
        print("self pmp word at +4096, entry at +%lu", entry);
        expect("", try_call(MODE_S, (u64)q_lw, (u64)area + 4096, 0, 0)->cause, 9);
        struct hart *h = try_call(MODE_S, (u64)q_load, (u64)area + 4092, 0, 0);
        print("note misaligned doubleword at +4092, entry at +%lu: cause %lu\n", entry, h->cause);
    }
    /* An instruction half in and half out. */
    u16 *code = (u16 *)(area + 4094);
    code[0] = 0x0513;
    code[1] = 0x0070;
    code[2] = 0x8082;
    fence_i();
    background();
    pmp_set(0, ((u64)area + 4096) >> 2, NA4);
    struct hart *h = try_call(MODE_S, (u64)code, 0, 0, 0);
    print("fetch over the edge: cause %lu epc +0x%lx tval +0x%lx\n", h->cause, h->epc - (u64)area,
          h->tval - (u64)area);
    h = try_call(MODE_U, (u64)q_amo, (u64)area + 4096, 0, 0);
    expect("self pmp amo is a store fault", h->cause, 7);
    background();
}

/* MPRV makes machine mode's data accesses those of MPP; fetches stay machine mode's. */
static void mprv(void)
{
    background();
    code_reset();
    pmp_set(0, napot((u64)area + 4096, 4096), NAPOT);
    struct hart *h = try_call(MODE_M, (u64)q_load, (u64)area + 4096, 0, 0);
    print("M load, no MPRV: %lu\n", h->cause);
    csr_clear(mstatus, MSTATUS_MPP);
    csr_set(mstatus, MSTATUS_MPRV);
    u64 outside;
    __asm__ volatile("ld %0, 0(%1)" : "=r"(outside) : "r"(area) : "memory");
    csr_clear(mstatus, MSTATUS_MPRV);
    print("M load as U outside: fine\n");
}

/* Page-table reads are S-mode accesses: an entry that denies them makes an access fault of the original kind.
 */
static void walks(void)
{
    background();
    code_reset();
    u64 *root = page_new();
    u64 *leaf = map_page(root, 3, 0x3f40000000, (u64)area, 0, 0xcf);
    map_page(root, 3, RAM_BASE, RAM_BASE, 2, 0xcf);
    satp_use(root, 3, 0);
    for (unsigned rwx = 0; rwx < 4; rwx++) {
        if (rwx == W) {
            continue;
        }
        pmp_set(0, napot((u64)leaf & ~4095ul, 4096), (u8)(NAPOT | rwx));
        char l = outcome(try_call(MODE_S, (u64)q_lb, 0x3f40000000, 0, 0)->cause, 5);
        u64 tval = hart_self()->tval;
        char s = outcome(try_call(MODE_S, (u64)q_sb, 0x3f40000000, 0x82, 0)->cause, 7);
        char f = outcome(try_call(MODE_S, 0x3f40000000, 0, 0, 0)->cause, 1);
        print("page table in rwx=%u: %c%c%c tval 0x%lx\n", rwx, l, s, f, tval);
    }
    csr_write(satp, 0);
    sfence();
    pages_reset();
    background();
}

static void registers(void)
{
    background();
    csr_write(pmpcfg0, 0);
    csr_write(pmpaddr3, ~0ul);
    expect("self pmp pmpaddr has 54 bits", csr_read(pmpaddr3), ~0ul >> 10);
    csr_write(pmpaddr3, 0);
    static const u8 configs[] = {0x00, 0x07, 0x0f, 0x17, 0x1f, 0x18, 0x09};
    for (unsigned i = 0; i < sizeof(configs); i++) {
        csr_write(pmpcfg0, (u64)configs[i] << 24);
        print("pmpcfg 0x%x reads 0x%lx\n", configs[i], csr_read(pmpcfg0));
    }
    csr_write(pmpcfg0, 0);
    csr_write(pmpcfg0, 0x60);
    expect("self pmp reserved bits 5 and 6 read zero", csr_read(pmpcfg0) & 0x60, 0);
    csr_write(pmpcfg0, 0);
    csr_write(pmpcfg0, W);
    expect("self pmp W without R does not stick", (csr_read(pmpcfg0) & 3) != W, 1);
    csr_write(pmpcfg0, 0);
}

/* Last, because a lock lasts until reset. */
static void locks(void)
{
    background();
    code_reset();
    pmp_set(5, ((u64)area + 8192) >> 2, 0);
    pmp_set(6, ((u64)area + 12288) >> 2, TOR | R | L);
    print("locked ");
    probe("inside", (u64)area + 8192);
    print("locked ");
    probe("outside", (u64)area + 4096);
    u64 cfg = csr_read(pmpcfg0), a5 = csr_read(pmpaddr5), a6 = csr_read(pmpaddr6);
    csr_write(pmpcfg0, 0);
    csr_write(pmpaddr5, 0);
    csr_write(pmpaddr6, 0);
    print("lock keeps cfg: 0x%lx, its address %u, the one below %u\n", csr_read(pmpcfg0),
          csr_read(pmpaddr6) == a6, csr_read(pmpaddr5) == a5);
    (void)cfg;
    pmp_set(7, napot((u64)area, 4096), NAPOT | L);
    print("locked without permissions ");
    probe("", (u64)area + 8);
    pmp_set(4, napot((u64)area, 4096), NAPOT | R | W | X);
    print("a lower number in front of a lock ");
    probe("", (u64)area + 8);
}

/* With entries off nothing lets S and U through; machine mode still may do everything. */
static void none(void)
{
    csr_write(pmpcfg0, 0);
    csr_write(pmpcfg2, 0);
    sfence();
    struct hart *h = try_call(MODE_M, (u64)q_load, (u64)area, 0, 0);
    print("no entry: M %lu\n", h->cause);
    h = try_call(MODE_S, (u64)q_load, (u64)area, 0, 0);
    expect("self pmp no entry: S fetch", h->cause << 8 | (h->epc == (u64)q_load && h->tval == (u64)q_load),
           1 << 8 | 1);
    h = try_call(MODE_U, (u64)q_load, (u64)area, 0, 0);
    expect("self pmp no entry: U fetch", h->cause << 8 | (h->epc == (u64)q_load && h->tval == (u64)q_load),
           1 << 8 | 1);
    background();
}

int main(u64 fdt)
{
    (void)fdt;
    csr_write(satp, 0);
    code_reset();
    none();
    registers();
    permissions();
    sizes();
    top_of_range();
    priority();
    partial();
    mprv();
    walks();
    locks();
    print("pmp done\n");
    return 0;
}
