/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Format qcow2: opening and closing, and the row of drivers.def. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "block/format/qcow2/qcow2_int.h"

/* Most bytes of tables in memory. */
enum { L2_BYTES = 32 << 20, BLOCK_BYTES = 16 << 20 };

static bool no_memory(const struct qcow2 *q, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: qcow2: the host has not enough memory for its tables",
                       q->disk.name);
}

/* --- what follows from the header --- */

static void derive(struct qcow2 *q)
{
    const struct qcow2_header *h = &q->header;
    const bool extended = h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2;
    q->cluster_bits = h->cluster_bits;
    q->cluster = UINT32_C(1) << h->cluster_bits;
    q->entry_words = extended ? 2 : 1;
    q->l2_bits = h->cluster_bits - (extended ? 4 : 3);
    q->unit_bits = h->cluster_bits - (extended ? QCOW2_SUBCLUSTER_BITS : 0);
    q->refcount_order = h->refcount_order;
    q->block_bits = h->cluster_bits + 3 - h->refcount_order;
    q->lazy = h->version >= 3 && h->compatible & QCOW2_COMPATIBLE_LAZY;
    q->fresh_ends = q->file->facts.growable;
    q->fresh_from = align_up(q->file->facts.size, q->cluster) >> q->cluster_bits;
}

static void set_facts(struct qcow2 *q)
{
    struct block_facts *f = &q->disk.facts;
    f->size = q->header.size;
    f->alignment = MAX(q->file->facts.alignment, q->data->facts.alignment);
    if (q->base)
        f->alignment = MAX(f->alignment, q->base->facts.alignment);
    if (q->crypto)
        f->alignment = MAX(f->alignment, (uint32_t)BLOCK_SECTOR);
    f->preferred = f->granularity = f->cluster = q->cluster;
}

/* --- bits that decide how it may be opened --- */

static bool check_state(struct qcow2 *q, const struct block_config *config, GError **error)
{
    if (!(q->header.incompatible & QCOW2_INCOMPATIBLE_CORRUPT) || q->disk.facts.readonly ||
        config->flags & BLOCK_OPEN_REPAIR)
        return true;
    return hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s: qcow2: was found to be damaged, so it can only be read; repair it: hostel image "
                       "check -r all %s",
                       q->disk.name, q->disk.name);
}

static bool open_data(struct qcow2 *q, struct block_config *config, GError **error)
{
    q->data = q->file;
    if (!(q->header.incompatible & QCOW2_INCOMPATIBLE_DATA_FILE))
        return true;
    g_autofree char *name = qcow2_extension_text(&q->header, QCOW2_EXTENSION_DATA_FILE);
    if (!config->refs)
        return hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s: qcow2: its data is in another file, %s, and an image opens no file by itself; "
            "allow it",
            q->disk.name, name ? name : "whose name it does not say");
    if (!name)
        return hostel_fail(
            error, HOSTEL_ERROR_INPUT,
            "%s: qcow2: its data is in another file, whose name it does not say; the image is damaged",
            q->disk.name);
    q->external = true;
    q->data = config->refs->open(config->refs, BLOCK_REF_DATA, name, NULL, q->disk.facts.readonly, error);
    return q->data != NULL;
}

static bool open_base(struct qcow2 *q, struct block_config *config, GError **error)
{
    g_autofree char *format = qcow2_extension_text(&q->header, QCOW2_EXTENSION_BACKING_FORMAT);
    if (!q->header.backing && !config->base)
        return true;
    return block_open_base(config, q->header.backing, format, &q->base, error);
}

/* --- tables --- */

int qcow2_l1_prepare(struct qcow2 *q, uint64_t offset, uint32_t n, struct qcow2_l1 *l1)
{
    l1->entry = g_try_malloc0_n(MAX(n, 1), 8);
    l1->dirty = g_try_malloc0_n(n / 64 / 64 + 1, 8);
    int status = l1->entry && l1->dirty ? qcow2_numbers_load(q->file, offset, l1->entry, n) : -ENOMEM;
    if (!status && q->l2.slot)
        status = qcow2_cache_grow(&q->l2, n);
    if (status)
        qcow2_l1_clear(l1);
    return status;
}

void qcow2_l1_clear(struct qcow2_l1 *l1)
{
    g_free(l1->entry);
    g_free(l1->dirty);
    *l1 = (struct qcow2_l1){0};
}

void qcow2_l1_adopt(struct qcow2 *q, struct qcow2_l1 *l1)
{
    if (q->l2.slot)
        qcow2_cache_drop(&q->l2);
    g_free((void *)(uintptr_t)q->l1);
    g_free(q->l1_dirty);
    q->l1 = (void *)STEAL(l1->entry);
    q->l1_dirty = STEAL(l1->dirty);
    q->l1_changed = false;
}

int qcow2_l1_reload(struct qcow2 *q)
{
    struct qcow2_l1 l1;
    int status = qcow2_l1_prepare(q, q->header.l1_offset, q->header.l1_size, &l1);
    if (!status)
        qcow2_l1_adopt(q, &l1);
    return status;
}

static int load_reftable(struct qcow2 *q)
{
    const uint64_t n = (uint64_t)q->header.reftable_clusters << (q->cluster_bits - 3);
    q->reftable_entries = n;
    q->reftable = g_try_malloc0_n(n, 8);
    q->reftable_dirty = g_try_malloc0_n(n / 64 / 64 + 1, 8);
    if (!q->reftable || !q->reftable_dirty)
        return -ENOMEM;
    return qcow2_numbers_load(q->file, q->header.reftable_offset, q->reftable, n);
}

static bool load_tables(struct qcow2 *q, GError **error)
{
    int status = qcow2_l1_reload(q);
    if (status && status != -ENOMEM)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: qcow2: cannot read its L1 table: %s", q->disk.name,
                           g_strerror(-status));
    if (status || !qcow2_cache_init(&q->l2, q->header.l1_size, q->cluster, L2_BYTES))
        return no_memory(q, error);
    return true;
}

/* Only who writes, or checks, needs these. */
bool qcow2_refcounts_load(struct qcow2 *q, GError **error)
{
    int status = load_reftable(q);
    if (status && status != -ENOMEM)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: qcow2: cannot read its refcount table: %s",
                           q->disk.name, g_strerror(-status));
    if (status || !qcow2_cache_init(&q->blocks, q->reftable_entries, q->cluster, BLOCK_BYTES) ||
        !qcow2_owned_build(q))
        return no_memory(q, error);
    return true;
}

/* --- the beginning of writing --- */

/* Autoclear bits stand for what must be kept up with every write; what we do not know we do not keep up. */
static bool clear_unknown(struct qcow2 *q, GError **error)
{
    const uint64_t known = QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_RAW;
    if (!(q->header.autoclear & ~known))
        return true;
    q->header.autoclear &= known;
    pthread_mutex_lock(&q->meta);
    int status = qcow2_header_update_locked(q);
    pthread_mutex_unlock(&q->meta);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot write its header: %s", q->disk.name,
                                  g_strerror(-status));
}

static bool begin_writing(struct qcow2 *q, const struct block_config *config, GError **error)
{
    int status = block_pread(q->file, q->sector, sizeof(q->sector), 0);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot read it: %s", q->disk.name,
                           g_strerror(-status));
    if (!qcow2_refcounts_load(q, error))
        return false;
    /* Refcounts that were to be written later are no damage: they are made before anybody looks. */
    if (config->flags & BLOCK_OPEN_REPAIR) {
        if (q->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY)
            (void)qcow2_rebuild(q, NULL);
        return true;
    }
    if (q->owned.clash)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: qcow2: is damaged: two of its tables are at %" PRIu64
                           " of its file; check and repair it before it is written to",
                           q->disk.name, q->owned.clash << q->cluster_bits);
    if (q->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY && !qcow2_rebuild(q, error))
        return false;
    return clear_unknown(q, error) && qcow2_bitmaps_open(q, error);
}

/* --- life --- */

static void release(struct qcow2 *q)
{
    if (q->bitmaps)
        q->bitmaps_free(q);
    if (q->crypto)
        q->crypto_free(q);
    qcow2_vmstate_forget(q);
    if (q->data != q->file)
        block_free(q->data);
    block_free(q->base);
    qcow2_cache_fini(&q->l2);
    qcow2_cache_fini(&q->blocks);
    qcow2_header_clear(&q->header);
    qcow2_staged_free(q->staged);
    g_free((void *)(uintptr_t)q->l1);
    g_free(q->l1_dirty);
    g_free(q->reftable);
    g_free(q->reftable_dirty);
    g_free(q->pending.item);
    g_free(q->durable.item);
    g_free(q->owned.slot);
    pthread_cond_destroy(&q->claim_ended);
    pthread_mutex_destroy(&q->meta);
    pthread_mutex_destroy(&q->sync_lock);
}

static bool open_parts(struct qcow2 *q, struct block_config *config, GError **error)
{
    if (!qcow2_header_read(q->file, &q->header, error))
        return false;
    derive(q);
    if (!check_state(q, config, error) || !open_data(q, config, error) ||
        !qcow2_crypto_open(q, config, error) ||
        (config->snapshot && !qcow2_snapshot_enter(q, config->snapshot, error)) ||
        !open_base(q, config, error))
        return false;
    set_facts(q);
    if (!load_tables(q, error))
        return false;
    return q->disk.facts.readonly ? qcow2_bitmaps_open(q, error) : begin_writing(q, config, error);
}

bool qcow2_open(struct disk *b, struct block_config *config, GError **error)
{
    struct qcow2 *q = qcow2(b);
    q->file = q->data = b->below = STEAL(config->file);
    pthread_mutex_init(&q->sync_lock, NULL);
    pthread_mutex_init(&q->meta, NULL);
    pthread_cond_init(&q->claim_ended, NULL);
    q->opened = open_parts(q, config, error);
    if (!q->opened)
        release(q);
    return q->opened;
}

void qcow2_close(struct disk *b)
{
    struct qcow2 *q = qcow2(b);
    if (!b->facts.readonly && !atomic_load(&q->failed)) {
        int status = q->bitmaps ? q->bitmaps_store(q) : 0;
        if (!status)
            status = qcow2_sync_all(q);
        if (!status)
            status = block_flush(q->file);
        if (status)
            block_report(b, "close", 0, 0, status);
    }
    release(q);
}

static const struct block_image qcow2_image = {
    .create_options = qcow2_create_rows,
    .create_options_size = sizeof(struct qcow2_create_options),
    .looks_like = qcow2_looks_like,
    .create = qcow2_create,
    .measure = qcow2_measure,
    .info = qcow2_info,
    .check = qcow2_check,
    .resize = qcow2_image_resize,
    .set_backing = qcow2_set_backing,
    .empty = qcow2_empty,
    .amend_options = qcow2_amend_rows,
    .amend_options_size = sizeof(struct qcow2_amend_options),
    .amend = qcow2_amend,
    .snapshots = qcow2_snapshots,
    .snapshot_create = qcow2_snapshot_create,
    .snapshot_save = qcow2_snapshot_save,
    .vmstate_write = qcow2_vmstate_write,
    .vmstate_read = qcow2_vmstate_read,
    .vmstate_clear = qcow2_vmstate_clear,
    .snapshot_apply = qcow2_snapshot_apply,
    .snapshot_delete = qcow2_snapshot_delete,
    .bitmaps = qcow2_bitmaps,
    .bitmap_add = qcow2_bitmap_add,
    .bitmap_remove = qcow2_bitmap_remove,
    .bitmap_clear = qcow2_bitmap_clear,
    .bitmap_enable = qcow2_bitmap_enable,
    .bitmap_merge = qcow2_bitmap_merge,
    .bitmap_at = qcow2_bitmap_at,
};

const struct block_driver block_driver_qcow2 = {
    .name = "qcow2",
    .help = "QEMU's images, version 2 and 3",
    .kind = BLOCK_FORMAT,
    .needs_file = true,
    .size = sizeof(struct qcow2),
    .open = qcow2_open,
    .close = qcow2_close,
    .read = qcow2_read,
    .write = qcow2_write,
    .flush = qcow2_flush,
    .discard = qcow2_discard,
    .zero = qcow2_zero,
    .extent = qcow2_extent,
    .resize = qcow2_resize,
    .write_compressed = qcow2_write_compressed,
    .image = &qcow2_image,
};
