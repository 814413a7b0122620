/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* An image that was opened read-only is opened again, for a job that writes to it. */
/*
 * What a guest's image lies over may belong to other guests, too, so it is opened read-only, and the guest's
 * process has no descriptor through which it could write. Whoever wants it written hands one in for the time
 * of a job. The image is opened a second time over that, and takes the place of the first under everything
 * that lies on the node; and so it goes back.
 */
#include <fcntl.h>

#include "base/error.h"
#include "block/file.h"
#include "block/filter/edge.h"
#include "os/fd.h"
#include "vm/nodes_int.h"

/* All that leads to the node leads to its new disk. */
static void turn_all(const struct vm_node *node)
{
    const struct vm_nodes *n = node->nodes;
    for (guint i = 0; i < n->all->len; i++) {
        const struct vm_node *other = n->all->pdata[i];
        if (other->backing && other->backing->to == node)
            block_edge_turn(other->backing->edge, node->disk);
        if (other->file && other->file->to == node)
            block_edge_turn(other->file->edge, node->disk);
    }
    for (guint i = 0; i < n->devices->len; i++) {
        const struct vm_device *d = n->devices->pdata[i];
        if (d->node == node)
            block_root_turn(d->root, node->disk);
    }
}

/* The file's locks are those of fd. */
static bool open_again(struct vm_node *node, int fd, bool readonly, GError **error)
{
    struct vm_link *backing = node->backing ? vm_link_new(node->nodes, node->backing->to) : NULL;
    struct block_config config = {
        .name = node->disk->name, .fd = fd, .base = backing ? backing->edge : NULL, .readonly = readonly};
    struct disk *before = node->disk, *now = block_open(node->driver, &config, error); /* takes the link */
    if (!now)
        return false;
    if (now->facts.size != before->facts.size || now->facts.alignment > before->facts.alignment) {
        block_free(now);
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "node '%s': its image has become another one",
                           node->name);
    }
    node->disk = now;
    node->backing = backing;
    if (backing)
        backing->from = node;
    turn_all(node);
    block_free(before); /* with its link */
    return true;
}

bool vm_node_reopen(struct vm_node *node, int fd, bool readonly, GError **error)
{
    AUTO_FD own = fd;
    if (node->file)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "node '%s' lies on the node '%s', and cannot be opened for writing", node->name,
                           node->file->to->name);
    struct vm_device *d = vm_node_device_above(node);
    if (d)
        block_root_close(d->root);
    bool done = block_file_yield(node->disk, own, readonly, error);
    if (done && !open_again(node, fcntl(own, F_DUPFD_CLOEXEC, 3), readonly, error)) {
        block_file_return(node->disk, own);
        done = false;
    }
    if (d)
        block_root_open(d->root);
    return done;
}
