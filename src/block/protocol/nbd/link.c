/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One connection to an NBD server; see link.h. */
#include "block/protocol/nbd/link.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "os/fd.h"

/* --- connecting --- */

static bool fail(const char *name, GError **error)
{
    const char *why = nbd_get_error();
    return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s; is the server running, and is this its export?",
                       name, why ? why : "cannot connect");
}

static bool set_options(struct nbd_link *l, const struct nbd_options *o)
{
    struct nbd_handle *h = l->nbd;
    return !nbd_set_handshake_flags(h, LIBNBD_HANDSHAKE_FLAG_MASK) &&
           !nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) &&
           !nbd_set_uri_allow_transports(h, LIBNBD_ALLOW_TRANSPORT_TCP | LIBNBD_ALLOW_TRANSPORT_UNIX) &&
           !nbd_set_pread_initialize(h, false) && !nbd_set_uri_allow_local_file(h, true) &&
           (!o->tls_certificates || !nbd_set_tls_certificates(h, o->tls_certificates)) &&
           (!o->tls_psk_file || !nbd_set_tls_psk_file(h, o->tls_psk_file)) &&
           (!o->tls_user || !nbd_set_tls_username(h, o->tls_user));
}

/* Until the export is chosen, or the time is over. */
static bool connect_until(struct nbd_link *l, const char *name, unsigned seconds, GError **error)
{
    const gint64 end = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
    while (nbd_aio_is_connecting(l->nbd)) {
        const gint64 left = end - g_get_monotonic_time();
        if (left <= 0)
            return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the server did not answer within %u seconds",
                               name, seconds);
        if (nbd_poll(l->nbd, (int)(left / 1000) + 1) < 0)
            return fail(name, error);
    }
    return nbd_aio_is_ready(l->nbd) == 1 || fail(name, error);
}

struct nbd_link *nbd_link_new(const char *name, const char *uri, const struct nbd_options *o, GError **error)
{
    AUTO(nbd_link) l = g_new0(struct nbd_link, 1);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->nbd = nbd_create();
    if (l->kick < 0 || !l->nbd) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot connect: %s", name, g_strerror(errno));
        return NULL;
    }
    if (!set_options(l, o) || nbd_aio_connect_uri(l->nbd, uri)) {
        fail(name, error);
        return NULL;
    }
    return connect_until(l, name, o->timeout, error) ? STEAL(l) : NULL;
}

void nbd_link_free(struct nbd_link *l)
{
    if (!l)
        return;
    if (l->nbd && nbd_aio_is_ready(l->nbd) == 1)
        nbd_aio_disconnect(l->nbd, 0); /* sent at once when it fits, which is all a farewell is worth */
    nbd_close(l->nbd);
    fd_close(&l->kick);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    g_free(l);
}

/* --- requests --- */

/* Called by libnbd on whichever thread feeds it, with its own lock held. */
static int complete(void *opaque, int *error)
{
    struct nbd_request *r = opaque;
    struct nbd_link *l = r->link;
    pthread_mutex_lock(&l->lock);
    r->error = *error > 0 ? -*error : *error ? -EIO : 0;
    r->done = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return 1; /* libnbd may forget it */
}

nbd_completion_callback nbd_link_begin(struct nbd_link *l, struct nbd_request *r)
{
    *r = (struct nbd_request){.link = l};
    return (nbd_completion_callback){.callback = complete, .user_data = r};
}

static void kick(struct nbd_link *l)
{
    const uint64_t one = 1;
    ssize_t ignored = write(l->kick, &one, sizeof(one));
    (void)ignored; /* when it is full the leader wakes anyhow */
}

/* The leader's turn: sleeps until the socket can do what libnbd wants to. */
static void feed(struct nbd_link *l)
{
    const unsigned direction = nbd_aio_get_direction(l->nbd);
    struct pollfd fds[] = {{.fd = nbd_aio_get_fd(l->nbd)}, {.fd = l->kick, .events = POLLIN}};
    if (fds[0].fd < 0)
        return;
    fds[0].events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                            (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
    if (poll(fds, 2, -1) < 0)
        return;
    uint64_t count;
    if (fds[1].revents && read(l->kick, &count, sizeof(count)) < 0)
        return;
    /* One of them: after the first the other may not be what libnbd waits for any more. */
    const short ready = fds[0].revents;
    if (direction & LIBNBD_AIO_DIRECTION_READ && ready & (POLLIN | POLLHUP | POLLERR))
        nbd_aio_notify_read(l->nbd);
    else if (direction & LIBNBD_AIO_DIRECTION_WRITE && ready & (POLLOUT | POLLHUP | POLLERR))
        nbd_aio_notify_write(l->nbd);
}

int nbd_link_wait(struct nbd_request *r, int64_t cookie)
{
    struct nbd_link *l = r->link;
    if (cookie < 0) { /* refused before it was sent; the completion has been called or never will be */
        const int why = nbd_get_errno();
        return why > 0 && why != EINVAL ? -why : -EIO;
    }
    pthread_mutex_lock(&l->lock);
    if (!r->done && l->led && nbd_aio_get_direction(l->nbd) & LIBNBD_AIO_DIRECTION_WRITE)
        kick(l);
    while (!r->done) {
        if (l->led) {
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        l->led = true;
        pthread_mutex_unlock(&l->lock);
        feed(l); /* when the connection ends, libnbd completes all requests before we can see it */
        pthread_mutex_lock(&l->lock);
        l->led = false;
        pthread_cond_broadcast(&l->changed);
    }
    const int status = r->error;
    pthread_mutex_unlock(&l->lock);
    return status;
}

bool nbd_link_is_lost(const struct nbd_link *l)
{
    return nbd_aio_is_dead(l->nbd) != 0 || nbd_aio_is_closed(l->nbd) != 0;
}
