/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Arithmetic on numbers a guest, file or peer chose: each operation says whether it overflowed. */
#ifndef HOSTEL_BASE_CHECKED_H
#define HOSTEL_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

/* Each stores the wrapped result and returns true when the exact result does not fit. */
#define ckd_add(result, a, b) __builtin_add_overflow(a, b, result)
#define ckd_sub(result, a, b) __builtin_sub_overflow(a, b, result)
#define ckd_mul(result, a, b) __builtin_mul_overflow(a, b, result)

/* Does [start, start + size) lie inside [base, base + extent)? Empty ranges at the end are inside; nothing
 * wraps. */
static inline bool range_inside(uint64_t start, uint64_t size, uint64_t base, uint64_t extent)
{
    return start >= base && start - base <= extent && size <= extent - (start - base);
}

/* Do two ranges share a byte? Neither may wrap around 2^64 except by ending exactly there. */
static inline bool ranges_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    if (!a_size || !b_size)
        return false;
    return a <= b ? b - a < a_size : a - b < b_size;
}

#endif
