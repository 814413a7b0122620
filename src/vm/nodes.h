/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The disks of a running guest: a graph of named images, and the devices that sit on it. */
/*
 * Theory of operation
 *
 * A *node* is an open image with a name (QMP's node-name). It may lie over another node, its backing image,
 * and its bytes may lie on one, its file; what lies on a node refers to it, and it is closed when nothing
 * refers to it any more. A *device* is a disk as the guest has it; its root (block/filter/root.h) stays while
 * the nodes below are exchanged. References go through edges (block/filter/edge.h), which can be turned to
 * another node without the image above knowing.
 *
 *     virtio-blk -> root "disk0" -> node "overlay" -(edge)-> node "disk0-image" -(edge)-> node "disk0-base1"
 *
 * Everything that changes the graph happens on the main thread, with the roots that it concerns drained: the
 * guest's requests that have begun are over, and new ones wait. What was acknowledged before an image stops
 * being written to is flushed first, so that a flush which the guest asks for later need not know where the
 * bytes went. Nodes that a job works on are its own until it has ended: what would change them is refused.
 */
#ifndef HOSTEL_VM_NODES_H
#define HOSTEL_VM_NODES_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "block/block.h"

struct vm_nodes;

/* What the graph asks of its guest; main thread. */
struct vm_nodes_ops {
    /* An event of QMP; data is taken. */
    void (*event)(void *opaque, const char *name, json_t *data);
    /* A disk's error is to stop the guest. */
    void (*stop)(void *opaque);
};

struct vm_nodes *vm_nodes_new(const struct vm_nodes_ops *ops, void *opaque);
void vm_nodes_free(struct vm_nodes *n); /* NULL is fine; no machine has a root of it any more */
CLEANUP_DEFINE(vm_nodes, vm_nodes_free)

/* A device called id sits on the node of that name; what becomes of errors is said by the words of
 * block_policy_find() (NULL = the defaults: "report" for reading, "wait" for the rest). Its root, for the
 * device's wires, borrowed; NULL with *error. And the end of that, when the device is gone. Main thread. */
struct disk *vm_nodes_attach(struct vm_nodes *n, const char *id, const char *node, const char *rerror,
                             const char *werror, GError **error);
void vm_nodes_detach(struct vm_nodes *n, struct disk *root);

/* The guest goes on: what stopped it is tried again. */
void vm_nodes_again(struct vm_nodes *n);
/* Does an error of a disk keep it stopped? */
bool vm_nodes_io_error(const struct vm_nodes *n);

/* --- for saving a guest; main thread --- */

/* What disks have acknowledged becomes durable. Before the guest is stopped, so that less is left to do
 * while it stands, and again when it stands. */
bool vm_disks_flush(struct vm_nodes *n, GError **error);

/* vCPUs are parked. When it returns no request is under way at any disk, and none begins until release. What
 * could not be done (no room on the host, an error that stopped the guest) is kept by its device: its
 * pre_save puts it into the device's state, from which it is tried again; so it is here after release.
 * Limits of speed are not waited for. Calls nest. */
void vm_disks_hold(struct vm_nodes *n);
void vm_disks_release(struct vm_nodes *n);

/* These devices go on in these overlays, from the same moment on: nodes made by blockdev-add with
 * "backing": null that nothing lies on yet. What a device had becomes its overlay's backing image, with all
 * that was written until then durable in it. All or none. Held or not. */
struct vm_disk_switch {
    const char *disk;    /* id of a device, or the name of its node */
    const char *overlay; /* name of a node */
};
bool vm_disks_switch(struct vm_nodes *n, const struct vm_disk_switch *s, unsigned count, GError **error);

/* --- internal snapshots, of all the disks that the guest can write to (or of the named ones) at once --- */

struct vm_snapshot {
    const char *tag;
    const char *const *disks; /* ids of devices or names of nodes, ending with NULL; NULL = all */
    const char *vmstate;      /* that of the one which holds the guest's state; NULL = none is kept */
    uint64_t vmstate_size;    /* bytes that vm_vmstate_write() was given */
    uint64_t vm_clock;        /* ns */
};

/* Bytes of a guest's state, kept in an image's file outside of its disk. They belong to the snapshot that is
 * taken next; any size, in any order. The guest stands. 0 or -errno; -EOPNOTSUPP: its format cannot. */
int vm_vmstate_write(struct vm_nodes *n, const char *disk, const void *bytes, size_t size, uint64_t offset);
/* Nothing comes of it. vm_snapshots_take() does so itself, whatever its end. */
void vm_vmstate_drop(struct vm_nodes *n, const char *disk);
/* Of a snapshot that is there, called by its id; the disk need not be at it. */
int vm_vmstate_read(struct vm_nodes *n, const char *disk, const char *id, void *bytes, size_t size,
                    uint64_t offset);
/* The other thread that these may be called on, with the disks held, is at work from now on: others who want
 * to change nodes are refused, since `why`. NULL: not any more. */
void vm_vmstate_busy(struct vm_nodes *n, const char *why);

/* Would taking (wanted false) or applying (true) be tried? False with *error. Nothing is changed. */
bool vm_snapshots_check(struct vm_nodes *n, const struct vm_snapshot *s, bool wanted, GError **error);

/* The disks are held. Take: all have it, or none; with a guest's state, the snapshot is there from the moment
 * on at which the image with the state has it, which is the last. Apply: all are at it, or all as before;
 * *lost (may be NULL): neither, since some could not be brought back.
 * Remove: what is left when it fails is no snapshot any more; disks that have none are fine. False with
 * *error. */
bool vm_snapshots_take(struct vm_nodes *n, const struct vm_snapshot *s, GError **error);
bool vm_snapshots_apply(struct vm_nodes *n, const struct vm_snapshot *s, bool *lost, GError **error);
bool vm_snapshots_remove(struct vm_nodes *n, const struct vm_snapshot *s, GError **error);

/* How the disk's image keeps the snapshot: its time, clock and size of the state. The caller's
 * (block_snapshot_free); NULL with *error. */
struct block_snapshot *vm_snapshots_find(struct vm_nodes *n, const char *disk, const char *tag,
                                         GError **error);

#endif
