/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Long work beside the main loop: a thread made before the process is locked down, and the way back. */
#ifndef HOSTEL_VM_WORKER_H
#define HOSTEL_VM_WORKER_H

#include <glib.h>

#include "base/cleanup.h"
#include "block/pool.h"

struct vm_worker;

/* One piece of work, part of whatever it is for. From submit until done is called it is the worker's. */
struct vm_work {
    struct block_job job;
    struct vm_worker *worker;
    struct vm_work *next;
    void (*run)(struct vm_work *work);  /* on the worker's thread */
    void (*done)(struct vm_work *work); /* then, on the main thread; may free it or submit it again */
};

/* NULL with *error. Set-up. */
struct vm_worker *vm_worker_new(GMainContext *context, GError **error);
/* Waits for the work that has been submitted; its done is not called any more. NULL is fine. Main thread. */
void vm_worker_free(struct vm_worker *w);
CLEANUP_DEFINE(vm_worker, vm_worker_free)

/* Begins the work, with run and done set, behind what was submitted before. Main thread. */
void vm_worker_submit(struct vm_worker *w, struct vm_work *work);

#endif
