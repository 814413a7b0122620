/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The client side of a VMM's control socket. */
#include "control/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/fd.h"

void control_client_init(struct control_client *c, int fd, void (*message)(void *opaque, json_t *message),
                         void *opaque)
{
    *c = (struct control_client){.fd = fd, .message = message, .opaque = opaque};
    framer_init(&c->framer);
}

void control_client_fini(struct control_client *c)
{
    fd_close(&c->fd);
    framer_fini(&c->framer);
}

bool control_client_send(struct control_client *c, const char *command, const char *argument,
                         const char *value)
{
    json_t *message = argument ? json_pack("{s:s,s:{s:s}}", "execute", command, "arguments", argument, value)
                               : json_pack("{s:s}", "execute", command);
    char *text = json_dumps(message, JSON_COMPACT);
    json_decref(message);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    free(text);
    size_t size = strlen(line);
    return c->fd >= 0 && send(c->fd, line, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

/* False when it is not what a VMM says. */
static bool take_message(struct control_client *c, const char *text, size_t size)
{
    json_t *message = json_loadb(text, size, 0, NULL);
    if (!message)
        return false;
    if (json_object_get(message, "QMP"))
        c->ready = control_client_send(c, "qmp_capabilities", NULL, NULL);
    else
        c->message(c->opaque, message);
    json_decref(message);
    return true;
}

void control_client_read(struct control_client *c)
{
    char bytes[1024];
    ssize_t n = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    bool good = n > 0;
    size_t left = n > 0 ? (size_t)n : 0;
    const char *at = bytes, *reason;
    while (good) {
        enum framer_result result = framer_feed(&c->framer, &at, &left, &reason);
        if (result == FRAMER_MORE)
            return;
        good = result == FRAMER_MESSAGE && take_message(c, c->framer.message->str, c->framer.message->len);
    }
    fd_close(&c->fd);
}
