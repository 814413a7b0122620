/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Holds back events that a guest can cause as often as it likes. */
/*
 * As QEMU does: the first is sent at once; of those within a second after one that was sent, only the last
 * is, at the end of that second. Events about different devices are told apart.
 */
#ifndef HOSTEL_CONTROL_LIMITER_H
#define HOSTEL_CONTROL_LIMITER_H

#include <glib.h>
#include <jansson.h>

#include "base/cleanup.h"

enum { LIMITER_PERIOD_MS = 1000, LIMITER_KEYS_MAX = 256 };

struct limiter;

/* send(opaque, text): an event is due. Main thread, as all below. */
struct limiter *limiter_new(GMainContext *context, void (*send)(void *opaque, const char *text), void *opaque,
                            unsigned period_ms);
void limiter_free(struct limiter *l); /* NULL is fine; what is held back is dropped */
CLEANUP_DEFINE(limiter, limiter_free)

/* Sends what is held back now. */
void limiter_flush(struct limiter *l);

/* The event name with data (NULL = none) has happened; text is all of it as JSON. Sent now, later, or, when
 * the same happens again, never. */
void limiter_event(struct limiter *l, const char *name, json_t *data, const char *text);

#endif
