/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What the files of the virtqueue know of each other: its state, and what differs between split and packed.
 */
#ifndef HOSTEL_DEVICE_VIRTIO_VIRTQUEUE_INT_H
#define HOSTEL_DEVICE_VIRTIO_VIRTQUEUE_INT_H

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>

#include "device/virtio/virtio.h"
#include "device/virtio/virtqueue.h"
#include "mem/dma.h"

/* A descriptor as copied out of guest RAM; the same 16 bytes in both formats, the last two words swapped in
 * meaning: split has flags, next; packed has id, flags. */
struct virtq_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t word[2];
};
enum { VIRTQ_DESC_BYTES = 16 };

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };

/* A place in a ring, free-running (split) or an index with its wrap counter (packed). */
struct virtq_position {
    uint16_t at;
    bool wrap;
};

/* What a format of rings does. All with the queue's lock held. */
struct virtq_format {
    /* Bytes of the three areas (descriptors, the driver's, the device's) for size entries, and their
     * alignment. Which of them the device writes: a bit each. */
    uint64_t (*area_bytes)(unsigned area, unsigned size);
    uint16_t align[3];
    uint8_t written;
    /* Fills r with the next chain: 1; 0 when there is none; -1 with q->fault set. */
    int (*pop)(struct virtq *q, struct virtq_request *r);
    /* Fills r with the chain that n of its entries, kept from a pop, say: 1, or -1. */
    int (*retake)(struct virtq *q, struct virtq_request *r, const struct virtq_entry *entry, unsigned n);
    bool (*waiting)(const struct virtq *q);
    /* Writes a used element; by how much the place of the next one moved. publish makes those written so far
     * visible. */
    unsigned (*push)(struct virtq *q, const struct virtq_request *r);
    void (*publish)(struct virtq *q);
    /* Does the driver want an interrupt for what was pushed last, q->untold places? */
    bool (*wants_interrupt)(const struct virtq *q);
    /* Says that kicks are wanted, for the next chain; or are not. */
    void (*set_kicks)(struct virtq *q, bool on);
};

extern const struct virtq_format virtq_split, virtq_packed;

struct virtq {
    struct virtio *owner;
    struct mem *mem;
    unsigned index, max; /* max: entries offered, and buffers in a request */

    pthread_mutex_t service; /* held while the function's kick() runs */
    pthread_mutex_t lock;    /* guards what follows */
    _Atomic bool live;       /* may be popped and pushed; changed with the lock held */
    const struct virtq_format *format;
    bool event_idx, indirect;
    uint16_t size;    /* 0: not enabled */
    uint8_t *area[3]; /* host addresses of descriptors, the driver's area, the device's */
    struct virtq_position taken, given;
    uint32_t untold;   /* places gone on since the last decision about an interrupt */
    bool kicks;        /* the driver is asked to kick */
    const char *fault; /* what the driver did, when it broke a rule */
    uint8_t *requests; /* the structs, request_size apart */
    struct iovec *room;
    struct virtq_entry *entry_room;
    size_t request_size;
    struct virtq_request *free;
};

/* --- for the formats --- */

/* Loads from and stores to rings: single-copy atomic, little-endian; acquire and release where said. */
static inline uint16_t ring_load16(const uint8_t *p)
{
    return GUINT16_FROM_LE(__atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_RELAXED));
}

static inline uint16_t ring_acquire16(const uint8_t *p)
{
    return GUINT16_FROM_LE(__atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_ACQUIRE));
}

static inline void ring_store16(uint8_t *p, uint16_t v)
{
    __atomic_store_n((uint16_t *)(void *)p, GUINT16_TO_LE(v), __ATOMIC_RELAXED);
}

static inline void ring_release16(uint8_t *p, uint16_t v)
{
    __atomic_store_n((uint16_t *)(void *)p, GUINT16_TO_LE(v), __ATOMIC_RELEASE);
}

static inline void ring_store32(uint8_t *p, uint32_t v)
{
    __atomic_store_n((uint32_t *)(void *)p, GUINT32_TO_LE(v), __ATOMIC_RELAXED);
}

/* Copies one descriptor, of any alignment. */
struct virtq_desc virtq_load_desc(const struct virtq *q, const uint8_t *at);

/* Adds the buffer of a descriptor to r. False with q->fault set. */
bool virtq_add_buffer(struct virtq *q, struct virtq_request *r, uint64_t addr, uint32_t len, bool write);

/* The indirect table of a descriptor, and its number of entries. NULL with q->fault set. */
const uint8_t *virtq_table(struct virtq *q, uint64_t addr, uint32_t len, unsigned *entries);

/* Event index arithmetic (section 2.7.10): has the index moved past event on its way from old to now? */
static inline bool virtq_passed(uint16_t event, uint16_t now, uint16_t old)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

/* --- for the core (virtio.c) --- */

struct virtq *virtq_new(struct virtio *owner, unsigned index, unsigned max, size_t request_size);
void virtq_free(struct virtq *q); /* NULL is fine */

/* Where the driver put a queue. */
struct virtq_place {
    uint64_t area[3];
    uint32_t size;
    struct virtq_position taken, given;
};

/* Takes the place into use, not yet live. NULL, or what is wrong with it (a constant). */
const char *virtq_enable(struct virtq *q, const struct virtq_place *place, uint64_t features);
void virtq_set_live(struct virtq *q, bool live);
/* Forgets everything; the function has stopped. */
void virtq_disable(struct virtq *q);
void virtq_positions(struct virtq *q, struct virtq_position *taken, struct virtq_position *given);
/* No call of the function's kick() that began before is under way. */
void virtq_settle(struct virtq *q);

/* virtio.c: the interrupt of used buffers; and virtq_service() of queue i, soon and on the main thread. No
 * lock but the queue's service lock is held. */
void virtio_used(struct virtio *v);
void virtio_again(struct virtio *v, unsigned i);

#endif
