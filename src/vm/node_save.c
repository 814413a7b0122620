/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What saving a guest asks of its disks: standing still, and going on in overlays. */
#include "base/error.h"
#include "block/file.h"
#include "vm/nodes_int.h"

/* --- standing still --- */

bool vm_disks_flush(struct vm_nodes *n, GError **error)
{
    for (guint i = 0; i < n->devices->len; i++) {
        struct vm_device *d = n->devices->pdata[i];
        int status = block_flush(d->root);
        if (status)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "disk %s: cannot make what it has durable: %s",
                               d->id, g_strerror(-status));
    }
    return true;
}

void vm_disks_hold(struct vm_nodes *n)
{
    n->holds++;
    for (guint i = 0; i < n->devices->len; i++) {
        struct vm_device *d = n->devices->pdata[i];
        d->holds++;
        block_root_hold(d->root);
    }
}

void vm_disks_release(struct vm_nodes *n)
{
    g_assert(n->holds);
    n->holds--;
    for (guint i = 0; i < n->devices->len; i++) {
        struct vm_device *d = n->devices->pdata[i];
        if (!d->holds)
            continue;
        d->holds--;
        block_root_release(d->root);
    }
}

/* --- the size --- */

static void open_again(struct vm_device *d)
{
    if (!d)
        return;
    block_root_resized(d->root);
    block_root_open(d->root);
}

bool vm_node_resize(struct vm_nodes *n, const char *id, uint64_t size, GError **error)
{
    struct vm_node *node = vm_nodes_lookup(n, id, error);
    if (!node || !vm_node_check_free(node, "resize", error))
        return false;
    struct vm_device *d = vm_node_device(node);
    if (vm_node_parents(node) && !d)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "node '%s': another image lies on it; resize that one",
                           node->name);
    if (size % BLOCK_SECTOR || size > INT64_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "size: must be a multiple of %d bytes", BLOCK_SECTOR);
    if (d)
        block_root_close(d->root);
    int status = block_resize(node->disk, size);
    if (!status)
        status = block_flush(node->disk);
    open_again(d);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "node '%s': cannot resize it: %s", node->name,
                                  g_strerror(-status));
}

/* --- overlays --- */

struct turn {
    struct vm_device *device;
    struct vm_node *overlay;
};

static bool check_overlay(const struct vm_device *d, const struct vm_node *overlay, GError **error)
{
    const struct vm_node *node = d->node;
    if (!vm_node_check_free(node, "make a snapshot of", error) ||
        !vm_node_check_free(overlay, "use as an overlay", error))
        return false;
    if (overlay == node || vm_node_parents(overlay))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "node '%s' is in use: a disk or another image lies on it; use one of its own",
                           overlay->name);
    if (!overlay->backing)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "node '%s': images of format %s lie over no other; make the overlay a qcow2",
                           overlay->name, overlay->driver->name);
    if (overlay->backing->to)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "node '%s' lies over '%s' already; add it with \"backing\": null", overlay->name,
                           overlay->backing->to->name);
    if (overlay->disk->facts.readonly && !d->root->facts.readonly)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "node '%s' is read-only, and the guest writes to '%s'; add it with \"read-only\": "
                           "false",
                           overlay->name, d->id);
    if (overlay->disk->facts.size != d->root->facts.size)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "node '%s' has a disk of %" G_GUINT64_FORMAT
                           " bytes, and '%s' one of %" G_GUINT64_FORMAT "; make it of the same size",
                           overlay->name, (guint64)overlay->disk->facts.size, d->id,
                           (guint64)d->root->facts.size);
    if (MAX(node->disk->facts.alignment, overlay->disk->facts.alignment) >
        MAX(overlay->disk->facts.alignment, (uint32_t)BLOCK_SECTOR))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "node '%s' takes pieces of %u bytes, too large for what lies over it", node->name,
                           (unsigned)node->disk->facts.alignment);
    return vm_node_depth(node) < VM_CHAIN_MAX ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "disk %s: %d images lie over each other, which is the most; merge some with "
                       "block-commit, or with 'hostel snapshot merge'",
                       d->id, VM_CHAIN_MAX);
}

static bool find_turns(struct vm_nodes *n, const struct vm_disk_switch *s, unsigned count, struct turn *turns,
                       GError **error)
{
    for (unsigned i = 0; i < count; i++) {
        turns[i].device = vm_device_find(n, s[i].disk, error);
        turns[i].overlay = turns[i].device ? vm_nodes_lookup(n, s[i].overlay, error) : NULL;
        if (!turns[i].overlay || !check_overlay(turns[i].device, turns[i].overlay, error))
            return false;
        for (unsigned k = 0; k < i; k++)
            if (turns[k].device == turns[i].device || turns[k].overlay == turns[i].overlay)
                return hostel_fail(error, HOSTEL_ERROR_USAGE,
                                   "disk %s and its overlay %s can each be named once", s[i].disk,
                                   s[i].overlay);
    }
    return true;
}

/* The overlay takes over; what it lies over was flushed. Closed. Of this nothing can fail. */
static void turn(const struct turn *t)
{
    struct vm_device *d = t->device;
    block_file_share(d->node->disk);
    vm_link_turn(t->overlay->backing, d->node);
    vm_device_turn(d, t->overlay);
}

bool vm_disks_switch(struct vm_nodes *n, const struct vm_disk_switch *s, unsigned count, GError **error)
{
    g_autofree struct turn *turns = g_new0(struct turn, count + 1);
    bool ok = true;
    if (!find_turns(n, s, count, turns, error))
        return false;
    /* Most of it is flushed while the guest goes on. */
    for (unsigned i = 0; i < count; i++)
        block_flush(turns[i].device->root);
    for (unsigned i = 0; i < count; i++)
        block_root_close(turns[i].device->root);
    for (unsigned i = 0; i < count && ok; i++) {
        int status = block_flush(turns[i].device->node->disk);
        if (status)
            ok = hostel_fail(error, HOSTEL_ERROR_HOST, "disk %s: cannot make what it has durable: %s",
                             s[i].disk, g_strerror(-status));
    }
    for (unsigned i = 0; i < count && ok; i++)
        turn(&turns[i]);
    for (unsigned i = 0; i < count; i++)
        block_root_open(turns[i].device->root);
    return ok;
}
