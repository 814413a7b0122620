/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Encrypts and decrypts sectors of 512 bytes by their number, as disk encryption on Linux does. */
/*
 * The names are those of dm-crypt: aes, in mode xts or cbc, with the sector's number as initialization vector
 * in a form called plain, plain64 or essiv. A cipher does not change once it is made: any thread may use it,
 * several at once.
 */
#ifndef HOSTEL_BLOCK_FORMAT_SECTOR_CIPHER_H
#define HOSTEL_BLOCK_FORMAT_SECTOR_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

enum { SECTOR_CIPHER_UNIT = 512, SECTOR_CIPHER_KEY_MAX = 64 };

enum sector_mode { SECTOR_CBC, SECTOR_XTS };
enum sector_iv { SECTOR_IV_PLAIN, SECTOR_IV_PLAIN64, SECTOR_IV_ESSIV_SHA256 };

struct sector_cipher;

/* AES by the size of key: 16, 24, 32 bytes; for xts twice 16 or 32. NULL for another size. key is borrowed.
 */
struct sector_cipher *sector_cipher_new(enum sector_mode mode, enum sector_iv iv, const uint8_t *key,
                                        size_t size);

/* Nothing of the key stays in memory. NULL is fine. */
void sector_cipher_free(struct sector_cipher *c);
CLEANUP_DEFINE(sector_cipher, sector_cipher_free)

/* n sectors in place; first: the number of the first. */
void sector_encrypt(const struct sector_cipher *c, uint64_t first, uint8_t *bytes, size_t n);
void sector_decrypt(const struct sector_cipher *c, uint64_t first, uint8_t *bytes, size_t n);

#endif
