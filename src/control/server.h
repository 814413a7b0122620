/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A server of QMP: its clients, the commands it has for them, the events it tells them. */
/*
 * Theory of operation
 *
 * A client is a connected socket that was given (a VMM's parent), or one that was accepted from a listening
 * socket. Each has a session: its own negotiation, its own names of descriptors, its own bounds. All is
 * served by the main loop.
 *
 * A message is cut from the stream (framer.h), read, and becomes a request. Requests of a session run one
 * after the other, and their answers come in that order. Out-of-band ones (`exec-oob`) run as soon as they
 * are read: they pass those that wait behind a held one, but not a command that is running, since both run on
 * the main thread; so a command either ends in milliseconds or is held.
 *
 * What bounds a client: at QUEUE_MAX waiting requests, or OUTPUT_PAUSE bytes that it has not read, no more of
 * it is read and no more of its requests run. Events are sent to all that have negotiated, whether they read
 * or not; one that has OUTPUT_MAX bytes waiting is cut off, and the others do not notice.
 *
 * A client may close its sending half: it is answered what it asked before, and then closed.
 */
#ifndef HOSTEL_CONTROL_SERVER_H
#define HOSTEL_CONTROL_SERVER_H

#include "base/cleanup.h"
#include "control/qmp.h"

/* Those given and those accepted. */
enum { QMP_CLIENTS_MAX = 32 };

struct qmp_session;

/* A server without clients, on the main context. tables (ends with NULL) and opaque, which commands get, are
 * borrowed. The process ignores SIGPIPE. Main thread, as all below. */
struct qmp_server *qmp_server_new(GMainContext *context, const struct qmp_command *const *tables,
                                  void *opaque);

/* Sends each client what its socket takes at once, then closes. NULL is fine. Requests that are held are to
 * be finished all the same, before or after. */
void qmp_server_free(struct qmp_server *s);
CLEANUP_DEFINE(qmp_server, qmp_server_free)

/* One more client, a connected socket (owned from now on; -1 = none, for tests). It is greeted at once.
 * closed(opaque) is called when it has gone, but not by qmp_server_free(); NULL = nobody cares. The session
 * is the server's. */
struct qmp_session *qmp_server_add(struct qmp_server *s, int fd, void (*closed)(void *opaque), void *opaque);

/* Accepts clients on a listening Unix socket (owned from now on). Those too many are told so and closed. */
void qmp_server_listen(struct qmp_server *s, int fd);

/* Tells all clients that have negotiated. data is taken (NULL = none). */
void qmp_server_event(struct qmp_server *s, const char *name, json_t *data);

/* While early, only commands with QMP_EARLY run; others fail and say why, as in "the guest is being
 * restored". NULL = all commands (the default). why is borrowed. */
void qmp_server_set_early(struct qmp_server *s, const char *why);

/* How many clients there are. */
unsigned qmp_server_clients(const struct qmp_server *s);

/* Answers one message, ahead of those that wait: what would be sent, owned; NULL = it will be answered later.
 * For tests and fuzzing. */
json_t *qmp_session_answer(struct qmp_session *session, const char *text, size_t size);

#endif
