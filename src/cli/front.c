/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A run of a guest with a name. */
/*
 * Theory of operation
 *
 * Whoever starts a guest with a name becomes two: the *supervisor*, a child, which starts the VMM, serves the
 * console and keeps the guest's state, and the process *in front*, which shells and service managers know.
 * The supervisor can so be left behind: at once with --detach, later by the console's menu.
 *
 * In the foreground the two are one job. The supervisor stays in our process group and reads the terminal; we
 * pass signals on, stop when it says so, and end as it says. Each notices when the other is killed: then the
 * guest ends, and whoever is left gives the terminal back. A supervisor in the background has a session of
 * its own, no terminal, and nobody it depends on; and the VMM always ends with its supervisor.
 */
#include "cli/front.h"
#include "cli/guest_saved.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/front_link.h"
#include "cli/keeper.h"
#include "cli/launch.h"
#include "cli/layers.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "os/fd.h"

bool front_send(int fd, enum front_word word, int number)
{
    const struct front_message message = {word, number};
    return fd >= 0 && send(fd, &message, sizeof(message), MSG_NOSIGNAL) == (ssize_t)sizeof(message);
}

int front_receive(int fd, struct front_message *message)
{
    const ssize_t n = recv(fd, message, sizeof(*message), MSG_DONTWAIT);
    if (n == (ssize_t)sizeof(*message))
        return 0;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? -EAGAIN : -EPIPE;
}

/* --- the supervisor --- */

static int supervise(const struct front_run *run, int link)
{
    GError *error = NULL;
    struct keeper keeper;
    struct vmm_process vmm;
    g_autofree char *saved = run->options->incoming.name ? NULL : guest_saved_path(run->guest);
    if (run->detach)
        setsid();
    if (saved)
        run->options->incoming.name = saved;
    bool started = keeper_begin(&keeper, run->guest, run->options, !run->detach, &error) &&
                   layers_apply(run->guest, run->options, &error) && launch_vmm(run->options, &vmm, &error);
    keeper.discard = run->discard;
    guest_options_fini(run->options);
    if (!started) {
        int code = cli_fail(error);
        keeper_end(&keeper, -1, code);
        return code;
    }
    keeper_started(&keeper, &vmm);
    if (run->started)
        run->started(run->opaque);
    return session_run(&vmm, &(struct session_how){.keeper = &keeper, .front = link, .detach = run->detach});
}

/* --- in front --- */

struct front {
    const char *name;
    int link, signals;
    bool detach, quiet, terminal;
    struct termios saved;
};

static int watch_signals(void)
{
    static const int all[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP};
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++)
        sigaddset(&set, all[i]);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void pass_signals(const struct front *f)
{
    struct signalfd_siginfo info;
    while (read(f->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        front_send(f->link, FRONT_SIGNAL, (int)info.ssi_signo);
}

/* The supervisor said nothing of an end, and is gone. */
static int on_killed(const struct front *f, int status)
{
    /* The terminal was its; what it was like before we know, too. */
    if (f->terminal && tcgetpgrp(STDIN_FILENO) == getpgrp())
        tcsetattr(STDIN_FILENO, TCSANOW, &f->saved);
    log_error(LOG_CLI, "guest '%s': its supervisor was killed by signal %d, and the guest ended with it",
              f->name, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    return CLI_CRASH;
}

/* One message; true when it is the last, with the exit code in *code. */
static bool obey(const struct front *f, const struct front_message *m, int *code)
{
    switch (m->word) {
    case FRONT_UP:
        if (!f->detach)
            return false;
        if (!f->quiet)
            printf("%s\n", f->name);
        *code = fflush(stdout) ? CLI_FAILURE : CLI_OK;
        return true;
    case FRONT_DETACHED: *code = CLI_OK; return true;
    case FRONT_STOP:
        kill(getpid(), SIGSTOP);
        front_send(f->link, FRONT_CONTINUED, 0);
        return false;
    case FRONT_END: *code = m->number; return true;
    default: return false;
    }
}

static int wait_in_front(const struct front *f, pid_t supervisor)
{
    for (;;) {
        struct pollfd p[] = {{f->link, POLLIN, 0}, {f->signals, POLLIN, 0}};
        if (poll(p, G_N_ELEMENTS(p), -1) < 0)
            continue;
        if (p[1].revents)
            pass_signals(f);
        if (!p[0].revents)
            continue;
        struct front_message message;
        int code = 0, status = 0;
        const int got = front_receive(f->link, &message);
        if (got == -EPIPE) {
            waitpid(supervisor, &status, 0);
            return on_killed(f, status);
        }
        if (got || !obey(f, &message, &code))
            continue;
        if (message.word == FRONT_END) /* and so nothing of it is left when we end */
            waitpid(supervisor, &status, 0);
        return code;
    }
}

int front_run(const struct front_run *run)
{
    GError *error = NULL;
    int link[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link)) {
        hostel_fail(&error, HOSTEL_ERROR_HOST, "cannot make a socket: %s", g_strerror(errno));
        named_free(run->guest);
        return cli_fail(error);
    }
    struct front f = {
        .name = run->guest->name, .link = link[0], .signals = -1, .detach = run->detach, .quiet = run->quiet};
    f.terminal = !tcgetattr(STDIN_FILENO, &f.saved);
    session_block_signals(); /* so that none is missed */
    fflush(NULL);
    const pid_t supervisor = fork();
    if (supervisor == 0) {
        close(link[0]);
        const int code = supervise(run, link[1]);
        front_send(link[1], FRONT_END, code);
        fflush(NULL);
        _exit(code < 0 ? 128 - code : code);
    }
    close(link[1]);
    int code;
    if (supervisor > 0) {
        f.signals = watch_signals();
        fd_close(&run->guest->lock); /* it is the supervisor's now */
        code = wait_in_front(&f, supervisor);
        named_leave(run->guest);
    } else {
        hostel_fail(&error, HOSTEL_ERROR_HOST, "cannot start a process: %s", g_strerror(errno));
        code = cli_fail(error);
        named_free(run->guest);
    }
    fd_close(&f.signals);
    close(link[0]);
    return code;
}
