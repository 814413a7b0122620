/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Copies that take no space of their own as long as they are equal. */
#include "cli/thin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "os/fd.h"

static bool fail(const char *path, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s%s", path, g_strerror(errno),
                       errno == ENOSPC ? "; make room on that disk" : "");
}

/* One piece that is in use. */
static bool copy_data(int from, int to, off_t at, off_t end)
{
    for (off_t out = at; at < end;) {
        ssize_t n = copy_file_range(from, &at, to, &out, (size_t)(end - at), 0);
        if (n == 0)
            errno = EIO;
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
    }
    return true;
}

static bool copy_sparse(int from, int to, off_t size)
{
    for (off_t at = 0; at < size;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO; /* a hole up to the end */
        off_t hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0 || !copy_data(from, to, data, hole))
            return false;
        at = hole;
    }
    return true;
}

static bool copy(const char *from, const char *to, mode_t mode, uint64_t size, GError **error)
{
    AUTO_FD in = open(from, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (in < 0 || fstat(in, &status))
        return fail(from, error);
    AUTO_FD out = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (out < 0)
        return fail(to, error);
    bool shared = ioctl(out, FICLONE, in) == 0;
    if ((!shared && !copy_sparse(in, out, status.st_size)) ||
        ftruncate(out, MAX((off_t)size, status.st_size)))
        return fail(to, error);
    return true;
}

bool thin_share(const char *from, const char *to, GError **error)
{
    return link(from, to) == 0 || copy(from, to, 0400, 0, error);
}

bool thin_disk(const char *from, const char *to, uint64_t size, GError **error)
{
    return copy(from, to, 0600, size, error);
}
