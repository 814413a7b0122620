/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What test_lift_exec and the program that runs on another emulator hand each other: state before, code,
 * state after. */
#ifndef HOSTEL_TESTS_LIFT_VECTOR_H
#define HOSTEL_TESTS_LIFT_VECTOR_H

#include <stdint.h>

enum {
    VECTOR_CODE = 0x20000000, /* where the code of vector n of a chunk lies: + n * VECTOR_SLOT */
    VECTOR_SLOT = 64,
    VECTOR_CODE_BYTES = 32,
    VECTOR_DATA = 0x10000000, /* memory the code may touch, filled from the seed */
    VECTOR_DATA_BYTES = 2048,
    VECTOR_CONTEXT = 0x30000000, /* the runner's own */
    VECTOR_CHUNK = 1024,
};

struct vector {
    uint64_t x[32]; /* x0 and x4 are not the vector's */
    uint64_t f[32];
    uint64_t fcsr;
    uint64_t memory; /* before: the seed of the data; after: their digest */
    uint8_t code[VECTOR_CODE_BYTES];
};

static inline void vector_fill(uint64_t *data, uint64_t seed)
{
    for (unsigned n = 0; n < VECTOR_DATA_BYTES / 8; n++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        data[n] = seed ^ seed >> 29;
    }
}

static inline uint64_t vector_digest(const uint64_t *data)
{
    uint64_t h = 0;

    for (unsigned n = 0; n < VECTOR_DATA_BYTES / 8; n++) {
        h = (h ^ data[n]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    return h;
}

#endif
