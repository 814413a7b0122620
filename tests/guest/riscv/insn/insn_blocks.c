/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Runs random blocks of many instructions on random registers and memory; one line with a hash per block. */
#include "lib/lib.h"

#ifndef VERBOSE
#define VERBOSE 0
#endif

/* Offsets are known to gen_blocks.py. */
struct state {
    u64 x[32], f[32];
    u64 fcsr;
    u64 save[16];
    u64 mem[512];
};
_Static_assert(offsetof(struct state, fcsr) == 512 && offsetof(struct state, mem) == 648, "gen_blocks.py");

extern const u64 block_table[], block_count;
void block_call(struct state *s, u64 block);

static u64 seed;

static u64 value(void)
{
    u64 r = rng_next(&seed);
    switch (r & 7) {
    case 0: return r >> 8 & 3;
    case 1: return (u64) - (s64)(r >> 8 & 3);
    case 2: return 1ul << (r >> 8 & 63);
    case 3: return rng_next(&seed) >> (r >> 8 & 63);
    case 4: return (u64)(s64)(int)rng_next(&seed);
    default: return rng_next(&seed);
    }
}

/* A double or a boxed single of ordinary size, or a special value, or anything. */
static u64 real(void)
{
    u64 r = rng_next(&seed), frac = rng_next(&seed);
    u64 sign = r >> 8 & 1;
    switch (r & 15) {
    case 0: return sign << 63;
    case 1: return sign << 63 | 0x7ff0000000000000;
    case 2: return 0x7ff8000000000000;
    case 3: return 0xffffffff00000000 | sign << 31 | 0x7f800000;
    case 4: return frac;
    case 5: return sign << 63 | frac >> 12;
    case 6: return 0xffffffff00000000 | sign << 31 | frac >> 41;
    case 7:
    case 8:
    case 9:
    case 10: return sign << 63 | (1023 - 8 + (r >> 9 & 15)) << 52 | frac >> 12;
    default: return 0xffffffff00000000 | sign << 31 | (127 - 8 + (r >> 9 & 15)) << 23 | frac >> 41;
    }
}

static void fill(struct state *s)
{
    for (int i = 1; i < 32; i++) {
        s->x[i] = value();
        s->f[i] = real();
    }
    s->f[0] = real();
    for (int i = 0; i < 512; i++) {
        s->mem[i] = i & 1 ? real() : value();
    }
    s->fcsr = rng_next(&seed) % 5 << 5;
}

static u64 absorb(u64 hash, const struct state *s)
{
    for (int i = 1; i < 32; i++) {
        /* sp, gp and tp are the frame's. */
        hash = i >= 2 && i <= 4 ? hash : hash_mix(hash, s->x[i]);
        hash = hash_mix(hash, s->f[i]);
    }
    for (int i = 0; i < 512; i++) {
        hash = hash_mix(hash, s->mem[i]);
    }
    return hash_mix(hash_mix(hash, s->f[0]), s->fcsr);
}

static void show(u64 block, int run, const struct state *s)
{
    print("block %lu run %d:", block, run);
    for (int i = 1; i < 32; i++) {
        print(" x%d=%lx", i, i >= 2 && i <= 4 ? 0 : s->x[i]);
    }
    for (int i = 0; i < 32; i++) {
        print(" f%d=%lx", i, s->f[i]);
    }
    print(" fcsr=%lx\n", s->fcsr);
}

int main(u64 fdt)
{
    (void)fdt;
    static struct state s;
    csr_set(mstatus, MSTATUS_FS);
    for (u64 b = 0; b < block_count; b++) {
        u64 hash = 0;
        seed = 0x9e3779b97f4a7c15ull + b;
        for (int run = 0; run < 4; run++) {
            fill(&s);
            block_call(&s, block_table[b]);
            hash = absorb(hash, &s);
            if (VERBOSE) {
                show(b, run, &s);
            }
        }
        print("block %lu at 0x%lx: %016lx\n", b, block_table[b], hash);
    }
    print("insn_blocks done\n");
    return 0;
}
