/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One client of a QMP server: its socket, what waits to run and what waits to be sent. */
#include <errno.h>
#include <glib-unix.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/server_int.h"
#include "os/fd.h"

enum { READ_SIZE = 1024 };

/* --- its socket --- */

static gboolean serve(gint fd, GIOCondition condition, gpointer data);

static void unwatch(struct qmp_session *c)
{
    if (!c->source)
        return;
    g_source_destroy(c->source);
    g_source_unref(c->source);
    c->source = NULL;
}

static void watch(struct qmp_session *c, GIOCondition what)
{
    if (c->source && what == c->watched)
        return;
    unwatch(c);
    c->watched = what;
    c->source = g_unix_fd_source_new(c->fd, what);
    g_source_set_callback(c->source, G_SOURCE_FUNC(serve), c, NULL);
    g_source_attach(c->source, c->server->context);
}

static bool may_run(const struct qmp_session *c)
{
    return c->server && !c->held && outbox_size(&c->outbox) < OUTPUT_PAUSE;
}

static GIOCondition interest(const struct qmp_session *c)
{
    GIOCondition what = outbox_size(&c->outbox) ? G_IO_OUT : 0;
    return c->ended || c->waiting.length >= QUEUE_MAX || outbox_size(&c->outbox) >= OUTPUT_PAUSE
               ? what
               : what | G_IO_IN;
}

static void send_answer(struct qmp_session *c, struct qmp_request *r, json_t *answer)
{
    char *text = json_dumps(answer, JSON_COMPACT);
    json_decref(answer);
    session_send(c, text, r ? &r->go : NULL);
    free(text);
}

/* Runs what waits as far as it may and sends as far as the socket takes it. Then it is settled what to wait
 * for; or that the client has gone. */
static void proceed(struct qmp_session *c)
{
    bool more = true;
    while (c->server && more) {
        struct qmp_request *r = may_run(c) ? g_queue_pop_head(&c->waiting) : NULL;
        json_t *answer = r ? request_run(r) : NULL;
        if (answer) {
            send_answer(c, r, answer);
            request_free(r);
        } else {
            c->held = r ? r : c->held;
        }
        if (c->server && c->fd >= 0 && outbox_flush(&c->outbox, c->fd))
            session_close(c);
        more = may_run(c) && c->waiting.length;
    }
    if (!c->server || c->fd < 0)
        return;
    if (c->ended && !c->held && !outbox_size(&c->outbox))
        session_close(c);
    else
        watch(c, interest(c));
}

/* --- messages --- */

void session_send(struct qmp_session *c, const char *text, struct pass_fds *go)
{
    log_debug(LOG_CONTROL, "sent %s", text);
    if (c->server && c->fd >= 0)
        outbox_add(&c->outbox, text, go);
}

/* Out of band at once, else behind those that wait. */
static void take_request(struct qmp_session *c, struct qmp_request *r)
{
    if (!r->oob) {
        g_queue_push_tail(&c->waiting, r);
        return;
    }
    send_answer(c, r, request_run(r));
    request_free(r);
}

/* Descriptors belong to the message whose bytes they came with; or that comes next, when they came with
 * blanks alone, as some clients send them. */
static void take_bytes(struct qmp_session *c, const char *bytes, size_t size)
{
    const char *reason;
    bool blank = true;
    enum framer_result result;
    while (c->server && (result = framer_feed(&c->framer, &bytes, &size, &reason)) != FRAMER_MORE) {
        const GString *text = c->framer.message;
        blank = false;
        struct qmp_request *r = request_new(c, text->str, result == FRAMER_BAD ? 0 : text->len);
        if (result == FRAMER_BAD) {
            json_decref(r->answer);
            r->answer = request_error("GenericError", reason);
        }
        take_request(c, r);
        if (!c->held) /* what it says of the session is true for the messages behind it */
            proceed(c);
    }
    if (!blank && !framer_within(&c->framer))
        pass_close(&c->arrived); /* nobody wanted them */
}

static void end_of_input(struct qmp_session *c, GIOCondition condition)
{
    c->ended = true;
    if (condition & (G_IO_HUP | G_IO_ERR))
        session_close(c); /* it cannot be answered any more */
}

static gboolean serve(gint fd, GIOCondition condition, gpointer data)
{
    struct qmp_session *c = session_ref(data);
    bool reads = c->watched & G_IO_IN;
    if (reads && condition & (G_IO_IN | G_IO_HUP | G_IO_ERR)) {
        char bytes[READ_SIZE];
        ssize_t n = pass_receive(fd, bytes, sizeof(bytes), &c->arrived);
        if (n > 0)
            take_bytes(c, bytes, (size_t)n);
        else if (n != -EAGAIN && n != -EINTR)
            end_of_input(c, condition);
    } else if (condition & (G_IO_HUP | G_IO_ERR)) {
        session_close(c);
    }
    proceed(c);
    session_unref(c);
    return G_SOURCE_CONTINUE; /* or it has been destroyed */
}

void session_release(struct qmp_session *c, struct qmp_request *r, json_t *answer)
{
    if (c->held == r)
        c->held = NULL;
    if (c->server)
        send_answer(c, r, answer);
    else
        json_decref(answer);
    request_free(r);
    proceed(c);
}

void session_event(struct qmp_session *c, const char *text)
{
    if (!c->negotiated || !c->server || c->fd < 0)
        return;
    session_send(c, text, NULL);
    if (outbox_flush(&c->outbox, c->fd)) {
        session_close(c);
    } else if (outbox_size(&c->outbox) > OUTPUT_MAX) {
        log_warn(LOG_CONTROL, "a control client does not read what it is sent; its connection is closed");
        session_close(c);
    } else {
        watch(c, interest(c));
    }
}

json_t *qmp_session_answer(struct qmp_session *c, const char *text, size_t size)
{
    struct qmp_request *r = request_new(c, text, size);
    json_t *answer = request_run(r);
    if (answer)
        request_free(r);
    return answer;
}

/* --- life --- */

struct qmp_session *session_new(struct qmp_server *s, int fd)
{
    struct qmp_session *c = g_new(struct qmp_session, 1);
    *c = (struct qmp_session){.refs = 1, .server = s, .fd = fd, .fds = control_fds_new(s->fdsets)};
    framer_init(&c->framer);
    outbox_init(&c->outbox);
    g_queue_init(&c->waiting);
    return c;
}

void session_start(struct qmp_session *c)
{
    send_answer(c, NULL,
                json_pack("{s:{s:o,s:[s]}}", "QMP", "version", server_version(), "capabilities", "oob"));
    if (c->fd < 0)
        return;
    outbox_flush(&c->outbox, c->fd); /* a broken socket shows itself when it is read */
    watch(c, interest(c));
}

struct qmp_session *session_ref(struct qmp_session *c)
{
    c->refs++;
    return c;
}

void session_close(struct qmp_session *c)
{
    struct qmp_server *s = STEAL(c->server);
    if (!s)
        return;
    unwatch(c);
    fd_close(&c->fd);
    while (!g_queue_is_empty(&c->waiting))
        request_free(g_queue_pop_head(&c->waiting));
    server_session_gone(s, c);
}

void session_unref(struct qmp_session *c)
{
    if (--c->refs)
        return;
    g_assert(!c->server);
    framer_fini(&c->framer);
    outbox_fini(&c->outbox);
    pass_close(&c->arrived);
    control_fds_free(c->fds);
    g_free(c);
}
