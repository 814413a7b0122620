/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Replies of the NBD server, simple and structured. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/byteorder.h"
#include "block/serve/proto.h"
#include "block/serve/session.h"

enum { CHUNK_HEAD = 20, SIMPLE_HEAD = 16 };

/* The protocol knows few errors, with numbers of its own. */
static uint32_t wire_error(int error)
{
    switch (-error) {
    case 0: return 0;
    case EPERM:
    case EACCES:
    case EROFS: return NBD_EPERM;
    case ENOMEM: return NBD_ENOMEM;
    case EINVAL: return NBD_EINVAL;
    case EFBIG:
    case EDQUOT:
    case ENOSPC: return NBD_ENOSPC;
    case EOVERFLOW: return NBD_EOVERFLOW;
    case EOPNOTSUPP: return NBD_ENOTSUP;
    default: return NBD_EIO;
    }
}

static void send_reply(struct nbd_session *s, struct iovec *iov, unsigned n)
{
    pthread_mutex_lock(&s->write_lock);
    const bool sent = nbd_wire_write(&s->wire, iov, n);
    pthread_mutex_unlock(&s->write_lock);
    if (!sent)
        shutdown(s->wire.fd, SHUT_RDWR); /* whoever reads sees the end */
}

static void chunk_head(uint8_t *head, const struct nbd_request *r, uint16_t type, size_t size, bool last)
{
    st32be(head, NBD_CHUNK_MAGIC);
    st16be(head + 4, last ? NBD_CHUNK_DONE : 0);
    st16be(head + 6, type);
    st64be(head + 8, r->cookie);
    st32be(head + 16, (uint32_t)size);
}

static void simple_head(uint8_t *head, const struct nbd_request *r, int error)
{
    st32be(head, NBD_SIMPLE_MAGIC);
    st32be(head + 4, wire_error(error));
    st64be(head + 8, r->cookie);
}

/* A structured reply is a must only for reads and for status, and allowed for all: an error may say more
 * there. */
void nbd_reply_done(struct nbd_session *s, const struct nbd_request *r, int error)
{
    uint8_t bytes[CHUNK_HEAD + 6] = {0};
    struct iovec iov = {bytes, CHUNK_HEAD};
    if (!s->structured) {
        simple_head(bytes, r, error);
        iov.iov_len = SIMPLE_HEAD;
    } else if (error) {
        chunk_head(bytes, r, NBD_CHUNK_ERROR, 6, true);
        st32be(bytes + CHUNK_HEAD, wire_error(error));
        iov.iov_len = CHUNK_HEAD + 6;
    } else {
        chunk_head(bytes, r, NBD_CHUNK_NONE, 0, true);
    }
    send_reply(s, &iov, 1);
}

void nbd_reply_bytes(struct nbd_session *s, const struct nbd_request *r, const void *bytes)
{
    uint8_t head[SIMPLE_HEAD];
    simple_head(head, r, 0);
    struct iovec iov[] = {{head, sizeof(head)}, {(void *)(uintptr_t)bytes, r->length}};
    send_reply(s, iov, 2);
}

void nbd_reply_data(struct nbd_session *s, const struct nbd_request *r, uint64_t offset, const void *bytes,
                    uint32_t size, bool last)
{
    uint8_t head[CHUNK_HEAD + 8];
    chunk_head(head, r, NBD_CHUNK_DATA, 8 + (size_t)size, last);
    st64be(head + CHUNK_HEAD, offset);
    struct iovec iov[] = {{head, sizeof(head)}, {(void *)(uintptr_t)bytes, size}};
    send_reply(s, iov, 2);
}

void nbd_reply_hole(struct nbd_session *s, const struct nbd_request *r, uint64_t offset, uint32_t size,
                    bool last)
{
    uint8_t bytes[CHUNK_HEAD + 12];
    chunk_head(bytes, r, NBD_CHUNK_HOLE, 12, last);
    st64be(bytes + CHUNK_HEAD, offset);
    st32be(bytes + CHUNK_HEAD + 8, size);
    struct iovec iov = {bytes, sizeof(bytes)};
    send_reply(s, &iov, 1);
}

void nbd_reply_status(struct nbd_session *s, const struct nbd_request *r, uint32_t context,
                      const uint32_t *words, unsigned count, bool last)
{
    uint8_t head[CHUNK_HEAD + 4];
    chunk_head(head, r, NBD_CHUNK_STATUS, 4 + (size_t)count * 4, last);
    st32be(head + CHUNK_HEAD, context);
    struct iovec iov[] = {{head, sizeof(head)}, {(void *)(uintptr_t)words, (size_t)count * 4}};
    send_reply(s, iov, 2);
}
