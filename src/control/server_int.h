/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the parts of the QMP server know of each other. */
#ifndef HOSTEL_CONTROL_SERVER_INT_H
#define HOSTEL_CONTROL_SERVER_INT_H

#include "control/fds.h"
#include "control/framer.h"
#include "control/limiter.h"
#include "control/outbox.h"
#include "control/schema.h"
#include "control/server.h"
#include "os/pass.h"

enum {
    QUEUE_MAX = 8,
    OUTPUT_PAUSE = 64 * 1024,
    OUTPUT_MAX = 1024 * 1024, /* OUTPUT_PAUSE, the longest answer, and events meanwhile */
};

struct qmp_server {
    GMainContext *context;
    struct qmp_schema *schema;
    struct control_fdsets *fdsets;
    void *opaque;
    const char *early;
    struct limiter *limiter;
    GPtrArray *sessions;         /* of struct qmp_session; each is a reference */
    struct qmp_request *current; /* the one whose command runs */
    int listener;
    GSource *accepting;
};

struct qmp_session {
    unsigned refs;
    struct qmp_server *server; /* NULL when it has gone */
    int fd;
    GSource *source;
    GIOCondition watched;
    struct framer framer;
    struct pass_fds arrived; /* with bytes whose message is not complete */
    struct outbox outbox;
    GQueue waiting;           /* of struct qmp_request, oldest first */
    struct qmp_request *held; /* the one that those wait for */
    struct control_fds *fds;
    bool negotiated, oob, ended;
    void (*closed)(void *opaque);
    void *opaque;
};

/* A message, from when it was read to when it was answered. */
struct qmp_request {
    struct qmp_session *session; /* a reference */
    json_t *message;             /* NULL: it was no JSON */
    json_t *answer;              /* known without running anything: a mistake */
    const char *name;            /* of the command; in message */
    bool oob, held;
    struct pass_fds came, go;
};

/* --- request.c --- */

/* Reads a message. It takes what descriptors have arrived if it is for a command that wants some. */
struct qmp_request *request_new(struct qmp_session *session, const char *text, size_t size);
void request_free(struct qmp_request *r);

/* Runs it: its answer, owned; NULL = it is held. */
json_t *request_run(struct qmp_request *r);

/* Error answers, for what cannot become a request. Owned by the caller. */
json_t *request_error(const char *class, const char *text);

/* --- session.c --- */

struct qmp_session *session_new(struct qmp_server *s, int fd);

/* Greets it. */
void session_start(struct qmp_session *session);
struct qmp_session *session_ref(struct qmp_session *session);
void session_unref(struct qmp_session *session);

/* Sends text, a message as JSON, and go's descriptors, which are taken (NULL = none). */
void session_send(struct qmp_session *session, const char *text, struct pass_fds *go);

/* The request that was held has its answer (taken): the next ones run. */
void session_release(struct qmp_session *session, struct qmp_request *r, json_t *answer);

/* An event, to a client that may not read it. */
void session_event(struct qmp_session *session, const char *text);

/* Closes the socket and forgets what waits; the server has one client less. */
void session_close(struct qmp_session *session);

/* --- server.c --- */

json_t *server_version(void);
void server_session_gone(struct qmp_server *s, struct qmp_session *session);

/* --- own_commands.c: their opaque is the server --- */

extern const struct qmp_command qmp_own_commands[];

#endif
