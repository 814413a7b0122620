/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A message from its text to its answer. */
#include <poll.h>
#include <string.h>

#include "base/error.h"
#include "control/server_int.h"
#include "os/fd.h"

/* --- errors --- */

G_DEFINE_QUARK(qmp - error - quark, qmp_error)

json_t *qmp_fail(GError **error, enum qmp_error class, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    GError *e = g_error_new_valist(QMP_ERROR, (int)class, format, values);
    va_end(values);
    g_propagate_error(error, e);
    return NULL;
}

/* The text may quote what the client sent, cut off anywhere: JSON is UTF-8 only. */
json_t *request_error(const char *class, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    return json_pack("{s:{s:s,s:s}}", "error", "class", class, "desc", valid);
}

static const char *class_name(const GError *error)
{
    static const char *const names[] = {
        [QMP_ERROR_GENERIC] = "GenericError",
        [QMP_ERROR_COMMAND_NOT_FOUND] = "CommandNotFound",
        [QMP_ERROR_DEVICE_NOT_FOUND] = "DeviceNotFound",
        [QMP_ERROR_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
        [QMP_ERROR_KVM_MISSING_CAP] = "KVMMissingCap",
    };
    return error->domain == QMP_ERROR ? names[error->code] : names[QMP_ERROR_GENERIC];
}

/* The answer to a command that has ended with value (taken) or error (NULL = the value cannot be said). */
static json_t *outcome(json_t *value, const GError *error)
{
    if (value)
        return json_pack("{s:o}", "return", value);
    return error ? request_error(class_name(error), error->message)
                 : request_error("GenericError", "the answer cannot be said in JSON");
}

/* --- reading --- */

/* The first member that no message has; NULL when all are known. */
static const char *unknown_member(const struct qmp_request *r)
{
    const char *name;
    json_t *value;
    json_object_foreach(r->message, name, value)
    {
        bool known = !strcmp(name, "execute") || !strcmp(name, "arguments") || !strcmp(name, "id") ||
                     (!strcmp(name, "exec-oob") && r->session->oob);
        if (!known)
            return name;
    }
    return NULL;
}

/* Finds out what the message wants; what is wrong with it is its answer. */
static void read_message(struct qmp_request *r)
{
    const char *unknown = unknown_member(r);
    if (unknown) {
        g_autofree char *text = g_strdup_printf("a message has no member '%.40s'", unknown);
        r->answer = request_error("GenericError", text);
        return;
    }
    json_t *name = json_object_get(r->message, "execute"), *oob = json_object_get(r->message, "exec-oob");
    json_t *args = json_object_get(r->message, "arguments");
    if (name && oob)
        r->answer = request_error("GenericError", "a message has either \"execute\" or \"exec-oob\"");
    else if (!json_is_string(oob ? oob : name))
        r->answer = request_error("GenericError", "a message needs \"execute\" with the name of a command");
    else if (args && !json_is_object(args))
        r->answer = request_error("GenericError", "\"arguments\" must be an object");
    else
        r->name = json_string_value(oob ? oob : name);
    r->oob = oob && r->name;
}

struct qmp_request *request_new(struct qmp_session *session, const char *text, size_t size)
{
    json_error_t where;
    struct qmp_request *r = g_new0(struct qmp_request, 1);
    r->session = session_ref(session);
    r->message = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!r->message) {
        g_autofree char *why = g_strdup_printf("not JSON: %s", where.text);
        r->answer = request_error("GenericError", why);
    } else if (!json_is_object(r->message)) {
        r->answer = request_error("GenericError", "expected an object");
    } else {
        read_message(r);
    }
    const struct qmp_method *m = r->name ? qmp_schema_command(session->server->schema, r->name) : NULL;
    if (m && m->row->flags & QMP_FDS) {
        r->came = session->arrived;
        session->arrived = (struct pass_fds){0};
    }
    return r;
}

void request_free(struct qmp_request *r)
{
    if (!r)
        return;
    pass_close(&r->came);
    pass_close(&r->go);
    json_decref(r->message);
    json_decref(r->answer);
    session_unref(r->session);
    g_free(r);
}

/* --- running --- */

/* Why this command cannot run now; NULL = it can. */
static json_t *refusal(const struct qmp_request *r, const struct qmp_method *m)
{
    const struct qmp_server *s = r->session->server;
    if (!r->session->negotiated && strcmp(r->name, "qmp_capabilities") != 0)
        return request_error("CommandNotFound", "expected qmp_capabilities first");
    g_autofree char *text = NULL;
    if (!m) {
        text = g_strdup_printf("there is no command '%.40s'; query-commands lists them", r->name);
        return request_error("CommandNotFound", text);
    }
    if (r->oob && !(m->row->flags & QMP_OOB))
        text = g_strdup_printf("%s cannot run out of band", r->name);
    else if (s->early && !(m->row->flags & QMP_EARLY))
        text = g_strdup_printf("%s cannot run now: %s", r->name, s->early);
    return text ? request_error("GenericError", text) : NULL;
}

/* The answer without the id; NULL = the request is held. */
static json_t *run_command(struct qmp_request *r)
{
    struct qmp_server *s = r->session->server;
    const struct qmp_method *m = qmp_schema_command(s->schema, r->name);
    json_t *refused = refusal(r, m);
    if (refused)
        return refused;
    g_autoptr(GError) error = NULL;
    json_t *args = json_object_get(r->message, "arguments"), *value = NULL;
    args = args ? json_incref(args) : json_object(); /* none are the same as an empty object */
    if (qmp_schema_check(m->args, args, &error)) {
        s->current = r;
        value = m->row->run(m->table ? s->opaque : s, args, &error);
        s->current = NULL;
    }
    json_decref(args);
    return r->held && !value && !error ? NULL : outcome(value, error);
}

/* Adds the id, when there was one. */
static json_t *with_id(const struct qmp_request *r, json_t *answer)
{
    json_t *id = json_object_get(r->message, "id"); /* of what is no object: none */
    if (id)
        json_object_set(answer, "id", id);
    return answer;
}

json_t *request_run(struct qmp_request *r)
{
    json_t *answer = r->answer ? STEAL(r->answer) : run_command(r);
    return answer ? with_id(r, answer) : NULL;
}

/* --- for commands --- */

struct qmp_request *qmp_request(struct qmp_server *s)
{
    return s->current;
}

struct control_fds *qmp_request_fds(struct qmp_request *r)
{
    return r->session->fds;
}

int qmp_request_take_fd(struct qmp_request *r, GError **error)
{
    if (r->came.lost) {
        hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "descriptors that came with the message were lost: at most %d may come with one, and the process "
            "may have only so many",
            PASS_MAX);
        return -1;
    }
    for (unsigned i = 0; i < r->came.count; i++)
        if (r->came.fd[i] >= 0)
            return fd_steal(&r->came.fd[i]);
    hostel_fail(
        error, HOSTEL_ERROR_USAGE,
        "no descriptor came with the message: send it with SCM_RIGHTS, together with the message's bytes");
    return -1;
}

bool qmp_request_reply_fd(struct qmp_request *r, int fd)
{
    AUTO_FD given = fd;
    if (r->go.count == PASS_MAX)
        return false;
    r->go.fd[r->go.count++] = fd_steal(&given);
    return true;
}

struct qmp_request *qmp_request_hold(struct qmp_server *s)
{
    g_assert(s->current && !s->current->oob);
    s->current->held = true;
    return s->current;
}

bool qmp_request_is_orphan(const struct qmp_request *r)
{
    struct pollfd end = {r->session->fd, 0, 0};
    return !r->session->server || r->session->fd < 0 ||
           (poll(&end, 1, 0) > 0 && end.revents & (POLLHUP | POLLERR));
}

void qmp_request_finish(struct qmp_request *r, json_t *value, GError *error)
{
    json_t *answer = with_id(r, outcome(value, error));
    g_clear_error(&error);
    struct qmp_session *session = session_ref(r->session);
    session_release(session, r, answer);
    session_unref(session);
}
