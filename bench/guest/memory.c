/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Memory: a chase through a list, a sum over a stream, and the C library's copy, fill and search. */
#include <string.h>

#include "suite.h"

#define CELLS (1u << 17)  /* of 64 bytes: 8 MiB, far beyond a TLB's reach */
#define CHASE 4096u       /* cells visited in one step */
#define STREAM (4u << 20) /* bytes */
#define LARGE 65536u      /* bytes of a large copy */
#define SMALL 64u         /* bytes of a small copy */
#define SMALL_COPIES 1024u

struct cell {
    struct cell *next;
    uint64_t value, pad[6];
};

static struct cell *cells;
static const struct cell *here;
static uint64_t *stream;
static uint8_t *from, *to;

/* One cycle through all cells in random order (Sattolo's shuffle). */
static void chase_begin(void)
{
    cells = suite_memory(CELLS * sizeof(cells[0]));
    uint32_t *order = suite_memory(CELLS * sizeof(order[0]));
    uint64_t seed = 17;
    for (uint32_t i = 0; i < CELLS; i++) {
        order[i] = i;
    }
    for (uint32_t i = CELLS - 1; i; i--) {
        uint32_t k = (uint32_t)(rng_next(&seed) % i), t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
    for (uint32_t i = 0; i < CELLS; i++) {
        cells[order[i]] = (struct cell){.next = &cells[order[(i + 1) % CELLS]], .value = i};
    }
    here = cells;
}

/* A chase begins where the last one ended, so that all cells are visited in the end. */
static uint64_t chase_run(uint64_t steps)
{
    const struct cell *c = here;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < steps * CHASE; i++, c = c->next) {
        sum += c->value;
    }
    here = c;
    return sum;
}

/* The same in 16 KiB, which every cache holds. */
static uint64_t near_run(uint64_t steps)
{
    const struct cell *c = cells;
    uint64_t sum = 0;
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < CHASE; i++, c = c->next) {
            sum += c->value;
        }
    }
    return sum;
}

static void near_begin(void)
{
    cells = suite_memory(256 * sizeof(cells[0]));
    for (unsigned i = 0; i < 256; i++) {
        cells[i] = (struct cell){.next = &cells[(i * 5 + 3) % 256], .value = i};
    }
}

static void stream_begin(void)
{
    uint64_t seed = 23;
    stream = suite_memory(STREAM);
    for (unsigned i = 0; i < STREAM / 8; i++) {
        stream[i] = rng_next(&seed);
    }
}

static uint64_t stream_run(uint64_t steps)
{
    uint64_t sum = 0;
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < STREAM / 8; i++) {
            sum += stream[i];
        }
        sum = mix(sum, s);
    }
    return sum;
}

static void copy_begin(void)
{
    uint64_t seed = 29;
    from = suite_memory(LARGE);
    to = suite_memory(LARGE);
    for (unsigned i = 0; i < LARGE - 1; i++) {
        from[i] = (uint8_t)(rng_next(&seed) | 1); /* a string without an end before the last byte */
    }
}

static uint64_t copy_run(uint64_t steps)
{
    for (uint64_t s = 0; s < steps; s++) {
        size_t bytes = LARGE;
        OPAQUE(bytes);
        memcpy(to, from, bytes);
        from[s % (LARGE - 1)] ^= 2;
    }
    return to[LARGE / 2];
}

static uint64_t copy_small_run(uint64_t steps)
{
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < SMALL_COPIES; i++) {
            size_t bytes = SMALL;
            OPAQUE(bytes);
            memcpy(to + i % 64 * SMALL, from + i * 7 % 64 * SMALL, bytes);
        }
    }
    return to[5 * SMALL];
}

static uint64_t fill_run(uint64_t steps)
{
    for (uint64_t s = 0; s < steps; s++) {
        size_t bytes = LARGE;
        OPAQUE(bytes);
        memset(to, (int)s, bytes);
    }
    return to[LARGE / 2];
}

static uint64_t length_run(uint64_t steps)
{
    uint64_t sum = 0;
    for (uint64_t s = 0; s < steps; s++) {
        const char *string = (const char *)from;
        OPAQUE(string);
        sum += strlen(string);
    }
    return sum;
}

const struct program memory_programs[] = {
    {.name = "memory/chase_8m", .unit = "cell", .per = CHASE, .begin = chase_begin, .run = chase_run},
    {.name = "memory/chase_16k", .unit = "cell", .per = CHASE, .begin = near_begin, .run = near_run},
    {.name = "memory/stream_sum", .unit = "byte", .per = STREAM, .begin = stream_begin, .run = stream_run},
    {.name = "memory/memcpy_64k", .unit = "byte", .per = LARGE, .begin = copy_begin, .run = copy_run},
    {.name = "memory/memcpy_64",
     .unit = "copy",
     .per = SMALL_COPIES,
     .begin = copy_begin,
     .run = copy_small_run},
    {.name = "memory/memset", .unit = "byte", .per = LARGE, .begin = copy_begin, .run = fill_run},
    {.name = "memory/strlen", .unit = "byte", .per = LARGE - 1, .begin = copy_begin, .run = length_run},
    {.name = NULL},
};
