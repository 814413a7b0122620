/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* libslirp and what stands around it. */
#include "net/netd/stack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "net/netd/offload.h"
#include "net/netd/resolver.h"
#include "os/fd.h"

enum { FLOWS_BACKLOG = 64 };

struct netd_stack {
    Slirp *slirp;
    struct netd_filter filter;
    struct netd_outbox *out; /* borrowed */
    GArray *fds;             /* borrowed while libslirp is asked what to wait for */
    bool hold;
    /* libslirp's one timer, for router advertisements; times in milliseconds. */
    struct stack_timer {
        SlirpTimerId id;
        void *opaque;
        int64_t when; /* -1 = not set */
    } timer;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* --- what libslirp calls --- */

static ssize_t on_send(const void *frame, size_t size, void *opaque)
{
    struct netd_stack *s = opaque;
    if (size > NET_FRAME_MAX)
        return (ssize_t)size;
    uint8_t *room = netd_outbox_room(s->out);
    if (!room) {
        netd_outbox_flush(s->out);
        room = netd_outbox_room(s->out);
    }
    if (!room) /* lost, as on a wire: TCP sends it again */
        return (ssize_t)size;
    memcpy(room, frame, size);
    netd_filter_to_guest(&s->filter, room, size);
    netd_outbox_put(s->out, size);
    return (ssize_t)size;
}

static void on_guest_error(const char *message, void *opaque G_GNUC_UNUSED)
{
    log_guest(LOG_NET, "the guest: %s", message);
}

static int64_t on_clock(void *opaque G_GNUC_UNUSED)
{
    return now_ns();
}

static void *on_timer_new(SlirpTimerId id, void *timer_opaque, void *opaque)
{
    struct netd_stack *s = opaque;
    s->timer = (struct stack_timer){.id = id, .opaque = timer_opaque, .when = -1};
    return &s->timer;
}

static void on_timer_free(void *timer, void *opaque G_GNUC_UNUSED)
{
    ((struct stack_timer *)timer)->when = -1;
}

static void on_timer_mod(void *timer, int64_t when, void *opaque G_GNUC_UNUSED)
{
    ((struct stack_timer *)timer)->when = when;
}

static void on_poll_fd(int fd G_GNUC_UNUSED, void *opaque G_GNUC_UNUSED)
{
}

/* We are never asleep while libslirp runs. */
static void on_notify(void *opaque G_GNUC_UNUSED)
{
}

static const SlirpCb callbacks = {
    .send_packet = on_send,
    .guest_error = on_guest_error,
    .clock_get_ns = on_clock,
    .timer_new_opaque = on_timer_new,
    .timer_free = on_timer_free,
    .timer_mod = on_timer_mod,
    .register_poll_fd = on_poll_fd,
    .unregister_poll_fd = on_poll_fd,
    .notify = on_notify,
};

/* --- waiting --- */

static int on_add_poll(int fd, int events, void *opaque)
{
    struct netd_stack *s = opaque;
    if (s->hold)
        events &= ~(SLIRP_POLL_IN | SLIRP_POLL_PRI);
    struct pollfd p = {.fd = fd};
    p.events = (short)((events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
                       (events & SLIRP_POLL_PRI ? POLLPRI : 0));
    /* A hang-up is reported unasked. While nothing is read there is no use for it, and waiting would be no
     * waiting. */
    if (!p.events)
        p.fd = -1;
    g_array_append_val(s->fds, p);
    return (int)s->fds->len - 1;
}

static int on_get_events(int index, void *opaque)
{
    const struct netd_stack *s = opaque;
    short r = g_array_index(s->fds, struct pollfd, (unsigned)index).revents;
    return (r & POLLIN ? SLIRP_POLL_IN : 0) | (r & POLLOUT ? SLIRP_POLL_OUT : 0) |
           (r & POLLPRI ? SLIRP_POLL_PRI : 0) | (r & POLLERR ? SLIRP_POLL_ERR : 0) |
           (r & POLLHUP ? SLIRP_POLL_HUP : 0);
}

int netd_stack_wait(struct netd_stack *s, GArray *fds, bool hold)
{
    uint32_t timeout = UINT32_MAX;
    s->fds = fds;
    s->hold = hold;
    slirp_pollfds_fill(s->slirp, &timeout, on_add_poll, s);
    if (s->timer.when >= 0) {
        int64_t left = s->timer.when - now_ns() / 1000000;
        timeout = MIN(timeout, (uint32_t)CLAMP(left, 0, INT_MAX));
    }
    return timeout > INT_MAX ? -1 : (int)timeout;
}

void netd_stack_serve(struct netd_stack *s, GArray *fds)
{
    s->fds = fds;
    slirp_pollfds_poll(s->slirp, 0, on_get_events, s);
    if (s->timer.when >= 0 && s->timer.when <= now_ns() / 1000000) {
        s->timer.when = -1;
        slirp_handle_timer(s->slirp, s->timer.id, s->timer.opaque);
    }
}

/* --- frames of the guest --- */

static void refuse(struct netd_stack *s, const struct netd_packet *p)
{
    uint8_t *room = netd_outbox_room(s->out);
    if (room)
        netd_outbox_put(s->out, netd_refusal(p, room));
}

void netd_stack_input(struct netd_stack *s, uint8_t *message, size_t size)
{
    struct net_header header;
    struct netd_packet p;
    if (size < sizeof(header) + NET_ETHERNET)
        return;
    memcpy(&header, message, sizeof(header));
    uint8_t *frame = message + sizeof(header);
    size -= sizeof(header);
    if (!netd_offload(&header, frame, size))
        return;
    switch (netd_filter_from_guest(&s->filter, frame, size, now_ns(), &p)) {
    case NETD_PASS: slirp_input(s->slirp, frame, (int)size); break;
    case NETD_REFUSE: refuse(s, &p); break;
    case NETD_DROP: break;
    }
}

/* --- forwards --- */

union any_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static socklen_t to_sockaddr(const struct netd_address *a, uint16_t port, union any_address *out)
{
    *out = (union any_address){.any.sa_family = a->family};
    if (a->family == AF_INET) {
        out->v4.sin_addr = a->v4;
        out->v4.sin_port = htons(port);
        return sizeof(out->v4);
    }
    out->v6.sin6_addr = a->v6;
    out->v6.sin6_port = htons(port);
    return sizeof(out->v6);
}

static bool forward_fail(const struct netd_forward *f, int why, GError **error)
{
    const char *what = why == EADDRINUSE      ? "the port is taken by another program; choose another"
                       : why == EACCES        ? "ports below 1024 are for root; choose another"
                       : why == EADDRNOTAVAIL ? "the host has no such address"
                                              : g_strerror(why);
    return hostel_fail(error, HOSTEL_ERROR_HOST, "forward=%s: cannot listen on port %u of the host: %s",
                       f->text, f->host_port, what);
}

/* libslirp shares UDP ports (SO_REUSEADDR), so it would not notice that one is taken. */
static int try_bind(const struct netd_forward *f, const union any_address *host, socklen_t size)
{
    AUTO_FD fd = socket(f->host.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd < 0 || bind(fd, &host->any, size) ? errno : 0;
}

static bool add_forward(struct netd_stack *s, const struct netd_forward *f, GError **error)
{
    union any_address host, guest;
    socklen_t host_size = to_sockaddr(&f->host, f->host_port, &host);
    socklen_t guest_size = to_sockaddr(&f->guest, f->guest_port, &guest);
    int why = f->udp ? try_bind(f, &host, host_size) : 0;
    if (why)
        return forward_fail(f, why, error);
    int flags = (f->udp ? SLIRP_HOSTFWD_UDP : 0) | (f->host.family == AF_INET6 ? SLIRP_HOSTFWD_V6ONLY : 0);
    if (slirp_add_hostxfwd(s->slirp, &host.any, host_size, &guest.any, guest_size, flags))
        return forward_fail(f, errno, error);
    if (f->udp)
        s->filter.udp_forwards[f->guest_port / 8] |= (uint8_t)(1U << (f->guest_port % 8));
    return true;
}

/* libslirp listens with a backlog of one, so of two clients that connect at once one would wait for a second.
 */
static void widen_backlogs(void)
{
    for (int fd = STDERR_FILENO + 1; fd < 3 * NETD_FORWARDS_MAX; fd++) {
        int listens = 0;
        socklen_t size = sizeof(listens);
        if (!getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) && listens)
            listen(fd, FLOWS_BACKLOG);
    }
}

/* --- life --- */

static SlirpConfig slirp_config(const struct netd_config *config)
{
    bool udp = false;
    for (unsigned i = 0; i < config->forward_count; i++)
        udp |= config->forwards[i].udp;
    SlirpConfig c = {
        .version = 4,
        .in_enabled = true,
        .vnetwork.s_addr = htonl(NETD_NETWORK),
        .vnetmask.s_addr = htonl(NETD_NETMASK),
        .vhost.s_addr = htonl(NETD_GATEWAY),
        .vdhcp_start.s_addr = htonl(NETD_GUEST),
        .vnameserver.s_addr = htonl(NETD_NAMESERVER),
        .in6_enabled = true,
        .vprefix_len = 64,
        .if_mtu = config->mtu,
        .if_mru = NET_MTU_MAX,
        /* The filter refuses both already. This is the second line, where libslirp does not take the answers
         * of a UDP forward for the guest's own idea. */
        .disable_host_loopback = !udp,
        .restricted = config->isolated && !udp,
        .disable_dns = true, /* the filter does it, without reading a file at any time */
    };
    inet_pton(AF_INET6, "fec0::", &c.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &c.vhost6);
    inet_pton(AF_INET6, "fec0::3", &c.vnameserver6);
    return c;
}

static void choose_resolver(struct netd_filter *f, const struct netd_config *config)
{
    if (config->dns.family)
        f->resolver[config->dns.family == AF_INET6] = config->dns;
    else
        netd_resolver_read(f->resolver);
    if (!f->resolver[0].family && !config->isolated)
        log_warn(LOG_NET, "the host has no IPv4 name server: the guest resolves no names; give dns=ADDRESS");
}

struct netd_stack *netd_stack_new(const struct netd_config *config, const struct netd_hosts *hosts,
                                  struct netd_outbox *out, GError **error)
{
    AUTO(netd_stack) s = g_new0(struct netd_stack, 1);
    const SlirpConfig c = slirp_config(config);
    s->out = out;
    s->filter.hosts = hosts;
    s->filter.isolated = config->isolated;
    s->timer.when = -1;
    choose_resolver(&s->filter, config);
    s->slirp = slirp_new(&c, &callbacks, s);
    if (!s->slirp) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "libslirp %s refuses its configuration",
                    slirp_version_string());
        return NULL;
    }
    for (unsigned i = 0; i < config->forward_count; i++)
        if (!add_forward(s, &config->forwards[i], error))
            return NULL;
    widen_backlogs();
    return STEAL(s);
}

void netd_stack_free(struct netd_stack *s)
{
    if (!s)
        return;
    if (s->slirp)
        slirp_cleanup(s->slirp);
    g_free(s);
}
