/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A filter that fails on purpose. */
#include "block/filter/fault.h"

#include <errno.h>

struct fault {
    struct disk disk;
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool closed;
    struct {
        unsigned done, first, count;
        int error;
        uint64_t partial;
    } kind[BLOCK_FAULT_KINDS];
};

static struct fault *fault(struct disk *b)
{
    return (struct fault *)(void *)b;
}

/* Counts an operation: 0, or the error it shall have, and how many bytes it stores before. */
static int pass(struct disk *b, enum block_fault_kind kind, uint64_t *partial)
{
    struct fault *f = fault(b);
    pthread_mutex_lock(&f->lock);
    unsigned number = f->kind[kind].done++;
    int error = number - f->kind[kind].first < f->kind[kind].count ? f->kind[kind].error : 0;
    *partial = f->kind[kind].partial;
    while (f->closed)
        pthread_cond_wait(&f->opened, &f->lock);
    pthread_mutex_unlock(&f->lock);
    return error;
}

static bool closed(struct disk *b)
{
    struct fault *f = fault(b);
    pthread_mutex_lock(&f->lock);
    bool is = f->closed;
    pthread_mutex_unlock(&f->lock);
    return is;
}

static int fault_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    uint64_t partial;
    if (flags & BLOCK_NOWAIT && closed(b))
        return -EAGAIN;
    int error = pass(b, BLOCK_FAULT_READ, &partial);
    return error ? error : block_read(b->below, iov, n, offset, flags);
}

static int fault_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    uint64_t partial;
    int error = pass(b, BLOCK_FAULT_WRITE, &partial);
    if (!error)
        return block_write(b->below, iov, n, offset);
    for (; n && partial; iov++, n--) {
        const struct iovec part = {iov->iov_base, MIN(iov->iov_len, partial)};
        block_write(b->below, &part, 1, offset);
        offset += part.iov_len;
        partial -= part.iov_len;
    }
    return error;
}

static int fault_flush(struct disk *b)
{
    uint64_t partial;
    int error = pass(b, BLOCK_FAULT_FLUSH, &partial);
    return error ? error : block_flush(b->below);
}

static int fault_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    uint64_t partial;
    int error = pass(b, BLOCK_FAULT_DISCARD, &partial);
    return error ? error : block_discard(b->below, offset, size);
}

static int fault_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    uint64_t partial;
    int error = pass(b, BLOCK_FAULT_ZERO, &partial);
    return error ? error : block_zero(b->below, offset, size, flags);
}

static int fault_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    return block_extent(b->below, offset, size, extent);
}

static int fault_resize(struct disk *b, uint64_t size)
{
    uint64_t partial;
    int error = pass(b, BLOCK_FAULT_RESIZE, &partial);
    return error ? error : block_resize(b->below, size);
}

static void fault_close(struct disk *b)
{
    pthread_cond_destroy(&fault(b)->opened);
    pthread_mutex_destroy(&fault(b)->lock);
}

static const struct block_driver fault_filter = {
    .name = "fault",
    .help = "fails on purpose",
    .kind = BLOCK_FILTER,
    .size = sizeof(struct fault),
    .close = fault_close,
    .read = fault_read,
    .write = fault_write,
    .flush = fault_flush,
    .discard = fault_discard,
    .zero = fault_zero,
    .extent = fault_extent,
    .resize = fault_resize,
};

struct disk *block_fault_new(struct disk *below)
{
    struct disk *b = block_filter_new(&fault_filter, below);
    pthread_mutex_init(&fault(b)->lock, NULL);
    pthread_cond_init(&fault(b)->opened, NULL);
    return b;
}

void block_fault_set(struct disk *filter, enum block_fault_kind kind, unsigned first, unsigned count,
                     int error, uint64_t partial)
{
    struct fault *f = fault(filter);
    pthread_mutex_lock(&f->lock);
    f->kind[kind].first = f->kind[kind].done + first;
    f->kind[kind].count = count;
    f->kind[kind].error = error;
    f->kind[kind].partial = partial;
    pthread_mutex_unlock(&f->lock);
}

unsigned block_fault_count(struct disk *filter, enum block_fault_kind kind)
{
    struct fault *f = fault(filter);
    pthread_mutex_lock(&f->lock);
    unsigned done = f->kind[kind].done;
    pthread_mutex_unlock(&f->lock);
    return done;
}

void block_fault_gate(struct disk *filter, bool is_closed)
{
    struct fault *f = fault(filter);
    pthread_mutex_lock(&f->lock);
    f->closed = is_closed;
    pthread_cond_broadcast(&f->opened);
    pthread_mutex_unlock(&f->lock);
}
