/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest's memory and registers as an ELF core file, for debuggers. */
#ifndef HOSTEL_VM_DUMP_H
#define HOSTEL_VM_DUMP_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct vm;

enum vm_dump_status { DUMP_NONE, DUMP_ACTIVE, DUMP_COMPLETED, DUMP_FAILED };

/* How it is going, or how the last one went. */
struct vm_dump_progress {
    enum vm_dump_status status;
    uint64_t completed, total; /* bytes of memory looked at, and to be */
    const char *error;         /* when it failed; valid until the next one begins */
};

struct vm_dump_request {
    int fd;    /* taken in any case: a regular file, open for writing; what it holds is replaced */
    bool part; /* only these physical addresses: */
    uint64_t begin, bytes; /* begin + bytes does not wrap */
    /* On the main thread, when it is over and before the guest goes on; the error is borrowed, NULL = done.
     * Not when the guest ends before. Optional. */
    void (*done)(void *opaque, const GError *error);
    void (*drop)(void *opaque); /* the last that is done with opaque, when a dump has begun; optional */
    void *opaque;
};

/* Begins: the guest stands until it is over, then goes on if it did before. False with *error, and nothing
 * done. Main thread, as all below. */
bool vm_dump_start(struct vm *vm, const struct vm_dump_request *request, GError **error);
void vm_dump_progress(const struct vm *vm, struct vm_dump_progress *out);
/* Refuses, with *error, what must not happen during a dump: that the guest runs, or is reset. */
bool vm_dump_idle(const struct vm *vm, GError **error);
/* The guest has ended: a dump that is under way is given up. Before the worker is freed; and the rest,
 * behind. */
void vm_dump_stop(struct vm *vm);
void vm_dump_free(struct vm *vm);

/* commands_dump.c: what query-dump answers. Owned by the caller. */
json_t *vm_dump_json(const struct vm *vm);

#endif
