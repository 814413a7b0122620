/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Descriptors that close themselves when their scope ends, and the few things one does to them. */
#ifndef HOSTEL_OS_FD_H
#define HOSTEL_OS_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Closes *fd when it is one (>= 0) and makes it -1; errno is kept. */
void fd_close(int *fd);

/* `AUTO_FD fd = -1;` is closed at the end of its scope unless it was stolen. */
#define AUTO_FD __attribute__((cleanup(fd_close))) int

/* Hands the descriptor out of its variable. */
static inline int fd_steal(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

/* Sets or clears O_NONBLOCK of the open file (which every holder of it shares). 0 or -errno. */
int fd_set_nonblock(int fd, bool on);

/* Decides whether the descriptor survives an exec. 0 or -errno. */
int fd_set_inherited(int fd, bool on);

/* Is fd an open descriptor? */
bool fd_is_open(int fd);

/* All of it, however often that takes: 0, -errno, or -ENODATA at the end of the file, -ENOSPC when nothing
 * more goes into it. */
int fd_read_at(int fd, void *bytes, size_t size, uint64_t at);
int fd_write_at(int fd, const void *bytes, size_t size, uint64_t at);

/* Closes every descriptor from 3 on that is not among the count in keep. Call while there is one thread and
 * nothing has descriptors of its own yet. */
void fd_close_all_but(const int *keep, size_t count);

#endif
