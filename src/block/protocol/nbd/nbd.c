/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Protocol nbd: an export of a server of network block devices, through libnbd. */
/*
 * When the server allows several connections (a flush on one is then a flush of all), requests go to the one
 * that is least busy; on each of them any number is under way. A connection that is lost stays so: what was
 * written and not flushed may be lost with it, and nobody else could tell the guest.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/cursor.h"
#include "block/module.h"
#include "block/protocol/nbd/link.h"
#include "block/scratch.h"

enum { LINKS_MAX = 16 };
#define BOUNCE_MAX (2 * MiB) /* of buffers that are not one */
#define STATUS_MAX GiB       /* asked about at once */

struct nbd_disk {
    struct disk disk;
    struct nbd_link *links[LINKS_MAX];
    unsigned n_links;
    uint64_t most; /* bytes of one request */
    bool can_zero, can_extents, can_flush;
};

static struct nbd_disk *nbd_disk(struct disk *b)
{
    return (struct nbd_disk *)(void *)b;
}

static struct nbd_link *least_busy(struct nbd_disk *d)
{
    struct nbd_link *best = d->links[0];
    for (unsigned i = 1; i < d->n_links; i++)
        if (atomic_load_explicit(&d->links[i]->waiting, memory_order_relaxed) <
            atomic_load_explicit(&best->waiting, memory_order_relaxed))
            best = d->links[i];
    return best;
}

/* --- opening --- */

/* A power of two between 1 and 64 KiB, whatever the server says. */
static uint32_t power(int64_t size, uint32_t otherwise)
{
    const bool good = size > 0 && size <= 64 * (int64_t)KiB && !(size & (size - 1));
    return good ? (uint32_t)size : otherwise;
}

static bool find_facts(struct nbd_disk *d, GError **error)
{
    struct nbd_handle *h = d->links[0]->nbd;
    struct block_facts *f = &d->disk.facts;
    const int64_t size = nbd_get_size(h), most = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM);
    if (size < 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the server tells no size that a disk can have",
                           d->disk.name);
    f->alignment = power(nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM), 1);
    f->preferred = MAX(power(nbd_get_block_size(h, LIBNBD_SIZE_PREFERRED), 4096), f->alignment);
    f->size = (uint64_t)size & ~(uint64_t)(f->alignment - 1);
    d->most = most >= (int64_t)(64 * KiB) ? MIN((uint64_t)most, 32 * MiB) : MiB;
    d->most &= ~(uint64_t)(f->alignment - 1);
    f->granularity = nbd_can_trim(h) == 1 ? MAX(f->alignment, (uint32_t)BLOCK_SECTOR) : 0;
    d->can_zero = nbd_can_zero(h) == 1;
    d->can_flush = nbd_can_flush(h) == 1;
    d->can_extents = nbd_can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
    if (!f->readonly && nbd_is_read_only(h) != 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the server exports it for reading only; add readonly=on", d->disk.name);
    if (!f->readonly && !d->can_flush)
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: the server knows no flush, so what is written might be lost; add readonly=on, or "
            "use another server",
            d->disk.name);
    return true;
}

static void nbd_disk_close(struct disk *b)
{
    struct nbd_disk *d = nbd_disk(b);
    while (d->n_links)
        nbd_link_free(d->links[--d->n_links]);
}

/* The others; a server that does not want more of them has us go on with what there is. */
static void connect_more(struct nbd_disk *d, const char *uri, const struct nbd_options *o)
{
    const unsigned want = MIN(o->connections, (unsigned)LINKS_MAX);
    if (nbd_can_multi_conn(d->links[0]->nbd) != 1)
        return;
    for (; d->n_links < want; d->n_links++) {
        struct nbd_link *l = nbd_link_new(d->disk.name, uri, o, NULL);
        if (!l)
            return;
        d->links[d->n_links] = l;
        if (nbd_get_size(l->nbd) == nbd_get_size(d->links[0]->nbd))
            continue;
        nbd_link_free(l);
        return;
    }
}

static bool nbd_disk_open(struct disk *b, struct block_config *config, GError **error)
{
    struct nbd_disk *d = nbd_disk(b);
    struct nbd_options defaults = {0};
    const struct nbd_options *o = config->options;
    if (!config->uri)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: give a URI, nbd://HOST/EXPORT or "
                           "nbd+unix:///EXPORT?socket=PATH",
                           b->name);
    if (!o) {
        option_init(nbd_option_rows, &defaults);
        o = &defaults;
    }
    d->links[0] = nbd_link_new(b->name, config->uri, o, error);
    d->n_links = d->links[0] != NULL;
    if (!d->n_links)
        return false;
    if (!find_facts(d, error)) {
        nbd_disk_close(b);
        return false;
    }
    connect_more(d, config->uri, o);
    return true;
}

/* --- data --- */

static int transfer(struct nbd_disk *d, bool write, uint8_t *bytes, uint64_t size, uint64_t offset)
{
    while (size) {
        const size_t now = (size_t)MIN(size, d->most);
        struct nbd_link *l = least_busy(d);
        struct nbd_request r;
        const nbd_completion_callback end = nbd_link_begin(l, &r);
        int status = nbd_link_wait(&r, write ? nbd_aio_pwrite(l->nbd, bytes, now, offset, end, 0)
                                             : nbd_aio_pread(l->nbd, bytes, now, offset, end, 0));
        if (status)
            return status;
        bytes += now;
        offset += now;
        size -= now;
    }
    return 0;
}

/* Of several buffers: through one, since a request has one and buffers need no alignment. */
static int bounce(struct nbd_disk *d, bool write, const struct iovec *iov, unsigned n, uint64_t offset)
{
    uint64_t left = block_iov_size(iov, n);
    struct block_cursor cursor = {.iov = iov};
    uint8_t *bytes = block_scratch_take((size_t)MIN(left, BOUNCE_MAX));
    int status = bytes ? 0 : -ENOMEM;
    while (left && !status) {
        const size_t now = (size_t)MIN(left, BOUNCE_MAX);
        if (write)
            block_cursor_take(&cursor, bytes, now);
        status = transfer(d, write, bytes, now, offset);
        if (!write && !status)
            block_cursor_fill(&cursor, bytes, now);
        offset += now;
        left -= now;
    }
    block_scratch_give(bytes);
    return status;
}

static int nbd_disk_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    if (flags & BLOCK_NOWAIT)
        return -EAGAIN;
    return n == 1 ? transfer(nbd_disk(b), false, iov->iov_base, iov->iov_len, offset)
                  : bounce(nbd_disk(b), false, iov, n, offset);
}

static int nbd_disk_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    return n == 1 ? transfer(nbd_disk(b), true, iov->iov_base, iov->iov_len, offset)
                  : bounce(nbd_disk(b), true, iov, n, offset);
}

static int nbd_disk_flush(struct disk *b)
{
    struct nbd_link *l = nbd_disk(b)->links[0];
    struct nbd_request r;
    const nbd_completion_callback end = nbd_link_begin(l, &r);
    return nbd_link_wait(&r, nbd_aio_flush(l->nbd, end, 0));
}

/* Requests of this kind carry no bytes, and 32 bits of size. */
static int in_pieces(struct nbd_disk *d, bool zero, uint64_t offset, uint64_t size, uint32_t flags)
{
    while (size) {
        const uint64_t now = MIN(size, STATUS_MAX);
        struct nbd_link *l = least_busy(d);
        struct nbd_request r;
        const nbd_completion_callback end = nbd_link_begin(l, &r);
        int status = nbd_link_wait(&r, zero ? nbd_aio_zero(l->nbd, now, offset, end, flags)
                                            : nbd_aio_trim(l->nbd, now, offset, end, flags));
        if (status)
            return status == -ENOTSUP ? -EOPNOTSUPP : status;
        offset += now;
        size -= now;
    }
    return 0;
}

static int nbd_disk_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return in_pieces(nbd_disk(b), false, offset, size, 0);
}

static int nbd_disk_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct nbd_disk *d = nbd_disk(b);
    if (!d->can_zero)
        return -EOPNOTSUPP;
    return in_pieces(d, true, offset, size, flags & BLOCK_MAY_UNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE);
}

/* --- extents --- */

struct status {
    uint64_t offset, size; /* what was asked for */
    uint64_t found;
    uint32_t state;
};

/* The first pieces that are alike. */
static int note_extents(void *opaque, const char *context, uint64_t offset, uint32_t *entries, size_t n,
                        int *error)
{
    struct status *s = opaque;
    (void)error;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) || offset != s->offset || s->found)
        return 0;
    for (size_t i = 0; i + 1 < n && s->found < s->size; i += 2) {
        const uint32_t state = entries[i + 1] & (LIBNBD_STATE_HOLE | LIBNBD_STATE_ZERO);
        if (s->found && state != s->state)
            break;
        s->state = state;
        s->found += entries[i];
    }
    s->found = MIN(s->found, s->size);
    return 0;
}

static int nbd_disk_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct nbd_disk *d = nbd_disk(b);
    if (!d->can_extents)
        return -EOPNOTSUPP;
    const uint64_t unit = b->facts.alignment, from = offset & ~(unit - 1);
    struct status s = {.offset = from, .size = MIN(align_up(offset + size, unit), b->facts.size) - from};
    s.size = MIN(s.size, STATUS_MAX);
    struct nbd_link *l = least_busy(d);
    struct nbd_request r;
    const nbd_completion_callback end = nbd_link_begin(l, &r);
    const nbd_extent_callback note = {.callback = note_extents, .user_data = &s};
    int status = nbd_link_wait(&r, nbd_aio_block_status(l->nbd, s.size, s.offset, note, end, 0));
    if (status)
        return status;
    if (s.found <= offset - from)
        return -EOPNOTSUPP; /* nothing usable: it may be data */
    extent->size = MIN(s.found - (offset - from), size);
    extent->hole = s.state & LIBNBD_STATE_HOLE;
    extent->zero = s.state & LIBNBD_STATE_ZERO;
    return 0;
}

static const struct block_driver nbd_driver = {
    .name = "nbd",
    .help = "on a server of network block devices",
    .kind = BLOCK_PROTOCOL,
    .size = sizeof(struct nbd_disk),
    .options = nbd_option_rows,
    .options_size = sizeof(struct nbd_options),
    .open = nbd_disk_open,
    .close = nbd_disk_close,
    .read = nbd_disk_read,
    .write = nbd_disk_write,
    .flush = nbd_disk_flush,
    .discard = nbd_disk_discard,
    .zero = nbd_disk_zero,
    .extent = nbd_disk_extent,
};

BLOCK_MODULE_DEFINE(nbd_driver);
