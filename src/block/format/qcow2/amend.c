/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Changing what kind of qcow2 an image is: its version, and whether refcounts are lazy. */
/*
 * Version 3 can say everything that version 2 can. The other way, what version 2 has no words for must go
 * first: zero clusters become what the base does not hide, or clusters of zeroes. That is the same disk at
 * any moment, so only the header's change at the end is one, and it is one write.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "block/format/qcow2/snapshot_int.h"
#include "block/scratch.h"

#define ROW(field, word, choices, text)                                                                      \
    {                                                                                                        \
        .name = word, .arg = "VALUE", .choice = choices, .help = text, .type = OPTION_TEXT,                  \
        .who = OPTION_CLI, .offset = offsetof(struct qcow2_amend_options, field)                             \
    }

const struct option_row qcow2_amend_rows[] = {
    ROW(compat, "compat", "0.10|1.1|v2|v3", "version 2 (0.10) or 3 (1.1)"),
    ROW(lazy_refcounts, "lazy_refcounts", "on|off", "write reference counts when closing"),
    {0},
};

static bool tell(struct qcow2 *q, int status, GError **error)
{
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be amended: %s", q->disk.name,
                                  g_strerror(-status));
}

/* --- zero clusters --- */

/* A piece that reads as zeroes by an entry that says so. */
static int expand(struct qcow2 *q, uint64_t guest, uint64_t size)
{
    if (!q->header.backing && !q->base)
        return qcow2_drop_clusters(q, guest, size, false, false);
    return qcow2_write_zeroes(q, guest, size, 0);
}

static int expand_all(struct qcow2 *q)
{
    const uint64_t end = align_up(q->header.size, q->cluster);
    int status = 0;
    for (uint64_t at = 0; at < end && !status;) {
        struct qcow2_map m;
        const unsigned epoch = qcow2_enter(q);
        status = qcow2_lookup(q, at, end - at, 0, &m);
        qcow2_leave(q, epoch);
        if (!status && m.kind == QCOW2_KIND_ZERO)
            status = expand(q, at, m.size);
        at += m.size;
    }
    return status;
}

/* --- the version --- */

static bool is_old(const char *compat)
{
    return !strcmp(compat, "0.10") || !strcmp(compat, "v2");
}

static bool check_old(struct qcow2 *q, GError **error)
{
    const struct qcow2_header *h = &q->header;
    const char *what = h->refcount_order != 4 ? "refcounts that are not of 16 bits"
                       : h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2 ? "extended L2 entries"
                       : h->incompatible & QCOW2_INCOMPATIBLE_DATA_FILE   ? "an external data file"
                       : h->incompatible & QCOW2_INCOMPATIBLE_COMPRESSION ? "compression by zstd"
                       : h->autoclear & QCOW2_AUTOCLEAR_BITMAPS           ? "bitmaps"
                       : h->n_snapshots ? "snapshots, which may have what version 2 cannot say"
                                        : NULL;
    return !what || hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: cannot become version 2: it has %s",
                                q->disk.name, what);
}

static int store(struct qcow2 *q, uint32_t version, uint32_t length)
{
    q->header.version = version;
    q->header.header_length = length;
    g_clear_pointer(&q->header.more, g_free);
    int status = qcow2_header_store(q);
    return status ? qcow2_fail(q, status) : 0;
}

static int make_old(struct qcow2 *q)
{
    /* Nothing may be lazy, or dirty, on the way. */
    int status = expand_all(q);
    if (!status)
        status = qcow2_sync_all(q);
    if (status)
        return status;
    q->lazy = false;
    q->header.compatible = q->header.autoclear = q->header.incompatible = 0;
    qcow2_extension_set(&q->header, QCOW2_EXTENSION_FEATURES, NULL, 0);
    return store(q, 2, QCOW2_HEADER_V2);
}

static bool set_version(struct qcow2 *q, const char *compat, GError **error)
{
    if (is_old(compat) == (q->header.version == 2))
        return true;
    if (is_old(compat))
        return check_old(q, error) && tell(q, make_old(q), error);
    int status = qcow2_sync_all(q);
    return tell(q, status, error) && qcow2_snapshots_complete(q, error) &&
           tell(q, store(q, 3, (uint32_t)sizeof(struct qcow2_disk_header)), error);
}

/* --- all --- */

static bool set_lazy(struct qcow2 *q, bool lazy, GError **error)
{
    if (lazy && q->header.version < 3)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: lazy refcounts need compat=1.1",
                           q->disk.name);
    if (lazy == q->lazy)
        return true;
    int status = qcow2_sync_all(q);
    if (status)
        return tell(q, status, error);
    pthread_mutex_lock(&q->meta);
    q->header.compatible ^= QCOW2_COMPATIBLE_LAZY;
    status = qcow2_header_update_locked(q);
    if (!status)
        q->lazy = lazy;
    pthread_mutex_unlock(&q->meta);
    return tell(q, status, error);
}

bool qcow2_amend(struct disk *b, const void *options, GError **error)
{
    struct qcow2 *q = qcow2(b);
    static const struct qcow2_amend_options none;
    const struct qcow2_amend_options *o = options ? options : &none;
    const char *lazy = o->lazy_refcounts;
    if (b->facts.readonly)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: is open read-only", b->name);
    if (lazy && !strcmp(lazy, "off") && !set_lazy(q, false, error))
        return false;
    return (!o->compat || set_version(q, o->compat, error)) &&
           (!lazy || strcmp(lazy, "on") != 0 || set_lazy(q, true, error));
}
