/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A byte stream between a chip (UART, virtio console) and the outside (descriptor, file, nothing). */
/*
 * Output: a chip writes from a vCPU thread; what the outside does not take at once is kept in a bounded ring,
 * drained by the main loop; when the ring is full the chip is told so and told again when there is room. A
 * guest can thus never block a vCPU thread or grow memory by printing. Input: read by the main loop only as
 * fast as the chip takes it.
 *
 * Where a stream leads can be exchanged while the guest runs. Output that the old end has not taken goes to
 * the new one; input that came from the old end and waits for the chip is delivered.
 */
#ifndef HOSTEL_CONSOLE_STREAM_H
#define HOSTEL_CONSOLE_STREAM_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct ringbuf;
struct stream;

/* Where a stream leads. */
struct stream_end {
    int in, out; /* -1 = no such direction; may be one descriptor */
    /* A socket that listens, non-blocking; -1 = none. One caller at a time is in and out; while there is
     * none, output goes nowhere. */
    int listen;
    struct ringbuf *memory; /* output stays here until it is read, and out is -1; NULL = none */
};

#define STREAM_NOWHERE ((struct stream_end){.in = -1, .out = -1, .listen = -1})

/* What a chip wants to hear; called on the main thread with no stream lock held. */
struct stream_client {
    /* Input: takes up to size bytes, returns how many (0 = busy: call stream_more() when ready). */
    size_t (*input)(void *opaque, const uint8_t *bytes, size_t size);
    /* Room again after stream_write() had returned less than asked. May be NULL. */
    void (*writable)(void *opaque);
    /* A break condition from outside. May be NULL. */
    void (*brk)(void *opaque);
    /* The terminal outside has this many characters now. May be NULL. */
    void (*resized)(void *opaque, unsigned columns, unsigned rows);
};

/* A stream over descriptors (owned from now on; -1 = no such direction), served from context. End of input is
 * not an error; a broken output is discarded with one warning. */
struct stream *stream_new_fd(GMainContext *context, int in_fd, int out_fd);
/* Swallows output, never has input, has no other end later. */
struct stream *stream_new_null(void);
/* Drains what can be written within a second, then closes. NULL is fine. */
void stream_free(struct stream *s);
CLEANUP_DEFINE(stream, stream_free)

/* Set-up. client and opaque borrowed. */
void stream_attach(struct stream *s, const struct stream_client *client, void *opaque);
/* Nobody listens from now on; the stream lives on. Tear-down. NULL is fine. */
void stream_detach(struct stream *s);

/* Any thread, never blocks: how many bytes were taken (all, unless the ring is full). */
size_t stream_write(struct stream *s, const void *bytes, size_t size);
/* The chip can take input again. Any thread. */
void stream_more(struct stream *s);
/* s leads to end from now on, whose parts are the stream's then. Not one of stream_new_null(). Main thread.
 */
void stream_exchange(struct stream *s, const struct stream_end *end);
/* Takes out what the memory at the stream's end has kept, up to size bytes; how many, as of ringbuf_read().
 * 0 when it has no such end. Any thread. */
size_t stream_recall(struct stream *s, void *bytes, size_t size, bool whole);

/* From outside: deliver a break to the chip. Main thread. */
void stream_break(struct stream *s);
/* The same for the size of the terminal there. */
void stream_resize(struct stream *s, unsigned columns, unsigned rows);

#endif
