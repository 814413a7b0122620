/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Files on another host: OpenSSH's sshd, with keys of its own, on the loopback. */
#include <pwd.h>
#include <sys/stat.h>

#include "block/protocol/remote.h"
#include "server.h"

/* sshd wants one process for each connection when it has no port of its own (-i); so one that we fork
 * accepts. */
struct sshd {
    char *folder, *file, *uri, *key, *other_key, *known, *stranger, *config;
    int listener;
    pid_t pid;
};

static char *in(const struct sshd *s, const char *name)
{
    return g_build_filename(s->folder, name, NULL);
}

static void make_key(const char *path)
{
    const char *argv[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path, NULL};
    g_assert_cmpint(server_wait(server_start(argv, -1)), ==, 0);
}

static void put_file(const char *path, const char *format, const char *text)
{
    g_autofree char *all = g_strdup_printf("%s%s", format, text);
    g_assert_true(g_file_set_contents_full(path, all, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL));
}

static char *read_key(const char *path)
{
    g_autofree char *public = g_strconcat(path, ".pub", NULL);
    char *text = NULL;
    g_assert_true(g_file_get_contents(public, &text, NULL, NULL));
    return text;
}

static G_GNUC_NORETURN void accept_all(int listener, const char *config)
{
    static char program[] = "/usr/sbin/sshd";
    char *argv[] = {program, (char[]){"-i"}, (char[]){"-e"}, (char[]){"-f"}, (char *)(uintptr_t)config, NULL};
    signal(SIGCHLD, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        const int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && !fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            signal(SIGCHLD, SIG_DFL);
            dup2(fd, 0);
            dup2(fd, 1);
            execv(program, argv);
            _exit(127);
        }
        close(fd);
    }
}

static void sshd_run(struct sshd *s)
{
    s->pid = fork();
    if (!s->pid)
        accept_all(s->listener, s->config);
}

static struct sshd sshd_new(const char *more)
{
    struct sshd s = {.folder = server_folder()};
    unsigned port;
    s.listener = server_listen_tcp(&port);
    g_autofree char *host_key = in(&s, "host"), *keys = in(&s, "keys");
    s.file = in(&s, "file");
    s.key = in(&s, "key");
    s.other_key = in(&s, "other");
    s.known = in(&s, "known");
    s.stranger = in(&s, "stranger");
    s.config = in(&s, "config");
    make_key(host_key);
    make_key(s.key);
    make_key(s.other_key);
    g_autofree char *public = read_key(s.key), *host = read_key(host_key), *wrong = read_key(s.other_key);
    g_autofree char *where = g_strdup_printf("[127.0.0.1]:%u ", port);
    put_file(keys, "", public);
    put_file(s.known, where, host);
    put_file(s.stranger, where, wrong);
    g_autofree char *text =
        g_strdup_printf("HostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nLogLevel "
                        "ERROR\nPidFile none\nSubsystem sftp internal-sftp %s\n",
                        host_key, keys, more);
    put_file(s.config, text, "");
    s.uri = g_strdup_printf("ssh://%s@127.0.0.1:%u%s", getpwuid(getuid())->pw_name, port, s.file);
    const int fd = open(s.file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(ftruncate(fd, SERVER_SIZE), ==, 0);
    close(fd);
    sshd_run(&s);
    return s;
}

static void sshd_clear(struct sshd *s)
{
    kill(s->pid, SIGKILL);
    server_wait(s->pid);
    close(s->listener);
    server_remove_folder(s->folder);
    char *all[] = {s->config, s->file, s->uri, s->key, s->other_key, s->known, s->stranger};
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        g_free(all[i]);
}

static bool ready(void)
{
    if (!server_requires_module("ssh") || !server_requires("ssh-keygen"))
        return false;
    if (g_access("/usr/sbin/sshd", X_OK) || (getuid() == 0 && g_access("/run/sshd", X_OK))) {
        g_test_skip("sshd is not installed, or has no /run/sshd");
        return false;
    }
    return true;
}

static void test_good(void)
{
    if (!ready())
        return;
    struct sshd s = sshd_new("");
    const struct ssh_options o = {.key_file = s.key, .known_hosts = s.known, .connections = 3, .timeout = 30};
    g_autofree uint8_t *bytes = g_malloc0(2 * SERVER_SIZE);
    struct disk *b = server_disk(s.uri, false, &o);
    g_assert_cmpuint(b->facts.size, ==, SERVER_SIZE);
    server_check(b, bytes, 60);
    g_assert_cmpint(block_resize(b, 2 * SERVER_SIZE), ==, 0);
    g_autofree uint8_t *more = g_malloc(SERVER_SIZE);
    g_assert_cmpint(block_pread(b, more, SERVER_SIZE, SERVER_SIZE), ==, 0);
    g_assert_cmpmem(more, SERVER_SIZE, bytes + SERVER_SIZE, (gsize)SERVER_SIZE);
    g_assert_cmpint(block_flush(b), ==, 0);
    block_free(b);
    g_autofree char *file = NULL;
    gsize size;
    g_assert_true(g_file_get_contents(s.file, &file, &size, NULL));
    g_assert_cmpmem(file, size, bytes, (gsize)(2 * SERVER_SIZE));
    b = server_disk(s.uri, true, &o);
    server_check(b, bytes, 20);
    block_free(b);
    sshd_clear(&s);
}

/* A server whose key is unknown, or another one; a user whose key is; a password where others see it. */
static void test_strangers(void)
{
    if (!ready())
        return;
    struct sshd s = sshd_new("");
    g_autofree char *none = in(&s, "none"), *missing = g_strconcat(s.uri, "x", NULL);
    const struct ssh_options unknown = {
        .key_file = s.key, .known_hosts = none, .connections = 1, .timeout = 30};
    const struct ssh_options changed = {
        .key_file = s.key, .known_hosts = s.stranger, .connections = 1, .timeout = 30};
    const struct ssh_options nobody = {
        .key_file = s.other_key, .known_hosts = s.known, .connections = 1, .timeout = 30};
    const struct ssh_options good = {
        .key_file = s.key, .known_hosts = s.known, .connections = 1, .timeout = 30};
    server_refused(s.uri, true, &unknown, "is not known");
    g_assert_false(g_file_test(none, G_FILE_TEST_EXISTS)); /* and was not learned */
    server_refused(s.uri, true, &changed, "is not the one that is known");
    server_refused(s.uri, true, &nobody, "accepts none of our keys");
    server_refused("ssh://me:secret@host/x", true, &good, "give no password");
    server_refused("ssh://host", true, &good, "must be ssh://");
    server_refused(missing, true, &good, "there is no such file");
    sshd_clear(&s);
}

/* Everything is lost under it. What comes later connects anew; but what was not flushed may be lost. */
static void test_lost(void)
{
    if (!ready())
        return;
    struct sshd s = sshd_new("");
    const struct ssh_options o = {.key_file = s.key, .known_hosts = s.known, .connections = 1, .timeout = 30};
    struct disk *b = server_disk(s.uri, false, &o);
    uint8_t bytes[512] = {0};
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, 0);
    kill(s.pid, SIGKILL); /* the one that accepts; those of the connections go with it */
    server_wait(s.pid);
    int status = 0;
    for (unsigned i = 0; i < 1000 && !status; i++)
        status = block_pread(b, bytes, sizeof(bytes), 0);
    g_assert_cmpint(status, <, 0);
    sshd_run(&s);
    g_assert_cmpint(block_pread(b, bytes, sizeof(bytes), 0), ==, 0);
    g_assert_cmpint(block_flush(b), ==, -EIO);
    g_assert_cmpint(block_pwrite(b, bytes, sizeof(bytes), 0), ==, -EIO);
    block_free(b);
    sshd_clear(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/block/ssh/good", test_good);
    g_test_add_func("/block/ssh/strangers", test_strangers);
    g_test_add_func("/block/ssh/lost", test_lost);
    return g_test_run();
}
