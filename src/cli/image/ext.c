/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Files of ext2, ext3 and ext4, through libext2fs over a disk of ours. */
#include "cli/image/ext.h"

#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <string.h>
#include <sys/param.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"

struct ext {
    struct disk *disk;
    uint64_t offset, size;
    ext2_filsys fs;
};

/* --- the library's way to blocks --- */

/* What the library is to open: it hands its callback only a name. */
static __thread struct ext *opening;

static errcode_t io_open(const char *name, int flags, io_channel *channel)
{
    extern struct struct_io_manager ext_manager;
    if (flags & IO_FLAG_RW || !opening)
        return EROFS;
    io_channel c = g_new0(struct struct_io_channel, 1);
    c->magic = EXT2_ET_MAGIC_IO_CHANNEL;
    c->manager = &ext_manager;
    c->name = g_strdup(name);
    c->block_size = 1024;
    c->refcount = 1;
    c->private_data = opening;
    *channel = c;
    return 0;
}

static errcode_t io_close(io_channel c)
{
    if (--c->refcount)
        return 0;
    g_free(c->name);
    g_free(c);
    return 0;
}

static errcode_t io_block_size(io_channel c, int size)
{
    c->block_size = size;
    return 0;
}

/* A negative count is bytes. */
static errcode_t io_read64(io_channel c, unsigned long long block, int count, void *bytes)
{
    const struct ext *x = c->private_data;
    const uint64_t size = count < 0 ? (uint64_t) - (int64_t)count : (uint64_t)count * (unsigned)c->block_size;
    uint64_t at;
    if (ckd_mul(&at, (uint64_t)block, (uint64_t)c->block_size) || !range_inside(at, size, 0, x->size))
        return EXT2_ET_SHORT_READ;
    int status = block_pread(x->disk, bytes, size, x->offset + at);
    return status ? -status : 0;
}

static errcode_t io_read(io_channel c, unsigned long block, int count, void *bytes)
{
    return io_read64(c, block, count, bytes);
}

static errcode_t io_write64(io_channel c, unsigned long long block, int count, const void *bytes)
{
    (void)c, (void)block, (void)count, (void)bytes;
    return EROFS;
}

static errcode_t io_write(io_channel c, unsigned long block, int count, const void *bytes)
{
    return io_write64(c, block, count, bytes);
}

static errcode_t io_flush(io_channel c)
{
    (void)c;
    return 0;
}

struct struct_io_manager ext_manager;
struct struct_io_manager ext_manager = {
    .magic = EXT2_ET_MAGIC_IO_MANAGER,
    .name = "Hostel disk",
    .open = io_open,
    .close = io_close,
    .set_blksize = io_block_size,
    .read_blk = io_read,
    .write_blk = io_write,
    .flush = io_flush,
    .read_blk64 = io_read64,
    .write_blk64 = io_write64,
};

/* --- a file system --- */

static bool fail(const struct ext *x, const char *path, errcode_t code, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: %s%s%s", x->disk->name, path ? path : "",
                       path ? ": " : "", error_message(code));
}

struct ext *ext_open(struct disk *b, uint64_t offset, uint64_t size, GError **error)
{
    initialize_ext2_error_table();
    AUTO(ext) x = g_new0(struct ext, 1);
    *x = (struct ext){.disk = b, .offset = offset, .size = size};
    opening = x;
    errcode_t code =
        ext2fs_open(b->name, EXT2_FLAG_64BITS | EXT2_FLAG_SOFTSUPP_FEATURES, 0, 0, &ext_manager, &x->fs);
    opening = NULL;
    if (!code)
        return STEAL(x);
    if (code == EXT2_ET_BAD_MAGIC)
        hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                    "%s: no ext2, ext3 or ext4 file system is there, and others are not read", b->name);
    else
        fail(x, NULL, code, error);
    return NULL;
}

void ext_free(struct ext *x)
{
    if (!x)
        return;
    if (x->fs)
        ext2fs_free(x->fs);
    g_free(x);
}

bool ext_dirty(const struct ext *x)
{
    return ext2fs_has_feature_journal_needs_recovery(x->fs->super);
}

/* --- files --- */

static bool find(struct ext *x, const char *path, ext2_ino_t *ino, struct ext2_inode *inode, GError **error)
{
    errcode_t code = ext2fs_namei_follow(x->fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, ino);
    if (!code)
        code = ext2fs_read_inode(x->fs, *ino, inode);
    return !code || fail(x, path, code, error);
}

static struct ext_entry describe(const char *name, const struct ext2_inode *inode)
{
    return (struct ext_entry){
        .name = name,
        .mode = inode->i_mode,
        .uid = inode_uid(*inode),
        .gid = inode_gid(*inode),
        .links = inode->i_links_count,
        .size = EXT2_I_SIZE(inode),
        .seconds = (int32_t)inode->i_mtime,
    };
}

struct listing {
    struct ext *x;
    void (*each)(void *opaque, const struct ext_entry *entry);
    void *opaque;
    errcode_t code;
};

static int list_entry(ext2_ino_t dir, int kind, struct ext2_dir_entry *entry, int offset, int block_size,
                      char *block, void *opaque)
{
    (void)dir, (void)offset, (void)block_size, (void)block;
    struct listing *l = opaque;
    struct ext2_inode inode;
    if (kind == DIRENT_DOT_FILE || kind == DIRENT_DOT_DOT_FILE)
        return 0;
    g_autofree char *name = g_strndup(entry->name, (gsize)ext2fs_dirent_name_len(entry));
    l->code = ext2fs_read_inode(l->x->fs, entry->inode, &inode);
    if (l->code)
        return DIRENT_ABORT;
    const struct ext_entry e = describe(name, &inode);
    l->each(l->opaque, &e);
    return 0;
}

bool ext_list(struct ext *x, const char *path, void (*each)(void *opaque, const struct ext_entry *entry),
              void *opaque, GError **error)
{
    ext2_ino_t ino;
    struct ext2_inode inode;
    if (!find(x, path, &ino, &inode, error))
        return false;
    if (!LINUX_S_ISDIR(inode.i_mode)) {
        g_autofree char *name = g_path_get_basename(path);
        const struct ext_entry e = describe(name, &inode);
        each(opaque, &e);
        return true;
    }
    struct listing l = {.x = x, .each = each, .opaque = opaque};
    errcode_t code = ext2fs_dir_iterate2(x->fs, ino, 0, NULL, list_entry, &l);
    return (!code && !l.code) || fail(x, path, code ? code : l.code, error);
}

/* size is kept to by ourselves: of a file that lies in its inode the library gives all that would fit. */
static bool copy_out(struct ext *x, const char *path, ext2_file_t file, uint64_t size,
                     bool (*take)(void *opaque, const void *bytes, size_t size, GError **error), void *opaque,
                     GError **error)
{
    enum { PIECE = 1 << 20 };
    g_autofree uint8_t *bytes = g_malloc(PIECE);
    for (unsigned got; size; size -= got) {
        errcode_t code = ext2fs_file_read(file, bytes, PIECE, &got);
        if (code || !got)
            return fail(x, path, code ? code : EXT2_ET_SHORT_READ, error);
        got = (unsigned)MIN(got, size);
        if (!take(opaque, bytes, got, error))
            return false;
    }
    return true;
}

bool ext_read(struct ext *x, const char *path,
              bool (*take)(void *opaque, const void *bytes, size_t size, GError **error), void *opaque,
              GError **error)
{
    ext2_ino_t ino;
    struct ext2_inode inode;
    ext2_file_t file;
    if (!find(x, path, &ino, &inode, error))
        return false;
    if (!LINUX_S_ISREG(inode.i_mode))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: %s: is no regular file", x->disk->name, path);
    errcode_t code = ext2fs_file_open2(x->fs, ino, &inode, 0, &file);
    if (code)
        return fail(x, path, code, error);
    bool ok = copy_out(x, path, file, EXT2_I_SIZE(&inode), take, opaque, error);
    ext2fs_file_close(file);
    return ok;
}
