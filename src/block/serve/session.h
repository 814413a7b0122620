/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One client of the NBD server, from its first byte to its last. */
/*
 * Theory of operation
 *
 * The handshake is a conversation of one thread, and must be over by a time. Then requests come, and several
 * threads serve them: each takes the right to read, reads one whole request, hands the right on, does what
 * was asked, takes the right to write and replies. So requests of one client are under way at once and are
 * answered in any order, without a queue, and a client that sends more than the threads can do waits in its
 * socket.
 *
 * What a client can make us hold is bounded: the bytes of its requests by a budget, for which the thread that
 * reads waits, and the number of requests by the threads.
 */
#ifndef HOSTEL_BLOCK_SERVE_SESSION_H
#define HOSTEL_BLOCK_SERVE_SESSION_H

#include <pthread.h>

#include "block/serve/export.h"
#include "block/serve/wire.h"

struct nbd_tls;

enum { NBD_WORKERS_MAX = 64, NBD_HANDSHAKE_SECONDS = 10 };

struct nbd_session {
    const struct nbd_export *export;
    struct nbd_tls *tls; /* borrowed; NULL = in the clear */
    struct nbd_wire wire;

    /* Agreed upon in the handshake. */
    bool no_zeroes, structured, knows_sizes;
    uint32_t contexts; /* bit 0: base:allocation; bit n + 1: bitmap n */

    pthread_mutex_t read_lock;   /* the right to read; guards ended */
    pthread_mutex_t write_lock;  /* the right to write */
    bool ended;                  /* no request will be read any more */
    pthread_mutex_t budget_lock; /* guards budget */
    pthread_cond_t budget_freed;
    uint64_t budget; /* bytes that may still be held */
};

/* Serves the client at fd (borrowed) until it goes. workers: threads that do, with this one. True when its
 * handshake led to the disk. The session's struct is large: not on a small stack. */
bool nbd_session_serve(struct nbd_session *s, int fd, const struct nbd_export *e, struct nbd_tls *tls,
                       unsigned workers);

/* handshake.c: true when requests follow. */
bool nbd_handshake(struct nbd_session *s);

/* contexts.c: LIST_META_CONTEXT and SET_META_CONTEXT, with their data. False: the connection is of no use. */
bool nbd_handshake_contexts(struct nbd_session *s, uint32_t option, const uint8_t *data, uint32_t size);

/* handshake.c: answers an option. */
bool nbd_answer(struct nbd_session *s, uint32_t option, uint32_t type, const void *data, size_t size);
bool nbd_refuse(struct nbd_session *s, uint32_t option, uint32_t type, const char *why);

/* transmit.c: one request after the other, until there are no more. */
void nbd_transmit(struct nbd_session *s);

/* One request. */
struct nbd_request {
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t length;
};

/* reply.c. All take the right to write; what cannot be sent ends the session. */
void nbd_reply_done(struct nbd_session *s, const struct nbd_request *r, int error); /* 0 or -errno */
/* A simple reply with all the bytes. */
void nbd_reply_bytes(struct nbd_session *s, const struct nbd_request *r, const void *bytes);
/* A piece of a structured reply. */
void nbd_reply_data(struct nbd_session *s, const struct nbd_request *r, uint64_t offset, const void *bytes,
                    uint32_t size, bool last);
void nbd_reply_hole(struct nbd_session *s, const struct nbd_request *r, uint64_t offset, uint32_t size,
                    bool last);
/* words: of the reply to a request for status, as they go over the wire. */
void nbd_reply_status(struct nbd_session *s, const struct nbd_request *r, uint32_t context,
                      const uint32_t *words, unsigned count, bool last);

#endif
