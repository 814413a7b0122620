/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The back end `user`: a socket to hostel-netd, one message for each frame, several messages for each call.
 */
#include <errno.h>
#include <sys/socket.h>

#include "base/error.h"
#include "net/net.h"

static bool user_open(struct net *n, GError **error)
{
    int type;
    socklen_t size = sizeof(type);
    if (getsockopt(n->fd, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_SEQPACKET)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "network: descriptor %d is no socket of packets; 'hostel run' makes it", n->fd);
    /* Room for some of the biggest frames; the host may allow less. */
    int bytes = 1 << 20;
    setsockopt(n->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    /* hostel-netd fills in checksums and passes on segments uncut, since it ends the TCP connection itself.
     * What it sends has been cut and summed. */
    n->takes = NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN;
    n->gives = NET_CSUM;
    return true;
}

static bool is_full(int why)
{
    return why == EAGAIN || why == ENOBUFS || why == EINTR;
}

static int user_send(struct net *n, const struct net_packet *packets, unsigned count)
{
    struct mmsghdr messages[NET_BATCH];
    unsigned done = 0;
    while (done < count) {
        unsigned batch = MIN(count - done, NET_BATCH);
        for (unsigned i = 0; i < batch; i++)
            messages[i] =
                (struct mmsghdr){.msg_hdr = {.msg_iov = (struct iovec *)(uintptr_t)packets[done + i].pieces,
                                             .msg_iovlen = packets[done + i].count}};
        int sent = sendmmsg(n->fd, messages, batch, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EMSGSIZE)
            return is_full(errno) ? (int)done : -errno;
        /* One that is longer than the host's limit on buffers lets through is lost. */
        done += sent < 0 ? 1 : (unsigned)sent;
    }
    return (int)done;
}

static int user_receive(struct net *n, struct net_slot *slots, unsigned count)
{
    struct mmsghdr messages[NET_BATCH];
    struct iovec pieces[NET_BATCH];
    count = MIN(count, NET_BATCH);
    for (unsigned i = 0; i < count; i++) {
        pieces[i] = (struct iovec){slots[i].bytes, NET_MESSAGE_MAX};
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &pieces[i], .msg_iovlen = 1}};
    }
    int got = recvmmsg(n->fd, messages, count, MSG_DONTWAIT, NULL);
    if (got < 0)
        return is_full(errno) ? 0 : -errno;
    for (int i = 0; i < got; i++) {
        slots[i].size = messages[i].msg_len;
        if (!slots[i].size) /* the end: nobody sends empty messages */
            return i ? i : -EPIPE;
    }
    return got;
}

const struct net_ops net_user = {
    .name = "user",
    .help = "network address translation, with DHCP and name resolution, by hostel-netd",
    .open = user_open,
    .send = user_send,
    .receive = user_receive,
};
