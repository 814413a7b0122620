/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Looking after long work of a guest's process: how far it is, and an end to it when a signal asks. */
#ifndef HOSTEL_CLI_WATCH_H
#define HOSTEL_CLI_WATCH_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/guest_call.h"
#include "cli/progress.h"

/* The conversation that waits for the end cannot ask, so there is another one. */
struct watch {
    const char *name;                                  /* of the guest */
    const char *job;                                   /* what it is called, if it is one of QMP's jobs */
    const char *query;                                 /* the command that tells how far it is */
    void (*show)(struct watch *w, const json_t *told); /* its answer */
    const char *cancel;                                /* the command that ends it; with a job's id */
    struct progress progress;
    struct guest_call *call; /* opened when it takes long */
    bool cancelled;
};

/* From here on `call` may wait for as long as it takes. */
void watch_begin(struct watch *w, struct guest_call *call, enum progress_form form);
/* Looks once more. */
void watch_look(struct watch *w);
void watch_end(struct watch *w, struct guest_call *call, bool done);

#endif
