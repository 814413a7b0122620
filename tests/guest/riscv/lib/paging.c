/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Building page tables: a bump allocator and a mapper for trees of three to five levels. */
#include "lib/lib.h"

static u8 pool[96][4096] __attribute__((aligned(4096)));
static unsigned pool_used;

u64 *page_new(void)
{
    if (pool_used == sizeof(pool) / sizeof(pool[0])) {
        print("page pool exhausted\n");
        power_off(98);
    }
    u64 *page = (u64 *)pool[pool_used++];
    for (int i = 0; i < 512; i++) {
        page[i] = 0;
    }
    return page;
}

void pages_reset(void)
{
    pool_used = 0;
}

u64 *map_page(u64 *root, int levels, u64 va, u64 pa, int level, u64 flags)
{
    u64 *table = root;
    for (int l = levels - 1; l > level; l--) {
        u64 *pte = &table[va >> (12 + 9 * l) & 511];
        if (!(*pte & PTE_V)) {
            *pte = (u64)page_new() >> 12 << 10 | PTE_V;
        }
        table = (u64 *)(*pte >> 10 << 12);
    }
    u64 *leaf = &table[va >> (12 + 9 * level) & 511];
    *leaf = pa >> 12 << 10 | flags;
    return leaf;
}

void satp_use(u64 *root, int levels, u64 asid)
{
    u64 mode = (u64)(levels + 5);
    csr_write(satp, mode << 60 | asid << 44 | (u64)root >> 12);
    sfence();
}
