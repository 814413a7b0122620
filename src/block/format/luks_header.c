/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* LUKS headers: reading and checking them, opening their slots with a passphrase, making new ones. */
/*
 * Theory of operation
 *
 *     0       struct luks_header
 *     4096    slot 0's material: the disk's key, spread over 4000 stripes and encrypted sector by sector by
 *             the same cipher with a key that comes of the passphrase; padded to whole 4 KiB
 *     ...     slots 1 to 7
 *     payload the disk
 *
 * To open a slot is to derive a key from the passphrase, decrypt the material with it, merge the stripes, and
 * see whether the digest of what comes out is the one in the header. Each slot in use costs the same work
 * whatever is wrong with the passphrase, and the comparison takes the same time for all digests. Everything
 * that was secret is wiped. Destroying a slot's material destroys its key, which is what the stripes are
 * for: no single sector that storage keeps a copy of is enough.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <nettle/memops.h>
#include <string.h>
#include <sys/random.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/luks.h"
#include "block/format/luks_key.h"

enum {
    UNIT = SECTOR_CIPHER_UNIT,
    VERSION = 1,
    ENABLED = 0x00ac71f3,
    DISABLED = 0x0000dead,
    ALIGNMENT = 4096,                   /* of materials */
    ITERATIONS_MIN = 1000,              /* as the specification says */
    ITERATIONS_MAX = 100 * 1000 * 1000, /* of all slots: about a minute. More is an attack on who opens it */
    DIGEST_PART = 8, /* of the iterations of a slot, for the digest: it protects nothing weak */
};

static const uint8_t magic[6] = {'L', 'U', 'K', 'S', 0xba, 0xbe};
static_assert(sizeof(struct luks_slot) == 48, "as on disk");
static_assert(sizeof(struct luks_header) == 592, "as on disk");
static_assert(offsetof(struct luks_header, slots) == 208, "as on disk");

#define OPTION(field, option, TYPE, preset, choices, text)                                                   \
    {                                                                                                        \
        .name = option, .arg = "WORD", .value = preset, .choice = choices, .help = text,                     \
        .type = OPTION_##TYPE, .who = OPTION_CLI, .offset = offsetof(struct luks_options, field)             \
    }

const struct option_row luks_options[] = {
    OPTION(cipher, "cipher-alg", TEXT, "aes-256", "aes-128|aes-192|aes-256", "the cipher"),
    OPTION(mode, "cipher-mode", TEXT, "xts", "xts|cbc", "how it is used on a sector"),
    OPTION(ivgen, "ivgen-alg", TEXT, "plain64", "plain|plain64|essiv", "what makes sectors differ"),
    OPTION(ivgen_hash, "ivgen-hash-alg", TEXT, "sha256", "sha256", "the hash of essiv"),
    OPTION(hash, "hash-alg", TEXT, "sha256", "sha1|sha256|sha512", "the hash of passphrases"),
    OPTION(iter_time, "iter-time", COUNT, "2000", NULL, "milliseconds that trying a passphrase takes"),
    {.name = NULL},
};

/* --- what the words in a header mean --- */

struct spec {
    enum sector_mode mode;
    enum sector_iv iv;
    const struct nettle_hash *hash;
};

static bool is_text(const char *text, size_t room)
{
    return memchr(text, 0, room);
}

static bool find_spec(const char *name, const struct luks_header *h, struct spec *s, GError **error)
{
    static const struct {
        const char *name;
        enum sector_mode mode;
        enum sector_iv iv;
    } modes[] = {
        {"xts-plain64", SECTOR_XTS, SECTOR_IV_PLAIN64},
        {"xts-plain", SECTOR_XTS, SECTOR_IV_PLAIN},
        {"xts-essiv:sha256", SECTOR_XTS, SECTOR_IV_ESSIV_SHA256},
        {"cbc-essiv:sha256", SECTOR_CBC, SECTOR_IV_ESSIV_SHA256},
        {"cbc-plain64", SECTOR_CBC, SECTOR_IV_PLAIN64},
        {"cbc-plain", SECTOR_CBC, SECTOR_IV_PLAIN},
    };
    if (!is_text(h->cipher, sizeof(h->cipher)) || !is_text(h->mode, sizeof(h->mode)) ||
        !is_text(h->hash, sizeof(h->hash)) || !is_text(h->uuid, sizeof(h->uuid)))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its LUKS header is damaged: a name has no end",
                           name);
    s->hash = luks_hash_find(h->hash);
    unsigned i = 0;
    while (i < ARRAY_SIZE(modes) && strcmp(modes[i].name, h->mode) != 0)
        i++;
    if (strcmp(h->cipher, "aes") != 0 || i == ARRAY_SIZE(modes) || !s->hash) {
        g_autofree char *shown = g_strdup_printf("%s-%s with %s", h->cipher, h->mode, h->hash);
        g_autofree char *safe = g_strescape(shown, NULL);
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is encrypted by %s; this Hostel knows aes-xts-plain64, aes-cbc-essiv:sha256 "
                           "and their like, with sha1, sha2 or ripemd160",
                           name, safe);
    }
    s->mode = modes[i].mode;
    s->iv = modes[i].iv;
    return true;
}

/* --- reading --- */

static uint64_t material_size(uint32_t key_bytes)
{
    return align_up((uint64_t)key_bytes * LUKS_STRIPES, UNIT);
}

uint64_t luks_payload(const struct luks_header *h)
{
    return (uint64_t)be32toh(h->payload) * UNIT;
}

static bool check_slot(const struct luks_place *p, const struct luks_header *h, unsigned i, GError **error)
{
    const struct luks_slot *s = &h->slots[i];
    const uint32_t active = be32toh(s->active), stripes = be32toh(s->stripes);
    const uint64_t at = (uint64_t)be32toh(s->material) * UNIT, size = material_size(be32toh(h->key_bytes));
    if (active != ENABLED && active != DISABLED)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its LUKS header is damaged: slot %u is neither in use nor free (0x%" PRIx32
                           ")",
                           p->name, i, active);
    if (active == ENABLED && (stripes != LUKS_STRIPES || !s->iterations))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its LUKS header is damaged: slot %u has %" PRIu32 " stripes, not %d, or no "
                           "iterations",
                           p->name, i, stripes, LUKS_STRIPES);
    if (at < sizeof(*h) || !range_inside(at, size, 0, MIN(p->size, luks_payload(h))))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: its LUKS header is damaged: the material of slot %u, %" PRIu64
                           " bytes at %" PRIu64 ", is not between header and disk",
                           p->name, i, size, at);
    for (unsigned k = 0; k < i; k++)
        if (ranges_overlap(at, size, (uint64_t)be32toh(h->slots[k].material) * UNIT, size))
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: its LUKS header is damaged: slots %u and %u overlap", p->name, k, i);
    return true;
}

static bool check_header(const struct luks_place *p, const struct luks_header *h, GError **error)
{
    struct spec spec;
    if (memcmp(h->magic, magic, sizeof(magic)) != 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has no LUKS header", p->name);
    if (be16toh(h->version) != VERSION)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is LUKS version %u, this Hostel knows version 1; cryptsetup convert can make "
                           "it one",
                           p->name, be16toh(h->version));
    if (!find_spec(p->name, h, &spec, error))
        return false;
    const uint32_t key = be32toh(h->key_bytes);
    if (key != 16 && key != 24 && key != 32 && key != 64)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has a key of %" PRIu32 " bytes, not one of AES",
                           p->name, key);
    if (spec.mode == SECTOR_XTS ? key % 32 : key > 32)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: a key of %" PRIu32 " bytes does not go with %s",
                           p->name, key, h->mode);
    uint64_t iterations = be32toh(h->digest_iterations);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        if (!check_slot(p, h, i, error))
            return false;
        if (be32toh(h->slots[i].active) == ENABLED)
            iterations += (uint64_t)be32toh(h->slots[i].iterations) + be32toh(h->digest_iterations);
    }
    if (!h->digest_iterations || iterations > ITERATIONS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: to try a passphrase would take %" PRIu64 " iterations, expected 1 to %d",
                           p->name, iterations, ITERATIONS_MAX);
    return true;
}

bool luks_read(const struct luks_place *p, struct luks_header *h, GError **error)
{
    if (p->size < sizeof(*h) || !range_inside(p->offset, p->size, 0, p->file->facts.size))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has no LUKS header: it is too short for one",
                           p->name);
    uint8_t bytes[2 * UNIT]; /* the header, as whole sectors */
    const uint64_t size = MIN(sizeof(bytes), p->size / UNIT * UNIT);
    memset(bytes, 0, sizeof(bytes));
    int status = block_pread(p->file, bytes, size, p->offset);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its LUKS header: %s", p->name,
                           g_strerror(-status));
    memcpy(h, bytes, sizeof(*h));
    return check_header(p, h, error);
}

/* --- opening --- */

struct secret {
    uint8_t slot_key[SECTOR_CIPHER_KEY_MAX];
    uint8_t key[SECTOR_CIPHER_KEY_MAX]; /* the disk's */
    uint8_t digest[20];
    uint8_t material[SECTOR_CIPHER_KEY_MAX * LUKS_STRIPES]; /* a multiple of UNIT */
};
static_assert(SECTOR_CIPHER_KEY_MAX * LUKS_STRIPES % UNIT == 0, "rounding up stays inside");

static void secret_free(struct secret *s)
{
    if (s)
        explicit_bzero(s, sizeof(*s));
    g_free(s);
}
CLEANUP_DEFINE(secret, secret_free)

/* The cipher that a slot's material is encrypted with. */
static struct sector_cipher *slot_cipher(const struct luks_header *h, const struct spec *spec,
                                         const struct luks_slot *slot, const uint8_t *key, size_t key_size,
                                         struct secret *s)
{
    const uint32_t size = be32toh(h->key_bytes);
    luks_derive(spec->hash, key, key_size, slot->salt, sizeof(slot->salt), be32toh(slot->iterations),
                s->slot_key, size);
    return sector_cipher_new(spec->mode, spec->iv, s->slot_key, size);
}

static void make_digest(const struct luks_header *h, const struct spec *spec, const struct secret *s,
                        uint8_t digest[static 20])
{
    luks_derive(spec->hash, s->key, be32toh(h->key_bytes), h->digest_salt, sizeof(h->digest_salt),
                be32toh(h->digest_iterations), digest, sizeof(h->digest));
}

/* 1: s->key is the disk's key. 0: the passphrase is another slot's, or none's. */
static int try_slot(const struct luks_place *p, const struct luks_header *h, const struct spec *spec,
                    const struct luks_slot *slot, const uint8_t *key, size_t key_size, struct secret *s)
{
    const uint32_t size = be32toh(h->key_bytes);
    const uint64_t bytes = material_size(size), at = (uint64_t)be32toh(slot->material) * UNIT;
    int status = block_pread(p->file, s->material, bytes, p->offset + at);
    if (status)
        return status;
    AUTO(sector_cipher) cipher = slot_cipher(h, spec, slot, key, key_size, s);
    if (!cipher)
        return -ENOMEM;
    sector_decrypt(cipher, 0, s->material, bytes / UNIT);
    luks_merge(spec->hash, s->material, size, LUKS_STRIPES, s->key);
    make_digest(h, spec, s, s->digest);
    return memeql_sec(s->digest, h->digest, sizeof(h->digest));
}

struct sector_cipher *luks_unlock(const struct luks_place *p, const struct luks_header *h, const uint8_t *key,
                                  size_t key_size, GError **error)
{
    struct spec spec;
    if (!find_spec(p->name, h, &spec, error))
        return NULL;
    AUTO(secret) s = g_try_new0(struct secret, 1);
    int found = s ? 0 : -ENOMEM;
    for (unsigned i = 0; i < LUKS_SLOTS && !found; i++)
        if (be32toh(h->slots[i].active) == ENABLED)
            found = try_slot(p, h, &spec, &h->slots[i], key, key_size, s);
    struct sector_cipher *c = NULL;
    if (found > 0 && !(c = sector_cipher_new(spec.mode, spec.iv, s->key, be32toh(h->key_bytes))))
        found = -ENOMEM;
    if (found < 0)
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot open its key slots: %s", p->name,
                    g_strerror(-found));
    else if (!found)
        hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the passphrase opens none of its key slots", p->name);
    return c;
}

/* --- making --- */

/* What was not said is as it is best. */
static struct luks_options fill(const struct luks_options *o)
{
    static const struct luks_options best = {"aes-256", "xts", "plain64", "sha256", "sha256", 2000};
    return (struct luks_options){
        .cipher = o && o->cipher ? o->cipher : best.cipher,
        .mode = o && o->mode ? o->mode : best.mode,
        .ivgen = o && o->ivgen ? o->ivgen : best.ivgen,
        .ivgen_hash = o && o->ivgen_hash ? o->ivgen_hash : best.ivgen_hash,
        .hash = o && o->hash ? o->hash : best.hash,
        .iter_time = o && o->iter_time ? o->iter_time : best.iter_time,
    };
}

static uint32_t key_bytes_of(const struct luks_options *o)
{
    const uint32_t aes = !strcmp(o->cipher, "aes-128") ? 16 : !strcmp(o->cipher, "aes-192") ? 24 : 32;
    return !strcmp(o->mode, "xts") ? 2 * aes : aes;
}

static uint64_t slot_room(const struct luks_options *o)
{
    return align_up(material_size(key_bytes_of(o)), ALIGNMENT);
}

uint64_t luks_size(const struct luks_options *options, GError **error)
{
    const struct luks_options o = fill(options);
    if (!strcmp(o.cipher, "aes-192") && !strcmp(o.mode, "xts")) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "aes-192 does not go with xts; take aes-128 or aes-256");
        return 0;
    }
    return ALIGNMENT + LUKS_SLOTS * slot_room(&o);
}

static bool random_bytes(void *bytes, size_t size)
{
    for (uint8_t *at = bytes; size;) {
        const ssize_t got = getrandom(at, size, 0);
        if (got < 0 && errno != EINTR)
            return false;
        at += MAX(got, 0);
        size -= (size_t)MAX(got, 0);
    }
    return true;
}

static void make_uuid(const uint8_t random[16], char uuid[static 40])
{
    g_snprintf(uuid, 40, "%08x-%04x-4%03x-%04x-%08x%04x", ld32be(random), ld16be(random + 4),
               ld16be(random + 6) & 0xfff, (ld16be(random + 8) & 0x3fff) | 0x8000, ld32be(random + 10),
               ld16be(random + 14));
}

/* All of a header but digest and slot 0's salt, which are random for now. */
static bool fill_header(struct luks_header *h, const struct luks_options *o)
{
    uint8_t random[16];
    const struct nettle_hash *hash = luks_hash_find(o->hash);
    const uint32_t iterations = luks_iterations(hash, key_bytes_of(o), o->iter_time);
    if (!random_bytes(random, sizeof(random)) || !random_bytes(h->digest_salt, sizeof(h->digest_salt)) ||
        !random_bytes(h->slots[0].salt, sizeof(h->slots[0].salt)))
        return false;
    memcpy(h->magic, magic, sizeof(magic));
    h->version = htobe16(VERSION);
    g_strlcpy(h->cipher, "aes", sizeof(h->cipher));
    g_snprintf(h->mode, sizeof(h->mode), "%s-%s%s%s", o->mode, o->ivgen,
               !strcmp(o->ivgen, "essiv") ? ":" : "", !strcmp(o->ivgen, "essiv") ? o->ivgen_hash : "");
    g_strlcpy(h->hash, o->hash, sizeof(h->hash));
    h->payload = htobe32((uint32_t)(luks_size(o, NULL) / UNIT));
    h->key_bytes = htobe32(key_bytes_of(o));
    h->digest_iterations = htobe32(MAX(iterations / DIGEST_PART, (uint32_t)ITERATIONS_MIN));
    make_uuid(random, h->uuid);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        h->slots[i].active = htobe32(i ? DISABLED : ENABLED);
        h->slots[i].material = htobe32((uint32_t)((ALIGNMENT + i * slot_room(o)) / UNIT));
        h->slots[i].stripes = htobe32(LUKS_STRIPES);
    }
    h->slots[0].iterations = htobe32(CLAMP(iterations, (uint32_t)ITERATIONS_MIN, ITERATIONS_MAX / 16u));
    return true;
}

/* The disk's key, and how slot 0 keeps it. */
static bool make_key(struct luks_header *h, const uint8_t *key, size_t key_size, struct secret *s,
                     GError **error)
{
    struct spec spec;
    const uint32_t size = be32toh(h->key_bytes);
    if (!find_spec("new LUKS header", h, &spec, error))
        return false;
    if (!random_bytes(s->key, sizeof(s->key)) || !random_bytes(s->material, sizeof(s->material)))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "the host gives no random bytes: %s", g_strerror(errno));
    make_digest(h, &spec, s, h->digest);
    luks_split(spec.hash, s->material, size, LUKS_STRIPES, s->key);
    AUTO(sector_cipher) cipher = slot_cipher(h, &spec, &h->slots[0], key, key_size, s);
    if (!cipher)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "the host has not enough memory for a cipher");
    sector_encrypt(cipher, 0, s->material, material_size(size) / UNIT);
    return true;
}

/* The header last: it says that the rest is there. */
static int write_all(const struct luks_place *p, const struct luks_header *h, const struct secret *s)
{
    uint8_t bytes[ALIGNMENT];
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, h, sizeof(*h));
    const uint64_t material = (uint64_t)be32toh(h->slots[0].material) * UNIT;
    const uint64_t size = material_size(be32toh(h->key_bytes)), end = luks_payload(h);
    int status = 0;
    if (p->file->facts.growable && p->file->facts.size < p->offset + end)
        status = block_resize(p->file, p->offset + end);
    if (!status)
        status = block_pwrite(p->file, s->material, size, p->offset + material);
    if (!status)
        status = block_flush(p->file);
    if (!status)
        status = block_pwrite(p->file, bytes, sizeof(bytes), p->offset);
    return status ? status : block_flush(p->file);
}

bool luks_create(const struct luks_place *p, const struct luks_options *options, const uint8_t *key,
                 size_t key_size, GError **error)
{
    struct luks_header h = {0};
    const struct luks_options o = fill(options);
    const uint64_t needed = luks_size(&o, error);
    if (!needed)
        return false;
    if (!key || !key_size)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: an encrypted image needs a passphrase", p->name);
    if (p->size < needed)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: has %" PRIu64 " bytes, a LUKS header needs %" PRIu64, p->name, p->size,
                           needed);
    AUTO(secret) s = g_try_new0(struct secret, 1);
    if (!s)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory for a key", p->name);
    if (!fill_header(&h, &o))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "the host gives no random bytes: %s", g_strerror(errno));
    if (!make_key(&h, key, key_size, s, error))
        return false;
    const int status = write_all(p, &h, s);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write its LUKS header: %s", p->name,
                           g_strerror(-status));
    return true;
}

/* --- what people are told --- */

json_t *luks_info(const struct luks_header *h)
{
    g_auto(GStrv) mode = g_strsplit_set(h->mode, "-:", 3);
    const uint32_t key = be32toh(h->key_bytes) / (g_str_has_prefix(h->mode, "xts") ? 2 : 1);
    g_autofree char *cipher = g_strdup_printf("%s-%u", h->cipher, key * 8);
    g_autofree char *uuid = g_utf8_make_valid(h->uuid, -1); /* the only word that can be anything */
    json_t *slots = json_array();
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        const struct luks_slot *s = &h->slots[i];
        const bool active = be32toh(s->active) == ENABLED;
        json_t *slot =
            json_pack("{sb sI}", "active", active, "key-offset", (json_int_t)be32toh(s->material) * UNIT);
        if (active) {
            json_object_set_new(slot, "iters", json_integer(be32toh(s->iterations)));
            json_object_set_new(slot, "stripes", json_integer(be32toh(s->stripes)));
        }
        json_array_append_new(slots, slot);
    }
    json_t *info =
        json_pack("{ss ss ss ss ss so sI sI}", "cipher-alg", cipher, "cipher-mode", mode[0], "ivgen-alg",
                  mode[1], "hash-alg", h->hash, "uuid", uuid, "slots", slots, "payload-offset",
                  (json_int_t)luks_payload(h), "master-key-iters", (json_int_t)be32toh(h->digest_iterations));
    if (info && mode[2])
        json_object_set_new(info, "ivgen-hash-alg", json_string(mode[2]));
    return info;
}
