/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What was read around small reads of a file that does not change: a few pieces, the longest unused given up.
 */
#ifndef HOSTEL_BLOCK_PROTOCOL_CURL_CACHE_H
#define HOSTEL_BLOCK_PROTOCOL_CURL_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "block/protocol/curl/fetch.h"

enum { CACHE_SLOTS = 16 };

struct cache_slot {
    uint64_t number; /* of the piece */
    uint64_t used;   /* when */
    enum { SLOT_EMPTY, SLOT_LOADING, SLOT_FULL } state;
    unsigned readers;
};

struct cache {
    pthread_mutex_t lock; /* guards the slots; the bytes of a full one with readers do not change */
    pthread_cond_t changed;
    struct cache_slot slots[CACHE_SLOTS];
    uint8_t *bytes; /* CACHE_SLOTS * piece */
    uint64_t piece, clock;
};

/* piece: bytes. False: not enough memory. */
bool cache_init(struct cache *c, uint64_t piece);
void cache_fini(struct cache *c);

/* Bytes that lie in one piece. 0 or -errno. Any thread. */
int cache_read(struct cache *c, struct fetch *f, void *to, uint64_t offset, uint64_t size);

#endif
