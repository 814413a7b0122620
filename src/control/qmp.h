/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The server side of QMP's wire format: greeting, capabilities, commands from tables, events. */
/*
 * Specification: QEMU Machine Protocol Specification, version of QEMU 7.2 (docs/interop/qmp-spec.txt).
 * Out-of-band execution is not offered.
 *
 * A client that sends faster than it reads is not read from until it has caught up. Events for a client that
 * does not read at all are kept up to a bound; then the connection is closed.
 */
#ifndef HOSTEL_CONTROL_QMP_H
#define HOSTEL_CONTROL_QMP_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "base/cleanup.h"

struct qmp_arg {
    const char *name;
    json_type type; /* JSON_TRUE stands for either truth value */
    bool optional;
};

enum { QMP_ARGS_MAX = 4 };

struct qmp_command {
    const char *name;
    struct qmp_arg args[QMP_ARGS_MAX + 1]; /* ends with a NULL name */
    /* The value to return, owned by the caller ({} for commands that only do something); or NULL with *error.
     * The arguments have been checked against args. Main thread. */
    json_t *(*run)(void *opaque, json_t *args, GError **error);
};

struct qmp;

/* A server of one client over a socket (owned from now on), on the main context; it greets at once. commands
 * (ends with a NULL name) and opaque are borrowed. closed(opaque) is called once when the client has gone;
 * the server is still to be freed, not from there. The process ignores SIGPIPE. Main thread, as all below. */
struct qmp *qmp_new(GMainContext *context, int fd, const struct qmp_command *commands,
                    void (*closed)(void *opaque), void *opaque);
/* Sends what the socket takes at once, then closes. NULL is fine. */
void qmp_free(struct qmp *q);
CLEANUP_DEFINE(qmp, qmp_free)

/* Sends an event, when the client has got past capabilities negotiation. data is taken (NULL = none). */
void qmp_event(struct qmp *q, const char *name, json_t *data);

/* Answers one message, as qmp_new's commands would: what the server sends, owned. For tests and fuzzing. */
json_t *qmp_answer(struct qmp *q, const char *text, size_t size);

#endif
