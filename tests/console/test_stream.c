/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A stream between a pretended chip and sockets: order, bounds, a slow reader, a busy chip, an end, a broken
 * line. */

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "console/ringbuf.h"
#include "console/stream.h"
#include "os/fd.h"

/* A chip that takes up to `room` bytes, and remembers. */
struct chip {
    struct stream *stream;
    GString *taken;
    size_t room;
    unsigned writable, breaks;
};

static size_t chip_input(void *opaque, const uint8_t *bytes, size_t size)
{
    struct chip *c = opaque;
    size_t n = MIN(size, c->room);
    g_string_append_len(c->taken, (const char *)bytes, (gssize)n);
    c->room -= n;
    return n;
}

static void chip_writable(void *opaque)
{
    ((struct chip *)opaque)->writable++;
}

static void chip_break(void *opaque)
{
    ((struct chip *)opaque)->breaks++;
}

static const struct stream_client client = {
    .input = chip_input, .writable = chip_writable, .brk = chip_break};

struct line {
    struct chip chip;
    int outside;
};

static void line_init(struct line *l)
{
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    *l = (struct line){.outside = pair[0]};
    l->chip.taken = g_string_new(NULL);
    l->chip.stream = stream_new_fd(NULL, pair[1], pair[1]);
    stream_attach(l->chip.stream, &client, &l->chip);
    fd_set_nonblock(l->outside, true);
}

static void line_fini(struct line *l)
{
    stream_free(l->chip.stream);
    fd_close(&l->outside);
    g_string_free(l->chip.taken, TRUE);
}

static void serve(void)
{
    while (g_main_context_iteration(NULL, FALSE)) {
    }
}

/* Does the main loop come to rest, or does it turn for nothing? */
static void assert_at_rest(void)
{
    serve();
    for (int i = 0; i < 100; i++)
        g_assert_false(g_main_context_iteration(NULL, FALSE));
}

static void test_both_ways(void)
{
    struct line l;
    char text[16] = "";
    line_init(&l);
    l.chip.room = 100;
    g_assert_cmpuint(stream_write(l.chip.stream, "hello", 5), ==, 5);
    g_assert_cmpint(read(l.outside, text, sizeof(text)), ==, 5); /* at once, without the main loop */
    g_assert_cmpstr(text, ==, "hello");
    g_assert_cmpint(write(l.outside, "abc", 3), ==, 3);
    serve();
    g_assert_cmpstr(l.chip.taken->str, ==, "abc");
    stream_break(l.chip.stream);
    g_assert_cmpuint(l.chip.breaks, ==, 1);
    assert_at_rest();
    line_fini(&l);
}

static size_t fill(struct line *l, size_t chunk)
{
    g_autofree uint8_t *bytes = g_malloc(chunk);
    size_t written = 0, n;
    do {
        for (size_t i = 0; i < chunk; i++)
            bytes[i] = (uint8_t)((written + i) * 7 >> 3);
        n = stream_write(l->chip.stream, bytes, chunk);
        written += n;
    } while (n == chunk);
    return written;
}

/* Reads everything that is there and checks it; the position reached. */
static size_t check(struct line *l, size_t at)
{
    uint8_t bytes[1000];
    ssize_t n;
    while ((n = read(l->outside, bytes, sizeof(bytes))) > 0)
        for (ssize_t i = 0; i < n; i++, at++)
            g_assert_cmpuint(bytes[i], ==, (uint8_t)(at * 7 >> 3));
    return at;
}

static void test_slow_reader(void)
{
    struct line l;
    line_init(&l);
    size_t written = fill(&l, 777), at = 0;
    g_assert_cmpuint(written, >, 64 * 1024); /* the ring and the socket */
    g_assert_cmpuint(stream_write(l.chip.stream, "x", 1), ==, 0);
    g_assert_cmpuint(l.chip.writable, ==, 0);
    while (at < written) {
        size_t before = at;
        at = check(&l, at);
        g_assert_cmpuint(at, >, before);
        serve();
    }
    g_assert_cmpuint(at, ==, written); /* in order, nothing lost, nothing twice */
    g_assert_cmpuint(l.chip.writable, ==, 1);
    assert_at_rest();
    line_fini(&l);
}

static void test_busy_chip(void)
{
    struct line l;
    line_init(&l);
    l.chip.room = 3;
    g_assert_cmpint(write(l.outside, "abcdefgh", 8), ==, 8);
    assert_at_rest();
    g_assert_cmpstr(l.chip.taken->str, ==, "abc");
    l.chip.room = 2;
    stream_more(l.chip.stream);
    assert_at_rest();
    g_assert_cmpstr(l.chip.taken->str, ==, "abcde");
    l.chip.room = 100;
    assert_at_rest(); /* not asked: nothing comes */
    g_assert_cmpstr(l.chip.taken->str, ==, "abcde");
    stream_more(l.chip.stream);
    assert_at_rest();
    g_assert_cmpstr(l.chip.taken->str, ==, "abcdefgh");
    line_fini(&l);
}

static void test_end_of_input(void)
{
    struct line l;
    char c;
    line_init(&l);
    l.chip.room = 10;
    g_assert_cmpint(write(l.outside, "z", 1), ==, 1);
    shutdown(l.outside, SHUT_WR);
    assert_at_rest();
    g_assert_cmpstr(l.chip.taken->str, ==, "z");
    g_assert_cmpuint(stream_write(l.chip.stream, "y", 1), ==, 1); /* output goes on */
    g_assert_cmpint(read(l.outside, &c, 1), ==, 1);
    line_fini(&l);
}

static void test_broken_output(void)
{
    struct line l;
    line_init(&l);
    fill(&l, 1000);
    fd_close(&l.outside);
    assert_at_rest();
    for (int i = 0; i < 100; i++)
        g_assert_cmpuint(stream_write(l.chip.stream, "lost", 4), ==, 4);
    assert_at_rest();
    line_fini(&l);
}

static void test_last_words(void)
{
    struct line l;
    line_init(&l);
    fill(&l, 1000);
    /* Nobody reads: what cannot be written within a second is given up. */
    gint64 start = g_get_monotonic_time();
    stream_free(g_steal_pointer(&l.chip.stream));
    gint64 took = g_get_monotonic_time() - start;
    g_assert_cmpint(took, >=, 900000);
    g_assert_cmpint(took, <, 5000000);
    line_fini(&l);
}

static void test_null(void)
{
    struct chip chip = {0};
    struct stream *s = stream_new_null();
    stream_attach(s, &client, &chip);
    for (int i = 0; i < 100000; i++)
        g_assert_cmpuint(stream_write(s, "0123456789", 10), ==, 10);
    stream_more(s);
    stream_break(s);
    g_assert_cmpuint(chip.breaks, ==, 1);
    stream_free(s);
    stream_free(NULL);
}

/* --- another end --- */

/* A new end for the line; the old outside. */
static int exchange(struct line *l)
{
    int pair[2], old = l->outside;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    stream_exchange(l->chip.stream, &(struct stream_end){.in = pair[1], .out = pair[1], .listen = -1});
    l->outside = pair[0];
    fd_set_nonblock(l->outside, true);
    return old;
}

/* Bytes that the old reader has not fetched are on its line or on the new one, each once and in order. */
static void test_exchange_when_full(void)
{
    struct line l;
    line_init(&l);
    size_t written = fill(&l, 777), at = 0;
    AUTO_FD old = exchange(&l);
    struct line before = {.outside = old};
    at = check(&before, at);
    g_assert_cmpuint(at, <, written);
    g_assert_cmpint(recv(old, &(char){0}, 1, 0), ==, 0); /* closed: nothing will come any more */
    while (at < written) {
        size_t last = at;
        at = check(&l, at);
        g_assert_cmpuint(at, >, last);
        serve();
    }
    g_assert_cmpuint(at, ==, written);
    g_assert_cmpuint(l.chip.writable, ==, 1);
    assert_at_rest();
    line_fini(&l);
}

static void test_exchange_input(void)
{
    struct line l;
    line_init(&l);
    l.chip.room = 2;
    g_assert_cmpint(write(l.outside, "abcd", 4), ==, 4);
    assert_at_rest();
    int old = exchange(&l);
    g_assert_cmpint(write(l.outside, "efg", 3), ==, 3);
    assert_at_rest();
    g_assert_cmpstr(l.chip.taken->str, ==, "ab");
    l.chip.room = 100;
    stream_more(l.chip.stream);
    assert_at_rest();
    g_assert_cmpstr(l.chip.taken->str, ==, "abcdefg"); /* what had been typed, then what is */
    fd_close(&old);
    line_fini(&l);
}

/* An end that has gone is no reason not to get another one. */
static void test_exchange_the_broken(void)
{
    struct line l;
    char text[8] = "";
    line_init(&l);
    l.chip.room = 100;
    fd_close(&l.outside);
    g_assert_cmpuint(stream_write(l.chip.stream, "lost", 4), ==, 4);
    assert_at_rest();
    exchange(&l);
    g_assert_cmpuint(stream_write(l.chip.stream, "kept", 4), ==, 4);
    g_assert_cmpint(read(l.outside, text, sizeof(text)), ==, 4);
    g_assert_cmpint(write(l.outside, "i", 1), ==, 1);
    assert_at_rest();
    g_assert_cmpstr(l.chip.taken->str, ==, "i");
    line_fini(&l);
}

static void test_exchange_for_memory(void)
{
    struct line l;
    uint8_t *bytes = g_malloc(RINGBUF_SIZE_MAX);
    line_init(&l);
    size_t written = fill(&l, 777), at = 0, n;
    AUTO_FD old = l.outside;
    stream_exchange(
        l.chip.stream,
        &(struct stream_end){.in = -1, .out = -1, .listen = -1, .memory = ringbuf_new(RINGBUF_SIZE_MAX)});
    struct line before = {.outside = old};
    at = check(&before, at);
    n = stream_recall(l.chip.stream, bytes, RINGBUF_SIZE_MAX, false);
    for (size_t i = 0; i < n; i++, at++)
        g_assert_cmpuint(bytes[i], ==, (uint8_t)(at * 7 >> 3));
    g_assert_cmpuint(at, ==, written);
    assert_at_rest();
    g_assert_cmpuint(l.chip.writable, ==, 1);
    g_assert_cmpuint(stream_write(l.chip.stream, "more", 4), ==, 4);
    g_assert_cmpuint(stream_recall(l.chip.stream, bytes, 100, true), ==, 4);
    stream_exchange(l.chip.stream, &STREAM_NOWHERE); /* nothing */
    g_assert_cmpuint(stream_write(l.chip.stream, "gone", 4), ==, 4);
    g_assert_cmpuint(stream_recall(l.chip.stream, bytes, 100, true), ==, 0);
    assert_at_rest();
    l.outside = -1;
    line_fini(&l);
    g_free(bytes);
}

static int call(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    g_assert_cmpint(connect(fd, (const struct sockaddr *)address, sizeof(*address)), ==, 0);
    fd_set_nonblock(fd, true);
    serve();
    return fd;
}

/* Callers come and go, one at a time; nobody there is no reason to wait. */
static void test_callers(void)
{
    struct line l;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[16] = "";
    line_init(&l);
    l.chip.room = 100;
    g_snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "hostel-test-stream-%d", (int)getpid());
    int listening = socket(AF_UNIX, SOCK_STREAM, 0);
    g_assert_cmpint(bind(listening, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(listening, 5), ==, 0);
    fill(&l, 777);
    stream_exchange(l.chip.stream, &(struct stream_end){.in = -1, .out = -1, .listen = listening});
    assert_at_rest();
    g_assert_cmpuint(l.chip.writable, ==, 1);
    g_assert_cmpuint(stream_write(l.chip.stream, "nobody", 6), ==, 6);
    AUTO_FD first = call(&address);
    g_assert_cmpuint(stream_write(l.chip.stream, "one", 3), ==, 3);
    g_assert_cmpint(read(first, text, sizeof(text)), ==, 3);
    AUTO_FD second = call(&address);
    g_assert_cmpint(write(second, "2", 1), ==, 1);
    g_assert_cmpint(write(first, "1", 1), ==, 1);
    assert_at_rest();
    g_assert_cmpstr(l.chip.taken->str, ==, "1");
    struct line full = {.chip = l.chip, .outside = -1};
    fill(&full, 777);
    fd_close(&first);
    assert_at_rest();
    g_assert_cmpuint(l.chip.writable, ==, 2);
    g_assert_cmpstr(l.chip.taken->str, ==, "12");
    g_assert_cmpuint(stream_write(l.chip.stream, "two", 3), ==, 3);
    g_assert_cmpint(read(second, text, sizeof(text)), ==, 3);
    l.chip.room = 0; /* a busy chip's line is not read: that a caller has gone shows when it is written to */
    g_assert_cmpint(write(second, "x", 1), ==, 1);
    assert_at_rest();
    fd_close(&second);
    g_assert_cmpuint(stream_write(l.chip.stream, "lost", 4), ==, 4);
    AUTO_FD third = call(&address);
    g_assert_cmpuint(stream_write(l.chip.stream, "three", 5), ==, 5);
    g_assert_cmpint(read(third, text, sizeof(text)), ==, 5);
    AUTO_FD waiting = call(&address);
    int old = exchange(&l);
    fd_close(&old);
    g_assert_cmpint(read(third, text, sizeof(text)), ==, 0);
    g_assert_cmpint(read(waiting, text, sizeof(text)), <=, 0);
    assert_at_rest();
    line_fini(&l);
}

/* While a vCPU writes numbered lines, the ends change often; all of them together have each line's bytes. */
enum { EXCHANGES = 200, NUMBERS = 20000 };

static gpointer number_writer(gpointer data)
{
    for (uint32_t i = 0; i < NUMBERS; i++)
        for (size_t done = 0; done < sizeof(i);) {
            size_t n = stream_write(data, (const char *)&i + done, sizeof(i) - done);
            done += n;
            if (!n)
                g_usleep(100);
        }
    return NULL;
}

static void test_exchange_and_threads(void)
{
    struct line l;
    g_autoptr(GByteArray) all = g_byte_array_new();
    uint8_t bytes[4096];
    ssize_t n;
    line_init(&l);
    GThread *thread = g_thread_new("writer", number_writer, l.chip.stream);
    gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    for (unsigned i = 0; all->len < NUMBERS * sizeof(uint32_t) && g_get_monotonic_time() < end; i++) {
        int old = i < EXCHANGES ? exchange(&l) : -1;
        while (old >= 0 && (n = read(old, bytes, sizeof(bytes))) > 0)
            g_byte_array_append(all, bytes, (unsigned)n);
        fd_close(&old);
        if ((n = read(l.outside, bytes, sizeof(bytes))) > 0)
            g_byte_array_append(all, bytes, (unsigned)n);
        serve();
    }
    g_thread_join(thread);
    g_assert_cmpuint(all->len, ==, NUMBERS * sizeof(uint32_t));
    for (uint32_t i = 0; i < NUMBERS; i++)
        g_assert_cmpmem(all->data + i * sizeof(i), sizeof(i), &i, sizeof(i));
    line_fini(&l);
}

/* Writers on threads, as vCPUs are, while the main loop drains. */
enum { WRITERS = 3, LINES = 3000 };

static gpointer writer(gpointer data)
{
    struct stream *s = data;
    for (unsigned i = 0; i < LINES;) {
        if (stream_write(s, "0123456789abcde\n", 16) == 16)
            i++; /* a full ring takes part of a line: then the line is cut, which the count below allows for
                  */
        else
            g_usleep(100);
    }
    return NULL;
}

static void test_threads(void)
{
    struct line l;
    GThread *threads[WRITERS];
    line_init(&l);
    for (unsigned i = 0; i < WRITERS; i++)
        threads[i] = g_thread_new("writer", writer, l.chip.stream);
    size_t total = 0;
    gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    while (total < (size_t)WRITERS * LINES * 16 && g_get_monotonic_time() < end) {
        char bytes[4096];
        serve();
        ssize_t n = read(l.outside, bytes, sizeof(bytes));
        total += n > 0 ? (size_t)n : 0;
    }
    for (unsigned i = 0; i < WRITERS; i++)
        g_thread_join(threads[i]);
    g_assert_cmpuint(total, >=, (size_t)WRITERS * LINES * 16);
    line_fini(&l);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stream/both-ways", test_both_ways);
    g_test_add_func("/stream/slow-reader", test_slow_reader);
    g_test_add_func("/stream/busy-chip", test_busy_chip);
    g_test_add_func("/stream/end-of-input", test_end_of_input);
    g_test_add_func("/stream/broken-output", test_broken_output);
    g_test_add_func("/stream/last-words", test_last_words);
    g_test_add_func("/stream/null", test_null);
    g_test_add_func("/stream/exchange-when-full", test_exchange_when_full);
    g_test_add_func("/stream/exchange-input", test_exchange_input);
    g_test_add_func("/stream/exchange-the-broken", test_exchange_the_broken);
    g_test_add_func("/stream/exchange-for-memory", test_exchange_for_memory);
    g_test_add_func("/stream/callers", test_callers);
    g_test_add_func("/stream/exchange-and-threads", test_exchange_and_threads);
    g_test_add_func("/stream/threads", test_threads);
    return g_test_run();
}
