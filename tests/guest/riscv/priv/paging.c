/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Address translation: every PTE flag combination, leaf size, mode and reserved bit; A/D, SUM, MXR, fences,
 * ASIDs. */
#include "lib/lib.h"
#include "lib/stub.h"

/*
 * Theory of operation
 *
 * Loads and stores are made by machine mode with MPRV set, so that only the access under test is translated.
 * Fetches are made for real: the entry of the attempt is the virtual address, where a `ret` stands, and the
 * outcome is the cause. The image itself is mapped by one identity gigapage for S-mode and, for U-mode, at
 * UALIAS.
 *
 * An outcome is one letter: '.' fine, 'p' page fault, 'a' access fault, '?' anything else. With `set_adue`
 * the machine updates A and D by itself (menvcfg.ADUE where it exists); QEMU 7.2 knows nothing else.
 */
#define ADUE (1ul << 61)
#define VA39 0x3f40000000ul /* in a gigapage of its own, canonical in every mode */
#define UALIAS 0x1000000000ul

/* Aligned so that its page number ends in 0000, which Svnapot gives no meaning. */
static u8 target[8192] __attribute__((aligned(65536)));

STUB(p_load, "ld a0, 0(a0)");
STUB(p_store, "sd a1, 0(a0)");
STUB(p_amo, "amoadd.d a0, a1, (a0)");

void try_mprv(u64 fn, u64 a0, u64 a1, u64 set, u64 mpp);

static char letter(u64 cause, u64 page_fault)
{
    static const u64 access_fault[] = {[12] = 1, [13] = 5, [15] = 7};
    return cause == page_fault                 ? 'p'
           : cause == access_fault[page_fault] ? 'a'
           : cause >= 8 && cause <= 11         ? '.'
                                               : '?';
}

static u64 last_tval;

/* A load or store as `mode` would make it. */
static char data_access(enum mode mode, char *stub, u64 va, u64 bits)
{
    struct hart *h = hart_self();
    u64 page_fault = stub == p_load ? 13 : 15;
    /* mret to M keeps MPRV and MPP says whose access it is: MPP is set by the stub's caller, see try_mprv. */
    u64 before = csr_read(mstatus);
    h->ret = (u64)try_done;
    try_mprv((u64)stub, va, 0x55, MSTATUS_MPRV | bits, (u64)mode << 11);
    csr_write(mstatus, before & ~(MSTATUS_MPRV | MSTATUS_SUM | MSTATUS_MXR | MSTATUS_MIE));
    last_tval = h->tval;
    return letter(h->cause, page_fault);
}

/*
 * Calls fn in machine mode with MPRV and MPP set, then an ecall; never returns by itself. The trap that ends
 * it is caught by trap_entry, so this is try_enter without the mret.
 */
__asm__(".text\n.globl try_mprv\ntry_mprv:\n"
        "csrr t0, mscratch\nsd sp, 256(t0)\nsd ra, 264(t0)\nsd s0, 272(t0)\nsd s1, 280(t0)\nsd s2, 288(t0)\n"
        "sd s3, 296(t0)\nsd s4, 304(t0)\nsd s5, 312(t0)\nsd s6, 320(t0)\nsd s7, 328(t0)\nsd s8, 336(t0)\nsd "
        "s9, 344(t0)\n"
        "sd s10, 352(t0)\nsd s11, 360(t0)\nsd gp, 368(t0)\nli t1, 1\nsd t1, 416(t0)\nld ra, 424(t0)\nmv t2, "
        "a0\nmv a0, a1\n"
        "mv a1, a2\nli s6, 0\nli t1, 3 << 11\ncsrc mstatus, t1\ncsrs mstatus, a4\ncsrs mstatus, a3\njr t2\n");

static char fetch(enum mode mode, u64 va)
{
    /* S runs the identity image, U the alias; the fetched `ret` goes to try_done there. */
    try_alias = mode == MODE_U ? UALIAS : 0;
    struct hart *h = try_call(mode, va, 0, 0, 0);
    try_alias = 0;
    last_tval = h->tval;
    return letter(h->cause, 12);
}

static u64 *root;

/* A fresh tree with the image mapped twice. */
static void tree(int levels)
{
    pages_reset();
    root = page_new();
    map_page(root, levels, RAM_BASE, RAM_BASE, 2, PTE_V | PTE_R | PTE_W | PTE_X | PTE_A | PTE_D);
    map_page(root, levels, RAM_BASE + UALIAS, RAM_BASE, 2,
             PTE_V | PTE_R | PTE_W | PTE_X | PTE_U | PTE_A | PTE_D);
}

/* load, store and fetch by S and U under the four combinations of SUM and MXR; writes 20 letters. */
static void all_accesses(u64 *pte, u64 va, char *out)
{
    u64 value = *pte;
    int n = 0;
    for (int m = 0; m < 2; m++) {
        enum mode mode = m ? MODE_U : MODE_S;
        for (u64 bits = 0; bits < 4; bits++) {
            for (int store = 0; store < 2; store++) {
                *pte = value;
                sfence();
                out[n++] = data_access(mode, store ? p_store : p_load, va, bits << 18);
            }
        }
        *pte = value;
        target[0] = 0x82;
        target[1] = 0x80;
        fence_i();
        sfence();
        out[n++] = fetch(mode, va);
        out[n++] = ' ';
    }
    *pte = value;
    sfence();
    out[n] = 0;
}

static void target_reset(void)
{
    for (unsigned i = 0; i < sizeof(target) / 8; i++) {
        ((u64 *)target)[i] = 0x8082808280828082; /* c.jr ra */
    }
    fence_i();
}

/* All 256 values of the low eight bits of a 4 KiB leaf. */
static void flag_matrix(int levels)
{
    tree(levels);
    u64 va = VA39;
    u64 *pte = map_page(root, levels, va, (u64)target, 0, PTE_V);
    satp_use(root, levels, 0);
    for (u64 flags = 0; flags < 256; flags++) {
        char out[32];
        target_reset();
        *pte = (u64)target >> 12 << 10 | flags;
        all_accesses(pte, va, out);
        print("Sv%d flags=%02lx %s\n", 9 * levels + 12, flags, out);
    }
}

/* The hardware's updates of A and D, after each kind of access that is allowed. */
static void accessed_dirty(int levels)
{
    tree(levels);
    u64 *pte = map_page(root, levels, VA39, (u64)target, 0, PTE_V);
    satp_use(root, levels, 0);
    static const u64 flags[] = {PTE_R, PTE_R | PTE_W, PTE_R | PTE_W | PTE_A, PTE_R | PTE_W | PTE_D,
                                PTE_X, PTE_R | PTE_X};
    for (unsigned i = 0; i < 6; i++) {
        u64 after[4];
        char got[4];
        for (int kind = 0; kind < 4; kind++) {
            target_reset();
            *pte = (u64)target >> 12 << 10 | PTE_V | flags[i];
            sfence();
            got[kind] = kind == 3 ? fetch(MODE_S, VA39)
                                  : data_access(MODE_S,
                                                kind == 0   ? p_load
                                                : kind == 1 ? p_store
                                                            : p_amo,
                                                VA39, 0);
            after[kind] = *pte & 0xff;
        }
        u64 f = flags[i] | PTE_V;
        print("A/D Sv%d flags=%02lx: load %c %02lx store %c %02lx fetch %c %02lx\n", 9 * levels + 12, f,
              got[0], after[0], got[1], after[1], got[3], after[3]);
        /* QEMU 7.2 makes an AMO a load first: a load fault, and A set, where it should be a store fault. */
        bool writable = f & PTE_W;
        print("self paging Sv%d amo with flags=%02lx", 9 * levels + 12, f);
        expect("", (u64)got[2] << 8 | after[2],
               (u64)(writable ? '.' : 'p') << 8 | f | (writable ? PTE_A | PTE_D : 0));
    }
}

/* The same rules without MPRV: the modes themselves, so that a fetch and a load follow each other in one
 * mode. */
static void real_modes(int levels)
{
    static const u64 flags[] = {0xcf, 0xdf, 0xc3, 0xd3, 0xc9, 0xd9, 0xc7, 0xd7};
    tree(levels);
    u64 *pte = map_page(root, levels, VA39, (u64)target, 0, PTE_V);
    satp_use(root, levels, 0);
    for (unsigned i = 0; i < 8; i++) {
        target_reset();
        *pte = (u64)target >> 12 << 10 | flags[i];
        sfence();
        print("Sv%d real flags=%02lx ", 9 * levels + 12, flags[i]);
        for (u64 bits = 0; bits < 4; bits++) {
            for (int m = 0; m < 2; m++) {
                u64 alias = m ? UALIAS : 0;
                try_alias = alias;
                enum mode mode = m ? MODE_U : MODE_S;
                u64 l = try_call(mode, (u64)p_load + alias, VA39, 0, bits << 18)->cause;
                u64 s = try_call(mode, (u64)p_store + alias, VA39 + 8, 0x8082, bits << 18)->cause;
                try_alias = 0;
                print(" %c%c", letter(l, 13), letter(s, 15));
            }
        }
        print("\n");
    }
}

/* With menvcfg.ADUE clear nothing is updated and a clear A, or D on a store, is a page fault (Svade). */
static void svade(void)
{
    csr_write(menvcfg, ADUE);
    if (!(csr_read(menvcfg) & ADUE)) {
        print("note menvcfg.ADUE is not implemented: %lx\n", csr_read(menvcfg));
        return;
    }
    csr_write(menvcfg, 0);
    tree(3);
    u64 *pte = map_page(root, 3, VA39, (u64)target, 0, PTE_V);
    satp_use(root, 3, 0);
    for (u64 ad = 0; ad < 4; ad++) {
        u64 flags = PTE_V | PTE_R | PTE_W | PTE_X | (ad & 1 ? PTE_A : 0) | (ad & 2 ? PTE_D : 0);
        target_reset();
        *pte = (u64)target >> 12 << 10 | flags;
        sfence();
        expect("self paging Svade load", (u64)data_access(MODE_S, p_load, VA39, 0), ad & 1 ? '.' : 'p');
        expect("self paging Svade fetch", (u64)fetch(MODE_S, VA39), ad & 1 ? '.' : 'p');
        expect("self paging Svade store", (u64)data_access(MODE_S, p_store, VA39, 0), ad == 3 ? '.' : 'p');
        expect("self paging Svade leaves the PTE alone", *pte & 0xff, flags);
    }
    csr_write(menvcfg, ADUE);
}

/* Leaves at every level: an aligned one translates all its bits, a misaligned one faults. */
static void superpages(int levels)
{
    for (int level = 0; level < levels; level++) {
        u64 size = 1ul << (12 + 9 * level);
        u64 va = level < 3 ? VA39 : level == 3 ? 0x8000000000 : 0x1000000000000;
        tree(levels);
        /* RAM starts at 2 GiB: a larger leaf has physical address 0, and RAM inside it. */
        u64 pa = level <= 2 ? RAM_BASE : 0;
        u64 *pte = map_page(root, levels, va, pa, level, PTE_V | PTE_R | PTE_W | PTE_X | PTE_A | PTE_D);
        satp_use(root, levels, 0);
        target_reset();
        u64 at = level == 0 ? va : va + ((u64)target - pa) % size;
        if (level == 0) {
            *pte = (u64)target >> 12 << 10 | 0xcf;
            sfence();
        }
        print("Sv%d level %d: load %c store %c fetch %c", 9 * levels + 12, level,
              data_access(MODE_S, p_load, at, 0), data_access(MODE_S, p_store, at + 8, 0), fetch(MODE_S, at));
        print(" stored 0x%x\n", target[8]);
        for (int bit = 0; bit < 9 * level; bit += 3) {
            u64 keep = *pte;
            *pte |= 1ul << (10 + bit);
            sfence();
            print("Sv%d level %d misaligned by bit %d: load %c store %c fetch %c\n", 9 * levels + 12, level,
                  bit, data_access(MODE_S, p_load, at, 0), data_access(MODE_S, p_store, at + 8, 0),
                  fetch(MODE_S, at));
            *pte = keep;
        }
    }
}

/* Bits 54..60 are reserved; 61, 62 without Svpbmt; N is Svnapot's; in a pointer D, A and U are reserved as
 * well. */
static void reserved_bits(int levels)
{
    for (int bit = 54; bit < 64; bit++) {
        tree(levels);
        target_reset();
        u64 *pte = map_page(root, levels, VA39, (u64)target, 0, 0xcf);
        satp_use(root, levels, 0);
        *pte |= 1ul << bit;
        sfence();
        u64 both = (u64)data_access(MODE_S, p_load, VA39, 0) << 8 | (u64)fetch(MODE_S, VA39);
        print("self paging Sv%d leaf bit %d", 9 * levels + 12, bit);
        expect("", both, 'p' << 8 | 'p');
        *pte &= ~(1ul << bit);
        root[VA39 >> (12 + 9 * (levels - 1)) & 511] |= 1ul << bit;
        sfence();
        char got = data_access(MODE_S, p_load, VA39, 0);
        print("self paging Sv%d pointer bit %d", 9 * levels + 12, bit);
        expect("", (u64)got, 'p');
    }
    static const u64 pointer_bits[] = {PTE_U, PTE_A, PTE_D, PTE_G};
    for (int i = 0; i < 4; i++) {
        tree(levels);
        target_reset();
        map_page(root, levels, VA39, (u64)target, 0, 0xcf);
        root[VA39 >> (12 + 9 * (levels - 1)) & 511] |= pointer_bits[i];
        satp_use(root, levels, 0);
        char got = data_access(MODE_S, p_load, VA39, 0);
        print("self paging Sv%d pointer with flag %lx", 9 * levels + 12, pointer_bits[i]);
        expect("", (u64)got, pointer_bits[i] == PTE_G ? '.' : 'p');
    }
}

static void napot(void)
{
    static u8 big[2 << 16] __attribute__((aligned(1 << 16)));
    u64 pa = ((u64)big + 0xffff) & ~0xfffful;
    for (u64 low = 0; low < 16; low++) {
        tree(3);
        u64 va = VA39;
        for (u64 i = 0; i < 16; i++) {
            map_page(root, 3, va + (i << 12), pa, 0, 0xcf | 1ul << 63);
            u64 *pte = map_page(root, 3, va + (i << 12), pa, 0, 0xcf | 1ul << 63);
            *pte = (pa >> 12 | low) << 10 | 0xcf | 1ul << 63;
        }
        satp_use(root, 3, 0);
        for (u64 i = 0; i < 16; i++) {
            big[i << 12] = (u8)(i + 0x30);
        }
        struct hart *h = hart_self();
        char a = data_access(MODE_S, p_load, va + 0x5000, 0);
        u64 v = h->regs[10] & 0xff;
        print("napot ppn low %lx: load %c 0x%lx store %c\n", low, a, a == '.' ? v : 0,
              data_access(MODE_S, p_store, va + 0xf010, 0));
    }
}

static void canonical(int levels)
{
    tree(levels);
    target_reset();
    int bits = 12 + 9 * levels;
    u64 top = ~0ul << (bits - 1);
    u64 high = top | 0x3f40000000ul;
    map_page(root, levels, high, (u64)target, 0, 0xcf);
    map_page(root, levels, VA39, (u64)target, 0, 0xcf);
    satp_use(root, levels, 0);
    static const u64 flips[] = {63, 62, 57, 56, 48, 47, 39, 38};
    print("Sv%d high half: load %c fetch %c\n", bits, data_access(MODE_S, p_load, high, 0),
          fetch(MODE_S, high));
    for (unsigned i = 0; i < 8; i++) {
        for (int half = 0; half < 2; half++) {
            u64 va = (half ? high : VA39) ^ 1ul << flips[i];
            char l = data_access(MODE_S, p_load, va, 0);
            u64 tval = last_tval;
            char s = data_access(MODE_S, p_store, va, 0);
            char f = fetch(MODE_S, va);
            print("Sv%d address 0x%lx: load %c tval 0x%lx store %c fetch %c tval 0x%lx\n", bits, va, l,
                  l == '.' ? 0 : tval, s, f, f == '.' ? 0 : last_tval);
        }
    }
}

/* Walks that leave RAM are access faults of the original kind; so is a leaf that points out of RAM. */
static void holes(int levels)
{
    tree(levels);
    u64 *pte = map_page(root, levels, VA39, RAM_END, 0, 0xcf);
    satp_use(root, levels, 0);
    print("Sv%d leaf to a hole: load %c store %c fetch %c\n", 9 * levels + 12,
          data_access(MODE_S, p_load, VA39, 0), data_access(MODE_S, p_store, VA39, 0), fetch(MODE_S, VA39));
    *pte = 0;
    u64 *top = &root[VA39 >> (12 + 9 * (levels - 1)) & 511];
    *top = RAM_END >> 12 << 10 | PTE_V;
    sfence();
    u64 got = (u64)data_access(MODE_S, p_load, VA39, 0) << 16 |
              (u64)data_access(MODE_S, p_store, VA39, 0) << 8 | (u64)fetch(MODE_S, VA39);
    expect("self paging a table in a hole is an access fault", got, 'a' << 16 | 'a' << 8 | 'a');
    *top = 0xffffffffff000ul >> 12 << 10 | PTE_V;
    sfence();
    expect("self paging a table far out is an access fault", (u64)data_access(MODE_S, p_load, VA39, 0), 'a');
    /* An endless chain of pointers ends at the last level. */
    *top = (u64)root >> 12 << 10 | PTE_V;
    for (int i = 0; i < 512; i++) {
        if (!root[i]) {
            root[i] = (u64)root >> 12 << 10 | PTE_V;
        }
    }
    sfence();
    print("Sv%d pointers to the end: load %c\n", 9 * levels + 12, data_access(MODE_S, p_load, VA39, 0));
}

/* Changes become visible after each form of sfence.vma; ASIDs keep translations apart; global ones are
 * shared. */
static void fences(int levels)
{
    static u64 pages[2][512] __attribute__((aligned(4096)));
    pages[0][0] = 0xaaaa;
    pages[1][0] = 0xbbbb;
    struct hart *h = hart_self();
    for (int form = 0; form < 4; form++) {
        tree(levels);
        u64 *pte = map_page(root, levels, VA39, (u64)pages[0], 0, 0xcf);
        satp_use(root, levels, 5);
        data_access(MODE_S, p_load, VA39, 0);
        u64 first = h->regs[10];
        *pte = (u64)pages[1] >> 12 << 10 | 0xcf;
        u64 va = VA39, asid = 5;
        switch (form) {
        case 0: __asm__ volatile("sfence.vma" ::: "memory"); break;
        case 1: __asm__ volatile("sfence.vma %0" ::"r"(va) : "memory"); break;
        case 2: __asm__ volatile("sfence.vma zero, %0" ::"r"(asid) : "memory"); break;
        default: __asm__ volatile("sfence.vma %0, %1" ::"r"(va), "r"(asid) : "memory"); break;
        }
        data_access(MODE_S, p_load, VA39, 0);
        print("Sv%d sfence form %d: 0x%lx then 0x%lx\n", 9 * levels + 12, form, first, h->regs[10]);
    }
    tree(levels);
    u64 *root5 = root;
    u64 *root6 = page_new();
    map_page(root5, levels, VA39, (u64)pages[0], 0, 0xcf);
    map_page(root6, levels, RAM_BASE, RAM_BASE, 2, 0xcf);
    map_page(root6, levels, VA39, (u64)pages[1], 0, 0xcf);
    satp_use(root5, levels, 5);
    u64 mode = (u64)(levels + 5) << 60;
    u64 sum = 0, bad = 0;
    for (int i = 0; i < 50; i++) {
        csr_write(satp, mode | (u64)(i & 1 ? 6 : 5) << 44 | (u64)(i & 1 ? root6 : root5) >> 12);
        bad += data_access(MODE_S, p_load, VA39, 0) != '.';
        sum += h->regs[10];
        bad += h->regs[10] != pages[i & 1][0];
    }
    print("Sv%d two address spaces in turn: sum 0x%lx bad %lu\n", 9 * levels + 12, sum, bad);
}

/* An instruction over two pages, a load over two pages: the fault names the part that is missing. */
static void straddling(int levels)
{
    tree(levels);
    target_reset();
    map_page(root, levels, VA39, (u64)target, 0, 0xcf);
    u64 *second = map_page(root, levels, VA39 + 4096, (u64)target + 4096, 0, 0xcf);
    satp_use(root, levels, 0);
    for (int present = 1; present >= 0; present--) {
        target_reset();
        u16 *end = (u16 *)(target + 4094);
        end[0] = 0x0513; /* li a0, 7 */
        end[1] = 0x0070;
        end[2] = 0x8082;
        fence_i();
        *second = present ? *second : 0;
        sfence();
        struct hart *h = try_call(MODE_S, VA39 + 4094, 0, 0, 0);
        print("Sv%d straddling fetch, second page %d: cause %lu epc 0x%lx tval 0x%lx a0 %lu\n",
              9 * levels + 12, present, h->cause, present ? 0 : h->epc, h->tval, h->regs[10]);
        char l = data_access(MODE_S, p_load, VA39 + 4092, 0);
        u64 lt = l == '.' ? 0 : last_tval;
        char s = data_access(MODE_S, p_store, VA39 + 4092, 0);
        print("Sv%d straddling load %c tval 0x%lx store %c tval 0x%lx\n", 9 * levels + 12, l, lt, s,
              s == '.' ? 0 : last_tval);
        /* Whether the part before the fault is stored is the machine's choice. */
        print("note Sv%d straddling store, first part stored: %d\n", 9 * levels + 12, target[4092] == 0x55);
    }
}

int main(u64 fdt)
{
    (void)fdt;
    csr_write(menvcfg, ADUE);
    for (int levels = 3; levels <= 5; levels++) {
        flag_matrix(levels);
        accessed_dirty(levels);
        real_modes(levels);
        superpages(levels);
        reserved_bits(levels);
        canonical(levels);
        holes(levels);
        fences(levels);
        straddling(levels);
    }
    napot();
    svade();
    csr_write(satp, 0);
    print("paging done\n");
    return 0;
}
