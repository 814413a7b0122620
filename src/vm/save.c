/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Saving a guest to a file and loading it from there (save.h has the theory). */
#include "vm/save.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "os/fd.h"
#include "vm/dump.h"
#include "vm/nodes.h"
#include "vm/vm.h"

/* The guest is stopped when it has changed no more than this since the last round, or when the rounds do not
 * lead there. */
enum { STOP_BYTES = 8 << 20, ROUNDS_MAX = 10 };

struct save {
    struct vm_work work;
    struct vm *vm;
    struct vm_save_request request;
    struct saved_writer *writer;
    uint64_t *places; /* of the blocks, in the file */
    bool was_running;
    int status; /* of the worker's part */
    GError *error;
    uint64_t began;

    _Atomic int state; /* enum vm_save_status */
    _Atomic uint64_t total, written, rounds, down_ns;
    uint64_t total_ns;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static bool cancelled(const struct save *s)
{
    return atomic_load(&s->state) == SAVE_CANCELLING;
}

static const struct mem_block *blocks_of(const struct save *s, unsigned *count)
{
    return mem_blocks(s->vm->machine->mem, count);
}

/* --- copying memory --- */

enum { PIECE = 4 << 20 }; /* bytes between two looks at cancelled() */

static int write_range(struct save *s, const struct mem_block *b, uint64_t place, uint64_t start,
                       uint64_t end, bool first)
{
    for (uint64_t at = start, here; at < end; at += here) {
        here = MIN(end - at, (uint64_t)PIECE);
        int status =
            cancelled(s) ? -ECANCELED : saved_write_pages(s->writer, place + at, b->host + at, here, first);
        if (status)
            return status;
        atomic_fetch_add(&s->written, here);
    }
    return 0;
}

static int copy_all(struct save *s)
{
    unsigned count;
    const struct mem_block *blocks = blocks_of(s, &count);
    uint64_t start, end, total = 0;
    for (unsigned i = 0; i < count; i++)
        for (uint64_t at = 0; mem_next_data(&blocks[i], at, &start, &end); at = end)
            total += end - start;
    atomic_store(&s->total, total);
    for (unsigned i = 0; i < count; i++)
        for (uint64_t at = 0; mem_next_data(&blocks[i], at, &start, &end); at = end) {
            int status = write_range(s, &blocks[i], s->places[i], start, end, true);
            if (status)
                return status;
        }
    atomic_fetch_add(&s->rounds, 1);
    return 0;
}

static bool is_set(const uint8_t *bitmap, uint64_t i)
{
    return bitmap[i / 8] & BIT(i % 8);
}

/* Writes what has changed since the last look; *bytes is how much that was. */
static int copy_changed(struct save *s, uint64_t *bytes)
{
    unsigned count;
    const struct mem_block *blocks = blocks_of(s, &count);
    *bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        const uint64_t pages = blocks[i].size >> MEM_PAGE_BITS;
        g_autofree uint8_t *bitmap = g_malloc((pages + 7) / 8);
        mem_log_take(s->vm->machine->mem, &blocks[i], bitmap);
        for (uint64_t page = 0, end; page < pages; page = end) {
            end = page + 1;
            if (!is_set(bitmap, page))
                continue;
            while (end < pages && is_set(bitmap, end))
                end++;
            *bytes += (end - page) << MEM_PAGE_BITS;
            int status =
                write_range(s, &blocks[i], s->places[i], page << MEM_PAGE_BITS, end << MEM_PAGE_BITS, false);
            if (status)
                return status;
        }
    }
    atomic_fetch_add(&s->rounds, 1);
    return 0;
}

/* The worker's first part. */
static void copy(struct vm_work *work)
{
    struct save *s = (struct save *)(void *)work;
    uint64_t changed = UINT64_MAX;
    s->status = copy_all(s);
    for (unsigned i = 0; i < ROUNDS_MAX && changed > STOP_BYTES && !s->status; i++)
        s->status = copy_changed(s, &changed);
}

/* --- the end --- */

static bool is_wanted(const struct save *s)
{
    return !s->request.wanted || s->request.wanted(s->request.opaque);
}

static void fail(struct save *s, int status)
{
    hostel_fail(&s->error, HOSTEL_ERROR_HOST, "the guest is not saved and goes on: %s",
                status == -ENOSPC || status == -EDQUOT ? "no room where its file is; make room and save again"
                : status == -ECANCELED                 ? "that was cancelled"
                                                       : g_strerror(-status));
}

static void finished(struct save *s)
{
    /* One that has run on has done so in new images, and is not called back. */
    if (!s->error && !s->request.run_on && !is_wanted(s))
        hostel_fail(&s->error, HOSTEL_ERROR_HOST,
                    "whoever wanted the guest saved has gone before the end; it goes on");
    if (!s->error && !s->request.run_on && cancelled(s))
        fail(s, -ECANCELED);
    enum vm_save_status state = !s->error ? SAVE_COMPLETED : cancelled(s) ? SAVE_CANCELLED : SAVE_FAILED;
    s->total_ns = now_ns() - s->began;
    atomic_store(&s->state, state);
    saved_writer_free(s->writer);
    s->writer = NULL;
    fd_close(&s->request.fd);
    if (s->error)
        log_warn(LOG_VM, "%s", s->error->message);
    if (state == SAVE_COMPLETED && !s->request.run_on)
        vm_set_saved(s->vm);
    else if (!s->request.run_on && s->was_running)
        vm_resume(s->vm);
    vm_event(s->vm, "MIGRATION", json_pack("{s:s}", "status", vm_save_status_name(state)));
    if (s->request.done)
        s->request.done(s->request.opaque, s->error);
    if (s->request.drop)
        s->request.drop(s->request.opaque);
    s->request.drop = NULL;
}

/* The worker's second part. */
static void finish(struct vm_work *work)
{
    struct save *s = (struct save *)(void *)work;
    saved_finish(s->writer, !s->request.fast, &s->error);
}

static void finish_done(struct vm_work *work)
{
    finished((struct save *)(void *)work);
}

/* The guest stands: the state, and what is left of memory. In this order, since chips end what they have
 * under way, which writes to memory. */
static bool take_state(struct save *s)
{
    uint64_t changed;
    machine_save(s->vm->machine, s->writer);
    int status = copy_changed(s, &changed);
    if (status) {
        fail(s, status);
        return false;
    }
    if (s->request.about)
        saved_add(s->writer, SAVED_ABOUT, "guest", 1, s->request.about, strlen(s->request.about));
    /* What goes on from the file finds its disks as they are now, also after a power cut. */
    if (!s->request.run_on && !vm_disks_flush(s->vm->nodes, &s->error))
        return false;
    return !s->request.stopped || s->request.stopped(s->request.opaque, &s->error);
}

static void copy_done(struct vm_work *work)
{
    struct save *s = (struct save *)(void *)work;
    if (s->vm->state == VM_ENDED)
        return;
    if (!s->status && !is_wanted(s))
        s->status = -ECANCELED;
    if (s->status) {
        fail(s, s->status);
        finished(s);
        return;
    }
    const uint64_t stopped = now_ns();
    s->was_running = s->vm->state == VM_RUNNING;
    vm_pause(s->vm);
    vm_disks_hold(s->vm->nodes);
    const bool taken = take_state(s);
    vm_disks_release(s->vm->nodes);
    if (s->was_running && (s->request.run_on || !taken))
        vm_resume(s->vm);
    atomic_store(&s->down_ns, now_ns() - stopped);
    if (!taken) {
        finished(s);
        return;
    }
    s->work.run = finish;
    s->work.done = finish_done;
    vm_worker_submit(s->vm->worker, &s->work);
}

/* --- for others --- */

static bool under_way(const struct save *s)
{
    return s && (atomic_load(&s->state) == SAVE_ACTIVE || cancelled(s));
}

void vm_save_request_fini(struct vm_save_request *request)
{
    if (request->drop)
        request->drop(request->opaque);
    fd_close(&request->fd);
    g_clear_pointer(&request->about, g_free);
}

static void free_save(struct save *s)
{
    if (!s)
        return;
    vm_save_request_fini(&s->request);
    saved_writer_free(s->writer);
    g_clear_error(&s->error);
    g_free(s->places);
    g_free(s);
}

static struct save *new_save(struct vm *vm, struct vm_save_request *request)
{
    struct save *s = g_new0(struct save, 1);
    unsigned count;
    s->vm = vm;
    s->request = *request;
    request->fd = -1;
    const struct mem_block *blocks = blocks_of(s, &count);
    s->writer = saved_writer_new(s->request.fd);
    s->places = g_new(uint64_t, count);
    for (unsigned i = 0; i < count; i++)
        s->places[i] = saved_add_memory(s->writer, blocks[i].name, blocks[i].base.v, blocks[i].size);
    s->began = now_ns();
    atomic_store(&s->state, SAVE_ACTIVE);
    return s;
}

bool vm_save_idle(const struct vm *vm, GError **error)
{
    return !under_way(vm->save) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "the guest is being saved already; wait for its end");
}

bool vm_save_can(const struct vm *vm, GError **error)
{
    return vm_can_run(vm, error) && vm_save_idle(vm, error);
}

bool vm_save_start(struct vm *vm, struct vm_save_request *request, GError **error)
{
    if (!vm_save_can(vm, error)) {
        vm_save_request_fini(request);
        return false;
    }
    free_save(vm->save);
    struct save *s = vm->save = new_save(vm, request);
    mem_log_start(vm->machine->mem); /* also of a guest that stands: its disks may be at work */
    s->work.run = copy;
    s->work.done = copy_done;
    vm_worker_submit(vm->worker, &s->work);
    vm_event(vm, "MIGRATION", json_pack("{s:s}", "status", vm_save_status_name(SAVE_ACTIVE)));
    return true;
}

void vm_save_cancel(struct vm *vm)
{
    int active = SAVE_ACTIVE;
    if (vm->save)
        atomic_compare_exchange_strong(&vm->save->state, &active, SAVE_CANCELLING);
}

const char *vm_save_status_name(enum vm_save_status status)
{
    static const char *const names[] = {
        [SAVE_NONE] = "none",           [SAVE_ACTIVE] = "active",       [SAVE_CANCELLING] = "cancelling",
        [SAVE_CANCELLED] = "cancelled", [SAVE_COMPLETED] = "completed", [SAVE_FAILED] = "failed"};
    return names[status];
}

void vm_save_progress(const struct vm *vm, struct vm_save_progress *out)
{
    struct save *s = vm->save;
    *out = (struct vm_save_progress){0};
    if (!s)
        return;
    *out = (struct vm_save_progress){.status = (enum vm_save_status)atomic_load(&s->state),
                                     .total = atomic_load(&s->total),
                                     .written = atomic_load(&s->written),
                                     .rounds = atomic_load(&s->rounds),
                                     .down_ns = atomic_load(&s->down_ns),
                                     .total_ns = under_way(s) ? now_ns() - s->began : s->total_ns,
                                     .error = s->error && !under_way(s) ? s->error->message : NULL};
}

void vm_save_free(struct vm *vm)
{
    vm_save_cancel(vm);
    vm_worker_free(vm->worker);
    vm->worker = NULL;
    free_save(vm->save);
    vm->save = NULL;
}

bool vm_load(struct vm *vm, int fd, GError **error)
{
    AUTO(saved) s = saved_open(fd, error);
    if (!s)
        return false;
    saved_look(s, SAVED_ABOUT, "guest");
    if (!machine_load(vm->machine, s, fd, error))
        return false;
    if (!vm->options->same_generation)
        machine_renew(vm->machine);
    return true;
}
