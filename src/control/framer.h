/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Cuts a stream of bytes into JSON objects, within bounds, without parsing them. */
/*
 * Theory of operation
 *
 * A message is a JSON object. It ends with the bracket that closes its first one; no newline is needed. To
 * find it, one only has to know how deep the brackets are nested and whether a byte stands in a string.
 *
 * What cannot become a message (another byte than '{' at its start, too long, too deep, a control character)
 * is reported once, and skipped up to the end of its line: so a client that sends one message per line, as
 * all do, is understood again with the next one.
 */
#ifndef HOSTEL_CONTROL_FRAMER_H
#define HOSTEL_CONTROL_FRAMER_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

enum { FRAMER_MESSAGE_MAX = 64 * 1024, FRAMER_DEPTH_MAX = 32 };

struct framer {
    GString *message; /* so far */
    unsigned depth;
    bool in_string, escaped, skipping;
};

enum framer_result {
    FRAMER_MORE,    /* all bytes are taken, no message is complete */
    FRAMER_MESSAGE, /* framer.message is one; it is valid until the next call */
    FRAMER_BAD,     /* what is being skipped from here on cannot be one; *reason says why */
};

void framer_init(struct framer *f);
void framer_fini(struct framer *f);

/* Has a message begun that is not complete? */
static inline bool framer_within(const struct framer *f)
{
    return f->depth > 0;
}

/* Takes bytes from *bytes, advancing it and *size, up to the end of a message or a mistake. */
enum framer_result framer_feed(struct framer *f, const char **bytes, size_t *size, const char **reason);

#endif
