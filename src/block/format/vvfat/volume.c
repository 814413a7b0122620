/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The volume around a folder: where everything is, and the bytes that say so. */
/*
 * From Microsoft's "FAT: General Overview of On-Disk Format", 1.03. The number of clusters alone decides what
 * kind of FAT a volume has, so a small folder's volume is made as large as its kind needs.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <time.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "block/format/vvfat/vvfat.h"

enum {
    SECTOR = 512,
    FATS = 2,
    PARTITION = 2048, /* sector where it begins */
    CLUSTERS_12 = 4084,
    CLUSTERS_16 = 65524,
    CLUSTERS_32 = 0x0ffffff4,
    CLUSTER_SECTORS_MAX = 64,
    INFO = 1, /* sectors of FAT32's reserved ones */
    BACKUP = 6,
    ATTRIBUTE_LABEL = 0x08,
    ATTRIBUTE_FOLDER = 0x10,
    ATTRIBUTE_ARCHIVE = 0x20,
    ATTRIBUTE_LONG = 0x0f,
    UNITS = 13,
};

/* --- where everything is --- */

static uint64_t runs_in(const struct vvfat_volume *v, uint64_t size)
{
    const uint64_t cluster = (uint64_t)v->cluster_sectors * SECTOR;
    return (size + cluster - 1) / cluster;
}

/* Clusters for everything with clusters of this size. Before FAT32 the root has its own place. */
static uint64_t needed(const struct vvfat_volume *v, const struct vvfat_tree *t)
{
    uint64_t sum = 0;
    for (uint32_t i = v->bits == 32 ? 0 : 1; i < t->nodes->len; i++)
        sum += runs_in(v, vvfat_node(t, i)->size);
    return sum;
}

/* Clusters as small as they can be, no smaller than first sectors. */
static bool fit(struct vvfat_volume *v, const struct vvfat_tree *t, uint32_t first)
{
    static const struct {
        unsigned bits;
        uint32_t least, most;
    } kinds[] = {{12, CLUSTERS_12, CLUSTERS_12}, {16, 4200, CLUSTERS_16}, {32, 65600, CLUSTERS_32}};
    const unsigned kind = v->bits == 12 ? 0 : v->bits == 16 ? 1 : 2;
    for (v->cluster_sectors = first; v->cluster_sectors <= CLUSTER_SECTORS_MAX; v->cluster_sectors *= 2) {
        const uint64_t need = needed(v, t);
        if (need > kinds[kind].most || need * v->cluster_sectors > UINT32_MAX / 2)
            continue;
        v->clusters = MAX((uint32_t)need, kinds[kind].least);
        return true;
    }
    return false;
}

/* A 3.5" disk of 1.44 or 2.88 MB. */
static bool fit_floppy(struct vvfat_volume *v, const struct vvfat_tree *t)
{
    static const struct {
        uint32_t sectors, cluster, root;
    } kinds[] = {{2880, 1, 224}, {5760, 2, 240}};
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        v->cluster_sectors = kinds[i].cluster;
        v->root_entries = kinds[i].root;
        v->clusters =
            (kinds[i].sectors - 1 - FATS * 9 - kinds[i].root * VVFAT_ENTRY / SECTOR) / kinds[i].cluster;
        if (needed(v, t) <= v->clusters && vvfat_node(t, 0)->size <= (uint64_t)v->root_entries * VVFAT_ENTRY)
            return true;
    }
    return false;
}

static bool choose(struct vvfat_volume *v, const struct vvfat_tree *t, const char *name, unsigned bits,
                   GError **error)
{
    const uint64_t root = vvfat_node(t, 0)->size / VVFAT_ENTRY;
    v->root_entries = (uint32_t)MAX(512, (root + 15) / 16 * 16);
    v->bits = bits ? bits : v->floppy ? 12 : 16;
    if (v->floppy)
        return (v->bits == 12 && fit_floppy(v, t)) ||
               hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the folder does not fit on a floppy disk (FAT12, at most 2.88 MB); leave out "
                           "floppy=on",
                           name);
    if (v->bits != 32 && v->root_entries <= UINT16_MAX && fit(v, t, v->bits == 12 ? 1 : 8))
        return true;
    if (bits && bits != 32)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the folder does not fit on a volume with FAT%u; use fat-type=32", name, bits);
    v->bits = 32;
    v->root_entries = 0;
    return fit(v, t, 8) || hostel_fail(error, HOSTEL_ERROR_INPUT,
                                       "%s: the folder does not fit on a volume with FAT32 (1 TiB)", name);
}

static void place(struct vvfat_volume *v)
{
    v->start = v->floppy ? 0 : PARTITION;
    v->reserved = v->bits == 32 ? 32 : 1;
    v->fat_sectors = (uint32_t)((((uint64_t)v->clusters + 2) * v->bits + 8 * SECTOR - 1) / (8 * SECTOR));
    v->fats = v->start + v->reserved;
    v->root = v->fats + (uint64_t)FATS * v->fat_sectors;
    v->data = v->root + (v->root_entries * VVFAT_ENTRY + SECTOR - 1) / SECTOR;
    v->sectors = v->data + (uint64_t)v->clusters * v->cluster_sectors;
}

/* Each file and folder gets its run, in their order. */
static void give_clusters(struct vvfat_volume *v, struct vvfat_tree *t)
{
    uint32_t next = 2;
    v->runs = g_new(uint32_t, t->nodes->len);
    for (uint32_t i = v->bits == 32 ? 0 : 1; i < t->nodes->len; i++) {
        struct vvfat_node *node = vvfat_node(t, i);
        node->clusters = (uint32_t)runs_in(v, node->size);
        if (!node->clusters)
            continue;
        node->cluster = next;
        next += node->clusters;
        v->runs[v->runs_count++] = i;
    }
    v->used = next - 2;
}

bool vvfat_volume_find(const struct vvfat_volume *v, const struct vvfat_tree *t, uint32_t cluster,
                       uint32_t *node)
{
    uint32_t low = 0, high = v->runs_count; /* the last run that begins at the cluster or before */
    if (cluster < 2 || cluster - 2 >= v->used)
        return false;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (vvfat_node(t, v->runs[middle])->cluster <= cluster)
            low = middle;
        else
            high = middle;
    }
    *node = v->runs[low];
    return true;
}

/* --- folders --- */

/* Universal time: a volume says nothing about its zone. */
static void put_time(uint8_t *entry, int64_t seconds)
{
    const time_t when = (time_t)seconds;
    struct tm tm;
    uint32_t date = 1 << 5 | 1, time = 0; /* the first day there is */
    if (gmtime_r(&when, &tm) && tm.tm_year >= 80 && tm.tm_year <= 207) {
        date = (uint32_t)((tm.tm_year - 80) << 9 | (tm.tm_mon + 1) << 5 | tm.tm_mday);
        time = (uint32_t)(tm.tm_hour << 11 | tm.tm_min << 5 | tm.tm_sec / 2);
    }
    st16le(entry + 14, (uint16_t)time); /* made */
    st16le(entry + 16, (uint16_t)date);
    st16le(entry + 18, (uint16_t)date); /* last used */
    st16le(entry + 22, (uint16_t)time); /* changed */
    st16le(entry + 24, (uint16_t)date);
}

static uint8_t *put_entry(uint8_t *out, const char name[11], const struct vvfat_node *node,
                          uint8_t attributes)
{
    memset(out, 0, VVFAT_ENTRY);
    memcpy(out, name, 11);
    out[11] = attributes;
    put_time(out, node->modified);
    if (attributes != ATTRIBUTE_LABEL) {
        st16le(out + 20, (uint16_t)(node->cluster >> 16));
        st16le(out + 26, (uint16_t)node->cluster);
        st32le(out + 28, node->folder ? 0 : (uint32_t)node->size);
    }
    return out + VVFAT_ENTRY;
}

/* The entries of a long name stand before the short one's, the last part first. */
static uint8_t *put_long(uint8_t *out, const struct vvfat_node *node)
{
    static const uint8_t places[UNITS] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
    const uint32_t parts = (node->long_size + UNITS - 1) / UNITS;
    uint8_t sum = 0;
    for (unsigned i = 0; i < 11; i++)
        sum = (uint8_t)((sum >> 1 | sum << 7) + (uint8_t)node->short_name[i]);
    for (uint32_t part = parts; part; part--, out += VVFAT_ENTRY) {
        memset(out, 0, VVFAT_ENTRY);
        out[0] = (uint8_t)(part | (part == parts ? 0x40 : 0));
        out[11] = ATTRIBUTE_LONG;
        out[13] = sum;
        for (uint32_t i = 0; i < UNITS; i++) {
            const uint32_t at = (part - 1) * UNITS + i;
            const uint16_t unit = at < node->long_size    ? node->long_name[at]
                                  : at == node->long_size ? 0
                                                          : 0xffff;
            st16le(out + places[i], unit);
        }
    }
    return out;
}

static void put_folder(struct vvfat_volume *v, const struct vvfat_tree *t, uint32_t i)
{
    const struct vvfat_node *f = vvfat_node(t, i);
    uint8_t *out = v->folders + f->bytes;
    if (i) {
        struct vvfat_node parent = *vvfat_node(t, f->parent);
        if (!f->parent)
            parent.cluster = 0; /* as it stands for the root, with FAT32, too */
        out = put_entry(out, ".          ", f, ATTRIBUTE_FOLDER);
        out = put_entry(out, "..         ", &parent, ATTRIBUTE_FOLDER);
    } else {
        out = put_entry(out, v->label, f, ATTRIBUTE_LABEL);
    }
    for (uint32_t c = 0; c < f->children; c++) {
        const struct vvfat_node *node = vvfat_node(t, f->first_child + c);
        if (node->long_name)
            out = put_long(out, node);
        out = put_entry(out, node->short_name, node, node->folder ? ATTRIBUTE_FOLDER : ATTRIBUTE_ARCHIVE);
    }
}

static bool put_folders(struct vvfat_volume *v, struct vvfat_tree *t, const char *name, GError **error)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < t->nodes->len; i++) {
        if (!vvfat_node(t, i)->folder)
            continue;
        vvfat_node(t, i)->bytes = (uint32_t)sum;
        sum += vvfat_node(t, i)->size;
        if (sum > VVFAT_FOLDERS_SIZE)
            return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: all names together need more than 64 MiB",
                               name);
    }
    v->folders_size = (uint32_t)sum;
    v->folders = g_try_malloc0(v->folders_size);
    if (!v->folders)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory for it", name);
    for (uint32_t i = 0; i < t->nodes->len; i++)
        if (vvfat_node(t, i)->folder)
            put_folder(v, t, i);
    return true;
}

bool vvfat_volume_init(struct vvfat_volume *v, struct vvfat_tree *t, const char *name, unsigned bits,
                       GError **error)
{
    if (!choose(v, t, name, bits, error))
        return false;
    place(v);
    give_clusters(v, t);
    v->serial = 0x484f5354 ^ (uint32_t)vvfat_node(t, 0)->children;
    return put_folders(v, t, name, error);
}

void vvfat_volume_fini(struct vvfat_volume *v)
{
    g_free(v->folders);
    g_free(v->runs);
}

/* --- what stands before the data --- */

/* Cylinder, head and sector, as partition tables had them; what is too far has the last. */
static void put_chs(uint8_t *out, uint64_t sector)
{
    const uint64_t cylinder = sector / (255 * 63);
    const bool far = cylinder > 1023;
    out[0] = far ? 254 : (uint8_t)(sector / 63 % 255);
    out[1] = far ? 0xff : (uint8_t)((sector % 63 + 1) | (cylinder >> 8 << 6));
    out[2] = far ? 0xff : (uint8_t)cylinder;
}

static void put_table(const struct vvfat_volume *v, uint8_t *out)
{
    uint8_t *entry = out + 446;
    st32le(out + 440, v->serial);
    put_chs(entry + 1, v->start);
    entry[4] = v->bits == 12 ? 0x01 : v->bits == 16 ? 0x0e : 0x0c;
    put_chs(entry + 5, v->sectors - 1);
    st32le(entry + 8, (uint32_t)v->start);
    st32le(entry + 12, (uint32_t)(v->sectors - v->start));
    st16le(out + 510, 0xaa55);
}

static void put_boot(const struct vvfat_volume *v, uint8_t *out)
{
    static const uint8_t code[] = {0xcd, 0x18, 0xf4, 0xeb, 0xfd}; /* tell the firmware that nothing boots */
    const uint64_t sectors = v->sectors - v->start;
    const bool large = v->bits == 32, small = !large && sectors <= UINT16_MAX;
    const size_t rest = large ? 64 : 36; /* where what both have goes on */
    const char *kind = v->bits == 12 ? "FAT12   " : large ? "FAT32   " : "FAT16   ";
    out[0] = 0xeb;
    out[1] = (uint8_t)(rest + 26 - 2);
    out[2] = 0x90;
    memcpy(out + 3, "HOSTEL  ", 8);
    st16le(out + 11, SECTOR);
    out[13] = (uint8_t)v->cluster_sectors;
    st16le(out + 14, (uint16_t)v->reserved);
    out[16] = FATS;
    st16le(out + 17, (uint16_t)v->root_entries);
    st16le(out + 19, small ? (uint16_t)sectors : 0);
    out[21] = v->floppy ? 0xf0 : 0xf8;
    st16le(out + 22, large ? 0 : (uint16_t)v->fat_sectors);
    st16le(out + 24, v->floppy ? (v->sectors > 2880 ? 36 : 18) : 63);
    st16le(out + 26, v->floppy ? 2 : 255);
    st32le(out + 28, (uint32_t)v->start);
    st32le(out + 32, small ? 0 : (uint32_t)sectors);
    if (large) {
        st32le(out + 36, v->fat_sectors);
        st32le(out + 44, 2); /* the root's cluster */
        st16le(out + 48, INFO);
        st16le(out + 50, BACKUP);
    }
    out[rest] = v->floppy ? 0 : 0x80;
    out[rest + 2] = 0x29; /* the three that follow are there */
    st32le(out + rest + 3, v->serial);
    memcpy(out + rest + 7, v->label, 11);
    memcpy(out + rest + 18, kind, 8);
    memcpy(out + rest + 26, code, sizeof(code));
    st16le(out + 510, 0xaa55);
}

static void put_info(const struct vvfat_volume *v, uint8_t *out)
{
    st32le(out, 0x41615252);
    st32le(out + 484, 0x61417272);
    st32le(out + 488, v->clusters - v->used);
    st32le(out + 492, v->used + 2 < v->clusters + 2 ? v->used + 2 : UINT32_MAX);
    st32le(out + 508, 0xaa550000);
}

void vvfat_volume_sector(const struct vvfat_volume *v, uint64_t sector, uint8_t out[512])
{
    memset(out, 0, SECTOR);
    if (sector < v->start) {
        if (!sector)
            put_table(v, out);
        return;
    }
    const uint64_t inside = sector - v->start, copy = inside >= BACKUP ? inside - BACKUP : inside;
    if (copy == 0)
        put_boot(v, out);
    else if (copy == INFO)
        put_info(v, out);
    else if (v->bits == 32 && copy == 2)
        st16le(out + 510, 0xaa55);
}

/* --- the FAT --- */

static void put_number(uint8_t *out, unsigned bits, uint32_t i, uint32_t value)
{
    if (bits == 32) {
        st32le(out + i * 4, value);
    } else if (bits == 16) {
        st16le(out + i * 2, (uint16_t)value);
    } else {
        uint8_t *at = out + i / 2 * 3 + i % 2;
        const uint16_t both = ld16le(at);
        st16le(at, (uint16_t)(i % 2 ? (both & 0x000f) | value << 4 : (both & 0xf000) | (value & 0xfff)));
    }
}

void vvfat_volume_fat(const struct vvfat_volume *v, const struct vvfat_tree *t, uint32_t piece,
                      uint8_t out[VVFAT_FAT_PIECE])
{
    const uint32_t count = VVFAT_FAT_PIECE * 8 / v->bits,
                   last = UINT32_MAX >> (v->bits == 32 ? 4 : 32 - v->bits);
    uint64_t entry = (uint64_t)piece * count, i = 0;
    memset(out, 0, VVFAT_FAT_PIECE);
    for (; entry + i < 2; i++)
        put_number(out, v->bits, (uint32_t)i,
                   entry + i ? last : (last & ~UINT32_C(0xff)) | (v->floppy ? 0xf0 : 0xf8));
    while (i < count && entry + i < (uint64_t)v->used + 2) {
        uint32_t node;
        vvfat_volume_find(v, t, (uint32_t)(entry + i), &node);
        const uint64_t end = (uint64_t)vvfat_node(t, node)->cluster + vvfat_node(t, node)->clusters;
        for (; i < count && entry + i < end; i++)
            put_number(out, v->bits, (uint32_t)i, entry + i == end - 1 ? last : (uint32_t)(entry + i + 1));
    }
}
