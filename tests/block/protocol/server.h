/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What tests of disks on servers share: servers on sockets that the test made, and a flat model. */
/*
 * A server gets its listening socket as socket activation does (descriptor 3, LISTEN_FDS=1), so a client may
 * connect before it is up: nobody waits, and no port can be taken by somebody else meanwhile.
 */
#ifndef HOSTEL_TESTS_BLOCK_PROTOCOL_SERVER_H
#define HOSTEL_TESTS_BLOCK_PROTOCOL_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/block.h"
#include "block/module.h"

/* A folder that is gone afterwards, with everything in it. */
static inline char *server_folder(void)
{
    g_autoptr(GError) error = NULL;
    char *folder = g_dir_make_tmp("hostel-server-XXXXXX", &error);
    g_assert_no_error(error);
    return folder;
}

static inline void server_remove_folder(char *folder)
{
    const char *argv[] = {"rm", "-rf", folder, NULL};
    g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                 NULL);
    g_free(folder);
}

static inline int server_listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(fd, 64), ==, 0);
    return fd;
}

static inline int server_listen_tcp(unsigned *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, size), ==, 0);
    g_assert_cmpint(listen(fd, 64), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &size), ==, 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* Starts argv (found in PATH) with the listener, which it takes; -1 = none. */
static inline pid_t server_start(const char *const *argv, int listener)
{
    pid_t parent = getpid(), pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        char self[16];
        g_snprintf(self, sizeof(self), "%d", (int)getpid());
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (listener == 3)
            fcntl(3, F_SETFD, 0);
        if (getppid() != parent || (listener >= 0 && listener != 3 && dup2(listener, 3) < 0))
            _exit(127);
        if (listener >= 0) {
            setenv("LISTEN_PID", self, 1);
            setenv("LISTEN_FDS", "1", 1);
        }
        dup2(2, 1);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    if (listener >= 0)
        close(listener);
    return pid;
}

/* Its exit code, or 128 and the signal. */
static inline int server_wait(pid_t pid)
{
    int status = 0;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void server_stop(pid_t pid)
{
    kill(pid, SIGTERM);
    server_wait(pid);
}

/* False, and the test is skipped, when there is no such program. */
static inline bool server_requires(const char *program)
{
    g_autofree char *path = g_find_program_in_path(program);
    g_autofree char *reason = g_strdup_printf("%s is not installed", program);
    if (!path)
        g_test_skip(reason);
    return path != NULL;
}

/* The row's module was built? */
static inline bool server_requires_module(const char *name)
{
    g_autofree char *file = g_strdup_printf("hostel-block-%s.so", name);
    g_autofree char *path = g_build_filename(g_getenv("HOSTEL_MODULES"), file, NULL);
    g_autofree char *reason = g_strdup_printf("%s was not built: its library is not installed", file);
    if (g_access(path, R_OK)) {
        g_test_skip(reason);
        return false;
    }
    return true;
}

static inline struct disk *server_open(const char *uri, bool readonly, const void *options, GError **error)
{
    struct block_config config = {
        .name = "remote", .fd = -1, .uri = uri, .readonly = readonly, .options = options};
    return block_open(block_driver_for_uri(uri), &config, error);
}

static inline struct disk *server_disk(const char *uri, bool readonly, const void *options)
{
    g_autoptr(GError) error = NULL;
    struct disk *b = server_open(uri, readonly, options, &error);
    g_assert_no_error(error);
    return b;
}

/* Whoever opens it is told so. */
static inline void server_refused(const char *uri, bool readonly, const void *options, const char *why)
{
    g_autoptr(GError) error = NULL;
    struct disk *b = server_open(uri, readonly, options, &error);
    g_assert_null(b);
    if (!strstr(error->message, why))
        g_error("'%s' does not say '%s'", error->message, why);
}

/* --- the model --- */

enum { SERVER_THREADS = 4, SERVER_STRIPE = 256 * 1024, SERVER_SIZE = SERVER_THREADS * SERVER_STRIPE };

struct server_thread {
    struct disk *disk;
    uint8_t *bytes; /* of the whole disk; a thread looks at its stripe only */
    uint64_t begin, size;
    guint32 seed;
    unsigned rounds;
    bool readonly;
};

/* size bytes in a few buffers. */
static inline unsigned server_cut(GRand *rand, uint8_t *bytes, uint64_t size, uint32_t unit,
                                  struct iovec *iov)
{
    unsigned n = 0;
    for (; n < 3 && size > unit && g_rand_boolean(rand); n++) {
        const size_t part = (size_t)g_rand_int_range(rand, 0, (gint32)(size / unit)) * unit;
        iov[n] = (struct iovec){bytes, part};
        bytes += part;
        size -= part;
    }
    iov[n++] = (struct iovec){bytes, size};
    return n;
}

static inline void server_one(struct server_thread *t, GRand *rand, uint8_t *data)
{
    struct iovec iov[4];
    const uint32_t unit = t->disk->facts.alignment;
    const uint64_t units = t->size / unit, first = (uint64_t)g_rand_int_range(rand, 0, (gint32)units);
    const uint64_t wish = (g_rand_boolean(rand) ? 8192 : 100000) / unit, most = MIN(units - first, wish);
    const uint64_t size = (uint64_t)g_rand_int_range(rand, 0, (gint32)most + 1) * unit;
    const uint64_t offset = t->begin + first * unit;
    const unsigned n = server_cut(rand, data, size, unit, iov);
    switch (t->readonly ? 9 : g_rand_int_range(rand, 0, 10)) {
    case 0:
        g_assert_cmpint(block_zero(t->disk, offset, size, g_rand_boolean(rand) ? BLOCK_MAY_UNMAP : 0), ==, 0);
        memset(t->bytes + offset, 0, size);
        break;
    case 1: g_assert_cmpint(block_flush(t->disk), ==, 0); break;
    case 2:
    case 3:
    case 4:
        for (uint64_t i = 0; i < size; i++)
            data[i] = (uint8_t)g_rand_int(rand);
        g_assert_cmpint(block_write(t->disk, iov, n, offset), ==, 0);
        memcpy(t->bytes + offset, data, size);
        break;
    default:
        g_assert_cmpint(block_read(t->disk, iov, n, offset, 0), ==, 0);
        g_assert_cmpmem(data, size, t->bytes + offset, size);
        break;
    }
}

static inline gpointer server_run(gpointer opaque)
{
    struct server_thread *t = opaque;
    GRand *rand = g_rand_new_with_seed(t->seed);
    g_autofree uint8_t *data = g_malloc(t->size);
    for (unsigned i = 0; i < t->rounds; i++)
        server_one(t, rand, data);
    g_rand_free(rand);
    return NULL;
}

/* Random operations of several threads, each on a part of its own; bytes is what the disk holds, and kept so.
 */
static inline void server_check(struct disk *b, uint8_t *bytes, unsigned rounds)
{
    struct server_thread t[SERVER_THREADS];
    GThread *threads[SERVER_THREADS];
    const uint64_t size = b->facts.size / SERVER_THREADS / b->facts.alignment * b->facts.alignment;
    for (unsigned i = 0; i < SERVER_THREADS; i++) {
        t[i] = (struct server_thread){.disk = b,
                                      .bytes = bytes,
                                      .begin = i * size,
                                      .size = size,
                                      .seed = (guint32)g_test_rand_int(),
                                      .rounds = rounds,
                                      .readonly = b->facts.readonly};
        threads[i] = g_thread_new("client", server_run, &t[i]);
    }
    for (unsigned i = 0; i < SERVER_THREADS; i++)
        g_thread_join(threads[i]);
    g_autofree uint8_t *all = g_malloc(b->facts.size);
    g_assert_cmpint(block_pread(b, all, b->facts.size, 0), ==, 0);
    g_assert_cmpmem(all, b->facts.size, bytes, b->facts.size);
}

/* The pieces cover the disk, what is zero reads so; how many bytes are said to be holes. */
static inline uint64_t server_holes(struct disk *b, const uint8_t *bytes)
{
    uint64_t holes = 0;
    for (uint64_t offset = 0; offset < b->facts.size;) {
        struct block_extent e;
        g_assert_cmpint(block_extent(b, offset, b->facts.size - offset, &e), ==, 0);
        g_assert_cmpuint(e.size, >, 0);
        g_assert_cmpuint(e.size, <=, b->facts.size - offset);
        for (uint64_t i = 0; e.zero && i < e.size; i++)
            g_assert_cmpuint(bytes[offset + i], ==, 0);
        holes += e.hole ? e.size : 0;
        offset += e.size;
    }
    return holes;
}

#endif
