/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The pieces of a compressed image that were last unpacked, and how images that are only read are opened. */
/*
 * Theory of operation
 *
 * A guest reads a few sectors at a time and a piece holds hundreds, so each piece is kept for a while. Its
 * key says which of a few slots is its place, so nothing has to be searched, and neighbours do not push each
 * other out. A slot's lock is held while its piece is unpacked and copied: whoever wants the same piece needs
 * it to be there anyway, and other pieces have other slots.
 */
#include "block/format/chunks.h"

#include <errno.h>
#include <sys/param.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/below.h"

enum { SLOTS_MAX = 8 };
#define MEMORY_MAX (64 * MiB)

struct slot {
    pthread_mutex_t lock;
    bool filled;
    uint64_t key;
    uint8_t *bytes; /* NULL until it is used */
};

struct block_chunks {
    size_t largest;
    block_chunks_load *load;
    void *opaque;
    unsigned count;
    struct slot slots[SLOTS_MAX];
};

bool block_chunks_take_file(struct disk *b, struct block_config *config, GError **error)
{
    const char *format = b->driver->name;
    if (!config->readonly)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: images of format %s are only read; open it read-only, or convert it to a "
                           "format that can be written: hostel image convert -f %s -O qcow2",
                           b->name, format, format);
    if (config->snapshot)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: images of format %s have no snapshots, so there is none called %s", b->name,
                           format, config->snapshot);
    b->below = STEAL(config->file);
    b->facts.alignment = 1;
    b->facts.preferred = MAX(b->below->facts.preferred, (uint32_t)BLOCK_SECTOR);
    return true;
}

int block_chunks_read_file(struct disk *file, struct block_cursor *c, uint64_t offset, uint64_t size,
                           unsigned flags)
{
    return offset < file->facts.size ? block_read_padded(file, c, offset, size, flags) : -EIO;
}

struct block_chunks *block_chunks_new(size_t largest, block_chunks_load *load, void *opaque)
{
    struct block_chunks *c = g_new0(struct block_chunks, 1);
    c->largest = largest;
    c->load = load;
    c->opaque = opaque;
    c->count = (unsigned)CLAMP(MEMORY_MAX / MAX(largest, 1), 1, SLOTS_MAX);
    for (unsigned i = 0; i < c->count; i++)
        pthread_mutex_init(&c->slots[i].lock, NULL);
    return c;
}

void block_chunks_free(struct block_chunks *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < c->count; i++) {
        pthread_mutex_destroy(&c->slots[i].lock);
        g_free(c->slots[i].bytes);
    }
    g_free(c);
}

static int fill_locked(struct block_chunks *c, struct slot *s, uint64_t key, size_t size)
{
    if (s->filled && s->key == key)
        return 0;
    if (!s->bytes)
        s->bytes = g_try_malloc(c->largest);
    if (!s->bytes)
        return -ENOMEM;
    s->filled = false;
    int status = c->load(c->opaque, key, s->bytes, size);
    s->filled = !status;
    s->key = key;
    return status;
}

int block_chunks_read(struct block_chunks *c, uint64_t key, size_t size, size_t from, size_t n,
                      struct block_cursor *out, unsigned flags)
{
    if (flags & BLOCK_NOWAIT)
        return -EAGAIN;
    g_assert(size <= c->largest && from <= size && n <= size - from);
    struct slot *s = &c->slots[key % c->count];
    pthread_mutex_lock(&s->lock);
    int status = fill_locked(c, s, key, size);
    if (!status)
        block_cursor_fill(out, s->bytes + from, n);
    pthread_mutex_unlock(&s->lock);
    return status;
}
