/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Files on servers of the web: one that is good, and many that are not. */
#include <sys/stat.h>

#include "block/protocol/remote.h"
#include "server.h"

struct web {
    char *folder, *file, *uri;
    uint8_t *bytes;
    pid_t pid;
};

/* A certificate that has signed itself. */
static void make_certificate(const char *folder)
{
    static const char script[] =
        "cd \"$1\" && exec 2>/dev/null && certtool --generate-privkey --ecc --outfile key.pem && printf "
        "'cn=here\\nip_address=127.0.0.1\\ntls_www_server\\nca\\ncert_signing_key\\nsigning_key\\nexpiration_"
        "days=2\\n' > "
        "info && certtool --generate-self-signed --load-privkey key.pem --template info --outfile cert.pem";
    const char *argv[] = {"sh", "-c", script, "sh", folder, NULL};
    g_assert_cmpint(server_wait(server_start(argv, -1)), ==, 0);
}

static struct web web_new(const char *mode)
{
    struct web w = {.folder = server_folder(), .bytes = g_malloc(SERVER_SIZE)};
    const bool tls = !strcmp(mode, "tls"), ftp = !strcmp(mode, "by-ftp");
    if (tls)
        make_certificate(w.folder);
    unsigned port;
    const int listener = server_listen_tcp(&port);
    for (size_t i = 0; i < SERVER_SIZE; i++)
        w.bytes[i] = (uint8_t)g_test_rand_int();
    w.file = g_build_filename(w.folder, "file", NULL);
    w.uri = g_strdup_printf("%s://127.0.0.1:%u/file", ftp ? "ftp" : tls ? "https" : "http", port);
    g_assert_true(g_file_set_contents(w.file, (char *)w.bytes, SERVER_SIZE, NULL));
    g_autofree char *program =
        g_test_build_filename(G_TEST_DIST, ftp ? "ftp_server.py" : "web_server.py", NULL);
    const char *argv[] = {"python3", program, w.file, ftp ? NULL : mode, NULL};
    w.pid = server_start(argv, listener);
    return w;
}

static void web_clear(struct web *w)
{
    kill(w->pid, SIGKILL);
    server_wait(w->pid);
    server_remove_folder(w->folder);
    g_free(w->file);
    g_free(w->uri);
    g_free(w->bytes);
}

static bool ready(void)
{
    return server_requires_module("curl") && server_requires("python3");
}

static void check_good(struct web *w, const struct curl_options *o)
{
    struct disk *b = server_disk(w->uri, true, o);
    uint8_t byte = 0;
    g_assert_cmpuint(b->facts.size, ==, SERVER_SIZE);
    server_check(b, w->bytes, 20);
    g_assert_cmpint(block_pwrite(b, &byte, 1, 0), ==, -EROFS);
    g_assert_cmpint(block_flush(b), ==, 0);
    block_free(b);
}

/* Without a cache, with one much smaller than the file, with the usual one. */
static void test_good(void)
{
    if (!ready())
        return;
    struct web w = web_new("good");
    const struct curl_options none = {.timeout = 30}, small = {.timeout = 30, .readahead = 16384};
    check_good(&w, NULL);
    check_good(&w, &none);
    check_good(&w, &small);
    g_autofree char *moved = g_strdup_printf("%.*s/moved", (int)strlen(w.uri) - 5, w.uri);
    struct disk *b = server_disk(moved, true, NULL);
    server_check(b, w.bytes, 10);
    block_free(b);
    server_refused(w.uri, false, NULL, "readonly=on");
    web_clear(&w);
}

static void test_refused(gconstpointer mode)
{
    static const struct {
        const char *mode, *why;
    } cases[] = {{"whole", "no ranges"}, {"missing", "error 404"}, {"ftp", "remote: "},
                 {"circle", "remote: "}, {"silent", "remote: "},   {"password", "error 401"}};
    const struct curl_options o = {.timeout = 1};
    unsigned i = 0;
    if (!ready())
        return;
    while (strcmp(cases[i].mode, mode))
        i++;
    struct web w = web_new(mode);
    server_refused(w.uri, true, &o, cases[i].why);
    web_clear(&w);
}

/* Opens, and then does not keep what it promised. */
static void test_broken(gconstpointer mode)
{
    if (!ready())
        return;
    struct web w = web_new(mode);
    const struct curl_options o = {.timeout = 30}, cached = {.timeout = 30, .readahead = 65536};
    for (unsigned i = 0; i < 2; i++) {
        struct disk *b = server_disk(w.uri, true, i ? &cached : &o);
        uint8_t bytes[4096];
        g_assert_cmpint(block_pread(b, bytes, sizeof(bytes), 100000), <, 0);
        g_assert_cmpint(block_pread(b, bytes, sizeof(bytes), 100000), <, 0);
        block_free(b);
    }
    web_clear(&w);
}

static void test_password(void)
{
    if (!ready())
        return;
    struct web w = web_new("password");
    g_autofree char *file = g_build_filename(w.folder, "password", NULL);
    g_assert_true(g_file_set_contents(file, "open sesame\n", -1, NULL));
    const struct curl_options o = {.timeout = 30, .user = "alice", .password_file = file};
    chmod(file, 0644);
    server_refused(w.uri, true, &o, "chmod 600");
    chmod(file, 0600);
    struct disk *b = server_disk(w.uri, true, &o);
    server_check(b, w.bytes, 10);
    block_free(b);
    web_clear(&w);
}

/* A server that proves who it is, to those who know its certificate. */
static void test_tls(void)
{
    if (!ready() || !server_requires("certtool"))
        return;
    struct web w = web_new("tls");
    g_autofree char *certificate = g_build_filename(w.folder, "cert.pem", NULL);
    const struct curl_options stranger = {.timeout = 10}, friend = {.timeout = 10, .ca_file = certificate};
    server_refused(w.uri, true, &stranger, "remote: ");
    check_good(&w, &friend);
    web_clear(&w);
}

static void test_ftp(void)
{
    if (!ready())
        return;
    struct web w = web_new("by-ftp");
    const struct curl_options none = {.timeout = 30};
    g_autofree char *missing = g_strdup_printf("%.*smissing", (int)strlen(w.uri) - 4, w.uri);
    check_good(&w, NULL);
    check_good(&w, &none);
    server_refused(missing, true, &none, "remote: ");
    web_clear(&w);
}

/* Nobody listens there. */
static void test_nobody(void)
{
    if (!ready())
        return;
    unsigned port;
    const int listener = server_listen_tcp(&port);
    g_autofree char *uri = g_strdup_printf("http://127.0.0.1:%u/", port);
    const struct curl_options o = {.timeout = 5};
    close(listener);
    server_refused(uri, true, &o, "remote: ");
}

int main(int argc, char **argv)
{
    static const char *const refused[] = {"whole", "missing", "ftp", "circle", "silent", "password"};
    static const char *const broken[] = {"short", "changing", "wrong-range", "huge"};
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/block/curl/good", test_good);
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        g_autofree char *path = g_strconcat("/block/curl/refused/", refused[i], NULL);
        g_test_add_data_func(path, refused[i], test_refused);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(broken); i++) {
        g_autofree char *path = g_strconcat("/block/curl/broken/", broken[i], NULL);
        g_test_add_data_func(path, broken[i], test_broken);
    }
    g_test_add_func("/block/curl/with-password", test_password);
    g_test_add_func("/block/curl/tls", test_tls);
    g_test_add_func("/block/curl/ftp", test_ftp);
    g_test_add_func("/block/curl/nobody", test_nobody);
    return g_test_run();
}
