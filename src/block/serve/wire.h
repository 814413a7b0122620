/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The bytes of one connection: plain or through TLS, with a time by which something must be over. */
/*
 * One thread may read while another one writes; two that do the same are the caller's to keep apart.
 */
#ifndef HOSTEL_BLOCK_SERVE_WIRE_H
#define HOSTEL_BLOCK_SERVE_WIRE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct nbd_tls_session;

enum { NBD_WIRE_BUFFER = 16 << 10 };

struct nbd_wire {
    int fd;                      /* borrowed; blocking */
    gint64 deadline;             /* monotonic microseconds; 0 = none */
    struct nbd_tls_session *tls; /* owned; NULL = plain */
    size_t begin, end;           /* of what was read ahead */
    uint8_t buffer[NBD_WIRE_BUFFER];
};

/* All of it, or false: the connection ended or failed, or the time is over. */
bool nbd_wire_read(struct nbd_wire *w, void *bytes, size_t size);
/* The buffers are used up. */
bool nbd_wire_write(struct nbd_wire *w, struct iovec *iov, unsigned n);
bool nbd_wire_skip(struct nbd_wire *w, size_t size);

/* For TLS: as recv() and send(), -1 with errno; ETIMEDOUT when the time is over. */
ssize_t nbd_wire_recv(struct nbd_wire *w, void *bytes, size_t size);
ssize_t nbd_wire_send(struct nbd_wire *w, const struct iovec *iov, unsigned n);

#endif
