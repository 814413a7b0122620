/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Protocol curl: a file on a server of the web (HTTP, HTTPS, FTP), read only. */
#include <errno.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/cursor.h"
#include "block/module.h"
#include "block/protocol/curl/cache.h"
#include "block/scratch.h"

#define READAHEAD_MAX (4 * MiB)

struct curl_disk {
    struct disk disk;
    struct fetch fetch;
    struct cache cache; /* piece 0 = none */
};

static struct curl_disk *curl_disk(struct disk *b)
{
    return (struct curl_disk *)(void *)b;
}

static bool curl_disk_open(struct disk *b, struct block_config *config, GError **error)
{
    struct curl_disk *d = curl_disk(b);
    struct curl_options defaults = {0};
    const struct curl_options *o = config->options;
    if (!config->uri)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: give a URI, https://HOST/PATH", b->name);
    if (!config->readonly)
        return hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                           "%s: can only be read; open it read-only (readonly=on; -r)", b->name);
    if (!o) {
        option_init(curl_option_rows, &defaults);
        o = &defaults;
    }
    if (!fetch_init(&d->fetch, b->name, config->uri, o, error))
        return false;
    if (o->readahead && !cache_init(&d->cache, MIN(align_up(o->readahead, 4096), READAHEAD_MAX))) {
        fetch_fini(&d->fetch);
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: the host has not enough memory", b->name);
    }
    b->facts.size = d->fetch.size;
    b->facts.alignment = 1;
    b->facts.preferred = 64 * KiB;
    return true;
}

static void curl_disk_close(struct disk *b)
{
    cache_fini(&curl_disk(b)->cache);
    fetch_fini(&curl_disk(b)->fetch);
}

/* Little, for which the cache is asked. */
static int read_cached(struct curl_disk *d, const struct iovec *iov, uint64_t offset, uint64_t size)
{
    struct block_cursor cursor = {.iov = iov};
    const uint64_t piece = d->cache.piece;
    uint8_t *bytes = block_scratch_take((size_t)MIN(size, piece));
    int status = bytes ? 0 : -ENOMEM;
    while (size && !status) {
        const uint64_t now = MIN(size, piece - offset % piece);
        status = cache_read(&d->cache, &d->fetch, bytes, offset, now);
        if (!status)
            block_cursor_fill(&cursor, bytes, (size_t)now);
        offset += now;
        size -= now;
    }
    block_scratch_give(bytes);
    return status;
}

static int curl_disk_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset,
                          unsigned flags)
{
    struct curl_disk *d = curl_disk(b);
    const uint64_t size = block_iov_size(iov, n);
    if (flags & BLOCK_NOWAIT)
        return -EAGAIN;
    return size < d->cache.piece ? read_cached(d, iov, offset, size)
                                 : fetch_range(&d->fetch, iov, offset, size);
}

static int curl_disk_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    (void)b;
    (void)iov;
    (void)n;
    (void)offset;
    return -EROFS;
}

static int curl_disk_flush(struct disk *b)
{
    (void)b;
    return 0;
}

static const struct block_driver curl_driver = {
    .name = "curl",
    .help = "a file on a server of the web, read only",
    .kind = BLOCK_PROTOCOL,
    .size = sizeof(struct curl_disk),
    .options = curl_option_rows,
    .options_size = sizeof(struct curl_options),
    .open = curl_disk_open,
    .close = curl_disk_close,
    .read = curl_disk_read,
    .write = curl_disk_write,
    .flush = curl_disk_flush,
};

BLOCK_MODULE_DEFINE(curl_driver);
