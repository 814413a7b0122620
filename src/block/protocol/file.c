/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Protocol file: the bytes of a file, or of a block device. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/error.h"
#include "block/block.h"
#include "block/file.h"
#include "os/fd.h"

struct file_disk {
    struct disk disk;
    int fd;
    bool device;
    _Atomic bool no_nowait, no_discard, no_zero; /* what the file system was found not to have */
    pthread_mutex_t known;
    uint64_t data_from, data_to; /* holds no hole, as far as we know; known */
};

static struct file_disk *file_disk(struct disk *b)
{
    return (struct file_disk *)(void *)b;
}

/* --- open --- */

static void find_facts(struct file_disk *d, const struct stat *status)
{
    struct block_facts *f = &d->disk.facts;
    f->alignment = 1;
    f->granularity = BLOCK_SECTOR;
    f->preferred = 4096;
    int sector = 0;
    unsigned int physical = 0;
    if (!S_ISBLK(status->st_mode)) {
        /* A hole is a whole block of the file system; smaller pieces are zeroed, which helps nobody. */
        if (status->st_blksize > 0 && status->st_blksize <= 65536)
            f->granularity = (uint32_t)status->st_blksize;
    } else if (!ioctl(d->fd, BLKSSZGET, &sector) && !ioctl(d->fd, BLKPBSZGET, &physical)) {
        f->granularity = (uint32_t)sector;
        f->preferred = physical;
    }
    if (f->granularity & (f->granularity - 1))
        f->granularity = 4096;
    if (f->preferred & (f->preferred - 1))
        f->preferred = 4096;
}

static bool file_open(struct disk *b, struct block_config *config, GError **error)
{
    struct file_disk *d = file_disk(b);
    AUTO_FD fd = fd_steal(&config->fd);
    struct stat status;
    uint64_t size;
    if (!block_file_claim(fd, b->name, config->readonly, !(config->flags & BLOCK_OPEN_SHARED), &size, error))
        return false;
    if (fstat(fd, &status))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", b->name, g_strerror(errno));
    d->fd = fd_steal(&fd);
    pthread_mutex_init(&d->known, NULL);
    b->facts.size = size;
    d->device = S_ISBLK(status.st_mode);
    b->facts.growable = !d->device && !config->readonly;
    find_facts(d, &status);
    return true;
}

extern const struct block_driver block_driver_file;

/* The descriptor that b lies on in the end; -1: it lies on no file. */
static int lowest_fd(const struct disk *b)
{
    while (b->below)
        b = b->below;
    return b->driver == &block_driver_file ? ((const struct file_disk *)(const void *)b)->fd : -1;
}

static bool set_lock(int fd, short type)
{
    struct flock whole = {.l_type = type, .l_whence = SEEK_SET};
    return !fcntl(fd, F_OFD_SETLK, &whole);
}

void block_file_share(const struct disk *b)
{
    int fd = lowest_fd(b);
    if (fd >= 0)
        set_lock(fd, F_RDLCK);
}

bool block_file_own(const struct disk *b)
{
    int fd = lowest_fd(b);
    return fd < 0 || set_lock(fd, F_WRLCK);
}

bool block_file_yield(const struct disk *b, int fd, bool readonly, GError **error)
{
    int own = lowest_fd(b);
    struct stat one, two;
    if (own < 0 || fstat(own, &one) || fstat(fd, &two) || one.st_dev != two.st_dev ||
        one.st_ino != two.st_ino)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: what was handed in is another file", b->name);
    /* As long as we have one for reading, nobody else becomes a writer. */
    bool done = set_lock(own, F_RDLCK) && set_lock(fd, F_RDLCK);
    if (done) {
        set_lock(own, F_UNLCK);
        done = readonly || set_lock(fd, F_WRLCK);
        if (!done)
            block_file_return(b, fd);
    }
    return done ||
           hostel_fail(error, HOSTEL_ERROR_HOST,
                       "%s: is in use by another guest, which reads it; stop that guest first", b->name);
}

void block_file_return(const struct disk *b, int fd)
{
    set_lock(fd, F_RDLCK);
    block_file_share(b);
    set_lock(fd, F_UNLCK); /* others may have its open file */
}

int block_file_dup(const struct disk *b)
{
    int fd = lowest_fd(b);
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static void file_close(struct disk *b)
{
    pthread_mutex_destroy(&file_disk(b)->known);
    fd_close(&file_disk(b)->fd);
}

/* --- read and write --- */

/* One call of preadv2 or pwritev2. */
typedef ssize_t (*transfer)(int fd, const struct iovec *iov, int n, off_t offset, int flags);

static ssize_t once(transfer call, int fd, const struct iovec *iov, unsigned n, uint64_t offset)
{
    for (;;) {
        ssize_t done = call(fd, iov, (int)n, (off_t)offset, 0);
        if (done > 0)
            return done;
        if (done == 0) /* the end of the file, which was longer when it was opened */
            return -EIO;
        if (errno != EINTR)
            return -errno;
    }
}

/* All of it, however many calls that takes. After a short one the rest of the buffer it stopped in goes by
 * itself, so that the list, which is the caller's, stays as it is. */
static int all(transfer call, int fd, const struct iovec *iov, unsigned n, uint64_t offset)
{
    while (n) {
        ssize_t done = once(call, fd, iov, n, offset);
        if (done < 0)
            return (int)done;
        offset += (uint64_t)done;
        size_t left = (size_t)done;
        for (; n && left >= iov->iov_len; iov++, n--)
            left -= iov->iov_len;
        while (left) {
            const struct iovec rest = {(char *)iov->iov_base + left, iov->iov_len - left};
            done = once(call, fd, &rest, 1, offset);
            if (done < 0)
                return (int)done;
            offset += (uint64_t)done;
            left += (size_t)done;
            if (left == iov->iov_len) {
                left = 0;
                iov++, n--;
            }
        }
    }
    return 0;
}

/* What is in the page cache. A file system that cannot tell is not asked again. */
static int read_cached(struct file_disk *d, const struct iovec *iov, unsigned n, uint64_t offset)
{
    if (atomic_load_explicit(&d->no_nowait, memory_order_relaxed))
        return -EAGAIN;
    ssize_t done = preadv2(d->fd, iov, (int)n, (off_t)offset, RWF_NOWAIT);
    if (done < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        atomic_store_explicit(&d->no_nowait, true, memory_order_relaxed);
    return done >= 0 && (uint64_t)done == block_iov_size(iov, n) ? 0 : -EAGAIN;
}

static int file_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct file_disk *d = file_disk(b);
    if (flags & BLOCK_NOWAIT)
        return read_cached(d, iov, n, offset);
    return all(preadv2, d->fd, iov, n, offset);
}

static int file_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return all(pwritev2, file_disk(b)->fd, iov, n, offset);
}

/* Never repeated, whatever the error: the kernel counts the pages as clean after it has told us once. */
static int file_flush(struct disk *b)
{
    return fdatasync(file_disk(b)->fd) ? -errno : 0;
}

/* --- space --- */

static void know_data(struct file_disk *d, uint64_t from, uint64_t to)
{
    pthread_mutex_lock(&d->known);
    d->data_from = from;
    d->data_to = to;
    pthread_mutex_unlock(&d->known);
}

static int allocate(struct file_disk *d, int mode, uint64_t offset, uint64_t size, _Atomic bool *never)
{
    if (atomic_load_explicit(never, memory_order_relaxed))
        return -EOPNOTSUPP;
    int status;
    do
        status = fallocate(d->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) ? -errno : 0;
    while (status == -EINTR);
    if (status == -ENOSYS || status == -ENODEV)
        status = -EOPNOTSUPP;
    if (status == -EOPNOTSUPP)
        atomic_store_explicit(never, true, memory_order_relaxed);
    know_data(d, 0, 0);
    return status;
}

static int file_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return allocate(file_disk(b), FALLOC_FL_PUNCH_HOLE, offset, size, &file_disk(b)->no_discard);
}

static int file_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct file_disk *d = file_disk(b);
    int status = -EOPNOTSUPP;
    if (flags & BLOCK_MAY_UNMAP)
        status = allocate(d, FALLOC_FL_PUNCH_HOLE, offset, size, &d->no_discard);
    if (status == -EOPNOTSUPP)
        status = allocate(d, FALLOC_FL_ZERO_RANGE, offset, size, &d->no_zero);
    return status;
}

/* Where the data that offset lies in ends, when that is known. Looking for it takes tmpfs longer the further
 * it is away, and formats ask for each of their clusters. An outdated answer is not wrong: a hole may always
 * be called data. */
static uint64_t known_data(struct file_disk *d, uint64_t offset)
{
    pthread_mutex_lock(&d->known);
    const uint64_t to = offset >= d->data_from && offset < d->data_to ? d->data_to : 0;
    pthread_mutex_unlock(&d->known);
    return to;
}

/* SEEK_DATA and SEEK_HOLE; the file's position, which they move, is used by nobody. */
static int file_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct file_disk *d = file_disk(b);
    const uint64_t end = offset + size;
    uint64_t data_to = known_data(d, offset);
    if (!data_to) {
        off_t data = lseek(d->fd, (off_t)offset, SEEK_DATA);
        if (data < 0 && errno != ENXIO)
            return -EOPNOTSUPP;
        if (data < 0 || (uint64_t)data > offset) { /* ENXIO: nothing but a hole up to the end */
            extent->hole = extent->zero = true;
            extent->size = data < 0 ? size : MIN(end, (uint64_t)data) - offset;
            return 0;
        }
        off_t hole = lseek(d->fd, (off_t)offset, SEEK_HOLE);
        data_to = hole > 0 && (uint64_t)hole > offset ? (uint64_t)hole : end;
        know_data(d, offset, data_to);
    }
    extent->place = offset;
    extent->size = MIN(end, data_to) - offset;
    return 0;
}

static int file_resize(struct disk *b, uint64_t size)
{
    if (file_disk(b)->device) /* has the size it has */
        return -EOPNOTSUPP;
    int status;
    do
        status = ftruncate(file_disk(b)->fd, (off_t)size) ? -errno : 0;
    while (status == -EINTR);
    return status;
}

const struct block_driver block_driver_file = {
    .name = "file",
    .help = "a file or a block device of the host",
    .kind = BLOCK_PROTOCOL,
    .needs_file = true,
    .size = sizeof(struct file_disk),
    .open = file_open,
    .close = file_close,
    .read = file_read,
    .write = file_write,
    .flush = file_flush,
    .discard = file_discard,
    .zero = file_zero,
    .extent = file_extent,
    .resize = file_resize,
};
