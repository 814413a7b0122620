/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Speed of integer code: a fixed mix on every hart; prints retired instructions and elapsed mtime ticks (10
 * MHz). */
#include "lib/lib.h"

/* Each unit is 0.9 million instructions per hart. */
#ifndef SCALE
#define SCALE 110
#endif

/* With COUNT the number of retired instructions is a line to compare (on QEMU with -icount). */
#ifndef COUNT
#define COUNT 0
#endif

static u64 harts_n, started, finished;
static struct {
    u64 retired, ticks, sum;
    u64 pad[5];
} results[MAX_HARTS];
static u32 crc_table[256];
static u8 sieve[MAX_HARTS][16384];
static u32 buffer[MAX_HARTS][4096];

static void crc_table_fill(void)
{
    for (u32 i = 0; i < 256; i++) {
        u32 c = i;
        for (int k = 0; k < 8; k++) {
            c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        }
        crc_table[i] = c;
    }
}

static u64 run_crc(const u8 *p, u64 n)
{
    u32 c = ~0u;
    for (u64 i = 0; i < n; i++) {
        c = crc_table[(c ^ p[i]) & 0xff] ^ c >> 8;
    }
    return ~c;
}

static u64 run_sieve(u8 *s, u64 n)
{
    u64 count = 0;
    for (u64 i = 2; i < n; i++) {
        s[i] = 1;
    }
    for (u64 i = 2; i < n; i++) {
        if (s[i]) {
            count++;
            for (u64 k = i * i; k < n; k += i) {
                s[k] = 0;
            }
        }
    }
    return count;
}

static u64 __attribute__((noinline)) fibonacci(u64 n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static u64 run_sort(u32 *v, u64 n, u64 seed)
{
    for (u64 i = 0; i < n; i++) {
        v[i] = (u32)rng_next(&seed);
    }
    for (u64 gap = n / 2; gap; gap /= 2) {
        for (u64 i = gap; i < n; i++) {
            u32 x = v[i];
            u64 k = i;
            for (; k >= gap && v[k - gap] > x; k -= gap) {
                v[k] = v[k - gap];
            }
            v[k] = x;
        }
    }
    return v[0] ^ (u64)v[n / 2] << 32;
}

static u64 run_arithmetic(u64 n)
{
    u64 a = 12345, b = 678910;
    for (u64 i = 1; i <= n; i++) {
        a = a * 6364136223846793005ull + i;
        b ^= a >> 33 | b << 7;
        b += a / (i | 1) + a % 1000;
    }
    return a ^ b;
}

static void run(u64 hart)
{
    u64 sum = 0, t = clint_mtime(), n = csr_read(minstret);
    for (u64 i = 0; i < SCALE; i++) {
        sum = hash_mix(sum, run_sieve(sieve[hart], 16384));
        sum = hash_mix(sum, run_crc(sieve[hart], 16384));
        sum = hash_mix(sum, run_sort(buffer[hart], 1024, i + 1));
        sum = hash_mix(sum, fibonacci(16));
        sum = hash_mix(sum, run_arithmetic(8000));
        sum = hash_mix(sum, run_crc((u8 *)buffer[hart], 4096));
    }
    results[hart].retired = csr_read(minstret) - n;
    results[hart].ticks = clint_mtime() - t;
    results[hart].sum = sum;
}

void secondary_main(u64 hart)
{
    while (!__atomic_load_n(&started, __ATOMIC_ACQUIRE)) {
    }
    run(hart);
    __atomic_fetch_add(&finished, 1, __ATOMIC_RELEASE);
}

int main(u64 fdt)
{
    harts_n = fdt_count_harts(fdt);
    crc_table_fill();
    __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
    run(0);
    __atomic_fetch_add(&finished, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&finished, __ATOMIC_ACQUIRE) != harts_n) {
    }
    u64 retired = 0, ticks = 0;
    for (u64 h = 0; h < harts_n; h++) {
        print("note mips hart %lu retired=%lu ticks=%lu mips=%lu\n", h, results[h].retired, results[h].ticks,
              results[h].ticks ? results[h].retired * 10 / results[h].ticks : 0);
        print("mips hart %lu result %016lx\n", h, results[h].sum);
        if (COUNT) {
            print("mips hart %lu retired %lu\n", h, results[h].retired);
        }
        retired += results[h].retired;
        ticks = results[h].ticks > ticks ? results[h].ticks : ticks;
    }
    print("note mips total retired=%lu ticks=%lu mips=%lu\n", retired, ticks,
          ticks ? retired * 10 / ticks : 0);
    return 0;
}
