/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a qcow2 image is, and what a new one would take; the name of its backing file. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "block/format/qcow2/qcow2_int.h"

/* --- info --- */

/* Does an L2 table name a compressed cluster? Possible is enough, so the method's flag would do; but most
 * images have none, and the first tables tell. */
static json_t *specific(struct qcow2 *q)
{
    const struct qcow2_header *h = &q->header;
    const char *compression = h->compression == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib";
    json_t *data = json_object(), *bitmaps = qcow2_bitmaps_info(q), *encrypt = qcow2_crypto_info(q);
    g_autofree char *file = qcow2_extension_text(&q->header, QCOW2_EXTENSION_DATA_FILE);
    json_object_set_new(data, "compat", json_string(h->version < 3 ? "0.10" : "1.1"));
    json_object_set_new(data, "compression-type", json_string(compression));
    json_object_set_new(data, "refcount-bits", json_integer(1LL << h->refcount_order));
    if (h->version >= 3) {
        json_object_set_new(data, "lazy-refcounts", json_boolean(h->compatible & QCOW2_COMPATIBLE_LAZY));
        json_object_set_new(data, "corrupt", json_boolean(h->incompatible & QCOW2_INCOMPATIBLE_CORRUPT));
        json_object_set_new(data, "extended-l2", json_boolean(q->entry_words == 2));
    }
    if (q->external) {
        json_t *name = file ? json_string(file) : NULL; /* no UTF-8: not told */
        if (name)
            json_object_set_new(data, "data-file", name);
        json_object_set_new(data, "data-file-raw", json_boolean(h->autoclear & QCOW2_AUTOCLEAR_RAW));
    }
    if (bitmaps)
        json_object_set_new(data, "bitmaps", bitmaps);
    if (encrypt)
        json_object_set_new(data, "encrypt", encrypt);
    return data;
}

bool qcow2_info(struct disk *b, struct block_image_info *info, GError **error)
{
    struct qcow2 *q = qcow2(b);
    (void)error;
    info->cluster = q->cluster;
    info->backing = g_strdup(q->header.backing);
    info->backing_format = qcow2_extension_text(&q->header, QCOW2_EXTENSION_BACKING_FORMAT);
    info->dirty = q->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY;
    info->corrupt = q->header.incompatible & QCOW2_INCOMPATIBLE_CORRUPT;
    info->encrypted = q->header.crypt_method != QCOW2_CRYPT_NONE;
    info->specific = specific(q);
    return true;
}

/* --- measure --- */

struct shape {
    uint64_t cluster, entry; /* bytes of a cluster, of an L2 entry */
    unsigned order;          /* log2 of a refcount's bits */
};

/* Clusters of refcount blocks and table that count `clusters` and themselves. */
static uint64_t refcount_clusters(const struct shape *s, uint64_t clusters)
{
    const uint64_t in_block = s->cluster * 8 >> s->order, in_table = s->cluster / 8;
    uint64_t blocks = 0, table = 0, before;
    do {
        before = blocks + table;
        blocks = (clusters + before + in_block - 1) / in_block;
        table = (blocks + in_table - 1) / in_table;
    } while (blocks + table != before);
    return blocks + table;
}

/* Everything but data of a disk of size bytes: header, L2, L1, refcounts for all. */
static uint64_t metadata(const struct shape *s, uint64_t size)
{
    const uint64_t in_table = s->cluster / s->entry;
    const uint64_t clusters = align_up(size, s->cluster) / s->cluster;
    const uint64_t l2 = (clusters + in_table - 1) / in_table;
    const uint64_t l1 = (l2 * 8 + s->cluster - 1) / s->cluster;
    const uint64_t counted = 1 + l2 + l1 + clusters;
    return (1 + l2 + l1 + refcount_clusters(s, counted)) * s->cluster;
}

bool qcow2_measure(const struct block_create *c, struct disk *source, struct block_measure *out,
                   GError **error)
{
    const struct qcow2_create_options *o = c->options;
    const struct shape s = {.cluster = o ? o->cluster_size : 65536,
                            .entry = o && o->extended_l2 ? 16 : 8,
                            .order =
                                o ? (unsigned)__builtin_ctz(o->refcount_bits ? o->refcount_bits : 16) : 4};
    if (!is_power_of_two(s.cluster) || s.cluster < 512 || s.cluster > 2 * MiB)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "qcow2: cluster_size must be a power of two between 512 and 2M");
    const uint64_t size = source ? source->facts.size : c->size;
    if (size > INT64_MAX / 2)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "qcow2: a disk of %" PRIu64 " bytes is too large",
                           size);
    uint64_t used = 0;
    if (source && !c->backing) {
        int status = block_image_used(source, (uint32_t)s.cluster, &used);
        if (status)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot find out what it holds: %s",
                               source->name, g_strerror(-status));
    }
    const uint64_t whole = align_up(size, s.cluster), rest = metadata(&s, size);
    const bool all =
        o && o->preallocation && (!strcmp(o->preallocation, "full") || !strcmp(o->preallocation, "falloc"));
    out->full = rest + whole;
    out->required = rest + (all ? whole : MIN(used, whole));
    return true;
}

/* --- the backing file --- */

bool qcow2_set_backing(struct disk *b, const char *backing, const char *format, GError **error)
{
    struct qcow2 *q = qcow2(b);
    if (backing && strlen(backing) > QCOW2_BACKING_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: qcow2: the backing file's name has more than %d bytes", b->name,
                           QCOW2_BACKING_MAX);
    if (backing && q->external && q->header.autoclear & QCOW2_AUTOCLEAR_RAW)
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "%s: qcow2: its raw data file holds the whole disk, so there can be no backing file", b->name);
    int status = block_flush(b);
    char *old = q->header.backing;
    g_autofree char *old_format = qcow2_extension_text(&q->header, QCOW2_EXTENSION_BACKING_FORMAT);
    q->header.backing = backing && *backing ? g_strdup(backing) : NULL;
    format = q->header.backing ? format : NULL;
    qcow2_extension_set(&q->header, QCOW2_EXTENSION_BACKING_FORMAT, format,
                        format ? (uint32_t)strlen(format) : 0);
    if (!status)
        status = qcow2_header_store(q);
    if (!status) {
        g_free(old);
        return true;
    }
    g_free(q->header.backing);
    q->header.backing = old;
    qcow2_extension_set(&q->header, QCOW2_EXTENSION_BACKING_FORMAT, old_format,
                        old_format ? (uint32_t)strlen(old_format) : 0);
    if (status == -ENOSPC)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: qcow2: the name does not fit into the header's cluster of %" PRIu32 " bytes",
                           b->name, q->cluster);
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write its header: %s", b->name,
                       g_strerror(-status));
}
