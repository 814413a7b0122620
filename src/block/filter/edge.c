/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A reference from one image to another that can be turned to a third. */
#include "block/filter/edge.h"

#include <errno.h>

struct edge {
    struct disk disk;
    struct disk *to;
    void (*gone)(void *opaque);
    void *opaque;
};

static struct edge *edge_of(struct disk *b)
{
    return (struct edge *)(void *)b;
}

static int edge_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    return block_read(edge_of(b)->to, iov, n, offset, flags);
}

static int edge_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return edge_of(b)->to ? block_write(edge_of(b)->to, iov, n, offset) : -EROFS;
}

static int edge_flush(struct disk *b)
{
    return edge_of(b)->to ? block_flush(edge_of(b)->to) : 0;
}

static int edge_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return block_discard(edge_of(b)->to, offset, size);
}

static int edge_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    return block_zero(edge_of(b)->to, offset, size, flags);
}

static int edge_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return block_extent(edge_of(b)->to, offset, size, extent);
}

static int edge_resize(struct disk *b, uint64_t size)
{
    return edge_of(b)->to ? block_resize(edge_of(b)->to, size) : -EOPNOTSUPP;
}

static void edge_close(struct disk *b)
{
    struct edge *e = edge_of(b);
    if (e->gone)
        e->gone(e->opaque);
}

static const struct block_driver edge_driver = {
    .name = "edge",
    .help = "a reference to another disk",
    .kind = BLOCK_FILTER,
    .size = sizeof(struct edge),
    .close = edge_close,
    .read = edge_read,
    .write = edge_write,
    .flush = edge_flush,
    .discard = edge_discard,
    .zero = edge_zero,
    .extent = edge_extent,
    .resize = edge_resize,
};

struct disk *block_edge_new(const char *name, struct disk *to, void (*gone)(void *opaque), void *opaque)
{
    struct disk nothing = {.name = (char *)(uintptr_t)name};
    struct disk *b = block_filter_new(&edge_driver, to ? to : &nothing);
    b->below = NULL; /* is not freed with us */
    edge_of(b)->gone = gone;
    edge_of(b)->opaque = opaque;
    block_edge_turn(b, to);
    return b;
}

void block_edge_turn(struct disk *edge, struct disk *to)
{
    edge_of(edge)->to = to;
    edge->facts.size = to ? to->facts.size : 0;
    edge->facts.alignment = to ? to->facts.alignment : 1;
    edge->facts.preferred = to ? to->facts.preferred : BLOCK_SECTOR;
    edge->facts.granularity = to ? to->facts.granularity : 0;
    edge->facts.cluster = to ? to->facts.cluster : 0;
    edge->facts.readonly = !to || to->facts.readonly;
    edge->facts.growable = to && to->facts.growable;
}

void block_edge_refresh(struct disk *edge)
{
    struct disk *to = edge_of(edge)->to;
    edge->facts.size = to ? to->facts.size : 0;
}

struct disk *block_edge_target(struct disk *edge)
{
    return edge_of(edge)->to;
}
