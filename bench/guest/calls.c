/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Calls and returns: recursion, a comparator called through a pointer, a walk over a tree. */
#include <stdlib.h>

#include "suite.h"

#define FIB 18u
#define FIB_CALLS 8361u /* that fib(18) makes: 2 F(19) - 1 */
#define ELEMENTS 512u
#define NODES 1023u

struct node {
    struct node *left, *right;
    uint64_t value;
};

static uint32_t elements[ELEMENTS];
static struct node nodes[NODES];

/* Kept as written: a compiler that unrolls the recursion measures something else. */
static uint64_t __attribute__((noipa, optimize("no-optimize-sibling-calls"))) fib(uint64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t fib_run(uint64_t steps)
{
    uint64_t sum = 0, n = FIB;
    for (uint64_t s = 0; s < steps; s++) {
        OPAQUE(n);
        sum += fib(n);
    }
    return sum;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint64_t qsort_run(uint64_t steps)
{
    uint64_t seed = 3, sum = 0;
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < ELEMENTS; i++) {
            elements[i] = (uint32_t)rng_next(&seed);
        }
        qsort(elements, ELEMENTS, sizeof(elements[0]), compare);
        sum = mix(sum, elements[ELEMENTS / 3]);
    }
    return sum;
}

static void tree_begin(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        unsigned l = 2 * i + 1, r = 2 * i + 2;
        nodes[i] = (struct node){l < NODES ? &nodes[l] : NULL, r < NODES ? &nodes[r] : NULL, i};
    }
}

static uint64_t __attribute__((noinline, noclone)) tree_sum(const struct node *node, uint64_t depth)
{
    uint64_t sum = node->value * depth;
    if (node->left) {
        sum += tree_sum(node->left, depth + 1);
    }
    if (node->right) {
        sum ^= tree_sum(node->right, depth + 1);
    }
    return sum;
}

static uint64_t tree_run(uint64_t steps)
{
    uint64_t sum = 0;
    for (uint64_t s = 0; s < steps; s++) {
        sum = mix(sum, tree_sum(nodes, s));
    }
    return sum;
}

const struct program calls_programs[] = {
    {.name = "calls/fibonacci", .unit = "call", .per = FIB_CALLS, .run = fib_run},
    {.name = "calls/qsort", .unit = "element", .per = ELEMENTS, .run = qsort_run},
    {.name = "calls/tree", .unit = "node", .per = NODES, .begin = tree_begin, .run = tree_run},
    {.name = NULL},
};
