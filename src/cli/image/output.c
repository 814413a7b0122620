/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Files in the making, which have no name, or one of their own, until they are complete. */
/*
 * Theory of operation
 *
 * A new image is written to a file without a name (O_TMPFILE) in the folder where it is to be, so whatever
 * ends the process, a full disk, a signal or the power, no half image stands under the name that was asked
 * for, and what stood there before is still there. When it is complete and durable the file is linked to its
 * name; over an existing file that takes a second name and a rename, which is atomic. File systems without
 * O_TMPFILE get a hidden file instead. A block device is written in place, since it cannot be replaced,
 * and so is what is on a server.
 *
 * Formats of several files make the others through block_refs; each is a part like the first, and the first,
 * which refers to the others, gets its name last.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/file.h"
#include "block/module.h"
#include "cli/image/image.h"
#include "os/fd.h"

struct part {
    char *reference; /* as the image has it */
    char *path;      /* where it is to be */
    char *hidden;    /* its name until then; NULL = none */
    int fd;
};

struct image_output {
    struct block_refs refs; /* must be first */
    struct part *main;
    GPtrArray *parts; /* the others */
    struct disk *file;
    bool device;
};

static void part_free(void *opaque)
{
    struct part *p = opaque;
    if (p->hidden)
        unlink(p->hidden);
    fd_close(&p->fd);
    g_free(p->hidden);
    g_free(p->path);
    g_free(p->reference);
    g_free(p);
}

static bool fail(const char *path, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot make it: %s", path, g_strerror(errno));
}

/* Would somebody be surprised if the file at path were replaced? Sets *mode to what the new one gets. */
static bool check_place(const char *path, mode_t *mode, GError **error)
{
    struct stat status;
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno == ENOENT || fail(path, error);
    if (fstat(fd, &status))
        return fail(path, error);
    if (!S_ISREG(status.st_mode))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is there, and neither a file nor a block device",
                           path);
    *mode = status.st_mode & 0777;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (!fcntl(fd, F_OFD_GETLK, &whole) && whole.l_type != F_UNLCK)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: is in use, so it is not replaced", path);
    return true;
}

static bool open_hidden(struct part *p, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(p->path);
    g_autofree char *base = g_path_get_basename(p->path);
    p->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (p->fd >= 0)
        return true;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
        return fail(p->path, error);
    p->hidden = g_strdup_printf("%s/.%s.XXXXXX", folder, base);
    p->fd = g_mkstemp_full(p->hidden, O_RDWR | O_CLOEXEC, 0666);
    if (p->fd < 0)
        g_clear_pointer(&p->hidden, g_free);
    return p->fd >= 0 || fail(p->path, error);
}

static struct part *part_new(const char *path, const char *reference, GError **error)
{
    struct part *p = g_new0(struct part, 1);
    char *real = realpath(path, NULL); /* a link stays, and what it leads to is replaced */
    p->fd = -1;
    p->path = real ? g_strdup(real) : g_strdup(path);
    p->reference = g_strdup(reference);
    free(real);
    mode_t mode = 0;
    if (check_place(p->path, &mode, error) && open_hidden(p, error)) {
        if (mode && fchmod(p->fd, mode))
            errno = 0; /* somebody else's: the usual rights are right, too */
        return p;
    }
    part_free(p);
    return NULL;
}

static struct disk *part_disk(struct part *p, bool readonly, GError **error)
{
    struct block_config config = {
        .name = p->path, .fd = fcntl(p->fd, F_DUPFD_CLOEXEC, 3), .readonly = readonly};
    if (config.fd < 0) {
        fail(p->path, error);
        return NULL;
    }
    return block_open(block_driver_find("file"), &config, error);
}

/* --- what the new image refers to --- */

static struct disk *refs_create(struct block_refs *refs, const char *reference, GError **error)
{
    struct image_output *o = (struct image_output *)(void *)refs;
    g_autofree char *path = block_path_resolve(o->main->path, reference);
    struct part *p = part_new(path, reference, error);
    if (!p)
        return NULL;
    g_ptr_array_add(o->parts, p);
    return part_disk(p, false, error);
}

/* All it refers to was named by whoever makes it. */
static struct disk *refs_open(struct block_refs *refs, enum block_ref what, const char *reference,
                              const char *format, bool readonly, GError **error)
{
    struct image_output *o = (struct image_output *)(void *)refs;
    for (unsigned i = 0; i < o->parts->len; i++) {
        struct part *p = o->parts->pdata[i];
        if (!strcmp(p->reference, reference))
            return part_disk(p, readonly, error);
    }
    g_autofree char *name = block_path_resolve(o->main->path, reference);
    struct block_path path = {.name = name, .readonly = readonly, .flags = BLOCK_OPEN_ALONE};
    if (format && !(path.format = image_format(format, error)))
        return NULL;
    if (!format && what == BLOCK_REF_BACKING) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "the format of the backing file %s is missing: -F FORMAT",
                    reference);
        return NULL;
    }
    return block_path_open(&path, error);
}

/* --- the whole --- */

bool image_output_in_place(const char *name)
{
    struct stat status;
    return block_is_uri(name) || (!stat(name, &status) && S_ISBLK(status.st_mode));
}

static bool open_device(struct image_output *o, const char *name, GError **error)
{
    struct block_path path = {.name = name};
    o->device = true;
    o->main = g_new0(struct part, 1);
    o->main->path = g_strdup(name);
    o->main->fd = -1;
    o->file = block_path_open(&path, error);
    return o->file != NULL;
}

struct image_output *image_output_new(const char *name, GError **error)
{
    struct image_output *o = g_new0(struct image_output, 1);
    o->refs = (struct block_refs){.open = refs_open, .create = refs_create};
    o->parts = g_ptr_array_new_with_free_func(part_free);
    bool ok = image_output_in_place(name) ? open_device(o, name, error)
                                          : (o->main = part_new(name, name, error)) != NULL;
    if (ok && !o->device)
        ok = (o->file = part_disk(o->main, false, error)) != NULL;
    if (ok)
        return o;
    image_output_free(o);
    return NULL;
}

struct disk **image_output_file(struct image_output *o)
{
    return &o->file;
}

struct block_refs *image_output_refs(struct image_output *o)
{
    return &o->refs;
}

void image_output_hint(struct image_output *o, uint32_t bytes)
{
    struct fsxattr attributes;
    if (!bytes || o->main->fd < 0 || ioctl(o->main->fd, FS_IOC_FSGETXATTR, &attributes))
        return;
    attributes.fsx_xflags |= FS_XFLAG_EXTSIZE;
    attributes.fsx_extsize = bytes;
    ioctl(o->main->fd, FS_IOC_FSSETXATTR, &attributes); /* only XFS has it, and it is a hint */
}

void image_output_free(struct image_output *o)
{
    if (!o)
        return;
    block_free(o->file);
    g_ptr_array_unref(o->parts);
    if (o->main)
        part_free(o->main);
    g_free(o);
}

/* A name beside path that nothing has. */
static int link_hidden(struct part *p, const char *from)
{
    g_autofree char *folder = g_path_get_dirname(p->path);
    g_autofree char *base = g_path_get_basename(p->path);
    for (unsigned i = 0; i < 100; i++) {
        g_autofree char *name = g_strdup_printf("%s/.%s.%06x", folder, base, g_random_int() & 0xffffff);
        if (!linkat(AT_FDCWD, from, AT_FDCWD, name, AT_SYMLINK_FOLLOW)) {
            p->hidden = g_steal_pointer(&name);
            return 0;
        }
        if (errno != EEXIST)
            return -1;
    }
    return -1;
}

static bool name_part(struct part *p, bool durable, GError **error)
{
    if (durable && fsync(p->fd))
        return fail(p->path, error);
    g_autofree char *from = g_strdup_printf("/proc/self/fd/%d", p->fd);
    if (!p->hidden) {
        if (!linkat(AT_FDCWD, from, AT_FDCWD, p->path, AT_SYMLINK_FOLLOW))
            return true;
        if (errno != EEXIST || link_hidden(p, from))
            return fail(p->path, error);
    }
    if (rename(p->hidden, p->path))
        return fail(p->path, error);
    g_clear_pointer(&p->hidden, g_free);
    return true;
}

bool image_output_publish(struct image_output *o, bool durable, GError **error)
{
    if (atomic_load(&cli_stopped))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: stopped; nothing was made", o->main->path);
    block_free(STEAL(o->file));
    for (unsigned i = 0; i < o->parts->len; i++)
        if (!name_part(o->parts->pdata[i], durable, error))
            return false;
    if (o->device)
        return true;
    if (!name_part(o->main, durable, error))
        return false;
    g_autofree char *folder = g_path_get_dirname(o->main->path);
    AUTO_FD dir = durable ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    return dir < 0 || !fsync(dir) || errno == EINVAL || fail(folder, error);
}

bool image_make(struct image_output *o, const char *name, const struct image_make *make, struct disk *base,
                struct disk **disk, GError **error)
{
    const struct block_image *image = make->format->image;
    struct block_create create = {
        .name = name,
        .file = o->file,
        .size = align_up(make->size, BLOCK_SECTOR), /* a disk has whole sectors, whatever was asked for */
        .backing = make->backing,
        .backing_format = make->backing_format,
        .options = make->options,
        .refs = &o->refs,
        .key = make->key,
        .key_size = make->key_size,
    };
    AUTO(disk) over = base;
    if (!image || !image->create)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED, "%s: no new images of format %s can be made",
                           name, make->format->name);
    if (!image->create(&create, error))
        return false;
    if (!disk)
        return true;
    if (!strcmp(make->format->name, "raw")) {
        *disk = STEAL(o->file);
        return true;
    }
    struct block_config config = {
        .name = name,
        .fd = -1,
        .file = STEAL(o->file),
        .base = STEAL(over),
        .refs = &o->refs,
        .flags = base ? 0 : BLOCK_OPEN_ALONE,
        .key = make->key,
        .key_size = make->key_size,
    };
    *disk = block_open(make->format, &config, error);
    return *disk != NULL;
}

/* A new image does, as a rule; but not one that is encrypted as a whole, or a device. */
bool image_reads_as_zeroes(struct disk *b)
{
    enum { PIECES_MAX = 4096 };
    uint64_t at = 0;
    for (unsigned i = 0; at < b->facts.size && i < PIECES_MAX; i++) {
        struct block_extent extent;
        if (block_extent(b, at, b->facts.size - at, &extent) || !extent.zero)
            return false;
        at += extent.size;
    }
    return at == b->facts.size;
}
