/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The first cluster of a qcow2 image: read, checked in full, and written. */
/*
 * Theory of operation
 *
 * The cluster holds the fixed part, then extensions of type, size and bytes, then the name of the backing
 * file. What we do not know of it (a longer fixed part, extensions) is kept byte for byte, in its place in
 * the order.
 *
 * A disk may tear a write between two sectors, so the header changes by writing its first sector. Where only
 * numbers change that is all there is to do. Otherwise the rest of the cluster is written first, to where the
 * old header has nothing: the backing name goes behind the old one when it was not in the first sector.
 * Extensions follow each other and cannot be moved; those that reach over the first sector are ours only in
 * the case of the names of features, so these come last and do not change.
 */
#include "block/format/qcow2/qcow2_int.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"

enum { FEATURE_NAME = 46, FEATURE_ROW = 48, EXTENSIONS_MAX = 128 };

/* --- the names of features --- */

static const struct {
    uint8_t kind, bit;
    const char *name;
} features[] = {
    {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
    {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
    {2, 0, "bitmaps"},          {2, 1, "raw external data"},
};

char *qcow2_feature_name(struct qcow2_header *h, unsigned kind, unsigned bit)
{
    const struct qcow2_extension *e = qcow2_extension_find(h, QCOW2_EXTENSION_FEATURES);
    for (uint32_t at = 0; e && e->size - at >= FEATURE_ROW; at += FEATURE_ROW) {
        const uint8_t *row = e->bytes + at;
        if (row[0] != kind || row[1] != bit)
            continue;
        g_autofree char *raw = g_strndup((const char *)row + 2, FEATURE_NAME);
        return g_strescape(raw, NULL);
    }
    return g_strdup_printf("number %u, without a name", bit);
}

static void add_features(struct qcow2_header *h)
{
    uint8_t table[ARRAY_SIZE(features) * FEATURE_ROW] = {0};
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        table[i * FEATURE_ROW] = features[i].kind;
        table[i * FEATURE_ROW + 1] = features[i].bit;
        g_strlcpy((char *)table + i * FEATURE_ROW + 2, features[i].name, FEATURE_NAME);
    }
    qcow2_extension_set(h, QCOW2_EXTENSION_FEATURES, table, sizeof(table));
}

/* --- extensions --- */

struct qcow2_extension *qcow2_extension_find(struct qcow2_header *h, uint32_t type)
{
    for (unsigned i = 0; i < h->n_extensions; i++)
        if (h->extension[i].type == type)
            return &h->extension[i];
    return NULL;
}

static void append(struct qcow2_header *h, uint32_t type, const void *bytes, uint32_t size)
{
    h->extension = g_renew(struct qcow2_extension, h->extension, h->n_extensions + 1);
    h->extension[h->n_extensions++] =
        (struct qcow2_extension){.type = type, .size = size, .bytes = g_memdup2(bytes, size)};
}

static void take_away(struct qcow2_header *h, const struct qcow2_extension *e)
{
    const size_t at = (size_t)(e - h->extension);
    g_free(e->bytes);
    memmove(&h->extension[at], &h->extension[at + 1], (h->n_extensions - at - 1) * sizeof(*e));
    h->n_extensions--;
}

void qcow2_extension_set(struct qcow2_header *h, uint32_t type, const void *bytes, uint32_t size)
{
    struct qcow2_extension *e = qcow2_extension_find(h, type);
    if (!bytes) {
        if (e)
            take_away(h, e);
    } else if (e) {
        g_free(e->bytes);
        e->bytes = g_memdup2(bytes, size);
        e->size = size;
    } else {
        append(h, type, bytes, size);
        /* The names of features are long and never change: last. */
        const unsigned n = h->n_extensions;
        if (n > 1 && h->extension[n - 2].type == QCOW2_EXTENSION_FEATURES) {
            const struct qcow2_extension last = h->extension[n - 2];
            h->extension[n - 2] = h->extension[n - 1];
            h->extension[n - 1] = last;
        }
    }
}

char *qcow2_extension_text(struct qcow2_header *h, uint32_t type)
{
    const struct qcow2_extension *e = qcow2_extension_find(h, type);
    return e ? g_strndup((const char *)e->bytes, e->size) : NULL;
}

void qcow2_header_clear(struct qcow2_header *h)
{
    for (unsigned i = 0; i < h->n_extensions; i++)
        g_free(h->extension[i].bytes);
    g_free(h->extension);
    g_free(h->more);
    g_free(h->backing);
    *h = (struct qcow2_header){0};
}

/* --- reading --- */

static void decode(const uint8_t *bytes, struct qcow2_header *h)
{
    struct qcow2_disk_header d;
    memcpy(&d, bytes, sizeof(d));
    h->version = be32toh(d.version);
    h->cluster_bits = be32toh(d.cluster_bits);
    h->size = be64toh(d.size);
    h->crypt_method = be32toh(d.crypt_method);
    h->l1_size = be32toh(d.l1_size);
    h->l1_offset = be64toh(d.l1_offset);
    h->reftable_offset = be64toh(d.reftable_offset);
    h->reftable_clusters = be32toh(d.reftable_clusters);
    h->n_snapshots = be32toh(d.n_snapshots);
    h->snapshots_offset = be64toh(d.snapshots_offset);
    h->refcount_order = 4;
    h->header_length = QCOW2_HEADER_V2;
    if (h->version < 3)
        return;
    h->incompatible = be64toh(d.incompatible);
    h->compatible = be64toh(d.compatible);
    h->autoclear = be64toh(d.autoclear);
    h->refcount_order = be32toh(d.refcount_order);
    h->header_length = be32toh(d.header_length);
    if (h->header_length > QCOW2_HEADER_V3)
        h->compression = d.compression;
}

static bool damaged(GError **error, const char *name, const char *what, uint64_t found, uint64_t most)
{
    return hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s: qcow2: %s is %" PRIu64 ", expected at most %" PRIu64
                       "; the image is damaged: check it, or take a copy",
                       name, what, found, most);
}

static bool check_shape(const struct qcow2_header *h, const char *name, GError **error)
{
    if (h->version != 2 && h->version != 3)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is a qcow2 image of version %" PRIu32 ", this Hostel knows 2 and 3", name,
                           h->version);
    if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN || h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: qcow2: clusters of 2^%" PRIu32
                           " bytes, expected 2^9 to 2^21; the image is damaged",
                           name, h->cluster_bits);
    const uint32_t cluster = UINT32_C(1) << h->cluster_bits;
    if (h->version == 3 && (h->header_length < QCOW2_HEADER_V3 || h->header_length > cluster))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: qcow2: a header of %" PRIu32 " bytes, expected 104 to %" PRIu32
                           "; the image is damaged",
                           name, h->header_length, cluster);
    if (h->refcount_order > 6)
        return damaged(error, name, "log2 of a refcount's bits", h->refcount_order, 6);
    if (h->crypt_method > QCOW2_CRYPT_LUKS)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: qcow2: encrypted with method %" PRIu32
                           ", this Hostel knows 1 (AES) and 2 (LUKS)",
                           name, h->crypt_method);
    return true;
}

/* The first feature bit that must be known and is not. */
static bool check_features(struct qcow2_header *h, const char *name, GError **error)
{
    const uint64_t unknown = h->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN;
    if (unknown) {
        g_autofree char *feature = qcow2_feature_name(h, 0, (unsigned)__builtin_ctzll(unknown));
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: qcow2: uses a feature this Hostel does not have: %s; convert the image with "
                           "what made it",
                           name, feature);
    }
    if (h->compression > QCOW2_COMPRESSION_ZSTD)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: qcow2: compressed with method %u, this Hostel knows 0 (zlib) and 1 (zstd)",
                           name, h->compression);
    if ((h->compression != 0) != !!(h->incompatible & QCOW2_INCOMPATIBLE_COMPRESSION))
        return hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s: qcow2: compression type %u disagrees with its feature bit; the image is damaged", name,
            h->compression);
    if (h->autoclear & QCOW2_AUTOCLEAR_RAW && !(h->incompatible & QCOW2_INCOMPATIBLE_DATA_FILE))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: qcow2: says that its data file is raw, and has none; the image is damaged",
                           name);
    if (h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2 && h->cluster_bits < 14)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: qcow2: extended L2 entries with clusters below 16 KiB; the image is damaged",
                           name);
    return true;
}

static bool check_place(const char *name, const char *what, uint64_t offset, uint64_t size, uint32_t cluster,
                        GError **error)
{
    if (size && (!offset || offset & (cluster - 1) || !range_inside(offset, size, 0, UINT64_C(1) << 56)))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: qcow2: %s at %" PRIu64 ", expected a multiple of %" PRIu32
                           " behind the header; the image is damaged",
                           name, what, offset, cluster);
    return true;
}

static bool check_tables(const struct qcow2_header *h, const char *name, GError **error)
{
    const uint32_t cluster = UINT32_C(1) << h->cluster_bits;
    const bool extended = h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2;
    const unsigned shift = h->cluster_bits + h->cluster_bits - (extended ? 4 : 3);
    if (h->size > INT64_MAX)
        return damaged(error, name, "the size of the disk", h->size, INT64_MAX);
    if (h->l1_size > QCOW2_L1_BYTES_MAX / 8)
        return damaged(error, name, "entries of the L1 table", h->l1_size, QCOW2_L1_BYTES_MAX / 8);
    const uint64_t need = (h->size >> shift) + ((h->size & (BIT(shift) - 1)) != 0);
    if (h->l1_size < need)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: qcow2: an L1 table of %" PRIu32 " entries, a disk of %" PRIu64
                           " bytes needs %" PRIu64 "; the image is damaged",
                           name, h->l1_size, h->size, need);
    if (h->reftable_clusters > (uint32_t)QCOW2_REFTABLE_BYTES_MAX >> h->cluster_bits)
        return damaged(error, name, "clusters of the refcount table", h->reftable_clusters,
                       (uint32_t)QCOW2_REFTABLE_BYTES_MAX >> h->cluster_bits);
    if (h->n_snapshots > QCOW2_SNAPSHOTS_MAX)
        return damaged(error, name, "number of snapshots", h->n_snapshots, QCOW2_SNAPSHOTS_MAX);
    if (!h->reftable_clusters)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: qcow2: no refcount table; the image is damaged",
                           name);
    return check_place(name, "the L1 table", h->l1_offset, (uint64_t)h->l1_size * 8, cluster, error) &&
           check_place(name, "the refcount table", h->reftable_offset,
                       (uint64_t)h->reftable_clusters * cluster, cluster, error) &&
           check_place(name, "the table of snapshots", h->snapshots_offset, h->n_snapshots, cluster, error);
}

/* end: where the backing name begins, or the cluster ends. */
static bool read_extensions(const uint8_t *bytes, uint32_t end, struct qcow2_header *h, const char *name,
                            GError **error)
{
    for (uint32_t at = h->header_length; at <= end && end - at >= 8;) {
        const uint32_t type = ld32be(bytes + at), size = ld32be(bytes + at + 4);
        if (type == QCOW2_EXTENSION_END)
            return true;
        at += 8;
        if (size > end - at)
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "%s: qcow2: header extension %08" PRIx32 " of %" PRIu32 " bytes, %" PRIu32
                               " are there; the image is damaged",
                               name, type, size, end - at);
        if (h->n_extensions == EXTENSIONS_MAX)
            return damaged(error, name, "number of header extensions", EXTENSIONS_MAX + 1, EXTENSIONS_MAX);
        append(h, type, bytes + at, size);
        at += (uint32_t)MIN(align_up(size, 8), end - at);
    }
    return true;
}

static bool read_backing(const uint8_t *bytes, uint32_t have, uint64_t offset, uint32_t size,
                         struct qcow2_header *h, const char *name, GError **error)
{
    if (!offset || (!size && offset <= BIT(h->cluster_bits)))
        return true;
    if (size > QCOW2_BACKING_MAX || offset < h->header_length || !range_inside(offset, size, 0, have))
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: qcow2: the backing file's name has %" PRIu32 " bytes at %" PRIu64
                           ", expected at most %d inside of the first cluster; the image is damaged",
                           name, size, offset, QCOW2_BACKING_MAX);
    h->backing = g_strndup((const char *)bytes + offset, size);
    return true;
}

static bool read_rest(const uint8_t *bytes, uint32_t have, struct qcow2_header *h, const char *name,
                      GError **error)
{
    const uint64_t backing = ld64be(bytes + 8);
    const uint32_t end = backing > h->header_length && backing < have ? (uint32_t)backing : have;
    if (h->header_length > have)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: qcow2: the file ends inside of the header", name);
    if (h->header_length > sizeof(struct qcow2_disk_header))
        h->more = g_memdup2(bytes + sizeof(struct qcow2_disk_header),
                            h->header_length - sizeof(struct qcow2_disk_header));
    return read_extensions(bytes, end, h, name, error) && check_features(h, name, error) &&
           check_tables(h, name, error) &&
           read_backing(bytes, have, backing, ld32be(bytes + 16), h, name, error);
}

bool qcow2_header_read(struct disk *file, struct qcow2_header *h, GError **error)
{
    uint8_t fixed[BLOCK_SECTOR] = {0};
    *h = (struct qcow2_header){0};
    const uint64_t size = file->facts.size;
    int status = block_pread(file, fixed, (size_t)MIN(size, sizeof(fixed)), 0);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read it: %s", file->name,
                           g_strerror(-status));
    if (size < QCOW2_HEADER_V2 || ld32be(fixed) != QCOW2_MAGIC)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no qcow2 image; is it another format?",
                           file->name);
    decode(fixed, h);
    if (!check_shape(h, file->name, error))
        return false;
    const uint32_t have = (uint32_t)MIN(BIT(h->cluster_bits), align_down(size, file->facts.alignment));
    g_autofree uint8_t *bytes = g_malloc0(MAX(have, (uint32_t)sizeof(fixed)));
    status = block_pread(file, bytes, have, 0);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read it: %s", file->name,
                           g_strerror(-status));
    return read_rest(bytes, have, h, file->name, error);
}

/* --- writing --- */

/* All numbers, but not where the backing name is. */
static void encode_numbers(const struct qcow2_header *h, struct qcow2_disk_header *d)
{
    d->magic = htobe32(QCOW2_MAGIC);
    d->version = htobe32(h->version);
    d->cluster_bits = htobe32(h->cluster_bits);
    d->size = htobe64(h->size);
    d->crypt_method = htobe32(h->crypt_method);
    d->l1_size = htobe32(h->l1_size);
    d->l1_offset = htobe64(h->l1_offset);
    d->reftable_offset = htobe64(h->reftable_offset);
    d->reftable_clusters = htobe32(h->reftable_clusters);
    d->n_snapshots = htobe32(h->n_snapshots);
    d->snapshots_offset = htobe64(h->snapshots_offset);
    if (h->version < 3)
        return;
    d->incompatible = htobe64(h->incompatible);
    d->compatible = htobe64(h->compatible);
    d->autoclear = htobe64(h->autoclear);
    d->refcount_order = htobe32(h->refcount_order);
    d->header_length = htobe32(h->header_length);
    if (h->header_length > QCOW2_HEADER_V3)
        d->compression = h->compression;
}

static uint32_t fixed_size(const struct qcow2_header *h)
{
    return h->version < 3 ? QCOW2_HEADER_V2
                          : MIN(h->header_length, (uint32_t)sizeof(struct qcow2_disk_header));
}

/* Where the extensions end, 0 when they do not fit. */
static uint32_t encode_extensions(const struct qcow2_header *h, uint8_t *bytes)
{
    const uint32_t cluster = UINT32_C(1) << h->cluster_bits;
    uint64_t at = h->header_length;
    for (unsigned i = 0; i < h->n_extensions; i++) {
        const struct qcow2_extension *e = &h->extension[i];
        if (at + 8 + align_up(e->size, 8) + 8 > cluster)
            return 0;
        st32be(bytes + at, e->type);
        st32be(bytes + at + 4, e->size);
        if (e->size)
            memcpy(bytes + at + 8, e->bytes, e->size);
        at += 8 + align_up(e->size, 8);
    }
    return at + 8 <= cluster ? (uint32_t)at + 8 : 0; /* the end: zeroes */
}

/* The backing name at `at`, or as soon behind as it is well. */
static bool encode_backing(const struct qcow2_header *h, uint8_t *bytes, uint32_t at)
{
    const size_t size = h->backing ? strlen(h->backing) : 0;
    if (!size)
        return true;
    if (size > QCOW2_BACKING_MAX || at + size > BIT(h->cluster_bits))
        return false;
    memcpy(bytes + at, h->backing, size);
    st64be(bytes + 8, at);
    st32be(bytes + 16, (uint32_t)size);
    return true;
}

static bool encode(const struct qcow2_header *h, uint8_t *bytes, uint32_t *end)
{
    struct qcow2_disk_header d = {0};
    encode_numbers(h, &d);
    memcpy(bytes, &d, fixed_size(h));
    if (h->more)
        memcpy(bytes + sizeof(d), h->more, h->header_length - sizeof(d));
    return (*end = encode_extensions(h, bytes)) != 0;
}

bool qcow2_header_encode(struct qcow2_header *h, uint8_t *bytes)
{
    uint32_t end;
    if (h->version >= 3 && !qcow2_extension_find(h, QCOW2_EXTENSION_FEATURES))
        add_features(h);
    if (encode(h, bytes, &end) && encode_backing(h, bytes, end))
        return true;
    /* The names of features are a courtesy; in small clusters there may be no room for them. */
    memset(bytes, 0, BIT(h->cluster_bits));
    qcow2_extension_set(h, QCOW2_EXTENSION_FEATURES, NULL, 0);
    return encode(h, bytes, &end) && encode_backing(h, bytes, end);
}

static int write_durably(struct qcow2 *q, const void *bytes, size_t size, uint64_t offset)
{
    int status = block_pwrite(q->file, bytes, size, offset);
    return status ? status : block_flush(q->file);
}

/* Where the new backing name is in nobody's way. old: the cluster as it is. */
static uint32_t name_place(const uint8_t *old, uint32_t end, size_t size, uint32_t cluster)
{
    const uint64_t at = ld64be(old + 8), old_end = at + ld32be(old + 16);
    if (!size || end + size <= BLOCK_SECTOR || !at)
        return end;
    if (end + size <= at && end >= BLOCK_SECTOR)
        return end;
    return old_end + size <= cluster ? (uint32_t)MAX(old_end, end) : end;
}

int qcow2_header_store(struct qcow2 *q)
{
    const uint32_t cluster = q->cluster;
    g_autofree uint8_t *old = g_malloc0(cluster), *new = g_malloc0(cluster);
    uint32_t end;
    int status = block_pread(q->file, old, (size_t)MIN(cluster, q->file->facts.size), 0);
    if (status)
        return status;
    if (!encode(&q->header, new, &end)) {
        memset(new, 0, cluster);
        qcow2_extension_set(&q->header, QCOW2_EXTENSION_FEATURES, NULL, 0);
        if (!encode(&q->header, new, &end))
            return -ENOSPC;
    }
    qcow2_owned_watch_locked(q);
    const size_t size = q->header.backing ? strlen(q->header.backing) : 0;
    if (!encode_backing(&q->header, new, name_place(old, end, size, cluster)) &&
        !encode_backing(&q->header, new, end))
        return -ENOSPC;
    if (cluster > BLOCK_SECTOR && memcmp(old + BLOCK_SECTOR, new + BLOCK_SECTOR, cluster - BLOCK_SECTOR)) {
        /* Beside the new bytes the old ones stay until the sector has switched. */
        for (uint32_t i = BLOCK_SECTOR; i < cluster; i++)
            old[i] = new[i] ? new[i] : old[i];
        status = write_durably(q, old + BLOCK_SECTOR, cluster - BLOCK_SECTOR, BLOCK_SECTOR);
    }
    if (!status)
        status = write_durably(q, new, BLOCK_SECTOR, 0);
    if (!status && cluster > BLOCK_SECTOR &&
        memcmp(old + BLOCK_SECTOR, new + BLOCK_SECTOR, cluster - BLOCK_SECTOR))
        status = write_durably(q, new + BLOCK_SECTOR, cluster - BLOCK_SECTOR, BLOCK_SECTOR);
    if (!status)
        memcpy(q->sector, new, BLOCK_SECTOR);
    return status;
}

int qcow2_header_update_locked(struct qcow2 *q)
{
    uint8_t bytes[BLOCK_SECTOR];
    struct qcow2_disk_header d;
    memcpy(bytes, q->sector, sizeof(bytes));
    memcpy(&d, bytes, sizeof(d));
    encode_numbers(&q->header, &d);
    memcpy(bytes, &d, fixed_size(&q->header));
    qcow2_owned_watch_locked(q);
    int status = write_durably(q, bytes, sizeof(bytes), 0);
    if (!status)
        memcpy(q->sector, bytes, sizeof(bytes));
    return status;
}

int qcow2_corrupt_locked(struct qcow2 *q, const char *what, uint64_t where)
{
    log_error(LOG_BLOCK,
              "disk %s: qcow2: %s at %" PRIu64
              " of its file; nothing more is written to it: check and repair it",
              q->disk.name, what, where);
    int none = 0;
    const bool first = atomic_compare_exchange_strong(&q->failed, &none, -EIO);
    if (first && q->header.version >= 3 && !q->disk.facts.readonly) {
        q->header.incompatible |= QCOW2_INCOMPATIBLE_CORRUPT;
        (void)qcow2_header_update_locked(q); /* the disk has stopped in any case */
    }
    return -EIO;
}
