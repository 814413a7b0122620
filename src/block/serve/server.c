/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The NBD server's loop: clients come and go; see server.h. */
/*
 * The main thread only waits: for clients, for a signal, for threads that end. Each client has a thread,
 * which makes more for its requests. A place that a client leaves is cleared by the main thread.
 */
#include "block/serve/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "block/module.h"
#include "block/serve/session.h"
#include "os/fd.h"
#include "os/sandbox.h"

static const struct sandbox_call calls[] = {
#define ALLOW(call) {.name = #call, .arg = -1},
#define ALLOW_IF(call, number, bits, wanted)                                                                 \
    {.name = #call, .arg = (number), .mask = (bits), .value = (wanted)},
#define ANSWER(call, code) {.name = #call, .answer = (code), .arg = -1},
#define ANSWER_UNLESS(call, number, unwanted, code)                                                          \
    {.name = #call,                                                                                          \
     .answer = (code),                                                                                       \
     .arg = (number),                                                                                        \
     .unless = true,                                                                                         \
     .value = (unwanted),                                                                                    \
     .last = (unwanted)},
#include "block/serve/calls.def"
#undef ALLOW
#undef ALLOW_IF
#undef ANSWER
#undef ANSWER_UNLESS
};

static const struct sandbox_profile profile = {
    .calls = calls, .count = ARRAY_SIZE(calls), .files = 2 * NBD_CLIENTS_MAX + 64};

enum { STARVED_MS = 250 };

/* A client. */
struct place {
    struct loop *loop;
    pthread_t thread;
    int fd; /* -1 = free */
    bool reached;
    _Atomic bool gone;
    struct nbd_session session;
};

struct loop {
    struct nbd_server *server;
    struct place *places;
    unsigned active;
    bool served;  /* a client had the disk */
    bool starved; /* the last client could not be let in, since the host has no descriptor for it */
    int event;    /* a thread ends */
    int signals;
};

/* --- clients --- */

static void *be_client(void *opaque)
{
    struct place *p = opaque;
    const struct nbd_server *s = p->loop->server;
    const uint64_t one = 1;
    p->reached = nbd_session_serve(&p->session, p->fd, &s->export, s->tls, s->workers);
    shutdown(p->fd, SHUT_RDWR);
    atomic_store(&p->gone, true);
    ssize_t ignored = write(p->loop->event, &one, sizeof(one));
    (void)ignored;
    return NULL;
}

/* Small replies at once; peers that vanish are noticed. Neither is there for Unix sockets. */
static void tune(int fd)
{
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* Is nothing left of what a connection needs? Then the client stays in the queue, and poll() says so at once,
 * again and again. Other errors are that client's, which is gone again. */
static bool is_scarce(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void let_in(struct loop *l, int listener)
{
    AUTO_FD fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    struct place *p = l->places;
    if (fd < 0) {
        l->starved |= is_scarce(errno);
        return;
    }
    while (p->fd >= 0)
        p++;
    tune(fd);
    atomic_store(&p->gone, false);
    p->reached = false;
    p->loop = l;
    p->fd = fd;
    if (pthread_create(&p->thread, NULL, be_client, p)) {
        p->fd = -1;
        log_warn(LOG_BLOCK, "a client was turned away: the host has no thread for it");
        return;
    }
    fd_steal(&fd);
    l->active++;
}

static void clear(struct loop *l, struct place *p)
{
    pthread_join(p->thread, NULL);
    fd_close(&p->fd);
    l->served |= p->reached;
    l->active--;
}

static void clear_gone(struct loop *l)
{
    uint64_t count;
    if (read(l->event, &count, sizeof(count)) < 0)
        return;
    for (unsigned i = 0; i < l->server->clients; i++)
        if (l->places[i].fd >= 0 && atomic_load(&l->places[i].gone))
            clear(l, &l->places[i]);
}

static void send_away(struct loop *l)
{
    for (unsigned i = 0; i < l->server->clients; i++)
        if (l->places[i].fd >= 0)
            shutdown(l->places[i].fd, SHUT_RDWR);
    for (unsigned i = 0; i < l->server->clients; i++)
        if (l->places[i].fd >= 0)
            clear(l, &l->places[i]);
}

/* --- the loop --- */

/* One turn. False: it is over. When a client could not be let in nobody else is asked for until one of ours
 * leaves; others on the host may have what we lack, of which nobody tells us, so we look again then and now.
 */
static bool turn(struct loop *l)
{
    const struct nbd_server *s = l->server;
    struct pollfd fds[2 + NBD_LISTENERS_MAX] = {{.fd = l->signals, .events = POLLIN},
                                                {.fd = l->event, .events = POLLIN}};
    unsigned n = 2;
    for (unsigned i = 0; i < s->n_listeners && l->active < s->clients && !l->starved; i++)
        fds[n++] = (struct pollfd){.fd = s->listeners[i], .events = POLLIN};
    if (poll(fds, n, l->starved ? STARVED_MS : -1) < 0)
        return errno == EINTR;
    l->starved = false;
    if (fds[0].revents)
        return false;
    if (fds[1].revents)
        clear_gone(l);
    for (unsigned i = 2; i < n && l->active < s->clients; i++)
        if (fds[i].revents)
            let_in(l, fds[i].fd);
    return s->persistent || l->active || !l->served;
}

static sigset_t ending(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return set;
}

void nbd_server_block_signals(void)
{
    const sigset_t set = ending();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool nbd_server_confine(const struct nbd_server *s, GError **error)
{
    struct sandbox sandbox;
    block_module_close_door();
    if (!s->remote_storage)
        return sandbox_enter_as(&sandbox, &profile, error) && sandbox_lock(&sandbox, error);
    /* Its libraries connect again, look names up and read certificates while they serve. */
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "cannot give up new privileges: %s", g_strerror(errno));
}

bool nbd_server_run(struct nbd_server *s, GError **error)
{
    const sigset_t set = ending();
    AUTO_FD event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    AUTO_FD signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    g_autofree struct place *places = g_try_new0(struct place, s->clients);
    if (event < 0 || signals < 0 || !places)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot serve: %s", g_strerror(places ? errno : ENOMEM));
    struct loop l = {.server = s, .places = places, .event = event, .signals = signals};
    for (unsigned i = 0; i < s->clients; i++)
        places[i].fd = -1;
    while (turn(&l))
        ;
    send_away(&l);
    const int status = block_flush(s->export.disk);
    return !status || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: what was written last may be lost: %s",
                                  s->export.disk->name, g_strerror(-status));
}

void nbd_server_fini(struct nbd_server *s)
{
    for (unsigned i = 0; i < s->n_listeners; i++)
        fd_close(&s->listeners[i]);
    s->n_listeners = 0;
    nbd_export_fini(&s->export);
}
