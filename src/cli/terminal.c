/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The terminal a guest's console borrows. */
#include "cli/terminal.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* One terminal per process, and signal handlers must find it. */
static struct {
    bool taken;
    volatile sig_atomic_t raw;
    struct termios saved, wanted;
} terminal;

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

bool terminal_take(void)
{
    if (tcgetattr(STDIN_FILENO, &terminal.saved))
        return false;
    terminal.taken = true;
    terminal.wanted = terminal.saved;
    cfmakeraw(&terminal.wanted);
    terminal.wanted.c_oflag |= OPOST; /* our own lines, and the VMM's, begin at the left */
    guard_fatal_signals();
    terminal_retake();
    return true;
}

void terminal_retake(void)
{
    if (terminal.taken && !in_background())
        terminal.raw = tcsetattr(STDIN_FILENO, TCSANOW, &terminal.wanted) == 0;
}

void terminal_give(void)
{
    if (terminal.raw && !in_background())
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.saved);
    terminal.raw = 0;
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
