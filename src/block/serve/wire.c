/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The bytes of one connection; see wire.h. */
#include "block/serve/wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/param.h>
#include <sys/socket.h>

#include "block/serve/tls.h"

/* Until the socket is ready, no longer than the deadline. False with errno. */
static bool wait(struct nbd_wire *w, short events)
{
    if (!w->deadline)
        return true;
    for (;;) {
        struct pollfd p = {.fd = w->fd, .events = events};
        const gint64 left = w->deadline - g_get_monotonic_time();
        if (left <= 0) {
            errno = ETIMEDOUT;
            return false;
        }
        const int ready = poll(&p, 1, (int)(left / 1000) + 1);
        if (ready > 0)
            return true;
        if (ready < 0 && errno != EINTR)
            return false;
    }
}

ssize_t nbd_wire_recv(struct nbd_wire *w, void *bytes, size_t size)
{
    ssize_t n = -1;
    do {
        if (wait(w, POLLIN))
            n = recv(w->fd, bytes, size, w->deadline ? MSG_DONTWAIT : 0);
        else
            return -1;
    } while (n < 0 && (errno == EINTR || (w->deadline && errno == EAGAIN)));
    return n;
}

ssize_t nbd_wire_send(struct nbd_wire *w, const struct iovec *iov, unsigned n)
{
    const struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
    ssize_t sent = -1;
    do {
        if (wait(w, POLLOUT))
            sent = sendmsg(w->fd, &message, MSG_NOSIGNAL | (w->deadline ? MSG_DONTWAIT : 0));
        else
            return -1;
    } while (sent < 0 && (errno == EINTR || (w->deadline && errno == EAGAIN)));
    return sent;
}

static ssize_t receive(struct nbd_wire *w, void *bytes, size_t size)
{
    return w->tls ? nbd_tls_recv(w->tls, bytes, size) : nbd_wire_recv(w, bytes, size);
}

static bool fill(struct nbd_wire *w)
{
    const ssize_t n = receive(w, w->buffer, sizeof(w->buffer));
    w->begin = 0;
    w->end = n > 0 ? (size_t)n : 0;
    return n > 0;
}

bool nbd_wire_read(struct nbd_wire *w, void *bytes, size_t size)
{
    uint8_t *to = bytes;
    while (size) {
        if (w->begin < w->end) {
            const size_t now = MIN(size, w->end - w->begin);
            memcpy(to, w->buffer + w->begin, now);
            w->begin += now;
            to += now;
            size -= now;
        } else if (size >= sizeof(w->buffer)) { /* much: to where it is to go */
            const ssize_t n = receive(w, to, size);
            if (n <= 0)
                return false;
            to += n;
            size -= (size_t)n;
        } else if (!fill(w)) {
            return false;
        }
    }
    return true;
}

bool nbd_wire_skip(struct nbd_wire *w, size_t size)
{
    while (size) {
        if (w->begin == w->end && !fill(w))
            return false;
        const size_t now = MIN(size, w->end - w->begin);
        w->begin += now;
        size -= now;
    }
    return true;
}

bool nbd_wire_write(struct nbd_wire *w, struct iovec *iov, unsigned n)
{
    while (n) {
        ssize_t sent = w->tls ? nbd_tls_send(w->tls, iov->iov_base, iov->iov_len) : nbd_wire_send(w, iov, n);
        if (sent < 0 || (sent == 0 && iov->iov_len))
            return false;
        for (; n && (size_t)sent >= iov->iov_len; iov++, n--)
            sent -= (ssize_t)iov->iov_len;
        if (n) {
            iov->iov_base = (uint8_t *)iov->iov_base + sent;
            iov->iov_len -= (size_t)sent;
        }
    }
    return true;
}
