/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A virtqueue as a device sees it (virtio 1.2, sections 2.6 to 2.8): requests out of it, results into it. */
/*
 * Theory of operation
 *
 * A driver puts *chains* of descriptors into a queue; each descriptor is a buffer that the device either
 * reads or writes. virtq_pop() copies each descriptor once, checks the copy, and hands the chain out as a
 * `struct virtq_request`: two lists of host addresses inside guest RAM. All requests a queue can have were
 * allocated with it, one per entry, each with room for the longest chain. The device moves the data, then
 * virtq_push() writes the used element, and virtq_notify() decides whether the driver wants an interrupt and
 * raises it. Split and packed rings look the same from here.
 *
 * The two usual shapes of a device:
 *
 *     static void kick(struct virtq *q)                   // everything on the thread that kicked
 *     {
 *         struct virtq_request *r;
 *         while (virtq_pop(q, &r, 1)) {
 *             ...
 *             r->written = n;
 *             virtq_push(q, &r, 1);
 *         }
 *         virtq_notify(q);
 *     }
 *
 *     do {                                                // a thread of its own, woken by kick()
 *         virtq_kicks_off(q);
 *         while ((n = virtq_pop(q, batch, BATCH)))
 *             ...                                         // push now or later, from any thread
 *     } while (virtq_kicks_on(q));                        // true: something came meanwhile
 *
 * Locks. Each queue has a mutex of its own inside; it is held for the ring work of one call and never while a
 * function of a device is called, guest pages are reported to mem, or an interrupt is raised. No function
 * below may be called with the device's lock (device_lock) held; all may be called from any thread, several
 * at once. So a batch can be popped by one thread and completed, in any order, by others.
 *
 * A guest is free to break every rule of the rings. What it breaks is its own device: the first violation
 * makes it DEVICE_NEEDS_RESET (virtio_break), from then on virtq_pop() finds nothing and virtq_push() drops,
 * until the driver resets it. The same holds while a reset waits for requests under way.
 */
#ifndef HOSTEL_DEVICE_VIRTIO_VIRTQUEUE_H
#define HOSTEL_DEVICE_VIRTIO_VIRTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { VIRTQ_SIZE_MAX = 1024 }; /* entries, and buffers of one request */

struct virtq;
struct virtio;
struct virtq_entry;

/* One chain under way. A device that needs more per request puts this first into a struct of its own and says
 * how big that is (virtio_function.request_size); what follows the head is zero at the first use and then
 * left alone. */
struct virtq_request {
    struct virtq *queue;
    /* Buffers inside guest RAM, in the order of the chain; none is empty. The guest may change their bytes at
     * any time: copy what is decided on (virtq_get), once. */
    struct iovec *readable, *writable;
    unsigned n_readable, n_writable;
    uint64_t readable_size, writable_size; /* bytes, together at most 2^32 */

    /* For virtq_push(), zero after virtq_pop(): how many bytes were written from the start of the writable
     * buffers, as the driver is told; and how many may have been changed when that is more (a read that
     * failed half way). */
    uint32_t written;
    uint64_t touched;

    /* The ring's own. */
    struct virtq_request *next;
    uint8_t *status;           /* cut off by virtq_cut_status */
    struct iovec *iov;         /* the room both lists are in */
    struct virtq_entry *entry; /* packed: its ring entries, count of them */
    uint16_t id, count;        /* as the driver knows it; ring entries it takes (packed) */
    uint16_t position;         /* where it was found */
    bool wrap, busy;
};

/* Takes up to max requests out of the queue in the order given by the driver; returns how many. They belong
 * to the caller until virtq_push() or virtq_unpop(), or until virtio_function.stop has returned. */
unsigned virtq_pop(struct virtq *q, struct virtq_request **requests, unsigned max);

/* Gives back the n requests popped last, in the order they were popped; they are found again by the next pop.
 * For a device that found too little room in them. Only where one thread pops. */
void virtq_unpop(struct virtq *q, struct virtq_request *const *requests, unsigned n);

/* A request that is under way, as it is saved: what the ring said of it, which may be gone by now. Its
 * entries: one, of a split ring; of a packed one, those of its chain. */
struct virtq_entry {
    uint64_t addr;
    uint32_t len;
    uint16_t id, flags;
};

/* The entries of r into entry (room for as many as the queue has); how many. */
unsigned virtq_entries(const struct virtq_request *r, struct virtq_entry *entry);

/* The other way round: the request is under way again, in a queue that was loaded and is live. entry is
 * hostile. NULL: impossible; the device is broken then. */
struct virtq_request *virtq_retake(struct virtq *q, const struct virtq_entry *entry, unsigned n);

/* Hands results to the driver, without telling it: reports the pages that were written to mem, then writes
 * the used elements. The requests are the queue's again. */
void virtq_push(struct virtq *q, struct virtq_request *const *requests, unsigned n);

/* Tells the driver about results pushed since the last time, if it wants to be told. */
void virtq_notify(struct virtq *q);

/* Push and notify of one. */
void virtq_complete(struct virtq_request *r);

/* Asks the driver not to kick (it may do it nevertheless); and to kick again. kicks_on: true when there is
 * something to pop already, for which no kick may come. Queues begin with kicks on. */
void virtq_kicks_off(struct virtq *q);
bool virtq_kicks_on(struct virtq *q);

/* For a kick() that ends after so many requests, though another pop might have found more: asks the driver to
 * kick, which otherwise only a pop that finds nothing does, and has the device's kick(q) called again, on the
 * main thread, for what is there already. */
void virtq_leave(struct virtq *q);

/* Is there something to pop? A guess that may be old when it is read. */
bool virtq_waiting(struct virtq *q);

/* As if the driver had kicked: calls the device's kick(q) on this thread, one at a time per queue. For a
 * device that had to leave requests in the queue and can go on. Not from inside kick(). */
void virtq_service(struct virtq *q);

unsigned virtq_index(const struct virtq *q);
struct virtio *virtq_owner(const struct virtq *q);
/* Entries, as the driver chose; 0 when the queue is not in use. */
unsigned virtq_size(const struct virtq *q);

/* --- the bytes of a request --- */

/* Copies size bytes at offset out of the readable, or into the writable buffers. False, and nothing copied,
 * when they are shorter. virtq_put does not change r->written. */
bool virtq_get(const struct virtq_request *r, uint64_t offset, void *to, size_t size);
bool virtq_put(struct virtq_request *r, uint64_t offset, const void *from, size_t size);

/* Cuts the first size bytes off the readable buffers (a header that has been read). False when they are
 * shorter. */
bool virtq_cut_header(struct virtq_request *r, uint64_t size);

/* Cuts the last byte off the writable buffers and returns its place in guest RAM; NULL when there is none.
 * Store to it before virtq_push(), which reports it; `written` counts it when everything before was written.
 * Once per request. */
uint8_t *virtq_cut_status(struct virtq_request *r);

#endif
