/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Virtqueues: what split and packed rings have in common (virtqueue.h has the theory). */
/*
 * Order of memory accesses. The driver's side runs as guest code on vCPU threads, whose fences are real ones:
 *   - a chain is read behind an acquire load of what makes it available;
 *   - a used element is written before the release store that shows it;
 *   - "show it, then look whether the driver wants an interrupt" and, in the driver, "want interrupts, then
 *     look whether something is there" need a full fence in between on both sides, or each may miss the
 *     other; likewise "want kicks, then look whether something is there".
 */
#include "device/virtio/virtqueue.h"

#include <string.h>

#include "base/checked.h"
#include "device/virtio/virtqueue_int.h"

/* --- chains --- */

struct virtq_desc virtq_load_desc(const struct virtq *q, const uint8_t *at)
{
    uint64_t words[2];
    struct virtq_desc d;
    if (!((uintptr_t)at & 7)) {
        const uint64_t *from = (const uint64_t *)(const void *)at;
        words[0] = __atomic_load_n(&from[0], __ATOMIC_RELAXED);
        words[1] = __atomic_load_n(&from[1], __ATOMIC_RELAXED);
    } else {
        mem_dma_read(q->mem, at, words, sizeof(words));
    }
    uint64_t low = GUINT64_FROM_LE(words[0]), high = GUINT64_FROM_LE(words[1]);
    d.addr = low;
    d.len = (uint32_t)high;
    d.word[0] = (uint16_t)(high >> 32);
    d.word[1] = (uint16_t)(high >> 48);
    return d;
}

bool virtq_add_buffer(struct virtq *q, struct virtq_request *r, uint64_t addr, uint32_t len, bool write)
{
    if (!len) /* nothing to move: as if it were not there */
        return true;
    if (!write && r->n_writable) {
        q->fault = "a readable buffer behind a writable one";
        return false;
    }
    if (r->n_readable + r->n_writable == q->max) {
        q->fault = "a chain of too many buffers";
        return false;
    }
    void *host = mem_dma(q->mem, GPA(addr), len, write);
    if (!host) {
        q->fault = "a buffer outside RAM";
        return false;
    }
    if (r->readable_size + r->writable_size + len > UINT64_C(1) << 32) {
        q->fault = "a chain of more than 4 GiB";
        return false;
    }
    r->iov[r->n_readable + r->n_writable] = (struct iovec){.iov_base = host, .iov_len = len};
    if (write) {
        r->n_writable++;
        r->writable_size += len;
    } else {
        r->n_readable++;
        r->readable_size += len;
    }
    return true;
}

const uint8_t *virtq_table(struct virtq *q, uint64_t addr, uint32_t len, unsigned *entries)
{
    const uint8_t *table = NULL;
    if (!q->indirect)
        q->fault = "an indirect descriptor without the feature";
    else if (!len || len % VIRTQ_DESC_BYTES || len / VIRTQ_DESC_BYTES > q->max)
        q->fault = "an indirect table of impossible length";
    else if (!(table = mem_dma(q->mem, GPA(addr), len, false)))
        q->fault = "an indirect table outside RAM";
    *entries = len / VIRTQ_DESC_BYTES;
    return table;
}

/* --- making and placing --- */

struct virtq *virtq_new(struct virtio *owner, unsigned index, unsigned max, size_t request_size)
{
    struct virtq *q = g_new0(struct virtq, 1);
    q->owner = owner;
    q->mem = owner->dev.wires.mem;
    q->index = index;
    q->max = max;
    q->request_size = MAX(request_size, sizeof(struct virtq_request));
    q->request_size = (q->request_size + 15) & ~(size_t)15;
    /* Zeroed by the host when first touched: a queue costs what the driver uses of it. */
    q->requests = g_malloc0(q->request_size * max);
    q->room = g_malloc0(sizeof(struct iovec) * max * max);
    q->entry_room = g_malloc0(sizeof(struct virtq_entry) * max * max);
    pthread_mutex_init(&q->service, NULL);
    pthread_mutex_init(&q->lock, NULL);
    return q;
}

void virtq_free(struct virtq *q)
{
    if (!q)
        return;
    pthread_mutex_destroy(&q->service);
    pthread_mutex_destroy(&q->lock);
    g_free(q->requests);
    g_free(q->room);
    g_free(q->entry_room);
    g_free(q);
}

/* All requests free, the first ones first, so that a short queue touches little memory. */
static void free_all(struct virtq *q)
{
    q->free = NULL;
    for (unsigned i = q->size; i-- > 0;) {
        struct virtq_request *r = (struct virtq_request *)(void *)(q->requests + i * q->request_size);
        r->queue = q;
        r->iov = q->room + (size_t)i * q->max;
        r->entry = q->entry_room + (size_t)i * q->max;
        r->busy = false;
        r->next = q->free;
        q->free = r;
    }
}

static const char *place_areas(struct virtq *q, const struct virtq_place *place)
{
    static const char *const outside[3] = {"descriptors outside RAM", "the driver's area outside RAM",
                                           "the device's area outside RAM"};
    for (unsigned i = 0; i < 3; i++) {
        if (place->area[i] & (uint64_t)(q->format->align[i] - 1))
            return "a misaligned area";
        q->area[i] = mem_dma(q->mem, GPA(place->area[i]), q->format->area_bytes(i, place->size),
                             q->format->written >> i & 1);
        if (!q->area[i])
            return outside[i];
    }
    return NULL;
}

const char *virtq_enable(struct virtq *q, const struct virtq_place *place, uint64_t features)
{
    bool packed = features & VIRTIO_F_RING_PACKED;
    if (!place->size || place->size > q->max || (!packed && place->size & (place->size - 1)))
        return "a queue of impossible size";
    pthread_mutex_lock(&q->lock);
    q->format = packed ? &virtq_packed : &virtq_split;
    q->event_idx = features & VIRTIO_F_EVENT_IDX;
    q->indirect = features & VIRTIO_F_INDIRECT_DESC;
    const char *fault = place_areas(q, place);
    if (!fault) {
        q->size = (uint16_t)place->size;
        q->taken = place->taken;
        q->given = place->given;
        q->untold = 0;
        q->kicks = true;
        free_all(q);
    }
    pthread_mutex_unlock(&q->lock);
    return fault;
}

void virtq_set_live(struct virtq *q, bool live)
{
    pthread_mutex_lock(&q->lock);
    atomic_store(&q->live, live && q->size);
    pthread_mutex_unlock(&q->lock);
}

void virtq_disable(struct virtq *q)
{
    pthread_mutex_lock(&q->lock);
    atomic_store(&q->live, false);
    q->size = 0;
    q->free = NULL;
    q->fault = NULL;
    pthread_mutex_unlock(&q->lock);
}

void virtq_positions(struct virtq *q, struct virtq_position *taken, struct virtq_position *given)
{
    pthread_mutex_lock(&q->lock);
    *taken = q->taken;
    *given = q->given;
    pthread_mutex_unlock(&q->lock);
}

void virtq_settle(struct virtq *q)
{
    pthread_mutex_lock(&q->service);
    pthread_mutex_unlock(&q->service);
}

/* --- requests out --- */

static bool usable(const struct virtq *q)
{
    return atomic_load(&q->live) && !atomic_load(&q->owner->broken);
}

static void request_clear(struct virtq_request *r)
{
    r->n_readable = r->n_writable = 0;
    r->readable_size = r->writable_size = 0;
    r->written = 0;
    r->touched = 0;
    r->status = NULL;
    r->count = 0;
}

/* The first free request is complete, and belongs to the device now. */
static void take_locked(struct virtq *q, struct virtq_request *r)
{
    r->readable = r->iov;
    r->writable = r->iov + r->n_readable;
    q->free = r->next;
    r->busy = true;
}

/* One chain out of the ring: 1, 0, -1 as the format's pop. */
static int pop_locked(struct virtq *q, struct virtq_request **request)
{
    struct virtq_request *r = q->free;
    if (!r) {
        /* A driver that keeps the rules has no more chains than entries. */
        if (!q->format->waiting(q))
            return 0;
        q->fault = "more chains than entries";
        return -1;
    }
    request_clear(r);
    r->position = q->taken.at;
    r->wrap = q->taken.wrap;
    int found = q->format->pop(q, r);
    if (found <= 0)
        return found;
    take_locked(q, r);
    *request = r;
    return 1;
}

unsigned virtq_pop(struct virtq *q, struct virtq_request **requests, unsigned max)
{
    unsigned n = 0;
    int found = 1;
    bool asked = false;
    pthread_mutex_lock(&q->lock);
    while (n < max && usable(q)) {
        found = pop_locked(q, &requests[n]);
        if (found > 0)
            n++;
        if (found < 0 || (!found && (asked || !q->kicks || !q->event_idx)))
            break;
        if (!found) {
            /* Empty: the next chain is to be announced. One that came before we said so is not. */
            q->format->set_kicks(q, true);
            atomic_thread_fence(memory_order_seq_cst);
            asked = true;
        } else {
            asked = false;
        }
    }
    const char *fault = found < 0 ? q->fault : NULL;
    pthread_mutex_unlock(&q->lock);
    if (fault)
        virtio_break(q->owner, fault);
    return n;
}

void virtq_unpop(struct virtq *q, struct virtq_request *const *requests, unsigned n)
{
    pthread_mutex_lock(&q->lock);
    for (unsigned i = n; i-- > 0;) {
        struct virtq_request *r = requests[i];
        g_assert(r->queue == q && r->busy);
        r->busy = false;
        r->next = q->free;
        q->free = r;
        q->taken = (struct virtq_position){r->position, r->wrap};
    }
    pthread_mutex_unlock(&q->lock);
}

unsigned virtq_entries(const struct virtq_request *r, struct virtq_entry *entry)
{
    if (!r->count) { /* split: its descriptors stay where they are while it is under way */
        *entry = (struct virtq_entry){.id = r->id};
        return 1;
    }
    memcpy(entry, r->entry, r->count * sizeof(*entry));
    return r->count;
}

struct virtq_request *virtq_retake(struct virtq *q, const struct virtq_entry *entry, unsigned n)
{
    pthread_mutex_lock(&q->lock);
    struct virtq_request *r = usable(q) ? q->free : NULL;
    const char *fault = NULL;
    if (r && n && n <= q->size) {
        request_clear(r);
        if (q->format->retake(q, r, entry, n) > 0) {
            take_locked(q, r);
        } else {
            fault = q->fault;
            r = NULL;
        }
    } else {
        fault = "saved with more chains than entries";
        r = NULL;
    }
    pthread_mutex_unlock(&q->lock);
    if (!r)
        virtio_break(q->owner, fault);
    return r;
}

bool virtq_waiting(struct virtq *q)
{
    pthread_mutex_lock(&q->lock);
    bool waiting = usable(q) && q->format->waiting(q);
    pthread_mutex_unlock(&q->lock);
    return waiting;
}

/* --- results in --- */

/* Reports the pages that the device may have changed. No lock is held. */
static void report(const struct virtq *q, const struct virtq_request *r)
{
    uint64_t left = MAX(r->written, r->touched);
    for (unsigned i = 0; i < r->n_writable && left; i++) {
        uint64_t here = MIN(left, r->writable[i].iov_len);
        if (here)
            mem_dma_wrote(q->mem, r->writable[i].iov_base, here);
        left -= here;
    }
    if (r->status)
        mem_dma_wrote(q->mem, r->status, 1);
}

static void report_rings(const struct virtq *q, uint8_t *const area[3], unsigned size)
{
    for (unsigned i = 0; i < 3; i++)
        if (q->format->written >> i & 1)
            mem_dma_wrote(q->mem, area[i], q->format->area_bytes(i, size));
}

void virtq_push(struct virtq *q, struct virtq_request *const *requests, unsigned n)
{
    uint8_t *area[3];
    for (unsigned i = 0; i < n; i++)
        report(q, requests[i]);
    pthread_mutex_lock(&q->lock);
    bool use = usable(q);
    for (unsigned i = 0; i < n; i++) {
        struct virtq_request *r = requests[i];
        g_assert(r->queue == q && r->busy);
        if (use)
            q->untold += q->format->push(q, r);
        r->busy = false;
        r->next = q->free;
        q->free = r;
    }
    if (use)
        q->format->publish(q);
    memcpy(area, q->area, sizeof(area));
    unsigned size = q->size;
    pthread_mutex_unlock(&q->lock);
    if (use)
        report_rings(q, area, size);
}

void virtq_notify(struct virtq *q)
{
    bool interrupt = false;
    pthread_mutex_lock(&q->lock);
    if (usable(q) && q->untold) {
        atomic_thread_fence(memory_order_seq_cst);
        q->untold = MIN(q->untold, UINT16_MAX);
        interrupt = q->format->wants_interrupt(q);
        q->untold = 0;
    }
    pthread_mutex_unlock(&q->lock);
    if (interrupt)
        virtio_used(q->owner);
}

void virtq_complete(struct virtq_request *r)
{
    struct virtq *q = r->queue;
    virtq_push(q, &r, 1);
    virtq_notify(q);
}

/* --- kicks --- */

void virtq_kicks_off(struct virtq *q)
{
    pthread_mutex_lock(&q->lock);
    q->kicks = false;
    if (usable(q))
        q->format->set_kicks(q, false);
    pthread_mutex_unlock(&q->lock);
}

bool virtq_kicks_on(struct virtq *q)
{
    pthread_mutex_lock(&q->lock);
    q->kicks = true;
    bool waiting = false;
    if (usable(q)) {
        q->format->set_kicks(q, true);
        atomic_thread_fence(memory_order_seq_cst);
        waiting = q->format->waiting(q);
    }
    pthread_mutex_unlock(&q->lock);
    return waiting;
}

void virtq_leave(struct virtq *q)
{
    if (virtq_kicks_on(q))
        virtio_again(q->owner, q->index);
}

/* --- the bytes of a request --- */

/* What to do with a piece of a buffer: size bytes at host, from or to p. */
typedef void piece_fn(const struct virtq *q, uint8_t *host, uint8_t *p, size_t size);

static void piece_get(const struct virtq *q, uint8_t *host, uint8_t *p, size_t size)
{
    mem_dma_read(q->mem, host, p, size);
}

static void piece_put(const struct virtq *q, uint8_t *host, uint8_t *p, size_t size)
{
    mem_dma_write(q->mem, host, p, size);
}

static void walk(const struct virtq_request *r, const struct iovec *iov, uint64_t offset, uint8_t *p,
                 size_t size, piece_fn *piece)
{
    for (; size; iov++) {
        if (offset >= iov->iov_len) {
            offset -= iov->iov_len;
            continue;
        }
        size_t here = MIN(size, iov->iov_len - offset);
        piece(r->queue, (uint8_t *)iov->iov_base + offset, p, here);
        p += here;
        size -= here;
        offset = 0;
    }
}

bool virtq_get(const struct virtq_request *r, uint64_t offset, void *to, size_t size)
{
    if (!range_inside(offset, size, 0, r->readable_size))
        return false;
    walk(r, r->readable, offset, to, size, piece_get);
    return true;
}

bool virtq_put(struct virtq_request *r, uint64_t offset, const void *from, size_t size)
{
    if (!range_inside(offset, size, 0, r->writable_size))
        return false;
    walk(r, r->writable, offset, (uint8_t *)(uintptr_t)from, size, piece_put);
    return true;
}

bool virtq_cut_header(struct virtq_request *r, uint64_t size)
{
    if (size > r->readable_size)
        return false;
    r->readable_size -= size;
    while (size) {
        size_t here = MIN(size, r->readable->iov_len);
        r->readable->iov_base = (uint8_t *)r->readable->iov_base + here;
        r->readable->iov_len -= here;
        size -= here;
        if (!r->readable->iov_len) {
            r->readable++;
            r->n_readable--;
        }
    }
    return true;
}

uint8_t *virtq_cut_status(struct virtq_request *r)
{
    if (!r->writable_size || r->status)
        return NULL;
    struct iovec *last = &r->writable[r->n_writable - 1];
    r->writable_size--;
    last->iov_len--;
    r->status = (uint8_t *)last->iov_base + last->iov_len;
    if (!last->iov_len)
        r->n_writable--;
    return r->status;
}

void virtq_service(struct virtq *q)
{
    pthread_mutex_lock(&q->service);
    if (usable(q))
        q->owner->function->kick(q);
    pthread_mutex_unlock(&q->service);
}

unsigned virtq_index(const struct virtq *q)
{
    return q->index;
}

struct virtio *virtq_owner(const struct virtq *q)
{
    return q->owner;
}

unsigned virtq_size(const struct virtq *q)
{
    return q->size;
}
