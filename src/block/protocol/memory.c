/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Driver memory: a disk that is forgotten when it is closed, for tests and scratch space. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "block/block.h"

struct memory {
    struct disk disk;
    uint8_t *bytes;
};

static bool memory_open(struct disk *b, struct block_config *config, GError **error)
{
    struct memory *m = (struct memory *)(void *)b;
    if (!config->size || config->size % BLOCK_SECTOR)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: the size must be a multiple of %d bytes", b->name,
                           BLOCK_SECTOR);
    m->bytes = g_try_malloc0(config->size);
    if (!m->bytes)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory for it", b->name);
    b->facts.size = config->size;
    b->facts.alignment = 1;
    b->facts.preferred = 4096;
    b->facts.granularity = 1;
    return true;
}

static void memory_close(struct disk *b)
{
    g_free(((struct memory *)(void *)b)->bytes);
}

static uint8_t *at(struct disk *b, uint64_t offset)
{
    return ((struct memory *)(void *)b)->bytes + offset;
}

static int memory_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    (void)flags; /* never waits */
    for (; n; offset += iov->iov_len, iov++, n--)
        memcpy(iov->iov_base, at(b, offset), iov->iov_len);
    return 0;
}

static int memory_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    for (; n; offset += iov->iov_len, iov++, n--)
        memcpy(at(b, offset), iov->iov_base, iov->iov_len);
    return 0;
}

static int memory_flush(struct disk *b)
{
    (void)b;
    return 0;
}

static int memory_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    memset(at(b, offset), 0, size);
    return 0;
}

static int memory_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    (void)flags;
    return memory_discard(b, offset, size);
}

const struct block_driver block_driver_memory = {
    .name = "memory",
    .help = "forgotten when the guest ends",
    .kind = BLOCK_PROTOCOL,
    .size = sizeof(struct memory),
    .open = memory_open,
    .close = memory_close,
    .read = memory_read,
    .write = memory_write,
    .flush = memory_flush,
    .discard = memory_discard,
    .zero = memory_zero,
};
