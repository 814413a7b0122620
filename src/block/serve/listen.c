/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Where the NBD server listens. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "block/serve/server.h"
#include "os/fd.h"

enum { BACKLOG = 64, FIRST_INHERITED = 3 };

int nbd_listen_unix(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: a socket's path has at most %zu bytes", path,
                    sizeof(address.sun_path) - 1);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const mode_t was = umask(0177); /* nobody else may connect, not even for a moment */
    const int status = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&address, sizeof(address));
    const int why = errno;
    umask(was);
    if (status || listen(fd, BACKLOG)) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot listen there: %s%s", path,
                    g_strerror(status ? why : errno),
                    why == EADDRINUSE ? "; remove it when no server uses it" : "");
        return -1;
    }
    return fd_steal(&fd);
}

static int listen_at(const struct addrinfo *a)
{
    const int on = 1;
    AUTO_FD fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
        return -1;
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    return bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, BACKLOG) ? -1 : fd_steal(&fd);
}

bool nbd_listen_tcp(struct nbd_server *s, const char *host, const char *port, GError **error)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    const int status = getaddrinfo(host, port, &hints, &found);
    if (status)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s port %s: %s", host, port, gai_strerror(status));
    int why = EADDRNOTAVAIL;
    const unsigned before = s->n_listeners;
    for (const struct addrinfo *a = found; a && s->n_listeners < NBD_LISTENERS_MAX; a = a->ai_next) {
        const int fd = listen_at(a);
        if (fd >= 0)
            s->listeners[s->n_listeners++] = fd;
        else
            why = errno;
    }
    freeaddrinfo(found);
    return s->n_listeners > before ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s port %s: cannot listen there: %s", host, port,
                       g_strerror(why));
}

unsigned nbd_listen_inherited(struct nbd_server *s)
{
    const char *pid = g_getenv("LISTEN_PID"), *count = g_getenv("LISTEN_FDS");
    if (!pid || !count || g_ascii_strtoll(pid, NULL, 10) != getpid())
        return 0;
    const guint64 n = g_ascii_strtoull(count, NULL, 10);
    for (int fd = FIRST_INHERITED; fd < FIRST_INHERITED + (int)MIN(n, (guint64)NBD_LISTENERS_MAX); fd++) {
        int listening = 0;
        socklen_t size = sizeof(listening);
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) || !listening)
            continue;
        fd_set_inherited(fd, false);
        fd_set_nonblock(fd, true);
        s->listeners[s->n_listeners++] = fd;
    }
    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    g_unsetenv("LISTEN_FDNAMES");
    return s->n_listeners;
}
