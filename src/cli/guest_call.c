/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A conversation with a running guest's process. */
/*
 * A guest's process may have been taken over by its guest. So what it says is bounded in size and time, and
 * descriptors that nobody expects are closed.
 */
#include "cli/guest_call.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/guest_state.h"
#include "os/fd.h"

enum { ANSWER_MAX = 16 << 20, EVENTS_MAX = 1024 };

struct guest_call {
    char *name;
    int fd, timeout_ms, tick_ms;
    void (*tick)(void *opaque);
    void *opaque;    /* tick's */
    GString *bytes;  /* received and not yet taken */
    GQueue events;   /* of json_t *, owned */
    GArray *fds;     /* of int, owned: received and not yet taken */
    unsigned serial; /* of the last command */
};

void guest_call_close(struct guest_call *c)
{
    if (!c)
        return;
    fd_close(&c->fd);
    for (json_t *event; (event = g_queue_pop_head(&c->events));)
        json_decref(event);
    for (unsigned i = 0; i < c->fds->len; i++)
        close(g_array_index(c->fds, int, i));
    g_array_unref(c->fds);
    g_string_free(c->bytes, TRUE);
    g_free(c->name);
    g_free(c);
}

void guest_call_set_timeout(struct guest_call *c, int timeout_ms)
{
    c->timeout_ms = timeout_ms;
}

void guest_call_set_tick(struct guest_call *c, int tick_ms, void (*tick)(void *opaque), void *opaque)
{
    c->tick_ms = tick_ms;
    c->tick = tick;
    c->opaque = opaque;
}

static bool fail_silent(const struct guest_call *c, GError **error)
{
    return hostel_fail(
        error, HOSTEL_ERROR_HOST,
        "guest '%s': its process has not answered for %.1f s; 'hostel info %s' shows its state, "
        "'hostel kill %s' ends it",
        c->name, c->timeout_ms / 1000.0, c->name, c->name);
}

static bool fail_gone(const struct guest_call *c, GError **error)
{
    return hostel_fail(
        error, HOSTEL_ERROR_HOST,
        "guest '%s': its process has ended; 'hostel ps -a' says how, 'hostel start %s' starts it "
        "again",
        c->name, c->name);
}

/* --- bytes --- */

static bool await(const struct guest_call *c, short events, gint64 deadline, GError **error)
{
    for (;;) {
        const gint64 left = deadline < 0 ? -1 : MAX(0, (deadline - g_get_monotonic_time() + 999) / 1000);
        const bool ticks = c->tick && (left < 0 || left > c->tick_ms);
        struct pollfd p = {c->fd, events, 0};
        const int n = poll(&p, 1, ticks ? c->tick_ms : (int)left);
        if (n > 0)
            return true;
        if (n == 0 && !ticks)
            return fail_silent(c, error);
        if (n < 0 && errno != EINTR)
            return fail_gone(c, error);
        if (c->tick)
            c->tick(c->opaque);
    }
}

static gint64 deadline_of(const struct guest_call *c)
{
    return c->timeout_ms < 0 ? -1 : g_get_monotonic_time() + (gint64)c->timeout_ms * 1000;
}

static void keep_fds(struct guest_call *c, struct msghdr *message)
{
    for (struct cmsghdr *m = CMSG_FIRSTHDR(message); m; m = CMSG_NXTHDR(message, m)) {
        if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
            continue;
        const size_t count = (m->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(m) + i * sizeof(int), sizeof(fd));
            if (c->fds->len < GUEST_CALL_FDS)
                g_array_append_val(c->fds, fd);
            else
                close(fd);
        }
    }
}

static bool receive(struct guest_call *c, gint64 deadline, GError **error)
{
    char bytes[16384];
    char control[CMSG_SPACE(GUEST_CALL_FDS * sizeof(int))];
    struct iovec part = {bytes, sizeof(bytes)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    if (!await(c, POLLIN, deadline, error))
        return false;
    const ssize_t n = recvmsg(c->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return fail_gone(c, error);
    keep_fds(c, &message);
    g_string_append_len(c->bytes, bytes, n);
    return c->bytes->len <= ANSWER_MAX ||
           hostel_fail(error, HOSTEL_ERROR_INPUT,
                       "guest '%s': its process sent an answer of more than %d MiB", c->name,
                       ANSWER_MAX >> 20);
}

/* The next message, each of which is a line; owned. */
static json_t *next(struct guest_call *c, gint64 deadline, GError **error)
{
    for (size_t seen = 0;;) {
        const char *end = memchr(c->bytes->str + seen, '\n', c->bytes->len - seen);
        if (!end) {
            seen = c->bytes->len;
            if (!receive(c, deadline, error))
                return NULL;
            continue;
        }
        const size_t size = (size_t)(end - c->bytes->str);
        json_t *message = json_loadb(c->bytes->str, size, 0, NULL);
        g_string_erase(c->bytes, 0, (gssize)size + 1);
        if (!json_is_object(message)) {
            json_decref(message);
            hostel_fail(error, HOSTEL_ERROR_INPUT, "guest '%s': what its process sent is no message of QMP",
                        c->name);
            return NULL;
        }
        return message;
    }
}

/* The bytes of text, and the descriptors with the first of them. */
static bool transmit(struct guest_call *c, const char *text, const int *fds, size_t n, GError **error)
{
    char control[CMSG_SPACE(GUEST_CALL_FDS * sizeof(int))] = {0};
    const gint64 deadline = deadline_of(c);
    for (size_t left = strlen(text); left;) {
        struct iovec part = {(void *)(uintptr_t)text, left};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (n) {
            message.msg_control = control;
            message.msg_controllen = CMSG_SPACE(n * sizeof(int));
            struct cmsghdr *m = CMSG_FIRSTHDR(&message);
            m->cmsg_level = SOL_SOCKET;
            m->cmsg_type = SCM_RIGHTS;
            m->cmsg_len = CMSG_LEN(n * sizeof(int));
            memcpy(CMSG_DATA(m), fds, n * sizeof(int));
        }
        const ssize_t sent = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return fail_gone(c, error);
        if (sent < 0 && !await(c, POLLOUT, deadline, error))
            return false;
        if (sent > 0) {
            n = 0;
            text += sent;
            left -= (size_t)sent;
        }
    }
    return true;
}

/* --- messages --- */

static void keep_event(struct guest_call *c, json_t *event)
{
    g_queue_push_tail(&c->events, event);
    if (g_queue_get_length(&c->events) > EVENTS_MAX)
        json_decref(g_queue_pop_head(&c->events));
}

/* The value in an answer, owned; takes the answer. */
static json_t *take_value(const struct guest_call *c, const char *command, json_t *answer, GError **error)
{
    json_t *value = json_incref(json_object_get(answer, "return"));
    if (!value) {
        const char *said = json_string_value(json_object_get(json_object_get(answer, "error"), "desc"));
        g_autofree char *why = g_strdup(said ? said : "its process refused without a reason");
        for (char *p = why; *p; p++) /* nothing that a terminal obeys */
            *p = (unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p;
        hostel_fail(error, HOSTEL_ERROR_INPUT, "guest '%s': %s: %s", c->name, command, why);
    }
    json_decref(answer);
    return value;
}

static void hand_over(struct guest_call *c, int *received, size_t *n_received)
{
    for (unsigned i = 0; i < c->fds->len; i++) {
        int fd = g_array_index(c->fds, int, i);
        if (received)
            received[i] = fd;
        else
            close(fd);
    }
    if (n_received)
        *n_received = received ? c->fds->len : 0;
    g_array_set_size(c->fds, 0);
}

json_t *guest_call_fds(struct guest_call *c, const char *command, json_t *arguments, const int *send,
                       size_t n_send, int *received, size_t *n_received, GError **error)
{
    g_assert(n_send <= GUEST_CALL_FDS);
    const int id = (int)++c->serial;
    json_t *message = json_pack("{s:s,s:i}", "execute", command, "id", id);
    if (arguments)
        json_object_set_new(message, "arguments", arguments);
    char *text = json_dumps(message, JSON_COMPACT);
    json_decref(message);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    free(text);
    if (!transmit(c, line, send, n_send, error))
        return NULL;
    for (const gint64 deadline = deadline_of(c);;) {
        json_t *answer = next(c, deadline, error);
        if (!answer)
            return NULL;
        if (json_object_get(answer, "event")) {
            keep_event(c, answer);
        } else if (json_integer_value(json_object_get(answer, "id")) == id) {
            hand_over(c, received, n_received);
            return take_value(c, command, answer, error);
        } else { /* of a command that was given up */
            json_decref(answer);
        }
    }
}

json_t *guest_call(struct guest_call *c, const char *command, json_t *arguments, GError **error)
{
    return guest_call_fds(c, command, arguments, NULL, 0, NULL, NULL, error);
}

bool guest_call_do(struct guest_call *c, const char *command, json_t *arguments, GError **error)
{
    json_t *value = guest_call(c, command, arguments, error);
    json_decref(value);
    return value != NULL;
}

bool guest_call_give(struct guest_call *c, const char *fdname, int fd, GError **error)
{
    json_t *value =
        guest_call_fds(c, "getfd", json_pack("{s:s}", "fdname", fdname), &fd, 1, NULL, NULL, error);
    json_decref(value);
    return value != NULL;
}

static bool is_wanted(const json_t *event, const char *const *names)
{
    const char *name = json_string_value(json_object_get(event, "event"));
    return name && g_strv_contains(names, name);
}

json_t *guest_call_event(struct guest_call *c, const char *const *names, GError **error)
{
    const gint64 deadline = deadline_of(c);
    for (;;) {
        for (json_t *event; (event = g_queue_pop_head(&c->events));) {
            if (is_wanted(event, names))
                return event;
            json_decref(event);
        }
        json_t *message = next(c, deadline, error);
        if (!message)
            return NULL;
        if (json_object_get(message, "event"))
            keep_event(c, message);
        else
            json_decref(message);
    }
}

/* --- the beginning --- */

static bool greet(struct guest_call *c, GError **error)
{
    json_t *greeting = next(c, deadline_of(c), error);
    const bool good = greeting && json_object_get(greeting, "QMP");
    json_decref(greeting);
    if (greeting && !good)
        hostel_fail(error, HOSTEL_ERROR_INPUT, "guest '%s': its process does not speak QMP", c->name);
    return good && guest_call_do(c, "qmp_capabilities", NULL, error);
}

static bool fail_unconnected(const char *name, int why, GError **error)
{
    AUTO_STATE state;
    guest_state_read(name, &state);
    if (!state.live)
        return hostel_fail(error, HOSTEL_ERROR_HOST,
                           "guest '%s' is not running (%s%s%s); 'hostel start %s' starts it", name,
                           state.status, state.why ? ": " : "", state.why ? state.why : "", name);
    return hostel_fail(error, HOSTEL_ERROR_HOST,
                       "guest '%s' is %s, and its process cannot be reached: %s; 'hostel kill %s' ends it",
                       name, state.status, g_strerror(why), name);
}

struct guest_call *guest_call_open(const char *name, int timeout_ms, GError **error)
{
    int fd = guest_runtime_connect(name, "control");
    if (fd < 0) {
        fail_unconnected(name, errno, error);
        return NULL;
    }
    AUTO(guest_call) c = g_new0(struct guest_call, 1);
    c->fd = fd;
    c->name = g_strdup(name);
    c->timeout_ms = timeout_ms;
    c->bytes = g_string_new(NULL);
    c->fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_queue_init(&c->events);
    return greet(c, error) ? STEAL(c) : NULL;
}
