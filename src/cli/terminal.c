/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The terminal a guest's console borrows. */
#include "cli/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "os/fd.h"

/* One terminal per process, and signal handlers must find it. */
static struct {
    bool taken;
    volatile sig_atomic_t raw;
    struct termios saved, wanted;
    int guard; /* pipe to the guard; -1 = there is none */
    pid_t guard_pid;
} terminal = {.guard = -1};

/* In the background, changing the terminal would stop us, and its modes belong to whoever is in front. */
static bool in_background(void)
{
    pid_t front = tcgetpgrp(STDIN_FILENO);
    return front > 0 && front != getpgrp();
}

static void on_fatal(int signal_number)
{
    if (terminal.raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.saved);
    raise(signal_number); /* SA_RESETHAND: this one ends us */
}

static void guard_fatal_signals(void)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_handler = on_fatal, .sa_flags = SA_RESETHAND | SA_NODEFER};
    for (unsigned i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
        sigaction(fatal[i], &action, NULL);
}

/* --- the guard --- */

enum { SAY_RAW = 'r', SAY_GIVEN = 'g' };

static void tell_guard(char what)
{
    ssize_t ignored = terminal.guard >= 0 ? write(terminal.guard, &what, 1) : 0;
    (void)ignored;
}

/* To the end of the pipe; then what is left undone. */
static void __attribute__((noreturn)) guard(int pipe)
{
    char last = SAY_GIVEN;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    fd_close_all_but(&pipe, 1);
    close(STDOUT_FILENO); /* nobody who reads them is to wait for us */
    close(STDERR_FILENO);
    for (ssize_t n; (n = read(pipe, &last, 1)) != 0;)
        if (n < 0 && errno != EINTR)
            break;
    if (last == SAY_RAW && !in_background())
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.saved);
    _exit(0);
}

/* Without one it goes, too. */
static void start_guard(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return;
    const pid_t child = fork();
    if (child == 0) {
        close(ends[1]);
        guard(ends[0]);
    }
    close(ends[0]);
    terminal.guard = ends[1];
    terminal.guard_pid = child;
}

/* --- taking and giving --- */

bool terminal_take(void)
{
    if (tcgetattr(STDIN_FILENO, &terminal.saved))
        return false;
    terminal.taken = true;
    terminal.wanted = terminal.saved;
    cfmakeraw(&terminal.wanted);
    terminal.wanted.c_oflag |= OPOST; /* our own lines, and the VMM's, begin at the left */
    guard_fatal_signals();
    start_guard();
    terminal_retake();
    return true;
}

void terminal_retake(void)
{
    if (!terminal.taken || in_background())
        return;
    tell_guard(SAY_RAW); /* first, so that there is no moment that nobody guards */
    terminal.raw = tcsetattr(STDIN_FILENO, TCSANOW, &terminal.wanted) == 0;
}

void terminal_give(void)
{
    if (terminal.raw && !in_background())
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.saved);
    terminal.raw = 0;
    tell_guard(SAY_GIVEN);
}

void terminal_leave(void)
{
    terminal_give();
    terminal.taken = false;
    if (terminal.guard < 0)
        return;
    fd_close(&terminal.guard);
    if (terminal.guard_pid > 0)
        waitpid(terminal.guard_pid, NULL, 0); /* it has nothing left to wait for */
}

bool terminal_is_raw(void)
{
    return terminal.raw;
}

void terminal_say(const char *text)
{
    int fd = isatty(STDOUT_FILENO) ? STDOUT_FILENO : STDERR_FILENO;
    ssize_t ignored = write(fd, text, strlen(text));
    (void)ignored;
}
