/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The little of the device tree that guest programs need: the number of harts. */
#include "lib/lib.h"

enum { FDT_BEGIN_NODE = 1, FDT_END_NODE = 2, FDT_PROP = 3, FDT_NOP = 4, FDT_END = 9 };

static u32 be32(const u8 *p)
{
    return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3];
}

u64 fdt_count_harts(u64 fdt)
{
    const u8 *p = (const u8 *)fdt + be32((const u8 *)fdt + 8);
    u64 n = 0;
    for (;;) {
        u32 token = be32(p);
        p += 4;
        if (token == FDT_BEGIN_NODE) {
            n += p[0] == 'c' && p[1] == 'p' && p[2] == 'u' && p[3] == '@';
            u64 length = 0;
            while (p[length]) {
                length++;
            }
            p += (length + 4) & ~3ul;
        } else if (token == FDT_PROP) {
            p += 8 + ((be32(p) + 3) & ~3u);
        } else if (token == FDT_END) {
            return n;
        }
    }
}
