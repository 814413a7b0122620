/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A LUKS 1 header, wherever it lies: in front of the disk it encrypts, or inside another format's image. */
/*
 * Source: "LUKS On-Disk Format Specification Version 1.2.3". The header names a cipher and has eight slots; a
 * slot holds the disk's key, encrypted by a passphrase. All on the control path; what comes out, a
 * sector_cipher, serves the data path.
 */
#ifndef HOSTEL_BLOCK_FORMAT_LUKS_H
#define HOSTEL_BLOCK_FORMAT_LUKS_H

#include <jansson.h>

#include "block/block.h"
#include "block/format/sector_cipher.h"

enum { LUKS_SLOTS = 8, LUKS_STRIPES = 4000 };

/* On disk, big-endian. */
struct luks_slot {
    uint32_t active; /* LUKS_ENABLED or LUKS_DISABLED */
    uint32_t iterations;
    uint8_t salt[32];
    uint32_t material; /* where the spread key is, in sectors */
    uint32_t stripes;
};

struct luks_header {
    uint8_t magic[6];
    uint16_t version;
    char cipher[32], mode[32], hash[32];
    uint32_t payload; /* where the disk begins, in sectors */
    uint32_t key_bytes;
    uint8_t digest[20], digest_salt[32]; /* of the disk's key */
    uint32_t digest_iterations;
    char uuid[40];
    struct luks_slot slots[LUKS_SLOTS];
};

/* Where a header lies. */
struct luks_place {
    const char *name;      /* for messages */
    struct disk *file;     /* borrowed */
    uint64_t offset, size; /* in the file, bytes; size is what there may be at most */
};

/* How a new one is to be, in qemu-img's words; rows in luks_options. NULL, 0 = as it is best. */
struct luks_options {
    const char *cipher;     /* aes-128, aes-192, aes-256 */
    const char *mode;       /* xts, cbc */
    const char *ivgen;      /* plain, plain64, essiv */
    const char *ivgen_hash; /* of essiv: sha256 */
    const char *hash;       /* of passphrases: sha1, sha256, sha512 */
    unsigned iter_time;     /* ms of CPU time that a try of a passphrase takes */
};
extern const struct option_row luks_options[];

/* Reads it and checks all of it, so that no number in what is returned can do harm. */
bool luks_read(const struct luks_place *place, struct luks_header *h, GError **error);

/* Tries the passphrase on all slots. NULL with *error. */
struct sector_cipher *luks_unlock(const struct luks_place *place, const struct luks_header *h,
                                  const uint8_t *key, size_t key_size, GError **error);

/* Bytes from place->offset to where the disk may begin; 0 with *error when options make no sense. NULL = the
 * defaults, here and below. */
uint64_t luks_size(const struct luks_options *o, GError **error);

/* Writes a new header with a new key, which the passphrase opens, and flushes it. */
bool luks_create(const struct luks_place *place, const struct luks_options *o, const uint8_t *key,
                 size_t key_size, GError **error);

/* Bytes from place->offset to the disk. */
uint64_t luks_payload(const struct luks_header *h);

/* What `info` tells; owned by the caller. */
json_t *luks_info(const struct luks_header *h);

#endif
