/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The connections to one NBD server, and what happens when they are lost. */
/*
 * Theory of operation
 *
 * When the server allows several connections (a flush on one is then a flush of all), a request goes to the
 * one that is least busy. Without `reconnect` a connection that is lost stays so, and so do its requests.
 *
 * With it, the first request that finds a connection lost retires all of them: the server may have been
 * started again, and no connection to the one before is to be mistaken for one to the new. Those under way on
 * a retired connection are repeated, also when an answer to them still comes, unless they only read; who
 * waits for the last answer frees it. One thread connects again, until the time is over; the others wait for
 * it. The new server must offer what the old one did: a disk of the same size, and no less can be done to it.
 * After that time requests fail, but each tries again, once a second at most.
 *
 * What may a flush promise then? A change that was acknowledged and not flushed may have been lost with the
 * server's memory, and we do not keep its bytes to repeat it. So such changes are counted, and if there are
 * any when the connections are retired, that is a loss, which the next flush reports (-EIO), or the one that
 * is under way. The block layer remembers that, as it does of every disk: nothing is written after it, and
 * whoever opens the disk again finds what was written since the last good flush there or not, as after a
 * power cut. Changes that were not acknowledged are no loss: they are repeated, and do the same again.
 *
 * One thing nobody here can rule out: a server that lives while only the connection broke may still do a
 * request that we have repeated since, after what came behind it. Servers drop what a connection that is gone
 * had asked for, and who must be certain leaves `reconnect` at 0.
 *
 * A process that is locked down cannot connect, so nothing is made again in it.
 */
#ifndef HOSTEL_BLOCK_PROTOCOL_NBD_LINKS_H
#define HOSTEL_BLOCK_PROTOCOL_NBD_LINKS_H

#include "block/protocol/nbd/link.h"

enum { NBD_LINKS_MAX = 16 };

/* What a server offers. */
struct nbd_offer {
    int64_t size, minimum, maximum; /* of the disk; of requests, 0 or less = not told */
    bool readonly, flush, zero, fast_zero, trim, extents, several;
};

struct nbd_links {
    char *name, *uri;
    struct nbd_options options; /* its texts are owned, too */
    struct nbd_offer offer;
    bool writable; /* the disk is written to, so a server that does not allow it will not do */

    pthread_mutex_t lock; /* guards the rest, and users of links */
    pthread_cond_t changed;
    struct nbd_link *link[NBD_LINKS_MAX];
    unsigned n; /* 0 = lost */
    unsigned generation;
    bool connecting;
    int64_t lost, tried;       /* when, in microseconds of the monotonic clock */
    uint64_t written, flushed; /* changes that were acknowledged; as many of them were flushed */
    bool loss;                 /* some were not when the connections were, and no flush has said so yet */
};

/* Connects. False with *error. */
bool nbd_links_init(struct nbd_links *s, const char *name, const char *uri, const struct nbd_options *o,
                    GError **error);
/* Nobody has a request under way. Of zeroes it is fine, too. */
void nbd_links_fini(struct nbd_links *s);

/* One request, until it is done: on several connections if need be. There is one flush at a time. */
struct nbd_turn {
    enum { NBD_READS, NBD_CHANGES, NBD_FLUSHES } kind;
    struct nbd_link *link; /* to be used now */
    uint64_t written;      /* a flush: what it is to cover */
};

/* A connection for the request, waiting for one. 0 or -errno, with which the request has ended. */
int nbd_links_take(struct nbd_links *s, struct nbd_turn *t);
/* The request ended with status. True: it is to be made again, from nbd_links_take() on. */
bool nbd_links_settle(struct nbd_links *s, struct nbd_turn *t, int status);

#endif
