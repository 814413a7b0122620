/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Making a qcow2 image. */
/*
 * A new image is the header, the refcount table, one refcount block and an empty L1 table, in a row. The
 * header is written last, when all that it refers to is durable: what is cut off before is no image.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "block/format/qcow2/qcow2_int.h"

#define ROW(field, type_, word_, value_, choice_, help_)                                                     \
    {                                                                                                        \
        .name = word_, .arg = "VALUE", .value = value_, .choice = choice_, .help = help_,                    \
        .type = OPTION_##type_, .who = OPTION_CLI, .offset = offsetof(struct qcow2_create_options, field)    \
    }

/* In the order in which qemu-img says them. */
const struct option_row qcow2_create_rows[] = {
    ROW(cluster_size, SIZE, "cluster_size", "64K", NULL, "the unit of allocation: 512 to 2M"),
    ROW(extended_l2, SWITCH, "extended_l2", "off", NULL,
        "clusters of 32 parts that are allocated by themselves"),
    ROW(preallocation, TEXT, "preallocation", "off", "off|metadata|falloc|full", "room taken at once"),
    ROW(compression_type, TEXT, "compression_type", "zlib", "zlib|zstd", "method of compressed clusters"),
    ROW(compat, TEXT, "compat", "1.1", "0.10|1.1|v2|v3", "version 2 (0.10) or 3 (1.1)"),
    ROW(data_file, TEXT, "data_file", NULL, NULL, "another file that holds the data"),
    ROW(data_file_raw, SWITCH, "data_file_raw", "off", NULL, "the data file is a raw image"),
    ROW(encrypt_format, TEXT, "encrypt.format", NULL, "luks", "encrypt its data, with a passphrase"),
    ROW(encrypt.cipher, TEXT, "encrypt.cipher-alg", NULL, "aes-128|aes-192|aes-256", "the cipher"),
    ROW(encrypt.mode, TEXT, "encrypt.cipher-mode", NULL, "xts|cbc", "how it is used on a sector"),
    ROW(encrypt.ivgen, TEXT, "encrypt.ivgen-alg", NULL, "plain|plain64|essiv", "what makes sectors differ"),
    ROW(encrypt.ivgen_hash, TEXT, "encrypt.ivgen-hash-alg", NULL, "sha256", "the hash of essiv"),
    ROW(encrypt.hash, TEXT, "encrypt.hash-alg", NULL, "sha1|sha256|sha512", "the hash of passphrases"),
    ROW(encrypt.iter_time, COUNT, "encrypt.iter-time", NULL, NULL,
        "milliseconds that trying a passphrase takes"),
    ROW(lazy_refcounts, SWITCH, "lazy_refcounts", "off", NULL, "write reference counts when closing"),
    ROW(refcount_bits, COUNT, "refcount_bits", "16", NULL, "width of a reference count: 1 to 64"),
    {0},
};

static const struct qcow2_create_options defaults = {
    .cluster_size = 65536,
    .compat = "1.1",
    .refcount_bits = 16,
    .compression_type = "zlib",
    .preallocation = "off",
};

static bool is(const char *text, const char *word)
{
    return text && !strcmp(text, word);
}

static bool old_version(const struct qcow2_create_options *o)
{
    return is(o->compat, "0.10") || is(o->compat, "v2");
}

/* --- options --- */

static bool wrong(GError **error, const char *name, const char *what)
{
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: qcow2: %s", name, what);
}

static bool check_version(const struct qcow2_create_options *o, const char *name, GError **error)
{
    if (!old_version(o))
        return true;
    if (o->refcount_bits != 16)
        return wrong(error, name, "refcount_bits other than 16 need compat=1.1");
    if (o->lazy_refcounts)
        return wrong(error, name, "lazy_refcounts needs compat=1.1");
    if (o->extended_l2)
        return wrong(error, name, "extended_l2 needs compat=1.1");
    if (o->data_file)
        return wrong(error, name, "data_file needs compat=1.1");
    if (!is(o->compression_type, "zlib"))
        return wrong(error, name, "compression_type=zstd needs compat=1.1");
    return true;
}

static bool check_options(const struct qcow2_create_options *o, const struct block_create *c, GError **error)
{
    if (!is_power_of_two(o->cluster_size) || o->cluster_size < 512 || o->cluster_size > 2 * MiB)
        return wrong(error, c->name, "cluster_size must be a power of two between 512 and 2M");
    if (!is_power_of_two(o->refcount_bits) || o->refcount_bits > 64)
        return wrong(error, c->name, "refcount_bits must be 1, 2, 4, 8, 16, 32 or 64");
    if (o->extended_l2 && o->cluster_size < 16 * KiB)
        return wrong(error, c->name, "extended_l2 needs a cluster_size of at least 16K");
    if (o->data_file_raw && !o->data_file)
        return wrong(error, c->name, "data_file_raw needs a data_file");
    if (o->data_file && c->backing && o->data_file_raw)
        return wrong(error, c->name, "a raw data file holds the whole disk, so there can be no backing file");
    if (c->backing && !is(o->preallocation, "off") && !o->extended_l2)
        return wrong(error, c->name,
                     "room for all of the disk would hide the backing file; use preallocation=off, or "
                     "extended_l2=on");
    if (o->encrypt_format && (!is(o->preallocation, "off") || o->data_file_raw))
        return wrong(error, c->name,
                     "what is not written in an encrypted image cannot have room that reads as "
                     "zeroes; use preallocation=off and no raw data file");
    if (o->data_file && !c->refs)
        return wrong(error, c->name, "a data_file cannot be made here");
    if (c->backing && strlen(c->backing) > QCOW2_BACKING_MAX)
        return wrong(error, c->name, "the backing file's name has more than 1023 bytes");
    return check_version(o, c->name, error);
}

/* --- the file --- */

static uint64_t l1_entries(const struct qcow2_header *h)
{
    const unsigned shift = 2 * h->cluster_bits - (h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2 ? 4 : 3);
    return (h->size >> shift) + ((h->size & (BIT(shift) - 1)) != 0);
}

static bool fill_header(struct qcow2_header *h, const struct qcow2_create_options *o,
                        const struct block_create *c, GError **error)
{
    h->version = old_version(o) ? 2 : 3;
    h->cluster_bits = (uint32_t)__builtin_ctzll(o->cluster_size);
    h->size = c->size;
    h->refcount_order = (uint32_t)__builtin_ctz(o->refcount_bits);
    h->header_length = h->version == 2 ? QCOW2_HEADER_V2 : (uint32_t)sizeof(struct qcow2_disk_header);
    h->compression = is(o->compression_type, "zstd") ? QCOW2_COMPRESSION_ZSTD : QCOW2_COMPRESSION_ZLIB;
    h->incompatible = (h->compression ? QCOW2_INCOMPATIBLE_COMPRESSION : 0) |
                      (o->extended_l2 ? QCOW2_INCOMPATIBLE_EXTENDED_L2 : 0) |
                      (o->data_file ? QCOW2_INCOMPATIBLE_DATA_FILE : 0);
    h->compatible = o->lazy_refcounts ? QCOW2_COMPATIBLE_LAZY : 0;
    h->autoclear = o->data_file_raw ? QCOW2_AUTOCLEAR_RAW : 0;
    h->backing = g_strdup(c->backing);
    if (c->backing && c->backing_format)
        qcow2_extension_set(h, QCOW2_EXTENSION_BACKING_FORMAT, c->backing_format,
                            (uint32_t)strlen(c->backing_format));
    if (o->data_file)
        qcow2_extension_set(h, QCOW2_EXTENSION_DATA_FILE, o->data_file, (uint32_t)strlen(o->data_file));
    const uint64_t entries = l1_entries(h);
    if (c->size > INT64_MAX || entries > QCOW2_L1_BYTES_MAX / 8)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: qcow2: a disk of %" PRIu64 " bytes needs an L1 table of %" PRIu64
                           " entries, limit %d; use a larger cluster_size",
                           c->name, c->size, entries, QCOW2_L1_BYTES_MAX / 8);
    h->l1_size = (uint32_t)MAX(entries, 1);
    return true;
}

struct layout {
    uint64_t reftable, blocks, block, l1, clusters; /* all but blocks in clusters from the beginning */
};

/* Header, refcount table, refcount blocks for all of it, L1. One cluster of refcount table. */
static bool lay_out(struct qcow2_header *h, struct layout *l)
{
    const uint64_t cluster = BIT(h->cluster_bits), in_block = BIT(h->cluster_bits + 3 - h->refcount_order);
    const uint64_t l1_clusters = align_up((uint64_t)h->l1_size * 8, cluster) >> h->cluster_bits;
    uint64_t table = 1;
    l->blocks = 1;
    for (;;) {
        l->clusters = 1 + table + l->blocks + l1_clusters;
        const uint64_t need = (l->clusters + in_block - 1) / in_block,
                       need_table = (need * 8 + cluster - 1) / cluster;
        if (need <= l->blocks && need_table <= table)
            break;
        l->blocks = MAX(l->blocks, need);
        table = MAX(table, need_table);
    }
    l->reftable = 1;
    l->block = 1 + table;
    l->l1 = l->block + l->blocks;
    h->reftable_offset = l->reftable << h->cluster_bits;
    h->reftable_clusters = (uint32_t)table;
    h->l1_offset = l->l1 << h->cluster_bits;
    return table << h->cluster_bits <= QCOW2_REFTABLE_BYTES_MAX;
}

static int write_refcounts(struct disk *file, const struct qcow2_header *h, const struct layout *l,
                           uint8_t *bytes)
{
    const uint64_t cluster = BIT(h->cluster_bits), in_block = BIT(h->cluster_bits + 3 - h->refcount_order);
    int status = 0;
    for (uint64_t i = 0; i < l->blocks && !status; i++) {
        memset(bytes, 0, cluster);
        for (uint64_t c = i * in_block; c < MIN(l->clusters, (i + 1) * in_block); c++)
            qcow2_refcount_store(bytes, h->refcount_order, c - i * in_block, 1);
        status = block_pwrite(file, bytes, cluster, (l->block + i) << h->cluster_bits);
    }
    for (uint64_t t = 0; t < h->reftable_clusters && !status; t++) {
        memset(bytes, 0, cluster);
        for (uint64_t i = t * cluster / 8; i < MIN(l->blocks, (t + 1) * cluster / 8); i++)
            st64be(bytes + (i - t * cluster / 8) * 8, (l->block + i) << h->cluster_bits);
        status = block_pwrite(file, bytes, cluster, (l->reftable + t) << h->cluster_bits);
    }
    return status;
}

/* L1 is a hole where the file grows, which reads as zeroes. */
static int write_l1(struct disk *file, const struct qcow2_header *h, const struct layout *l)
{
    const uint64_t end = l->clusters << h->cluster_bits;
    if (file->facts.growable && file->facts.size <= h->l1_offset)
        return block_resize(file, end);
    return block_zero(file, h->l1_offset, end - h->l1_offset, BLOCK_MAY_UNMAP);
}

static bool write_image(const struct block_create *c, struct qcow2_header *h, GError **error)
{
    struct layout l;
    if (!lay_out(h, &l))
        return wrong(error, c->name, "the refcount table would be too large; use a larger cluster_size");
    g_autofree uint8_t *bytes = g_malloc0(BIT(h->cluster_bits));
    int status = 0;
    if (!c->file->facts.growable && c->file->facts.size < l.clusters << h->cluster_bits)
        status = -ENOSPC;
    if (!status && !c->file->facts.growable) /* a device: what was there is no image from now on */
        status = block_pwrite(c->file, bytes, BLOCK_SECTOR, 0);
    if (!status)
        status = write_refcounts(c->file, h, &l, bytes);
    if (!status)
        status = write_l1(c->file, h, &l);
    if (!status)
        status = block_flush(c->file);
    memset(bytes, 0, BIT(h->cluster_bits));
    if (!status && !qcow2_header_encode(h, bytes))
        return wrong(error, c->name,
                     "header and backing file's name do not fit into a cluster; use a larger cluster_size");
    if (!status)
        status = block_pwrite(c->file, bytes, BIT(h->cluster_bits), 0);
    if (!status)
        status = block_flush(c->file);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write it: %s", c->name, g_strerror(-status));
}

/* --- what needs it open --- */

/* Lends the file, and the new data file, to a disk for a while. */
struct lent {
    struct block_refs refs;
    struct disk *data;
};

static struct disk *lend_data(struct block_refs *refs, enum block_ref what, const char *reference,
                              const char *format, bool readonly, GError **error)
{
    (void)what, (void)reference, (void)format, (void)readonly, (void)error;
    return STEAL(((struct lent *)(void *)refs)->data);
}

static enum block_preallocation preallocation(const struct qcow2_create_options *o)
{
    if (is(o->preallocation, "metadata"))
        return BLOCK_PREALLOC_METADATA;
    if (is(o->preallocation, "falloc"))
        return BLOCK_PREALLOC_FALLOC;
    if (is(o->preallocation, "full"))
        return BLOCK_PREALLOC_FULL;
    /* The guest's bytes of a raw data file are in it from the beginning. */
    return o->data_file_raw ? BLOCK_PREALLOC_METADATA : BLOCK_PREALLOC_OFF;
}

static bool preallocate(const struct block_create *c, enum block_preallocation how, struct disk *data,
                        GError **error)
{
    struct lent lent = {.refs = {.open = lend_data}, .data = data};
    struct block_config config = {.name = c->name,
                                  .fd = -1,
                                  .file = qcow2_lend(c->file),
                                  .refs = &lent.refs,
                                  .flags = BLOCK_OPEN_ALONE};
    AUTO(disk) b = block_open(&block_driver_qcow2, &config, error);
    block_free(lent.data);
    if (!b)
        return false;
    int status = how == BLOCK_PREALLOC_OFF ? 0 : qcow2_preallocate(qcow2(b), 0, c->size, how);
    if (!status)
        status = block_flush(b);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot take room for it: %s", c->name,
                                  g_strerror(-status));
}

static bool encrypt(const struct block_create *c, const struct qcow2_create_options *o, struct disk *data,
                    GError **error)
{
    struct lent lent = {.refs = {.open = lend_data}, .data = data};
    struct block_config config = {.name = c->name,
                                  .fd = -1,
                                  .file = qcow2_lend(c->file),
                                  .refs = &lent.refs,
                                  .flags = BLOCK_OPEN_ALONE};
    AUTO(disk) b = block_open(&block_driver_qcow2, &config, error);
    block_free(lent.data);
    return b && qcow2_crypto_create(qcow2(b), &o->encrypt, c->key, c->key_size, error);
}

bool qcow2_create(const struct block_create *c, GError **error)
{
    const struct qcow2_create_options *o = c->options ? c->options : &defaults;
    struct qcow2_header h = {0};
    struct disk *data = NULL;
    bool ok = check_options(o, c, error) && fill_header(&h, o, c, error);
    if (ok && o->data_file) {
        data = c->refs->create(c->refs, o->data_file, error);
        int status = data ? block_resize(data, c->size) : 0;
        ok = data && (!status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot resize it: %s", data->name,
                                             g_strerror(-status)));
    }
    ok = ok && write_image(c, &h, error);
    if (ok && preallocation(o) != BLOCK_PREALLOC_OFF)
        ok = preallocate(c, preallocation(o), STEAL(data), error);
    else if (ok && o->encrypt_format)
        ok = encrypt(c, o, STEAL(data), error);
    block_free(data);
    qcow2_header_clear(&h);
    return ok;
}

bool qcow2_looks_like(const uint8_t *head, size_t size)
{
    return size >= 8 && ld32be(head) == QCOW2_MAGIC && ld32be(head + 4) >= 2;
}
