/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Precise state: at interrupts anywhere in a loop, at faults inside a block, and when code moves under its
 * address. */
#include "lib/lib.h"
#include "lib/stub.h"

#define CODE_VA 0x3f40000000ul
#define DATA_VA 0x3f80000000ul
#define RWX (PTE_V | PTE_R | PTE_W | PTE_X | PTE_A | PTE_D)

static u64 *root;

static void tree(void)
{
    pages_reset();
    root = page_new();
    map_page(root, 3, RAM_BASE, RAM_BASE, 2, RWX);
}

/*
 * Each instruction adds one to one register, in turn: with x the place in the loop an interrupt was taken at,
 * the registers before it are one ahead of those behind it. All have the same number of turns but for that.
 */
STUB(count_loop, "1: addi a0, a0, 1\naddi a1, a1, 1\naddi a2, a2, 1\naddi a3, a3, 1\naddi a4, a4, 1\n"
                 "sd a4, 0(s1)\nld a5, 0(s1)\naddi a6, a6, 1\nadd a7, a7, s2\nbltu a7, s3, 1b");
STUB(count_start,
     "mv s1, a0\nmv s3, a1\nli a0, 0\nli a1, 0\nli a2, 0\nli a3, 0\nli a4, 0\nli a5, 0\nli a6, 0\n"
     "li a7, 0\nli s2, 1\nlla t0, count_loop\njr t0");

/* How many of the loop's instructions the registers say are done in this turn; -1 if they contradict each
 * other. */
static int progress(const u64 *x, u64 memory)
{
    const u64 seen[] = {x[10], x[11], x[12], x[13], x[14], memory, x[15], x[16], x[17]};
    int done = 0;
    while (done < 9 && seen[done] == seen[0]) {
        done++;
    }
    if (done == 9) {
        return 9; /* or 0: the turn is complete */
    }
    for (int i = done; i < 9; i++) {
        if (seen[i] != seen[0] - 1) {
            return -1;
        }
    }
    return done;
}

/* Resumes an interrupted attempt with all its registers. */
void resume(const u64 *regs, u64 epc, u64 status);
__asm__(
    ".text\n.globl resume\nresume:\ncsrr t0, mscratch\nsd sp, 256(t0)\nsd ra, 264(t0)\nsd s0, 272(t0)\n"
    "sd s1, 280(t0)\nsd s2, 288(t0)\nsd s3, 296(t0)\nsd s4, 304(t0)\nsd s5, 312(t0)\nsd s6, 320(t0)\nsd s7, "
    "328(t0)\n"
    "sd s8, 336(t0)\nsd s9, 344(t0)\nsd s10, 352(t0)\nsd s11, 360(t0)\nsd gp, 368(t0)\nli t1, 1\nsd t1, "
    "416(t0)\n"
    "csrw mepc, a1\ncsrw mstatus, a2\nmv x31, a0\n.irp r, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,"
    "21,22,23,24,25,26,27,28,29,30\nld x\\r, 8*\\r(x31)\n.endr\nld x31, 248(x31)\nmret\n");

static void interrupts(enum mode mode)
{
    static u64 cell;
    static u64 regs[32];
    cell = 0;
    csr_write(mie, 1 << IRQ_MTI);
    clint_mtimecmp(0, clint_mtime() + 50);
    u64 base = (u64)count_loop, contradictions = 0, misplaced = 0, taken = 0;
    struct hart *h = try_call(mode, (u64)count_start, (u64)&cell, ~0ul, MSTATUS_MPIE);
    u64 r = 1;
    while (h->cause == (IRQ_BIT | IRQ_MTI)) {
        taken++;
        u64 place = (h->epc - base) / 4;
        if (place < 10) {
            int done = progress(h->regs, cell);
            contradictions += done < 0;
            misplaced += done >= 0 && (u64)done != place && !(done == 9 && place == 0);
        }
        for (int i = 0; i < 32; i++) {
            regs[i] = h->regs[i];
        }
        if (taken >= 200 && place < 10 && regs[19] == ~0ul) {
            regs[19] = regs[17] + 10; /* s3, the end of the loop, which has begun */
        }
        /* On a slow machine nothing may come between two of them: then there is more and more time. */
        clint_mtimecmp(0, clint_mtime() + 20 + (rng_next(&r) & 127) + (taken > 200 ? taken : 0));
        resume(regs, h->epc, (h->status & ~MSTATUS_MPP) | (u64)mode << 11 | MSTATUS_MPIE);
    }
    csr_write(mie, 0);
    clint_mtimecmp(0, ~0ul);
    print("precise interrupts in %s: contradictions %lu misplaced %lu over the end %ld cause %lu\n",
          mode_names[mode], contradictions, misplaced, (s64)(h->regs[17] - regs[19]), h->cause);
}

/*
 * A block of accesses, each with arithmetic and floating point around it; page k of its data is missing. What
 * is before the fault has happened, flags and memory included, and nothing behind it.
 */
STUB(fault_block, "li a2, 0\nfmv.d.x fa0, zero\nfcvt.d.w fa1, a1\ncsrwi fflags, 0\n"
                  "sd a1, 0(a0)\naddi a2, a2, 1\nfdiv.d fa0, fa1, fa0\n"
                  "add a0, a0, a3\nld a4, 0(a0)\naddi a2, a2, 2\nfsqrt.d fa2, fa1\n"
                  "add a0, a0, a3\nfsd fa0, 8(a0)\naddi a2, a2, 4\nfcvt.w.d a5, fa0\n"
                  "add a0, a0, a3\namoadd.d a6, a2, (a0)\naddi a2, a2, 8\n"
                  "add a0, a0, a3\nfld fa3, 16(a0)\naddi a2, a2, 16\n"
                  "add a0, a0, a3\nsd a2, -4(a0)\naddi a2, a2, 32\n"
                  "add a0, a0, a3\nlr.d a7, (a0)\naddi a2, a2, 64");
STUB(fault_start, "li a3, 4096\nlla t0, fault_block\njr t0");

static void faults(void)
{
    static u64 data[8][512] __attribute__((aligned(4096)));
    csr_set(mstatus, MSTATUS_FS);
    tree();
    u64 *pte[8];
    for (u64 i = 0; i < 8; i++) {
        pte[i] = map_page(root, 3, DATA_VA + i * 4096, (u64)data[i], 0, RWX);
    }
    satp_use(root, 3, 0);
    for (int missing = -1; missing < 8; missing++) {
        for (int i = 0; i < 8; i++) {
            *pte[i] = (u64)data[i] >> 12 << 10 | (i == missing ? 0 : RWX);
            for (int k = 0; k < 512; k++) {
                data[i][k] = 0x3ff0000000000000 + (u64)k;
            }
        }
        sfence();
        struct hart *h = try_call(MODE_S, (u64)fault_start, DATA_VA, 3, 0);
        bool done = h->cause == 9;
        if (missing == 3) {
            expect("self precise: the cause of an AMO's fault", h->cause, 15);
            h->cause = 15;
        }
        print("fault in page %d: cause %lu epc +0x%lx tval 0x%lx a0 0x%lx a2 %lu", missing, h->cause,
              done ? 0 : h->epc - (u64)fault_block, h->tval, h->regs[10], h->regs[12]);
        u64 sum = 0;
        for (int i = 0; i < 8; i++) {
            /* The last quadword of a page is left out: the part of a store before the page that faults. */
            for (int k = 0; k < 511; k++) {
                sum = hash_mix(sum, data[i][k]);
            }
        }
        print(" a4 0x%lx a5 0x%lx a6 0x%lx fflags %lx memory %016lx\n",
              missing == 0 || missing == 1 ? 0 : h->regs[14], missing >= 0 && missing < 3 ? 0 : h->regs[15],
              missing >= 0 && missing < 4 ? 0 : h->regs[16], csr_read(fflags), sum);
    }
    csr_write(satp, 0);
    sfence();
    csr_clear(mstatus, MSTATUS_FS);
}

static u32 pages[4][1024] __attribute__((aligned(4096)));

static u32 li_a0(u32 value)
{
    return value << 20 | 10 << 7 | 0x13;
}

static u32 addi_a0(u32 value)
{
    return value << 20 | 10 << 15 | 10 << 7 | 0x13;
}

#define RET 0x00008067u

static u64 run(u64 va)
{
    struct hart *h = try_call(MODE_S, va, 0, 0, 0);
    return h->cause == 9 ? h->regs[10] : 0x1000 + h->cause;
}

/* The same address leads to different code, by a changed PTE or another satp; the same code answers at two
 * addresses. */
static void moving_code(void)
{
    tree();
    for (u32 i = 0; i < 4; i++) {
        pages[i][0] = li_a0(100 + i);
        pages[i][1] = RET;
    }
    fence_i();
    u64 *pte = map_page(root, 3, CODE_VA, (u64)pages[0], 0, RWX);
    satp_use(root, 3, 1);
    u64 bad = 0;
    for (u32 i = 0; i < 400; i++) {
        *pte = (u64)pages[i & 3] >> 12 << 10 | RWX;
        if (i & 4) {
            __asm__ volatile("sfence.vma %0" ::"r"(CODE_VA) : "memory");
        } else {
            sfence();
        }
        bad += run(CODE_VA) != 100 + (i & 3);
    }
    expect("precise: code behind a changed PTE", bad, 0);
    *pte = 0;
    sfence();
    print("unmapped code: %lx\n", run(CODE_VA));
    *pte = (u64)pages[2] >> 12 << 10 | (RWX & ~PTE_X);
    sfence();
    print("code without X: %lx\n", run(CODE_VA));
    *pte = (u64)pages[2] >> 12 << 10 | RWX;
    map_page(root, 3, CODE_VA + 0x5000, (u64)pages[2], 0, RWX);
    sfence();
    print("two addresses: %lu %lu\n", run(CODE_VA), run(CODE_VA + 0x5000));
    /* Written through the physical address, run through both. */
    pages[2][0] = li_a0(55);
    fence_i();
    print("after a write: %lu %lu\n", run(CODE_VA), run(CODE_VA + 0x5000));
    u64 *root2 = page_new();
    map_page(root2, 3, RAM_BASE, RAM_BASE, 2, RWX);
    map_page(root2, 3, CODE_VA, (u64)pages[3], 0, RWX);
    bad = 0;
    for (int i = 0; i < 200; i++) {
        csr_write(satp, 8ul << 60 | (u64)(i & 1 ? 2 : 1) << 44 | (u64)(i & 1 ? root2 : root) >> 12);
        bad += run(CODE_VA) != (i & 1 ? 103 : 55);
    }
    expect("precise: code of two address spaces", bad, 0);
    csr_write(satp, 0);
    sfence();
}

/* A block that runs over the end of a page, whose second page changes, comes and goes. */
static void code_over_pages(void)
{
    tree();
    for (u32 i = 0; i < 3; i++) {
        pages[i][0] = addi_a0(10 + i);
        pages[i][1] = RET;
    }
    pages[3][1022] = li_a0(1);
    pages[3][1023] = addi_a0(1);
    fence_i();
    map_page(root, 3, CODE_VA, (u64)pages[3], 0, RWX);
    u64 *second = map_page(root, 3, CODE_VA + 4096, (u64)pages[0], 0, RWX);
    satp_use(root, 3, 0);
    for (u32 i = 0; i < 8; i++) {
        *second = i % 4 == 3 ? 0 : (u64)pages[i % 4] >> 12 << 10 | RWX;
        sfence();
        u64 got = run(CODE_VA + 4088);
        print("over the page's end, step %u: %lx tval 0x%lx\n", i, got, hart_self()->tval);
    }
    csr_write(satp, 0);
    sfence();
}

/* satp changes between two instructions that both spaces map alike, with a load after it that they do not. */
STUB(switch_satp, "ld a2, 0(a1)\ncsrw satp, a0\nsfence.vma\nld a3, 0(a1)\nsub a0, a3, a2");

static void switching(void)
{
    pages[0][0] = 5;
    pages[0][1] = 0;
    pages[1][0] = 47;
    pages[1][1] = 0;
    tree();
    map_page(root, 3, DATA_VA, (u64)pages[0], 0, RWX);
    u64 *root2 = page_new();
    map_page(root2, 3, RAM_BASE, RAM_BASE, 2, RWX);
    map_page(root2, 3, DATA_VA, (u64)pages[1], 0, RWX);
    satp_use(root, 3, 0);
    for (int i = 0; i < 3; i++) {
        struct hart *h =
            try_call(MODE_S, (u64)switch_satp, 8ul << 60 | (u64)(i & 1 ? root : root2) >> 12, DATA_VA, 0);
        print("satp switched in a block: cause %lu difference %ld\n", h->cause, (s64)h->regs[10]);
    }
    csr_write(satp, 0);
    sfence();
}

int main(u64 fdt)
{
    (void)fdt;
    interrupts(MODE_M);
    interrupts(MODE_S);
    interrupts(MODE_U);
    faults();
    moving_code();
    code_over_pages();
    switching();
    print("precise done\n");
    return 0;
}
