/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A server of QMP: its clients, its commands, its events. */
#include "control/server.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "control/server_int.h"
#include "os/fd.h"

enum { ACCEPT_AGAIN_MS = 1000 };

json_t *server_version(void)
{
    int major = 0, minor = 0, micro = 0;
    sscanf(HOSTEL_VERSION, "%d.%d.%d", &major, &minor, &micro);
    /* "qemu" is the protocol's word for the number; clients expect it. */
    return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", major, "minor", minor, "micro", micro,
                     "package", "hostel-" HOSTEL_VERSION);
}

/* --- clients --- */

struct qmp_session *qmp_server_add(struct qmp_server *s, int fd, void (*closed)(void *opaque), void *opaque)
{
    if (fd >= 0)
        fd_set_nonblock(fd, true);
    struct qmp_session *c = session_new(s, fd);
    c->closed = closed;
    c->opaque = opaque;
    g_ptr_array_add(s->sessions, c);
    session_start(c);
    return c;
}

void server_session_gone(struct qmp_server *s, struct qmp_session *c)
{
    if (c->closed)
        c->closed(c->opaque);
    if (g_ptr_array_remove(s->sessions, c))
        session_unref(c);
}

unsigned qmp_server_clients(const struct qmp_server *s)
{
    return s->sessions->len;
}

/* --- those that come by themselves --- */

static void accept_soon(struct qmp_server *s, unsigned ms);

/* Said in place of a greeting. */
static void refuse_client(int fd)
{
    g_autofree char *why =
        g_strdup_printf("there are %d clients already; close another connection first", QMP_CLIENTS_MAX);
    json_t *answer = request_error("GenericError", why);
    char *text = json_dumps(answer, JSON_COMPACT);
    struct outbox box;
    outbox_init(&box);
    outbox_add(&box, text, NULL);
    outbox_flush(&box, fd);
    outbox_fini(&box);
    free(text);
    json_decref(answer);
    fd_close(&fd);
}

static gboolean accept_client(gint listener, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    struct qmp_server *s = data;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        /* Without room for a descriptor the client stays in the queue; asking at once again would be vain. */
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            accept_soon(s, ACCEPT_AGAIN_MS);
        return G_SOURCE_CONTINUE;
    }
    if (s->sessions->len >= QMP_CLIENTS_MAX) {
        refuse_client(fd);
        return G_SOURCE_CONTINUE;
    }
    struct qmp_session *c = session_new(s, fd);
    g_ptr_array_add(s->sessions, c);
    session_start(c);
    return G_SOURCE_CONTINUE;
}

static void stop_accepting(struct qmp_server *s)
{
    if (!s->accepting)
        return;
    g_source_destroy(s->accepting);
    g_source_unref(s->accepting);
    s->accepting = NULL;
}

static void accept_now(struct qmp_server *s)
{
    stop_accepting(s);
    s->accepting = g_unix_fd_source_new(s->listener, G_IO_IN);
    g_source_set_callback(s->accepting, G_SOURCE_FUNC(accept_client), s, NULL);
    g_source_attach(s->accepting, s->context);
}

static gboolean time_to_accept(gpointer data)
{
    accept_now(data);
    return G_SOURCE_REMOVE;
}

static void accept_soon(struct qmp_server *s, unsigned ms)
{
    stop_accepting(s);
    s->accepting = g_timeout_source_new(ms);
    g_source_set_callback(s->accepting, time_to_accept, s, NULL);
    g_source_attach(s->accepting, s->context);
}

void qmp_server_listen(struct qmp_server *s, int fd)
{
    fd_set_nonblock(fd, true);
    s->listener = fd;
    accept_now(s);
}

/* --- events --- */

static void tell_all(void *server, const char *text)
{
    struct qmp_server *s = server;
    /* A client that is cut off leaves the list, so those behind it move up. */
    g_autoptr(GPtrArray) all = g_ptr_array_new_full(s->sessions->len, (GDestroyNotify)session_unref);
    for (unsigned i = 0; i < s->sessions->len; i++)
        g_ptr_array_add(all, session_ref(s->sessions->pdata[i]));
    for (unsigned i = 0; i < all->len; i++)
        session_event(all->pdata[i], text);
}

void qmp_server_event(struct qmp_server *s, const char *name, json_t *data)
{
    gint64 now = g_get_real_time();
    json_t *event =
        json_pack("{s:s,s:{s:I,s:I}}", "event", name, "timestamp", "seconds",
                  (json_int_t)(now / G_USEC_PER_SEC), "microseconds", (json_int_t)(now % G_USEC_PER_SEC));
    if (data)
        json_object_set_new(event, "data", data);
    char *text = json_dumps(event, JSON_COMPACT);
    if (qmp_schema_event_limited(s->schema, name))
        limiter_event(s->limiter, name, data, text);
    else
        tell_all(s, text);
    free(text);
    json_decref(event);
}

/* --- life --- */

struct qmp_server *qmp_server_new(GMainContext *context, const struct qmp_command *const *tables,
                                  void *opaque)
{
    struct qmp_server *s = g_new(struct qmp_server, 1);
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    g_ptr_array_add(all, (void *)(uintptr_t)qmp_own_commands);
    for (; *tables; tables++)
        g_ptr_array_add(all, (void *)(uintptr_t)*tables);
    g_ptr_array_add(all, NULL);
    *s = (struct qmp_server){
        .context = context,
        .schema = qmp_schema_new(qmp_types, (const struct qmp_command *const *)(void *)all->pdata),
        .fdsets = control_fdsets_new(),
        .opaque = opaque,
        .sessions = g_ptr_array_new(),
        .listener = -1,
    };
    s->limiter = limiter_new(context, tell_all, s, LIMITER_PERIOD_MS);
    json_object_seed(0); /* reads random numbers, perhaps from a file: now, while that is possible */
    return s;
}

void qmp_server_set_early(struct qmp_server *s, const char *why)
{
    s->early = why;
}

void qmp_server_free(struct qmp_server *s)
{
    if (!s)
        return;
    stop_accepting(s);
    fd_close(&s->listener);
    limiter_flush(s->limiter);
    limiter_free(s->limiter);
    while (s->sessions->len) {
        struct qmp_session *c = s->sessions->pdata[0];
        c->closed = NULL;
        if (c->fd >= 0)
            outbox_flush(&c->outbox, c->fd);
        session_close(c);
    }
    g_ptr_array_unref(s->sessions);
    control_fdsets_unref(s->fdsets);
    qmp_schema_free(s->schema);
    g_free(s);
}
