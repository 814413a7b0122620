/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a locked-down process can no longer do: each attempt is made, in a process and a thread of its own. */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"
#include "os/sandbox.h"

/* What the attempts need, made before the doors close. */
static struct {
    int memfd;
    void *page;
} before;

/* An attempt returns an errno, 0 when it succeeded. */
#define ATTEMPT(name, call)                                                                                  \
    static int name(void)                                                                                    \
    {                                                                                                        \
        errno = 0;                                                                                           \
        return (long)(call) == -1 ? errno : 0;                                                               \
    }

ATTEMPT(try_open, open("/etc/passwd", O_RDONLY))
ATTEMPT(try_open_null, open("/dev/null", O_RDWR))
ATTEMPT(try_create, open("/tmp/hostel-sandbox-test", O_CREAT | O_WRONLY, 0600))
ATTEMPT(try_openat2, syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", NULL, 0))
ATTEMPT(try_socket, socket(AF_UNIX, SOCK_STREAM, 0))
ATTEMPT(try_exec, execl("/bin/true", "true", (char *)NULL))
ATTEMPT(try_fork, syscall(SYS_fork))
ATTEMPT(try_clone, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))
ATTEMPT(try_kill_parent, kill(getppid(), 0))
ATTEMPT(try_ptrace, ptrace(PTRACE_TRACEME, 0, 0, 0))
ATTEMPT(try_memfd, syscall(SYS_memfd_create, "x", 0))
ATTEMPT(try_io_uring, syscall(SYS_io_uring_setup, 1, NULL))
ATTEMPT(try_bpf, syscall(SYS_bpf, 0, NULL, 0))
ATTEMPT(try_mount, syscall(SYS_mount, "x", "/tmp", "tmpfs", 0, NULL))
ATTEMPT(try_dumpable, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
ATTEMPT(try_mmap_exec, mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
ATTEMPT(try_mmap_file_exec, mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, before.memfd, 0))
ATTEMPT(try_mprotect_exec, mprotect(before.page, 4096, PROT_READ | PROT_EXEC))
ATTEMPT(try_pkey_mprotect, syscall(SYS_pkey_mprotect, before.page, 4096, PROT_READ | PROT_EXEC, 0))
ATTEMPT(try_ioctl, syscall(SYS_ioctl, 2, 0x5412 /* TIOCSTI */, "x"))
ATTEMPT(try_process_vm, syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0))
ATTEMPT(try_userfaultfd, syscall(SYS_userfaultfd, 0))
ATTEMPT(try_mmap, mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
ATTEMPT(try_mprotect, mprotect(before.page, 4096, PROT_READ))
ATTEMPT(try_write, write(STDERR_FILENO, "", 0))

enum { KILLED = -1 };

static const struct {
    const char *name;
    int (*run)(void);
    int expected; /* errno, 0 = done, KILLED = the process ends by SIGSYS */
} attempts[] = {
    {"open", try_open, ENOENT},
    {"open-null", try_open_null, ENOENT},
    {"create", try_create, ENOENT},
    {"openat2", try_openat2, KILLED},
    {"socket", try_socket, KILLED},
    {"exec", try_exec, KILLED},
    {"fork", try_fork, KILLED},
    {"clone", try_clone, EPERM},
    {"kill-parent", try_kill_parent, KILLED},
    {"ptrace", try_ptrace, KILLED},
    {"memfd", try_memfd, KILLED},
    {"io-uring", try_io_uring, KILLED},
    {"bpf", try_bpf, KILLED},
    {"mount", try_mount, KILLED},
    {"dumpable", try_dumpable, EPERM},
    {"mmap-exec", try_mmap_exec, KILLED},
    {"mmap-file-exec", try_mmap_file_exec, KILLED},
    {"mprotect-exec", try_mprotect_exec, KILLED},
    {"pkey-mprotect", try_pkey_mprotect, KILLED},
    {"ioctl", try_ioctl, ENOTTY},
    {"process-vm", try_process_vm, KILLED},
    {"userfaultfd", try_userfaultfd, KILLED},
    {"mmap", try_mmap, 0},
    {"mprotect", try_mprotect, 0},
    {"write", try_write, 0},
};

enum { EXIT_NO_SANDBOX = 120, EXIT_OFF = 121, EXIT_OTHER = 122 };

static _Atomic bool locked;
static unsigned chosen;

static gpointer attempt_on_thread(gpointer unused)
{
    while (!atomic_load(&locked))
        g_usleep(1000);
    _exit(attempts[chosen].run());
    return unused;
}

/* In a child: everything given up, then the attempt, on this thread or on one that was there before. */
static void child(unsigned i, bool on_thread)
{
    struct sandbox s;
    chosen = i;
    before.memfd = (int)syscall(SYS_memfd_create, "test", 0);
    if (before.memfd < 0 || ftruncate(before.memfd, 4096))
        _exit(EXIT_OTHER);
    before.page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sandbox_enter(&s, NULL))
        _exit(EXIT_NO_SANDBOX);
    if (on_thread)
        g_thread_new("attempt", attempt_on_thread, NULL);
    if (!sandbox_lock(&s, NULL))
        _exit(EXIT_NO_SANDBOX);
    if (!s.seccomp)
        _exit(EXIT_OFF);
    atomic_store(&locked, true);
    if (!on_thread)
        _exit(attempts[i].run());
    for (;;)
        g_usleep(1000000);
}

static int outcome(unsigned i, bool on_thread)
{
    pid_t pid = fork();
    if (pid == 0)
        child(i, on_thread);
    int status;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    if (WIFSIGNALED(status)) {
        g_assert_cmpint(WTERMSIG(status), ==, SIGSYS);
        return KILLED;
    }
    return WEXITSTATUS(status);
}

static void test_attempt(gconstpointer index)
{
    unsigned i = GPOINTER_TO_UINT(index);
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        int got = outcome(i, on_thread);
        if (got == EXIT_OFF) {
            g_test_skip("no list of system calls in this build, or on this kernel");
            return;
        }
        g_assert_cmpint(got, ==, attempts[i].expected);
    }
}

/* Landlock alone keeps files closed, before the list of system calls is there. */
static void test_enter(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct sandbox s;
        if (!sandbox_enter(&s, NULL))
            _exit(EXIT_NO_SANDBOX);
        if (!s.landlock_abi)
            _exit(EXIT_OFF);
        bool closed = open("/etc/passwd", O_RDONLY) == -1 && errno == EACCES;
        bool made = (int)syscall(SYS_memfd_create, "test", 0) >= 0;
        _exit(closed && made && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : 1);
    }
    int status;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == EXIT_OFF)
        g_test_skip("this kernel has no Landlock");
    else
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sandbox/enter", test_enter);
    for (unsigned i = 0; i < ARRAY_SIZE(attempts); i++) {
        g_autofree char *path = g_strconcat("/sandbox/", attempts[i].name, NULL);
        g_test_add_data_func(path, GUINT_TO_POINTER(i), test_attempt);
    }
    return g_test_run();
}
