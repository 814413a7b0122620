/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands of QMP as whoever writes them sees them: rows of tables, errors, descriptors, answers that come
 * later. */
/*
 * Specification: QEMU Machine Protocol Specification, version of QEMU 7.2 (docs/interop/qmp-spec.txt).
 *
 * Commands run on the main thread, those of one client one after the other. One that takes long must not keep
 * the main thread: it starts a thread (vm/jobs.h), or holds its request and answers it later. Then the
 * client's next commands wait, but those it sends out of band are answered at once, and so are other clients.
 */
#ifndef HOSTEL_CONTROL_QMP_H
#define HOSTEL_CONTROL_QMP_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

struct control_fds;
struct qmp_request;
struct qmp_server;

/* What a command may be besides. */
enum {
    QMP_OOB = 1,   /* may run out of band: it is quick, waits for nothing and is right at any moment */
    QMP_EARLY = 2, /* may run before there is a guest: while one is being restored */
    QMP_FDS = 4,   /* descriptors that come with the message are for it */
};

/* A row of a table of commands, which ends with a NULL name. schema.h explains args and returns; types and
 * events are in schema.def. */
struct qmp_command {
    const char *name;
    const char *args;    /* ARGS; NULL = none */
    const char *returns; /* a TYPE; NULL = {} */
    unsigned flags;
    /* The value to return, owned by the caller (qmp_done() for commands that only do something); or NULL with
     * *error; or NULL and the request is held. The arguments, an object, have been checked. Main thread. */
    json_t *(*run)(void *opaque, json_t *args, GError **error);
};

static inline json_t *qmp_done(void)
{
    return json_object();
}

/* --- errors --- */

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

/* --- the request that a command serves; main thread --- */

/* That of the command that runs now; valid until run() returns, unless it is held. */
struct qmp_request *qmp_request(struct qmp_server *s);

/* The descriptors that its client has handed in. */
struct control_fds *qmp_request_fds(struct qmp_request *r);

/* The next descriptor that came with the message, now the caller's; -1 with *error. For commands with
 * QMP_FDS; what they leave is closed. */
int qmp_request_take_fd(struct qmp_request *r, GError **error);

/* Sends fd (taken in any case) along with the answer's first byte. False when it has PASS_MAX already. */
bool qmp_request_reply_fd(struct qmp_request *r, int fd);

/* Keeps the request: run() returns NULL without an error, and qmp_request_finish() answers. Not out of band.
 */
struct qmp_request *qmp_request_hold(struct qmp_server *s);

/* Has the client gone, so that nobody waits for the answer? One that has only closed its sending half waits.
 */
bool qmp_request_is_orphan(const struct qmp_request *r);

/* Answers a held request with value or, if that is NULL, error (both taken), and lets go of it; nobody minds
 * when its client has gone. Not from within run(). */
void qmp_request_finish(struct qmp_request *r, json_t *value, GError *error);

#endif
