/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The client side of a VMM's control socket, for a program that waits with poll(). */
#ifndef HOSTEL_CONTROL_CLIENT_H
#define HOSTEL_CONTROL_CLIENT_H

#include <jansson.h>
#include <stdbool.h>

#include "control/framer.h"

struct control_client {
    int fd; /* owned; -1 when the VMM has gone */
    struct framer framer;
    bool ready; /* past the greeting */
    /* Each message after the greeting: {"event"...}, {"return"...} or {"error"...}; borrowed. */
    void (*message)(void *opaque, json_t *message);
    void *opaque;
};

/* A client of the socket fd (owned from now on). One thread, as all below. */
void control_client_init(struct control_client *c, int fd, void (*message)(void *opaque, json_t *message),
                         void *opaque);
void control_client_fini(struct control_client *c);

/* To be called when fd is readable: takes what is there. When the VMM has gone, or speaks no QMP, fd becomes
 * -1. */
void control_client_read(struct control_client *c);

/* Sends a command without arguments, or with one argument that is a string (NULL = none). Commands are so
 * short and few that the socket's buffer always has room; if not, false. */
bool control_client_send(struct control_client *c, const char *command, const char *argument,
                         const char *value);

#endif
