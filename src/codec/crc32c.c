/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* CRC-32C, eight bytes at a time: by the processor's instruction where it has one, else by tables: table k is
 * for a byte with k bytes behind it. */
#include "codec/crc32c.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/byteorder.h"

#define POLYNOMIAL UINT32_C(0x82f63b78) /* least significant bit first */

static uint32_t tables[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        tables[0][i] = crc;
    }
    for (unsigned k = 1; k < 8; k++)
        for (unsigned i = 0; i < 256; i++)
            tables[k][i] = tables[k - 1][i] >> 8 ^ tables[0][tables[k - 1][i] & 0xff];
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t size)
{
    uint64_t wide = ~crc;
    for (; size >= 8; at += 8, size -= 8)
        wide = __builtin_ia32_crc32di(wide, ld64le(at));
    for (; size; at++, size--)
        wide = __builtin_ia32_crc32qi((uint32_t)wide, *at);
    return ~(uint32_t)wide;
}

static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#else
static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t size)
{
    (void)at;
    (void)size;
    return crc;
}

static bool has_instruction(void)
{
    return false;
}
#endif

static uint32_t by_tables(uint32_t crc, const uint8_t *at, size_t size)
{
    pthread_once(&once, make_tables);
    crc = ~crc;
    for (; size >= 8; at += 8, size -= 8) {
        const uint32_t low = ld32le(at) ^ crc, high = ld32le(at + 4);
        crc = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^
              tables[4][low >> 24] ^ tables[3][high & 0xff] ^ tables[2][high >> 8 & 0xff] ^
              tables[1][high >> 16 & 0xff] ^ tables[0][high >> 24];
    }
    for (; size; at++, size--)
        crc = crc >> 8 ^ tables[0][(crc ^ *at) & 0xff];
    return ~crc;
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size)
{
    return has_instruction() ? by_instruction(crc, bytes, size) : by_tables(crc, bytes, size);
}
