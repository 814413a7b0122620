/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The NBD client when its server is killed and started again. */
#include <sys/stat.h>

#include "block/protocol/remote.h"
#include "server.h"

/* A server that is killed and started again. Its socket stays open here, so who connects meanwhile waits. */
struct place {
    char *folder, *socket, *uri, *file;
    int listener;
    pid_t pid;
};

enum { MEMORY, DATA_FILE };

static void start(struct place *p, const char *const *argv)
{
    p->pid = server_start(argv, fcntl(p->listener, F_DUPFD_CLOEXEC, 4));
}

static void start_memory(struct place *p, const char *size)
{
    const char *argv[] = {"nbdkit", "-f", "memory", size, NULL};
    start(p, argv);
}

/* Each request takes a while, so that there are always some under way. */
static void start_file(struct place *p)
{
    g_autofree char *file = g_strdup_printf("file=%s", p->file);
    const char *argv[] = {"nbdkit",         "-f", "--filter=delay", "file", file, "delay-write=3ms",
                          "delay-read=1ms", NULL};
    start(p, argv);
}

static void stop(struct place *p)
{
    kill(p->pid, SIGKILL);
    server_wait(p->pid);
}

/* It takes part in nothing any more, but its connections stand. */
static void halt(struct place *p)
{
    int status;
    kill(p->pid, SIGSTOP);
    g_assert_cmpint(waitpid(p->pid, &status, WUNTRACED), ==, p->pid);
    g_assert_true(WIFSTOPPED(status));
}

static bool place_init(struct place *p, int what)
{
    if (!server_requires_module("nbd") || !server_requires("nbdkit"))
        return false;
    *p = (struct place){.folder = server_folder()};
    p->socket = g_build_filename(p->folder, "s", NULL);
    p->file = g_build_filename(p->folder, "disk", NULL);
    p->uri = g_strdup_printf("nbd+unix:///?socket=%s", p->socket);
    p->listener = server_listen_unix(p->socket);
    g_autofree char *zeroes = g_malloc0(SERVER_SIZE);
    g_assert_true(g_file_set_contents(p->file, zeroes, SERVER_SIZE, NULL));
    if (what == MEMORY)
        start_memory(p, "1M");
    else
        start_file(p);
    return true;
}

static void place_clear(struct place *p)
{
    stop(p);
    close(p->listener);
    server_remove_folder(p->folder);
    g_free(p->socket);
    g_free(p->uri);
    g_free(p->file);
}

static struct disk *disk_of(const struct place *p, unsigned reconnect)
{
    const struct nbd_options o = {.connections = 4, .timeout = 30, .reconnect = reconnect};
    return server_disk(p->uri, false, &o);
}

/* Nothing was to be flushed: nobody notices. */
static void test_idle(void)
{
    struct place p;
    uint8_t bytes[4096], back[4096];
    if (!place_init(&p, DATA_FILE))
        return;
    struct disk *b = disk_of(&p, 30);
    memset(bytes, 0x5a, sizeof(bytes));
    for (unsigned i = 0; i < 4; i++) {
        g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), i * 8192), ==, 0);
        g_assert_cmpint(block_flush(b), ==, 0);
        stop(&p);
        start_file(&p);
        if (i % 2)
            g_assert_cmpint(block_flush(b), ==, 0);
        g_assert_cmpint(block_pread(b, back, sizeof(back), i * 8192), ==, 0);
        g_assert_cmpmem(back, sizeof(back), bytes, sizeof(bytes));
        g_assert_cmpint(block_flush(b), ==, 0);
    }
    block_free(b);
    place_clear(&p);
}

/* What was acknowledged and not flushed is gone with the server's memory: the next flush says so, whatever
 * else was done in between, and the disk can be read only. */
static void check_unflushed(struct place *p, unsigned i)
{
    uint8_t bytes[4096], back[4096], zeroes[4096] = {0};
    struct disk *b = disk_of(p, 30);
    memset(bytes, 0x5a, sizeof(bytes));
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    g_assert_cmpint(i & 4 ? block_zero(b, 4096, 4096, 0) : block_pwrite(b, bytes, sizeof(bytes), 4096), ==,
                    0);
    stop(p);
    start_memory(p, "1M");
    if (i & 1) { /* another request is first to notice */
        g_assert_cmpint(block_pread(b, back, sizeof(back), 4096), ==, 0);
        g_assert_cmpmem(back, sizeof(back), zeroes, sizeof(zeroes));
    }
    if (i & 2) { /* nor does another change make it good, or another server */
        g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 8192), ==, 0);
        stop(p);
        start_memory(p, "1M");
    }
    g_assert_cmpint(block_flush(b), ==, -EIO);
    g_assert_cmpint(block_flush(b), ==, -EIO);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, -EIO);
    g_assert_cmpint(block_pread(b, back, sizeof(back), 4096), ==, 0);
    block_free(b);
}

static void test_unflushed(void)
{
    struct place p;
    if (!place_init(&p, MEMORY))
        return;
    for (unsigned i = 0; i < 8; i++)
        check_unflushed(&p, i);
    place_clear(&p);
}

static gpointer flush_alone(gpointer opaque)
{
    return GINT_TO_POINTER(block_flush(opaque));
}

/* The server is lost while a flush is under way: which of them is asked is not known, so all fail. */
static void test_flush_under_way(void)
{
    struct place p;
    uint8_t bytes[512] = {1};
    if (!place_init(&p, MEMORY))
        return;
    struct disk *b = disk_of(&p, 30);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, 0);
    halt(&p);
    GThread *threads[3];
    for (unsigned i = 0; i < 3; i++)
        threads[i] = g_thread_new("flush", flush_alone, b);
    stop(&p);
    start_memory(&p, "1M");
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(threads[i])), ==, -EIO);
    block_free(b);
    place_clear(&p);
}

struct busy {
    struct server_thread thread;
    _Atomic unsigned *left;
};

static gpointer be_busy(gpointer opaque)
{
    struct busy *busy = opaque;
    GRand *rand = g_rand_new_with_seed(busy->thread.seed);
    g_autofree uint8_t *data = g_malloc(65536);
    while (atomic_load(busy->left)) {
        const uint64_t size = (uint64_t)g_rand_int_range(rand, 1, 65536);
        const uint64_t offset =
            busy->thread.begin + (uint64_t)g_rand_int_range(rand, 0, (gint32)(busy->thread.size - size));
        uint8_t *model = busy->thread.bytes + offset;
        switch (g_rand_int_range(rand, 0, 3)) {
        case 0:
            g_assert_cmpint(block_pread(busy->thread.disk, data, size, offset), ==, 0);
            g_assert_cmpmem(data, size, model, size);
            break;
        default:
            memset(model, g_rand_int_range(rand, 0, 256), size);
            g_assert_cmpint(block_pwrite(busy->thread.disk, model, size, offset), ==, 0);
        }
    }
    g_rand_free(rand);
    return NULL;
}

/* Several threads work on while the server is killed and started again and again. Its file keeps what it had
 * acknowledged, so all must be there; but a flush cannot know that. */
static void test_busy(void)
{
    struct place p;
    struct busy busy[SERVER_THREADS];
    GThread *threads[SERVER_THREADS];
    _Atomic unsigned left = 8;
    if (!place_init(&p, DATA_FILE))
        return;
    g_autofree uint8_t *bytes = g_malloc0(SERVER_SIZE);
    struct disk *b = disk_of(&p, 30);
    for (unsigned i = 0; i < SERVER_THREADS; i++) {
        busy[i] = (struct busy){.thread = {.disk = b,
                                           .bytes = bytes,
                                           .begin = i * SERVER_STRIPE,
                                           .size = SERVER_STRIPE,
                                           .seed = (guint32)g_test_rand_int()},
                                .left = &left};
        threads[i] = g_thread_new("busy", be_busy, &busy[i]);
    }
    for (; atomic_load(&left); atomic_fetch_sub(&left, 1)) {
        g_usleep((gulong)g_test_rand_int_range(1000, 60000)); /* any moment will do */
        stop(&p);
        start_file(&p);
    }
    for (unsigned i = 0; i < SERVER_THREADS; i++)
        g_thread_join(threads[i]);
    g_autofree uint8_t *all = g_malloc(SERVER_SIZE);
    g_assert_cmpint(block_pread(b, all, SERVER_SIZE, 0), ==, 0);
    g_assert_cmpmem(all, SERVER_SIZE, bytes, SERVER_SIZE);
    g_assert_cmpint(block_flush(b), ==, -EIO);
    block_free(b);
    place_clear(&p);
}

/* A server that does not come back in time: errors; one that comes back later is used all the same. */
static void test_late(void)
{
    struct place p;
    uint8_t bytes[512] = {1};
    if (!place_init(&p, MEMORY))
        return;
    struct disk *b = disk_of(&p, 1);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    stop(&p);
    g_assert_cmpint(block_pread(b, bytes, sizeof(bytes), 0), ==, -EIO);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, -EIO);
    start_memory(&p, "1M");
    int status;
    do
        status = block_pread(b, bytes, sizeof(bytes), 0);
    while (status == -EIO); /* it is tried once a second; the test's own time is limited */
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    block_free(b);
    place_clear(&p);
}

/* Another disk under the same name is none to go on with. */
static void test_another_disk(void)
{
    struct place p;
    uint8_t bytes[512] = {1};
    if (!place_init(&p, MEMORY))
        return;
    struct disk *b = disk_of(&p, 1);
    stop(&p);
    start_memory(&p, "2M");
    g_assert_cmpint(block_pread(b, bytes, sizeof(bytes), 0), ==, -EIO);
    stop(&p);
    const char *readonly[] = {"nbdkit", "-f", "-r", "memory", "1M", NULL};
    start(&p, readonly);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, -EIO);
    block_free(b);
    place_clear(&p);
}

/* Without the option a connection that is lost stays lost. */
static void test_off(void)
{
    struct place p;
    uint8_t bytes[512] = {1};
    if (!place_init(&p, MEMORY))
        return;
    struct disk *b = disk_of(&p, 0);
    stop(&p);
    start_memory(&p, "1M");
    for (unsigned i = 0; i < 8; i++)
        g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), <, 0);
    g_assert_cmpint(block_flush(b), <, 0);
    block_free(b);
    place_clear(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/block/nbd/again/idle", test_idle);
    g_test_add_func("/block/nbd/again/unflushed", test_unflushed);
    g_test_add_func("/block/nbd/again/flush-under-way", test_flush_under_way);
    g_test_add_func("/block/nbd/again/busy", test_busy);
    g_test_add_func("/block/nbd/again/late", test_late);
    g_test_add_func("/block/nbd/again/another-disk", test_another_disk);
    g_test_add_func("/block/nbd/again/off", test_off);
    return g_test_run();
}
