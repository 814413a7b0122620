/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the files about a guest's disks know of each other. */
#ifndef HOSTEL_VM_NODES_INT_H
#define HOSTEL_VM_NODES_INT_H

#include "block/filter/root.h"
#include "block/image.h"
#include "control/fds.h"
#include "vm/nodes.h"

enum {
    VM_CHAIN_MAX = 16, /* images that lie over each other: each takes its part of a thread's stack */
    VM_NODES_MAX = 256,
    VM_NODE_NAME_MAX = 127 /* bytes, as QEMU has it: 31, and more is no harm */
};

struct vm_node {
    struct vm_nodes *nodes;
    char *name;
    const struct block_driver *driver; /* as it was asked for: raw over a file has the file's disk */
    struct disk *disk;                 /* owned */
    struct vm_link *backing, *file;    /* owned by disk; NULL = its format has no such thing, it is inside */
    char *place;                       /* of its file, for people and query-: "/dev/fdset/3"; or NULL */
    unsigned refs;                     /* links, devices, and blockdev-add */
    bool added;                        /* by blockdev-add, and not deleted */
    const char *job;                   /* id of the job that has it, borrowed; or NULL */
};

/* A reference of an image to a node, or to nothing. */
struct vm_link {
    struct disk *edge;
    struct vm_node *from; /* NULL until its disk is open */
    struct vm_node *to;   /* NULL = nothing */
};

struct vm_device {
    struct vm_nodes *nodes;
    char *id;
    struct disk *root; /* owned */
    struct vm_node *node;
    bool io_error;  /* stopped the guest; for query-block */
    unsigned holds; /* one that came while others were held is not */
    /* From the thread that failed to the main thread; guarded by nodes->lock. */
    bool troubled, stop;
    struct block_trouble trouble;
    int64_t quiet_until; /* us: no event of what stops nothing before */
};

struct vm_nodes {
    struct vm_nodes_ops ops;
    void *opaque;
    GPtrArray *all;     /* of struct vm_node, in the order they were made */
    GPtrArray *devices; /* of struct vm_device, owned */
    GPtrArray *merges;  /* what node_jobs.c has under way */
    GSource *trouble_source;
    pthread_mutex_t lock;
    unsigned holds;
    const char *busy; /* why no node may be changed; NULL = they may */
};

/* --- nodes.c --- */

/* Takes the disk and name's copy; with one reference, the caller's. backing, file: of its edges, or NULL. */
struct vm_node *vm_node_new(struct vm_nodes *n, const char *name, const struct block_driver *driver,
                            struct disk *disk, struct vm_link *backing, struct vm_link *file);
struct vm_node *vm_node_ref(struct vm_node *node);
void vm_node_unref(struct vm_node *node);                           /* NULL is fine */
struct vm_node *vm_node_find(struct vm_nodes *n, const char *name); /* NULL = none */

/* May a node be called so? False with *error. */
bool vm_node_name_check(struct vm_nodes *n, const char *name, GError **error);

/* A link to a node (gets a reference of its own) or to nothing; freed with its edge. */
struct vm_link *vm_link_new(struct vm_nodes *n, struct vm_node *to);
/* Nothing is under way on it. */
void vm_link_turn(struct vm_link *link, struct vm_node *to);

/* The node that it lies over; NULL. How many images lie over each other from it on, itself too. */
struct vm_node *vm_node_backing(const struct vm_node *node);
unsigned vm_node_depth(const struct vm_node *node);
/* The only one that refers to it, or NULL; n: how many do, blockdev-add not counted. */
struct vm_device *vm_node_device(const struct vm_node *node);
unsigned vm_node_parents(const struct vm_node *node);

/* The device whose chain has the node, which it may sit on; NULL. */
struct vm_device *vm_node_device_above(const struct vm_node *node);

/* The device with that id, or that sits on the node of that name; NULL with *error (class DeviceNotFound). */
struct vm_device *vm_device_find(struct vm_nodes *n, const char *id, GError **error);
/* The same, or a node that no device sits on. */
struct vm_node *vm_nodes_lookup(struct vm_nodes *n, const char *id, GError **error);

/* Nobody else works on it. False with *error. */
bool vm_node_check_free(const struct vm_node *node, const char *what, GError **error);

/* A device goes on in a node. Its root is closed. */
void vm_device_turn(struct vm_device *d, struct vm_node *node);

/* --- node_save.c --- */

/* The disk has so many bytes from now on. */
bool vm_node_resize(struct vm_nodes *n, const char *id, uint64_t size, GError **error);

/* --- node_open.c --- */

/* blockdev-add's arguments; files are those that the client has handed in. False with *error. */
bool vm_node_add(struct vm_nodes *n, struct control_fds *fds, json_t *args, GError **error);
/* blockdev-del. */
bool vm_node_delete(struct vm_nodes *n, const char *name, GError **error);

/* --- node_reopen.c --- */

/* The node's image is opened again, for reading only or for writing, by another descriptor of its file
 * (taken). Whoever lies on it does not notice. False with *error, and nothing has changed. */
bool vm_node_reopen(struct vm_node *node, int fd, bool readonly, GError **error);

/* --- node_query.c: as QMP has it; owned by the caller --- */

json_t *vm_nodes_query_block(struct vm_nodes *n);
json_t *vm_nodes_query_stats(struct vm_nodes *n);
json_t *vm_nodes_query_named(struct vm_nodes *n, bool flat);

#endif
