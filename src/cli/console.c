/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel console`: this terminal, or standard input and output, attached to a guest's console. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/flow.h"
#include "cli/guest.h"
#include "cli/guest_call.h"
#include "cli/keys.h"
#include "cli/terminal.h"
#include "os/fd.h"

enum { END_MS = 5000 };

struct viewer {
    const char *name;
    int fd, signals; /* the guest's socket */
    struct flow input, output;
    struct keys keys;
    bool terminal, input_open, input_told, detached;
    int ended_by; /* a signal */
};

/* --- what is asked of the guest's process --- */

static void ask(const struct viewer *v, const char *command, json_t *arguments)
{
    g_autoptr(GError) error = NULL;
    AUTO(guest_call) call = guest_call_open(v->name, GUEST_CALL_MS, &error);
    if (call)
        guest_call_do(call, command, arguments, &error);
    else
        json_decref(arguments);
    if (error)
        log_warn(LOG_CLI, "%s", error->message);
}

static void tell_size(const struct viewer *v)
{
    struct winsize size;
    char text[32];
    if (!v->terminal || ioctl(STDIN_FILENO, TIOCGWINSZ, &size) || !size.ws_col || !size.ws_row)
        return;
    snprintf(text, sizeof(text), "%ux%u", size.ws_col, size.ws_row);
    ask(v, "x-console-resize", json_pack("{s:s}", "size", text));
}

static void act(struct viewer *v, enum key_action action)
{
    switch (action) {
    case KEYS_PASS: break;
    case KEYS_MENU:
        terminal_say(
            "\n[hostel] d: detach  q: quit  r: reset  b: send break  Ctrl-]: send it  other key: back ");
        break;
    case KEYS_DETACH:
        terminal_say("detach\n");
        v->detached = true;
        break;
    case KEYS_QUIT:
        terminal_say("quit\n");
        ask(v, "quit", NULL);
        break;
    case KEYS_RESET:
        terminal_say("reset\n");
        ask(v, "system_reset", NULL);
        break;
    case KEYS_BREAK:
        terminal_say("break\n");
        ask(v, "chardev-send-break", json_pack("{s:s}", "id", "console"));
        break;
    case KEYS_BACK: terminal_say("back\n"); break;
    }
}

/* --- bytes --- */

static void read_terminal(struct viewer *v)
{
    uint8_t bytes[256];
    const ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (n <= 0) {
        v->input_open = n < 0 && (errno == EAGAIN || errno == EINTR);
        return;
    }
    for (size_t at = 0, for_guest, used; at < (size_t)n && !v->detached; at += used) {
        const enum key_action action = keys_look(&v->keys, bytes + at, (size_t)n - at, &for_guest, &used);
        flow_put(&v->input, bytes + at, for_guest);
        act(v, action);
    }
}

static void read_input(struct viewer *v)
{
    if (v->terminal) {
        read_terminal(v);
        return;
    }
    const int n = flow_read(&v->input, STDIN_FILENO);
    v->input_open = n > 0 || n == -EAGAIN;
}

static void on_signal(struct viewer *v, int number)
{
    switch (number) {
    case SIGWINCH: tell_size(v); break;
    case SIGCONT: terminal_retake(); break;
    case SIGTSTP:
        terminal_give();
        kill(getpid(), SIGSTOP);
        terminal_retake();
        break;
    default: v->ended_by = number; break;
    }
}

static void read_signals(struct viewer *v)
{
    struct signalfd_siginfo info;
    while (read(v->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        on_signal(v, (int)info.ssi_signo);
}

static bool open_signals(struct viewer *v)
{
    static const int all[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++)
        sigaddset(&set, all[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    v->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return v->signals >= 0;
}

/* One turn; false when writing what the guest said has failed. */
static bool turn(struct viewer *v)
{
    const bool reads = v->input_open && (v->terminal ? terminal_is_raw() : v->input.length < FLOW_SIZE);
    const short socket =
        (short)((v->output.length < FLOW_SIZE ? POLLIN : 0) | (v->input.length ? POLLOUT : 0));
    struct pollfd p[] = {
        {reads ? STDIN_FILENO : -1, POLLIN, 0},
        {socket ? v->fd : -1, socket, 0},
        {v->output.length ? STDOUT_FILENO : -1, POLLOUT, 0},
        {v->signals, POLLIN, 0},
    };
    if (poll(p, G_N_ELEMENTS(p), -1) < 0)
        return true;
    if (p[3].revents)
        read_signals(v);
    if (p[0].revents)
        read_input(v);
    if (p[1].revents & POLLOUT && v->input.length)
        flow_write(&v->input, v->fd);
    if (p[1].revents & ~POLLOUT) {
        const int n = flow_read(&v->output, v->fd);
        if (n <= 0 && n != -EAGAIN)
            fd_close(&v->fd);
    }
    if (!v->input_open && !v->input.length && !v->input_told && v->fd >= 0)
        v->input_told = !shutdown(v->fd, SHUT_WR);
    if (!p[2].revents || !v->output.length)
        return true;
    const int status = flow_write(&v->output, STDOUT_FILENO);
    return !status || status == -EAGAIN;
}

/* --- the command --- */

/* The guest's side was closed: it ended, as a rule. */
static int on_closed(const struct viewer *v, const struct guest_state *before)
{
    GError *error = NULL;
    AUTO_STATE state = {0};
    const bool ended = guest_await_end(before, END_MS);
    guest_state_read(v->name, &state);
    if (!ended && state.live) {
        hostel_fail(&error, HOSTEL_ERROR_HOST,
                    "guest '%s': its supervisor ended the connection; are %d attached?", v->name, 16);
        return cli_fail(error);
    }
    log_info(LOG_CLI, "guest '%s' ended: %s", v->name, state.why ? state.why : state.status);
    return guest_exit_code(&state);
}

static int view(struct viewer *v, const struct guest_state *state)
{
    bool good = true;
    v->terminal = terminal_take();
    if (v->terminal)
        log_info(LOG_CLI, "attached to guest '%s'; Ctrl-] opens a menu", v->name);
    tell_size(v);
    while (good && !v->ended_by && !v->detached && (v->fd >= 0 || v->output.length))
        good = turn(v);
    terminal_leave();
    if (v->ended_by)
        return -v->ended_by;
    if (!good) {
        log_error(LOG_CLI, "standard output: %s", g_strerror(errno));
        return CLI_FAILURE;
    }
    return v->detached ? CLI_OK : on_closed(v, state);
}

int cli_console(char **argv)
{
    GError *error = NULL;
    AUTO_ARGS args = {0};
    AUTO_STATE state = {0};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    struct viewer v = {.name = args.names[0], .fd = -1, .signals = -1, .input_open = true};
    if (!guest_find_live(v.name, &state, &error))
        return cli_fail(error);
    v.fd = guest_runtime_connect(v.name, "console");
    if (v.fd < 0 || !open_signals(&v)) {
        hostel_fail(&error, HOSTEL_ERROR_HOST, "guest '%s': its console cannot be reached: %s%s", v.name,
                    g_strerror(errno), errno == ENOENT ? "; it was started with another --console" : "");
        return cli_fail(error);
    }
    code = view(&v, &state);
    fd_close(&v.fd);
    fd_close(&v.signals);
    return code;
}
