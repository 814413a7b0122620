/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Driver parallels: expandable disks of Parallels Desktop. */
/*
 * Source: Parallels Expandable Image File Format, as QEMU documents it in docs/interop/parallels.txt.
 *
 * A header of 64 bytes, behind it a table with 4 bytes for each cluster of the disk, then clusters. An entry
 * is 0 or says where the cluster is: in sectors ("WithoutFreeSpace"), or in clusters ("WithouFreSpacExt",
 * which is what we make). The data path is that of places.h, whose order of writing leaves nothing wrong
 * after a power cut. The mark that the image is in use is set before the first change and taken away by
 * closing; an image that has it is written to only when its table makes sense.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "block/format/places.h"
#include "block/image.h"

enum {
    VERSION = 2,
    IN_USE = 0x746f6e59,
    HEADS = 16,
    SECTORS_PER_TRACK = 32,
    CLUSTERS_MAX = 1 << 24, /* a table of 64 MiB; in memory twice that */
    CLUSTER_MAX = 256 * 1024 * 1024,
    MAP_MAX = 64 * 1024 * 1024, /* units of a check */
};

/* Little-endian. */
struct header {
    char magic[16];
    uint32_t version, heads, cylinders, cluster /* sectors */, entries, size_low, size_high /* sectors */;
    uint32_t in_use, data /* sectors */, flags, extension_low, extension_high;
};
_Static_assert(sizeof(struct header) == 64, "no padding");
static const char magic_sectors[] = "WithoutFreeSpace", magic_clusters[] = "WithouFreSpacExt";

enum { FLAG_EMPTY = 1 };

struct parallels {
    struct disk disk;
    struct places places;
    struct header header;
    uint64_t data;      /* where clusters begin at most early, bytes */
    uint32_t unit;      /* of an entry, bytes */
    bool marked, dirty; /* by us; when it was opened */
};

static struct parallels *parallels(struct disk *b)
{
    return (struct parallels *)(void *)b;
}

static struct parallels *of(struct places *p)
{
    return parallels(p->disk);
}

/* --- the file --- */

static void encode(struct places *p, uint64_t page, uint8_t *bytes, uint32_t size)
{
    const uint64_t first = page * (PLACES_PAGE / 4);
    for (uint32_t i = 0; i < size / 4; i++)
        st32le(bytes + i * 4,
               (uint32_t)((places_get(p, first + i) & ~(uint64_t)PLACES_STATES) / of(p)->unit));
}

/* The mark is there before anything it stands for. */
static int begin(struct places *p)
{
    struct parallels *l = of(p);
    struct header *h = &l->header;
    h->in_use = htole32(IN_USE);
    h->flags &= htole32(~(uint32_t)FLAG_EMPTY);
    l->marked = true;
    int status = block_pwrite(p->file, h, sizeof(*h), 0);
    return status ? status : block_flush(p->file);
}

static const struct places_ops ops = {.encode = encode, .begin = begin};

/* --- open --- */

static bool damaged(const struct disk *b, GError **error, const char *what)
{
    return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: its header is damaged: %s", b->name, what);
}

static bool check_header(struct parallels *l, bool readonly, GError **error)
{
    struct disk *b = &l->disk;
    const struct header *h = &l->header;
    const uint64_t cluster = (uint64_t)le32toh(h->cluster) * BLOCK_SECTOR, entries = le32toh(h->entries);
    const bool clusters = !memcmp(h->magic, magic_clusters, sizeof(h->magic));
    uint64_t sectors = le32toh(h->size_low);
    if (clusters)
        sectors |= (uint64_t)le32toh(h->size_high) << 32;
    if (le32toh(h->version) != VERSION)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: is of version %" PRIu32 ", this Hostel knows %d", b->name,
                           le32toh(h->version), VERSION);
    if (!is_power_of_two(cluster) || cluster > CLUSTER_MAX)
        return damaged(b, error, "the size of clusters is no power of two up to 256 MiB");
    if (entries > CLUSTERS_MAX)
        return damaged(b, error, "it has more clusters than this Hostel takes");
    if (!sectors || sectors > entries * (cluster / BLOCK_SECTOR))
        return damaged(b, error, "the disk's size does not go with the number of its clusters");
    if (!readonly && (h->extension_low || h->extension_high))
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: has an extension (as for bitmaps of changes), which writing would make wrong; add "
            "readonly=on, or convert it",
            b->name);
    l->unit = clusters ? (uint32_t)cluster : BLOCK_SECTOR;
    l->data = (uint64_t)le32toh(h->data) * BLOCK_SECTOR;
    const uint64_t behind = sizeof(*h) + entries * 4;
    if (!l->data)
        l->data = align_up(behind, BLOCK_SECTOR);
    if (l->data < behind)
        return damaged(b, error, "clusters begin inside the table");
    /* Entries in clusters can name only what is aligned as they are. */
    l->data = align_up(l->data, l->unit);
    b->facts.size = sectors * BLOCK_SECTOR;
    l->places.block = (uint32_t)cluster;
    l->places.count = entries;
    l->dirty = h->in_use == htole32(IN_USE);
    return true;
}

/* One entry as places has it. */
static uint64_t decode(const struct parallels *l, uint32_t entry)
{
    const uint64_t place = (uint64_t)entry * l->unit;
    if (!entry)
        return PLACES_NONE;
    return place < l->data || place >= l->disk.below->facts.size ? place | PLACES_BAD : place;
}

static bool read_table(struct parallels *l, GError **error)
{
    struct places *p = &l->places;
    const uint64_t size = p->count * 4;
    p->disk = &l->disk;
    p->file = l->disk.below;
    p->ops = &ops;
    p->table = sizeof(struct header);
    p->table_size = size;
    p->entry_size = 4;
    p->limit = (uint64_t)l->unit * UINT32_MAX;
    if (!range_inside(p->table, size, 0, p->file->facts.size))
        return damaged(&l->disk, error, "the table is longer than the file");
    g_autofree uint8_t *raw = g_try_malloc(size);
    if (!raw || places_init(p))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory for its table",
                           l->disk.name);
    int status = block_pread(p->file, raw, size, p->table);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read its table: %s", l->disk.name,
                           g_strerror(-status));
    p->end = l->data;
    for (uint64_t i = 0; i < p->count; i++) {
        const uint64_t entry = decode(l, ld32le(raw + i * 4));
        atomic_init(&p->live[i], entry);
        if (entry && !(entry & PLACES_BAD))
            p->end = MAX(p->end, entry + p->block);
    }
    return true;
}

/* --- check --- */

/* The look at one image. The file is cut into units as large as a cluster, from where clusters begin; in each
 * one cluster can begin, anywhere in old images. Of each unit: at which sector one does, counted from 1. */
struct look {
    struct parallels *l;
    struct block_check *check;
    unsigned fix;
    uint64_t units;
    uint32_t *heads;
};

static void say(const struct look *k, const char *what, uint64_t n)
{
    block_check_say(k->check, "%s: %" PRIu64, what, n);
}

static bool mark(struct look *k, uint64_t place)
{
    const uint64_t at = place - k->l->data, block = k->l->places.block, i = at / block;
    const uint32_t head = (uint32_t)(at % block / BLOCK_SECTOR) + 1;
    const uint32_t before = i ? k->heads[i - 1] : 0, after = i + 1 < k->units ? k->heads[i + 1] : 0;
    if (k->heads[i])
        return true;
    k->heads[i] = head;
    return before > head || (after && after < head);
}

/* A cluster of its own for one that shares another's; clusters may have 256 MiB. */
static int move_away(struct look *k, uint64_t i)
{
    struct places *p = &k->l->places;
    const uint32_t piece = MIN(p->block, (uint32_t)MiB);
    uint8_t *bytes = g_try_malloc(piece);
    int status = !bytes ? -ENOMEM : p->end > p->limit - p->block ? -ENOSPC : 0;
    for (uint64_t at = 0; at < p->block && !status; at += piece) {
        status = places_read_file(p, bytes, piece, places_get(p, i) + at);
        if (!status)
            status = block_pwrite(p->file, bytes, piece, p->end + at);
    }
    if (!status) {
        places_set(p, i, p->end);
        p->end += p->block;
        k->check->corruptions_fixed++;
    }
    g_free(bytes);
    return status;
}

static int look_at_entry(struct look *k, uint64_t i)
{
    struct places *p = &k->l->places;
    const uint64_t entry = places_get(p, i);
    if (!entry)
        return 0;
    k->check->allocated++;
    if (entry & PLACES_BAD) {
        say(k, "corrupt: the cluster's place is not in the file, cluster", i);
        k->check->corruptions++;
        if (k->fix & BLOCK_FIX_ERRORS) {
            places_set(p, i, PLACES_NONE);
            k->check->corruptions_fixed++;
        }
        return 0;
    }
    if (i && places_get(p, i - 1) && places_get(p, i - 1) + p->block != entry)
        k->check->fragmented++;
    if (!mark(k, entry))
        return 0;
    say(k, "corrupt: the cluster's place is another's, too, cluster", i);
    k->check->corruptions++;
    return k->fix & BLOCK_FIX_ERRORS ? move_away(k, i) : 0;
}

/* What is behind the last cluster, or between them, is nobody's. */
static void look_for_leaks(struct look *k)
{
    struct places *p = &k->l->places;
    uint64_t leaks = 0;
    for (uint64_t i = 0; i < k->units; i++)
        leaks += !k->heads[i] && !(i && k->heads[i - 1] > 1);
    k->check->end = p->end;
    if (!leaks || k->l->header.extension_low || k->l->header.extension_high) /* those may be its */
        return;
    say(k, "leaked: clusters of the file that are nobody's, how many", leaks);
    k->check->leaks += leaks;
    const uint64_t size = p->file->facts.size;
    p->known = 0;
    if (k->fix & BLOCK_FIX_LEAKS && size > p->end && !block_resize(p->file, p->end))
        k->check->leaks_fixed += MIN(leaks, (size - p->end + p->block - 1) / p->block);
}

static bool look(struct parallels *l, unsigned fix, struct block_check *check, GError **error)
{
    struct places *p = &l->places;
    const uint64_t size = p->file->facts.size, start = MIN(l->data, size);
    struct look k = {.l = l, .check = check, .fix = fix, .units = (size - start + p->block - 1) / p->block};
    const uint64_t bytes = (k.units + 1) * sizeof(*k.heads);
    k.heads = bytes > MAP_MAX ? NULL : g_try_malloc0(bytes);
    if (!k.heads)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the file is too large to be looked at",
                           l->disk.name);
    check->clusters = (l->disk.facts.size + p->block - 1) / p->block;
    int status = fix ? places_begin(p) : 0;
    for (uint64_t i = 0; i < p->count && !status; i++)
        status = look_at_entry(&k, i);
    if (!status)
        look_for_leaks(&k);
    check->errors += status != 0;
    g_free(k.heads);
    return true;
}

static bool parallels_check(struct disk *b, unsigned fix, struct block_check *check, GError **error)
{
    struct parallels *l = parallels(b);
    if (l->dirty)
        block_check_say(check, "the image was not closed properly");
    if (b->facts.readonly)
        fix = 0;
    if (!look(l, fix, check, error))
        return false;
    int status = fix ? block_flush(b) : 0;
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot mend it: %s", b->name, g_strerror(-status));
}

/* --- life --- */

/* Somebody did not close it. What we do leaves nothing wrong even so; what others do may. */
static bool check_dirty(struct parallels *l, const struct block_config *config, GError **error)
{
    struct block_check check = {0};
    if (!l->dirty || config->readonly || config->flags & BLOCK_OPEN_REPAIR)
        return true;
    if (!look(l, 0, &check, error))
        return false;
    return !check.corruptions ||
           hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s: was not closed properly and is damaged; mend it: hostel image check -r all %s",
                       l->disk.name, l->disk.name);
}

static bool parallels_open(struct disk *b, struct block_config *config, GError **error)
{
    struct parallels *l = parallels(b);
    b->below = STEAL(config->file);
    struct header *h = &l->header;
    int status = b->below->facts.size < sizeof(*h) ? -EIO : block_pread(b->below, h, sizeof(*h), 0);
    if (status || (memcmp(h->magic, magic_sectors, sizeof(h->magic)) != 0 &&
                   memcmp(h->magic, magic_clusters, sizeof(h->magic)) != 0))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is no parallels image; is it another format?",
                           b->name);
    if (!check_header(l, config->readonly, error))
        return false;
    if (!read_table(l, error) || !check_dirty(l, config, error)) {
        places_fini(&l->places);
        return false;
    }
    b->facts.alignment = 1;
    b->facts.preferred = 4096;
    b->facts.cluster = l->places.block;
    b->facts.granularity = MAX(b->below->facts.granularity, (uint32_t)BLOCK_SECTOR);
    return true;
}

static void parallels_close(struct disk *b)
{
    struct parallels *l = parallels(b);
    if (l->marked && !block_flush(b)) {
        places_trim(&l->places);
        l->header.in_use = 0;
        if (!block_pwrite(b->below, &l->header, sizeof(l->header), 0))
            block_flush(b->below);
    }
    places_fini(&l->places);
}

static int parallels_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset,
                          unsigned flags)
{
    return places_read(&parallels(b)->places, iov, n, offset, flags);
}

static int parallels_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return places_write(&parallels(b)->places, iov, n, offset);
}

static int parallels_flush(struct disk *b)
{
    return places_flush(&parallels(b)->places);
}

static int parallels_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return places_discard(&parallels(b)->places, offset, size);
}

static int parallels_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    return places_zero(&parallels(b)->places, offset, size, flags);
}

static int parallels_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return places_extent(&parallels(b)->places, offset, size, extent);
}

/* One write of the header changes the size. Until it has succeeded memory has the old one, which is what any
 * later write of the header says, too. */
static int switch_size(struct parallels *l, uint64_t size, uint64_t count)
{
    struct places *p = &l->places;
    struct header next = l->header;
    next.entries = htole32((uint32_t)MAX(count, p->count));
    next.size_low = htole32((uint32_t)(size / BLOCK_SECTOR));
    next.size_high = htole32((uint32_t)(size / BLOCK_SECTOR >> 32));
    const uint64_t old_count = p->count, old_size = p->table_size;
    int status = count > p->count ? places_grow(p, count, count * 4) : 0;
    if (status)
        return status;
    status = block_pwrite(p->file, &next, sizeof(next), 0);
    if (!status)
        status = block_flush(p->file);
    if (!status) {
        l->header = next;
    } else { /* it has room for more than it says */
        p->count = old_count;
        p->table_size = old_size;
    }
    return status;
}

/* Larger, as far as the table has room before the first cluster. */
static int parallels_resize(struct disk *b, uint64_t size)
{
    struct parallels *l = parallels(b);
    struct places *p = &l->places;
    const uint64_t old = b->facts.size, count = (size + p->block - 1) / p->block, rest = old % p->block;
    if (size < old || !size || size % BLOCK_SECTOR || count > CLUSTERS_MAX ||
        sizeof(struct header) + count * 4 > l->data ||
        (l->unit == BLOCK_SECTOR && size / BLOCK_SECTOR > UINT32_MAX))
        return -EOPNOTSUPP;
    int status = places_begin(p);
    const uint64_t place = places_get(p, (old - 1) / p->block);
    if (!status && rest && place && !(place & PLACES_STATES)) {
        const uint64_t end = p->file->facts.size, from = place + rest;
        status = from < end ? block_zero(p->file, from, MIN(p->block - rest, end - from), 0) : 0;
    }
    if (!status && count > p->count) {
        /* What the table had no entries for may have been anything. */
        const uint64_t from = p->table + p->table_size;
        status = block_zero(p->file, from, (count - p->count) * 4, 0);
        if (!status)
            status = block_flush(b);
    }
    return status ? status : switch_size(l, size, count);
}

/* --- new ones --- */

struct create_options {
    uint64_t cluster_size;
};

static const struct option_row create_options[] = {
    {.name = "cluster_size",
     .arg = "BYTES",
     .value = "1M",
     .help = "unit of giving room, 64K to 256M",
     .type = OPTION_SIZE,
     .who = OPTION_CLI,
     .offset = offsetof(struct create_options, cluster_size)},
    {0},
};

struct plan {
    uint64_t cluster, entries, data;
};

static bool make_plan(const struct block_create *c, struct plan *plan, GError **error)
{
    struct create_options o;
    option_init(create_options, &o);
    if (c->options)
        o = *(const struct create_options *)c->options;
    if (!is_power_of_two(o.cluster_size) || o.cluster_size < 64 * KiB || o.cluster_size > CLUSTER_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: cluster_size=%" PRIu64 ": must be a power of two from 64K to 256M", c->name,
                           o.cluster_size);
    if (!c->size || c->size % BLOCK_SECTOR || c->size > o.cluster_size * CLUSTERS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a parallels disk of %" PRIu64
                           " bytes cannot be made; it must be a multiple of 512, and at most %" PRIu64,
                           c->name, c->size, o.cluster_size * CLUSTERS_MAX);
    if (c->backing)
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: a parallels image lies over no other; use qcow2, or leave out the backing file", c->name);
    plan->cluster = o.cluster_size;
    plan->entries = (c->size + o.cluster_size - 1) / o.cluster_size;
    plan->data = align_up(sizeof(struct header) + plan->entries * 4, o.cluster_size);
    return true;
}

static bool parallels_create(const struct block_create *c, GError **error)
{
    struct plan plan;
    if (!make_plan(c, &plan, error))
        return false;
    const uint64_t sectors = c->size / BLOCK_SECTOR;
    struct header h = {
        .version = htole32(VERSION),
        .heads = htole32(HEADS),
        .cylinders = htole32((uint32_t)MIN(sectors / (HEADS * SECTORS_PER_TRACK), UINT32_MAX)),
        .cluster = htole32((uint32_t)(plan.cluster / BLOCK_SECTOR)),
        .entries = htole32((uint32_t)plan.entries),
        .size_low = htole32((uint32_t)sectors),
        .size_high = htole32((uint32_t)(sectors >> 32)),
        .data = htole32((uint32_t)(plan.data / BLOCK_SECTOR)),
    };
    memcpy(h.magic, magic_clusters, sizeof(h.magic));
    int status = c->file->facts.growable           ? block_resize(c->file, plan.data)
                 : plan.data > c->file->facts.size ? -ENOSPC
                                                   : block_zero(c->file, 0, plan.data, 0);
    if (!status)
        status = block_pwrite(c->file, &h, sizeof(h), 0);
    if (!status)
        status = block_flush(c->file);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot make it: %s", c->name, g_strerror(-status));
}

static bool parallels_measure(const struct block_create *c, struct disk *source, struct block_measure *out,
                              GError **error)
{
    struct plan plan;
    uint64_t used = 0;
    if (!make_plan(c, &plan, error))
        return false;
    int status = source ? block_image_used(source, (uint32_t)plan.cluster, &used) : 0;
    out->required = plan.data + used;
    out->full = plan.data + plan.entries * plan.cluster;
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", source->name, g_strerror(-status));
}

static bool parallels_info(struct disk *b, struct block_image_info *info, GError **error)
{
    (void)error;
    *info = (struct block_image_info){.cluster = parallels(b)->places.block, .dirty = parallels(b)->dirty};
    return true;
}

static bool parallels_looks_like(const uint8_t *head, size_t size)
{
    return size >= sizeof(struct header) && (!memcmp(head, magic_sectors, sizeof(magic_sectors) - 1) ||
                                             !memcmp(head, magic_clusters, sizeof(magic_clusters) - 1));
}

static const struct block_image image = {
    .create_options = create_options,
    .create_options_size = sizeof(struct create_options),
    .looks_like = parallels_looks_like,
    .create = parallels_create,
    .measure = parallels_measure,
    .info = parallels_info,
    .check = parallels_check,
    .resize = places_image_resize,
};

const struct block_driver block_driver_parallels = {
    .name = "parallels",
    .help = "expandable disks of Parallels Desktop",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct parallels),
    .open = parallels_open,
    .close = parallels_close,
    .read = parallels_read,
    .write = parallels_write,
    .flush = parallels_flush,
    .discard = parallels_discard,
    .zero = parallels_zero,
    .extent = parallels_extent,
    .resize = parallels_resize,
    .image = &image,
};
