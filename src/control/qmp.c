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
#include "os/fd.h"

/* Replies wait up to OUTPUT_PAUSE bytes before commands wait; events are kept up to OUTPUT_MAX. */
enum { OUTPUT_PAUSE = 64 * 1024, OUTPUT_MAX = 256 * 1024, READ_SIZE = 1024 };

struct qmp {
    int fd;
    GMainContext *context;
    GSource *source;
    GIOCondition watched;
    const struct qmp_command *commands;
    void (*closed)(void *opaque);
    void *opaque;
    struct framer framer;
    GString *output;
    bool negotiated, gone;
};

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

static bool type_matches(json_type want, const json_t *value)
{
    return want == JSON_TRUE ? json_is_boolean(value) : json_typeof(value) == want;
}

static const char *type_name(json_type type)
{
    switch (type) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    default: return "true or false";
    }
}

static const struct qmp_arg *find_arg(const struct qmp_command *c, const char *name)
{
    for (const struct qmp_arg *a = c->args; a->name; a++)
        if (!strcmp(a->name, name))
            return a;
    return NULL;
}

static bool check_args(const struct qmp_command *c, json_t *args, GError **error)
{
    const char *name;
    json_t *value;
    json_object_foreach(args, name, value)
    {
        const struct qmp_arg *arg = find_arg(c, name);
        if (!arg)
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s has no parameter '%.40s'", c->name, name);
        if (!type_matches(arg->type, value))
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "parameter '%s' must be %s", name,
                               type_name(arg->type));
    }
    for (const struct qmp_arg *a = c->args; a->name; a++)
        if (!a->optional && !json_object_get(args, a->name))
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "parameter '%s' is missing", a->name);
    return true;
}

static json_t *list_commands(const struct qmp *q)
{
    json_t *list = json_pack("[{s:s},{s:s},{s:s}]", "name", "qmp_capabilities", "name", "query-version",
                             "name", "query-commands");
    for (const struct qmp_command *c = q->commands; c->name; c++)
        json_array_append_new(list, json_pack("{s:s}", "name", c->name));
    return list;
}

static json_t *run_command(struct qmp *q, const struct qmp_command *c, json_t *args)
{
    g_autoptr(GError) error = NULL;
    json_t *value = check_args(c, args, &error) ? c->run(q->opaque, args, &error) : NULL;
    if (value)
        return json_pack("{s:o}", "return", value);
    return error_answer("GenericError", error ? error->message : "the answer cannot be said in JSON");
}

/* The commands of the protocol itself; NULL when it is none of them. */
static json_t *run_own_command(struct qmp *q, const char *name)
{
    bool capabilities = !strcmp(name, "qmp_capabilities");
    if (!q->negotiated) {
        q->negotiated = capabilities;
        return capabilities ? json_pack("{s:{}}", "return")
                            : error_answer("CommandNotFound", "expected qmp_capabilities first");
    }
    if (capabilities)
        return error_answer("CommandNotFound", "capabilities have been negotiated already");
    if (!strcmp(name, "query-version"))
        return json_pack("{s:o}", "return", version());
    if (!strcmp(name, "query-commands"))
        return json_pack("{s:o}", "return", list_commands(q));
    return NULL;
}

/* A message of the right shape: its answer without the id. */
static json_t *execute(struct qmp *q, const char *name, json_t *args)
{
    json_t *answer = run_own_command(q, name);
    if (answer)
        return answer;
    for (const struct qmp_command *c = q->commands; c->name; c++)
        if (!strcmp(c->name, name))
            return run_command(q, c, args);
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

struct qmp *qmp_new(GMainContext *context, int fd, const struct qmp_command *commands,
                    void (*closed)(void *opaque), void *opaque)
{
    struct qmp *q = g_new0(struct qmp, 1);
    *q = (struct qmp){.fd = fd, .context = context, .commands = commands, .closed = closed, .opaque = opaque};
    q->output = g_string_new(NULL);
    framer_init(&q->framer);
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
    framer_fini(&q->framer);
    g_string_free(q->output, TRUE);
    g_free(q);
}
