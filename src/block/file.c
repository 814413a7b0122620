/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The file under a disk. */
/*
 * The lock is an "open file description" lock over the whole file. It belongs to the open file and not to a
 * process, so `hostel` can take it and hand it on with the descriptor, it ends with the last descriptor
 * however its holder ends, and closing another descriptor of the same file does not drop it. QEMU takes locks
 * of the same kind on single bytes of its images, so the two refuse each other's disks, too.
 */
#include "block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "block/block.h"
#include "os/fd.h"

static const char *advice(int why)
{
    switch (why) {
    case ENOENT: return "check its path, or make a disk: truncate -s 4G FILE";
    case EACCES:
    case EPERM: return "make it readable and writable for you, or add readonly=on";
    case EROFS: return "add readonly=on";
    case EBUSY: return "it is mounted or in use; unmount it first";
    default: return "give another file";
    }
}

int block_file_open(const char *path, bool readonly, GError **error)
{
    /* O_EXCL matters for block devices only: the host must not have them mounted. O_NONBLOCK: a named pipe is
     * refused later and must not keep us waiting. */
    struct stat status;
    int device = !readonly && !stat(path, &status) && S_ISBLK(status.st_mode) ? O_EXCL : 0;
    int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | device | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0)
        return fd;
    int why = errno;
    if (why == EISDIR)
        hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is a directory; give an image", path);
    else
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot open it: %s; %s", path, g_strerror(why),
                    advice(why));
    return -1;
}

static bool find_size(int fd, const char *name, uint64_t *size, GError **error)
{
    struct stat status;
    if (fstat(fd, &status))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s", name, g_strerror(errno));
    if (S_ISDIR(status.st_mode))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is a directory; give an image", name);
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: is neither a file nor a block device", name);
    off_t end = S_ISREG(status.st_mode) ? status.st_size : lseek(fd, 0, SEEK_END);
    if (end < 0)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: its size is unknown: %s", name, g_strerror(errno));
    *size = (uint64_t)end;
    return true;
}

static bool lock(int fd, const char *name, bool readonly, GError **error)
{
    struct flock whole = {.l_type = readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    if (!fcntl(fd, F_OFD_SETLK, &whole))
        return true;
    if (errno != EAGAIN && errno != EACCES)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot lock it: %s", name, g_strerror(errno));
    if (readonly)
        return hostel_fail(error, HOSTEL_ERROR_HOST,
                           "%s: is in use by another guest, which writes to it; stop that guest first", name);
    return hostel_fail(error, HOSTEL_ERROR_HOST,
                       "%s: is in use by another guest; stop that guest first, or share the disk with "
                       "readonly=on for both",
                       name);
}

bool block_file_claim(int fd, const char *name, bool readonly, bool locked, uint64_t *size, GError **error)
{
    int mode = fcntl(fd, F_GETFL);
    if (mode < 0 || (!readonly && (mode & O_ACCMODE) != O_RDWR) || (mode & O_ACCMODE) == O_WRONLY)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the descriptor is not open for %s", name,
                           readonly ? "reading" : "reading and writing");
    return find_size(fd, name, size, error) && (!locked || lock(fd, name, readonly, error));
}
