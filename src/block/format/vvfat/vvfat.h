/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The parts of the driver vvfat: a folder as it was, its names as FAT has them, and the volume around it. */
/*
 * Theory of operation
 *
 * When it is opened, the folder is looked through once (tree.c): what is in it, and how large. From that
 * alone come all names (names.c) and where everything is on the volume (volume.c): every file and folder is
 * one run of clusters, one behind the other. So the FAT need not be kept, an entry follows from the run it is
 * in; only folders are kept as bytes. A file's contents are read when they are asked for (vvfat.c).
 *
 * What changes in the folder meanwhile does not change the volume: a file that has become shorter ends in
 * zeroes, one that is longer is cut off, one that is gone fails to be read.
 *
 * Files are found by their path from the folder, in one step that follows no symbolic link and does not leave
 * the folder (openat2), so nobody who may change the folder makes us read anything else.
 */
#ifndef HOSTEL_BLOCK_VVFAT_H
#define HOSTEL_BLOCK_VVFAT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

enum {
    VVFAT_ENTRY = 32,              /* bytes of an entry of a folder */
    VVFAT_FOLDER_ENTRIES = 65536,  /* most of one folder */
    VVFAT_NODES_MAX = 1 << 18,     /* files and folders */
    VVFAT_FOLDERS_SIZE = 64 << 20, /* bytes of all folders */
    VVFAT_LONG_MAX = 255,          /* of a name, in UTF-16 */
};

/* One file or folder. Node 0 is the folder itself; a folder's children stand together. */
struct vvfat_node {
    uint32_t parent, first_child, children;
    bool folder;
    uint64_t size; /* bytes; of a folder: of its entries */
    int64_t modified;
    char *name;          /* the host's */
    uint16_t *long_name; /* NULL when the short one says it all */
    uint32_t long_size;  /* in UTF-16 */
    char short_name[11];
    uint32_t cluster, clusters; /* the first one, 0 = none */
    uint32_t bytes;             /* of a folder: where its entries are in vvfat_volume.folders */
};

struct vvfat_tree {
    int root;      /* the folder, owned */
    GArray *nodes; /* of struct vvfat_node */
};

static inline struct vvfat_node *vvfat_node(const struct vvfat_tree *t, uint32_t i)
{
    return &((struct vvfat_node *)(void *)t->nodes->data)[i];
}

/* Looks through the folder at path. name is for messages. False with *error; fini in any case. */
bool vvfat_tree_init(struct vvfat_tree *t, const char *name, const char *path, GError **error);
void vvfat_tree_fini(struct vvfat_tree *t);

/* Opens node i for reading; a descriptor or -errno. */
int vvfat_tree_open(const struct vvfat_tree *t, uint32_t i, bool folder);

/* Gives all nodes their names, and folders their sizes. False with *error. */
bool vvfat_names(struct vvfat_tree *t, const char *name, GError **error);

struct vvfat_volume {
    unsigned bits; /* of an entry of the FAT: 12, 16, 32 */
    bool floppy;
    char label[11];
    uint32_t cluster_sectors, clusters, used; /* used: of the clusters, from the first on */
    uint32_t reserved, fat_sectors, root_entries;
    uint64_t start;                     /* sector of the volume's begin */
    uint64_t fats, root, data, sectors; /* sectors of the disk */
    uint32_t serial;
    uint8_t *folders; /* the entries of all, as many as folders_size */
    uint32_t folders_size;
    uint32_t *runs; /* nodes that have clusters, in their order */
    uint32_t runs_count;
};

/* bits: 12, 16, 32, or 0 = what fits. Folders of t get their bytes. False with *error; fini in any case. */
bool vvfat_volume_init(struct vvfat_volume *v, struct vvfat_tree *t, const char *name, unsigned bits,
                       GError **error);
void vvfat_volume_fini(struct vvfat_volume *v);

/* The node that has the cluster (from 2 on); false when it is free. */
bool vvfat_volume_find(const struct vvfat_volume *v, const struct vvfat_tree *t, uint32_t cluster,
                       uint32_t *node);

/* One sector before the FATs. */
void vvfat_volume_sector(const struct vvfat_volume *v, uint64_t sector, uint8_t out[512]);

/* 3072 bytes of the FAT, from that many pieces on: whole entries whatever their bits. */
enum { VVFAT_FAT_PIECE = 3072 };
void vvfat_volume_fat(const struct vvfat_volume *v, const struct vvfat_tree *t, uint32_t piece,
                      uint8_t out[VVFAT_FAT_PIECE]);

#endif
