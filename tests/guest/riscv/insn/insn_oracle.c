/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Runs every unprivileged instruction on edge and pseudo-random operands; one line with a hash per
 * instruction. */
#include "lib/lib.h"

/* Compiled with VERBOSE=1 it prints every vector instead, which is how a differing hash is narrowed down. */
#ifndef VERBOSE
#define VERBOSE 0
#endif

/* Offsets are known to gen.py. */
struct vector {
    u64 a, b, c, pre;
    u64 result, flags, frm, result2;
    u64 mem[8];
    u64 save[16];
};
_Static_assert(offsetof(struct vector, mem) == 64 && offsetof(struct vector, save) == 128, "gen.py");

/* In gen.py's order. Mn: memory of n bytes, U misaligned; FnM for fused operations, FnI for conversions to
 * integers. */
enum kind { INT, MEM1, MEM2, MEM4, MEM8, MEM2U, MEM4U, MEM8U, F32, F64, F32M, F64M, F32I, F64I };

struct thunk {
    const char *name;
    u64 fn;
    u32 kind;
    u32 vectors;
};
extern const struct thunk thunk_table[];
void thunk_call(struct vector *v, u64 fn);

static u64 seed = 0x0123456789abcdefull;

static const u64 int_edges[] = {
    0,
    1,
    2,
    3,
    7,
    8,
    31,
    32,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x7fffffff,
    0x80000000,
    0x80000001,
    0xffffffff,
    0x100000000,
    0x7fffffffffffffff,
    0x8000000000000000,
    0x8000000000000001,
    0xffffffff80000000,
    0xffffffff7fffffff,
    0xffffffffffffff80,
    0xffffffffffffffff,
    0xfffffffffffffffe,
    0x5555555555555555,
    0xaaaaaaaaaaaaaaaa,
    0x0102040810204080,
    0x00ff00ff00ff00ff,
    0x001fffffffffffff,
    0x0020000000000001,
    0x01000001,
    0x7fffff8000000000,
    0x7ffffffffffffc00,
};

static u64 make_int(void)
{
    u64 r = rng_next(&seed);
    switch (r & 7) {
    case 0:
    case 1:
    case 2: return int_edges[(r >> 8) % (sizeof(int_edges) / sizeof(int_edges[0]))];
    case 3: return (u64)((s64)rng_next(&seed) >> (r >> 8 & 63));
    case 4: return rng_next(&seed) >> (r >> 8 & 63);
    case 5: return (u64)(s64)(int)rng_next(&seed);
    default: return rng_next(&seed);
    }
}

static const u32 f32_edges[] = {
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x00800000, 0x00800001, 0x807fffff,
    0x80800000, 0x3f800000, 0xbf800000, 0x3f800001, 0x3f7fffff, 0x3f000000, 0x3effffff, 0x3fc00000,
    0x40200000, 0xc0200000, 0x4b000000, 0x4b800001, 0x4f000000, 0xcf000000, 0xcf000001, 0x4effffff,
    0x4f7fffff, 0x4f800000, 0x5effffff, 0x5f000000, 0xdf000000, 0x5f7fffff, 0x5f800000, 0x7f7fffff,
    0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xff800001, 0x7fc12345,
    0x7fbfffff, 0x33800000, 0x34000000, 0x1a800000, 0x20000000,
};

static const u64 f64_edges[] = {
    0x0000000000000000, 0x8000000000000000, 0x0000000000000001, 0x8000000000000001, 0x000fffffffffffff,
    0x0010000000000000, 0x0010000000000001, 0x800fffffffffffff, 0x3ff0000000000000, 0xbff0000000000000,
    0x3ff0000000000001, 0x3fefffffffffffff, 0x3fe0000000000000, 0x3fdfffffffffffff, 0x3ff8000000000000,
    0x4004000000000000, 0xc004000000000000, 0x4330000000000000, 0x4340000000000001, 0x41dfffffffc00000,
    0x41dfffffffe00000, 0x41e0000000000000, 0xc1e0000000000000, 0xc1e0000000200000, 0xc1e00000001fffff,
    0x41efffffffe00000, 0x41effffffff00000, 0x41f0000000000000, 0x43dfffffffffffff, 0x43e0000000000000,
    0xc3e0000000000000, 0xc3e0000000000001, 0x43efffffffffffff, 0x43f0000000000000, 0x7fefffffffffffff,
    0xffefffffffffffff, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000000,
    0x7ff0000000000001, 0xfff0000000000001, 0x7ff8123456789abc, 0x47efffffe0000000, 0x47efffffefffffff,
    0x47effffff0000000, 0x3810000000000000, 0x380fffffffffffff, 0x36a0000000000000, 0x3690000000000000,
    0x3690000000000001, 0x380fffffe0000000,
};

/* Random floats cluster around one exponent, so that sums cancel and products meet the third operand. */
static u64 make_f32(int centre)
{
    u64 r = rng_next(&seed);
    u64 box = 0xffffffff00000000;
    switch (r & 15) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: return box | f32_edges[(r >> 8) % (sizeof(f32_edges) / sizeof(f32_edges[0]))];
    case 5: return box | (u32)(r >> 32);
    case 6: return (r & 0x100) ? r : (r >> 32 | 0xfffffffe00000000); /* not a NaN-boxed value */
    case 7: return box | (r >> 32 & 0x807fffff);
    default: {
        u64 exp = (u64)(centre + (int)(r >> 8 & 31) - 16) & 0xff;
        u64 frac = r >> 32 & 0x7fffff;
        if (r & 0x2000) {
            frac &= 0x700007;
        }
        return box | (r >> 16 & 1) << 31 | exp << 23 | frac;
    }
    }
}

static u64 make_f64(int centre)
{
    u64 r = rng_next(&seed);
    u64 s = rng_next(&seed);
    switch (r & 15) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: return f64_edges[(r >> 8) % (sizeof(f64_edges) / sizeof(f64_edges[0]))];
    case 5: return s;
    case 6: return s & 0x800fffffffffffff;
    default: {
        u64 exp = (u64)(centre + (int)(r >> 8 & 63) - 32) & 0x7ff;
        u64 frac = s & 0xfffffffffffff;
        if (r & 0x4000) {
            frac &= 0xf000000000007;
        }
        return (r >> 16 & 1) << 63 | exp << 52 | frac;
    }
    }
}

/* Exponent centres: ordinary, near underflow, near overflow; for products, where the result is near one of
 * those. */
static void make_floats(struct vector *v, enum kind kind)
{
    u64 r = rng_next(&seed);
    bool is64 = kind == F64 || kind == F64M || kind == F64I;
    int bias = is64 ? 1023 : 127;
    int ea = bias, eb = bias, ec;
    switch (r & 7) {
    case 0:
        ea = is64 ? 30 : 20;
        eb = bias;
        break;
    case 1:
        ea = 2 * bias - 16;
        eb = bias + 8;
        break;
    case 2:
        ea = bias / 2;
        eb = bias / 2 + 12;
        break;
    case 3:
        ea = bias + bias / 2;
        eb = bias + bias / 2;
        break;
    default: break;
    }
    ec = ea + eb - bias;
    if (kind == F32I || kind == F64I) {
        ea = bias + (int)(r >> 8 & 63) + 2;
    }
    if (kind == F32 || kind == F64) {
        eb = r & 0x80 ? ea : eb;
    }
    v->a = is64 ? make_f64(ea) : make_f32(ea);
    v->b = is64 ? make_f64(eb) : make_f32(eb);
    v->c = is64 ? make_f64(ec) : make_f32(ec);
}

static void make_memory(struct vector *v, enum kind kind)
{
    u64 size = 1ul << (kind >= MEM2U ? kind - MEM2U + 1 : kind - MEM1);
    u64 r = rng_next(&seed);
    for (int i = 0; i < 8; i++) {
        v->mem[i] = i == 3 ? make_int() : rng_next(&seed);
    }
    u64 offset = 24 + (r & 7 & ~(size - 1));
    if (kind >= MEM2U) {
        offset += 1 + r % (size - 1);
    }
    v->a = (u64)v->mem + offset;
    v->b = make_int();
}

static void make_operands(struct vector *v, enum kind kind)
{
    v->pre = 0x1122334455667788;
    v->result = v->result2 = v->flags = 0;
    if (kind == INT) {
        v->a = make_int();
        v->b = make_int();
    } else if (kind <= MEM8U) {
        make_memory(v, kind);
    } else {
        make_floats(v, kind);
    }
}

static u64 absorb(u64 hash, const struct vector *v, enum kind kind)
{
    u64 result = v->result;
    hash = hash_mix(hash, v->result2 ^ v->flags << 32);
    if (kind >= MEM1 && kind <= MEM8U) {
        for (int i = 0; i < 8; i++) {
            hash = hash_mix(hash, v->mem[i]);
        }
        /* A destination that is the base register's neighbour may hold an address: it is the same in every
         * run. */
    }
    return hash_mix(hash, result);
}

static void run_thunk(const struct thunk *t, struct vector *v, u64 *hash)
{
    for (u32 i = 0; i < t->vectors; i++) {
        make_operands(v, t->kind);
        v->frm = i % 5;
        u64 a = v->a, b = v->b, c = v->c;
        thunk_call(v, t->fn);
        *hash = absorb(*hash, v, t->kind);
        if (VERBOSE) {
            print("%s %lx: a=%016lx b=%016lx c=%016lx frm=%lu -> %016lx %016lx fcsr=%lx", t->name, t->fn, a,
                  b, c, v->frm, v->result, v->result2, v->flags);
            for (int k = 0; k < 8 && t->kind >= MEM1 && t->kind <= MEM8U; k++) {
                print(" %lx", v->mem[k]);
            }
            print("\n");
        }
    }
}

int main(u64 fdt)
{
    (void)fdt;
    static struct vector v;
    unsigned lines = 0;
    csr_set(mstatus, MSTATUS_FS);
    for (const struct thunk *t = thunk_table; t->name;) {
        const char *name = t->name;
        u64 hash = 0, vectors = 0;
        /* Each instruction starts from a seed of its own, so one difference does not become all. */
        seed = 0x9e3779b97f4a7c15ull ^ (u64)lines << 32;
        for (; t->name == name; t++) {
            run_thunk(t, &v, &hash);
            vectors += t->vectors;
        }
        print("insn %s n=%lu %016lx\n", name, vectors, hash);
        lines++;
    }
    print("insn_oracle done: %u instructions\n", lines);
    return 0;
}
