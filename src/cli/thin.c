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
#include "block/format/overlay.h"
#include "os/fd.h"

static bool fail(const char *path, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s%s", path, g_strerror(errno),
                       errno == ENOSPC ? "; make room on that disk" : "");
}

static bool copy(int in, int out)
{
    for (;;) {
        ssize_t n = copy_file_range(in, NULL, out, NULL, 1 << 30, 0);
        if (n == 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
}

bool thin_share(const char *from, const char *to, GError **error)
{
    if (link(from, to) == 0)
        return true;
    AUTO_FD in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return fail(from, error);
    AUTO_FD out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    /* Blocks are shared where the file system can; holes are lost where it cannot even copy by itself. */
    return (out >= 0 && (ioctl(out, FICLONE, in) == 0 || copy(in, out))) || fail(to, error);
}

bool thin_overlay(const char *base, const char *to, uint64_t size, GError **error)
{
    struct stat status;
    if (stat(base, &status))
        return fail(base, error);
    AUTO_FD out = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return out < 0 ? fail(to, error) : block_overlay_create(out, to, size, (uint64_t)status.st_size, error);
}
