/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Those who are attached to a guest's console: `hostel console`, or anybody else who connects to its socket.
 */
/*
 * What the guest says goes to each of them, and what they say goes to the guest. It is a plain stream of
 * bytes. The guest waits for none of them: who does not read loses what does not fit into ATTACH_BEHIND
 * bytes, and is told how much that was.
 */
#ifndef HOSTEL_CLI_ATTACH_H
#define HOSTEL_CLI_ATTACH_H

#include <glib.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/flow.h"

enum { ATTACH_CLIENTS = 16, ATTACH_BEHIND = 256 * 1024, ATTACH_POLL = 1 + ATTACH_CLIENTS };

struct attach_client {
    int fd;         /* -1 = a free place */
    bool says_more; /* its input has not ended */
    GString *behind;
    size_t lost; /* bytes it was not told since it was told so */
};

struct attach {
    int listener; /* owned; -1 = nobody can attach */
    struct attach_client clients[ATTACH_CLIENTS];
};

/* Takes the socket, which does not block. */
void attach_init(struct attach *a, int listener);
void attach_fini(struct attach *a);

/* Fills in what is waited for; input_room: can the guest be given more? */
void attach_want(const struct attach *a, bool input_room, struct pollfd p[ATTACH_POLL]);

/* Serves what came of it; what is for the guest goes to input. */
void attach_serve(struct attach *a, const struct pollfd p[ATTACH_POLL], struct flow *input);

/* The guest said something. */
void attach_put(struct attach *a, const uint8_t *bytes, size_t size);

#endif
