/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Internal snapshots of a running guest's disks, all at one moment. */
/*
 * The guest stands and its disks are held, so taking one after the other is taking them at once. The image
 * that has the guest's state is the last to get a snapshot and the first to lose it: as long as it has none,
 * there is none, whatever other images were left with when the host lost its power.
 *
 * Applying may fail at any disk, so each but the last gets a snapshot of what it has before, to go back to.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "vm/nodes_int.h"

/* What a disk has while others are brought to a snapshot. */
#define UNDO_TAG "hostel-undo"

/* The disks that are meant, that with the state last; NULL with *error. Elements are struct vm_node. */
static GPtrArray *find_disks(struct vm_nodes *n, const struct vm_snapshot *s, GError **error)
{
    g_autoptr(GPtrArray) out = g_ptr_array_new();
    struct vm_node *state = s->vmstate ? vm_nodes_lookup(n, s->vmstate, error) : NULL;
    if (s->vmstate && !state)
        return NULL;
    for (guint i = 0; !s->disks && i < n->devices->len; i++) {
        const struct vm_device *d = n->devices->pdata[i];
        if (!d->root->facts.readonly)
            g_ptr_array_add(out, d->node);
    }
    for (unsigned i = 0; s->disks && s->disks[i]; i++) {
        struct vm_node *node = vm_nodes_lookup(n, s->disks[i], error);
        if (!node)
            return NULL;
        if (!g_ptr_array_find(out, node, NULL))
            g_ptr_array_add(out, node);
    }
    if (state) {
        g_ptr_array_remove(out, state);
        g_ptr_array_add(out, state);
    }
    if (out->len)
        return g_steal_pointer(&out);
    hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no disk to take a snapshot of that can be written to");
    return NULL;
}

/* Its snapshots; NULL with *error when its format has none. */
static GPtrArray *list(const struct vm_node *node, GError **error)
{
    const struct block_image *image = node->driver->image;
    if (image && image->snapshots && image->snapshot_save)
        return image->snapshots(node->disk, error);
    hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                "disk '%s': images of format %s have no snapshots inside; use qcow2, or overlays", node->name,
                node->driver->name);
    return NULL;
}

static const struct block_snapshot *find(const GPtrArray *all, const char *tag)
{
    for (guint i = 0; i < all->len; i++) {
        const struct block_snapshot *s = all->pdata[i];
        if (!strcmp(s->name, tag))
            return s;
    }
    return NULL;
}

/* All have it, or none does; and nobody else works on them. */
static bool check_all(const GPtrArray *disks, const char *tag, bool wanted, GError **error)
{
    for (guint i = 0; i < disks->len; i++) {
        const struct vm_node *node = disks->pdata[i];
        g_autoptr(GPtrArray) all = list(node, error);
        if (!all || !vm_node_check_free(node, "take or apply a snapshot of", error))
            return false;
        if (vm_node_parents(node) && !vm_node_device(node))
            return hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "node '%s': another image lies on it and needs it as it is", node->name);
        if ((find(all, tag) != NULL) != wanted)
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "disk '%s' has %s snapshot '%s'%s", node->name,
                               wanted ? "no" : "a", tag,
                               wanted
                                   ? "; query-named-block-nodes and qemu-img snapshot -l tell what there is"
                                   : " already; choose another name, or delete it first");
    }
    return true;
}

static void close_all(const GPtrArray *disks)
{
    for (guint i = 0; i < disks->len; i++) {
        struct vm_device *d = vm_node_device(disks->pdata[i]);
        if (d)
            block_root_close(d->root);
    }
}

static void open_all(const GPtrArray *disks)
{
    for (guint i = 0; i < disks->len; i++) {
        struct vm_device *d = vm_node_device(disks->pdata[i]);
        if (!d)
            continue;
        block_root_resized(d->root);
        block_root_open(d->root);
    }
}

static bool take(const struct vm_node *node, const struct vm_snapshot *s, bool state, GError **error)
{
    const struct block_snapshot info = {.name = (char *)(uintptr_t)s->tag,
                                        .vm_state_size = state ? s->vmstate_size : 0,
                                        .vm_clock = s->vm_clock};
    return node->driver->image->snapshot_save(node->disk, &info, error);
}

static bool clear_state(const struct vm_node *node, GError **error)
{
    int status = node->driver->image->vmstate_clear ? node->driver->image->vmstate_clear(node->disk) : 0;
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "disk '%s': cannot clear what it had of a state: %s",
                       node->name, g_strerror(-status));
}

/* If it is there. By its id, since another's id may be what this one is called. */
static bool remove_one(const struct vm_node *node, const char *tag, GError **error)
{
    g_autoptr(GPtrArray) all = list(node, error);
    const struct block_snapshot *s = all ? find(all, tag) : NULL;
    return all && (!s || node->driver->image->snapshot_delete(node->disk, s->id, error));
}

static void remove_quietly(const struct vm_node *node, const char *tag)
{
    g_autoptr(GError) error = NULL;
    if (!remove_one(node, tag, &error))
        g_clear_error(&error); /* it stays, and does no harm */
}

bool vm_snapshots_take(struct vm_nodes *n, const struct vm_snapshot *s, GError **error)
{
    g_autoptr(GPtrArray) disks = find_disks(n, s, error);
    if (!disks || !check_all(disks, s->tag, false, error))
        return false;
    guint done = 0;
    close_all(disks);
    for (; done < disks->len; done++)
        if (!take(disks->pdata[done], s, s->vmstate && done + 1 == disks->len, error))
            break;
    const bool ok = done == disks->len;
    while (!ok && done)
        remove_quietly(disks->pdata[--done], s->tag);
    if (s->vmstate) /* the snapshot has it now; or nobody */
        (void)clear_state(disks->pdata[disks->len - 1], NULL);
    open_all(disks);
    return ok;
}

static bool apply(const struct vm_node *node, const char *tag, GError **error)
{
    g_autoptr(GPtrArray) all = list(node, error);
    const struct block_snapshot *s = all ? find(all, tag) : NULL;
    if (all && !s)
        hostel_fail(error, HOSTEL_ERROR_HOST, "disk '%s' has lost its snapshot '%s'", node->name, tag);
    if (!s || !node->driver->image->snapshot_apply(node->disk, s->id, error))
        return false;
    (void)clear_state(node, NULL); /* else it takes room until the next one is written */
    return true;
}

bool vm_snapshots_apply(struct vm_nodes *n, const struct vm_snapshot *s, bool *lost, GError **error)
{
    bool none;
    lost = lost ? lost : &none;
    *lost = false;
    g_autoptr(GPtrArray) disks = find_disks(n, s, error);
    if (!disks || !check_all(disks, s->tag, true, error))
        return false;
    const struct vm_snapshot undo = {.tag = UNDO_TAG};
    guint kept = 0, done = 0;
    bool ok = true;
    close_all(disks);
    for (; ok && kept + 1 < disks->len; kept += ok) {
        remove_quietly(disks->pdata[kept], UNDO_TAG); /* left by a host that lost its power */
        ok = take(disks->pdata[kept], &undo, false, error);
    }
    for (; ok && done < disks->len; done += ok)
        ok = apply(disks->pdata[done], s->tag, error);
    /* The one that failed is as it was. */
    while (!ok && done) {
        g_autoptr(GError) worse = NULL;
        if (apply(disks->pdata[--done], UNDO_TAG, &worse))
            continue;
        *lost = true;
        g_prefix_error(error,
                       "disk '%s' cannot be brought back to what it had, which it keeps as its "
                       "snapshot '" UNDO_TAG "' (%s); before that: ",
                       ((const struct vm_node *)disks->pdata[done])->name, worse->message);
    }
    for (guint i = 0; i < kept && !*lost; i++)
        remove_quietly(disks->pdata[i], UNDO_TAG);
    open_all(disks);
    return ok;
}

bool vm_snapshots_remove(struct vm_nodes *n, const struct vm_snapshot *s, GError **error)
{
    g_autoptr(GPtrArray) disks = find_disks(n, s, error);
    if (!disks)
        return false;
    bool ok = true;
    close_all(disks);
    for (guint i = disks->len; i-- > 0;) {
        const struct vm_node *node = disks->pdata[i];
        GError **first = ok ? error : NULL;
        ok &= vm_node_check_free(node, "delete a snapshot of", first) && remove_one(node, s->tag, first);
    }
    open_all(disks);
    return ok;
}

bool vm_snapshots_check(struct vm_nodes *n, const struct vm_snapshot *s, bool wanted, GError **error)
{
    g_autoptr(GPtrArray) disks = find_disks(n, s, error);
    if (!disks || !check_all(disks, s->tag, wanted, error))
        return false;
    for (guint i = 0; i < disks->len; i++) {
        const struct vm_node *node = disks->pdata[i];
        if (node->disk->facts.readonly)
            return hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "disk '%s' is open read-only, so it has no snapshots", node->name);
    }
    return true;
}

struct block_snapshot *vm_snapshots_find(struct vm_nodes *n, const char *disk, const char *tag,
                                         GError **error)
{
    struct vm_node *node = vm_nodes_lookup(n, disk, error);
    g_autoptr(GPtrArray) all = node ? list(node, error) : NULL;
    const struct block_snapshot *s = all ? find(all, tag) : NULL;
    if (all && !s)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "disk '%s' has no snapshot '%s'", disk, tag);
    if (!s)
        return NULL;
    struct block_snapshot *out = g_memdup2(s, sizeof(*out));
    out->id = g_strdup(out->id);
    out->name = g_strdup(out->name);
    return out;
}

/* --- a guest's state --- */

int vm_vmstate_write(struct vm_nodes *n, const char *disk, const void *bytes, size_t size, uint64_t offset)
{
    const struct vm_node *node = vm_nodes_lookup(n, disk, NULL);
    if (!node)
        return -ENODEV;
    const struct block_image *image = node->driver->image;
    return !image || !image->vmstate_write ? -EOPNOTSUPP
           : node->job                     ? -EBUSY
                                           : image->vmstate_write(node->disk, bytes, size, offset);
}

int vm_vmstate_read(struct vm_nodes *n, const char *disk, const char *id, void *bytes, size_t size,
                    uint64_t offset)
{
    const struct vm_node *node = vm_nodes_lookup(n, disk, NULL);
    if (!node)
        return -ENODEV;
    const struct block_image *image = node->driver->image;
    return image && image->vmstate_read ? image->vmstate_read(node->disk, id, bytes, size, offset)
                                        : -EOPNOTSUPP;
}

void vm_vmstate_drop(struct vm_nodes *n, const char *disk)
{
    const struct vm_node *node = vm_nodes_lookup(n, disk, NULL);
    if (node && node->driver->image)
        (void)clear_state(node, NULL);
}

void vm_vmstate_busy(struct vm_nodes *n, const char *why)
{
    n->busy = why;
}
