/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Connections of one disk to its server, for libraries whose connections do one thing at a time. */
/*
 * Whoever does an operation takes a connection, has it alone, and gives it back. When all are taken a new one
 * is made, up to a limit; then one waits. A connection that broke is given back as such and not used again,
 * so the next operation gets a new one.
 */
#ifndef HOSTEL_BLOCK_PROTOCOL_LINES_H
#define HOSTEL_BLOCK_PROTOCOL_LINES_H

#include <pthread.h>
#include <stdbool.h>

enum { LINES_MAX = 16 };

struct lines {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t given;
    void *idle[LINES_MAX];
    unsigned n_idle, made, most;
    bool broke;                                 /* one of them, ever */
    void *(*connect)(void *opaque, int *error); /* NULL with *error, -errno; any thread, no lock held */
    void (*disconnect)(void *line);
    void *opaque;
};

/* most: 1 to LINES_MAX, others are brought there. */
void lines_init(struct lines *l, unsigned most, void *(*connect)(void *opaque, int *error),
                void (*disconnect)(void *line), void *opaque);

/* Nobody has one any more. */
void lines_fini(struct lines *l);

/* NULL with *error when there is none and none can be made. */
void *lines_take(struct lines *l, int *error);
void lines_give(struct lines *l, void *line, bool broken);

/* Has any connection broken so far? */
bool lines_broke(struct lines *l);

/* One that was made elsewhere, and counts. */
void lines_add(struct lines *l, void *line);

#endif
