/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The last so many bytes of what was written, until they are read. */
#ifndef HOSTEL_CONSOLE_RINGBUF_H
#define HOSTEL_CONSOLE_RINGBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

enum { RINGBUF_SIZE_MAX = 1024 * 1024, RINGBUF_SIZE_DEFAULT = 64 * 1024 };

struct ringbuf;

/* size is a power of two, at most RINGBUF_SIZE_MAX. Its user keeps threads apart. */
struct ringbuf *ringbuf_new(size_t size);
void ringbuf_free(struct ringbuf *r); /* NULL is fine */
CLEANUP_DEFINE(ringbuf, ringbuf_free)

/* Takes all; the oldest bytes make room. */
void ringbuf_write(struct ringbuf *r, const void *bytes, size_t size);

/* Takes out the oldest bytes, up to size; how many. whole: the beginning of a character of UTF-8 stays when
 * the rest of it has not been written yet, or has no place (size must be 4 or more for that). */
size_t ringbuf_read(struct ringbuf *r, void *bytes, size_t size, bool whole);

#endif
