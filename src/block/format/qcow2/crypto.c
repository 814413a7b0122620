/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Encryption of a qcow2 image's data clusters: LUKS, and the AES of old images, which is only read. */
/*
 * With LUKS a header like that of a whole encrypted disk lies in clusters of the file, which a header
 * extension names, and sectors are numbered by where they are in the file. The old method takes the
 * passphrase itself as key of AES-128-CBC and numbers sectors as the guest does. Both encrypt the bytes of
 * data clusters only: tables can be read, and checked, without a key.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "block/format/luks.h"
#include "block/format/qcow2/qcow2_int.h"

enum { OLD_KEY = 16 /* bytes of the passphrase, padded with zeroes */, EXTENSION = 16 /* bytes */ };

struct qcow2_crypto {
    struct sector_cipher *cipher; /* NULL: opened without a key */
    struct luks_header header;    /* LUKS only */
};

static int by_host(struct qcow2 *q, uint8_t *bytes, size_t size, uint64_t host,
                   void (*run)(const struct sector_cipher *c, uint64_t first, uint8_t *bytes, size_t n))
{
    if (!q->crypto->cipher)
        return -EACCES;
    if ((host | size) % SECTOR_CIPHER_UNIT)
        return -EINVAL;
    run(q->crypto->cipher, host / SECTOR_CIPHER_UNIT, bytes, size / SECTOR_CIPHER_UNIT);
    return 0;
}

static int encrypt_luks(struct qcow2 *q, uint8_t *bytes, size_t size, uint64_t guest, uint64_t host)
{
    (void)guest;
    return by_host(q, bytes, size, host, sector_encrypt);
}

static int decrypt_luks(struct qcow2 *q, uint8_t *bytes, size_t size, uint64_t guest, uint64_t host)
{
    (void)guest;
    return by_host(q, bytes, size, host, sector_decrypt);
}

static int encrypt_old(struct qcow2 *q, uint8_t *bytes, size_t size, uint64_t guest, uint64_t host)
{
    (void)q, (void)bytes, (void)size, (void)guest, (void)host;
    return -EROFS;
}

static int decrypt_old(struct qcow2 *q, uint8_t *bytes, size_t size, uint64_t guest, uint64_t host)
{
    (void)host;
    return by_host(q, bytes, size, guest, sector_decrypt);
}

static void crypto_free(struct qcow2 *q)
{
    if (!q->crypto)
        return;
    sector_cipher_free(q->crypto->cipher);
    g_clear_pointer(&q->crypto, g_free);
}

/* --- opening --- */

static bool open_old(struct qcow2 *q, const struct block_config *config, GError **error)
{
    uint8_t key[OLD_KEY] = {0};
    if (!q->disk.facts.readonly && !(config->flags & BLOCK_OPEN_REPAIR))
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: qcow2: is encrypted as old images are, without protection against guessing; it is "
            "only read: convert it to LUKS",
            q->disk.name);
    if (config->key) {
        memcpy(key, config->key, MIN(config->key_size, sizeof(key)));
        q->crypto->cipher = sector_cipher_new(SECTOR_CBC, SECTOR_IV_PLAIN64, key, sizeof(key));
        explicit_bzero(key, sizeof(key));
        if (!q->crypto->cipher)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory", q->disk.name);
    }
    q->encrypt = encrypt_old;
    q->decrypt = decrypt_old;
    return true;
}

static bool find_luks(struct qcow2 *q, struct luks_place *place, GError **error)
{
    const struct qcow2_extension *e = qcow2_extension_find(&q->header, QCOW2_EXTENSION_CRYPTO);
    if (!e || e->size < EXTENSION)
        return hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s: qcow2: is encrypted with LUKS and does not say where its key slots are; the image is "
            "damaged",
            q->disk.name);
    *place = (struct luks_place){q->disk.name, q->file, ld64be(e->bytes), ld64be(e->bytes + 8)};
    if (!qcow2_offset_fits(q, place->offset))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: qcow2: its LUKS header is at %" PRIu64
                           ", which is no cluster; the image is damaged",
                           q->disk.name, place->offset);
    return true;
}

static bool open_luks(struct qcow2 *q, const struct block_config *config, GError **error)
{
    struct luks_place place;
    if (!find_luks(q, &place, error) || !luks_read(&place, &q->crypto->header, error))
        return false;
    if (config->key) {
        q->crypto->cipher = luks_unlock(&place, &q->crypto->header, config->key, config->key_size, error);
        if (!q->crypto->cipher)
            return false;
    }
    q->encrypt = encrypt_luks;
    q->decrypt = decrypt_luks;
    return true;
}

bool qcow2_crypto_open(struct qcow2 *q, const struct block_config *config, GError **error)
{
    if (q->header.crypt_method == QCOW2_CRYPT_NONE)
        return true;
    if (!config->key && !(config->flags & (BLOCK_OPEN_KEYLESS | BLOCK_OPEN_REPAIR)))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: is encrypted; give its passphrase", q->disk.name);
    q->crypto = g_new0(struct qcow2_crypto, 1);
    q->crypto_free = crypto_free;
    if (q->header.crypt_method == QCOW2_CRYPT_LUKS ? open_luks(q, config, error) : open_old(q, config, error))
        return true;
    crypto_free(q);
    return false;
}

/* --- making --- */

bool qcow2_crypto_create(struct qcow2 *q, const struct luks_options *o, const uint8_t *key, size_t key_size,
                         GError **error)
{
    uint8_t extension[EXTENSION];
    uint64_t offset;
    const uint64_t size = luks_size(o, error);
    if (!size)
        return false;
    int status = qcow2_space_take(q, size, &offset);
    const uint64_t end = offset + align_up(size, q->cluster);
    if (!status && q->file->facts.growable && q->file->facts.size < end)
        status = block_resize(q->file, end);
    if (!status)
        status = qcow2_sync_all(q);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: no room for a LUKS header: %s", q->disk.name,
                           g_strerror(-status));
    const struct luks_place place = {q->disk.name, q->file, offset, size};
    if (!luks_create(&place, o, key, key_size, error))
        return false;
    st64be(extension, offset);
    st64be(extension + 8, size);
    qcow2_extension_set(&q->header, QCOW2_EXTENSION_CRYPTO, extension, sizeof(extension));
    q->header.crypt_method = QCOW2_CRYPT_LUKS;
    status = qcow2_header_store(q);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write its header: %s", q->disk.name,
                           g_strerror(-status));
    const struct block_config config = {.name = q->disk.name, .fd = -1, .key = key, .key_size = key_size};
    return qcow2_crypto_open(q, &config, error);
}

json_t *qcow2_crypto_info(struct qcow2 *q)
{
    if (!q->crypto)
        return NULL;
    const bool luks = q->header.crypt_method == QCOW2_CRYPT_LUKS;
    json_t *info = luks ? luks_info(&q->crypto->header) : json_object();
    if (info)
        json_object_set_new(info, "format", json_string(luks ? "luks" : "aes"));
    return info;
}
