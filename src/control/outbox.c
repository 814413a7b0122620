/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Bytes that wait for a socket. */
#include "control/outbox.h"

#include <errno.h>

/* Descriptors go with the byte at `at`, counted from the first one that waits. */
struct outbox_mark {
    size_t at;
    struct pass_fds fds;
};

void outbox_init(struct outbox *o)
{
    *o = (struct outbox){.bytes = g_string_new(NULL), .marks = G_QUEUE_INIT};
}

static void free_mark(void *data)
{
    struct outbox_mark *m = data;
    pass_close(&m->fds);
    g_free(m);
}

void outbox_fini(struct outbox *o)
{
    g_string_free(o->bytes, TRUE);
    g_queue_clear_full(&o->marks, free_mark);
}

void outbox_add(struct outbox *o, const char *text, struct pass_fds *fds)
{
    if (fds && fds->count) {
        struct outbox_mark *m = g_new(struct outbox_mark, 1);
        *m = (struct outbox_mark){.at = o->bytes->len, .fds = *fds};
        *fds = (struct pass_fds){0};
        g_queue_push_tail(&o->marks, m);
    }
    g_string_append(o->bytes, text);
    g_string_append(o->bytes, "\r\n");
}

static void sent(struct outbox *o, size_t n, const struct outbox_mark *first)
{
    if (first && !first->at)
        free_mark(g_queue_pop_head(&o->marks));
    g_string_erase(o->bytes, 0, (gssize)n);
    for (GList *l = o->marks.head; l; l = l->next)
        ((struct outbox_mark *)l->data)->at -= n;
}

int outbox_flush(struct outbox *o, int socket)
{
    while (o->bytes->len) {
        const struct outbox_mark *first = g_queue_peek_head(&o->marks);
        const struct outbox_mark *second = g_queue_peek_nth(&o->marks, 1);
        bool with = first && !first->at; /* a call carries one mark's descriptors, and ends before the next */
        const struct outbox_mark *next = with ? second : first;
        ssize_t n =
            pass_send(socket, o->bytes->str, next ? next->at : o->bytes->len, with ? &first->fds : NULL);
        if (n > 0)
            sent(o, (size_t)n, first);
        else if (n == -EAGAIN)
            return 0;
        else if (n != -EINTR)
            return n < 0 ? (int)n : -EIO;
    }
    return 0;
}
