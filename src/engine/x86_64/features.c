/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Asks CPUID and XGETBV what this host can do (Intel SDM volume 2A, CPUID; volume 1, chapter 13). */
#include "engine/x86_64/features.h"

#include <cpuid.h>
#include <glib.h>
#include <stdint.h>

#include "base/bits.h"

/* The states in XCR0 that the kernel saves for a program: SSE and AVX; opmask and both parts of ZMM besides.
 */
#define XCR0_AVX (BIT(1) | BIT(2))
#define XCR0_AVX512 (XCR0_AVX | BIT(5) | BIT(6) | BIT(7))

static uint64_t read_xcr0(void)
{
    uint32_t lo, hi;

    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static void features_fill(struct host_features *f)
{
    unsigned a, b, c, d;
    uint64_t xcr0;

    if (!__get_cpuid(1, &a, &b, &c, &d))
        return;
    xcr0 = c & BIT(27) ? read_xcr0() : 0; /* OSXSAVE */
    f->clmul = c & BIT(1);
    f->cx16 = c & BIT(13);
    f->sse41 = c & BIT(19);
    f->popcnt = c & BIT(23);
    f->avx = (c & BIT(28)) && (xcr0 & XCR0_AVX) == XCR0_AVX;
    f->fma = (c & BIT(12)) && f->avx;

    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        bool zmm = f->avx && (xcr0 & XCR0_AVX512) == XCR0_AVX512;

        f->bmi1 = (b & BIT(3)) && f->avx; /* VEX-encoded, so they fault when AVX is off */
        f->bmi2 = (b & BIT(8)) && f->avx;
        f->avx2 = (b & BIT(5)) && f->avx;
        f->avx512f = (b & BIT(16)) && zmm;
        f->avx512dq = (b & BIT(17)) && f->avx512f;
        f->avx512vl = (b & BIT(31)) && f->avx512f;
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d))
        f->lzcnt = c & BIT(5);
}

const struct host_features *host_features_get(void)
{
    static struct host_features features;
    static gsize ready;

    if (g_once_init_enter(&ready)) {
        features_fill(&features);
        g_once_init_leave(&ready, 1);
    }
    return &features;
}
