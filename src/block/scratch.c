/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Each thread's stack of buffers; see scratch.h. */
#include "block/scratch.h"

#include <glib.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/bits.h"

enum { ALIGNMENT = 4096 };

struct scratch {
    unsigned taken;
    struct {
        void *bytes;
        size_t size;
    } level[BLOCK_SCRATCH_DEPTH];
};

/* Not const: it would be among the constants then. */
static _Alignas(ALIGNMENT) uint8_t zeroes[BLOCK_ZEROES] __attribute__((section(".bss.zeroes")));

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_scratch(void *opaque)
{
    struct scratch *s = opaque;
    for (unsigned i = 0; i < BLOCK_SCRATCH_DEPTH; i++)
        free(s->level[i].bytes);
    free(s);
}

static void make_key(void)
{
    int error = pthread_key_create(&key, free_scratch);
    g_assert(!error);
}

static struct scratch *mine(void)
{
    pthread_once(&once, make_key);
    struct scratch *s = pthread_getspecific(key);
    if (!s && (s = calloc(1, sizeof(*s))) && pthread_setspecific(key, s)) {
        free(s);
        s = NULL;
    }
    return s;
}

void *block_scratch_take(size_t size)
{
    struct scratch *s = mine();
    if (!s)
        return NULL;
    g_assert(s->taken < BLOCK_SCRATCH_DEPTH);
    const size_t want = align_up(size ? size : 1, ALIGNMENT);
    if (s->level[s->taken].size < want) {
        free(s->level[s->taken].bytes);
        s->level[s->taken].bytes = aligned_alloc(ALIGNMENT, want);
        s->level[s->taken].size = s->level[s->taken].bytes ? want : 0;
        if (!s->level[s->taken].bytes)
            return NULL;
    }
    return s->level[s->taken++].bytes;
}

void block_scratch_give(void *bytes)
{
    struct scratch *s = mine();
    if (!bytes || !s)
        return;
    g_assert(s->taken && s->level[s->taken - 1].bytes == bytes);
    s->taken--;
}

const uint8_t *block_zeroes(void)
{
    return zeroes;
}
