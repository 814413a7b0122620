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

/* What a command may be besides. */
enum {
    QMP_OOB = 1,   /* may run out of band: it is quick, waits for nothing and is right at any moment */
    QMP_EARLY = 2, /* may run before there is a guest: while one is being restored */
};

/* A row of a table of commands, which ends with a NULL name. schema.h explains args and returns; types and
 * events are in schema.def. */
struct qmp_command {
    const char *name;
    const char *args;    /* ARGS; NULL = none */
    const char *returns; /* a TYPE; NULL = {} */
    unsigned flags;
    /* The value to return, owned by the caller (qmp_done() for commands that only do something); or NULL with
     * *error. The arguments, an object, have been checked. Main thread. */
    json_t *(*run)(void *opaque, json_t *args, GError **error);
};

static inline json_t *qmp_done(void)
{
    return json_object();
}

/* The class of an error. One of another domain, such as hostel_fail()'s, is a GenericError. */
enum qmp_error {
    QMP_ERROR_GENERIC,
    QMP_ERROR_COMMAND_NOT_FOUND,
    QMP_ERROR_DEVICE_NOT_FOUND,
    QMP_ERROR_DEVICE_NOT_ACTIVE,
    QMP_ERROR_KVM_MISSING_CAP,
};

#define QMP_ERROR qmp_error_quark()
GQuark qmp_error_quark(void);

/* Sets *error and returns NULL, so that a command reads `return qmp_fail(error, QMP_ERROR_DEVICE_NOT_FOUND,
 * "there is no ...")`. Any thread. */
json_t *qmp_fail(GError **error, enum qmp_error class, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct qmp;

/* A server of one client over a socket (owned from now on), on the main context; it greets at once. tables
 * (end with NULL) and opaque are borrowed. closed(opaque) is called once when the client has gone;
 * the server is still to be freed, not from there. The process ignores SIGPIPE. Main thread, as all below. */
struct qmp *qmp_new(GMainContext *context, int fd, const struct qmp_command *const *tables,
                    void (*closed)(void *opaque), void *opaque);
/* Sends what the socket takes at once, then closes. NULL is fine. */
void qmp_free(struct qmp *q);
CLEANUP_DEFINE(qmp, qmp_free)

/* Sends an event, when the client has got past capabilities negotiation. data is taken (NULL = none). */
void qmp_event(struct qmp *q, const char *name, json_t *data);

/* Answers one message, as qmp_new's commands would: what the server sends, owned. For tests and fuzzing. */
json_t *qmp_answer(struct qmp *q, const char *text, size_t size);

#endif
