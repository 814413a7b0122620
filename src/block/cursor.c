/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Moving along buffers; see cursor.h. */
#include "block/cursor.h"

#include "block/block.h"

#include <string.h>
#include <sys/param.h>

/* As much as one buffer has of the next size bytes. */
static struct iovec step(struct block_cursor *c, uint64_t size)
{
    while (c->used == c->iov->iov_len) { /* empty ones, too; size says that there is more */
        c->iov++;
        c->used = 0;
    }
    const size_t part = (size_t)MIN(c->iov->iov_len - c->used, size);
    const struct iovec piece = {(char *)c->iov->iov_base + c->used, part};
    c->used += part;
    return piece;
}

uint64_t block_iov_size(const struct iovec *iov, unsigned n)
{
    uint64_t size = 0;
    for (unsigned i = 0; i < n; i++)
        size += iov[i].iov_len;
    return size;
}

unsigned block_cursor_next(struct block_cursor *c, uint64_t size, struct iovec *out)
{
    unsigned n = 0;
    for (; size; n++) {
        out[n] = step(c, size);
        size -= out[n].iov_len;
    }
    return n;
}

void block_cursor_fill(struct block_cursor *c, const void *bytes, size_t size)
{
    for (const char *from = bytes; size;) {
        const struct iovec piece = step(c, size);
        memcpy(piece.iov_base, from, piece.iov_len);
        from += piece.iov_len;
        size -= piece.iov_len;
    }
}

void block_cursor_take(struct block_cursor *c, void *bytes, size_t size)
{
    for (char *to = bytes; size;) {
        const struct iovec piece = step(c, size);
        memcpy(to, piece.iov_base, piece.iov_len);
        to += piece.iov_len;
        size -= piece.iov_len;
    }
}

void block_cursor_zero(struct block_cursor *c, uint64_t size)
{
    while (size) {
        const struct iovec piece = step(c, size);
        memset(piece.iov_base, 0, piece.iov_len);
        size -= piece.iov_len;
    }
}

void block_cursor_skip(struct block_cursor *c, uint64_t size)
{
    while (size)
        size -= step(c, size).iov_len;
}
