/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The Internet checksum. */
#include "net/checksum.h"

#include <endian.h>
#include <string.h>

#include "base/byteorder.h"

/* A sum in 16 bits; the carry goes around. */
static uint32_t fold(uint64_t sum)
{
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint32_t)((sum >> 16) + (sum & 0xffff));
}

/* The byte order does not matter to the sum but for the place of its bytes (RFC 1071, 2(B)), so words are
 * added as the host has them and the result is swapped once. Written so that compilers make vector code of
 * the loop. */
uint32_t checksum_add(uint32_t sum, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    uint64_t total = 0;
    for (; size >= 128; size -= 128, p += 128) {
        uint32_t words[32];
        memcpy(words, p, sizeof(words));
        uint64_t part = 0;
        for (unsigned i = 0; i < 32; i++)
            part += words[i];
        total += part;
    }
    for (; size >= 4; size -= 4, p += 4) {
        uint32_t word;
        memcpy(&word, p, sizeof(word));
        total += word;
    }
    uint8_t rest[4] = {0};
    memcpy(rest, p, size);
    uint32_t word;
    memcpy(&word, rest, sizeof(word));
    uint16_t folded = (uint16_t)fold(total + word);
    return fold((uint64_t)sum + be16toh(folded));
}

uint16_t checksum_finish(uint32_t sum)
{
    return (uint16_t)~fold(sum);
}

uint16_t checksum_update(uint16_t checksum, const void *before, const void *after, size_t size)
{
    uint32_t sum = (uint16_t)~checksum;
    for (size_t i = 0; i < size; i += 2) {
        sum += (uint16_t)~ld16be((const uint8_t *)before + i);
        sum += ld16be((const uint8_t *)after + i);
    }
    return (uint16_t)~fold(sum);
}
