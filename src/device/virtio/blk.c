/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio-blk (virtio 1.2, section 5.2): a disk. */
/*
 * Theory of operation
 *
 * A request is a header (what, where), data, and a status byte at the end. The header is copied once; data
 * goes between guest RAM and the disk without a copy on the way.
 *
 * Where it is done. A read whose bytes the host has in memory is a copy, done right in kick() on the vCPU's
 * thread: handing it to another thread costs more than the copy. BLOCK_NOWAIT tells which ones these are, and
 * a budget per kick bounds the time. Everything else blocks and is a job for the disk's pool; a job ends by
 * completing its request from there, in whatever order jobs end. Nothing orders requests against each other
 * except that a flush covers the writes completed before it was made available, which is so because
 * block_flush() covers all that block_write() has acknowledged.
 *
 * Whoever kicks also stays bounded in the number of requests (another vCPU could refill the queue forever):
 * after one queueful the rest is left to a job of the pool, `more`.
 *
 * A host without room (ENOSPC, EDQUOT) is no error of the guest's: its write waits, on its thread of the
 * pool, and is tried again until there is room or the device is reset. When all threads wait, so does the
 * disk. Every other error is reported to the guest.
 *
 * Reset. stop() waits for the pool: the core has made the queues such that nothing is found in them and
 * results are dropped. So a request under way ends, with its own sector and its own buffers, and no thread
 * touches guest RAM behind the reset.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "base/log.h"
#include "block/block.h"
#include "block/pool.h"
#include "device/virtio/virtio.h"

/* Features (5.2.3). */
#define BLK_F_SIZE_MAX BIT(1)
#define BLK_F_SEG_MAX BIT(2)
#define BLK_F_RO BIT(5)
#define BLK_F_BLK_SIZE BIT(6)
#define BLK_F_FLUSH BIT(9)
#define BLK_F_TOPOLOGY BIT(10)
#define BLK_F_CONFIG_WCE BIT(11)
#define BLK_F_MQ BIT(12)
#define BLK_F_DISCARD BIT(13)
#define BLK_F_WRITE_ZEROES BIT(14)

/* Configuration space (5.2.4), offsets in bytes. */
enum {
    CONFIG_CAPACITY = 0,
    CONFIG_SIZE_MAX = 8,
    CONFIG_SEG_MAX = 12,
    CONFIG_BLK_SIZE = 20,
    CONFIG_PHYSICAL_EXP = 24,
    CONFIG_MIN_IO = 26,
    CONFIG_OPT_IO = 28,
    CONFIG_WRITEBACK = 32,
    CONFIG_QUEUES = 34,
    CONFIG_DISCARD_MAX = 36,
    CONFIG_DISCARD_SEGMENTS = 40,
    CONFIG_DISCARD_ALIGNMENT = 44,
    CONFIG_ZEROES_MAX = 48,
    CONFIG_ZEROES_SEGMENTS = 52,
    CONFIG_ZEROES_MAY_UNMAP = 56,
    CONFIG_BYTES = 60,
};

/* Requests and their outcome (5.2.6). */
enum blk_type { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { HEADER_BYTES = 16, SEGMENT_BYTES = 16, SEGMENT_UNMAP = 1, ID_BYTES = 20 };

enum {
    QUEUE_SIZE = 256,
    BATCH = 16,               /* requests popped at once */
    SIZE_MAX_BYTES = 1 << 22, /* of one buffer */
    OPTIMAL_BYTES = 1 << 20,  /* of one request; drivers read ahead in units of it */
    DISCARD_SEGMENTS = 32,
    DISCARD_SECTORS = 1 << 22, /* of one segment: 2 GiB */
    ZEROES_SEGMENTS = 8,
    ZEROES_SECTORS = 1 << 17,  /* 64 MiB: the host may have to write them */
    INLINE_BYTES = 256 * 1024, /* copied by one kick */
    THREADS = 4,
    RETRY_MS = 200, /* how often a write that found no room is tried again */
};

struct blk;

struct blk_queue {
    struct block_job more; /* goes on where a kick stopped */
    struct virtq *q;
    _Atomic bool going_on; /* more is submitted */
};

struct blk {
    struct virtio virtio;
    struct disk *disk;       /* borrowed; NULL: nothing in the drive */
    struct block_pool *pool; /* with a disk */
    pthread_mutex_t waiting; /* guards what requests that wait for room look at: */
    pthread_cond_t stopped;
    bool stopping;
    unsigned waiters;
    uint8_t queues; /* option */
    struct blk_queue queue[VIRTIO_QUEUES_MAX];
};

struct blk_request {
    struct virtq_request vq;
    struct block_job job;
    uint8_t *status; /* in guest RAM */
    enum blk_type type;
    uint64_t offset; /* bytes */
    uint64_t filled; /* bytes of the data buffers that hold what was asked for */
};

static struct blk *blk_of(struct virtio *v)
{
    return (struct blk *)(void *)v;
}

static struct blk_request *request_of(struct virtq_request *r)
{
    return (struct blk_request *)(void *)r;
}

static struct blk *owner(const struct blk_request *r)
{
    return blk_of(virtq_owner(r->vq.queue));
}

/* --- the ends of a request --- */

static uint8_t to_status(int error)
{
    return error == 0 ? S_OK : error == -EOPNOTSUPP ? S_UNSUPP : S_IOERR;
}

/* Everything but handing it back. The status counts as written when there is nothing unwritten before it. */
static void finish(struct blk_request *r, int error)
{
    const uint64_t size = r->vq.writable_size, filled = error ? 0 : r->filled;
    *r->status = to_status(error);
    r->vq.written = (uint32_t)(filled + (filled == size));
    r->vq.touched = size;
}

/* --- what blocks --- */

static int do_read(struct blk_request *r)
{
    struct disk *disk = owner(r)->disk;
    int status = block_read(disk, r->vq.writable, r->vq.n_writable, r->offset, 0);
    if (status)
        block_report(disk, "read", r->offset, r->vq.writable_size, status);
    r->filled = r->vq.writable_size;
    return status;
}

static int do_flush(struct disk *disk)
{
    int status = block_flush(disk);
    if (status)
        block_report(disk, "flush", 0, 0, status);
    return status;
}

/* After a change: makes it durable unless the driver knows of a cache that it can flush. */
static int settle(struct blk *b)
{
    const struct virtio *v = &b->virtio;
    const bool writeback =
        virtio_has(v, BLK_F_FLUSH) && __atomic_load_n(&v->config[CONFIG_WRITEBACK], __ATOMIC_RELAXED);
    return writeback ? 0 : do_flush(b->disk);
}

/* Sleeps for a while before a write that found no room is tried again. False when the device stops. */
static bool wait_for_room(struct blk *b)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += RETRY_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&b->waiting);
    if (!b->stopping)
        pthread_cond_timedwait(&b->stopped, &b->waiting, &until);
    bool again = !b->stopping;
    pthread_mutex_unlock(&b->waiting);
    return again;
}

/* Counts those who wait, so that people hear about the first and the last of them. */
static void tell_waiting(struct blk *b, bool waits)
{
    pthread_mutex_lock(&b->waiting);
    bool tell = waits ? b->waiters++ == 0 : --b->waiters == 0 && !b->stopping;
    pthread_mutex_unlock(&b->waiting);
    if (tell && waits)
        log_warn(LOG_BLOCK, "disk %s: no room on the host for what the guest writes; it waits: make room",
                 b->disk->name);
    else if (tell)
        log_warn(LOG_BLOCK, "disk %s: there is room again; the guest goes on", b->disk->name);
}

static bool is_full(int status)
{
    return status == -ENOSPC || status == -EDQUOT;
}

/* Does try(b, what) until there is room for it. */
static int with_room(struct blk *b, int (*try)(struct blk *b, const void *what), const void *what)
{
    int status = try(b, what);
    if (!is_full(status))
        return status;
    tell_waiting(b, true);
    while (is_full(status) && wait_for_room(b))
        status = try(b, what);
    tell_waiting(b, false);
    return status;
}

static int try_write(struct blk *b, const void *what)
{
    const struct blk_request *r = what;
    return block_write(b->disk, r->vq.readable, r->vq.n_readable, r->offset);
}

static int do_write(struct blk_request *r)
{
    struct blk *b = owner(r);
    int status = with_room(b, try_write, r);
    if (status && !is_full(status))
        block_report(b->disk, "write", r->offset, r->vq.readable_size, status);
    return status ? status : settle(b);
}

struct range {
    uint64_t offset, size; /* bytes */
    bool may_unmap;
};

static int try_zero(struct blk *b, const void *what)
{
    const struct range *range = what;
    return block_zero(b->disk, range->offset, range->size, range->may_unmap ? BLOCK_MAY_UNMAP : 0);
}

/* One range of a discard or of zeroes, as the driver wrote it down. */
static int do_segment(struct blk *b, enum blk_type type, const uint8_t *bytes)
{
    const uint64_t sector = ld64le(bytes), sectors = ld32le(bytes + 8);
    const uint32_t flags = ld32le(bytes + 12);
    const bool zeroes = type == T_WRITE_ZEROES;
    if (flags & ~(zeroes ? (uint32_t)SEGMENT_UNMAP : 0))
        return -EOPNOTSUPP;
    if (sectors > (zeroes ? ZEROES_SECTORS : DISCARD_SECTORS) ||
        !range_inside(sector, sectors, 0, b->disk->facts.size / BLOCK_SECTOR))
        return -EINVAL;
    const struct range range = {sector * BLOCK_SECTOR, sectors * BLOCK_SECTOR, flags & SEGMENT_UNMAP};
    int status = zeroes ? with_room(b, try_zero, &range) : block_discard(b->disk, range.offset, range.size);
    if (status && !is_full(status))
        block_report(b->disk, zeroes ? "zero" : "discard", range.offset, range.size, status);
    return status;
}

static int do_segments(struct blk_request *r)
{
    struct blk *b = owner(r);
    uint8_t bytes[DISCARD_SEGMENTS * SEGMENT_BYTES];
    const uint64_t size = r->vq.readable_size;
    const uint64_t most = (r->type == T_DISCARD ? DISCARD_SEGMENTS : ZEROES_SEGMENTS) * SEGMENT_BYTES;
    if (!size || size % SEGMENT_BYTES || size > most || !virtq_get(&r->vq, 0, bytes, size))
        return -EINVAL;
    for (uint64_t at = 0; at < size; at += SEGMENT_BYTES) {
        int status = do_segment(b, r->type, bytes + at);
        if (status)
            return status;
    }
    return r->type == T_WRITE_ZEROES ? settle(b) : 0;
}

/* On a thread of the pool. */
static void run(struct block_job *job)
{
    struct blk_request *r =
        (struct blk_request *)(void *)((uint8_t *)job - offsetof(struct blk_request, job));
    int status = -EOPNOTSUPP;
    switch (r->type) {
    case T_IN: status = do_read(r); break;
    case T_OUT: status = do_write(r); break;
    case T_FLUSH: status = do_flush(owner(r)->disk); break;
    case T_DISCARD:
    case T_WRITE_ZEROES: status = do_segments(r); break;
    case T_GET_ID: break; /* never a job */
    }
    finish(r, status);
    virtq_complete(&r->vq);
}

/* --- what comes in --- */

static int get_id(struct blk_request *r)
{
    const struct blk *b = owner(r);
    char id[ID_BYTES] = {0}; /* ends with a zero unless it is as long as that */
    const char *serial = b->virtio.dev.wires.serial;
    if (serial)
        memcpy(id, serial, strnlen(serial, ID_BYTES));
    r->filled = MIN(r->vq.writable_size, ID_BYTES);
    return virtq_put(&r->vq, 0, id, r->filled) ? 0 : -EINVAL;
}

/* Where a read or write goes: 0 with r->offset set when that is inside the disk. */
static int find_place(struct blk_request *r, uint64_t sector, uint64_t size)
{
    const uint64_t disk = owner(r)->disk->facts.size;
    if (size % BLOCK_SECTOR || !range_inside(sector, size / BLOCK_SECTOR, 0, disk / BLOCK_SECTOR))
        return -EINVAL;
    r->offset = sector * BLOCK_SECTOR;
    return 0;
}

/* The bytes of a read that can be had without waiting. */
static int read_now(struct blk_request *r, uint64_t *budget)
{
    if (r->vq.writable_size > *budget)
        return -EAGAIN;
    int status = block_read(owner(r)->disk, r->vq.writable, r->vq.n_writable, r->offset, BLOCK_NOWAIT);
    if (status)
        return -EAGAIN; /* an error, too: people are told about it where it is read again */
    r->filled = r->vq.writable_size;
    *budget -= r->filled;
    return 0;
}

/* -EAGAIN, which sends a request to the pool, when there is a disk that takes it. */
static int may_change(const struct blk *b, uint64_t feature)
{
    if (!virtio_has(&b->virtio, feature))
        return -EOPNOTSUPP;
    return b->disk->facts.readonly ? -EROFS : -EAGAIN;
}

/* Begins a request whose header has been cut off: -EAGAIN when it is for the pool, otherwise how it ended. */
static int begin(struct blk_request *r, uint32_t type, uint64_t sector, uint64_t *budget)
{
    const struct blk *b = owner(r);
    int status;
    r->type = (enum blk_type)type;
    r->filled = 0;
    if (type == T_GET_ID)
        return get_id(r);
    if (!b->disk)
        return -EIO;
    switch (type) {
    case T_IN:
        status = find_place(r, sector, r->vq.writable_size);
        return status ? status : read_now(r, budget);
    case T_OUT:
        status = b->disk->facts.readonly ? -EROFS : find_place(r, sector, r->vq.readable_size);
        return status ? status : -EAGAIN;
    case T_FLUSH: return -EAGAIN;
    case T_DISCARD: return may_change(b, BLK_F_DISCARD);
    case T_WRITE_ZEROES: return may_change(b, BLK_F_WRITE_ZEROES);
    default: return -EOPNOTSUPP;
    }
}

/* True: it is done and can be handed back. False: it is on its way, or the device broke. */
static bool start(struct blk_request *r, uint64_t *budget)
{
    struct blk *b = owner(r);
    uint8_t header[HEADER_BYTES];
    r->status = virtq_cut_status(&r->vq);
    if (!r->status || !virtq_get(&r->vq, 0, header, sizeof(header)) ||
        !virtq_cut_header(&r->vq, sizeof(header))) {
        virtio_break(&b->virtio, "a request without a header or a place for its status");
        return false;
    }
    int status = begin(r, ld32le(header), ld64le(header + 8), budget);
    if (status == -EAGAIN) {
        r->job.run = run;
        block_pool_submit(b->pool, &r->job);
        return false;
    }
    finish(r, status);
    return true;
}

/* Starts up to a queueful of requests. True: there may be more. */
static bool serve(struct virtq *q)
{
    uint64_t budget = INLINE_BYTES;
    unsigned left = virtq_size(q), n;
    do {
        struct virtq_request *batch[BATCH], *done[BATCH];
        unsigned n_done = 0;
        n = virtq_pop(q, batch, BATCH);
        for (unsigned i = 0; i < n; i++)
            if (start(request_of(batch[i]), &budget))
                done[n_done++] = batch[i];
        if (n_done)
            virtq_push(q, done, n_done);
        left -= MIN(left, n);
    } while (n && left);
    virtq_notify(q);
    return n;
}

static void go_on(struct blk *b, struct blk_queue *queue)
{
    if (!b->pool)
        virtq_leave(queue->q);
    else if (!atomic_exchange(&queue->going_on, true))
        block_pool_submit(b->pool, &queue->more);
}

static void serve_more(struct block_job *job)
{
    struct blk_queue *queue = (struct blk_queue *)(void *)job;
    atomic_store(&queue->going_on, false);
    if (serve(queue->q))
        go_on(blk_of(virtq_owner(queue->q)), queue);
}

static void kick(struct virtq *q)
{
    struct blk *b = blk_of(virtq_owner(q));
    if (serve(q))
        go_on(b, &b->queue[virtq_index(q)]);
}

/* --- life --- */

/* Whether there is a volatile cache is the driver's choice; without flushes there must be none. */
static bool accept(struct virtio *v, uint64_t features)
{
    if (!(v->status &
          VIRTIO_FEATURES_OK)) /* else a saved device is loaded, whose driver has chosen already */
        v->config[CONFIG_WRITEBACK] = (features & BLK_F_FLUSH) != 0;
    return true;
}

static void config_written(struct virtio *v, unsigned offset, unsigned size, uint32_t value)
{
    if (offset != CONFIG_WRITEBACK || size != 1 || value > 1 || !(v->driver_features & BLK_F_CONFIG_WCE))
        return;
    __atomic_store_n(&v->config[CONFIG_WRITEBACK], (uint8_t)value, __ATOMIC_RELAXED);
}

static void stop(struct virtio *v)
{
    struct blk *b = blk_of(v);
    if (!b->pool)
        return;
    pthread_mutex_lock(&b->waiting);
    b->stopping = true;
    pthread_cond_broadcast(&b->stopped);
    pthread_mutex_unlock(&b->waiting);
    block_pool_drain(b->pool);
    b->stopping = false;
}

static const struct virtio_function function = {
    .id = VIRTIO_ID_BLOCK,
    .request_size = sizeof(struct blk_request),
    .accept = accept,
    .kick = kick,
    .stop = stop,
    .config_written = config_written,
};

/* Nothing may be under way in what is saved. The lock is held, which requests need in order to end. */
static void pre_save(struct device *d)
{
    device_unlock(d);
    stop((struct virtio *)(void *)d);
    device_lock(d);
    virtio_pre_save(d);
}

static unsigned log2_of(uint32_t power)
{
    return (unsigned)__builtin_ctz(power);
}

static uint64_t fill_config(struct blk *b)
{
    uint8_t *c = b->virtio.config;
    uint64_t features =
        BLK_F_SIZE_MAX | BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_FLUSH | BLK_F_CONFIG_WCE | BLK_F_MQ;
    st32le(c + CONFIG_SIZE_MAX, SIZE_MAX_BYTES);
    st32le(c + CONFIG_SEG_MAX, QUEUE_SIZE - 2); /* and the header and the status */
    st32le(c + CONFIG_BLK_SIZE, BLOCK_SECTOR);
    st16le(c + CONFIG_QUEUES, b->queues);
    if (!b->disk)
        return features;
    const struct block_facts *f = &b->disk->facts;
    st64le(c + CONFIG_CAPACITY, f->size / BLOCK_SECTOR);
    c[CONFIG_PHYSICAL_EXP] = (uint8_t)log2_of(MAX(f->preferred, BLOCK_SECTOR) / BLOCK_SECTOR);
    st16le(c + CONFIG_MIN_IO, (uint16_t)(MAX(f->preferred, BLOCK_SECTOR) / BLOCK_SECTOR));
    st32le(c + CONFIG_OPT_IO, OPTIMAL_BYTES / BLOCK_SECTOR);
    c[CONFIG_WRITEBACK] = 1;
    features |= BLK_F_TOPOLOGY;
    if (f->readonly)
        return features | BLK_F_RO;
    st32le(c + CONFIG_ZEROES_MAX, ZEROES_SECTORS);
    st32le(c + CONFIG_ZEROES_SEGMENTS, ZEROES_SEGMENTS);
    c[CONFIG_ZEROES_MAY_UNMAP] = f->granularity != 0;
    features |= BLK_F_WRITE_ZEROES;
    if (!f->granularity)
        return features;
    st32le(c + CONFIG_DISCARD_MAX, DISCARD_SECTORS);
    st32le(c + CONFIG_DISCARD_SEGMENTS, DISCARD_SEGMENTS);
    st32le(c + CONFIG_DISCARD_ALIGNMENT, MAX(f->granularity, BLOCK_SECTOR) / BLOCK_SECTOR);
    return features | BLK_F_DISCARD;
}

static void fini(struct blk *b)
{
    pthread_cond_destroy(&b->stopped);
    pthread_mutex_destroy(&b->waiting);
}

static bool init(struct device *d, GError **error)
{
    struct blk *b = (struct blk *)(void *)d;
    b->disk = d->wires.disk;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&b->waiting, NULL);
    pthread_cond_init(&b->stopped, &monotonic);
    pthread_condattr_destroy(&monotonic);
    const struct virtio_setup setup = {.features = fill_config(b),
                                       .queues = b->queues,
                                       .queue_size = QUEUE_SIZE,
                                       .config_size = CONFIG_BYTES};
    if (b->disk && !(b->pool = block_pool_new(THREADS, error)))
        goto undo_init;
    if (!virtio_init(d, &function, &setup, error))
        goto undo_pool;
    for (unsigned i = 0; i < b->queues; i++)
        b->queue[i] = (struct blk_queue){.more.run = serve_more, .q = b->virtio.queue[i]};
    return true;
undo_pool:
    block_pool_free(b->pool);
undo_init:
    fini(b);
    return false;
}

static void destroy(struct device *d)
{
    struct blk *b = (struct blk *)(void *)d;
    virtio_destroy(d);
    block_pool_free(b->pool);
    fini(b);
}

static const struct device_option options[] = {
    VIRTIO_OPTIONS,
    {.name = "queues",
     .help = "number of queues",
     .type = STATE_U8,
     .offset = offsetof(struct blk, queues),
     .value = 1,
     .min = 1,
     .max = VIRTIO_QUEUES_MAX},
    {0},
};

const struct device_type device_virtio_blk = {
    .name = "virtio-blk",
    .help = "disk (virtio 1.2)",
    .size = sizeof(struct blk),
    .options = options,
    .init = init,
    .destroy = destroy,
    .state = virtio_state,
    .pre_save = pre_save,
    .post_load = virtio_post_load,
    VIRTIO_TYPE_BASE,
};
