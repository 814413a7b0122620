/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Finds and runs hostel-image-debian, which makes an image or finds it made. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/debian.h"
#include "os/fd.h"
#include "os/process.h"

#define MAKER "images/debian/hostel-image-debian"

static char *find_maker(GError **error)
{
    /* Installed; installed and moved; in a build folder, where programs are in src/bin. */
    g_autofree char *beside = process_sibling(HOSTEL_LIBEXEC_FROM_BIN "/" MAKER);
    g_autofree char *built = process_sibling("../../bin/" MAKER);
    const char *const paths[] = {beside, built, HOSTEL_LIBEXECDIR "/" MAKER};
    for (unsigned i = 0; i < G_N_ELEMENTS(paths); i++)
        if (paths[i] && access(paths[i], X_OK) == 0)
            return g_strdup(paths[i]);
    hostel_fail(error, HOSTEL_ERROR_HOST,
                "cannot find hostel-image-debian in %s/images/debian; install Hostel again",
                HOSTEL_LIBEXECDIR);
    return NULL;
}

static pid_t start(const struct debian_request *r, const char *isa, int out, GError **error)
{
    g_autofree char *maker = find_maker(error), *self = process_sibling("hostel");
    if (!maker)
        return -1;
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    const char *const fixed[] = {
        "hostel-image-debian", "--release", r->release, "--isa", isa, "--hostel", self};
    for (unsigned i = 0; i < G_N_ELEMENTS(fixed); i++)
        g_ptr_array_add(argv, (gpointer)(uintptr_t)fixed[i]);
    for (unsigned i = 0; r->own.packages && i < r->own.packages->len; i++) {
        g_ptr_array_add(argv, (gpointer)(uintptr_t) "--package");
        g_ptr_array_add(argv, r->own.packages->pdata[i]);
    }
    if (r->own.user_data) {
        g_ptr_array_add(argv, (gpointer)(uintptr_t) "--package");
        g_ptr_array_add(argv, (gpointer)(uintptr_t) "cloud-init");
    }
    g_ptr_array_add(argv, NULL);
    struct process_start how = {
        .path = maker,
        .argv = (char *const *)argv->pdata,
        .in = -1,
        .out = out,
        .err = STDERR_FILENO,
    };
    return process_spawn(&how, error);
}

/* The signals that end us meanwhile: the maker cleans up after itself, so it is told, and waited for. */
static volatile sig_atomic_t maker_pid, ended_by;

static void on_signal(int number)
{
    ended_by = number;
    kill((pid_t)maker_pid, number);
}

static void watch_signals(struct sigaction *before, bool back)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction ours = {.sa_handler = on_signal};
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++)
        sigaction(numbers[i], back ? &before[i] : &ours, back ? NULL : &before[i]);
}

/* What a process says until it ends. */
static char *read_all(int fd)
{
    GString *said = g_string_new(NULL);
    char bytes[512];
    ssize_t n;
    while ((n = read(fd, bytes, sizeof(bytes))) > 0 || (n < 0 && errno == EINTR))
        if (n > 0)
            g_string_append_len(said, bytes, n);
    return g_string_free(said, FALSE);
}

char *debian_image(const struct debian_request *r, const char *isa, int *code, GError **error)
{
    int out[2], status = -1;
    *code = CLI_FAILURE;
    if (pipe2(out, O_CLOEXEC)) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make a pipe: %s", g_strerror(errno));
        return NULL;
    }
    pid_t pid = start(r, isa, out[1], error);
    fd_close(&out[1]);
    g_autofree char *said = NULL;
    if (pid > 0) {
        struct sigaction before[3];
        maker_pid = pid;
        ended_by = 0;
        watch_signals(before, false);
        said = read_all(out[0]);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        watch_signals(before, true);
    }
    fd_close(&out[0]);
    if (ended_by)
        *code = -ended_by;
    if (pid <= 0 || ended_by || !WIFEXITED(status) || WEXITSTATUS(status))
        return NULL;
    g_strchomp(said);
    return g_steal_pointer(&said);
}
