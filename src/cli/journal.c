/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A file that is written to without end and stays small. */
#include "cli/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "os/fd.h"

/* In the place of j->fd; -1 with errno. */
static int open_file(const struct journal *j)
{
    return openat(j->folder, j->name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY,
                  0600);
}

bool journal_open(struct journal *j, int folder, const char *name, GError **error)
{
    struct stat status;
    *j = (struct journal){.name = name, .folder = folder, .fd = -1};
    j->fd = open_file(j);
    if (j->fd < 0 || fstat(j->fd, &status))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot write the guest's %s: %s", name,
                           g_strerror(errno));
    j->size = (size_t)status.st_size;
    return true;
}

void journal_close(struct journal *j)
{
    fd_close(&j->fd);
}

/* The descriptor keeps its number: others may write to it, too. */
static void rotate(struct journal *j)
{
    char old[64];
    snprintf(old, sizeof(old), "%s.1", j->name);
    if (renameat(j->folder, j->name, j->folder, old))
        return;
    AUTO_FD fd = open_file(j);
    if (fd >= 0 && dup3(fd, j->fd, O_CLOEXEC) >= 0)
        j->size = 0;
}

void journal_write(struct journal *j, const void *bytes, size_t size)
{
    if (j->fd < 0 || !size)
        return;
    if (j->size + size > JOURNAL_MAX)
        rotate(j);
    const ssize_t n = write(j->fd, bytes, size);
    if (n > 0)
        j->size += (size_t)n;
}
