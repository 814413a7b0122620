/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Descriptors that end with their scope, and closing all but some; programs started with the descriptors
 * meant for them. */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "os/fd.h"
#include "os/process.h"

static void test_scope(void)
{
    int kept = -1, closed = -1;
    {
        AUTO_FD a = open("/dev/null", O_RDONLY), b = open("/dev/null", O_RDONLY), none = -1;
        closed = a;
        kept = fd_steal(&b);
        g_assert_cmpint(b, ==, -1);
        g_assert_cmpint(none, ==, -1);
        errno = ENOTTY;
    }
    g_assert_cmpint(errno, ==, ENOTTY);
    g_assert_false(fd_is_open(closed));
    g_assert_true(fd_is_open(kept));
    close(kept);
}

static void test_nonblock(void)
{
    int p[2];
    g_assert_cmpint(pipe(p), ==, 0);
    g_assert_cmpint(fd_set_nonblock(p[0], true), ==, 0);
    char c;
    g_assert_cmpint(read(p[0], &c, 1), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
    g_assert_cmpint(fd_set_nonblock(p[0], false), ==, 0);
    g_assert_cmpint(fcntl(p[0], F_GETFL) & O_NONBLOCK, ==, 0);
    close(p[0]);
    close(p[1]);
    g_assert_cmpint(fd_set_nonblock(p[0], true), ==, -EBADF);
}

/* In a child, since the test's own descriptors must live on. */
static void test_close_all_but(void)
{
    pid_t child = fork();
    if (child == 0) {
        for (int i = 20; i < 30; i++)
            dup2(STDERR_FILENO, i);
        const int keep[] = {27, 3, 22, 22};
        dup2(STDERR_FILENO, 3);
        fd_close_all_but(keep, 4);
        unsigned good = 0;
        for (int i = 0; i < 64; i++)
            good += fd_is_open(i) == (i <= 3 || i == 22 || i == 27);
        _exit(good == 64 ? 0 : 1);
    }
    int status;
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(status, ==, 0);
}

static int run_shell(const char *script, const int *keep, size_t n_keep)
{
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)(uintptr_t)script, NULL};
    struct process_start how = {.path = "/bin/sh",
                                .argv = argv,
                                .in = -1,
                                .out = -1,
                                .err = STDERR_FILENO,
                                .keep = keep,
                                .n_keep = n_keep,
                                .own_session = true,
                                .die_with_parent = true};
    g_autoptr(GError) error = NULL;
    pid_t child = process_spawn(&how, &error);
    g_assert_no_error(error);
    int status;
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void test_spawn_passes_descriptors(void)
{
    int p[2];
    g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
    g_autofree char *script = g_strdup_printf("echo hello >&%d", p[1]);
    g_assert_cmpint(run_shell(script, &p[1], 1), ==, 0);
    char text[16];
    g_assert_cmpint(read(p[0], text, sizeof(text)), ==, 6);
    /* The other end was not meant for it. */
    g_autofree char *closed = g_strdup_printf("[ -e /proc/self/fd/%d ] && exit 1; exit 7", p[0]);
    g_assert_cmpint(run_shell(closed, &p[1], 1), ==, 7);
    close(p[0]);
    close(p[1]);
}

static void test_spawn_resets_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGTERM, SIG_IGN);
    g_assert_cmpint(run_shell("kill -TERM $$; exit 0", NULL, 0), ==, -SIGTERM);
    signal(SIGTERM, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void test_spawn_fails(void)
{
    char *argv[] = {(char *)"x", NULL};
    struct process_start how = {.path = "/nonexistent", .argv = argv, .in = -1, .out = -1, .err = -1};
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(process_spawn(&how, &error), ==, -1);
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_HOST);
    g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1); /* nothing is left of the child */
}

static void test_sibling(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL), *name = g_path_get_basename(self);
    g_autofree char *found = process_sibling(name);
    g_assert_cmpstr(found, ==, self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fd/scope", test_scope);
    g_test_add_func("/fd/nonblock", test_nonblock);
    g_test_add_func("/fd/close-all-but", test_close_all_but);
    g_test_add_func("/process/descriptors", test_spawn_passes_descriptors);
    g_test_add_func("/process/signals", test_spawn_resets_signals);
    g_test_add_func("/process/failure", test_spawn_fails);
    g_test_add_func("/process/sibling", test_sibling);
    return g_test_run();
}
