/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Split virtqueues (virtio 1.2, section 2.7): a descriptor table, the ring of available chains, the ring of
 * used ones. */
#include "device/virtio/virtqueue_int.h"

enum { AREA_TABLE, AREA_AVAILABLE, AREA_USED };
/* Both rings: flags, index, then the elements, then the other side's event index. */
enum { RING_FLAGS = 0, RING_INDEX = 2, RING_ELEMENTS = 4, AVAILABLE_BYTES = 2, USED_BYTES = 8 };
enum { AVAILABLE_NO_INTERRUPT = 1, USED_NO_NOTIFY = 1 };

static uint64_t split_area_bytes(unsigned area, unsigned size)
{
    switch (area) {
    case AREA_TABLE: return (uint64_t)size * VIRTQ_DESC_BYTES;
    case AREA_AVAILABLE: return RING_ELEMENTS + (uint64_t)size * AVAILABLE_BYTES + 2;
    default: return RING_ELEMENTS + (uint64_t)size * USED_BYTES + 2;
    }
}

/* How many chains are available; more than the queue's size is a lie. */
static uint16_t available(const struct virtq *q)
{
    return (uint16_t)(ring_acquire16(q->area[AREA_AVAILABLE] + RING_INDEX) - q->taken.at);
}

static bool split_waiting(const struct virtq *q)
{
    return available(q) != 0;
}

/* Follows a chain through a table of n descriptors, from entry at. 1: it ended in an indirect descriptor,
 * which is in *last; 0: ended; -1: fault. */
static int follow(struct virtq *q, struct virtq_request *r, const uint8_t *table, unsigned n, unsigned at,
                  bool inside_indirect, struct virtq_desc *last)
{
    for (unsigned steps = 0; steps < n; steps++) {
        if (at >= n) {
            q->fault = "a descriptor beyond the table";
            return -1;
        }
        struct virtq_desc d = virtq_load_desc(q, table + (size_t)at * VIRTQ_DESC_BYTES);
        unsigned flags = d.word[0];
        if (flags & DESC_INDIRECT) {
            if (inside_indirect || flags & DESC_NEXT) {
                q->fault = "an indirect descriptor out of place";
                return -1;
            }
            *last = d;
            return 1;
        }
        if (!virtq_add_buffer(q, r, d.addr, d.len, flags & DESC_WRITE))
            return -1;
        if (!(flags & DESC_NEXT))
            return 0;
        at = d.word[1];
    }
    q->fault = "a chain without an end";
    return -1;
}

/* The chain that begins with descriptor r->id: 0 or -1. */
static int add_chain(struct virtq *q, struct virtq_request *r)
{
    struct virtq_desc indirect;
    int how = follow(q, r, q->area[AREA_TABLE], q->size, r->id, false, &indirect);
    if (how > 0) {
        unsigned entries;
        const uint8_t *table = virtq_table(q, indirect.addr, indirect.len, &entries);
        how = table ? follow(q, r, table, entries, 0, true, &indirect) : -1;
    }
    return how;
}

static int split_pop(struct virtq *q, struct virtq_request *r)
{
    uint16_t there = available(q);
    if (!there)
        return 0;
    if (there > q->size) {
        q->fault = "more available chains than entries";
        return -1;
    }
    unsigned slot = q->taken.at & (q->size - 1u);
    r->id = ring_load16(q->area[AREA_AVAILABLE] + RING_ELEMENTS + slot * AVAILABLE_BYTES);
    if (add_chain(q, r) < 0)
        return -1;
    q->taken.at++;
    return 1;
}

static int split_retake(struct virtq *q, struct virtq_request *r, const struct virtq_entry *e, unsigned n)
{
    if (n != 1) {
        q->fault = "saved with entries of another ring";
        return -1;
    }
    r->id = e->id;
    return add_chain(q, r) < 0 ? -1 : 1;
}

static unsigned split_push(struct virtq *q, const struct virtq_request *r)
{
    unsigned slot = q->given.at & (q->size - 1u);
    uint8_t *element = q->area[AREA_USED] + RING_ELEMENTS + slot * USED_BYTES;
    ring_store32(element, r->id);
    ring_store32(element + 4, r->written);
    q->given.at++;
    return 1;
}

static void split_publish(struct virtq *q)
{
    ring_release16(q->area[AREA_USED] + RING_INDEX, q->given.at);
}

static bool split_wants_interrupt(const struct virtq *q)
{
    const uint8_t *ring = q->area[AREA_AVAILABLE];
    if (!q->event_idx)
        return !(ring_load16(ring + RING_FLAGS) & AVAILABLE_NO_INTERRUPT);
    uint16_t event = ring_load16(ring + RING_ELEMENTS + q->size * AVAILABLE_BYTES);
    return virtq_passed(event, q->given.at, (uint16_t)(q->given.at - q->untold));
}

static void split_set_kicks(struct virtq *q, bool on)
{
    uint8_t *ring = q->area[AREA_USED];
    if (!q->event_idx)
        ring_store16(ring + RING_FLAGS, on ? 0 : USED_NO_NOTIFY);
    else if (on)
        ring_store16(ring + RING_ELEMENTS + q->size * USED_BYTES, q->taken.at);
    /* Off: the event index stays behind what the driver adds, so nothing passes it. */
}

const struct virtq_format virtq_split = {
    .area_bytes = split_area_bytes,
    .align = {16, 2, 4},
    .written = 1 << AREA_USED,
    .pop = split_pop,
    .retake = split_retake,
    .waiting = split_waiting,
    .push = split_push,
    .publish = split_publish,
    .wants_interrupt = split_wants_interrupt,
    .set_kicks = split_set_kicks,
};
