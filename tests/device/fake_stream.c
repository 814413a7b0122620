/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A stream in memory for the chips' tests. */
#include "fake.h"

void stream_attach(struct stream *s, const struct stream_client *client, void *opaque)
{
    s->client = client;
    s->opaque = opaque;
}

void stream_detach(struct stream *s)
{
    if (s)
        stream_attach(s, NULL, NULL);
}

size_t stream_write(struct stream *s, const void *bytes, size_t size)
{
    size_t n = MIN(MIN(size, s->room), sizeof(s->out) - s->out_size);
    memcpy(s->out + s->out_size, bytes, n);
    s->out_size += n;
    s->room -= n;
    return n;
}

void stream_more(struct stream *s)
{
    s->more++;
}
