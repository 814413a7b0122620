/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a guest's disk device sits on: the gate, what is counted, and who is told. */
#include "block/filter/root.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "block/filter/edge.h"

enum { LANES = 16 };

/* One thread's way through the gate; more threads than lanes share some. */
struct lane {
    _Alignas(64) _Atomic unsigned inside;
    struct {
        _Atomic uint64_t operations, bytes, failed, ns;
    } kind[BLOCK_COUNTS];
    _Atomic uint64_t highest;
};

struct root {
    struct disk disk;
    struct disk *target;   /* borrowed */
    struct disk *way;      /* where operations go: target, or the throttle over it; changed while closed */
    struct disk *throttle; /* owned, over an edge to target; NULL = there never were limits */
    struct block_throttle limits;
    const struct block_watch *watch; /* changed while closed */
    _Atomic bool closed;
    unsigned closes;      /* main thread */
    pthread_mutex_t lock; /* guards waiting at the gate, and what was told of errors */
    pthread_cond_t moved; /* somebody left; it was opened */
    enum block_policy reading, writing;
    void (*failed)(void *opaque, const struct block_trouble *t);
    void *failed_opaque;
    const struct block_root_ops *ops; /* of the device; or NULL; main thread */
    void *ops_opaque;
    struct lane *lane; /* LANES of them */
};

static const struct block_driver root_driver;

static struct root *root_of(struct disk *b)
{
    return (struct root *)(void *)b;
}

struct disk *block_root_of(struct disk *b)
{
    return b && b->driver == &root_driver ? b : NULL;
}

/* --- the gate --- */

static unsigned my_lane(void)
{
    static _Atomic unsigned threads;
    static _Thread_local unsigned mine; /* + 1; 0 = not yet */
    if (!mine)
        mine = atomic_fetch_add(&threads, 1) % LANES + 1;
    return mine - 1;
}

static void leave(struct root *r, struct lane *lane)
{
    atomic_fetch_sub(&lane->inside, 1);
    if (!atomic_load(&r->closed))
        return;
    pthread_mutex_lock(&r->lock);
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

/* NULL when it is closed and the caller does not wait. */
static struct lane *enter(struct root *r, bool nowait)
{
    struct lane *lane = &r->lane[my_lane()];
    for (;;) {
        atomic_fetch_add(&lane->inside, 1);
        if (!atomic_load(&r->closed))
            return lane;
        leave(r, lane);
        if (nowait)
            return NULL;
        pthread_mutex_lock(&r->lock);
        while (atomic_load(&r->closed))
            pthread_cond_wait(&r->moved, &r->lock);
        pthread_mutex_unlock(&r->lock);
    }
}

static bool is_empty(const struct root *r)
{
    for (unsigned i = 0; i < LANES; i++)
        if (atomic_load(&r->lane[i].inside))
            return false;
    return true;
}

void block_root_close(struct disk *root)
{
    struct root *r = root_of(root);
    if (r->closes++)
        return;
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->closed, true);
    pthread_mutex_unlock(&r->lock);
    if (r->throttle)
        block_throttle_hurry(r->throttle, true);
    pthread_mutex_lock(&r->lock);
    while (!is_empty(r))
        pthread_cond_wait(&r->moved, &r->lock);
    pthread_mutex_unlock(&r->lock);
    if (r->throttle)
        block_throttle_hurry(r->throttle, false);
}

void block_root_open(struct disk *root)
{
    struct root *r = root_of(root);
    if (--r->closes)
        return;
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->closed, false);
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

/* --- what is counted --- */

static uint64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void count(struct lane *lane, enum block_count kind, uint64_t bytes, int status, uint64_t began)
{
    if (status) {
        add(&lane->kind[kind].failed, 1);
    } else {
        add(&lane->kind[kind].operations, 1);
        if (bytes)
            add(&lane->kind[kind].bytes, bytes);
    }
    if (began)
        add(&lane->kind[kind].ns, clock_now() - began);
}

void block_root_counts(struct disk *root, struct block_counts *counts)
{
    const struct root *r = root_of(root);
    memset(counts, 0, sizeof(*counts));
    for (unsigned i = 0; i < LANES; i++) {
        const uint64_t highest = r->lane[i].highest;
        counts->highest = MAX(counts->highest, highest);
        for (unsigned k = 0; k < BLOCK_COUNTS; k++) {
            counts->kind[k].operations += r->lane[i].kind[k].operations;
            counts->kind[k].bytes += r->lane[i].kind[k].bytes;
            counts->kind[k].failed += r->lane[i].kind[k].failed;
            counts->kind[k].ns += r->lane[i].kind[k].ns;
        }
    }
}

/* --- operations --- */

/* What has its bytes at hand is too short to look at the clock twice. */
static int root_read(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset, unsigned flags)
{
    struct root *r = root_of(b);
    const bool nowait = flags & BLOCK_NOWAIT;
    const uint64_t began = nowait ? 0 : clock_now();
    struct lane *lane = enter(r, nowait);
    if (!lane)
        return -EAGAIN;
    int status = block_read(r->way, iov, n, offset, flags);
    if (!nowait || !status) /* else it is tried again, with waiting */
        count(lane, BLOCK_COUNT_READ, block_iov_size(iov, n), status, began);
    leave(r, lane);
    return status;
}

static void note_dirty(const struct block_dirty *dirty, uint64_t offset, uint64_t size)
{
    for (uint64_t i = offset >> dirty->shift; i <= (offset + size - 1) >> dirty->shift; i++)
        atomic_fetch_or(&dirty->bits[i / 64], BIT(i % 64));
}

/* One change of the disk, between those who watch. */
struct change {
    struct root *root;
    struct lane *lane;
    struct block_range range;
    uint64_t offset, size, began;
};

static void begin(struct change *c, struct disk *b, uint64_t offset, uint64_t size)
{
    c->root = root_of(b);
    c->offset = offset;
    c->size = size;
    c->began = clock_now();
    c->lane = enter(c->root, false);
    const struct block_watch *watch = c->root->watch;
    if (watch && watch->ranges)
        block_ranges_take(watch->ranges, &c->range, offset, size);
}

static int end(struct change *c, enum block_count kind, int status)
{
    const struct block_watch *watch = c->root->watch;
    if (watch && watch->dirty)
        note_dirty(watch->dirty, c->offset, c->size);
    if (watch && watch->ranges)
        block_ranges_give(watch->ranges, &c->range);
    count(c->lane, kind, c->size, status, c->began);
    leave(c->root, c->lane);
    return status;
}

/* Threads that share a lane may lose each other's: it is for people. */
static void note_highest(struct lane *lane, uint64_t end)
{
    if (atomic_load_explicit(&lane->highest, memory_order_relaxed) < end)
        atomic_store_explicit(&lane->highest, end, memory_order_relaxed);
}

static int root_write(struct disk *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
    struct change c;
    begin(&c, b, offset, block_iov_size(iov, n));
    note_highest(c.lane, offset + c.size);
    return end(&c, BLOCK_COUNT_WRITE, block_write(c.root->way, iov, n, offset));
}

static int root_zero(struct disk *b, uint64_t offset, uint64_t size, unsigned flags)
{
    struct change c;
    begin(&c, b, offset, size);
    return end(&c, BLOCK_COUNT_WRITE, block_zero(c.root->way, offset, size, flags));
}

static int root_discard(struct disk *b, uint64_t offset, uint64_t size)
{
    struct change c;
    begin(&c, b, offset, size);
    return end(&c, BLOCK_COUNT_UNMAP, block_discard(c.root->way, offset, size));
}

static int root_flush(struct disk *b)
{
    struct root *r = root_of(b);
    const uint64_t began = clock_now();
    struct lane *lane = enter(r, false);
    int status = block_flush(r->way);
    count(lane, BLOCK_COUNT_FLUSH, 0, status, began);
    leave(r, lane);
    return status;
}

static int root_extent(struct disk *b, uint64_t offset, uint64_t size, struct block_extent *extent)
{
    struct root *r = root_of(b);
    struct lane *lane = enter(r, false);
    int status = block_extent(r->way, offset, size, extent);
    leave(r, lane);
    return status;
}

/* --- life --- */

static void root_close(struct disk *b)
{
    struct root *r = root_of(b);
    block_free(r->throttle);
    pthread_cond_destroy(&r->moved);
    pthread_mutex_destroy(&r->lock);
    g_aligned_free(r->lane);
}

static const struct block_driver root_driver = {
    .name = "root",
    .help = "what a disk device sits on",
    .kind = BLOCK_FILTER,
    .size = sizeof(struct root),
    .close = root_close,
    .read = root_read,
    .write = root_write,
    .flush = root_flush,
    .discard = root_discard,
    .zero = root_zero,
    .extent = root_extent,
};

struct disk *block_root_new(const char *name, struct disk *to)
{
    struct disk *b = block_filter_new(&root_driver, to);
    struct root *r = root_of(b);
    g_free(b->name);
    b->name = g_strdup(name);
    b->below = NULL; /* is not freed with us */
    b->facts.growable = false;
    r->target = r->way = to;
    r->reading = BLOCK_REPORT;
    r->lane = g_aligned_alloc0(LANES, sizeof(struct lane), 64);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->moved, NULL);
    return b;
}

struct disk *block_root_target(struct disk *root)
{
    return root_of(root)->target;
}

void block_root_turn(struct disk *root, struct disk *to)
{
    struct root *r = root_of(root);
    g_assert(r->closes);
    r->target = to;
    if (r->throttle)
        block_edge_turn(r->throttle->below, to);
    else
        r->way = to;
    block_root_resized(root);
}

void block_root_resized(struct disk *root)
{
    struct root *r = root_of(root);
    const uint64_t size = r->target->facts.size;
    if (r->throttle) {
        block_edge_refresh(r->throttle->below);
        r->throttle->facts.size = size;
        r->throttle->facts.readonly = r->target->facts.readonly;
    }
    if (atomic_exchange(&root->facts.size, size) != size && r->ops && r->ops->resized)
        r->ops->resized(r->ops_opaque);
}

void block_root_throttle(struct disk *root, const struct block_throttle *limits)
{
    static const struct block_throttle none;
    struct root *r = root_of(root);
    if (!r->throttle && !memcmp(limits, &none, sizeof(none)))
        return;
    if (!r->throttle) {
        struct disk *filter = block_throttle_new(block_edge_new(root->name, r->target, NULL, NULL));
        block_root_close(root);
        r->way = r->throttle = filter;
        block_root_open(root);
    }
    r->limits = *limits;
    block_throttle_set(r->throttle, limits);
}

const struct block_throttle *block_root_limits(struct disk *root)
{
    return &root_of(root)->limits;
}

void block_root_watch(struct disk *root, const struct block_watch *watch)
{
    g_assert(root_of(root)->closes);
    root_of(root)->watch = watch;
}

/* --- what failed --- */

static const char *const policies[] = {[BLOCK_WAIT] = "wait",
                                       [BLOCK_ENOSPC] = "enospc",
                                       [BLOCK_STOP] = "stop",
                                       [BLOCK_REPORT] = "report",
                                       [BLOCK_IGNORE] = "ignore"};

bool block_policy_find(const char *name, enum block_policy *policy)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(policies); i++)
        if (!strcmp(policies[i], name)) {
            *policy = (enum block_policy)i;
            return true;
        }
    return false;
}

void block_root_policy(struct disk *root, enum block_policy reading, enum block_policy writing,
                       void (*failed)(void *opaque, const struct block_trouble *t), void *opaque)
{
    struct root *r = root_of(root);
    r->reading = reading;
    r->writing = writing;
    r->failed = failed;
    r->failed_opaque = opaque;
}

static enum block_verdict judge(enum block_policy policy, bool no_space)
{
    switch (policy) {
    case BLOCK_WAIT: return no_space ? BLOCK_VERDICT_RETRY : BLOCK_VERDICT_REPORT;
    case BLOCK_ENOSPC: return no_space ? BLOCK_VERDICT_KEEP : BLOCK_VERDICT_REPORT;
    case BLOCK_STOP: return BLOCK_VERDICT_KEEP;
    case BLOCK_IGNORE: return BLOCK_VERDICT_IGNORE;
    default: return BLOCK_VERDICT_REPORT;
    }
}

/* What the guest asked for wrongly is no trouble of the host's. */
static bool is_wrong(int status)
{
    return status == -EOPNOTSUPP || status == -EINVAL || status == -EROFS;
}

struct block_trouble block_root_judge(struct disk *b, bool write, int status)
{
    struct disk *root = block_root_of(b);
    const struct root *r = root ? root_of(root) : NULL;
    const bool no_space = status == -ENOSPC || status == -EDQUOT;
    struct block_trouble t = {.write = write, .no_space = no_space, .status = status};
    t.verdict = is_wrong(status) ? BLOCK_VERDICT_REPORT
                                 : judge(!r      ? BLOCK_WAIT
                                         : write ? r->writing
                                                 : r->reading,
                                         no_space);
    return t;
}

void block_root_tell(struct disk *b, const struct block_trouble *t)
{
    struct disk *root = block_root_of(b);
    if (root && root_of(root)->failed && !is_wrong(t->status))
        root_of(root)->failed(root_of(root)->failed_opaque, t);
}

/* --- the device --- */

void block_root_attach(struct disk *b, const struct block_root_ops *ops, void *opaque)
{
    struct disk *root = block_root_of(b);
    if (!root)
        return;
    root_of(root)->ops = ops;
    root_of(root)->ops_opaque = opaque;
}

void block_root_hold(struct disk *root)
{
    struct root *r = root_of(root);
    if (r->throttle)
        block_throttle_hurry(r->throttle, true);
    if (r->ops)
        r->ops->hold(r->ops_opaque);
    if (r->throttle)
        block_throttle_hurry(r->throttle, false);
}

void block_root_release(struct disk *root)
{
    struct root *r = root_of(root);
    if (r->ops)
        r->ops->release(r->ops_opaque);
}

void block_root_again(struct disk *root)
{
    struct root *r = root_of(root);
    if (r->ops)
        r->ops->again(r->ops_opaque);
}
