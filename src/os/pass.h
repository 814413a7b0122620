/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Bytes and descriptors through a Unix socket. */
#ifndef HOSTEL_OS_PASS_H
#define HOSTEL_OS_PASS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Descriptors that go with one call. */
enum { PASS_MAX = 16 };

struct pass_fds {
    int fd[PASS_MAX]; /* owned */
    unsigned count;
    bool lost; /* received: there were more, or the process has no room for more */
};

/* Reads like recv() and appends to fds what comes along; what finds no place there is closed and fds->lost is
 * set. They do not survive an exec. Never waits. Bytes read, 0 = the end, or -errno. */
ssize_t pass_receive(int socket, void *bytes, size_t size, struct pass_fds *fds);

/* Writes like send(), fds with the first byte; they stay open here. Never waits, raises no signal. Bytes
 * written or -errno. */
ssize_t pass_send(int socket, const void *bytes, size_t size, const struct pass_fds *fds);

/* Closes them all. */
void pass_close(struct pass_fds *fds);

#endif
