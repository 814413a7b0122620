/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Snapshots of the whole guest inside its disks' images (snapshot.h has the theory). */
#include "vm/snapshot.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "block/image.h"
#include "vm/dump.h"
#include "vm/vm.h"

struct snapshot {
    struct vm_work work; /* first */
    struct vm *vm;
    struct job *job; /* NULL: it is gone */
    char *tag, *vmstate, **devices;
    bool was_running;
    _Atomic bool stop;  /* it was cancelled, or: */
    _Atomic bool ended; /* the guest has */
    GError *error;      /* of the worker's part */

    struct saved_writer *writer; /* of one that is taken */
    uint64_t *places;            /* of the blocks of memory */
    uint64_t clock;

    struct saved *saved;  /* of one that is loaded */
    char *id;             /* in the image that has the state */
    uint64_t state_bytes; /* of the state there */
};

static void free_snapshot(struct snapshot *s)
{
    saved_writer_free(s->writer);
    saved_free(s->saved);
    g_clear_error(&s->error);
    g_strfreev(s->devices);
    g_free(s->tag);
    g_free(s->vmstate);
    g_free(s->places);
    g_free(s->id);
    g_free(s);
}

static struct vm_snapshot in_nodes(const struct snapshot *s)
{
    return (struct vm_snapshot){.tag = s->tag,
                                .disks = (const char *const *)(void *)s->devices,
                                .vmstate = s->vmstate,
                                .vmstate_size = s->writer ? saved_writer_size(s->writer) : 0,
                                .vm_clock = s->clock};
}

/* --- the state in an image --- */

static int state_write(void *opaque, const void *bytes, size_t size, uint64_t at)
{
    const struct snapshot *s = opaque;
    return vm_vmstate_write(s->vm->nodes, s->vmstate, bytes, size, at);
}

static int state_read(void *opaque, void *bytes, size_t size, uint64_t at)
{
    const struct snapshot *s = opaque;
    return vm_vmstate_read(s->vm->nodes, s->vmstate, s->id, bytes, size, at);
}

static int state_length(void *opaque, uint64_t *size)
{
    *size = ((const struct snapshot *)opaque)->state_bytes;
    return 0;
}

static struct saved_io io_of(struct snapshot *s)
{
    /* Not read when it is written: the guest stands, so each page is written once. */
    static const struct saved_ops ops = {.write = state_write, .read = state_read, .size = state_length};
    return (struct saved_io){&ops, s};
}

/* --- beginning and end of both --- */

static bool named(const struct snapshot *s, const char *disk)
{
    return g_strv_contains((const char *const *)(void *)s->devices, disk);
}

/* The guest stands from here on, and nothing is under way at its disks. */
static void begin(struct snapshot *s, const char *as)
{
    struct vm *vm = s->vm;
    vm->snapshot = s;
    s->was_running = vm->state == VM_RUNNING;
    vm_pause(vm);
    if (s->was_running)
        vm->paused_as = as;
    vm_disks_hold(vm->nodes);
}

/* It goes on as before, unless there is no guest any more. */
static void let_go(struct snapshot *s)
{
    struct vm *vm = s->vm;
    vm_disks_release(vm->nodes);
    vm->snapshot = NULL;
    vm_power_again(vm);
    if (vm->broken) {
        vm->paused_as = "internal-error";
    } else if (s->was_running) {
        vm->paused_as = NULL;
        vm_resume(vm);
    }
}

/* All of it is over; s may be gone. */
static void end(struct snapshot *s)
{
    GError *error = g_steal_pointer(&s->error);
    if (error)
        log_warn(LOG_VM, "%s", error->message);
    let_go(s);
    job_conclude(s->job, !error, error);
}

static void cancel(struct job *job G_GNUC_UNUSED, void *opaque)
{
    atomic_store(&((struct snapshot *)opaque)->stop, true);
}

/* The job is gone; when the worker is still busy with it, the guest has ended (vm_snapshot_free). */
static void drop(void *opaque)
{
    struct snapshot *s = opaque;
    s->job = NULL;
    if (s->vm->snapshot != s)
        free_snapshot(s);
}

/* The worker's next part. */
static void submit(struct snapshot *s, void (*run)(struct vm_work *work), void (*done)(struct vm_work *work))
{
    vm_vmstate_busy(s->vm->nodes, "a snapshot of the guest is under way; wait for the end of its job");
    s->work.run = run;
    s->work.done = done;
    vm_worker_submit(s->vm->worker, &s->work);
}

/* May the main thread go on with it, behind a part of the worker's? */
static bool may_go_on(struct snapshot *s)
{
    vm_vmstate_busy(s->vm->nodes, NULL);
    if (!s->error && atomic_load(&s->stop))
        hostel_fail(&s->error, HOSTEL_ERROR_HOST, "the job was cancelled");
    return !s->error;
}

/* --- taking one --- */

enum { PIECE = 4 << 20 }; /* bytes between two looks at stop */

static const struct mem_block *blocks_of(const struct snapshot *s, unsigned *count)
{
    return mem_blocks(s->vm->machine->mem, count);
}

static int write_range(struct snapshot *s, const struct mem_block *b, uint64_t place, uint64_t start,
                       uint64_t end, uint64_t *written, uint64_t total)
{
    for (uint64_t at = start, here; at < end; at += here) {
        here = MIN(end - at, (uint64_t)PIECE);
        int status = atomic_load(&s->stop)
                         ? -ECANCELED
                         : saved_write_pages(s->writer, place + at, b->host + at, here, true);
        if (status)
            return status;
        *written += here;
        job_progress(s->job, *written, total);
    }
    return 0;
}

static int write_memory(struct snapshot *s)
{
    unsigned count;
    const struct mem_block *blocks = blocks_of(s, &count);
    uint64_t start, end, total = 0, written = 0;
    for (unsigned i = 0; i < count; i++)
        for (uint64_t at = 0; mem_next_data(&blocks[i], at, &start, &end); at = end)
            total += end - start;
    for (unsigned i = 0; i < count; i++)
        for (uint64_t at = 0; mem_next_data(&blocks[i], at, &start, &end); at = end) {
            int status = write_range(s, &blocks[i], s->places[i], start, end, &written, total);
            if (status)
                return status;
        }
    return 0;
}

static void save_state(struct vm_work *work)
{
    struct snapshot *s = (struct snapshot *)(void *)work;
    const int status = write_memory(s);
    if (status && status != -ECANCELED)
        hostel_fail(&s->error, HOSTEL_ERROR_HOST, "the guest's memory cannot be written into the image: %s%s",
                    g_strerror(-status), status == -ENOSPC ? "; make room there" : "");
    else if (!status)
        saved_finish(s->writer, false, &s->error); /* the snapshot makes it durable */
}

static void save_done(struct vm_work *work)
{
    struct snapshot *s = (struct snapshot *)(void *)work;
    if (s->vm->state == VM_ENDED)
        return;
    const struct vm_snapshot wanted = in_nodes(s);
    if (!may_go_on(s) || !vm_snapshots_take(s->vm->nodes, &wanted, &s->error))
        vm_vmstate_drop(s->vm->nodes, s->vmstate);
    end(s);
}

static bool check_vmstate(const struct snapshot *s, GError **error)
{
    return named(s, s->vmstate) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "vmstate: '%s' must be one of the devices", s->vmstate);
}

static bool begin_save(struct snapshot *s, GError **error)
{
    struct vm *vm = s->vm;
    const struct vm_snapshot wanted = {
        .tag = s->tag, .disks = (const char *const *)(void *)s->devices, .vmstate = s->vmstate};
    if (!check_vmstate(s, error) || !vm_snapshots_check(vm->nodes, &wanted, false, error))
        return false;
    begin(s, "save-vm");
    if (atomic_load(&vm->power)) {
        let_go(s);
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "the guest is resetting or powering off; try it again");
    }
    vm_vmstate_drop(vm->nodes, s->vmstate); /* left by one that was killed */
    unsigned count;
    const struct mem_block *blocks = blocks_of(s, &count);
    s->writer = saved_writer_new_io(io_of(s));
    s->places = g_new(uint64_t, count);
    for (unsigned i = 0; i < count; i++)
        s->places[i] = saved_add_memory(s->writer, blocks[i].name, blocks[i].base.v, blocks[i].size);
    s->clock = clock_now(vm->machine->clock);
    machine_save(vm->machine, s->writer); /* before memory: chips finish what is under way */
    submit(s, save_state, save_done);
    return true;
}

/* --- loading one --- */

static void fill(struct vm_work *work)
{
    struct snapshot *s = (struct snapshot *)(void *)work;
    machine_read_memory(s->vm->machine, s->saved, true, &s->ended, &s->error);
}

static void fill_done(struct vm_work *work)
{
    struct snapshot *s = (struct snapshot *)(void *)work;
    struct vm *vm = s->vm;
    if (vm->state == VM_ENDED)
        return;
    vm_vmstate_busy(vm->nodes, NULL);
    vm_power_forget(vm);
    vm->broken = s->error || !machine_load(vm->machine, s->saved, -1, &s->error);
    if (vm->broken) {
        g_prefix_error(&s->error,
                       "the guest is half of its snapshot '%s' and stands; load it again, or "
                       "another, or reset the guest: ",
                       s->tag);
    } else if (!vm->options->same_generation) {
        machine_renew(vm->machine);
    }
    vm_set_loaded(vm);
    end(s);
}

/* The state can be read from begin to end. */
static void look(struct vm_work *work)
{
    struct snapshot *s = (struct snapshot *)(void *)work;
    machine_read_memory(s->vm->machine, s->saved, false, &s->stop, &s->error);
}

static void look_done(struct vm_work *work)
{
    struct snapshot *s = (struct snapshot *)(void *)work;
    if (s->vm->state == VM_ENDED)
        return;
    const struct vm_snapshot wanted = in_nodes(s);
    bool lost = false;
    if (may_go_on(s) && vm_snapshots_apply(s->vm->nodes, &wanted, &lost, &s->error)) {
        submit(s, fill, fill_done); /* from here on there is no way back */
        return;
    }
    s->vm->broken |= lost;
    end(s);
}

/* What the state is, and whether it fits this guest. Nothing is changed. */
static bool open_state(struct snapshot *s, GError **error)
{
    struct block_snapshot *found = vm_snapshots_find(s->vm->nodes, s->vmstate, s->tag, error);
    if (!found)
        return false;
    s->id = g_strdup(found->id);
    s->state_bytes = found->vm_state_size;
    block_snapshot_free(found);
    if (!s->state_bytes)
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "snapshot '%s' in disk '%s' is one of disks alone, without a guest's state; a guest "
            "that is off can go back to it",
            s->tag, s->vmstate);
    s->saved = saved_open_io(io_of(s), error);
    if (!s->saved)
        return false;
    saved_look(s->saved, SAVED_ABOUT, "guest");
    return machine_can_load(s->vm->machine, s->saved, error);
}

static bool begin_load(struct snapshot *s, GError **error)
{
    const struct vm_snapshot wanted = in_nodes(s);
    if (!check_vmstate(s, error) || !vm_snapshots_check(s->vm->nodes, &wanted, true, error))
        return false;
    begin(s, "restore-vm");
    if (open_state(s, error)) {
        submit(s, look, look_done);
        return true;
    }
    let_go(s);
    return false;
}

/* --- deleting one --- */

static bool delete (struct snapshot *s, GError **error)
{
    const struct vm_snapshot wanted = in_nodes(s);
    if (!vm_snapshots_remove(s->vm->nodes, &wanted, error))
        return false;
    job_conclude(s->job, true, NULL);
    return true;
}

/* --- for others --- */

static bool check_machine(const struct vm *vm, bool save, GError **error)
{
    return save ? vm_save_can(vm, error)
                : vm_dump_idle(vm, error) && vm_snapshot_idle(vm, error) && vm_save_idle(vm, error);
}

static bool start(struct vm *vm, const struct vm_snapshot_request *r, const struct job_ops *ops,
                  bool (*begin_it)(struct snapshot *s, GError **error), GError **error)
{
    GError *failure = NULL;
    struct snapshot *s = g_new0(struct snapshot, 1);
    s->vm = vm;
    s->tag = g_strdup(r->tag);
    s->vmstate = g_strdup(r->vmstate);
    s->devices = g_strdupv((char **)(uintptr_t)r->devices);
    s->job = job_start(vm->jobs, r->job, ops, s, error); /* which drops s when it fails */
    if (!s->job)
        return false;
    if (!check_machine(vm, begin_it == begin_save, &failure) || !begin_it(s, &failure))
        job_conclude(s->job, false, failure);
    return true;
}

#define SNAPSHOT_OPS(kind)                                                                                   \
    {                                                                                                        \
        .type = (kind), .cancel = cancel, .drop = drop                                                       \
    }

bool vm_snapshot_save(struct vm *vm, const struct vm_snapshot_request *r, GError **error)
{
    static const struct job_ops ops = SNAPSHOT_OPS("snapshot-save");
    return start(vm, r, &ops, begin_save, error);
}

bool vm_snapshot_load(struct vm *vm, const struct vm_snapshot_request *r, GError **error)
{
    static const struct job_ops ops = SNAPSHOT_OPS("snapshot-load");
    return start(vm, r, &ops, begin_load, error);
}

bool vm_snapshot_delete(struct vm *vm, const struct vm_snapshot_request *r, GError **error)
{
    static const struct job_ops ops = SNAPSHOT_OPS("snapshot-delete");
    return start(vm, r, &ops, delete, error);
}

bool vm_snapshot_idle(const struct vm *vm, GError **error)
{
    return !vm->snapshot || hostel_fail(error, HOSTEL_ERROR_USAGE,
                                        "a snapshot of the guest is under way; wait for the end of its job");
}

void vm_snapshot_stop(struct vm *vm)
{
    if (!vm->snapshot)
        return;
    atomic_store(&vm->snapshot->stop, true);
    atomic_store(&vm->snapshot->ended, true);
}

void vm_snapshot_free(struct vm *vm)
{
    struct snapshot *s = vm->snapshot;
    if (!s)
        return;
    vm_vmstate_busy(vm->nodes, NULL);
    if (s->writer)
        vm_vmstate_drop(vm->nodes, s->vmstate);
    vm_disks_release(vm->nodes);
    vm->snapshot = NULL;
    free_snapshot(s);
}
