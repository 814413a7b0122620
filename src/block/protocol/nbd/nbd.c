/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Protocol nbd: an export of a server of network block devices, through libnbd; its connections: links.h. */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "block/cursor.h"
#include "block/module.h"
#include "block/protocol/nbd/links.h"
#include "block/scratch.h"

#define BOUNCE_MAX (2 * MiB) /* of buffers that are not one */
#define STATUS_MAX GiB       /* asked about at once */

struct nbd_disk {
    struct disk disk;
    struct nbd_links links;
    uint64_t most; /* bytes of one request */
};

static struct nbd_disk *nbd_disk(struct disk *b)
{
    return (struct nbd_disk *)(void *)b;
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
    const struct nbd_offer *o = &d->links.offer;
    struct nbd_handle *h = d->links.link[0]->nbd;
    struct block_facts *f = &d->disk.facts;
    if (o->size < 0)
        return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: the server tells no size that a disk can have",
                           d->disk.name);
    f->alignment = power(o->minimum, 1);
    f->preferred = MAX(power(nbd_get_block_size(h, LIBNBD_SIZE_PREFERRED), 4096), f->alignment);
    f->size = (uint64_t)o->size & ~(uint64_t)(f->alignment - 1);
    d->most = o->maximum >= (int64_t)(64 * KiB) ? MIN((uint64_t)o->maximum, 32 * MiB) : MiB;
    d->most &= ~(uint64_t)(f->alignment - 1);
    f->granularity = o->trim ? MAX(f->alignment, (uint32_t)BLOCK_SECTOR) : 0;
    d->links.writable = !f->readonly;
    if (!f->readonly && o->readonly)
        return hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: the server exports it for reading only; add readonly=on", d->disk.name);
    if (!f->readonly && !o->flush)
        return hostel_fail(
            error, HOSTEL_ERROR_UNSUPPORTED,
            "%s: the server knows no flush, so what is written might be lost; add readonly=on, or "
            "use another server",
            d->disk.name);
    return true;
}

static void nbd_disk_close(struct disk *b)
{
    nbd_links_fini(&nbd_disk(b)->links);
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
    if (!nbd_links_init(&d->links, b->name, config->uri, o, error))
        return false;
    if (find_facts(d, error))
        return true;
    nbd_disk_close(b);
    return false;
}

/* --- requests --- */

/* What a server is asked about its storage, and what it says. */
struct status {
    uint64_t offset, size; /* what was asked for */
    uint64_t found;
    uint32_t state;
};

static int note_extents(void *opaque, const char *context, uint64_t offset, uint32_t *entries, size_t n,
                        int *error);

struct request {
    enum { READ, WRITE, FLUSH, ZERO, TRIM, STATUS } what;
    uint8_t *bytes; /* READ, WRITE */
    uint64_t offset, size;
    uint32_t flags;
    struct status *status; /* STATUS */
};

static int64_t issue(const struct request *r, struct nbd_handle *h, nbd_completion_callback end)
{
    const nbd_extent_callback note = {.callback = note_extents, .user_data = r->status};
    switch (r->what) {
    case READ: return nbd_aio_pread(h, r->bytes, r->size, r->offset, end, 0);
    case WRITE: return nbd_aio_pwrite(h, r->bytes, r->size, r->offset, end, 0);
    case FLUSH: return nbd_aio_flush(h, end, 0);
    case ZERO: return nbd_aio_zero(h, r->size, r->offset, end, r->flags);
    case TRIM: return nbd_aio_trim(h, r->size, r->offset, end, r->flags);
    case STATUS: r->status->found = 0; return nbd_aio_block_status(h, r->size, r->offset, note, end, 0);
    }
    g_assert_not_reached();
}

/* On as many connections as it takes. */
static int perform(struct nbd_disk *d, const struct request *request)
{
    struct nbd_turn turn = {.kind = request->what == FLUSH                             ? NBD_FLUSHES
                                    : request->what == READ || request->what == STATUS ? NBD_READS
                                                                                       : NBD_CHANGES};
    int status;
    do {
        status = nbd_links_take(&d->links, &turn);
        if (status)
            return status;
        struct nbd_request r;
        const nbd_completion_callback end = nbd_link_begin(turn.link, &r);
        status = nbd_link_wait(&r, issue(request, turn.link->nbd, end));
    } while (nbd_links_settle(&d->links, &turn, status));
    return status;
}

/* --- data --- */

static int transfer(struct nbd_disk *d, bool write, uint8_t *bytes, uint64_t size, uint64_t offset)
{
    int status = 0;
    while (size && !status) {
        const size_t now = (size_t)MIN(size, d->most);
        status = perform(d, &(struct request){
                                .what = write ? WRITE : READ, .bytes = bytes, .offset = offset, .size = now});
        bytes += now;
        offset += now;
        size -= now;
    }
    return status;
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
    return perform(nbd_disk(b), &(struct request){.what = FLUSH});
}

/* Requests of this kind carry no bytes, and 32 bits of size. */
static int in_pieces(struct nbd_disk *d, bool zero, uint64_t offset, uint64_t size, uint32_t flags)
{
    int status = 0;
    while (size && !status) {
        const uint64_t now = MIN(size, STATUS_MAX);
        status = perform(
            d, &(struct request){.what = zero ? ZERO : TRIM, .offset = offset, .size = now, .flags = flags});
        offset += now;
        size -= now;
    }
    return status == -ENOTSUP ? -EOPNOTSUPP : status;
}

static int nbd_disk_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    return in_pieces(nbd_disk(b), false, offset, size, 0);
}

static int nbd_disk_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct nbd_disk *d = nbd_disk(b);
    const bool fast = flags & BLOCK_ONLY_FAST;
    if (!d->links.offer.zero || (fast && !d->links.offer.fast_zero))
        return -EOPNOTSUPP;
    return in_pieces(d, true, offset, size,
                     (flags & BLOCK_MAY_UNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE) |
                         (fast ? LIBNBD_CMD_FLAG_FAST_ZERO : 0));
}

/* --- extents --- */

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
    if (!d->links.offer.extents)
        return -EOPNOTSUPP;
    const uint64_t unit = b->facts.alignment, from = offset & ~(unit - 1);
    struct status s = {.offset = from, .size = MIN(align_up(offset + size, unit), b->facts.size) - from};
    s.size = MIN(s.size, STATUS_MAX);
    int status =
        perform(d, &(struct request){.what = STATUS, .offset = s.offset, .size = s.size, .status = &s});
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
