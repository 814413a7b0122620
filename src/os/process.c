/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Starting another program: fork, arrange descriptors, execute, and report what went wrong in the child. */
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "os/fd.h"

/* Everything from here to exec runs in the child, where only async-signal-safe functions may be called. */

static bool child_standard(int fd, int as)
{
    if (fd == as)
        return fd_set_inherited(fd, true) == 0;
    if (fd >= 0)
        return dup2(fd, as) == as;
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || null == as)
        return null == as;
    bool done = dup2(null, as) == as;
    close(null);
    return done;
}

static void child_signals(void)
{
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL); /* fails for the few that cannot be changed, and they need not be */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_exec(const struct process_start *start, pid_t parent)
{
    if (start->own_session)
        setsid();
    if (start->die_with_parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) /* it ended before the request was in force */
            _exit(1);
    }
    child_signals();
    if (!child_standard(start->in, STDIN_FILENO) || !child_standard(start->out, STDOUT_FILENO) ||
        !child_standard(start->err, STDERR_FILENO))
        return;
    for (size_t i = 0; i < start->n_keep; i++)
        if (fd_set_inherited(start->keep[i], true))
            return;
    execv(start->path, start->argv);
}

pid_t process_spawn(const struct process_start *start, GError **error)
{
    /* Closed by a successful exec; carries the reason of a failed one. */
    int report[2];
    if (pipe2(report, O_CLOEXEC)) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot start %s: %s", start->path, g_strerror(errno));
        return -1;
    }
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        child_exec(start, parent);
        int why = errno;
        ssize_t ignored = write(report[1], &why, sizeof(why));
        (void)ignored;
        _exit(127);
    }
    int why = errno;
    close(report[1]);
    if (child > 0) {
        ssize_t n;
        do {
            n = read(report[0], &why, sizeof(why));
        } while (n < 0 && errno == EINTR);
        if (n == (ssize_t)sizeof(why)) {
            waitpid(child, NULL, 0);
            child = -1;
        }
    }
    close(report[0]);
    if (child < 0)
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot start %s: %s", start->path, g_strerror(why));
    return child;
}

char *process_sibling(const char *name)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return NULL;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash)
        return NULL;
    *slash = '\0';
    return g_strconcat(self, "/", name, NULL);
}

char *process_find_helper(const char *name, int mode)
{
    g_autofree char *below = g_strconcat(HOSTEL_LIBEXEC_FROM_BIN "/", name, NULL);
    char *places[] = {process_sibling(name), process_sibling(below),
                      g_strconcat(HOSTEL_LIBEXECDIR "/", name, NULL)};
    char *found = NULL;
    for (unsigned i = 0; i < 3; i++) {
        if (!found && places[i] && !access(places[i], mode))
            found = g_steal_pointer(&places[i]);
        g_free(places[i]);
    }
    return found;
}
