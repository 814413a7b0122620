/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Bytes that wait for a socket, some of them with descriptors. */
#ifndef HOSTEL_CONTROL_OUTBOX_H
#define HOSTEL_CONTROL_OUTBOX_H

#include <glib.h>

#include "os/pass.h"

struct outbox {
    GString *bytes;
    GQueue marks; /* where descriptors go: of struct outbox_mark, first ones first */
};

void outbox_init(struct outbox *o);
void outbox_fini(struct outbox *o);

/* Appends text and the end of its line; fds (taken; NULL = none) go with its first byte. */
void outbox_add(struct outbox *o, const char *text, struct pass_fds *fds);

/* Sends what the socket takes at once. 0, also when something is left, or -errno. */
int outbox_flush(struct outbox *o, int socket);

static inline size_t outbox_size(const struct outbox *o)
{
    return o->bytes->len;
}

#endif
