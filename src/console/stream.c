/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A byte stream over descriptors: a bounded ring of output, input at the chip's pace. */
/*
 * Theory of operation
 *
 * Output has a short way and a long one. Short: the ring is empty, so the writer's thread writes to the
 * descriptor, which never blocks. Long: what the descriptor did not take goes into the ring, and the main
 * loop writes it when the descriptor is ready. While the ring holds a byte nobody takes the short way, so
 * bytes stay in order.
 *
 * Input is read by the main loop into a small buffer, and offered to the chip from there. When the chip does
 * not take all of it, nothing more is read until the chip calls stream_more().
 *
 * One GSource serves both directions. Other threads never touch its descriptors: they make it ready
 * (g_source_set_ready_time is safe from any thread), and its dispatch, on the main thread, decides anew what
 * to wait for. A descriptor whose direction has nothing to wait for is not watched at all: a watched one
 * would report a hang-up without end.
 *
 * An exchange of the ends happens on the main thread and, as far as writers see the descriptors, under the
 * lock: a byte is written to the old end, or to the new one, or waits in the ring for whichever is there.
 * Nobody else has the old descriptors then, so they can be closed.
 *
 * An end that listens has one caller at a time. Its descriptor comes and goes in the same way; that it has
 * gone is noticed when its line is read or written, and then the next one is answered.
 */
#include "console/stream.h"

#include <errno.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "console/ringbuf.h"
#include "os/fd.h"

enum { RING_SIZE = 64 * 1024, INPUT_SIZE = 256, DRAIN_MS = 1000, DEAF_MS = 500 };

struct stream {
    const struct stream_client *client;
    void *opaque;
    struct stream_source *source; /* NULL: a stream that never has descriptors */

    GMutex lock;           /* guards what follows; the main thread alone changes end, and reads it without */
    struct stream_end end; /* a descriptor of -1: no such direction */
    uint8_t *ring;         /* RING_SIZE bytes; NULL: there has been no descriptor to write to */
    size_t head, length;   /* the oldest byte, how many */
    bool starved;          /* the chip was told that the ring is full */
    bool broken;           /* output is discarded from now on */
    bool more;             /* the chip can take input again */

    /* Main thread only. */
    uint8_t input[INPUT_SIZE];
    size_t input_head, input_length;
    bool busy; /* the chip left bytes in input */
    bool ended;
    bool deaf; /* a caller could not be answered: wait a little */
};

struct stream_source {
    GSource base;
    struct stream *stream;
    gpointer in_tag, out_tag, listen_tag; /* NULL: not watched */
};

/* Any thread: the main loop looks again what there is to do. */
static void wake(struct stream *s)
{
    g_source_set_ready_time(&s->source->base, 0);
}

/* Writes what the end takes now; how many bytes are done with. The lock is held. */
static size_t write_now_locked(struct stream *s, const uint8_t *bytes, size_t size)
{
    size_t done = 0;
    if (s->end.memory)
        ringbuf_write(s->end.memory, bytes, size);
    if (s->end.out < 0)
        return size;
    while (done < size && !s->broken) {
        ssize_t n = write(s->end.out, bytes + done, size - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0 || errno == EAGAIN) {
            return done;
        } else if (errno != EINTR) {
            s->broken = true;
            if (s->end.listen >= 0)
                wake(s);             /* for the next caller */
            else if (errno != EPIPE) /* a client that has gone is its own business */
                log_warn(LOG_CONSOLE, "console output is lost from here on: %s", g_strerror(errno));
        }
    }
    return size;
}

/* Writes what the ring holds, as far as the descriptor takes it. */
static void drain_locked(struct stream *s)
{
    while (s->length) {
        size_t run = MIN(s->length, RING_SIZE - s->head);
        size_t n = write_now_locked(s, s->ring + s->head, run);
        s->head = (s->head + n) % RING_SIZE;
        s->length -= n;
        if (n < run)
            return;
    }
    s->head = 0; /* a ring that is often empty uses its first page only */
}

/* Puts bytes behind those in the ring; how many fitted. */
static size_t queue_locked(struct stream *s, const uint8_t *bytes, size_t size)
{
    size_t fits = MIN(size, RING_SIZE - s->length);
    size_t tail = (s->head + s->length) % RING_SIZE, first = MIN(fits, RING_SIZE - tail);
    memcpy(s->ring + tail, bytes, first);
    memcpy(s->ring, bytes + first, fits - first);
    s->length += fits;
    return fits;
}

size_t stream_write(struct stream *s, const void *bytes, size_t size)
{
    g_mutex_lock(&s->lock);
    size_t done = s->length ? 0 : write_now_locked(s, bytes, size);
    if (done < size) {
        if (!s->length)
            wake(s);
        done += queue_locked(s, (const uint8_t *)bytes + done, size - done);
        s->starved |= done < size;
    }
    g_mutex_unlock(&s->lock);
    return done;
}

void stream_more(struct stream *s)
{
    g_mutex_lock(&s->lock);
    s->more = true;
    g_mutex_unlock(&s->lock);
    if (s->source)
        wake(s);
}

void stream_break(struct stream *s)
{
    if (s->client && s->client->brk)
        s->client->brk(s->opaque);
}

void stream_resize(struct stream *s, unsigned columns, unsigned rows)
{
    if (s->client && s->client->resized)
        s->client->resized(s->opaque, columns, rows);
}

/* --- main thread --- */

static void serve_output(struct stream *s)
{
    g_mutex_lock(&s->lock);
    drain_locked(s);
    bool tell = s->starved && s->length <= RING_SIZE / 2;
    if (tell)
        s->starved = false;
    g_mutex_unlock(&s->lock);
    if (tell && s->client && s->client->writable)
        s->client->writable(s->opaque);
}

/* Reads when the buffer is empty; false when there is nothing to offer. */
static bool fill_input(struct stream *s)
{
    if (s->input_length)
        return true;
    ssize_t n = read(s->end.in, s->input, sizeof(s->input));
    if (n > 0) {
        s->input_head = 0;
        s->input_length = (size_t)n;
        return true;
    }
    s->ended = n == 0 || (errno != EAGAIN && errno != EINTR);
    return false;
}

static void serve_input(struct stream *s, bool readable)
{
    g_mutex_lock(&s->lock);
    if (s->more)
        s->busy = false;
    s->more = false;
    g_mutex_unlock(&s->lock);
    /* One buffer each time: others on the main loop have their turn, and poll() calls us again. */
    if (!s->client || s->busy || s->ended || (!s->input_length && !readable) || !fill_input(s))
        return;
    size_t taken = s->client->input(s->opaque, s->input + s->input_head, s->input_length);
    s->input_head += taken;
    s->input_length -= taken;
    s->busy = s->input_length > 0;
}

static void watch(struct stream_source *source, gpointer *tag, int fd, GIOCondition what, bool on)
{
    if (on && !*tag) {
        *tag = g_source_add_unix_fd(&source->base, fd, what);
    } else if (!on && *tag) {
        g_source_remove_unix_fd(&source->base, *tag);
        *tag = NULL;
    }
}

static void watch_what_matters(struct stream_source *source)
{
    struct stream *s = source->stream;
    g_mutex_lock(&s->lock);
    bool out = s->length > 0;
    if (s->more && s->busy) /* said while the chip was being served */
        wake(s);
    g_mutex_unlock(&s->lock);
    watch(source, &source->out_tag, s->end.out, G_IO_OUT, out);
    watch(source, &source->listen_tag, s->end.listen, G_IO_IN,
          s->end.listen >= 0 && s->end.in < 0 && !s->deaf);
    watch(source, &source->in_tag, s->end.in, G_IO_IN, s->end.in >= 0 && s->client && !s->busy && !s->ended);
}

/* --- callers --- */

static void unwatch_line(struct stream *s)
{
    watch(s->source, &s->source->out_tag, s->end.out, G_IO_OUT, false);
    watch(s->source, &s->source->in_tag, s->end.in, G_IO_IN, false);
}

/* The caller has gone; what was not sent to it goes nowhere. */
static void hang_up(struct stream *s)
{
    unwatch_line(s);
    g_mutex_lock(&s->lock);
    fd_close(&s->end.in);
    s->end.out = -1;
    s->broken = false;
    drain_locked(s);
    g_mutex_unlock(&s->lock);
    s->ended = false;
    wake(s); /* a chip may wait for room */
}

static void answer(struct stream *s)
{
    int fd = accept4(s->end.listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
            return;
        s->deaf = true; /* without room for a descriptor, asking at once again would be vain */
        g_source_set_ready_time(&s->source->base, g_get_monotonic_time() + DEAF_MS * 1000);
        return;
    }
    g_mutex_lock(&s->lock);
    s->end.in = s->end.out = fd;
    g_mutex_unlock(&s->lock);
}

static void serve_callers(struct stream *s, bool calls)
{
    g_mutex_lock(&s->lock);
    bool gone = s->end.in >= 0 && (s->ended || s->broken);
    g_mutex_unlock(&s->lock);
    if (gone)
        hang_up(s);
    else if (calls && s->end.in < 0)
        answer(s);
}

static gboolean stream_dispatch(GSource *base, GSourceFunc callback G_GNUC_UNUSED,
                                gpointer data G_GNUC_UNUSED)
{
    struct stream_source *source = (struct stream_source *)(void *)base;
    struct stream *s = source->stream;
    g_source_set_ready_time(base, -1); /* first: whoever wakes us from here on wakes us again */
    bool readable = source->in_tag && g_source_query_unix_fd(base, source->in_tag);
    s->deaf = false;
    bool calls = source->listen_tag && g_source_query_unix_fd(base, source->listen_tag);
    serve_output(s);
    serve_input(s, readable);
    if (s->end.listen >= 0)
        serve_callers(s, calls);
    watch_what_matters(source);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs stream_funcs = {.dispatch = stream_dispatch};

struct stream *stream_new_null(void)
{
    struct stream *s = g_new0(struct stream, 1);
    s->end = STREAM_NOWHERE;
    g_mutex_init(&s->lock);
    return s;
}

/* Takes the end over. The lock is held, or nobody else knows the stream. */
static void take_end(struct stream *s, const struct stream_end *end)
{
    s->end = *end;
    if (end->in >= 0)
        fd_set_nonblock(end->in, true);
    if (end->out >= 0)
        fd_set_nonblock(end->out, true);
    if (end->listen >= 0)
        fd_set_nonblock(end->listen, true);
    if (!s->ring && (end->out >= 0 || end->listen >= 0))
        s->ring = g_malloc(RING_SIZE);
}

static void close_end(struct stream_end *end)
{
    if (end->in == end->out)
        end->in = -1;
    fd_close(&end->in);
    fd_close(&end->out);
    fd_close(&end->listen);
    ringbuf_free(end->memory);
}

struct stream *stream_new_fd(GMainContext *context, int in_fd, int out_fd)
{
    struct stream *s = stream_new_null();
    take_end(s, &(struct stream_end){.in = in_fd, .out = out_fd, .listen = -1});
    s->source = (struct stream_source *)(void *)g_source_new(&stream_funcs, sizeof(*s->source));
    s->source->stream = s;
    g_source_set_static_name(&s->source->base, "console");
    g_source_attach(&s->source->base, context);
    return s;
}

/* The old end's last chance: what it takes at once. What a broken one does not take is the new one's. */
static void say_goodbye_locked(struct stream *s)
{
    while (s->length && !s->broken) {
        ssize_t n = write(s->end.out, s->ring + s->head, MIN(s->length, RING_SIZE - s->head));
        if (n <= 0)
            return;
        s->head = (s->head + (size_t)n) % RING_SIZE;
        s->length -= (size_t)n;
    }
}

void stream_exchange(struct stream *s, const struct stream_end *end)
{
    g_assert(s->source);
    unwatch_line(s);
    watch(s->source, &s->source->listen_tag, s->end.listen, G_IO_IN, false);
    g_mutex_lock(&s->lock);
    struct stream_end old = s->end;
    say_goodbye_locked(s);
    take_end(s, end);
    s->broken = false;
    drain_locked(s);
    g_mutex_unlock(&s->lock);
    s->ended = false;
    close_end(&old);
    wake(s); /* a chip that waits for room is told, and the new descriptors are watched */
}

size_t stream_recall(struct stream *s, void *bytes, size_t size, bool whole)
{
    g_mutex_lock(&s->lock);
    size_t n = s->end.memory ? ringbuf_read(s->end.memory, bytes, size, whole) : 0;
    g_mutex_unlock(&s->lock);
    return n;
}

void stream_attach(struct stream *s, const struct stream_client *client, void *opaque)
{
    s->client = client;
    s->opaque = opaque;
    if (s->source)
        wake(s); /* input is watched from now on */
}

static size_t nobody_input(void *opaque, const uint8_t *bytes, size_t size)
{
    (void)opaque;
    (void)bytes;
    (void)size;
    return 0;
}

void stream_detach(struct stream *s)
{
    static const struct stream_client nobody = {.input = nobody_input};
    if (s)
        stream_attach(s, &nobody, NULL);
}

/* The guest has ended: what it said last should be read by somebody, but nobody can make us wait for long. */
static void drain_before_close(struct stream *s)
{
    gint64 end = g_get_monotonic_time() + DRAIN_MS * 1000;
    g_mutex_lock(&s->lock);
    for (drain_locked(s); s->length; drain_locked(s)) {
        gint64 left = end - g_get_monotonic_time();
        struct pollfd p = {s->end.out, POLLOUT, 0};
        if (left <= 0 || poll(&p, 1, (int)(left / 1000) + 1) == 0)
            break;
    }
    g_mutex_unlock(&s->lock);
}

void stream_free(struct stream *s)
{
    if (!s)
        return;
    if (s->source) {
        g_source_destroy(&s->source->base);
        g_source_unref(&s->source->base);
    }
    if (s->end.out >= 0)
        drain_before_close(s);
    close_end(&s->end);
    g_mutex_clear(&s->lock);
    g_free(s->ring);
    g_free(s);
}
