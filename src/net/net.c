/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What all back ends share: waiting on the main loop, frames held back, headers checked, the end of the link.
 */
/*
 * Theory of operation
 *
 * One GSource per back end watches its descriptor. As with consoles, other threads never touch the watch:
 * they set a flag and make the source ready (g_source_set_ready_time is safe from any thread), and its
 * dispatch decides anew what to wait for.
 *
 * Reading fills a batch of slots at once and offers them to the card in order. When the card has no room the
 * rest of the batch stays, and nothing more is read until net_more(); so whoever sends to us is held back by
 * the descriptor's own buffer, and a guest that does not take its frames costs one batch of memory.
 *
 * Rates are token buckets (rate.h). Whoever finds one empty notes it, and the dispatch sets a timer, a source
 * of its own that only the main thread touches, for the moment at which the next frame may pass.
 *
 * The two sides of a full descriptor: a sender that was told "less" has set `starved` before the dispatch
 * looks at it, since it sets the flag first and makes the source ready afterwards.
 */
#include "net/net.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdatomic.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/error.h"
#include "base/log.h"
#include "net/alias.h"
#include "net/rate.h"
#include "os/fd.h"

#define NET_BACKEND(name) extern const struct net_ops net_##name;
#include "net/backends.def"
#undef NET_BACKEND

const struct net_ops *const net_backends[] = {
#define NET_BACKEND(name) &net_##name,
#include "net/backends.def"
#undef NET_BACKEND
    NULL,
};

struct net_port {
    GSource base;
    struct net *net;
    gpointer tag;
    GIOCondition watched;
    const struct net_client *client;
    void *opaque;

    _Atomic bool down;                  /* the link is gone */
    _Atomic bool told;                  /* and the card knows */
    _Atomic bool starved;               /* a sender waits for room */
    _Atomic bool more;                  /* the card has room again */
    _Atomic bool limited;               /* a sender waits for its rate */
    _Atomic unsigned guest;             /* what the guest can do, enum net_offload */
    _Atomic bool aliased;               /* alias is in force */
    _Atomic bool rated[NET_DIRECTIONS]; /* there is a rate */
    _Atomic uint64_t frames[NET_DIRECTIONS], bytes[NET_DIRECTIONS];
    GMutex rates; /* guards: */
    struct net_bucket rate[NET_DIRECTIONS];
    struct net_alias alias;
    struct net_alias_room *rooms; /* of a batch of packets; NULL until there was an alias */

    /* Main thread only. */
    GSource *timer;       /* wakes us when a rate lets something pass */
    bool busy;            /* the card has no room */
    unsigned next, count; /* slots not yet taken by the card */
    uint8_t *memory;      /* of the slots */
    struct net_slot slots[NET_BATCH];
};

const struct net_ops *net_backend_find(const char *name)
{
    for (unsigned i = 0; net_backends[i]; i++)
        if (!strcmp(net_backends[i]->name, name))
            return net_backends[i];
    return NULL;
}

static void wake(struct net_port *port)
{
    g_source_set_ready_time(&port->base, 0);
}

/* --- rates --- */

static uint64_t now_ns(void)
{
    return (uint64_t)g_get_monotonic_time() * 1000;
}

/* When a frame may pass; 0 = now. */
static uint64_t rate_wait(struct net_port *port, enum net_direction direction)
{
    if (!atomic_load_explicit(&port->rated[direction], memory_order_relaxed))
        return 0;
    const uint64_t now = now_ns();
    g_mutex_lock(&port->rates);
    const uint64_t when = net_bucket_when(&port->rate[direction], now);
    g_mutex_unlock(&port->rates);
    return when > now ? when : 0;
}

/* A frame has passed. */
static void passed(struct net_port *port, enum net_direction direction, uint64_t bytes)
{
    atomic_fetch_add_explicit(&port->frames[direction], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&port->bytes[direction], bytes, memory_order_relaxed);
    if (!atomic_load_explicit(&port->rated[direction], memory_order_relaxed))
        return;
    g_mutex_lock(&port->rates);
    net_bucket_take(&port->rate[direction], bytes, now_ns());
    g_mutex_unlock(&port->rates);
}

static uint64_t frame_bytes(const struct net_packet *packet)
{
    uint64_t bytes = 0;
    for (unsigned i = 1; i < packet->count; i++)
        bytes += packet->pieces[i].iov_len;
    return bytes;
}

/* How many of the packets may be sent now. */
static unsigned rate_allows(struct net_port *port, const struct net_packet *packets, unsigned count)
{
    if (!atomic_load_explicit(&port->rated[NET_FROM_GUEST], memory_order_relaxed))
        return count;
    const uint64_t now = now_ns();
    g_mutex_lock(&port->rates);
    struct net_bucket b = port->rate[NET_FROM_GUEST];
    g_mutex_unlock(&port->rates);
    unsigned n = 0;
    for (; n < count && net_bucket_when(&b, now) == now; n++)
        net_bucket_take(&b, frame_bytes(&packets[n]), now);
    return n;
}

void net_set_rate(struct net *n, enum net_direction direction, const struct net_rate *rate)
{
    g_mutex_lock(&n->port->rates);
    net_bucket_set(&n->port->rate[direction], rate);
    atomic_store(&n->port->rated[direction], rate->bits != 0);
    g_mutex_unlock(&n->port->rates);
    wake(n->port);
}

void net_get_rate(const struct net *n, enum net_direction direction, struct net_rate *rate)
{
    g_mutex_lock(&n->port->rates);
    *rate = n->port->rate[direction].rate;
    g_mutex_unlock(&n->port->rates);
}

void net_get_count(const struct net *n, enum net_direction direction, struct net_count *count)
{
    *count = (struct net_count){.frames = atomic_load(&n->port->frames[direction]),
                                .bytes = atomic_load(&n->port->bytes[direction])};
}

/* --- towards the outside --- */

/* As ops->send(). */
static int send_translated(struct net *n, const struct net_packet *packets, unsigned count)
{
    struct net_port *port = n->port;
    struct net_packet batch[NET_BATCH];
    unsigned done = 0;
    while (done < count) {
        const unsigned size = MIN(count - done, NET_BATCH);
        for (unsigned i = 0; i < size; i++) {
            batch[i] = packets[done + i];
            if (net_has_alias(n) &&
                !net_alias_out(&port->alias, &packets[done + i], &port->rooms[i], &batch[i]))
                atomic_store(&port->aliased, false);
        }
        const int sent = n->ops->send(n, batch, size);
        if (sent < 0)
            return sent;
        done += (unsigned)sent;
        if ((unsigned)sent < size)
            break;
    }
    return (int)done;
}

unsigned net_send(struct net *n, const struct net_packet *packets, unsigned count)
{
    struct net_port *port = n->port;
    if (atomic_load_explicit(&port->down, memory_order_relaxed))
        return count;
    const unsigned allowed = rate_allows(port, packets, count);
    int done = allowed ? (net_has_alias(n) ? send_translated : n->ops->send)(n, packets, allowed) : 0;
    if (done < 0) {
        atomic_store(&port->down, true);
        wake(port);
        return count;
    }
    for (int i = 0; i < done; i++)
        passed(port, NET_FROM_GUEST, frame_bytes(&packets[i]));
    if ((unsigned)done < allowed) {
        net_again(n);
    } else if (allowed < count) {
        atomic_store(&port->limited, true);
        wake(port);
    }
    return (unsigned)done;
}

void net_again(struct net *n)
{
    atomic_store(&n->port->starved, true);
    wake(n->port);
}

void net_more(struct net *n)
{
    atomic_store(&n->port->more, true);
    wake(n->port);
}

void net_set_offloads(struct net *n, unsigned guest)
{
    guest &= n->gives;
    atomic_store(&n->port->guest, guest);
    int status = n->ops->set_offloads ? n->ops->set_offloads(n, guest) : 0;
    if (status)
        log_warn(LOG_NET, "the network's back end refuses offloads: %s", g_strerror(-status));
}

void net_set_alias(struct net *n, const struct net_alias *alias)
{
    struct net_port *port = n->port;
    atomic_store(&port->aliased, false);
    if (!alias)
        return;
    if (!port->rooms)
        port->rooms = g_new(struct net_alias_room, NET_BATCH);
    port->alias = *alias;
    atomic_store(&port->aliased, true);
}

bool net_has_alias(const struct net *n)
{
    return atomic_load_explicit(&n->port->aliased, memory_order_relaxed);
}

bool net_up(const struct net *n)
{
    return !atomic_load(&n->port->down);
}

/* --- towards the guest --- */

/* Makes of a header what the guest agreed to. False: the frame is not for it. */
static bool header_check(struct net_header *h, size_t size, unsigned guest)
{
    unsigned type = h->gso_type & ~(unsigned)NET_GSO_ECN;
    h->flags &= NET_NEEDS_CSUM | (guest & NET_CSUM ? NET_DATA_VALID : 0);
    h->buffers = 0;
    if (h->flags & NET_NEEDS_CSUM) {
        size_t start = le16toh(h->csum_start), offset = le16toh(h->csum_offset);
        if (!(guest & NET_CSUM) || start + offset + 2 > size)
            return false;
    }
    if (type == NET_GSO_NONE) {
        h->gso_type = NET_GSO_NONE;
        h->gso_size = 0;
        return true;
    }
    unsigned needed = type == NET_GSO_TCP4 ? NET_TSO4 : type == NET_GSO_TCP6 ? NET_TSO6 : ~0U;
    if (h->gso_type & NET_GSO_ECN)
        needed |= NET_ECN;
    return h->flags & NET_NEEDS_CSUM && h->gso_size && (guest & needed) == needed;
}

/* False: the card has no room. */
static bool offer(struct net_port *port, const struct net_slot *slot, unsigned guest)
{
    struct net_header header;
    if (slot->size < sizeof(header) + NET_ETHERNET || slot->size > NET_MESSAGE_MAX)
        return true;
    size_t size = slot->size - sizeof(header);
    memcpy(&header, slot->bytes, sizeof(header));
    if (!header_check(&header, size, guest))
        return true;
    return port->client->receive(port->opaque, &header, slot->bytes + sizeof(header), size);
}

/* Offers what the slots hold. */
static void offer_all(struct net_port *port)
{
    unsigned guest = atomic_load(&port->guest), first = port->next;
    bool taken = true;
    while (port->next < port->count && !rate_wait(port, NET_TO_GUEST)) {
        const struct net_slot *slot = &port->slots[port->next];
        taken = offer(port, slot, guest);
        if (!taken)
            break;
        passed(port, NET_TO_GUEST, slot->size - MIN(slot->size, sizeof(struct net_header)));
        port->next++;
    }
    port->busy = !taken;
    if (port->next > first)
        port->client->received(port->opaque);
}

/* Once for each frame, before it is offered for the first time. */
static void translate(struct net_port *port, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct net_slot *s = &port->slots[i];
        const size_t head = sizeof(struct net_header);
        if (s->size >= head + NET_ETHERNET && s->size <= NET_MESSAGE_MAX &&
            !net_alias_in(&port->alias, s->bytes[0] & NET_NEEDS_CSUM, s->bytes + head, s->size - head))
            s->size = 0; /* no frame: dropped when it is looked at */
    }
}

static void read_frames(struct net_port *port)
{
    int count = port->net->ops->receive(port->net, port->slots, NET_BATCH);
    if (count < 0)
        atomic_store(&port->down, true);
    else if (net_has_alias(port->net))
        translate(port, (unsigned)count);
    port->next = 0;
    port->count = count < 0 ? 0 : (unsigned)count;
}

static void serve_input(struct net_port *port, bool readable)
{
    if (atomic_exchange(&port->more, false))
        port->busy = false;
    if (port->busy || rate_wait(port, NET_TO_GUEST))
        return;
    if (port->next == port->count && readable)
        read_frames(port);
    if (port->next < port->count)
        offer_all(port);
}

/* --- the main loop's side --- */

static void tell_down(struct net_port *port)
{
    if (atomic_exchange(&port->told, true))
        return;
    log_warn(LOG_NET, "the network's other end has gone: the guest's link is down");
    port->client->down(port->opaque);
}

static void watch(struct net_port *port, GIOCondition what)
{
    if (what == port->watched)
        return;
    if (!port->tag)
        port->tag = g_source_add_unix_fd(&port->base, port->net->fd, what);
    else if (what)
        g_source_modify_unix_fd(&port->base, port->tag, what);
    else
        g_source_remove_unix_fd(&port->base, g_steal_pointer(&port->tag));
    port->watched = what;
}

/* May a sender that waited for its rate go on? */
static bool rate_is_over(struct net_port *port)
{
    return atomic_load(&port->limited) && !rate_wait(port, NET_FROM_GUEST) &&
           atomic_exchange(&port->limited, false);
}

/* For what waits for a rate. True: frames for the guest do, so there is nothing to be read now. */
static bool set_timer(struct net_port *port)
{
    const uint64_t in = rate_wait(port, NET_TO_GUEST);
    uint64_t out = atomic_load(&port->limited) ? rate_wait(port, NET_FROM_GUEST) : 0;
    if (!out && atomic_load(&port->limited))
        out = 1; /* over meanwhile: at once */
    const uint64_t first = in && out ? MIN(in, out) : MAX(in, out);
    g_source_set_ready_time(port->timer, first ? (gint64)(first / 1000 + 1) : -1);
    return in;
}

struct net_timer {
    GSource base;
    struct net_port *port;
};

static gboolean timer_dispatch(GSource *base, GSourceFunc callback G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
    g_source_set_ready_time(base, -1);
    wake(((struct net_timer *)(void *)base)->port);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs timer_funcs = {.dispatch = timer_dispatch};

static gboolean port_dispatch(GSource *base, GSourceFunc callback G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
    struct net_port *port = (struct net_port *)(void *)base;
    g_source_set_ready_time(base, -1); /* first: whoever wakes us from here on wakes us again */
    if (!port->client)
        return G_SOURCE_CONTINUE;
    GIOCondition ready = port->tag ? g_source_query_unix_fd(base, port->tag) : 0;
    if (!atomic_load(&port->down))
        serve_input(port, ready & (G_IO_IN | G_IO_HUP | G_IO_ERR));
    if ((ready & G_IO_OUT && atomic_exchange(&port->starved, false)) || rate_is_over(port))
        port->client->writable(port->opaque);
    if (atomic_load(&port->down)) {
        tell_down(port);
        watch(port, 0);
        return G_SOURCE_CONTINUE;
    }
    if (port->busy && atomic_load(&port->more)) /* said while the card was being served */
        wake(port);
    const bool wait = set_timer(port);
    watch(port, (port->busy || wait ? 0 : G_IO_IN) | (atomic_load(&port->starved) ? G_IO_OUT : 0));
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs port_funcs = {.dispatch = port_dispatch};

/* --- life --- */

struct net *net_new(const struct net_ops *ops, int fd, GMainContext *context, GError **error)
{
    struct net *n = g_new0(struct net, 1);
    n->ops = ops;
    n->fd = fd;
    int status = fd_set_nonblock(fd, true);
    if (status)
        hostel_fail(error, HOSTEL_ERROR_HOST, "network descriptor %d: %s", fd, g_strerror(-status));
    if (status || !ops->open(n, error)) {
        net_free(n);
        return NULL;
    }
    struct net_port *port = (struct net_port *)(void *)g_source_new(&port_funcs, sizeof(*port));
    n->port = port;
    port->net = n;
    port->memory = g_malloc(NET_BATCH * (size_t)NET_MESSAGE_MAX);
    for (unsigned i = 0; i < NET_BATCH; i++)
        port->slots[i].bytes = port->memory + i * (size_t)NET_MESSAGE_MAX;
    g_mutex_init(&port->rates);
    port->timer = g_source_new(&timer_funcs, sizeof(struct net_timer));
    ((struct net_timer *)(void *)port->timer)->port = port;
    g_source_set_static_name(port->timer, "network rate");
    g_source_attach(port->timer, context);
    g_source_set_static_name(&port->base, "network");
    g_source_attach(&port->base, context);
    return n;
}

void net_free(struct net *n)
{
    if (!n)
        return;
    if (n->port) {
        g_free(n->port->memory);
        g_source_destroy(n->port->timer);
        g_source_unref(n->port->timer);
        g_mutex_clear(&n->port->rates);
        g_free(n->port->rooms);
        g_source_destroy(&n->port->base);
        g_source_unref(&n->port->base);
    }
    fd_close(&n->fd);
    g_free(n);
}

void net_attach(struct net *n, const struct net_client *client, void *opaque)
{
    n->port->client = client;
    n->port->opaque = opaque;
    wake(n->port);
}

void net_detach(struct net *n)
{
    n->port->client = NULL;
    watch(n->port, 0);
}
