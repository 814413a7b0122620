/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Those who are attached to a guest's console. */
#include "cli/attach.h"

#include <errno.h>
#include <sys/socket.h>

#include "os/fd.h"

void attach_init(struct attach *a, int listener)
{
    a->listener = listener;
    for (unsigned i = 0; i < ATTACH_CLIENTS; i++)
        a->clients[i] = (struct attach_client){.fd = -1};
}

static void part(struct attach_client *c)
{
    fd_close(&c->fd);
    if (c->behind)
        g_string_free(c->behind, TRUE);
    c->behind = NULL;
}

/* Sends what the socket takes at once. */
static void push(struct attach_client *c)
{
    while (c->fd >= 0 && c->behind->len) {
        const ssize_t n = send(c->fd, c->behind->str, c->behind->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0)
            part(c);
        else
            g_string_erase(c->behind, 0, n);
    }
    if (c->fd >= 0 && c->lost) {
        g_string_append_printf(c->behind, "\r\n[hostel] %zu bytes were lost here\r\n", c->lost);
        c->lost = 0;
    }
}

void attach_fini(struct attach *a)
{
    fd_close(&a->listener);
    for (unsigned i = 0; i < ATTACH_CLIENTS; i++) {
        if (a->clients[i].fd >= 0)
            push(&a->clients[i]); /* the guest's last words */
        part(&a->clients[i]);
    }
}

void attach_want(const struct attach *a, bool input_room, struct pollfd p[ATTACH_POLL])
{
    p[0] = (struct pollfd){a->listener, POLLIN, 0};
    for (unsigned i = 0; i < ATTACH_CLIENTS; i++) {
        const struct attach_client *c = &a->clients[i];
        const bool pending = c->fd >= 0 && c->behind->len;
        p[i + 1] = (struct pollfd){c->fd, 0, 0};
        p[i + 1].events |= (short)(c->says_more && input_room ? POLLIN : 0);
        p[i + 1].events |= (short)(pending ? POLLOUT : 0);
    }
}

static void welcome(struct attach *a)
{
    AUTO_FD fd = accept4(a->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    for (unsigned i = 0; fd >= 0 && i < ATTACH_CLIENTS; i++)
        if (a->clients[i].fd < 0) {
            a->clients[i] =
                (struct attach_client){.fd = fd_steal(&fd), .says_more = true, .behind = g_string_new(NULL)};
            return;
        }
}

static void listen_to(struct attach_client *c, struct flow *input)
{
    const int n = flow_read(input, c->fd);
    if (n == 0)
        c->says_more = false; /* it may still want to hear */
    else if (n < 0 && n != -EAGAIN)
        part(c);
}

void attach_serve(struct attach *a, const struct pollfd p[ATTACH_POLL], struct flow *input)
{
    for (unsigned i = 0; i < ATTACH_CLIENTS; i++) {
        struct attach_client *c = &a->clients[i];
        if (c->fd < 0 || c->fd != p[i + 1].fd)
            continue;
        if (p[i + 1].revents & POLLIN && input->length < FLOW_SIZE)
            listen_to(c, input);
        if (c->fd >= 0 && p[i + 1].revents & POLLOUT)
            push(c);
        /* Hung up: there is nobody left to tell. What it said before is read first, if the guest takes it. */
        if (c->fd >= 0 && p[i + 1].revents & (POLLHUP | POLLERR) && !(p[i + 1].revents & POLLIN))
            part(c);
    }
    if (p[0].revents && a->listener >= 0)
        welcome(a);
}

void attach_put(struct attach *a, const uint8_t *bytes, size_t size)
{
    for (unsigned i = 0; i < ATTACH_CLIENTS; i++) {
        struct attach_client *c = &a->clients[i];
        if (c->fd < 0)
            continue;
        if (c->behind->len + size > ATTACH_BEHIND)
            c->lost += size;
        else
            g_string_append_len(c->behind, (const char *)bytes, (gssize)size);
        push(c);
    }
}
