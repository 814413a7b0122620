/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The server side of QMP's wire format. */
#include "control/qmp.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "control/framer.h"
#include "control/schema.h"
#include "os/fd.h"

/* Replies wait up to OUTPUT_PAUSE bytes before commands wait; events are kept up to OUTPUT_MAX. */
enum { OUTPUT_PAUSE = 64 * 1024, OUTPUT_MAX = 256 * 1024, READ_SIZE = 1024 };

struct qmp {
    int fd;
    GMainContext *context;
    GSource *source;
    GIOCondition watched;
    struct qmp_schema *schema;
    void (*closed)(void *opaque);
    void *opaque;
    struct framer framer;
    GString *output;
    bool negotiated, gone;
};

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

/* --- answers --- */

static json_t *version(void)
{
    int major = 0, minor = 0, micro = 0;
    sscanf(HOSTEL_VERSION, "%d.%d.%d", &major, &minor, &micro);
    /* "qemu" is the protocol's word for the number; clients expect it. */
    return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", major, "minor", minor, "micro", micro,
                     "package", "hostel-" HOSTEL_VERSION);
}

/* The text may quote what the client sent, cut off anywhere: JSON is UTF-8 only. */
static json_t *error_answer(const char *class, const char *text)
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

/* No arguments are the same as an empty object. */
static json_t *run_command(struct qmp *q, const struct qmp_method *m, json_t *args)
{
    g_autoptr(GError) error = NULL;
    json_t *given = args ? json_incref(args) : json_object(), *value = NULL;
    if (qmp_schema_check(m->args, given, &error))
        value = m->row->run(m->table ? q->opaque : q, given, &error);
    json_decref(given);
    if (value)
        return json_pack("{s:o}", "return", value);
    return error ? error_answer(class_name(error), error->message)
                 : error_answer("GenericError", "the answer cannot be said in JSON");
}

/* --- the commands of the protocol itself --- */

static json_t *qmp_capabilities(void *opaque, json_t *args G_GNUC_UNUSED, GError **error)
{
    struct qmp *q = opaque;
    if (q->negotiated)
        return qmp_fail(error, QMP_ERROR_COMMAND_NOT_FOUND, "capabilities have been negotiated already");
    q->negotiated = true;
    return qmp_done();
}

static json_t *query_version(void *opaque G_GNUC_UNUSED, json_t *args G_GNUC_UNUSED,
                             GError **error G_GNUC_UNUSED)
{
    return version();
}

static json_t *query_commands(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return qmp_schema_commands(((struct qmp *)opaque)->schema);
}

static json_t *query_qmp_schema(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return qmp_schema_json(((struct qmp *)opaque)->schema);
}

/* Their opaque is the server. */
static const struct qmp_command own_commands[] = {
    {"qmp_capabilities", "?enable: [QMPCapability]", NULL, QMP_EARLY, qmp_capabilities},
    {"query-version", NULL, "VersionInfo", QMP_OOB | QMP_EARLY, query_version},
    {"query-commands", NULL, "[CommandInfo]", QMP_OOB | QMP_EARLY, query_commands},
    {"query-qmp-schema", NULL, "[SchemaInfo]", QMP_OOB | QMP_EARLY, query_qmp_schema},
    {0},
};

/* A message of the right shape: its answer without the id. */
static json_t *execute(struct qmp *q, const char *name, json_t *args)
{
    if (!q->negotiated && strcmp(name, "qmp_capabilities") != 0)
        return error_answer("CommandNotFound", "expected qmp_capabilities first");
    const struct qmp_method *m = qmp_schema_command(q->schema, name);
    if (m)
        return run_command(q, m, args);
    g_autofree char *text = g_strdup_printf("there is no command '%.40s'; query-commands lists them", name);
    return error_answer("CommandNotFound", text);
}

/* The first member that no message has; NULL when all are known. */
static const char *unknown_member(json_t *message)
{
    const char *name;
    json_t *value;
    json_object_foreach(message, name, value)
    {
        if (strcmp(name, "execute") != 0 && strcmp(name, "arguments") != 0 && strcmp(name, "id") != 0)
            return name;
    }
    return NULL;
}

static json_t *answer_message(struct qmp *q, json_t *message)
{
    json_t *name = json_object_get(message, "execute"), *args = json_object_get(message, "arguments");
    const char *unknown = unknown_member(message);
    if (unknown) {
        g_autofree char *text = g_strdup_printf("a message has no member '%.40s'", unknown);
        return error_answer("GenericError", text);
    }
    if (!json_is_string(name))
        return error_answer("GenericError", "a message needs \"execute\" with the name of a command");
    if (args && !json_is_object(args))
        return error_answer("GenericError", "\"arguments\" must be an object");
    return execute(q, json_string_value(name), args);
}

json_t *qmp_answer(struct qmp *q, const char *text, size_t size)
{
    json_error_t where;
    json_t *message = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!message) {
        g_autofree char *why = g_strdup_printf("not JSON: %s", where.text);
        return error_answer("GenericError", why);
    }
    json_t *answer = json_is_object(message) ? answer_message(q, message)
                                             : error_answer("GenericError", "expected an object");
    json_t *id = json_object_get(message, "id");
    if (id)
        json_object_set(answer, "id", id);
    json_decref(message);
    return answer;
}

/* --- the socket --- */

static gboolean serve(gint fd, GIOCondition condition, gpointer data);

static void watch(struct qmp *q, GIOCondition what)
{
    if (q->source && what == q->watched)
        return;
    if (q->source) {
        g_source_destroy(q->source);
        g_source_unref(q->source);
    }
    q->watched = what;
    q->source = g_unix_fd_source_new(q->fd, what);
    g_source_set_callback(q->source, G_SOURCE_FUNC(serve), q, NULL);
    g_source_attach(q->source, q->context);
}

static void hang_up(struct qmp *q)
{
    if (q->gone)
        return;
    q->gone = true;
    if (q->source)
        g_source_destroy(q->source);
    if (q->closed)
        q->closed(q->opaque);
}

static void flush(struct qmp *q)
{
    while (q->output->len) {
        ssize_t n = write(q->fd, q->output->str, q->output->len);
        if (n > 0)
            g_string_erase(q->output, 0, n);
        else if (n < 0 && errno == EINTR)
            continue;
        else
            return; /* a broken socket shows itself when it is read */
    }
}

/* Takes the message. */
static void send_message(struct qmp *q, json_t *message)
{
    char *text = json_dumps(message, JSON_COMPACT);
    json_decref(message);
    log_debug(LOG_CONTROL, "sent %s", text);
    g_string_append(q->output, text);
    g_string_append(q->output, "\r\n");
    free(text);
}

static void receive(struct qmp *q, const char *bytes, size_t size)
{
    const char *reason;
    for (;;) {
        switch (framer_feed(&q->framer, &bytes, &size, &reason)) {
        case FRAMER_MORE: return;
        case FRAMER_BAD: send_message(q, error_answer("GenericError", reason)); break;
        case FRAMER_MESSAGE:
            send_message(q, qmp_answer(q, q->framer.message->str, q->framer.message->len));
            break;
        }
    }
}

static GIOCondition interest(const struct qmp *q)
{
    GIOCondition what = q->output->len ? G_IO_OUT : 0;
    return q->output->len < OUTPUT_PAUSE ? what | G_IO_IN : what;
}

static gboolean serve(gint fd, GIOCondition condition, gpointer data)
{
    struct qmp *q = data;
    if (condition & (G_IO_IN | G_IO_HUP | G_IO_ERR)) {
        char bytes[READ_SIZE];
        ssize_t n = read(fd, bytes, sizeof(bytes));
        if (n > 0) {
            receive(q, bytes, (size_t)n);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            hang_up(q);
            return G_SOURCE_REMOVE;
        }
    }
    flush(q);
    watch(q, interest(q));
    return G_SOURCE_CONTINUE;
}

void qmp_event(struct qmp *q, const char *name, json_t *data)
{
    if (!q->negotiated || q->gone) {
        json_decref(data);
        return;
    }
    gint64 now = g_get_real_time();
    json_t *event =
        json_pack("{s:s,s:{s:I,s:I}}", "event", name, "timestamp", "seconds",
                  (json_int_t)(now / G_USEC_PER_SEC), "microseconds", (json_int_t)(now % G_USEC_PER_SEC));
    if (data)
        json_object_set_new(event, "data", data);
    send_message(q, event);
    flush(q);
    if (q->output->len > OUTPUT_MAX) {
        log_warn(LOG_CONTROL, "the control client does not read what it is sent; its connection is closed");
        hang_up(q);
        return;
    }
    watch(q, interest(q));
}

struct qmp *qmp_new(GMainContext *context, int fd, const struct qmp_command *const *tables,
                    void (*closed)(void *opaque), void *opaque)
{
    struct qmp *q = g_new0(struct qmp, 1);
    *q = (struct qmp){.fd = fd, .context = context, .closed = closed, .opaque = opaque};
    q->output = g_string_new(NULL);
    framer_init(&q->framer);
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    g_ptr_array_add(all, (void *)(uintptr_t)own_commands);
    for (; *tables; tables++)
        g_ptr_array_add(all, (void *)(uintptr_t)*tables);
    g_ptr_array_add(all, NULL);
    q->schema = qmp_schema_new(qmp_types, (const struct qmp_command *const *)(void *)all->pdata);
    json_object_seed(0); /* reads random numbers, perhaps from a file: now, while that is possible */
    send_message(q, json_pack("{s:{s:o,s:[]}}", "QMP", "version", version(), "capabilities"));
    if (fd >= 0) {
        fd_set_nonblock(fd, true);
        flush(q);
        watch(q, interest(q));
    }
    return q;
}

void qmp_free(struct qmp *q)
{
    if (!q)
        return;
    if (q->source) {
        g_source_destroy(q->source);
        g_source_unref(q->source);
    }
    if (q->fd >= 0) {
        flush(q);
        close(q->fd);
    }
    qmp_schema_free(q->schema);
    framer_fini(&q->framer);
    g_string_free(q->output, TRUE);
    g_free(q);
}
