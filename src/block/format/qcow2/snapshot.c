/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Internal snapshots of a qcow2 image: listed, made, applied, deleted, and read instead of the disk. */
/*
 * Theory of operation
 *
 * A snapshot is a row of a table and a copy of the L1 table; share.c tells how clusters are shared. Each
 * change comes down to one write of the header's first sector, which holds the places of both tables and the
 * disk's size. What the new state needs is written and made durable before it, what only the old one needed
 * is given back after it:
 *
 *   make    before: references + 1, flags cleared, a copy of L1, the new table
 *           after: the old table
 *   apply   before: references of the snapshot + 1, a copy of its L1
 *           after: references of the disk - 1, its old L1
 *   delete  before: the new table
 *           after: references of the snapshot - 1, its L1, the old table; flags set
 *
 * So a cut of power leaves the old state or the new one, and at most clusters that are counted too often.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "block/format/qcow2/bitmap_int.h"
#include "block/format/qcow2/snapshot_int.h"

enum { TEXT_MAX = 65535 /* bytes of a name */ };

static bool tell(struct qcow2 *q, const char *what, int status, GError **error)
{
    if (status == -ERANGE)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: cannot %s: refcounts of %u bits allow no more references to a cluster",
                           q->disk.name, what, 1u << q->refcount_order);
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot %s: %s", q->disk.name, what,
                       g_strerror(-status));
}

/* --- looking --- */

guint qcow2_snapshot_index(const GPtrArray *all, const char *which)
{
    for (guint i = 0; i < all->len; i++)
        if (!strcmp(((const struct qcow2_snapshot *)all->pdata[i])->id, which))
            return i;
    for (guint i = 0; i < all->len; i++)
        if (!strcmp(((const struct qcow2_snapshot *)all->pdata[i])->name, which))
            return i;
    return all->len;
}

static bool find_one(struct qcow2 *q, const GPtrArray *all, const char *which, guint *index, GError **error)
{
    *index = qcow2_snapshot_index(all, which);
    return *index < all->len ||
           hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "%s: has no snapshot \"%s\" among its %u; see `hostel image snapshot`", q->disk.name,
                       which, all->len);
}

GPtrArray *qcow2_snapshots(struct disk *b, GError **error)
{
    uint64_t size;
    g_autoptr(GPtrArray) all = qcow2_snapshots_read(qcow2(b), &size, error);
    if (!all)
        return NULL;
    GPtrArray *out = g_ptr_array_new_with_free_func((GDestroyNotify)block_snapshot_free);
    for (guint i = 0; i < all->len; i++) {
        const struct qcow2_snapshot *s = all->pdata[i];
        struct block_snapshot *o = g_new(struct block_snapshot, 1);
        *o = (struct block_snapshot){.id = g_strdup(s->id),
                                     .name = g_strdup(s->name),
                                     .disk_size = s->disk_size,
                                     .vm_state_size = s->vm_state_size,
                                     .seconds = s->seconds,
                                     .nanoseconds = s->nanoseconds,
                                     .vm_clock = s->vm_clock,
                                     .icount = s->icount};
        g_ptr_array_add(out, o);
    }
    return out;
}

bool qcow2_snapshot_enter(struct qcow2 *q, const char *which, GError **error)
{
    uint64_t size;
    guint i;
    g_autoptr(GPtrArray) all = qcow2_snapshots_read(q, &size, error);
    if (!all || !find_one(q, all, which, &i, error))
        return false;
    const struct qcow2_snapshot *s = all->pdata[i];
    if (!q->disk.facts.readonly)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: a snapshot can only be read; open it read-only, or apply it first",
                           q->disk.name);
    q->header.l1_offset = s->l1_offset;
    q->header.l1_size = s->l1_size;
    q->header.size = s->disk_size;
    return true;
}

/* --- what all changes share --- */

/* Everything is in the file, and nothing waits to be freed. */
static int settle(struct qcow2 *q)
{
    int status = qcow2_sync_all(q);
    return status ? status : atomic_load(&q->failed);
}

/* What the header's sector says from now on. */
struct turn {
    uint64_t snapshots_offset, size, l1_offset;
    uint32_t n_snapshots, l1_size;
};

static struct turn as_it_is(const struct qcow2 *q)
{
    const struct qcow2_header *h = &q->header;
    return (struct turn){h->snapshots_offset, h->size, h->l1_offset, h->n_snapshots, h->l1_size};
}

static void set(struct qcow2 *q, const struct turn *t)
{
    struct qcow2_header *h = &q->header;
    h->snapshots_offset = t->snapshots_offset;
    h->size = t->size;
    h->l1_offset = t->l1_offset;
    h->n_snapshots = t->n_snapshots;
    h->l1_size = t->l1_size;
}

/* The one moment. When the write fails nobody knows which of both the file has, so nothing is written any
 * more. */
static int turn(struct qcow2 *q, const struct turn *to)
{
    const struct turn before = as_it_is(q);
    int status = block_flush(q->file);
    if (status)
        return status;
    pthread_mutex_lock(&q->meta);
    set(q, to);
    status = qcow2_header_update_locked(q);
    if (status) {
        set(q, &before);
        (void)qcow2_fail(q, status);
    }
    pthread_mutex_unlock(&q->meta);
    return status;
}

/* A copy of L1 in new clusters, not yet flushed. */
static int write_l1(struct qcow2 *q, const uint64_t *l1, uint32_t size, uint64_t *offset)
{
    const uint64_t room = align_up(MAX((uint64_t)size * 8, 1), q->cluster);
    g_autofree uint64_t *copy = g_try_malloc0(room);
    if (!copy)
        return -ENOMEM;
    for (uint32_t i = 0; i < size; i++)
        copy[i] = l1[i] & ~QCOW2_COPIED;
    int status = qcow2_space_take(q, room, offset);
    if (status)
        return status;
    status = qcow2_numbers_store(q->file, *offset, copy, room / 8);
    if (status)
        qcow2_space_untake(q, *offset, room);
    return status;
}

/* The disk's own L1, as plain numbers; owned. */
static uint64_t *copy_l1(struct qcow2 *q)
{
    uint64_t *l1 = g_try_malloc0_n(MAX(q->header.l1_size, 1), 8);
    for (uint32_t i = 0; l1 && i < q->header.l1_size; i++)
        l1[i] = q->l1[i];
    return l1;
}

static bool check_can(struct qcow2 *q, GError **error)
{
    if (q->external)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: its data are in a file of their own, which has no snapshots", q->disk.name);
    if (q->disk.facts.readonly)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: is open read-only", q->disk.name);
    return true;
}

/* --- making --- */

static char *new_id(const GPtrArray *all)
{
    uint64_t most = 0;
    for (guint i = 0; i < all->len; i++) {
        const uint64_t id = g_ascii_strtoull(((const struct qcow2_snapshot *)all->pdata[i])->id, NULL, 10);
        if (id != UINT64_MAX)
            most = MAX(most, id);
    }
    return g_strdup_printf("%" PRIu64, most + 1);
}

static struct qcow2_snapshot *new_row(struct qcow2 *q, const GPtrArray *all,
                                      const struct block_snapshot *info)
{
    struct timespec now;
    struct qcow2_snapshot *s = g_new0(struct qcow2_snapshot, 1);
    clock_gettime(CLOCK_REALTIME, &now);
    s->id = new_id(all);
    s->name = g_strdup(info->name);
    s->vm_state_size = info->vm_state_size;
    s->vm_clock = info->vm_clock;
    s->seconds = (uint32_t)now.tv_sec;
    s->nanoseconds = (uint32_t)now.tv_nsec;
    s->disk_size = q->header.size;
    s->icount = UINT64_MAX;
    s->l1_size = q->header.l1_size;
    return s;
}

/* The clusters of what the disk has now belong to two. */
static int share(struct qcow2 *q, const uint64_t *l1)
{
    int status = qcow2_share_add(q, l1, q->header.l1_size);
    if (status)
        return status;
    status = qcow2_share_flags(q);
    if (!status)
        return 0;
    (void)qcow2_share_drop(q, l1, q->header.l1_size);
    return status;
}

static void undo_share(struct qcow2 *q, const uint64_t *l1)
{
    if (!qcow2_share_drop(q, l1, q->header.l1_size))
        (void)qcow2_share_flags(q);
}

/* Writes what a table with the new row needs, and turns to it. */
static int add_row(struct qcow2 *q, GPtrArray *all, struct qcow2_snapshot *s, const uint64_t *l1)
{
    struct turn to = as_it_is(q);
    uint64_t size;
    int status = write_l1(q, l1, s->l1_size, &s->l1_offset);
    if (status)
        return status;
    status = qcow2_snapshots_write(q, all, &to.snapshots_offset, &size);
    if (status) {
        qcow2_space_untake(q, s->l1_offset, MAX((uint64_t)s->l1_size * 8, 1));
        return status;
    }
    to.n_snapshots = all->len;
    status = qcow2_sync(q); /* the refcounts of both */
    return status ? status : turn(q, &to);
}

bool qcow2_snapshot_create(struct disk *b, const char *name, GError **error)
{
    const struct block_snapshot info = {.name = (char *)(uintptr_t)name};
    return qcow2_snapshot_save(b, &info, error);
}

bool qcow2_snapshot_save(struct disk *b, const struct block_snapshot *info, GError **error)
{
    struct qcow2 *q = qcow2(b);
    const char *name = info->name;
    uint64_t old_size;
    if (!check_can(q, error))
        return false;
    if (!*name || strlen(name) > TEXT_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: a snapshot's name has 1 to %d bytes", b->name,
                           TEXT_MAX);
    int status = settle(q);
    if (status)
        return tell(q, "make the snapshot", status, error);
    const uint64_t old = q->header.snapshots_offset;
    g_autoptr(GPtrArray) all = qcow2_snapshots_read(q, &old_size, error);
    g_autofree uint64_t *l1 = copy_l1(q);
    if (!all)
        return false;
    if (qcow2_snapshot_index(all, name) < all->len)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: has a snapshot \"%s\" already", b->name, name);
    if (all->len >= QCOW2_SNAPSHOTS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: has %d snapshots, which is the most", b->name,
                           QCOW2_SNAPSHOTS_MAX);
    struct qcow2_snapshot *s = new_row(q, all, info);
    g_ptr_array_add(all, s);
    status = l1 ? share(q, l1) : -ENOMEM;
    if (status)
        return tell(q, "make the snapshot", status, error);
    status = add_row(q, all, s, l1);
    if (status) {
        undo_share(q, l1);
        return tell(q, "make the snapshot", status, error);
    }
    if (old_size)
        qcow2_space_free(q, old, old_size);
    status = settle(q);
    return !status || tell(q, "give back what the snapshot replaced", status, error);
}

/* --- applying --- */

/* The snapshot's L1 with room for a disk of its size; what the disk is after. */
static int write_applied(struct qcow2 *q, const struct qcow2_snapshot *s, const uint64_t *l1, struct turn *to)
{
    *to = as_it_is(q);
    to->size = s->disk_size;
    to->l1_size = s->l1_size;
    int status = write_l1(q, l1, s->l1_size, &to->l1_offset);
    if (status)
        return status;
    status = qcow2_sync(q);
    if (status)
        qcow2_space_untake(q, to->l1_offset, MAX((uint64_t)s->l1_size * 8, 1));
    return status;
}

/* After the turn: memory follows, and what the disk had before goes. It is applied; what goes wrong here
 * leaves leaks, or stops the disk, which the next operation tells. */
static void leave_old(struct qcow2 *q, const uint64_t *old, const struct turn *before, struct qcow2_l1 *l1)
{
    qcow2_l1_adopt(q, l1);
    q->disk.facts.size = q->header.size;
    if (qcow2_share_drop(q, old, before->l1_size))
        return;
    if (before->l1_size)
        qcow2_space_free(q, before->l1_offset, (uint64_t)before->l1_size * 8);
    (void)settle(q);
}

static int apply(struct qcow2 *q, const struct qcow2_snapshot *s)
{
    const struct turn before = as_it_is(q);
    struct turn to;
    struct qcow2_l1 next = {0};
    g_autofree uint64_t *old = copy_l1(q), *l1 = NULL;
    int status = old ? qcow2_share_load(q, s->l1_offset, s->l1_size, &l1) : -ENOMEM;
    if (!status)
        status = qcow2_share_check(q, old, before.l1_size);
    if (!status)
        status = qcow2_share_add(q, l1, s->l1_size);
    if (status)
        return status;
    status = write_applied(q, s, l1, &to);
    if (!status && (status = qcow2_l1_prepare(q, to.l1_offset, to.l1_size, &next)))
        qcow2_space_untake(q, to.l1_offset, MAX((uint64_t)to.l1_size * 8, 1));
    if (!status && !(status = turn(q, &to))) {
        leave_old(q, old, &before, &next);
        return 0;
    }
    qcow2_l1_clear(&next);
    (void)qcow2_share_drop(q, l1, s->l1_size);
    return status;
}

bool qcow2_snapshot_apply(struct disk *b, const char *which, GError **error)
{
    struct qcow2 *q = qcow2(b);
    uint64_t size;
    guint i;
    if (!check_can(q, error))
        return false;
    int status = settle(q);
    if (status)
        return tell(q, "apply the snapshot", status, error);
    g_autoptr(GPtrArray) all = qcow2_snapshots_read(q, &size, error);
    if (!all || !find_one(q, all, which, &i, error))
        return false;
    const struct qcow2_snapshot *s = all->pdata[i];
    if (q->bitmaps && q->bitmaps->all->len && s->disk_size != q->header.size)
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: snapshot \"%s\" has another size, which its bitmaps cannot follow; remove them first",
            b->name, which);
    if (q->bitmaps)
        status = q->bitmaps_mark(q, 0, q->header.size);
    if (!status)
        status = apply(q, s);
    return !status || tell(q, "apply the snapshot", status, error);
}

/* --- deleting --- */

static int remove_row(struct qcow2 *q, GPtrArray *all, guint i)
{
    struct turn to = as_it_is(q);
    uint64_t size;
    struct qcow2_snapshot *s = g_ptr_array_steal_index(all, i);
    int status = qcow2_snapshots_write(q, all, &to.snapshots_offset, &size);
    g_ptr_array_insert(all, (gint)i, s);
    if (status)
        return status;
    to.n_snapshots = all->len - 1;
    status = qcow2_sync(q);
    if (status && size)
        qcow2_space_untake(q, to.snapshots_offset, size);
    return status ? status : turn(q, &to);
}

bool qcow2_snapshot_delete(struct disk *b, const char *which, GError **error)
{
    struct qcow2 *q = qcow2(b);
    uint64_t old_size;
    guint i;
    g_autofree uint64_t *l1 = NULL;
    if (!check_can(q, error))
        return false;
    int status = settle(q);
    if (status)
        return tell(q, "delete the snapshot", status, error);
    const uint64_t old = q->header.snapshots_offset;
    g_autoptr(GPtrArray) all = qcow2_snapshots_read(q, &old_size, error);
    if (!all || !find_one(q, all, which, &i, error))
        return false;
    const struct qcow2_snapshot *s = all->pdata[i];
    status = qcow2_share_load(q, s->l1_offset, s->l1_size, &l1);
    if (!status)
        status = qcow2_share_check(q, l1, s->l1_size);
    if (!status)
        status = remove_row(q, all, i);
    if (status)
        return tell(q, "delete the snapshot", status, error);
    /* From here on it is deleted; what goes wrong leaves leaks. */
    if (s->l1_size)
        qcow2_space_free(q, s->l1_offset, (uint64_t)s->l1_size * 8);
    qcow2_space_free(q, old, old_size);
    status = qcow2_share_drop(q, l1, s->l1_size);
    if (!status)
        status = settle(q);
    if (!status)
        status = qcow2_share_flags(q);
    return !status || tell(q, "give back what the snapshot had; check the image for leaks", status, error);
}

/* --- completing --- */

/* Is there a row without what version 3 asks for: the size of the disk? */
static bool is_short(const GPtrArray *all)
{
    enum { EXTRA_V3 = 16 };
    for (guint i = 0; i < all->len; i++)
        if (((const struct qcow2_snapshot *)all->pdata[i])->extra_size < EXTRA_V3)
            return true;
    return false;
}

bool qcow2_snapshots_complete(struct qcow2 *q, GError **error)
{
    struct turn to = as_it_is(q);
    const uint64_t old = to.snapshots_offset;
    uint64_t old_size, size;
    g_autoptr(GPtrArray) all = qcow2_snapshots_read(q, &old_size, error);
    if (!all || !is_short(all))
        return all != NULL;
    int status = qcow2_snapshots_write(q, all, &to.snapshots_offset, &size); /* complete, always */
    if (status)
        return tell(q, "complete its snapshots", status, error);
    status = qcow2_sync(q);
    if (status)
        qcow2_space_untake(q, to.snapshots_offset, size);
    else
        status = turn(q, &to);
    if (status)
        return tell(q, "complete its snapshots", status, error);
    qcow2_space_free(q, old, old_size);
    status = settle(q);
    return !status || tell(q, "complete its snapshots", status, error);
}
