/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The few things one does to descriptors. */
#include "os/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

void fd_close(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd);
    errno = saved;
    *fd = -1;
}

int fd_set_nonblock(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return wanted == flags || fcntl(fd, F_SETFL, wanted) == 0 ? 0 : -errno;
}

int fd_set_inherited(int fd, bool on)
{
    return fcntl(fd, F_SETFD, on ? 0 : FD_CLOEXEC) == 0 ? 0 : -errno;
}

bool fd_is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

int fd_read_at(int fd, void *bytes, size_t size, uint64_t at)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = pread(fd, (uint8_t *)bytes + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -ENODATA;
        done += (size_t)n;
    }
    return 0;
}

int fd_write_at(int fd, const void *bytes, size_t size, uint64_t at)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = pwrite(fd, (const uint8_t *)bytes + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -ENOSPC;
        done += (size_t)n;
    }
    return 0;
}

/* The lowest descriptor of keep that is at least from; INT_MAX when there is none. */
static int next_kept(int from, const int *keep, size_t count)
{
    int lowest = INT_MAX;
    for (size_t i = 0; i < count; i++)
        if (keep[i] >= from && keep[i] < lowest)
            lowest = keep[i];
    return lowest;
}

void fd_close_all_but(const int *keep, size_t count)
{
    for (int from = STDERR_FILENO + 1;;) {
        int kept = next_kept(from, keep, count);
        if (kept > from)
            close_range((unsigned)from, kept == INT_MAX ? ~0U : (unsigned)kept - 1, 0);
        if (kept == INT_MAX)
            return;
        from = kept + 1;
    }
}
