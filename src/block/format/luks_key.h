/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* How LUKS keeps a key: derived from a passphrase (PBKDF2), and spread over many sectors (AF splitter). */
#ifndef HOSTEL_BLOCK_FORMAT_LUKS_KEY_H
#define HOSTEL_BLOCK_FORMAT_LUKS_KEY_H

#include <nettle/nettle-meta.h>
#include <stddef.h>
#include <stdint.h>

/* By LUKS' name for it: "sha1", "sha256", ...; NULL when unknown. */
const struct nettle_hash *luks_hash_find(const char *name);

/* PBKDF2 with HMAC (RFC 8018, 5.2). */
void luks_derive(const struct nettle_hash *hash, const uint8_t *key, size_t key_size, const uint8_t *salt,
                 size_t salt_size, uint32_t iterations, uint8_t *out, size_t out_size);

/* How many iterations for size bytes take so many milliseconds of this host's CPU time. */
uint32_t luks_iterations(const struct nettle_hash *hash, size_t size, unsigned ms);

/* The key (size bytes) out of stripes * size bytes. */
void luks_merge(const struct nettle_hash *hash, const uint8_t *spread, size_t size, uint32_t stripes,
                uint8_t *key);

/* The other way; the first stripes - 1 were filled with random bytes. */
void luks_split(const struct nettle_hash *hash, uint8_t *spread, size_t size, uint32_t stripes,
                const uint8_t *key);

#endif
