/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Cuts a stream of bytes into JSON objects. */
#include "control/framer.h"

void framer_init(struct framer *f)
{
    *f = (struct framer){.message = g_string_new(NULL)};
}

void framer_fini(struct framer *f)
{
    g_string_free(f->message, TRUE);
    f->message = NULL;
}

static void begin(struct framer *f)
{
    g_string_truncate(f->message, 0);
    f->depth = 0;
    f->in_string = f->escaped = false;
}

static enum framer_result bad(struct framer *f, char c, const char *why, const char **reason)
{
    begin(f);
    f->skipping = c != '\n';
    *reason = why;
    return FRAMER_BAD;
}

/* A byte inside a string. */
static void string_byte(struct framer *f, char c)
{
    if (f->escaped)
        f->escaped = false;
    else if (c == '\\')
        f->escaped = true;
    else if (c == '"')
        f->in_string = false;
}

/* A byte of a message that is neither between messages nor skipped. */
static enum framer_result message_byte(struct framer *f, char c, const char **reason)
{
    if (f->message->len == FRAMER_MESSAGE_MAX)
        return bad(f, c, "message longer than 65536 bytes", reason);
    if ((unsigned char)c < ' ' && (f->in_string || !g_ascii_isspace(c)))
        return bad(f, c, "control character in a message", reason);
    g_string_append_c(f->message, c);
    if (f->in_string) {
        string_byte(f, c);
    } else if (c == '"') {
        f->in_string = true;
    } else if (c == '{' || c == '[') {
        if (++f->depth > FRAMER_DEPTH_MAX)
            return bad(f, c, "message nested deeper than 32", reason);
    } else if ((c == '}' || c == ']') && --f->depth == 0) {
        return FRAMER_MESSAGE;
    }
    return FRAMER_MORE;
}

enum framer_result framer_feed(struct framer *f, const char **bytes, size_t *size, const char **reason)
{
    if (!f->depth)
        begin(f); /* the message before has been seen */
    while (*size) {
        char c = *(*bytes)++;
        --*size;
        if (f->skipping) {
            f->skipping = c != '\n';
            continue;
        }
        if (!f->depth && g_ascii_isspace(c))
            continue;
        if (!f->depth && c != '{')
            return bad(f, c, "expected a JSON object", reason);
        enum framer_result result = message_byte(f, c, reason);
        if (result != FRAMER_MORE)
            return result;
    }
    return FRAMER_MORE;
}
