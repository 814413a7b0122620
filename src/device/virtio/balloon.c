/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio memory balloon (virtio 1.2, section 5.5): memory that a guest does without goes back to the host. */
/*
 * Theory of operation
 *
 * Inflate. The driver sends lists of page numbers that the guest will not use. Each list is read in portions,
 * sorted, and neighbours are discarded together (mem_discard). Numbers that are no writable RAM are passed
 * over: such a guest only fails to give. Deflate needs nothing: a discarded page is there again, as zeroes,
 * when it is touched, so MUST_TELL_HOST is not offered and a guest may take its pages back before it tells.
 *
 * Reports (free page reporting) are ranges that are free in the guest at this moment and stay so until the
 * request is pushed. What they hold afterwards is, for the guest, either what they held or zeroes. So a guest
 * that fills its free pages with another value (PAGE_POISON) has them left alone.
 *
 * Nothing stays under way between two kicks, so there is nothing to drain before a reset, and what is saved
 * is the queues alone:
 *   - a long request is worked off in portions, one or a few per kick; in between it goes back into the queue
 *     and only how far it was done is kept. Should a driver exchange it meanwhile, other pages of its own are
 *     discarded, or not.
 *   - the buffer of statistics that a driver leaves with the device is read and put back. To ask for fresh
 *     statistics is to take it and push it; the driver fills it and gives it anew.
 *
 * Which queue is which. There are five by the specification (inflate, deflate, statistics, free page hints,
 * reports). Drivers disagree on whether those that their features leave out are counted. Hints are not
 * offered, so whatever stands behind the queue of statistics, or in its place, can only be the queue of
 * reports.
 *
 * Cost. A portion is some hundred microseconds; what a driver asks for beyond a few of them is done in turns
 * with other work of the main thread.
 */
#include "device/virtio/balloon.h"

#include "base/bits.h"
#include "base/byteorder.h"
#include "device/virtio/virtio.h"
#include "mem/dma.h"

/* 5.5.3 */
#define BALLOON_F_STATS BIT(1)
#define BALLOON_F_DEFLATE_ON_OOM BIT(2)
#define BALLOON_F_PAGE_POISON BIT(4)
#define BALLOON_F_REPORTING BIT(5)

/* 5.5.4 */
enum { CONFIG_TARGET = 0, CONFIG_ACTUAL = 4, CONFIG_POISON = 12, CONFIG_BYTES = 16 };

enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_STATS, QUEUES = 5 };

enum {
    BALLOON_QUEUE = 64,  /* entries; Linux sends 32 ranges at once */
    PORTION_PAGES = 256, /* numbers of pages in a portion, as many as Linux sends at once */
    PORTION_BYTES = MiB,
    PORTION_RANGES = 64,
    PORTIONS = 2, /* in a kick */
    STAT_BYTES = 10,
    STATS_MAX = 64, /* entries looked at */
};

struct balloon {
    struct virtio virtio;
    bool no_reports, no_deflate_on_oom; /* options */
    /* By queue, with its service lock: bytes of the request at its head that are done. */
    uint64_t done[QUEUES];
    _Atomic bool wanted; /* fresh statistics */
    /* With the device's lock: what the driver said last. */
    int64_t stats_time;
    uint32_t stats_known;
    uint64_t stats[BALLOON_STAT_COUNT];
    _Atomic uint64_t given_back;
};

const char *const balloon_stat_names[BALLOON_STAT_COUNT] = {
#define X(tag, name) name,
    BALLOON_STATS(X)
#undef X
};

static struct balloon *balloon_of(struct virtio *v)
{
    return (struct balloon *)(void *)v;
}

/* --- inflate --- */

/* Ascending. Lists are short and mostly runs up or down, which a sort by gaps turns round quickly; that of
 * libc may allocate. */
static void sort(uint32_t *pfn, unsigned n)
{
    static const unsigned gaps[] = {132, 57, 23, 10, 4, 1};
    for (unsigned g = 0; g < G_N_ELEMENTS(gaps); g++)
        for (unsigned i = gaps[g]; i < n; i++) {
            const uint32_t page = pfn[i];
            unsigned k = i;
            for (; k >= gaps[g] && pfn[k - gaps[g]] > page; k -= gaps[g])
                pfn[k] = pfn[k - gaps[g]];
            pfn[k] = page;
        }
}

static void discard_pages(struct balloon *b, uint32_t *pfn, unsigned n)
{
    sort(pfn, n);
    for (unsigned i = 0; i < n;) {
        unsigned last = i;
        while (last + 1 < n && pfn[last + 1] - pfn[last] <= 1)
            last++;
        const uint64_t size = ((uint64_t)pfn[last] - pfn[i] + 1) * BALLOON_PAGE_SIZE;
        if (!mem_discard(b->virtio.dev.wires.mem, GPA((uint64_t)pfn[i] * BALLOON_PAGE_SIZE), size))
            atomic_fetch_add(&b->given_back, size);
        i = last + 1;
    }
}

/* A portion of the list at the head of the queue. True: that was all of it. */
static bool inflate(struct balloon *b, const struct virtq_request *r, uint64_t *done)
{
    uint32_t pfn[PORTION_PAGES];
    const uint64_t left = r->readable_size > *done ? r->readable_size - *done : 0;
    const unsigned n = (unsigned)(MIN(left, sizeof(pfn)) / sizeof(pfn[0]));
    if (n && virtq_get(r, *done, pfn, n * sizeof(pfn[0]))) {
        for (unsigned i = 0; i < n; i++)
            pfn[i] = GUINT32_FROM_LE(pfn[i]);
        discard_pages(b, pfn, n);
    }
    *done += n * sizeof(pfn[0]);
    return n < PORTION_PAGES || left == sizeof(pfn);
}

/* --- reports --- */

static bool may_discard(const struct balloon *b)
{
    const uint32_t poison = ld32le(b->virtio.config + CONFIG_POISON);
    return !virtio_has(&b->virtio, BALLOON_F_PAGE_POISON) || !poison;
}

/* A portion of the ranges of a request. True: that was all of it. */
static bool report(struct balloon *b, const struct virtq_request *r, uint64_t *done)
{
    uint64_t start = 0, bytes = 0; /* of this buffer in the request; of the portion */
    if (!may_discard(b))
        return true;
    for (unsigned i = 0, ranges = 0; i < r->n_writable; i++) {
        const uint64_t end = start + r->writable[i].iov_len;
        for (; *done < end && *done >= start; ranges++) {
            const uint64_t size = MIN(end - *done, PORTION_BYTES);
            if (bytes + size > PORTION_BYTES || ranges == PORTION_RANGES)
                return false;
            atomic_fetch_add(&b->given_back,
                             mem_dma_discard(b->virtio.dev.wires.mem,
                                             (uint8_t *)r->writable[i].iov_base + (*done - start), size));
            bytes += size;
            *done += size;
        }
        start = end;
    }
    return true;
}

/* --- statistics --- */

static void read_stats(struct balloon *b, const struct virtq_request *r)
{
    uint8_t entry[STAT_BYTES];
    device_lock(&b->virtio.dev);
    b->stats_known = 0;
    for (unsigned i = 0; i < STATS_MAX && virtq_get(r, i * STAT_BYTES, entry, sizeof(entry)); i++) {
        const unsigned tag = ld16le(entry);
        if (tag >= BALLOON_STAT_COUNT)
            continue;
        b->stats[tag] = ld64le(entry + 2);
        b->stats_known |= (uint32_t)BIT(tag);
    }
    b->stats_time = g_get_real_time() / G_USEC_PER_SEC;
    device_release(&b->virtio.dev);
}

static void serve_stats(struct balloon *b, struct virtq *q)
{
    struct virtq_request *r;
    if (!virtq_pop(q, &r, 1))
        return;
    if (!atomic_exchange(&b->wanted, false)) {
        read_stats(b, r);
        virtq_unpop(q, &r, 1);
        return;
    }
    virtq_push(q, &r, 1);
    virtq_kicks_on(q); /* what it gives anew is to be announced, which otherwise only an empty pop asks for */
    virtq_notify(q);
}

/* --- the queues --- */

static bool deflate(struct balloon *b G_GNUC_UNUSED, const struct virtq_request *r G_GNUC_UNUSED,
                    uint64_t *done G_GNUC_UNUSED)
{
    return true;
}

/* Works requests off by portions. */
static void serve(struct balloon *b, struct virtq *q,
                  bool (*portion)(struct balloon *b, const struct virtq_request *r, uint64_t *done))
{
    struct virtq_request *r;
    uint64_t *done = &b->done[virtq_index(q)];
    unsigned n = 0;
    for (; n < PORTIONS && virtq_pop(q, &r, 1); n++) {
        if (!portion(b, r, done)) {
            virtq_unpop(q, &r, 1);
            continue;
        }
        *done = 0;
        virtq_push(q, &r, 1);
    }
    virtq_notify(q);
    if (n == PORTIONS)
        virtq_leave(q);
}

static void kick(struct virtq *q)
{
    struct virtio *v = virtq_owner(q);
    const unsigned i = virtq_index(q);
    if (i == QUEUE_INFLATE)
        serve(balloon_of(v), q, inflate);
    else if (i == QUEUE_DEFLATE)
        serve(balloon_of(v), q, deflate);
    else if (i == QUEUE_STATS && virtio_has(v, BALLOON_F_STATS))
        serve_stats(balloon_of(v), q);
    else if (virtio_has(v, BALLOON_F_REPORTING))
        serve(balloon_of(v), q, report);
}

/* --- life --- */

static void tell(struct balloon *b)
{
    struct device_wires *w = &b->virtio.dev.wires;
    if (w->notice)
        w->notice(w->opaque, DEVICE_NOTICE_BALLOON);
}

static void config_written(struct virtio *v, unsigned offset, unsigned size, uint32_t value)
{
    if (size != sizeof(value) || (offset != CONFIG_ACTUAL && offset != CONFIG_POISON))
        return;
    const bool change = offset == CONFIG_ACTUAL && ld32le(v->config + offset) != value;
    st32le(v->config + offset, value);
    if (change)
        tell(balloon_of(v));
}

/* Without a driver nobody keeps pages from being used. */
static void forget_locked(struct balloon *b)
{
    if (ld32le(b->virtio.config + CONFIG_ACTUAL))
        tell(b);
    memset(b->virtio.config + CONFIG_ACTUAL, 0, CONFIG_BYTES - CONFIG_ACTUAL);
    memset(b->done, 0, sizeof(b->done));
    memset(b->stats, 0, sizeof(b->stats));
    b->stats_known = 0;
    b->stats_time = 0;
    atomic_store(&b->wanted, false);
}

static void stop(struct virtio *v)
{
    device_lock(&v->dev);
    forget_locked(balloon_of(v));
    device_release(&v->dev);
}

static const struct virtio_function balloon_function = {
    .id = VIRTIO_ID_BALLOON, .kick = kick, .stop = stop, .config_written = config_written};

static void balloon_reset(struct device *d)
{
    virtio_reset(d);
    forget_locked((struct balloon *)(void *)d);
}

static bool balloon_init(struct device *d, GError **error)
{
    const struct balloon *b = (struct balloon *)(void *)d;
    const struct virtio_setup setup = {.features = BALLOON_F_STATS | BALLOON_F_PAGE_POISON |
                                                   (b->no_deflate_on_oom ? 0 : BALLOON_F_DEFLATE_ON_OOM) |
                                                   (b->no_reports ? 0 : BALLOON_F_REPORTING),
                                       .queues = QUEUES,
                                       .queue_size = BALLOON_QUEUE,
                                       .config_size = CONFIG_BYTES};
    return virtio_init(d, &balloon_function, &setup, error);
}

/* --- the host's side --- */

void virtio_balloon_set_target(struct device *d, uint32_t pages)
{
    uint8_t bytes[4];
    st32le(bytes, pages);
    virtio_config_set((struct virtio *)(void *)d, CONFIG_TARGET, bytes, sizeof(bytes));
}

void virtio_balloon_get(struct device *d, struct balloon_state *out)
{
    struct balloon *b = (struct balloon *)(void *)d;
    device_lock(d);
    *out = (struct balloon_state){.target = ld32le(b->virtio.config + CONFIG_TARGET),
                                  .actual = ld32le(b->virtio.config + CONFIG_ACTUAL),
                                  .driven = b->virtio.status & VIRTIO_DRIVER_OK,
                                  .stats_time = b->stats_time,
                                  .stats_known = b->stats_known,
                                  .given_back = atomic_load(&b->given_back)};
    memcpy(out->stats, b->stats, sizeof(out->stats));
    device_release(d);
}

void virtio_balloon_ask(struct device *d)
{
    struct virtio *v = (struct virtio *)(void *)d;
    struct balloon *b = balloon_of(v);
    device_lock(d);
    const bool can = v->status & VIRTIO_DRIVER_OK && virtio_has(v, BALLOON_F_STATS);
    device_release(d);
    atomic_store(&b->wanted, can);
    if (can)
        virtq_service(v->queue[QUEUE_STATS]);
}

static const struct device_option balloon_options[] = {
    VIRTIO_OPTIONS,
    {.name = "no-reports",
     .help = "do not offer to take pages that are free in the guest",
     .type = STATE_BOOL,
     .offset = offsetof(struct balloon, no_reports),
     .max = 1},
    {.name = "no-deflate-on-oom",
     .help = "do not let the guest take pages back when it runs out of memory",
     .type = STATE_BOOL,
     .offset = offsetof(struct balloon, no_deflate_on_oom),
     .max = 1},
    {0},
};

const struct device_type device_virtio_balloon = {
    .name = "virtio-balloon",
    .help = "memory that the guest does without goes back to the host",
    .size = sizeof(struct balloon),
    .options = balloon_options,
    .init = balloon_init,
    .destroy = virtio_destroy,
    .version = 1,
    .ops = &virtio_mmio_ops,
    .extent = virtio_mmio_extent,
    .reset = balloon_reset,
    .state = virtio_state,
    .pre_save = virtio_pre_save,
    .post_load = virtio_post_load,
};
