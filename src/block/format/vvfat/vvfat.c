/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Driver vvfat: a folder of the host as a disk with a FAT volume, read only. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/param.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/block.h"
#include "block/cursor.h"
#include "block/format/vvfat/vvfat.h"
#include "os/fd.h"

enum { OPEN_FILES = 16 };
#define NO_NODE UINT32_MAX

/* A file that stays open for the next time. */
struct open_file {
    pthread_rwlock_t lock;
    uint32_t node;
    int fd;
};

struct vvfat {
    struct disk disk;
    struct vvfat_tree tree;
    struct vvfat_volume volume;
    struct open_file files[OPEN_FILES]; /* which one a node has follows from its number */
};

struct vvfat_options {
    const char *dir, *fat_type, *label;
    bool floppy;
};

#define ROW(member) .who = OPTION_CLI, .offset = offsetof(struct vvfat_options, member)
static const struct option_row options[] = {
    {.name = "dir", .arg = "FOLDER", .help = "what is on the disk", .type = OPTION_TEXT, ROW(dir)},
    {.name = "fat-type",
     .arg = "BITS",
     .choice = "12|16|32",
     .help = "of an entry of the FAT; default: 16 if everything fits",
     .type = OPTION_TEXT,
     ROW(fat_type)},
    {.name = "label",
     .arg = "NAME",
     .value = "HOSTEL",
     .help = "of the volume, up to 11 characters",
     .type = OPTION_TEXT,
     ROW(label)},
    {.name = "floppy",
     .arg = "on|off",
     .value = "off",
     .help = "a floppy disk, without partitions",
     .type = OPTION_SWITCH,
     ROW(floppy)},
    {0},
};
#undef ROW

static struct vvfat *vvfat(struct disk *b)
{
    return (struct vvfat *)(void *)b;
}

/* --- opening --- */

static bool set_label(struct vvfat *d, const char *label, GError **error)
{
    const size_t size = strlen(label);
    bool good = size >= 1 && size <= sizeof(d->volume.label);
    memset(d->volume.label, ' ', sizeof(d->volume.label));
    for (size_t i = 0; good && i < size; i++) {
        const char c = g_ascii_toupper(label[i]);
        good = g_ascii_isalnum(c) || (c && strchr("_-~!#$%&'()@^{} ", c) && (i || c != ' '));
        d->volume.label[i] = c;
    }
    return good || hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "%s: the label \"%s\" is none for FAT: 1 to 11 letters, digits and some signs",
                               d->disk.name, label);
}

static bool open_inner(struct vvfat *d, const struct block_config *config, const struct vvfat_options *o,
                       GError **error)
{
    struct disk *b = &d->disk;
    if (!config->readonly)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: a folder as a disk (vvfat) is only read; open it read-only", b->name);
    if (!o->dir)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: which folder? give dir=FOLDER", b->name);
    d->volume.floppy = o->floppy;
    return set_label(d, o->label, error) && vvfat_tree_init(&d->tree, b->name, o->dir, error) &&
           vvfat_names(&d->tree, b->name, error) &&
           vvfat_volume_init(&d->volume, &d->tree, b->name,
                             o->fat_type ? (unsigned)g_ascii_strtoull(o->fat_type, NULL, 10) : 0, error);
}

static void release(struct vvfat *d)
{
    vvfat_volume_fini(&d->volume);
    vvfat_tree_fini(&d->tree);
}

static bool vvfat_open(struct disk *b, struct block_config *config, GError **error)
{
    struct vvfat *d = vvfat(b);
    struct vvfat_options defaults = {.label = "HOSTEL"};
    d->tree.root = -1;
    if (!open_inner(d, config, config->options ? config->options : &defaults, error)) {
        release(d);
        return false;
    }
    for (unsigned i = 0; i < OPEN_FILES; i++) {
        pthread_rwlock_init(&d->files[i].lock, NULL);
        d->files[i].node = NO_NODE;
        d->files[i].fd = -1;
    }
    b->facts.size = d->volume.sectors * BLOCK_SECTOR;
    b->facts.alignment = 1;
    b->facts.preferred = 4096;
    return true;
}

static void vvfat_close(struct disk *b)
{
    struct vvfat *d = vvfat(b);
    for (unsigned i = 0; i < OPEN_FILES; i++) {
        pthread_rwlock_destroy(&d->files[i].lock);
        fd_close(&d->files[i].fd);
    }
    release(d);
}

/* --- files --- */

/* Puts the node's file into its place. */
static int swap(struct vvfat *d, struct open_file *f, uint32_t node)
{
    int status = 0;
    pthread_rwlock_wrlock(&f->lock);
    if (f->node != node) {
        const int fd = vvfat_tree_open(&d->tree, node, false);
        status = fd < 0 ? fd : 0;
        if (!status) {
            fd_close(&f->fd);
            f->fd = fd;
            f->node = node;
        }
    }
    pthread_rwlock_unlock(&f->lock);
    return status;
}

/* What is there of the size bytes; the rest reads as zeroes. */
static int read_open(int fd, struct block_cursor *c, uint64_t offset, uint64_t size)
{
    struct iovec iov[BLOCK_IOV_MAX];
    while (size) {
        struct block_cursor ahead = *c;
        const unsigned n = block_cursor_next(&ahead, size, iov);
        const ssize_t got = preadv(fd, iov, (int)n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (!got)
            break;
        block_cursor_skip(c, (uint64_t)got);
        offset += (uint64_t)got;
        size -= (uint64_t)got;
    }
    block_cursor_zero(c, size);
    return 0;
}

static int read_file(struct vvfat *d, uint32_t node, struct block_cursor *c, uint64_t offset, uint64_t size)
{
    struct open_file *f = &d->files[node % OPEN_FILES];
    for (;;) { /* another one may take the place in between; whoever takes it reads, so somebody proceeds */
        pthread_rwlock_rdlock(&f->lock);
        const bool ready = f->node == node;
        int status = ready ? read_open(f->fd, c, offset, size) : 0;
        pthread_rwlock_unlock(&f->lock);
        if (!ready)
            status = swap(d, f, node);
        if (ready || status)
            return status;
    }
}

/* --- reading --- */

/* Part of `from`, which has there bytes; zeroes behind them. */
static void copy_padded(struct block_cursor *c, const uint8_t *from, uint64_t there, uint64_t offset,
                        uint64_t size)
{
    const uint64_t now = offset < there ? MIN(size, there - offset) : 0;
    if (now)
        block_cursor_fill(c, from + offset, (size_t)now);
    block_cursor_zero(c, size - now);
}

static int read_head(struct vvfat *d, struct block_cursor *c, uint64_t offset, uint64_t size)
{
    uint8_t sector[BLOCK_SECTOR];
    for (uint64_t now; size; offset += now, size -= now) {
        const uint64_t inside = offset % BLOCK_SECTOR;
        now = MIN(size, BLOCK_SECTOR - inside);
        vvfat_volume_sector(&d->volume, offset / BLOCK_SECTOR, sector);
        block_cursor_fill(c, sector + inside, (size_t)now);
    }
    return 0;
}

/* offset: from the first FAT on. */
static int read_fat(struct vvfat *d, struct block_cursor *c, uint64_t offset, uint64_t size)
{
    uint8_t piece[VVFAT_FAT_PIECE];
    const uint64_t fat = (uint64_t)d->volume.fat_sectors * BLOCK_SECTOR;
    for (uint64_t now; size; offset += now, size -= now) {
        const uint64_t at = offset % fat, inside = at % VVFAT_FAT_PIECE;
        now = MIN(size, MIN(fat - at, VVFAT_FAT_PIECE - inside));
        vvfat_volume_fat(&d->volume, &d->tree, (uint32_t)(at / VVFAT_FAT_PIECE), piece);
        block_cursor_fill(c, piece + inside, (size_t)now);
    }
    return 0;
}

/* offset: from the first cluster on. */
static int read_data(struct vvfat *d, struct block_cursor *c, uint64_t offset, uint64_t size)
{
    const struct vvfat_volume *v = &d->volume;
    const uint64_t cluster = (uint64_t)v->cluster_sectors * BLOCK_SECTOR;
    uint32_t i;
    for (uint64_t now; size; offset += now, size -= now) {
        if (!vvfat_volume_find(v, &d->tree, (uint32_t)(offset / cluster) + 2, &i)) {
            block_cursor_zero(c, size);
            return 0;
        }
        const struct vvfat_node *node = vvfat_node(&d->tree, i);
        const uint64_t inside = offset - (node->cluster - 2) * cluster;
        now = MIN(size, node->clusters * cluster - inside);
        if (node->folder) {
            copy_padded(c, v->folders + node->bytes, node->size, inside, now);
            continue;
        }
        const uint64_t there = inside < node->size ? MIN(now, node->size - inside) : 0;
        int status = there ? read_file(d, i, c, inside, there) : 0;
        if (status)
            return status;
        block_cursor_zero(c, now - there);
    }
    return 0;
}

static int vvfat_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct vvfat *d = vvfat(b);
    const struct vvfat_volume *v = &d->volume;
    const uint64_t fats = v->fats * BLOCK_SECTOR, root = v->root * BLOCK_SECTOR,
                   data = v->data * BLOCK_SECTOR;
    struct block_cursor c = {.iov = iov};
    if (flags & BLOCK_NOWAIT)
        return -EAGAIN;
    for (uint64_t size = block_iov_size(iov, n), now; size; offset += now, size -= now) {
        int status = 0;
        if (offset < fats) {
            now = MIN(size, fats - offset);
            status = read_head(d, &c, offset, now);
        } else if (offset < root) {
            now = MIN(size, root - offset);
            status = read_fat(d, &c, offset - fats, now);
        } else if (offset < data) {
            const struct vvfat_node *node = vvfat_node(&d->tree, 0);
            now = MIN(size, data - offset);
            copy_padded(&c, v->folders + node->bytes, node->size, offset - root, now);
        } else {
            now = size;
            status = read_data(d, &c, offset - data, now);
        }
        if (status)
            return status;
    }
    return 0;
}

/* Between the partition table and the volume, and behind what is in use, there is nothing. */
static int vvfat_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    const struct vvfat_volume *v = &vvfat(b)->volume;
    const uint64_t start = v->start * BLOCK_SECTOR;
    const uint64_t end = (v->data + (uint64_t)v->used * v->cluster_sectors) * BLOCK_SECTOR;
    const uint64_t edges[] = {start ? BLOCK_SECTOR : 0, start, end, b->facts.size};
    unsigned i = 0;
    while (offset >= edges[i])
        i++;
    const bool hole = i == 1 || i == 3;
    *extent = (struct block_extent){
        .size = MIN(size, edges[i] - offset), .hole = hole, .zero = hole, .place = BLOCK_NO_PLACE};
    return 0;
}

const struct block_driver block_driver_vvfat = {
    .name = "vvfat",
    .help = "a folder as a disk with a FAT volume; only read",
    .kind = BLOCK_PROTOCOL,
    .size = sizeof(struct vvfat),
    .options = options,
    .options_size = sizeof(struct vvfat_options),
    .open = vvfat_open,
    .close = vvfat_close,
    .read = vvfat_read,
    .extent = vvfat_extent,
};
