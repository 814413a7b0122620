/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A conversation with a running guest's process: commands and answers of QMP, one after the other. */
#ifndef HOSTEL_CLI_GUEST_CALL_H
#define HOSTEL_CLI_GUEST_CALL_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

enum { GUEST_CALL_MS = 5000 /* a VMM that is well answers in a millisecond */, GUEST_CALL_FDS = 16 };

struct guest_call;

/* Connects to the `control` socket of a guest and negotiates. Every wait for an answer is at most timeout_ms
 * long. NULL with *error, which says what is to be done; also when the guest does not run. */
struct guest_call *guest_call_open(const char *name, int timeout_ms, GError **error);
void guest_call_close(struct guest_call *c); /* NULL is fine */
CLEANUP_DEFINE(guest_call, guest_call_close)

/* Another limit for the waits from here on, for commands that take their time; -1 = none. */
void guest_call_set_timeout(struct guest_call *c, int timeout_ms);

/* Calls tick every so often while an answer is waited for, and when a signal came; NULL = not. */
void guest_call_set_tick(struct guest_call *c, int tick_ms, void (*tick)(void *opaque), void *opaque);

/* Sends a command and returns its value, owned by the caller; NULL with *error when it was refused
 * (HOSTEL_ERROR_INPUT, with the VMM's words) or not answered (HOSTEL_ERROR_HOST). arguments are taken; NULL =
 * none. Events that come meanwhile are kept for guest_call_event(). */
json_t *guest_call(struct guest_call *c, const char *command, json_t *arguments, GError **error);

/* The same with descriptors: those in send, borrowed, go along; those that came with the answer are put into
 * *received (room for GUEST_CALL_FDS), owned by the caller. Either may be NULL. */
json_t *guest_call_fds(struct guest_call *c, const char *command, json_t *arguments, const int *send,
                       size_t n_send, int *received, size_t *n_received, GError **error);

/* Sends a command, whatever its value. */
bool guest_call_do(struct guest_call *c, const char *command, json_t *arguments, GError **error);

/* Gives the guest's process a descriptor, borrowed, which commands then call fdname (QMP's getfd). */
bool guest_call_give(struct guest_call *c, const char *fdname, int fd, GError **error);

/* Waits for an event of one of these names (ends with NULL); earlier ones count. The whole message, owned by
 * the caller; NULL with *error. */
json_t *guest_call_event(struct guest_call *c, const char *const *names, GError **error);

#endif
