/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Bytes and descriptors through a Unix socket. */
#include "os/pass.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "os/fd.h"

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(PASS_MAX * sizeof(int))];
};

static void keep(struct pass_fds *fds, int fd)
{
    if (fds->count < PASS_MAX) {
        fds->fd[fds->count++] = fd;
    } else {
        fd_close(&fd);
        fds->lost = true;
    }
}

ssize_t pass_receive(int socket, void *bytes, size_t size, struct pass_fds *fds)
{
    union control control;
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -errno;
    if (message.msg_flags & MSG_CTRUNC)
        fds->lost = true;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            keep(fds, fd);
        }
    }
    return n;
}

ssize_t pass_send(int socket, const void *bytes, size_t size, const struct pass_fds *fds)
{
    union control control = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    size_t length = fds ? fds->count * sizeof(int) : 0;
    if (length) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(length);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(length);
        memcpy(CMSG_DATA(c), fds->fd, length);
    }
    ssize_t n = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

void pass_close(struct pass_fds *fds)
{
    for (unsigned i = 0; i < fds->count; i++)
        fd_close(&fds->fd[i]);
    *fds = (struct pass_fds){0};
}
