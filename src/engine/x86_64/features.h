/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the host CPU can do beyond x86-64's base line, and the kernel lets programs use. */
#ifndef HOSTEL_ENGINE_X86_64_FEATURES_H
#define HOSTEL_ENGINE_X86_64_FEATURES_H

#include <stdbool.h>

/* SSE2 is the base line. Everything that needs wider registers is reported only if the kernel saves them
 * (XGETBV). */
struct host_features {
    bool sse41; /* ROUNDSS/ROUNDSD */
    bool popcnt;
    bool lzcnt;
    bool bmi1;  /* ANDN, TZCNT */
    bool bmi2;  /* SHLX, SHRX, SARX, RORX, MULX */
    bool cx16;  /* CMPXCHG16B */
    bool clmul; /* PCLMULQDQ */
    bool avx;   /* VEX forms */
    bool avx2;
    bool fma;
    bool avx512f;
    bool avx512dq;
    bool avx512vl;
};

/*
 * The features of this host. CPUID traps to the hypervisor in a virtual machine (microseconds), so it is
 * asked once per process. Any thread; the result lives as long as the process.
 */
const struct host_features *host_features_get(void);

#endif
