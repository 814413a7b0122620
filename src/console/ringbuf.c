/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The last so many bytes of what was written: a ring that is never full. */
#include "console/ringbuf.h"

#include <glib.h>
#include <string.h>

enum { CHARACTER_MAX = 4 /* bytes of one of UTF-8 */ };

struct ringbuf {
    size_t size, head, length; /* the oldest byte, how many */
    uint8_t bytes[];
};

struct ringbuf *ringbuf_new(size_t size)
{
    g_assert(size && size <= RINGBUF_SIZE_MAX && !(size & (size - 1)));
    struct ringbuf *r = g_malloc(sizeof(*r) + size);
    *r = (struct ringbuf){.size = size};
    return r;
}

void ringbuf_free(struct ringbuf *r)
{
    g_free(r);
}

static void drop(struct ringbuf *r, size_t n)
{
    r->head = (r->head + n) & (r->size - 1);
    r->length -= n;
}

void ringbuf_write(struct ringbuf *r, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    if (size > r->size) { /* its own end is all that would stay */
        from += size - r->size;
        size = r->size;
    }
    if (size > r->size - r->length)
        drop(r, size - (r->size - r->length));
    size_t tail = (r->head + r->length) & (r->size - 1), first = MIN(size, r->size - tail);
    memcpy(r->bytes + tail, from, first);
    memcpy(r->bytes, from + first, size - first);
    r->length += size;
}

/* How many bytes at the end of a text begin a character that has more of them. */
static size_t unfinished(const uint8_t *text, size_t size)
{
    for (size_t n = 1; n < CHARACTER_MAX && n <= size; n++) {
        const char *last = (const char *)text + size - n;
        if ((*last & 0xc0) == 0x80)
            continue; /* the middle of one */
        return g_utf8_get_char_validated(last, (gssize)n) == (gunichar)-2 ? n : 0;
    }
    return 0;
}

size_t ringbuf_read(struct ringbuf *r, void *bytes, size_t size, bool whole)
{
    size_t n = MIN(size, r->length), first = MIN(n, r->size - r->head);
    memcpy(bytes, r->bytes + r->head, first);
    memcpy((uint8_t *)bytes + first, r->bytes, n - first);
    if (whole && size >= CHARACTER_MAX && r->size >= CHARACTER_MAX)
        n -= unfinished(bytes, n);
    drop(r, n);
    return n;
}
