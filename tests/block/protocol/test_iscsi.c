/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Logical units: tgtd on the loopback. */
#include <sys/stat.h>

#include "block/protocol/remote.h"
#include "server.h"

struct tgtd {
    char *folder, *file, *uri;
    pid_t pid;
};

static int admin(const char *const *argv)
{
    const char *all[24] = {"tgtadm", "--lld", "iscsi"};
    unsigned n = 3;
    while (*argv)
        all[n++] = *argv++;
    return server_wait(server_start(all, -1));
}
#define ADMIN(...) g_assert_cmpint(admin((const char *const[]){__VA_ARGS__, NULL}), ==, 0)

/* tgtd takes no socket that is there already, so a port that was free a moment ago must do; it tells that it
 * is up by its control socket. */
static bool tgtd_new(struct tgtd *t, bool thin)
{
    unsigned port;
    *t = (struct tgtd){.folder = server_folder()};
    close(server_listen_tcp(&port));
    g_autofree char *control = g_build_filename(t->folder, "c", NULL), *up = g_strconcat(control, ".0", NULL);
    g_autofree char *portal = g_strdup_printf("portal=127.0.0.1:%u", port);
    t->file = g_build_filename(t->folder, "unit", NULL);
    t->uri = g_strdup_printf("iscsi://127.0.0.1:%u/iqn.2026-01.test:disk/1", port);
    const int fd = open(t->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(ftruncate(fd, SERVER_SIZE), ==, 0);
    close(fd);
    g_setenv("TGT_IPC_SOCKET", control, TRUE);
    const char *argv[] = {"tgtd", "-f", "--iscsi", portal, NULL};
    t->pid = server_start(argv, -1);
    while (g_access(up, F_OK) && g_access(control, F_OK))
        if (waitpid(t->pid, NULL, WNOHANG) == t->pid) {
            server_remove_folder(t->folder);
            g_free(t->file);
            g_free(t->uri);
            g_test_skip("tgtd does not run here");
            return false;
        }
    ADMIN("--op", "new", "--mode", "target", "--tid", "1", "-T", "iqn.2026-01.test:disk");
    ADMIN("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", t->file);
    if (thin)
        ADMIN("--op", "update", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "--params",
              "thin_provisioning=1");
    ADMIN("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL");
    return true;
}

static void tgtd_clear(struct tgtd *t)
{
    kill(t->pid, SIGKILL);
    server_wait(t->pid);
    server_remove_folder(t->folder);
    g_free(t->file);
    g_free(t->uri);
}

static bool ready(void)
{
    return server_requires_module("iscsi") && server_requires("tgtd") && server_requires("tgtadm");
}

static void test_good(gconstpointer thin)
{
    struct tgtd t;
    if (!ready() || !tgtd_new(&t, thin != NULL))
        return;
    const struct iscsi_options o = {.connections = 3, .timeout = 30};
    g_autofree uint8_t *bytes = g_malloc0(SERVER_SIZE);
    struct disk *b = server_disk(t.uri, false, &o);
    g_assert_cmpuint(b->facts.size, ==, SERVER_SIZE);
    g_assert_cmpuint(b->facts.alignment, ==, 512);
    server_check(b, bytes, 80);
    server_holes(b, bytes);
    g_assert_cmpint(block_zero(b, 0, SERVER_SIZE, BLOCK_MAY_UNMAP), ==, 0);
    memset(bytes, 0, SERVER_SIZE);
    const uint64_t holes = server_holes(b, bytes);
    g_assert_true(!thin || holes == 0 || holes == SERVER_SIZE);
    server_check(b, bytes, 20);
    g_assert_cmpint(block_discard(b, 0, SERVER_SIZE / 2), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    g_assert_cmpint(block_pread(b, bytes, SERVER_SIZE, 0), ==, 0);
    block_free(b);
    g_autofree char *file = NULL;
    gsize size;
    g_assert_true(g_file_get_contents(t.file, &file, &size, NULL));
    g_assert_cmpmem(file, size, bytes, (gsize)SERVER_SIZE);
    b = server_disk(t.uri, true, NULL);
    server_check(b, bytes, 20);
    block_free(b);
    tgtd_clear(&t);
}

/* With a password: in a file that others cannot read, not in the URI. */
static void test_password(void)
{
    struct tgtd t;
    if (!ready() || !tgtd_new(&t, false))
        return;
    g_autofree char *file = g_build_filename(t.folder, "password", NULL);
    ADMIN("--op", "new", "--mode", "account", "--user", "alice", "--password", "open sesame 12");
    ADMIN("--op", "bind", "--mode", "account", "--tid", "1", "--user", "alice");
    g_assert_true(
        g_file_set_contents_full(file, "open sesame 12\n", -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    const struct iscsi_options nobody = {.connections = 1, .timeout = 30};
    const struct iscsi_options alice = {
        .connections = 2, .timeout = 30, .user = "alice", .password_file = file};
    server_refused(t.uri, true, &nobody, "cannot log in");
    g_autofree uint8_t *bytes = g_malloc0(SERVER_SIZE);
    struct disk *b = server_disk(t.uri, false, &alice);
    server_check(b, bytes, 20);
    block_free(b);
    chmod(file, 0644);
    server_refused(t.uri, true, &alice, "chmod 600");
    tgtd_clear(&t);
}

static void test_refused(void)
{
    struct tgtd t;
    if (!ready() || !tgtd_new(&t, false))
        return;
    const struct iscsi_options o = {.connections = 1, .timeout = 5};
    g_autofree char *other = g_strdup_printf("%.*s9", (int)strlen(t.uri) - 1, t.uri);
    g_autofree char *no_target = g_strdup_printf("%.*sx/1", (int)strlen(t.uri) - 2, t.uri);
    server_refused("iscsi://127.0.0.1", true, &o, "must be iscsi://");
    server_refused(other, true, &o, "remote: ");
    server_refused(no_target, true, &o, "cannot log in");
    struct disk *b = server_disk(t.uri, false, &o);
    kill(t.pid, SIGKILL);
    uint8_t sector[512];
    g_assert_cmpint(block_pread(b, sector, sizeof(sector), 0), <, 0);
    g_assert_cmpint(block_flush(b), <, 0);
    block_free(b);
    server_refused(t.uri, true, &o, "remote: ");
    tgtd_clear(&t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_data_func("/block/iscsi/thick", NULL, test_good);
    g_test_add_data_func("/block/iscsi/thin", "thin", test_good);
    g_test_add_func("/block/iscsi/password", test_password);
    g_test_add_func("/block/iscsi/refused", test_refused);
    return g_test_run();
}
