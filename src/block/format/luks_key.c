/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* PBKDF2 and the anti-forensic splitter of LUKS (on-disk format 1.2.3, sections 2.3 and 2.4), over nettle. */
#include "block/format/luks_key.h"

#include <nettle/hmac.h>
#include <nettle/memxor.h>
#include <nettle/pbkdf2.h>
#include <nettle/ripemd160.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/byteorder.h"

/* The state of any of these hashes. */
union hash_state {
    struct sha1_ctx sha1;
    struct sha256_ctx sha256;
    struct sha512_ctx sha512;
    struct ripemd160_ctx ripemd160;
};

const struct nettle_hash *luks_hash_find(const char *name)
{
    static const struct nettle_hash *const known[] = {&nettle_sha1,   &nettle_sha224, &nettle_sha256,
                                                      &nettle_sha384, &nettle_sha512, &nettle_ripemd160};
    for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
        if (!strcmp(known[i]->name, name))
            return known[i];
    return NULL;
}

/* --- passphrase to key --- */

struct hmac {
    const struct nettle_hash *hash;
    union hash_state outer, inner, state;
};

static void update(void *opaque, size_t size, const uint8_t *bytes)
{
    struct hmac *h = opaque;
    hmac_update(&h->state, h->hash, size, bytes);
}

static void digest(void *opaque, size_t size, uint8_t *bytes)
{
    struct hmac *h = opaque;
    hmac_digest(&h->outer, &h->inner, &h->state, h->hash, size, bytes);
}

void luks_derive(const struct nettle_hash *hash, const uint8_t *key, size_t key_size, const uint8_t *salt,
                 size_t salt_size, uint32_t iterations, uint8_t *out, size_t out_size)
{
    struct hmac h = {.hash = hash};
    hmac_set_key(&h.outer, &h.inner, &h.state, hash, key_size, key);
    pbkdf2(&h, update, digest, hash->digest_size, iterations, salt_size, salt, out_size, out);
    explicit_bzero(&h, sizeof(h));
}

/* Of this thread only, so that others' work does not make keys cheaper to guess. */
static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint32_t luks_iterations(const struct nettle_hash *hash, size_t size, unsigned ms)
{
    enum { SURE_NS = 20 * 1000 * 1000, FIRST = 1 << 12 };
    static const uint8_t salt[32];
    uint8_t out[64];
    uint64_t took = 0;
    uint32_t n = FIRST;
    for (; n < UINT32_MAX / 2; n *= 2) {
        const uint64_t then = cpu_ns();
        luks_derive(hash, (const uint8_t *)"passphrase", 10, salt, sizeof(salt), n, out,
                    size < sizeof(out) ? size : sizeof(out));
        if ((took = cpu_ns() - then) >= SURE_NS)
            break;
    }
    const double wanted = (double)n * (double)ms * 1e6 / (double)(took ? took : 1);
    return wanted > (double)INT32_MAX ? INT32_MAX : (uint32_t)wanted;
}

/* --- the splitter --- */

/* Every byte of the piece depends on others of it: pieces of the hash's size, each hashed with its number. */
static void diffuse(const struct nettle_hash *hash, uint8_t *bytes, size_t size)
{
    union hash_state state;
    uint8_t number[4];
    for (uint32_t i = 0; size; i++) {
        const size_t now = size < hash->digest_size ? size : hash->digest_size;
        st32be(number, i);
        hash->init(&state);
        hash->update(&state, sizeof(number), number);
        hash->update(&state, now, bytes);
        hash->digest(&state, now, bytes);
        bytes += now;
        size -= now;
    }
    explicit_bzero(&state, sizeof(state));
}

/* What all stripes but the last come to. */
static void fold(const struct nettle_hash *hash, const uint8_t *spread, size_t size, uint32_t stripes,
                 uint8_t *key)
{
    memset(key, 0, size);
    for (uint32_t i = 0; i + 1 < stripes; i++) {
        memxor(key, spread + i * size, size);
        diffuse(hash, key, size);
    }
}

void luks_merge(const struct nettle_hash *hash, const uint8_t *spread, size_t size, uint32_t stripes,
                uint8_t *key)
{
    fold(hash, spread, size, stripes, key);
    memxor(key, spread + (stripes - 1) * size, size);
}

void luks_split(const struct nettle_hash *hash, uint8_t *spread, size_t size, uint32_t stripes,
                const uint8_t *key)
{
    uint8_t *last = spread + (stripes - 1) * size;
    fold(hash, spread, size, stripes, last);
    memxor(last, key, size);
}
