/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest in the foreground. */
/*
 * Theory of operation
 *
 * One thread, one poll(). Bytes flow in three directions, each through a buffer of its own that stops being
 * filled when it is full:
 *
 *   standard input -> console socket      console socket -> standard output      VMM's errors -> standard
 * error
 *
 * A terminal is the exception: it is always read, since Ctrl-] must work when the guest takes no input; what
 * does not fit is lost, as on a real line. The end of standard input ends only that flow.
 *
 * The session is over when the VMM's process has been waited for and everything it had said has been passed
 * on. So the last words of a guest, or of a VMM that died, are never lost, and the terminal is given back
 * after them.
 *
 * Signals are read from a descriptor. One that asks us to end is passed on as `quit` over the control socket;
 * a VMM that has not ended within ENDING_MS, or when a second signal comes, is killed. Stopping (SIGTSTP)
 * pauses the guest first. Helpers, which share the VMM's standard error, end when it does; one that has not
 * within HELPERS_MS is killed.
 *
 * The session of a guest with a name is its supervisor (front.c): what happens is told to a keeper, those who
 * attach to the console speak and hear beside us, and a process in front of us gets the signals and passes
 * them on. When it goes before the guest was detached, the guest ends. A session in the background has no
 * standard input and output; its standard error is the guest's log.
 */
#include "cli/session.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/flow.h"
#include "cli/front_link.h"
#include "cli/keys.h"
#include "cli/terminal.h"
#include "control/client.h"
#include "os/fd.h"

enum { ENDING_MS = 3000, STOPPING_MS = 1000, HELPERS_MS = 1000, NEVER = -1 };

struct session {
    struct vmm_process *vmm;
    struct keeper *keeper; /* NULL: the guest has no name */
    struct control_client control;
    int front;   /* the process in front; -1 = there is none (any more) */
    bool detach; /* as soon as it is up */
    bool background;
    int signals;
    bool input_open, terminal; /* standard input has more; is a terminal */
    bool output_open, output_lost;
    struct flow input, output, errors;
    struct keys keys;

    bool waited; /* the VMM's process has ended with */
    int wait_status;
    int ended_by; /* signal that asked us to end */
    bool ending, killed;
    long deadline;  /* ms; NEVER, or when a VMM that was asked to end, or a helper, is killed */
    bool size_told; /* the guest knows the terminal's size as far as we do */
    bool answered;  /* the VMM answered since this was last cleared */
    bool greeted;   /* its status was asked for at least once */
    bool paused;    /* by stop_ourselves() */
    bool orphaned;  /* the process in front was killed */
};

static long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The first ones come by way of the process in front, where there is one. */
static sigset_t session_signals(bool in_front)
{
    static const int all[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCHLD, SIGCONT, SIGWINCH};
    enum { PASSED_ON = 5 };
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = in_front ? 0 : PASSED_ON; i < G_N_ELEMENTS(all); i++)
        sigaddset(&set, all[i]);
    return set;
}

void session_block_signals(void)
{
    sigset_t set = session_signals(true);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* --- what is asked of the VMM --- */

static void ask_to_end(struct session *s);
static void on_up(struct session *s);

static void on_message(void *opaque, json_t *message)
{
    struct session *s = opaque;
    json_t *error = json_object_get(message, "error");
    if (error)
        log_warn(LOG_CLI, "%s",
                 json_string_value(json_object_get(error, "desc")) ?: "the guest's process refused");
    s->answered |= error || json_object_get(message, "return");
    if (!s->keeper)
        return;
    if (keeper_message(s->keeper, message))
        control_client_send(&s->control, "query-status", NULL, NULL);
    if (s->keeper->answered)
        on_up(s);
}

static void ask_to_end(struct session *s)
{
    if (s->ending) { /* again: now */
        kill(s->vmm->pid, SIGKILL);
        s->killed = true;
        return;
    }
    s->ending = true;
    s->deadline = now_ms() + ENDING_MS;
    if (!s->control.ready || !control_client_send(&s->control, "quit", NULL, NULL))
        kill(s->vmm->pid, SIGTERM);
}

static void ask(struct session *s, const char *command, const char *argument, const char *value)
{
    if (!s->control.ready || !control_client_send(&s->control, command, argument, value))
        log_warn(LOG_CLI, "the guest's process is not ready for %s", command);
}

/* The guest's terminal is as large as ours, as far as its console can have a size. */
static void tell_size(struct session *s)
{
    struct winsize size;
    char text[32];
    if (s->size_told || !s->terminal || !s->control.ready)
        return;
    s->size_told = true;
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) || !size.ws_col || !size.ws_row)
        return;
    snprintf(text, sizeof(text), "%ux%u", size.ws_col, size.ws_row);
    ask(s, "x-console-resize", "size", text);
}

/* The terminal's user has the shell back, with the guest standing still meanwhile. One that stands still
 * already is not let go on afterwards. */
static void stop_ourselves(struct session *s)
{
    const bool runs = !s->keeper || !strcmp(s->keeper->state.status, "running");
    s->paused = runs && s->control.ready && control_client_send(&s->control, "stop", NULL, NULL);
    s->answered = false;
    for (long end = now_ms() + STOPPING_MS;
         s->paused && !s->answered && s->control.fd >= 0 && now_ms() < end;) {
        struct pollfd p = {s->control.fd, POLLIN, 0};
        if (poll(&p, 1, STOPPING_MS) > 0)
            control_client_read(&s->control);
    }
    terminal_give();
    if (s->front < 0)
        kill(getpid(), SIGSTOP);
    else
        front_send(s->front, FRONT_STOP, 0); /* it is the one that the shell looks at */
}

static void go_on(struct session *s)
{
    terminal_retake();
    if (s->paused)
        ask(s, "cont", NULL, NULL);
    s->paused = false;
}

/* --- the background --- */

static void watch_signals(struct session *s)
{
    sigset_t set = session_signals(s->front < 0);
    s->signals = signalfd(s->signals, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* What we were started with and know nothing of, such as a lock that a script holds, is not to be held on to.
 */
static void close_inherited(const struct session *s)
{
    const struct keeper *k = s->keeper;
    const int own[] = {s->vmm->console, s->vmm->errors, s->control.fd,     s->signals,
                       s->front,        k->folder,      k->runtime,        k->said.fd,
                       k->log.fd,       k->guest->lock, k->attach.listener};
    int keep[G_N_ELEMENTS(own) + ATTACH_CLIENTS];
    memcpy(keep, own, sizeof(own));
    for (unsigned i = 0; i < ATTACH_CLIENTS; i++)
        keep[G_N_ELEMENTS(own) + i] = k->attach.clients[i].fd;
    fd_close_all_but(keep, G_N_ELEMENTS(keep));
}

/* Leaves everything that belongs to whoever started us. */
static void go_to_background(struct session *s)
{
    terminal_leave();
    close_inherited(s);
    AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
    setsid(); /* fails when we have a session of our own already */
    s->background = true;
    s->terminal = s->input_open = s->output_open = false;
    s->output.length = 0;
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(s->keeper->log.fd, STDERR_FILENO);
    s->front = -1; /* closed by whoever gave it */
    watch_signals(s);
    keeper_detached(s->keeper);
    malloc_trim(0);
}

static void detach(struct session *s)
{
    if (!s->keeper || s->front < 0 || !s->keeper->up)
        return;
    const int front = s->front;
    go_to_background(s);
    front_send(front, FRONT_DETACHED, 0);
    shutdown(front, SHUT_RDWR);
}

/* The VMM told its status, not for the first time perhaps. */
static void on_up(struct session *s)
{
    g_autoptr(GError) error = NULL;
    if (s->keeper->up || s->ending)
        return;
    if (!keeper_up(s->keeper, &error)) {
        log_error(LOG_CLI, "%s", error->message);
        s->output_lost = true;
        ask_to_end(s);
        return;
    }
    const int front = s->front;
    if (s->detach)
        go_to_background(s);
    front_send(front, FRONT_UP, 0);
}

static void on_signal(struct session *s, int number);

static void read_front(struct session *s)
{
    struct front_message message;
    const int got = front_receive(s->front, &message);
    if (!got && message.word == FRONT_SIGNAL)
        on_signal(s, message.number);
    else if (!got && message.word == FRONT_CONTINUED)
        go_on(s);
    if (got != -EPIPE)
        return;
    /* It was killed. When it led the terminal's session, SIGHUP comes besides. */
    s->front = -1;
    watch_signals(s);
    on_signal(s, SIGHUP);
    s->orphaned = true;
}

/* --- the terminal --- */

static void act(struct session *s, enum key_action action)
{
    switch (action) {
    case KEYS_PASS: break;
    case KEYS_MENU:
        terminal_say(s->keeper
                         ? "\n[hostel] d: detach  q: quit  r: reset  b: send break  Ctrl-]: send it  other "
                           "key: back "
                         : "\n[hostel] q: quit  r: reset  b: send break  Ctrl-]: send it  other key: back ");
        break;
    case KEYS_DETACH:
        terminal_say(s->keeper && s->front >= 0 ? "detach\n" : "back\n");
        detach(s);
        break;
    case KEYS_QUIT:
        terminal_say("quit\n");
        ask_to_end(s);
        break;
    case KEYS_RESET:
        terminal_say("reset\n");
        ask(s, "system_reset", NULL, NULL);
        break;
    case KEYS_BREAK:
        terminal_say("break\n");
        ask(s, "chardev-send-break", "id", "console");
        break;
    case KEYS_BACK: terminal_say("back\n"); break;
    }
}

static void read_terminal(struct session *s)
{
    uint8_t bytes[256];
    ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (n <= 0) {
        s->input_open = n < 0 && (errno == EAGAIN || errno == EINTR);
        return;
    }
    for (size_t at = 0, for_guest, used; at < (size_t)n && s->terminal; at += used) {
        enum key_action action = keys_look(&s->keys, bytes + at, (size_t)n - at, &for_guest, &used);
        flow_put(&s->input, bytes + at, for_guest);
        act(s, action);
    }
}

static void read_input(struct session *s)
{
    if (s->terminal) {
        read_terminal(s);
        return;
    }
    int n = flow_read(&s->input, STDIN_FILENO);
    s->input_open = n > 0 || n == -EAGAIN;
}

static void write_output(struct session *s)
{
    int status = flow_write(&s->output, STDOUT_FILENO);
    if (!status || status == -EAGAIN)
        return;
    log_error(LOG_CLI, "standard output: %s; the guest is ended", strerror(-status));
    s->output_open = false;
    s->output_lost = true;
    if (!s->ending)
        ask_to_end(s);
}

/* Reads from one of the VMM's descriptors, tells the keeper, and closes it at its end. */
static void read_vmm(struct session *s, struct flow *flow, int *fd,
                     void (*tell)(struct keeper *k, const uint8_t *bytes, size_t size))
{
    int n = flow_read(flow, *fd);
    if (n <= 0 && n != -EAGAIN)
        fd_close(fd);
    if (n > 0 && s->keeper)
        tell(s->keeper, flow->bytes + flow->head + flow->length - n, (size_t)n);
}

/* --- signals --- */

static void on_vmm_end(struct session *s)
{
    s->waited = true;
    s->deadline = s->vmm->helper_count ? now_ms() + HELPERS_MS : NEVER;
}

/* What was to be over by now is ended the hard way. */
static void on_deadline(struct session *s)
{
    for (unsigned i = 0; s->waited && i < s->vmm->helper_count; i++)
        kill(s->vmm->helpers[i], SIGKILL);
    if (!s->waited)
        ask_to_end(s); /* again, which kills */
    s->deadline = NEVER;
}

/* One may end before the guest does, when its card is taken out. Its number is nobody's any more then. */
static void reap_helpers(struct vmm_process *vmm)
{
    for (unsigned i = vmm->helper_count; i-- > 0;)
        if (waitpid(vmm->helpers[i], NULL, WNOHANG) == vmm->helpers[i])
            vmm->helpers[i] = vmm->helpers[--vmm->helper_count];
}

static void on_signal(struct session *s, int number)
{
    switch (number) {
    case SIGCHLD:
        reap_helpers(s->vmm);
        if (!s->waited && waitpid(s->vmm->pid, &s->wait_status, WNOHANG) == s->vmm->pid)
            on_vmm_end(s);
        break;
    case SIGTSTP:
        if (s->background)
            break;
        stop_ourselves(s);
        if (s->front < 0)
            go_on(s);
        break;
    case SIGCONT: terminal_retake(); break;
    case SIGWINCH: s->size_told = false; break;
    default:
        if (s->orphaned && number == SIGHUP)
            break;
        s->ended_by = number;
        terminal_give(); /* whatever may still go wrong */
        if (!s->waited)
            ask_to_end(s);
        break;
    }
}

static void read_signals(struct session *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        on_signal(s, (int)info.ssi_signo);
}

/* --- the loop --- */

enum {
    P_INPUT,
    P_CONSOLE,
    P_OUTPUT,
    P_CONTROL,
    P_ERRORS,
    P_STDERR,
    P_SIGNALS,
    P_FRONT,
    P_ATTACH,
    P_COUNT = P_ATTACH + ATTACH_POLL
};

/* A descriptor with nothing to wait for is left out: poll() would report its hang-up for ever. */
static struct pollfd want(int fd, short events)
{
    return (struct pollfd){events ? fd : -1, events, 0};
}

static void choose_events(const struct session *s, struct pollfd *p)
{
    bool input_room = s->input.length < FLOW_SIZE, output_room = s->output.length < FLOW_SIZE;
    bool read_stdin = s->input_open && s->vmm->console >= 0 && (s->terminal ? terminal_is_raw() : input_room);
    short console = (short)((output_room ? POLLIN : 0) | (s->input.length ? POLLOUT : 0));
    p[P_INPUT] = want(STDIN_FILENO, read_stdin ? POLLIN : 0);
    p[P_CONSOLE] = want(s->vmm->console, console);
    p[P_OUTPUT] = want(STDOUT_FILENO, s->output.length ? POLLOUT : 0);
    p[P_CONTROL] = want(s->control.fd, POLLIN);
    p[P_ERRORS] = want(s->vmm->errors, s->errors.length < FLOW_SIZE ? POLLIN : 0);
    p[P_STDERR] = want(STDERR_FILENO, s->errors.length ? POLLOUT : 0);
    p[P_SIGNALS] = want(s->signals, POLLIN);
    p[P_FRONT] = want(s->front, POLLIN);
    if (s->keeper)
        attach_want(&s->keeper->attach, input_room, p + P_ATTACH);
}

static bool over(const struct session *s)
{
    return s->waited && s->vmm->console < 0 && s->vmm->errors < 0 && !s->output.length && !s->errors.length;
}

static void serve(struct session *s, const struct pollfd *p)
{
    if (p[P_SIGNALS].revents)
        read_signals(s);
    if (p[P_FRONT].revents && s->front >= 0)
        read_front(s);
    if (p[P_CONTROL].revents && s->control.fd >= 0)
        control_client_read(&s->control);
    if (s->keeper && s->control.ready && !s->greeted)
        s->greeted = control_client_send(&s->control, "query-status", NULL, NULL);
    tell_size(s);
    if (p[P_INPUT].revents && s->input_open)
        read_input(s);
    if (s->keeper)
        attach_serve(&s->keeper->attach, p + P_ATTACH, &s->input);
    if (p[P_CONSOLE].revents & POLLOUT && s->input.length)
        flow_write(&s->input, s->vmm->console); /* a broken one is noticed when it is read */
    if (p[P_CONSOLE].revents & ~POLLOUT)
        read_vmm(s, &s->output, &s->vmm->console, keeper_console);
    if (p[P_ERRORS].revents)
        read_vmm(s, &s->errors, &s->vmm->errors, keeper_log);
    if (!s->output_open)
        s->output.length = 0;
    if (s->background) /* the keeper has them */
        s->errors.length = 0;
    if (p[P_OUTPUT].revents && s->output.length)
        write_output(s);
    if (p[P_STDERR].revents && s->errors.length)
        flow_write(&s->errors, STDERR_FILENO);
}

static void loop(struct session *s)
{
    while (!over(s)) {
        struct pollfd p[P_COUNT] = {0};
        choose_events(s, p);
        long left = s->deadline == NEVER ? NEVER : s->deadline - now_ms();
        if (s->deadline != NEVER && left <= 0) {
            on_deadline(s);
            left = NEVER;
        }
        if (poll(p, s->keeper ? P_COUNT : P_ATTACH, (int)left) > 0)
            serve(s, p);
    }
}

/* --- the end --- */

static int exit_code(const struct session *s)
{
    if (s->ended_by)
        return -s->ended_by;
    if (WIFEXITED(s->wait_status))
        return s->output_lost ? CLI_FAILURE : WEXITSTATUS(s->wait_status);
    int number = WTERMSIG(s->wait_status);
    if (s->killed) {
        log_error(LOG_CLI, "the guest's process did not end when asked to, and was killed");
        return CLI_CRASH;
    }
    const char *hint = number == SIGSYS ? "it made a system call that its sandbox forbids; please report this"
                       : number == SIGKILL ? "somebody killed it, or the host is out of memory"
                                           : "please report this; --trace all shows what it did last";
    log_error(LOG_CLI, "the guest's process ended by signal %d (%s): %s", number, strsignal(number), hint);
    return CLI_CRASH;
}

/* A terminal is opened anew, so that it can be written without blocking: the open file that we were given is
 * shared with the shell, which would be surprised. Pipes and files need no such care: see FLOW_SIZE. */
static void own_terminal_output(void)
{
    int fd =
        isatty(STDOUT_FILENO) ? open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        dup2(fd, STDOUT_FILENO);
        close(fd);
    }
}

int session_run(struct vmm_process *vmm, const struct session_how *how)
{
    struct session s = {.vmm = vmm,
                        .keeper = how ? how->keeper : NULL,
                        .front = how ? how->front : -1,
                        .detach = how && how->detach,
                        .signals = -1,
                        .deadline = NEVER};
    s.input_open = s.output_open = !s.detach;
    control_client_init(&s.control, fd_steal(&vmm->control), on_message, &s);
    watch_signals(&s);
    if (!s.detach) {
        own_terminal_output();
        s.terminal = vmm->console >= 0 && terminal_take();
    }
    loop(&s);
    terminal_leave();
    int code = exit_code(&s);
    if (s.keeper)
        keeper_end(s.keeper, s.wait_status, code);
    fd_close(&s.signals);
    control_client_fini(&s.control);
    return code;
}
