/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Long work beside the main loop: threads made before the process is locked down, and the way back. */
#ifndef HOSTEL_VM_WORKER_H
#define HOSTEL_VM_WORKER_H

#include <glib.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "block/pool.h"

struct vm_worker;

/* One piece of work, part of whatever it is for. From submit until done is called it is the worker's. */
struct vm_work {
    struct block_job job;
    struct vm_worker *worker;
    struct vm_work *next;
    bool said, ended;                   /* it is in the worker's list; for the last time */
    void (*run)(struct vm_work *work);  /* on a thread of the worker */
    void (*done)(struct vm_work *work); /* then, on the main thread; may free it or submit it again */
    void (*told)(struct vm_work *work); /* before, on the main thread, behind vm_work_tell(); if it is used */
};

/* NULL with *error. Set-up. */
struct vm_worker *vm_worker_new(GMainContext *context, unsigned threads, GError **error);
/* Waits for the work that has been submitted; its done is not called any more. NULL is fine. Main thread. */
void vm_worker_free(struct vm_worker *w);
CLEANUP_DEFINE(vm_worker, vm_worker_free)

/* Begins the work, with run and done set, as soon as a thread is free, behind what was submitted before. Main
 * thread. */
void vm_worker_submit(struct vm_worker *w, struct vm_work *work);

/* In run: has told() called soon, once for however many calls there were until then; or done, if the work
 * ends first. */
void vm_work_tell(struct vm_work *work);

#endif
