/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio-blk: its requests, and those of them that are kept because they failed. */
#ifndef HOSTEL_DEVICE_VIRTIO_BLK_INT_H
#define HOSTEL_DEVICE_VIRTIO_BLK_INT_H

#include <stdatomic.h>

#include "block/block.h"
#include "block/filter/root.h"
#include "block/pool.h"
#include "device/virtio/virtio.h"

enum {
    BLK_QUEUE_SIZE = 256,
    BLK_QUEUES_MAX = 4,
    BLK_KEPT_MAX = BLK_QUEUES_MAX * BLK_QUEUE_SIZE, /* ring entries of all that can be under way */
};

/* Requests (5.2.6). */
enum blk_type { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };

struct blk;

struct blk_queue {
    struct block_job more; /* goes on where a kick stopped */
    struct virtq *q;
    _Atomic bool going_on; /* more is submitted */
};

struct blk_request;

struct blk {
    struct virtio virtio;
    struct disk *disk;       /* borrowed; NULL: nothing in the drive */
    struct block_pool *pool; /* with a disk */
    pthread_mutex_t waiting; /* guards what follows, up to kept */
    pthread_cond_t changed;  /* what retry waits for: */
    bool stopping;
    unsigned holds;
    bool retrying;            /* retry is submitted */
    unsigned waiters;         /* requests that wait for room, or do so no more but are not done */
    struct blk_request *kept; /* failed, to be tried again */
    struct block_job retry;
    uint8_t queues; /* option */
    struct blk_queue queue[BLK_QUEUES_MAX];
    struct blk_saved { /* ring entries of kept requests, one behind the other; valid while saved and loaded */
        uint32_t count;
        uint8_t queue[BLK_KEPT_MAX];
        uint64_t addr[BLK_KEPT_MAX];
        uint32_t len[BLK_KEPT_MAX];
        uint16_t id[BLK_KEPT_MAX], flags[BLK_KEPT_MAX];
    } saved;
    bool loading; /* activate() takes up what was saved */
};

struct blk_request {
    struct virtq_request vq;
    struct block_job job;
    struct blk_request *next; /* kept */
    bool until_told;          /* kept: not for retry */
    bool waits;               /* is one of the waiters */
    uint8_t *status;          /* in guest RAM */
    enum blk_type type;
    uint64_t offset;                 /* bytes */
    uint64_t filled;                 /* bytes of the data buffers that hold what was asked for */
    uint64_t failed_at, failed_size; /* where the disk failed; size 0: it did not, or flushed */
};

static inline struct blk *blk_of(struct virtio *v)
{
    return (struct blk *)(void *)v;
}

static inline struct blk_request *request_of(struct virtq_request *r)
{
    return (struct blk_request *)(void *)r;
}

static inline struct blk *owner(const struct blk_request *r)
{
    return blk_of(virtq_owner(r->vq.queue));
}

/* --- blk_kept.c --- */

void blk_kept_init(struct blk *b);
void blk_kept_fini(struct blk *b);

/* It waits for room, or does so no more: counted, so that people hear about the first and the last. */
void blk_waits(struct blk *b, struct blk_request *r, bool waits);

/* Keeps a request that failed: for retry, or until it is told to go on. False: the device stops. */
bool blk_keep(struct blk *b, struct blk_request *r, bool until_told);

/* The device stops: returns when nothing is under way, with nothing kept. */
void blk_kept_drop(struct blk *b);

/* No job begins; returns when none is under way. And the end of that. */
void blk_hold(struct blk *b);
void blk_release(struct blk *b);

/* All that is kept is tried again. */
void blk_again(struct blk *b);

/* Held: what is kept, into b->saved. */
void blk_kept_save(struct blk *b);
/* Just loaded: can it have been saved? */
bool blk_kept_possible(const struct blk *b);
/* How many saved entries from i on are one chain; 0: it has no end, or goes from queue to queue. */
unsigned blk_kept_chain(const struct blk_saved *s, unsigned i,
                        struct virtq_entry entry[static BLK_QUEUE_SIZE]);

#endif
