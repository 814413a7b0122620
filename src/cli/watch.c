/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Looking after long work of a guest's process. */
#include "cli/watch.h"

#include <stdatomic.h>

#include "cli/stop.h"

enum { WATCH_MS = 250, WATCH_CALL_MS = 2000 };

void watch_look(struct watch *w)
{
    if (!w->call)
        w->call = guest_call_open(w->name, WATCH_CALL_MS, NULL);
    if (!w->call)
        return;
    if (atomic_load(&cli_stopped) && !w->cancelled)
        w->cancelled =
            guest_call_do(w->call, w->cancel, w->job ? json_pack("{s:s}", "id", w->job) : NULL, NULL);
    json_t *told = guest_call(w->call, w->query, NULL, NULL);
    w->show(w, told);
    json_decref(told);
}

static void tick(void *opaque)
{
    watch_look(opaque);
}

void watch_begin(struct watch *w, struct guest_call *call, enum progress_form form)
{
    progress_begin(&w->progress, form, 0);
    guest_call_set_timeout(call, -1);
    guest_call_set_tick(call, WATCH_MS, tick, w);
}

void watch_end(struct watch *w, struct guest_call *call, bool done)
{
    guest_call_set_tick(call, 0, NULL, NULL);
    guest_call_set_timeout(call, GUEST_CALL_MS);
    progress_end(&w->progress, done);
    guest_call_close(w->call);
}
