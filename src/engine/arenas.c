/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The ring of arenas; see arenas.h. */
#include "engine/arenas.h"

#include <errno.h>
#include <sys/param.h>

void arenas_init(struct arenas *a, size_t total, size_t least)
{
    *a = (struct arenas){.n = (unsigned)MAX(MIN(total / least, ARENAS_MAX), ARENAS_FEWEST)};
    a->size = MAX(total / a->n, least);
}

size_t arenas_room(const struct arenas *a)
{
    return a->size - a->arena[a->current].used;
}

unsigned arenas_oldest(const struct arenas *a)
{
    return (a->current + 1) % a->n;
}

int arenas_next(struct arenas *a)
{
    unsigned next = arenas_oldest(a);
    if (!a->arena[a->current].used)
        return -E2BIG;
    if (a->arena[next].live)
        return -ENOSPC;
    a->current = next;
    return 0;
}

unsigned arenas_take(struct arenas *a, size_t bytes)
{
    a->arena[a->current].used += bytes;
    a->arena[a->current].live++;
    return a->current;
}

void arenas_give(struct arenas *a, unsigned arena)
{
    if (!--a->arena[arena].live)
        a->arena[arena].used = 0;
}

size_t arenas_used(const struct arenas *a)
{
    size_t used = 0;
    for (unsigned i = 0; i < a->n; i++)
        used += a->arena[i].used;
    return used;
}
