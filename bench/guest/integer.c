/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Integer work: check sums, a hash, a sieve, a sort, multiplication and division, a table of keys. */
#include <string.h>

#include "suite.h"

#define BLOCK 4096u
#define SIEVE 16384u
#define ELEMENTS 1024u
#define SLOTS 4096u

static uint8_t block[BLOCK], sieve[SIEVE];
static uint32_t crc_table[256], elements[ELEMENTS];
static uint64_t slots[SLOTS];

/* Without a branch on the data: half of such branches would be guessed wrong, by every translator's code
 * alike. */
static uint32_t crc_shift(uint32_t c)
{
    for (int k = 0; k < 8; k++) {
        c = c >> 1 ^ (0xedb88320u & -(c & 1));
    }
    return c;
}

static void crc_begin(void)
{
    uint64_t seed = 1;
    for (unsigned i = 0; i < BLOCK; i++) {
        block[i] = (uint8_t)rng_next(&seed);
    }
    for (uint32_t i = 0; i < 256; i++) {
        crc_table[i] = crc_shift(i);
    }
}

static uint64_t crc_bits_run(uint64_t steps)
{
    uint32_t c = ~0u;
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < BLOCK; i++) {
            c = crc_shift(c ^ block[i]);
        }
    }
    return c;
}

static uint64_t crc_table_run(uint64_t steps)
{
    uint32_t c = ~0u;
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < BLOCK; i++) {
            c = crc_table[(c ^ block[i]) & 0xff] ^ c >> 8;
        }
    }
    return c;
}

static inline uint32_t rotate(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

/* The shape of SHA-256's compression: a message schedule and 64 rounds of rotations. Constants from a
 * generator: what is measured is the work, not the hash. */
static void sha_compress(uint32_t state[8], const uint8_t *message)
{
    uint32_t w[64], v[8], k = 0x428a2f98;
    for (int i = 0; i < 16; i++, message += 4) {
        w[i] =
            (uint32_t)message[0] << 24 | (uint32_t)message[1] << 16 | (uint32_t)message[2] << 8 | message[3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(v, state, sizeof(v));
    for (int i = 0; i < 64; i++, k = k * 1664525u + 1013904223u) {
        uint32_t e = v[4], a = v[0];
        uint32_t t =
            v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & v[5]) ^ (~e & v[6])) + k + w[i];
        uint32_t u =
            (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof(v[0]));
        v[4] += t;
        v[0] = t + u;
    }
    for (int i = 0; i < 8; i++) {
        state[i] += v[i];
    }
}

static uint64_t sha_run(uint64_t steps)
{
    uint32_t state[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < BLOCK; i += 64) {
            sha_compress(state, block + i);
        }
    }
    return mix(state[0], state[7]);
}

static uint64_t sieve_run(uint64_t steps)
{
    uint64_t sum = 0;
    for (uint64_t s = 0; s < steps; s++) {
        memset(sieve, 1, SIEVE);
        for (unsigned i = 2; i < SIEVE; i++) {
            if (sieve[i]) {
                sum += i;
                for (unsigned k = 2 * i; k < SIEVE; k += i) {
                    sieve[k] = 0;
                }
            }
        }
    }
    return sum;
}

static void heap_sink(uint32_t *v, unsigned i, unsigned n)
{
    uint32_t x = v[i];
    for (unsigned child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && v[child + 1] > v[child];
        if (v[child] <= x) {
            break;
        }
        v[i] = v[child];
    }
    v[i] = x;
}

static uint64_t sort_run(uint64_t steps)
{
    uint64_t seed = 7, sum = 0;
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned i = 0; i < ELEMENTS; i++) {
            elements[i] = (uint32_t)rng_next(&seed);
        }
        for (unsigned i = ELEMENTS / 2; i--;) {
            heap_sink(elements, i, ELEMENTS);
        }
        for (unsigned n = ELEMENTS; --n;) {
            uint32_t top = elements[0];
            elements[0] = elements[n];
            elements[n] = top;
            heap_sink(elements, 0, n);
        }
        sum = mix(sum, elements[ELEMENTS / 2]);
    }
    return sum;
}

static uint64_t muldiv_run(uint64_t steps)
{
    uint64_t a = 12345, b = 678910, i = 1;
    for (uint64_t s = 0; s < steps; s++) {
        for (unsigned k = 0; k < 1024; k++, i++) {
            a = a * 6364136223846793005ull + i;
            b ^= a >> 33 | b << 7;
            b += a / (i | 1) + (uint32_t)a % 1000;
        }
    }
    return a ^ b;
}

/* Keys in a table with open addressing: found or put, and now and then all forgotten. */
static uint64_t keys_run(uint64_t steps)
{
    uint64_t seed = 99, found = 0;
    for (uint64_t s = 0; s < steps; s++) {
        memset(slots, 0, sizeof(slots));
        for (unsigned n = 0; n < SLOTS; n++) {
            uint64_t key = (rng_next(&seed) & (SLOTS / 2 - 1)) + 1;
            unsigned at = (unsigned)(key * 0x9e3779b97f4a7c15ull >> 52);
            while (slots[at] && slots[at] != key) {
                at = (at + 1) % SLOTS;
            }
            found += slots[at] == key;
            slots[at] = key;
        }
    }
    return found;
}

const struct program integer_programs[] = {
    {.name = "integer/crc_bits", .unit = "byte", .per = BLOCK, .begin = crc_begin, .run = crc_bits_run},
    {.name = "integer/crc_table", .unit = "byte", .per = BLOCK, .begin = crc_begin, .run = crc_table_run},
    {.name = "integer/sha", .unit = "byte", .per = BLOCK, .begin = crc_begin, .run = sha_run},
    {.name = "integer/sieve", .unit = "number", .per = SIEVE, .run = sieve_run},
    {.name = "integer/heap_sort", .unit = "element", .per = ELEMENTS, .run = sort_run},
    {.name = "integer/mul_div", .unit = "round", .per = 1024, .run = muldiv_run},
    {.name = "integer/hash_table", .unit = "key", .per = SLOTS, .run = keys_run},
    {.name = NULL},
};
