/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Several harts at once: atomics, locks, message passing, IPIs, remote fences, code patching, sleeping and
 * waking. */
#include "lib/lib.h"

/*
 * Theory of operation
 *
 * Every hart runs the same list of phases with a barrier before each; hart 0 prints one line per phase, which
 * does not depend on the number of harts or on timing. The number of harts comes from the device tree.
 */
#define ROUNDS 2000

#define LOAD(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define ACQUIRE(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define RELEASE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)

static u64 arrived, harts_n;
static u64 barrier_count, barrier_phase;
/* Each in its own cache line and page, so that no test hides behind another's stores. */
static struct {
    u64 v;
    u64 pad[511];
} cell[64] __attribute__((aligned(4096)));

/*
 * One turn of a waiting loop. A hart that waits long lets go of its host CPU by a WFI that its own timer
 * ends, because there may be more harts than host CPUs.
 */
static void wait_turn(unsigned *turns)
{
    if (++*turns % 512 == 0) {
        u64 hart = hart_self()->id;
        u64 enabled = csr_read(mie);
        clint_mtimecmp(hart, clint_mtime() + 200);
        csr_set(mie, 1 << IRQ_MTI);
        __asm__ volatile("wfi");
        csr_write(mie, enabled);
        clint_mtimecmp(hart, ~0ul);
    }
}

#define WAIT_WHILE(condition)                                                                                \
    do {                                                                                                     \
        unsigned turns_ = 0;                                                                                 \
        while (condition) {                                                                                  \
            wait_turn(&turns_);                                                                              \
        }                                                                                                    \
    } while (0)

static void barrier(void)
{
    u64 phase = LOAD(&barrier_phase);
    if (__atomic_add_fetch(&barrier_count, 1, __ATOMIC_ACQ_REL) == harts_n) {
        STORE(&barrier_count, 0);
        RELEASE(&barrier_phase, phase + 1);
    } else {
        WAIT_WHILE(ACQUIRE(&barrier_phase) == phase);
    }
}

static u64 lr_sc_add(u64 *p, u64 n)
{
    u64 old, failed, sum;
    __asm__ volatile("1: lr.d %0, (%3)\nadd %1, %0, %4\nsc.d %2, %1, (%3)\nbnez %2, 1b"
                     : "=&r"(old), "=&r"(sum), "=&r"(failed)
                     : "r"(p), "r"(n)
                     : "memory");
    return old;
}

static void lr_sc_add_w(u32 *p, u32 n)
{
    u64 t, failed;
    __asm__ volatile("1: lr.w %0, (%2)\nadd %0, %0, %3\nsc.w %1, %0, (%2)\nbnez %1, 1b"
                     : "=&r"(t), "=&r"(failed)
                     : "r"(p), "r"((u64)n)
                     : "memory");
}

static void result(u64 hart, const char *name, const u64 *got, u64 want)
{
    barrier();
    if (hart == 0) {
        static u64 last;
        u64 now = clint_mtime();
        print("note %lu us\n", last ? (now - last) / 10 : 0);
        last = now;
        print("smp ");
        expect(name, LOAD(got), want);
    }
    barrier();
}

/* Counters by AMO and by LR/SC, doubleword and both words of one doubleword. */
static void counters(u64 hart)
{
    for (int i = 0; i < ROUNDS; i++) {
        __atomic_fetch_add(&cell[0].v, 1, __ATOMIC_RELAXED);
        lr_sc_add(&cell[1].v, 3);
        lr_sc_add_w((u32 *)&cell[2].v + (i & 1), 1);
        __atomic_fetch_add((u32 *)&cell[3].v + (i & 1), 1, __ATOMIC_RELAXED);
        __atomic_fetch_xor(&cell[4].v, 1ul << (hart + 16 * (unsigned)(i & 1)), __ATOMIC_RELAXED);
        __asm__ volatile("amomax.d zero, %0, (%1)" ::"r"((u64)i * 16 + hart), "r"(&cell[5].v) : "memory");
        /* A mix of both on one cell: an AMO must break a reservation of another hart. */
        if (i & 1) {
            lr_sc_add(&cell[6].v, 1);
        } else {
            __atomic_fetch_add(&cell[6].v, 1, __ATOMIC_RELAXED);
        }
    }
    result(hart, "amoadd.d", &cell[0].v, harts_n * ROUNDS);
    result(hart, "lr.d/sc.d", &cell[1].v, harts_n * ROUNDS * 3);
    result(hart, "lr.w/sc.w in one doubleword", &cell[2].v, harts_n * ROUNDS / 2 * 0x100000001);
    result(hart, "amoadd.w in one doubleword", &cell[3].v, harts_n * ROUNDS / 2 * 0x100000001);
    result(hart, "amoxor.d", &cell[4].v, 0);
    result(hart, "amomax.d", &cell[5].v, (ROUNDS - 1) * 16 + harts_n - 1);
    result(hart, "amoadd.d with lr.d/sc.d", &cell[6].v, harts_n * ROUNDS);
}

/* A lock by amoswap and one by LR/SC, around plain variables. */
static void locks(u64 hart)
{
    for (int i = 0; i < ROUNDS / 4; i++) {
        while (__atomic_exchange_n(&cell[8].v, 1, __ATOMIC_ACQUIRE)) {
            WAIT_WHILE(LOAD(&cell[8].v));
        }
        cell[9].v += 1;
        cell[10].v += cell[9].v;
        RELEASE(&cell[8].v, 0);
        for (;;) {
            u64 old, failed = 1;
            __asm__ volatile("lr.d.aq %0, (%2)\nbnez %0, 1f\nsc.d %1, %3, (%2)\n1:"
                             : "=&r"(old), "+&r"(failed)
                             : "r"(&cell[11].v), "r"(hart + 1)
                             : "memory");
            if (!old && !failed) {
                break;
            }
        }
        cell[12].v += 1;
        __asm__ volatile("fence rw, w\nsd zero, 0(%0)" ::"r"(&cell[11].v) : "memory");
    }
    u64 n = harts_n * ROUNDS / 4;
    result(hart, "amoswap lock", &cell[9].v, n);
    result(hart, "amoswap lock, sum", &cell[10].v, n * (n + 1) / 2);
    result(hart, "lr/sc lock", &cell[12].v, n);
}

/* Message passing around the ring of harts: data, fence, flag. */
static void messages(u64 hart)
{
    u64 next = (hart + 1) % harts_n, bad = 0;
    for (u64 i = 1; i <= ROUNDS / 4; i++) {
        if (hart == 0) {
            STORE(&cell[16 + next].pad[100], i);
            __asm__ volatile("fence w, w" ::: "memory");
            STORE(&cell[16 + next].v, i);
        }
        WAIT_WHILE(LOAD(&cell[16 + hart].v) < i);
        __asm__ volatile("fence r, r" ::: "memory");
        u64 got = LOAD(&cell[16 + hart].pad[100]);
        bad += got != i;
        if (hart != 0) {
            STORE(&cell[16 + next].pad[100], got);
            __asm__ volatile("fence w, w" ::: "memory");
            STORE(&cell[16 + next].v, i);
        }
    }
    __atomic_fetch_add(&cell[32].v, bad, __ATOMIC_RELAXED);
    result(hart, "message passing", &cell[32].v, 0);
}

/* Dekker's store buffering with full fences: both harts of a pair must not both read 0. */
static void store_buffering(u64 hart)
{
    u64 pair = hart / 2, me = hart & 1;
    bool alone = (hart | 1) >= harts_n;
    u64 *mine = &cell[33 + pair].pad[me * 64], *other = &cell[33 + pair].pad[(1 - me) * 64];
    u64 *seen = &cell[33 + pair].pad[256 + me * 64], *seen_other = &cell[33 + pair].pad[256 + (1 - me) * 64];
    u64 bad = 0;
    for (int i = 0; i < ROUNDS / 10; i++) {
        STORE(mine, 0);
        barrier();
        if (!alone) {
            STORE(mine, 1);
            __asm__ volatile("fence rw, rw" ::: "memory");
            STORE(seen, LOAD(other));
        }
        barrier();
        bad += !alone && LOAD(seen) == 0 && LOAD(seen_other) == 0;
    }
    __atomic_fetch_add(&cell[42].v, bad, __ATOMIC_RELAXED);
    result(hart, "store buffering", &cell[42].v, 0);
}

/* Each round every hart sleeps in WFI until the one before it wakes it by msip; MIE is off, so no trap is
 * taken. */
static void ipis(u64 hart)
{
    csr_write(mie, 1 << IRQ_MSI);
    u64 next = (hart + 1) % harts_n;
    barrier();
    for (int i = 0; i < 100; i++) {
        if (hart == 0) {
            clint_msip(next, 1);
        }
        while (!(csr_read(mip) & 1 << IRQ_MSI)) {
            __asm__ volatile("wfi");
        }
        clint_msip(hart, 0);
        while (csr_read(mip) & 1 << IRQ_MSI) {
        }
        __atomic_fetch_add(&cell[43].v, 1, __ATOMIC_RELAXED);
        if (hart != 0) {
            clint_msip(next, 1);
        }
    }
    csr_write(mie, 0);
    result(hart, "ipi ring with wfi", &cell[43].v, harts_n * 100);
}

/* All others sleep; hart 0 wakes them one by one, or their own timers do. */
static void sleepers(u64 hart)
{
    csr_write(mie, 1 << IRQ_MSI | 1 << IRQ_MTI);
    for (int i = 0; i < 10; i++) {
        barrier();
        clint_mtimecmp(hart, hart & 1 ? clint_mtime() + 1000 : ~0ul);
        if (hart == 0) {
            for (u64 h = 2; h < harts_n; h += 2) {
                clint_msip(h, 1);
            }
        } else {
            while (!(csr_read(mip) & (1 << IRQ_MSI | 1 << IRQ_MTI))) {
                __asm__ volatile("wfi");
            }
            clint_msip(hart, 0);
            clint_mtimecmp(hart, ~0ul);
        }
        __atomic_fetch_add(&cell[44].v, 1, __ATOMIC_RELAXED);
        barrier();
    }
    csr_write(mie, 0);
    result(hart, "timers and ipis wake sleepers", &cell[44].v, harts_n * 10);
}

/*
 * Remote sfence: hart 0 changes where a page leads, asks all others to fence by IPI, waits for their answers,
 * and only then writes "old page retired"; a hart that still reads the old page after answering has a stale
 * translation.
 */
static u64 *shared_root, *shared_pte;
static u64 frame[2][512] __attribute__((aligned(4096)));
#define SHARED_VA 0x3f40000000ul

static u64 load_as_s(u64 va)
{
    u64 v;
    __asm__ volatile("csrs mstatus, %1\nld %0, 0(%2)\ncsrc mstatus, %3"
                     : "=&r"(v)
                     : "r"(MSTATUS_MPRV | 1ul << 11), "r"(va), "r"(MSTATUS_MPRV | MSTATUS_MPP)
                     : "memory");
    return v;
}

static void remote_fences(u64 hart)
{
    if (hart == 0) {
        pages_reset();
        shared_root = page_new();
        /* The image too: an access as S-mode to the stack must work between the two CSR writes. */
        map_page(shared_root, 3, RAM_BASE, RAM_BASE, 2, 0xcf);
        shared_pte = map_page(shared_root, 3, SHARED_VA, (u64)frame[0], 0, 0xcf);
        frame[0][0] = 100;
        frame[1][0] = 200;
    }
    barrier();
    satp_use(shared_root, 3, 0);
    u64 bad = 0;
    for (u64 i = 0; i < 100; i++) {
        u64 want = i & 1 ? 200 : 100;
        bad += load_as_s(SHARED_VA) != want;
        barrier();
        if (hart == 0) {
            RELEASE(shared_pte, (u64)frame[(i & 1) ^ 1] >> 12 << 10 | 0xcf);
            sfence();
            for (u64 h = 1; h < harts_n; h++) {
                clint_msip(h, 1);
            }
            WAIT_WHILE(ACQUIRE(&cell[45].v) < (i + 1) * (harts_n - 1));
        } else {
            /* The running code keeps using the page until the IPI is seen: both values are right, nothing
             * else is. */
            while (!(csr_read(mip) & 1 << IRQ_MSI)) {
                u64 v = load_as_s(SHARED_VA);
                bad += v != 100 && v != 200;
            }
            clint_msip(hart, 0);
            while (csr_read(mip) & 1 << IRQ_MSI) {
            }
            sfence();
            __atomic_fetch_add(&cell[45].v, 1, __ATOMIC_RELEASE);
        }
        barrier();
    }
    csr_write(satp, 0);
    sfence();
    __atomic_fetch_add(&cell[46].v, bad, __ATOMIC_RELAXED);
    result(hart, "remote sfence", &cell[46].v, 0);
}

/* Hart 0 rewrites a function, the others fence.i and call it; then a version nobody was told about must still
 * be whole. */
static u32 patch[64] __attribute__((aligned(64)));

static void patching(u64 hart)
{
    u64 (*fn)(void) = (u64(*)(void))patch;
    u64 bad = 0;
    for (u32 i = 0; i < 100; i++) {
        if (hart == (i % harts_n)) {
            patch[0] = (i & 0x7ff) << 20 | 10 << 7 | 0x13;
            patch[1] = 0x00008067;
        }
        barrier();
        fence_i();
        bad += fn() != (i & 0x7ff);
        barrier();
    }
    /* Changing one aligned instruction under running code: each call sees the old or the new one. */
    for (u32 i = 0; i < 300; i++) {
        if (hart == 0) {
            STORE(patch, (u32)((i & 1 ? 0x111 : 0x222) << 20 | 10 << 7 | 0x13));
            fence_i();
        } else {
            fence_i();
            u64 v = fn();
            bad += v != 0x111 && v != 0x222 && v != 99;
        }
    }
    __atomic_fetch_add(&cell[47].v, bad, __ATOMIC_RELAXED);
    result(hart, "code patching with fence.i", &cell[47].v, 0);
}

/* A store by another hart ends a reservation, even of the same value: a ticket is handed round by LR, wait,
 * SC. */
static void reservations(u64 hart)
{
    u64 bad = 0;
    for (u64 i = 0; i < 50; i++) {
        u64 owner = i % harts_n, other = (i + 1) % harts_n;
        STORE(&cell[48].v, 0);
        barrier();
        if (harts_n > 1 && hart == owner) {
            u64 old, failed;
            /* LR, tell the other hart, wait for its store, SC: must fail. The loop only loads. */
            __asm__ volatile(
                "lr.d %0, (%2)\nsd %5, 0(%3)\n1: ld %0, 0(%4)\nbne %0, %5, 1b\nfence\nsc.d %1, %5, (%2)"
                : "=&r"(old), "=&r"(failed)
                : "r"(&cell[48].v), "r"(&cell[49].v), "r"(&cell[50].v), "r"(i + 1)
                : "memory");
            bad += !failed;
        } else if (harts_n > 1 && hart == other) {
            WAIT_WHILE(ACQUIRE(&cell[49].v) != i + 1);
            STORE(&cell[48].v, 7777);
            RELEASE(&cell[50].v, i + 1);
        }
        barrier();
        bad += harts_n > 1 && LOAD(&cell[48].v) != 7777;
        barrier();
    }
    __atomic_fetch_add(&cell[51].v, bad, __ATOMIC_RELAXED);
    result(hart, "another hart's store ends a reservation", &cell[51].v, 0);
}

static void phases(u64 hart)
{
    barrier();
    counters(hart);
    locks(hart);
    messages(hart);
    store_buffering(hart);
    ipis(hart);
    sleepers(hart);
    remote_fences(hart);
    patching(hart);
    reservations(hart);
}

void secondary_main(u64 hart)
{
    __atomic_fetch_add(&arrived, 1, __ATOMIC_RELEASE);
    WAIT_WHILE(!ACQUIRE(&harts_n));
    phases(hart);
}

int main(u64 fdt)
{
    u64 n = fdt_count_harts(fdt);
    WAIT_WHILE(ACQUIRE(&arrived) != n - 1);
    RELEASE(&harts_n, n);
    print("smp harts %lu\n", n);
    phases(0);
    print("smp done\n");
    return 0;
}
