/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Connections of one disk to its server; see lines.h. */
#include "block/protocol/lines.h"

#include <glib.h>

void lines_init(struct lines *l, unsigned most, void *(*connect)(void *opaque, int *error),
                void (*disconnect)(void *line), void *opaque)
{
    *l = (struct lines){
        .most = CLAMP(most, 1, LINES_MAX), .connect = connect, .disconnect = disconnect, .opaque = opaque};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->given, NULL);
}

void lines_fini(struct lines *l)
{
    while (l->n_idle)
        l->disconnect(l->idle[--l->n_idle]);
    pthread_cond_destroy(&l->given);
    pthread_mutex_destroy(&l->lock);
}

/* The lock is held, and is not while we connect. */
static void *connect_locked(struct lines *l, int *error)
{
    l->made++;
    pthread_mutex_unlock(&l->lock);
    void *line = l->connect(l->opaque, error);
    pthread_mutex_lock(&l->lock);
    if (!line) {
        l->made--;
        pthread_cond_broadcast(&l->given); /* who waits for one of ours tries by itself */
    }
    return line;
}

void *lines_take(struct lines *l, int *error)
{
    void *line = NULL;
    *error = 0;
    pthread_mutex_lock(&l->lock);
    while (!l->n_idle && l->made >= l->most)
        pthread_cond_wait(&l->given, &l->lock);
    if (l->n_idle)
        line = l->idle[--l->n_idle];
    else
        line = connect_locked(l, error);
    /* One that others have is worth waiting for: the server may allow no more. */
    while (!line && l->made && !l->n_idle)
        pthread_cond_wait(&l->given, &l->lock);
    if (!line && l->n_idle)
        line = l->idle[--l->n_idle];
    pthread_mutex_unlock(&l->lock);
    return line;
}

void lines_give(struct lines *l, void *line, bool broken)
{
    if (broken)
        l->disconnect(line);
    pthread_mutex_lock(&l->lock);
    l->broke |= broken;
    if (broken)
        l->made--;
    else
        l->idle[l->n_idle++] = line;
    pthread_cond_broadcast(&l->given);
    pthread_mutex_unlock(&l->lock);
}

bool lines_broke(struct lines *l)
{
    pthread_mutex_lock(&l->lock);
    const bool broke = l->broke;
    pthread_mutex_unlock(&l->lock);
    return broke;
}

void lines_add(struct lines *l, void *line)
{
    pthread_mutex_lock(&l->lock);
    l->made++;
    l->idle[l->n_idle++] = line;
    pthread_mutex_unlock(&l->lock);
}
