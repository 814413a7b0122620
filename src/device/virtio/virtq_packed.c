/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Packed virtqueues (virtio 1.2, section 2.8): one ring of descriptors that both sides overwrite in turn. */
/*
 * Each side goes round the ring with a wrap counter that flips at each round. A descriptor is available when
 * its AVAIL bit equals the driver's counter and its USED bit does not; it is used when both equal the
 * device's. A chain lies in consecutive entries; the device writes one used element for it and skips the
 * rest.
 */
#include "device/virtio/virtqueue_int.h"

enum { AREA_RING, AREA_DRIVER, AREA_DEVICE };
enum { PACKED_AVAIL = 1 << 7, PACKED_USED = 1 << 15 };
/* A descriptor, and the event areas. */
enum { DESC_LEN = 8, DESC_ID = 12, DESC_FLAGS = 14, EVENT_POSITION = 0, EVENT_FLAGS = 2, EVENT_BYTES = 4 };
enum { EVENT_ALWAYS = 0, EVENT_NEVER = 1, EVENT_AT = 2 };
enum { POSITION_WRAP = 1 << 15 };

static uint64_t packed_area_bytes(unsigned area, unsigned size)
{
    return area == AREA_RING ? (uint64_t)size * VIRTQ_DESC_BYTES : EVENT_BYTES;
}

static uint8_t *entry(const struct virtq *q, unsigned at)
{
    return q->area[AREA_RING] + (size_t)at * VIRTQ_DESC_BYTES;
}

static void advance(const struct virtq *q, struct virtq_position *p, unsigned n)
{
    unsigned at = p->at + n;
    if (at >= q->size) {
        at -= q->size;
        p->wrap = !p->wrap;
    }
    p->at = (uint16_t)at;
}

static bool packed_waiting(const struct virtq *q)
{
    unsigned flags = ring_acquire16(entry(q, q->taken.at) + DESC_FLAGS);
    return !!(flags & PACKED_AVAIL) == q->taken.wrap && !!(flags & PACKED_USED) != q->taken.wrap;
}

/* The table's entries are all of the chain, in their order; of their flags only WRITE counts. */
static bool add_table(struct virtq *q, struct virtq_request *r, const struct virtq_desc *indirect)
{
    unsigned entries;
    const uint8_t *table = virtq_table(q, indirect->addr, indirect->len, &entries);
    if (!table)
        return false;
    for (unsigned i = 0; i < entries; i++) {
        struct virtq_desc d = virtq_load_desc(q, table + (size_t)i * VIRTQ_DESC_BYTES);
        if (d.word[1] & DESC_INDIRECT) {
            q->fault = "an indirect descriptor out of place";
            return false;
        }
        if (!virtq_add_buffer(q, r, d.addr, d.len, d.word[1] & DESC_WRITE))
            return false;
    }
    return true;
}

/* Adds one ring entry to the chain: 1, and the chain ends; 0; -1. */
static int add_entry(struct virtq *q, struct virtq_request *r, const struct virtq_desc *d)
{
    const unsigned flags = d->word[1];
    bool added;
    if (!(flags & DESC_INDIRECT)) {
        added = virtq_add_buffer(q, r, d->addr, d->len, flags & DESC_WRITE);
    } else if (flags & DESC_NEXT) {
        q->fault = "an indirect descriptor out of place";
        added = false;
    } else {
        added = add_table(q, r, d);
    }
    r->entry[r->count++] =
        (struct virtq_entry){.addr = d->addr, .len = d->len, .id = d->word[0], .flags = d->word[1]};
    if (added && !(flags & DESC_NEXT))
        r->id = d->word[0];
    return !added ? -1 : !(flags & DESC_NEXT);
}

static int packed_pop(struct virtq *q, struct virtq_request *r)
{
    if (!packed_waiting(q))
        return 0;
    struct virtq_position p = q->taken;
    for (unsigned n = 1; n <= q->size; n++) {
        struct virtq_desc d = virtq_load_desc(q, entry(q, p.at));
        advance(q, &p, 1);
        int how = add_entry(q, r, &d);
        if (how < 0)
            return -1;
        if (how) {
            q->taken = p;
            return 1;
        }
    }
    q->fault = "a chain without an end";
    return -1;
}

static int packed_retake(struct virtq *q, struct virtq_request *r, const struct virtq_entry *e, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const struct virtq_desc d = {.addr = e[i].addr, .len = e[i].len, .word = {e[i].id, e[i].flags}};
        int how = add_entry(q, r, &d);
        if (how && (how < 0 || i + 1 == n))
            return how;
        if (how)
            break;
    }
    q->fault = "saved with a chain that ends elsewhere";
    return -1;
}

static unsigned packed_push(struct virtq *q, const struct virtq_request *r)
{
    uint8_t *used = entry(q, q->given.at);
    uint16_t flags = q->given.wrap ? PACKED_AVAIL | PACKED_USED : 0;
    ring_store32(used + DESC_LEN, r->written);
    ring_store16(used + DESC_ID, r->id);
    ring_release16(used + DESC_FLAGS, (uint16_t)(flags | (r->written ? DESC_WRITE : 0)));
    advance(q, &q->given, r->count);
    return r->count;
}

static void packed_publish(struct virtq *q)
{
    (void)q; /* each element shows itself */
}

static bool packed_wants_interrupt(const struct virtq *q)
{
    const uint8_t *area = q->area[AREA_DRIVER];
    unsigned how = ring_acquire16(area + EVENT_FLAGS) & 3;
    if (how != EVENT_AT || !q->event_idx)
        return how != EVENT_NEVER;
    unsigned position = ring_load16(area + EVENT_POSITION);
    uint16_t event = (uint16_t)(position & ~(unsigned)POSITION_WRAP);
    if (!!(position & POSITION_WRAP) != q->given.wrap)
        event = (uint16_t)(event - q->size); /* in the round before */
    return virtq_passed(event, q->given.at, (uint16_t)(q->given.at - q->untold));
}

static void packed_set_kicks(struct virtq *q, bool on)
{
    uint8_t *area = q->area[AREA_DEVICE];
    if (on && q->event_idx)
        ring_store16(area + EVENT_POSITION, (uint16_t)(q->taken.at | (q->taken.wrap ? POSITION_WRAP : 0)));
    ring_release16(area + EVENT_FLAGS, !on ? EVENT_NEVER : q->event_idx ? EVENT_AT : EVENT_ALWAYS);
}

const struct virtq_format virtq_packed = {
    .area_bytes = packed_area_bytes,
    .align = {16, 4, 4},
    .written = 1 << AREA_RING | 1 << AREA_DEVICE,
    .pop = packed_pop,
    .retake = packed_retake,
    .waiting = packed_waiting,
    .push = packed_push,
    .publish = packed_publish,
    .wants_interrupt = packed_wants_interrupt,
    .set_kicks = packed_set_kicks,
};
