/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Bytes on their way from one descriptor to another. */
#include "cli/flow.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Makes room behind the bytes. */
static void pack(struct flow *f)
{
    memmove(f->bytes, f->bytes + f->head, f->length);
    f->head = 0;
}

size_t flow_put(struct flow *f, const uint8_t *bytes, size_t size)
{
    pack(f);
    size_t fits = FLOW_SIZE - f->length < size ? FLOW_SIZE - f->length : size;
    memcpy(f->bytes + f->length, bytes, fits);
    f->length += fits;
    return fits;
}

int flow_read(struct flow *f, int fd)
{
    pack(f);
    ssize_t n = read(fd, f->bytes + f->length, FLOW_SIZE - f->length);
    if (n < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    f->length += (size_t)n;
    return (int)n;
}

int flow_write(struct flow *f, int fd)
{
    ssize_t n = write(fd, f->bytes + f->head, f->length);
    if (n >= 0) {
        f->head += (size_t)n;
        f->length -= (size_t)n;
        return 0;
    }
    if (errno == EAGAIN || errno == EINTR)
        return -EAGAIN;
    f->length = 0;
    return -errno;
}
