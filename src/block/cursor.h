/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Moves along the buffers of one operation, for drivers that keep its parts in different places. */
#ifndef HOSTEL_BLOCK_CURSOR_H
#define HOSTEL_BLOCK_CURSOR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* {.iov = iov} stands at the beginning. */
struct block_cursor {
    const struct iovec *iov;
    size_t used; /* of the first */
};

/* The next size bytes, as buffers in out (room for BLOCK_IOV_MAX); how many those are. */
unsigned block_cursor_next(struct block_cursor *c, uint64_t size, struct iovec *out);

/* The next size bytes: copied from there, copied to there, made zero, passed over. */
void block_cursor_fill(struct block_cursor *c, const void *bytes, size_t size);
void block_cursor_take(struct block_cursor *c, void *bytes, size_t size);
void block_cursor_zero(struct block_cursor *c, uint64_t size);
void block_cursor_skip(struct block_cursor *c, uint64_t size);

#endif
