/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Saving a guest to a file, while it runs, and making a guest out of such a file. */
/*
 * Theory of operation
 *
 * Saving has three parts:
 *
 *   copy    on the worker's thread, the guest runs: all of memory is written to its place in the file, then
 *           again and again what the guest has changed meanwhile (mem.h's dirty log), until that is little
 *   stop    on the main thread, the guest stands: the rest of memory, the state of CPUs and chips; disks go
 * on in other images at this moment, if that was asked for; the guest goes on, or not finish  on the worker's
 * thread: memory is summed, state written, and last the head
 *
 * The guest stands only for the second. When any part fails it goes on as it would have without.
 */
#ifndef HOSTEL_VM_SAVE_H
#define HOSTEL_VM_SAVE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "codec/saved.h"

struct vm;

/* In QMP's words. */
enum vm_save_status { SAVE_NONE, SAVE_ACTIVE, SAVE_CANCELLING, SAVE_CANCELLED, SAVE_COMPLETED, SAVE_FAILED };

const char *vm_save_status_name(enum vm_save_status status);

/* How it is going, or how the last one went. */
struct vm_save_progress {
    enum vm_save_status status;
    uint64_t total;    /* bytes of memory that had been used at the beginning */
    uint64_t written;  /* bytes of memory written, some of them more than once */
    uint64_t rounds;   /* over memory */
    uint64_t down_ns;  /* time the guest stood */
    uint64_t total_ns; /* from begin to end, or until now */
    const char *error; /* when it failed */
};

struct vm_save_request {
    int fd;      /* taken in any case: a regular file, empty, for reading and writing */
    bool run_on; /* the guest goes on behind it; else it stays where it was saved */
    bool fast;   /* a power cut soon after may take the file */
    char *about; /* text kept in the file for whoever restores it (saved section "about" "guest"); taken; or
                    NULL */
    /* Called while the guest stands and its state has been taken, before it goes on. False with *error undoes
     * the saving. Optional. */
    bool (*stopped)(void *opaque, GError **error);
    /* Does anybody still want it? If not, it is undone. Optional. */
    bool (*wanted)(void *opaque);
    /* On the main thread, behind everything; the error is borrowed, NULL = saved. Not when the guest ends
     * before. Optional. */
    void (*done)(void *opaque, const GError *error);
    void (*drop)(void *opaque); /* the last that is done with opaque; optional */
    void *opaque;
};

/* For a request that is not used after all: closes and frees what it owns. */
void vm_save_request_fini(struct vm_save_request *request);

/* False with *error while a saving is under way. Main thread, as all below. */
bool vm_save_idle(const struct vm *vm, GError **error);
/* The same, and while anything else is that needs the guest as it is. */
bool vm_save_can(const struct vm *vm, GError **error);
/* Begins, or fails as vm_save_can() does. */
bool vm_save_start(struct vm *vm, struct vm_save_request *request, GError **error);
/* Gives up what has not come to its stop yet. */
void vm_save_cancel(struct vm *vm);
/* The error string is valid until the next one begins. */
void vm_save_progress(const struct vm *vm, struct vm_save_progress *out);
/* Waits for the worker and forgets everything; the guest has ended. */
void vm_save_free(struct vm *vm);

/* Makes the guest, which stands, the one that was saved in fd (borrowed). False with *error: it may be no
 * guest any more, and is to be freed. */
bool vm_load(struct vm *vm, int fd, GError **error);

#endif
