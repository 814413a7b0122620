/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The NBD client against nbdkit and qemu-nbd, over Unix sockets. */
#include "block/protocol/remote.h"
#include "server.h"

struct place {
    char *folder, *socket, *uri;
    int listener;
};

static struct place place_new(const char *export)
{
    struct place p = {.folder = server_folder()};
    p.socket = g_build_filename(p.folder, "s", NULL);
    p.uri = g_strdup_printf("nbd+unix:///%s?socket=%s", export, p.socket);
    p.listener = server_listen_unix(p.socket);
    return p;
}

static void place_clear(struct place *p)
{
    server_remove_folder(p->folder);
    g_free(p->socket);
    g_free(p->uri);
}

static bool ready(const char *program)
{
    return server_requires_module("nbd") && server_requires(program);
}

static void check_disk(const char *uri, bool sparse)
{
    g_autofree uint8_t *bytes = g_malloc0(SERVER_SIZE);
    AUTO(disk) b = server_disk(uri, false, NULL);
    g_assert_cmpuint(b->facts.size, ==, SERVER_SIZE);
    g_assert_cmpstr(b->driver->name, ==, "nbd");
    if (sparse)
        g_assert_cmpuint(server_holes(b, bytes), ==, SERVER_SIZE);
    server_check(b, bytes, 100);
    server_holes(b, bytes);
    g_assert_cmpint(block_zero(b, 0, SERVER_SIZE, BLOCK_MAY_UNMAP), ==, 0);
    memset(bytes, 0, SERVER_SIZE);
    if (sparse)
        g_assert_cmpuint(server_holes(b, bytes), ==, SERVER_SIZE);
    g_assert_cmpint(block_discard(b, 0, SERVER_SIZE), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    g_assert_cmpint(block_resize(b, 2 * SERVER_SIZE), ==, -EOPNOTSUPP);
}

/* Its memory plug-in allows several connections. */
static void test_nbdkit(void)
{
    if (!ready("nbdkit"))
        return;
    struct place p = place_new("");
    const char *argv[] = {"nbdkit", "-f", "memory", "1M", NULL};
    pid_t pid = server_start(argv, p.listener);
    check_disk(p.uri, true);
    server_stop(pid);
    place_clear(&p);
}

/* One connection only, on which all threads have requests; each of them takes its time. */
static void test_one_connection(void)
{
    if (!ready("nbdkit"))
        return;
    struct place p = place_new("");
    const char *argv[] = {"nbdkit", "-f", "--filter=multi-conn", "--filter=delay",
                          "memory", "1M", "delay-read=2ms",      "multi-conn-mode=disable",
                          NULL};
    pid_t pid = server_start(argv, p.listener);
    check_disk(p.uri, true);
    server_stop(pid);
    place_clear(&p);
}

static void test_qemu_nbd(void)
{
    if (!ready("qemu-nbd"))
        return;
    struct place p = place_new("a%20name");
    g_autofree char *image = g_build_filename(p.folder, "image", NULL);
    const char *create[] = {"qemu-img", "create", "-q", "-f", "qcow2", image, "1M", NULL};
    g_assert_cmpint(server_wait(server_start(create, -1)), ==, 0);
    const char *argv[] = {"qemu-nbd",        "-t", "-x", "a name", "-f", "qcow2",
                          "--discard=unmap", "-e", "8",  image,    NULL};
    pid_t pid = server_start(argv, p.listener);
    check_disk(p.uri, true);
    server_stop(pid);
    place_clear(&p);
}

/* Servers that can little: sectors only, no zeroing, no discarding. */
static void test_poor(void)
{
    if (!ready("nbdkit"))
        return;
    struct place p = place_new("");
    const char *argv[] = {"nbdkit",
                          "-f",
                          "--filter=blocksize-policy",
                          "--filter=nozero",
                          "--filter=noextents",
                          "memory",
                          "1M",
                          "blocksize-minimum=512",
                          "blocksize-preferred=4K",
                          "blocksize-maximum=64K",
                          "blocksize-error-policy=error",
                          NULL};
    pid_t pid = server_start(argv, p.listener);
    check_disk(p.uri, false);
    server_stop(pid);
    place_clear(&p);
}

/* Zeroes that must be fast, from servers that can do it, do not say they can, and say so and do not. */
static void test_fast_zero(void)
{
    static const struct {
        const char *filter, *zero, *fast;
        int status;
    } servers[] = {
        {"--filter=noextents", NULL, NULL, 0},
        {"--filter=nozero", "zeromode=emulate", "fastzeromode=none", -EOPNOTSUPP},
        {"--filter=nozero", "zeromode=emulate", "fastzeromode=slow", -EOPNOTSUPP},
    };
    if (!ready("nbdkit"))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(servers); i++) {
        struct place p = place_new("");
        const char *argv[] = {"nbdkit",        "-f", servers[i].filter, "memory", "1M", servers[i].zero,
                              servers[i].fast, NULL};
        pid_t pid = server_start(argv, p.listener);
        struct disk *b = server_disk(p.uri, false, NULL);
        uint8_t bytes[512] = {1};
        g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 4096), ==, 0);
        g_assert_cmpint(block_zero(b, 4096, 65536, BLOCK_ONLY_FAST | BLOCK_MAY_UNMAP), ==, servers[i].status);
        g_assert_cmpint(block_zero(b, 4096, 65536, 0), ==, 0);
        g_assert_cmpint(block_pread(b, bytes, sizeof(bytes), 4096), ==, 0);
        g_assert_cmpuint(bytes[0], ==, 0);
        block_free(b);
        server_stop(pid);
        place_clear(&p);
    }
}

static void test_readonly(void)
{
    if (!ready("nbdkit"))
        return;
    struct place p = place_new("");
    const char *argv[] = {"nbdkit", "-f", "-r", "memory", "1M", NULL};
    pid_t pid = server_start(argv, p.listener);
    server_refused(p.uri, false, NULL, "readonly=on");
    struct disk *b = server_disk(p.uri, true, NULL);
    uint8_t byte = 1;
    g_assert_cmpint(block_pread(b, &byte, 1, 1000), ==, 0);
    g_assert_cmpint(byte, ==, 0);
    g_assert_cmpint(block_pwrite(b, &byte, 1, 0), ==, -EROFS);
    block_free(b); /* nbdkit waits for its clients */
    server_stop(pid);
    place_clear(&p);
}

/* What the server answers with an error is one; what is done afterwards is done. */
static void test_errors(void)
{
    if (!ready("nbdkit"))
        return;
    struct place p = place_new("");
    const char *argv[] = {
        "nbdkit", "-f", "--filter=error", "memory", "1M", "error-pread=ENOSPC", "error-pread-rate=1", NULL};
    pid_t pid = server_start(argv, p.listener);
    struct disk *b = server_disk(p.uri, false, NULL);
    uint8_t byte = 1;
    g_assert_cmpint(block_pread(b, &byte, 1, 0), ==, -ENOSPC);
    g_assert_cmpint(block_pwrite(b, &byte, 1, 0), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    block_free(b);
    server_stop(pid);
    place_clear(&p);
}

static gpointer read_lost(gpointer opaque)
{
    uint8_t bytes[512];
    g_assert_cmpint(block_pread(opaque, bytes, sizeof(bytes), 0), <, 0);
    return NULL;
}

/* The server goes away under several waiting threads: an error for each, and for all that comes later. */
static void test_lost(void)
{
    if (!ready("nbdkit"))
        return;
    struct place p = place_new("");
    const char *argv[] = {"nbdkit", "-f", "--filter=delay", "memory", "1M", "delay-read=600", NULL};
    pid_t pid = server_start(argv, p.listener);
    AUTO(disk) b = server_disk(p.uri, false, NULL);
    GThread *threads[4];
    for (unsigned i = 0; i < 4; i++)
        threads[i] = g_thread_new("reader", read_lost, b);
    kill(pid, SIGKILL);
    for (unsigned i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    read_lost(b);
    g_assert_cmpint(block_flush(b), <, 0);
    g_assert_cmpint(block_flush(b), ==, -EIO);
    server_wait(pid);
    place_clear(&p);
}

/* Keys that both have; a server that wants them gets nothing in the clear. */
static void test_tls(void)
{
    if (!ready("nbdkit") || !server_requires("psktool"))
        return;
    struct place p = place_new("");
    g_autofree char *keys = g_build_filename(p.folder, "keys", NULL);
    g_autofree char *tls_psk = g_strdup_printf("--tls-psk=%s", keys);
    const char *psktool[] = {"psktool", "-u", "alice", "-p", keys, NULL};
    g_assert_cmpint(server_wait(server_start(psktool, -1)), ==, 0);
    const char *argv[] = {"nbdkit", "-f", "--tls=require", tls_psk, "memory", "1M", NULL};
    pid_t pid = server_start(argv, p.listener);
    g_autofree char *safe = g_strdup_printf("nbds+unix://alice@/?socket=%s", p.socket);
    const struct nbd_options o = {.tls_psk_file = keys, .connections = 3, .timeout = 30};
    server_refused(p.uri, false, NULL, "remote: ");
    g_autofree uint8_t *bytes = g_malloc0(SERVER_SIZE);
    struct disk *b = server_disk(safe, false, &o);
    server_check(b, bytes, 50);
    block_free(b);
    server_stop(pid);
    place_clear(&p);
}

/* One that accepts and says nothing. */
static void test_silent(void)
{
    if (!server_requires_module("nbd"))
        return;
    struct place p = place_new("");
    const struct nbd_options o = {.connections = 1, .timeout = 1};
    server_refused(p.uri, true, &o, "did not answer within 1 seconds");
    close(p.listener);
    server_refused(p.uri, true, &o, "remote: ");
    place_clear(&p);
}

static void test_module(void)
{
    g_assert_null(block_driver_for_uri("image.qcow2"));
    g_assert_null(block_driver_for_uri("/a/b://c"));
    g_assert_null(block_driver_for_uri("nope://host"));
    g_assert_true(block_is_uri("nope://host"));
    g_assert_false(block_is_uri("://host"));
    g_assert_false(block_is_uri("nbd:host"));
    g_assert_true(block_driver_for_uri("NBD+unix:///x") == block_driver_find("nbd"));
    g_assert_true(block_driver_for_uri("https://x/") == block_driver_find("curl"));
    g_assert_true(block_driver_for_uri("http://x/") == block_driver_find("curl"));
    static const struct block_driver none = {.name = "none", .module = "none"};
    g_autoptr(GError) error = NULL;
    g_assert_null(block_module_load(&none, &error));
    g_assert_nonnull(strstr(error->message, "hostel-block-none.so"));
}

/* Files that are no modules of ours, where modules are looked for. */
static void test_wrong_module(void)
{
    g_autofree char *folder = server_folder(), *was = g_strdup(g_getenv("HOSTEL_MODULES"));
    g_autofree char *path = g_build_filename(folder, "hostel-block-none.so", NULL);
    static const struct block_driver none = {.name = "none", .module = "none"};
    g_autoptr(GError) error = NULL;
    g_assert_true(g_file_set_contents(path, "no library", -1, NULL));
    g_setenv("HOSTEL_MODULES", folder, TRUE);
    g_assert_null(block_module_load(&none, &error));
    g_assert_nonnull(strstr(error->message, "cannot load its module"));
    g_clear_error(&error);
    g_autofree char *real = g_build_filename(was, "hostel-block-nbd.so", NULL);
    g_unlink(path);
    if (!g_access(real, R_OK) && !symlink(real, path)) { /* another driver's */
        g_assert_null(block_module_load(&none, &error));
        g_assert_nonnull(strstr(error->message, "is not a module of this Hostel"));
        g_clear_error(&error);
    }
    g_setenv("HOSTEL_MODULES", "src", TRUE); /* a relative one is none */
    g_assert_null(block_module_load(&none, &error));
    g_assert_nonnull(strstr(error->message, "there is no module"));
    g_setenv("HOSTEL_MODULES", was, TRUE);
    server_remove_folder(g_steal_pointer(&folder));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/block/module", test_module);
    g_test_add_func("/block/module/wrong", test_wrong_module);
    g_test_add_func("/block/nbd/nbdkit", test_nbdkit);
    g_test_add_func("/block/nbd/one-connection", test_one_connection);
    g_test_add_func("/block/nbd/qemu-nbd", test_qemu_nbd);
    g_test_add_func("/block/nbd/poor", test_poor);
    g_test_add_func("/block/nbd/fast-zero", test_fast_zero);
    g_test_add_func("/block/nbd/readonly", test_readonly);
    g_test_add_func("/block/nbd/errors", test_errors);
    g_test_add_func("/block/nbd/lost", test_lost);
    g_test_add_func("/block/nbd/tls", test_tls);
    g_test_add_func("/block/nbd/silent", test_silent);
    return g_test_run();
}
