/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the programs of the suite share: how one is described, and where its memory comes from. */
#ifndef BENCH_SUITE_H
#define BENCH_SUITE_H

#include <stddef.h>
#include <stdint.h>

/* One measured program. */
struct program {
    const char *name;    /* GROUP/NAME, as the driver prints it */
    const char *unit;    /* what one unit of work is, in words */
    uint32_t per;        /* units in one step */
    uint32_t threads;    /* that share the steps; each does all of them. 0 is 1. */
    void (*begin)(void); /* prepares; may be NULL */
    uint64_t (*run)(
        uint64_t steps); /* works; what it returns depends on all of the work, and on nothing else */
    void (*end)(void);   /* tidies up; may be NULL */
};

/* Each list ends with an entry without a name. */
extern const struct program integer_programs[], calls_programs[], branches_programs[], memory_programs[],
    double_programs[], system_programs[], parallel_programs[], disk_programs[];

/* Zeroed memory, with its pages present, that is gone after the program's end. Ends the suite on failure. */
void *suite_memory(size_t bytes);

/* Ends the suite: WHAT failed, errno says why. */
void suite_fail(const char *what) __attribute__((noreturn));

/* A generator of numbers (xorshift64*). The state must not be 0. */
static inline uint64_t rng_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dull;
}

/* Folds a value into a sum, so that order counts. */
static inline uint64_t mix(uint64_t sum, uint64_t value)
{
    return ((sum << 13 | sum >> 51) ^ value) * 0x9e3779b97f4a7c15ull;
}

/* Hides from the compiler where a value comes from, so that it cannot be computed at build time. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x))

#endif
