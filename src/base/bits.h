/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Bit fields, sign extension, alignment: the arithmetic every layer shares. */
#ifndef HOSTEL_BASE_BITS_H
#define HOSTEL_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BIT(n) (UINT64_C(1) << (n))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define KiB UINT64_C(1024)
#define MiB (KiB * 1024)
#define GiB (MiB * 1024)

/* The low n bits set; n is 0..64. */
static inline uint64_t bits_mask(unsigned n)
{
    return n >= 64 ? UINT64_MAX : (BIT(n) - 1);
}

/* Field of n bits (1..64) that begins at bit lo. */
static inline uint64_t bits_get(uint64_t v, unsigned lo, unsigned n)
{
    return (v >> lo) & bits_mask(n);
}

/* v with the field of n bits at lo replaced by f. */
static inline uint64_t bits_set(uint64_t v, unsigned lo, unsigned n, uint64_t f)
{
    uint64_t m = bits_mask(n) << lo;
    return (v & ~m) | ((f << lo) & m);
}

/* The low n bits (1..64) of v as a signed number. */
static inline int64_t bits_sext(uint64_t v, unsigned n)
{
    unsigned up = 64 - n;
    return (int64_t)(v << up) >> up;
}

static inline uint64_t bits_rol64(uint64_t v, unsigned n)
{
    n &= 63;
    return n ? v << n | v >> (64 - n) : v;
}

static inline uint32_t bits_rol32(uint32_t v, unsigned n)
{
    n &= 31;
    return n ? v << n | v >> (32 - n) : v;
}

/* Alignment to a power of two. align_up may wrap: callers with untrusted values use base/checked.h. */
static inline uint64_t align_down(uint64_t v, uint64_t align)
{
    return v & ~(align - 1);
}

static inline uint64_t align_up(uint64_t v, uint64_t align)
{
    return (v + align - 1) & ~(align - 1);
}

static inline bool is_power_of_two(uint64_t v)
{
    return v && !(v & (v - 1));
}

#endif
