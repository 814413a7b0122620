/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One connection to an NBD server, on which several threads have requests under way. */
/*
 * Theory of operation
 *
 * libnbd sends a request when it is issued and learns of replies when somebody tells it that the socket is
 * readable. There is no thread for that: of the threads that wait for their replies one, the leader, sleeps
 * in poll() with no lock held and feeds libnbd; the others sleep until their own request is done or the
 * leader, whose request is done, leaves. A thread that issues a request which the socket does not take at
 * once kicks the leader, so that it waits for room to write, too.
 */
#ifndef HOSTEL_BLOCK_PROTOCOL_NBD_LINK_H
#define HOSTEL_BLOCK_PROTOCOL_NBD_LINK_H

#include <glib.h>
#include <libnbd.h>
#include <pthread.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "block/protocol/remote.h"

struct nbd_link {
    struct nbd_handle *nbd;
    pthread_mutex_t lock;   /* guards the next, and `done` of requests */
    pthread_cond_t changed; /* a request is done, or there is no leader */
    bool led;
    int kick; /* eventfd */

    /* Whose it is keeps these; see links.h. */
    unsigned users, generation;
};

/* One request, on the stack of who waits for it. */
struct nbd_request {
    struct nbd_link *link;
    bool done;
    int error; /* 0 or -errno */
};

/* Connected, with the export chosen; base:allocation asked for. NULL with *error. */
struct nbd_link *nbd_link_new(const char *name, const char *uri, const struct nbd_options *o, GError **error);
/* Nobody waits. NULL is fine. */
void nbd_link_free(struct nbd_link *l);
CLEANUP_DEFINE(nbd_link, nbd_link_free)

/* Beginning of a request; its completion is what libnbd is to call at the end. */
nbd_completion_callback nbd_link_begin(struct nbd_link *l, struct nbd_request *r);

/* After libnbd was asked (cookie: what it answered), until the reply. 0 or -errno. */
int nbd_link_wait(struct nbd_request *r, int64_t cookie);

/* Has the connection ended? */
bool nbd_link_is_lost(const struct nbd_link *l);

#endif
