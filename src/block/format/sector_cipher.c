/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* AES-XTS (IEEE 1619) and AES-CBC over sectors, with nettle's AES; see sector_cipher.h. */
#include "block/format/sector_cipher.h"

#include <endian.h>
#include <nettle/aes.h>
#include <nettle/cbc.h>
#include <nettle/nettle-meta.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = AES_BLOCK_SIZE, WORDS = SECTOR_CIPHER_UNIT / 8 };

/* The largest is first: all three have the same alignment. */
union aes {
    struct aes256_ctx aes256;
    struct aes192_ctx aes192;
    struct aes128_ctx aes128;
};

struct sector_cipher {
    enum sector_mode mode;
    enum sector_iv iv;
    const struct nettle_cipher *aes;
    union aes encrypt, decrypt;
    union aes tweak;         /* xts: makes the tweak out of the sector's number */
    struct aes256_ctx essiv; /* makes the vector out of it */
};

static const struct nettle_cipher *aes_of(size_t size)
{
    switch (size) {
    case 16: return &nettle_aes128;
    case 24: return &nettle_aes192;
    case 32: return &nettle_aes256;
    default: return NULL;
    }
}

struct sector_cipher *sector_cipher_new(enum sector_mode mode, enum sector_iv iv, const uint8_t *key,
                                        size_t size)
{
    const size_t half = mode == SECTOR_XTS ? size / 2 : size;
    const struct nettle_cipher *aes = mode == SECTOR_XTS && size % 32 ? NULL : aes_of(half);
    struct sector_cipher *c = aes ? calloc(1, sizeof(*c)) : NULL;
    if (!c)
        return NULL;
    c->mode = mode;
    c->iv = iv;
    c->aes = aes;
    aes->set_encrypt_key(&c->encrypt, key);
    aes->set_decrypt_key(&c->decrypt, key);
    if (mode == SECTOR_XTS)
        aes->set_encrypt_key(&c->tweak, key + half);
    if (iv == SECTOR_IV_ESSIV_SHA256) {
        uint8_t salt[SHA256_DIGEST_SIZE];
        struct sha256_ctx sha;
        sha256_init(&sha);
        sha256_update(&sha, size, key);
        sha256_digest(&sha, sizeof(salt), salt);
        aes256_set_encrypt_key(&c->essiv, salt);
        explicit_bzero(salt, sizeof(salt));
        explicit_bzero(&sha, sizeof(sha));
    }
    return c;
}

void sector_cipher_free(struct sector_cipher *c)
{
    if (c)
        explicit_bzero(c, sizeof(*c));
    free(c);
}

static void make_iv(const struct sector_cipher *c, uint64_t sector, uint8_t iv[BLOCK])
{
    const uint64_t number[2] = {htole64(c->iv == SECTOR_IV_PLAIN ? (uint32_t)sector : sector), 0};
    memcpy(iv, number, BLOCK);
    if (c->iv == SECTOR_IV_ESSIV_SHA256)
        aes256_encrypt(&c->essiv, BLOCK, iv, iv);
}

/* --- xts --- */

/* The tweak of each block of a sector: the first, doubled in GF(2^128) from block to block. */
static void make_tweaks(const struct sector_cipher *c, uint64_t sector, uint64_t tweaks[WORDS])
{
    uint8_t first[BLOCK];
    make_iv(c, sector, first);
    c->aes->encrypt(&c->tweak, BLOCK, first, first);
    memcpy(tweaks, first, BLOCK);
    for (unsigned i = 2; i < WORDS; i += 2) {
        const uint64_t low = le64toh(tweaks[i - 2]), high = le64toh(tweaks[i - 1]);
        tweaks[i] = htole64(low << 1 ^ (-(high >> 63) & 0x87));
        tweaks[i + 1] = htole64(high << 1 | low >> 63);
    }
}

/* All blocks of a sector at once, which lets nettle have several of them under way. */
static void do_xts(const struct sector_cipher *c, nettle_cipher_func *aes, const union aes *key,
                   uint64_t sector, uint8_t *bytes)
{
    uint64_t tweaks[WORDS], words[WORDS];
    make_tweaks(c, sector, tweaks);
    memcpy(words, bytes, sizeof(words));
    for (unsigned i = 0; i < WORDS; i++)
        words[i] ^= tweaks[i];
    aes(key, sizeof(words), (uint8_t *)words, (const uint8_t *)words);
    for (unsigned i = 0; i < WORDS; i++)
        words[i] ^= tweaks[i];
    memcpy(bytes, words, sizeof(words));
}

/* --- both --- */

void sector_encrypt(const struct sector_cipher *c, uint64_t first, uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++, bytes += SECTOR_CIPHER_UNIT) {
        uint8_t iv[BLOCK];
        if (c->mode == SECTOR_XTS) {
            do_xts(c, c->aes->encrypt, &c->encrypt, first + i, bytes);
            continue;
        }
        make_iv(c, first + i, iv);
        cbc_encrypt(&c->encrypt, c->aes->encrypt, BLOCK, iv, SECTOR_CIPHER_UNIT, bytes, bytes);
    }
}

void sector_decrypt(const struct sector_cipher *c, uint64_t first, uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++, bytes += SECTOR_CIPHER_UNIT) {
        uint8_t iv[BLOCK];
        if (c->mode == SECTOR_XTS) {
            do_xts(c, c->aes->decrypt, &c->decrypt, first + i, bytes);
            continue;
        }
        make_iv(c, first + i, iv);
        cbc_decrypt(&c->decrypt, c->aes->decrypt, BLOCK, iv, SECTOR_CIPHER_UNIT, bytes, bytes);
    }
}
