/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A ring of frames on their way to the guest. */
#include "net/netd/outbox.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/frame.h"

struct netd_outbox {
    int link;
    unsigned head, count;
    size_t size[NETD_OUTBOX_SIZE];
    uint8_t *memory; /* touched as far as it is needed */
};

struct netd_outbox *netd_outbox_new(int link)
{
    struct netd_outbox *o = g_new0(struct netd_outbox, 1);
    o->link = link;
    o->memory = g_malloc(NETD_OUTBOX_SIZE * (size_t)NET_MESSAGE_MAX);
    return o;
}

void netd_outbox_free(struct netd_outbox *o)
{
    if (!o)
        return;
    g_free(o->memory);
    g_free(o);
}

static uint8_t *message(struct netd_outbox *o, unsigned n)
{
    return o->memory + (o->head + n) % NETD_OUTBOX_SIZE * (size_t)NET_MESSAGE_MAX;
}

unsigned netd_outbox_count(const struct netd_outbox *o)
{
    return o->count;
}

uint8_t *netd_outbox_room(struct netd_outbox *o)
{
    return o->count < NETD_OUTBOX_SIZE ? message(o, o->count) + sizeof(struct net_header) : NULL;
}

void netd_outbox_put(struct netd_outbox *o, size_t size)
{
    /* libslirp has summed the frame, and between us nothing gets lost: the guest need not sum it again. */
    const struct net_header header = {.flags = NET_DATA_VALID};
    memcpy(message(o, o->count), &header, sizeof(header));
    o->size[(o->head + o->count) % NETD_OUTBOX_SIZE] = sizeof(header) + size;
    o->count++;
}

bool netd_outbox_flush(struct netd_outbox *o)
{
    while (o->count) {
        struct mmsghdr messages[NET_BATCH];
        struct iovec pieces[NET_BATCH];
        unsigned batch = MIN(o->count, NET_BATCH);
        for (unsigned i = 0; i < batch; i++) {
            pieces[i] = (struct iovec){message(o, i), o->size[(o->head + i) % NETD_OUTBOX_SIZE]};
            messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &pieces[i], .msg_iovlen = 1}};
        }
        int sent = sendmmsg(o->link, messages, batch, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EMSGSIZE)
            return errno == EAGAIN || errno == ENOBUFS || errno == EINTR;
        if (sent < 0) /* longer than the host's limit on buffers lets through: lost */
            sent = 1;
        o->head = (o->head + (unsigned)sent) % NETD_OUTBOX_SIZE;
        o->count -= (unsigned)sent;
    }
    o->head = 0; /* a box that is often empty uses its first pages only */
    return true;
}
