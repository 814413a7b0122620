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
 * What fails. The disk's policy (block/filter/root.h) says what becomes of a request that failed. One that is
 * kept goes to a list and occupies nobody; `retry`, a job of the pool that sleeps for a while, tries it again
 * (a host without room is no error of the guest's), or it stays until `again` (the guest was stopped).
 *
 * Saving. Nothing is under way while the device is held: what has begun has ended, or is kept. The rings may
 * have gone far beyond a kept request, so it cannot go back into them; the device's state has what the ring
 * said of it, and loading takes it up from there as if it had just been popped.
 *
 * Reset. stop() waits for the pool: the core has made the queues such that nothing is found in them and
 * results are dropped. So a request under way ends, with its own sector and its own buffers, and no thread
 * touches guest RAM behind the reset.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "base/checked.h"
#include "device/virtio/blk_int.h"

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

/* The outcome of a request (5.2.6). */
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { HEADER_BYTES = 16, SEGMENT_BYTES = 16, SEGMENT_UNMAP = 1, ID_BYTES = 20 };

enum {
    BATCH = 16,               /* requests popped at once */
    SIZE_MAX_BYTES = 1 << 22, /* of one buffer */
    OPTIMAL_BYTES = 1 << 20,  /* of one request; drivers read ahead in units of it */
    DISCARD_SEGMENTS = 32,
    DISCARD_SECTORS = 1 << 22, /* of one segment: 2 GiB */
    ZEROES_SEGMENTS = 8,
    ZEROES_SECTORS = 1 << 17,  /* 64 MiB: the host may have to write them */
    INLINE_BYTES = 256 * 1024, /* copied by one kick */
    THREADS = 4,
};

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

/* Notes where an operation of the disk failed. */
static int noted(struct blk_request *r, uint64_t offset, uint64_t size, int status)
{
    if (status) {
        r->failed_at = offset;
        r->failed_size = size;
    }
    return status;
}

static int do_read(struct blk_request *r)
{
    const uint64_t size = r->vq.writable_size;
    r->filled = size;
    return noted(r, r->offset, size,
                 block_read(owner(r)->disk, r->vq.writable, r->vq.n_writable, r->offset, 0));
}

/* After a change: makes it durable unless the driver knows of a cache that it can flush. */
static int settle(struct blk *b)
{
    const struct virtio *v = &b->virtio;
    const bool writeback =
        virtio_has(v, BLK_F_FLUSH) && __atomic_load_n(&v->config[CONFIG_WRITEBACK], __ATOMIC_RELAXED);
    return writeback ? 0 : block_flush(b->disk);
}

static int do_write(struct blk_request *r)
{
    struct blk *b = owner(r);
    int status = block_write(b->disk, r->vq.readable, r->vq.n_readable, r->offset);
    return status ? noted(r, r->offset, r->vq.readable_size, status) : settle(b);
}

/* One range of a discard or of zeroes, as the driver wrote it down. */
static int do_segment(struct blk_request *r, const uint8_t *bytes)
{
    struct blk *b = owner(r);
    const uint64_t sector = ld64le(bytes), sectors = ld32le(bytes + 8);
    const uint32_t flags = ld32le(bytes + 12);
    const bool zeroes = r->type == T_WRITE_ZEROES;
    if (flags & ~(zeroes ? (uint32_t)SEGMENT_UNMAP : 0))
        return -EOPNOTSUPP;
    if (sectors > (zeroes ? ZEROES_SECTORS : DISCARD_SECTORS) ||
        !range_inside(sector, sectors, 0, b->disk->facts.size / BLOCK_SECTOR))
        return -EINVAL;
    const uint64_t offset = sector * BLOCK_SECTOR, size = sectors * BLOCK_SECTOR;
    int status = zeroes ? block_zero(b->disk, offset, size, flags & SEGMENT_UNMAP ? BLOCK_MAY_UNMAP : 0)
                        : block_discard(b->disk, offset, size);
    return noted(r, offset, size, status);
}

static int do_segments(struct blk_request *r)
{
    uint8_t bytes[DISCARD_SEGMENTS * SEGMENT_BYTES];
    const uint64_t size = r->vq.readable_size;
    const uint64_t most = (r->type == T_DISCARD ? DISCARD_SEGMENTS : ZEROES_SEGMENTS) * SEGMENT_BYTES;
    if (!size || size % SEGMENT_BYTES || size > most || !virtq_get(&r->vq, 0, bytes, size))
        return -EINVAL;
    for (uint64_t at = 0; at < size; at += SEGMENT_BYTES) {
        int status = do_segment(r, bytes + at);
        if (status)
            return status;
    }
    return r->type == T_WRITE_ZEROES ? settle(owner(r)) : 0;
}

static int work(struct blk_request *r)
{
    r->failed_size = 0;
    switch (r->type) {
    case T_IN: return do_read(r);
    case T_OUT: return do_write(r);
    case T_FLUSH: return block_flush(owner(r)->disk);
    case T_DISCARD:
    case T_WRITE_ZEROES: return do_segments(r);
    case T_GET_ID: break; /* never a job */
    }
    return -EOPNOTSUPP;
}

/* --- what failed --- */

/* What becomes of it: 0 or -errno for the guest. False: it is kept. */
static bool settle_failure(struct blk_request *r, int *status)
{
    static const char *const names[] = {[T_IN] = "read",
                                        [T_OUT] = "write",
                                        [T_FLUSH] = "flush",
                                        [T_DISCARD] = "discard",
                                        [T_WRITE_ZEROES] = "zero"};
    struct blk *b = owner(r);
    const struct block_trouble t = block_root_judge(b->disk, r->type != T_IN, *status);
    if (t.verdict == BLOCK_VERDICT_RETRY)
        blk_waits(b, r, true);
    const bool kept = (t.verdict == BLOCK_VERDICT_RETRY || t.verdict == BLOCK_VERDICT_KEEP) &&
                      blk_keep(b, r, t.verdict == BLOCK_VERDICT_KEEP);
    block_root_tell(b->disk, &t);
    if (kept)
        return false; /* it may be somebody else's by now */
    if (t.verdict == BLOCK_VERDICT_IGNORE)
        *status = 0;
    else if (t.verdict == BLOCK_VERDICT_REPORT && (r->failed_size || r->type == T_FLUSH))
        block_report(b->disk, names[r->type], r->failed_at, r->failed_size, *status);
    return true;
}

/* On a thread of the pool. */
static void run(struct block_job *job)
{
    struct blk_request *r =
        (struct blk_request *)(void *)((uint8_t *)job - offsetof(struct blk_request, job));
    int status = work(r);
    if (status && !settle_failure(r, &status))
        return;
    blk_waits(owner(r), r, false);
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
    r->waits = false;
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

enum start { START_DONE, START_JOB, START_BROKEN };

/* Of a request just taken: done and to be handed back, or a job, or it broke the device. */
static enum start prepare(struct blk_request *r, uint64_t *budget)
{
    struct blk *b = owner(r);
    uint8_t header[HEADER_BYTES];
    r->status = virtq_cut_status(&r->vq);
    if (!r->status || !virtq_get(&r->vq, 0, header, sizeof(header)) ||
        !virtq_cut_header(&r->vq, sizeof(header))) {
        virtio_break(&b->virtio, "a request without a header or a place for its status");
        return START_BROKEN;
    }
    int status = begin(r, ld32le(header), ld64le(header + 8), budget);
    r->job.run = run;
    if (status == -EAGAIN)
        return START_JOB;
    finish(r, status);
    return START_DONE;
}

/* True: it is done and can be handed back. False: it is on its way, or the device broke. */
static bool start(struct blk_request *r, uint64_t *budget)
{
    const enum start how = prepare(r, budget);
    if (how == START_JOB)
        block_pool_submit(owner(r)->pool, &r->job);
    return how == START_DONE;
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
    if (b->pool)
        blk_kept_drop(b);
}

/* --- what the root tells --- */

static void hold(void *opaque)
{
    blk_hold(opaque);
}

static void release(void *opaque)
{
    blk_release(opaque);
}

static void again(void *opaque)
{
    blk_again(opaque);
}

static void resized(void *opaque)
{
    struct blk *b = opaque;
    uint8_t capacity[8];
    st64le(capacity, b->disk->facts.size / BLOCK_SECTOR);
    virtio_config_set(&b->virtio, CONFIG_CAPACITY, capacity, sizeof(capacity));
}

static const struct block_root_ops root_ops = {
    .hold = hold, .release = release, .again = again, .resized = resized};

/* --- saved, and loaded --- */

/* Nothing may be under way in what is saved. The lock is held, which requests need in order to end. */
static void pre_save(struct device *d)
{
    struct blk *b = (struct blk *)(void *)d;
    device_unlock(d);
    blk_hold(b);
    blk_kept_save(b);
    blk_release(b);
    device_lock(d);
    virtio_pre_save(d);
}

/* Takes up what was kept when the device was saved; a driver that has meanwhile spoilt it has a broken
 * device.
 */
static void activate(struct virtio *v)
{
    struct blk *b = blk_of(v);
    struct virtq_entry entry[BLK_QUEUE_SIZE];
    for (unsigned i = 0, n; b->loading && i < b->saved.count; i += n) {
        uint64_t budget = 0;
        n = blk_kept_chain(&b->saved, i, entry);
        struct virtq_request *vq = virtq_retake(v->queue[b->saved.queue[i]], entry, n);
        const enum start how = vq ? prepare(request_of(vq), &budget) : START_BROKEN;
        if (how == START_DONE)
            virtq_complete(vq);
        else if (how == START_JOB)
            blk_keep(b, request_of(vq), true); /* all of the machine is loaded when it goes on */
        else
            break;
    }
}

static bool post_load(struct device *d)
{
    struct blk *b = (struct blk *)(void *)d;
    if (!blk_kept_possible(b))
        return false;
    b->loading = true;
    bool ok = virtio_post_load(d);
    b->loading = false;
    return ok;
}

static const struct virtio_function function = {
    .id = VIRTIO_ID_BLOCK,
    .request_size = sizeof(struct blk_request),
    .accept = accept,
    .activate = activate,
    .kick = kick,
    .stop = stop,
    .config_written = config_written,
};

/* --- what it offers --- */

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
    st32le(c + CONFIG_SEG_MAX, BLK_QUEUE_SIZE - 2); /* and the header and the status */
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

/* Nothing is under way. */
static void free_pool(struct blk *b)
{
    if (b->pool != b->virtio.dev.wires.pool)
        block_pool_free(b->pool);
}

static bool init(struct device *d, GError **error)
{
    struct blk *b = (struct blk *)(void *)d;
    b->disk = d->wires.disk;
    blk_kept_init(b);
    const struct virtio_setup setup = {.features = fill_config(b),
                                       .queues = b->queues,
                                       .queue_size = BLK_QUEUE_SIZE,
                                       .config_size = CONFIG_BYTES};
    b->pool = b->disk ? d->wires.pool : NULL;
    if (b->disk && !b->pool && !(b->pool = block_pool_new(THREADS, error)))
        goto undo_init;
    if (!virtio_init(d, &function, &setup, error))
        goto undo_pool;
    block_root_attach(b->disk, &root_ops, b);
    for (unsigned i = 0; i < b->queues; i++)
        b->queue[i] = (struct blk_queue){.more.run = serve_more, .q = b->virtio.queue[i]};
    return true;
undo_pool:
    free_pool(b);
undo_init:
    blk_kept_fini(b);
    return false;
}

static void destroy(struct device *d)
{
    struct blk *b = (struct blk *)(void *)d;
    block_root_attach(b->disk, NULL, NULL);
    virtio_destroy(d);
    free_pool(b);
    blk_kept_fini(b);
}

static const struct device_option options[] = {
    VIRTIO_OPTIONS,
    {.name = "queues",
     .help = "number of queues",
     .type = STATE_U8,
     .offset = offsetof(struct blk, queues),
     .value = 1,
     .min = 1,
     .max = BLK_QUEUES_MAX},
    {0},
};

#define SAVED(entries, value_type)                                                                           \
    {                                                                                                        \
        .name = "kept-" #entries, .type = (value_type), .offset = offsetof(struct blk, saved.entries),       \
        .count = sizeof(((struct blk *)0)->saved.entries) / state_type_size(value_type), .since = 1          \
    }

static const struct state_field state[] = {
    VIRTIO_STATE,          SAVED(count, STATE_U32), SAVED(queue, STATE_U8),  SAVED(addr, STATE_U64),
    SAVED(len, STATE_U32), SAVED(id, STATE_U16),    SAVED(flags, STATE_U16), {0},
};

const struct device_type device_virtio_blk = {
    .name = "virtio-blk",
    .help = "disk (virtio 1.2)",
    .size = sizeof(struct blk),
    .options = options,
    .init = init,
    .destroy = destroy,
    .state = state,
    .pre_save = pre_save,
    .post_load = post_load,
    VIRTIO_TYPE_BASE,
};
