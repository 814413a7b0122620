/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The requests of one client of the NBD server, and its life; see session.h. */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "block/scratch.h"
#include "block/serve/proto.h"
#include "block/serve/session.h"
#include "block/serve/tls.h"

enum { STATUS_MAX = 2048 /* pieces in one reply */ };
#define BUDGET (64 * MiB) /* of one client */
#define PIECE MiB         /* of a structured reply */
#define LOOK (64 * KiB)   /* from what size on holes are looked for */

/* --- the budget --- */

static void budget_take(struct nbd_session *s, uint64_t bytes)
{
    pthread_mutex_lock(&s->budget_lock);
    while (s->budget < bytes)
        pthread_cond_wait(&s->budget_freed, &s->budget_lock);
    s->budget -= bytes;
    pthread_mutex_unlock(&s->budget_lock);
}

static void budget_give(struct nbd_session *s, uint64_t bytes)
{
    pthread_mutex_lock(&s->budget_lock);
    s->budget += bytes;
    pthread_cond_broadcast(&s->budget_freed);
    pthread_mutex_unlock(&s->budget_lock);
}

/* --- what was asked for --- */

/* The flags that a command may have; -1: no such command. */
static int allowed_flags(const struct nbd_session *s, uint16_t type)
{
    switch (type) {
    case NBD_READ: return s->structured ? NBD_FLAG_FUA | NBD_FLAG_DF : NBD_FLAG_FUA;
    case NBD_WRITE:
    case NBD_FLUSH:
    case NBD_TRIM:
    case NBD_CACHE: return NBD_FLAG_FUA;
    case NBD_WRITE_ZEROES: return NBD_FLAG_FUA | NBD_FLAG_NO_HOLE | NBD_FLAG_FAST_ZERO;
    case NBD_BLOCK_STATUS: return NBD_FLAG_FUA | NBD_FLAG_REQ_ONE;
    default: return -1;
    }
}

static bool is_change(uint16_t type)
{
    return type == NBD_WRITE || type == NBD_TRIM || type == NBD_WRITE_ZEROES;
}

static int check(const struct nbd_session *s, const struct nbd_request *r)
{
    const struct nbd_export *e = s->export;
    const int allowed = allowed_flags(s, r->type);
    if (allowed < 0 || r->flags & ~allowed)
        return -EINVAL;
    if (is_change(r->type) && e->readonly)
        return -EPERM;
    if (r->type == NBD_FLUSH)
        return 0;
    if (!range_inside(r->offset, r->length, 0, e->size))
        return is_change(r->type) && r->type != NBD_TRIM ? -ENOSPC : -EINVAL;
    if ((r->offset | r->length) & (e->disk->facts.alignment - 1))
        return -EINVAL;
    return r->type == NBD_READ && r->length > NBD_PAYLOAD_MAX ? -EINVAL : 0;
}

/* --- reading --- */

static void read_simple(struct nbd_session *s, const struct nbd_request *r)
{
    budget_take(s, r->length);
    g_autofree uint8_t *bytes = g_try_malloc(r->length ? r->length : 1);
    const int status =
        bytes ? block_pread(s->export->disk, bytes, r->length, s->export->offset + r->offset) : -ENOMEM;
    if (status)
        nbd_reply_done(s, r, status);
    else
        nbd_reply_bytes(s, r, bytes);
    budget_give(s, r->length);
}

/* How many of the bytes from offset on, which are size, are kept alike; and whether they are zeroes without
 * storage. */
static uint64_t look(struct nbd_session *s, uint64_t offset, uint64_t size, bool *zero)
{
    struct block_extent extent;
    *zero = false;
    if (size < LOOK || block_extent(s->export->disk, s->export->offset + offset, size, &extent))
        return size;
    const uint64_t unit = s->export->disk->facts.alignment, whole = extent.size & ~(unit - 1);
    if (!whole)
        return MIN(size, unit);
    *zero = extent.zero;
    return whole;
}

/* In pieces, of which each says where it belongs; so there is no need to hold all of it. */
static void read_structured(struct nbd_session *s, const struct nbd_request *r)
{
    const bool whole = r->flags & NBD_FLAG_DF;
    uint64_t done = 0;
    if (whole && r->length > PIECE) {
        nbd_reply_done(s, r, -EOVERFLOW);
        return;
    }
    if (!r->length) {
        nbd_reply_done(s, r, 0);
        return;
    }
    uint8_t *bytes = block_scratch_take((size_t)MIN(r->length, PIECE));
    int status = bytes ? 0 : -ENOMEM;
    while (done < r->length && !status) {
        const uint64_t at = r->offset + done, left = r->length - done;
        bool zero = false;
        uint64_t now = whole ? left : look(s, at, left, &zero);
        if (!zero) {
            now = MIN(now, PIECE);
            status = block_pread(s->export->disk, bytes, now, s->export->offset + at);
            if (status)
                break;
            nbd_reply_data(s, r, at, bytes, (uint32_t)now, now == left);
        } else {
            nbd_reply_hole(s, r, at, (uint32_t)now, now == left);
        }
        done += now;
    }
    if (status)
        nbd_reply_done(s, r, status);
    block_scratch_give(bytes);
}

/* Into the host's cache. */
static int do_cache(struct nbd_session *s, const struct nbd_request *r)
{
    uint8_t *bytes = block_scratch_take(PIECE);
    int status = bytes ? 0 : -ENOMEM;
    for (uint64_t done = 0; done < r->length && !status;) {
        const uint64_t now = MIN(r->length - done, PIECE);
        status = block_pread(s->export->disk, bytes, now, s->export->offset + r->offset + done);
        done += now;
    }
    block_scratch_give(bytes);
    return status;
}

/* --- status --- */

/* The next piece of one context. */
static uint64_t piece(struct nbd_session *s, unsigned context, uint64_t offset, uint64_t size,
                      uint32_t *state)
{
    const struct nbd_export *e = s->export;
    uint64_t same;
    if (context) {
        *state = nbd_bitmap_at(e, &e->bitmaps[context - 1], offset, size, &same) ? NBD_STATE_DIRTY : 0;
        return same;
    }
    struct block_extent extent;
    if (block_extent(e->disk, e->offset + offset, size, &extent)) {
        *state = 0;
        return size;
    }
    const uint64_t unit = e->disk->facts.alignment, whole = extent.size & ~(unit - 1);
    *state = whole ? (extent.hole ? NBD_STATE_HOLE : 0U) | (extent.zero ? NBD_STATE_ZERO : 0U) : 0;
    return whole ? whole : MIN(size, unit);
}

/* Words for the wire: size and state, alternately. How many. */
static unsigned find_pieces(struct nbd_session *s, const struct nbd_request *r, unsigned context,
                            uint32_t *words)
{
    const unsigned most = r->flags & NBD_FLAG_REQ_ONE ? 1 : STATUS_MAX;
    unsigned n = 0;
    uint32_t last = 0, sum = 0;
    for (uint64_t done = 0; done < r->length;) {
        uint32_t state;
        const uint64_t size = piece(s, context, r->offset + done, r->length - done, &state);
        if (n && state == last) {
            sum += (uint32_t)size;
        } else if (n == most) {
            break;
        } else {
            n++;
            sum = (uint32_t)size;
        }
        last = state;
        st32be(&words[2 * n - 2], sum);
        st32be(&words[2 * n - 1], state);
        done += size;
    }
    return 2 * n;
}

static int do_status(struct nbd_session *s, const struct nbd_request *r)
{
    if (!s->contexts || !r->length)
        return -EINVAL;
    uint32_t *words = block_scratch_take(2 * STATUS_MAX * sizeof(uint32_t));
    if (!words)
        return -ENOMEM;
    for (uint32_t left = s->contexts; left; left &= left - 1) {
        const unsigned context = (unsigned)__builtin_ctz(left);
        const unsigned count = find_pieces(s, r, context, words);
        nbd_reply_status(s, r, context + 1, words, count, !(left & (left - 1)));
    }
    block_scratch_give(words);
    return 0;
}

/* --- the rest --- */

/* payload: what a write brings along. */
static int change(struct nbd_session *s, const struct nbd_request *r, const void *payload)
{
    struct disk *b = s->export->disk;
    const uint64_t offset = s->export->offset + r->offset;
    int status = 0;
    switch (r->type) {
    case NBD_WRITE: status = block_pwrite(b, payload, r->length, offset); break;
    case NBD_TRIM: status = block_discard(b, offset, r->length); break;
    case NBD_WRITE_ZEROES:
        status = block_zero(b, offset, r->length,
                            (r->flags & NBD_FLAG_NO_HOLE ? 0U : BLOCK_MAY_UNMAP) |
                                (r->flags & NBD_FLAG_FAST_ZERO ? BLOCK_ONLY_FAST : 0U));
        break;
    default: break;
    }
    return !status && r->flags & NBD_FLAG_FUA ? block_flush(b) : status;
}

static void serve(struct nbd_session *s, const struct nbd_request *r, const void *payload, int status)
{
    if (!status && r->type == NBD_READ) {
        if (s->structured)
            read_structured(s, r);
        else
            read_simple(s, r);
        return;
    }
    if (!status && r->type == NBD_BLOCK_STATUS) {
        status = do_status(s, r);
        if (!status)
            return;
    } else if (!status && r->type == NBD_FLUSH) {
        status = block_flush(s->export->disk);
    } else if (!status && r->type == NBD_CACHE) {
        status = do_cache(s, r);
    } else if (!status) {
        status = change(s, r, payload);
    }
    nbd_reply_done(s, r, status);
}

/* The right to read is ours. False: no more requests. */
static bool read_request(struct nbd_session *s, struct nbd_request *r, uint8_t **payload, int *status)
{
    uint8_t head[28];
    if (!nbd_wire_read(&s->wire, head, sizeof(head)) || ld32be(head) != NBD_REQUEST_MAGIC)
        return false;
    *r = (struct nbd_request){.flags = ld16be(head + 4),
                              .type = ld16be(head + 6),
                              .cookie = ld64be(head + 8),
                              .offset = ld64be(head + 16),
                              .length = ld32be(head + 24)};
    if (r->type == NBD_DISCONNECT)
        return false;
    *status = check(s, r);
    if (r->type != NBD_WRITE)
        return true;
    if (r->length > NBD_PAYLOAD_MAX)
        return false;
    if (*status)
        return nbd_wire_skip(&s->wire, r->length);
    budget_take(s, r->length);
    *payload = g_try_malloc(r->length ? r->length : 1);
    const bool read =
        *payload ? nbd_wire_read(&s->wire, *payload, r->length) : nbd_wire_skip(&s->wire, r->length);
    if (!*payload)
        *status = -ENOMEM;
    if (!*payload || !read)
        budget_give(s, r->length);
    return read;
}

void nbd_transmit(struct nbd_session *s)
{
    for (;;) {
        struct nbd_request r;
        g_autofree uint8_t *payload = NULL;
        int status = 0;
        pthread_mutex_lock(&s->read_lock);
        if (!s->ended)
            s->ended = !read_request(s, &r, &payload, &status);
        const bool ended = s->ended;
        pthread_mutex_unlock(&s->read_lock);
        if (ended)
            return;
        serve(s, &r, payload, status);
        if (payload)
            budget_give(s, r.length);
    }
}

/* --- life --- */

static void *work(void *opaque)
{
    nbd_transmit(opaque);
    return NULL;
}

static void transmit_all(struct nbd_session *s, unsigned workers)
{
    pthread_t threads[NBD_WORKERS_MAX];
    unsigned n = 0;
    while (n + 1 < MIN(workers, (unsigned)NBD_WORKERS_MAX) && !pthread_create(&threads[n], NULL, work, s))
        n++; /* with fewer it is slower */
    nbd_transmit(s);
    while (n)
        pthread_join(threads[--n], NULL);
}

bool nbd_session_serve(struct nbd_session *s, int fd, const struct nbd_export *e, struct nbd_tls *tls,
                       unsigned workers)
{
    *s = (struct nbd_session){.export = e, .tls = tls, .wire = {.fd = fd}, .budget = BUDGET};
    pthread_mutex_init(&s->read_lock, NULL);
    pthread_mutex_init(&s->write_lock, NULL);
    pthread_mutex_init(&s->budget_lock, NULL);
    pthread_cond_init(&s->budget_freed, NULL);
    s->wire.deadline = g_get_monotonic_time() + NBD_HANDSHAKE_SECONDS * (gint64)G_USEC_PER_SEC;
    const bool reached = nbd_handshake(s);
    if (reached) {
        s->wire.deadline = 0;
        transmit_all(s, workers);
    }
    nbd_tls_session_free(STEAL(s->wire.tls));
    pthread_cond_destroy(&s->budget_freed);
    pthread_mutex_destroy(&s->budget_lock);
    pthread_mutex_destroy(&s->write_lock);
    pthread_mutex_destroy(&s->read_lock);
    return reached;
}
