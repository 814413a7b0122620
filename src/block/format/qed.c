/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Driver qed: QEMU's enhanced disks. */
/*
 * Source: QED Image File Format (QEMU, docs/interop/qed_spec.txt).
 *
 * A header, a directory (L1) of tables (L2) of clusters, all of whole clusters; one extent of grains.h, whose
 * order of writing leaves nothing wrong after a power cut. The mark that the image must be checked is set
 * before the first change and taken away by closing, for others who write such images in another order; one
 * that has it is checked, and mended, before it is written to.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/grains.h"
#include "block/format/places.h"

enum {
    MAGIC = 0x00444551, /* "QED\0" */
    CLUSTER_MIN = 4096,
    CLUSTER_MAX = 64 * 1024 * 1024,
    TABLE_CLUSTERS_MAX = 16,
    TABLE_BYTES_MAX = 16 * 1024 * 1024, /* in memory */
    NAME_MAX_BYTES = 1023,
    NAME_AT = 64,
    NAME_OTHER = NAME_AT + 1024, /* a new name is put where the old one is not */
};

enum feature { FEATURE_BACKING = 1, FEATURE_CHECK = 2, FEATURE_RAW = 4, FEATURES = 7 };

/* Little-endian. */
struct header {
    uint32_t magic, cluster, table /* clusters */, clusters /* of the header */;
    uint64_t features, compatible, autoclear, directory, size;
    uint32_t name_at, name_size;
};
_Static_assert(sizeof(struct header) == 64, "no padding");

struct qed {
    struct disk disk;
    struct grains grains;
    struct header header;
    char *backing;
    uint32_t bad_tables; /* that the directory named outside the file; now it names none there */
    bool marked;         /* by us, or we saw that nothing is wrong */
    bool dirty;          /* when it was opened */
};

static struct qed *qed(struct disk *b)
{
    return (struct qed *)(void *)b;
}

static uint64_t disk_max(uint64_t cluster, uint64_t entries)
{
    uint64_t max;
    return ckd_mul(&max, entries * entries, cluster) || max > INT64_MAX / 4 ? INT64_MAX / 4 : max;
}

/* --- the header --- */

static int put_header(struct qed *q)
{
    int status = block_pwrite(q->disk.below, &q->header, sizeof(q->header), 0);
    return status ? status : block_flush(q->disk.below);
}

/* What we do not know may not be true any more then. */
static int begin(struct grains *g)
{
    struct qed *q = qed(g->disk);
    q->header.features |= htole64(FEATURE_CHECK);
    q->header.autoclear = 0;
    q->marked = true;
    return put_header(q);
}

static const struct grains_ops ops = {.begin = begin};

static bool damaged(const struct disk *b, GError **error, const char *what)
{
    return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its header is damaged: %s", b->name, what);
}

static bool check_header(const struct qed *q, GError **error)
{
    const struct disk *b = &q->disk;
    const struct header *h = &q->header;
    const uint64_t cluster = le32toh(h->cluster), table = le32toh(h->table), file = b->below->facts.size;
    const uint64_t clusters = le32toh(h->clusters), features = le64toh(h->features), size = le64toh(h->size);
    const uint64_t directory = le64toh(h->directory), head = clusters * cluster;
    if (features & ~(uint64_t)FEATURES)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: has features that this Hostel does not know (%#" PRIx64 ")", b->name,
                           features & ~(uint64_t)FEATURES);
    if (!is_power_of_two(cluster) || cluster < CLUSTER_MIN || cluster > CLUSTER_MAX)
        return damaged(b, error, "the size of clusters is no power of two from 4 KiB to 64 MiB");
    if (!is_power_of_two(table) || table > TABLE_CLUSTERS_MAX)
        return damaged(b, error, "the size of tables is no power of two up to 16 clusters");
    if (table * cluster > TABLE_BYTES_MAX)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: has tables of %" PRIu64 " bytes, this Hostel takes up to 16 MiB", b->name,
                           table * cluster);
    if (!clusters || head > file)
        return damaged(b, error, "it is longer than the file");
    if (directory % cluster || directory < head || !range_inside(directory, table * cluster, 0, file))
        return damaged(b, error, "the directory is not in the file");
    if (!size || size % BLOCK_SECTOR || size > disk_max(cluster, table * cluster / 8))
        return damaged(b, error, "the disk's size");
    if (features & FEATURE_BACKING && (le32toh(h->name_size) > NAME_MAX_BYTES || !h->name_size ||
                                       !range_inside(le32toh(h->name_at), le32toh(h->name_size), 0, head)))
        return damaged(b, error, "the name of the backing file");
    return true;
}

static bool read_header(struct qed *q, GError **error)
{
    struct disk *b = &q->disk;
    struct header *h = &q->header;
    int status = b->below->facts.size < sizeof(*h) ? -EIO : block_pread(b->below, h, sizeof(*h), 0);
    if (status || le32toh(h->magic) != MAGIC)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no qed image; is it another format?", b->name);
    if (!check_header(q, error))
        return false;
    q->dirty = le64toh(h->features) & FEATURE_CHECK;
    b->facts.size = le64toh(h->size);
    if (!(le64toh(h->features) & FEATURE_BACKING))
        return true;
    const uint32_t size = le32toh(h->name_size);
    q->backing = g_malloc0(size + 1);
    status = block_pread(b->below, q->backing, size, le32toh(h->name_at));
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read it: %s", b->name, g_strerror(-status));
}

static const char *backing_format(const struct qed *q)
{
    return q->backing && le64toh(q->header.features) & FEATURE_RAW ? "raw" : NULL;
}

/* --- the directory --- */

static uint32_t tables_of(const struct grains_extent *e, uint64_t size)
{
    const uint64_t covers = (uint64_t)e->grain * e->entries;
    return (uint32_t)((size + covers - 1) / covers);
}

/* Is there room for a table where an entry of the directory says? */
static bool is_table(const struct qed *q, const struct grains_extent *e, uint64_t place)
{
    return place % e->grain == 0 && place >= e->begin &&
           range_inside(place, (uint64_t)e->entries * 8, 0, q->disk.below->facts.size);
}

static bool read_directory(struct qed *q, struct grains_extent *e, bool repair, GError **error)
{
    const char *name = q->disk.name;
    g_autofree uint8_t *raw = g_try_malloc((size_t)e->tables_n * 8);
    e->gd = g_try_new0(uint64_t, e->tables_n);
    e->tables = g_try_new0(struct grains_table, e->tables_n);
    if (!raw || !e->gd || !e->tables)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory for its tables",
                           name);
    int status = block_pread(e->file, raw, (size_t)e->tables_n * 8, e->gd_at);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its directory: %s", name,
                           g_strerror(-status));
    for (uint32_t i = 0; i < e->tables_n; i++) {
        const uint64_t place = ld64le(raw + (size_t)i * 8);
        const bool good = !place || is_table(q, e, place);
        e->gd[i] = good ? place : 0;
        q->bad_tables += !good;
    }
    return !q->bad_tables || repair ||
           hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s: is damaged or cut off: %" PRIu32
                       " tables are not in the file; mend it: hostel image check -r all %s",
                       name, q->bad_tables, name);
}

static bool open_extent(struct qed *q, const struct block_config *config, GError **error)
{
    const struct header *h = &q->header;
    struct grains_extent *e = g_new0(struct grains_extent, 1);
    q->grains.extents = e;
    q->grains.extents_n = 1;
    e->kind = GRAINS_BYTES;
    e->file = q->disk.below;
    e->name = g_strdup(q->disk.name);
    e->size = q->disk.facts.size;
    e->zero_entries = true;
    e->grain = le32toh(h->cluster);
    e->entry_size = 8;
    e->entries = le32toh(h->table) * (e->grain / 8);
    e->tables_n = tables_of(e, e->size);
    e->gd_at = le64toh(h->directory);
    e->directory_size = (uint64_t)e->entries * 8;
    e->begin = (uint64_t)le32toh(h->clusters) * e->grain;
    e->limit = INT64_MAX / 2;
    if (!read_directory(q, e, config->flags & BLOCK_OPEN_REPAIR, error))
        return false;
    if (config->readonly || grains_find_end(e))
        return true;
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its tables", q->disk.name);
}

/* --- check --- */

/* Writes the directory as we understand it. */
static int put_directory(struct qed *q)
{
    struct grains_extent *e = &q->grains.extents[0];
    const size_t size = (size_t)e->tables_n * 8;
    uint8_t *raw = g_try_malloc(size);
    if (!raw)
        return -ENOMEM;
    for (uint32_t i = 0; i < e->tables_n; i++)
        st64le(raw + (size_t)i * 8, e->gd[i]);
    int status = block_pwrite(e->file, raw, size, e->gd_at);
    g_free(raw);
    return status ? status : block_flush(e->file);
}

static bool qed_check(struct disk *b, unsigned fix, struct block_check *check, GError **error)
{
    struct qed *q = qed(b);
    if (b->facts.readonly)
        fix = 0;
    int status = fix ? grains_begin(&q->grains) : 0;
    check->corruptions += q->bad_tables;
    if (q->bad_tables)
        block_check_say(check, "corrupt: the directory names tables that are not in the file");
    if (!status && q->bad_tables && fix & BLOCK_FIX_ERRORS) {
        status = put_directory(q);
        check->corruptions_fixed += status ? 0 : q->bad_tables;
        q->bad_tables = status ? q->bad_tables : 0;
    }
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot mend it: %s", b->name, g_strerror(-status));
    return grains_check(&q->grains, fix, check, error);
}

/* Somebody did not close it. Two owners of a cluster are nothing that can be mended; the rest is. */
static bool settle(struct qed *q, const struct block_config *config, GError **error)
{
    struct block_check check = {0};
    if (!q->dirty || config->readonly || config->flags & BLOCK_OPEN_REPAIR)
        return true;
    if (!qed_check(&q->disk, BLOCK_FIX_ERRORS, &check, error))
        return false;
    return (check.corruptions == check.corruptions_fixed && !check.errors) ||
           hostel_fail(
               error, HOSTEL_ERROR_INPUT,
               "%s: was not closed properly and is damaged in ways that cannot be mended; it can be read: "
               "add readonly=on",
               q->disk.name);
}

/* --- life --- */

static void release(struct qed *q)
{
    grains_fini(&q->grains);
    g_clear_pointer(&q->backing, g_free);
}

static bool qed_open(struct disk *b, struct block_config *config, GError **error)
{
    struct qed *q = qed(b);
    b->below = STEAL(config->file);
    if (!read_header(q, error) || !open_extent(q, config, error) ||
        !block_open_base(config, q->backing, backing_format(q), &q->grains.base, error)) {
        release(q);
        return false;
    }
    grains_init(&q->grains, &ops, b);
    if (settle(q, config, error))
        return true;
    release(q);
    return false;
}

static void qed_close(struct disk *b)
{
    struct qed *q = qed(b);
    if (q->marked && !block_flush(b) && !q->bad_tables) {
        q->header.features &= htole64(~(uint64_t)FEATURE_CHECK);
        put_header(q);
    }
    release(q);
}

static int qed_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return grains_read(&qed(b)->grains, iov, n, offset, flags);
}

static int qed_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return grains_write(&qed(b)->grains, iov, n, offset);
}

static int qed_flush(struct disk *b)
{
    return grains_flush(&qed(b)->grains);
}

static int qed_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return grains_discard(&qed(b)->grains, offset, size);
}

static int qed_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    return grains_zero(&qed(b)->grains, offset, size, flags);
}

static int qed_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return grains_extent(&qed(b)->grains, offset, size, extent);
}

/* Larger: the directory has room for all that there may be, and the header says how large it is. What a base
 * has behind the old end would be seen. */
static int qed_resize(struct disk *b, uint64_t size)
{
    struct qed *q = qed(b);
    struct grains_extent *e = &q->grains.extents[0];
    if (size < e->size || size % BLOCK_SECTOR || size > disk_max(e->grain, e->entries) ||
        (q->grains.base && q->grains.base->facts.size > e->size))
        return -EOPNOTSUPP;
    const uint32_t n = tables_of(e, size), old = e->tables_n;
    int status = grains_begin(&q->grains);
    if (!status)
        status = grains_clear_tail(e);
    if (!status)
        status = grains_more(e, n);
    if (status)
        return status;
    e->tables_n = n;
    if (n > old) /* what there was behind the old end of the directory names nothing */
        status = put_directory(q);
    if (!status)
        status = block_flush(b);
    q->header.size = htole64(size);
    if (!status)
        status = put_header(q);
    if (!status)
        e->size = size;
    return status;
}

/* --- backing files --- */

static bool check_backing(const char *name, const char *backing, const char *format, GError **error)
{
    const size_t size = backing ? strlen(backing) : 0;
    if (backing && (!size || size > NAME_MAX_BYTES))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: the name of a qed's backing file has 1 to %d bytes, not %zu", name,
                           NAME_MAX_BYTES, size);
    (void)format; /* that it is raw can be written; others are found by whoever opens it */
    return true;
}

/* The name, then the header that says where it is: at any moment one of the two is whole. */
static bool qed_set_backing(struct disk *b, const char *backing, const char *format, GError **error)
{
    struct qed *q = qed(b);
    struct header *h = &q->header;
    if (!check_backing(b->name, backing, format, error))
        return false;
    const uint32_t at = le32toh(h->name_at) == NAME_AT ? NAME_OTHER : NAME_AT;
    const uint64_t features = le64toh(h->features) & ~(uint64_t)(FEATURE_BACKING | FEATURE_RAW);
    int status = grains_begin(&q->grains);
    if (!status && backing)
        status = block_pwrite(b->below, backing, strlen(backing), at);
    if (!status)
        status = block_flush(b);
    h->features = htole64(features | FEATURE_CHECK | (backing ? (uint64_t)FEATURE_BACKING : 0) |
                          (backing && format && !strcmp(format, "raw") ? (uint64_t)FEATURE_RAW : 0));
    h->name_at = htole32(backing ? at : 0);
    h->name_size = htole32(backing ? (uint32_t)strlen(backing) : 0);
    if (!status)
        status = put_header(q);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write it: %s", b->name, g_strerror(-status));
    g_free(q->backing);
    q->backing = g_strdup(backing);
    return true;
}

/* --- new ones --- */

struct create_options {
    uint64_t cluster_size;
    unsigned table_size;
};

static const struct option_row create_options[] = {
    {.name = "cluster_size",
     .arg = "BYTES",
     .value = "64K",
     .help = "unit of giving room, 4K to 64M",
     .type = OPTION_SIZE,
     .who = OPTION_CLI,
     .offset = offsetof(struct create_options, cluster_size)},
    {.name = "table_size",
     .arg = "N",
     .value = "4",
     .help = "clusters of a table, 1 to 16",
     .type = OPTION_COUNT,
     .who = OPTION_CLI,
     .offset = offsetof(struct create_options, table_size)},
    {0},
};

static bool read_options(const struct block_create *c, struct create_options *o, GError **error)
{
    option_init(create_options, o);
    if (c->options)
        *o = *(const struct create_options *)c->options;
    const uint64_t cluster = o->cluster_size, table = o->table_size;
    if (!is_power_of_two(cluster) || cluster < CLUSTER_MIN || cluster > CLUSTER_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: cluster_size=%" PRIu64 ": must be a power of two from 4K to 64M", c->name,
                           cluster);
    if (!is_power_of_two(table) || table > TABLE_CLUSTERS_MAX || table * cluster > TABLE_BYTES_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: table_size=%" PRIu64 ": must be a power of two up to 16, and make tables of "
                           "up to 16 MiB",
                           c->name, table);
    const uint64_t most = disk_max(cluster, table * cluster / 8);
    if (!c->size || c->size % BLOCK_SECTOR || c->size > most)
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "%s: a qed disk of %" PRIu64
            " bytes cannot be made; it must be a multiple of 512, and with these tables at most "
            "%" PRIu64,
            c->name, c->size, most);
    return check_backing(c->name, c->backing, c->backing_format, error);
}

static bool qed_create(const struct block_create *c, GError **error)
{
    struct create_options o;
    if (!read_options(c, &o, error))
        return false;
    const uint64_t end = (1 + (uint64_t)o.table_size) * o.cluster_size;
    const bool raw = c->backing && c->backing_format && !strcmp(c->backing_format, "raw");
    const struct header h = {
        .magic = htole32(MAGIC),
        .cluster = htole32((uint32_t)o.cluster_size),
        .table = htole32(o.table_size),
        .clusters = htole32(1),
        .features = htole64((c->backing ? (uint64_t)FEATURE_BACKING : 0) | (raw ? (uint64_t)FEATURE_RAW : 0)),
        .directory = htole64(o.cluster_size),
        .size = htole64(c->size),
        .name_at = htole32(c->backing ? (uint32_t)NAME_AT : 0),
        .name_size = htole32(c->backing ? (uint32_t)strlen(c->backing) : 0),
    };
    int status = c->file->facts.growable     ? block_resize(c->file, end)
                 : end > c->file->facts.size ? -ENOSPC
                                             : block_zero(c->file, 0, end, 0);
    if (!status && c->backing)
        status = block_pwrite(c->file, c->backing, strlen(c->backing), NAME_AT);
    if (!status)
        status = block_pwrite(c->file, &h, sizeof(h), 0);
    if (!status)
        status = block_flush(c->file);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot make it: %s", c->name, g_strerror(-status));
}

static bool qed_measure(const struct block_create *c, struct disk *source, struct block_measure *out,
                        GError **error)
{
    struct create_options o;
    uint64_t used = 0;
    if (!read_options(c, &o, error))
        return false;
    const uint64_t table = o.table_size * o.cluster_size, covers = table / 8 * o.cluster_size;
    const uint64_t extra = o.cluster_size + table + (c->size + covers - 1) / covers * table;
    int status = source ? block_image_used(source, (uint32_t)o.cluster_size, &used) : 0;
    out->required = extra + used;
    out->full = extra + align_up(c->size, o.cluster_size);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", source->name, g_strerror(-status));
}

static bool qed_info(struct disk *b, struct block_image_info *info, GError **error)
{
    const struct qed *q = qed(b);
    (void)error;
    *info = (struct block_image_info){.cluster = b->facts.cluster,
                                      .backing = g_strdup(q->backing),
                                      .backing_format = g_strdup(backing_format(q)),
                                      .dirty = q->dirty};
    return true;
}

static bool qed_looks_like(const uint8_t *head, size_t size)
{
    return size >= sizeof(struct header) && ld32le(head) == MAGIC;
}

static const struct block_image image = {
    .create_options = create_options,
    .create_options_size = sizeof(struct create_options),
    .looks_like = qed_looks_like,
    .create = qed_create,
    .measure = qed_measure,
    .info = qed_info,
    .check = qed_check,
    .resize = places_image_resize,
    .set_backing = qed_set_backing,
};

const struct block_driver block_driver_qed = {
    .name = "qed",
    .help = "QEMU's enhanced disks",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct qed),
    .open = qed_open,
    .close = qed_close,
    .read = qed_read,
    .write = qed_write,
    .flush = qed_flush,
    .discard = qed_discard,
    .zero = qed_zero,
    .extent = qed_extent,
    .resize = qed_resize,
    .image = &image,
};
